"""Riley's criteria against published worked examples, and the equations they solve."""

from math import exp, log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.sample_size import (
    adequacy,
    expected_shrinkage,
    max_r2_cs_binary,
    max_r2_cs_survival,
    riley_sample_size,
)


def by_name(size):
    return {c.name: c.n for c in size.criteria}


def test_pre_eclampsia_bmj_2020():
    """BMJ 368:m441: 30 parameters, 5 %, R² 0.05 (15 % of 0.33): 5,249 women, 262 events, 8.75 per parameter."""
    size = riley_sample_size("binary", 30, prevalence=0.05, r2_cs=0.05)
    assert by_name(size)["overall risk"] == 73
    assert by_name(size)["mean absolute error"] == 544
    assert by_name(size)["shrinkage"] == size.n == 5249
    assert size.driving == "shrinkage"
    assert round(size.events) == 262
    assert round(size.epv, 2) == 8.75
    assert round(size.max_r2_cs, 2) == 0.33


def test_chagas_part_two():
    """Riley 2019, part II: 24 parameters, prevalence 0.174, R² 0.288: 623, 662 and 221; 4.8 events per parameter."""
    size = riley_sample_size("binary", 24, prevalence=0.174, r2_cs=0.288, mean_absolute_error=None)
    assert by_name(size) == {"overall risk": 221, "shrinkage": 623, "optimism": 662}
    assert (size.n, size.driving) == (662, "optimism")
    assert round(size.epv, 1) == 4.8


# Parameters, R², rate, and the published n for shrinkage and for optimism (recurrent venous thromboembolism, part II,
# and the same with other inputs); the optimism n was computed after rounding events up, hence within 1.
VTE = [
    (30, 0.051, 0.065, 5143, 1039),
    (25, 0.051, 0.065, 4286, 866),
    (25, 0.065, 0.065, 3335, 859),
    (50, 0.051, 0.065, 8572, 1731),
    (25, 0.051, 0.1, 4286, 731),
]


@pytest.mark.parametrize("parameters, r2, rate, shrinkage, optimism", VTE)
def test_venous_thromboembolism_part_two(parameters, r2, rate, shrinkage, optimism):
    size = riley_sample_size("survival", parameters, event_rate=rate, mean_follow_up=2.07, horizon=2, r2_cs=r2)
    assert by_name(size)["shrinkage"] == size.n == shrinkage
    assert abs(by_name(size)["optimism"] - optimism) <= 1
    assert size.epv == pytest.approx(shrinkage * rate * 2.07 / parameters, rel=1e-12)


def test_epv_of_venous_thromboembolism_is_23():
    size = riley_sample_size("survival", 30, event_rate=0.065, mean_follow_up=2.07, horizon=2, r2_cs=0.051)
    assert round(size.epv, 2) == 23.07
    assert round(size.events) == 692
    assert round(size.max_r2_cs, 3) == 0.555


def test_maximum_r2():
    """Riley 2020, table: 0.33, 0.48, 0.63, 0.71, 0.75 for 5, 10, 20, 30 and 50 % (two decimals)."""
    published = {0.05: 0.33, 0.1: 0.48, 0.2: 0.63, 0.3: 0.71, 0.4: 0.74, 0.5: 0.75}
    assert {p: round(max_r2_cs_binary(p), 2) for p in published} == published
    assert max_r2_cs_survival(0.065, 2.07) == pytest.approx(max_r2_cs_survival(0.065 / 12, 2.07 * 12), rel=1e-12)


def test_default_r2_is_a_fraction_of_the_maximum():
    size = riley_sample_size("binary", 10, prevalence=0.3)
    assert size.r2_cs == pytest.approx(0.15 * max_r2_cs_binary(0.3), rel=1e-12)
    half = riley_sample_size("binary", 10, prevalence=0.3, r2_fraction=0.5)
    assert half.r2_cs == pytest.approx(0.5 * max_r2_cs_binary(0.3), rel=1e-12)
    assert half.n < size.n


def test_overall_survival_risk_meets_its_margin_and_one_patient_fewer_does_not():
    rate, follow_up, horizon, margin = 0.2, 3.0, 5.0, 0.05
    size = riley_sample_size("survival", 5, event_rate=rate, mean_follow_up=follow_up, horizon=horizon, r2_cs=0.3)
    n = by_name(size)["overall risk"]

    def widest(patients):
        reach = norm.ppf(0.975) * sqrt(rate / (patients * follow_up))
        risk, low, high = (1 - exp(-r * horizon) for r in (rate, rate - reach, rate + reach))
        return max(high - risk, risk - low)

    assert widest(n) <= margin < widest(n - 1)


def test_follow_up_in_months_or_years_is_the_same():
    years = riley_sample_size("survival", 8, event_rate=0.12, mean_follow_up=3, horizon=5)
    months = riley_sample_size("survival", 8, event_rate=0.01, mean_follow_up=36, horizon=60)
    assert by_name(years) == by_name(months)


def test_formulas_used_outside_their_range_say_so():
    notes = {c.name: c.note for c in riley_sample_size("binary", 40, prevalence=0.05).criteria}
    assert "40 parameters" in notes["mean absolute error"]
    assert "smaller class 0.05" in notes["mean absolute error"]
    assert riley_sample_size("binary", 20, prevalence=0.3).criteria[1].note == ""


def test_events_and_non_events_are_exchangeable():
    assert by_name(riley_sample_size("binary", 9, prevalence=0.2)) == by_name(
        riley_sample_size("binary", 9, prevalence=0.8)
    )
    assert (
        riley_sample_size("binary", 9, prevalence=0.8).epv_smaller < riley_sample_size("binary", 9, prevalence=0.8).epv
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.02, 0.5), st.floats(0.02, 0.9), st.floats(0.6, 0.97))
def test_expected_shrinkage_inverts_the_sample_size(parameters, prevalence, fraction, target):
    r2 = fraction * max_r2_cs_binary(prevalence)
    if r2 >= target:
        return
    n = parameters / ((target - 1) * log(1 - r2 / target))
    assert expected_shrinkage(n, parameters, r2) == pytest.approx(target, rel=1e-9)
    assert expected_shrinkage(2 * n, parameters, r2) > target


def test_shrinkage_at_the_required_n_is_the_target():
    size = riley_sample_size("binary", 12, prevalence=0.35)
    n = by_name(size)["shrinkage"]
    assert adequacy(n, round(0.35 * n), size).expected_shrinkage >= 0.9
    assert adequacy(n - 1, round(0.35 * n), size).expected_shrinkage < 0.9
    at = by_name(size)["optimism"]
    assert adequacy(at, round(0.35 * at), size).expected_optimism <= 0.05
    assert adequacy(at - 1, round(0.35 * at), size).expected_optimism > 0.05


def test_adequacy_counts_both_ways():
    size = riley_sample_size("binary", 8, prevalence=0.7)
    a = adequacy(100, 70, size)
    assert (a.epv, a.epv_smaller) == (70 / 8, 30 / 8)
    assert a.shortfall == size.n - 100
    assert a.exploratory
    enough = adequacy(size.n, size.n // 2, size)
    assert (enough.shortfall, enough.exploratory) == (0, False)


def test_few_patients_shrink_towards_nothing():
    assert 0.05 <= expected_shrinkage(3, 40, 0.05) < 0.06
    assert expected_shrinkage(1e12, 5, 0.05) == pytest.approx(1.0, abs=1e-9)


def test_undefined_is_refused():
    size = riley_sample_size("binary", 8, prevalence=0.3)
    with pytest.raises(NotEstimableError, match="0 events among 50"):
        adequacy(50, 0, size)
    with pytest.raises(NotEstimableError, match="50 events among 50"):
        adequacy(50, 50, size)
    with pytest.raises(InvalidInputError, match="0 <= events <= n"):
        adequacy(50, 51, size)
    with pytest.raises(InvalidInputError, match="whole numbers"):
        adequacy(50.5, 10, size)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "binary", "parameters": 5}, "needs `prevalence`"),
        ({"kind": "binary", "parameters": 5, "prevalence": 0.2, "horizon": 5}, "no event rate"),
        ({"kind": "binary", "parameters": 5, "prevalence": 1.0}, "prevalence must lie between"),
        ({"kind": "binary", "parameters": 0, "prevalence": 0.2}, "parameters must be a whole number"),
        ({"kind": "binary", "parameters": 2.5, "prevalence": 0.2}, "parameters must be a whole number"),
        ({"kind": "binary", "parameters": 5, "prevalence": 0.2, "r2_cs": 0.7}, "r2_cs 0.7 is impossible"),
        ({"kind": "binary", "parameters": 5, "prevalence": 0.2, "shrinkage": 1.0}, "shrinkage must lie"),
        ({"kind": "survival", "parameters": 5, "event_rate": 0.1}, "needs `event_rate`"),
        (
            {"kind": "survival", "parameters": 5, "event_rate": 0.1, "mean_follow_up": 36, "horizon": 60},
            "3.6 events per patient",
        ),
        ({"kind": "count", "parameters": 5}, "unknown kind 'count'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        riley_sample_size(**arguments)
