"""Is acting on a model better than treating everyone, or no one? Net benefit over decision thresholds.

Vickers and Elkin 2006, Med Decis Making 26:565; standardised net benefit: Kerr et al. 2016, J Clin Oncol 34:2534. The
thresholds belong to a stated decision and are fixed before fitting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, FIXED, resample_patients
from osml.evaluation.inputs import Floats, as_groups, as_labels, as_probabilities
from osml.stats.inputs import confidence_level, vector


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit at each threshold, arrays (T,).

    Attributes
    ----------
    thresholds : float array
        Risk from which one would act; the action is taken when p >= threshold.
    model, treat_all : float array
        Net benefit in true positives per patient; `treat_none` is 0.
    standardised : float array
        `model` / prevalence: 1 is the most that any model reaches.
    interventions_avoided : float array
        Per 100 patients, net, against treating all.
    true_positives, false_positives : float array
        Per patient, at `prevalence`.
    prevalence : float
        Observed, or as given.
    """

    thresholds: Floats
    model: Floats
    treat_all: Floats
    treat_none: Floats
    standardised: Floats
    interventions_avoided: Floats
    true_positives: Floats
    false_positives: Floats
    prevalence: float


@dataclass(frozen=True)
class DecisionBand:
    """Pointwise bootstrap limits, arrays (T,), of the model's net benefit and of its gain over treating all.

    `used` counts the replicates at which both classes were drawn, out of `replicates`.
    """

    thresholds: Floats
    low: Floats
    high: Floats
    gain_low: Floats
    gain_high: Floats
    level: float
    kind: str
    used: int
    replicates: int


def net_benefit(y: ArrayLike, p: ArrayLike, thresholds: ArrayLike, *, prevalence: float | None = None) -> DecisionCurve:
    """Net benefit of acting on p, of treating all and of treating none.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; both classes needed.
    p : float array (n,)
        Held-out probabilities.
    thresholds : float array (T,)
        Strictly between 0 and 1.
    prevalence : float, optional
        Of the population in question, for case-control or enriched samples: sensitivity and specificity are kept and
        the mix of events is replaced. p must have been recalibrated to it. Default: the observed share.

    >>> curve = net_benefit([1, 1, 0, 0], [.9, .4, .3, .1], [0.2, 0.5])
    >>> curve.model, curve.treat_all
    (array([0.4375, 0.25  ]), array([0.375, 0.   ]))
    """
    labels, act, t, rate = _prepared(y, p, thresholds, prevalence)
    return _curve(labels, act, t, rate)


def net_benefit_band(
    y: ArrayLike,
    p: ArrayLike,
    thresholds: ArrayLike,
    B: int,
    seed: int | np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    prevalence: float | None = None,
    level: float = 0.95,
    fixed_model: bool = False,
) -> DecisionBand:
    """Percentile limits of net benefit by drawing patients with replacement.

    Parameters
    ----------
    y, p, thresholds, prevalence
        As in `net_benefit`.
    B : int
        Replicates.
    seed : int or Generator
    groups : array (n,), optional
        Patient of each row; all rows of a patient are drawn together. Default: one row per patient.
    fixed_model : bool
        True only for one model fitted to other patients; else the limits leave out the variation of the fitting, and
        `kind` says so.

    >>> import numpy as np
    >>> p = np.linspace(.05, .95, 60)
    >>> band = net_benefit_band(np.arange(60) % 3 < 60 * p / 20, p, [0.3], 200, seed=1)
    >>> bool(band.low[0] < band.high[0])
    True
    """
    labels, act, t, rate = _prepared(y, p, thresholds, prevalence)
    level = confidence_level(level)
    n = len(labels)
    patients = np.arange(n) if groups is None else as_groups(groups, n)
    counts = resample_patients(patients, B, seed).astype(np.float64)
    model, gain = _replicates(labels, act, t, rate, counts)
    usable = np.isfinite(model[:, 0])
    model, gain = model[usable], gain[usable]
    if len(model) < 2:
        raise NotEstimableError(f"{len(model)} of {B} replicates hold both classes: no limits", do="Use a larger B.")
    tails = [(1 - level) / 2, (1 + level) / 2]
    (low, high), (gain_low, gain_high) = np.quantile(model, tails, axis=0), np.quantile(gain, tails, axis=0)
    kind = FIXED if fixed_model else CONDITIONAL
    return DecisionBand(t, low, high, gain_low, gain_high, level, kind, len(model), B)


def net_benefit_batch(
    y: ArrayLike, p: ArrayLike, thresholds: ArrayLike, weights: ArrayLike, *, prevalence: float | None = None
) -> Floats:
    """Net benefit under B weightings of the rows, float array (B, T); NaN where a class has no weight.

    Integer weights equal repeating the rows: `net_benefit(y, p, thresholds)` on each. For paired differences of two
    predictors under the same resamples.

    >>> net_benefit_batch([1, 1, 0, 0], [.9, .4, .3, .1], [0.2, 0.5], [[1, 1, 1, 1], [1, 1, 0, 0]])
    array([[0.4375, 0.25  ],
           [   nan,    nan]])
    """
    labels, act, t, rate = _prepared(y, p, thresholds, prevalence)
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != len(labels) or not np.isfinite(w).all() or (w < 0).any():
        raise InvalidInputError(f"weights have shape {w.shape}; expected (B, {len(labels)}), finite and not negative")
    return _replicates(labels, act, t, rate, w)[0]


def _replicates(labels: Floats, act: Floats, t: Floats, rate: float | None, w: Floats) -> tuple[Floats, Floats]:
    """Net benefit of the model and its gain over treating all, (B, T) each; NaN where a class has no weight."""
    total, events = w.sum(axis=1)[:, None], (w @ labels)[:, None]
    both = (events > 0) & (events < total)
    total, events = np.where(both, total, np.nan), np.where(both, events, np.nan)
    share = events / total if rate is None else np.full_like(events, rate)
    odds = t / (1 - t)
    true = w @ (act * labels[:, None]) / events * share
    false = w @ (act * (1 - labels[:, None])) / (total - events) * (1 - share)
    model = true - false * odds
    return model, model - (share - (1 - share) * odds)


def _prepared(
    y: ArrayLike, p: ArrayLike, thresholds: ArrayLike, prevalence: float | None
) -> tuple[Floats, Floats, Floats, float | None]:
    labels = as_labels(y, both=True)
    q = as_probabilities(p, len(labels))
    t = np.atleast_1d(vector(np.atleast_1d(np.asarray(thresholds)), "thresholds"))
    if len(t) == 0 or t.min() <= 0 or t.max() >= 1:
        raise InvalidInputError(f"thresholds must lie strictly between 0 and 1; got {t.tolist()[:5]}")
    if prevalence is not None and not 0 < prevalence < 1:
        raise InvalidInputError(f"prevalence = {prevalence!r}; expected a share strictly between 0 and 1")
    return labels, (q[:, None] >= t).astype(np.float64), t, prevalence


def _curve(labels: Floats, act: Floats, t: Floats, prevalence: float | None) -> DecisionCurve:
    observed = float(labels.mean())
    rate = observed if prevalence is None else float(prevalence)
    true = labels @ act / labels.sum() * rate
    false = (1 - labels) @ act / (1 - labels).sum() * (1 - rate)
    odds = t / (1 - t)
    model, treat_all = true - false * odds, rate - (1 - rate) * odds
    return DecisionCurve(
        thresholds=t,
        model=model,
        treat_all=treat_all,
        treat_none=np.zeros_like(t),
        standardised=model / rate,
        interventions_avoided=100 * (model - treat_all) / odds,
        true_positives=true,
        false_positives=false,
        prevalence=rate,
    )
