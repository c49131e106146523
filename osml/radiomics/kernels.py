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
def byte_counts(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each byte within a mask, both flat. Four tables, since neighbours are often equal and would queue."""
    out = np.zeros((4, 256), np.int64)
    whole = image.size // 4 * 4
    for v in range(0, whole, 4):
        for k in range(4):
            out[k, image[v + k]] += inside[v + k]
    for v in range(whole, image.size):
        out[0, image[v]] += inside[v]
    return out[0] + out[1] + out[2] + out[3]


@_compiled
def binned(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.int64]:
    """Number of edges at or below each value, as `np.digitize`; guessed from even spacing, then made exact."""
    out = np.empty(values.size, np.int64)
    last = edges.size
    even = max(last - 2, 1)  # a bin count makes the last bin wider
    scale = even / (edges[even] - edges[0])
    for v in range(values.size):
        value = values[v]
        k = min(max(int((value - edges[0]) * scale) + 1, 0), last)
        while k > 0 and value < edges[k - 1]:
            k -= 1
        while k < last and value >= edges[k]:
            k += 1
        out[v] = k
    return out


@_compiled
def padded_levels(
    inside: NDArray[np.bool_], level: NDArray[np.int64], compact: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`compact` of the levels, in place within a border of zeros, flat; and the flat positions of the voxels."""
    depth, height, width = inside.shape
    out = np.zeros((depth + 2) * (height + 2) * (width + 2), np.int32)
    voxels = np.empty(level.size, np.int64)
    v = 0
    for z in range(depth):
        for y in range(height):
            at = ((z + 1) * (height + 2) + y + 1) * (width + 2) + 1
            for x in range(width):
                if inside[z, y, x]:
                    out[at + x] = compact[level[v]]
                    voxels[v] = at + x
                    v += 1
    return out, voxels


@_compiled
def padded_bytes(
    image: NDArray[np.uint8], inside: NDArray[np.bool_], compact: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """As `padded_levels`, with `compact` (256,) by byte; `n` voxels are inside."""
    depth, height, width = inside.shape
    out = np.zeros((depth + 2) * (height + 2) * (width + 2), np.int32)
    voxels = np.empty(n, np.int64)
    v = 0
    for z in range(depth):
        for y in range(height):
            at = ((z + 1) * (height + 2) + y + 1) * (width + 2) + 1
            for x in range(width):
                if inside[z, y, x]:
                    out[at + x] = compact[image[z, y, x]]
                    voxels[v] = at + x
                    v += 1
    return out, voxels


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
    """Runs of equal level along each step: (steps, n, longest), element [.., r - 1] counts runs of r voxels.

    `voxels` are in ascending order; every step is positive.
    """
    out = np.zeros((steps.size, n, longest), np.int64)
    place = np.empty(levels.size, np.int32)
    for s in range(steps.size):
        step = steps[s]
        for v in range(voxels.size):
            at = voxels[v]
            level = levels[at]
            before = place[at - step] + 1
            length = before if levels[at - step] == level else 1
            place[at] = length
            out[s, level - 1, length - 1] += 1
        # So far: voxels at place r of a run, which are the runs of at least r voxels.
        for level in range(n):
            for r in range(longest - 1):
                out[s, level, r] -= out[s, level, r + 1]
    return out


@_compiled
def shares_a_line(inside: NDArray[np.bool_], dz: int, dy: int, dx: int) -> bool:
    """Whether some line along (dz, dy, dx) holds two voxels of the region, however far apart."""
    depth, height, width = inside.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not inside[z, y, x]:
                    continue
                k, j, i = z + dz, y + dy, x + dx
                while 0 <= k < depth and 0 <= j < height and 0 <= i < width:
                    if inside[k, j, i]:
                        return True
                    k, j, i = k + dz, j + dy, i + dx
    return False


@_compiled
def zones(
    levels: NDArray[np.int32], voxels: NDArray[np.int64], steps: NDArray[np.int64], lead: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Level (1..n) and size of every connected zone of equal level, by union-find over provisional labels.

    `voxels` are in ascending order; every step is positive. `lead` is the step along the slowest axis alone: that
    neighbour touches all other earlier neighbours, so where it is equal they are in its zone already.
    """
    label = np.empty(levels.size, np.int32)
    parent = np.empty(voxels.size, np.int32)
    size = np.empty(voxels.size, np.int64)
    of_level = np.empty(voxels.size, np.int64)
    found = 0
    for v in range(voxels.size):
        at = voxels[v]
        level = levels[at]
        if levels[at - lead] == level:
            own = label[at - lead]
        else:
            own = np.int32(-1)
            for s in range(steps.size):
                near = at - steps[s]
                if levels[near] != level:
                    continue
                other = label[near]
                if own == other:
                    continue
                while parent[other] != other:
                    parent[other] = parent[parent[other]]
                    other = parent[other]
                if own < 0:
                    own = other
                elif own != other:
                    if other < own:
                        own, other = other, own
                    parent[other] = own
            if own < 0:
                own = np.int32(found)
                parent[found] = found
                size[found] = 0
                of_level[found] = level
                found += 1
        label[at] = own
        size[own] += 1
    kept = 0
    for k in range(found):
        root = parent[k]
        if root == k:
            parent[k] = kept
            of_level[kept] = of_level[k]
            size[kept] = size[k]
            kept += 1
        else:
            # Parents are smaller, hence already counted and renamed.
            root = parent[root]
            parent[k] = root
            size[root] += size[k]
    return of_level[:kept].copy(), size[:kept].copy()


@_compiled
def zone_matrix(
    zone_level: NDArray[np.int64], zone_size: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Zones by level and size (1, n, sizes), and the sizes that occur, ascending."""
    column = np.zeros(zone_size.max() + 1, np.int32)
    for k in range(zone_size.size):
        column[zone_size[k]] = 1
    found = 0
    for r in range(column.size):
        if column[r]:
            column[r] = found
            found += 1
    counts = np.zeros((1, n, found), np.int64)
    size = np.empty(found)
    for k in range(zone_size.size):
        c = column[zone_size[k]]
        size[c] = zone_size[k]
        counts[0, zone_level[k] - 1, c] += 1
    return counts, size


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
