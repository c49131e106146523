"""Gradients, integrated gradients and SHAP of networks: analytic values, completeness, planted order, intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from explained_networks import held_out, made_cohort, made_linear, made_network

from osml.errors import NotEstimableError
from osml.explanation.contributions import FEW, attribute, contributions, parts_of, scale_words
from osml.explanation.held_out import encoded, explained_columns, score
from osml.explanation.network_figures import HEADER, contribution_figure
from osml.explanation.network_shap import network_shap
from osml.predictors.contract import Design
from osml.predictors.network import Calibration
from osml.predictors.network_inputs import TableSource

# Of (picture 3 columns, age, alp, stage 3 columns): alp tells most, then stage, then age.
WEIGHTS = (1.0, -0.5, 0.2, 0.3, 2.0, 0.6, 0.0, -0.8)


@pytest.mark.parametrize(
    "kind, more",
    [
        ("binary", {"calibration": Calibration("platt", (0.3, -1.7), (0.4,))}),
        ("binary", {"calibration": Calibration("none", (), (0.7,)), "fusion": "gated"}),
        ("classes", {"calibration": Calibration("temperature", (1.7, 0.6), (0.2, -0.3, 0.1, 0.5), restated=True)}),
        ("classes", {"calibration": Calibration("temperature", (2.0, 0.5), (0.2, -0.3, 0.1, 0.5))}),
        ("classes", {"flat": True, "calibration": Calibration("temperature", (1.4,), (0.2, -0.3, 0.1))}),
        ("classes", {}),
        ("survival", {"calibration": Calibration("slope", (0.6,))}),
        ("survival", {"discrete": True}),
    ],
)
def test_the_score_is_what_the_predictor_says(kind: Any, more: dict[str, Any]) -> None:
    cohort = made_cohort(gaps=True)
    fitted = made_network(cohort, kind, **more)
    told = fitted.predict(Design(cohort.without_outcome()))
    items = encoded(fitted, cohort)
    for column in fitted.columns if kind == "classes" else explained_columns(fitted):
        lp = told.lp if told.lp.ndim == 1 else told.lp[:, fitted.columns.index(column)]
        assert score(fitted, items, len(cohort), column).detach().numpy() == pytest.approx(lp, abs=2e-5)


def test_the_gradient_of_a_linear_network_is_its_weight() -> None:
    cohort = made_cohort()
    found = attribute(made_linear(made_network(cohort), WEIGHTS), cohort, "bad")
    stage = np.sqrt(0.6**2 + 0.8**2)
    assert found.gradient == pytest.approx(np.tile([0.3, 2.0, stage], (len(cohort), 1)), rel=1e-5)


def test_integrated_gradients_of_a_linear_network_are_weight_times_distance() -> None:
    cohort = made_cohort()
    fitted = made_linear(made_network(cohort), WEIGHTS)
    found = attribute(fitted, cohort, "bad")
    alp = (cohort.values["alp"] - 40) / 100
    assert found.integrated[:, 0] == pytest.approx(
        0.3 * (cohort.values["age"] - cohort.values["age"].mean()) / 100, abs=1e-5
    )
    assert found.integrated[:, 1] == pytest.approx(2.0 * (alp - alp.mean()), abs=1e-5)
    assert found.steps == 32


@pytest.mark.parametrize("kind", ["binary", "classes", "survival"])
@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
def test_integrated_gradients_add_up(kind: Any, fusion: str) -> None:
    cohort = made_cohort(gaps=True)
    fitted = made_network(cohort, kind, fusion=fusion)
    for column in explained_columns(fitted):
        found = attribute(fitted, cohort, column)
        change = found.score - found.start
        assert np.abs(change).max() > 0.02
        assert np.nansum(found.integrated, axis=1) == pytest.approx(change, abs=0.005 * max(1.0, np.abs(change).max()))


def test_a_sum_that_is_not_reached_is_refused() -> None:
    cohort = made_cohort()
    with pytest.raises(NotEstimableError, match="after 2048 steps"):
        attribute(made_network(cohort), cohort, "bad", tolerance=1e-12)


def test_a_missing_value_has_no_contribution() -> None:
    cohort = made_cohort(gaps=True)
    found = attribute(made_network(cohort), cohort, "bad")
    missing = np.isnan(cohort.values["alp"])
    assert missing.any()
    assert np.isnan(found.gradient[missing, 1]).all()
    assert np.isfinite(found.gradient[~missing]).all()


def test_contributions_come_in_the_planted_order_with_shares() -> None:
    cohort = made_cohort(60)
    held = held_out(made_linear(made_network(cohort), WEIGHTS), cohort, np.arange(60) < 40)
    found, facts = contributions([held], "bad", seed=1)
    assert [c.part.name for c in found] == ["alp", "stage", "age"]
    assert [c.units for c in found] == [40, 40, 40]
    assert [c.gradient_share.value for c in found] == pytest.approx([2 / 3.3, 1 / 3.3, 0.3 / 3.3], rel=1e-5)
    assert sum(c.integrated_share.value for c in found) == pytest.approx(1)
    for c in found:
        assert c.integrated.low is not None
        assert c.integrated.high is not None
        assert c.integrated.low < c.integrated.value < c.integrated.high
    assert facts["patients"] == 40
    assert facts["reason"] == ""
    assert scale_words(held.fitted) == {"age": "100 units", "alp": "width of its range", "stage": "level"}


def test_scaling_moves_the_gradient_and_not_the_integrated_gradient() -> None:
    cohort = made_cohort(40)
    fitted = made_linear(made_network(cohort), WEIGHTS)
    (image, table) = fitted.sources
    assert isinstance(table, TableSource)
    age, *others = table.code.columns
    age = replace(age, column=replace(age.column, divide=1.0), start=(age.start[0] * 100,))
    years = replace(table, code=replace(table.code, columns=(age, *others)))
    pictures, numbers = fitted.recipe.modalities
    recipe = replace(fitted.recipe, modalities=(pictures, replace(numbers, start=years.code.start)))
    scaled = made_linear(replace(fitted, sources=(image, years), recipe=recipe), (*WEIGHTS[:3], 0.003, *WEIGHTS[4:]))
    a, b = attribute(fitted, cohort, "bad"), attribute(scaled, cohort, "bad")
    assert b.gradient[:, 0] == pytest.approx(a.gradient[:, 0] / 100, rel=1e-4)
    assert b.integrated == pytest.approx(a.integrated, abs=1e-4)


def test_few_patients_have_no_interval() -> None:
    cohort = made_cohort(60, rows_per_patient=10)
    held = held_out(made_network(cohort), cohort, np.ones(60, dtype=bool) & (np.arange(60) < 50))
    found, facts = contributions([held], "bad", seed=1)
    assert facts["reason"] == FEW
    assert facts["patients"] == 5
    assert facts["units"] == 50
    assert all(c.gradient.low is None and c.integrated_share.high is None for c in found)


def test_shap_of_a_linear_network_is_weight_times_distance_from_training_units() -> None:
    cohort = made_cohort(50)
    fitted = made_linear(made_network(cohort), WEIGHTS)
    held = held_out(fitted, cohort, np.arange(50) < 20)
    found = network_shap([held], _schema(), "net", "bad")
    assert found.shap.inputs == ("age", "alp", "stage")
    assert len(found.units) == 20
    # Thirty training units: all of them are the background.
    assert found.shap.values[:, 1] == pytest.approx(
        2.0 * (held.test.values["alp"] - held.train.values["alp"].mean()) / 100, abs=1e-4
    )
    assert found.shap.values.sum(axis=1) == pytest.approx(found.shap.lp)
    assert found.shap.error.max() == 0


def test_shap_holds_pictures_fixed_and_takes_units_without_one() -> None:
    cohort = made_cohort(30, gaps=True)
    fitted = made_network(cohort, fusion="gated")
    held = held_out(fitted, cohort, np.arange(30) < 8)
    found = network_shap([held], _schema(), "net", "bad")
    lp = fitted.predict(Design(held.test.without_outcome())).lp
    background = [
        fitted.predict(Design(_with_table_of(held.test, i, held.train).without_outcome())).lp.mean() for i in range(8)
    ]
    assert found.shap.lp == pytest.approx(lp - np.array(background), abs=1e-4)


def test_a_network_of_pictures_alone_has_no_table_to_explain() -> None:
    cohort = made_cohort()
    fitted = made_network(cohort)
    alone = replace(fitted, sources=fitted.sources[:1])
    held = held_out(alone, cohort, np.arange(30) < 8)
    with pytest.raises(NotEstimableError, match="pictures alone"):
        network_shap([held], _schema(), "net", "bad")
    with pytest.raises(NotEstimableError, match="no table"):
        contributions([held], "bad", seed=1)


def test_the_figure_and_its_table() -> None:
    cohort = made_cohort(60)
    fitted = made_network(cohort, "classes")
    held = held_out(fitted, cohort, np.arange(60) < 40)
    found = {c: contributions([held], c, seed=1)[0] for c in explained_columns(fitted)}
    figure, (header, rows) = contribution_figure(found, {"alp": "ALP"})
    assert header == HEADER
    assert len(rows) == 9
    assert all(len(row) == len(header) for row in rows)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "ALP" in labels
    assert len(labels) == len(parts_of(fitted)) == 3


def _schema() -> Any:
    from osml.schema.model import Schema

    return Schema.model_validate(
        {
            "version": 1, "name": "nets", "study": {"sampling": "cohort"}, "time_of_prediction": "now",
            "times": ["now"], "cohort": {"table": "t.csv", "patient": "id"},
            "target": {"kind": "binary", "column": "y", "positive": "bad", "negative": "good"},
            "inputs": {
                "picture": {"kind": "image", "available": "now", "several": True},
                "age": {"kind": "number", "unit": "year", "available": "now"},
                "alp": {"kind": "lab", "unit": "U/L", "kit": {"low": 40, "high": 140}, "available": "now"},
                "stage": {"kind": "category", "levels": ["I", "II", "III"], "available": "now"},
            },
            "predictors": {"net": {"kind": "network", "inputs": ["picture", "age", "alp", "stage"]}},
            "missing": "impute",
            "validation": {"split": {"kind": "kfold"}, "seed": 3},
        }
    )  # fmt: skip


def _with_table_of(cohort: Any, i: int, train: Any) -> Any:
    """Unit i of the cohort once for every training unit, with that one's table."""
    made = cohort.take(np.full(len(train), i, dtype=np.intp))
    return replace(made, values=dict(train.values), kit=dict(train.kit))
