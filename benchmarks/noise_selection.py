"""Does the choice among many candidates deceive? Noise: the winner's AUC as measured, and corrected for the choice.

Every data set has patients whose inputs say nothing about the outcome, and thirty candidates on different subsets of
these inputs: regressions without a penalty, with ridge and with lasso selection, each fitted in 5-fold cross-validation
as `osml fit` does it. The rule of `report.select` chooses one. Its AUC as measured is too good; the corrected mean
should be 0.5, and the command fails when its 90 % interval leaves 0.47 to 0.53 or the uncorrected mean does not lie
above it. Then the same with a planted signal, beside the AUC of each winner, fitted to all patients, in 20,000 new
ones: how much does the correction cost where there is something to find?

    python benchmarks/noise_selection.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import Fold, make_folds
from osml.engine import single_thread
from osml.errors import OsmlError
from osml.evaluation.discrimination import auc
from osml.predictors.chain import fit_chain
from osml.runs.store import PredictionRow
from osml.schema.load import load_schema
from osml.schema.model import Schema
from osml.study.losses import compared
from osml.study.select import select
from osml.study.tasks import final_seed, prediction_rows

Float = NDArray[np.float64]
INPUTS, NEW = 20, 20_000
ALLOWED = (0.47, 0.53)
SIGNAL = {0: 0.8, 1: -0.6, 2: 0.5}  # log odds per standard deviation


@dataclass(frozen=True)
class Found:
    """One data set: AUC of the winner as measured, corrected, of its own model in new patients; mean of all.

    left_out : mean over resamples on the patients not drawn, before what training patients share is taken off
    """

    uncorrected: float
    corrected: float
    left_out: float
    truth: float
    everybody: float
    winner: str


def predictors(rng: np.random.Generator) -> dict[str, str]:
    """Thirty candidates as YAML flow mappings, by name."""
    out = {}
    for k in range(30):
        penalty = "shrink: none" if k < 20 else "shrink: ridge" if k < 25 else "select: lasso, shrink: none"
        size = int(rng.integers(1, 4)) if k < 20 else int(rng.integers(5, 11))
        names = ", ".join(f"x{j}" for j in sorted(rng.choice(INPUTS, size, replace=False).tolist()))
        out[f"{'plain' if k < 20 else 'ridge' if k < 25 else 'lasso'}{k:02d}"] = (
            f"{{kind: nomogram, inputs: [{names}], {penalty}}}"
        )
    return out


def schema(folder: Path, rng: np.random.Generator, seed: int, repeats: int, rows: int) -> Schema:
    """The study of one data set."""
    inputs = "\n".join(f"  x{j}: {{kind: number, available: visit}}" for j in range(INPUTS))
    listed = "\n".join(f"  {name}: {block}" for name, block in predictors(rng).items())
    path = folder / "study.yaml"
    path.write_text(f"""version: 1
name: noise
study: {{sampling: cohort}}
cohort: {{table: table.csv, patient: id{", row: row" if rows > 1 else ""}}}
time_of_prediction: visit
times: [visit]
target: {{kind: binary, column: y, positive: "1", negative: "0"}}
inputs:
{inputs}
predictors:
{listed}
validation: {{split: {{kind: kfold, folds: 5, repeats: {repeats}}}, seed: {seed}}}
report: {{select: true}}
""")
    return load_schema(path).schema


def draw(patients: int, rows: int, signal: bool, rng: np.random.Generator) -> Cohort:
    """Patients with normal inputs; rows of a patient share half of their variance and the outcome."""
    shared = rng.normal(size=(patients, INPUTS))
    risk = rng.uniform(0.3, 0.5)
    lp = np.log(risk / (1 - risk)) + (sum(b * shared[:, j] for j, b in SIGNAL.items()) if signal else 0.0)
    y = (rng.random(patients) < 1 / (1 + np.exp(-lp))).astype(float)
    x, home = shared, np.arange(patients)
    if rows > 1:
        home = np.repeat(home, rng.integers(1, rows + 1, patients))
        x = np.sqrt(0.5) * shared[home] + np.sqrt(0.5) * rng.normal(size=(len(home), INPUTS))
    return Cohort(
        units=tuple(f"u{i:05d}" for i in range(len(home))),
        patients=tuple(f"P{i:05d}" for i in home),
        copies=np.zeros(len(home), dtype=np.intp),
        values={f"x{j}": x[:, j] for j in range(INPUTS)},
        kit={},
        keys={},
        outcome=BinaryOutcome(y[home], "1", "0"),
        per_row=rows > 1,
    )


def out_of_fold(study: Schema, name: str, cohort: Cohort, folds: tuple[Fold, ...]) -> list[PredictionRow]:
    """Predictions for the patients of every fold by a chain that was fitted without them."""
    out = []
    for fold in folds:
        chain = fit_chain(study, name, cohort.of(fold.train), (study.validation.seed, fold.repeat, fold.index))
        out += prediction_rows(chain.predict(cohort.of(fold.test)), name, fold, study)
    return out


def one(number: int, signal: bool, repeats: int, rows: int, folder: Path) -> Found:
    rng = np.random.default_rng([20, number, int(signal)])
    study = schema(folder, rng, number, repeats, rows)
    cohort = draw(int(rng.integers(100, 201)), rows, signal, rng)
    folds = make_folds(cohort, study.validation.split, number)
    stored = [row for name in study.predictors for row in out_of_fold(study, name, cohort, folds)]
    found = compared(stored, list(study.predictors), cohort, folds)
    areas = {name: float(found.discrimination(name)["auc"][0]) for name in study.predictors}
    facts = {
        name: {"folds": len(folds), "failed_folds": 0, "out_of_fold": {"auc": {"value": area}, "brier": {"value": 0.0}}}
        for name, area in areas.items()
    }
    chosen = select(study, cohort, folds, stored, facts)
    assert chosen is not None
    winner, after = chosen["winner"], chosen["corrected"]["auc"]
    truth = 0.5
    if signal:
        new = draw(NEW, rows, True, rng)
        truth = auc(new.event_outcome.event, fit_chain(study, winner, cohort, final_seed(study)).predict(new).lp)
    everybody = float(np.mean(list(areas.values())))
    return Found(areas[winner], after["value"], after["left_out"], truth, everybody, winner)


def interval(values: Float) -> tuple[float, float]:
    """90 % interval of the mean over data sets."""
    half = float(student.isf(0.05, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def run(count: int, signal: bool, repeats: int, rows: int) -> list[Found]:
    out: list[Found] = []
    start, refused = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        while len(out) < count:
            number += 1
            try:
                out.append(one(number, signal, repeats, rows, Path(folder)))
            except OsmlError as error:  # a training set that is separated: another data set
                refused += 1
                print(f"  data set {number} left out: {error.what}", flush=True)
                if refused > count:
                    raise
                continue
            if len(out) % 10 == 0:
                print(
                    f"  {len(out)} of {count} data sets, {time.perf_counter() - start:.0f} s: uncorrected "
                    f"{np.mean([f.uncorrected for f in out]):.3f}, corrected {np.mean([f.corrected for f in out]):.3f}",
                    flush=True,
                )
    return out


def tell(found: list[Found]) -> tuple[float, float, float]:
    """Print the means; returns the uncorrected mean and the interval of the corrected one."""
    uncorrected, corrected, everybody = (
        np.array([getattr(f, key) for f in found]) for key in ("uncorrected", "corrected", "everybody")
    )
    low, high = interval(corrected)
    a, b = interval(uncorrected)
    c, d = interval(everybody)
    away = np.mean([f.left_out for f in found])
    kinds = {kind: sum(f.winner.startswith(kind) for f in found) for kind in ("plain", "ridge", "lasso")}
    print(f"  AUC of all candidates, mean        {everybody.mean():.3f}  (90 % interval {c:.3f} to {d:.3f})")
    print(f"  AUC of the winner, uncorrected     {uncorrected.mean():.3f}  (90 % interval {a:.3f} to {b:.3f})")
    print(f"  AUC of the winner, corrected       {corrected.mean():.3f}  (90 % interval {low:.3f} to {high:.3f})")
    print(f"  the same on patients not drawn     {away:.3f}  (nothing taken off for shared training patients)")
    print(f"  winners: {', '.join(f'{kind} {n}' for kind, n in kinds.items())}")
    return float(uncorrected.mean()), low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the cross-validation")
    parser.add_argument("--rows", type=int, default=1, help="most rows of a patient")
    arguments = parser.parse_args()
    settings = arguments.repeats, arguments.rows
    print(f"noise: {arguments.data_sets} data sets of 100 to 200 patients, 30 candidates")
    uncorrected, low, high = tell(run(arguments.data_sets, False, *settings))
    held = ALLOWED[0] <= low and high <= ALLOWED[1] and uncorrected > ALLOWED[1]
    wanted = f"{ALLOWED[0]} to {ALLOWED[1]} holds the interval of the corrected mean, the uncorrected mean lies above"
    print(f"  {wanted}: {'yes' if held else 'NO'}")
    print(f"planted signal: {arguments.data_sets // 2} data sets, 3 of {INPUTS} inputs carry it")
    found = run(arguments.data_sets // 2, True, *settings)
    tell(found)
    truth = np.array([f.truth for f in found])
    print(f"  AUC of the winner in {NEW} new patients  {truth.mean():.3f}")
    for name in ("uncorrected", "left_out", "corrected"):
        error = np.array([getattr(f, name) for f in found]) - truth
        words, square = name.replace("_", " "), np.sqrt((error**2).mean())
        print(f"  {words} minus that: mean {error.mean():+.3f}, root mean square {square:.3f}")
    if not held:
        sys.exit(1)


if __name__ == "__main__":
    single_thread(main)
