"""Do the hazard ratios of a Cox model hold over time? Schoenfeld residuals and the score test of `cox.zph`.

The test adds x * g(t) to the fitted model and asks, by the exact score test, whether its coefficient is 0
(`survival::cox.zph` since version 3.0; Grambsch and Therneau 1994 is its one-step approximation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2 as chi_square

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.evaluation.survival import Floats, check_survival
from osml.stats.cox import fit_cox
from osml.stats.cox_risk_sets import Likelihood, RiskSets, Ties, evaluate, information, risk_sets
from osml.stats.inputs import design_array, vector

Transform = Literal["km", "identity", "rank", "log"]


@dataclass(frozen=True)
class SchoenfeldResiduals:
    """Residuals of each event, in the order of the event times.

    Attributes
    ----------
    times : float array (d,)
        Event times, ties repeated.
    rows : int array (d,)
        Row of the patient of each event.
    raw : float array (d, p)
        Covariates of the patient minus their weighted mean over the patients at risk.
    scaled : float array (d, p)
        d * covariance * raw + coef: their trend over time shows how a log hazard ratio changes.
    """

    times: Floats
    rows: np.ndarray
    raw: Floats
    scaled: Floats


@dataclass(frozen=True)
class ProportionalHazards:
    """Test of proportional hazards.

    Attributes
    ----------
    terms : tuple of str
    chi2, df, p : arrays (terms,)
        Each term alone.
    global_chi2, global_df, global_p
        All terms together.
    transform : str
        Of time.
    transformed : float array (d,)
        g(t) of each event, the horizontal axis of a residual plot.
    residuals : SchoenfeldResiduals
    """

    terms: tuple[str, ...]
    chi2: Floats
    df: np.ndarray
    p: Floats
    global_chi2: float
    global_df: int
    global_p: float
    transform: Transform
    transformed: Floats
    residuals: SchoenfeldResiduals


def proportional_hazards(
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    terms: Mapping[str, Sequence[int]] | None = None,
    transform: Transform = "km",
    coef: ArrayLike | None = None,
    ties: Ties = "efron",
) -> ProportionalHazards:
    """Test whether the hazard ratios of a Cox model change with time, `survival::cox.zph`.

    Parameters
    ----------
    X : float array (n, p)
        Columns of the model.
    time, event : arrays (n,)
        Times > 0; event True or 1.
    terms : mapping of name to column positions, optional
        Columns of one term (a factor, a spline) are tested together. By default each column is a term, "0", "1", ...
    transform : {"km", "identity", "rank", "log"}
        g(t): 1 - Kaplan-Meier just before t (the default of R: robust to outlying times), t, its rank among all
        follow-up times, or log t.
    coef : float array (p,), optional
        Coefficients of the unpenalised fit to these data; fitted here by default. A coefficient vector that is not the
        maximum is refused: the test would mix lack of fit with change over time.
    ties : {"efron", "breslow"}

    Raises
    ------
    NotEstimableError
        One distinct event time, or an information matrix without an inverse.

    Examples
    --------
    >>> x = [[1.0], [0], [1], [0], [0], [1], [0], [1]]
    >>> test = proportional_hazards(x, [2, 3, 3, 5, 7, 8, 9, 11], [1, 1, 1, 0, 1, 1, 1, 1], transform="identity")
    >>> test.df, bool(0 < test.global_p < 1)
    (array([1]), True)
    """
    x = design_array(X)
    t, e = check_survival(time, event)
    sets, at, beta, covariance = _at_maximum(x, t, e, coef, ties)
    groups = _terms(terms, x.shape[1])
    died = np.flatnonzero(sets.died > 0)
    death_times = sets.times[sets.tied_row[died]]
    g = _transform(death_times, t, e, transform)
    if np.ptp(g) <= 0:
        raise NotEstimableError(f"all {len(g)} events share one time: a change over time cannot be seen")
    g = (g - g.mean()) / np.ptp(g)
    raw = _residuals(sets, at, x[sets.order])
    score = g @ raw
    g_terms = g[np.searchsorted(death_times, sets.times)][sets.term_time]
    centred = x[sets.order] - x.mean(axis=0)
    lp = centred @ beta
    level, slope, curve = (_weighted_information(sets, centred, lp, g_terms**k) for k in (0, 1, 2))
    statistics, sizes = [], []
    for columns in [*groups.values(), list(range(x.shape[1]))]:
        statistics.append(_score_statistic(score[columns], level, slope[:, columns], curve[np.ix_(columns, columns)]))
        sizes.append(len(columns))
    values, df = np.array(statistics), np.array(sizes)
    p = np.asarray(chi_square.sf(values, df), dtype=np.float64)
    scaled = len(raw) * raw @ covariance + beta
    return ProportionalHazards(
        tuple(groups),
        values[:-1],
        df[:-1],
        p[:-1],
        float(values[-1]),
        int(df[-1]),
        float(p[-1]),
        transform,
        _transform(death_times, t, e, transform),
        SchoenfeldResiduals(death_times, sets.order[died], raw, scaled),
    )


def schoenfeld_residuals(
    X: ArrayLike, time: ArrayLike, event: ArrayLike, coef: ArrayLike | None = None, ties: Ties = "efron"
) -> SchoenfeldResiduals:
    """Raw and scaled Schoenfeld residuals of a Cox model, `residuals(fit, "schoenfeld")` and `"scaledsch"`.

    >>> r = schoenfeld_residuals([[1.0], [0], [1], [0]], [1, 2, 3, 4], [1, 1, 0, 1])
    >>> bool(abs(r.raw.sum()) < 1e-9)
    True
    """
    x = design_array(X)
    t, e = check_survival(time, event)
    sets, at, beta, covariance = _at_maximum(x, t, e, coef, ties)
    died = np.flatnonzero(sets.died > 0)
    raw = _residuals(sets, at, x[sets.order])
    scaled = len(raw) * raw @ covariance + beta
    return SchoenfeldResiduals(sets.times[sets.tied_row[died]], sets.order[died], raw, scaled)


def _at_maximum(
    x: Floats, time: Floats, event: np.ndarray, coef: ArrayLike | None, ties: Ties
) -> tuple[RiskSets, Likelihood, Floats, Floats]:
    """Risk sets, likelihood, coefficients and their covariance at the maximum of the partial likelihood."""
    if len(x) != len(time):
        raise InvalidInputError(f"X has {len(x)} rows but time has {len(time)}")
    beta = fit_cox(x, time, event, ties=ties).coef if coef is None else vector(coef, "coef", x.shape[1])
    sets = risk_sets(time, event.astype(float), np.ones(len(time)), ties)
    rows = x[sets.order]
    at = evaluate(sets, rows, rows @ beta)
    spread = np.maximum(x.std(axis=0), np.finfo(float).tiny)
    gradient = np.abs(rows.T @ at.residual) / spread
    if gradient.max(initial=0.0) > 1e-4 * np.sqrt(event.sum()):
        raise InvalidInputError(
            f"coef is not the maximum of the partial likelihood (largest standardised gradient {gradient.max():.2g})",
            do="Leave coef out, or pass the unpenalised fit to the same patients and ties.",
        )
    centred = rows - x.mean(axis=0)
    fisher = _weighted_information(sets, centred, centred @ beta, np.ones(len(sets.term_time)))
    try:
        covariance = np.asarray(np.linalg.inv(fisher), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise NotEstimableError("the information matrix is singular: drop constant or dependent columns") from None
    return sets, at, beta, covariance


def _residuals(sets: RiskSets, at: Likelihood, rows: Floats) -> Floats:
    """Covariates of each event minus the risk-set mean, averaged over the Efron terms of its time, (d, p)."""
    counts = np.bincount(sets.term_time, minlength=len(sets.times))
    total = np.add.reduceat(at.mean, np.cumsum(counts) - counts, axis=0)
    mean = total / counts[:, None]
    died = np.flatnonzero(sets.died > 0)
    return rows[died] - mean[sets.tied_row[died]]


def _weighted_information(sets: RiskSets, rows: Floats, lp: Floats, weights: Floats) -> Floats:
    """Sum over the terms of the partial likelihood of weight * covariance of x in the risk set, (p, p)."""
    weighted = replace(sets, term_count=sets.term_count * weights)
    return information(weighted, rows, evaluate(weighted, rows, lp))


def _score_statistic(score: Floats, level: Floats, slope: Floats, curve: Floats) -> float:
    """Score test of the added columns: score' (I_gg - I_gx I_xx^-1 I_xg)^-1 score."""
    adjusted = curve - slope.T @ np.linalg.solve(level, slope)
    scale = np.sqrt(np.diag(curve))
    if np.any(scale <= 0) or np.linalg.matrix_rank(adjusted / np.outer(scale, scale), tol=1e-10) < len(score):
        raise NotEstimableError("a covariate does not vary among those at risk at enough event times to be tested")
    return float(score @ np.linalg.solve(adjusted, score))


def _terms(terms: Mapping[str, Sequence[int]] | None, p: int) -> dict[str, list[int]]:
    if terms is None:
        return {str(j): [j] for j in range(p)}
    columns = [j for group in terms.values() for j in group]
    if sorted(columns) != list(range(p)):
        raise InvalidInputError(f"terms must name each of the {p} columns once, got {dict(terms)}")
    return {name: list(group) for name, group in terms.items()}


def _transform(death_times: Floats, time: Floats, event: np.ndarray, transform: Transform) -> Floats:
    if transform == "identity":
        return death_times
    if transform == "log":
        return np.log(death_times)
    if transform == "rank":
        ordered = np.sort(time)
        below, to = (np.searchsorted(ordered, death_times, side=side) for side in ("left", "right"))
        return (below + to + 1) / 2
    if transform == "km":
        km = kaplan_meier(time, event)
        before = np.concatenate([[1.0], km.survival])[np.searchsorted(km.times, death_times, side="left")]
        return 1 - before
    raise InvalidInputError(f"transform must be 'km', 'identity', 'rank' or 'log', got {transform!r}")
