"""One candidate out of several, chosen on held-out losses, and what the chosen one is worth after the choice.

The best of many candidates looks better than it is, because it was best on these very patients. So the choice is made
anew in bootstrap samples of patients, and each sample's winner is judged on the patients that were not drawn
(Tsamardinos, Greasidou and Borboudakis 2018, Mach Learn 107:1895, with patients as units and the rule below).

Out of fold that is not quite enough: the models that judge drawn patients were trained on patients that were not drawn,
and the other way round, so some luck is shared by both. Of a candidate with nothing but noise, write the mean as a sum
over pairs of patients i, j in different folds, each the other's training patient once. With weights w of a bootstrap
sample (mean 1, mean square 2) and v of the patients not drawn (mean 1, and w v = 0), what the winner gains on the drawn
patients returns on the others by the slope E (w_i + w_j)(v_i + v_j) / E (w_i + w_j)^2 = 2 / 6. Noise of test patients
alone has slope 0. `SHARED` stands halfway; `benchmarks/noise_selection.py` shows what is then left.

The rule is fixed before the losses are seen. The best candidate has the lowest mean loss. Chosen is the simplest one
whose mean paired difference to the best is at most one standard error of that difference (Breiman et al. 1984,
section 3.4.3, here with paired differences). The patient is the unit of the standard error: the losses of all rows and
repeats of a patient are added up first, and the mean over rows is a ratio of two sums over patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.bootstrap import resample_patients
from osml.evaluation.inputs import Floats, as_groups
from osml.stats.inputs import confidence_level

CHOSEN_ANEW = (
    "percentiles over resamples of patients, the choice made anew in each and judged on the patients not drawn (about "
    "37 %), so wide; the fitted models are held fixed"
)
SHARED = 1 / 6  # of what a winner gains on the patients that chose it, found on the others through shared training
_ROUNDING = 1e-12  # of mean losses, which are of the order of 1


@dataclass(frozen=True)
class PatientLosses:
    """Losses of K candidates added up over all rows and repeats of each of G patients.

    Attributes
    ----------
    total : float array (K, G)
        Infinite losses are left out of it.
    infinite : float array (K, G)
        How many losses were infinite.
    count : float array (G,)
        Rows times repeats of each patient, at least 1; the same for all candidates.
    """

    total: Floats
    infinite: Floats
    count: Floats


@dataclass(frozen=True)
class Choice:
    """What the rule says. Arrays (K,) in the order of the candidates.

    Attributes
    ----------
    loss : float array
        Mean over rows and repeats.
    difference, se : float array
        Loss minus that of the best, and the standard error of this paired difference; 0 and 0 for the best. Infinite
        and NaN for a candidate with an infinite loss.
    within : bool array
        difference <= se: no worse than the best as far as these patients can tell.
    best, chosen : int
    """

    loss: Floats
    difference: Floats
    se: Floats
    within: NDArray[np.bool_]
    best: int
    chosen: int


@dataclass(frozen=True)
class Choices:
    """The rule applied to B bootstrap samples of patients.

    Attributes
    ----------
    drawn : int array (B, G)
        How often each patient was drawn.
    chosen : int array (B,)
        The candidate chosen in each sample.
    candidates : int
    """

    drawn: NDArray[np.int64]
    chosen: NDArray[np.intp]
    candidates: int

    @property
    def share(self) -> Floats:
        """Share of the samples in which each candidate was chosen, float array (K,)."""
        return np.bincount(self.chosen, minlength=self.candidates) / len(self.chosen)


@dataclass(frozen=True)
class Corrected:
    """A measure after the choice: mean and percentile limits over the samples in which it exists.

    Attributes
    ----------
    value, low, high : float or None
        None where `failed` samples without a value are more than half of all (`value`) or more than a tenth (limits).
    left_out, drawn : float or None
        Mean on the patients not drawn, and on the drawn ones.
    used, failed : int
        Samples with and without a value.
    infinite : bool
        The measure is infinite in some sample: no mean then.
    """

    value: float | None
    low: float | None
    high: float | None
    left_out: float | None
    drawn: float | None
    used: int
    failed: int
    infinite: bool = False


def patient_losses(losses: ArrayLike, patients: ArrayLike) -> PatientLosses:
    """Add up losses by patient.

    Parameters
    ----------
    losses : float array (K, R, n) or (K, n)
        Held-out loss of each candidate, repeat and row; NaN where a row was not held out in a repeat, which must be
        the same for all candidates. Infinite is allowed, -inf is not.
    patients : array (n,)
        Patient of each row. Patients are numbered in order of first appearance.

    Raises
    ------
    InvalidInputError
        Candidates were judged on different rows, or a patient has no loss at all.

    >>> patient_losses([[0.2, 0.4, 0.6]], ["a", "a", "b"]).total.round(6)
    array([[0.6, 0.6]])
    """
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim == 2:
        x = x[:, None, :]
    if x.ndim != 3 or 0 in x.shape:
        raise InvalidInputError(f"losses have shape {x.shape}; expected (candidates, repeats, rows)")
    if np.isneginf(x).any():
        raise InvalidInputError("a loss is -inf; a loss is a number, +inf, or NaN where a row was not held out")
    absent = np.isnan(x)
    if (absent != absent[0]).any():
        k = int(np.flatnonzero((absent != absent[0]).any(axis=(1, 2)))[0])
        raise InvalidInputError(
            f"candidates 0 and {k} were judged on different rows", why="Their losses would not be paired."
        )
    codes = as_groups(patients, x.shape[2])
    member = np.zeros((x.shape[2], int(codes.max()) + 1))
    member[np.arange(len(codes)), codes] = 1.0
    count = (~absent[0]).sum(axis=0) @ member
    if (count == 0).any():
        raise InvalidInputError(f"{int((count == 0).sum())} patients have no loss at all", do="Leave them out.")
    infinite = np.isinf(x)
    total = np.where(absent | infinite, 0.0, x).sum(axis=1) @ member
    return PatientLosses(total, infinite.sum(axis=1) @ member, count)


def mean_losses(losses: PatientLosses, weights: ArrayLike | None = None) -> Floats:
    """Mean loss over rows and repeats under B weightings of patients, float array (B, K); NaN without any weight.

    >>> mean_losses(patient_losses([[0.2, 0.4, 0.6]], ["a", "a", "b"]), [[1, 1], [0, 1]]).round(6).ravel()
    array([0.4, 0.6])
    """
    w = _weights(losses, weights)
    rows = (w @ losses.count)[:, None]
    mean = np.divide(w @ losses.total.T, rows, out=np.full((len(w), len(losses.total)), np.nan), where=rows > 0)
    return np.where(w @ losses.infinite.T > 0, np.inf, mean)


def choose(losses: PatientLosses, ranks: ArrayLike, weights: ArrayLike | None = None) -> Choice:
    """Apply the rule.

    Parameters
    ----------
    losses : PatientLosses
    ranks : int array (K,)
        Complexity; the lower, the simpler. Among candidates of one rank the lower loss decides, then the order given.
    weights : float array (G,), optional
        Frequency weights: a patient of weight 2 counts as two patients.

    Raises
    ------
    NotEstimableError
        Fewer than two patients, or every candidate has an infinite loss.

    >>> x = [[0.50, 0.30, 0.70, 0.50], [0.60, 0.30, 0.70, 0.52], [0.90, 0.80, 0.90, 0.80]]
    >>> found = choose(patient_losses(x, [0, 1, 2, 3]), ranks=[2, 1, 0])
    >>> found.best, found.chosen, found.within.tolist()    # 1 is 0.03 worse than 0, with a standard error of 0.024
    (0, 0, [True, False, False])
    """
    w = _weights(losses, None if weights is None else np.asarray(weights, dtype=np.float64)[None])
    loss, difference, se, within, best, chosen = _rule(losses, _ranks(losses, ranks), w)
    return Choice(loss[0], difference[0], se[0], within[0], int(best[0]), int(chosen[0]))


def choose_anew(
    losses: PatientLosses,
    ranks: ArrayLike,
    B: int,
    seed: int | np.random.Generator,
    *,
    strata: ArrayLike | None = None,
) -> Choices:
    """Apply exactly the same rule in B bootstrap samples of patients, each with all its rows and repeats.

    Parameters
    ----------
    losses, ranks
        As for `choose`.
    B : int
        Samples; 1,000 for stable limits.
    seed : int or Generator
    strata : array (G,), optional
        Patients are drawn within strata, such as the groups that were left out in turn.

    Notes
    -----
    O(B G K) time for each candidate that is the best of some sample.

    >>> found = choose_anew(patient_losses([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]], [0, 1, 2]), [0, 1], 50, seed=1)
    >>> found.share
    array([1., 0.])
    """
    patients = np.arange(losses.total.shape[1])
    drawn = resample_patients(patients, B, seed, strata=strata)
    chosen = _rule(losses, _ranks(losses, ranks), drawn.astype(np.float64))[-1]
    return Choices(drawn, chosen, len(losses.total))


def judge_left_out(choices: Choices, measure: Callable[[int, Floats], Floats]) -> Floats:
    """The measure of each sample's winner on the patients that were not drawn, float array (B,).

    Parameters
    ----------
    measure : callable
        Takes a candidate and weights of patients (b, G), and returns (b,); NaN where it does not exist.
    """
    return _judged(choices, measure, (choices.drawn == 0).astype(np.float64))


def judge_drawn(choices: Choices, measure: Callable[[int, Floats], Floats]) -> Floats:
    """The measure of each sample's winner on the very patients that chose it, float array (B,); as `judge_left_out`."""
    return _judged(choices, measure, choices.drawn.astype(np.float64))


def corrected(left_out: ArrayLike, drawn: ArrayLike | None = None, level: float = 0.95) -> Corrected:
    """Mean over the samples, and percentile limits.

    Parameters
    ----------
    left_out : float array (B,)
        From `judge_left_out`.
    drawn : float array (B,), optional
        From `judge_drawn`, under cross-validation: (left_out - SHARED * drawn) / (1 - SHARED) is then the value, and
        the limits move with it. Without it, for one model tested on other patients, `left_out` stands.

    >>> found = corrected([0.5, 0.6, 0.7, float("nan")])
    >>> round(found.value, 6), found.low, found.used, found.failed
    (0.6, None, 3, 1)
    >>> round(corrected([0.60, 0.60], [0.65, 0.65]).value, 6)
    0.59
    """
    x = np.asarray(left_out, dtype=np.float64)
    z = x if drawn is None else np.asarray(drawn, dtype=np.float64)
    if x.ndim != 1 or x.shape != z.shape:
        raise InvalidInputError(f"left_out and drawn have shapes {x.shape} and {z.shape}; expected (B,) both")
    tail = (1 - confidence_level(level)) / 2
    good = ~(np.isnan(x) | np.isnan(z))
    used, failed = int(good.sum()), int((~good).sum())
    if np.isinf(x[good]).any() or np.isinf(z[good]).any():
        return Corrected(None, None, None, None, None, used, failed, infinite=True)
    if not used or failed > len(x) / 2:
        return Corrected(None, None, None, None, None, used, failed)
    away, own = float(x[good].mean()), float(z[good].mean())
    shift = 0.0 if drawn is None else SHARED / (1 - SHARED) * (away - own)
    low = high = None
    if failed <= len(x) / 10 and used > 1:
        low, high = (float(limit) + shift for limit in np.quantile(x[good], [tail, 1 - tail]))
    return Corrected(away + shift, low, high, away, None if drawn is None else own, used, failed)


def _judged(choices: Choices, measure: Callable[[int, Floats], Floats], weights: Floats) -> Floats:
    out = np.full(len(choices.chosen), np.nan)
    for k in np.unique(choices.chosen).tolist():
        mine = choices.chosen == k
        out[mine] = measure(k, weights[mine])
    return out


def _weights(losses: PatientLosses, weights: ArrayLike | None) -> Floats:
    patients = losses.total.shape[1]
    if weights is None:
        return np.ones((1, patients))
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != patients or not np.isfinite(w).all() or (w < 0).any():
        raise InvalidInputError(f"weights have shape {w.shape}; expected (B, {patients}), finite and not negative")
    return w


def _ranks(losses: PatientLosses, ranks: ArrayLike) -> Floats:
    out = np.asarray(ranks, dtype=np.float64)
    if out.shape != (len(losses.total),) or not np.isfinite(out).all():
        raise InvalidInputError(f"ranks have shape {out.shape}; expected ({len(losses.total)},), one per candidate")
    return out


def _rule(
    losses: PatientLosses, ranks: Floats, w: Floats
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """Loss, difference, se and within (B, K); best and chosen (B,)."""
    if w.sum(axis=1).min() < 2:
        raise NotEstimableError("a standard error over patients needs at least two of them")
    loss = mean_losses(losses, w)
    if np.isinf(loss).all(axis=1).any():
        raise NotEstimableError("every candidate gave probability 0 to an outcome that occurred: no loss is finite")
    best = loss.argmin(axis=1)
    difference, se = np.empty_like(loss), np.empty_like(loss)
    for k in np.unique(best).tolist():
        mine = best == k
        difference[mine], se[mine] = _paired(losses, k, w[mine])
    difference[np.isinf(loss)], se[np.isinf(loss)] = np.inf, np.nan
    within = difference <= np.where(np.isnan(se), 0.0, se) + _ROUNDING
    rank = np.where(within, ranks, np.inf)
    simplest = rank == rank.min(axis=1, keepdims=True)
    chosen = np.where(simplest, difference, np.inf).argmin(axis=1)
    return loss, difference, se, within, best, chosen


def _paired(losses: PatientLosses, best: int, w: Floats) -> tuple[Floats, Floats]:
    """Mean difference of each candidate to the best and its standard error, (B, K) each.

    The mean over rows is a ratio of sums over patients, D = Σ w d / Σ w N, and a patient's influence on it is
    (d - D N) / Σ w N. The unweighted mean is taken off first, so that nearly equal losses lose no digits.
    """
    count = losses.count
    d = losses.total - losses.total[best]
    middle = d.sum(axis=1) / count.sum()
    d -= middle[:, None] * count
    rows = (w @ count)[:, None]
    off = w @ d.T / rows
    squares = w @ (d**2).T - 2 * off * (w @ (d * count).T) + off**2 * (w @ count**2)[:, None]
    m = w.sum(axis=1, keepdims=True)
    return middle + off, np.sqrt(np.maximum(squares, 0.0) * m / (m - 1)) / rows
