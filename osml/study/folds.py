"""The folds of all predictors, and how a time limit is kept: candidates in their order, each whole or not at all.

A limit never changes what a fold computes, only which candidates are validated: one whose folds are not all finished
is not ranked, its finished folds are kept, and a later call with more time goes on with it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.engine import Progress, run_tasks
from osml.errors import OutOfTimeError
from osml.features.images import image_plans
from osml.nets.device import gpu_share
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema
from osml.schema.model import Schema
from osml.study.failures import Failure
from osml.study.tasks import FoldTask, run_fold

# What follows the folds: judging and drawing take about so long in all and per candidate, on one core; and at least
# this share of the limit is kept for them and for the models that are fitted to all patients.
FINISH_S, FINISH_EACH_S, FINISH_SHARE = 30.0, 8.0, 0.15
# A model on all patients against one on a training fold, with what belongs to it (apparent performance, explanation).
FINAL_AGAINST_FOLD = 2.0


@dataclass
class Clock:
    """When a run began and how long it may take.

    limit : seconds, or None
    """

    started: float = field(default_factory=time.monotonic)
    limit: float | None = None

    def more_than(self, before: float | None) -> bool:
        """Whether this run may take longer than one with the limit `before` did."""
        return before is not None and (self.limit is None or self.limit > before)

    def left(self, reserve: float = 0.0) -> float:
        """Seconds left, less a reserve; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.started + self.limit - reserve - time.monotonic()

    def deadline(self, reserve: float = 0.0) -> float | None:
        """The same as a value of `time.monotonic`."""
        return None if self.limit is None else self.started + self.limit - reserve

    def final_deadline(self) -> float | None:
        """For the last models: drawing and the report come after."""
        return None if self.limit is None else max(self.deadline(FINISH_S) or 0.0, time.monotonic() + 1.0)


@dataclass(frozen=True)
class FoldsDone:
    """failures : of folds; skipped : predictor → why its folds are not all there although none failed."""

    failures: tuple[Failure, ...]
    skipped: dict[str, str]


def run_folds(
    loaded: LoadedSchema,
    cohort: Cohort,
    folds: Sequence[Fold],
    run: RunDirectory,
    workers: int | None,
    quiet: bool,
    clock: Clock,
    say: Callable[[str], None],
) -> FoldsDone:
    """Run what is not stored yet, the simplest candidates first, until the time limit leaves no more."""
    schema = loaded.schema
    tasks = [task for name in schema.predictors for task in _tasks(schema, name, cohort, folds, run)]
    progress = Progress("folds", len(tasks), sys.stderr, quiet)
    # Networks of two folds share a card; without one this is nothing.
    gpus = gpu_share() if schema.networks() else 0.0
    failures: list[Failure] = []
    ended: set[int] = set()
    slowest = 0.0
    outcomes = run_tasks(
        run_fold,
        tasks,
        workers=workers,
        progress=progress,
        deadline=clock.deadline(_reserve(clock, schema, 0)),
        gpus=gpus,
    )
    with closing(outcomes):
        for outcome in outcomes:
            task = tasks[outcome.index]
            if isinstance(outcome.error, OutOfTimeError):
                continue
            ended.add(outcome.index)
            run.event("fold", predictor=task.predictor, fold=task.fold.name, ok=outcome.error is None)
            if outcome.error is not None:
                failures.append(Failure.of(task.predictor, task.fold.name, outcome))
            else:
                slowest = max(slowest, outcome.result)
            if len(ended) < len(tasks) and clock.left(_reserve(clock, schema, slowest)) <= 0:
                break
    unfinished = Counter(task.predictor for i, task in enumerate(tasks) if i not in ended)
    skipped = {name: f"the time limit left {k} of its {len(folds)} folds" for name, k in unfinished.items()}
    for name, why in skipped.items():
        say(f"skipped   {name}: {why}")
    names, places = list(schema.predictors), [fold.name for fold in folds]
    failures.sort(key=lambda f: (names.index(f.predictor), places.index(f.stage)))
    return FoldsDone(tuple(failures), skipped)


def _reserve(clock: Clock, schema: Schema, slowest: float) -> float:
    """Seconds to keep for what follows the folds."""
    if clock.limit is None:
        return 0.0
    needed = FINISH_S + FINISH_EACH_S * len(schema.predictors) + FINAL_AGAINST_FOLD * slowest
    return max(needed, FINISH_SHARE * clock.limit)


def _tasks(schema: Schema, name: str, cohort: Cohort, folds: Sequence[Fold], run: RunDirectory) -> list[FoldTask]:
    tasks = []
    for fold in folds:
        folder = run.path / "folds" / fold.name / name
        if not (folder / "status.json").exists():
            needed = cohort.with_features_of(schema.ancestors(name), image_plans(schema, [name]))
            train, test = needed.of(fold.train), needed.of(fold.test).without_outcome()
            tasks.append(FoldTask(schema, name, fold, train, test, schema.validation.seed, folder))
    return tasks
