"""Regions around a lesion, by distance in mm from its surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.imaging.errors import RegionError
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics.settings import ring_mm


@dataclass(frozen=True)
class Region:
    """One region on the mask's grid.

    Attributes
    ----------
    name : as in the settings
    inside : bool, shape of the mask
    clipped : share of the region's voxels that lay outside the body mask or the image, or in another lesion, 0 to 1
    in_plane_only : the ring ends before the next slice, so the lesion grows within slices only
    """

    name: str
    inside: NDArray[np.bool_]
    clipped: float
    in_plane_only: bool


def surface_distance(mask: Volume) -> NDArray[np.float64]:
    """Signed distance of each voxel centre from the mask in mm, negative inside (Maurer et al. 2003).

    It is zero at the centres of the outermost voxels of the mask, which lie a third to a half of a voxel inside the
    surface that was drawn; rings are thinner by that much, and a finer grid makes it smaller.
    """
    sitk = simple_itk()
    distance = sitk.SignedMaurerDistanceMap(
        to_sitk(mask), insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return sitk.GetArrayFromImage(distance).astype(np.float64)


def make_regions(
    mask: Volume,
    names: Sequence[str],
    *,
    body: NDArray[np.bool_] | None = None,
    others: NDArray[np.bool_] | None = None,
    leaving: str = "refuse",
) -> list[Region]:
    """The named regions of a lesion.

    Parameters
    ----------
    mask : Volume of bool; all its parts, touching or not, are one lesion with one surface
    names : `tumour`, `0-2mm`, `tumour+2mm`
    body : bool, shape of the mask; rings are clipped to it
    others : bool, shape of the mask; other lesions, whose voxels are taken from the rings
    leaving : `refuse` or `clip` rings that leave the image

    Raises
    ------
    RegionError
        A region is empty, or a ring leaves the image and `leaving` is `refuse`.
    """
    rings = [ring_mm(name) for name in names]
    outer = max((ring[1] for ring in rings if ring is not None), default=0.0)
    if outer == 0:
        return [Region(name, mask.array, 0.0, False) for name in names]
    # The lesion's box with room for the widest ring, partly beyond the image.
    margin = np.ceil(outer / np.array(mask.spacing_mm[::-1])).astype(int) + 1
    low, high = (ends + sign * margin for ends, sign in zip(box_of(mask.array), (-1, 1), strict=True))
    part = np.pad(mask.array[tuple(map(slice, low + margin, high - margin))], [(int(m), int(m)) for m in margin])
    cut_low, cut_high = np.maximum(low, 0), np.minimum(high, mask.array.shape)
    here = tuple(map(slice, cut_low, cut_high))
    inner = tuple(map(slice, cut_low - low, cut_high - low))
    distance = surface_distance(Volume(part, mask.spacing_mm, direction=mask.direction))
    slices = mask.spacing_mm[2] if mask.array.ndim == 3 else 0.0
    out = []
    for name, ring in zip(names, rings, strict=True):
        if ring is None:
            out.append(Region(name, mask.array, 0.0, False))
            continue
        around = distance <= ring[1]
        if ring[0] >= 0:
            around &= (distance > ring[0]) & ~part
        inside = np.zeros(mask.array.shape, dtype=bool)
        inside[here] = around[inner]
        lost = int(around.sum() - inside.sum())
        if lost and leaving == "refuse":
            raise RegionError(
                f"{mask.name}: region {name} leaves the image with {lost} of {int(around.sum())} voxels",
                do="Set `leaving: clip` to cut it there, or leave the region out.",
            )
        if body is not None:
            inside &= body | mask.array
        if others is not None:
            inside &= ~others
        total = int(around.sum())
        if not inside.any():
            raise RegionError(
                f"{mask.name}: region {name} is empty on a grid of {'×'.join(f'{s:g}' for s in mask.spacing_mm)} mm",
                do="Resample to a finer grid, or choose a wider ring.",
            )
        out.append(Region(name, inside, 1 - int(inside.sum()) / total, ring[1] < slices))
    return out


def box_of(inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last + 1 index of the bounding box along each axis; there must be a voxel.

    >>> [ends.tolist() for ends in box_of(np.array([[False, False, False], [False, True, True]]))]
    [[1, 1], [2, 3]]
    """
    ends = []
    for axis in range(inside.ndim):
        used = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        ends.append((used[0], used[-1] + 1))
    low, high = np.array(ends, dtype=np.intp).T
    return low, high
