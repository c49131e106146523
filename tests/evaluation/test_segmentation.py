"""IoU, precision, recall and Dice of class maps: by hand, against scikit-learn, and intervals by patient."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.evaluation.segmentation import (
    SegmentationReport,
    Table,
    confusion_table,
    overlap,
    segmentation_gain,
    segmentation_report,
    tables_by_patient,
)

CLASSES = ("BG", "VT", "NC")


def table(counts: list[list[int]], unlabelled: int = 0) -> Table:
    return Table(np.asarray(counts, dtype=np.int64), unlabelled)


def maps(patients: int, skill: float, seed: int = 0) -> tuple[list[Table], list[str]]:
    """Two regions of each patient with three classes; the share `skill` of the cells is right."""
    rng = np.random.default_rng(seed)
    tables, who = [], []
    for p in range(patients):
        for _ in range(2):
            true = rng.integers(0, 3, (20, 20))
            right = np.random.default_rng([seed, p, len(tables)]).random(true.shape) < skill
            tables.append(confusion_table(true, np.where(right, true, (true + 1) % 3), 3))
            who.append(f"P{p}")
    return tables, who


def test_by_hand() -> None:
    """True 0: 6 of 8 right; true 1: 3 of 4 right, and 2 cells of 0 are called 1, 1 of 1 is called 2; 2 never true."""
    found = overlap([[6, 2, 0], [0, 3, 1], [0, 0, 0]])
    assert_allclose(found.each["iou"], [6 / 8, 3 / 6, 0.0])
    assert_allclose(found.each["precision"], [1.0, 3 / 5, 0.0])
    assert_allclose(found.each["recall"], [6 / 8, 3 / 4, np.nan])
    assert_allclose(found.each["dice"], [12 / 14, 6 / 9, 0.0])
    assert found.overall["miou"] == pytest.approx((6 / 8 + 3 / 6) / 3)
    assert found.overall["recall"] == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert found.overall["accuracy"] == pytest.approx(9 / 12)
    assert found.overall["pooled_iou"] == pytest.approx(9 / (8 + 6 + 1))


def test_a_class_in_neither_map_is_nan_and_in_no_mean() -> None:
    found = overlap([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    for name in ("iou", "precision", "recall", "dice"):
        assert np.isnan(found.each[name][2]), name
    assert found.overall["miou"] == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert np.isnan(overlap(np.zeros((3, 3))).overall["miou"])


def test_nothing_is_hidden_by_the_reference() -> None:
    """All tissue is found, and all background is called tumour: a mask by the reference would make this perfect."""
    true = np.repeat([0, 1], 50)
    found = overlap(confusion_table(true, np.ones(100, dtype=int), 2).counts)
    assert found.each["iou"].tolist() == [0.0, 0.5]
    assert found.each["precision"][1] == 0.5


@pytest.mark.parametrize("seed, classes, cells", [(s, 2 + s % 5, 1 + 7 * s) for s in range(8)])
def test_as_scikit_learn(seed: int, classes: int, cells: int) -> None:
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, classes, cells), rng.integers(0, classes, cells)
    found = overlap(confusion_table(true, predicted, classes).counts)
    labels = list(range(classes))
    here = np.isin(labels, true) | np.isin(labels, predicted)
    iou = sk.jaccard_score(true, predicted, labels=labels, average=None, zero_division=0)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        true, predicted, labels=labels, average=None, zero_division=0
    )
    assert_allclose(found.each["iou"], np.where(here, iou, np.nan))
    assert_allclose(found.each["dice"], np.where(here, f1, np.nan))
    assert_allclose(found.each["precision"], np.where(here, precision, np.nan))
    assert_allclose(found.each["recall"], np.where(np.isin(labels, true), recall, np.nan))
    pooled = sk.jaccard_score(true, predicted, labels=labels, average="micro")
    assert found.overall["pooled_iou"] == pytest.approx(pooled)
    assert found.overall["accuracy"] == pytest.approx(sk.accuracy_score(true, predicted))
    macro = sk.jaccard_score(true, predicted, labels=np.flatnonzero(here), average="macro", zero_division=0)
    assert found.overall["miou"] == pytest.approx(macro)


def test_tables_add_up_over_parts_of_a_map() -> None:
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(-1, 4, (31, 17)), rng.integers(0, 4, (31, 17))
    whole = confusion_table(true, predicted, 4)
    parts = confusion_table(true[:9], predicted[:9], 4) + confusion_table(true[9:], predicted[9:], 4)
    assert_array_equal(parts.counts, whole.counts)
    assert parts.unlabelled == whole.unlabelled == (true == -1).sum()
    assert whole.counts.sum() + whole.unlabelled == true.size


def test_patients_are_judged_apart_and_pooled_over_cells() -> None:
    tables = [table([[8, 0], [0, 0]]), table([[0, 0], [1, 1]]), table([[2, 2], [0, 4]])]
    found = segmentation_report(tables, ["b", "a", "b"], ["x", "y"])
    assert found.patients == ("b", "a")
    assert_allclose(found.by_patient.each["iou"], [[10 / 12, 4 / 6], [0.0, 1 / 2]])
    assert_allclose(found.by_patient.overall["miou"], [(10 / 12 + 4 / 6) / 2, 0.25])
    assert_allclose(found.pooled.each["iou"], [10 / 13, 5 / 8])
    assert found.intervals == {}
    assert found.no_interval.startswith("2 patients")


def report(patients: int, skill: float, seed: int = 0) -> SegmentationReport:
    return segmentation_report(*maps(patients, skill, seed), CLASSES, B=400, seed=1)


def test_intervals_hold_the_value_and_narrow_with_patients() -> None:
    few, many = report(6, 0.7), report(60, 0.7)
    for found in (few, many):
        for name, interval in found.intervals.items():
            assert interval.low < interval.value < interval.high, name
            assert interval.value == float(found.pooled.overall[name])
        assert found.class_intervals["iou", "VT"].value == found.pooled.each["iou"][1]
    assert many.intervals["miou"].high - many.intervals["miou"].low < 0.6 * (
        few.intervals["miou"].high - few.intervals["miou"].low
    )


def test_a_replicate_is_the_measure_of_the_patients_drawn() -> None:
    """Of five patients alike in everything, every replicate is the value itself."""
    same = [table([[5, 1, 0], [2, 7, 0], [0, 1, 3]])] * 5
    found = segmentation_report(same, list("abcde"), CLASSES, B=50)
    for name, interval in found.intervals.items():
        assert interval.low == pytest.approx(interval.value, rel=1e-12), name
        assert interval.high == pytest.approx(interval.value, rel=1e-12)


def test_replicates_without_a_class_are_counted_not_averaged_over_fewer_classes() -> None:
    tables = [table([[9, 1, 0], [1, 9, 0], [0, 0, 0]])] * 7 + [table([[9, 1, 0], [1, 9, 0], [2, 2, 0]])]
    found = segmentation_report(tables, list("abcdefgh"), CLASSES, B=2000, seed=0)
    interval = found.intervals["miou"]
    # The one patient with NC is missing from (7/8)^8 = 34 % of the samples.
    assert interval.failed / 2000 == pytest.approx((7 / 8) ** 8, abs=0.04)
    # NC is never found, so a mean over three classes stays below 2/3; over two it would be 0.82.
    assert interval.high < 2 / 3
    assert found.class_intervals["recall", "NC"].high == 0.0


def test_a_gain_is_of_the_same_patients_drawn_together() -> None:
    worse, better = report(20, 0.5), report(20, 0.8)
    gain = segmentation_gain(worse, better, B=400, seed=3)["miou"]
    assert gain.value == pytest.approx(float(better.pooled.overall["miou"] - worse.pooled.overall["miou"]))
    assert gain.low < gain.value < gain.high
    assert gain.low > 0
    nothing = segmentation_gain(better, better, B=50)["miou"]
    assert (nothing.low, nothing.value, nothing.high) == (0.0, 0.0, 0.0)


def test_gains_between_other_cells_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="same reference cells"):
        segmentation_gain(report(20, 0.5), report(20, 0.5, seed=1))
    with pytest.raises(InvalidInputError, match="3 patients"):
        segmentation_gain(report(3, 0.5), report(3, 0.8))


@pytest.mark.parametrize(
    "true, predicted, message",
    [
        ([0, 1], [0], "shape"),
        ([0, 3], [0, 1], "true ranges over 0 to 3"),
        ([0, 1], [0, -1], "predicted ranges over -1"),
        ([0.0, 1.0], [0, 1], "integers"),
    ],
)
def test_maps_that_are_none_are_refused(true: list[float], predicted: list[int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        confusion_table(true, predicted, 3)


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="two or more classes"):
        overlap(np.ones((2, 3)))
    with pytest.raises(InvalidInputError, match="finite"):
        overlap([[1, -1], [0, 1]])
    with pytest.raises(InvalidInputError, match="no region"):
        tables_by_patient([], [])
    with pytest.raises(InvalidInputError, match="different numbers"):
        tables_by_patient([table([[1]]), table([[1, 0], [0, 1]])], ["a", "b"])
    with pytest.raises(InvalidInputError, match="2 names"):
        segmentation_report([table([[1, 0, 0]] * 3)], ["a"], ["x", "y"])
