"""How well a score separates events from non-events, and overall performance of probabilities.

One entry is one patient. Scores and probabilities must be held-out predictions: on the data that a model was fitted to
every measure here is optimistic. Higher scores mean riskier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import Floats, as_labels, as_probabilities
from osml.stats.inputs import frequency_weights, vector


def auc(y: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the probability that an event outscores a non-event, ties counting one half.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; both classes needed.
    score : float array (n,)
        Higher is riskier. NaN raises.
    weights : float array (n,), optional
        Non-negative; integer weights equal repeating the rows.

    Notes
    -----
    Mann-Whitney statistic, O(n log n); `pROC::auc(direction="<")`. It may fall below 0.5: it is never flipped.

    >>> auc([0, 0, 1, 1], [.1, .4, .4, .8])
    0.875
    """
    labels = as_labels(y)
    s, w = vector(score, "score", len(labels)), frequency_weights(weights, len(labels))
    events, controls = w * labels, w * (1 - labels)
    m, n = events.sum(), controls.sum()
    if m == 0 or n == 0:
        raise NotEstimableError(f"weight of events {m:g}, of non-events {n:g}: an AUC needs both")
    _, code = np.unique(s, return_inverse=True)
    e, c = np.bincount(code, events), np.bincount(code, controls)
    return float(e @ (np.cumsum(c) - 0.5 * c) / (m * n))


@dataclass(frozen=True)
class RocCurve:
    """Empirical ROC curve, from "everyone positive" to "no one positive".

    Attributes
    ----------
    thresholds : float array (k,)
        -inf, the midpoints between distinct scores, inf; positive means score > threshold.
    sensitivity, specificity : float arrays (k,)
        Sensitivity falls and specificity rises along the array.
    """

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats

    def sensitivity_at(self, specificity: float) -> float:
        """Sensitivity at a specificity in [0, 1], linear between the points of the curve (`pROC::coords`).

        On a vertical piece of the curve the highest sensitivity is given. For an interval as `pROC::ci.se` makes it,
        pass this to `patient_bootstrap` with `strata=y`.
        """
        return _read(_unit(specificity, "specificity"), self.specificity[::-1], self.sensitivity[::-1])

    def specificity_at(self, sensitivity: float) -> float:
        """Specificity at a sensitivity in [0, 1], linear between the points; the highest on a flat piece."""
        return _read(_unit(sensitivity, "sensitivity"), self.sensitivity, self.specificity)

    @property
    def area(self) -> float:
        """Area under the curve by trapezoids; equals `auc`."""
        return float(np.trapezoid(self.sensitivity[::-1], 1 - self.specificity[::-1]))


def roc_curve(y: ArrayLike, score: ArrayLike) -> RocCurve:
    """Empirical ROC curve with one point per distinct score, plus the end (`pROC::roc`).

    >>> curve = roc_curve([0, 0, 1, 1], [.1, .4, .4, .8])
    >>> curve.thresholds.round(2), curve.sensitivity, curve.specificity
    (array([-inf, 0.25, 0.6 ,  inf]), array([1. , 1. , 0.5, 0. ]), array([0. , 0.5, 1. , 1. ]))
    >>> curve.sensitivity_at(0.75)
    0.75
    """
    labels = as_labels(y, both=True)
    s = vector(score, "score", len(labels))
    levels, code = np.unique(s, return_inverse=True)
    below_events = np.concatenate([[0.0], np.cumsum(np.bincount(code, labels))])
    below_controls = np.concatenate([[0.0], np.cumsum(np.bincount(code, 1 - labels))])
    m, n = below_events[-1], below_controls[-1]
    # Halving first keeps the midpoint of two huge scores finite.
    middle = levels[:-1] / 2 + levels[1:] / 2
    thresholds = np.concatenate([[-np.inf], middle, [np.inf]])
    return RocCurve(thresholds, (m - below_events) / m, below_controls / n)


@dataclass(frozen=True)
class Youden:
    """Threshold with the largest sensitivity + specificity - 1, and the values there."""

    threshold: float
    sensitivity: float
    specificity: float

    @property
    def index(self) -> float:
        """Sensitivity + specificity - 1."""
        return self.sensitivity + self.specificity - 1


def youden(y: ArrayLike, score: ArrayLike) -> Youden:
    """Youden threshold. Choose it on training data only; on the data it is applied to it is biased upwards.

    Ties between thresholds go to the lowest threshold, which is the most sensitive one.

    >>> youden([0, 0, 1, 1], [.1, .2, .4, .8]).threshold.round(6)
    np.float64(0.3)
    """
    curve = roc_curve(y, score)
    index = curve.sensitivity + curve.specificity
    best = int(np.flatnonzero(index >= index.max() - 1e-12)[0])
    return Youden(curve.thresholds[best], float(curve.sensitivity[best]), float(curve.specificity[best]))


def partial_auc(y: ArrayLike, score: ArrayLike, specificity: tuple[float, float] = (0.9, 1.0)) -> tuple[float, float]:
    """Area over a range of specificities, raw and standardised to 0.5 = chance, 1 = perfect (McClish 1989).

    The standardised value is `pROC::auc(partial.auc=, partial.auc.correct=TRUE)`.

    >>> raw, standardised = partial_auc([0, 0, 1, 1], [.1, .3, .6, .8], specificity=(0.5, 1))
    >>> raw, standardised
    (0.5, 1.0)
    """
    low, high = (_unit(v, "specificity") for v in specificity)
    if low >= high:
        raise InvalidInputError(f"specificity range {specificity}: the first must be below the second")
    curve = roc_curve(y, score)
    spec, sens = curve.specificity, curve.sensitivity
    inside = (spec > low) & (spec < high)
    # Ends: at the low end the curve just right of it, at the high end just left of it, matter on vertical pieces.
    x = np.concatenate([[low], spec[inside], [high]])
    first = float(np.interp(low, spec, sens)) if low not in spec else float(sens[spec == low].min())
    last = float(np.interp(high, spec, sens)) if high not in spec else float(sens[spec == high].max())
    area = float(np.trapezoid(np.concatenate([[first], sens[inside], [last]]), x))
    least = ((1 - low) ** 2 - (1 - high) ** 2) / 2
    most = high - low
    return area, (1 + (area - least) / (most - least)) / 2


def brier(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Brier score: mean squared difference between probability and outcome; 0 is perfect.

    >>> brier([1, 0], [.8, .4])
    0.1
    """
    labels = as_labels(y)
    q, w = as_probabilities(p, len(labels)), frequency_weights(weights, len(labels))
    return float(np.average((labels - q) ** 2, weights=w))


def scaled_brier(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """1 - Brier / Brier of the prevalence given to everyone; 1 is perfect, 0 no better than the prevalence.

    >>> round(scaled_brier([1, 0], [.8, .4]), 12)
    0.6
    """
    labels = as_labels(y)
    prevalence = float(np.average(labels, weights=frequency_weights(weights, len(labels))))
    if prevalence in (0.0, 1.0):
        raise NotEstimableError("one class only: the Brier score of the prevalence is 0")
    return 1 - brier(y, p, weights) / (prevalence * (1 - prevalence))


def log_loss(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean negative log-likelihood of the outcomes; infinite if an outcome was given probability 0.

    >>> round(log_loss([1, 0], [.5, .5]), 6)
    0.693147
    """
    labels = as_labels(y)
    q, w = as_probabilities(p, len(labels)), frequency_weights(weights, len(labels))
    given = np.where(labels == 1, q, 1 - q)
    with np.errstate(divide="ignore"):
        return float(-np.average(np.log(given), weights=w))


def nagelkerke(log_likelihood: float, null_log_likelihood: float, n: float) -> float:
    """Nagelkerke's R2 of a fitted model from its and the null model's log-likelihood (`rms::lrm` R2).

    Nagelkerke 1991, Biometrika 78:691. n is the number of patients (sum of frequency weights).

    >>> round(nagelkerke(-98.4168517646642, -117.3359980957, 189), 6)
    0.25515
    """
    if n <= 0 or null_log_likelihood >= 0:
        raise NotEstimableError(f"n = {n:g}, null log-likelihood {null_log_likelihood:g}: R2 does not exist")
    return float(np.expm1(-2 * (log_likelihood - null_log_likelihood) / n) / np.expm1(2 * null_log_likelihood / n))


def _unit(value: float, name: str) -> float:
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{name} = {value!r}; expected a number in 0..1")
    return float(value)


def _read(at: float, x: Floats, y: Floats) -> float:
    """y at x = at on a polyline whose x falls monotonically; the highest y where x repeats."""
    x, y = x[::-1], y[::-1]
    hit = np.isclose(x, at, rtol=0, atol=1e-12)
    return float(y[hit].max()) if hit.any() else float(np.interp(at, x, y))
