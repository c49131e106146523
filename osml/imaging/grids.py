"""How two grids differ, in words: the question that a geometry error must answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.imaging.volume import Volume

_AXES = "xyz"
_PLANES = ("columns", "rows", "slices")
_NEAR = 0.1


def difference(image: Volume, mask: Volume) -> str:
    """What distinguishes the grid of a mask from that of its image, where it can be told; else an empty text.

    Voxel indices of the mask are carried to the image: a signed permutation of the axes is a storage order, a whole
    number of voxels a shift, another step a resampling.

    >>> image = Volume(np.zeros((24, 4, 4)), (1, 1, 5))
    >>> turned = Volume(image.array, (1, 1, 5), (0, 0, 115), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    >>> difference(image, turned)
    'Same extent (23 × 5 = 115 mm): slices are stored in reverse order.'
    """
    n = image.array.ndim
    if mask.array.ndim != n:
        return _flat_or_not(image, mask)
    inverse = np.linalg.inv(_matrix(image))
    steps = inverse @ _matrix(mask)
    start = inverse @ np.subtract(mask.origin_mm, image.origin_mm)
    if not _plain(image) and _plain(mask):
        return "The mask has spacing 1, origin 0 and no direction: it was saved without its place in space."
    order = np.argmax(np.abs(steps), axis=0)
    along = steps[order, range(n)]
    beside = np.abs(steps / along)
    beside[order, range(n)] = 0
    if sorted(order) != list(range(n)) or beside.max() > 1e-2:
        return "The axes are turned by an angle."
    return _along_axes(image, mask, order, along, start)


def _along_axes(image: Volume, mask: Volume, order: NDArray[np.intp], steps: NDArray[Any], start: NDArray[Any]) -> str:
    """Axis k of the mask runs along axis order[k] of the image, steps[k] of its voxels at a time."""
    n = image.array.ndim
    size, other = np.array(image.size), np.array(mask.size)
    extent = [f"{s - 1} × {d:.4g} = {(s - 1) * d:.4g} mm" for s, d in zip(size, image.spacing_mm, strict=True)]
    if list(size) != list(other) and sorted(size) == sorted(other):
        words = "×".join(map(str, other)), "×".join(map(str, size))
        return f"The axes are permuted: {words[0]} of the mask is {words[1]} of the image in another order."
    if np.abs(np.abs(steps) - 1).max() > 1e-3:
        # Borders of the first and last voxel, in voxels of the image.
        first = start[order] - steps / 2
        last = start[order] + steps * (other - 0.5)
        same = np.allclose(np.sort([first, last], axis=0), [np.full(n, -0.5), size[order] - 0.5], atol=1)
        ratios = ", ".join(f"{_AXES[k]} {abs(s):.4g}" for k, s in enumerate(steps) if abs(abs(s) - 1) > 1e-3)
        return (
            f"{'Same extent, another' if same else 'Another'} resolution: one voxel of the mask is "
            f"{ratios} voxels of the image."
        )
    if list(order) != list(range(n)):
        permuted = " ".join(_AXES[k] for k in order)
        return f"The axes are permuted: x {'y z' if n == 3 else 'y'} of the mask are {permuted} of the image."
    reverse = [k for k in range(n) if steps[k] < 0]
    low = np.where(steps < 0, start - (other - 1), start)
    shift = [_shift(k, low[k], image.spacing_mm[k]) for k in range(n) if abs(low[k]) > _NEAR]
    if list(size) != list(other):
        inside = bool(np.all(low > -_NEAR) and np.all(low + other <= size + _NEAR))
        begin = " ".join(f"{v:.4g}" for v in low) + f" ({' '.join(_AXES[:n])})"
        return (
            f"The mask covers a part of the image, from voxel {begin}."
            if inside
            else f"Another number of voxels: the mask begins at voxel {begin} of the image, and leaves it."
        )
    found = []
    if reverse:
        planes = " and ".join(_PLANES[k] for k in reverse)
        covered = f"Same extent ({', '.join(extent[k] for k in reverse)}): " if not shift else ""
        found.append(f"{covered}{planes} are stored in reverse order.")
    if shift:
        found.append(f"The mask is shifted by {', '.join(shift)}.")
    return " ".join(found)


def _shift(axis: int, voxels: float, spacing: float) -> str:
    return f"{voxels:.4g} voxels along {_AXES[axis]} ({voxels * spacing:.4g} mm)"


def _flat_or_not(image: Volume, mask: Volume) -> str:
    if image.array.ndim == 2:
        return (
            "The mask has one slice and the image none: save both in 2D, or both in 3D."
            if mask.size[2] == 1
            else "The image is a single slice: name the folder of the series, not one of its files."
        )
    return "The mask is a picture, the image a volume."


def _matrix(volume: Volume) -> NDArray[np.float64]:
    n = volume.array.ndim
    return np.reshape(volume.direction, (n, n)) * np.array(volume.spacing_mm)


def _plain(volume: Volume) -> bool:
    n = volume.array.ndim
    return (
        np.allclose(volume.spacing_mm, 1) and np.allclose(volume.origin_mm, 0)
        and np.allclose(np.reshape(volume.direction, (n, n)), np.eye(n))
    )  # fmt: skip
