"""Laplacian of a Gaussian by recursive filters, bit by bit the values of SimpleITK's LaplacianRecursiveGaussian.

Deriche 1993 (fourth-order recursions), with the normalisation of Farnebäck and Westin 2006. One line is filtered
forwards and backwards in float64; between axes values are rounded to float32, as SimpleITK does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Lines that are filtered side by side: one cache line of float64.
LINES = 8
# Deriche's fit of the Gaussian: two damped oscillations exp(l x) (a cos w x + b sin w x), by order of derivative.
_W, _L = (0.6681, 2.0787), (-1.3932, -1.3732)
_A = {0: (1.3530, -0.3531), 2: (-1.3563, 0.3446)}
_B = {0: (1.8151, 0.0902), 2: (5.2318, -2.2355)}


def laplacian(
    x: Floats, sigma_mm: float, spacing_zyx: Sequence[float], wanted: Sequence[tuple[int, int]] | None = None
) -> NDArray[np.float32]:
    """Scale-normalised Laplacian of Gaussian, sigma² × the sum of second derivatives per mm².

    Parameters
    ----------
    x : float64 (z, y, x) or (y, x); at least 4 voxels along each axis. Beyond its border the last value goes on.
    sigma_mm : width
    spacing_zyx : mm per voxel, by axes of `x`
    wanted : first and last + 1 index along each axis of the part to return; none: all. The values do not depend on it.
    """
    spacing = [float(s) for s in spacing_zyx]
    wanted = [(0, n) for n in x.shape] if wanted is None else wanted
    total = np.zeros([high - low for low, high in wanted], dtype=np.float32)
    axes = range(x.ndim)
    for second in reversed(axes):  # SimpleITK counts axes from x
        part: NDArray[Any] = x
        for axis in (second, *(a for a in reversed(axes) if a != second)):
            terms = _coefficients(sigma_mm, spacing[axis], 2 if axis == second else 0)
            part = _filter(part, axis, terms, wanted[axis])
        total = (total + part.astype(np.float64) * (1 / spacing[second] ** 2)).astype(np.float32)
    return total


def _filter(
    x: NDArray[np.float64] | NDArray[np.float32], axis: int, terms: Floats, wanted: tuple[int, int]
) -> NDArray[np.float32]:
    low, high = wanted
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    out = np.empty((*x.shape[:axis], high - low, *x.shape[axis + 1 :]), dtype=np.float32)
    whole: Any = np.ascontiguousarray(x).reshape(before, x.shape[axis], after)
    _lines(whole, terms, low, out.reshape(before, high - low, after))
    return out


def _numerator(sigma: float, order: int) -> tuple[list[float], float, float, float]:
    (a1, a2), (b1, b2), (w1, w2), (l1, l2) = _A[order], _B[order], _W, _L
    sin1, sin2, cos1, cos2 = math.sin(w1 / sigma), math.sin(w2 / sigma), math.cos(w1 / sigma), math.cos(w2 / sigma)
    e1, e2 = math.exp(l1 / sigma), math.exp(l2 / sigma)
    n0 = a1 + a2
    n1 = e2 * (b2 * sin2 - (a2 + 2 * a1) * cos2)
    n1 += e1 * (b1 * sin1 - (a1 + 2 * a2) * cos1)
    n2 = (a1 + a2) * cos2 * cos1
    n2 -= b1 * cos2 * sin1 + b2 * cos1 * sin2
    n2 *= 2 * e1 * e2
    n2 += a2 * e1 * e1 + a1 * e2 * e2
    n3 = e2 * e1 * e1 * (b2 * sin2 - a2 * cos2)
    n3 += e1 * e2 * e2 * (b1 * sin1 - a1 * cos1)
    return [n0, n1, n2, n3], n0 + n1 + n2 + n3, n1 + 2 * n2 + 3 * n3, n1 + 4 * n2 + 9 * n3


def _coefficients(sigma_mm: float, spacing: float, order: int) -> Floats:
    """n0..n3, d1..d4 (forwards), m1..m4 (backwards), and the borders' bn1..bn4, bm1..bm4."""
    sigma = sigma_mm / spacing
    (w1, w2), (l1, l2) = _W, _L
    cos1, cos2 = math.cos(w1 / sigma), math.cos(w2 / sigma)
    e1, e2 = math.exp(l1 / sigma), math.exp(l2 / sigma)
    d4 = e1 * e1 * e2 * e2
    d3 = -2 * cos1 * e1 * e2 * e2
    d3 += -2 * cos2 * e2 * e1 * e1
    d2 = 4 * cos2 * cos1 * e1 * e2
    d2 += e1 * e1 + e2 * e2
    d1 = -2 * (e2 * cos2 + e1 * cos1)
    sd, dd, ed = 1 + d1 + d2 + d3 + d4, d1 + 2 * d2 + 3 * d3 + 4 * d4, d1 + 4 * d2 + 9 * d3 + 16 * d4
    n, sn, dn, en = _numerator(sigma, 0)
    if order == 0:
        scale = 1.0 / (2 * sn / sd - n[0])
    else:
        n_2, sn_2, dn_2, en_2 = _numerator(sigma, 2)
        # The part of a Gaussian that makes the response to a constant vanish.
        beta = -(2 * sn_2 - sd * n_2[0]) / (2 * sn - sd * n[0])
        n = [second + beta * zeroth for second, zeroth in zip(n_2, n, strict=True)]
        sn, dn, en = sn_2 + beta * sn, dn_2 + beta * dn, en_2 + beta * en
        area = en * sd * sd - ed * sn * sd - 2 * dn * dd * sd + 2 * dd * dd * sn
        area /= sd * sd * sd
        scale = sigma_mm * sigma_mm / area
    n = [value * scale for value in n]
    d = [d1, d2, d3, d4]
    m = [n[1] - d1 * n[0], n[2] - d2 * n[0], n[3] - d3 * n[0], -d4 * n[0]]
    sn, sm = n[0] + n[1] + n[2] + n[3], m[0] + m[1] + m[2] + m[3]
    return np.array([*n, *d, *m, *(k * sn / sd for k in d), *(k * sm / sd for k in d)])


@numba.njit(cache=True, nogil=True)
def _lines(x: NDArray[np.float64], terms: Floats, low: int, out: NDArray[np.float32]) -> None:
    """Filter (before, n, after) along its middle axis; `out` holds the part from `low` on."""
    before, n, after = x.shape
    kept = out.shape[1]
    data = np.empty((n + 8, LINES))
    forward = np.empty((n, LINES))
    backward = np.empty((n, LINES))
    if after == 1:
        for start in range(0, before, LINES):
            count = min(LINES, before - start)
            for c in range(count):
                for i in range(n):
                    data[i + 4, c] = x[start + c, i, 0]
            _both_ways(data, terms, forward, backward)
            for c in range(count):
                for i in range(kept):
                    out[start + c, i, 0] = forward[low + i, c] + backward[low + i, c]
        return
    for b in range(before):
        for start in range(0, after, LINES):
            count = min(LINES, after - start)
            for i in range(n):
                for c in range(count):
                    data[i + 4, c] = x[b, i, start + c]
            _both_ways(data, terms, forward, backward)
            for i in range(kept):
                for c in range(count):
                    out[b, i, start + c] = forward[low + i, c] + backward[low + i, c]


@numba.njit(cache=True, nogil=True)
def _both_ways(data: Floats, terms: Floats, forward: Floats, backward: Floats) -> None:
    """Recursions over `data` (4 + n + 4, lines), in the order of operations of SimpleITK."""
    n = forward.shape[0]
    n0, n1, n2, n3, d1, d2, d3, d4, m1, m2, m3, m4 = terms[:12]
    first, last = data[4], data[n + 3]
    for k in range(4):
        data[k] = first
        data[n + 4 + k] = last
    for i in range(n):
        out, x0, x1, x2, x3 = forward[i], data[i + 4], data[i + 3], data[i + 2], data[i + 1]
        if i < 4:
            # Before the border the line is constant, and so is the response: border coefficients times the value.
            for c in range(LINES):
                back1 = forward[i - 1, c] * d1 if i > 0 else first[c] * terms[12]
                back2 = forward[i - 2, c] * d2 if i > 1 else first[c] * terms[13]
                back3 = forward[i - 3, c] * d3 if i > 2 else first[c] * terms[14]
                value = x0[c] * n0 + x1[c] * n1 + x2[c] * n2 + x3[c] * n3
                out[c] = value - (back1 + back2 + back3 + first[c] * terms[15])
        else:
            y1, y2, y3, y4 = forward[i - 1], forward[i - 2], forward[i - 3], forward[i - 4]
            for c in range(LINES):
                value = x0[c] * n0 + x1[c] * n1 + x2[c] * n2 + x3[c] * n3
                out[c] = value - (y1[c] * d1 + y2[c] * d2 + y3[c] * d3 + y4[c] * d4)
    for k in range(n):
        i = n - 1 - k
        out, x0, x1, x2, x3 = backward[i], data[i + 5], data[i + 6], data[i + 7], data[i + 8]
        if k < 4:
            for c in range(LINES):
                back1 = backward[i + 1, c] * d1 if k > 0 else last[c] * terms[16]
                back2 = backward[i + 2, c] * d2 if k > 1 else last[c] * terms[17]
                back3 = backward[i + 3, c] * d3 if k > 2 else last[c] * terms[18]
                value = x0[c] * m1 + x1[c] * m2 + x2[c] * m3 + x3[c] * m4
                out[c] = value - (back1 + back2 + back3 + last[c] * terms[19])
        else:
            y1, y2, y3, y4 = backward[i + 1], backward[i + 2], backward[i + 3], backward[i + 4]
            for c in range(LINES):
                value = x0[c] * m1 + x1[c] * m2 + x2[c] * m3 + x3[c] * m4
                out[c] = value - (y1[c] * d1 + y2[c] * d2 + y3[c] * d3 + y4[c] * d4)
