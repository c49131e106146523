"""Outlines of pixels, and pixels of outlines: exact inverses of each other.

An outline follows the borders of pixels. A pixel belongs to a polygon if its middle lies inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.imaging.tissue import Bools

Ring = NDArray[np.float64]
# Pixels that are filled at once.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Polygon:
    """One connected piece: closed rings of x, y (the first point is the last), the outer one first."""

    rings: tuple[Ring, ...]
    area: float


def outlines(inside: Bools, min_area: float = 0.0) -> list[Polygon]:
    """The 4-connected pieces of a mask of at least `min_area` pixels, in order from above, with their holes.

    Notes
    -----
    Corners of the outline, sorted along a row, are joined in pairs by its horizontal edges, along a column by its
    vertical ones. Where two pixels touch by a corner only, two corners lie at one point, one for either pixel.

    >>> [p.rings[0].tolist() for p in outlines(np.array([[True, False], [False, True]]))]
    [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0], [1.0, 1.0]]]
    """  # noqa: E501
    from scipy import ndimage

    labels, n = ndimage.label(inside)
    if n == 0:
        return []
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    if min_area > 1:
        inside = (areas >= min_area)[labels] & inside
    rings: list[list[tuple[float, Ring]]] = [[] for _ in range(n + 1)]
    for ring in _rings(inside):
        x, y = ring[:, 0], ring[:, 1]
        signed = float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
        rings[_piece(labels, inside, ring)].append((signed, ring))
    out = []
    for piece in range(1, n + 1):
        if rings[piece]:
            # The outer ring encloses the largest area.
            ordered = sorted(rings[piece], key=lambda found: -abs(found[0]))
            out.append(Polygon(tuple(ring for _, ring in ordered), float(areas[piece])))
    return out


def fill(polygons: Iterable[Sequence[Ring]], shape: tuple[int, int]) -> Bools:
    """Pixels whose middle lies inside one of the polygons (rings in pixels, even-odd within a polygon)."""
    out = np.zeros(shape, dtype=np.bool_)
    for rings in polygons:
        points = np.concatenate(list(rings))
        low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (shape[1], shape[0]))
        high = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, (shape[1], shape[0]))
        if (high <= low).any():
            continue
        rows = max(1, _AT_ONCE // int(high[0] - low[0]))
        for top in range(int(low[1]), int(high[1]), rows):
            window = (slice(top, min(top + rows, int(high[1]))), slice(int(low[0]), int(high[0])))
            out[window] |= _filled(rings, window)
    return out


def _filled(rings: Sequence[Ring], window: tuple[slice, slice]) -> Bools:
    """Parity of the edges to the left of each pixel's middle."""
    top, left = window[0].start, window[1].start
    height, width = window[0].stop - top, window[1].stop - left
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for ring in rings:
        x, y = ring[:, 0] - left, ring[:, 1] - top
        x0, y0, x1, y1 = x[:-1], y[:-1], x[1:], y[1:]
        # Middles of rows from min(y) up to, not including, max(y).
        first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
        count = last - first
        edge = np.repeat(np.arange(len(count)), count)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        at = x0[edge] + (row + 0.5 - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
        column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
        np.add.at(crossings, (row, column), 1)
    return (np.cumsum(crossings, axis=1)[:, :width] & 1).astype(np.bool_)


def _rings(inside: Bools) -> list[Ring]:
    padded = np.pad(inside, 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    single = a ^ b ^ c ^ d
    crossed = (a == d) & (b == c) & (a != b)
    # (y, x, copy): at a crossing, copy 0 ends the edge from the left, copy 1 begins the edge to the right.
    y, x = np.nonzero(single | crossed)
    double = crossed[y, x]
    y, x = np.repeat(y, 1 + double), np.repeat(x, 1 + double)
    copy = np.zeros(len(y), dtype=np.int64)
    copy[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    # Row order pairs the horizontal edges.
    across = np.arange(len(y)) ^ 1
    # With pixels at upper left and lower right, the upper left one has the edges to the left and above; with the other
    # two pixels, the edge from the left goes down.
    above = np.where(crossed[y, x] & ~a[y, x], 1 - copy, copy)
    order = np.lexsort((above, y, x))
    rank = np.empty(len(y), dtype=np.int64)
    rank[order] = np.arange(len(y))
    down = order[rank ^ 1]
    return _traced(x, y, across.tolist(), down.tolist())


def _traced(x: NDArray[np.int64], y: NDArray[np.int64], across: list[int], down: list[int]) -> list[Ring]:
    points = np.stack([x, y], axis=1).astype(np.float64)
    seen = [False] * len(x)
    out = []
    for start in range(len(seen)):
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            seen[at] = True
            turn = across[at]
            seen[turn] = True
            ring += [at, turn]
            at = down[turn]
        out.append(points[[*ring, start]])
    return out


def _piece(labels: NDArray[np.integer], inside: Bools, ring: Ring) -> int:
    """The piece that a ring bounds: of the pixels above and below its first edge, the one that is inside."""
    x, y = int(min(ring[0, 0], ring[1, 0])), int(ring[0, 1])
    below = y < inside.shape[0] and inside[y, x]
    return int(labels[y if below else y - 1, x])
