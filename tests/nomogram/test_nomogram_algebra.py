"""Points algebra: properties on random models, interactions, refusals, values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nomogram_models import birthwt, birthwt_training, interaction_model, random_nomogram

from osml.errors import InvalidInputError, NotEstimableError, VerificationError
from osml.nomogram import (
    LogisticOutcome,
    Predictor,
    build,
    from_coefficients,
    synthetic_cases,
    verify_points,
)
from osml.stats.terms import Category, Interaction, Linear, LinearModel, Spline

OUTCOME = LogisticOutcome("relapse")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cox=st.booleans())
def test_points_reproduce_any_additive_model(seed: int, cox: bool) -> None:
    n, model = random_nomogram(seed, cox=cox)
    cases = synthetic_cases(n, 50, seed)
    assert verify_points(n, model, cases) < 1e-10
    every = np.concatenate(list(n.points(cases).values()))
    assert every.min() > -1e-6
    assert every.max() < 100 + 1e-6
    spans = [c.maximum - c.minimum for c in n.components]
    assert max(spans) * n.scale == pytest.approx(100.0, rel=1e-12)
    back = n.total_for(n.probability_at(np.array([0.3 * n.maximum])).ravel()[:1])
    np.testing.assert_allclose(back, 0.3 * n.maximum, rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_points_ignore_the_intercept_and_the_scale_of_coefficients(seed: int) -> None:
    n, model = random_nomogram(seed)
    doubled = LinearModel(model.terms, model.coef * 2, model.intercept + 3)
    other = build(doubled, n.predictors, OUTCOME)
    cases = synthetic_cases(n, 20, seed)
    for name, points in n.points(cases).items():
        np.testing.assert_allclose(other.points(cases)[name], points, atol=1e-6)


def test_extremes_inside_the_axis_are_found() -> None:
    # rcs(x; 0, 5, 10): x - 4 * nonlinear column has one maximum; the calculus is done by hand below.
    knots = (0.0, 5.0, 10.0)
    n = build(LinearModel((Spline("x", knots),), np.array([1.0, -2.0]), 0.0), [Predictor("x", low=0, high=10)], OUTCOME)
    # On 0..5 the basis is x^3 / 100, so d/dx (x - 2 x^3 / 100) = 1 - 6 x^2 / 100 vanishes at sqrt(100 / 6).
    (turn,) = n.components[0].axes[0].turns
    assert turn == pytest.approx(np.sqrt(100 / 6), rel=1e-6)
    assert n.points({"x": turn})["x"][0] == pytest.approx(100.0, abs=1e-9)


def test_extremes_at_ticks_only_let_a_value_leave_the_scale() -> None:
    model = LinearModel((Spline("x", (0.0, 5.0, 10.0)),), np.array([1.0, -2.0]), 0.0)
    n = build(model, [Predictor("x", ticks=(0.0, 2.0, 10.0))], OUTCOME, extremes="ticks")
    assert n.points({"x": 2.0})["x"][0] == pytest.approx(100.0)
    assert n.points({"x": 4.0})["x"][0] > 100.5
    assert verify_points(n, model, {"x": np.linspace(0, 10, 50)}) < 1e-12


def test_an_interaction_gives_one_axis_per_level() -> None:
    model, predictors = interaction_model()
    n = build(model, predictors, OUTCOME)
    assert [c.name for c in n.components] == ["age × sex", "dose"]
    assert [a.settings for a in n.components[0].axes] == [(("sex", 0),), (("sex", 1),)]
    grid = {"age": np.linspace(20, 80, 30), "sex": np.arange(30) % 2, "dose": np.linspace(90, 30, 30)}
    assert verify_points(n, model, grid) < 1e-12
    shared = n.components[0]
    for axis in shared.axes:
        x = np.array([33.0])
        by_axis = n.axis_points(shared, axis, x)[0]
        assert by_axis == pytest.approx(
            n.points({"age": 33.0, "sex": axis.settings[0][1], "dose": 50.0})["age × sex"][0]
        )


def test_two_categories_interact_with_the_longer_one_on_the_axis() -> None:
    a, b = Category("a", ("x", "y")), Category("b", ("p", "q", "r"))
    model = LinearModel((a, b, Interaction(a, b)), np.array([0.5, 0.2, -0.4, 0.7, 0.1]), 0.0)
    predictors = [Predictor("a", "category", levels=("x", "y")), Predictor("b", "category", levels=("p", "q", "r"))]
    n = build(model, predictors, OUTCOME)
    assert [axis.key for axis in n.components[0].axes] == ["b|a=0", "b|a=1"]
    values = {"a": np.repeat([0.0, 1.0], 3), "b": np.tile([0.0, 1.0, 2.0], 2)}
    assert verify_points(n, model, values) < 1e-12


def test_two_numbers_that_interact_are_refused_with_the_equation() -> None:
    x, y = Linear("x"), Linear("y")
    model = LinearModel((x, y, Interaction(x, y)), np.array([0.5, 0.2, -0.25]), 1.0)
    with pytest.raises(InvalidInputError, match=r"lp = 1 \+ 0\.5·x \+ 0\.2·y − 0\.25·\(x \* y\)"):
        build(model, [Predictor("x", low=0, high=1), Predictor("y", low=0, high=1)], OUTCOME)


def test_too_many_axes_are_refused() -> None:
    levels = tuple("abcdefgh")
    x, g = Linear("x"), Category("g", levels)
    model = LinearModel((x, g, Interaction(x, g)), np.linspace(0.1, 1.5, 15), 0.0)
    with pytest.raises(InvalidInputError, match="8 axes"):
        build(model, [Predictor("x", low=0, high=1), Predictor("g", "category", levels=levels)], OUTCOME)


def test_a_model_without_effects_has_no_nomogram() -> None:
    with pytest.raises(NotEstimableError, match="nothing to draw"):
        build(LinearModel((Linear("x"),), np.array([0.0]), 0.0), [Predictor("x", low=0, high=1)], OUTCOME)


def test_a_predictor_without_effect_keeps_zero_points() -> None:
    model = LinearModel((Linear("x"), Linear("y")), np.array([1.0, 0.0]), 0.0)
    n = build(model, [Predictor("x", low=0, high=1), Predictor("y", low=0, high=1)], OUTCOME)
    assert n.points({"x": 0.5, "y": 0.7})["y"].tolist() == [0.0]


def test_another_models_points_are_refused() -> None:
    n = birthwt()
    changed = n.model.coef.copy()
    changed[0] += 1e-4
    other = LinearModel(n.model.terms, changed, n.model.intercept)
    with pytest.raises(VerificationError, match="do not reproduce"):
        verify_points(n, other, birthwt_training())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"age": 30}, "'lwt' is missing"),
        ({"race": "martian"}, "unknown levels"),
        ({"age": "thirty"}, "is a number, got text"),
        ({"age": float("nan")}, "not known for 1 of 1"),
        ({"age": [[30.0]]}, "one value per patient"),
        ({"age": [30.0, 31.0, 32.0], "lwt": [120.0, 130.0]}, "different lengths"),
        ({"race": 7}, "level positions outside"),
    ],
)
def test_bad_values_are_refused(values: dict[str, object], message: str) -> None:
    whole = {"age": 30, "lwt": 120, "race": "white", "smoke": "no", "ptd": "no", "ht": "no", "ui": "no"}
    given_values = values if values == {"age": 30} else whole | values
    with pytest.raises(InvalidInputError, match=message):
        birthwt().probability(given_values)


def test_not_known_uses_the_stated_value() -> None:
    n = from_coefficients(
        {"Intercept": -1.0, "x": 0.1, "g=b": 0.7},
        [Predictor("x", low=0, high=10, unknown=4.0), Predictor("g", "category", levels=("a", "b"), unknown=1)],
        OUTCOME,
    )
    known = n.probability({"x": 4.0, "g": "b"})
    np.testing.assert_array_equal(n.probability({"x": float("nan"), "g": float("nan")}), known)


def test_values_outside_the_axis_are_flagged_not_clipped() -> None:
    n = birthwt()
    low, high = n.predictor("age").bounds
    values = {"age": [low - 1, low, high, high + 1], "lwt": 120, "race": 0, "smoke": 0, "ptd": 0, "ht": 0, "ui": 0}
    assert n.extrapolated(values)["age"].tolist() == [True, False, False, True]
    points = n.points(values)["age"]
    assert points[0] - points[1] == pytest.approx(points[2] - points[3])


def test_predictors_and_model_must_agree() -> None:
    model = LinearModel((Linear("x"), Category("g", ("a", "b"))), np.array([1.0, 1.0]), 0.0)
    x, g = Predictor("x", low=0, high=1), Predictor("g", "category", levels=("a", "b"))
    with pytest.raises(InvalidInputError, match=r"no predictor for \['g'\]"):
        build(model, [x], OUTCOME)
    with pytest.raises(InvalidInputError, match="described twice"):
        build(model, [x, x, g], OUTCOME)
    with pytest.raises(InvalidInputError, match="levels of 'g'"):
        build(model, [x, Predictor("g", "category", levels=("b", "a"))], OUTCOME)
    with pytest.raises(InvalidInputError, match="enters the model as a number"):
        build(model, [Predictor("x", "category", levels=("a", "b")), g], OUTCOME)
    with pytest.raises(InvalidInputError, match="not finite"):
        build(LinearModel(model.terms, np.array([1.0, np.inf]), 0.0), [x, g], OUTCOME)
