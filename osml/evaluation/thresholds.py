"""Classification at one threshold: the four counts and the shares made of them, with intervals.

A threshold must be fixed before the patients it is judged on are seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from osml.errors import InvalidInputError
from osml.evaluation.inputs import as_labels
from osml.stats.inputs import confidence_level, vector


@dataclass(frozen=True)
class Proportion:
    """A share of patients, successes / n, with its interval; value, low and high are None when n is 0."""

    value: float | None
    low: float | None
    high: float | None
    successes: int
    n: int
    level: float
    kind: str


@dataclass(frozen=True)
class Confusion:
    """Counts at a threshold and what follows from them.

    Attributes
    ----------
    threshold : float
        Positive means score >= threshold.
    tp, fp, tn, fn : int
    accuracy, sensitivity, specificity, ppv, npv : Proportion
        Each with its interval; None inside where the denominator is 0.
    balanced_accuracy : float or None
        Mean of sensitivity and specificity.
    f1 : float or None
        2 tp / (2 tp + fp + fn); None when that is 0 / 0.
    """

    threshold: float
    tp: int
    fp: int
    tn: int
    fn: int
    accuracy: Proportion
    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion
    balanced_accuracy: float | None
    f1: float | None


def confusion(
    y: ArrayLike, score: ArrayLike, threshold: float, *, method: str = "wilson", level: float = 0.95
) -> Confusion:
    """Confusion counts and shares at a threshold.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; one row per patient, since the intervals take rows as independent.
    score : float array (n,)
        Score or probability; positive means score >= threshold.
    threshold : float
        Fixed in advance or chosen on training data, never on these patients.
    method : {"wilson", "exact"}
        Interval of the shares: Wilson's score interval or Clopper-Pearson.

    >>> at = confusion([1, 1, 0, 0], [.9, .4, .6, .1], threshold=0.5)
    >>> at.tp, at.fp, at.sensitivity.value, at.f1
    (1, 1, 0.5, 0.5)
    """
    labels = as_labels(y)
    s = vector(score, "score", len(labels))
    if np.isnan(threshold):
        raise InvalidInputError("threshold is NaN")
    positive, event = s >= threshold, labels == 1
    tp, fp = int((positive & event).sum()), int((positive & ~event).sum())
    fn, tn = int((~positive & event).sum()), int((~positive & ~event).sum())

    def share(k: int, n: int) -> Proportion:
        return proportion(k, n, method=method, level=level)

    sensitivity, specificity = share(tp, tp + fn), share(tn, tn + fp)
    both = (sensitivity.value, specificity.value)
    return Confusion(
        threshold=float(threshold),
        tp=tp,
        fp=fp,
        tn=tn,
        fn=fn,
        accuracy=share(tp + tn, len(labels)),
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=share(tp, tp + fp),
        npv=share(tn, tn + fn),
        balanced_accuracy=None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2,
        f1=2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
    )


def proportion(successes: int, n: int, *, method: str = "wilson", level: float = 0.95) -> Proportion:
    """Binomial proportion with Wilson's score interval or the exact one of Clopper and Pearson (`Hmisc::binconf`).

    One success (or one failure) takes the one-sided Poisson limit of Brown, Cai and DasGupta 2001 on that side, as
    binconf does: Wilson's own covers too little there.

    >>> found = proportion(26, 41)
    >>> round(found.low, 6), round(found.high, 6)
    (0.481207, 0.764102)
    """
    if not 0 <= successes <= n:
        raise InvalidInputError(f"{successes} successes of {n}; expected 0 <= successes <= n")
    alpha = 1 - confidence_level(level)
    if method not in _KINDS:
        raise InvalidInputError(f"method = {method!r}; expected one of {', '.join(_KINDS)}")
    if n == 0:
        return Proportion(None, None, None, 0, 0, level, _KINDS[method])
    share = successes / n
    if method == "exact":
        low = float(stats.beta.ppf(alpha / 2, successes, n - successes + 1)) if successes else 0.0
        high = float(stats.beta.isf(alpha / 2, successes + 1, n - successes)) if successes < n else 1.0
    else:
        z2 = float(stats.norm.isf(alpha / 2)) ** 2
        half = float(np.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n))
        # At 0 and n the closed form is exactly 0 or 1; rounding would leave 1e-17.
        low = (share + z2 / (2 * n) - half) / (1 + z2 / n) if successes else 0.0
        high = (share + z2 / (2 * n) + half) / (1 + z2 / n) if successes < n else 1.0
        if successes == 1:
            low = -float(np.log1p(-alpha)) / n
        if successes == n - 1:
            high = 1 + float(np.log1p(-alpha)) / n
    return Proportion(share, low, high, int(successes), int(n), level, _KINDS[method])


_KINDS = {"wilson": "Wilson score", "exact": "Clopper-Pearson exact"}
