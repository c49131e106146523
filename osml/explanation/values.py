"""SHAP values of a set of units: what every way of computing them returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Shap:
    """Contributions of inputs to linear predictors (log odds, log hazard): `base + values.sum(axis=1) == lp`.

    Attributes
    ----------
    inputs : tuple of str (d,)
    base : float
        Prediction for the background: what the contributions are measured from.
    values : float array (n, d)
        Above 0 raises the prediction.
    lp : float array (n,)
        The model's linear predictor.
    calls : int
        Rows that the model had to predict; 0 where the values follow from the coefficients.
    error : float array (n, d)
        Standard error of the sampling; 0 where the values are exact.
    """

    inputs: tuple[str, ...]
    base: float
    values: Float
    lp: Float
    calls: int
    error: Float

    def __post_init__(self) -> None:
        shape = (len(self.lp), len(self.inputs))
        if self.values.shape != shape or self.error.shape != shape:
            raise InvalidInputError(f"values {self.values.shape} and error {self.error.shape}; expected {shape}")

    @property
    def importance(self) -> Float:
        """Mean absolute contribution of each input, float array (d,)."""
        return np.abs(self.values).mean(axis=0)

    @property
    def order(self) -> tuple[int, ...]:
        """Positions of the inputs, the most important first; ties in the order given."""
        return tuple(int(j) for j in np.argsort(-self.importance, kind="stable"))
