"""From outputs of a survival network to survival at given times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import survival_outcome, vector

Floats = NDArray[np.float64]


def interval_cuts(
    time: ArrayLike, event: ArrayLike, intervals: int = 10, horizons: Sequence[float] = ()
) -> tuple[float, ...]:
    """Upper ends of intervals for discrete hazards, from training rows.

    Quantiles of the event times, so that every interval has about as many events; the horizons are ends too, so that
    survival there needs no interpolation. The last end is the last event time or the last horizon.

    >>> interval_cuts([1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 0], intervals=2, horizons=[4.5])
    (3.0, 4.5, 5.0)
    """
    t, died = survival_outcome(time, event)
    if intervals < 1:
        raise InvalidInputError(f"intervals must be 1 or more, got {intervals}")
    if not died.any():
        raise NotEstimableError(f"no events among {len(t)} rows", why="Intervals are cut at quantiles of event times.")
    if any(not 0 < h <= t.max() for h in horizons):
        raise InvalidInputError(
            f"horizons must lie above 0 and within the follow-up of {t.max():g}, got {list(horizons)}"
        )
    ends = np.quantile(t[died > 0], np.arange(1, intervals + 1) / intervals, method="inverted_cdf")
    return tuple(float(c) for c in np.unique(np.concatenate([ends, np.asarray(horizons, dtype=np.float64)])))


def discrete_survival(logits: ArrayLike, cuts: Sequence[float], times: ArrayLike) -> Floats:
    """Survival at times (k,), float array (n, k), from hazard logits (n, intervals).

    The hazard is constant within an interval. Times beyond the last cut are refused: nothing was learnt about them.

    >>> discrete_survival([[0.0, 0.0]], (1, 2), [0, 0.5, 1, 2]).round(4).tolist()
    [[1.0, 0.7071, 0.5, 0.25]]
    """
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] != len(cuts) or not np.isfinite(z).all():
        raise InvalidInputError(f"logits have shape {z.shape} or are not finite; expected (n, {len(cuts)})")
    t = vector(np.atleast_1d(np.asarray(times, dtype=np.float64)), "times")
    if np.any(t < 0) or np.any(t > cuts[-1]):
        raise InvalidInputError(
            f"times must lie between 0 and {cuts[-1]:g}, the end of the last interval; got {t.tolist()}",
            do="Choose an earlier horizon.",
        )
    ends = np.concatenate([[0.0], cuts])
    log_survival = np.concatenate([np.zeros((len(z), 1)), np.cumsum(log_expit(-z), axis=1)], axis=1)
    return np.exp(np.stack([np.interp(t, ends, row) for row in log_survival]).reshape(len(z), len(t)))
