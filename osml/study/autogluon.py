"""AutoGluon in a run: what it says of its own models, in every fold and on all development patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osml.cohort.cohort import Cohort
from osml.explanation.autogluon import FILE, held_out_shap
from osml.files import atomic_write, read_json, write_json
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.chain import Chain

RECORD = "autogluon.json"
LOG = "autogluon.log"


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
    """How the deployed models were made, and what happened to AutoGluon's models in the folds, for metrics.json.

    `folds`: how many are counted; `failed`: model, reason, and in how many folds; `not_reached`: models that the time
    did not reach, over all folds; `importance` of the folds: input → mean, smallest and largest
    """
    record = fitted.record()
    folds = [read_json(file) for file in sorted((run / "folds").glob(f"*/{fitted.name}/{RECORD}"))]
    failed: dict[tuple[str, str], int] = {}
    grown: dict[str, list[float]] = {}
    for one in folds:
        for failure in one["failures"]:
            key = failure["model"], failure["reason"]
            failed[key] = failed.get(key, 0) + 1
        for entry in one["importance"]:
            grown.setdefault(entry["input"], []).append(entry["log_loss"])
    kept = ("presets", "time_limit", "memory_limit", "failures", "planned", "not_reached", "refit", "importance",
            "calibration", "rare", "inner_folds", "versions")  # fmt: skip
    return {
        "inputs": list(fitted.spec.inputs),
        "columns": len(fitted.spec.columns),
        "encoders": {image: encoder.weights["model"] for image, encoder in fitted.spec.encoders.items()},
        **{key: record[key] for key in kept},
        "leaderboard": [{key: row[key] for key in row if key != "fit_s"} for row in record["leaderboard"]],
        "folds": {
            "counted": len(folds),
            "failed": [{"model": m, "reason": why, "folds": n} for (m, why), n in sorted(failed.items())],
            "not_reached": sum(one["not_reached"] for one in folds),
            "importance": {
                item: {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}
                for item, values in grown.items()
            },
        },
    }
