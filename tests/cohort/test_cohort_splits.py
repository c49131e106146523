"""Splits and resampling: whatever the cohort, no patient stands on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import binary_cohort, clinic_rows, study, survival_cohort
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from osml.cohort.build import read_cohort
from osml.cohort.cohort import Cohort
from osml.cohort.splits import (
    Fold,
    derive_seed,
    folds_from_json,
    folds_to_json,
    inner_folds,
    make_folds,
    patient_classes,
    stratified,
)
from osml.errors import InvalidInputError, TableError
from osml.predictors.chain import fit_chain
from osml.schema.model import Holdout, KFold, LeaveOneGroupOut, LeaveOnePatientOut, TimeSplit


@st.composite
def cohorts(draw: Any, min_patients: int = 2, max_patients: int = 24) -> Cohort:
    """Patients with one to four rows each, in any order, any events, a centre and a year per patient."""
    n = draw(st.integers(min_patients, max_patients))
    rows = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    patients = [f"P{i}" for i, k in enumerate(rows) for _ in range(k)]
    order = draw(st.permutations(range(len(patients))))
    patients = [patients[i] for i in order]
    events = draw(st.lists(st.booleans(), min_size=len(patients), max_size=len(patients)))
    centre = draw(st.lists(st.sampled_from(["north", "south", "west"]), min_size=n, max_size=n))
    year = draw(st.lists(st.integers(2010, 2014), min_size=n, max_size=n))
    number = [int(p[1:]) for p in patients]
    return binary_cohort(patients, events, centre=[centre[i] for i in number], year=[str(year[i]) for i in number])


def _covers(cohort: Cohort, folds: Sequence[Fold], repeats: int = 1) -> None:
    """Each fold partitions the patients; over a repeat, every patient is tested once."""
    everybody = set(cohort.patient_ids)
    for fold in folds:
        assert not set(fold.train) & set(fold.test)
        assert set(fold.train) | set(fold.test) == everybody
        train, test = cohort.of(fold.train), cohort.of(fold.test)
        assert len(train) + len(test) == len(cohort)
        assert not set(train.patients) & set(test.patients)
    tested = Counter(p for fold in folds for p in fold.test)
    assert tested == dict.fromkeys(everybody, repeats)


@given(cohorts(), st.integers(2, 10), st.integers(1, 3), st.integers(0, 2**32))
def test_kfold(cohort: Cohort, folds: int, repeats: int, seed: int) -> None:
    assume(folds <= len(cohort.patient_ids))
    split = KFold(kind="kfold", folds=folds, repeats=repeats)
    made = make_folds(cohort, split, seed)
    assert [(f.repeat, f.index) for f in made] == [(r, k) for r in range(repeats) for k in range(folds)]
    _covers(cohort, made, repeats)
    stratum = dict(zip(cohort.patient_ids, patient_classes(cohort).tolist(), strict=True))
    for repeat in range(repeats):
        tests = [f.test for f in made if f.repeat == repeat]
        sizes = [len(test) for test in tests]
        assert max(sizes) - min(sizes) <= 1
        for value in (0, 1):
            counts = [sum(stratum[p] == value for p in test) for test in tests]
            assert max(counts) - min(counts) <= 1
    assert made == make_folds(cohort, split, seed)
    assert folds_from_json(folds_to_json(made)) == made


def test_repeats_and_seeds_differ() -> None:
    cohort = binary_cohort([f"P{i}" for i in range(40)], [i % 3 == 0 for i in range(40)])
    split = KFold(kind="kfold", folds=4, repeats=3)
    made = make_folds(cohort, split, 1)
    assert len({made[4 * repeat].test for repeat in range(3)}) == 3
    assert made != make_folds(cohort, split, 2)
    # More repeats leave the first ones as they were.
    assert make_folds(cohort, KFold(kind="kfold", folds=4, repeats=1), 1) == made[:4]


@given(cohorts())
def test_leave_one_patient_out(cohort: Cohort) -> None:
    made = make_folds(cohort, LeaveOnePatientOut(kind="leave_one_patient_out"), 1)
    _covers(cohort, made)
    assert [f.test for f in made] == [(p,) for p in cohort.patient_ids]


@given(cohorts())
def test_leave_one_group_out(cohort: Cohort) -> None:
    split = LeaveOneGroupOut(kind="leave_one_group_out", column="centre")
    groups = set(cohort.keys["centre"])
    if len(groups) == 1:
        with pytest.raises(TableError, match="has one value only"):
            make_folds(cohort, split, 1)
        return
    made = make_folds(cohort, split, 1)
    _covers(cohort, made)
    for fold, group in zip(made, sorted(groups), strict=True):
        assert set(cohort.of(fold.test).keys["centre"]) == {group}
        assert group not in cohort.of(fold.train).keys["centre"]


@given(cohorts(), st.integers(2010, 2015))
def test_time_split(cohort: Cohort, first: int) -> None:
    split = TimeSplit(kind="time", column="year", test_from=str(first))
    years = [int(y) for y in cohort.keys["year"]]
    if max(years) < first or min(years) >= first:
        with pytest.raises(TableError, match=f"`test_from: {first}` puts .* patients into the test set"):
            make_folds(cohort, split, 1)
        return
    (fold,) = make_folds(cohort, split, 1)
    assert set(fold.train) | set(fold.test) == set(cohort.patient_ids)
    assert all(int(y) < first for y in cohort.of(fold.train).keys["year"])
    assert all(int(y) >= first for y in cohort.of(fold.test).keys["year"])


def test_dates_are_compared_as_dates() -> None:
    dates = ["2020-12-31", "2021-05-31", "2021-06-01 08:00", "2019-01-01"]
    cohort = binary_cohort(list("abcd"), [True, False] * 2, seen=dates)
    (fold,) = make_folds(cohort, TimeSplit(kind="time", column="seen", test_from="2021-05-31"), 1)
    assert (fold.train, fold.test) == (("a", "d"), ("b", "c"))


@pytest.mark.parametrize(
    "texts, start, said",
    [
        (
            ["2020-12-31", "31.05.2021"],
            "2021-01-01",
            r"must hold ISO dates \(2021-05-31\) or numbers .*; found '31.05.2021'",
        ),
        (["2020-12-31", "2021-02-30"], "2021-01-01", "'2021-02-30' is not a day of the calendar"),
        (["2020-12-31", "2021-05-31"], "2021", "must hold ISO dates"),
        (["2020-12-31", ""], "2021-01-01", "patient b has an empty cell in split column 'seen'"),
    ],
)
def test_dates_that_cannot_be_compared(texts: list[str], start: str, said: str) -> None:
    cohort = binary_cohort(["a", "b"], [True, False], seen=texts)
    with pytest.raises(TableError, match=said):
        make_folds(cohort, TimeSplit(kind="time", column="seen", test_from=start), 1)


def test_holdout() -> None:
    cohort = binary_cohort(list("aabc"), [True, False, True, False], part=["test", "test", "train", "train"])
    (fold,) = make_folds(cohort, Holdout(kind="holdout", column="part", test="test"), 1)
    assert (fold.train, fold.test) == (("b", "c"), ("a",))
    with pytest.raises(TableError, match="part = 'Test' puts 0 of 3 patients into the test set"):
        make_folds(cohort, Holdout(kind="holdout", column="part", test="Test"), 1)


def test_a_patient_whose_rows_fall_on_both_sides_is_refused() -> None:
    cohort = binary_cohort(list("aab"), [True, False, True], part=["test", "train", "train"])
    with pytest.raises(TableError, match="patient a has 'test' and 'train' in split column 'part'"):
        make_folds(cohort, Holdout(kind="holdout", column="part", test="test"), 1)


def test_more_folds_than_patients() -> None:
    cohort = binary_cohort(list("abc"), [True, False, True])
    with pytest.raises(InvalidInputError, match=r"4 folds for 3 patients\n  Use fewer folds"):
        make_folds(cohort, KFold(kind="kfold", folds=4), 1)


def test_a_fold_cannot_be_made_with_a_shared_patient() -> None:
    with pytest.raises(InvalidInputError, match=r"patients in training and test of fold r0-f1: \['b'\]"):
        Fold(0, 1, ("a", "b"), ("b", "c"))
    with pytest.raises(InvalidInputError, match="fold r0-f0 has 0 training and 1 test patients"):
        Fold(0, 0, (), ("a",))
    with pytest.raises(InvalidInputError, match="patients in training and test"):
        folds_from_json([{"repeat": 0, "index": 0, "train": ["a", "b"], "test": ["b"]}])


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 12), st.integers(0, 99))
def test_stratified_deals_every_class_evenly(classes: list[int], folds: int, seed: int) -> None:
    assume(folds <= len(classes))
    array = np.array(classes)
    assigned = stratified(array, folds, np.random.default_rng(seed))
    sizes = np.bincount(assigned, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for value in set(classes):
        counts = np.bincount(assigned[array == value], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_a_stratum_is_any_event_of_the_patient() -> None:
    cohort = binary_cohort(list("abab"), [False, False, True, False])
    assert_array_equal(patient_classes(cohort), [1, 0])
    assert_array_equal(patient_classes(cohort.without_outcome()), [0, 0])
    assert_array_equal(patient_classes(survival_cohort([1.0, 2.0, 3.0], [False, True, False])), [0, 1, 0])


@given(cohorts(min_patients=3), st.integers(2, 6), st.data())
def test_inner_folds_keep_copies_together(cohort: Cohort, folds: int, data: Any) -> None:
    n = len(cohort.patient_ids)
    draws = data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    assume(len(set(draws)) >= 2)
    sample = cohort.resample(draws)
    made = inner_folds(sample, folds, np.random.SeedSequence(3))
    _covers(sample, made)
    assert len(made) == min(folds, len(set(draws)))
    assert made == inner_folds(sample, folds, np.random.SeedSequence(3))


@given(cohorts(), st.data())
def test_resampling_keeps_multiplicity(cohort: Cohort, data: Any) -> None:
    ids = cohort.patient_ids
    draws = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=30))
    sample = cohort.resample(np.array(draws))
    rows = Counter(cohort.patients)
    times = Counter(ids[d] for d in draws)
    assert Counter(sample.patients) == {p: rows[p] * times[p] for p in times}
    assert len(set(zip(sample.units, sample.copies.tolist(), strict=True))) == len(sample)
    assert {
        p: max(c for q, c in zip(sample.patients, sample.copies, strict=True) if q == p) + 1 for p in times
    } == times
    # Each unit carries its own values, kit range, keys and outcome along.
    position = {unit: i for i, unit in enumerate(cohort.units)}
    index = [position[unit] for unit in sample.units]
    assert_array_equal(sample.values["x"], cohort.values["x"][index])
    assert_array_equal(sample.kit["x"][1], cohort.kit["x"][1][index])
    assert sample.keys["centre"] == tuple(cohort.keys["centre"][i] for i in index)
    assert sample.outcome is not None
    assert cohort.outcome is not None
    assert_array_equal(sample.outcome.event, cohort.outcome.event[index])
    once = cohort.resample(range(len(ids)))
    assert sorted(once.units) == sorted(cohort.units)
    assert not once.copies.any()


@pytest.mark.parametrize("draw", [-1, 3])
def test_a_draw_that_is_no_patient(draw: int) -> None:
    cohort = binary_cohort(list("abc"), [True, False, True])
    with pytest.raises(InvalidInputError, match=f"draw {draw} is not a position of the 3 patients"):
        cohort.resample([0, draw])


def test_of_keeps_the_order_of_the_table_and_refuses_strangers() -> None:
    cohort = binary_cohort(list("cabac"), [True, False, True, False, True])
    assert cohort.of(["a", "c"]).patients == ("c", "a", "a", "c")
    with pytest.raises(InvalidInputError, match=r"1 patients are not in the cohort: \['z'\]"):
        cohort.of(["a", "z"])
    assert cohort.without_outcome().outcome is None
    assert cohort.outcome is not None


def test_seeds_follow_names() -> None:
    def draws(*key: Any) -> list[int]:
        return np.random.default_rng(derive_seed(*key)).integers(0, 2**31, 4).tolist()

    assert draws(1, 0, 0, "clinical") == draws(1, 0, 0, "clinical")
    others = [(2, 0, 0, "clinical"), (1, 1, 0, "clinical"), (1, 0, 1, "clinical"), (1, 0, 0, "radscore")]
    assert len({tuple(draws(*key)) for key in [(1, 0, 0, "clinical"), *others]}) == 5


def test_adding_a_predictor_changes_no_fold_and_no_score(tmp_path: Path) -> None:
    def change(names: Sequence[str]) -> Callable[[dict[str, Any]], None]:
        def edit(data: dict[str, Any]) -> None:
            data["predictors"] = {name: {"kind": "nomogram", "inputs": ["age", "sex"]} for name in names}

        return edit

    rng = np.random.default_rng(8)
    ages = rng.normal(50, 9, 60).round(1)
    sexes = [("male", "female")[i // 4 % 2] for i in range(60)]
    rows = [[row[0], str(age), sex, row[3]] for row, age, sex in zip(clinic_rows(60), ages, sexes, strict=True)]
    scores = []
    for names in (["clinical"], ["another", "clinical", "last"]):
        loaded = study(tmp_path, rows, change=change(names))
        cohort = read_cohort(loaded).cohort
        folds = make_folds(cohort, loaded.schema.validation.split, 1)
        chain = fit_chain(loaded.schema, "clinical", cohort.of(folds[0].train), (1, 0, 0))
        scores.append((folds, chain.predict(cohort.of(folds[0].test)).p))
    assert scores[0][0] == scores[1][0]
    assert_array_equal(scores[0][1], scores[1][1])
