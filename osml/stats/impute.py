"""Filling missing inputs by chained regressions, deterministic and without the outcome.

Each input is regressed on all others; missing values start at the mean (or most frequent level) and are replaced by
their prediction, in turn, a fixed number of times. What is fitted in training is stored, and the same equations fill
the training patients and a new patient. One conditional mean is filled in, not draws: intervals computed afterwards do
not know that a value was missing. Source: van Buuren 2007, Stat Methods Med Res 16:219 (fully conditional
specification), with regression predictions in place of draws.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError

Kind = Literal["number", "category"]
Method = Literal["regression", "median", "mode"]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_RIDGE = 1e-6
_FEW = 10
_PRIVATE = 5  # patients at or beyond a stored end of a range


@dataclass(frozen=True)
class Input:
    """What an input is: number or category with `levels` levels, and whether it is modelled as its logarithm."""

    name: str
    kind: Kind
    levels: int
    log: bool

    @property
    def width(self) -> int:
        """Design columns: 1 for a number, levels - 1 indicators for a category."""
        return 1 if self.kind == "number" else self.levels - 1


@dataclass(frozen=True)
class InputModel(Input):
    """How one input is filled.

    Parameters
    ----------
    method : str
        "regression" on the other inputs, or "median" / "mode" where too few patients had the value.
    observed : float
        Patients with the value in training (sum of weights).
    missing : float
        Patients without it in training.
    low, high : float
        A filled number stays inside: the fifth lowest and highest training value, rounded inwards, so that a stored
        model holds no patient's own extreme. Categories: lowest and highest level seen.
    start : float
        Value before the first regression: mean (geometric where `log`), or most frequent level.
    constant : float
        The median in training, rounded like `low`, or the most frequent level.
    centre, scale : float
        Of the standardised design column of a number; 0 and 1 for a category.
    seen : tuple of int
        Levels observed in training; only these are filled in. Empty for a number.
    intercept, coef : float arrays (t,), (t, q)
        Regression on the design columns of the other inputs: one target for a number, one per seen level of a category.
    """

    method: Method
    observed: float
    missing: float
    low: float
    high: float
    start: float
    constant: float
    centre: float
    scale: float
    seen: tuple[int, ...]
    intercept: Array
    coef: Array


@dataclass(frozen=True)
class Imputer:
    """Stored equations for every input, in the order in which they were given to `fit_imputer`."""

    models: tuple[InputModel, ...]
    iterations: int

    def apply(self, values: Mapping[str, ArrayLike]) -> tuple[dict[str, Array], dict[str, Mask]]:
        """Fill missing values.

        The result for one row depends on that row alone, to the last bit. A value is never changed where it is
        present, even outside the training range.

        Parameters
        ----------
        values : mapping of float array (n,)
            Every input of training, NaN where missing; categories are level positions.

        Returns
        -------
        filled : dict of float array (n,)
        imputed : dict of bool array (n,)
            True where a value was filled in.
        """
        arrays = _columns(values, self.models)
        imputed = {name: np.isnan(x) for name, x in arrays.items()}
        filled = {name: x.copy() for name, x in arrays.items()}
        rows = np.flatnonzero(np.any(list(imputed.values()), axis=0))
        if rows.size == 0:
            return filled, imputed
        part = {m.name: arrays[m.name][rows] for m in self.models}
        gaps = {name: np.flatnonzero(np.isnan(x)) for name, x in part.items()}
        blocks = {m.name: _block(m, np.where(np.isnan(part[m.name]), m.start, part[m.name])) for m in self.models}
        chained = [m for m in self.models if gaps[m.name].size]
        for _ in range(self.iterations):
            settled = True
            for m in chained:
                at = gaps[m.name]
                others = [column[at] for o in self.models if o.name != m.name for column in blocks[o.name]]
                value = _predict(m, others, len(at))
                settled &= np.array_equal(part[m.name][at], value)
                part[m.name][at] = value
                for column, new in zip(blocks[m.name], _block(m, value), strict=True):
                    column[at] = new
            if settled:
                break
        for m in chained:
            filled[m.name][rows] = part[m.name]
        return filled, imputed

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` gives back the same numbers to the last bit."""
        models = []
        for m in self.models:
            stored = {field.name: getattr(m, field.name) for field in fields(m)}
            models.append(stored | {"seen": list(m.seen), "intercept": m.intercept.tolist(), "coef": m.coef.tolist()})
        return {"iterations": self.iterations, "models": models}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Imputer:
        """Inverse of `to_dict`."""
        models = []
        for m in data["models"]:
            intercept, coef = (np.array(m[key], dtype=np.float64) for key in ("intercept", "coef"))
            # A list of no rows does not tell its width; such a model has no regression to use it.
            coef = coef.reshape(len(intercept), -1) if len(intercept) else np.empty((0, 0))
            models.append(InputModel(**(dict(m) | {"seen": tuple(m["seen"]), "intercept": intercept, "coef": coef})))
        return Imputer(tuple(models), int(data["iterations"]))


def fit_imputer(
    values: Mapping[str, ArrayLike],
    kinds: Mapping[str, Kind],
    levels: Mapping[str, int],
    *,
    log: Collection[str] = (),
    weights: ArrayLike | None = None,
    iterations: int = 10,
    equations: Literal["all", "incomplete"] = "all",
) -> Imputer:
    """Learn how to fill each input from the others.

    Numbers: least squares (a ridge of 1e-6 per patient on standardised columns keeps collinear inputs solvable),
    filled values kept inside the observed range. Categories: the same regression for the indicator of every observed
    level, and the level with the largest prediction (lowest position when equal). An input observed in fewer than 10
    patients, or fewer than twice the number of columns it would be regressed on, is filled with its median or most
    frequent level; its model says so. A model is stored for inputs complete in training too: they may be missing later.

    Parameters
    ----------
    values : mapping of float array (n,)
        Training patients, NaN where missing; categories are level positions 0..K-1. Never the outcome.
    kinds : mapping of "number" or "category"
        One for every input.
    levels : mapping of int
        Number of levels K of every category.
    log : collection of str
        Numbers modelled as their logarithm: all observed values must exceed 0, and so do the filled ones.
    weights : float array (n,), optional
        Frequency weights: weight 2 equals the row given twice; rows of weight 0 are left out.
    iterations : int
        Rounds of the chain, in training and in `apply`.
    equations : "all" or "incomplete"
        "incomplete" stores a regression only for inputs with missing values in training and the median or most
        frequent level for the others: enough, and several times faster, when only these patients are to be filled.

    Raises
    ------
    NotEstimableError
        An input is missing in every training patient.

    Examples
    --------
    >>> x = np.arange(20.0)
    >>> y = 2 * x + 1
    >>> y[7] = np.nan
    >>> imputer = fit_imputer({"x": x, "y": y}, {"x": "number", "y": "number"}, {})
    >>> filled, imputed = imputer.apply({"x": [7.0], "y": [np.nan]})
    >>> round(float(filled["y"][0]), 3), bool(imputed["y"][0])
    (15.0, True)
    """
    if not values:
        raise InvalidInputError("no inputs to impute")
    inputs = [_input(name, kinds, levels, log) for name in values]
    if unknown := sorted((set(kinds) | set(levels) | set(log)) - set(values)):
        raise InvalidInputError(f"no values for {', '.join(unknown)}", do=f"Given: {', '.join(sorted(values))}.")
    if isinstance(iterations, bool) or iterations != int(iterations) or iterations < 1:
        raise InvalidInputError(f"iterations must be a whole number of at least 1, got {iterations!r}")
    arrays = _columns(values, inputs)
    w = _weights(weights, len(next(iter(arrays.values()))))
    arrays, w = {name: x[w > 0] for name, x in arrays.items()}, w[w > 0]
    holes = {name: np.isnan(x) for name, x in arrays.items()}
    if empty := [name for name, hole in holes.items() if hole.all()]:
        raise NotEstimableError(
            f"no training patient has a value for {', '.join(empty)}: it cannot be imputed",
            do="Remove the input, or use a split in which some training patients have it.",
        )
    width = sum(i.width for i in inputs)
    described = [_describe(i, arrays[i.name], w, width - i.width) for i in inputs]

    design = np.empty((len(w), width))
    state, start = [], 0
    for m in described:
        x = np.where(holes[m.name], m.start, arrays[m.name])
        span = slice(start, start + m.width)
        start += m.width
        design[:, span] = np.column_stack(_block(m, x))
        # Only rows in which the input was observed are used as targets, so the filled start never enters.
        target = design[:, span].copy() if m.kind == "number" else (x[:, None] == np.array(m.seen)).astype(np.float64)
        state.append((span, ~holes[m.name], target))
    chained = [j for j, m in enumerate(described) if holes[m.name].any()]
    # One incomplete input depends on complete ones only: a second round would repeat the first.
    rounds = min(len(chained), 1) if len(chained) < 2 else iterations
    for _ in range(rounds):
        for j in chained:
            span, present, target = state[j]
            fitted = _regress(described[j], design, target, span, present, w)
            others = np.delete(design[~present], span, axis=1)
            design[~present, span] = np.column_stack(_block(fitted, _predict(fitted, list(others.T), len(others))))
    models = [
        _regress(m, design, target, span, present, w)
        if equations == "all" or holes[m.name].any()
        else replace(m, method="mode" if m.kind == "category" else "median")
        for m, (span, present, target) in zip(described, state, strict=True)
    ]
    return Imputer(tuple(models), int(iterations))


def _block(m: InputModel, x: Array) -> list[Array]:
    """Design columns of natural values: standardised number, or indicators of levels 1..K-1."""
    if m.kind == "category":
        return [(x == level).astype(np.float64) for level in range(1, m.levels)]
    return [((np.log(x) if m.log else x) - m.centre) / m.scale]


def _predict(m: InputModel, others: list[Array], n: int) -> Array:
    """Natural values from the design columns of the other inputs.

    Sums run column by column: a matrix product may round differently with the number of rows.
    """
    if m.method != "regression":
        return np.full(n, m.constant)
    scores = []
    for intercept, coef in zip(m.intercept, m.coef, strict=True):
        score = np.full(n, intercept)
        for b, column in zip(coef, others, strict=True):
            score += b * column
        scores.append(score)
    if m.kind == "category":
        return np.asarray(m.seen, dtype=np.float64)[np.argmax(scores, axis=0)]
    value = scores[0] * m.scale + m.centre
    return np.clip(np.exp(value) if m.log else value, m.low, m.high)


def _regress(m: InputModel, design: Array, target: Array, span: slice, present: Mask, w: Array) -> InputModel:
    if m.method != "regression":
        return m
    x, y, weight = np.delete(design[present], span, axis=1), target[present], w[present]
    total = weight.sum()
    mean_x, mean_y = weight @ x / total, weight @ y / total
    x, y = x - mean_x, y - mean_y
    weighted = (x * weight[:, None]).T
    gram = weighted @ x
    gram[np.diag_indices_from(gram)] += _RIDGE * total
    coef = np.linalg.solve(gram, weighted @ y).T
    return replace(m, intercept=mean_y - coef @ mean_x, coef=coef)


def _input(name: str, kinds: Mapping[str, Kind], levels: Mapping[str, int], log: Collection[str]) -> Input:
    kind = kinds.get(name)
    if kind not in ("number", "category"):
        raise InvalidInputError(f"input {name!r} has kind {kind!r}", do="Give 'number' or 'category' for every input.")
    if kind == "number":
        return Input(name, kind, 0, name in log)
    count = levels.get(name, 0)
    if isinstance(count, bool) or count != int(count) or count < 2:
        raise InvalidInputError(f"category {name!r} needs at least 2 levels, got {levels.get(name)!r}")
    if name in log:
        raise InvalidInputError(f"category {name!r} cannot be modelled as a logarithm")
    return Input(name, kind, int(count), False)


def _columns(values: Mapping[str, ArrayLike], inputs: Sequence[Input]) -> dict[str, Array]:
    """Checked arrays in the order of the inputs; NaN marks a missing value."""
    names = {i.name for i in inputs}
    if set(values) != names:
        absent, extra = sorted(names - set(values)), sorted(set(values) - names)
        raise InvalidInputError(
            "the inputs differ from those of the imputer:"
            + (f" missing {', '.join(absent)}" if absent else "")
            + (f" unknown {', '.join(extra)}" if extra else ""),
            do="Give every input, as NaN where a patient has no value.",
        )
    arrays: dict[str, Array] = {}
    for i in inputs:
        try:
            x = np.ascontiguousarray(values[i.name], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"input {i.name!r} must hold numbers (NaN where missing): {error}") from error
        if x.ndim != 1 or (arrays and len(x) != len(next(iter(arrays.values())))):
            raise InvalidInputError(f"input {i.name!r} has shape {x.shape}; all inputs need one value per patient")
        given = x[~np.isnan(x)]
        if np.any(np.isinf(given)):
            raise InvalidInputError(f"input {i.name!r} holds {int(np.isinf(given).sum())} infinite values")
        if i.log and np.any(given <= 0):
            raise InvalidInputError(
                f"input {i.name!r} is modelled as a logarithm but holds {int((given <= 0).sum())} values at or below 0",
                do="Correct the values, or do not give this input in `log`.",
            )
        if i.kind == "category" and np.any((given != np.round(given)) | (given < 0) | (given >= i.levels)):
            raise InvalidInputError(f"input {i.name!r} holds level positions outside 0..{i.levels - 1}")
        arrays[i.name] = x
    return arrays


def _weights(weights: ArrayLike | None, n: int) -> Array:
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not np.all(np.isfinite(w)) or np.any(w < 0):
        raise InvalidInputError(f"weights must be {n} finite numbers of at least 0, got shape {w.shape}")
    return w


def _describe(i: Input, x: Array, w: Array, predictors: int) -> InputModel:
    """All that is learnt about an input apart from its regression."""
    hole = np.isnan(x)
    given, weight = x[~hole], w[~hole]
    observed = float(weight.sum())
    few = observed < max(_FEW, 2 * predictors)
    method: Method = "regression"
    seen: tuple[int, ...] = ()
    centre, scale = 0.0, 1.0
    low, high = float(given.min()), float(given.max())
    if i.kind == "category":
        totals = np.bincount(given.astype(np.intp), weight, i.levels)
        seen = tuple(int(k) for k in np.flatnonzero(totals))
        start = constant = float(np.argmax(totals))
        if few or len(seen) == 1:
            method = "mode"
    else:
        z = np.log(given) if i.log else given
        centre = float(weight @ z / observed)
        # A spread of the order of rounding is none.
        sd = float(np.sqrt(weight @ (z - centre) ** 2 / observed))
        scale = sd if sd > 1e-12 * max(1e-300, float(np.abs(z).max())) else 1.0
        low, high, step = _range(given, weight)
        constant = float(np.clip(np.round(_median(given, weight) / step) * step, low, high))
        start = float(np.clip(np.exp(centre) if i.log else centre, low, high))
        if few:
            method = "median"
    return InputModel(
        i.name, i.kind, i.levels, i.log, method, observed, float(w[hole].sum()), low, high, start,
        constant, centre, scale, seen, np.empty(0), np.empty((0, 0)),
    )  # fmt: skip


def _range(x: Array, w: Array) -> tuple[float, float, float]:
    """Fifth lowest and fifth highest value, rounded inwards to a tenth of their distance or finer, and that step."""
    order = np.argsort(x, kind="stable")
    ordered, upto = x[order], np.cumsum(w[order])
    k = min(_PRIVATE, upto[-1] / 2)
    low, high = float(ordered[np.searchsorted(upto, k)]), float(ordered[np.searchsorted(upto, upto[-1] - k, side="right")])
    if not low < high:
        middle = float(f"{_median(x, w):.2g}")
        return middle, middle, max(abs(middle), 1.0) * 1e-2
    step = 10.0 ** np.floor(np.log10((high - low) / 10.0))
    inner = float(np.ceil(low / step) * step), float(np.floor(high / step) * step)
    if low > 0 and inner[0] <= 0:
        inner = low, inner[1]
    return (*inner, float(step)) if inner[0] < inner[1] else (low, high, float(step))


def _median(x: Array, w: Array) -> float:
    """Median of x with x[i] counted w[i] times."""
    order = np.argsort(x, kind="stable")
    x, below = x[order], np.cumsum(w[order])
    half = below[-1] / 2
    k = int(np.searchsorted(below, half))
    return float((x[k] + x[k + 1]) / 2) if below[k] == half else float(x[k])
