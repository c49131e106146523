"""Features of the grey level co-occurrence matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.radiomics.moments import EPS, pair_sums

Floats = NDArray[np.float64]
NAMES = (
    "Autocorrelation", "ClusterProminence", "ClusterShade", "ClusterTendency", "Contrast", "Correlation",
    "DifferenceAverage", "DifferenceEntropy", "DifferenceVariance", "Id", "Idm", "Idmn", "Idn", "Imc1", "Imc2",
    "InverseVariance", "JointAverage", "JointEnergy", "JointEntropy", "MCC", "MaximumProbability", "SumAverage",
    "SumEntropy", "SumSquares",
)  # fmt: skip


def glcm_features(counts: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 24 GLCM features, each the mean over directions.

    Parameters
    ----------
    counts : int (directions, n, n)
        Ordered pairs; made symmetric here. Directions without a pair are left out of the mean.
    grey : float (n,) the grey levels that occur, ascending; the largest is the number of levels

    Returns
    -------
    dict by PyRadiomics' names; all NaN where no two voxels of the region touch.

    Notes
    -----
    Haralick et al. 1973; PyRadiomics `glcm`.
    """
    sums, p, px = pair_sums(counts, grey)
    if not len(sums):
        return dict.fromkeys(NAMES, float("nan"))
    means = iter(sums.mean(axis=0).tolist())
    mcc = float(_mcc(p, px).mean())
    return {name: mcc if name == "MCC" else next(means) for name in NAMES}


def _mcc(p: Floats, px: Floats) -> Floats:
    """Root of the second largest eigenvalue of Q, Q_ij = sum_k p_ik p_jk / (px_i px_k + eps).

    Without eps the eigenvalues are the squares of those of a symmetric matrix; eps (PyRadiomics) shifts them by up to
    1e-6 where a level is rare, which first-order perturbation with the same eigenvectors gives to its square.
    """
    if p.shape[1] < 2:
        return np.ones(len(p))
    root = np.where(px > 0, 1 / np.sqrt(np.where(px > 0, px, 1.0)), 0.0)
    value, vector = np.linalg.eigh(p * root[:, :, None] * root[:, None, :])
    second = np.argsort(value**2, axis=1)[:, -2, None]
    value = np.take_along_axis(value, second, axis=1)[:, 0] ** 2
    v = np.take_along_axis(vector, second[:, None], axis=2)[:, :, 0]
    left = np.einsum("di,dik->dk", v * root**3, p)
    right = np.einsum("di,dik->dk", v * root, p)
    shift = EPS * (left * right * root**4).sum(axis=1)
    return np.sqrt(np.maximum(value - shift, 0.0))
