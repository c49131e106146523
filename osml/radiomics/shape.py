"""Shape of a region in 3D and 2D: mesh, axes and diameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from osml.radiomics.kernels import cube_counts, largest_squared_distance
from osml.radiomics.mesh import cube_triangles

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def shape_3d(inside: Bools, spacing_zyx: Sequence[float], *, ibsi: bool = False) -> dict[str, float]:
    """The 14 shape features of a 3D region.

    Parameters
    ----------
    inside : bool (z, y, x)
        At least one voxel. The result does not depend on empty margins.
    spacing_zyx : mm per voxel along z, y, x
    ibsi : axis lengths from the covariance over n - 1, as in the IBSI's reference values; else over n (PyRadiomics)

    Returns
    -------
    dict by PyRadiomics' names; lengths in mm. `LeastAxisLength` and `Flatness` are 0 for a flat region.

    Notes
    -----
    Mesh: `mesh.cube_triangles`. Diameters are between mesh vertices: 3D through the convex hull, in-plane ones over
    the ends of each row. Lorensen and Cline 1987; PyRadiomics `shape`.
    """
    spacing = np.asarray(spacing_zyx, dtype=np.float64)
    box = np.pad(_cropped(inside), 1)
    area, volume = _mesh(box, spacing)
    n = int(np.count_nonzero(box))
    least, minor, major = np.sqrt(_variances(box, spacing))
    along_x, along_y = _line_ends(box, 2), _line_ends(box, 1)
    length = 4 * (math.sqrt(n / (n - 1)) if ibsi and n > 1 else 1.0)
    return {
        "Elongation": _ratio(minor, major),
        "Flatness": _ratio(least, major),
        "LeastAxisLength": length * least,
        "MajorAxisLength": length * major,
        "Maximum2DDiameterColumn": _plane_diameter(along_x, 1, spacing),
        "Maximum2DDiameterRow": _plane_diameter(along_y, 2, spacing),
        "Maximum2DDiameterSlice": _plane_diameter(along_x, 0, spacing),
        "Maximum3DDiameter": _diameter(along_x, spacing),
        "MeshVolume": volume,
        "MinorAxisLength": length * minor,
        "Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / area,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "VoxelVolume": float(n * np.prod(spacing)),
    }


def shape_2d(inside: Bools, spacing_yx: Sequence[float]) -> dict[str, float]:
    """The 9 shape features of a 2D region; `inside` is bool (y, x), lengths in mm (pixels where the spacing is 1).

    Marching squares with vertices at the middle of the edges; opposite corners are joined as PyRadiomics `shape2D`.
    """
    spacing = np.asarray(spacing_yx, dtype=np.float64)
    box = np.pad(_cropped(inside), 1)
    perimeter, surface = _outline(box, spacing)
    minor, major = np.sqrt(_variances(box, spacing))
    return {
        "Elongation": _ratio(minor, major),
        "MajorAxisLength": 4 * major,
        "MaximumDiameter": _plane_diameter(_line_ends(box[None], 2), 0, np.array([1.0, *spacing])),
        "MeshSurface": surface,
        "MinorAxisLength": 4 * minor,
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / surface,
        "PixelSurface": float(np.count_nonzero(box) * np.prod(spacing)),
        "Sphericity": 2 * math.sqrt(math.pi * surface) / perimeter,
    }


def _cropped(inside: Bools) -> Bools:
    keep = []
    for axis in range(inside.ndim):
        used = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        keep.append(slice(used[0], used[-1] + 1))
    return np.ascontiguousarray(inside[tuple(keep)])


def _mesh(box: Bools, spacing: Floats) -> tuple[float, float]:
    """Area and volume: each cube's share is a constant plus a term linear in its position, so counting suffices."""
    count, position = cube_counts(box.view(np.uint8))
    triangles, cube = cube_triangles()
    used = count[cube] > 0
    cube = cube[used]
    a, b, c = np.moveaxis(triangles[used] * spacing, 1, 0)
    area = float(count[cube] @ np.linalg.norm(np.cross(a - c, b - c), axis=1)) / 2
    ab = np.cross(a, b)
    normal = ab + np.cross(b, c) + np.cross(c, a)
    volume = float(count[cube] @ (ab * c).sum(axis=1) + (normal * position[cube]).sum(axis=0) @ spacing)
    return area, volume / 6


def _outline(box: Bools, spacing: Floats) -> tuple[float, float]:
    """Perimeter and enclosed area of the contour through edge midpoints."""
    square = box[:-1, :-1] + 2 * box[:-1, 1:].astype(int) + 4 * box[1:, :-1].astype(int) + 8 * box[1:, 1:].astype(int)
    count = np.bincount(square.ravel(), minlength=16)
    y, x = spacing
    slanted = math.hypot(x, y) / 2
    one = count[[1, 2, 4, 8]].sum()
    three = count[[7, 11, 13, 14]].sum()
    opposite = count[[6, 9]].sum()
    perimeter = slanted * (one + three + 2 * opposite) + x * count[[3, 12]].sum() + y * count[[5, 10]].sum()
    share = one / 8 + count[[3, 12, 5, 10]].sum() / 2 + three * 7 / 8 + opposite / 4 + count[15]
    return float(perimeter), float(share * x * y)


def _variances(box: Bools, spacing: Floats) -> Floats:
    """Variances of the voxel centres along the principal axes, in mm², ascending; rounding below zero is zero."""
    axes = range(box.ndim)
    n = int(np.count_nonzero(box))
    place = [np.arange(size) for size in box.shape]
    one = [box.sum(axis=tuple(a for a in axes if a != k)) for k in axes]
    mean = [int(one[k] @ place[k]) for k in axes]
    out = np.empty((box.ndim, box.ndim))
    for i in axes:
        for j in range(i, box.ndim):
            if i == j:
                square = int(one[i] @ place[i] ** 2)
            else:
                both = box.sum(axis=tuple(a for a in axes if a not in (i, j)))
                square = int(place[i] @ both @ place[j])
            # Whole numbers, so that nothing cancels.
            out[i, j] = out[j, i] = (n * square - mean[i] * mean[j]) / n**2 * spacing[i] * spacing[j]
    return np.maximum(np.linalg.eigvalsh(out), 0.0)


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else math.nan


def _line_ends(box: Bools, axis: int) -> NDArray[np.int64]:
    """First and last mesh vertex on each line along `axis`, in half voxels (n, 3); no other can end a longest distance.

    Mesh vertices are the middles between neighbours of which one is inside.
    """
    lines = np.ascontiguousarray(np.moveaxis(box, axis, -1))
    rest = [a for a in range(3) if a != axis]
    found = []
    for moved, crossing in ((None, lines), (0, lines[1:] != lines[:-1]), (1, lines[:, 1:] != lines[:, :-1])):
        hit = crossing.any(axis=-1)
        at = np.argwhere(hit) * 2
        first = 2 * crossing.argmax(axis=-1)[hit]
        last = 2 * (crossing.shape[-1] - 1 - crossing[..., ::-1].argmax(axis=-1)[hit])
        if moved is None:  # the line runs through voxels: its vertices lie half a voxel beyond their centres
            first, last = first - 1, last + 1
        else:
            at[:, moved] += 1
        for end in (first, last):
            points = np.empty((len(at), 3), dtype=np.int64)
            points[:, rest], points[:, axis] = at, end
            found.append(points)
    return np.concatenate(found)


def _plane_diameter(ends: NDArray[np.int64], fixed: int, spacing: Floats) -> float:
    """Largest distance between ends of lines in one plane at right angles to axis `fixed`."""
    free = [axis for axis in range(3) if axis != fixed]
    ends = ends[np.argsort(ends[:, fixed], kind="stable")]
    a, b = (np.ascontiguousarray(ends[:, axis] * (spacing[axis] / 2)) for axis in free)
    return math.sqrt(largest_squared_distance(a, b, np.ascontiguousarray(ends[:, fixed])))


def _diameter(ends: NDArray[np.int64], spacing: Floats) -> float:
    points = ends * (spacing / 2)
    # A mesh around at least one voxel is never flat, so the hull exists.
    corners = points[ConvexHull(points).vertices]
    best = 0.0
    for start in range(0, len(corners), 256):
        part = corners[start : start + 256, None] - corners[None]
        best = max(best, float((part**2).sum(axis=2).max()))
    return math.sqrt(best)
