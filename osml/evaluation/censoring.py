"""The censoring distribution of an evaluation population, a Kaplan-Meier curve with the roles swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from osml.evaluation.survival import Floats, check_survival, event_table
from osml.stats.inputs import vector


@dataclass(frozen=True)
class Censoring:
    """Probability G(t) of not being censored by t, a step function.

    Attributes
    ----------
    times : float array (m,)
        Distinct observed times.
    survival : float array (m,)
        G from each time on. Patients with an event at a time are not at risk of censoring at it.
    """

    times: Floats
    survival: Floats

    def at(self, times: ArrayLike) -> Floats:
        """G(t), float array (k,); 0 after the last follow-up, where nobody is left."""
        return self._step(times, "right")

    def before(self, times: ArrayLike) -> Floats:
        """G(t-), the left limit, float array (k,)."""
        return self._step(times, "left")

    def _step(self, times: ArrayLike, side: Literal["left", "right"]) -> Floats:
        t = vector(np.atleast_1d(times), "times")
        index = np.searchsorted(self.times, t, side=side)
        out = np.concatenate([[1.0], self.survival])[index]
        return np.where(t > self.times[-1], 0.0, out)


def fit_censoring(time: ArrayLike, event: ArrayLike) -> Censoring:
    """Kaplan-Meier estimate of censoring in an evaluation population.

    Parameters
    ----------
    time, event : arrays (n,)
        Of every patient evaluated; event True or 1.

    Examples
    --------
    >>> g = fit_censoring([1, 2, 3, 4], [1, 0, 1, 0])
    >>> g.at([2.0]), g.before([2.0])
    (array([0.66666667]), array([1.]))
    """
    t, e = check_survival(time, event, need_events=False)
    table = event_table(t, e, np.ones(len(t)))
    staying = table.at_risk - table.events
    hazard = np.divide(table.censored, staying, out=np.zeros_like(staying), where=staying > 0)
    return Censoring(table.times, np.cumprod(1 - hazard))
