import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.discrimination import (
    auc,
    brier,
    log_loss,
    nagelkerke,
    partial_auc,
    roc_curve,
    scaled_brier,
    youden,
)

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
PROC = json.loads((REFERENCE / "out" / "d1_proc_aSAH.json").read_text())
ASAH = pd.read_csv(REFERENCE / "data" / "aSAH.csv")
SCORES = {"s100b": ASAH.s100b, "ndka": ASAH.ndka, "wfns": ASAH.wfns_num, "age": ASAH.age}

labelled = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=25).filter(
    lambda rows: {0, 1} == {y for y, _ in rows}
)


def by_pairs(y, s):
    y, s = np.asarray(y), np.asarray(s, dtype=float)
    gap = s[y == 1][:, None] - s[y == 0]
    return ((gap > 0) + 0.5 * (gap == 0)).mean()


@pytest.mark.parametrize("name", SCORES)
def test_auc_and_curve_equal_proc(name):
    ref = PROC["rocs"][name]
    y, s = ASAH.poor, SCORES[name]
    curve = roc_curve(y, s)
    assert auc(y, s) == pytest.approx(ref["auc"], rel=1e-12)
    assert curve.area == pytest.approx(ref["auc"], rel=1e-12)
    np.testing.assert_allclose(curve.thresholds[1:-1], np.array(ref["thresholds"][1:-1], dtype=float), rtol=1e-12)
    np.testing.assert_allclose(curve.sensitivity, ref["sens"], rtol=1e-12)
    np.testing.assert_allclose(curve.specificity, ref["spec"], rtol=1e-12)
    assert np.isneginf(curve.thresholds[0])
    assert np.isposinf(curve.thresholds[-1])


@pytest.mark.parametrize("name", SCORES)
def test_youden_and_partial_area_equal_proc(name):
    ref = PROC["rocs"][name]
    best = youden(ASAH.poor, SCORES[name])
    assert best.threshold == pytest.approx(ref["best_youden"]["threshold"], rel=1e-12)
    assert best.sensitivity == pytest.approx(ref["best_youden"]["sensitivity"], rel=1e-12)
    assert best.specificity == pytest.approx(ref["best_youden"]["specificity"], rel=1e-12)
    assert best.index + 1 == pytest.approx(ref["best_youden"]["youden"], rel=1e-12)
    raw, standardised = partial_auc(ASAH.poor, SCORES[name], (0.9, 1.0))
    assert raw == pytest.approx(ref["pauc_90_100_spec"], rel=1e-10)
    assert standardised == pytest.approx(ref["pauc_corrected"], rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(labelled)
def test_only_ranks_matter_and_pairs_agree(rows):
    y, s = np.array(rows).T
    value = auc(y, s)
    assert value == pytest.approx(by_pairs(y, s), abs=1e-14)
    assert auc(y, np.exp(0.3 * s) - 7) == value
    assert auc(y, -s) == pytest.approx(1 - value, abs=1e-14)
    assert auc(1 - y, s) == pytest.approx(1 - value, abs=1e-14)
    assert roc_curve(y, s).area == pytest.approx(value, abs=1e-14)
    raw, _ = partial_auc(y, s, (0.0, 1.0))
    assert raw == pytest.approx(value, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(labelled, st.data())
def test_integer_weights_equal_repeated_rows(rows, data):
    y, s = np.array(rows).T
    w = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    yy, ss = np.repeat(y, w), np.repeat(s, w)
    if len(set(yy.tolist())) < 2:
        with pytest.raises((NotEstimableError, InvalidInputError)):
            auc(y, s, w)
    else:
        assert auc(y, s, w) == pytest.approx(auc(yy, ss), abs=1e-13)
        p = s / 5
        assert brier(y, p, w) == pytest.approx(brier(yy, p.repeat(w)), abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(labelled, st.floats(0, 1), st.floats(0, 1))
def test_partial_areas_add_up(rows, a, b):
    low, high = sorted((a, b))
    if high - low < 1e-6 or low < 1e-6 or high > 1 - 1e-6:
        return
    y, s = np.array(rows).T
    pieces = [partial_auc(y, s, part)[0] for part in ((0, low), (low, high), (high, 1))]
    assert sum(pieces) == pytest.approx(auc(y, s), abs=1e-12)


def test_reading_the_curve_between_points():
    # Two events at 3 and 1, two non-events at 2 and 0: points (spec, sens) (0,1) (1/2,1) (1/2,1/2) (1,1/2) (1,0).
    curve = roc_curve([1, 0, 1, 0], [3, 2, 1, 0])
    assert curve.sensitivity_at(0.5) == 1.0
    assert curve.sensitivity_at(0.75) == 0.5
    assert curve.sensitivity_at(0.25) == 1.0
    assert curve.specificity_at(0.5) == 1.0
    assert curve.specificity_at(0.75) == 0.5
    assert curve.specificity_at(1.0) == 0.5
    # A tie across classes makes a slanted piece, read linearly.
    slanted = roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    assert slanted.sensitivity_at(0.6) == pytest.approx(0.9)
    assert slanted.specificity_at(0.9) == pytest.approx(0.6)


def test_constant_and_perfect_scores():
    assert auc([0, 1, 0, 1], [2, 2, 2, 2]) == 0.5
    assert auc([0, 0, 1], [1, 2, 3]) == 1.0
    assert roc_curve([0, 1], [5, 5]).thresholds.tolist() == [-np.inf, np.inf]
    assert youden([0, 0, 1], [1, 2, 3]).threshold == 2.5


@pytest.mark.parametrize(
    ("y", "s", "what"),
    [
        (["a", "b"], [1, 2], "strings"),
        ([0, 2], [1, 2], "0/1"),
        ([0, np.nan], [1, 2], "missing"),
        ([0, 1], [1, np.nan], "missing"),
        ([0, 1], [1, np.inf], "infinite"),
        ([0, 1], [1, 2, 3], "shape"),
        ([[0, 1]], [1, 2], "dimension"),
        ([], [], "no patient"),
        ([0, 1], ["1", "2"], "strings"),
    ],
)
def test_bad_input_is_refused(y, s, what):
    with pytest.raises(InvalidInputError, match=what):
        auc(y, s)


def test_one_class_is_not_estimable():
    with pytest.raises(NotEstimableError, match="needs both"):
        auc([1, 1], [0.2, 0.3])
    with pytest.raises(NotEstimableError, match="at least one of each"):
        roc_curve([0, 0], [0.2, 0.3])
    with pytest.raises(NotEstimableError, match="one class"):
        scaled_brier([1, 1], [0.2, 0.3])
    with pytest.raises(InvalidInputError, match="negative"):
        auc([0, 1], [1, 2], [-1, 1])
    with pytest.raises(InvalidInputError, match="lie in 0"):
        brier([0, 1], [0.2, 1.2])


def test_overall_measures_equal_val_prob():
    ref = json.loads((REFERENCE / "out" / "c3_valprob_pima_external.json").read_text())
    y, p = ref["y"], ref["p"]
    assert brier(y, p) == pytest.approx(ref["brier"], rel=1e-12)
    assert scaled_brier(y, p) == pytest.approx(ref["brier_scaled"], rel=1e-12)
    assert np.mean(y) * (1 - np.mean(y)) == pytest.approx(ref["brier_null"], rel=1e-12)
    assert log_loss(y, p) == pytest.approx(ref["logloss"], rel=1e-12)
    # val.prob bins the predictor for its C, so it is close but no oracle.
    assert auc(y, p) == pytest.approx(ref["val_prob"]["C (ROC)"], rel=1e-4)


def test_log_loss_of_an_impossible_outcome_is_infinite():
    assert log_loss([1, 0], [0.0, 0.5]) == np.inf
    assert log_loss([1, 0], [1.0, 0.0]) == 0.0


def test_nagelkerke_bounds():
    # A model that predicts every outcome has R2 = 1, the null model 0.
    assert nagelkerke(0.0, -10.0, 20) == pytest.approx(1.0, rel=1e-12)
    assert nagelkerke(-10.0, -10.0, 20) == 0.0
    with pytest.raises(NotEstimableError):
        nagelkerke(-1.0, 0.0, 20)
