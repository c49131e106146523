"""Resampling a window of image and masks to another spacing, on the grid that PyRadiomics chooses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.imaging.volume import Volume, from_sitk, simple_itk, to_sitk
from osml.radiomics.regions import box_of

# Old voxels beside the window that the spline's coefficients are computed from: 0.268**40 is below rounding.
_SPLINE_MARGIN = 40


@dataclass(frozen=True)
class Window:
    """Part of a grid with its own spacing; everything along x, y(, z).

    Attributes
    ----------
    spacing_mm : of the new grid
    first, size : index of the window's first voxel on the new grid, and its voxels
    step, start : of the new voxels' centres in old voxels: start + step × 0, 1, …
    """

    spacing_mm: tuple[float, ...]
    first: NDArray[np.float64]
    size: NDArray[np.intp]
    step: NDArray[np.float64]
    start: NDArray[np.float64]

    @property
    def same(self) -> bool:
        """The new voxels are old ones."""
        return bool(np.all(self.step == 1))


def window_around(
    inside: NDArray[np.bool_], old_mm: tuple[float, ...], spacing_mm: tuple[float, ...], margin: NDArray[np.intp]
) -> Window:
    """The window that covers `inside` (z, y, x) with `margin` voxels of the new grid (x, y(, z)) on each side.

    It ends at the image's border. An axis along which `inside` spans one slice keeps its spacing. The corner of the
    first voxel stays in place, so windows of different margins share one grid (PyRadiomics).
    """
    old = np.array(old_mm)
    size = np.array(inside.shape[::-1])
    low, high = (ends[::-1] for ends in box_of(inside))
    new = np.where(high - low > 1, np.array(spacing_mm), old)
    if np.allclose(old, new):
        first, last = np.maximum(low - margin, 0), np.minimum(high + margin, size) - 1
        return Window(old_mm, first.astype(float), last - first + 1, np.ones(len(old)), first.astype(float))
    ratio = old / new
    first = np.maximum(np.floor((low - 0.5) * ratio - margin), 0)
    last = np.minimum(np.ceil((high - 0.5) * ratio + margin), np.ceil(size * ratio) - 1)
    start = 0.5 * (new - old) / old + first / ratio
    return Window(tuple(new.tolist()), first, (last - first + 1).astype(np.intp), new / old, start)


def resample_image(image: Volume, window: Window) -> Volume:
    """Cubic B-spline of the image (float64) at the window's voxels, axis by axis; 0 outside the image.

    Unser 1999. An axis whose spacing does not change is not interpolated.
    """
    if window.same:
        return _cut(image, window)
    x = image.array
    for axis in sorted(range(x.ndim), key=lambda a: window.size[-1 - a] / x.shape[a]):
        k = -1 - axis
        if window.step[k] == 1 and window.start[k] == np.rint(window.start[k]):
            begin = int(window.start[k])
            x = x[(slice(None),) * axis + (slice(begin, begin + int(window.size[k])),)]
        else:
            x = _spline(x, axis, window.start[k] + window.step[k] * np.arange(window.size[k]))
    return Volume(np.ascontiguousarray(x), window.spacing_mm, _origin(image, window), image.direction, image.name)


def resample_mask(mask: Volume, window: Window) -> Volume:
    """Nearest neighbour of a mask of bool."""
    if window.same:
        return _cut(mask, window)
    sitk = simple_itk()
    how = sitk.ResampleImageFilter()
    how.SetOutputSpacing(window.spacing_mm)
    how.SetOutputDirection(mask.direction)
    how.SetOutputOrigin(_origin(mask, window))
    how.SetSize(window.size.tolist())
    # A centre that lies exactly between two old ones is decided by rounding, which must be SimpleITK's.
    how.SetInterpolator(sitk.sitkNearestNeighbor)
    moved = from_sitk(how.Execute(to_sitk(mask)), mask.name)
    return moved.like(moved.array > 0)


def _cut(volume: Volume, window: Window) -> Volume:
    low = window.first.astype(np.intp)[::-1]
    return volume.window(low, low + window.size[::-1])


def _origin(volume: Volume, window: Window) -> tuple[float, ...]:
    matrix = np.reshape(volume.direction, (len(window.start),) * 2)
    return tuple((np.array(volume.origin_mm) + matrix @ (window.start * np.array(volume.spacing_mm))).tolist())


def _spline(x: NDArray[np.float64], axis: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the positions `at` (in voxels, ascending) along one axis; mirrored at the border."""
    from scipy.ndimage import spline_filter1d

    n = x.shape[axis]
    base = np.floor(at).astype(np.intp)
    low, high = max(int(base[0]) - 1 - _SPLINE_MARGIN, 0), min(int(base[-1]) + 3 + _SPLINE_MARGIN, n)
    part = x[(slice(None),) * axis + (slice(low, high),)]
    terms = spline_filter1d(part, 3, axis, mode="mirror")
    t = at - base
    weights = ((1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 1 / 6 + (t + t**2 - t**3) / 2, t**3 / 6)
    outside = (at < -0.5) | (at >= n - 0.5)
    shape = [len(at) if a == axis else 1 for a in range(x.ndim)]
    out = np.zeros([len(at) if a == axis else s for a, s in enumerate(x.shape)])
    for k, weight in enumerate(weights):
        index = np.abs(base + (k - 1))
        index = np.where(index > n - 1, np.abs(2 * (n - 1) - index), index)
        index = np.where(outside, low, index) - low
        out += terms.take(index, axis) * np.where(outside, 0, weight).reshape(shape)
    return out
