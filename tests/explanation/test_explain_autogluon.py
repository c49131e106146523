"""Contributions to AutoGluon's predictions: what its models are asked, and what a fold stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from osml.cohort.cohort import Cohort
from osml.explanation.asking import asked, replayed
from osml.explanation.autogluon import FEWEST, MOST_ROWS, MOST_UNITS, held_out_shap
from osml.explanation.permutation import permutation_shap, subset_shap
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.autogluon_calibration import RAW
from osml.predictors.autogluon_frame import Frame
from osml.predictors.contract import Design
from osml.predictors.table import TableColumn, TableSpec

X = {name: np.random.default_rng(k).normal(size=7) for k, name in enumerate("abcd")}
B = {name: np.random.default_rng(9 + k).normal(size=5) for k, name in enumerate("abcd")}


def model(rows: Mapping[str, Any]) -> Any:
    return rows["a"] * rows["b"] + np.sin(rows["c"]) - 0.5 * rows["d"] * rows["a"]


@pytest.mark.parametrize(
    "way",
    [
        lambda predict: subset_shap(predict, X, B),
        lambda predict: permutation_shap(predict, X, B, permutations=3, seed=2),
    ],
)
def test_asking_once_gives_the_same_values(way: Any) -> None:
    rows = asked(way)
    found, plain = replayed(way, model(rows)), way(model)
    assert len(rows["a"]) == plain.calls
    np.testing.assert_array_equal(found.values, plain.values)
    np.testing.assert_array_equal(found.lp, plain.lp)
    assert found.base == plain.base


class Additive:
    """Stands for AutoGluon: log odds 2 x0 - x1 + 0.5 (x2 + x3), where x2 and x3 belong to one input."""

    calls = 0

    def predict_proba(self, frame: Any, as_multiclass: bool) -> Any:
        import pandas as pd

        self.calls += 1
        lp = 2 * frame["c0"] - frame["c1"] + 0.5 * (frame["c2"] + frame["c3"])
        p = 1 / (1 + np.exp(-lp))
        return pd.DataFrame({0: 1 - p, 1: p})


def fitted(inputs: int = 3) -> FittedAutogluon:
    columns = [TableColumn("x0", "number", "value", "x0"), TableColumn("x1", "number", "value", "x1")]
    columns += [TableColumn(f"s|{k}", "number", "score", "s", str(k)) for k in range(2)]
    columns += [TableColumn(f"x{k}", "number", "value", f"x{k}") for k in range(2, inputs - 1)]
    n = len(columns)
    frame = Frame(TableSpec(tuple(columns)), (0.0,) * n, (1.0,) * n)
    return FittedAutogluon("many", "binary", ("bad",), None, frame, (0, 1), (0.5, 0.5), RAW, False, {}, {})


def design(n: int, seed: int, inputs: int = 3) -> Design:
    rng = np.random.default_rng(seed)
    names = tuple(f"{seed}-{i}" for i in range(n))
    values = {f"x{k}": rng.normal(size=n) for k in range(inputs - 1)}
    cohort = Cohort(names, names, np.zeros(n, dtype=np.intp), values, {}, {}, None)
    return Design(cohort, {"s": rng.normal(size=(n, 2))})


def shap_of(n: int, inputs: int = 3) -> tuple[dict[str, Any], Design, Design, Additive]:
    one, stand_in = fitted(inputs), Additive()
    one.__dict__["model"] = stand_in
    train, test = design(50, 1, inputs), design(n, 2, inputs)
    return held_out_shap(one, train, test, seed=4), train, test, stand_in


def test_an_additive_model_is_explained_by_its_terms() -> None:
    """Against the mean of the background, whose differences between units are known without it."""
    found, _, test, _ = shap_of(12)
    assert found["inputs"] == ["x0", "x1", "s"]
    assert found["units"] == list(test.cohort.units)
    values = np.array(found["outputs"]["bad"]["values"])
    terms = np.column_stack(
        [2 * test.cohort.values["x0"], -test.cohort.values["x1"], 0.5 * test.upstream["s"].sum(axis=1)]
    )
    np.testing.assert_allclose(values - values[0], terms - terms[0], atol=1e-9)
    np.testing.assert_allclose(values.sum(axis=1), found["outputs"]["bad"]["lp"], atol=1e-9)
    assert found["scores"] == {}  # of two columns: no single value stands for them


def test_the_models_are_asked_few_times() -> None:
    found, _, _, stand_in = shap_of(12)
    assert found["pairs"] is None
    assert found["rows"] == 6 * 12 * found["background"] + 12 + found["background"]
    assert stand_in.calls == -(-found["rows"] // 4096)


@pytest.mark.parametrize(("n", "inputs"), [(200, 3), (200, 8), (200, 14), (200, 60), (3, 25), (1, 3)])
def test_the_cost_is_bounded(n: int, inputs: int) -> None:
    found, *_ = shap_of(n, inputs)
    assert found["of"] == n
    assert len(found["units"]) == min(n, len(found["units"])) <= MOST_UNITS
    assert found["background"] >= FEWEST
    assert found["rows"] < 1.5 * MOST_ROWS
    assert found["pairs"] == {3: None, 8: 4, 14: 4, 25: 2, 60: 2}[inputs]
    error = np.array(found["outputs"]["bad"]["error"])
    assert error.shape == (len(found["units"]), inputs)


def test_a_single_score_is_shown_with_its_value() -> None:
    columns = (TableColumn("x0", "number", "value", "x0"), TableColumn("s", "number", "score", "s"))
    one = replace(fitted(), frame=Frame(TableSpec(columns), (0.0, 0.0), (1.0, 1.0)))

    class Two(Additive):
        def predict_proba(self, frame: Any, as_multiclass: bool) -> Any:
            return super().predict_proba(frame.assign(c2=0.0, c3=0.0), as_multiclass)

    one.__dict__["model"] = Two()
    train, test = (Design(d.cohort, {"s": d.upstream["s"][:, 0]}) for d in (design(50, 1), design(9, 2)))
    found = held_out_shap(one, train, test, seed=4)
    assert found["scores"] == {"s": test.upstream["s"].tolist()}
