"""Grey levels of a region: fixed bin width or fixed bin count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.radiomics.kernels import binned


def bin_edges(values: NDArray[Any], *, width: float | None = None, count: int | None = None) -> NDArray[Any]:
    """Ascending bin edges; every bin is closed below and open above.

    Parameters
    ----------
    values : float array (n,)
        Intensities of the region. Its precision (filters give float32) is kept: a value on an edge must fall as in
        PyRadiomics `getBinEdges`.
    width : bins start at the multiple of `width` at or below the minimum
    count : that many equal bins from the minimum to the maximum

    The last bin may be empty.

    >>> bin_edges(np.array([3.0, 52.0]), width=25)
    array([  0.,  25.,  50.,  75., 100.])
    """
    if count is not None:
        edges = np.histogram(values, count)[1]
        edges[-1] += 1
        return edges
    low, high = values.min(), values.max()
    edges = np.arange(low - (low % width), high + 2 * width, width)  # type: ignore[operator]
    return edges if len(edges) > 1 else np.array([edges[0] - 0.5, edges[0] + 0.5])


def discretise(values: NDArray[Any], *, width: float | None = None, count: int | None = None) -> NDArray[np.int64]:
    """Grey level (1, 2, …) of each value.

    >>> discretise(np.array([3.0, 24.9, 25.0, 52.0]), width=25)
    array([1, 1, 2, 3])
    """
    return binned(values, bin_edges(values, width=width, count=count))
