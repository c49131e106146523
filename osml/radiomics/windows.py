"""The part of an image that an extraction needs: checked, normalised, resampled, with its regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osml.imaging.errors import GreyLevelError, ImagingError, LabelError, RegionError
from osml.imaging.masks import align, check_finite, choose_label
from osml.imaging.volume import Volume
from osml.radiomics.regions import Region, box_of, make_regions
from osml.radiomics.resample import Window, resample_image, resample_mask, window_around
from osml.radiomics.settings import Settings, ring_mm

# PyRadiomics' margin around a region when it resamples.
COMPAT_MARGIN = 5


@dataclass(frozen=True)
class Prepared:
    """An image with its masks on one grid.

    Attributes
    ----------
    image : float64, normalised if asked for
    lesion : bool
    body, others : bool or None: the body, and other lesions whose voxels no ring may hold
    drift : voxels by which the mask's origin was moved onto the image's
    """

    image: Volume
    lesion: Volume
    body: Volume | None
    others: Volume | None
    drift: float


def prepare(image: Volume, mask: Volume, body: Volume | None, settings: Settings) -> Prepared:
    """Check grids, values and labels, and normalise."""
    image = image.like(np.asarray(image.array, dtype=np.float64))
    check_finite(image)
    mask, drift = align(image, mask)
    lesion = choose_label(mask, settings.label)
    trunk = None
    if body is not None:
        aligned = align(image, body)[0]
        trunk = aligned.like(aligned.array != 0)
    others = None
    if settings.others == "subtract":
        rest = (mask.array != 0) & ~lesion.array
        others = mask.like(rest) if rest.any() else None
    if settings.spacing_mm is not None and len(settings.spacing_mm) != image.array.ndim:
        raise ImagingError(f"{image.name}: spacing_mm has {len(settings.spacing_mm)} values for {image.array.ndim}D")
    if settings.normalise != "none":
        if settings.normalise == "body" and trunk is None:
            raise LabelError(f"{image.name}: `normalise: body` needs a body mask")
        inside = settings.normalise == "body" and trunk is not None
        where = image.array[trunk.array] if inside and trunk is not None else image.array.ravel()
        spread = float(np.std(where, ddof=1)) if where.size > 1 else 0.0
        if spread == 0:
            raise GreyLevelError(f"{image.name}: the intensities are constant; a z-score does not exist")
        image = image.like((image.array - where.mean()) / spread * settings.normalise_scale)
    return Prepared(image, lesion, trunk, others, drift)


def shared_window(prepared: Prepared, settings: Settings) -> tuple[Volume, list[Region]]:
    """One window around all regions, and the regions in it."""
    # At 8 sigma the recursive Gaussian has decayed to exp(-1.37 × 8), about 2e-5; 8 voxels cover wavelet and gradient.
    margin_mm = _outer_mm(settings) + 8 * max(settings.log_sigma_mm, default=0.0)
    part = _cut(prepared, settings, margin_mm, 8)
    return part.image, _regions(part, settings)


def compat_windows(prepared: Prepared, settings: Settings) -> Iterator[tuple[Volume, Region]]:
    """Each region with the image that PyRadiomics would filter for it."""
    if settings.spacing_mm is None:
        for region in _regions(prepared, settings):
            yield prepared.image, region
        return
    part = _cut(prepared, settings, _outer_mm(settings), COMPAT_MARGIN + 2)
    # PyRadiomics rounds the lesion's box outwards on the new grid before it adds the margin.
    narrow = _around(prepared, settings, 0.0, COMPAT_MARGIN)
    for region in _regions(part, settings):
        if region.name == "tumour":
            lesion = resample_mask(prepared.lesion, narrow)
            yield resample_image(prepared.image, narrow), Region("tumour", lesion.array, 0.0, False)
            continue
        low, high = box_of(region.inside)
        low, high = np.maximum(low - COMPAT_MARGIN, 0), np.minimum(high + COMPAT_MARGIN, region.inside.shape)
        yield part.image.window(low, high), replace(region, inside=region.inside[tuple(map(slice, low, high))])


def _outer_mm(settings: Settings) -> float:
    return max((ring[1] for ring in map(ring_mm, settings.regions) if ring is not None), default=0.0)


def _around(prepared: Prepared, settings: Settings, margin_mm: float, margin_voxels: int) -> Window:
    spacing = settings.spacing_mm or prepared.image.spacing_mm
    margin = np.ceil(margin_mm / np.array(spacing)).astype(int) + margin_voxels
    return window_around(prepared.lesion.array, prepared.image.spacing_mm, spacing, margin)


def _cut(prepared: Prepared, settings: Settings, margin_mm: float, margin_voxels: int) -> Prepared:
    """Image and masks around the lesion, resampled if asked for."""
    window = _around(prepared, settings, margin_mm, margin_voxels)
    image = resample_image(prepared.image, window)
    lesion, body, others = (
        None if mask is None else resample_mask(mask, window)
        for mask in (prepared.lesion, prepared.body, prepared.others)
    )
    if settings.spacing_mm is not None:
        # A new voxel's centre may lie exactly between two old ones, where rounding decides; the lesion is taken from
        # the window that PyRadiomics uses, so that it does not depend on the margin.
        narrow = _around(prepared, settings, 0.0, COMPAT_MARGIN)
        lesion = image.like(_pasted(resample_mask(prepared.lesion, narrow), image))
    assert lesion is not None
    return Prepared(image, replace(lesion, name=prepared.lesion.name), body, others, prepared.drift)


def _pasted(lesion: Volume, into: Volume) -> NDArray[np.bool_]:
    """The lesion in a larger window of the same grid."""
    n = lesion.array.ndim
    matrix = np.reshape(into.direction, (n, n))
    shift = np.subtract(lesion.origin_mm, into.origin_mm) @ matrix / np.array(into.spacing_mm)
    start = np.rint(shift).astype(int)[::-1]
    out = np.zeros(into.array.shape, dtype=bool)
    out[tuple(slice(a, a + size) for a, size in zip(start, lesion.array.shape, strict=True))] = lesion.array
    return out


def _regions(part: Prepared, settings: Settings) -> list[Region]:
    name = part.lesion.name
    if not part.lesion.array.any():
        raise RegionError(f"{name}: no voxel of the lesion is left after resampling")
    body, others = (None if mask is None else mask.array for mask in (part.body, part.others))
    regions = make_regions(part.lesion, settings.regions, body=body, others=others, leaving=settings.leaving)
    for region in regions:
        n = int(region.inside.sum())
        if n < settings.min_voxels:
            raise RegionError(f"{name}: region {region.name} has {n} voxels; at least {settings.min_voxels}")
    return regions
