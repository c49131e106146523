"""The folds of all predictors, and how a time limit is kept: candidates in their order, each whole or not at all.

A limit never changes what a fold computes, only which candidates are validated: one whose folds are not all finished
is not ranked, its finished folds are kept, and a later call with more time goes on with it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.engine import Outcome, Progress, cores, run_tasks
from osml.errors import OutOfTimeError
from osml.features.images import image_plans
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema
from osml.schema.model import Schema
from osml.study.failures import Failure
from osml.study.tasks import FoldTask, run_fold

# What follows the folds: judging and drawing take about so long, per candidate and in all, on one core.
FINISH_S, FINISH_EACH_S = 20.0, 4.0
# A candidate is given up once its folds, at the speed of those done, would overrun what is left by this factor.
PATIENCE = 1.25


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
    """Run what is not stored yet; without a limit all at once, with one candidate by candidate."""
    schema = loaded.schema
    todo = {name: _tasks(schema, name, cohort, folds, run) for name in schema.predictors}
    gpus = {name: 0.5 if name in schema.networks() else 0.0 for name in schema.predictors}
    progress = Progress("folds", sum(map(len, todo.values())), sys.stderr, quiet)
    if clock.limit is None:
        tasks = [task for mine in todo.values() for task in mine]
        outcomes = run_tasks(run_fold, tasks, workers=workers, progress=progress, gpus=max(gpus.values(), default=0.0))
        found = [f for f in _watched(outcomes, tasks, run) if isinstance(f, Failure)]
        return FoldsDone(_in_order(found, schema, folds), {})
    failures: list[Failure] = []
    skipped: dict[str, str] = {}
    slowest, side_by_side = 0.0, workers or cores()
    for position, (name, tasks) in enumerate(todo.items()):
        if not tasks:
            continue
        # The slowest model of all is fitted once more, to all patients, and everything is judged and drawn.
        reserve = FINISH_S + FINISH_EACH_S * (position + 1) + 2.0 * slowest
        began = time.monotonic()
        if clock.left(reserve) <= 0:
            skipped[name] = f"the time limit left none of its {len(folds)} folds"
            say(f"skipped   {name}: {skipped[name]}")
            continue
        outcomes = run_tasks(
            run_fold, tasks, workers=workers, progress=progress, deadline=clock.deadline(reserve), gpus=gpus[name]
        )
        done = 0
        for failure in _watched(outcomes, tasks, run):
            if isinstance(failure, _Late):
                break
            if failure is not None:
                failures.append(failure)
            done += 1
            pace = (time.monotonic() - began) / done
            if side_by_side <= done < len(tasks) and pace * (len(tasks) - done) > PATIENCE * clock.left(
                reserve + 2.0 * pace
            ):
                break
        if done < len(tasks):
            skipped[name] = f"the time limit left {len(tasks) - done} of its {len(folds)} folds unfinished"
            say(f"skipped   {name}: {skipped[name]}")
            continue
        slowest = max(slowest, (time.monotonic() - began) / done * min(done, side_by_side))
    return FoldsDone(_in_order(failures, schema, folds), skipped)


class _Late:
    """A fold that the deadline ended."""


def _tasks(schema: Schema, name: str, cohort: Cohort, folds: Sequence[Fold], run: RunDirectory) -> list[FoldTask]:
    tasks = []
    for fold in folds:
        folder = run.path / "folds" / fold.name / name
        if not (folder / "status.json").exists():
            needed = cohort.with_features_of(schema.ancestors(name), image_plans(schema, [name]))
            train, test = needed.of(fold.train), needed.of(fold.test).without_outcome()
            tasks.append(FoldTask(schema, name, fold, train, test, schema.validation.seed, folder))
    return tasks


def _watched(
    outcomes: Iterator[Outcome], tasks: Sequence[FoldTask], run: RunDirectory
) -> Iterator[Failure | _Late | None]:
    """One entry per fold as it ends: None where it is done."""
    for outcome in outcomes:
        task = tasks[outcome.index]
        if isinstance(outcome.error, OutOfTimeError):
            yield _Late()
            continue
        run.event("fold", predictor=task.predictor, fold=task.fold.name, ok=outcome.error is None)
        yield None if outcome.error is None else Failure.of(task.predictor, task.fold.name, outcome)


def _in_order(failures: Sequence[Failure], schema: Schema, folds: Sequence[Fold]) -> tuple[Failure, ...]:
    names, places = list(schema.predictors), [fold.name for fold in folds]
    return tuple(sorted(failures, key=lambda f: (names.index(f.predictor), places.index(f.stage))))
