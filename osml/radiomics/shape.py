"""Shape of a region in 3D and 2D: mesh, axes and diameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from osml.radiomics.kernels import cube_counts
from osml.radiomics.mesh import cube_faces
from osml.radiomics.regions import box_of
from osml.radiomics.surface import diameter, line_ends, moments, plane_diameter

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
    Mesh: `mesh.cube_triangles`. Diameters are between mesh vertices: `surface`. Lorensen and Cline 1987; PyRadiomics
    `shape`.
    """
    spacing = np.asarray(spacing_zyx, dtype=np.float64)
    box = _padded(inside)
    area, volume = _mesh(box, spacing)
    n, variances = _variances(box, spacing)
    least, minor, major = map(math.sqrt, variances)
    z, y, x = (spacing / 2).tolist()
    first, last = line_ends(box)
    row = line_ends(np.ascontiguousarray(box.transpose(2, 0, 1)))
    length = 4 * (math.sqrt(n / (n - 1)) if ibsi and n > 1 else 1.0)
    return {
        "Elongation": _ratio(minor, major),
        "Flatness": _ratio(least, major),
        "LeastAxisLength": length * least,
        "MajorAxisLength": length * major,
        "Maximum2DDiameterColumn": plane_diameter(first.T, last.T, z, x),
        "Maximum2DDiameterRow": plane_diameter(*row, z, y),
        "Maximum2DDiameterSlice": plane_diameter(first, last, y, x),
        "Maximum3DDiameter": diameter(first, last, z, y, x),
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
    box = _padded(inside)
    perimeter, surface = _outline(box, spacing)
    n, (_, minor, major) = _variances(box[None], np.array([1.0, *spacing]))
    minor, major = math.sqrt(minor), math.sqrt(major)
    return {
        "Elongation": _ratio(minor, major),
        "MajorAxisLength": 4 * major,
        "MaximumDiameter": plane_diameter(*line_ends(box[None]), *(spacing / 2).tolist()),
        "MeshSurface": surface,
        "MinorAxisLength": 4 * minor,
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / surface,
        "PixelSurface": float(n * np.prod(spacing)),
        "Sphericity": 2 * math.sqrt(math.pi * surface) / perimeter,
    }


def _padded(inside: Bools) -> Bools:
    """The region in its box with an empty border."""
    low, high = box_of(inside)
    out = np.zeros(high - low + 2, dtype=bool)
    out[(slice(1, -1),) * inside.ndim] = inside[tuple(map(slice, low, high))]
    return out


def _mesh(box: Bools, spacing: Floats) -> tuple[float, float]:
    """Area and volume: each cube's share is a constant plus a term linear in its position, so counting suffices."""
    count, position = cube_counts(box.view(np.uint8))
    faces = cube_faces()
    voxel = float(np.prod(spacing))
    # A triangle's normal scales along each axis with the area of the voxel's face across it.
    area = float(count[faces.cube] @ np.sqrt(faces.normal**2 @ (voxel / spacing) ** 2)) / 2
    volume = float(count @ faces.volume + (faces.share * position).sum()) * voxel
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


def _variances(box: Bools, spacing: Floats) -> tuple[int, list[float]]:
    """Voxels, and the variances of their centres along the principal axes in mm², ascending; below zero is zero."""
    n, one, two = moments(box)
    # Whole numbers of any size, so that nothing cancels.
    whole = [[n * int(two[i, j]) - int(one[i]) * int(one[j]) for j in range(3)] for i in range(3)]
    covariance = np.array([[value / n**2 for value in row] for row in whole]) * np.outer(spacing, spacing)
    return n, np.maximum(np.linalg.eigvalsh(covariance), 0.0).tolist()


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else math.nan
