"""Sums over texture matrices, compiled by numba: what the features of `sizes` and `glcm` are made of."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True)
EPS = float(np.spacing(1))
# Columns of `size_sums`.
SIZE_SUMS = (
    "grey_nonuniformity", "grey_nonuniformity_normalised", "grey_variance",
    "size_nonuniformity", "size_nonuniformity_normalised", "size_variance", "entropy", "percentage",
    "grey", "size", "grey_size", "size_per_grey", "per_grey", "per_size", "grey_per_size", "per_grey_size",
)  # fmt: skip


@_compiled
def size_sums(
    counts: NDArray[np.int64], grey: NDArray[np.float64], size: NDArray[np.float64], keep: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Sums over a matrix (directions, grey level, size): one row per direction kept, columns as in `SIZE_SUMS`.

    The last eight columns are means over entries of grey² and size², multiplied or divided as named.
    """
    directions, n, sizes = counts.shape
    out = np.zeros((directions, 16))
    square, size_square = grey * grey, size * size
    rows = 0
    for d in range(directions):
        if not keep[d]:
            continue
        by_grey, by_size = np.zeros(n), np.zeros(sizes)
        for i in range(n):
            for j in range(sizes):
                if counts[d, i, j]:
                    by_grey[i] += counts[d, i, j]
                    by_size[j] += counts[d, i, j]
        total = by_grey.sum()
        grey_mean, size_mean = (by_grey * grey).sum() / total, (by_size * size).sum() / total
        row = out[rows]
        rows += 1
        for i in range(n):
            row[0] += by_grey[i] ** 2 / total
            row[2] += by_grey[i] / total * (grey[i] - grey_mean) ** 2
            row[8] += by_grey[i] * square[i] / total
            row[12] += by_grey[i] / square[i] / total
        voxels = 0.0
        for j in range(sizes):
            if by_size[j]:
                voxels += by_size[j] * size[j]
                row[3] += by_size[j] ** 2 / total
                row[5] += by_size[j] / total * (size[j] - size_mean) ** 2
                row[9] += by_size[j] * size_square[j] / total
                row[13] += by_size[j] / size_square[j] / total
        row[1], row[4], row[7] = row[0] / total, row[3] / total, total / voxels
        for i in range(n):
            for j in range(sizes):
                if counts[d, i, j]:
                    p = counts[d, i, j] / total
                    row[6] -= p * np.log2(p + EPS)
                    row[10] += p * square[i] * size_square[j]
                    row[11] += p * size_square[j] / square[i]
                    row[14] += p * square[i] / size_square[j]
                    row[15] += p / (square[i] * size_square[j])
    return out[:rows]


@_compiled
def pair_sums(
    counts: NDArray[np.int64], grey: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """GLCM features but MCC, one row per direction with pairs, columns as in `glcm.NAMES` without it.

    Returns
    -------
    sums : (directions, 23)
    p, px : symmetric probabilities (directions, n, n), and their margin (directions, n)
    """
    directions, n, _ = counts.shape
    out = np.zeros((directions, 23))
    probability, margin = np.zeros((directions, n, n)), np.zeros((directions, n))
    top = int(grey[n - 1])
    rows = 0
    for d in range(directions):
        pairs = 2 * counts[d].sum()
        if pairs == 0:
            continue
        p, px, row = probability[rows], margin[rows], out[rows]
        rows += 1
        sums, differences = np.zeros(2 * top + 1), np.zeros(top + 1)
        for i in range(n):
            for j in range(n):
                both = counts[d, i, j] + counts[d, j, i]
                if both:
                    q = both / pairs
                    p[i, j] = q
                    px[i] += q
                    sums[int(grey[i]) + int(grey[j])] += q
                    differences[abs(int(grey[i]) - int(grey[j]))] += q
        mean = (px * grey).sum()
        variance, hx = 0.0, 0.0
        for i in range(n):
            variance += (grey[i] - mean) ** 2 * px[i]
            hx -= px[i] * np.log2(px[i] + EPS)
        hxy, hxy1, hxy2, covariance, correlated, energy, largest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            for j in range(i, n):
                twice = 1.0 if i == j else 2.0
                q, product = p[i, j], px[i] * px[j]
                log_product = np.log2(product + EPS)
                hxy2 -= twice * product * log_product
                if q > 0:
                    hxy1 -= twice * q * log_product
                    hxy -= twice * q * np.log2(q + EPS)
                    covariance += twice * q * (grey[i] - mean) * (grey[j] - mean)
                    correlated += twice * q * grey[i] * grey[j]
                    energy += twice * q * q
                    largest = max(largest, q)
        average = 0.0
        for k in range(top + 1):
            average += k * differences[k]
        row[0] = correlated
        for k in range(2 * top + 1):
            q = sums[k]
            if q > 0:
                away = k - 2 * mean
                row[1] += q * away**4
                row[2] += q * away**3
                row[3] += q * away**2
                row[20] += q * k
                row[21] -= q * np.log2(q + EPS)
        row[5] = 1.0 if variance == 0 else covariance / (variance + EPS)
        row[6] = average
        for k in range(top + 1):
            q = differences[k]
            if q > 0:
                row[4] += q * k * k
                row[7] -= q * np.log2(q + EPS)
                row[8] += q * (k - average) ** 2
                row[9] += q / (1 + k)
                row[10] += q / (1 + k * k)
                row[11] += q / (1 + (k * k) / (top * top))
                row[12] += q / (1 + k / top)
                if k > 0:
                    row[15] += q / (k * k)
        row[13] = 0.0 if hx == 0 else (hxy - hxy1) / hx
        row[14] = np.sqrt(max(1 - np.exp(-2 * (hxy2 - hxy)), 0.0))
        row[16], row[17], row[18], row[19], row[22] = mean, energy, hxy, largest, variance
    return out[:rows], probability[:rows], margin[:rows]
