"""Chi-square and Fisher against R 4.2.2, brute force and scipy."""

import json
from itertools import product
from math import factorial, inf, prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact as scipy_fisher
from scipy.stats.contingency import odds_ratio

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.contingency import chi_square, fisher_exact

EXPECTED = json.loads((Path(__file__).parents[1] / "reference/r/out/g2_table1_tests.json").read_text())
TABLES = [
    pytest.param(variable, id=f"{study}-{name}")
    for study in ("birthwt_by_low", "aSAH_by_poor", "pbc_by_trt")
    for name, variable in EXPECTED[study].items()
    if "counts" in variable
]


@pytest.mark.parametrize("expected", TABLES)
def test_chi_square_matches_r(expected):
    table = np.array(expected["counts"])
    result = chi_square(table)
    reference = expected["chisq"]
    assert result.statistic == pytest.approx(reference["stat"], rel=1e-10)
    assert result.p == pytest.approx(reference["p"], rel=1e-10)
    assert result.df == reference["df"]
    assert result.min_expected == pytest.approx(reference["min_expected"], rel=1e-10)
    default = chi_square(table, yates=table.shape == (2, 2))
    assert default.statistic == pytest.approx(expected["chisq_default_yates_if_2x2"]["stat"], rel=1e-10)
    assert default.p == pytest.approx(expected["chisq_default_yates_if_2x2"]["p"], rel=1e-10)


@pytest.mark.parametrize("expected", TABLES)
def test_fisher_matches_r(expected):
    table = np.array(expected["counts"])
    result = fisher_exact(table)
    assert result.method == "exact"
    assert result.p == pytest.approx(expected["fisher_p"], rel=1e-7)
    if table.shape == (2, 2):
        # R solves for the odds ratio to about 1e-4 only (uniroot's default tolerance).
        assert result.odds_ratio == pytest.approx(expected["fisher_or_cmle"], rel=1e-3)
        assert [result.low, result.high] == pytest.approx(expected["fisher_or_ci"], rel=1e-3)
    assert fisher_exact(table.T).p == pytest.approx(result.p, rel=1e-9)


def by_brute_force(table):
    """Every table with these margins, in exact integers."""
    table = np.asarray(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)

    def weight(t):
        return prod(factorial(int(v)) for v in np.ravel(t))

    observed, fewer, total = weight(table), 0.0, 0.0
    for free in product(*(range(min(r, c) + 1) for r in rows[:-1] for c in columns[:-1])):
        t = np.zeros(table.shape, dtype=int)
        t[:-1, :-1] = np.reshape(free, (len(rows) - 1, len(columns) - 1))
        t[:-1, -1] = rows[:-1] - t[:-1].sum(axis=1)
        t[-1] = columns - t[:-1].sum(axis=0)
        if np.any(t < 0):
            continue
        total += 1 / weight(t)
        if weight(t) >= observed:
            fewer += 1 / weight(t)
    return fewer / total


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=9, max_size=9), st.sampled_from([(3, 3), (4, 2), (2, 4), (3, 2)]))
def test_fisher_equals_brute_force(cells, shape):
    table = np.reshape(cells[: shape[0] * shape[1]] + [1] * max(0, shape[0] * shape[1] - 9), shape)
    assume((table.sum(axis=1) > 0).all() and (table.sum(axis=0) > 0).all())
    assume(table.sum() <= 24)
    assert fisher_exact(table).p == pytest.approx(by_brute_force(table), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(0, 60)] * 4)
def test_two_by_two_equals_scipy(a, b, c, d):
    table = [[a, b], [c, d]]
    assume(min(a + b, c + d, a + c, b + d) > 0)
    result = fisher_exact(table)
    assert result.p == pytest.approx(scipy_fisher(table)[1], rel=1e-7)
    reference = odds_ratio(table)
    assert result.odds_ratio == pytest.approx(reference.statistic, rel=1e-6)
    interval = reference.confidence_interval(0.95)
    assert [result.low, result.high] == pytest.approx([interval.low, interval.high], rel=1e-6)


def test_empty_cells_give_infinite_odds():
    result = fisher_exact([[5, 0], [2, 6]])
    assert result.odds_ratio == inf
    assert result.high == inf
    assert 0 < result.low < inf
    assert fisher_exact([[0, 5], [6, 2]]).odds_ratio == 0.0


def test_empty_levels_carry_no_information():
    assert fisher_exact([[3, 7], [0, 0], [8, 2]]) == fisher_exact([[3, 7], [8, 2]])


def test_large_tables_are_drawn_with_a_seed_and_an_error():
    rng = np.random.default_rng(0)
    table = rng.multinomial(600, np.full(25, 1 / 25)).reshape(5, 5)
    result = fisher_exact(table, seed=3)
    assert result.method == "monte carlo"
    assert result.se == pytest.approx(np.sqrt(result.p * (1 - result.p) / 100_000), rel=1e-12)
    assert fisher_exact(table, seed=3) == result
    other = fisher_exact(table, seed=4)
    assert other.p != result.p
    assert abs(other.p - result.p) < 6 * result.se
    assert result.p == pytest.approx(chi_square(table).p, abs=0.05)


def test_a_table_that_could_be_exact_agrees_with_the_drawn_one():
    from osml.evaluation import contingency

    table = np.array([[37, 12], [20, 12], [3, 1], [8, 8], [14, 18]])
    drawn = contingency._monte_carlo(table, 1)
    assert abs(drawn.p - fisher_exact(table).p) < 5 * drawn.se


def test_only_the_margins_labels_are_arbitrary():
    table = np.array([[4, 9, 2], [7, 1, 5], [3, 3, 8]])
    p = fisher_exact(table).p
    for rows in ([2, 0, 1], [1, 2, 0]):
        assert fisher_exact(table[rows][:, rows[::-1]]).p == pytest.approx(p, rel=1e-10)
        assert chi_square(table[rows]).p == pytest.approx(chi_square(table).p, rel=1e-10)


@pytest.mark.parametrize("test", [chi_square, fisher_exact])
@pytest.mark.parametrize(
    "table, message",
    [
        ([[1.5, 2], [3, 4]], "whole numbers"),
        ([[-1, 2], [3, 4]], "whole numbers"),
        ([[np.nan, 2], [3, 4]], "whole numbers"),
        ([1, 2], "two dimensions"),
        ([["a", "b"], ["c", "d"]], "must hold numbers"),
    ],
)
def test_bad_tables_are_refused(test, table, message):
    with pytest.raises(InvalidInputError, match=message):
        test(table)


def test_undefined_tests_are_refused():
    with pytest.raises(NotEstimableError, match="rows sum to"):
        chi_square([[0, 0], [3, 4]])
    with pytest.raises(NotEstimableError, match="1 x 2"):
        fisher_exact([[0, 0], [3, 4]])
    with pytest.raises(NotEstimableError, match="no patient"):
        fisher_exact([[0, 0], [0, 0]])
    with pytest.raises(InvalidInputError, match="2 x 2"):
        chi_square([[1, 2], [3, 4], [5, 6]], yates=True)
    with pytest.raises(InvalidInputError, match="level"):
        fisher_exact([[1, 2], [3, 4]], level=1.0)
