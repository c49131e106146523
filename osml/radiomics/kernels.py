"""Counting loops of the texture and shape classes, compiled by numba.

Every kernel walks flat indices of a volume that has a border of one voxel of zeros, so that no neighbour needs a
bounds check. `levels` holds 0 outside the region and 1..n inside (the n grey levels that occur, in order).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True)


@_compiled
def neighbour_counts(
    levels: NDArray[np.int32],
    voxels: NDArray[np.int64],
    steps: NDArray[np.int64],
    grey: NDArray[np.float64],
) -> tuple[Any, Any, Any, Any]:
    """Co-occurrences, dependences and neighbourhood differences in one pass.

    Returns
    -------
    glcm : (steps, n, n) ordered pairs (voxel, voxel + step)
    gldm : (n, 2 steps + 1) voxels of a level by number of equal neighbours
    count, difference : (n,) voxels of a level, and the sum of their |level - mean of neighbours| (0 without any)
    """
    n, m = grey.size, steps.size
    glcm = np.zeros((m, n, n), np.int64)
    gldm = np.zeros((n, 2 * m + 1), np.int64)
    count = np.zeros(n, np.int64)
    difference = np.zeros(n)
    for v in range(voxels.size):
        at = voxels[v]
        own = levels[at] - 1
        equal, near, total = 0, 0, 0.0
        for s in range(m):
            other = levels[at + steps[s]] - 1
            if other >= 0:
                glcm[s, own, other] += 1
                near += 1
                total += grey[other]
                equal += other == own
            other = levels[at - steps[s]] - 1
            if other >= 0:
                near += 1
                total += grey[other]
                equal += other == own
        gldm[own, equal] += 1
        if near > 0:
            difference[own] += abs(grey[own] - total / near)
        count[own] += 1
    return glcm, gldm, count, difference


@_compiled
def run_counts(
    levels: NDArray[np.int32], voxels: NDArray[np.int64], steps: NDArray[np.int64], n: int, longest: int
) -> NDArray[np.int64]:
    """Runs of equal level along each step: (steps, n, longest), element [.., r - 1] counts runs of r voxels."""
    out = np.zeros((steps.size, n, longest), np.int64)
    for s in range(steps.size):
        step = steps[s]
        for v in range(voxels.size):
            at = voxels[v]
            level = levels[at]
            if levels[at - step] == level:
                continue
            length = 1
            at += step
            while levels[at] == level:
                length += 1
                at += step
            out[s, level - 1, length - 1] += 1
    return out


@_compiled
def zones(
    levels: NDArray[np.int32], voxels: NDArray[np.int64], steps: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Level (1..n) and size of every connected zone of equal level, by union-find with path halving.

    `voxels` are in ascending order; every step is positive.
    """
    parent = np.empty(levels.size, np.int32)
    size = np.zeros(levels.size, np.int32)
    for v in range(voxels.size):
        at = voxels[v]
        level = levels[at]
        parent[at] = at
        size[at] = 1
        root = at
        for s in range(steps.size):
            near = at - steps[s]
            if levels[near] != level:
                continue
            while parent[near] != near:
                parent[near] = parent[parent[near]]
                near = parent[near]
            if near != root:
                if size[near] < size[root]:
                    near, root = root, near
                parent[root] = near
                size[near] += size[root]
                root = near
    found = 0
    for v in range(voxels.size):
        found += parent[voxels[v]] == voxels[v]
    zone_level = np.empty(found, np.int64)
    zone_size = np.empty(found, np.int64)
    k = 0
    for v in range(voxels.size):
        at = voxels[v]
        if parent[at] == at:
            zone_level[k] = levels[at]
            zone_size[k] = size[at]
            k += 1
    return zone_level, zone_size


@_compiled
def cube_counts(inside: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How often each of the 256 marching cubes occurs in a padded mask, and the sum of its positions (z, y, x)."""
    count = np.zeros(256, np.int64)
    position = np.zeros((256, 3))
    for z in range(inside.shape[0] - 1):
        for y in range(inside.shape[1] - 1):
            right = (
                inside[z, y, 0] * 1 + inside[z, y + 1, 0] * 4 + inside[z + 1, y, 0] * 16 + inside[z + 1, y + 1, 0] * 64
            )
            for x in range(inside.shape[2] - 1):
                left = right
                right = (
                    inside[z, y, x + 1] * 1
                    + inside[z, y + 1, x + 1] * 4
                    + inside[z + 1, y, x + 1] * 16
                    + inside[z + 1, y + 1, x + 1] * 64
                )
                cube = left + 2 * right
                if 0 < cube < 255:
                    count[cube] += 1
                    position[cube, 0] += z
                    position[cube, 1] += y
                    position[cube, 2] += x
    return count, position


@_compiled
def largest_squared_distance(a: NDArray[np.float64], b: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """Largest squared distance between two points (a, b) of the same group; `group` is sorted."""
    best = 0.0
    start = 0
    for i in range(a.size):
        if group[i] != group[start]:
            start = i
        for j in range(start, i):
            da = a[i] - a[j]
            db = b[i] - b[j]
            best = max(best, da * da + db * db)
    return best
