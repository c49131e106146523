"""Run folders of studies with networks, made up without fitting: their reports are drawn from the folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from made_classes import TREE, class_cohort, class_rows, dealt_folds, guesses, patient_folds

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import Fold, folds_to_json
from osml.files import write_json
from osml.runs.cohort_store import write_cohort
from osml.runs.extras import ExtraRow, write_extras
from osml.runs.store import PredictionRow, write_predictions
from osml.schema.model import Schema
from osml.study.compare import compare_classes
from osml.study.judge import collect, judge_binary
from osml.study.judge_classes import judge_classes
from osml.study.judge_inputs import judge_inputs
from osml.study.publish import facts as bundle_facts
from osml.study.tasks import probabilities_hidden

SKILLS = {"flat": 0.6, "fused": 1.4}
LOPO = {"kind": "leave_one_patient_out"}
KFOLD = {"kind": "kfold", "folds": 3, "repeats": 2}


@dataclass(frozen=True)
class Loaded:
    """As much of a loaded schema as the facts of a bundle need."""

    schema: Schema


def study(target: Mapping[str, Any], split: Mapping[str, Any], sampling: str, rows: bool, **more: Any) -> Schema:
    """Tiles and an age, a flat network of tiles alone and a gated one of both."""
    net = {"kind": "network", "seeds": 3}
    return Schema.model_validate(
        {
            "version": 1, "name": "tiles", "study": {"sampling": sampling, "synthetic": "made up for a test"},
            "time_of_prediction": "now", "times": ["now"], "target": dict(target),
            "cohort": {"table": "table.csv", "patient": "patient", **({"row": "tile_id"} if rows else {})},
            "inputs": {"tile": {"kind": "image", "available": "now"}, "age": {"kind": "number", "available": "now"}},
            "predictors": {
                "flat": {**net, "inputs": ["tile"], "head": "flat"},
                "fused": {**net, "inputs": ["tile", "age"], "fusion": "gated", "abstain": 0.1},
            },
            "validation": {"split": dict(split), "seed": 7}, "report": {"compare": ["flat", "fused"]}, **more,
        }
    )  # fmt: skip


HIERARCHY = {
    "kind": "hierarchy", "column": "tissue", "tree": ["non_tumor", {"tumor": ["non_viable", "viable"]}],
    "partial": {"mixed": "tumor"},
}  # fmt: skip
BINARY = {"kind": "binary", "column": "outcome", "positive": "bad", "negative": "good"}


def three_patients() -> Cohort:
    """Class nearly follows patient; the third has one class only; the first alone has non-viable tiles to speak of."""
    labels = ["non_tumor"] * 30 + ["non_viable"] * 45 + ["viable"] * 3 + ["tumor"] * 2
    labels += ["non_tumor"] * 35 + ["non_viable"] * 2 + ["viable"] * 50 + ["tumor"] * 6 + ["non_tumor"] * 60
    return _with_values(class_cohort(labels, ["Case-3"] * 80 + ["Case-48"] * 93 + ["P9"] * 60))


def many_patients(patients: int = 30, rows: int = 5) -> Cohort:
    """Rows of patients in all classes."""
    rng = np.random.default_rng(4)
    labels = rng.choice(["non_tumor", "non_viable", "viable", "tumor"], patients * rows, p=[0.4, 0.3, 0.25, 0.05])
    return _with_values(class_cohort(labels.tolist(), [f"Q{i // rows}" for i in range(patients * rows)]))


def binary_patients(n: int = 90) -> Cohort:
    """One unit per patient with an event or none."""
    rng = np.random.default_rng(2)
    made = class_cohort(["viable"] * n, [f"Q{i}" for i in range(n)])
    return _with_values(replace(made, outcome=BinaryOutcome((rng.random(n) < 0.4).astype(float), "bad", "good")))


def _with_values(cohort: Cohort) -> Cohort:
    n = len(cohort)
    age = np.random.default_rng(1).normal(40, 10, n)
    return replace(cohort, values={"age": age}, files={"tile": tuple(f"{u}.png" for u in cohort.units)})


def classes_run(folder: Path, cohort: Cohort, split: Mapping[str, Any], sampling: str = "cohort", **more: Any) -> Path:
    """A finished run of a hierarchy, ready for `make_report`."""
    schema = study(HIERARCHY, split, sampling, rows=cohort.clustered, **more)
    folds = (
        patient_folds(cohort) if split["kind"] == "leave_one_patient_out" else dealt_folds(cohort, 3, split["repeats"])
    )
    hidden = probabilities_hidden(schema)

    def predicted(name: str, skill: float, seed: int) -> list[PredictionRow]:
        return class_rows(cohort, folds, [guesses(cohort, skill, 10 * seed + r) for r in range(2)], name)

    def judged(rows: Sequence[PredictionRow]) -> dict[str, Any]:
        return judge_classes(rows, cohort, folds, schema, hidden)

    metrics = _write(folder, cohort, folds, schema, hidden, predicted, judged)
    found = {name: metrics["predictors"][name] for name in SKILLS}
    patients = len(cohort.patient_ids)
    metrics["comparisons"] = compare_classes(list(SKILLS), found, folds, patients, str(split["kind"]))
    write_json(folder / "metrics.json", metrics)
    return folder


def binary_run(folder: Path, split: Mapping[str, Any] = KFOLD, sampling: str = "cohort") -> Path:
    """A finished run of a binary target whose predictors are networks."""
    cohort = binary_patients()
    schema = study(BINARY, split, sampling, rows=False)
    folds, hidden = dealt_folds(cohort, 3, 2), probabilities_hidden(schema)
    y = cohort.outcome.y  # type: ignore[union-attr]

    def predicted(name: str, skill: float, seed: int) -> list[PredictionRow]:
        rows = []
        for fold in folds:
            lp = skill * (y - 0.4) * 2 + np.random.default_rng([seed, fold.repeat]).normal(size=len(y))
            p = np.full(len(y), np.nan) if hidden else 1 / (1 + np.exp(-lp))
            rows += [
                PredictionRow(name, fold.repeat, fold.index, u, q, "bad", float(p[i]), float(lp[i]), None, None, "")
                for i, (u, q) in enumerate(zip(cohort.units, cohort.patients, strict=True)) if q in fold.test
            ]  # fmt: skip
        return rows

    def judged(rows: Sequence[PredictionRow]) -> dict[str, Any]:
        found = judge_binary(collect(rows, cohort, folds), "kfold", 7, hidden)
        return found | {"decision": {"reason": "no decision stated"}}

    metrics = _write(folder, cohort, folds, schema, hidden, predicted, judged)
    write_json(folder / "metrics.json", metrics | {"comparisons": []})
    return folder


def _write(
    folder: Path, cohort: Cohort, folds: Sequence[Fold], schema: Schema, hidden: str, predicted: Any, judged: Any
) -> dict[str, Any]:  # fmt: skip
    rows = {name: predicted(name, skill, 1) for name, skill in SKILLS.items()}
    less = predicted("fused[tile]", 1.0, 2) + predicted("fused[age]", 0.1, 3)
    extras: list[ExtraRow] = []
    for name, mine in rows.items():
        for k in range(3):
            alone = predicted(name, SKILLS[name], 5 + k)
            extras += [
                ExtraRow(name, r.repeat, r.fold, r.unit, r.patient, f"seed{k}:{r.column}", 1 / (1 + np.exp(-r.lp))
                         if r.p != r.p else r.p)
                for r in alone
            ]  # fmt: skip
        extras += [e for r in mine if r.column == mine[0].column for e in _told(name, r, cohort)]
    predictors: dict[str, Any] = {}
    for name, mine in rows.items():
        predictors[name] = {
            "folds": len(folds), "failed_folds": 0, "out_of_fold": judged(mine),
            **judge_inputs(mine, extras, less, cohort, folds, schema, hidden),
            "apparent": {k: {"value": 0.91} for k in ("auc", "macro_f1", "macro_auc", "accuracy")},
            "development": {"patients": len(cohort.patient_ids), "rows": len(cohort), "events": None},
            "nomogram": {"drawn": False, "reason": "a nomogram draws a regression; this predictor is none"},
            "network": {
                "inputs": list(schema.predictors[name].inputs), "fusion": "gated", "seeds": 3, "epochs": [12, 15, 12],
                "encoders": {"tile": {"model": "tf_efficientnet_lite0", "tune": "frozen"}},
                "calibration": {"kind": "none", "reason": "no inner folds"}, "abstain": None,
            },
        }  # fmt: skip
    outcomes = {name: int(mine.sum()) for name, mine in cohort.outcome_groups().items()}
    events = outcomes.get("bad")
    metrics = {
        "study": schema.name, "synthetic": schema.study.synthetic, "target": schema.target.kind, "n": len(cohort),
        "patients": len(cohort.patient_ids), "events": events, "outcomes": outcomes, "sampling": schema.study.sampling,
        "prevalence": None, "split": schema.validation.split.model_dump(), "folds": len(folds), "checks": [],
        "accepted": {}, "predictors": predictors,
    }  # fmt: skip
    write_cohort(folder / "cohort" / "cohort.parquet", cohort)
    write_predictions(folder / "predictions.parquet", [r for mine in rows.values() for r in mine])
    write_predictions(folder / "ablation.parquet", less)
    write_extras(folder / "extras.parquet", extras)
    write_json(folder / "splits.json", folds_to_json(folds))
    summary = {
        "table": "table.csv", "sha256": "0" * 64, "rows": len(cohort), "units": len(cohort), "events": events,
        "patients": len(cohort.patient_ids), "outcomes": outcomes, "excluded": {}, "missing": {"age": 0}, "altered": {},
    }  # fmt: skip
    write_json(folder / "cohort" / "summary.json", summary)
    write_json(folder / "cohort" / "checks.json", [])
    environment = {"osml": "0", "python": "3", "system": "test", "device": "cpu", "packages": {}}
    write_json(folder / "environment.json", environment)
    write_json(folder / "bundle" / "manifest.json", {"schema_sha256": "0" * 64})
    write_json(folder / "bundle" / "schema.json", schema.model_dump(mode="json"))
    write_json(folder / "schema.resolved.json", schema.model_dump(mode="json"))
    write_json(folder / "bundle" / "facts.json", bundle_facts(Loaded(schema), metrics))  # type: ignore[arg-type]
    for name in rows:
        (folder / "bundle" / "predictors" / name).mkdir(parents=True)
    return metrics


def _told(name: str, row: PredictionRow, cohort: Cohort) -> list[ExtraRow]:
    """Gates and presence of one unit: every seventh unit lacks its age, the gate leans to the tile in viable tissue."""
    if name != "fused":
        return []
    i = cohort.units.index(row.unit)
    node = getattr(cohort.outcome, "node", None)
    lean = 0.2 if node is not None and TREE.nodes[node[i]] == "viable" else 0.0
    gate = float(np.clip(0.55 + lean + 0.1 * np.sin(i), 0, 1))
    here = float(i % 7 > 0)
    told = {"gate:tile": gate, "gate:age": 1 - gate, "present:tile": 1.0, "present:age": here}
    classes = TREE.leaves if node is not None else ("good", "bad")
    told |= {f"set:{c}": float((i + k) % 3 != 0) for k, c in enumerate(classes)}
    return [ExtraRow(name, row.repeat, row.fold, row.unit, row.patient, k, v) for k, v in told.items()]
