"""Small images for the radiomics tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from osml.imaging.volume import Volume
from osml.radiomics.extraction import DIAGNOSTICS

# The IBSI digital phantom, 2 mm voxels, arrays (z, y, x); 0 is outside the mask (IBSI reference manual, CC BY 4.0).
PHANTOM = np.array([
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
], dtype=float)  # fmt: skip


def phantom() -> tuple[Volume, Volume]:
    """Image and mask of the phantom."""
    image = Volume(PHANTOM, (2, 2, 2), name="phantom")
    return image, image.like((PHANTOM > 0).astype(np.uint8))


def blob(spacing: tuple[float, ...] = (0.9, 1.1, 2.5), seed: int = 5) -> tuple[Volume, Volume]:
    """A textured ellipsoid in noise (odd and even sizes), label 1."""
    rng = np.random.default_rng(seed)
    shape = (16, 27, 30)[-len(spacing) :]
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    radius = sum((a / (n / 4)) ** 2 for a, n in zip(axes, shape, strict=True))
    array = 120 + 60 * np.sin(axes[-1] / 2) * np.cos(axes[-2] / 3) + rng.normal(0, 25, shape)
    image = Volume(array, spacing, name="blob")
    return image, image.like((radius < 1).astype(np.uint8))


def sphere(radius_mm: float, spacing: tuple[float, ...], margin_mm: float) -> Volume:
    """A ball in the middle of a grid, as bool."""
    axes = [np.arange(-(k := int(np.ceil((radius_mm + margin_mm) / s))), k + 1) * s for s in spacing]
    x, y, z = axes
    return Volume(x**2 + (y**2)[:, None] + (z**2)[:, None, None] <= radius_mm**2, spacing, name="ball")


def features(row: dict[str, Any]) -> dict[str, float]:
    """The feature columns of one row of a table."""
    return {name: value for name, value in row.items() if name not in DIAGNOSTICS}
