"""Interval of a probability, with its kind: Wald, or percentiles over bootstrap refits of the whole pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from osml.errors import InvalidInputError
from osml.nomogram.spec import CoxOutcome, FloatArray, LogisticOutcome, Outcome
from osml.stats.terms import LinearModel, Values, design_matrix

MIN_REFITS = 50


@dataclass(frozen=True, eq=False)
class Interval:
    """How an interval is computed and what it is called.

    Parameters
    ----------
    kind : "wald" or "instability"
        Wald: only for prespecified, unpenalised, complete-data models; needs the model's covariance (Cox: also
        `log_hazard_variance` and `mean_design` of the outcome). Instability: percentiles over `refits`.
    level : float
    refits : float array (B, p + 1)
        Instability: intercept (Cox: minus the centring) and coefficients of each refit of the full pipeline.
    refit_survival : float array (B, horizons)
        Cox: baseline survival of each refit at the horizons.
    held_fixed : str
        What the refits did not repeat, printed: "knots and axis ranges".
    """

    kind: Literal["wald", "instability"]
    level: float = 0.95
    refits: FloatArray | None = None
    refit_survival: FloatArray | None = None
    held_fixed: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("wald", "instability"):
            raise InvalidInputError(f"interval kind {self.kind!r} is neither 'wald' nor 'instability'")
        if not 0.5 <= self.level < 1:
            raise InvalidInputError(f"interval level {self.level} is not in [0.5, 1)")
        for name in ("refits", "refit_survival"):
            value = getattr(self, name)
            if value is not None:
                array = np.asarray(value, dtype=np.float64)
                if array.ndim != 2 or not np.all(np.isfinite(array)):
                    raise InvalidInputError(f"interval {name}: expected a finite 2-d array, got shape {array.shape}")
                object.__setattr__(self, name, array)

    @property
    def words(self) -> str:
        """Name of the interval, as printed."""
        percent = f"{100 * self.level:.10g} %"
        if self.kind == "wald":
            return f"{percent} confidence interval (Wald)"
        fixed = f", {self.held_fixed} held fixed" if self.held_fixed else ""
        count = 0 if self.refits is None else len(self.refits)
        return f"{percent} model instability interval ({count} bootstrap refits{fixed})"

    def check(self, model: LinearModel, outcome: Outcome) -> None:
        """Refuse an interval that this model cannot have."""
        p = len(model.coef)
        if self.kind == "wald":
            size = p + 1 if isinstance(outcome, LogisticOutcome) else p
            if model.covariance is None or np.shape(model.covariance) != (size, size):
                raise InvalidInputError(f"a Wald interval needs the model's {size} by {size} covariance")
            if isinstance(outcome, CoxOutcome):
                if not outcome.log_hazard_variance:
                    raise InvalidInputError(
                        "a Wald interval of a Cox risk needs log_hazard_variance and mean_design",
                        why="Without the variance of the baseline hazard it would be too narrow.",
                    )
                if any(len(row) != p for row in outcome.mean_design):
                    raise InvalidInputError(f"mean_design must hold {p} numbers per horizon")
            return
        if self.refits is None or self.refits.shape[1] != p + 1 or len(self.refits) < MIN_REFITS:
            raise InvalidInputError(
                f"an instability interval needs at least {MIN_REFITS} refits of {p + 1} coefficients"
            )
        if isinstance(outcome, CoxOutcome):
            shape = (len(self.refits), len(outcome.horizons))
            if self.refit_survival is None or self.refit_survival.shape != shape:
                raise InvalidInputError(f"Cox refits need their baseline survival, an array of shape {shape}")
            if np.any((self.refit_survival <= 0) | (self.refit_survival >= 1)):
                raise InvalidInputError("baseline survival of a refit lies outside 0 to 1")

    def bounds(self, model: LinearModel, outcome: Outcome, values: Values) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of what the outcome axes show, float arrays (n, horizons)."""
        X = design_matrix(model.terms, values)
        if self.kind == "wald":
            return _wald(model, outcome, X, float(ndtri(0.5 + self.level / 2)))
        assert self.refits is not None
        lp = self.refits[:, :1] + self.refits[:, 1:] @ X.T
        if isinstance(outcome, LogisticOutcome):
            p = outcome.probability(lp.ravel()).reshape(*lp.shape, 1)
        else:
            assert self.refit_survival is not None
            hazard = -np.log(self.refit_survival)[:, None, :] * np.exp(lp)[:, :, None]
            p = -np.expm1(-hazard) if outcome.show == "risk" else np.exp(-hazard)
        tail = (1 - self.level) / 2
        low, high = np.quantile(p, [tail, 1 - tail], axis=0)
        return low, high


def _wald(model: LinearModel, outcome: Outcome, X: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Logistic: on the log odds. Cox: on the log cumulative hazard, baseline variance included."""
    V = np.asarray(model.covariance, dtype=np.float64)
    lp = model.intercept + X @ model.coef
    if isinstance(outcome, LogisticOutcome):
        A = np.column_stack([np.ones(len(X)), X])
        half = z * np.sqrt(np.einsum("ij,jk,ik->i", A, V, A))
        return outcome.probability(lp - half), outcome.probability(lp + half)
    low, high = np.empty((len(X), len(outcome.horizons))), np.empty((len(X), len(outcome.horizons)))
    for j, (own, mean) in enumerate(zip(outcome.log_hazard_variance, outcome.mean_design, strict=True)):
        D = X - np.asarray(mean)
        half = z * np.sqrt(own + np.einsum("ij,jk,ik->i", D, V, D))
        a, b = outcome.probability(lp - half)[:, j], outcome.probability(lp + half)[:, j]
        low[:, j], high[:, j] = np.minimum(a, b), np.maximum(a, b)
    return low, high
