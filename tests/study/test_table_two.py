"""Baseline characteristics of training and test patients, where a study sets test patients apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_studies import schema_data, simulate_rows, write_table

from osml.cohort.build import read_cohort
from osml.cohort.splits import make_folds
from osml.schema.load import load_schema
from osml.study.table_two import write_table_two

HOLDOUT = {"kind": "holdout", "column": "part", "test": "test"}


@pytest.mark.parametrize("split", [HOLDOUT, {"kind": "kfold", "folds": 3}])
def test_training_and_test_patients_get_a_table_only_where_they_are_fixed(split: dict[str, Any], tmp_path: Path):
    write_table(tmp_path / "table.csv", simulate_rows(60))
    validation = {"split": split, "optimism": {"predictors": [], "bootstraps": 20}, "seed": 5}
    (tmp_path / "study.yaml").write_text(json.dumps(schema_data(validation=validation)))
    loaded = load_schema(tmp_path / "study.yaml")
    cohort = read_cohort(loaded).cohort
    folds = make_folds(cohort, loaded.schema.validation.split, 5)
    write_table_two(loaded.schema, cohort, folds, tmp_path / "tables")
    file = tmp_path / "tables" / "table_two.csv"
    assert file.exists() == (split is HOLDOUT)
    if split is not HOLDOUT:
        return
    header, *lines = file.read_text().splitlines()
    sizes = {}
    for words, patients in (("Training", folds[0].train), ("Test", folds[0].test)):
        event = cohort.of(patients).outcome.event  # type: ignore[union-attr]
        sizes[words] = f"{words}: good (n = {int((~event).sum())}),{words}: bad (n = {int(event.sum())})"
    assert all(part in header for part in sizes.values())
    assert len(lines) == 7  # two numbers, two and three levels
    assert "set apart beforehand" in file.with_suffix(".note.txt").read_text()


def test_test_patients_of_one_outcome_are_shown_overall(tmp_path: Path):
    rows = simulate_rows(60)
    for row in rows:
        row["part"] = "test" if row["outcome"] == "good" and int(row["id"][1:]) % 3 == 0 else "training"
    write_table(tmp_path / "table.csv", rows)
    validation = {"split": HOLDOUT, "optimism": {"predictors": [], "bootstraps": 20}, "seed": 5}
    (tmp_path / "study.yaml").write_text(json.dumps(schema_data(validation=validation)))
    loaded = load_schema(tmp_path / "study.yaml")
    cohort = read_cohort(loaded).cohort
    write_table_two(loaded.schema, cohort, make_folds(cohort, loaded.schema.validation.split, 5), tmp_path)
    header = (tmp_path / "table_two.csv").read_text().splitlines()[0]
    n = sum(row["part"] == "test" for row in rows)
    assert header.endswith(f"Test: Overall (n = {n})")
