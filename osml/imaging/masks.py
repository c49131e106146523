"""Masks on their image: one grid, one label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from osml.imaging.errors import EmptyMaskError, GeometryError, LabelError, NonFiniteError
from osml.imaging.grids import difference
from osml.imaging.volume import Volume

# A shift of the origin below this share of a voxel is a rounding of the header and is aligned.
DRIFT_VOXELS = 0.5
SPACING_RTOL = 1e-3


def check_finite(image: Volume) -> None:
    """Refuse NaN and infinity, with their number."""
    bad = int(np.size(image.array) - np.isfinite(image.array).sum())
    if bad:
        raise NonFiniteError(
            f"{image.name}: {bad} of {image.array.size} voxels are NaN or infinite",
            do="Fill them on purpose before extraction; a filter would spread them over the image.",
        )


def align(image: Volume, mask: Volume) -> tuple[Volume, float]:
    """The mask on the image's grid, and the drift that was removed in voxels (0 where there was none).

    Raises
    ------
    GeometryError
        Size, spacing or direction differ, or the origin by half a voxel or more. Both grids are printed, and what
        differs where it can be told: slices in reverse order, permuted axes, a shift, another resolution.
    """
    same = (
        image.size == mask.size
        and np.allclose(image.spacing_mm, mask.spacing_mm, rtol=SPACING_RTOL, atol=0)
        and np.allclose(image.direction, mask.direction, atol=1e-3)
    )
    if not same:
        raise _mismatch(image, mask)
    drift = float(np.max(np.abs(np.subtract(image.origin_mm, mask.origin_mm)) / np.array(image.spacing_mm)))
    if drift >= DRIFT_VOXELS:
        raise _mismatch(image, mask)
    return replace(image, array=mask.array, name=mask.name, notes=mask.notes), drift


def _mismatch(image: Volume, mask: Volume) -> GeometryError:
    words = difference(image, mask)
    return GeometryError(
        f"mask and image grids differ\n  image {image.name}: {image.grid()}\n  mask  {mask.name}: {mask.grid()}"
        + (f"\n  {words}" if words else ""),
        why="Features would be read beside the lesion. Nothing was changed.",
        do="Re-export the mask from the image that it was drawn on.",
    )


def choose_label(mask: Volume, label: float | None = None) -> Volume:
    """The mask of one label as bool; without a label the only one that exists (255 and 1/255 are fine).

    >>> choose_label(Volume(np.array([[0, 255]]))).array.tolist()
    [[False, True]]
    """
    check_finite(mask)
    found = [float(v) for v in np.unique(mask.array) if v != 0]
    words = ", ".join(f"{v:g}" for v in found[:20])
    if not found:
        raise EmptyMaskError(f"{mask.name}: nothing is segmented (all voxels are 0)")
    if label is None and len(found) > 1:
        raise LabelError(f"{mask.name}: labels {words} exist and none was chosen", do="Set `label` to one of them.")
    wanted = found[0] if label is None else float(label)
    if wanted not in found:
        raise LabelError(f"{mask.name}: label {wanted:g} is not in the mask; labels found: {words}")
    return mask.like(mask.array == wanted)
