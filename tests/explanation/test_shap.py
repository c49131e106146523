"""SHAP values: exactness, additivity, what they cost, and what is refused."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.explanation import Shap, additive_shap, permutation_shap, subset_shap
from osml.stats.splines import rcs_knots
from osml.stats.terms import Category, Interaction, Linear, LinearModel, Log, Spline, design_matrix


def clinical(n: int = 40, seed: int = 3) -> tuple[LinearModel, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    values = {
        "age": rng.normal(50, 12, n),
        "alp": np.exp(rng.normal(5, 0.5, n)),
        "size": rng.gamma(4, 20, n),
        "site": rng.integers(0, 3, n).astype(float),
    }
    spline = Spline("size", tuple(rcs_knots(values["size"], 4)))
    terms = (Linear("age"), Log("alp"), spline, Category("site", ("a", "b", "c")))
    return LinearModel(terms, np.array([0.03, 0.8, 0.02, -0.05, 0.04, 0.6, -0.4]), -5.0), values


def test_contributions_add_up_to_the_linear_predictor_of_every_patient():
    model, values = clinical()
    shap = additive_shap(model, values, design_matrix(model.terms, values).mean(axis=0))
    assert shap.base + shap.values.sum(axis=1) == pytest.approx(model.lp(values), rel=1e-12)
    assert shap.inputs == ("age", "alp", "size", "site")
    assert shap.calls == 0


def test_contributions_average_to_nothing_over_the_background_and_base_is_the_mean_prediction():
    model, values = clinical()
    shap = additive_shap(model, values, design_matrix(model.terms, values).mean(axis=0))
    assert shap.values.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert shap.base == pytest.approx(model.lp(values).mean(), rel=1e-12)


def test_three_ways_agree_on_an_additive_model_to_rounding():
    model, values = clinical(15)
    shap = additive_shap(model, values, design_matrix(model.terms, values).mean(axis=0))
    exact = subset_shap(model.lp, values, values)
    sampled = permutation_shap(model.lp, values, values, permutations=2, seed=1)
    assert exact.values == pytest.approx(shap.values, abs=1e-12)
    assert sampled.values == pytest.approx(shap.values, abs=1e-12)
    assert exact.base == pytest.approx(shap.base, rel=1e-12)
    assert sampled.error.max() < 1e-7


def test_a_model_without_inputs_explains_nothing():
    shap = additive_shap(LinearModel((), np.empty(0), -1.5), {"age": np.zeros(3)}, [])
    assert (shap.base, shap.values.shape, shap.lp.tolist()) == (-1.5, (3, 0), [-1.5] * 3)


def test_interactions_are_refused_by_name_and_wrong_means_too():
    model = LinearModel((Interaction(Linear("a"), Linear("b")),), np.array([1.0]), 0.0)
    with pytest.raises(NotEstimableError, match="a × b belongs to two inputs"):
        additive_shap(model, {"a": np.ones(2), "b": np.ones(2)}, [0.0])
    with pytest.raises(InvalidInputError, match="2 entries for 1 design"):
        additive_shap(LinearModel((Linear("a"),), np.ones(1), 0.0), {"a": np.ones(2)}, [0.0, 1.0])


def three_way(v: dict[str, np.ndarray]) -> np.ndarray:
    return v["a"] * v["b"] * v["c"] + np.abs(v["a"] - v["b"])


def shapley_by_orders(x: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley's definition walked literally: all orders, one patient, every background row."""
    total = np.zeros(3)
    for order in permutations(range(3)):
        mixed = background.copy()
        before = three_way(dict(zip("abc", mixed.T, strict=True))).mean()
        for j in order:
            mixed[:, j] = x[j]
            after = three_way(dict(zip("abc", mixed.T, strict=True))).mean()
            total[j] += after - before
            before = after
    return total / factorial(3)


def test_all_coalitions_give_shapleys_definition():
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(4, 3)), rng.normal(size=(7, 3))
    shap = subset_shap(three_way, dict(zip("abc", x.T, strict=True)), dict(zip("abc", b.T, strict=True)))
    for i in range(4):
        assert shap.values[i] == pytest.approx(shapley_by_orders(x[i], b), rel=1e-10, abs=1e-12)


def test_random_orders_come_near_with_an_honest_error_and_always_add_up():
    rng = np.random.default_rng(0)
    x, b = (
        dict(zip("abc", rng.normal(size=(3, 5)), strict=True)),
        dict(zip("abc", rng.normal(size=(3, 6)), strict=True)),
    )
    exact = subset_shap(three_way, x, b)
    sampled = permutation_shap(three_way, x, b, permutations=60, seed=4)
    assert np.all(np.abs(sampled.values - exact.values) <= 4 * sampled.error + 1e-9)
    assert sampled.base + sampled.values.sum(axis=1) == pytest.approx(sampled.lp, rel=1e-12)


def test_a_tree_of_two_inputs_is_exact_from_the_first_pairs():
    def tree(v: dict[str, np.ndarray]) -> np.ndarray:
        return np.where(v["a"] > 0, np.where(v["b"] > 0, 3.0, 1.0), -1.0)

    rng = np.random.default_rng(8)
    x, b = {"a": rng.normal(size=6), "b": rng.normal(size=6)}, {"a": rng.normal(size=9), "b": rng.normal(size=9)}
    assert permutation_shap(tree, x, b, permutations=2, seed=0).values == pytest.approx(subset_shap(tree, x, b).values)


@pytest.mark.parametrize(("d", "n", "m", "pairs"), [(1, 3, 2, 2), (2, 4, 5, 3), (4, 2, 3, 2)])
def test_the_stated_cost_is_the_number_of_predicted_rows(d: int, n: int, m: int, pairs: int):
    rows = []

    def count(v: dict[str, np.ndarray]) -> np.ndarray:
        rows.append(len(v["x0"]))
        return v["x0"] * 2.0

    rng = np.random.default_rng(0)
    x = {f"x{j}": rng.normal(size=n) for j in range(d)}
    b = {f"x{j}": rng.normal(size=m) for j in range(d)}
    assert subset_shap(count, x, b).calls == sum(rows) == (2**d - 2) * n * m + n + m
    rows.clear()
    assert (
        permutation_shap(count, x, b, permutations=pairs, seed=0).calls
        == sum(rows)
        == 2 * pairs * (d - 1) * n * m + n + m
    )


@given(st.integers(0, 1000), st.integers(2, 4))
def test_an_input_that_the_model_ignores_gets_exactly_nothing(seed: int, d: int):
    rng = np.random.default_rng(seed)
    x = {f"x{j}": rng.normal(size=3) for j in range(d)}
    b = {f"x{j}": rng.normal(size=2) for j in range(d)}
    shap = subset_shap(lambda v: np.sin(v["x0"]), x, b)
    assert np.abs(shap.values[:, 1:]).max() < 1e-12
    assert shap.values[:, 0] == pytest.approx(shap.lp - shap.base)


def test_the_same_seed_gives_the_same_values_and_another_seed_others():
    rng = np.random.default_rng(0)
    x, b = (
        dict(zip("abc", rng.normal(size=(3, 5)), strict=True)),
        dict(zip("abc", rng.normal(size=(3, 6)), strict=True)),
    )
    found = [permutation_shap(three_way, x, b, permutations=2, seed=s).values for s in (1, 1, 2, 3, 4, 5)]
    assert np.array_equal(found[0], found[1])
    assert any(not np.array_equal(found[0], other) for other in found[2:])


def test_bad_input_is_named():
    with pytest.raises(InvalidInputError, match="background has"):
        subset_shap(lambda v: v["a"], {"a": [1.0]}, {"b": [1.0]})
    wide = {f"x{j}": [1.0] for j in range(15)}
    with pytest.raises(InvalidInputError, match="2\\^15 coalitions"):
        subset_shap(lambda v: v["x0"], wide, wide)
    with pytest.raises(InvalidInputError, match="at least 2"):
        permutation_shap(lambda v: v["a"], {"a": [1.0]}, {"a": [0.0]}, permutations=1, seed=0)
    with pytest.raises(InvalidInputError, match="non-finite"):
        subset_shap(lambda v: v["a"] * np.nan, {"a": [1.0]}, {"a": [0.0]})
    with pytest.raises(InvalidInputError, match="same length"):
        subset_shap(lambda v: v["a"], {"a": [1.0, 2.0], "b": [1.0]}, {"a": [0.0], "b": [0.0]})
    with pytest.raises(InvalidInputError, match="expected"):
        Shap(("a",), 0.0, np.zeros((2, 2)), np.zeros(2), 0, np.zeros((2, 2)))
