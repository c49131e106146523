"""Selection of radiomics features inside a training set: each step leaves fewer columns, and says which.

complete -> variance -> stability (ICC) -> correlation (Spearman) -> mRMR -> lasso. Everything here is learnt from
the rows given, so a fold or a bootstrap replicate repeats the whole chain by calling `select` with its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.cohort.cohort import BinaryOutcome, EventOutcome
from osml.cohort.splits import stratified
from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.lasso import lasso_path
from osml.stats.lasso_cox import LassoCoxCV, lasso_cox_cv, lasso_cox_path
from osml.stats.lasso_cv import LassoCV, lasso_cv
from osml.stats.mrmr import mrmr, relevance
from osml.stats.newton import standardise
from osml.stats.redundancy import uncorrelated

Float = NDArray[np.float64]
FEWEST_REREAD = 10  # patients below whom an ICC says next to nothing
SMALLEST_RELATIVE_SD = 1e-10
# lambda_max down to a thousandth of it, 19 % apart: below, 20 features are as good as unpenalised.
_LAMBDAS = np.logspace(0.0, -3.0, 40)
_COX_LAMBDAS = np.logspace(0.0, -2.0, 40)  # below that, few events are ordered perfectly and coefficients run away


@dataclass(frozen=True)
class SelectionRecipe:
    """What each step keeps.

    correlation : of two features with |Spearman's rho| above it, the more stable (higher ICC) stays; without ICC, or at
        equal ICC, the more relevant alone (F or Cox score statistic)
    mrmr : number of features that minimum redundancy, maximum relevance leaves, at most
    lasso : penalty with the lowest cross-validated deviance, or the largest within one standard error of it
    icc : which intraclass correlation between readings; None: no stability step, readings are not looked at
    icc_min : features below it, or without ICC, leave
    inner_folds : folds of the cross-validation of lambda, patients whole, stratified by the event
    """

    correlation: float = 0.9
    mrmr: int = 20
    lasso: Literal["min", "1se"] = "min"
    icc: Literal["2,1", "3,1"] | None = None
    icc_min: float = 0.75
    inner_folds: int = 5


@dataclass(frozen=True)
class Step:
    """Columns of the feature table that a step left, in increasing order (mrmr: in the order chosen)."""

    name: str
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """The lasso over the mRMR features: coefficients against log lambda, and cross-validated deviance.

    columns : the mRMR features (q,), as positions in the feature table
    lambdas : float array (m,), decreasing
    coefficients : float array (m, q), per standard deviation
    deviance, deviance_se : float array (m,), per patient (Cox: per event), held out; standard error over folds
    lambda_min, lambda_1se : float
    chosen : position in `lambdas` that the recipe's rule took
    """

    columns: tuple[int, ...]
    lambdas: Float
    coefficients: Float
    deviance: Float
    deviance_se: Float
    lambda_min: float
    lambda_1se: float
    chosen: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON form with the features' names; `names` are those of the whole feature table."""
        return {
            "columns": [names[j] for j in self.columns],
            "lambdas": self.lambdas.tolist(),
            "coefficients": self.coefficients.tolist(),
            "deviance": self.deviance.tolist(),
            "deviance_se": self.deviance_se.tolist(),
            "lambda_min": self.lambda_min,
            "lambda_1se": self.lambda_1se,
            "chosen": self.chosen,
        }


@dataclass(frozen=True)
class Selection:
    """Features that were selected, the score they make, and every step on the way.

    steps : candidates, complete, variance, [stability,] correlation, mrmr, lasso
    columns : tuple of int (s,)
        Increasing positions in the feature table; empty where the lasso's penalty left none, and then the score is the
        intercept for everybody.
    centre, scale : float arrays (s,), training mean and population standard deviation
    coefficients : float array (s,), per standard deviation: log odds or log hazard ratios
    intercept : float, log odds of a patient at `centre`; 0 for Cox
    path : Path
    icc : float array (p,) or None
        NaN for features that had left before the stability step, or do not vary.
    reread : patients with every reading; 0 without stability step
    """

    steps: tuple[Step, ...]
    columns: tuple[int, ...]
    centre: Float
    scale: Float
    coefficients: Float
    intercept: float
    path: Path
    icc: Float | None
    reread: int

    def usable(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Rows (n,) in which every selected feature exists (is finite); the others cannot be scored."""
        return np.all(np.isfinite(self._selected(x)), axis=1)

    def standardised(self, x: ArrayLike) -> Float:
        """Selected features of new rows in training standard deviations, float array (n, s); NaN stays NaN."""
        return (self._selected(x) - self.centre) / self.scale

    def score(self, x: ArrayLike) -> Float:
        """Linear predictor of new rows, float array (n,); NaN where a selected feature is missing."""
        return self.intercept + self.standardised(x) @ self.coefficients

    def _selected(self, x: ArrayLike) -> Float:
        table = np.asarray(x, dtype=np.float64)
        p = len(self.steps[0].kept)
        if table.ndim != 2 or table.shape[1] != p:
            raise InvalidInputError(f"features must have shape (rows, {p}) as in training, got {table.shape}")
        return table[:, list(self.columns)]


def select(
    x: ArrayLike,
    outcome: EventOutcome,
    recipe: SelectionRecipe,
    *,
    groups: Sequence[str] | NDArray[np.generic],
    readers: ArrayLike | None = None,
    seed: int | np.random.SeedSequence,
) -> Selection:
    """Run the chain on training rows.

    A feature that is NaN in any row (a texture that a thin ring does not have) leaves at `complete`; one whose standard
    deviation is at most 1e-10 of its largest absolute value leaves at `variance`. Lambda is chosen by cross-validation
    of the last step alone, as published radiomics studies do: the held-out deviance of `path` has seen the mRMR
    features chosen and is optimistic. It ranks penalties; a score is judged on patients outside the rows given.

    Parameters
    ----------
    x : float array (n, p)
        One row per unit; NaN = the feature does not exist; infinite values are refused.
    outcome : BinaryOutcome or SurvivalOutcome of the n units
    groups : patient of each row (n,); rows (and resampled copies) of a patient share an inner fold
    readers : float array (n, p) or (n, p, k), optional
        Further readings of the same units, same features; a row (or reading) of NaN where there was none. ICCs are from
        the rows with every reading; a feature that lacks a value in one of these leaves.
    seed : int or SeedSequence
        Of the inner folds, the only random step.

    Raises
    ------
    NotEstimableError
        Fewer than 10 re-read patients, a step that leaves no feature before the lasso, or an inner fold without both
        classes (Cox: without event).
    InvalidInputError
        Shapes that differ, infinite values, ICC asked for without readings.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(size=(80, 6))
    >>> x[:, 5] = 2 * x[:, 0] + 0.5 * rng.normal(size=80)
    >>> y = (x[:, 0] - x[:, 1] + rng.normal(size=80) > 0).astype(float)
    >>> found = select(x, BinaryOutcome(y, "bad", "good"), SelectionRecipe(lasso="1se"), groups=range(80), seed=1)
    >>> [(step.name, len(step.kept)) for step in found.steps]
    [('candidates', 6), ('complete', 6), ('variance', 6), ('correlation', 5), ('mrmr', 5), ('lasso', 2)]
    >>> found.columns
    (0, 1)
    """
    table, patients = _table(x), np.asarray(groups)
    n, p = table.shape
    if len(outcome.event) != n or patients.shape != (n,):
        raise InvalidInputError(f"{n} rows of features, {len(outcome.event)} outcomes, groups of {patients.shape}")
    columns = np.arange(p)
    steps = [_step("candidates", columns, "the feature table has no column")]
    columns = columns[~np.isnan(table).any(axis=0)]
    steps.append(_step("complete", columns, f"each of {p} features is missing in some patient"))
    columns = columns[_varies(table[:, columns])]
    steps.append(_step("variance", columns, "no feature that every patient has varies"))
    stability: Float | None = None
    reread = 0
    if recipe.icc is not None:
        found, reread = _stability(table, readers, columns, recipe.icc, patients)
        stability = np.full(p, np.nan)
        stability[columns] = found
        columns = columns[found >= recipe.icc_min]
        steps.append(
            _step("stability", columns, f"no feature reaches ICC({recipe.icc}) {recipe.icc_min:g} in {reread} patients")
        )
    target = outcome.y if isinstance(outcome, BinaryOutcome) else (outcome.time, outcome.event)
    worth = relevance(table[:, columns], target)
    order = worth if stability is None else np.column_stack([stability[columns], worth])
    left = list(uncorrelated(table[:, columns], order, recipe.correlation))
    columns, worth = columns[left], worth[left]
    steps.append(_step("correlation", columns))
    columns = columns[list(mrmr(table[:, columns], worth, recipe.mrmr).columns)]
    steps.append(_step("mrmr", columns))
    folds = _inner_folds(outcome, patients, recipe.inner_folds, seed)
    path, centre, scale, coefficients, intercept = _lasso(table[:, columns], outcome, folds, recipe.lasso, columns)
    kept = np.flatnonzero(coefficients)
    kept = kept[np.argsort(columns[kept])]
    steps.append(_step("lasso", columns[kept]))
    return Selection(
        steps=tuple(steps),
        columns=steps[-1].kept,
        centre=centre[kept],
        scale=scale[kept],
        coefficients=coefficients[kept],
        intercept=intercept,
        path=path,
        icc=stability,
        reread=reread,
    )


def _table(x: ArrayLike) -> Float:
    table = np.asarray(x, dtype=np.float64)
    if table.ndim != 2 or len(table) == 0:
        raise InvalidInputError(f"features must have two dimensions (rows, features) and rows, got {table.shape}")
    if np.isinf(table).any():
        columns = np.flatnonzero(np.isinf(table).any(axis=0))
        raise InvalidInputError(
            f"{len(columns)} features hold infinite values (columns {columns[:10].tolist()})",
            do="Extract them again, or give NaN where a feature does not exist.",
        )
    return table


def _step(name: str, columns: NDArray[np.intp], none: str = "") -> Step:
    if none and len(columns) == 0:
        raise NotEstimableError(f"no feature is left after step {name!r}: {none}")
    return Step(name, tuple(columns.tolist()))


def _varies(table: Float) -> NDArray[np.bool_]:
    return table.std(axis=0) > SMALLEST_RELATIVE_SD * np.abs(table).max(axis=0, initial=0.0)


def _stability(
    table: Float,
    readers: ArrayLike | None,
    columns: NDArray[np.intp],
    model: Literal["2,1", "3,1"],
    patients: NDArray[np.generic],
) -> tuple[Float, int]:
    """ICC of each of `columns`, NaN where a re-read row lacks it, and how many patients were read every time."""
    # Here, because it loads scipy.stats, which a server that only scores does not need.
    from osml.stats.icc import icc_features

    if readers is None:
        raise InvalidInputError(
            "an ICC is asked for, but there is no second reading", do="Give the readings, or set `icc` to none."
        )
    second = np.asarray(readers, dtype=np.float64)
    second = second[:, :, None] if second.ndim == 2 else second
    if second.ndim != 3 or second.shape[:2] != table.shape:
        raise InvalidInputError(f"the readings have shape {second.shape}, the features {table.shape}")
    second = second[:, columns]
    read = ~np.any(np.all(np.isnan(second), axis=1), axis=1)
    reread = len(np.unique(patients[read]))
    if reread < FEWEST_REREAD:
        raise NotEstimableError(
            f"{reread} of {len(np.unique(patients))} training patients were read again; an ICC needs {FEWEST_REREAD}",
            why="With fewer, its confidence interval covers almost everything.",
            do="Re-read more patients, use fewer folds, or leave the stability step out.",
        )
    value = np.full(len(columns), np.nan)
    again = second[read]
    both = ~np.isnan(again).any(axis=(0, 2))
    value[both] = icc_features(table[read][:, columns[both]], again[:, both], model).value
    return value, reread


def _inner_folds(
    outcome: EventOutcome, patients: NDArray[np.generic], folds: int, seed: int | np.random.SeedSequence
) -> NDArray[np.intp]:
    """Inner fold of each row, patients whole, stratified by whether any of their rows has the event."""
    ids, first, position = np.unique(patients, return_index=True, return_inverse=True)
    # In the order of the rows, not of the names, so that renaming patients changes nothing.
    rank = np.empty(len(ids), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(ids))
    position = rank[position]
    event = np.zeros(len(ids), dtype=np.intp)
    np.maximum.at(event, position, outcome.event.astype(np.intp))
    return stratified(event, min(folds, len(ids)), np.random.default_rng(seed))[position]


def _lasso(
    x: Float, outcome: EventOutcome, folds: NDArray[np.intp], rule: Literal["min", "1se"], columns: NDArray[np.intp]
) -> tuple[Path, Float, Float, Float, float]:
    """Path over the mRMR features, their mean and SD, and coefficients and intercept at the chosen lambda."""
    z, centre, scale = standardise(x, np.ones(len(x)))
    cv: LassoCV | LassoCoxCV
    if isinstance(outcome, BinaryOutcome):
        top = lasso_path(z, outcome.y, "binomial", n_lambdas=1).lambda_max
        cv = lasso_cv(z, outcome.y, folds, "binomial", top * _LAMBDAS)
        intercepts = cv.path.intercepts
    else:
        top = lasso_cox_path(z, outcome.time, outcome.event, n_lambdas=1).lambda_max
        cv = lasso_cox_cv(z, outcome.time, outcome.event, folds, top * _COX_LAMBDAS)
        intercepts = np.zeros(len(_COX_LAMBDAS))
    chosen = cv.index_min if rule == "min" else cv.index_1se
    path = Path(
        columns=tuple(columns.tolist()),
        lambdas=cv.path.lambdas,
        coefficients=cv.path.coefs,
        deviance=cv.mean,
        deviance_se=cv.se,
        lambda_min=cv.lambda_min,
        lambda_1se=cv.lambda_1se,
        chosen=chosen,
    )
    return path, centre, scale, cv.path.coefs[chosen], float(intercepts[chosen])
