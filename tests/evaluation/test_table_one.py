"""Baseline table: the rule picks the right test, cells and differences match R, nothing is hidden."""

import json
import re
from math import inf, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.table_one import format_p, smd_category, smd_number, table_one

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
EXPECTED = json.loads((REFERENCE / "out" / "g2_table1_tests.json").read_text())


def studies():
    pbc = pd.read_csv(REFERENCE / "data" / "pbc.csv").dropna(subset="trt")
    yield "birthwt_by_low", pd.read_csv(REFERENCE / "data" / "birthwt.csv"), "low"
    yield "aSAH_by_poor", pd.read_csv(REFERENCE / "data" / "aSAH.csv"), "poor"
    yield "pbc_by_trt", pbc, "trt"


@pytest.mark.parametrize("study, frame, by", list(studies()), ids=lambda v: v if isinstance(v, str) else "")
def test_rule_and_p_match_r(study, frame, by):
    expected = EXPECTED[study]
    kinds = {name: "category" if "counts" in e else "number" for name, e in expected.items()}
    table = table_one(frame, kinds, by=by)
    first = {row.variable: row for row in table.rows if row.missing is not None}
    assert list(first) == list(expected)
    for name, e in expected.items():
        row = first[name]
        if "counts" in e:
            usual = e["chisq"]["min_expected"] >= 5
            assert row.test == ("chi-square" if usual else "Fisher")
            reference = e["chisq"]["p"] if usual else e["fisher_p"]
            assert row.p == pytest.approx(reference, rel=1e-10 if usual else 1e-7)
            cells = [r for r in table.rows if r.variable == name]
            assert [[int(c.split()[0]) for c in r.groups] for r in cells] == e["counts"]
        else:
            normal = min(e["shapiro0"]["p"], e["shapiro1"]["p"]) >= 0.05
            assert row.test == ("Welch t" if normal else "Mann-Whitney (normal)")
            reference = e["welch"]["p"] if normal else e["mannwhitney_default"]["p"]
            assert row.p == pytest.approx(reference, rel=1e-10)
            assert row.smd == pytest.approx(abs(e["smd"]), rel=1e-10)
            assert row.missing == int(frame[name].isna().sum())
            for cell, group in zip(row.groups, (e["g0"], e["g1"]), strict=True):
                keys = ("mean", "sd") if normal else ("median", "q1", "q3")
                printed = re.findall(r"-?\d+\.?\d*", cell)
                for text, key in zip(printed, keys, strict=True):
                    half_digit = 0.5 * 10.0 ** -len(text.partition(".")[2])
                    assert float(text) == pytest.approx(group[key], abs=1.001 * half_digit)


def test_smd_of_numbers_has_the_sign_of_second_minus_first():
    frame = pd.read_csv(REFERENCE / "data" / "birthwt.csv")
    value = smd_number(frame.age[frame.low == 0], frame.age[frame.low == 1])
    assert value == pytest.approx(EXPECTED["birthwt_by_low"]["age"]["smd"], rel=1e-10)


@settings(max_examples=50, deadline=None)
@given(*[st.integers(1, 40)] * 4)
def test_smd_of_two_levels_is_austins(a, b, c, d):
    p, q = b / (a + b), d / (c + d)
    expected = abs(p - q) / sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert smd_category([a, b], [c, d]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=3, max_size=5), st.data())
def test_smd_of_levels_is_the_mahalanobis_distance_without_one_level(first, data):
    second = data.draw(st.lists(st.integers(1, 30), min_size=len(first), max_size=len(first)))
    p, q = np.array(first) / sum(first), np.array(second) / sum(second)
    s = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    d = (p - q)[1:]
    expected = sqrt(max(0.0, d @ np.linalg.solve(s[1:, 1:], d)))
    assert smd_category(first, second) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_smd_edges():
    assert smd_category([5, 0], [0, 7]) == inf
    assert smd_category([5, 0, 3], [2, 0, 9]) == pytest.approx(smd_category([5, 3], [2, 9]), rel=1e-9)
    assert smd_category([4, 8], [2, 4]) == pytest.approx(0, abs=1e-7)
    assert smd_number([1, 1], [1, 1]) == 0
    assert smd_number([1, 1], [2, 2]) == inf
    with pytest.raises(NotEstimableError, match="2 values"):
        smd_number([1], [1, 2])
    with pytest.raises(NotEstimableError, match="no patient"):
        smd_category([0, 0], [1, 2])
    with pytest.raises(InvalidInputError, match="finite"):
        smd_number([1, np.nan], [1, 2])


FRAME = pd.DataFrame(
    {
        "age": [50.0, 61, np.nan, 47, 55, 66, 71, 58],
        "stage": ["II", "I", "I", "III", None, "II", "III", "III"],
        "all_missing": [np.nan] * 8,
        "constant": [1.0] * 8,
        "site": list("aabbccca"),
        "dead": [True, False, False, True, True, False, True, False],
    }
)


def test_missing_values_are_counted_and_left_out():
    table = table_one(FRAME, {"age": "number", "stage": "category"}, by="dead")
    assert table.groups == ("False", "True")
    assert table.sizes == (4, 4)
    age, *stages = table.rows
    assert (age.missing, stages[0].missing, stages[1].missing) == (1, 1, None)
    assert [s.level for s in stages] == ["I", "II", "III"]
    assert stages[0].overall == "2 (28.6%)"
    assert stages[0].groups == ("2 (50.0%)", "0 (0.0%)")
    assert stages[0].test == "Fisher"


def test_what_cannot_be_tested_says_why():
    table = table_one(FRAME, {"all_missing": "number", "constant": "number"}, by="dead")
    missing, constant = table.rows
    assert (missing.overall, missing.groups, missing.p) == ("–", ("–", "–"), None)
    assert missing.test == "none: no value in 2 groups"
    assert constant.p is None
    assert "all 8 values are equal" in constant.test
    assert constant.smd == 0
    one = table_one(FRAME.assign(sex="f"), {"sex": "category"}, by="dead").rows[0]
    assert (one.p, one.test, one.overall) == (None, "none: one level only", "8 (100.0%)")


def test_three_groups():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=90), "skew": rng.exponential(size=90), "g": np.tile(["a", "b", "c"], 30)}
    )
    frame["level"] = rng.integers(0, 3, 90)
    table = table_one(frame, {"x": "number", "skew": "number", "level": "category"}, by="g")
    assert [row.test for row in table.rows] == ["Welch ANOVA", "Kruskal-Wallis", "chi-square", "", ""]
    a, b, c = (frame.x[frame.g == k] for k in "abc")
    expected = np.mean([abs(smd_number(*pair)) for pair in ((a, b), (a, c), (b, c))])
    assert table.rows[0].smd == pytest.approx(expected, rel=1e-12)


def test_overall_only_has_no_tests():
    table = table_one(FRAME, {"age": "number", "stage": "category"})
    assert table.groups == ()
    assert all(row.p is None and row.smd is None and row.test == "" for row in table.rows)
    assert list(table.to_frame().columns) == ["Variable", "Level", "Missing", "Overall (n = 8)"]


def test_order_of_levels_and_groups():
    table = table_one(
        FRAME, {"stage": "category"}, by="site", levels={"stage": ["III", "II", "I", "0"], "site": ["c", "b", "a"]}
    )
    assert [row.level for row in table.rows] == ["III", "II", "I", "0"]
    assert table.groups == ("c", "b", "a")
    assert table.rows[3].overall == "0 (0.0%)"


def test_printed_form_carries_the_rule_and_survives_csv(tmp_path):
    table = table_one(FRAME, {"age": "number", "stage": "category"}, by="dead")
    text = str(table)
    assert "chi-square test without continuity correction" in " ".join(text.split())
    assert "not adjusted" in text
    frame = table.to_frame()
    assert list(frame.columns) == [
        "Variable", "Level", "Missing", "Overall (n = 8)", "False (n = 4)", "True (n = 4)", "p", "Test", "SMD",
    ]  # fmt: skip
    frame.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert again.equals(frame)
    assert frame.Variable.tolist() == ["age", "stage", "", ""]


def test_p_is_never_printed_as_zero_or_one():
    assert [format_p(p) for p in (0.0, 1e-30, 0.0005, 0.05, 1.0, None)] == [
        "<0.001",
        "<0.001",
        "<0.001",
        "0.050",
        ">0.999",
        "",
    ]


@pytest.mark.parametrize(
    "kinds, options, message",
    [
        ({"weight": "number"}, {}, "no column 'weight'"),
        ({"stage": "number"}, {}, "number 'stage' holds text"),
        ({"age": "date"}, {}, "has kind 'date'"),
        ({"stage": "category"}, {"levels": {"stage": ["I", "II"]}}, r"holds \['III'\]"),
        ({"age": "number"}, {"by": "stage"}, "1 of 8 patients have no value of 'stage'"),
        ({"dead": "category"}, {"by": "dead"}, "cannot be a row as well"),
    ],
)
def test_bad_requests_are_refused(kinds, options, message):
    with pytest.raises(InvalidInputError, match=message):
        table_one(FRAME, kinds, **options)


def test_one_group_or_nobody_is_refused():
    with pytest.raises(NotEstimableError, match="there are no groups"):
        table_one(FRAME.assign(dead=0), {"age": "number"}, by="dead")
    with pytest.raises(InvalidInputError, match="no patient"):
        table_one(FRAME.iloc[:0], {"age": "number"})


@pytest.mark.full
def test_smd_matches_tableone():
    from tableone import TableOne as Peer

    frame = pd.read_csv(REFERENCE / "data" / "birthwt.csv")
    peer = Peer(frame, columns=["age", "lwt", "race"], categorical=["race"], groupby="low", smd=True)
    column = peer.tableone[("Grouped by low", "SMD (0,1)")]
    table = table_one(frame, {"age": "number", "lwt": "number", "race": "category"}, by="low")
    ours = {row.variable: row.smd for row in table.rows if row.smd is not None}
    for name, smd in ours.items():
        printed = next(float(v) for key, v in column.items() if key[0].startswith(name) and v != "")
        assert abs(printed) == pytest.approx(smd, abs=6e-4)
