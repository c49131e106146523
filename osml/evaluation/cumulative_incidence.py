"""Cumulative incidence with competing events: Aalen-Johansen.

One minus Kaplan-Meier that censors competing events overstates the risk, because it keeps patients at risk of an event
they can no longer have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.kaplan_meier import ConfidenceKind, interval
from osml.evaluation.survival import Floats, check_level, check_survival, totals
from osml.stats.inputs import vector


@dataclass(frozen=True)
class CumulativeIncidence:
    """Probability of each kind of event by each time.

    Attributes
    ----------
    causes : tuple of int
        Codes of the events, increasing.
    times, at_risk : float array (m,)
        Distinct observed times and the number at risk just before each.
    events : float array (causes, m)
    incidence, se, low, high : float array (causes, m)
        From each time on. The interval is NaN where the incidence is 0.
    event_free : float array (m,)
        Probability of none of the events; with the incidences it adds up to 1.
    """

    causes: tuple[int, ...]
    times: Floats
    at_risk: Floats
    events: Floats
    incidence: Floats
    se: Floats
    low: Floats
    high: Floats
    event_free: Floats
    conf: ConfidenceKind
    level: float

    def at(self, cause: int, times: ArrayLike) -> Floats:
        """Incidence of one cause at each time, float array (k,); NaN after the last follow-up if patients remain."""
        if cause not in self.causes:
            raise InvalidInputError(f"cause {cause} is not among {list(self.causes)}")
        t = vector(np.atleast_1d(times), "times")
        steps = np.concatenate([[0.0], self.incidence[self.causes.index(cause)]])
        out = steps[np.searchsorted(self.times, t, side="right")]
        return np.where((t > self.times[-1]) & (self.event_free[-1] > 0), np.nan, out)


def cumulative_incidence(
    time: ArrayLike, cause: ArrayLike, conf: ConfidenceKind = "log", level: float = 0.95
) -> CumulativeIncidence:
    """Aalen-Johansen estimate, `survival::survfit(Surv(time, factor(cause)) ~ 1)`.

    Parameters
    ----------
    time : float array (n,)
        Times > 0.
    cause : int array (n,)
        0 = censored, 1, 2, ... = kind of event.
    conf : {"log", "log-log", "plain"}
        Scale of the interval, on the incidence.

    Notes
    -----
    The variance treats the events of each time as multinomial (Marubini and Valsecchi 1995, equation 10.12), which
    equals the infinitesimal jackknife of `survfit`.

    Examples
    --------
    >>> ci = cumulative_incidence([1, 2, 3, 4], [1, 2, 0, 1])
    >>> ci.at(1, [2, 4]), ci.at(2, [4])
    (array([0.25, 0.75]), array([0.25]))
    """
    codes = vector(cause, "cause")
    if np.any((codes < 0) | (codes != np.round(codes))):
        raise InvalidInputError(f"cause must hold whole numbers >= 0, found {np.unique(codes)[:5].tolist()}")
    t, _ = check_survival(time, codes > 0)
    z = check_level(level)
    if conf not in ("plain", "log", "log-log"):
        raise InvalidInputError(f"conf must be 'log', 'log-log' or 'plain', got {conf!r}")
    causes = tuple(int(c) for c in np.unique(codes[codes > 0]))
    if not causes:
        raise NotEstimableError("no event of any cause")
    times, position = np.unique(t, return_inverse=True)
    position, m = position.reshape(len(t)), len(times)
    at_risk = np.cumsum(totals(position, np.ones(len(t)), m)[::-1])[::-1]
    events = np.stack([totals(position, (codes == c).astype(float), m) for c in causes])
    any_event = events.sum(axis=0)
    event_free = np.cumprod(1 - any_event / at_risk)
    before = np.concatenate([[1.0], event_free[:-1]])
    incidence = np.cumsum(before * events / at_risk, axis=1)
    se = np.sqrt(np.maximum(_variance(incidence, before, events, any_event, at_risk), 0.0))
    low, high = interval(incidence, se, conf, z)
    low, high = np.where(incidence > 0, low, np.nan), np.where(incidence > 0, high, np.nan)
    return CumulativeIncidence(causes, times, at_risk, events, incidence, se, low, high, event_free, conf, level)


def _variance(incidence: Floats, before: Floats, events: Floats, any_event: Floats, at_risk: Floats) -> Floats:
    """Variance of each incidence at each time, float array (causes, m).

    Sum over s <= t of D^2 d / (n (n - d)) + S(s-)^2 d_k (n - d_k) / n^3 - 2 D S(s-) d_k / n^2, with D = F(t) - F(s),
    expanded in F(t) so that one pass of cumulative sums serves all t.
    """
    lasting = at_risk - any_event
    a = np.divide(any_event, at_risk * lasting, out=np.zeros_like(at_risk), where=lasting > 0)
    own = before**2 * events * (at_risk - events) / at_risk**3
    cross = before * events / at_risk**2
    # Where nobody lasts the incidence stays as it is: D = 0, so both D terms vanish.
    cross_later = np.where(lasting > 0, cross, 0.0)
    square = incidence**2 * np.cumsum(np.broadcast_to(a, incidence.shape), axis=1)
    linear = -2 * incidence * (np.cumsum(a * incidence, axis=1) + np.cumsum(cross_later, axis=1))
    constant = np.cumsum(a * incidence**2 + own + 2 * cross_later * incidence, axis=1)
    return square + linear + constant
