"""One set of definitions for values and replicates: scikit-learn, `multiclass`, `RocCurve`, and repeated rows agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from osml.errors import InvalidInputError
from osml.evaluation.class_measures import EACH, OVERALL, auc_batch, class_measures
from osml.evaluation.discrimination import auc, roc_curve
from osml.evaluation.multiclass import multiclass


def made(n: int, k: int, seed: int, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities; with `levels` the scores are whole numbers, so that ties are many."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    raw = rng.gamma(1.0, size=(n, k)) + 1.2 * np.eye(k)[y] * rng.random((n, 1))
    if levels:
        raw = np.floor(raw * levels) + 1
    return y, raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "levels"), [(2, 0), (3, 0), (3, 2), (5, 3)])
def test_values_are_those_of_scikit_learn(k: int, levels: int):
    y, p = made(80, k, 1, levels)
    found = class_measures(y, p)
    guess = p.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(y, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(y, guess),
        "macro_f1": sk.f1_score(y, guess, average="macro"),
        "weighted_f1": sk.f1_score(y, guess, average="weighted"),
        "macro_precision": sk.precision_score(y, guess, average="macro", zero_division=0),
        "log_loss": sk.log_loss(y, p),
    }
    if k > 2:
        expected["macro_auc"] = sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
        expected["weighted_auc"] = sk.roc_auc_score(y, p, multi_class="ovr", average="weighted")
    for name, value in expected.items():
        assert found.overall[name][0] == pytest.approx(value, rel=1e-12), name
    for name, function in (("f1", sk.f1_score), ("recall", sk.recall_score)):
        assert found.each[name][0] == pytest.approx(function(y, guess, average=None), rel=1e-12)
    assert found.overall["brier"][0] == pytest.approx(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean(), rel=1e-12)


@pytest.mark.parametrize("levels", [0, 2])
def test_points_of_the_curve_are_those_of_the_roc_curve(levels: int):
    for seed in range(30):
        y, p = made(25, 3, seed, levels)
        found = class_measures(y, p)
        for j in range(3):
            curve = roc_curve(y == j, p[:, j])
            assert found.each["sensitivity_at_90"][0, j] == pytest.approx(curve.sensitivity_at(0.9), abs=1e-12)
            assert found.each["specificity_at_90"][0, j] == pytest.approx(curve.specificity_at(0.9), abs=1e-12)


@given(st.integers(0, 10_000), st.sampled_from([0, 2]))
def test_a_weight_of_two_is_the_row_given_twice(seed: int, levels: int):
    y, p = made(15, 3, seed, levels)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 15))
    weights[:, :3] = np.maximum(weights[:, :3], 1)  # every class stays
    found = class_measures(y, p, weights)
    for b, row in enumerate(weights):
        again = class_measures(np.repeat(y, row), np.repeat(p, row, axis=0))
        for name in OVERALL:
            assert found.overall[name][b] == pytest.approx(again.overall[name][0], rel=1e-10), name
        for name in EACH:
            assert found.each[name][b] == pytest.approx(again.each[name][0], rel=1e-9, abs=1e-12), name


def test_an_absent_class_has_no_value_and_no_mean_over_classes_exists():
    y, p = made(30, 3, 3)
    there = y != 2
    found = class_measures(y[there], p[there])
    for name in EACH:
        assert np.isnan(found.each[name][0, 2]), name
        assert np.isfinite(found.each[name][0, :2]).all(), name
    for name in ("macro_f1", "macro_auc", "weighted_auc", "balanced_accuracy", "macro_precision"):
        assert np.isnan(found.overall[name][0]), name
    described = multiclass(y[there], p[there], ["a", "b", "c"])
    assert np.nanmean(found.each["f1"][0]) == pytest.approx(described.macro_f1, rel=1e-12)
    assert found.overall["accuracy"][0] == pytest.approx(described.accuracy, rel=1e-12)
    assert found.overall["weighted_f1"][0] == pytest.approx(described.weighted_f1, rel=1e-12)


def test_one_class_only_has_accuracy_but_no_auc():
    found = class_measures([1, 1], [[0.2, 0.8], [0.6, 0.4]])
    assert found.overall["accuracy"][0] == 0.5
    assert np.isnan(found.each["auc"]).all()
    assert np.isnan(found.each["sensitivity_at_90"]).all()


def test_a_true_class_with_probability_zero_has_an_infinite_loss_unless_it_has_no_weight():
    found = class_measures([0, 1], [[0.0, 1.0], [0.1, 0.9]], [[1, 1], [0, 1]])
    assert found.overall["log_loss"].tolist() == [np.inf, pytest.approx(-np.log(0.9))]


def test_replicates_in_blocks_equal_those_at_once(monkeypatch: pytest.MonkeyPatch):
    y, p = made(20, 3, 5)
    weights = np.random.default_rng(0).integers(0, 3, (17, 20))
    whole = class_measures(y, p, weights)
    areas = auc_batch(y == 1, p[:, 1], weights)
    monkeypatch.setattr("osml.evaluation.class_measures._CELLS", 60)
    parts = class_measures(y, p, weights)
    for name in OVERALL:
        assert np.allclose(whole.overall[name], parts.overall[name], rtol=1e-13, equal_nan=True), name
    assert np.allclose(areas, auc_batch(y == 1, p[:, 1], weights), rtol=1e-13, equal_nan=True)
    assert np.allclose(areas, whole.each["auc"][:, 1], rtol=1e-13, equal_nan=True)
    good = np.flatnonzero(np.isfinite(areas))
    assert len(good) > 10
    for b in good:
        assert areas[b] == pytest.approx(auc(y == 1, p[:, 1], weights[b]), rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "words"),
    [([[1.0, 1.0, 1.0]], "expected .B, 2."), ([[-1.0, 1.0]], "not negative"), ([[np.nan, 1.0]], "finite")],
)
def test_weights_that_are_none_are_refused(weights: list[list[float]], words: str):
    with pytest.raises(InvalidInputError, match=words):
        class_measures([0, 1], [[0.5, 0.5], [0.5, 0.5]], weights)
