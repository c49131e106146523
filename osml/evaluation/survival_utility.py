"""Is acting on the predicted risk worth it? Net benefit at a horizon for survival outcomes.

Among the patients at or above a threshold, Kaplan-Meier gives the share who have the event by the horizon (Vickers et
al. 2008, BMC Med Inform Decis Mak 8:53). The thresholds belong to a stated decision and are fixed before fitting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, FIXED, resample_patients
from osml.evaluation.inputs import as_groups, as_probabilities
from osml.evaluation.survival import Bools, Floats, Ints, check_horizon, check_survival
from osml.stats.inputs import confidence_level, vector


@dataclass(frozen=True)
class SurvivalDecisionCurve:
    """Net benefit at one horizon. Float arrays have one entry per threshold (T,).

    Attributes
    ----------
    horizon : float
    risk : float
        One minus Kaplan-Meier of all patients at the horizon: the largest net benefit there is.
    thresholds : float array
        Risk from which one would act; the action is taken when risk >= threshold.
    treated : float array
        Share of patients acted on.
    model, treat_all, treat_none : float array
        Net benefit in true positives per patient. NaN where `reasons` says why.
    standardised : float array
        `model` / `risk`: 1 is the most that any model reaches.
    interventions_avoided : float array
        Per 100 patients, net, against treating all.
    reasons : tuple of str
        Why a threshold has no value; "" elsewhere.
    """

    horizon: float
    risk: float
    thresholds: Floats
    treated: Floats
    model: Floats
    treat_all: Floats
    treat_none: Floats
    standardised: Floats
    interventions_avoided: Floats
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SurvivalDecisionBand:
    """Pointwise bootstrap limits, arrays (T,), of the model's net benefit and of its gain over treating all.

    `failed` counts, per threshold, the replicates of `replicates` without a value: the drawn patients at or above the
    threshold were not followed to the horizon. Where they are more than one in ten the limits are NaN.
    """

    thresholds: Floats
    low: Floats
    high: Floats
    gain_low: Floats
    gain_high: Floats
    failed: np.ndarray
    replicates: int
    level: float
    kind: str


def net_benefit_at(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, thresholds: ArrayLike
) -> SurvivalDecisionCurve:
    """Net benefit of acting on predicted risk, of treating all and of treating none.

    Parameters
    ----------
    time, event : arrays (n,)
        Times > 0; event True or 1. No competing events: Kaplan-Meier would overstate the risk.
    risk : float array (n,)
        Held-out probability of the event by the horizon.
    horizon : float
        In the unit of the times.
    thresholds : float array (T,)
        Strictly between 0 and 1.

    Raises
    ------
    NotEstimableError
        No event by the horizon, or nobody followed to it. A threshold whose treated patients are not followed to the
        horizon has NaN and a reason instead.

    Examples
    --------
    >>> time, event = [1, 2, 3, 4, 5, 6], [1, 0, 1, 1, 0, 1]
    >>> curve = net_benefit_at(time, event, [0.9, 0.3, 0.6, 0.2, 0.4, 0.1], horizon=3.5, thresholds=[0.25, 0.5])
    >>> curve.model.round(4), curve.treat_all.round(4)
    (array([0.3333, 0.3333]), array([ 0.1667, -0.25  ]))
    """
    t, e, p, cuts, _ = _prepared(time, event, risk, horizon, thresholds)
    n, odds, once = len(t), cuts / (1 - cuts), np.ones((1, len(t)))
    overall = _survival(t, e, horizon, once)[0]
    if np.isnan(overall):
        raise NotEstimableError(
            f"not estimable at {horizon:g}: follow-up ends at {t.max():g}", do="Choose an earlier horizon."
        )
    by_replicate, treated = _net_benefit(t, e, p, horizon, cuts, once)
    model, treat_all = by_replicate[0], _weigh(1.0, overall, odds)
    reasons = tuple(
        f"the {share * n:.0f} patients at or above {cut:g} are not followed to {horizon:g}" if np.isnan(value) else ""
        for cut, share, value in zip(cuts, treated[0], model, strict=True)
    )
    return SurvivalDecisionCurve(
        horizon,
        float(1 - overall),
        cuts,
        treated[0],
        model,
        treat_all,
        np.zeros(len(cuts)),
        model / (1 - overall),
        100 * (model - treat_all) / odds,
        reasons,
    )


def net_benefit_band_at(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizon: float,
    thresholds: ArrayLike,
    B: int,
    seed: int | np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    fixed_model: bool = False,
) -> SurvivalDecisionBand:
    """Percentile limits of net benefit at a horizon by drawing patients with replacement.

    Parameters
    ----------
    time, event, risk, horizon, thresholds
        As in `net_benefit_at`.
    B : int
        Replicates, each O(n T).
    seed : int or Generator
    groups : array (n,), optional
        Patient of each row; all rows of a patient are drawn together. Default: one row per patient.
    fixed_model : bool
        True only for one model fitted to other patients; else the limits leave out the variation of the fitting, and
        `kind` says so.

    Examples
    --------
    >>> time = np.arange(1, 41)
    >>> band = net_benefit_band_at(time, time % 3 > 0, time * 7 % 40 / 40, 20, [0.4], B=100, seed=1)
    >>> bool(band.low[0] < band.high[0]), int(band.failed[0])
    (True, 0)
    """
    t, e, p, cuts, order = _prepared(time, event, risk, horizon, thresholds)
    confidence_level(level)
    counts = resample_patients(np.arange(len(t)) if groups is None else as_groups(groups, len(t)), B, seed)
    drawn = counts[:, order].astype(np.float64)
    model, _ = _net_benefit(t, e, p, horizon, cuts, drawn)
    gain = model - _weigh(1.0, _survival(t, e, horizon, drawn)[:, None], cuts / (1 - cuts))
    low, high = _limits(model, level)
    gain_low, gain_high = _limits(gain, level)
    failed = np.isnan(gain).sum(axis=0)
    return SurvivalDecisionBand(
        cuts, low, high, gain_low, gain_high, failed, B, level, FIXED if fixed_model else CONDITIONAL
    )


def net_benefit_batch_at(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, thresholds: ArrayLike, weights: ArrayLike
) -> Floats:
    """Net benefit at a horizon under B weightings of the rows, float array (B, T); NaN where it does not exist.

    Integer weights equal repeating the rows: `net_benefit_at` on each. For paired differences of two predictors under
    the same resamples.

    >>> time, event, risk = [1, 2, 3, 4, 5, 6], [1, 0, 1, 1, 0, 1], [0.9, 0.3, 0.6, 0.2, 0.4, 0.1]
    >>> net_benefit_batch_at(time, event, risk, 3.5, [0.25, 0.5], np.ones((1, 6))).round(4)
    array([[0.3333, 0.3333]])
    """
    t, e, p, cuts, order = _prepared(time, event, risk, horizon, thresholds)
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != len(t) or not np.isfinite(w).all() or (w < 0).any():
        raise InvalidInputError(f"weights have shape {w.shape}; expected (B, {len(t)}), finite and not negative")
    return _net_benefit(t, e, p, horizon, cuts, w[:, order])[0]


def _prepared(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, thresholds: ArrayLike
) -> tuple[Floats, Bools, Floats, Floats, Ints]:
    """Checked times, events and risks sorted by time, the thresholds, and the order of the rows."""
    t, e = check_survival(time, event)
    p = as_probabilities(risk, len(t), name="risk")
    check_horizon(horizon)
    cuts = vector(np.atleast_1d(np.asarray(thresholds)), "thresholds")
    if len(cuts) == 0 or np.any((cuts <= 0) | (cuts >= 1)):
        raise InvalidInputError(
            f"thresholds must lie strictly between 0 and 1, got {cuts.tolist()[:5]}",
            do="Give risks, for example 0.05 to 0.5.",
        )
    if not np.any(e & (t <= horizon)):
        raise NotEstimableError(f"not estimable at {horizon:g}: no event by then among {len(t)} patients")
    order = np.argsort(t, kind="stable")
    return t[order], e[order], p[order], cuts, order


def _limits(values: Floats, level: float) -> tuple[Floats, Floats]:
    """Percentile limits of each column; NaN where more than one replicate in ten has no value."""
    enough = np.isnan(values).mean(axis=0) <= 0.1
    limits = np.full((2, values.shape[1]), np.nan)
    if enough.any():
        limits[:, enough] = np.nanquantile(values[:, enough], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return limits[0], limits[1]


def _net_benefit(
    time: Floats, event: Bools, risk: Floats, horizon: float, cuts: Floats, counts: Floats
) -> tuple[Floats, Floats]:
    """Net benefit and treated share of each replicate and threshold, (B, k) each; NaN where not estimable."""
    total = counts.sum(axis=1)
    model, treated = np.empty((len(counts), len(cuts))), np.empty((len(counts), len(cuts)))
    for k, cut in enumerate(cuts):
        positive = risk >= cut
        weights = counts[:, positive]
        treated[:, k] = weights.sum(axis=1) / total
        survival = _survival(time[positive], event[positive], horizon, weights)
        value = _weigh(treated[:, k], survival, cut / (1 - cut))
        model[:, k] = np.where(treated[:, k] > 0, value, 0.0)
    return model, treated


def _weigh(treated: float | Floats, survival: float | Floats, odds: float | Floats) -> Floats:
    return np.asarray(treated * ((1 - survival) - survival * odds), dtype=np.float64)


def _survival(time: Floats, event: Bools, horizon: float, counts: Floats) -> Floats:
    """Kaplan-Meier at the horizon of each replicate (B,), rows sorted by time; NaN where nobody reaches the horizon."""
    if len(time) == 0:
        return np.full(len(counts), np.nan)
    leaving = np.cumsum(counts, axis=1)
    followed = (
        leaving[:, -1]
        - np.concatenate([np.zeros((len(counts), 1)), leaving], axis=1)[:, np.searchsorted(time, horizon, side="left")]
    )
    rows = np.flatnonzero(event & (time <= horizon))
    if len(rows) == 0:
        return np.where(followed > 0, 1.0, np.nan)
    first = np.flatnonzero(np.concatenate([[True], np.diff(time[rows]) > 0]))
    start = np.searchsorted(time, time[rows[first]], side="left")
    died = np.add.reduceat(counts[:, rows], first, axis=1)
    before = np.where(start > 0, leaving[:, start - 1], 0.0)
    at_risk = leaving[:, -1:] - before
    steps = 1 - np.divide(died, at_risk, out=np.zeros_like(died), where=at_risk > 0)
    survival = np.prod(steps, axis=1)
    return np.where((followed > 0) | (survival == 0), survival, np.nan)
