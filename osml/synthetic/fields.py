"""Random fields and smooth steps, the material that synthetic images are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]


def smooth_noise(shape: Sequence[int], sigma: Sequence[float], rng: np.random.Generator) -> Floats:
    """Gaussian field of mean 0 and variance 1 whose neighbours agree over about `sigma` voxels.

    Parameters
    ----------
    shape : of the field
    sigma : width of the Gaussian kernel along each axis, in voxels; 0 leaves an axis uncorrelated

    Notes
    -----
    Wide kernels are drawn on a coarser grid and interpolated, so the cost does not grow with `sigma`.

    >>> field = smooth_noise((40, 40), (2, 2), np.random.default_rng(1))
    >>> field.shape, round(float(field.std()), 6)
    ((40, 40), 1.0)
    """
    step = [max(1.0, s / 1.5) for s in sigma]
    coarse = [int(np.ceil((n - 1) / k)) + 2 for n, k in zip(shape, step, strict=True)]
    field = rng.standard_normal(coarse, dtype=np.float32)
    field = ndimage.gaussian_filter(field, [s / k for s, k in zip(sigma, step, strict=True)], mode="wrap")
    for axis, (n, k) in enumerate(zip(shape, step, strict=True)):
        field = _stretched(field, axis, n, k)
    spread = float(field.std())
    return (field - field.mean()) / (spread or 1.0)


def _stretched(field: Floats, axis: int, n: int, step: float) -> Floats:
    """Linear interpolation along one axis at 0, 1/step, 2/step, …"""
    if step == 1.0:
        return np.take(field, range(n), axis=axis)
    at = np.arange(n, dtype=np.float32) / np.float32(step)
    low = at.astype(np.intp)
    shape = [1] * field.ndim
    shape[axis] = n
    share = (at - low.astype(np.float32)).reshape(shape)
    return np.take(field, low, axis=axis) * (1 - share) + np.take(field, low + 1, axis=axis) * share


def step(values: NDArray[np.floating], low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between; falling if `low` > `high`.

    >>> step(np.array([0.0, 1.0, 2.0]), 0, 2).tolist()
    [0.0, 0.5, 1.0]
    """
    t = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


def mix(base: Floats, over: NDArray[np.floating] | float, share: Floats) -> Floats:
    """`over` laid on `base` with an opacity between 0 and 1."""
    return base + share * (np.asarray(over, dtype=np.float32) - base)
