"""Features of one image and its lesion: one row per region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from osml.imaging.errors import GreyLevelError, ImagingError, LabelError, RegionError
from osml.imaging.masks import align, check_finite, choose_label
from osml.imaging.volume import Volume
from osml.radiomics.classes import intensity_features
from osml.radiomics.filters import filtered
from osml.radiomics.regions import Region, make_regions
from osml.radiomics.resample import resample
from osml.radiomics.settings import Settings, ring_mm
from osml.radiomics.shape import shape_2d, shape_3d

# PyRadiomics' margin around a region when it resamples.
COMPAT_MARGIN = 5
DIAGNOSTICS = ("region", "voxels", "clipped_share", "in_plane_only", "mask_drift_voxels", "one_level_images")


@dataclass(frozen=True)
class _Prepared:
    image: Volume
    mask: Volume
    body: NDArray[np.bool_] | None
    drift: float


def extract(
    image: Volume, mask: Volume, settings: Settings | None = None, *, body: Volume | None = None
) -> pd.DataFrame:
    """Radiomic features of a lesion and the regions around it.

    Parameters
    ----------
    image : Volume
        2D or 3D, one channel. Computed in float64 whatever its type.
    mask : Volume of labels on the image's grid; a drift of the origin below half a voxel is aligned and reported
    settings : default `Settings()`: original image, all classes, the lesion
    body : Volume of labels; clips rings, and is what `normalise: body` refers to

    Returns
    -------
    DataFrame, one row per region
        `region`, `voxels`, `clipped_share`, `in_plane_only`, `mask_drift_voxels`, `one_level_images` (filtered images
        in which the region has a single grey level), then features named as in PyRadiomics
        (`wavelet-LLH_glcm_JointEntropy`). NaN where a feature does not exist (no two voxels touch).

    Raises
    ------
    ImagingError
        Its `reason` is a short code. No table is returned in part.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> image = Volume(rng.normal(100, 40, (12, 12, 12)))
    >>> mask = np.zeros((12, 12, 12), dtype=np.uint8)
    >>> mask[4:8, 4:8, 4:8] = 1
    >>> table = extract(image, image.like(mask), Settings(regions=("tumour", "0-2mm")))
    >>> table[["region", "voxels"]].values.tolist(), table.shape
    ([['tumour', 64], ['0-2mm', 248]], (2, 113))
    """
    settings = settings or Settings()
    prepared = _prepare(image, mask, body, settings)
    rows = []
    if settings.crop == "compat":
        for region, part in _compat_windows(prepared, settings):
            rows.append(_rows(part, [region], prepared.drift, settings)[0])
    else:
        part, regions = _shared_window(prepared, settings)
        rows = _rows(part, regions, prepared.drift, settings)
    return pd.DataFrame(rows)


def _prepare(image: Volume, mask: Volume, body: Volume | None, settings: Settings) -> _Prepared:
    image = image.like(np.asarray(image.array, dtype=np.float64))
    check_finite(image)
    mask, drift = align(image, mask)
    lesion = choose_label(mask, settings.label)
    trunk = None
    if body is not None:
        trunk = align(image, body)[0].array != 0
    if settings.spacing_mm is not None and len(settings.spacing_mm) != image.array.ndim:
        raise ImagingError(f"{image.name}: spacing_mm has {len(settings.spacing_mm)} values for {image.array.ndim}D")
    if settings.normalise != "none":
        if settings.normalise == "body" and trunk is None:
            raise LabelError(f"{image.name}: `normalise: body` needs a body mask")
        where = image.array[trunk] if settings.normalise == "body" and trunk is not None else image.array.ravel()
        spread = float(np.std(where, ddof=1)) if where.size > 1 else 0.0
        if spread == 0:
            raise GreyLevelError(f"{image.name}: the intensities are constant; a z-score does not exist")
        image = image.like((image.array - where.mean()) / spread * settings.normalise_scale)
    return _Prepared(image, lesion, trunk, drift)


def _outer_mm(settings: Settings) -> float:
    return max((ring[1] for ring in map(ring_mm, settings.regions) if ring is not None), default=0.0)


def _window(
    prepared: _Prepared, settings: Settings, margin_mm: float, margin_voxels: int
) -> tuple[Volume, list[Volume]]:
    """Image and masks (lesion, body) around the lesion, resampled if asked for."""
    masks = [prepared.mask]
    if prepared.body is not None:
        masks.append(prepared.mask.like(prepared.body))
    if settings.spacing_mm is None:
        return _resampled(prepared, masks, prepared.image.spacing_mm, margin_mm, margin_voxels)
    image, moved = _resampled(prepared, masks, settings.spacing_mm, margin_mm, margin_voxels)
    # A new voxel's centre may lie exactly between two old ones, where rounding decides; the lesion is taken from the
    # window that PyRadiomics uses, so that it does not depend on the margin.
    _, (lesion,) = _resampled(prepared, masks[:1], settings.spacing_mm, 0.0, COMPAT_MARGIN)
    return image, [moved[0].like(_pasted(lesion, image)), *moved[1:]]


def _resampled(
    prepared: _Prepared, masks: list[Volume], spacing: tuple[float, ...], margin_mm: float, margin_voxels: int
) -> tuple[Volume, list[Volume]]:
    margin = np.ceil(margin_mm / np.array(spacing)).astype(int) + margin_voxels
    return resample(prepared.image, masks, prepared.mask.array, spacing, margin)


def _pasted(lesion: Volume, into: Volume) -> NDArray[np.bool_]:
    """The lesion in a larger window of the same grid."""
    n = lesion.array.ndim
    matrix = np.reshape(into.direction, (n, n))
    shift = np.subtract(lesion.origin_mm, into.origin_mm) @ matrix / np.array(into.spacing_mm)
    start = np.rint(shift).astype(int)[::-1]
    out = np.zeros(into.array.shape, dtype=bool)
    out[tuple(slice(a, a + size) for a, size in zip(start, lesion.array.shape, strict=True))] = lesion.array
    return out


def _shared_window(prepared: _Prepared, settings: Settings) -> tuple[Volume, list[Region]]:
    # 8 sigma: the recursive Gaussian has decayed below 1e-13 there; 8 voxels cover the wavelet and the gradient.
    margin_mm = _outer_mm(settings) + 8 * max(settings.log_sigma_mm, default=0.0)
    image, masks = _window(prepared, settings, margin_mm, 8)
    regions = _regions(masks, settings)
    return image, regions


def _compat_windows(prepared: _Prepared, settings: Settings) -> Iterator[tuple[Region, Volume]]:
    """Each region with the image that PyRadiomics would filter for it."""
    if settings.spacing_mm is None:
        masks = [prepared.mask] if prepared.body is None else [prepared.mask, prepared.mask.like(prepared.body)]
        for region in _regions(masks, settings):
            yield region, prepared.image
        return
    image, masks = _window(prepared, settings, _outer_mm(settings), COMPAT_MARGIN + 2)
    # PyRadiomics rounds the lesion's box outwards on the new grid before it adds the margin.
    lesion_image, (lesion,) = _resampled(prepared, [prepared.mask], settings.spacing_mm, 0.0, COMPAT_MARGIN)
    for region in _regions(masks, settings):
        if region.name == "tumour":
            yield Region("tumour", lesion.array, 0.0, False), lesion_image
            continue
        at = np.argwhere(region.inside)
        low = np.maximum(at.min(axis=0) - COMPAT_MARGIN, 0)
        high = np.minimum(at.max(axis=0) + 1 + COMPAT_MARGIN, image.array.shape)
        cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        yield Region(region.name, region.inside[cut], region.clipped, region.in_plane_only), image.window(low, high)


def _regions(masks: list[Volume], settings: Settings) -> list[Region]:
    if not masks[0].array.any():
        raise RegionError(f"{masks[0].name}: no voxel of the lesion is left after resampling")
    body = masks[1].array if len(masks) > 1 else None
    regions = make_regions(masks[0], settings.regions, body=body, leaving=settings.leaving)
    for region in regions:
        n = int(region.inside.sum())
        if n < settings.min_voxels:
            raise RegionError(f"{masks[0].name}: region {region.name} has {n} voxels; at least {settings.min_voxels}")
    return regions


def _rows(image: Volume, regions: list[Region], drift: float, settings: Settings) -> list[dict[str, object]]:
    spacing = image.spacing_mm[::-1]
    features: list[dict[str, float]] = [{} for _ in regions]
    flat = [0] * len(regions)
    if "shape" in settings.classes:
        for k, region in enumerate(regions):
            flat_shape = image.array.ndim == 2
            shape = shape_2d(region.inside, spacing) if flat_shape else shape_3d(
                region.inside, spacing, ibsi=settings.ibsi
            )  # fmt: skip
            group = "shape2D" if flat_shape else "shape"
            features[k] |= {f"original_{group}_{name}": float(value) for name, value in shape.items()}
    focus = np.any([region.inside for region in regions], axis=0) if settings.crop == "shared" else None
    images = filtered(
        image, settings.filters, log_sigma_mm=settings.log_sigma_mm, in_plane=settings.in_plane, focus=focus
    )
    for filter_name, array in images:
        for k, region in enumerate(regions):
            values, levels = _intensity(array, region, image, filter_name, settings)
            flat[k] += levels == 1
            features[k] |= {f"{filter_name}_{name}": value for name, value in values.items()}
    return [
        {
            "region": region.name, "voxels": int(region.inside.sum()), "clipped_share": region.clipped,
            "in_plane_only": region.in_plane_only, "mask_drift_voxels": drift, "one_level_images": flat[k],
            **features[k],
        }
        for k, region in enumerate(regions)
    ]  # fmt: skip


def _intensity(
    array: NDArray[np.float64], region: Region, image: Volume, filter_name: str, settings: Settings
) -> tuple[dict[str, float], int]:
    if settings.bin_count is None:
        inside = array[region.inside]
        bins = float(inside.max() - inside.min()) / settings.bin_width + 1
        if bins > settings.max_levels + 1:
            raise _too_many(image, region, filter_name, int(bins), settings)
    values, levels = intensity_features(
        array, region.inside, float(np.prod(image.spacing_mm)), classes=settings.classes, in_plane=settings.in_plane,
        bin_width=settings.bin_width, bin_count=settings.bin_count, ibsi=settings.ibsi,
    )  # fmt: skip
    if levels > settings.max_levels:
        raise _too_many(image, region, filter_name, levels, settings)
    if levels == 1 and filter_name == "original":
        raise GreyLevelError(
            f"{image.name}: region {region.name} has a single grey level with a bin width of {settings.bin_width:g}",
            why="Every texture feature would be a constant.",
            do="Choose a smaller bin_width (z-scored images span about 6 units), or bin_count.",
        )
    return values, levels


def _too_many(image: Volume, region: Region, filter_name: str, levels: int, settings: Settings) -> GreyLevelError:
    return GreyLevelError(
        f"{image.name}: region {region.name} has {levels} grey levels in the {filter_name} image; "
        f"at most {settings.max_levels}",
        do="Choose a larger bin_width, bin_count, or raise max_levels.",
    )
