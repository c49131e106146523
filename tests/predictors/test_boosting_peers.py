"""Boosted trees beside plain LightGBM and scikit-learn on the same outer folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from helpers import data_path
from small_studies import schema_data, write_table

from osml.cohort.build import build_cohort
from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import Fold, make_folds
from osml.cohort.table import read_table
from osml.evaluation.discrimination import auc
from osml.predictors.chain import fit_chain
from osml.schema.load import load_schema
from osml.schema.model import Schema

pytestmark = pytest.mark.full
PLAIN = {"rounds": 60, "leaves": 6, "smallest_leaf": 5, "rate": 0.1, "columns": 0.8, "l2": 1.0, "calibrate": False}


def loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def breast_cancer(folder: Path, **block: Any) -> tuple[Schema, Cohort, tuple[Fold, ...]]:
    """scikit-learn's 569 tumours with 30 measurements, as a study."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    rows = [
        {
            "id": f"P{i}",
            **dict(zip(names, map(repr, map(float, x)), strict=True)),
            "outcome": "bad" if t == 0 else "good",
        }
        for i, (x, t) in enumerate(zip(data.data, data.target, strict=True))
    ]
    write_table(folder / "table.csv", rows)
    inputs = {name: {"kind": "number", "available": "diagnosis"} for name in names}
    predictors = {"net": {"kind": "boosting", "inputs": names, **block}}
    (folder / "study.yaml").write_text(json.dumps(schema_data(predictors, inputs=inputs)))
    loaded = load_schema(folder / "study.yaml")
    cohort = build_cohort(loaded, read_table(loaded.table_path)).cohort
    return loaded.schema, cohort, make_folds(cohort, loaded.schema.validation.split, 5)


def held_out(schema: Schema, cohort: Cohort, folds: tuple[Fold, ...]) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Outcomes and risks of all patients, each by the trees of the fold that did not see it, and the fitted trees."""
    y, p, fitted = [], [], []
    for fold in folds:
        chain = fit_chain(schema, "net", cohort.of(fold.train), (5, fold.repeat, fold.index))
        test = cohort.of(fold.test)
        assert isinstance(test.outcome, BinaryOutcome)
        y.append(test.outcome.y)
        p.append(chain.predict(test).p[:, 0])
        fitted.append(chain.fitted)
    return np.concatenate(y), np.concatenate(p), fitted


def table_of(cohort: Cohort) -> np.ndarray:
    return np.column_stack(list(cohort.values.values()))


def test_with_fixed_settings_it_is_plain_lightgbm(tmp_path: Path) -> None:
    """The same trees: every risk equal but for the order of three additions."""
    schema, cohort, folds = breast_cancer(tmp_path, **PLAIN)
    y, p, fitted = held_out(schema, cohort, folds)
    peer = []
    for fold, own in zip(folds, fitted, strict=True):
        train = cohort.of(fold.train)
        seed = int(own.text.partition("\n[seed: ")[2].partition("]")[0])
        model = lightgbm.LGBMClassifier(
            n_estimators=60, num_leaves=6, min_child_samples=5, learning_rate=0.1, colsample_bytree=0.8, reg_lambda=1.0,
            max_bin=63, random_state=seed, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1,
            feature_pre_filter=False,
        ).fit(table_of(train), train.outcome.y)  # type: ignore[union-attr]  # fmt: skip
        peer.append(model.predict_proba(table_of(cohort.of(fold.test)))[:, 1])
    np.testing.assert_allclose(p, np.concatenate(peer), rtol=1e-12)
    assert auc(y, p) == auc(y, np.concatenate(peer))


def test_by_default_it_is_no_worse_than_scikit_learn(tmp_path: Path) -> None:
    """Mean log-loss against scikit-learn's boosting on the same folds: no more than twice the standard error of the
    paired difference above it, which is what chance among these patients allows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    schema, cohort, folds = breast_cancer(tmp_path)
    y, p, _ = held_out(schema, cohort, folds)
    peer = []
    for fold in folds:
        train = cohort.of(fold.train)
        model = HistGradientBoostingClassifier(random_state=0).fit(table_of(train), train.outcome.y)  # type: ignore[union-attr]
        peer.append(model.predict_proba(table_of(cohort.of(fold.test)))[:, 1])
    worse = loss(y, p) - loss(y, np.concatenate(peer))
    assert worse.mean() < 2 * worse.std(ddof=1) / np.sqrt(len(worse))
    share = np.full(len(y), y.mean())
    gain = loss(y, share) - loss(y, p)
    assert gain.mean() > 10 * gain.std(ddof=1) / np.sqrt(len(gain))


def test_on_the_sarcoma_table(tmp_path: Path) -> None:
    """51 patients with gaps and levels: the risks beat nothing by chance only, and are those of plain LightGBM on the
    same coded table, in which grade has two levels and a gap stays a gap."""
    table = data_path("soft_tissue_sarcoma", "patients.csv")
    text = (Path(__file__).parents[2] / "examples" / "sarcoma" / "lung_metastasis.yaml").read_text(encoding="utf-8")
    text = text.replace("${OSML_DATA:-../../../shared/data}/soft_tissue_sarcoma/patients.csv", str(table))
    start, end = text.index("predictors:"), text.index("missing: impute")
    block = json.dumps({"net": {"kind": "boosting", "inputs": ["age", "sex", "grade", "type"], **PLAIN}})
    text = f"{text[:start]}predictors: {block}\n{text[end:]}".replace(
        "  optimism: {predictors: [clinical], bootstraps: 200}\n", ""
    )
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    loaded = load_schema(tmp_path / "study.yaml")
    cohort = build_cohort(loaded, read_table(loaded.table_path)).cohort
    folds = make_folds(cohort, loaded.schema.validation.split, 1)[:5]
    y, p, fitted = held_out(loaded.schema, cohort, folds)
    assert len(y) == 51
    assert np.isnan(cohort.values["grade"]).sum() == 3
    peer = []
    for fold, own in zip(folds, fitted, strict=True):
        train, test = table_of(cohort.of(fold.train)), table_of(cohort.of(fold.test))
        if not np.isnan(train[:, 2]).any():  # no gap was learnt: the most frequent level stands in
            test[np.isnan(test[:, 2]), 2] = float(np.bincount(train[:, 2].astype(int)).argmax())
        seed = int(own.text.partition("\n[seed: ")[2].partition("]")[0])
        model = lightgbm.LGBMClassifier(
            n_estimators=60, num_leaves=6, min_child_samples=5, learning_rate=0.1, colsample_bytree=0.8, reg_lambda=1.0,
            max_bin=63, random_state=seed, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1,
            feature_pre_filter=False,
        ).fit(train, cohort.of(fold.train).outcome.y)  # type: ignore[union-attr]  # fmt: skip
        peer.append(model.predict_proba(test)[:, 1])
    np.testing.assert_allclose(p, np.concatenate(peer), rtol=1e-12)
