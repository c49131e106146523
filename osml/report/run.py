"""What a run folder says, read once: nothing here fits anything."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ClassOutcome, Cohort, Outcome, SurvivalOutcome
from osml.cohort.splits import Fold, folds_from_json
from osml.errors import RunError
from osml.files import read_json
from osml.runs.class_sets import ClassSet, class_sets
from osml.runs.cohort_store import load_cohort
from osml.runs.extras import ExtraRow, read_extras
from osml.runs.store import PredictionRow, read_predictions
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.model import FileInput, NetworkPredictor, Schema, StackPredictor

Float = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of one fold's model for the patients it had not seen.

    index : positions of the units in the cohort (n,)
    p : risks, float array (n, k), NaN where they are withheld
    lp : linear predictor (n,)
    """

    fold: Fold
    index: NDArray[np.intp]
    p: Float
    lp: Float


@dataclass(frozen=True)
class Pooled:
    """Held-out predictions of one repeat: every unit at most once."""

    repeat: int
    index: NDArray[np.intp]
    p: Float
    lp: Float


@dataclass(frozen=True)
class Run:
    """A run as the report sees it.

    held_out : predictor → its folds, in order; only predictors none of whose folds failed
    sets : the same of targets with classes, with every node's probability; empty for other targets
    extras : what networks told beside their probabilities
    """

    path: Path
    schema: Schema
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]
    summary: Mapping[str, Any]
    checks: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    manifest: Mapping[str, Any]
    cohort: Cohort
    folds: tuple[Fold, ...]
    held_out: Mapping[str, tuple[HeldOut, ...]]
    sets: Mapping[str, tuple[ClassSet, ...]] = field(default_factory=dict)
    extras: tuple[ExtraRow, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The outcome, which every cohort of a run has."""
        assert self.cohort.outcome is not None
        return self.cohort.outcome

    @property
    def survival(self) -> bool:
        """Whether the outcome is a time to an event."""
        return isinstance(self.cohort.outcome, SurvivalOutcome)

    @property
    def measure(self) -> str:
        """Key in metrics.json of the measure that speaks for a predictor."""
        return "macro_f1" if self.classes else "c" if self.survival else "auc"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the target, the leaves of its tree; empty for binary and survival targets."""
        outcome = self.cohort.outcome
        return outcome.tree.leaves if isinstance(outcome, ClassOutcome) else ()

    @property
    def alone(self) -> bool:
        """Whether every fold is one patient."""
        return self.schema.validation.split.kind == "leave_one_patient_out"

    def network(self, predictor: str) -> bool:
        """Whether a network or AutoGluon is in a predictor or in those that feed it.

        A report reads no image and runs no pickle: it shows what was stored when they were fitted.
        """
        block = self.schema.predictors[predictor]
        if isinstance(block, NetworkPredictor | StackPredictor | AutogluonPredictor):
            return True
        if any(isinstance(self.schema.inputs.get(name), FileInput) for name in block.inputs):
            return True
        return any(self.network(name) for name in block.inputs if name in self.schema.predictors)

    @property
    def findings(self) -> list[Mapping[str, Any]]:
        """Findings of all checks, those made after fitting among them, the accepted ones first."""
        seen = {(c["code"], c["subject"]) for c in self.checks}
        words = {"evidence": "found after fitting; the numbers stand in the output of the fit", "accepted": None}
        late = [{**c, **words} for c in self.metrics["checks"] if (c["code"], c["subject"]) not in seen]
        return sorted([*self.checks, *late], key=lambda c: not c["accepted"])

    @property
    def withheld(self) -> str:
        """Why probabilities are not shown, "" when they are."""
        return str(self.facts["withheld"])

    @property
    def units(self) -> str:
        """What is counted, in words."""
        return "rows" if self.cohort.per_row else "patients"

    @property
    def clustered(self) -> bool:
        """Whether a patient has several rows, so that intervals for independent rows do not hold."""
        return len(self.cohort.patient_ids) < len(self.cohort)

    @property
    def independent_test(self) -> bool:
        """One test set of other patients, not resampling."""
        return self.schema.validation.split.kind in ("holdout", "time")

    def repeats(self, predictor: str) -> list[Pooled]:
        """Held-out predictions pooled within each repeat, never over repeats."""
        sets = self.held_out[predictor]
        numbers = sorted({s.fold.repeat for s in sets})
        groups = [[s for s in sets if s.fold.repeat == r] for r in numbers]
        return [
            Pooled(r, *(np.concatenate([getattr(s, key) for s in group]) for key in ("index", "p", "lp")))
            for r, group in zip(numbers, groups, strict=True)
        ]


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunError
        It has no metrics: the fit did not get that far.
    """
    if not (path / "metrics.json").is_file() or not (path / "bundle" / "facts.json").is_file():
        raise RunError(f"{path} holds no results", do="Run the same `osml fit` again to continue it.")
    schema = Schema.model_validate(read_json(path / "bundle" / "schema.json"))
    cohort = load_cohort(path / "cohort" / "cohort.parquet")
    folds = folds_from_json(read_json(path / "splits.json"))
    metrics = read_json(path / "metrics.json")
    rows = read_predictions(path / "predictions.parquet")
    ranked = [name for name, facts in metrics["predictors"].items() if not facts["failed_folds"]]
    mine = {name: [r for r in rows if r.predictor == name] for name in ranked}
    several = isinstance(cohort.outcome, ClassOutcome)
    return Run(
        path=path,
        schema=schema,
        metrics=metrics,
        facts=read_json(path / "bundle" / "facts.json"),
        summary=read_json(path / "cohort" / "summary.json"),
        checks=tuple(read_json(path / "cohort" / "checks.json")),
        environment=read_json(path / "environment.json"),
        manifest=read_json(path / "bundle" / "manifest.json"),
        cohort=cohort,
        folds=folds,
        held_out={name: _held_out(found, cohort, folds) for name, found in mine.items()},
        sets={name: tuple(class_sets(found, cohort, folds)) for name, found in mine.items()} if several else {},
        extras=tuple(read_extras(path / "extras.parquet")),
    )


def _held_out(rows: list[PredictionRow], cohort: Cohort, folds: tuple[Fold, ...]) -> tuple[HeldOut, ...]:
    position = {unit: i for i, unit in enumerate(cohort.units)}
    grouped: dict[tuple[int, int], list[PredictionRow]] = {}
    for row in rows:
        grouped.setdefault((row.repeat, row.fold), []).append(row)
    columns = list(dict.fromkeys(row.column for row in rows))
    out = []
    for fold in folds:
        mine = grouped[fold.repeat, fold.index]
        first = [row for row in mine if row.column == columns[0]]
        seen = {row.patient for row in first} & set(fold.train)
        if seen:
            raise RunError(f"fold {fold.name} predicts {len(seen)} of its own training patients: the run is damaged")
        out.append(
            HeldOut(
                fold,
                np.array([position[row.unit] for row in first], dtype=np.intp),
                np.column_stack([[row.p for row in mine if row.column == c] for c in columns]).astype(float),
                np.array([row.lp for row in first], dtype=float),
            )
        )
    return tuple(out)


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV of the run."""
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    return lines[0], lines[1:]


def read_note(path: Path) -> str:
    """The note that belongs under a table, "" where there is none."""
    note = path.with_suffix(".note.txt")
    return note.read_text(encoding="utf-8").strip() if note.is_file() else ""
