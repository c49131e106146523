"""Features of the matrices that count grey level against a size: runs, zones and dependences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EPS = np.spacing(1)


def run_features(counts: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 16 GLRLM features, each the mean over directions; `counts` (directions, n, run length).

    Galloway 1975; PyRadiomics `glrlm`. All NaN where no direction has two voxels of the region on one line.
    """
    m = _Moments(counts, grey)
    out = {
        "GrayLevelNonUniformity": m.grey_nonuniformity,
        "GrayLevelNonUniformityNormalized": m.grey_nonuniformity / m.n,
        "GrayLevelVariance": m.grey_variance,
        "HighGrayLevelRunEmphasis": m.mean(2, 0),
        "LongRunEmphasis": m.mean(0, 2),
        "LongRunHighGrayLevelEmphasis": m.mean(2, 2),
        "LongRunLowGrayLevelEmphasis": m.mean(-2, 2),
        "LowGrayLevelRunEmphasis": m.mean(-2, 0),
        "RunEntropy": m.entropy,
        "RunLengthNonUniformity": m.size_nonuniformity,
        "RunLengthNonUniformityNormalized": m.size_nonuniformity / m.n,
        "RunPercentage": m.n / m.voxels,
        "RunVariance": m.size_variance,
        "ShortRunEmphasis": m.mean(0, -2),
        "ShortRunHighGrayLevelEmphasis": m.mean(2, -2),
        "ShortRunLowGrayLevelEmphasis": m.mean(-2, -2),
    }
    return _averaged(out)


def zone_features(zone_level: NDArray[np.int64], zone_size: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 16 GLSZM features from the list of zones (level 1..n, voxels). Thibault et al. 2009; PyRadiomics `glszm`."""
    size, column = np.unique(zone_size, return_inverse=True)
    cells = (zone_level - 1) * size.size + column
    counts = np.bincount(cells, minlength=grey.size * size.size).reshape(1, grey.size, size.size)
    m = _Moments(counts, grey, size.astype(np.float64))
    out = {
        "GrayLevelNonUniformity": m.grey_nonuniformity,
        "GrayLevelNonUniformityNormalized": m.grey_nonuniformity / m.n,
        "GrayLevelVariance": m.grey_variance,
        "HighGrayLevelZoneEmphasis": m.mean(2, 0),
        "LargeAreaEmphasis": m.mean(0, 2),
        "LargeAreaHighGrayLevelEmphasis": m.mean(2, 2),
        "LargeAreaLowGrayLevelEmphasis": m.mean(-2, 2),
        "LowGrayLevelZoneEmphasis": m.mean(-2, 0),
        "SizeZoneNonUniformity": m.size_nonuniformity,
        "SizeZoneNonUniformityNormalized": m.size_nonuniformity / m.n,
        "SmallAreaEmphasis": m.mean(0, -2),
        "SmallAreaHighGrayLevelEmphasis": m.mean(2, -2),
        "SmallAreaLowGrayLevelEmphasis": m.mean(-2, -2),
        "ZoneEntropy": m.entropy,
        "ZonePercentage": m.n / m.voxels,
        "ZoneVariance": m.size_variance,
    }
    return _averaged(out)


def dependence_features(counts: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 14 GLDM features; `counts` (n, equal neighbours 0, 1, …). Sun and Wee 1983; PyRadiomics `gldm`.

    The dependence size counts the voxel itself.
    """
    m = _Moments(counts[None], grey)
    out = {
        "DependenceEntropy": m.entropy,
        "DependenceNonUniformity": m.size_nonuniformity,
        "DependenceNonUniformityNormalized": m.size_nonuniformity / m.n,
        "DependenceVariance": m.size_variance,
        "GrayLevelNonUniformity": m.grey_nonuniformity,
        "GrayLevelVariance": m.grey_variance,
        "HighGrayLevelEmphasis": m.mean(2, 0),
        "LargeDependenceEmphasis": m.mean(0, 2),
        "LargeDependenceHighGrayLevelEmphasis": m.mean(2, 2),
        "LargeDependenceLowGrayLevelEmphasis": m.mean(-2, 2),
        "LowGrayLevelEmphasis": m.mean(-2, 0),
        "SmallDependenceEmphasis": m.mean(0, -2),
        "SmallDependenceHighGrayLevelEmphasis": m.mean(2, -2),
        "SmallDependenceLowGrayLevelEmphasis": m.mean(-2, -2),
    }
    return _averaged(out)


class _Moments:
    """Sums over a matrix (directions, grey level, size), one value per direction."""

    def __init__(self, counts: NDArray[np.int64], grey: Floats, size: Floats | None = None) -> None:
        size = np.arange(1, counts.shape[2] + 1, dtype=np.float64) if size is None else size
        used = counts.any(axis=(0, 1))
        self.counts, self.grey, self.size = counts[:, :, used].astype(np.float64), grey, size[used]
        self.by_grey, self.by_size = self.counts.sum(axis=2), self.counts.sum(axis=1)
        self.n = self.by_grey.sum(axis=1)
        self.voxels = self.by_size @ self.size
        self.grey_nonuniformity = (self.by_grey**2).sum(axis=1) / self.n
        self.size_nonuniformity = (self.by_size**2).sum(axis=1) / self.n
        self.grey_variance = self._variance(self.by_grey, self.grey)
        self.size_variance = self._variance(self.by_size, self.size)
        p = self.counts / self.n[:, None, None]
        self.entropy = -(p * np.log2(p + EPS)).sum(axis=(1, 2))

    def mean(self, grey_power: int, size_power: int) -> Floats:
        """Mean over entries of grey**a × size**b."""
        return (self.counts @ self.size**size_power) @ self.grey**grey_power / self.n

    def _variance(self, counts: Floats, values: Floats) -> Floats:
        p = counts / self.n[:, None]
        mean = p @ values
        return (p * (values - mean[:, None]) ** 2).sum(axis=1)


def _averaged(out: dict[str, Floats]) -> dict[str, float]:
    return {name: float(np.mean(value)) if value.size else float("nan") for name, value in out.items()}
