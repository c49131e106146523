"""Bad cells: each is refused with the line, the patient and what to do, or read in the documented way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLINIC_HEADER, built, clinic_rows, clinic_with, refused, survival_target
from numpy.testing import assert_array_equal

Change = Callable[[dict[str, Any]], None]


def _inputs(name: str, **keys: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["inputs"][name] |= keys

    return change


# Columns ----------------------------------------


def test_all_misspelt_columns_are_listed_with_the_line_that_asks(tmp_path: Path) -> None:
    rows, header = clinic_rows(), ("ID", "agee", "gender", "outcomes")
    message = refused(tmp_path, rows, header)
    assert message.startswith("4 columns not found in clinic.csv")
    assert "no column 'id' in clinic.csv. Did you mean 'ID'?" in message
    assert "no column 'age' in clinic.csv. Did you mean 'agee'?" in message
    assert "no column 'sex' in clinic.csv. Allowed: ID, agee, gender, outcomes." in message
    assert "no column 'outcome' in clinic.csv. Did you mean 'outcomes'?" in message
    assert message.count("study.yaml:") == 4


@pytest.mark.parametrize(
    "change, column",
    [
        (lambda d: d["inputs"].update(alp={"kind": "lab", "unit": "U/L", "available": "visit",
                                           "kit": {"low": "lo", "high": 9}}), "lo"),
        (lambda d: d["inputs"]["age"].update(table_unit={"column": "age_unit"}), "age_unit"),
        (lambda d: d["cohort"].update(site="centre"), "centre"),
        (lambda d: d["cohort"].update(row="visit"), "visit"),
        (lambda d: d["validation"].update(split={"kind": "holdout", "column": "part", "test": "x"}), "part"),
        (lambda d: d.update(target=survival_target(competing=["other"])), "other"),
    ],
)  # fmt: skip
def test_every_column_that_is_read_is_asked_for(tmp_path: Path, change: Change, column: str) -> None:
    assert f"no column {column!r} in clinic.csv." in refused(tmp_path, change=change)


# Numbers ----------------------------------------


@pytest.mark.parametrize(
    "text, said",
    [
        ('"12,5"', "'12,5': decimal commas and thousands separators are not read; write 1234.5"),
        ('"1,234.5"', "'1,234.5': decimal commas and thousands separators are not read"),
        ("1.234.567", "'1.234.567': decimal commas and thousands separators are not read"),
        ("1 234.5", "'1 234.5': decimal commas and thousands separators are not read"),
        ("inf", "'inf' is not a number; add it to `cohort.missing` if it means missing"),
        ("NaN", "'NaN' is not a number; add it to `cohort.missing`"),
        ("NA", "'NA' is not a number; add it to `cohort.missing`"),
        ("1e999", "'1e999' is not a finite number"),
        ("<5", "'<5' is a reporting limit; state a rule, e.g. `censored: {below: half}`"),
        (">2000", "'>2000' is a reporting limit; state a rule, e.g. `censored: {above: limit}`"),
        ("5 mg", "'5 mg' is not a number"),
        ("0x1F", "'0x1F' is not a number"),
        ("1_000", "'1_000' is not a number"),
        ("--5", "'--5' is not a number"),
        ("٣", "'٣' is not a number"),
        ("  ", "the cell is blank, and its text is not in `cohort.missing`"),
    ],
)
def test_cells_that_are_no_number(tmp_path: Path, text: str, said: str) -> None:
    message = refused(tmp_path, clinic_with(age=text))
    assert message.startswith("1 cell of clinic.csv cannot be used; nothing was fitted.")
    assert f"age: {said}" in message
    assert "line 4 (P02)" in message


@pytest.mark.parametrize(
    "text, value", [(" 41 ", 41.0), ("+4.5", 4.5), (".5", 0.5), ("5.", 5.0), ("1e-4", 1e-4), ("-3", -3.0), ("007", 7.0)]
)
def test_cells_that_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert built(tmp_path, clinic_with(age=text)).cohort.values["age"][2] == value


def test_impossible_values_are_refused_after_conversion(tmp_path: Path) -> None:
    rows = clinic_with(age="-3")
    rows[5][1] = "1500"
    message = refused(tmp_path, rows, change=_inputs("age", limits=[0, 110]))
    assert "age: -3 is outside the possible range 0 to 110: line 4 (P02)" in message
    assert "age: 1500 is outside the possible range 0 to 110: line 7 (P05)" in message
    months = built(tmp_path, clinic_with(age="1200"), change=_inputs("age", limits=[0, 110], table_unit="month"))
    assert months.cohort.values["age"][2] == pytest.approx(100.0, rel=1e-12)


@pytest.mark.parametrize(
    "text, rule, value",
    [("<5", {"below": "half"}, 2.5), ("<5", {"below": "limit"}, 5.0), ("≤ 5", {"below": "half"}, 2.5),
     (">2000", {"above": "limit"}, 2000.0), (">= 90", {"above": "limit"}, 90.0)],
)  # fmt: skip
def test_reporting_limits_by_a_stated_rule_are_counted(
    tmp_path: Path, text: str, rule: dict[str, str], value: float
) -> None:
    result = built(tmp_path, clinic_with(age=text), change=_inputs("age", censored=rule))
    assert result.cohort.values["age"][2] == value
    side = next(iter(rule))
    assert result.altered == {"age": {f"{side}: {rule[side]}": 1}}


def test_a_rule_for_one_side_does_not_cover_the_other(tmp_path: Path) -> None:
    message = refused(tmp_path, clinic_with(age=">90"), change=_inputs("age", censored={"below": "half"}))
    assert "'>90' is a reporting limit; state a rule" in message


def test_many_bad_cells_are_grouped(tmp_path: Path) -> None:
    rows = clinic_rows()
    for row in rows:
        row[1] = "old"
    rows[0][2] = "mael"
    message = refused(tmp_path, rows)
    assert message.startswith("13 cells of clinic.csv cannot be used")
    assert "age: 'old' is not a number: line 2 (P00), line 3 (P01), line 4 (P02) and 9 more" in message
    assert "sex: 'mael' is not one of ['male', 'female']; did you mean 'male'?: line 2 (P00)" in message


# Levels ----------------------------------------


@pytest.mark.parametrize(
    "text, said",
    [
        (" male", "' male' is not one of ['male', 'female']; it differs from 'male' only by blanks"),
        ("Male", "'Male' is not one of ['male', 'female']; did you mean 'male'?"),
        ("femal", "did you mean 'female'?"),
        ("x", "add it to `levels`, or to `cohort.missing` if it means missing"),
        (" ", "' ' is not one of ['male', 'female']; add it to `levels`, or to `cohort.missing`"),
    ],
)
def test_unknown_levels(tmp_path: Path, text: str, said: str) -> None:
    message = refused(tmp_path, clinic_with(sex=text))
    assert said in message
    assert "line 4 (P02)" in message


def test_none_is_a_level_and_a_level_outranks_a_missing_token(tmp_path: Path) -> None:
    rows = clinic_rows()
    for i, row in enumerate(rows):
        row[2] = ("None", "Yes")[i % 2]
    rows[2][2] = ""

    def change(data: dict[str, Any]) -> None:
        data["inputs"]["sex"]["levels"] = ["None", "Yes"]
        data["cohort"]["missing"] = ["", "None"]
        data["missing"] = "impute"

    sex = built(tmp_path, rows, change=change).cohort.values["sex"]
    assert np.isnan(sex[2])
    assert_array_equal(np.delete(sex, 2)[:4], [0, 1, 1, 0])


def test_grouped_levels(tmp_path: Path) -> None:
    rows = [[*row[:2], ("thigh", "calf", "arm")[i % 3], row[3]] for i, row in enumerate(clinic_rows())]

    def change(data: dict[str, Any]) -> None:
        data["inputs"]["sex"] = {
            "kind": "category", "levels": ["arm", "leg"], "groups": {"leg": ["thigh", "calf"]}, "available": "visit",
        }  # fmt: skip

    assert_array_equal(built(tmp_path, rows, change=change).cohort.values["sex"][:3], [1, 1, 0])


# Labs, units and kit ranges ----------------------------------------


LAB_HEADER = (*CLINIC_HEADER, "alp", "unit", "low", "high")


def _lab(**keys: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["inputs"]["alp"] = {"kind": "lab", "unit": "U/L", "available": "visit", **keys}
        data["predictors"]["clinical"]["inputs"].append("alp")

    return change


def _lab_rows(unit: str = "U/L", low: str = "40", high: str = "120") -> list[list[str]]:
    rows = [[*row, "100", "U/L", "40", "120"] for row in clinic_rows()]
    rows[2][5:] = [unit, low, high]
    return rows


def test_microkatal_is_converted(tmp_path: Path) -> None:
    for unit in ("µkat/L", "\u03bckat/L", "ukat/L"):
        result = built(tmp_path, _lab_rows(), LAB_HEADER, _lab(table_unit=unit))
        assert_array_equal(result.cohort.values["alp"], np.full(12, 6000.0))


def test_mixed_units_are_converted_row_by_row(tmp_path: Path) -> None:
    result = built(tmp_path, _lab_rows("µkat/L"), LAB_HEADER, _lab(table_unit={"column": "unit"}))
    expected = np.full(12, 100.0)
    expected[2] = 6000.0
    assert_array_equal(result.cohort.values["alp"], expected)


@pytest.mark.parametrize(
    "unit, said",
    [
        ("U/ml/h", "alp: column 'unit': unit 'U/ml/h' is not known, so it cannot be converted; "),
        ("mg/dL", "alp: column 'unit': 'mg/dL' is a mass concentration, 'U/L' a catalytic concentration"),
        ("", "alp: the value has no unit: column 'unit' is empty here"),
    ],
)
def test_a_row_whose_unit_cannot_be_used(tmp_path: Path, unit: str, said: str) -> None:
    message = refused(tmp_path, _lab_rows(unit), LAB_HEADER, _lab(table_unit={"column": "unit"}))
    assert said in message
    assert "line 4 (P02)" in message


def test_a_missing_value_needs_no_unit(tmp_path: Path) -> None:
    rows = _lab_rows("")
    rows[2][4] = ""
    result = built(tmp_path, rows, LAB_HEADER, _lab(table_unit={"column": "unit"}))
    assert [e.patient for e in result.cohort.exclusions] == ["P02"]


def test_the_schema_line_of_an_unknown_table_unit(tmp_path: Path) -> None:
    message = refused(tmp_path, _lab_rows(), LAB_HEADER, _lab(table_unit="U/LL"))
    assert "study.yaml:" in message
    assert "unit 'U/LL' is not known, so it cannot be converted\n  Did you mean 'U/L'?" in message


def test_kit_columns(tmp_path: Path) -> None:
    kit = {"kit": {"low": "low", "high": "high"}}
    low, high = built(tmp_path, _lab_rows(low="35"), LAB_HEADER, _lab(**kit)).cohort.kit["alp"]
    assert low[2] == 35
    assert_array_equal(high, np.full(12, 120.0))
    message = refused(tmp_path, _lab_rows(low="130"), LAB_HEADER, _lab(**kit))
    assert "alp: kit range 130 to 120: low is not below high: line 4 (P02)" in message
    message = refused(tmp_path, _lab_rows(high="120-130"), LAB_HEADER, _lab(**kit))
    assert "alp (kit, column high): '120-130' is not a number: line 4 (P02)" in message


def test_kit_bands(tmp_path: Path) -> None:
    def banded(*bands: dict[str, Any]) -> Change:
        return _lab(kit={"by": {"sex": "sex", "age": "age"}, "bands": list(bands)})

    male = {"sex": "male", "low": 50, "high": 130}
    girls = {"sex": "female", "age": [0, 37], "low": 40, "high": 110}
    low, high = built(tmp_path, _lab_rows(), LAB_HEADER, banded(male, girls)).cohort.kit["alp"]
    # Ages run from 30; females stand on odd rows; 37 is outside [0, 37).
    assert_array_equal(low[:8], [50, 40, 50, 40, 50, 40, 50, np.nan])
    assert_array_equal(high[:8], [130, 110, 130, 110, 130, 110, 130, np.nan])
    young = {"age": [0, 33], "low": 60, "high": 300}
    message = refused(tmp_path, _lab_rows(), LAB_HEADER, banded(male, young))
    assert "alp: two kit bands apply to this row: line 2 (P00), line 4 (P02)" in message


def _logged(data: dict[str, Any]) -> None:
    _lab(kit={"low": "low", "high": "high"})(data)
    data["predictors"]["clinical"]["terms"] = {"age": "log"}
    data["predictors"]["scaled"] = {
        "kind": "nomogram", "inputs": ["alp"], "terms": {"alp": "log"}, "encode": {"alp": "uln"},
    }  # fmt: skip
    data["missing"] = "impute"


def test_what_enters_as_a_logarithm_must_be_above_zero(tmp_path: Path) -> None:
    rows = _lab_rows(low="-9", high="-3")
    rows[2][1], rows[3][1], rows[4][1], rows[4][4], rows[5][4] = "0", "-2.5", "", "0", ""
    message = refused(tmp_path, rows, LAB_HEADER, _logged)
    assert message.startswith("4 cells of clinic.csv cannot be used")
    rule = "enters as a logarithm, so it must be above 0"
    assert f"age: 0 {rule}: line 4 (P02)" in message
    assert f"age: -2.5 {rule}: line 5 (P03)" in message
    assert f"alp: 0 {rule}: line 6 (P04)" in message
    assert f"alp: the upper kit limit -3 {rule}: line 4 (P02)" in message


def test_what_enters_linearly_may_be_zero(tmp_path: Path) -> None:
    values = built(tmp_path, clinic_with(age="0")).cohort.values["age"]
    assert values[2] == 0.0


def test_rows_of_a_patient_must_agree_in_kit_ranges_and_sites(tmp_path: Path) -> None:
    rows = [[*row, "north"] for row in _lab_rows()]
    rows.append([*rows[2][:6], "41", "120", "south"])

    def change(data: dict[str, Any]) -> None:
        _lab(kit={"low": "low", "high": "high"})(data)
        data["cohort"]["site"] = "site"

    message = refused(tmp_path, rows, (*LAB_HEADER, "site"), change)
    assert "differs from line 4 of the same patient in the lower kit limit of alp, site: line 14 (P02)" in message
