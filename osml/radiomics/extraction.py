"""Features of one image and its lesion: one row per region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from osml.imaging.errors import GreyLevelError
from osml.imaging.volume import Volume
from osml.radiomics.classes import intensity_features
from osml.radiomics.discretise import bin_edges
from osml.radiomics.filters import filtered
from osml.radiomics.regions import Region, box_of
from osml.radiomics.settings import Settings
from osml.radiomics.shape import shape_2d, shape_3d
from osml.radiomics.windows import compat_windows, prepare, shared_window

DIAGNOSTICS = ("region", "voxels", "clipped_share", "in_plane_only", "mask_drift_voxels", "one_level_images")


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
    prepared = prepare(image, mask, body, settings)
    rows = []
    if settings.crop == "compat":
        for part, region in compat_windows(prepared, settings):
            rows += _rows(part, [region], prepared.drift, settings)
    else:
        rows = _rows(*shared_window(prepared, settings), prepared.drift, settings)
    return pd.DataFrame(rows)


def _rows(image: Volume, regions: list[Region], drift: float, settings: Settings) -> list[dict[str, object]]:
    boxes = [tuple(map(slice, *box_of(region.inside))) for region in regions]
    parts = [np.ascontiguousarray(region.inside[box]) for region, box in zip(regions, boxes, strict=True)]
    shapes: list[dict[str, float]] = [{} for _ in regions]
    if settings.engine == "osml" and "shape" in settings.classes:
        shapes = [_shape(image, part, settings) for part in parts]
    focus = np.any([region.inside for region in regions], axis=0) if settings.crop == "shared" else None
    images = filtered(
        image, settings.filters, log_sigma_mm=settings.log_sigma_mm, in_plane=settings.in_plane, focus=focus
    )
    flat = [0] * len(regions)

    def boxed() -> Iterator[tuple[int, str, NDArray[Any]]]:
        for filter_name, array in images:
            for k, region in enumerate(regions):
                values = array[boxes[k]]
                levels = _levels(values[parts[k]], region, image, filter_name, settings)
                flat[k] += levels == 1
                yield k, filter_name, values

    found = _measured(image, regions, parts, boxed(), settings)
    return [
        {
            "region": region.name, "voxels": int(parts[k].sum()), "clipped_share": region.clipped,
            "in_plane_only": region.in_plane_only, "mask_drift_voxels": drift, "one_level_images": flat[k],
            **shapes[k], **found[k],
        }
        for k, region in enumerate(regions)
    ]  # fmt: skip


def _shape(image: Volume, inside: NDArray[np.bool_], settings: Settings) -> dict[str, float]:
    spacing = image.spacing_mm[::-1]
    if image.array.ndim == 2:
        group, found = "shape2D", shape_2d(inside, spacing)
    else:
        group, found = "shape", shape_3d(inside, spacing, ibsi=settings.ibsi)
    return {f"original_{group}_{name}": float(value) for name, value in found.items()}


def _measured(
    image: Volume,
    regions: list[Region],
    parts: list[NDArray[np.bool_]],
    boxed: Iterable[tuple[int, str, NDArray[Any]]],
    settings: Settings,
) -> list[dict[str, float]]:
    """Features of each region, by the engine and device of the settings.

    `parts` are the regions in their boxes; `boxed` gives number of the region, name and values in its box of each
    filtered image.
    """
    if settings.engine == "pyradiomics":
        from osml.radiomics.oracle import pyradiomics_features

        names = [filter_name for k, filter_name, _ in boxed if k == 0]
        return [pyradiomics_features(image, region, settings, names) for region in regions]
    if settings.device != "cpu":
        from osml.radiomics.cuda import batch_features, device_for

        count = len(settings.filters) + (7 if "wavelet" in settings.filters else 0) + len(settings.log_sigma_mm)
        if device_for(settings.device, count * sum(int(part.sum()) for part in parts)) == "cuda":
            return batch_features(image, parts, boxed, settings, "cuda")
    out: list[dict[str, float]] = [{} for _ in regions]
    for k, filter_name, values in boxed:
        found, _ = intensity_features(
            values, parts[k], float(np.prod(image.spacing_mm)), classes=settings.classes, in_plane=settings.in_plane,
            bin_width=settings.bin_width, bin_count=settings.bin_count, ibsi=settings.ibsi,
        )  # fmt: skip
        out[k] |= {f"{filter_name}_{name}": value for name, value in found.items()}
    return out


def _levels(values: NDArray[Any], region: Region, image: Volume, filter_name: str, settings: Settings) -> int:
    """Number of grey levels of a region; refused before memory is used for them."""
    low, high = values.min(), values.max()
    if settings.bin_count is not None:
        levels = settings.bin_count if high > low else 1
    else:
        levels = int(float(high - low) / settings.bin_width + 1)
        if levels <= settings.max_levels + 1:
            ends = np.array([low, high])
            levels = int(np.digitize(high, bin_edges(ends, width=settings.bin_width)))
    if levels > settings.max_levels:
        raise GreyLevelError(
            f"{image.name}: region {region.name} has {levels} grey levels in the {filter_name} image; "
            f"at most {settings.max_levels}",
            do="Choose a larger bin_width, bin_count, or raise max_levels.",
        )
    if levels == 1 and filter_name == "original":
        width = f" with a bin width of {settings.bin_width:g}" if settings.bin_count is None else ""
        raise GreyLevelError(
            f"{image.name}: region {region.name} has a single grey level{width}",
            why="Every texture feature would be a constant.",
            do="Choose a smaller bin_width (z-scored images span about 6 units), or bin_count.",
        )
    return levels
