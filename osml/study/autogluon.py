"""AutoGluon in a run: what it says of its own models, in every fold and on all development patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osml.cohort.cohort import Cohort
from osml.explanation.autogluon import FILE, held_out_shap
from osml.files import atomic_write, read_json, write_json
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.chain import Chain

RECORD = "autogluon.json"
LOG = "autogluon.log"
SETTINGS = ("presets", "time_limit", "memory_limit", "planned", "inner_folds")
DEPLOYED = ("failures", "not_reached", "refit", "importance", "calibration", "rare", "versions")


def write_fold(folder: Path, chain: Chain, train: Cohort, test: Cohort | None, seed: int) -> None:
    """autogluon.json and autogluon.log of a fold; with test units also what each input adds to their predictions.

    Explained here, while the models are in memory: whoever reads the folder later need not unpickle them.
    """
    fitted = chain.fitted
    assert isinstance(fitted, FittedAutogluon)
    write_json(folder / RECORD, fitted.record())
    atomic_write(folder / LOG, fitted.log)
    if test is not None:
        shap = held_out_shap(fitted, chain.design(train.without_outcome()), chain.design(test.without_outcome()), seed)
        write_json(folder / FILE, shap)


def write_final(run: Path, fitted: FittedAutogluon) -> None:
    """training/<predictor>.json and .log of the deployed models."""
    write_json(run / "training" / f"{fitted.name}.json", fitted.record())
    atomic_write(run / "training" / f"{fitted.name}.log", fitted.log)


def autogluon_facts(run: Path, fitted: FittedAutogluon) -> dict[str, Any]:
    """How the deployed models were made, and what happened in the folds, for metrics.json.

    As `fold_facts`, with `inputs`, `columns` and `deployed`: leaderboard, failures, importance and so on of the fit to
    all development patients.
    """
    record = fitted.record()
    return {
        **{key: record[key] for key in SETTINGS},
        "inputs": list(fitted.spec.inputs),
        "columns": len(fitted.spec.columns),
        "encoders": {image: encoder.weights["model"] for image, encoder in fitted.spec.encoders.items()},
        "folds": _folds(_records(run, fitted.name)),
        "deployed": {
            **{key: record[key] for key in DEPLOYED},
            "leaderboard": [{key: row[key] for key in row if key != "fit_s"} for row in record["leaderboard"]],
        },
    }


def fold_facts(run: Path, name: str) -> dict[str, Any] | None:
    """Of a predictor that has no deployed model, what happened in its folds; None where none was finished."""
    records = _records(run, name)
    if not records:
        return None
    return {**{key: records[0][key] for key in SETTINGS}, "folds": _folds(records)}


def _records(run: Path, name: str) -> list[dict[str, Any]]:
    return [read_json(file) for file in sorted((run / "folds").glob(f"*/{name}/{RECORD}"))]


def _folds(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts and means over the folds.

    `models`: model → folds in which it was fitted, mean inner log-loss, mean weight in the ensemble; `failed`: model,
    reason, in how many folds; `not_reached`: models that the time did not reach; `importance`: input → mean, smallest
    and largest
    """
    models: dict[str, list[dict[str, Any]]] = {}
    failed: dict[tuple[str, str], int] = {}
    grown: dict[str, list[float]] = {}
    for one in records:
        for row in one["leaderboard"]:
            models.setdefault(row["model"], []).append(row)
        for failure in one["failures"]:
            key = failure["model"], failure["reason"]
            failed[key] = failed.get(key, 0) + 1
        for entry in one["importance"]:
            grown.setdefault(entry["input"], []).append(entry["log_loss"])
    return {
        "counted": len(records),
        "models": {
            name: {
                "folds": len(rows),
                "log_loss": sum(row["log_loss"] for row in rows) / len(rows),
                "weight": None
                if rows[0]["role"] == "ensemble"
                else sum(row["weight"] or 0.0 for row in rows) / len(records),
            }
            for name, rows in models.items()
        },
        "failed": [{"model": m, "reason": why, "folds": n} for (m, why), n in sorted(failed.items())],
        "not_reached": sum(one["not_reached"] for one in records),
        "recalibrated": sum(one["calibration"]["kind"] != "none" for one in records),
        "importance": {
            item: {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}
            for item, values in grown.items()
        },
    }
