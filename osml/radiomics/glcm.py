"""Features of the grey level co-occurrence matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EPS = np.spacing(1)
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
    both = (counts + counts.transpose(0, 2, 1)).astype(np.float64)
    total = both.sum(axis=(1, 2))
    both, total = both[total > 0], total[total > 0]
    if not len(both):
        return dict.fromkeys(NAMES, float("nan"))
    p = both / total[:, None, None]
    top = float(grey[-1])
    i, j = grey[:, None], grey[None, :]
    px = p.sum(axis=2)
    mean = px @ grey
    sums, k_sum = _marginal(p, (i + j).astype(np.int64))
    differences, k = _marginal(p, np.abs(i - j).astype(np.int64))
    a = i[None] - mean[:, None, None]
    variance = ((grey - mean[:, None]) ** 2 * px).sum(axis=1)
    spread = k_sum - 2 * mean[:, None]
    hxy = -(p * np.log2(p + EPS)).sum(axis=(1, 2))
    hx = -(px * np.log2(px + EPS)).sum(axis=1)
    pxy = px[:, :, None] * px[:, None, :]
    log_pxy = np.log2(pxy + EPS)
    hxy1 = -(p * log_pxy).sum(axis=(1, 2))
    hxy2 = -(pxy * log_pxy).sum(axis=(1, 2))
    covariance = (p * a * a.transpose(0, 2, 1)).sum(axis=(1, 2))
    difference_mean = differences @ k
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(variance == 0, 1.0, covariance / (variance + EPS))
        imc1 = np.where(hx == 0, 0.0, (hxy - hxy1) / hx)
    apart = k > 0
    out = {
        "Autocorrelation": (p * (i * j)).sum(axis=(1, 2)),
        "ClusterProminence": (sums * spread**4).sum(axis=1),
        "ClusterShade": (sums * spread**3).sum(axis=1),
        "ClusterTendency": (sums * spread**2).sum(axis=1),
        "Contrast": differences @ k**2,
        "Correlation": correlation,
        "DifferenceAverage": difference_mean,
        "DifferenceEntropy": -(differences * np.log2(differences + EPS)).sum(axis=1),
        "DifferenceVariance": (differences * (k - difference_mean[:, None]) ** 2).sum(axis=1),
        "Id": differences @ (1 / (1 + k)),
        "Idm": differences @ (1 / (1 + k**2)),
        "Idmn": differences @ (1 / (1 + k**2 / top**2)),
        "Idn": differences @ (1 / (1 + k / top)),
        "Imc1": imc1,
        "Imc2": np.sqrt(np.maximum(1 - np.exp(-2 * (hxy2 - hxy)), 0.0)),
        "InverseVariance": differences[:, apart] @ (1 / k[apart] ** 2),
        "JointAverage": mean,
        "JointEnergy": (p * p).sum(axis=(1, 2)),
        "JointEntropy": hxy,
        "MCC": _mcc(p, px),
        "MaximumProbability": p.max(axis=(1, 2)),
        "SumAverage": sums @ k_sum,
        "SumEntropy": -(sums * np.log2(sums + EPS)).sum(axis=1),
        "SumSquares": variance,
    }
    return {name: float(np.mean(value)) for name, value in out.items()}


def _marginal(p: Floats, key: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Probability of each value of `key` (n, n) per direction, and the values."""
    low, size = int(key.min()), int(key.max() - key.min()) + 1
    index = (key - low).ravel()[None] + size * np.arange(len(p))[:, None]
    out = np.bincount(index.ravel(), weights=p.ravel(), minlength=size * len(p)).reshape(len(p), size)
    return out.astype(np.float64), np.arange(low, low + size, dtype=np.float64)


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
