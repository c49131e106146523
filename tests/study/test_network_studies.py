"""Around networks and classes in a study: smaller networks, tables by class, small classes, lost images."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import binary_cohort, built, network_schema
from hypothesis import given
from hypothesis import strategies as st
from made_classes import FLAT, TREE, class_cohort, class_schema, patient_folds

from osml.codes import Finding
from osml.cohort.build import BuiltCohort
from osml.cohort.checks import run_checks
from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.features import Unusable
from osml.predictors.contract import Prediction
from osml.runs.extras import ExtraRow, extra_rows, read_extras, write_extras
from osml.schema.load import load_schema
from osml.schema.model import Schema
from osml.study.ablation import ablations, reduced
from osml.study.images import _lost
from osml.study.model_checks import FEW_ROWS, _few_of_a_class, model_checks
from osml.study.prepare import introduce
from osml.study.table_two import write_table_two
from osml.study.tables import outcome_column, write_tables

Data = dict[str, Any]
KFOLD = {"kind": "kfold", "folds": 3}


# Smaller networks ----------------------------------------


def network(inputs: Sequence[str], **keys: Any) -> Schema:
    data = copy.deepcopy(network_schema())
    data["predictors"] = {
        "net": {"kind": "network", "inputs": list(inputs), **keys},
        "other": {"kind": "network", "inputs": ["age"]},
    }
    return Schema.model_validate(data)


@given(inputs=st.permutations(["tile", "slide_view", "nuclei", "age", "sex", "alp"]), n=st.integers(1, 6))
def test_every_subset_but_none_and_all(inputs: list[str], n: int) -> None:
    used = inputs[:n]
    found = ablations(network(used, ablation="inputs"), "net")
    assert len(found) == 2**n - 2
    assert set(found.values()) == {part for k in range(1, n) for part in combinations(used, k)}
    assert list(found) == [f"net[{'+'.join(part)}]" for part in found.values()]


@pytest.mark.parametrize(
    "inputs, subsets",
    [
        (["age", "tile", "nuclei", "slide_view"], [("tile", "slide_view"), ("age", "nuclei")]),
        (["tile", "age"], [("tile",), ("age",)]),
        (["tile", "slide_view"], []),
        (["age", "alp"], []),
        (["tile"], []),
    ],
)
def test_modalities_are_the_images_alone_and_the_rest_alone(inputs: list[str], subsets: list[tuple[str, ...]]) -> None:
    assert list(ablations(network(inputs), "net").values()) == subsets
    assert ablations(network(inputs, ablation="none"), "net") == {}


def test_only_networks_are_ablated() -> None:
    schema = Schema.model_validate(network_schema())
    assert ablations(schema, "both") == {}
    assert len(ablations(schema, "net")) == 2**5 - 2


def test_a_smaller_network_keeps_what_its_inputs_need_and_loads() -> None:
    schema = Schema.model_validate(network_schema())
    whole = schema.networks()["net"]
    for called, inputs in ablations(schema, "net").items():
        less = reduced(schema, "net", inputs, called)
        assert list(less.predictors) == [called]
        block = less.networks()[called]
        assert block.inputs == inputs
        assert set(block.encoders) == {"tile"} & set(inputs)
        assert set(block.encode) == {"age", "alp"} & set(inputs)
        assert block.fusion == ("gated" if len(inputs) > 1 else "concat")
        assert ablations(less, called) == {}
        same = {key: getattr(whole, key) for key in ("train", "seeds", "head", "dropout", "reduce", "calibrate")}
        assert {key: getattr(block, key) for key in same} == same
        assert less.target == schema.target
    assert list(schema.predictors) == ["net", "flat", "both"]  # the study's own schema stays


# What is stored beside probabilities ----------------------------------------


def test_extras_are_read_back_in_order(tmp_path: Path) -> None:
    p = np.array([[0.2, 0.8], [0.5, 0.5]])
    extras = {"gate:tile": np.array([0.25, 0.75]), "present:nuclei": np.array([1.0, np.nan])}
    prediction = Prediction(("u1", "u0"), ("P1", "P0"), ("no", "yes"), p, p, extras=extras)
    rows = extra_rows(prediction, "net", Fold(0, 1, ("A",), ("B",)))
    assert rows[0] == ExtraRow("net", 0, 1, "u1", "P1", "gate:tile", 0.25)
    assert [(r.name, r.unit) for r in rows] == [
        ("gate:tile", "u1"), ("gate:tile", "u0"), ("present:nuclei", "u1"), ("present:nuclei", "u0"),
    ]  # fmt: skip
    earlier = [replace(row, fold=0) for row in rows]
    write_extras(tmp_path / "extras.parquet", [*rows, *earlier])
    again = read_extras(tmp_path / "extras.parquet")
    assert [r.fold for r in again] == [0] * 4 + [1] * 4
    assert [replace(r, value=0.0) for r in again] == [replace(r, value=0.0) for r in (*earlier, *rows)]
    np.testing.assert_array_equal([r.value for r in again], [r.value for r in (*earlier, *rows)])
    assert read_extras(tmp_path / "none.parquet") == []


# Tables by class ----------------------------------------


def with_ages(labels: Sequence[str], patients: Sequence[str], tree: Any = TREE, **keys: Any) -> Cohort:
    age = np.array([40.0 + 5 * tree.nodes.index(label) + i % 3 for i, label in enumerate(labels)])
    return class_cohort(labels, patients, tree, values={"age": age}, **keys)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_table_one_has_a_column_for_every_class_that_occurs(tmp_path: Path) -> None:
    labels = ["viable", "non_tumor", "non_viable", "viable", "tumor", "non_tumor"] * 4
    cohort = with_ages(labels, [f"P{i}" for i in range(24)])
    names, order = outcome_column(cohort)
    assert (names, order) == (labels, ["non_tumor", "tumor", "non_viable", "viable"])
    write_tables(class_schema(KFOLD), cohort, tmp_path, 1)
    header, *rows = read(tmp_path / "table_one.csv")
    sizes = [f"{name} (n = {labels.count(name)})" for name in order]
    assert header[3:8] == ["Overall (n = 24)", *sizes]
    # 45, 50 and 55 and a bit: medians of the classes rise along the tree.
    medians = [float(cell.split()[0]) for cell in rows[0][4:8]]
    assert medians == sorted(medians)
    assert medians[0] < medians[-1]


def test_the_outcome_column_of_an_event_puts_its_absence_first() -> None:
    names, order = outcome_column(binary_cohort(["A", "B", "C"], [True, False, True]))
    assert (names, order) == (["yes", "no", "yes"], ["no", "yes"])


def test_table_two_shows_classes_of_training_and_test_patients(tmp_path: Path) -> None:
    patients = [f"P{i:02d}" for i in range(24)]
    labels = [("a", "b", "c")[i % 3] for i in range(18)] + ["b", "c"] * 3
    cohort = with_ages(labels, patients, FLAT)
    folds = [Fold(0, 0, tuple(patients[:18]), tuple(patients[18:]))]
    holdout = {"kind": "holdout", "column": "part", "test": "test"}
    write_table_two(class_schema(holdout, kind="multiclass"), cohort, folds, tmp_path)
    header = read(tmp_path / "table_two.csv")[0]
    assert [f"Training: {name} (n = 6)" for name in "abc"] == [cell for cell in header if "(n = 6)" in cell]
    assert [cell for cell in header if cell.startswith("Test: ") and "n = " in cell] == [
        "Test: b (n = 3)", "Test: c (n = 3)",
    ]  # fmt: skip
    write_table_two(class_schema(KFOLD, kind="multiclass"), cohort, folds, tmp_path / "kfold")
    assert not (tmp_path / "kfold").exists()


# Checks ----------------------------------------


def checked(cohort: Cohort, folds: Sequence[Fold], kind: str = "hierarchy") -> list[Finding]:
    return list(_few_of_a_class(class_schema(KFOLD, kind=kind), cohort, folds))


@pytest.mark.parametrize("few", [FEW_ROWS - 1, FEW_ROWS])
def test_osml050_counts_the_units_of_each_class_in_training(few: int) -> None:
    labels = ["a"] * 40 + ["b"] * 40 + ["c"] * (few + 1)
    cohort = class_cohort(labels, [f"P{i}" for i in range(len(labels))], FLAT)
    folds = patient_folds(cohort)[-2:] + patient_folds(cohort)[:1]
    found = checked(cohort, folds, "multiclass")
    last = f"r0-f{len(labels) - 2}"
    said = f"2 of 3 training folds, down to {few} patients in {last}"
    assert found == ([Finding("OSML050", said, "c")] if few < FEW_ROWS else [])


def test_osml050_counts_rows_where_prediction_is_per_row_and_leaves_only() -> None:
    labels = ["non_tumor"] * 30 + ["viable"] * 30 + ["non_viable"] * 12 + ["tumor"] * 2
    patients = [f"P{i % 6}" for i in range(60)] + ["P0"] * 6 + ["P1"] * 6 + ["P2"] * 2
    cohort = class_cohort(labels, patients)
    found = checked(cohort, patient_folds(cohort))
    assert found == [Finding("OSML050", "2 of 6 training folds, down to 6 rows in r0-f0", "non_viable")]


def test_osml050_counts_events_of_a_network_for_them_and_asks_no_other_predictor() -> None:
    cohort = binary_cohort([f"P{i}" for i in range(40)], [i < 9 for i in range(40)])
    folds = [Fold(0, 0, tuple(cohort.patient_ids[:38]), tuple(cohort.patient_ids[38:]))]
    assert checked(cohort, folds) == [Finding("OSML050", "1 of 1 training folds, down to 9 patients in r0-f0", "yes")]
    schema = class_schema(KFOLD)
    plain = schema.model_copy(update={"predictors": {}})
    assert list(_few_of_a_class(plain, cohort, folds)) == []


def classes_study(folder: Path, tissues: Sequence[str], ages: Sequence[str], site: Sequence[str]) -> BuiltCohort:
    rows = [[f"P{i:03d}", age, t, s] for i, (age, t, s) in enumerate(zip(ages, tissues, site, strict=True))]
    return built(folder, rows, ("id", "age", "tissue", "site"), change)


def change(data: Data) -> None:
    data["target"] = {"kind": "multiclass", "column": "tissue", "classes": ["a", "b", "c"]}
    data["cohort"]["site"] = "site"
    data["inputs"] = {"age": {"kind": "number", "unit": "year", "available": "visit"}}
    data["predictors"] = {"net": {"kind": "network", "inputs": ["age"]}}
    data["missing"] = "impute"


def of_the_model(folder: Path, result: BuiltCohort) -> dict[str, str]:
    return {f.code: f.evidence for f in model_checks(load_schema(folder / "study.yaml").schema, result)}


def test_missingness_and_site_are_compared_between_classes(tmp_path: Path) -> None:
    n = 150
    tissues = ["abc"[i % 3] for i in range(n)]
    even = [str(40 + i % 17) for i in range(n)]
    plain = classes_study(tmp_path, tissues, even, ["north", "south"] * 75)
    assert of_the_model(tmp_path, plain) == {}
    gaps = ["" if t == "c" and i % 2 else age for i, (t, age) in enumerate(zip(tissues, even, strict=True))]
    centres = ["north" if t == "a" or i % 7 == 0 else "south" for i, t in enumerate(tissues)]
    found = of_the_model(tmp_path, classes_study(tmp_path, tissues, gaps, centres))
    assert set(found) == {"OSML018", "OSML019"}
    assert found["OSML018"].startswith("missing in 0 % of a, 0 % of b, 50 % of c (Fisher p = ")
    assert found["OSML019"].startswith("share with a by site: north: ")


def test_the_cohort_is_introduced_by_its_classes(tmp_path: Path) -> None:
    result = classes_study(tmp_path, ["a", "b", "c", "c"] * 5, [str(30 + i) for i in range(20)], ["n"] * 20)
    said: list[str] = []
    introduce(load_schema(tmp_path / "study.yaml"), result, [], said.append)
    assert "clinic, multiclass target, 1 inputs, 1 predictors" in said[0]
    assert said[1] == "cohort    20 → 20 patients; 5 a, 5 b, 10 c"


# Lost images ----------------------------------------


def test_the_lost_are_told_by_class_and_each_unit_counts_once() -> None:
    labels = ["a"] * 4 + ["b"] * 4 + ["c"] * 2
    cohort = class_cohort(labels, [f"P{i}" for i in range(10)], FLAT)
    gone = np.zeros(10, dtype=bool)
    gone[[0, 1, 9]] = True
    lost = [
        Unusable(0, "xray", "unreadable", "P0: a.png"), Unusable(0, "xray", "unreadable", "P0: b.png"),
        Unusable(9, "xray", "dimension", "P9: c.png"), Unusable(1, "xray", "unreadable", "P1: d.png"),
    ]  # fmt: skip
    evidence = "3 of 10: 2 xray unreadable, 1 xray dimension; lost 50 % of a, 0 % of b, 50 % of c"
    assert _lost(cohort, gone, lost) == [Finding("OSML020", evidence), Finding("OSML022", evidence)]
    gone[[0, 1]] = False
    assert [f.code for f in _lost(cohort, gone, lost[2:3])] == ["OSML020"]
    assert _lost(cohort, np.zeros(10, dtype=bool), []) == []


def test_checks_of_inputs_look_at_each_class_against_the_rest(tmp_path: Path) -> None:
    n = 150
    tissues = ["abc"[i % 3] for i in range(n)]
    rng = np.random.default_rng(2)
    ages = [f"{50 + 30 * (t == 'b') + rng.normal():.3f}" for t in tissues]
    result = classes_study(tmp_path, tissues, ages, ["n"] * n)
    schema = load_schema(tmp_path / "study.yaml").schema
    (found,) = run_checks(schema, result)
    assert (found.code, found.subject) == ("OSML013", "age")
    assert found.evidence == "alone it separates 'b' from the rest with an AUC of 1.000"


def test_a_level_is_rare_where_a_class_hardly_has_it(tmp_path: Path) -> None:
    rows = [
        [f"P{i:03d}", "yes" if i % 3 == 0 or i in (1, 4, 7, 2, 5, 8, 11, 14) else "no", "abc"[i % 3]] for i in range(90)
    ]

    def levels(data: Data) -> None:
        change(data)
        del data["cohort"]["site"]
        data["inputs"] = {"age": {"kind": "binary", "levels": ["no", "yes"], "available": "visit"}}

    result = built(tmp_path, rows, ("id", "age", "tissue"), levels)
    found = run_checks(load_schema(tmp_path / "study.yaml").schema, result)
    assert [(f.code, f.evidence) for f in found] == [
        ("OSML012", "level 'no': 52 patients, 0 with a, 27 with b, 25 with c"),
        ("OSML012", "level 'yes': 38 patients, 30 with a, 3 with b, 5 with c"),
    ]
