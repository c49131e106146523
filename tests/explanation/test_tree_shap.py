"""SHAP values of a forest from its leaves against all coalitions walked through its trees."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.explanation.permutation import subset_shap
from osml.explanation.tree import forest_shap
from osml.predictors.forest import Forest, Settings, fit_forest

Float = NDArray[np.float64]


def patients(d: int, n: int = 60) -> tuple[Float, Float]:
    rng = np.random.default_rng(d)
    x = np.round(rng.normal(size=(n, d)), 1)
    return x, (x[:, 0] * x[:, -1] + x[:, 0] > rng.normal(size=n)).astype(float)


def table(x: Float) -> dict[str, Float]:
    return {f"f{j}": column for j, column in enumerate(x.T)}


def by_coalitions(forest: Forest, x: Float, background: Float) -> Float:
    return subset_shap(lambda v: forest.logit(np.column_stack(list(v.values()))), table(x), table(background)).values


@pytest.mark.parametrize("d, settings", [(1, Settings(2, 5)), (3, Settings(None, 1)), (5, Settings(3, 3))])
def test_values_are_those_of_all_coalitions(d: int, settings: Settings) -> None:
    x, y = patients(d)
    forest = fit_forest(x, y, trees=20, settings=settings, seed=0)
    shap = forest_shap(forest, x[:5], x[10:30], list(table(x)))
    assert_allclose(shap.values, by_coalitions(forest, x[:5], x[10:30]), rtol=1e-10, atol=1e-13)
    assert_allclose(shap.base + shap.values.sum(axis=1), forest.logit(x[:5]), rtol=1e-10, atol=1e-13)
    assert shap.inputs == tuple(table(x))
    assert shap.base == pytest.approx(forest.logit(x[10:30]).mean(), rel=1e-12)
    assert not shap.error.any()


def test_rows_on_a_threshold_go_where_the_forest_sends_them() -> None:
    x, y = patients(3)
    forest = fit_forest(x, y, trees=10, settings=Settings(3, 3), seed=1)
    cuts = forest.threshold[forest.feature >= 0][:12, None] * np.ones(3)
    edge = np.vstack([cuts, np.nextafter(cuts, np.inf)])
    shap = forest_shap(forest, edge, x[:15], list(table(x)))
    assert_allclose(shap.values, by_coalitions(forest, edge, x[:15]), rtol=1e-10, atol=1e-13)


def test_a_feature_that_no_tree_uses_has_no_share() -> None:
    x, y = patients(3)
    x[:, 1] = 4.0
    forest = fit_forest(x, y, trees=10, seed=1)
    shap = forest_shap(forest, x[:4], x, list(table(x)))
    assert_allclose(shap.values[:, 1], 0.0, atol=1e-13)
    assert shap.values[:, 0].any()


def test_refusals() -> None:
    x, y = patients(3)
    forest = fit_forest(x, y, trees=2, seed=1)
    with pytest.raises(InvalidInputError, match="2 names for a forest of 3 features"):
        forest_shap(forest, x, x, ["a", "b"])
    wide, y = patients(15)
    with pytest.raises(InvalidInputError, match=r"15 features have 2\^15 coalitions"):
        forest_shap(fit_forest(wide, y, trees=2, seed=1), wide, wide, list(table(wide)))
