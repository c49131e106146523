"""Do predicted risks at a horizon agree with what happened under censoring? One row is one patient; risks are held-out.

Observed risk is one minus Kaplan-Meier; O/E and the slope follow McLernon et al. 2023, Ann Intern Med 176:105, and the
curve Austin, Harrell and van Klaveren 2020, Stat Med 39:2714. Censoring is taken to be independent of risk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.calibration import MINIMUM, Estimate
from osml.evaluation.inputs import as_probabilities
from osml.evaluation.kaplan_meier import ConfidenceKind, kaplan_meier
from osml.evaluation.survival import Bools, Floats, check_horizon, check_level, check_survival
from osml.stats.cox import baseline_hazard, fit_cox, survival, survival_interval
from osml.stats.splines import rcs_basis, rcs_knots

_GRID = 100  # points of the drawn curve


@dataclass(frozen=True)
class SurvivalGroups:
    """Patients grouped by predicted risk.

    Attributes
    ----------
    n, at_risk : int array (k,)
        Patients, and those still followed just before the horizon.
    predicted : float array (k,)
        Mean predicted risk.
    observed, low, high : float array (k,)
        One minus Kaplan-Meier at the horizon with its interval; NaN where follow-up ends before the horizon.
    edges : float array (k - 1,)
        Risks that separate the groups; a patient on an edge belongs to the lower group.
    """

    n: np.ndarray
    at_risk: np.ndarray
    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    edges: Floats


@dataclass(frozen=True)
class SurvivalCurve:
    """Smooth calibration curve and the distances |observed - predicted| over the patients.

    Attributes
    ----------
    risk, observed, low, high : float array (100,)
        The curve between the 1st and the 99th percentile of predicted risk, with its pointwise interval.
    ici, e50, e90, emax : float
        Mean, median, 90th percentile and maximum of the distances.
    knots : float array (3,)
        Of the spline, on the log(-log(1 - risk)) scale.
    """

    risk: Floats
    observed: Floats
    low: Floats
    high: Floats
    ici: float
    e50: float
    e90: float
    emax: float
    knots: Floats


@dataclass(frozen=True)
class SurvivalCalibration:
    """Calibration at one horizon.

    Attributes
    ----------
    horizon : float
    n, events, at_risk : int
        Patients, events by the horizon, and patients still followed just before it.
    expected : float
        Mean predicted risk.
    observed : Estimate
        One minus Kaplan-Meier at the horizon; no interval (NaN) where nobody is left.
    o_e : Estimate
        Observed / expected, interval on the log scale; above 1, risks are too low.
    citl : Estimate or None
        Calibration-in-the-large: log cumulative hazard at the horizon of a Cox model with offset log(-log(1 - risk)),
        the intercept of `risk` on that scale. 0 is ideal; above 0, risks are too low. None with `citl_reason` where a
        risk is exactly 0 or 1.
    slope : Estimate or None
        Cox coefficient of the linear predictor (by default log(-log(1 - risk))); 1 is ideal, below 1 predictions are
        too extreme. None with `slope_reason` where it is not estimable.
    groups : SurvivalGroups
    flexible : SurvivalCurve or None
        None with `flexible_reason` below 100 events by the horizon.
    """

    horizon: float
    n: int
    events: int
    at_risk: int
    expected: float
    observed: Estimate
    o_e: Estimate
    citl: Estimate | None
    citl_reason: str
    slope: Estimate | None
    slope_reason: str
    groups: SurvivalGroups
    flexible: SurvivalCurve | None
    flexible_reason: str


def calibration_at(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizon: float,
    lp: ArrayLike | None = None,
    groups: int = 5,
    conf: ConfidenceKind = "log",
    level: float = 0.95,
) -> SurvivalCalibration:
    """Calibration of predicted risks at a horizon.

    Parameters
    ----------
    time, event : arrays (n,)
        Times > 0; event True or 1. One row per patient.
    risk : float array (n,)
        Predicted probability of the event by the horizon. A risk of exactly 0 or 1 has no log(-log(1 - risk)): the
        measures on that scale then come back as None with the reason.
    horizon : float
        In the unit of the times.
    lp : float array (n,), optional
        Linear predictor of the model, for the slope.
    groups : int
        Number of groups by quantiles of risk.
    conf : {"log", "log-log", "plain"}
        Scale of the Kaplan-Meier intervals.

    Raises
    ------
    NotEstimableError
        No event by the horizon, or nobody followed to it.

    Examples
    --------
    >>> time, event = [1, 2, 3, 4, 5, 6, 7, 8], [1, 0, 1, 1, 0, 1, 1, 0]
    >>> result = calibration_at(time, event, [0.8, 0.5, 0.6, 0.7, 0.2, 0.3, 0.4, 0.1], horizon=6, groups=2)
    >>> round(result.expected, 3), round(result.observed.value, 3)
    (0.45, 0.611)
    >>> result.flexible_reason
    '4 events by 6: a smooth curve and its ICI need at least 100'
    """
    t, e = check_survival(time, event)
    p = as_probabilities(risk, len(t), name="risk")
    horizon, z = check_horizon(horizon), check_level(level)
    by_horizon = int(np.sum(e & (t <= horizon)))
    at_risk = int(np.sum(t >= horizon))
    if by_horizon == 0:
        raise NotEstimableError(f"not estimable at {horizon:g}: no event by then among {len(t)} patients")
    observed = _observed(t, e, horizon, conf, level)
    if np.isnan(observed.value):
        raise NotEstimableError(
            f"not estimable at {horizon:g}: follow-up ends at {t.max():g}", do="Choose an earlier horizon."
        )
    expected = float(p.mean())
    if expected == 0:
        raise NotEstimableError("every predicted risk is 0, yet events happened: O/E is infinite")
    ratio = observed.value / expected
    spread = observed.se / observed.value
    o_e = Estimate(ratio, ratio * spread, ratio * np.exp(-z * spread), ratio * np.exp(z * spread), level)
    certain = int(np.sum((p == 0) | (p == 1)))
    reason = f"{certain} predicted risks are exactly 0 or 1, whose log(-log(1 - risk)) is infinite" if certain else ""
    citl, flexible, flexible_reason = None, None, reason
    slope, slope_reason = (None, reason) if lp is None else _slope(t, e, lp, z, level)
    if not certain:
        cloglog = np.log(-np.log1p(-p))
        citl = _in_the_large(t, e, cloglog, horizon, z, level)
        flexible, flexible_reason = _flexible(t, e, p, cloglog, horizon, by_horizon, level)
        if lp is None:
            slope, slope_reason = _slope(t, e, cloglog, z, level)
    return SurvivalCalibration(
        horizon,
        len(t),
        by_horizon,
        at_risk,
        expected,
        observed,
        o_e,
        citl,
        reason,
        slope,
        slope_reason,
        calibration_groups(t, e, p, horizon, groups, conf, level),
        flexible,
        flexible_reason,
    )


def calibration_groups(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizon: float,
    groups: int = 5,
    conf: ConfidenceKind = "log",
    level: float = 0.95,
) -> SurvivalGroups:
    """Observed and predicted risk at a horizon in groups of predicted risk, cut at its quantiles (type 7).

    Where many patients share a risk, groups merge and fewer come back.

    >>> g = calibration_groups([1, 2, 3, 4], [1, 1, 0, 1], [0.9, 0.8, 0.2, 0.1], horizon=2.5, groups=2)
    >>> g.predicted, g.observed
    (array([0.15, 0.85]), array([0., 1.]))
    """
    t, e = check_survival(time, event)
    p = as_probabilities(risk, len(t), name="risk")
    horizon = check_horizon(horizon)
    if groups < 1 or groups > len(t):
        raise InvalidInputError(f"groups must lie between 1 and the {len(t)} patients, got {groups}")
    inner = np.quantile(p, np.arange(1, groups) / groups)
    edges = np.unique(inner[inner < p.max()])
    code = np.searchsorted(edges, p, side="left")
    used = np.unique(code)
    rows = [code == k for k in used]
    observed = [_observed(t[r], e[r], horizon, conf, level) for r in rows]
    return SurvivalGroups(
        np.array([int(r.sum()) for r in rows]),
        np.array([int(np.sum(t[r] >= horizon)) for r in rows]),
        np.array([float(p[r].mean()) for r in rows]),
        np.array([o.value for o in observed]),
        np.array([o.low for o in observed]),
        np.array([o.high for o in observed]),
        edges,
    )


def _observed(time: Floats, event: Bools, horizon: float, conf: ConfidenceKind, level: float) -> Estimate:
    """One minus Kaplan-Meier at the horizon; NaN where follow-up ends before it."""
    if not event.any():
        value = 0.0 if time.max() >= horizon else float("nan")
        return Estimate(value, value, value, value, level)
    km = kaplan_meier(time, event, conf=conf, level=level)
    low, high = km.interval_at(horizon)
    value, se = km.at(horizon)[0], km.se_at(horizon)[0]
    return Estimate(float(1 - value), float(se), float(1 - high[0]), float(1 - low[0]), level)


def _in_the_large(time: Floats, event: Bools, offset: Floats, horizon: float, z: float, level: float) -> Estimate:
    baseline = baseline_hazard(offset, time, event)
    index = int(np.searchsorted(baseline.times, horizon, side="right")) - 1
    hazard, variance = baseline.cumulative_hazard[index], baseline.variance[index]
    value, se = float(np.log(hazard)), float(np.sqrt(variance) / hazard)
    return Estimate(value, se, value - z * se, value + z * se, level)


def _slope(time: Floats, event: Bools, lp: ArrayLike, z: float, level: float) -> tuple[Estimate | None, str]:
    x = np.asarray(lp)
    try:
        fit = fit_cox(x[:, None] if x.ndim == 1 else x, time, event)
    except NotEstimableError as error:
        return None, error.what
    if len(fit.coef) != 1:
        raise InvalidInputError(f"lp must have shape ({len(time)},), got {x.shape}")
    value, se = float(fit.coef[0]), float(np.sqrt(fit.covariance[0, 0]))
    return Estimate(value, se, value - z * se, value + z * se, level), ""


def _flexible(
    time: Floats, event: Bools, risk: Floats, cloglog: Floats, horizon: float, events: int, level: float
) -> tuple[SurvivalCurve | None, str]:
    """Cox model with a 3-knot restricted cubic spline of log(-log(1 - risk)), read at the horizon."""
    if events < MINIMUM:
        return None, f"{events} events by {horizon:g}: a smooth curve and its ICI need at least {MINIMUM}"
    if time.max() < horizon:
        return None, f"follow-up ends at {time.max():g}, before the horizon"
    try:
        knots = rcs_knots(cloglog, 3)
        fit = fit_cox(rcs_basis(cloglog, knots), time, event)
    except NotEstimableError as error:
        return None, error.what
    distance = np.abs(1 - survival(fit, fit.lp, [horizon])[:, 0] - risk)
    first, last = np.quantile(risk, [0.01, 0.99])
    grid = np.linspace(float(first), float(last), _GRID)
    curve = survival_interval(fit, rcs_basis(np.log(-np.log1p(-grid)), knots), [horizon], level)
    e50, e90 = np.quantile(distance, [0.5, 0.9])
    return SurvivalCurve(
        grid,
        1 - curve.survival[:, 0],
        1 - curve.high[:, 0],
        1 - curve.low[:, 0],
        float(distance.mean()),
        float(e50),
        float(e90),
        float(distance.max()),
        knots,
    ), ""
