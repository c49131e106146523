"""What boosted trees minimise, what they make of gaps, and that they are LightGBM's."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import MissingExtraError, NotEstimableError
from osml.predictors.boosting_cox import cox_derivatives, partial_likelihood
from osml.predictors.boosting_trees import (
    Goal,
    Settings,
    cuts,
    filled,
    grown,
    held_out_loss,
    raw_scores,
    read_model,
    stand_ins,
    tree_shap,
)
from osml.predictors.table import TableColumn
from osml.stats.cox import fit_cox
from osml.stats.cox_risk_sets import risk_sets

USUAL = Settings(6, 5, 0.05, 0.8, 1.0)
NUMBERS = tuple(TableColumn(f"x{j}", "number", "value", f"x{j}") for j in range(4))


def table(n: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * rng.normal(size=n) > 0).astype(float)
    return x, y


@settings(max_examples=40, deadline=None)
@given(data=st.data(), ties=st.sampled_from(["efron", "breslow"]))
def test_cox_derivatives_are_those_of_the_likelihood(data: st.DataObject, ties: Any) -> None:
    """Central differences of the partial likelihood, with many tied times."""
    n = data.draw(st.integers(3, 9))
    time = np.array(data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)), dtype=float)
    event = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=float)
    event[0] = 1.0
    lp = np.array(data.draw(st.lists(st.floats(-2, 2), min_size=n, max_size=n)))
    sets = risk_sets(time, event, np.ones(n), ties)
    from osml.stats.cox_risk_sets import evaluate

    def loss(at: np.ndarray) -> float:
        return -evaluate(sets, np.empty((n, 0)), at[sets.order], derivatives=False).log_likelihood

    gradient, hessian = cox_derivatives(sets, lp)
    step = 1e-4
    for i in range(n):
        up, down = lp.copy(), lp.copy()
        up[i] += step
        down[i] -= step
        assert gradient[i] == pytest.approx((loss(up) - loss(down)) / (2 * step), abs=1e-6)
        second = (loss(up) - 2 * loss(lp) + loss(down)) / step**2
        assert hessian[i] == pytest.approx(max(second, 0.0), abs=2e-5)


def test_stumps_on_one_factor_find_its_hazard_ratio() -> None:
    """Boosting without penalty goes to the maximum of the partial likelihood; a factor has one free number there."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, 200).astype(float)
    time = np.ceil(rng.exponential(10 * np.exp(-0.9 * x)) * 2) / 2
    event = (rng.random(200) < 0.7).astype(float)
    goal = Goal("survival", event, time)
    free = Settings(2, 1, 0.5, 1.0, 0.0)
    text, _ = grown(goal, x[:, None], NUMBERS[:1], free, 0, 200)
    raw = raw_scores(read_model(text), np.array([[0.0], [1.0]]), 1)[:, 0]
    assert raw[1] - raw[0] == pytest.approx(float(fit_cox(x[:, None], time, event).coef[0]), abs=1e-4)


@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_trees_are_those_of_lightgbm(kind: Any) -> None:
    """scikit-learn's interface of LightGBM with the same settings, gaps included."""
    x, y = table()
    x[::5, 1] = np.nan
    if kind == "classes":
        y = y + (x[:, 3] > 1)
    goal = Goal(kind, y, outputs=1 if kind == "binary" else 3)
    text, rounds = grown(goal, x, NUMBERS, USUAL, 7, 25)
    own = raw_scores(read_model(text), x, goal.outputs)
    peer = lightgbm.LGBMClassifier(
        n_estimators=25, num_leaves=6, min_child_samples=5, learning_rate=0.05, colsample_bytree=0.8, reg_lambda=1.0,
        max_bin=63, random_state=7, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1,
        feature_pre_filter=False, min_data_per_group=5, max_cat_to_onehot=8,
    ).fit(x, y)  # fmt: skip
    np.testing.assert_array_equal(own.reshape(len(x), -1), peer.predict(x, raw_score=True).reshape(len(x), -1))
    assert rounds == 25


def test_shap_values_add_up_and_ignore_what_is_not_cut() -> None:
    x, y = table()
    only = np.column_stack([x[:, 0], np.zeros((len(x), 3))])
    model = read_model(grown(Goal("binary", y), only, NUMBERS, USUAL, 0, 20)[0])
    phi, base = tree_shap(model, only, 1)
    np.testing.assert_allclose(phi[:, 0].sum(axis=1) + base[0], raw_scores(model, only, 1)[:, 0], atol=1e-12)
    assert (phi[:, 0, 1:] == 0).all()
    assert set(cuts(model)) == {0}


def test_the_text_holds_no_extreme_value() -> None:
    """LightGBM writes the smallest and largest value of each column: those are patients'."""
    x, y = table()
    text, _ = grown(Goal("binary", y), x, NUMBERS, USUAL, 0, 10)
    for column in x.T:
        for value in (column.min(), column.max()):
            assert f"{value:.6g}"[:7] not in text
    assert "feature_infos=none none none none\n" in text


def test_gaps_that_were_learnt_stay_and_others_take_the_median() -> None:
    wide = TableColumn("stage", "category", "value", "stage", levels=("I", "II", "III"))
    two = TableColumn("sex", "category", "value", "sex", levels=("f", "m"))
    columns = (NUMBERS[0], NUMBERS[1], wide, replace(wide, name="s2"), two, replace(two, name="sex2"))
    nan = np.nan
    x = np.array([[1, 1, 0, nan, 1, nan], [2, nan, 2, 2, 1, 0], [9, 3, 2, 0, 0, 1], [4, 3, 2, 0, 1, 1]], dtype=float)
    stand_in = stand_ins(x, columns)
    np.testing.assert_array_equal(stand_in, [3.0, nan, 2.0, 3.0, 1.0, nan])
    np.testing.assert_array_equal(filled(np.full((1, 6), nan), stand_in)[0], stand_in)


def test_a_level_that_is_missing_is_a_level() -> None:
    """Units without a stage have the event: what is missing tells, and is told apart from every stage."""
    rng = np.random.default_rng(2)
    stage = rng.integers(0, 3, 200).astype(float)
    stage[::2] = np.nan
    y = np.isnan(stage).astype(float)
    column = (TableColumn("stage", "category", "value", "stage", levels=("I", "II", "III")),)
    x = stage[:, None]
    stand_in = stand_ins(x, column)
    text, _ = grown(Goal("binary", y), filled(x, stand_in), column, USUAL, 0, 30)
    raw = raw_scores(read_model(text), filled(np.array([[0.0], [1.0], [2.0], [np.nan]]), stand_in), 1)[:, 0]
    assert raw[3] > 1 > -1 > raw[:3].max()


def test_held_out_losses() -> None:
    """Log-loss by hand; of survival l(all) - l(inside)."""
    inside, outside = np.array([0, 1]), np.array([2, 3])
    raw = np.array([[0.0], [0.0], [1.0], [-2.0]])
    loss, n = held_out_loss(Goal("binary", np.array([0.0, 1, 1, 1])), inside, outside)
    assert (loss(raw), n) == (pytest.approx(np.log1p(np.exp(-1)) + np.log1p(np.exp(2))), 2.0)
    z = np.array([[0.0, 0, 0], [0, 0, 0], [1, 2, 3], [0, 0, 0]])
    loss, n = held_out_loss(Goal("classes", np.array([0.0, 1, 2, 1]), outputs=3), inside, outside)
    assert (loss(z), n) == (pytest.approx(np.log(np.exp([1, 2, 3]).sum()) - 3 + np.log(3)), 2.0)
    time, event = np.array([3.0, 1, 2, 4]), np.array([1.0, 1, 1, 0])
    loss, n = held_out_loss(Goal("survival", event, time), inside, outside)
    risk = np.exp(raw[:, 0])
    # In order of time: 1, 2, 0, 3 (censored).
    whole = (
        np.log(risk[1] / risk.sum()) + np.log(risk[2] / risk[[2, 0, 3]].sum()) + np.log(risk[0] / risk[[0, 3]].sum())
    )
    part = np.log(risk[1] / risk[[0, 1]].sum()) + np.log(1.0)
    assert (loss(raw), n) == (pytest.approx(part - whole), 1.0)
    assert partial_likelihood(time, np.zeros(4))(raw[:, 0]) == 0.0


def test_what_cannot_be_learnt_is_refused() -> None:
    x, y = table(20)
    with pytest.raises(NotEstimableError, match="same outcome"):
        grown(Goal("binary", np.ones(20)), x, NUMBERS, USUAL, 0, 3)
    with pytest.raises(NotEstimableError, match="no event"):
        grown(Goal("survival", np.zeros(20), np.arange(1.0, 21)), x, NUMBERS, USUAL, 0, 3)
    assert y.any()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def gone(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "lightgbm":
            raise ImportError("No module named 'lightgbm'")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", gone)
    x, y = table(20)
    with pytest.raises(MissingExtraError, match=r"pip install 'osml\[automl\]'"):
        grown(Goal("binary", y), x, NUMBERS, USUAL, 0, 3)
