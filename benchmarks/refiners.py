"""What refiners gain on made-up tissue maps, patients apart: mean IoU, precision, recall, error of the necrosis rate.

    python benchmarks/refiners.py [--train 16] [--test 40] [--regions 3] [--steps 1200] [--width 16] [--seeds 0 1]

Maps are those of `tests/nets/made_maps.py`: regions of 64 x 64 cells (2048 px), tiles of 8 x 8 cells. Training and test
patients are different ones. Intervals are of drawing test patients, paired for gains over `none`; they leave out the
variation of training, which the seeds show. Numbers on made-up maps say that a method does what it claims, not how well
it does on tissue.

Rows in brackets are no refiners to choose. They show where the bridge's gain comes from: the bridge trained and sampled
as published; the one-step U-Net averaged over the eight flips and turns that the bridge's steps use; and the U-Net
trained for twice the steps, since a step of the bridge answers every crop twice.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from osml.engine import run_tasks
from osml.evaluation.bootstrap import Interval
from osml.evaluation.necrosis import NecrosisErrors, TumourBed, necrosis_errors, necrosis_gain, necrosis_rates
from osml.evaluation.segmentation import (
    SegmentationReport,
    confusion_table,
    segmentation_gain,
    segmentation_report,
)
from osml.nets.refine import REFINERS, fit_refiner
from osml.nets.refine_maps import Refiner, Region
from osml.nets.refine_recipe import RefineRecipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "nets"))
from made_maps import CLASSES, NECROTIC, SPEC, VIABLE, make_regions

BED = TumourBed(VIABLE, NECROTIC)
PUBLISHED, TURNED, LONGER = "(published bridge)", "(unet, 8 turns)", "(unet, 2x steps)"


@dataclass(frozen=True)
class Row:
    """Labels of all test regions, seconds of training, and of refining a region."""

    name: str
    seed: int
    labels: list[np.ndarray]
    train_s: float
    refine_s: float


def turned(refiner: Refiner, region: Region) -> np.ndarray:
    """Mean probabilities over the eight flips and turns."""
    total = np.zeros(region.coarse.shape, dtype=np.float32)
    for turns in range(4):
        for mirror in (False, True):
            y, o = np.rot90(region.coarse, turns, (1, 2)), np.rot90(region.image, turns)
            y, o = (np.ascontiguousarray(np.flip(a, k) if mirror else a) for a, k in ((y, 2), (o, 1)))
            p = refiner.refine(y, o)
            total += np.rot90(np.flip(p, 2) if mirror else p, -turns, (1, 2))
    return total / 8


def job(item: tuple[str, int], options: argparse.Namespace) -> list[Row]:
    """Train one refiner and refine all test regions; the U-Net twice, as it is and averaged over turns."""
    name, seed = item
    recipe = RefineRecipe(steps=options.steps, width=options.width, rate=options.rate)
    if name == LONGER:
        recipe = replace(recipe, steps=2 * options.steps)
    if name == PUBLISHED:
        recipe = replace(recipe, published=True, scale=1.0)
    train = make_regions(options.train, options.regions, seed=10 + seed)
    test = make_regions(options.test, options.regions, seed=1)
    kind = {PUBLISHED: "brownian_bridge", LONGER: "unet"}.get(name, name)
    start = time.perf_counter()
    refiner = fit_refiner(kind, train, SPEC, recipe, seed=seed)
    trained = time.perf_counter() - start
    ways = {name: lambda region: refiner.refine(region.coarse, region.image)}
    if name == "unet":
        ways[TURNED] = partial(turned, refiner)
    rows = []
    for way, apply in ways.items():
        start = time.perf_counter()
        labels = [apply(region).argmax(axis=0).astype(np.int8) for region in test]
        rows.append(Row(way, seed, labels, trained, (time.perf_counter() - start) / len(test)))
    return rows


def judge(labels: list[np.ndarray], test: list[Region]) -> tuple[SegmentationReport, NecrosisErrors]:
    """Overlap and necrosis rates of test patients."""
    patients = [region.patient for region in test]
    tables = [confusion_table(r.labels, p, len(CLASSES)) for r, p in zip(test, labels, strict=True)]
    report = segmentation_report(tables, patients, CLASSES)
    reference, predicted = (necrosis_rates(report.tables.sum(axis=axis), BED) for axis in (2, 1))
    return report, necrosis_errors(report.patients, reference, predicted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=16, help="training patients")
    parser.add_argument("--test", type=int, default=40, help="test patients")
    parser.add_argument("--regions", type=int, default=3, help="regions per patient")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="trainings, each on other patients")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[*REFINERS[1:], PUBLISHED, LONGER], help="rows besides none")
    options = parser.parse_args()
    test = make_regions(options.test, options.regions, seed=1)
    todo = [(name, seed) for seed in options.seeds for name in ("none", *options.only)]
    print(
        f"{options.train} training and {options.test} test patients, {options.regions} regions of 64 x 64 cells each; "
        f"{options.steps} steps, width {options.width}; per cent, 95 % intervals by drawing test patients"
    )
    found: dict[tuple[str, int], Row] = {}
    for outcome in run_tasks(partial(job, options=options), todo, workers=options.workers):
        if outcome.error is not None:
            raise outcome.error
        found |= {(row.name, row.seed): row for row in outcome.result}
    for seed in options.seeds:
        print(
            f"\n{f'seed {seed}':20} {'mIoU':21} {'gain over none':22} precision  recall  "
            f"{'necrosis error':19} {'fall, points':22}   train  refine"
        )
        base = judge(found["none", seed].labels, test)
        for row in (row for key, row in found.items() if key[1] == seed):
            report, errors = judge(row.labels, test)
            gain = fall = ""
            if row.name != "none":
                gain = text(segmentation_gain(base[0], report)["miou"], 100, "+.1f")
                same = errors.patients == base[1].patients
                fall = text(necrosis_gain(base[1], errors), 1, "+.1f") if same else "other patients"
            precision, recall = (100 * float(report.pooled.overall[k]) for k in ("precision", "recall"))
            miou, size = text(report.intervals["miou"], 100, ".1f"), text(errors.mean_absolute_interval, 1, ".1f")
            print(
                f"{row.name:20} {miou:21} {gain:22} {precision:9.1f}  {recall:6.1f}  {size:19} {fall:22} "
                f"{row.train_s:5.0f} s {1000 * row.refine_s:4.0f} ms",
                flush=True,
            )


def text(interval: Interval | None, factor: float, form: str) -> str:
    """Value and limits."""
    if interval is None:
        return "none"
    value, low, high = (format(factor * v, form) for v in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
