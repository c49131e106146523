"""Bedside points, CSV safety, worked examples, refusals, surrogates and metadata."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nomogram_models import birthwt, lung, random_nomogram, wald_birthwt

from osml.errors import InvalidInputError, NotEstimableError
from osml.nomogram import (
    CODES,
    CoxOutcome,
    Facts,
    LogisticOutcome,
    Predictor,
    bedside_points,
    build,
    from_coefficients,
    points_table,
    refusals,
    surrogate,
    synthetic_cases,
    worked_example,
)
from osml.stats.terms import Category, Linear, LinearModel, Spline

PATIENT = {"age": 25, "lwt": 110, "race": "black", "smoke": "yes", "ptd": "no", "ht": "no", "ui": "no"}
OUTCOME = LogisticOutcome("relapse")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), largest=st.integers(2, 40))
def test_bedside_points_stay_within_their_stated_error(seed: int, largest: int) -> None:
    n, _ = random_nomogram(seed)
    b = bedside_points(n, largest)
    cases = synthetic_cases(n, 200, seed + 1)
    total = np.zeros(200)
    for p in n.predictors:
        rows = [r for r in b.rows if r.name == p.title]
        if p.kind == "category":
            total += np.array([r.points for r in rows])[cases[p.name].astype(int)]
        else:
            for i, v in enumerate(cases[p.name]):
                total[i] += next(r.points for r in reversed(rows) if v >= r.low)
    read = np.interp(total, b.totals, [row[0] for row in b.probabilities])
    assert np.max(np.abs(read - n.probability(cases))) <= b.worst_error + 1e-9
    assert b.case_error <= b.worst_error + 1e-9
    assert max(abs(r.points) for r in b.rows) == largest


def test_more_bedside_points_are_more_exact() -> None:
    errors = [bedside_points(birthwt(), k).worst_error for k in (5, 20, 100)]
    assert errors == sorted(errors, reverse=True)
    assert f"{100 * errors[0]:.1f}" in bedside_points(birthwt(), 5).words
    with pytest.raises(InvalidInputError, match="whole number"):
        bedside_points(birthwt(), 1)


def test_cells_that_look_like_formulas_are_made_harmless() -> None:
    p = Predictor("x", "category", label="=HYPERLINK(1)", levels=("@no", "+yes"))
    n = from_coefficients({"Intercept": 0.0, "x=+yes": 1.0}, [p], LogisticOutcome("-event"))
    for text in (points_table(n).to_csv(), bedside_points(n).to_csv()):
        for row in csv.reader(io.StringIO(text)):
            for cell in row:
                assert not cell.startswith(("=", "+", "@")), cell
                assert not cell.startswith("-") or cell[1:].replace(".", "").isdigit(), cell


def test_the_printed_sum_is_the_sum_of_the_printed_points() -> None:
    example = worked_example(wald_birthwt(), PATIENT)
    first, second = example.sentences()
    terms, total = first.removesuffix(" points.").split(" = ")
    assert sum(float(t.rsplit(": ", 1)[1]) for t in terms.split(" + ")) == pytest.approx(float(total))
    assert second == "Risk of low birth weight: 49.5 % (95 % confidence interval (Wald): 23.7 to 75.5 %)."
    assert example.total == pytest.approx(birthwt().total(PATIENT)[0])


def test_a_worked_example_says_when_there_is_no_interval_and_when_it_extrapolates() -> None:
    sentences = worked_example(birthwt(), PATIENT | {"age": 60}).sentences()
    assert "no interval available" in sentences[1]
    assert sentences[2] == "Extrapolated, outside the printed axes: age 60 years."
    with pytest.raises(InvalidInputError, match="one patient"):
        worked_example(birthwt(), PATIENT | {"age": [20, 30]})


def test_refusals_of_a_sound_model_are_none() -> None:
    assert refusals(birthwt(), Facts(n=1000, events=300, parameters=10, required_n=900, corrected_slope=0.9)) == ()


def codes(*args: object) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in refusals(*args)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(separation="quasi"), ("OSML043", "refuse")),
        (Facts(events=10, parameters=10), ("OSML042", "refuse")),
        (Facts(n=189, required_n=900), ("OSML041", "warn")),
        (Facts(corrected_slope=0.79), ("OSML045", "warn")),
        (Facts(in_sample_scores=("age",)), ("OSML048", "refuse")),
        (Facts(late={"age": "after surgery"}), ("OSML014", "refuse")),
    ],
)
def test_each_fact_has_its_code(facts: Facts, expected: tuple[str, str]) -> None:
    assert codes(birthwt(), facts) == [expected]
    assert expected in [(code, severity) for code, severity, _ in CODES]


def test_refusals_that_the_nomogram_itself_shows() -> None:
    a = Predictor("g", "category", levels=("a", "b"), level_counts=(50, 9), level_events=(20, 0))
    bad = np.diag([1.0, np.inf])
    n = build(LinearModel((Category("g", ("a", "b")),), np.array([-9.0]), 0.0, bad), [a], OUTCOME)
    assert codes(n, Facts()) == [("OSML040", "refuse"), ("OSML046", "refuse")]
    steep = from_coefficients({"Intercept": -60.0, "x": 120.0}, [Predictor("x", low=0, high=1)], OUTCOME)
    assert codes(steep, Facts()) == [("OSML047", "warn")]
    few = lung(at_risk=(150, 60, 9))
    assert codes(few, Facts()) == [("OSML049", "warn")]
    full = Predictor("g", "category", levels=("a", "b"), level_counts=(50, 9), level_events=(20, 9))
    cox = CoxOutcome("death", (12.0,), (0.7,))
    assert codes(from_coefficients({"g=b": 1.5}, [full], cox), Facts()) == []


def additive(x: dict[str, np.ndarray]) -> np.ndarray:
    return 1 / (1 + np.exp(-(0.8 * x["a"] - 0.5 * x["b"] ** 2 + 0.3 * x["g"])))


def surrogate_values(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(0, 1, n), "b": rng.normal(0, 1, n), "g": rng.integers(0, 2, n).astype(float)}


SURROGATE = (
    (Linear("a"), Spline("b", (-1.5, -0.5, 0.5, 1.5)), Category("g", ("no", "yes"))),
    [Predictor("a", low=-2, high=2), Predictor("b", low=-2, high=2), Predictor("g", "category", levels=("no", "yes"))],
)


def test_a_surrogate_states_its_fidelity() -> None:
    terms, predictors = SURROGATE
    n, fidelity = surrogate(
        additive,
        surrogate_values(500, 0),
        terms,
        predictors,
        OUTCOME,
        of="random forest",
        check=surrogate_values(300, 1),
    )
    held_out = surrogate_values(300, 1)
    gap = np.abs(n.probability(held_out) - additive(held_out))
    assert fidelity.mean_error == pytest.approx(gap.mean())
    assert fidelity.max_error == pytest.approx(gap.max())
    assert fidelity.rows == 300
    assert 0.95 < fidelity.r2 < 1
    assert fidelity.slope == pytest.approx(1, abs=0.1)
    from osml.nomogram.words import banners

    assert any("APPROXIMATION of random forest" in b and f"{fidelity.r2:.3f}" in b for b in banners(n))


def test_a_poor_surrogate_is_refused() -> None:
    terms, predictors = SURROGATE
    with pytest.raises(NotEstimableError, match="R² 0"):
        surrogate(
            lambda x: 1 / (1 + np.exp(-3 * x["a"] * x["b"])),
            surrogate_values(400, 0),
            terms,
            predictors,
            OUTCOME,
            of="net",
        )
    with pytest.raises(InvalidInputError, match="400 probabilities"):
        surrogate(lambda x: 3 * x["a"], surrogate_values(400, 0), terms, predictors, OUTCOME, of="net")
    with pytest.raises(InvalidInputError, match="have rank 6"):
        surrogate(additive, surrogate_values(400, 0), (*terms, Linear("a")), predictors, OUTCOME, of="net")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"populaton": "x"}, "Did you mean 'population'"),
        ({"n": 3.5}, "expected a count"),
        ({"n": True}, "expected a count"),
        ({"warnings": "one"}, "list of sentences"),
        ({"title": "two\nlines"}, "cannot be printed"),
        ({"performance": [{"apparent": 0.7}]}, "needs 'measure'"),
        ({"performance": [{"measure": "C", "apparent": float("nan")}]}, "cannot be written as JSON"),
        ({"accepted": ["OSML041"]}, "expected a mapping"),
    ],
)
def test_bad_metadata_is_refused(metadata: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        birthwt(metadata=metadata)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizons": (12.0, 6.0), "survival": (0.8, 0.9)}, "increasing"),
        ({"horizons": (12.0,), "survival": (1.0,)}, "one value in \\(0, 1\\)"),
        ({"horizons": (6.0, 12.0), "survival": (0.8, 0.9)}, "increases with time"),
        ({"horizons": (6.0,), "survival": (0.8,), "show": "both"}, "choose 'risk' or 'survival'"),
        ({"horizons": (6.0,), "survival": (0.8,), "at_risk": (5, 6)}, "at_risk"),
        ({"horizons": (6.0,), "survival": (0.8,), "log_hazard_variance": (0.1,)}, "belong together"),
    ],
)
def test_bad_outcomes_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CoxOutcome("death", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs low and high"),
        ({"low": 2, "high": 1}, "not below"),
        ({"low": 0, "high": float("inf")}, "finite number"),
        ({"low": 0, "high": 1, "log": True}, "log axis"),
        ({"ticks": (1.0, 1.0)}, "must increase"),
        ({"ticks": (1.0, 3.0), "low": 2, "high": 3}, "ticks outside"),
        ({"kind": "category", "levels": ("a",)}, "at least two"),
        ({"kind": "category", "levels": ("a", "a")}, "at least two"),
        ({"kind": "category", "levels": ("a", "b"), "reference": 2}, "reference position"),
        ({"kind": "category", "levels": ("a", "b"), "level_counts": (1,)}, "level_counts"),
        ({"kind": "text"}, "neither"),
    ],
)
def test_bad_predictors_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Predictor("x", **fields)  # type: ignore[arg-type]
