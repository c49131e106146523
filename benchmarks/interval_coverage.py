"""Coverage of the 95 % intervals that a developed logistic model is reported with.

The target is the fitted model's own AUC and calibration slope in the population, computed on a large independent
sample with the true probabilities as weights. Eight predictors, unpenalised logistic regression. `--truth` sets their
strength: `moderate` (AUC of the true model 0.72, 37 % events), `strong` (0.82, 40 %), `weak` (0.56, 35 %) and `rare`
(0.73, 11 %).
"""

from __future__ import annotations

import argparse

import numpy as np

from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import location_shifted_interval
from osml.evaluation.measures import MEASURES, measures_batch
from osml.evaluation.optimism import LogisticOptimism, optimism_logistic
from osml.stats.logistic import fit_logistic

AUC, SLOPE = MEASURES.index("auc"), MEASURES.index("slope")
TRUTHS = {
    "moderate": (-0.9, [0.7, -0.5, 0.4, 0.3, 0.2, 0.0, 0.8, 0.0]),
    "strong": (-1.2, [1.2, -0.8, 0.7, 0.5, 0.3, 0.0, 1.2, 0.5]),
    "weak": (-0.7, [0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0]),
    "rare": (-2.6, [0.7, -0.5, 0.4, 0.3, 0.2, 0.0, 0.8, 0.0]),
}
WANTED = 0.92


def sample(rng: np.random.Generator, n: int, truth: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictors (n, 8), two of them correlated and two binary, and the true probabilities."""
    x = rng.normal(size=(n, 8))
    x[:, 1] = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
    x[:, 6], x[:, 7] = x[:, 6] > 0.5, x[:, 7] > 0
    intercept, coef = TRUTHS[truth]
    return x, 1 / (1 + np.exp(-(intercept + x @ np.array(coef))))


def intervals(found: LogisticOptimism) -> dict[str, tuple[float, float]]:
    """Limits by method."""
    apparent, corrected = found.summary.of("auc")
    shifted = location_shifted_interval(apparent, found.boot_on_boot[:, AUC], apparent - corrected, bounds=(0, 1))
    return {
        "AUC, reported": (found.auc.low, found.auc.high),
        "AUC, location-shifted": (shifted.low, shifted.high),
        "slope, reported": (found.slope.low, found.slope.high),
    }


def coverage(n: int, truth: str, repeats: int, replicates: int, seed: int) -> None:
    """Print one table."""
    population, p = sample(np.random.default_rng(seed), 10_000, truth)
    labels, weight = np.repeat([1.0, 0.0], len(p)), np.concatenate([p, 1 - p])[None]
    inside: dict[str, list[str]] = {}
    width: dict[str, list[float]] = {}
    refused = failed = events = 0
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, n, repeat])
        x, risk = sample(rng, n, truth)
        y = (rng.random(n) < risk).astype(float)
        try:
            found = optimism_logistic(x, y, rng.integers(n, size=(replicates, n)))
            fit = fit_logistic(x, y)
        except NotEstimableError:
            refused += 1
            continue
        lp = fit.intercept + population @ fit.coef
        true = measures_batch(labels, np.concatenate([lp, lp])[None], weight)[0]
        failed += found.summary.failed
        events += int(y.sum())
        for name, (low, high) in intervals(found).items():
            target = true[AUC] if name.startswith("AUC") else true[SLOPE]
            inside.setdefault(name, []).append("high" if target < low else "low" if target > high else "in")
            width.setdefault(name, []).append(high - low)
    done = repeats - refused
    print(f"n = {n}, {truth}: {done} samples, {events / done:.0f} events on average, {refused} refused (separation), "
          f"{failed / done:.1f} of {replicates} replicates failed per sample")  # fmt: skip
    print("                           covered   too high   too low   width")
    for name, hits in inside.items():
        covered, high, low = (hits.count(where) / done for where in ("in", "high", "low"))
        flag = "" if covered >= WANTED else f"   below {WANTED:.0%}"
        print(f"  {name:24s} {covered:8.1%}  {high:9.1%}  {low:8.1%}   {np.mean(width[name]):.3f}{flag}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[93, 400])
    parser.add_argument("--truth", choices=TRUTHS, nargs="+", default=["moderate"])
    parser.add_argument("--repeats", type=int, default=500, help="samples per cell")
    parser.add_argument("--replicates", type=int, default=200, help="bootstrap replicates per sample")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for truth in arguments.truth:
        for n in arguments.patients:
            coverage(n, truth, arguments.repeats, arguments.replicates, arguments.seed)


if __name__ == "__main__":
    main()
