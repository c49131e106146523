"""Optimism of a model judged on the data it was fitted to: the bootstrap of Efron and Harrell.

Harrell, Lee and Mark 1996, Stat Med 15:361; `rms::validate.lrm`, `rms::calibrate.lrm`. Every step that learns from data
belongs inside a replicate. The fast path here serves a logistic model with a fixed design; any other pipeline computes
`validation_measures` for each replicate and hands the arrays to `optimism`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.bootstrap import Interval, corrected_auc_interval, corrected_slope_interval
from osml.evaluation.inputs import Floats, as_labels
from osml.evaluation.loess import smooth_sorted
from osml.evaluation.measures import MEASURES, emax, measures_batch
from osml.stats.inputs import design_array, vector
from osml.stats.logistic import fit_logistic, fit_logistic_batch


@dataclass(frozen=True)
class Optimism:
    """Apparent and optimism-corrected values of k measures.

    Attributes
    ----------
    names : tuple of str (k,)
    apparent : float array (k,)
        Model fitted to, and judged on, all patients.
    training, test : float array (k,)
        Means over the replicates of the refitted models, judged on their own sample and on all patients.
    optimism : float array (k,)
        training - test.
    corrected : float array (k,)
        apparent - optimism.
    used : int array (k,)
        Replicates that count, out of `replicates`; the rest failed and are to be reported.
    replicates : int
    """

    names: tuple[str, ...]
    apparent: Floats
    training: Floats
    test: Floats
    optimism: Floats
    corrected: Floats
    used: NDArray[np.intp]
    replicates: int

    def of(self, name: str) -> tuple[float, float]:
        """Apparent and corrected value of one measure."""
        if name not in self.names:
            raise InvalidInputError(f"no measure {name!r}", do=f"Measures: {', '.join(self.names)}.")
        k = self.names.index(name)
        return float(self.apparent[k]), float(self.corrected[k])

    @property
    def failed(self) -> int:
        """Replicates that failed for at least one measure."""
        return int(self.replicates - self.used.min())


def optimism(
    apparent: ArrayLike,
    boot_on_boot: ArrayLike,
    boot_on_original: ArrayLike,
    names: tuple[str, ...] = MEASURES,
) -> Optimism:
    """Combine measures of refitted models into optimism-corrected ones.

    Parameters
    ----------
    apparent : float array (k,)
    boot_on_boot, boot_on_original : float arrays (B, k)
        Each replicate's model judged on its own sample, and on all patients. NaN marks a replicate that failed: it is
        left out of that measure and counted.
    names : tuple of str (k,)
        Where it holds `emax`, `intercept` and `slope`, Emax is recomputed from the corrected two, as `rms` does: a
        mean of maxima would never be 0.

    >>> found = optimism([0.8], [[0.84], [0.82]], [[0.76], [0.78]], names=("auc",))
    >>> found.corrected.round(6)
    array([0.74])
    """
    first = vector(apparent, "apparent")
    train, test = np.asarray(boot_on_boot, dtype=np.float64), np.asarray(boot_on_original, dtype=np.float64)
    if train.ndim != 2 or train.shape != test.shape or train.shape[1] != len(first) or len(names) != len(first):
        raise InvalidInputError(
            f"apparent {first.shape}, boot_on_boot {train.shape}, boot_on_original {test.shape} and {len(names)} names "
            "do not match; expected (k,), (B, k), (B, k) and k"
        )
    return _combine(first, train, test, names)


def _combine(apparent: Floats, train: Floats, test: Floats, names: tuple[str, ...]) -> Optimism:
    good = np.isfinite(train) & np.isfinite(test)
    used = good.sum(axis=0)
    if (used == 0).any():
        raise NotEstimableError(
            f"all {len(train)} replicates failed for {', '.join(np.array(names)[used == 0].tolist())}",
            do="The model is too large for these patients: use fewer parameters or a penalty.",
        )
    mean_train = np.where(good, train, 0.0).sum(axis=0) / used
    mean_test = np.where(good, test, 0.0).sum(axis=0) / used
    if {"emax", "intercept", "slope"} <= set(names):
        k, a, b = (names.index(name) for name in ("emax", "intercept", "slope"))
        mean_train[k] = emax(mean_train[a], mean_train[b])
        corrected = [apparent[j] - (mean_train[j] - mean_test[j]) for j in (a, b)]
        # Chosen so that apparent - optimism is the Emax of the corrected intercept and slope.
        mean_test[k] = emax(*corrected) - apparent[k] + mean_train[k]
    gap = mean_train - mean_test
    return Optimism(names, apparent, mean_train, mean_test, gap, apparent - gap, used, len(train))


@dataclass(frozen=True)
class CalibrationCurve:
    """Lowess calibration curve at `p`, apparent and optimism-corrected; `used` replicates reach each point."""

    p: Floats
    apparent: Floats
    corrected: Floats
    used: NDArray[np.intp]
    replicates: int


@dataclass(frozen=True)
class LogisticOptimism:
    """Optimism of a logistic model.

    Attributes
    ----------
    summary : Optimism
        All of `MEASURES`.
    boot_on_boot, boot_on_original : float arrays (B, k)
        Per replicate; NaN rows failed.
    coefs : float array (B, p + 1)
        Refitted coefficients, intercept first; NaN rows failed (separation, one class, no convergence).
    auc, slope : Interval
        Optimism-corrected, with an interval for the fitted model in new patients.
    curve : CalibrationCurve or None
    """

    summary: Optimism
    boot_on_boot: Floats
    boot_on_original: Floats
    coefs: Floats
    auc: Interval
    slope: Interval
    curve: CalibrationCurve | None


def optimism_logistic(
    X: ArrayLike,
    y: ArrayLike,
    draws: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    curve_at: ArrayLike | None = None,
    level: float = 0.95,
) -> LogisticOptimism:
    """Bootstrap optimism of an unpenalised logistic model with a fixed design, all replicates at once.

    Parameters
    ----------
    X : float array (n, p)
        Without an intercept column. Its columns are taken as given: knots or selections learnt from the data need the
        full pipeline instead.
    y : bool or 0/1 array (n,)
    draws : int array (B, m)
        Rows of each bootstrap sample, from 0.
    counts : array (B, n)
        Instead of `draws`: how often each row is drawn, e.g. `resample_patients(groups, B, seed)`.
    curve_at : float array (m,), optional
        Probabilities at which to correct the lowess calibration curve (`rms::calibrate`); a replicate counts at a point
        only where both of its curves reach it.
    level : float
        Of the intervals of AUC and slope.

    Raises
    ------
    NotEstimableError
        The model on all patients has no estimate, or every replicate failed.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> found = optimism_logistic(X, rng.random(100) < 1 / (1 + np.exp(-X[:, 0])), rng.integers(100, size=(50, 100)))
    >>> apparent, corrected = found.summary.of("auc")
    >>> corrected < apparent
    True
    """
    design = design_array(X)
    labels = as_labels(y, both=True)
    n = len(labels)
    if len(design) != n:
        raise InvalidInputError(f"X has {len(design)} rows, y {n}")
    weight = _counts(draws, counts, n)
    fit = fit_logistic(design, labels)
    coefs, converged = fit_logistic_batch(design, labels, weight)
    # Equal rows get bitwise equal linear predictors, so that ties stay ties.
    distinct, inverse = np.unique(design, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)

    def predict(beta: Floats) -> Floats:
        return (beta[:, :1] + beta[:, 1:] @ distinct.T)[:, inverse]

    own = predict(fit.parameters[None, :])
    apparent = measures_batch(labels, own, np.ones((1, n)))[0]
    good = np.flatnonzero(converged)
    train, test = np.full((len(weight), len(MEASURES)), np.nan), np.full((len(weight), len(MEASURES)), np.nan)
    lp = predict(coefs[good])
    if len(good):
        train[good] = measures_batch(labels, lp, weight[good])
        test[good] = measures_batch(labels, lp, np.ones((len(good), n)))
    curve = None
    if curve_at is not None:
        curve = _curve(labels, expit(own[0]), expit(lp), weight[good], vector(curve_at, "curve_at"), len(weight))
    summary = _combine(apparent, train, test, MEASURES)
    events = int(labels.sum())
    area = corrected_auc_interval(*summary.of("auc"), events, n - events, level, parameters=design.shape[1])
    slope = corrected_slope_interval(own[0], summary.of("intercept")[1], summary.of("slope")[1], level)
    return LogisticOptimism(summary, train, test, coefs, area, slope, curve)


def calibration_grid(p: ArrayLike, points: int = 50) -> Floats:
    """Grid of `rms::calibrate`: equally spaced from the 5th smallest to the 5th largest probability.

    >>> calibration_grid([.1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .99], points=3)
    array([0.5, 0.6, 0.7])
    """
    ordered = np.sort(vector(p, "p"))
    if len(ordered) < 11:
        raise NotEstimableError(f"{len(ordered)} patients: a calibration grid needs at least 11")
    return np.linspace(ordered[4], ordered[-5], points)


def _counts(draws: ArrayLike | None, counts: ArrayLike | None, n: int) -> Floats:
    if (draws is None) == (counts is None):
        raise InvalidInputError("give either draws or counts")
    if counts is not None:
        weight = np.asarray(counts, dtype=np.float64)
        if weight.ndim != 2 or weight.shape[1] != n:
            raise InvalidInputError(f"counts have shape {weight.shape}; expected (B, {n})")
        if not np.isfinite(weight).all() or (weight < 0).any() or (weight != np.round(weight)).any():
            raise InvalidInputError("counts must be whole numbers, 0 or more")
        return weight
    index = np.asarray(draws)
    if index.ndim != 2 or index.dtype.kind not in "iu":
        raise InvalidInputError(f"draws have shape {index.shape} and type {index.dtype}; expected integers (B, m)")
    if index.size and (index.min() < 0 or index.max() >= n):
        raise InvalidInputError(f"draws range over {index.min()}..{index.max()}; rows are 0..{n - 1}")
    shifted = index + n * np.arange(len(index))[:, None]
    return np.bincount(shifted.ravel(), minlength=n * len(index)).reshape(len(index), n).astype(np.float64)


def _curve(labels: Floats, own: Floats, p: Floats, weight: Floats, at: Floats, replicates: int) -> CalibrationCurve:
    apparent = _smooth_at(own, labels, None, at)
    total, used = np.zeros(len(at)), np.zeros(len(at), dtype=np.intp)
    for row, count in zip(p, weight, strict=True):
        gap = _smooth_at(row, labels, count, at) - _smooth_at(row, labels, None, at)
        reached = np.isfinite(gap)
        total[reached] += gap[reached]
        used += reached
    corrected = apparent - np.divide(total, used, out=np.full(len(at), np.nan), where=used > 0)
    return CalibrationCurve(at, apparent, corrected, used, replicates)


def _smooth_at(p: Floats, labels: Floats, count: Floats | None, at: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    if count is not None:
        order = np.repeat(order, count[order].astype(np.intp))
    x = p[order]
    smooth = smooth_sorted(x, labels[order], 2 / 3, 0, 0.01 * (x[-1] - x[0]))
    return np.interp(at, x, smooth, left=np.nan, right=np.nan)
