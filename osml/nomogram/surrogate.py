"""A nomogram that approximates a model which is not additive; its fidelity is on the page, a poor one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.build import build
from osml.nomogram.spec import FloatArray, LogisticOutcome, Predictor
from osml.stats.terms import LinearModel, Term, design_columns, design_matrix

MIN_R2 = 0.9


@dataclass(frozen=True)
class Fidelity:
    """How well a surrogate follows its model.

    `r2` on the logit; `mean_error` and `max_error` of the probability; `slope` and `intercept` of the model's logit
    regressed on the surrogate's; `rows` patients looked at.
    """

    r2: float
    mean_error: float
    max_error: float
    slope: float
    intercept: float
    rows: int


def surrogate(
    predict: Callable[[Mapping[str, FloatArray]], ArrayLike],
    values: Mapping[str, ArrayLike],
    terms: Sequence[Term],
    predictors: Sequence[Predictor],
    outcome: LogisticOutcome,
    *,
    of: str,
    check: Mapping[str, ArrayLike] | None = None,
    min_r2: float = MIN_R2,
    metadata: Mapping[str, Any] | None = None,
) -> tuple[Nomogram, Fidelity]:
    """Fit an additive model to another model's probabilities by least squares on the logit, and draw that.

    Parameters
    ----------
    predict : function
        Maps values to probabilities, float array (n,). Probabilities are kept 1/(2n) away from 0 and 1.
    values : mapping of arrays (n,)
        Patients on which the surrogate is fitted: the training patients.
    terms : sequence of Term
        What the surrogate may use.
    of : str
        Name of the model, printed: "random forest".
    check : mapping of arrays, optional
        Patients on which fidelity is measured; those in `values` otherwise.
    min_r2 : float
        Least R2 on the logit.

    Raises
    ------
    NotEstimableError
        R2 is below `min_r2`: the nomogram would show another model.
    """
    by_name = {p.name: p for p in predictors}
    x = _encoded(values, by_name)
    n = len(next(iter(x.values())))
    target = _logit(_predicted(predict, x), n)
    A = np.column_stack([np.ones(n), design_matrix(terms, x)])
    solution, _, rank, _ = np.linalg.lstsq(A, target, rcond=None)
    if rank < A.shape[1]:
        raise InvalidInputError(
            f"the {A.shape[1]} columns of the surrogate have rank {rank} on these {n} patients",
            do=f"Remove redundant terms among: {', '.join(design_columns(terms))}.",
        )
    model = LinearModel(tuple(terms), np.asarray(solution[1:], dtype=np.float64), float(solution[0]))
    seen = x if check is None else _encoded(check, by_name)
    fidelity = _fidelity(model, seen, _predicted(predict, seen), n)
    if not fidelity.r2 >= min_r2:
        raise NotEstimableError(
            f"an additive nomogram follows the {of} with R² {fidelity.r2:.3f} on the logit, below {min_r2}",
            why=f"Its probabilities differ by {fidelity.mean_error:.3f} on average and up to {fidelity.max_error:.3f}.",
            do="Use the model through software, or enter its score as one axis of a fitted nomogram.",
        )
    about = {**(metadata or {}), "surrogate": {"of": of, **asdict(fidelity)}}
    return build(model, predictors, outcome, metadata=about, training=x), fidelity


def _encoded(values: Mapping[str, ArrayLike], predictors: Mapping[str, Predictor]) -> dict[str, FloatArray]:
    out = {}
    for name in predictors:
        if name not in values:
            raise InvalidInputError(f"input {name!r} is missing from the values")
        array = np.asarray(values[name], dtype=np.float64)
        if array.ndim != 1 or not np.all(np.isfinite(array)):
            raise InvalidInputError(f"input {name!r}: expected finite numbers or level positions, one per patient")
        out[name] = array
    return out


def _predicted(predict: Callable[[Mapping[str, FloatArray]], ArrayLike], x: Mapping[str, FloatArray]) -> FloatArray:
    n = len(next(iter(x.values())))
    p = np.asarray(predict(x), dtype=np.float64)
    if p.shape != (n,) or not np.all((p >= 0) & (p <= 1)):
        raise InvalidInputError(f"predict must give {n} probabilities, got an array of shape {p.shape}")
    return p


def _logit(p: FloatArray, n: int) -> FloatArray:
    clipped = np.clip(p, 0.5 / n, 1 - 0.5 / n)
    return np.log(clipped) - np.log1p(-clipped)


def _fidelity(model: LinearModel, x: Mapping[str, FloatArray], p: FloatArray, n: int) -> Fidelity:
    lp, target = model.lp(x), _logit(p, n)
    spread = float(np.sum((target - target.mean()) ** 2))
    if spread == 0 or np.ptp(lp) == 0:
        raise NotEstimableError("the model or its surrogate gives every patient the same probability")
    slope, intercept = np.polyfit(lp, target, 1)
    error = np.abs(1 / (1 + np.exp(-lp)) - p)
    return Fidelity(
        1 - float(np.sum((target - lp) ** 2)) / spread,
        float(error.mean()),
        float(error.max()),
        float(slope),
        float(intercept),
        len(p),
    )
