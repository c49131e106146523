"""Concordance of a risk score with survival: Harrell's C and Uno's C, with variances, and their paired comparison.

Conventions of `survival::concordance`. Two patients are comparable when the shorter time ended in an event; a patient
censored at an event time outlived it; two events at one time are not comparable. A tied score counts one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.censoring import Censoring, fit_censoring
from osml.evaluation.survival import (
    Bools,
    Floats,
    Ints,
    check_groups,
    check_horizon,
    check_level,
    check_survival,
    sum_by_patient,
)
from osml.stats.inputs import frequency_weights, vector

_BLOCK = 500  # rows whose pairs are held at a time


@dataclass(frozen=True)
class Concordance:
    """Concordance with its interval.

    Attributes
    ----------
    value : float
        1 = the patient with the higher score always has the event first; 0.5 = no discrimination.
    variance, se, low, high : float
        Infinitesimal jackknife over patients; normal interval cut to [0, 1].
    concordant, discordant, tied_score, tied_time, tied_both : float
        Pairs, weighted for Uno's C. The last two are not comparable and count nowhere.
    influence : float array (patients,)
        Influence of each patient on `value`; its squares add up to the variance.
    tau : float or None
        Events after it are left out.
    """

    value: float
    variance: float
    se: float
    low: float
    high: float
    concordant: float
    discordant: float
    tied_score: float
    tied_time: float
    tied_both: float
    influence: Floats
    tau: float | None


def harrell_c(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    tau: float | None = None,
    level: float = 0.95,
) -> Concordance:
    """Harrell's C, `survival::concordance(..., reverse = TRUE)`, in O(n log^2 n) time.

    Parameters
    ----------
    time, event : arrays (n,)
        Times > 0; event True or 1.
    score : float array (n,)
        Higher is riskier (linear predictor, or 1 - survival at a horizon).
    weights : float array (n,), optional
        Case weights; a pair weighs the product of its two.
    groups : array (n,), optional
        Patient of each row: the variance then adds up a patient's rows first.
    tau : float, optional
        Leave out events after tau (R's `ymax`).

    Raises
    ------
    NotEstimableError
        No comparable pair: it is not 0.5.

    Examples
    --------
    >>> c = harrell_c([1, 2, 3, 4], [1, 1, 0, 1], [4.0, 2.0, 3.0, 1.0])
    >>> c.value, c.concordant, c.discordant
    (0.8, 4.0, 1.0)
    """
    return _concordance(time, event, score, weights, groups, tau, level, None, False)


def uno_c(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    tau: float | None = None,
    groups: ArrayLike | None = None,
    censoring: Censoring | None = None,
    level: float = 0.95,
) -> Concordance:
    """Uno's C: pairs weighted by 1 / G(t-)^2, so that the estimate does not depend on the censoring.

    Parameters
    ----------
    time, event, score, groups
        As for `harrell_c`.
    tau : float, optional
        Leave out events after tau; advisable where few are still followed, because their weights are large.
    censoring : Censoring, optional
        Censoring distribution of the evaluation population these patients come from (all patients pooled, under
        cross-validation). Estimated from these patients by default, never from the training set.

    Notes
    -----
    The variance treats G as known, as `survival::concordance(timewt = "n/G2")` does. Uno et al. 2011.

    Examples
    --------
    >>> round(uno_c([1, 2, 3, 4], [1, 0, 1, 1], [4.0, 2.0, 1.0, 3.0]).value, 4)
    0.5714
    """
    return _concordance(time, event, score, None, groups, tau, level, censoring, True)


def concordance_batch(time: ArrayLike, event: ArrayLike, score: ArrayLike, weights: ArrayLike) -> Floats:
    """Harrell's C under B weightings, float array (B,); NaN where no comparable pair has weight.

    Equals `harrell_c(time, event, score, weights[b])`. O(B n^2) time in matrix products: for resampling a fold.

    Parameters
    ----------
    weights : float array (B, n)
        Frequency weights, not negative.

    >>> concordance_batch([1, 2, 3, 4], [1, 1, 0, 1], [4.0, 2.0, 3.0, 1.0], [[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
    array([0.8, 0. , nan])
    """
    t, e = check_survival(time, event, need_events=False)
    x, w = vector(score, "score", len(t)), np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != len(t) or not np.isfinite(w).all() or (w < 0).any():
        raise InvalidInputError(f"weights have shape {w.shape}; expected (B, {len(t)}), finite and not negative")
    above, below = np.zeros(len(w)), np.zeros(len(w))
    opening = np.flatnonzero(e)
    for start in range(0, len(opening), _BLOCK):
        i = opening[start : start + _BLOCK]
        pair = (t > t[i, None]) | ((t == t[i, None]) & ~e)
        wins = pair * ((x < x[i, None]) + 0.5 * (x == x[i, None]))
        above += (w[:, i] * (w @ wins.T)).sum(axis=1)
        below += (w[:, i] * (w @ pair.T.astype(np.float64))).sum(axis=1)
    return np.divide(above, below, out=np.full(len(w), np.nan), where=below > 0)


@dataclass(frozen=True)
class ConcordanceDifference:
    """Two concordances on the same patients: first minus second."""

    first: Concordance
    second: Concordance
    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float


def compare_concordance(first: Concordance, second: Concordance, level: float = 0.95) -> ConcordanceDifference:
    """Paired test of two scores measured on the same patients in the same order.

    The covariance comes from the patients' influences (`survival::concordance(fit1, fit2)`).

    >>> t, e = [1, 2, 3, 4, 5], [1, 1, 0, 1, 1]
    >>> a, b = harrell_c(t, e, [5, 3, 4, 2, 1]), harrell_c(t, e, [1, 5, 4, 2, 3])
    >>> round(compare_concordance(a, b).difference, 3)
    0.5
    """
    if first.influence.shape != second.influence.shape or first.tau != second.tau:
        raise InvalidInputError(
            f"the two concordances were measured on {len(first.influence)} and {len(second.influence)} patients "
            f"with tau {first.tau} and {second.tau}",
            do="Compute both on the same patients, in the same order, with one tau.",
        )
    difference = first.value - second.value
    se = float(np.sqrt(np.sum((first.influence - second.influence) ** 2)))
    if se <= 1e-14:
        raise NotEstimableError("the two scores rank the patients alike: their difference has no variance")
    z, q = difference / se, check_level(level)
    p = float(2 * norm.sf(abs(z)))
    return ConcordanceDifference(first, second, difference, se, difference - q * se, difference + q * se, z, p)


def _concordance(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike | None,
    groups: ArrayLike | None,
    tau: float | None,
    level: float,
    censoring: Censoring | None,
    inverse_censoring: bool,
) -> Concordance:
    t, e = check_survival(time, event)
    x, w, codes = vector(score, "score", len(t)), frequency_weights(weights, len(t)), check_groups(groups, len(t))
    q = check_level(level)
    if tau is not None:
        tau = check_horizon(tau)
    counted = e & (t <= tau) if tau is not None else e
    pair_weight = counted.astype(float)
    if inverse_censoring:
        g = (fit_censoring(t, e) if censoring is None else censoring).before(t[counted])
        if np.any(g <= 0):
            raise NotEstimableError(
                f"{int((g <= 0).sum())} events fall where the censoring distribution has no patient left (G = 0)",
                do="Give a tau before that time, or the censoring of a population followed for longer.",
            )
        pair_weight[counted] = 1 / g**2
    pairs = _pairs(t, e, x, w, pair_weight)
    concordant, discordant, tied = pairs.sum(axis=1) / 2
    total = concordant + discordant + tied
    if total <= 0:
        raise NotEstimableError(
            f"no two of {len(t)} patients are comparable ({int(counted.sum())} events counted)",
            why="A pair counts when the shorter time ended in an event.",
        )
    value = float((concordant + tied / 2) / total)
    influence = sum_by_patient((pairs[0] + pairs[2] / 2 - value * pairs.sum(axis=0)) / total, codes)
    variance = float(np.sum(influence**2))
    se = float(np.sqrt(variance))
    tied_time, tied_both = _ties(t, x, w, pair_weight)
    return Concordance(
        value,
        variance,
        se,
        max(value - q * se, 0.0),
        min(value + q * se, 1.0),
        float(concordant),
        float(discordant),
        float(tied),
        tied_time,
        tied_both,
        influence,
        tau,
    )


def _pairs(time: Floats, event: Bools, score: Floats, weights: Floats, pair_weight: Floats) -> Floats:
    """Weight of the concordant, discordant and tied pairs that hold each patient, float array (3, n).

    `pair_weight` is 0 for a patient whose event does not count, so that only events open a pair.
    """
    after = 2 * np.unique(time, return_inverse=True)[1].reshape(len(time)) + ~event  # censored after events
    rank = np.unique(score, return_inverse=True)[1].reshape(len(time)).astype(np.intp)
    opener = weights * pair_weight
    below, same, above = _sums_beyond(after, rank, weights)
    first = opener * np.stack([below, above, same])
    below, same, above = _sums_beyond(after.max() - after, rank, opener)
    return first + weights * np.stack([above, below, same])


def _sums_beyond(place: Ints, rank: Ints, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """For each i, the weight of all j with place_j > place_i and rank_j below, equal to and above rank_i, (n,) each.

    The pair i, j is met once: at the highest bit in which the two places differ, i has 0 and j has 1. Each bit costs
    one sort, so all pairs cost O(n log^2 n).
    """
    n, width = len(place), int(rank.max()) + 1
    below, same, above = np.zeros(n), np.zeros(n), np.zeros(n)
    for bit in range(int(place.max()).bit_length()):
        upper = ((place >> bit) & 1).astype(bool)
        key = (place >> (bit + 1)) * width + rank
        right, left = np.flatnonzero(upper), np.flatnonzero(~upper)
        if len(right) == 0 or len(left) == 0:
            continue
        right = right[np.argsort(key[right], kind="stable")]
        cumulative = np.concatenate([[0.0], np.cumsum(weights[right])])
        keys, block = key[right], key[left] - rank[left]
        edges = [cumulative[np.searchsorted(keys, edge)] for edge in (block, key[left], key[left] + 1, block + width)]
        below[left] += edges[1] - edges[0]
        same[left] += edges[2] - edges[1]
        above[left] += edges[3] - edges[2]
    return below, same, above


def _ties(time: Floats, score: Floats, weights: Floats, pair_weight: Floats) -> tuple[float, float]:
    """Weighted pairs of events at one time with different scores, and with equal scores."""
    counted = pair_weight > 0
    t, x, w, v = time[counted], score[counted], weights[counted], pair_weight[counted]

    def within(keys: Floats) -> float:
        _, code = np.unique(keys, axis=0, return_inverse=True)
        code = code.reshape(len(t))
        total, square = np.bincount(code, weights=w), np.bincount(code, weights=w**2)
        shared = np.bincount(code, weights=v) / np.bincount(code)
        return float(np.sum(shared * (total**2 - square) / 2))

    same_time, same_both = within(t[:, None]), within(np.column_stack([t, x]))
    return same_time - same_both, same_both
