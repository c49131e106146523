"""Calibration of out-of-fold probabilities, kept only where it helps patients that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from osml.errors import NotEstimableError
from osml.nets.calibrate import fit_platt, fit_temperature
from osml.stats.tree import label_tree

Float = NDArray[np.float64]
SMALLEST = 1e-6  # a forest may say 0, which no finite calibration could take back
Scaling = Literal["platt", "temperature"]


@dataclass(frozen=True)
class Recalibration:
    """From raw probabilities to calibrated ones.

    kind : platt: intercept and slope of the log odds; temperature: log probabilities are divided by it
    values : intercept and slope, or the temperature
    before, after : mean log-loss of a row in inner folds, raw, and calibrated on the other folds
    reason : why it is none
    """

    kind: Literal["platt", "temperature", "none"]
    values: tuple[float, ...] = ()
    before: float | None = None
    after: float | None = None
    reason: str = ""

    def log_odds(self, p: Float) -> Float:
        """Of the second of two classes, (n,), from probabilities (n, 2)."""
        kept = np.clip(p[:, 1], SMALLEST, 1 - SMALLEST)
        raw = np.log(kept / (1 - kept))
        return self.values[0] + self.values[1] * raw if self.kind == "platt" else raw

    def log_p(self, p: Float) -> Float:
        """Log probabilities of classes, (n, k)."""
        raw = np.log(np.maximum(p, SMALLEST))
        return np.asarray(log_softmax(raw / self.values[0] if self.kind == "temperature" else raw, axis=1))


RAW = Recalibration("none")


def recalibrated(p: Float, y: NDArray[np.intp], fold: NDArray[np.intp], scaling: Scaling) -> Recalibration:
    """Calibration of out-of-fold probabilities (n, k) of classes y (n,), judged over the inner folds of the rows.

    In each fold the calibration is fitted to the others and applied to it. It is kept, fitted to all of them, where the
    mean log-loss falls.
    """
    before, after = np.empty(len(y)), np.empty(len(y))
    try:
        for k in np.unique(fold):
            out = fold == k
            before[out] = _loss(RAW, scaling, p[out], y[out])
            after[out] = _loss(_fit(scaling, p[~out], y[~out]), scaling, p[out], y[out])
        whole = _fit(scaling, p, y)
    except NotEstimableError as error:
        return Recalibration("none", reason=error.what)
    raw, held = float(before.mean()), float(after.mean())
    if not held < raw:
        words = f"it does not help in inner folds: log-loss {raw:.4f}, calibrated {held:.4f}"
        return Recalibration("none", (), raw, held, words)
    return Recalibration(whole.kind, whole.values, raw, held)


def _fit(scaling: Scaling, p: Float, y: NDArray[np.intp]) -> Recalibration:
    if scaling == "platt":
        found = fit_platt(RAW.log_odds(p), y)
        return Recalibration("platt", (found.intercept, found.slope))
    tree = label_tree([str(k) for k in range(p.shape[1])])
    return Recalibration("temperature", fit_temperature(tree, RAW.log_p(p), y).temperatures)


def _loss(calibration: Recalibration, scaling: Scaling, p: Float, y: NDArray[np.intp]) -> Float:
    """Log-loss of each row."""
    if scaling == "platt":
        lp = calibration.log_odds(p)
        return np.asarray(np.logaddexp(0.0, lp) - y * lp)
    return -calibration.log_p(p)[np.arange(len(y)), y]
