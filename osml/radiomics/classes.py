"""All feature classes of one region in one image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.radiomics.discretise import discretise
from osml.radiomics.firstorder import first_order
from osml.radiomics.glcm import glcm_features
from osml.radiomics.histogram import byte_levels, first_order_8bit, grey_counts
from osml.radiomics.kernels import neighbour_counts, padded_bytes, padded_levels, run_counts, shares_a_line, zones
from osml.radiomics.ngtdm import ngtdm_features
from osml.radiomics.sizes import dependence_features, run_features, zone_features

TEXTURE = ("glcm", "gldm", "glrlm", "glszm", "ngtdm")


def intensity_features(
    image: NDArray[Any],
    inside: NDArray[np.bool_],
    voxel_volume: float,
    *,
    classes: Collection[str] = ("firstorder", *TEXTURE),
    bin_width: float | None = 25.0,
    bin_count: int | None = None,
    in_plane: bool = False,
    ibsi: bool = False,
) -> tuple[dict[str, float], int]:
    """First-order and texture features of a region, and its number of grey levels.

    Parameters
    ----------
    image : float (z, y, x) or (y, x); of bytes (uint8) the same values come faster, through their histogram
    inside : bool, same shape; at least one voxel
    voxel_volume : mm³ (mm²) of one voxel
    classes : names of classes
    bin_width, bin_count : fixed bin width, or (if given) fixed number of bins
    in_plane : neighbours within the slice only
    ibsi : excess kurtosis

    Returns
    -------
    features : dict `class_Name` → value
    levels : number of bins from the first to the highest level
    """
    if image.ndim == 2:
        image, inside = image[None], inside[None]
    box = _bounding_box(inside)
    image, inside = image[box], inside[box]
    width = bin_width if bin_count is None else None
    wanted = "firstorder" in classes, any(name in classes for name in TEXTURE)
    if image.dtype == np.uint8:
        count = grey_counts(image, inside)
        grey, level = byte_levels(count, width=width, bins=bin_count)
        if wanted[0]:
            found = first_order_8bit(count, voxel_volume, bin_width=width, bin_count=bin_count, ibsi=ibsi)
        if wanted[1]:
            present, compact = compact_levels(level)
            table = np.zeros(256, dtype=np.int32)
            table[grey] = compact[level]
            flat, voxels = padded_bytes(image, inside, table, int(count.sum()))
    else:
        values = image[inside]
        level = discretise(values, width=width, count=bin_count)
        if wanted[0]:
            found = first_order(values, level, voxel_volume, ibsi=ibsi)
        if wanted[1]:
            present, compact = compact_levels(level)
            flat, voxels = padded_levels(inside, level, compact)
    out: dict[str, dict[str, float]] = {}
    if wanted[0]:
        # The root of the variance: PyRadiomics leaves it out unless asked for by name.
        out["firstorder"] = {name: value for name, value in found.items() if name != "StandardDeviation"}
    if wanted[1]:
        out.update(_texture(inside, flat, voxels, present, classes, in_plane))
    named = {f"{group}_{name}": value for group, values in out.items() for name, value in values.items()}
    return named, int(level.max())


@cache
def feature_names(classes: tuple[str, ...] = ("firstorder", *TEXTURE)) -> tuple[str, ...]:
    """The names that `intensity_features` gives for these classes, in its order."""
    pair = np.array([[1.0, 2.0]])
    return tuple(intensity_features(pair, pair > 0, 1.0, classes=classes)[0])


def compact_levels(level: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The levels that occur, and a table from level to its place (from 1) among them."""
    present = np.flatnonzero(np.bincount(level))
    compact = np.zeros(present[-1] + 1, dtype=np.int32)
    compact[present] = np.arange(1, present.size + 1)
    return present.astype(np.float64), compact


def _texture(
    inside: NDArray[np.bool_],
    flat: NDArray[np.int32],
    voxels: NDArray[np.int64],
    grey: NDArray[np.float64],
    classes: Collection[str],
    in_plane: bool,
) -> dict[str, dict[str, float]]:
    directions = directions_of(inside.shape, in_plane)
    _, height, width = (size + 2 for size in inside.shape)
    steps = np.array([(z * height + y) * width + x for z, y, x in directions], dtype=np.int64)
    out: dict[str, dict[str, float]] = {}
    if {"glcm", "gldm", "ngtdm"} & set(classes):
        glcm, gldm, count, difference = neighbour_counts(flat, voxels, steps, grey)
        if "glcm" in classes:
            out["glcm"] = glcm_features(glcm, grey)
        if "gldm" in classes:
            out["gldm"] = dependence_features(gldm, grey)
        if "ngtdm" in classes:
            out["ngtdm"] = ngtdm_features(count, difference, grey)
    if "glrlm" in classes:
        runs = run_counts(flat, voxels, steps, grey.size, max(inside.shape))
        out["glrlm"] = run_features(runs, grey, several_on_a_line(runs, inside, directions))
    if "glszm" in classes:
        alone = [step for step, d in zip(steps, directions, strict=True) if sum(map(abs, d)) == 1]
        # A single voxel has no direction: any step leads to the border.
        out["glszm"] = zone_features(*zones(flat, voxels, steps, int(max(alone, default=1))), grey)
    return {name: out[name] for name in TEXTURE if name in out}


def _bounding_box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        used = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def directions_of(shape: Sequence[int], in_plane: bool) -> list[tuple[int, int, int]]:
    """Half of the 26 neighbours (8 in plane); each step is to a later voxel."""
    one = (-1, 0, 1)
    all_ = [(z, y, x) for z, y, x in product(one, one, one) if (z, y, x) > (0, 0, 0)]
    return [d for d in all_ if not (in_plane and d[0]) and all(abs(s) < n for s, n in zip(d, shape, strict=True))]


def several_on_a_line(
    runs: NDArray[np.int64], inside: NDArray[np.bool_], directions: Sequence[tuple[int, int, int]]
) -> NDArray[np.bool_]:
    """Directions in which some line holds two voxels of the region; in the others a run means nothing."""
    keep = np.array([run[:, 1:].any() for run in runs], dtype=np.bool_)
    for k in map(int, np.flatnonzero(~keep)):
        keep[k] = shares_a_line(inside, *directions[k])
    return keep
