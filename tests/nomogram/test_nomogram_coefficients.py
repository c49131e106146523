"""Models from named coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from nomogram_models import interaction_model, result

from osml.errors import InvalidInputError
from osml.nomogram import CoxOutcome, LogisticOutcome, Predictor, build, from_coefficients

AGE = Predictor("age", low=20, high=80)
SEX = Predictor("sex", "category", levels=("female", "male"))
DOSE = Predictor("dose", low=30, high=90)
OUTCOME = LogisticOutcome("relapse")
VALUES = {"age": [25.0, 70.0], "sex": ["female", "male"], "dose": [40.0, 60.0]}


@pytest.mark.parametrize(
    "names",
    [
        ("Intercept", "age", "sex=male", "dose", "age * sex=male"),
        ("(Intercept)", "age", "sexmale", "dose", "age:sexmale"),
        ("(Intercept)", "dose", "sexmale", "age", "sexmale:age"),
    ],
)
def test_rms_and_glm_names_give_the_same_model(names: tuple[str, ...]) -> None:
    coefficient = {"Intercept": -3.0, "age": 0.02, "sex": -1.5, "dose": 0.03, "x": 0.04}
    values = []
    for name in names:
        plain = name.strip("()")
        key = "x" if ":" in name or "*" in name else "sex" if plain.startswith("sex") else plain
        values.append(coefficient[key])
    n = from_coefficients(dict(zip(names, values, strict=True)), [AGE, SEX, DOSE], OUTCOME)
    expected = build(*interaction_model(), OUTCOME)
    np.testing.assert_allclose(n.probability(VALUES), expected.probability(VALUES), rtol=1e-12)


def test_covariance_follows_its_names() -> None:
    V = np.array([[4.0, 0.3, 0.2], [0.3, 2.0, 0.1], [0.2, 0.1, 1.0]])
    n = from_coefficients({"sex=male": 1.0, "age": 0.1, "Intercept": 0.0}, [AGE, SEX], OUTCOME, covariance=V)
    assert n.model.covariance is not None
    names = ["Intercept", *(c for t in n.model.terms for c in t.columns)]
    assert names == ["Intercept", "sex=male", "age"]
    assert np.diag(n.model.covariance).tolist() == [1.0, 4.0, 2.0]
    assert n.model.covariance[1, 2] == 0.3


def test_log_and_spline_columns() -> None:
    knots = result("a1_lrm_birthwt_rcs")["fit"]["design"]["parms"]["lwt"]
    n = from_coefficients(
        {"Intercept": 0.0, "log(age)": 1.0, "lwt": 0.1, "lwt'": 0.2, "lwt''": -0.3},
        [AGE, Predictor("lwt", low=80, high=200)],
        OUTCOME,
        knots={"lwt": knots},
    )
    assert [t.kind for t in n.model.terms] == ["log", "rcs"]
    assert n.points({"age": 80.0, "lwt": 80.0})["age"][0] == pytest.approx(np.log(4) * n.scale)


@pytest.mark.parametrize(
    ("coefficients", "options", "message"),
    [
        ({"Intercept": 0.0, "age": 1.0, "weight": 1.0}, {}, "'weight' belongs to no predictor"),
        ({"age": 1.0}, {}, "exactly one coefficient named 'Intercept'"),
        ({"Intercept": 0.0, "age": 1.0, "age'": 1.0}, {}, "belongs to no predictor"),
        ({"Intercept": 0.0, "age": 1.0}, {"knots": {"age": (20, 40, 60, 80)}}, 'no coefficient for "age\'"'),
        ({"Intercept": 0.0, "age": 1.0}, {"knots": {"bmi": (1, 2, 3)}}, "not predictors"),
        ({"Intercept": 0.0, "age": 1.0}, {"center": 1.0}, "Cox models only"),
        ({"Intercept": 0.0, "age": 1.0}, {"covariance": [[1.0]]}, "covariance of shape"),
        ({"Intercept": 0.0, "age": float("nan")}, {}, "not finite"),
    ],
)
def test_coefficients_that_do_not_fit_are_refused(coefficients, options, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=message):
        from_coefficients(coefficients, [AGE], OUTCOME, **options)


def test_a_level_left_out_is_refused() -> None:
    stage = Predictor("stage", "category", levels=("I", "II", "III"))
    with pytest.raises(InvalidInputError, match="no coefficient for 'stage=III'"):
        from_coefficients({"Intercept": 0.0, "stage=II": 1.0}, [stage], OUTCOME)


def test_cox_center_is_minus_the_intercept() -> None:
    outcome = CoxOutcome("death", (12.0,), (0.8,))
    n = from_coefficients({"age": 0.02}, [AGE], outcome, center=1.0)
    assert n.probability({"age": 50.0})[0, 0] == pytest.approx(1 - 0.8)
    with pytest.raises(InvalidInputError, match="no intercept"):
        from_coefficients({"Intercept": 0.0, "age": 0.02}, [AGE], outcome)
