"""Outcomes that are classes: reading, partial labels, groups, strata, and what is refused or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import built, hierarchy_target, refused
from hypothesis import given
from hypothesis import strategies as st
from made_classes import FLAT, TREE, class_cohort
from numpy.testing import assert_array_equal

from osml.cohort.build import BuiltCohort
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.cohort.splits import make_folds, patient_classes, stratified
from osml.errors import InvalidInputError
from osml.runs.cohort_store import load_cohort, write_cohort
from osml.schema.model import KFold, LeaveOnePatientOut

Data = dict[str, Any]
Change = Callable[[Data], Any]
HEADER = ("id", "tile", "age", "sex", "tissue")
# Four patients with three tiles each; the third tile of the last one is labelled as tumour only.
TISSUES = ("non_tumor", "viable", "non_viable") * 3 + ("non_tumor", "viable", "mixed")


def tile_rows(tissues: Sequence[str] = TISSUES) -> list[list[str]]:
    sex = ("male", "female")
    return [[f"P{i // 3}", f"t{i}", str(40 + i // 3), sex[i // 3 % 2], t] for i, t in enumerate(tissues)]


def classes(*changes: Change, row: bool = True, target: Data | None = None) -> Change:
    def change(data: Data) -> None:
        data["target"] = target or hierarchy_target()
        data["predictors"] = {"net": {"kind": "network", "inputs": ["age", "sex"]}}
        if row:
            data["cohort"]["row"] = "tile"
        for one in changes:
            one(data)

    return change


def read(folder: Path, tissues: Sequence[str] = TISSUES, *changes: Change, **keys: Any) -> BuiltCohort:
    return built(folder, tile_rows(tissues), HEADER, classes(*changes, **keys))


def outcome_of(cohort: Cohort) -> ClassOutcome:
    assert isinstance(cohort.outcome, ClassOutcome)
    return cohort.outcome


def test_classes_are_nodes_of_the_tree_and_partial_labels_stop_at_theirs(tmp_path: Path) -> None:
    outcome = outcome_of(read(tmp_path).cohort)
    assert outcome.tree == TREE
    assert outcome.labels == ("non_tumor", "viable", "non_viable") * 3 + ("non_tumor", "viable", "tumor")
    assert_array_equal(outcome.full, [True] * 11 + [False])
    assert outcome.take(np.array([11, 1, 1])).labels == ("tumor", "viable", "viable")


def test_a_cell_may_name_an_inner_node(tmp_path: Path) -> None:
    tissues = (*TISSUES[:11], "tumor")
    labels = outcome_of(read(tmp_path, tissues, lambda d: d["target"].pop("partial")).cohort).labels
    assert labels[11] == "tumor"


def test_classes_without_order_keep_the_order_of_the_schema(tmp_path: Path) -> None:
    target = {"kind": "multiclass", "column": "tissue", "classes": ["c", "a", "b"]}
    cohort = read(tmp_path, ("a", "b", "c") * 4, target=target).cohort
    outcome = outcome_of(cohort)
    assert outcome.tree.nodes == ("c", "a", "b")
    assert_array_equal(outcome.node, [1, 2, 0] * 4)
    assert list(cohort.outcome_groups()) == ["c", "a", "b"]
    assert outcome.full.all()


def test_an_unknown_class_names_its_line_and_what_was_meant(tmp_path: Path) -> None:
    message = refused(tmp_path, tile_rows((*TISSUES[:10], "viabel", "necrosis?!")), HEADER, classes())
    assert message.startswith("2 cells of clinic.csv cannot be used")
    assert "tissue: 'viabel' is not a class; did you mean 'viable'?: line 12 (P3)" in message
    known = "known: non_tumor, tumor, non_viable, viable, mixed"
    assert f"tissue: 'necrosis?!' is not a class; {known}: line 13 (P3)" in message


def test_rows_without_a_class_are_excluded_and_named(tmp_path: Path) -> None:
    result = read(tmp_path, ("", *TISSUES[1:8], "NA", *TISSUES[9:]), lambda d: d["cohort"].update(missing=["", "NA"]))
    told = [(e.patient, e.reason, e.where) for e in result.cohort.exclusions]
    assert told == [("t0", "no outcome", "clinic.csv:2"), ("t8", "no outcome", "clinic.csv:10")]
    # The first class of the tree is not what an empty cell becomes.
    assert outcome_of(result.cohort).labels.count("non_tumor") == 3
    assert len(result.cohort) == 10


def test_a_class_that_is_also_a_missing_token_is_a_class(tmp_path: Path) -> None:
    target = {"kind": "multiclass", "column": "tissue", "classes": ["-", "a", "b"]}
    tokens = {"missing": ["", "-"]}
    cohort = read(tmp_path, ("a", "-", "b") * 4, lambda d: d["cohort"].update(tokens), target=target).cohort
    assert outcome_of(cohort).labels == ("a", "-", "b") * 4


def test_rows_of_a_patient_agree_in_the_class_where_prediction_is_per_patient(tmp_path: Path) -> None:
    rows = [
        [*row[:4], ("non_tumor", "viable", "non_viable")[i // 3 % 3]] for i, row in enumerate(tile_rows(TISSUES * 2))
    ]
    cohort = built(tmp_path, rows, HEADER, classes(row=False)).cohort
    assert (len(cohort), cohort.per_row) == (8, False)
    assert outcome_of(cohort).labels[:3] == ("non_tumor", "viable", "non_viable")
    rows[5][4] = "mixed"
    message = refused(tmp_path, rows, HEADER, classes(row=False))
    assert "differs from line 5 of the same patient in the class: line 7 (P1)" in message
    assert message.startswith("1 cell of clinic.csv cannot be used")


@pytest.mark.parametrize(
    "tissues, row, said",
    [
        (("non_tumor", "viable") * 6, True, "only 0 of 12 rows are 'non_viable': nothing can be learnt of that class"),
        (
            ("non_tumor", "viable") * 5 + ("mixed", "non_viable"),
            True,
            "only 1 of 12 rows are 'non_viable': nothing can be learnt of that class",
        ),
        (
            ("non_tumor",) * 3 + ("viable",) * 3 + ("non_viable",) * 6,
            False,
            "only 1 of 4 patients are 'non_tumor': nothing can be learnt of that class",
        ),
    ],
)
def test_every_leaf_has_two_units(tmp_path: Path, tissues: Sequence[str], row: bool, said: str) -> None:
    message = refused(tmp_path, tile_rows(tissues), HEADER, classes(row=row))
    assert said in message
    assert "leave the class out of the target and its rows out of the table" in message


def test_partial_labels_may_be_rare(tmp_path: Path) -> None:
    groups = read(tmp_path).cohort.outcome_groups()
    assert {name: int(units.sum()) for name, units in groups.items()} == {
        "non_tumor": 4, "tumor": 1, "non_viable": 3, "viable": 4,
    }  # fmt: skip


@given(labels=st.lists(st.sampled_from(TREE.nodes), min_size=1, max_size=30))
def test_groups_divide_the_units_by_label(labels: list[str]) -> None:
    groups = class_cohort(labels, [f"P{i}" for i in range(len(labels))]).outcome_groups()
    assert list(groups) == [name for name in TREE.nodes if name in labels]
    assert_array_equal(sum(units.astype(int) for units in groups.values()), np.ones(len(labels)))
    for name, units in groups.items():
        assert [label == name for label in labels] == units.tolist()


def test_groups_of_an_event_put_it_first() -> None:
    cohort = class_cohort(["a", "b", "c"], ["P0", "P1", "P2"], FLAT)
    binary = Cohort(**{**cohort.__dict__, "outcome": BinaryOutcome(np.array([0.0, 1.0, 0.0]), "yes", "no")})
    assert {name: units.tolist() for name, units in binary.outcome_groups().items()} == {
        "yes": [False, True, False], "no": [True, False, True],
    }  # fmt: skip
    assert list(binary.outcome_groups()) == ["yes", "no"]
    with pytest.raises(InvalidInputError, match="needs a binary or survival outcome"):
        _ = cohort.event_outcome
    with pytest.raises(InvalidInputError, match="needs a binary or survival outcome"):
        cohort.without_outcome().outcome_groups()


def test_the_stratum_of_a_patient_is_the_class_of_most_rows() -> None:
    labels = ["viable", "viable", "non_viable", "non_tumor", "non_viable", "non_viable", "viable", "non_tumor"]
    cohort = class_cohort(labels, ["A", "A", "A", "B", "C", "C", "D", "D"])
    found = [TREE.nodes[k] for k in patient_classes(cohort)]
    assert found == ["viable", "non_tumor", "non_viable", "non_tumor"]  # of equals the first node of the tree
    drawn = cohort.resample([2, 0, 2])
    assert [TREE.nodes[k] for k in patient_classes(drawn)] == ["non_viable", "viable"]
    assert_array_equal(patient_classes(cohort.without_outcome()), [0, 0, 0, 0])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_are_even_in_size_and_in_every_class(sizes: list[int], folds: int, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    if folds > len(strata):
        with pytest.raises(InvalidInputError, match=f"{folds} folds for {len(strata)} patients"):
            stratified(strata, folds, np.random.default_rng(seed))
        return
    assigned = stratified(strata, folds, np.random.default_rng(seed))
    for part in (np.ones(len(strata), dtype=bool), *(strata == k for k in range(len(sizes)))):
        counts = np.bincount(assigned[part], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_patients_with_tiles_of_several_classes_stay_whole_and_are_dealt_by_class() -> None:
    rng = np.random.default_rng(4)
    own = np.repeat(["non_tumor", "non_viable", "viable"], [12, 8, 4])
    patients = [f"P{i:02d}" for i in range(24)]
    # Two tiles of each patient's own class and one of another.
    labels = [label for name in own for label in (name, name, rng.choice(["non_tumor", "viable"]))]
    cohort = class_cohort(labels, [p for p in patients for _ in range(3)])
    folds = make_folds(cohort, KFold(kind="kfold", folds=4, repeats=2), 5)
    assert len(folds) == 8
    strata = dict(zip(cohort.patient_ids, patient_classes(cohort), strict=True))
    for repeat in range(2):
        here = [fold for fold in folds if fold.repeat == repeat]
        assert sorted(p for fold in here for p in fold.test) == patients
        for k in set(strata.values()):
            counts = [sum(strata[p] == k for p in fold.test) for fold in here]
            assert max(counts) - min(counts) <= 1
    assert {fold.test for fold in folds[:4]} != {fold.test for fold in folds[4:]}
    alone = make_folds(cohort, LeaveOnePatientOut(kind="leave_one_patient_out"), 5)
    assert [fold.test for fold in alone] == [(p,) for p in patients]


def test_a_stored_cohort_of_classes_is_read_back(tmp_path: Path) -> None:
    cohort = read(tmp_path).cohort
    write_cohort(tmp_path / "cohort.parquet", cohort)
    again = load_cohort(tmp_path / "cohort.parquet")
    assert outcome_of(again).tree == TREE
    assert_array_equal(outcome_of(again).node, outcome_of(cohort).node)
    assert (again.units, again.patients, again.per_row) == (cohort.units, cohort.patients, True)
    assert_array_equal(again.values["age"], cohort.values["age"])
    assert (again.several, again.images) == ({}, {})
