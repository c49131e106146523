"""Maps of any size through overlapping windows that are blended smoothly, each at its exact place.

The weights of windows add up to 1 in every cell, so what every window agrees on comes out as it went in. Windows of
which one class is certain throughout (glass) are kept as they are and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

CERTAIN = 0.999
Floats = NDArray[np.float32]
# Probabilities (n, C, s, t) from coarse maps (n, C, s, t), pictures (n, s, t, 3) and the windows' upper left cells.
Apply = Callable[[Floats, NDArray[np.uint8], list[tuple[int, int]]], Floats]


@dataclass(frozen=True)
class Windows:
    """side : cells along a window; overlap : that neighbours share at least; factor : sides are multiples of it."""

    side: int = 128
    overlap: int = 32
    factor: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.side or self.side % self.factor:
            raise InvalidInputError(f"windows of {self.side} cells, overlap {self.overlap}, multiples of {self.factor}")


def starts(size: int, side: int, overlap: int) -> list[int]:
    """First cells of the windows along an axis: the first at 0, the last one ends at `size`, evenly between.

    >>> starts(300, 128, 32), starts(100, 128, 32)
    ([0, 86, 172], [0])
    """
    if size <= side:
        return [0]
    count = -(-(size - side) // (side - overlap)) + 1
    return [round(k * (size - side) / (count - 1)) for k in range(count)]


def shares(size: int, side: int, overlap: int) -> list[NDArray[np.float64]]:
    """Weights of the windows of `starts` along an axis; over all windows they add up to 1 in each cell."""
    first, length = starts(size, side, overlap), min(side, size)
    edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    ramp = np.sin(np.clip(edge / max(overlap, 1), 0, 1) * np.pi / 2) ** 2
    total = np.zeros(size)
    for at in first:
        total[at : at + length] += ramp
    return [ramp / total[at : at + length] for at in first]


def blend(
    apply: Apply, coarse: NDArray[Any], image: NDArray[Any], windows: Windows, *, batch: int, out: NDArray[Any] | None
) -> NDArray[Any]:
    """Apply to every window and blend; memory is that of a batch of windows when the arrays lie on disk.

    Parameters
    ----------
    coarse, image : (C, h, w) and (h, w, 3)
    out : takes the result; None = a new float32 array

    Raises
    ------
    InvalidInputError
        `out` has another shape or is no array of floats.
    """
    classes, height, width = coarse.shape
    if out is None:
        out = np.zeros(coarse.shape, dtype=np.float32)
    elif out.shape != coarse.shape or out.dtype.kind != "f":
        raise InvalidInputError(f"out has shape {out.shape} and type {out.dtype}; expected floats {coarse.shape}")
    else:
        out[:] = 0
    down = list(zip(starts(height, windows.side, windows.overlap), _axis(height, windows), strict=True))
    across = list(zip(starts(width, windows.side, windows.overlap), _axis(width, windows), strict=True))
    waiting: list[tuple[int, int, NDArray[np.float64]]] = []

    def flush() -> None:
        if not waiting:
            return
        places = [(row, column) for row, column, _ in waiting]
        sides = (_padded(height, windows), _padded(width, windows))
        maps = np.stack([_cut(coarse, row, column, *sides, axis=1).astype(np.float32) for row, column in places])
        pictures = np.stack([_cut(image, row, column, *sides, axis=0) for row, column in places])
        found = apply(maps, pictures, places)
        for (row, column, weight), p in zip(waiting, found, strict=True):
            _add(out, row, column, p[:, : weight.shape[0], : weight.shape[1]], weight)
        waiting.clear()

    for row, column, weight in _places(down, across):
        part = np.asarray(coarse[:, row : row + weight.shape[0], column : column + weight.shape[1]], dtype=np.float32)
        if part.reshape(classes, -1).min(axis=1).max() >= CERTAIN:
            _add(out, row, column, part, weight)
            continue
        waiting.append((row, column, weight))
        if len(waiting) == batch:
            flush()
    flush()
    return out


def _places(
    down: list[tuple[int, NDArray[np.float64]]], across: list[tuple[int, NDArray[np.float64]]]
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    for row, vertical in down:
        for column, horizontal in across:
            yield row, column, np.outer(vertical, horizontal)


def _axis(size: int, windows: Windows) -> list[NDArray[np.float64]]:
    return shares(size, windows.side, windows.overlap)


def _padded(size: int, windows: Windows) -> int:
    return windows.side if size >= windows.side else -(-size // windows.factor) * windows.factor


def _cut(array: NDArray[Any], row: int, column: int, height: int, width: int, *, axis: int) -> NDArray[Any]:
    """A window whose rows lie along `axis`; beyond the lower and right end the last cells are repeated."""
    index: list[Any] = [slice(None)] * array.ndim
    index[axis], index[axis + 1] = slice(row, row + height), slice(column, column + width)
    part = np.asarray(array[tuple(index)])
    pad = [(0, 0)] * array.ndim
    pad[axis], pad[axis + 1] = (0, height - part.shape[axis]), (0, width - part.shape[axis + 1])
    return np.pad(part, pad, mode="edge") if any(b for _, b in pad) else part


def _add(out: NDArray[Any], row: int, column: int, p: Floats, weight: NDArray[np.float64]) -> None:
    out[:, row : row + weight.shape[0], column : column + weight.shape[1]] += p * weight.astype(np.float32)
