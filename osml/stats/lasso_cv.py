"""Choice of the lasso penalty by cross-validation over folds that the caller made, patients whole.

Source: Friedman, Hastie & Tibshirani 2010 (JSS 33:1), section 2.5; R `cv.glmnet(foldid =, type.measure =)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import Array, design_array, fold_ids, frequency_weights, vector
from osml.stats.lasso import Family, LassoPath, lasso_path

Measure = Literal["deviance", "auc"]
_PROBABILITY_FLOOR = 1e-5


@dataclass(frozen=True)
class LassoCV:
    """Cross-validated lasso: the path on all rows, and how each penalty did on held-out rows.

    path : LassoPath
    measure : 'deviance' (lower is better; gaussian: squared error) or 'auc'
    mean, se : float array (m,), over folds weighted by their size
    index_min : the best mean, at the larger lambda of ties
    index_1se : the largest lambda within one standard error of the best
    """

    path: LassoPath
    measure: Measure
    mean: Array
    se: Array
    index_min: int
    index_1se: int

    @property
    def lambda_min(self) -> float:
        """Penalty with the best mean."""
        return float(self.path.lambdas[self.index_min])

    @property
    def lambda_1se(self) -> float:
        """Largest penalty within one standard error of the best."""
        return float(self.path.lambdas[self.index_1se])

    def coefficients(self, rule: Literal["min", "1se"] = "min") -> tuple[float, Array]:
        """Intercept and coefficients (p,) at the chosen penalty."""
        if rule not in ("min", "1se"):
            raise InvalidInputError(f"rule must be 'min' or '1se', got {rule!r}")
        at = self.index_min if rule == "min" else self.index_1se
        return float(self.path.intercepts[at]), self.path.coefs[at]


def lasso_cv(
    X: ArrayLike,
    y: ArrayLike,
    folds: ArrayLike,
    family: Family = "gaussian",
    lambdas: ArrayLike | None = None,
    n_lambdas: int = 100,
    weights: ArrayLike | None = None,
    measure: Measure = "deviance",
) -> LassoCV:
    """Cross-validate the lasso path.

    Every fold is fitted at the lambdas of the path on all rows; standardisation is learnt inside the fold.

    Parameters
    ----------
    X, y, family, lambdas, n_lambdas, weights
        As in `lasso_path`.
    folds : int array (n,)
        Fold in which each row is held out. All rows of a patient must share one.
    measure : 'deviance' or 'auc'
        'auc' is for binary outcomes, within folds, ties one half; every fold needs both classes.

    Raises
    ------
    NotEstimableError
        A fold whose training rows hold one class, or 'auc' with a held-out fold of one class.

    >>> X = np.array([[1.0, 0], [2, 1], [3, 0], [4, 1], [5, 1], [6, 0]])
    >>> cv = lasso_cv(X, [1.0, 2, 2, 4, 5, 5], [0, 1, 2, 0, 1, 2], lambdas=[1.0, 0.1])
    >>> cv.mean.round(4).tolist(), cv.lambda_min
    ([1.2826, 0.3765], 0.1)
    """
    X = design_array(X)
    n = len(X)
    fold, w = fold_ids(folds, n), frequency_weights(weights, n)
    target = vector(y, "y", n)
    if measure not in ("deviance", "auc") or (measure == "auc" and family != "binomial"):
        raise InvalidInputError(f"measure {measure!r} does not fit family {family!r}", do="'auc' needs 'binomial'.")
    path = lasso_path(X, target, family, lambdas, n_lambdas, weights)
    kept = [k for k in range(int(fold.max()) + 1) if np.any(w[fold == k] > 0)]
    if len(kept) < 2:
        raise InvalidInputError("fewer than two folds hold rows of positive weight")
    scores, sizes = [], []
    for k in kept:
        held = (fold == k) & (w > 0)
        fit = lasso_path(X[~held], target[~held], family, path.lambdas, weights=w[~held])
        scores.append(_score(fit.lp(X[held]), target[held], w[held], family, measure, k))
        sizes.append(w[held].sum())
    raw, size = np.array(scores), np.array(sizes) / np.sum(sizes)
    mean = size @ raw
    se = np.sqrt(size @ (raw - mean) ** 2 / (len(kept) - 1))
    loss = -mean if measure == "auc" else mean
    best = int(np.argmin(loss))
    within = int(np.flatnonzero(loss <= loss[best] + se[best])[0])
    return LassoCV(path, measure, mean, se, best, within)


def _score(lp: Array, y: Array, w: Array, family: Family, measure: Measure, fold: int) -> Array:
    if measure == "auc":
        if y.min() == y.max():
            raise NotEstimableError(
                f"fold {fold} holds one class only, so it has no AUC", do="Stratify the folds, or use 'deviance'."
            )
        return np.array([_auc(y, column, w) for column in lp.T])
    share = w / w.sum()
    if family == "gaussian":
        return share @ (y[:, None] - lp) ** 2
    p = np.clip(1.0 / (1.0 + np.exp(-np.clip(lp, -700, 700))), _PROBABILITY_FLOOR, 1.0 - _PROBABILITY_FLOOR)
    return -2.0 * (share @ np.log(np.where(y[:, None] > 0, p, 1.0 - p)))


def _auc(y: Array, score: Array, w: Array) -> float:
    """Weighted Mann-Whitney statistic, ties one half."""
    _, group = np.unique(score, return_inverse=True)
    events = np.bincount(group, weights=w * y)
    others = np.bincount(group, weights=w * (1.0 - y))
    below = np.cumsum(others) - others
    return float(events @ (below + 0.5 * others) / (events.sum() * others.sum()))
