"""Tails of the normal and chi-square distributions from `scipy.special`: `scipy.stats` takes a second to import.

The same functions that `scipy.stats` calls, so the numbers are the same to the last bit.
"""

from __future__ import annotations

from typing import Any

from scipy.special import chdtrc, gammaincinv, ndtr, ndtri


def normal_sf(z: Any) -> Any:
    """P(Z > z).

    >>> round(float(normal_sf(1.959963984540054)), 12)
    0.025
    """
    return ndtr(-z)


def normal_isf(p: float) -> float:
    """z with P(Z > z) = p."""
    return float(-ndtri(p))


def chi2_sf(x: float, df: int) -> float:
    """P(chi-square with df degrees of freedom > x).

    >>> round(chi2_sf(3.841458820694124, 1), 12)
    0.05
    """
    return float(chdtrc(df, x))


def chi2_quantile(p: float, df: int) -> float:
    """x with P(chi-square with df degrees of freedom <= x) = p."""
    return float(2.0 * gammaincinv(df / 2.0, p))
