"""Model terms: how an input enters a linear predictor, shared by fitting, the nomogram and the exports.

A term maps named columns to design-matrix columns. A `LinearModel` is a list of terms with one coefficient per design
column: the deployed logistic or Cox model, whatever way it was fitted. Values are float arrays, one entry per unit
(patient or row); categories are level positions 0..K-1 with level 0 the reference. NaN is refused here: imputation
happens before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.stats.splines import rcs_basis

Values = Mapping[str, NDArray[np.float64]]


def _column(values: Values, name: str) -> NDArray[np.float64]:
    if name not in values:
        raise InvalidInputError(f"input {name!r} is missing from the values", do=f"Given: {', '.join(sorted(values))}.")
    x = np.atleast_1d(np.asarray(values[name], dtype=np.float64))
    if not np.all(np.isfinite(x)):
        raise InvalidInputError(f"input {name!r} holds {int((~np.isfinite(x)).sum())} non-finite values")
    return x


@dataclass(frozen=True)
class Linear:
    """x enters as itself."""

    input: str
    kind: ClassVar[str] = "linear"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.input,)

    def basis(self, values: Values) -> NDArray[np.float64]:
        """Design columns, float array (n, 1)."""
        return _column(values, self.input)[:, None]


@dataclass(frozen=True)
class Log:
    """x enters as its natural logarithm; values at or below zero are refused."""

    input: str
    kind: ClassVar[str] = "log"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"log({self.input})",)

    def basis(self, values: Values) -> NDArray[np.float64]:
        """Design columns, float array (n, 1)."""
        x = _column(values, self.input)
        if np.any(x <= 0):
            raise InvalidInputError(
                f"input {self.input!r} enters as a logarithm but holds {int((x <= 0).sum())} values at or below 0",
                do="Use `linear` or `{rcs: k}` for this input, or correct the values.",
            )
        return np.log(x)[:, None]


@dataclass(frozen=True)
class Spline:
    """x enters as a restricted cubic spline, `rms::rcs` basis: linear beyond the outer knots, k - 1 columns."""

    input: str
    knots: tuple[float, ...]
    kind: ClassVar[str] = "rcs"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.input + "'" * j for j in range(len(self.knots) - 1))

    def basis(self, values: Values) -> NDArray[np.float64]:
        """Design columns, float array (n, k - 1)."""
        return rcs_basis(_column(values, self.input), np.asarray(self.knots))


@dataclass(frozen=True)
class Category:
    """Level positions enter as indicators against the first level, the reference."""

    input: str
    levels: tuple[str, ...]
    kind: ClassVar[str] = "category"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.input}={level}" for level in self.levels[1:])

    def basis(self, values: Values) -> NDArray[np.float64]:
        """Design columns, float array (n, K - 1)."""
        x = _column(values, self.input)
        if np.any((x != np.round(x)) | (x < 0) | (x >= len(self.levels))):
            raise InvalidInputError(f"input {self.input!r} holds level positions outside 0..{len(self.levels) - 1}")
        return (x[:, None] == np.arange(1, len(self.levels))).astype(np.float64)


@dataclass(frozen=True)
class Interaction:
    """Products of every column of two terms. Main effects are terms of their own."""

    first: Linear | Log | Spline | Category
    second: Linear | Log | Spline | Category
    kind: ClassVar[str] = "interaction"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.first.inputs, *self.second.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{a} * {b}" for a in self.first.columns for b in self.second.columns)

    def basis(self, values: Values) -> NDArray[np.float64]:
        """Design columns, float array (n, k1 * k2), the second term's columns varying fastest."""
        a, b = self.first.basis(values), self.second.basis(values)
        return (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)


Term = Linear | Log | Spline | Category | Interaction


def design_matrix(terms: Sequence[Term], values: Values) -> NDArray[np.float64]:
    """Columns of all terms side by side, float array (n, p), without an intercept."""
    if not terms:
        n = len(next(iter(values.values()))) if values else 0
        return np.empty((n, 0))
    return np.hstack([term.basis(values) for term in terms])


def design_columns(terms: Sequence[Term]) -> tuple[str, ...]:
    """Names of the design columns, as R's rms writes them (`lwt'`, `race=black`)."""
    return tuple(name for term in terms for name in term.columns)


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear predictor: lp = intercept + sum of term columns times coefficients.

    Parameters
    ----------
    terms : tuple of Term
    coef : float array (p,)
        One per design column, in the order of `design_columns(terms)`.
    intercept : float
        Logistic: the intercept. Cox: minus the centring (lp is 0 at the baseline patient).
    covariance : float array (p + 1, p + 1) or (p, p) or None
        Of (intercept, coef) for logistic, of coef for Cox. None where no honest one exists (selection, shrinkage).
    """

    terms: tuple[Term, ...]
    coef: NDArray[np.float64]
    intercept: float
    covariance: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        p = len(design_columns(self.terms))
        if np.shape(self.coef) != (p,):
            raise InvalidInputError(f"{p} design columns but {np.shape(self.coef)} coefficients")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, each once, in the order of first use."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.inputs))

    def lp(self, values: Values) -> NDArray[np.float64]:
        """Linear predictor, float array (n,)."""
        return self.intercept + design_matrix(self.terms, values) @ self.coef

    def effect(self, term: Term, values: Values) -> NDArray[np.float64]:
        """Part of the linear predictor that `term` contributes, float array (n,)."""
        start = 0
        for candidate in self.terms:
            k = len(candidate.columns)
            if candidate == term:
                return term.basis(values) @ self.coef[start : start + k]
            start += k
        raise InvalidInputError(f"the model has no term {term!r}")


def term_to_dict(term: Term) -> dict[str, Any]:
    """JSON form of a term; `term_from_dict` inverts it."""
    if isinstance(term, Interaction):
        return {"kind": "interaction", "first": term_to_dict(term.first), "second": term_to_dict(term.second)}
    out: dict[str, Any] = {"kind": term.kind, "input": term.input}
    if isinstance(term, Spline):
        out["knots"] = list(term.knots)
    if isinstance(term, Category):
        out["levels"] = list(term.levels)
    return out


def term_from_dict(data: Mapping[str, Any]) -> Term:
    """Inverse of `term_to_dict`; an unknown kind is refused."""
    fields = {key: value for key, value in data.items() if key != "kind"}
    if data.get("kind") == "interaction":
        first, second = term_from_dict(fields["first"]), term_from_dict(fields["second"])
        if isinstance(first, Interaction) or isinstance(second, Interaction):
            raise InvalidInputError("interactions of interactions are not supported")
        return Interaction(first, second)
    if data.get("kind") == "linear":
        return Linear(fields["input"])
    if data.get("kind") == "log":
        return Log(fields["input"])
    if data.get("kind") == "rcs":
        return Spline(fields["input"], tuple(fields["knots"]))
    if data.get("kind") == "category":
        return Category(fields["input"], tuple(fields["levels"]))
    raise InvalidInputError(f"unknown term kind {data.get('kind')!r}")
