"""Features of the matrices that count grey level against a size: runs, zones and dependences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.radiomics.kernels import zone_matrix
from osml.radiomics.moments import SIZE_SUMS, size_sums

Floats = NDArray[np.float64]
# PyRadiomics' name of each column of `SIZE_SUMS`.
_RUN_NAMES = {
    "grey_nonuniformity": "GrayLevelNonUniformity",
    "grey_nonuniformity_normalised": "GrayLevelNonUniformityNormalized",
    "grey_variance": "GrayLevelVariance",
    "grey": "HighGrayLevelRunEmphasis",
    "size": "LongRunEmphasis",
    "grey_size": "LongRunHighGrayLevelEmphasis",
    "size_per_grey": "LongRunLowGrayLevelEmphasis",
    "per_grey": "LowGrayLevelRunEmphasis",
    "entropy": "RunEntropy",
    "size_nonuniformity": "RunLengthNonUniformity",
    "size_nonuniformity_normalised": "RunLengthNonUniformityNormalized",
    "percentage": "RunPercentage",
    "size_variance": "RunVariance",
    "per_size": "ShortRunEmphasis",
    "grey_per_size": "ShortRunHighGrayLevelEmphasis",
    "per_grey_size": "ShortRunLowGrayLevelEmphasis",
}
_ZONE_NAMES = {
    "grey_nonuniformity": "GrayLevelNonUniformity",
    "grey_nonuniformity_normalised": "GrayLevelNonUniformityNormalized",
    "grey_variance": "GrayLevelVariance",
    "grey": "HighGrayLevelZoneEmphasis",
    "size": "LargeAreaEmphasis",
    "grey_size": "LargeAreaHighGrayLevelEmphasis",
    "size_per_grey": "LargeAreaLowGrayLevelEmphasis",
    "per_grey": "LowGrayLevelZoneEmphasis",
    "size_nonuniformity": "SizeZoneNonUniformity",
    "size_nonuniformity_normalised": "SizeZoneNonUniformityNormalized",
    "per_size": "SmallAreaEmphasis",
    "grey_per_size": "SmallAreaHighGrayLevelEmphasis",
    "per_grey_size": "SmallAreaLowGrayLevelEmphasis",
    "entropy": "ZoneEntropy",
    "percentage": "ZonePercentage",
    "size_variance": "ZoneVariance",
}
_DEPENDENCE_NAMES = {
    "entropy": "DependenceEntropy",
    "size_nonuniformity": "DependenceNonUniformity",
    "size_nonuniformity_normalised": "DependenceNonUniformityNormalized",
    "size_variance": "DependenceVariance",
    "grey_nonuniformity": "GrayLevelNonUniformity",
    "grey_variance": "GrayLevelVariance",
    "grey": "HighGrayLevelEmphasis",
    "size": "LargeDependenceEmphasis",
    "grey_size": "LargeDependenceHighGrayLevelEmphasis",
    "size_per_grey": "LargeDependenceLowGrayLevelEmphasis",
    "per_grey": "LowGrayLevelEmphasis",
    "per_size": "SmallDependenceEmphasis",
    "grey_per_size": "SmallDependenceHighGrayLevelEmphasis",
    "per_grey_size": "SmallDependenceLowGrayLevelEmphasis",
}


def run_features(counts: NDArray[np.int64], grey: Floats, keep: NDArray[np.bool_]) -> dict[str, float]:
    """The 16 GLRLM features, each the mean over the directions to `keep`; `counts` (directions, n, run length).

    Galloway 1975; PyRadiomics `glrlm`. All NaN where no direction has two voxels of the region on one line.
    """
    return _averaged(size_sums(counts, grey, _sizes(counts), keep), _RUN_NAMES)


def zone_features(zone_level: NDArray[np.int64], zone_size: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 16 GLSZM features from the list of zones (level 1..n, voxels). Thibault et al. 2009; PyRadiomics `glszm`."""
    counts, size = zone_matrix(zone_level, zone_size, grey.size)
    return _averaged(size_sums(counts, grey, size, np.ones(1, dtype=np.bool_)), _ZONE_NAMES)


def dependence_features(counts: NDArray[np.int64], grey: Floats) -> dict[str, float]:
    """The 14 GLDM features; `counts` (n, equal neighbours 0, 1, …). Sun and Wee 1983; PyRadiomics `gldm`.

    The dependence size counts the voxel itself.
    """
    return _averaged(size_sums(counts[None], grey, _sizes(counts), np.ones(1, dtype=np.bool_)), _DEPENDENCE_NAMES)


def _sizes(counts: NDArray[np.int64]) -> Floats:
    return np.arange(1, counts.shape[-1] + 1, dtype=np.float64)


def _averaged(sums: Floats, names: dict[str, str]) -> dict[str, float]:
    if not len(sums):
        return dict.fromkeys(names.values(), float("nan"))
    means = dict(zip(SIZE_SUMS, sums.mean(axis=0).tolist(), strict=True))
    return {name: means[column] for column, name in names.items()}
