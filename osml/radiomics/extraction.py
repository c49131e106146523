"""Features of one image and its lesion: one row per region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from osml.imaging.errors import GreyLevelError
from osml.imaging.volume import Volume
from osml.radiomics.classes import TEXTURE, feature_names, intensity_features
from osml.radiomics.discretise import discretise
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
    measure = _by_pyradiomics if settings.engine == "pyradiomics" else _by_osml
    shapes, of_image = measure(image, regions, parts, settings)
    features: list[dict[str, float]] = [{} for _ in regions]
    flat = [0] * len(regions)
    for k, shape in enumerate(shapes):
        features[k] |= {f"original_{name}": float(value) for name, value in shape.items()}
    focus = np.any([region.inside for region in regions], axis=0) if settings.crop == "shared" else None
    images = filtered(
        image, settings.filters, log_sigma_mm=settings.log_sigma_mm, in_plane=settings.in_plane, focus=focus
    )
    for filter_name, array in images:
        for k, region in enumerate(regions):
            values = array[boxes[k]]
            _check_range(values[parts[k]], region, image, filter_name, settings)
            found, levels = of_image(k, filter_name, values)
            _check_levels(levels, region, image, filter_name, settings)
            flat[k] += levels == 1
            features[k] |= {f"{filter_name}_{name}": value for name, value in found.items()}
    return [
        {
            "region": region.name, "voxels": int(parts[k].sum()), "clipped_share": region.clipped,
            "in_plane_only": region.in_plane_only, "mask_drift_voxels": drift, "one_level_images": flat[k],
            **features[k],
        }
        for k, region in enumerate(regions)
    ]  # fmt: skip


# Features and number of grey levels of region k in one filtered image, given by name and values in the region's box.
OfImage = Callable[[int, str, NDArray[Any]], tuple[dict[str, float], int]]


def _by_osml(
    image: Volume, regions: list[Region], parts: list[NDArray[np.bool_]], settings: Settings
) -> tuple[list[dict[str, float]], OfImage]:
    shapes: list[dict[str, float]] = [{} for _ in parts]
    if "shape" in settings.classes:
        spacing = image.spacing_mm[::-1]
        for k, inside in enumerate(parts):
            if image.array.ndim == 2:
                group, shape = "shape2D", shape_2d(inside, spacing)
            else:
                group, shape = "shape", shape_3d(inside, spacing, ibsi=settings.ibsi)
            shapes[k] = {f"{group}_{name}": value for name, value in shape.items()}

    def of_image(k: int, filter_name: str, values: NDArray[Any]) -> tuple[dict[str, float], int]:
        return intensity_features(
            values, parts[k], float(np.prod(image.spacing_mm)), classes=settings.classes, in_plane=settings.in_plane,
            bin_width=settings.bin_width, bin_count=settings.bin_count, ibsi=settings.ibsi,
        )  # fmt: skip

    return shapes, of_image


def _by_pyradiomics(
    image: Volume, regions: list[Region], parts: list[NDArray[np.bool_]], settings: Settings
) -> tuple[list[dict[str, float]], OfImage]:
    from osml.radiomics.oracle import pyradiomics_features

    found = [pyradiomics_features(image, region, settings) for region in regions]
    group = "shape2D_" if image.array.ndim == 2 else "shape_"
    start = f"original_{group}"
    shapes = [{name[9:]: row[name] for name in sorted(row) if name.startswith(start)} for row in found]
    names = feature_names(tuple(name for name in ("firstorder", *TEXTURE) if name in settings.classes))

    def of_image(k: int, filter_name: str, values: NDArray[Any]) -> tuple[dict[str, float], int]:
        width = settings.bin_width if settings.bin_count is None else None
        levels = int(discretise(values[parts[k]], width=width, count=settings.bin_count).max())
        return {name: found[k][f"{filter_name}_{name}"] for name in names}, levels

    return shapes, of_image


def _check_range(values: NDArray[Any], region: Region, image: Volume, filter_name: str, settings: Settings) -> None:
    """Refuse too many levels before memory is used for them."""
    if settings.bin_count is None:
        bins = float(values.max() - values.min()) / settings.bin_width + 1
        if bins > settings.max_levels + 1:
            raise _too_many(image, region, filter_name, int(bins), settings)


def _check_levels(levels: int, region: Region, image: Volume, filter_name: str, settings: Settings) -> None:
    if levels > settings.max_levels:
        raise _too_many(image, region, filter_name, levels, settings)
    if levels == 1 and filter_name == "original":
        raise GreyLevelError(
            f"{image.name}: region {region.name} has a single grey level with a bin width of {settings.bin_width:g}",
            why="Every texture feature would be a constant.",
            do="Choose a smaller bin_width (z-scored images span about 6 units), or bin_count.",
        )


def _too_many(image: Volume, region: Region, filter_name: str, levels: int, settings: Settings) -> GreyLevelError:
    return GreyLevelError(
        f"{image.name}: region {region.name} has {levels} grey levels in the {filter_name} image; "
        f"at most {settings.max_levels}",
        do="Choose a larger bin_width, bin_count, or raise max_levels.",
    )
