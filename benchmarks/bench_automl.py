"""AUC, Brier score and seconds of osml's `autogluon` predictor and AutoML beside AutoGluon alone, on the same folds.

    python benchmarks/bench_automl.py [--time-limit 20] [--data breast gbsg2 sarcoma sarcoma-mri] [--no-auto]

One core; the same outer folds of patients and the same seconds per fit for all. `autogluon` is osml's predictor with
its defaults (presets small_n). AutoGluon alone is `TabularPredictor(...).fit(train, presets=..., time_limit=...)` on
the same columns with missing values as they are, scored by log-loss as osml's, one core, without its trial whether
stacking pays, which alone can outlast so short a limit. Models whose packages are not installed it leaves out. AutoML
is `osml fit --preset quick`: its chosen predictor as it stands in the table, and corrected for the choice; its seconds
are those of the whole study with final models and report.

Data: scikit-learn's breast cancer; GBSG2 (lifelines) as event within 5 years, patients lost before that left out (so
the share of events is not that of the population, for none of the contestants); soft-tissue sarcoma (TCIA), lung
metastasis from age, sex, grade and type, and with radiomics of T1 ($OSML_DATA or ../shared/data).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import Fold, make_folds
from osml.evaluation.discrimination import auc, brier
from osml.predictors.chain import fit_chain
from osml.predictors.contract import Design
from osml.predictors.table import fit_table
from osml.runs.store import read_predictions
from osml.schema.load import LoadedSchema
from osml.study.fit import fit
from osml.study.images import add_features
from osml.study.prepare import PlanChoice, prepare

DATA = Path(os.environ.get("OSML_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FIVE_YEARS = 365.25 * 5
ACCEPT = {"OSML041": "a benchmark", "OSML042": "a benchmark"}
Predict = Callable[[Fold], np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    data: str
    system: str
    area: float
    score: float
    seconds: float
    note: str = ""


def schema(name: str, columns: dict[str, dict[str, Any]], limit: int, **changes: Any) -> dict[str, Any]:
    """A study of a table beside it, with AutoGluon as its only predictor."""
    return {
        "version": 1, "name": name, "study": {"sampling": "cohort"}, "cohort": {"table": "table.csv", "patient": "id"},
        "time_of_prediction": "now", "times": ["now"],
        "target": {"kind": "binary", "column": "outcome", "positive": "yes", "negative": "no"},
        "inputs": {key: {**block, "available": "now"} for key, block in columns.items()},
        "predictors": {"many": {"kind": "autogluon", "inputs": list(columns), "time_limit": limit}},
        "missing": "impute",
        "validation": {"split": {"kind": "kfold", "folds": 5}, "seed": 1},
        "checks": {"accept": ACCEPT}, **changes,
    }  # fmt: skip


def write(folder: Path, data: dict[str, Any], rows: list[dict[str, Any]] | None) -> Path:
    folder.mkdir(parents=True)
    if rows is not None:
        with (folder / "table.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (folder / "study.yaml").write_text(json.dumps(data), encoding="utf-8")
    return folder / "study.yaml"


def breast(folder: Path, limit: int) -> Path:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    names = [f"x{j}" for j in range(x.shape[1])]
    rows = [
        {"id": f"P{i}", "outcome": "yes" if y[i] == 0 else "no", **dict(zip(names, row, strict=True))}
        for i, row in enumerate(x.tolist())
    ]
    return write(folder, schema("breast", {name: {"kind": "number"} for name in names}, limit), rows)


def gbsg2(folder: Path, limit: int) -> Path:
    from lifelines.datasets import load_gbsg2

    table = load_gbsg2()
    known = table[(table["cens"] == 1) | (table["time"] >= FIVE_YEARS)]
    rows = [
        {"id": f"P{i}", "outcome": "yes" if row["cens"] == 1 and row["time"] <= FIVE_YEARS else "no",
         **{key: row[key] for key in ("age", "tsize", "pnodes", "progrec", "estrec", "horTh", "menostat", "tgrade")}}
        for i, row in known.iterrows()
    ]  # fmt: skip
    numbers = {key: {"kind": "number"} for key in ("age", "tsize", "pnodes", "progrec", "estrec")}
    levels = {"horTh": ["no", "yes"], "menostat": ["Pre", "Post"], "tgrade": ["I", "II", "III"]}
    kinds = {key: {"kind": "category" if len(v) > 2 else "binary", "levels": v} for key, v in levels.items()}
    return write(folder, schema("gbsg2", numbers | kinds, limit), rows)


def sarcoma(folder: Path, limit: int, *, images: bool = False) -> Path:
    grouped = ["Extraskeletal bone sarcoma", "Fibrosarcoma", "Other"]
    columns: dict[str, dict[str, Any]] = {
        "age": {"kind": "number"},
        "sex": {"kind": "binary", "levels": ["Female", "Male"]},
        "grade": {"kind": "category", "levels": ["Low", "Intermediate", "High"]},
        "type": {"kind": "category", "column": "mskcc_type", "groups": {"other": grouped},
                 "levels": ["other", "Liposarcoma", "Leiomyosarcoma", "MFH", "Synovial sarcoma"]},
    }  # fmt: skip
    data = schema("sarcoma", columns, limit)
    data["cohort"] = {"table": str(DATA / "soft_tissue_sarcoma" / "patients.csv"), "patient": "patient"}
    data["target"]["column"] = "lung_metastasis"
    if images:
        data["inputs"]["t1"] = {"kind": "volume", "mask": {"column": "t1_mask"}, "available": "now"}
        data["inputs"]["rad"] = {
            "kind": "radiomics", "of": "t1", "normalise": {"method": "zscore", "scale": 100}, "spacing": [1, 1, 3],
            "bins": {"width": 25}, "leaving": "clip",
        }  # fmt: skip
        data["predictors"]["many"]["inputs"].append("rad")
    return write(folder, data, None)


STUDIES: dict[str, Callable[[Path, int], Path]] = {
    "breast": breast,
    "gbsg2": gbsg2,
    "sarcoma": sarcoma,
    "sarcoma-mri": lambda folder, limit: sarcoma(folder, limit, images=True),
}


def judged(name: str, system: str, cohort: Cohort, folds: tuple[Fold, ...], predict: Predict) -> Row:
    """Mean AUC of the folds, Brier score of all patients, seconds of all fits and predictions."""
    started = time.monotonic()
    found = [predict(fold) for fold in folds]
    seconds = time.monotonic() - started
    truth = [outcome(cohort.of(fold.test)).y for fold in folds]
    areas = [auc(y, p) for y, p in zip(truth, found, strict=True)]
    return Row(name, system, float(np.mean(areas)), brier(np.concatenate(truth), np.concatenate(found)), seconds)


def outcome(cohort: Cohort) -> BinaryOutcome:
    assert isinstance(cohort.outcome, BinaryOutcome)
    return cohort.outcome


def ours(loaded: LoadedSchema, cohort: Cohort) -> Predict:
    def predict(fold: Fold) -> np.ndarray[Any, np.dtype[np.float64]]:
        chain = fit_chain(loaded.schema, "many", cohort.of(fold.train), (1, fold.repeat, fold.index))
        return chain.predict(cohort.of(fold.test)).p[:, 0]

    return predict


def alone(loaded: LoadedSchema, cohort: Cohort, presets: str, limit: int) -> Predict:
    """AutoGluon as its manual calls it, on the same columns of training patients."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    spec = fit_table(loaded.schema, "many", Design(cohort))

    def frame(part: Cohort) -> pd.DataFrame:
        x = spec.matrix(Design(part))
        columns: dict[str, Any] = {}
        for j, column in enumerate(spec.columns):
            if column.kind == "category":
                codes = np.where(np.isnan(x[:, j]), -1, x[:, j]).astype(int)
                columns[f"c{j}"] = pd.Categorical.from_codes(codes, list(column.levels))
            else:
                columns[f"c{j}"] = x[:, j]
        return pd.DataFrame(columns)

    def predict(fold: Fold) -> np.ndarray[Any, np.dtype[np.float64]]:
        train, test = cohort.of(fold.train), cohort.of(fold.test)
        with tempfile.TemporaryDirectory() as folder, silent():
            model = TabularPredictor("y", problem_type="binary", eval_metric="log_loss", path=folder, verbosity=0)
            model.fit(frame(train).assign(y=outcome(train).y.astype(int)), presets=presets, time_limit=limit,
                      num_cpus=1, num_gpus=0, ag_args_ensemble={"fold_fitting_strategy": "sequential_local"},
                      dynamic_stacking=False)  # fmt: skip
            return model.predict_proba(frame(test))[1].to_numpy(dtype=float)

    return predict


@contextlib.contextmanager
def silent() -> Any:
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def automl(name: str, path: Path, cohort: Cohort) -> list[Row]:
    """The chosen predictor of `osml fit --preset quick`, as it stands in the table and corrected for the choice."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data |= {"predictors": "auto", "report": {"select": True}}
    own = path.with_name("auto.yaml")
    own.write_text(json.dumps(data), encoding="utf-8")
    started = time.monotonic()
    result = fit(own, runs=path.parent / "runs", workers=1, say=lambda line: None, quiet=True,
                 plan=PlanChoice(preset="quick"))  # fmt: skip
    seconds = time.monotonic() - started
    found, predictors = result.metrics.get("selection") or {}, result.metrics["predictors"]
    ranked = [key for key, facts in predictors.items() if not facts["failed_folds"]]
    winner = found.get("winner") or (ranked[0] if len(ranked) == 1 else None)
    if winner is None:
        return [Row(name, "AutoML, quick", float("nan"), float("nan"), seconds, str(found.get("reason")))]
    rows = [r for r in read_predictions(result.run.path / "predictions.parquet") if r.predictor == winner]
    y = dict(zip(cohort.units, outcome(cohort).y, strict=True))
    folds = sorted({(r.repeat, r.fold) for r in rows})
    parts = [[r for r in rows if (r.repeat, r.fold) == fold] for fold in folds]
    areas = [auc(np.array([y[r.unit] for r in part]), np.array([r.lp for r in part])) for part in parts]
    score = brier(np.array([y[r.unit] for r in rows]), np.array([r.p for r in rows]))
    note = f"{winner}, of {len(predictors)} candidates"
    out = [Row(name, "AutoML, quick", float(np.mean(areas)), score, seconds, note)]
    if "corrected" in found:
        measures = (value(found["corrected"].get(key)) for key in ("auc", "brier"))
        out.append(Row(name, "  corrected for the choice", *measures, seconds))
    return out


def value(entry: Any) -> float:
    found = None if entry is None else entry.get("value")
    return float("nan") if found is None else float(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit", type=int, default=20)
    parser.add_argument("--data", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--no-auto", action="store_true")
    asked = parser.parse_args()
    print(f"{'data':<12}{'system':<30}{'AUC':>7}{'Brier':>8}{'seconds':>9}{'ratio':>7}")
    for name in asked.data:
        if name.startswith("sarcoma") and not (DATA / "soft_tissue_sarcoma").is_dir():
            print(f"{name:<12}not measured: no data at {DATA}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = STUDIES[name](Path(folder) / name, asked.time_limit)
            loaded, built, _ = prepare(path)
            cohort = add_features(loaded, built, workers=1, quiet=True, say=lambda line: None).built.cohort
            folds = make_folds(cohort, loaded.schema.validation.split, loaded.schema.validation.seed)
            limit = asked.time_limit
            alone(loaded, cohort, "medium_quality", limit)  # imports AutoGluon before any clock runs
            contestants = {
                "osml autogluon": ours(loaded, cohort),
                "AutoGluon, medium_quality": alone(loaded, cohort, "medium_quality", limit),
                "AutoGluon, best_quality": alone(loaded, cohort, "best_quality", limit),
            }
            rows = [judged(name, system, cohort, folds, predict) for system, predict in contestants.items()]
            rows += [] if asked.no_auto else automl(name, path, cohort)
        y = outcome(cohort).y
        print(f"{name}: {len(y)} patients, {int(y.sum())} events, 5 folds, {asked.time_limit} s a fit, one core")
        for row in rows:
            ratio = row.seconds / rows[1].seconds
            numbers = f"{row.area:7.3f}{row.score:8.4f}{row.seconds:9.0f}{ratio:7.2f}"
            print(f"{row.data:<12}{row.system:<30}{numbers}  {row.note}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
