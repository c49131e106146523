"""The measures of a logistic model that `rms::validate.lrm` reports, for one linear predictor or many at once.

Harrell, Regression Modeling Strategies, sections 5.3 and 10.9; Miller, Hui and Tierney 1991 (unreliability).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from osml.errors import NotEstimableError
from osml.evaluation.inputs import Floats, as_labels
from osml.stats.inputs import frequency_weights, vector
from osml.stats.logistic import fit_logistic_batch

MEASURES = (
    "dxy", "r2", "intercept", "slope", "emax", "d", "u", "q", "brier", "g", "gp", "auc", "citl", "log_likelihood",
)  # fmt: skip


@dataclass(frozen=True)
class ValidationMeasures:
    """Measures of a linear predictor against outcomes; the first eleven are those of `rms::validate.lrm`.

    Attributes
    ----------
    dxy : float
        Somers' rank correlation, 2 (AUC - 1/2).
    r2 : float
        Nagelkerke's R2 of the recalibrated predictor.
    intercept, slope : float
        Of the logistic recalibration; 0 and 1 are ideal.
    emax : float
        Largest distance between p and the recalibrated p over all p in 0..1.
    d, u, q : float
        Discrimination index (LR - 1) / n, unreliability index, and quality d - u.
    brier : float
    g, gp : float
        Gini's mean difference of the recalibrated linear predictor and of the recalibrated probability.
    auc, citl, log_likelihood : float
        AUC, calibration-in-the-large, and log-likelihood of the probabilities as given.
    """

    dxy: float
    r2: float
    intercept: float
    slope: float
    emax: float
    d: float
    u: float
    q: float
    brier: float
    g: float
    gp: float
    auc: float
    citl: float
    log_likelihood: float

    def as_array(self) -> Floats:
        """Values in the order of `MEASURES`, float array (14,)."""
        return np.array([getattr(self, name) for name in MEASURES])


def validation_measures(y: ArrayLike, lp: ArrayLike, weights: ArrayLike | None = None) -> ValidationMeasures:
    """All measures of one linear predictor.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; both classes needed.
    lp : float array (n,)
        Linear predictor on the logit scale, intercept included.
    weights : array (n,), optional
        Frequency weights.

    Raises
    ------
    NotEstimableError
        lp is constant, or separates the classes: slope, R2 and g do not exist.

    >>> found = validation_measures([0, 1, 0, 1, 1, 0], [-1.0, 0.5, 0.2, 1.5, -0.3, -0.8])
    >>> round(found.dxy, 4), round(found.slope, 4)
    (0.7778, 2.4908)
    """
    labels = as_labels(y, both=True)
    score, w = vector(lp, "lp", len(labels)), frequency_weights(weights, len(labels))
    row = measures_batch(labels, score[None, :], w[None, :])[0]
    if np.isnan(row).any():
        raise NotEstimableError(
            "the logistic recalibration has no estimate: one class only, a constant linear predictor, or one that "
            "separates events from non-events"
        )
    return ValidationMeasures(**dict(zip(MEASURES, row.tolist(), strict=True)))


def measures_batch(labels: Floats, lp: Floats, weights: Floats) -> Floats:
    """`MEASURES` of B linear predictors (B, n) under B sets of frequency weights (B, n): float array (B, 14).

    The inner loop of a bootstrap: arrays are not checked. A replicate without a recalibration is NaN throughout.
    """
    out = np.full((len(lp), len(MEASURES)), np.nan)
    total = weights.sum(axis=1)
    recalibration, converged = fit_logistic_batch(lp[:, :, None], labels, weights)
    good = np.flatnonzero(converged)
    if not len(good):
        return out
    lp, w, total, recalibration = lp[good], weights[good], total[good], recalibration[good]
    a, b = recalibration[:, 0], recalibration[:, 1]
    refit = a[:, None] + b[:, None] * lp
    sign = 2 * labels - 1
    best, given = (-(w * np.logaddexp(0.0, -sign * eta)).sum(axis=1) for eta in (refit, lp))
    events = w @ labels
    null = events * np.log(events / total) + (total - events) * np.log1p(-events / total)
    likelihood_ratio = 2 * (best - null)
    d, u = (likelihood_ratio - 1) / total, (2 * (best - given) - 2) / total
    area, order = _auc_rows(labels, lp, w)
    values = {
        "dxy": 2 * area - 1,
        "r2": np.expm1(-likelihood_ratio / total) / np.expm1(2 * null / total),
        "intercept": a,
        "slope": b,
        "emax": np.array([emax(*pair) for pair in recalibration]),
        "d": d,
        "u": u,
        "q": d - u,
        "brier": (w * (labels - expit(lp)) ** 2).sum(axis=1) / total,
        "g": _gini_rows(refit, w, order),
        "gp": _gini_rows(expit(refit), w, order),
        "auc": area,
        "citl": _citl_rows(labels, lp, w),
        "log_likelihood": given,
    }
    out[good] = np.stack([values[name] for name in MEASURES], axis=1)
    return out


def emax(intercept: float, slope: float) -> float:
    """Largest |p - expit(intercept + slope logit p)| over p = 0, 0.0005, ..., 1 (the grid of rms).

    >>> round(emax(-0.152782426565684, 0.771119311827269), 6)
    0.085809
    """
    return float(np.abs(_P - expit(intercept + slope * _LOGIT)).max())


_P = np.arange(1, 2000) * 0.0005
_LOGIT = np.log(_P / (1 - _P))


def _auc_rows(labels: Floats, lp: Floats, w: Floats) -> tuple[Floats, np.ndarray]:
    order = np.argsort(lp, axis=1, kind="stable")
    s, weight = np.take_along_axis(lp, order, axis=1), np.take_along_axis(w, order, axis=1)
    events = weight * labels[order]
    below = np.cumsum(weight - events, axis=1)
    n = s.shape[1]
    index = np.broadcast_to(np.arange(n), s.shape)
    step = s[:, 1:] > s[:, :-1]
    edge = np.ones((len(s), 1), dtype=bool)
    # First and last position of the run of ties that each sorted entry belongs to.
    first = np.maximum.accumulate(np.where(np.hstack([edge, step]), index, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([step, edge]), index, n)[:, ::-1], axis=1)[:, ::-1]
    padded = np.hstack([np.zeros((len(s), 1)), below])
    beaten = (np.take_along_axis(padded, first, axis=1) + np.take_along_axis(padded, last + 1, axis=1)) / 2
    m = events.sum(axis=1)
    return (events * beaten).sum(axis=1) / (m * (w.sum(axis=1) - m)), order


def _gini_rows(values: Floats, w: Floats, order: np.ndarray) -> Floats:
    """Mean absolute difference of two different patients; `order` sorts the values up or down."""
    x, weight = np.take_along_axis(values, order, axis=1), np.take_along_axis(w, order, axis=1)
    total = weight.sum(axis=1, keepdims=True)
    before = np.cumsum(weight, axis=1) - weight
    signed = (weight * x * (2 * before + weight - total)).sum(axis=1)
    return 2 * np.abs(signed) / (total * (total - 1))[:, 0]


def _citl_rows(labels: Floats, lp: Floats, w: Floats) -> Floats:
    """Intercept with lp as offset, by Newton from 0 with the step bounded."""
    shift = np.zeros(len(lp))
    events = w @ labels
    for _ in range(100):
        p = expit(lp + shift[:, None])
        score = events - (w * p).sum(axis=1)
        information = (w * p * (1 - p)).sum(axis=1)
        step = np.clip(score / np.maximum(information, 1e-300), -2, 2)
        shift += step
        if np.abs(step).max() < 1e-13 * (1 + np.abs(shift).max()):
            return shift
    return np.where(np.abs(score) < 1e-8 * w.sum(axis=1), shift, np.nan)
