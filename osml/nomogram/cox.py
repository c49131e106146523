"""The outcome axes of a fitted Cox model, with everything its Wald intervals and its median need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.nomogram.spec import CoxOutcome
from osml.stats.cox import CoxFit


def cox_outcome(fit: CoxFit, event: str, horizons: Sequence[float], **fields: Any) -> CoxOutcome:
    """Outcome at `horizons` from a fit; the model to draw has coefficients `fit.coef` and intercept -means @ coef.

    Baseline variances belong to a fit without penalty: with a ridge, or after shrinkage, build without Wald interval.
    Other fields (unit, show, at_risk) go to `CoxOutcome`.

    Raises
    ------
    InvalidInputError
        A horizon before the first event or after the longest follow-up.

    Examples
    --------
    >>> from osml.stats.cox import fit_cox
    >>> fit = fit_cox([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 8], [1, 1, 1, 0, 1, 1])
    >>> [round(s, 4) for s in cox_outcome(fit, "death", [4]).survival]
    [0.5355]
    """
    at = fit.baseline.index(horizons) - 1
    hazard = fit.baseline.at(horizons)
    wald: dict[str, Any] = {}
    if fit.ridge == 0 and np.all(at >= 0):
        mean = fit.baseline.exposure[at] / hazard[:, None] + fit.means
        wald = {
            "log_hazard_variance": tuple((fit.baseline.variance[at] / hazard**2).tolist()),
            "mean_design": tuple(tuple(row) for row in mean.tolist()),
        }
    usable = (fit.baseline.survival > 0) & (fit.baseline.survival < 1)
    return CoxOutcome(
        event,
        tuple(float(t) for t in horizons),
        tuple(np.exp(-hazard).tolist()),
        baseline_times=tuple(fit.baseline.times[usable].tolist()),
        baseline_survival=tuple(fit.baseline.survival[usable].tolist()),
        **wald,
        **fields,
    )
