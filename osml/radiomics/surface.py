"""Longest distances between the surface vertices of a mask, compiled by numba.

Mesh vertices are the middles between neighbours of which one is inside, counted in half voxels. Along a line only the
first and the last can end a longest distance, so two numbers per line hold all that is needed.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True)
Ends = NDArray[np.int32]


@_compiled
def line_ends(box: NDArray[np.bool_]) -> tuple[Ends, Ends]:
    """First and last vertex on each line along the last axis of a padded mask (a, b, c).

    Returns
    -------
    first, last : (2a - 1, 2b - 1), half voxels along the last axis, -1 where the line has no vertex. Lines at even
        places run through voxel centres, the others midway between two.
    """
    a, b, c = box.shape
    first = np.full((2 * a - 1, 2 * b - 1), -1, np.int32)
    last = np.full((2 * a - 1, 2 * b - 1), -1, np.int32)
    for i in range(a):
        for j in range(b):
            for k in range(c):
                here = box[i, j, k]
                if here:  # the line leaves the voxels half a voxel beyond their centres
                    if first[2 * i, 2 * j] < 0:
                        first[2 * i, 2 * j] = 2 * k - 1
                    last[2 * i, 2 * j] = 2 * k + 1
                if i + 1 < a and here != box[i + 1, j, k]:
                    if first[2 * i + 1, 2 * j] < 0:
                        first[2 * i + 1, 2 * j] = 2 * k
                    last[2 * i + 1, 2 * j] = 2 * k
                if j + 1 < b and here != box[i, j + 1, k]:
                    if first[2 * i, 2 * j + 1] < 0:
                        first[2 * i, 2 * j + 1] = 2 * k
                    last[2 * i, 2 * j + 1] = 2 * k
    return first, last


@_compiled
def plane_diameter(first: Ends, last: Ends, step_b: float, step_c: float) -> float:
    """Longest distance between vertices of one plane at right angles to the first axis; steps in mm per half voxel."""
    best = 0.0
    for i in range(first.shape[0]):
        low, high = np.int64(2**31), np.int64(-1)
        top = -1
        for j in range(first.shape[1]):
            if first[i, j] >= 0:
                low, high, top = min(low, first[i, j]), max(high, last[i, j]), j
        for j in range(top + 1):
            reach = ((top - j) * step_b) ** 2 + ((high - low) * step_c) ** 2
            if reach <= best:
                break
            if first[i, j] < 0:
                continue
            for k in range(j, top + 1):
                if first[i, k] >= 0:
                    wide = max(last[i, k] - first[i, j], last[i, j] - first[i, k])
                    best = max(best, ((k - j) * step_b) ** 2 + (wide * step_c) ** 2)
    return np.sqrt(best)


@_compiled
def diameter(first: Ends, last: Ends, step_a: float, step_b: float, step_c: float) -> float:
    """Longest distance between any two vertices: between corners of the planes' convex outlines.

    Andrew 1979 (monotone chain). Pairs of planes whose bounding boxes are too near each other are passed over.
    """
    planes, rows = first.shape
    at = np.empty((planes * rows * 2, 2), np.int64)
    start = np.zeros(planes + 1, np.int64)
    box = np.zeros((planes, 4), np.int64)
    n = 0
    for i in range(planes):
        begin = n
        for side in (1, -1):
            chain = n
            for j in range(rows):
                if first[i, j] < 0:
                    continue
                value = np.int64(last[i, j]) if side == 1 else -np.int64(first[i, j])
                while n - chain >= 2:
                    turn = (at[n - 1, 0] - at[n - 2, 0]) * (value - at[n - 2, 1])
                    turn -= (at[n - 1, 1] - at[n - 2, 1]) * (j - at[n - 2, 0])
                    if turn < 0:
                        break
                    n -= 1
                at[n, 0], at[n, 1] = j, value
                n += 1
            for k in range(chain, n):
                at[k, 1] *= side
        start[i + 1] = n
        if n > begin:
            box[i, 0], box[i, 1] = at[begin:n, 0].min(), at[begin:n, 0].max()
            box[i, 2], box[i, 3] = at[begin:n, 1].min(), at[begin:n, 1].max()
    best = 0.0
    for apart in range(planes - 1, -1, -1):
        deep = (apart * step_a) ** 2
        for i in range(planes - apart):
            o = i + apart
            if start[i + 1] == start[i] or start[o + 1] == start[o]:
                continue
            high = max(box[i, 1] - box[o, 0], box[o, 1] - box[i, 0]) * step_b
            wide = max(box[i, 3] - box[o, 2], box[o, 3] - box[i, 2]) * step_c
            if deep + high * high + wide * wide <= best:
                continue
            for p in range(start[i], start[i + 1]):
                for q in range(start[o], start[o + 1]):
                    y, x = (at[p, 0] - at[q, 0]) * step_b, (at[p, 1] - at[q, 1]) * step_c
                    best = max(best, deep + y * y + x * x)
    return np.sqrt(best)


@_compiled
def moments(box: NDArray[np.bool_]) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of a mask (z, y, x), and the sums of their places (3,) and of products of places (3, 3)."""
    n = 0
    one = np.zeros(3, np.int64)
    two = np.zeros((3, 3), np.int64)
    for z in range(box.shape[0]):
        for y in range(box.shape[1]):
            count, along, square = 0, 0, 0
            for x in range(box.shape[2]):
                if box[z, y, x]:
                    count += 1
                    along += x
                    square += x * x
            n += count
            one[0] += z * count
            one[1] += y * count
            one[2] += along
            two[0, 0] += z * z * count
            two[0, 1] += z * y * count
            two[0, 2] += z * along
            two[1, 1] += y * y * count
            two[1, 2] += y * along
            two[2, 2] += square
    for i in range(3):
        for j in range(i):
            two[i, j] = two[j, i]
    return n, one, two
