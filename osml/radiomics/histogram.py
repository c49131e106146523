"""First-order statistics of 8-bit pictures, exact from 256 counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.radiomics.discretise import discretise
from osml.radiomics.firstorder import entropy_and_uniformity, named, percentile
from osml.radiomics.kernels import byte_counts

DECILES = (10, 25, 50, 75, 90)


def grey_counts(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each grey value 0..255 within a mask of the same shape.

    >>> grey_counts(np.array([[7, 7, 9]], np.uint8), np.array([[True, False, True]]))[7:10].tolist()
    [1, 0, 1]
    """
    if image.dtype != np.uint8 or image.shape != inside.shape:
        raise InvalidInputError(
            f"a picture {image.dtype} {image.shape} and a mask {inside.shape}: uint8 and equal shapes are expected"
        )
    return byte_counts(np.ascontiguousarray(image).ravel(), np.ascontiguousarray(inside, dtype=np.bool_).ravel())


def byte_levels(
    count: NDArray[np.int64], *, width: float | None = None, bins: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The grey values that occur, and the level (1, 2, …) of each, as `discretise` of the picture as float."""
    grey = np.flatnonzero(count)
    return grey, discretise(grey.astype(np.float64), width=width, count=bins)


def first_order_8bit(
    count: NDArray[np.int64],
    pixel_area: float = 1.0,
    *,
    bin_width: float | None = 25.0,
    bin_count: int | None = None,
    ibsi: bool = False,
) -> dict[str, float]:
    """The 18 first-order features and the standard deviation, as `first_order` of the same pixels as float.

    Parameters
    ----------
    count : int (256,), pixels of each grey value; at least one
    pixel_area : mm² of one pixel
    bin_width, bin_count : of the levels that entropy and uniformity are of; `bin_count`, if given, counts
    ibsi : excess kurtosis

    Returns
    -------
    dict by PyRadiomics' names. Sums are exact in integers; 256 products instead of one per pixel.

    >>> first_order_8bit(np.bincount([3, 3, 9], minlength=256))["Mean"]
    5.0
    """
    n = int(count.sum())
    if count.shape != (256,) or n == 0:
        raise InvalidInputError("256 counts with at least one pixel are expected")
    grey, level = byte_levels(count, width=None if bin_count is not None else bin_width, bins=bin_count)
    c, x = count[grey], grey.astype(np.float64)
    up_to = np.cumsum(c)
    mean = int(c @ grey) / n
    d = x - mean
    square = d * d
    p10, p25, p50, p75, p90 = (percentile(lambda k: x[np.searchsorted(up_to, k, "right")], n, q) for q in DECILES)
    middle = (x >= p10) & (x <= p90)
    cm, xm = c[middle], x[middle]
    kept = int(cm.sum())
    robust = float(cm @ np.abs(xm - cm @ xm / kept)) / kept if kept else float("nan")
    entropy, uniformity = entropy_and_uniformity(np.bincount(level, c), n)
    return named(
        n=n, energy=float(c @ (grey * grey)), mean=mean, low=x[0], high=x[-1], percentiles=(p10, p25, p50, p75, p90),
        moments=(float(c @ square) / n, float(c @ (square * d)) / n, float(c @ (square * square)) / n),
        deviations=(float(c @ np.abs(d)) / n, robust),
        entropy=entropy, uniformity=uniformity, voxel_volume=pixel_area, ibsi=ibsi,
    )  # fmt: skip
