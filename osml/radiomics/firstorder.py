"""First-order statistics of the intensities in a region."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import numpy as np
from numpy.typing import NDArray

EPS = np.spacing(1)


def first_order(
    values: NDArray[np.floating], levels: NDArray[np.int64], voxel_volume: float, *, ibsi: bool = False
) -> dict[str, float]:
    """The 18 first-order features, and the standard deviation.

    Parameters
    ----------
    values : float (n,) intensities in the region
    levels : int (n,) their grey levels, from 1; entropy and uniformity are of the levels
    voxel_volume : mm³ of one voxel (mm² of one pixel)
    ibsi : excess kurtosis; else the fourth standardised moment (PyRadiomics)

    Returns
    -------
    dict by PyRadiomics' names. Skewness is 0 and kurtosis 0 in a flat region (PyRadiomics' convention).
    RobustMeanAbsoluteDeviation is NaN where no value lies between the deciles (two voxels).
    """
    # One sort serves all percentiles and the range between two of them.
    x = np.sort(values.astype(np.float64))
    mean = float(x.mean())
    d = x - mean
    square = d * d
    p10, p25, p50, p75, p90 = (percentile(lambda k: x[k], x.size, q) for q in (10, 25, 50, 75, 90))
    middle = x[np.searchsorted(x, p10, "left") : np.searchsorted(x, p90, "right")]
    robust = float(np.abs(middle - middle.mean()).mean()) if middle.size else float("nan")
    entropy, uniformity = entropy_and_uniformity(np.bincount(levels), levels.size)
    return named(
        n=x.size, energy=float(x @ x), mean=mean, low=x[0], high=x[-1], percentiles=(p10, p25, p50, p75, p90),
        moments=(float(square.mean()), float(square @ d) / x.size, float(square @ square) / x.size),
        deviations=(float(np.abs(d).mean()), robust),
        entropy=entropy, uniformity=uniformity, voxel_volume=voxel_volume, ibsi=ibsi,
    )  # fmt: skip


def percentile(ranked: Callable[[int], float], n: int, q: int) -> float:
    """NumPy's linear percentile of n values; `ranked(k)` is the one of rank k, from 0.

    >>> percentile([3.0, 4.0, 8.0].__getitem__, 3, 75)
    6.0
    """
    # NumPy's own order of operations: the robust mean asks which values lie within, so a last digit would matter.
    at = (n - 1) * (q / 100)
    k = floor(at)
    part = at - k
    a, b = float(ranked(k)), float(ranked(min(k + 1, n - 1)))
    return b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part


def entropy_and_uniformity(count: NDArray[np.integer] | NDArray[np.floating], n: int) -> tuple[float, float]:
    """In bits, and the sum of squared shares, of voxels by level."""
    p = count[count > 0] / n
    return float(-(p * np.log2(p + EPS)).sum()), float((p * p).sum())


def named(
    *,
    n: int,
    energy: float,
    mean: float,
    low: float,
    high: float,
    percentiles: tuple[float, float, float, float, float],
    moments: tuple[float, float, float],
    deviations: tuple[float, float],
    entropy: float,
    uniformity: float,
    voxel_volume: float,
    ibsi: bool,
) -> dict[str, float]:
    """The features from central moments 2 to 4, percentiles 10, 25, 50, 75, 90, and mean absolute deviations."""
    p10, p25, p50, p75, p90 = percentiles
    m2, m3, m4 = map(float, moments)
    kurtosis = m4 / m2**2 if m2 > 0 else 0.0
    out = {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": entropy,
        "InterquartileRange": p75 - p25,
        "Kurtosis": kurtosis - 3 if ibsi else kurtosis,
        "Maximum": high,
        "MeanAbsoluteDeviation": deviations[0],
        "Mean": mean,
        "Median": p50,
        "Minimum": low,
        "Range": high - low,
        "RobustMeanAbsoluteDeviation": deviations[1],
        "RootMeanSquared": (energy / n) ** 0.5,
        "Skewness": m3 / m2**1.5 if m2 > 0 else 0.0,
        "StandardDeviation": m2**0.5,
        "TotalEnergy": energy * voxel_volume,
        "Uniformity": uniformity,
        "Variance": m2,
    }
    return {name: float(value) for name, value in out.items()}
