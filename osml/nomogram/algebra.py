"""Points algebra: a linear predictor as points that a reader can add up.

sc = 100 / max over components of (max effect - min effect on its axes); points(v) = (effect(v) - min effect) * sc;
lp = intercept* + total / sc with intercept* = intercept + sum of min effects; the probability is closed form.
Same scale as `rms::nomogram` when the axes are the same (there the extremes are taken over the ticks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError
from osml.nomogram.components import Axis, Component
from osml.nomogram.interval import Interval
from osml.nomogram.metadata import check_metadata
from osml.nomogram.spec import CoxOutcome, FloatArray, Outcome, Predictor
from osml.stats.terms import LinearModel


@dataclass(frozen=True)
class TotalRange:
    """Central range of the training patients' total points, and what it is."""

    low: float
    high: float
    words: str


@dataclass(frozen=True, eq=False)
class Nomogram:
    """A model as points. Made by `build` or `from_coefficients`, never by hand.

    Values are a mapping from input name to an array (n,) or a scalar: numbers, level positions or level names.
    NaN stands for "not known" and is refused unless the predictor names a value for it.

    Attributes
    ----------
    scale : float
        Points per unit of the linear predictor.
    intercept : float
        Linear predictor at zero total points.
    """

    model: LinearModel
    predictors: tuple[Predictor, ...]
    outcome: Outcome
    components: tuple[Component, ...]
    scale: float
    intercept: float
    extremes: Literal["axis", "ticks"] = "axis"
    interval: Interval | None = None
    training_totals: TotalRange | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_metadata(self.metadata)

    def predictor(self, name: str) -> Predictor:
        """The predictor of that name."""
        for p in self.predictors:
            if p.name == name:
                return p
        raise InvalidInputError(
            f"no predictor {name!r}", do=f"There are: {', '.join(p.name for p in self.predictors)}."
        )

    def encode(self, values: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        """Values as float arrays (n,): level names to positions, "not known" to its stand-in value."""
        out = {p.name: _encoded(p, values) for p in self.predictors}
        lengths = {len(x) for x in out.values()}
        if len(lengths) > 1:
            n = max(lengths)
            if lengths != {1, n}:
                raise InvalidInputError(f"values of different lengths: { {k: len(v) for k, v in out.items()} }")
            out = {k: np.full(n, v[0]) if len(v) == 1 else v for k, v in out.items()}
        return out

    def points(self, values: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        """Points of each component, float arrays (n,); outside the axes they leave 0 to 100."""
        x = self.encode(values)
        return {c.name: (c.effect(self.model, x) - c.minimum) * self.scale for c in self.components}

    def total(self, values: Mapping[str, ArrayLike]) -> FloatArray:
        """Total points, float array (n,)."""
        return np.sum(list(self.points(values).values()), axis=0)

    def lp_at(self, total: ArrayLike) -> FloatArray:
        """Linear predictor at total points."""
        return self.intercept + np.asarray(total, dtype=np.float64) / self.scale

    def total_at(self, lp: ArrayLike) -> FloatArray:
        """Total points at which the linear predictor is `lp`."""
        return (np.asarray(lp, dtype=np.float64) - self.intercept) * self.scale

    def probability_at(self, total: ArrayLike) -> FloatArray:
        """What the outcome axes show at total points: (n,) logistic, (n, horizons) Cox."""
        return self._shape(self.outcome.probability(np.atleast_1d(self.lp_at(total))))

    def total_for(self, probability: ArrayLike, horizon: int = 0) -> FloatArray:
        """Total points at which the outcome axis number `horizon` shows `probability`."""
        return self.total_at(self.outcome.linear_predictor(np.asarray(probability, dtype=np.float64), horizon))

    def probability(self, values: Mapping[str, ArrayLike]) -> FloatArray:
        """Probability by points and their total: (n,) logistic, (n, horizons) Cox (risk or survival, as shown)."""
        return self.probability_at(self.total(values))

    def bounds(self, values: Mapping[str, ArrayLike]) -> tuple[FloatArray, FloatArray] | None:
        """Interval of the probability, shaped as `probability`; None when the model offers none."""
        if self.interval is None:
            return None
        low, high = self.interval.bounds(self.model, self.outcome, self.encode(values))
        return self._shape(low), self._shape(high)

    def extrapolated(self, values: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """For each number, whether the value lies outside its printed axis, bool arrays (n,)."""
        x = self.encode(values)
        numbers = [p for p in self.predictors if p.kind == "number"]
        return {p.name: (x[p.name] < p.bounds[0]) | (x[p.name] > p.bounds[1]) for p in numbers}

    def axis_points(self, component: Component, axis: Axis, x: ArrayLike) -> FloatArray:
        """Points along one axis at values (numbers or level positions) `x`."""
        effect = component.effect(self.model, axis.values(np.asarray(x, dtype=np.float64)))
        return (effect - component.minimum) * self.scale

    @property
    def maximum(self) -> float:
        """Largest total that the axes can give."""
        return sum((c.maximum - c.minimum) * self.scale for c in self.components)

    def _shape(self, p: FloatArray) -> FloatArray:
        return p if isinstance(self.outcome, CoxOutcome) else p[:, 0]


def _encoded(p: Predictor, values: Mapping[str, ArrayLike]) -> FloatArray:
    if p.name not in values:
        raise InvalidInputError(
            f"input {p.name!r} is missing from the values", do=f"Given: {', '.join(sorted(values))}."
        )
    array = np.atleast_1d(np.asarray(values[p.name]))
    if array.ndim != 1:
        raise InvalidInputError(f"input {p.name!r}: expected one value per patient, got shape {array.shape}")
    if array.dtype.kind in "UO":
        if p.kind != "category":
            raise InvalidInputError(f"input {p.name!r} is a number, got text {array[0]!r}")
        position = {level: float(i) for i, level in enumerate(p.levels)}
        unknown = sorted({str(v) for v in array if v not in position})
        if unknown:
            raise InvalidInputError(f"input {p.name!r}: unknown levels {unknown}", do=f"Levels: {', '.join(p.levels)}.")
        array = np.array([position[v] for v in array])
    x = array.astype(np.float64)
    missing = np.isnan(x)
    if missing.any():
        if p.unknown is None:
            raise InvalidInputError(
                f"input {p.name!r} is not known for {int(missing.sum())} of {len(x)}; the model does not allow this"
            )
        x = np.where(missing, float(p.unknown), x)
    return x
