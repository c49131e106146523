"""The contract of every predictor.

A predictor is given training patients only: the test patients are not in the object it receives, so no step can see
them. Scores of upstream predictors arrive in `Design.upstream`, out-of-fold at fit and from the fitted upstream model
at predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import InvalidInputError

Float = NDArray[np.float64]
NO_INTERVAL = "no interval available"


@dataclass(frozen=True)
class Design:
    """What a predictor sees: units with values (and, at fit, outcomes), and upstream scores, one per unit."""

    cohort: Cohort
    upstream: Mapping[str, Float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, score in self.upstream.items():
            if score.shape[:1] != (len(self.cohort),) or score.ndim > 2:
                raise InvalidInputError(f"score {name!r} has shape {score.shape} for {len(self.cohort)} units")


@dataclass(frozen=True)
class Flag:
    """Something to know about one prediction: what was imputed, extrapolated or unusual."""

    unit: str
    input: str
    code: str
    value: float | None = None


@dataclass(frozen=True)
class Prediction:
    """Predictions of one predictor for some units.

    units, patients : names (n,)
    columns : the event (binary), one name per horizon (survival), or every node of the tree of classes
    p : float array (n, k), risk of the event, or P(node)
    low, high : float arrays (n, k) or None; what kind of interval they are stands in `interval`
    lp : linear predictor (n,), the scale on which scores enter other predictors; of classes (n, k), log P(node)
    extras : what a predictor tells beside its probabilities, by name: float arrays (n,), see its documentation
    """

    units: tuple[str, ...]
    patients: tuple[str, ...]
    columns: tuple[str, ...]
    p: Float
    lp: Float
    low: Float | None = None
    high: Float | None = None
    interval: str = NO_INTERVAL
    flags: tuple[Flag, ...] = ()
    extras: Mapping[str, Float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = len(self.units), len(self.columns)
        if self.p.shape != shape or self.lp.shape not in ((len(self.units),), shape):
            raise InvalidInputError(f"{len(self.units)} units but p has shape {self.p.shape}, lp {self.lp.shape}")
        if not (np.all(np.isfinite(self.p)) and np.all((self.p >= 0) & (self.p <= 1))):
            raise InvalidInputError("a predictor returned probabilities outside 0 to 1")


class Fitted(Protocol):
    """A fitted predictor."""

    def predict(self, design: Design) -> Prediction:
        """Predict units without looking at any outcome; each row's result depends on that row only."""
        ...

    def save(self, folder: Path) -> None:
        """Write JSON (later safetensors) files; the same model gives the same bytes."""
        ...
