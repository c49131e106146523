"""Resampling a window of image and masks to another spacing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.imaging.volume import Volume, from_sitk, simple_itk, to_sitk


def resample(
    image: Volume,
    masks: list[Volume],
    inside: NDArray[np.bool_],
    spacing_mm: tuple[float, ...],
    margin: NDArray[np.intp],
) -> tuple[Volume, list[Volume]]:
    """Image (cubic B-spline) and masks (nearest neighbour) on a new grid around `inside`.

    Parameters
    ----------
    image, masks : Volumes on one grid
    inside : bool, what must be covered
    spacing_mm : new spacing x, y(, z). An axis along which `inside` spans one slice keeps its own.
    margin : voxels of the new grid on each side, x, y(, z); the window ends at the image's border

    Notes
    -----
    The corner of the first voxel stays in place, so windows of different margins share one grid (PyRadiomics).
    """
    sitk = simple_itk()
    old = np.array(image.spacing_mm)
    size = np.array(image.size)
    used = np.argwhere(inside)[:, ::-1]
    low, high = used.min(axis=0), used.max(axis=0) + 1
    new = np.where(high - low > 1, np.array(spacing_mm), old)
    if np.allclose(old, new):
        start = np.maximum(low - margin, 0)[::-1]
        stop = np.minimum(high + margin, size)[::-1]
        return image.window(start, stop), [mask.window(start, stop) for mask in masks]
    ratio = old / new
    first = np.maximum(np.floor((low - 0.5) * ratio - margin), 0)
    last = np.minimum(np.ceil((high - 0.5) * ratio + margin), np.ceil(size * ratio) - 1)
    matrix = np.reshape(image.direction, (len(old), len(old)))
    origin = np.array(image.origin_mm) + matrix @ ((0.5 * (new - old) / old + first / ratio) * old)
    how = sitk.ResampleImageFilter()
    how.SetOutputSpacing(new.tolist())
    how.SetOutputDirection(image.direction)
    how.SetOutputOrigin(origin.tolist())
    how.SetSize((last - first + 1).astype(int).tolist())
    how.SetInterpolator(sitk.sitkBSpline)
    moved = from_sitk(how.Execute(to_sitk(image)), image.name)
    how.SetInterpolator(sitk.sitkNearestNeighbor)
    return moved, [(lambda v: v.like(v.array > 0))(from_sitk(how.Execute(to_sitk(mask)), mask.name)) for mask in masks]
