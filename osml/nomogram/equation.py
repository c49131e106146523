"""The linear predictor as a formula and as a table of coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from osml.stats.terms import LinearModel, design_columns


@dataclass(frozen=True)
class CoefficientRow:
    """One coefficient with its standard error and interval; None where the model has no covariance."""

    column: str
    coef: float
    se: float | None
    low: float | None
    high: float | None


def equation(model: LinearModel, digits: int = 4) -> str:
    """The linear predictor written out, with `digits` significant digits.

    >>> from osml.stats.terms import Linear, LinearModel
    >>> equation(LinearModel((Linear("age"),), np.array([-0.0398]), 1.25))
    'lp = 1.25 − 0.0398·age'
    """
    parts = [f"lp = {_signed(model.intercept, digits)}"]
    for name, coef in zip(design_columns(model.terms), model.coef, strict=True):
        parts.append(f"{'−' if coef < 0 else '+'} {abs(coef):.{digits}g}·{_factor(name)}")
    return " ".join(parts)


def coefficient_rows(model: LinearModel, level: float = 0.95) -> tuple[CoefficientRow, ...]:
    """Intercept (when its variance is known, or it is not a centring) and every design column, with Wald intervals."""
    names, coef = list(design_columns(model.terms)), np.asarray(model.coef, dtype=np.float64)
    variance = None if model.covariance is None else np.diag(model.covariance)
    if (variance is not None and len(variance) == len(coef) + 1) or variance is None:
        names, coef = ["Intercept", *names], np.concatenate([[model.intercept], coef])
    z = float(ndtri(0.5 + level / 2))
    rows = []
    for j, (name, b) in enumerate(zip(names, coef, strict=True)):
        se = None if variance is None else float(np.sqrt(variance[j]))
        low, high = (None, None) if se is None else (float(b - z * se), float(b + z * se))
        rows.append(CoefficientRow(name, float(b), se, low, high))
    return tuple(rows)


def spline_text(knots: tuple[float, ...]) -> str:
    """How the nonlinear columns of a restricted cubic spline are computed, in words that R and paper readers share."""
    listed = ", ".join(f"{k:.10g}" for k in knots)
    return f"restricted cubic spline (rms::rcs), knots at {listed}"


def _signed(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("-", "−")


def _factor(name: str) -> str:
    return f"[{name}]" if "=" in name else f"({name})" if " * " in name else name
