"""Variance, interval and tests of AUCs by placements: DeLong, DeLong and Clarke-Pearson 1988; Obuchowski 1997.

They hold for a fixed score on patients who played no part in making it (a hold-out, an external set). On pooled
out-of-fold scores they cover too little: use resampling there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import Floats, as_groups, as_labels
from osml.stats.inputs import confidence_level, vector

KIND = "DeLong; for a fixed score on independent patients"
KIND_CLUSTERED = "Obuchowski, rows clustered in patients; for a fixed score on independent patients"


@dataclass(frozen=True)
class AUC:
    """An AUC with its variance and Wald interval clipped to [0, 1].

    Attributes
    ----------
    value : float
    variance : float or None
        None where it does not exist (a class with a single patient).
    low, high : float or None
        None with `reason` where no interval exists; never a zero-width interval.
    level : float
    events, non_events : int
        Patients, or rows when clustered.
    kind : str
        What the interval assumes.
    reason : str
        Why there is no interval, else empty.
    """

    value: float
    variance: float | None
    low: float | None
    high: float | None
    level: float
    events: int
    non_events: int
    kind: str
    reason: str = ""


@dataclass(frozen=True)
class PairedAUC:
    """Difference between two AUCs of the same patients. `covariance` is that of the two AUCs."""

    auc_a: float
    auc_b: float
    difference: float
    variance: float
    covariance: float
    z: float
    p_value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class UnpairedAUC:
    """Difference between AUCs of two independent sets of patients, t distributed with `df`."""

    auc_1: float
    auc_2: float
    difference: float
    variance: float
    t: float
    df: float
    p_value: float
    low: float
    high: float
    level: float


def delong(y: ArrayLike, score: ArrayLike, level: float = 0.95) -> AUC:
    """AUC with DeLong variance and interval (`pROC::ci.auc`).

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; one row per patient.
    score : float array (n,)
        Higher is riskier. Ties count one half; NaN raises.

    Notes
    -----
    Midranks, O(n log n). A perfect or constant score has variance 0 and a class of one patient has none: the value is
    given, the interval is None and `reason` says why.

    >>> found = delong([0, 0, 0, 1, 1], [.1, .3, .5, .4, .8])
    >>> round(found.value, 4), round(found.variance, 4), round(found.low, 4), found.high
    (0.8333, 0.0556, 0.3714, 1.0)
    """
    labels = as_labels(y, both=True)
    s = vector(score, "score", len(labels))
    placed = _placements(labels, s[None, :])
    return _interval(placed, _variance(placed), confidence_level(level), KIND)


def delong_clustered(y: ArrayLike, score: ArrayLike, groups: ArrayLike, level: float = 0.95) -> AUC:
    """AUC of rows with the variance of patients that contribute several rows (Obuchowski 1997, Biometrics 53:567).

    With one row per patient it equals `delong`.

    >>> y, s, patient = [0, 1, 0, 1, 0, 1, 1, 0], [.1, .6, .3, .2, .4, .9, .8, .7], [1, 1, 2, 2, 3, 3, 4, 4]
    >>> found = delong_clustered(y, s, patient)
    >>> round(found.value, 4), round(found.variance, 5)
    (0.75, 0.03125)
    """
    labels = as_labels(y, both=True)
    s = vector(score, "score", len(labels))
    placed = _placements(labels, s[None, :])
    covariance = _clustered_covariance(placed, as_groups(groups, len(labels)))
    variance = None if covariance is None else float(covariance[0, 0])
    return _interval(placed, variance, confidence_level(level), KIND_CLUSTERED)


def delong_test(
    y: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95
) -> PairedAUC:
    """Compare two AUCs measured on the same patients (`pROC::roc.test(paired=TRUE)`).

    One row is one patient, or give `groups`: several rows per patient taken as independent shrink the variance.
    Scores must be held-out predictions.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event. At least two patients per class.
    score_a, score_b : float array (n,)
        Higher is riskier. Ties count one half; NaN raises.
    groups : array (n,), optional
        Patient of each row: the clustered variance of Obuchowski 1997.

    Returns
    -------
    PairedAUC : auc_a, auc_b, difference (a - b), variance, covariance, z, p_value (two-sided), low, high

    Raises
    ------
    NotEstimableError
        Zero variance, e.g. identical rankings: no p-value exists.

    Notes
    -----
    O(n log n). Normal approximation: poor with few events.

    >>> y, a, b = [1, 1, 1, 0, 0, 0, 0], [.9, .7, .4, .8, .3, .2, .1], [.6, .5, .9, .7, .4, .8, .3]
    >>> round(delong_test(y, a, b).p_value, 10)
    0.5464935954
    """
    labels = as_labels(y, both=True)
    scores = np.stack([vector(score_a, "score_a", len(labels)), vector(score_b, "score_b", len(labels))])
    placed = _placements(labels, scores)
    if groups is None:
        covariance = _covariance(placed)
        # From the differences themselves, so that identical rankings give exactly zero.
        variance = _variance(placed.contrast())
    else:
        codes = as_groups(groups, len(labels))
        covariance = _clustered_covariance(placed, codes)
        single = _clustered_covariance(placed.contrast(), codes)
        variance = None if single is None else float(single[0, 0])
    if covariance is None or variance is None:
        raise NotEstimableError("a class with a single patient: the variance of the difference does not exist")
    if variance <= 0:
        raise NotEstimableError(
            "the difference of the two AUCs has variance 0 (for example identical rankings): no p-value exists"
        )
    a, b = placed.auc
    delta, se = float(a - b), float(np.sqrt(variance))
    z = delta / se
    half = stats.norm.isf((1 - confidence_level(level)) / 2) * se
    return PairedAUC(
        auc_a=float(a),
        auc_b=float(b),
        difference=delta,
        variance=variance,
        covariance=float(covariance[0, 1]),
        z=z,
        p_value=float(2 * stats.norm.sf(abs(z))),
        low=delta - half,
        high=delta + half,
        level=level,
    )


def delong_test_unpaired(
    y_1: ArrayLike, score_1: ArrayLike, y_2: ArrayLike, score_2: ArrayLike, level: float = 0.95
) -> UnpairedAUC:
    """Compare AUCs of two independent sets of patients (`pROC::roc.test(paired=FALSE)`, Welch-Satterthwaite df).

    >>> test = delong_test_unpaired([0, 0, 1, 1], [.1, .4, .3, .8], [0, 1, 0, 1, 1], [.2, .3, .6, .5, .9])
    >>> round(test.difference, 4), round(test.p_value, 4)
    (0.0833, 0.8758)
    """
    parts = []
    for y, score in ((y_1, score_1), (y_2, score_2)):
        labels = as_labels(y, both=True)
        placed = _placements(labels, vector(score, "score", len(labels))[None, :])
        variance = _variance(placed)
        if variance is None:
            raise NotEstimableError("a class with a single patient: the variance of its AUC does not exist")
        parts.append((float(placed.auc[0]), variance, len(labels)))
    (auc_1, v_1, n_1), (auc_2, v_2, n_2) = parts
    variance = v_1 + v_2
    if variance <= 0:
        raise NotEstimableError("both AUCs have variance 0 (perfect or constant scores): no p-value exists")
    df = variance**2 / (v_1**2 / (n_1 - 1) + v_2**2 / (n_2 - 1))
    delta, se = auc_1 - auc_2, float(np.sqrt(variance))
    half = float(stats.t.isf((1 - confidence_level(level)) / 2, df)) * se
    p_value = float(2 * stats.t.sf(abs(delta / se), df))
    return UnpairedAUC(auc_1, auc_2, delta, variance, delta / se, df, p_value, delta - half, delta + half, level)


def hanley_mcneil(value: float, events: int, non_events: int) -> float:
    """Variance of an AUC from its value and the numbers alone (Hanley and McNeil 1982, Radiology 143:29, eqs 1 and 2).

    For planning and where no scores are at hand; `delong` uses the scores themselves.

    >>> round(hanley_mcneil(0.8, 30, 70), 6)
    0.002781
    """
    if not 0 <= value <= 1 or events < 1 or non_events < 1:
        raise InvalidInputError(f"AUC {value!r} with {events} events and {non_events} non-events is not possible")
    q_1, q_2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = (events - 1) * (q_1 - value**2) + (non_events - 1) * (q_2 - value**2)
    return float((value * (1 - value) + spread) / (events * non_events))


def auc_power(value: float, events: int, non_events: int, significance: float = 0.05) -> float:
    """Power of the two-sided test of AUC 0.5 with this many patients when the AUC is `value` (`pROC::power.roc.test`).

    Obuchowski and McClish 1997, Stat Med 16:1529, binormal scores; the rejection on the wrong side is left out.

    >>> round(auc_power(0.731368563685637, 41, 72), 6)
    0.990483
    """
    if not 0.5 < value < 1 or events < 1 or non_events < 1 or not 0 < significance < 1:
        raise InvalidInputError(
            f"AUC {value!r} with {events} events, {non_events} non-events, significance {significance!r}: expected an "
            "AUC between 0.5 and 1, at least one patient per class and a significance level between 0 and 1"
        )
    ratio = non_events / events

    def variance(area: float) -> float:
        a = stats.norm.ppf(area) * 1.414  # the constant of the paper, not the square root of 2
        return float(0.0099 * np.exp(-(a**2) / 2) * ((5 * a**2 + 8) + (a**2 + 8) / ratio))

    reach = np.sqrt(events) * (value - 0.5) - stats.norm.isf(significance / 2) * np.sqrt(variance(0.5))
    return float(stats.norm.cdf(reach / np.sqrt(variance(value))))


@dataclass(frozen=True)
class _Placements:
    """How many of the other class each row is on the right side of, for k scores: events (k, m), controls (k, n).

    Counts, not shares: multiples of one half are exact, so equal rankings have exactly equal placements.
    """

    events: Floats
    controls: Floats
    labels: Floats

    @property
    def auc(self) -> Floats:
        return self.events.sum(axis=1) / (self.events.shape[1] * self.controls.shape[1])

    def contrast(self) -> _Placements:
        """First score minus second."""
        return _Placements(self.events[:1] - self.events[1:], self.controls[:1] - self.controls[1:], self.labels)


def _placements(labels: Floats, scores: Floats) -> _Placements:
    event = labels == 1
    m, n = int(event.sum()), int((~event).sum())
    events, controls = np.empty((len(scores), m)), np.empty((len(scores), n))
    for k, score in enumerate(scores):
        overall = stats.rankdata(score)
        events[k] = overall[event] - stats.rankdata(score[event])
        controls[k] = m - (overall[~event] - stats.rankdata(score[~event]))
    return _Placements(events, controls, labels)


def _covariance(placed: _Placements) -> Floats | None:
    m, n = placed.events.shape[1], placed.controls.shape[1]
    if m < 2 or n < 2:
        return None
    events, controls = np.atleast_2d(np.cov(placed.events)), np.atleast_2d(np.cov(placed.controls))
    return events / (n**2 * m) + controls / (m**2 * n)


def _variance(placed: _Placements) -> float | None:
    covariance = _covariance(placed)
    return None if covariance is None else float(covariance[0, 0])


def _clustered_covariance(placed: _Placements, codes: NDArray[np.intp]) -> Floats | None:
    event = placed.labels == 1
    m, n, clusters = placed.events.shape[1], placed.controls.shape[1], int(codes.max()) + 1
    events_of, controls_of = (np.bincount(codes[mask], minlength=clusters) for mask in (event, ~event))
    with_events, with_controls = int((events_of > 0).sum()), int((controls_of > 0).sum())
    if with_events < 2 or with_controls < 2:
        return None
    area = placed.auc[:, None]
    e = np.stack([np.bincount(codes[event], row, minlength=clusters) for row in placed.events]) / n
    c = np.stack([np.bincount(codes[~event], row, minlength=clusters) for row in placed.controls]) / m
    e, c = e - events_of * area, c - controls_of * area
    cross = e @ c.T
    return (
        with_events / (with_events - 1) * (e @ e.T) / m**2
        + with_controls / (with_controls - 1) * (c @ c.T) / n**2
        + clusters / (clusters - 1) * (cross + cross.T) / (m * n)
    )


def _interval(placed: _Placements, variance: float | None, level: float, kind: str) -> AUC:
    value = float(placed.auc[0])
    m, n = placed.events.shape[1], placed.controls.shape[1]
    if variance is None:
        reason = (
            "not estimable: the events or the non-events come from a single patient, so the variance does not exist"
        )
        return AUC(value, None, None, None, level, m, n, kind, reason)
    if variance <= 0:
        what = "perfect separation" if value in (0.0, 1.0) else "every patient has the same placement"
        reason = f"not estimable: variance 0 ({what}); this does not mean certainty"
        return AUC(value, 0.0, None, None, level, m, n, kind, reason)
    half = float(stats.norm.isf((1 - level) / 2) * np.sqrt(variance))
    return AUC(value, variance, max(0.0, value - half), min(1.0, value + half), level, m, n, kind)
