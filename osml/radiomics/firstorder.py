"""First-order statistics of the intensities in a region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPS = np.spacing(1)


def first_order(
    values: NDArray[np.float64], levels: NDArray[np.int64], voxel_volume: float, *, ibsi: bool = False
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
    """
    x = values.astype(np.float64)
    low, high = x.min(), x.max()
    mean = x.mean()
    d = x - mean
    square = d * d
    m2 = square.mean()
    m3, m4 = (square * d).mean(), (square * square).mean()
    p10, p25, p50, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    middle = x[(x >= p10) & (x <= p90)]
    count = np.bincount(levels)
    p = count[count > 0] / levels.size
    energy = float(x @ x)
    kurtosis = m4 / m2**2 if m2 > 0 else 0.0
    out = {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": -(p * np.log2(p + EPS)).sum(),
        "InterquartileRange": p75 - p25,
        "Kurtosis": kurtosis - 3 if ibsi else kurtosis,
        "Maximum": high,
        "MeanAbsoluteDeviation": np.abs(d).mean(),
        "Mean": mean,
        "Median": p50,
        "Minimum": low,
        "Range": high - low,
        "RobustMeanAbsoluteDeviation": np.abs(middle - middle.mean()).mean(),
        "RootMeanSquared": np.sqrt(energy / x.size),
        "Skewness": m3 / m2**1.5 if m2 > 0 else 0.0,
        "StandardDeviation": np.sqrt(m2),
        "TotalEnergy": energy * voxel_volume,
        "Uniformity": (p * p).sum(),
        "Variance": m2,
    }
    return {name: float(value) for name, value in out.items()}
