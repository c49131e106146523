"""Features of the neighbouring grey tone difference matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ngtdm_features(count: NDArray[np.int64], difference: Floats, grey: Floats) -> dict[str, float]:
    """The 5 NGTDM features. Amadasun and King 1989; PyRadiomics `ngtdm`.

    Parameters
    ----------
    count, difference : (n,) voxels of each grey level, and the sum of their |level - mean of neighbours|
    grey : float (n,) the grey levels

    Returns
    -------
    dict by PyRadiomics' names. Coarseness is 1e6 where all differences are zero; the others are 0 there.
    """
    used = count > 0
    s, i = difference[used], grey[used]
    n = float(count.sum())
    p = count[used] / n
    levels = int(used.sum())
    weighted = float(p @ s)
    apart = i[:, None] - i[None, :]
    both = p[:, None] + p[None, :]
    product = i * p
    spread = float(np.abs(product[:, None] - product[None, :]).sum())
    ps = p * s
    total = float(s.sum())
    contrast = float((p[:, None] * p[None, :] * apart**2).sum()) * total / n
    return {
        "Busyness": weighted / spread if spread != 0 else 0.0,
        "Coarseness": 1 / weighted if weighted != 0 else 1e6,
        "Complexity": float((np.abs(apart) * (ps[:, None] + ps[None, :]) / both).sum()) / n,
        "Contrast": contrast / (levels * (levels - 1)) if levels > 1 else 0.0,
        "Strength": float((both * apart**2).sum()) / total if total != 0 else 0.0,
    }
