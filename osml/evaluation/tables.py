"""Univariable and multivariable regression tables: odds ratios (logistic) or hazard ratios (Cox, Efron ties).

Wald and likelihood-ratio tests and intervals as R's glm, confint and coxph. Screening by univariable p-values is
offered because published tables do it; `SCREENING_CAUTION` is printed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.table_one import format_p
from osml.stats.cox import CoxFit, fit_cox
from osml.stats.inference import lr_test, variance_inflation, wald, wald_test
from osml.stats.logistic import LogisticFit, fit_logistic
from osml.stats.profile import profile_interval
from osml.stats.terms import Interaction, Term, Values, design_matrix

Array = NDArray[np.float64]
Test = Literal["lr", "wald"]

SCREENING_CAUTION = (
    "Variables entered by their univariable p-value. Screening misleads: it drops variables that matter only together, "
    "keeps chance findings, and makes the multivariable coefficients too large and their p-values and intervals too "
    "narrow. Read it beside the full or penalised model, and never as evidence that a dropped variable has no effect."
)


@dataclass(frozen=True)
class RegressionRow:
    """One coefficient; the term it belongs to is tested as a whole.

    Parameters
    ----------
    term : str
        Input of the term, or inputs joined by " * ".
    column : str
        Design column (`race=black`, `age'`); "(Intercept)" for the intercept.
    coef, se, z, p : float
        Log ratio, its standard error, Wald z and two-sided p.
    ratio, low, high : float
        Odds or hazard ratio with its Wald interval; of the intercept: the odds.
    profile_low, profile_high : float
        Profile likelihood interval of an odds ratio; NaN for hazard ratios, or where not asked for.
    lr_statistic, lr_df, lr_p : float, int, float
        Likelihood-ratio test of the whole term; NaN and 0 for the intercept.
    reason : str
        Why the numbers are NaN, when the model of this term does not exist.
    """

    term: str
    column: str
    coef: float
    se: float
    z: float
    p: float
    ratio: float
    low: float
    high: float
    profile_low: float
    profile_high: float
    lr_statistic: float
    lr_df: int
    lr_p: float
    reason: str = ""


@dataclass(frozen=True)
class RegressionTable:
    """Regression coefficients of one model, or of one model per term (`kind` "univariable").

    intercepts : tuple of RegressionRow
        One per logistic model, in the order of the models; empty for Cox.
    log_likelihood, aic, bic : float
        Of the multivariable model; NaN for univariable tables. Cox: partial; bic counts events.
    vif : tuple of float
        Variance inflation factor of every row of a multivariable table.
    note : str
        To be printed underneath.
    """

    kind: Literal["univariable", "multivariable"]
    measure: Literal["OR", "HR"]
    rows: tuple[RegressionRow, ...]
    intercepts: tuple[RegressionRow, ...]
    n: float
    events: float
    level: float
    log_likelihood: float
    aic: float
    bic: float
    vif: tuple[float, ...]
    note: str

    def to_frame(self) -> pd.DataFrame:
        """Text table ready for `to_csv(index=False)`; `note` belongs printed under it."""
        percent = f"{100 * self.level:g}%"
        lines = []
        for row in self.rows:
            line = {"Variable": row.column, self.measure: _number(row.ratio)}
            line[f"{percent} CI (Wald)"] = _interval(row.low, row.high)
            if self.measure == "OR":
                line[f"{percent} CI (profile)"] = _interval(row.profile_low, row.profile_high)
            line["p (Wald)"] = format_p(row.p)
            line["p (LR, whole term)"] = format_p(row.lr_p)
            line["Remark"] = row.reason
            lines.append(line)
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        return f"{self.to_frame().to_string(index=False)}\n\n{self.note}"


@dataclass(frozen=True)
class Screening:
    """Univariable table, terms that entered, and the multivariable table of these (None when none entered).

    `full` is the multivariable table of all terms; None when not estimable, `full_reason` then says why.
    """

    univariable: RegressionTable
    entered: tuple[Term, ...]
    multivariable: RegressionTable | None
    full: RegressionTable | None
    full_reason: str
    p_enter: float
    caution: str


def univariable(
    terms: Sequence[Term],
    values: Values,
    *,
    y: ArrayLike | None = None,
    time: ArrayLike | None = None,
    event: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    profile: bool = True,
) -> RegressionTable:
    """One model per term.

    Parameters
    ----------
    terms : sequence of Term
        Interactions are refused: they have no univariable model.
    values : mapping of float array (n,)
        Complete; patients are rows. NaN is refused.
    y : bool or 0/1 array (n,)
        Logistic regression; or
    time, event : float array (n,), bool or 0/1 array (n,)
        Cox regression.
    weights : float array (n,), optional
        Frequency weights.
    profile : bool
        Profile likelihood intervals of odds ratios, some twenty fits per coefficient.

    Returns
    -------
    RegressionTable
        A term whose model does not exist (a separating level) has NaN and its `reason`; so has n when none exists.

    Examples
    --------
    >>> from osml.stats.terms import Linear
    >>> x = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    >>> table = univariable([Linear("x")], {"x": x}, y=[0, 0, 1, 0, 1, 0, 1, 1])
    >>> [(row.column, round(row.ratio, 2), round(row.lr_p, 3)) for row in table.rows]
    [('x', 1.81, 0.104)]
    """
    return _univariable(_checked(terms), _data(values, y, time, event, weights, level, profile))


def multivariable(
    terms: Sequence[Term],
    values: Values,
    *,
    y: ArrayLike | None = None,
    time: ArrayLike | None = None,
    event: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    profile: bool = True,
) -> RegressionTable:
    """One model of all terms; parameters as `univariable`. The likelihood-ratio test leaves each term out in turn.

    A main effect that an interaction of the model contains is not tested on its own (NaN).

    Raises
    ------
    NotEstimableError
        The model does not exist on these data (separation, collinear columns).

    Examples
    --------
    >>> from osml.stats.terms import Category, Linear
    >>> values = {"x": np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), "sex": np.array([0.0, 1, 0, 1, 0, 0, 1, 1])}
    >>> table = multivariable([Linear("x"), Category("sex", ("f", "m"))], values, y=[0, 0, 1, 0, 1, 0, 1, 1])
    >>> [(row.column, round(row.ratio, 2)) for row in table.rows]
    [('x', 1.94), ('sex=m', 0.37)]
    """
    return _multivariable(_checked(terms), _data(values, y, time, event, weights, level, profile))


def screened(
    terms: Sequence[Term],
    values: Values,
    *,
    y: ArrayLike | None = None,
    time: ArrayLike | None = None,
    event: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    profile: bool = True,
    p_enter: float = 0.1,
    test: Test = "lr",
) -> Screening:
    """Univariable tests, then one model of the terms with p below `p_enter`; parameters as `univariable`.

    Replicates published analyses; not a recommendation: `caution` says why, and `full` is the model to set beside it.

    Parameters
    ----------
    p_enter : float
        A term enters as a whole when its univariable p is below this.
    test : "lr" or "wald"
        Likelihood-ratio, or joint Wald test of the term. A term whose univariable model does not exist stays out.

    Examples
    --------
    >>> from osml.stats.terms import Linear
    >>> values = {"x": np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), "noise": np.array([3.0, 1, 4, 1, 5, 9, 2, 6])}
    >>> result = screened([Linear("x"), Linear("noise")], values, y=[0, 0, 1, 0, 1, 0, 1, 1], p_enter=0.2)
    >>> [term.input for term in result.entered]
    ['x']
    """
    if not 0 < p_enter <= 1:
        raise InvalidInputError(f"p_enter must lie above 0 and not above 1, got {p_enter}")
    if test not in ("lr", "wald"):
        raise InvalidInputError(f"unknown test {test!r}", do="Allowed: 'lr', 'wald'.")
    chosen, data = _checked(terms), _data(values, y, time, event, weights, level, profile)
    first = _univariable(chosen, data)
    entered = tuple(term for term in chosen if _entry_p(term, data, test) < p_enter)
    second = _multivariable(entered, data) if entered else None
    full, reason = None, ""
    try:
        full = _multivariable(chosen, data)
    except NotEstimableError as error:
        reason = error.what
    return Screening(first, entered, second, full, reason, p_enter, SCREENING_CAUTION)


@dataclass(frozen=True)
class _Data:
    """The patients, their outcome (y, or time and event), and how one design is fitted to them."""

    values: Values
    outcome: tuple[ArrayLike, ...]
    weights: ArrayLike | None
    level: float
    profile: bool

    @property
    def measure(self) -> Literal["OR", "HR"]:
        return "OR" if len(self.outcome) == 1 else "HR"

    def fit(self, X: Array) -> LogisticFit | CoxFit:
        if len(self.outcome) == 1:
            return fit_logistic(X, self.outcome[0], weights=self.weights)
        return fit_cox(X, *self.outcome, weights=self.weights)

    def limits(self, X: Array, j: int | None) -> tuple[float, float]:
        if not self.profile or len(self.outcome) != 1:
            return nan, nan
        interval = profile_interval(X, self.outcome[0], j, self.level, weights=self.weights)
        return exp(interval.low), exp(interval.high)


def _data(
    values: Values,
    y: ArrayLike | None,
    time: ArrayLike | None,
    event: ArrayLike | None,
    weights: ArrayLike | None,
    level: float,
    profile: bool,
) -> _Data:
    outcome = tuple(v for v in (y, time, event) if v is not None)
    if len(outcome) != (2 if y is None else 1):
        raise InvalidInputError("give either `y` (logistic) or both `time` and `event` (Cox)")
    return _Data(values, outcome, weights, level, profile)


def _univariable(terms: Sequence[Term], data: _Data) -> RegressionTable:
    rows: list[RegressionRow] = []
    intercepts: list[RegressionRow] = []
    n = events = nan
    for term in terms:
        if isinstance(term, Interaction):
            raise InvalidInputError(f"the interaction {_name(term)} has no univariable model")
        try:
            fit, own, intercept = _model([term], data)
        except NotEstimableError as error:
            rows.extend(_not_estimable(term, column, error.what) for column in term.columns)
            continue
        n, events = fit.n, fit.events
        rows.extend(own)
        intercepts.extend(intercept)
    note = f"One model per variable; n = {n:g}, {events:g} events."
    return RegressionTable(
        "univariable", data.measure, tuple(rows), tuple(intercepts), n, events, data.level, nan, nan, nan, (), note
    )


def _multivariable(terms: Sequence[Term], data: _Data) -> RegressionTable:
    fit, rows, intercept = _model(terms, data)
    k = len(fit.coef)
    bic = fit.bic if isinstance(fit, LogisticFit) else -2 * fit.log_likelihood + log(fit.events) * k
    return RegressionTable(
        "multivariable", data.measure, tuple(rows), tuple(intercept), fit.n, fit.events, data.level,
        fit.log_likelihood, fit.aic, bic, tuple(variance_inflation(fit).tolist()),
        f"One model of {k} coefficients; n = {fit.n:g}, {fit.events:g} events.",
    )  # fmt: skip


def _model(terms: Sequence[Term], data: _Data) -> tuple[LogisticFit | CoxFit, list[RegressionRow], list[RegressionRow]]:
    X = design_matrix(terms, data.values)
    fit = data.fit(X)
    tests = wald(fit, data.level)
    shift = len(tests.estimate) - len(fit.coef)

    def row(term: str, column: str, k: int, lr: tuple[float, int, float]) -> RegressionRow:
        estimate, low, high = (float(v[k]) for v in (tests.estimate, tests.low, tests.high))
        z, p = float(tests.z[k]), float(tests.p_value[k])
        wald_part = (estimate, float(tests.se[k]), z, p, exp(estimate), exp(low), exp(high))
        profile_low, profile_high = data.limits(X, None if k < shift else k - shift)
        return RegressionRow(term, column, *wald_part, profile_low, profile_high, lr[0], lr[1], lr[2])

    rows = []
    start = 0
    for i, term in enumerate(terms):
        if any(isinstance(o, Interaction) and term in (o.first, o.second) for o in terms):
            lr = (nan, len(term.columns), nan)
        else:
            rest = [*terms[:i], *terms[i + 1 :]]
            reduced = data.fit(design_matrix(rest, data.values)) if rest else None
            result = lr_test(fit, reduced)
            lr = (result.statistic, result.df, result.p_value)
        for k, column in enumerate(term.columns):
            rows.append(row(_name(term), column, shift + start + k, lr))
        start += len(term.columns)
    return fit, rows, [row("", "(Intercept)", 0, (nan, 0, nan))] if shift else []


def _entry_p(term: Term, data: _Data, test: Test) -> float:
    try:
        fit = data.fit(design_matrix([term], data.values))
        return (lr_test(fit) if test == "lr" else wald_test(fit, range(len(fit.coef)))).p_value
    except NotEstimableError:
        return nan


def _checked(terms: Sequence[Term]) -> list[Term]:
    if not terms:
        raise InvalidInputError("no terms: give at least one")
    doubled = sorted({_name(t) for t in terms if list(terms).count(t) > 1})
    if doubled:
        raise InvalidInputError(f"terms given twice: {', '.join(doubled)}")
    return list(terms)


def _name(term: Term) -> str:
    return " * ".join(term.inputs)


def _not_estimable(term: Term, column: str, reason: str) -> RegressionRow:
    wald_part, limits = (nan, nan, nan, nan, nan, nan, nan), (nan, nan)
    return RegressionRow(_name(term), column, *wald_part, *limits, nan, len(term.columns), nan, reason)


def _number(x: float) -> str:
    if not np.isfinite(x):
        return "–"
    return f"{x:.3g}" if x < 0.1 or x >= 1000 else f"{x:.2f}" if abs(x - 1) >= 0.1 else f"{x:.3f}"


def _interval(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"{_number(low)} to {_number(high)}"
