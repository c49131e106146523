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
    clipped : share of the region's voxels that lay outside the body mask or the image, 0 to 1
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
    mask: Volume, names: Sequence[str], *, body: NDArray[np.bool_] | None = None, leaving: str = "refuse"
) -> list[Region]:
    """The named regions of a lesion.

    Parameters
    ----------
    mask : Volume of bool
    names : `tumour`, `0-2mm`, `tumour+2mm`
    body : bool, shape of the mask; rings are clipped to it
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
    margin = np.ceil(outer / np.array(mask.spacing_mm[::-1])).astype(int) + 1
    pad = [(int(m), int(m)) for m in margin]
    inner = tuple(slice(m, m + size) for (m, _), size in zip(pad, mask.array.shape, strict=True))
    wide = Volume(np.pad(mask.array, pad), mask.spacing_mm, direction=mask.direction)
    distance = surface_distance(wide)
    slices = mask.spacing_mm[2] if mask.array.ndim == 3 else 0.0
    out = []
    for name, ring in zip(names, rings, strict=True):
        if ring is None:
            out.append(Region(name, mask.array, 0.0, False))
            continue
        around = distance <= ring[1]
        if ring[0] >= 0:
            around &= (distance > ring[0]) & ~wide.array
        inside = around[inner]
        lost = int(around.sum() - inside.sum())
        if lost and leaving == "refuse":
            raise RegionError(
                f"{mask.name}: region {name} leaves the image with {lost} of {int(around.sum())} voxels",
                do="Set `leaving: clip` to cut it there, or leave the region out.",
            )
        if body is not None:
            inside = inside & (body | mask.array)
        total = int(around.sum())
        if not inside.any():
            raise RegionError(
                f"{mask.name}: region {name} is empty on a grid of {'×'.join(f'{s:g}' for s in mask.spacing_mm)} mm",
                do="Resample to a finer grid, or choose a wider ring.",
            )
        out.append(Region(name, inside, 1 - int(inside.sum()) / total, ring[1] < slices))
    return out
