"""Selection of terms by p-value or AIC: replications of common practice, not recommendations.

A term is a group of columns (a spline, a category) that stays or leaves as one. Whoever selects must repeat the
selection inside every resample; p-values after it are too small.

Sources: Lawless & Singhal 1978 (Biometrics 34:318) and R `rms::fastbw` for backward elimination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import CoxFit, fit_cox
from osml.stats.inference import LRTest, lr_test, wald_test
from osml.stats.inputs import Array, design_array
from osml.stats.logistic import LogisticFit, fit_logistic
from osml.stats.tails import chi2_sf

Groups = Sequence[Sequence[int]]
Outcome = ArrayLike | tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Univariable:
    """Tests of each term alone, and the terms that enter.

    kept : positions of `groups` with p below `p_enter`, in order
    columns : their columns of X
    tests : one LRTest per term
    """

    kept: tuple[int, ...]
    columns: tuple[int, ...]
    tests: tuple[LRTest, ...]

    @property
    def p_values(self) -> Array:
        """One per term, float array."""
        return np.array([test.p_value for test in self.tests])


@dataclass(frozen=True)
class Elimination:
    """One term that left: its own Wald test given those gone before, and the joint test of all gone so far."""

    group: int
    test: LRTest
    residual: LRTest

    @property
    def aic(self) -> float:
        """Joint chi-square minus twice its degrees of freedom."""
        return self.residual.statistic - 2.0 * self.residual.df


@dataclass(frozen=True)
class Backward:
    """Terms that stay, in their given order, their columns, and the steps that removed the others."""

    kept: tuple[int, ...]
    columns: tuple[int, ...]
    removed: tuple[Elimination, ...]


def select_univariable(
    groups: Groups,
    X: ArrayLike,
    outcome: Outcome,
    p_enter: float = 0.1,
    *,
    test: Literal["lr", "wald"] = "lr",
    weights: ArrayLike | None = None,
) -> Univariable:
    """Fit every term alone and keep those with p below `p_enter`.

    Parameters
    ----------
    groups : sequence of column index sequences, one per term
    X : float array (n, p)
    outcome : bool or 0/1 array (n,), or the tuple (time, event)
        Logistic regression, or Cox regression with Efron's ties.
    test : 'lr' or 'wald'
    weights : array (n,), optional
        Frequency weights.

    Raises
    ------
    NotEstimableError
        A term has no finite estimate alone; the message names its position in `groups`.

    >>> X = np.array([[0.0, 1], [1, 0], [2, 1], [3, 1], [4, 0], [5, 0]])
    >>> select_univariable([[0], [1]], X, [0, 0, 1, 0, 1, 1]).kept
    (0,)
    """
    X = design_array(X)
    groups = _checked(groups, X.shape[1])
    if not 0 < p_enter <= 1:
        raise InvalidInputError(f"p_enter must lie in (0, 1], got {p_enter!r}")
    if test not in ("lr", "wald"):
        raise InvalidInputError(f"test must be 'lr' or 'wald', got {test!r}")
    tests = []
    for position, group in enumerate(groups):
        try:
            fit = _fit(X[:, group], outcome, weights)
        except NotEstimableError as error:
            raise type(error)(f"term {position}: {error.what}", why=error.why, do=error.do) from error
        tests.append(lr_test(fit) if test == "lr" else wald_test(fit, range(len(group))))
    kept = tuple(k for k, found in enumerate(tests) if found.p_value < p_enter)
    return Univariable(kept, tuple(j for k in kept for j in groups[k]), tuple(tests))


def select_backward(
    groups: Groups,
    fit: LogisticFit | CoxFit,
    *,
    rule: Literal["aic", "p"] = "aic",
    p_stay: float = 0.05,
    stop_on: Literal["individual", "residual"] = "individual",
) -> Backward:
    """Backward elimination by the approximation of Lawless and Singhal, as `rms::fastbw`: no model is refitted.

    The weakest term (largest p, or smallest chi-square - 2 df) leaves while the stopping rule allows: its own test, or
    under 'residual' the joint test of it and all terms gone before, has p > p_stay (rule 'p') or chi-square - 2 df <= 0
    (rule 'aic'). Refit the terms that stay: approximate coefficients are not returned.

    Parameters
    ----------
    groups : sequence of column index sequences
        Terms that may leave; columns in no group stay.
    fit : LogisticFit or CoxFit
        The full model, unpenalised; frequency weights are part of it.
    rule : 'aic' or 'p'
    p_stay : float
        `sls` of fastbw.
    stop_on : 'individual' or 'residual'
        `type` of fastbw, whose default is 'residual'.

    >>> X = np.array([[0.0, 1], [1, 0], [2, 1], [3, 1], [4, 0], [5, 0], [2, 0], [3, 0]])
    >>> select_backward([[0], [1]], fit_logistic(X, [0, 0, 1, 0, 1, 1, 0, 1])).kept
    ()
    """
    p = len(fit.coef)
    groups = _checked(groups, p)
    if rule not in ("aic", "p") or stop_on not in ("residual", "individual") or not 0 < p_stay <= 1:
        raise InvalidInputError(f"unknown rule {rule!r}, stop_on {stop_on!r} or p_stay {p_stay!r} outside (0, 1]")
    left, removed = list(range(len(groups))), []
    gone: list[int] = []
    while left:
        tests = [_given(fit, groups[k], gone) for k in left]
        weakness = [t.p_value if rule == "p" else 2.0 * t.df - t.statistic for t in tests]
        # Where p underflows to 0 for several terms the chi-square still tells them apart.
        at = max(range(len(left)), key=lambda i: (weakness[i], -tests[i].statistic))
        candidate = left[at]
        step = Elimination(candidate, tests[at], wald_test(fit, gone + groups[candidate]))
        stopping = step.residual if stop_on == "residual" else step.test
        leaves = stopping.p_value > p_stay if rule == "p" else stopping.statistic - 2.0 * stopping.df <= 0
        if not leaves:
            break
        removed.append(step)
        gone += groups[candidate]
        left.pop(at)
    return Backward(tuple(left), tuple(j for j in range(p) if j not in set(gone)), tuple(removed))


def _given(fit: LogisticFit | CoxFit, group: list[int], gone: list[int]) -> LRTest:
    """Wald test of a term when the coefficients of the columns gone are held at 0."""
    if not gone:
        return wald_test(fit, group)
    total, before = wald_test(fit, gone + group), wald_test(fit, gone)
    statistic = max(total.statistic - before.statistic, 0.0)
    return LRTest(statistic, len(group), chi2_sf(statistic, len(group)))


def _fit(X: Array, outcome: Outcome, weights: ArrayLike | None) -> LogisticFit | CoxFit:
    if isinstance(outcome, tuple):
        if len(outcome) != 2:
            raise InvalidInputError(f"a survival outcome is the tuple (time, event), got {len(outcome)} parts")
        return fit_cox(X, outcome[0], outcome[1], weights=weights)
    return fit_logistic(X, outcome, weights=weights)


def _checked(groups: Groups, p: int) -> list[list[int]]:
    out = [[int(j) for j in group] for group in groups]
    flat = [j for group in out for j in group]
    if any(not group for group in out) or len(set(flat)) < len(flat) or any(not 0 <= j < p for j in flat):
        raise InvalidInputError(f"groups must be disjoint, non-empty sets of the columns 0..{p - 1}, got {out}")
    return out
