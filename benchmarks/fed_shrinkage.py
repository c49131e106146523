"""Shrinkage of a model that is fed by an out-of-fold score: which estimate comes nearest to what new patients need?

A ridge score of 30 weak features enters a logistic model with four covariates. The ideal factor is the calibration
slope of the unshrunken model in 4,000 new patients; beside it stand the bootstrap with the scores held fixed, which
osml uses, and the slope of pooled inner out-of-fold predictions. Median over data sets, and mean absolute log error.

    python benchmarks/fed_shrinkage.py
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome
from osml.engine import single_thread
from osml.errors import NotEstimableError
from osml.predictors.refits import calibration_slopes, draw_weights
from osml.stats.logistic import fit_logistic
from osml.stats.logistic_batch import fit_logistic_batch

Float = NDArray[np.float64]
FEATURES, FOLDS, BOOTSTRAPS, NEW = 30, 5, 60, 4000
PENALTY = 20.0
SCENARIOS = ((60, 0.0, 0.0), (60, 0.5, 0.1), (60, 0.8, 0.25), (150, 0.5, 0.1), (150, 0.8, 0.25))


def draw(n: int, covariate: float, feature: float, rng: np.random.Generator) -> tuple[Float, Float, Float]:
    """Covariates (n, 4), features (n, 30), outcome (n,); two covariates and eight features carry something."""
    c, f = rng.normal(size=(n, 4)), rng.normal(size=(n, FEATURES))
    eta = covariate * c[:, :2].sum(axis=1) + feature * f[:, :8].sum(axis=1)
    return c, f, (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)


def slope(y: Float, lp: Float) -> float:
    return float(calibration_slopes(lp[None], BinaryOutcome(y, "event", "none"), np.ones((1, len(y))))[0])


def one(n: int, covariate: float, feature: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Ideal, bootstrap and pooled inner factor of one data set."""
    c, f, y = draw(n, covariate, feature, rng)
    folds = rng.permutation(n) % FOLDS
    score = np.empty(n)
    for k in range(FOLDS):
        score[folds == k] = f[folds == k] @ fit_logistic(f[folds != k], y[folds != k], ridge=PENALTY).coef
    whole = fit_logistic(f, y, ridge=PENALTY).coef
    x = np.column_stack([c, score])
    fit = fit_logistic(x, y)
    c_new, f_new, y_new = draw(NEW, covariate, feature, rng)
    ideal = slope(y_new, fit.intercept + np.column_stack([c_new, f_new @ whole]) @ fit.coef)
    weights = draw_weights(tuple(map(str, range(n))), BOOTSTRAPS, rng)
    coefs, ok = fit_logistic_batch(x, y, weights)
    lp = coefs[ok][:, :1] + coefs[ok][:, 1:] @ x.T
    outcome = BinaryOutcome(y, "event", "none")
    inside = calibration_slopes(lp, outcome, weights[ok])
    outside = calibration_slopes(lp, outcome, np.ones_like(lp))
    bootstrap = 1 - float(np.nanmean(inside - outside))
    pooled = np.empty(n)
    for k in range(FOLDS):
        part = fit_logistic(x[folds != k], y[folds != k])
        pooled[folds == k] = part.intercept + x[folds == k] @ part.coef
    return ideal, float(np.clip(bootstrap, 0, 1)), float(np.clip(slope(y, pooled), 0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-sets", type=int, default=100)
    count = parser.parse_args().data_sets
    heads = f"{'n':>4} {'covariate':>10} {'feature':>8} {'ideal':>7} {'bootstrap':>10} {'pooled':>7}"
    print(f"{heads}   error bootstrap, pooled")
    for n, covariate, feature in SCENARIOS:
        rng = np.random.default_rng([n, int(100 * covariate), int(100 * feature)])
        found = []
        while len(found) < count:
            try:
                found.append(one(n, covariate, feature, rng))
            except NotEstimableError:  # separated: another data set
                continue
        rows = np.array(found)
        ideal, bootstrap, pooled = np.median(rows, axis=0)
        logs = np.log(np.clip(rows, 0.05, 1.5))
        errors = np.abs(logs[:, 1:] - logs[:, :1]).mean(axis=0)
        print(
            f"{n:4d} {covariate:10.1f} {feature:8.2f} {ideal:7.2f} {bootstrap:10.2f} {pooled:7.2f}   "
            f"{errors[0]:.2f}, {errors[1]:.2f}"
        )


if __name__ == "__main__":
    single_thread(main)
