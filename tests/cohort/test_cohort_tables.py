"""Bad tables: each is refused with the line, the patient and what to do, or read in the documented way."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers import CLINIC_HEADER, built, clinic_rows, study, survival_target, write_csv_table
from numpy.testing import assert_array_equal
from openpyxl import Workbook

from osml.cohort.build import read_cohort
from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.cohort.table import read_table
from osml.errors import TableError

Change = Callable[[dict[str, Any]], None]


def _refused(folder: Path, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(TableError) as caught:
        built(folder, *args, **kwargs)
    return str(caught.value)


def _rows(**cells: str) -> list[list[str]]:
    """Clinic rows with `column=text` written into the third row (line 4, patient P02)."""
    rows = clinic_rows()
    for column, text in cells.items():
        rows[2][CLINIC_HEADER.index(column)] = text
    return rows


def _inputs(name: str, **keys: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["inputs"][name] |= keys

    return change


def _read(folder: Path, raw: bytes | str, name: str = "t.csv", **kwargs: Any) -> Any:
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return read_table(path, **kwargs)


# Text files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw, said, advice",
    [
        ("id,name\n1,Café\n".encode("latin-1"), "t.csv:2: byte 0xe9 is not UTF-8", "CSV UTF-8"),
        ("id,x\n1,2\n".encode("utf-16"), "t.csv is UTF-16", "CSV UTF-8"),
        (b"id,x\n1,a\x00b\n", "t.csv:2: the file holds NUL bytes", ""),
        (b"id,x,x\n1,2,3\n", "the heading 'x' stands twice", "Rename one"),
        (b"id,x, x\n1,2,3\n", "the heading 'x' stands twice", "Rename one"),
        (b"id,,x\n1,2,3\n", "column 2 has no heading", "Name or remove it"),
        (b"id,x\n1,2\n3\n4,5,6\n", "2 rows of t.csv have too many or too few cells",
         "t.csv:3: 1 cells, the header has 2"),
        (b"", "t.csv is empty", ""),
        (b"\n \n", "t.csv is empty", ""),
        (b"id,x\n", "t.csv has a header but no rows", ""),
        (b"id;x\n1;2,5\n", "seems to be separated by semicolons", "Set `cohort.delimiter: \";\"`. Decimal commas"),
        (b"id\tx\n1\t2\n", "seems to be separated by tabs", 'Set `cohort.delimiter: "\\t"`'),
        (b'id,x\n1,"a\n2,b\n', "unexpected end of data", "A quote may be unbalanced"),
        (b'id,x\n1,"a"b\n', "t.csv:2:", "A quote may be unbalanced"),
    ],
)  # fmt: skip
def test_files_that_are_no_table(tmp_path: Path, raw: bytes, said: str, advice: str) -> None:
    with pytest.raises(TableError) as caught:
        _read(tmp_path, raw)
    assert said in str(caught.value)
    assert advice in str(caught.value)


def test_the_advised_delimiters_work_in_a_schema(tmp_path: Path) -> None:
    from osml.schema.document import read_document

    for raw, text in ((b"id;x\n1;2\n", '";"'), (b"id\tx\n1\t2\n", '"\\t"')):
        delimiter = read_document(f"delimiter: {text}", "s").data["delimiter"]
        assert _read(tmp_path, raw, delimiter=delimiter).columns == ("id", "x")


def test_no_file_and_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"no table at .*none.csv\n.*relative to the YAML"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"tables of kind '.xls' are not read\n  Save it as .csv"):
        _read(tmp_path, b"x", name="t.xls")
    with pytest.raises(TableError, match=r"tables of kind '\(no ending\)' are not read"):
        _read(tmp_path, b"x", name="t")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_blank_lines_and_line_ends_are_fine(tmp_path: Path, end: str) -> None:
    text = end.join(["id,x", "", "1,a", "  ", ",", "2,b", ""])
    table = _read(tmp_path, b"\xef\xbb\xbf" + text.encode())
    assert table.columns == ("id", "x")
    assert table.rows == (("1", "a"), ("2", "b"))
    assert table.lines == (3, 6)


def test_cells_are_kept_exactly(tmp_path: Path) -> None:
    table = _read(tmp_path, 'id,x\n007, NA \n7,"a\nb, ""c"""\n8,None\n')
    assert table.column("id") == ["007", "7", "8"]
    assert table.column("x") == [" NA ", 'a\nb, "c"', "None"]
    assert table.lines == (2, 3, 5)
    assert [table.where(i) for i in range(3)] == ["t.csv:2", "t.csv:3", "t.csv:5"]


def test_tab_separated(tmp_path: Path) -> None:
    assert _read(tmp_path, "id\tx\n1\ta,b\n", name="t.tsv").rows == (("1", "a,b"),)


# Columns -------------------------------------------------------------------------------------------------------------


def test_all_misspelt_columns_are_listed_with_the_line_that_asks(tmp_path: Path) -> None:
    rows, header = clinic_rows(), ("ID", "agee", "gender", "outcomes")
    message = _refused(tmp_path, rows, header)
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
    assert f"no column {column!r} in clinic.csv." in _refused(tmp_path, change=change)


# Numbers -------------------------------------------------------------------------------------------------------------


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
    message = _refused(tmp_path, _rows(age=text))
    assert message.startswith("1 cell of clinic.csv cannot be used; nothing was fitted.")
    assert f"age: {said}" in message
    assert "line 4 (P02)" in message


@pytest.mark.parametrize(
    "text, value", [(" 41 ", 41.0), ("+4.5", 4.5), (".5", 0.5), ("5.", 5.0), ("1e-4", 1e-4), ("-3", -3.0), ("007", 7.0)]
)
def test_cells_that_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert built(tmp_path, _rows(age=text)).cohort.values["age"][2] == value


def test_impossible_values_are_refused_after_conversion(tmp_path: Path) -> None:
    rows = _rows(age="-3")
    rows[5][1] = "1500"
    message = _refused(tmp_path, rows, change=_inputs("age", limits=[0, 110]))
    assert "age: -3 is outside the possible range 0 to 110: line 4 (P02)" in message
    assert "age: 1500 is outside the possible range 0 to 110: line 7 (P05)" in message
    months = built(tmp_path, _rows(age="1200"), change=_inputs("age", limits=[0, 110], table_unit="month"))
    assert months.cohort.values["age"][2] == pytest.approx(100.0, rel=1e-12)


@pytest.mark.parametrize(
    "text, rule, value",
    [("<5", {"below": "half"}, 2.5), ("<5", {"below": "limit"}, 5.0), ("≤ 5", {"below": "half"}, 2.5),
     (">2000", {"above": "limit"}, 2000.0), (">= 90", {"above": "limit"}, 90.0)],
)  # fmt: skip
def test_reporting_limits_by_a_stated_rule_are_counted(
    tmp_path: Path, text: str, rule: dict[str, str], value: float
) -> None:
    result = built(tmp_path, _rows(age=text), change=_inputs("age", censored=rule))
    assert result.cohort.values["age"][2] == value
    side = next(iter(rule))
    assert result.altered == {"age": {f"{side}: {rule[side]}": 1}}


def test_a_rule_for_one_side_does_not_cover_the_other(tmp_path: Path) -> None:
    message = _refused(tmp_path, _rows(age=">90"), change=_inputs("age", censored={"below": "half"}))
    assert "'>90' is a reporting limit; state a rule" in message


def test_many_bad_cells_are_grouped(tmp_path: Path) -> None:
    rows = clinic_rows()
    for row in rows:
        row[1] = "old"
    rows[0][2] = "mael"
    message = _refused(tmp_path, rows)
    assert message.startswith("13 cells of clinic.csv cannot be used")
    assert "age: 'old' is not a number: line 2 (P00), line 3 (P01), line 4 (P02) and 9 more" in message
    assert "sex: 'mael' is not one of ['male', 'female']; did you mean 'male'?: line 2 (P00)" in message


# Levels --------------------------------------------------------------------------------------------------------------


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
    message = _refused(tmp_path, _rows(sex=text))
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


# Labs, units and kit ranges ------------------------------------------------------------------------------------------

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
    message = _refused(tmp_path, _lab_rows(unit), LAB_HEADER, _lab(table_unit={"column": "unit"}))
    assert said in message
    assert "line 4 (P02)" in message


def test_a_missing_value_needs_no_unit(tmp_path: Path) -> None:
    rows = _lab_rows("")
    rows[2][4] = ""
    result = built(tmp_path, rows, LAB_HEADER, _lab(table_unit={"column": "unit"}))
    assert [e.patient for e in result.cohort.exclusions] == ["P02"]


def test_the_schema_line_of_an_unknown_table_unit(tmp_path: Path) -> None:
    message = _refused(tmp_path, _lab_rows(), LAB_HEADER, _lab(table_unit="U/LL"))
    assert "study.yaml:" in message
    assert "unit 'U/LL' is not known, so it cannot be converted\n  Did you mean 'U/L'?" in message


def test_kit_columns(tmp_path: Path) -> None:
    kit = {"kit": {"low": "low", "high": "high"}}
    low, high = built(tmp_path, _lab_rows(low="35"), LAB_HEADER, _lab(**kit)).cohort.kit["alp"]
    assert low[2] == 35
    assert_array_equal(high, np.full(12, 120.0))
    message = _refused(tmp_path, _lab_rows(low="130"), LAB_HEADER, _lab(**kit))
    assert "alp: kit range 130 to 120: low is not below high: line 4 (P02)" in message
    message = _refused(tmp_path, _lab_rows(high="120-130"), LAB_HEADER, _lab(**kit))
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
    message = _refused(tmp_path, _lab_rows(), LAB_HEADER, banded(male, young))
    assert "alp: two kit bands apply to this row: line 2 (P00), line 4 (P02)" in message


# Outcomes ------------------------------------------------------------------------------------------------------------


def _outcomes(*texts: str) -> list[list[str]]:
    return [[*row[:3], texts[i % len(texts)]] for i, row in enumerate(clinic_rows())]


@pytest.mark.parametrize(
    "rows, said, advice",
    [
        (_outcomes("no"), "column 'outcome' never holds the positive value 'yes'; its values: ['no']", ""),
        (_outcomes("Yes", "No"), "never holds the positive value 'yes'; did you mean 'Yes'?", ""),
        (_outcomes("yes"), "only 0 of 12 patients have no event", "`target.positive` is 'yes'"),
        (_outcomes(""), "never holds the positive value 'yes'; its values: []", ""),
        (_outcomes("yes", "no", "maybe"), "outcome 'outcome' has 3 values besides missing: ['yes', 'no', 'maybe']",
         "Set `negative:` in the target, or mark the others as missing"),
        (_outcomes("yes", *["no"] * 11), "only 1 of 12 patients have the event: nothing can be learnt", ""),
        (_outcomes("no", *["yes"] * 11), "only 1 of 12 patients have no event", ""),
    ],
)  # fmt: skip
def test_outcomes_that_cannot_be_used(tmp_path: Path, rows: list[list[str]], said: str, advice: str) -> None:
    message = _refused(tmp_path, rows)
    assert said in message
    assert advice in message


def test_a_third_outcome_beside_a_stated_negative_is_refused_by_row(tmp_path: Path) -> None:
    rows = _rows(outcome="maybe")
    message = _refused(tmp_path, rows, change=lambda d: d["target"].update(negative="no"))
    assert "outcome: 'maybe' is neither 'yes' nor 'no': line 4 (P02)" in message


def test_patients_without_outcome_are_excluded_and_named(tmp_path: Path) -> None:
    result = built(tmp_path, _rows(outcome=""))
    assert len(result.cohort) == 11
    assert [(e.patient, e.reason, e.where) for e in result.cohort.exclusions] == [("P02", "no outcome", "clinic.csv:4")]
    assert result.rows == 12
    outcome = result.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    assert (outcome.positive, outcome.negative, int(outcome.event.sum())) == ("yes", "no", 3)


def test_patients_without_an_input_are_excluded_or_kept_for_imputation(tmp_path: Path) -> None:
    rows = _rows(age="")
    excluded = built(tmp_path, rows).cohort
    assert [(e.patient, e.reason) for e in excluded.exclusions] == [("P02", "age missing (complete_case)")]
    kept = built(tmp_path, rows, change=lambda d: d.update(missing="impute")).cohort
    assert (len(kept), kept.exclusions) == (12, ())
    assert np.isnan(kept.values["age"][2])
    unused = built(tmp_path, rows, change=lambda d: d["predictors"]["clinical"].update(inputs=["sex"])).cohort
    assert len(unused) == 12


def test_an_input_that_is_missing_everywhere_leaves_nobody(tmp_path: Path) -> None:
    rows = [[row[0], "", *row[2:]] for row in clinic_rows()]
    message = _refused(tmp_path, rows)
    assert "no patient of clinic.csv is left: all were excluded" in message
    assert "Reasons: age missing (complete_case)." in message


# Survival ------------------------------------------------------------------------------------------------------------

SURVIVAL_HEADER = ("id", "age", "sex", "months", "died", "relapse")


def _survival_rows(**cells: str) -> list[list[str]]:
    rows = [
        [*row[:3], str(3 * i + 2), str(int(i % 3 == 0)), str(int(i % 3 == 1))] for i, row in enumerate(clinic_rows())
    ]
    for column, text in cells.items():
        rows[2][SURVIVAL_HEADER.index(column)] = text
    return rows


def _survival(**keys: Any) -> Change:
    return lambda data: data.update(target=survival_target(**keys))


def test_survival_outcome(tmp_path: Path) -> None:
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival()).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert_array_equal(outcome.time, 3.0 * np.arange(12) + 2)
    assert_array_equal(outcome.event, np.arange(12) % 3 == 0)
    assert (outcome.unit, outcome.horizons, outcome.competing) == ("month", (12.0,), None)


@pytest.mark.parametrize("text", ["0", "-3"])
def test_follow_up_must_be_above_zero(tmp_path: Path, text: str) -> None:
    message = _refused(tmp_path, _survival_rows(months=text), SURVIVAL_HEADER, _survival())
    assert f"months: follow-up of {text} months: a patient at risk has a time above 0" in message
    assert "line 4 (P02)" in message


@pytest.mark.parametrize("cell", [{"months": ""}, {"died": ""}])
def test_patients_without_time_or_event_are_excluded(tmp_path: Path, cell: dict[str, str]) -> None:
    cohort = built(tmp_path, _survival_rows(**cell), SURVIVAL_HEADER, _survival()).cohort
    assert [(e.patient, e.reason) for e in cohort.exclusions] == [("P02", "no outcome")]


def test_horizons_beyond_follow_up(tmp_path: Path) -> None:
    message = _refused(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(horizons=[12, 60]))
    assert "horizons 60 lie beyond the longest follow-up (35 months)" in message
    assert "Choose horizons that patients have been followed to." in message
    message = _refused(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(horizons=[12, 30], censor_at=24))
    assert "horizons 30 lie beyond the longest follow-up (24 months)" in message


def test_administrative_censoring(tmp_path: Path) -> None:
    change = _survival(censor_at=20, competing=["relapse"])
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, change).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    time, number = 3.0 * np.arange(12) + 2, np.arange(12)
    assert_array_equal(outcome.time, np.minimum(time, 20))
    assert_array_equal(outcome.event, (number % 3 == 0) & (time <= 20))
    assert outcome.competing is not None
    assert_array_equal(outcome.competing, (number % 3 == 1) & (time <= 20))


def test_competing_events_are_marked(tmp_path: Path) -> None:
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(competing=["relapse"])).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert outcome.competing is not None
    assert_array_equal(outcome.competing, np.arange(12) % 3 == 1)


def test_a_third_event_code_needs_a_statement(tmp_path: Path) -> None:
    message = _refused(tmp_path, _survival_rows(died="2"), SURVIVAL_HEADER, _survival())
    assert "outcome 'died' has 3 values besides missing" in message


def test_one_event_is_not_enough(tmp_path: Path) -> None:
    rows = [[*row[:4], str(int(i == 4)), row[5]] for i, row in enumerate(_survival_rows())]
    message = _refused(tmp_path, rows, SURVIVAL_HEADER, _survival())
    assert "only 1 of 12 patients have the event: nothing can be learnt" in message


# Rows and patients ---------------------------------------------------------------------------------------------------


def test_ids_keep_their_zeros(tmp_path: Path) -> None:
    rows = clinic_rows()
    rows[2][0], rows[3][0] = "007", "7"
    assert built(tmp_path, rows).cohort.patient_ids[2:4] == ("007", "7")


@pytest.mark.parametrize(
    "text, said", [("", "the patient id is empty"), ("  ", "the patient id is empty"),
                   ("P02 ", "the patient id 'P02 ' has blanks around it: one patient could count as two")]
)  # fmt: skip
def test_ids_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    message = _refused(tmp_path, _rows(id=text))
    assert f"id: {said}: line 4" in message


def test_duplicate_and_contradictory_rows(tmp_path: Path) -> None:
    rows = clinic_rows()
    rows.append(list(rows[2]))
    rows.append([rows[3][0], "77", rows[3][2], "yes"])
    message = _refused(tmp_path, rows)
    assert "row: this row repeats line 4; keep one: line 14 (P02)" in message
    assert "row: differs from line 5 of the same patient in age, the outcome: line 15 (P03)" in message


def test_rows_of_a_patient_that_agree_where_it_matters_are_one_patient(tmp_path: Path) -> None:
    rows = [[*row, "a"] for row in clinic_rows()]
    rows.append([*rows[2][:4], "b"])
    result = built(tmp_path, rows, (*CLINIC_HEADER, "note"))
    assert (len(result.cohort), result.rows) == (12, 13)


def test_rows_of_a_patient_must_agree_in_kit_ranges_and_sites(tmp_path: Path) -> None:
    rows = [[*row, "north"] for row in _lab_rows()]
    rows.append([*rows[2][:6], "41", "120", "south"])

    def change(data: dict[str, Any]) -> None:
        _lab(kit={"low": "low", "high": "high"})(data)
        data["cohort"]["site"] = "site"

    message = _refused(tmp_path, rows, (*LAB_HEADER, "site"), change)
    assert "differs from line 4 of the same patient in the lower kit limit of alp, site: line 14 (P02)" in message


def test_prediction_per_row(tmp_path: Path) -> None:
    rows = [[*row, f"v{i}"] for i, row in enumerate(clinic_rows())]
    rows.append([*rows[2][:1], "50", "male", "yes", "v12"])

    def change(data: dict[str, Any]) -> None:
        data["cohort"]["row"] = "visit"

    header = (*CLINIC_HEADER, "visit")
    cohort = built(tmp_path, rows, header, change).cohort
    assert (len(cohort), len(cohort.patient_ids), cohort.per_row) == (13, 12, True)
    assert cohort.units[-1] == "v12"
    assert cohort.patients[-1] == "P02"
    rows[5][4] = "v3"
    message = _refused(tmp_path, rows, header, change)
    assert "visit: row id 'v3' stands on line 5 too: line 7 (P05)" in message


# Spreadsheets and Parquet --------------------------------------------------------------------------------------------


def _book(folder: Path, rows: list[list[Any]], title: str = "patients") -> tuple[Workbook, Path]:
    book = Workbook()
    page = book.active
    assert page is not None
    page.title = title
    for row in rows:
        page.append(row)
    path = folder / "t.xlsx"
    book.save(path)
    return book, path


def test_spreadsheet_cells(tmp_path: Path) -> None:
    day = datetime.datetime(2021, 5, 31)
    rows = [["id", "x", "seen", "ok", "note"], [1, 12.0, day, True, "007"], [2, 1.5, None, False, " 4 "], [], [3]]
    _, path = _book(tmp_path, rows)
    table = read_table(path)
    assert table.columns == ("id", "x", "seen", "ok", "note")
    assert table.rows == (
        ("1", "12", "2021-05-31", "TRUE", "007"), ("2", "1.5", "", "FALSE", " 4 "), ("3", "", "", "", ""),
    )  # fmt: skip
    assert table.lines == (2, 3, 5)


def test_several_sheets_must_be_named(tmp_path: Path) -> None:
    book, path = _book(tmp_path, [["id"], [1]])
    book.create_sheet("labs").append(["id"])
    book["labs"].append([2])
    book.save(path)
    with pytest.raises(TableError, match=r"t.xlsx has several sheets: patients, labs\n  Name one in `cohort.sheet`"):
        read_table(path)
    assert read_table(path, sheet="labs").rows == (("2",),)
    with pytest.raises(TableError, match=r"has no sheet 'lab'\n  Did you mean 'labs'\?"):
        read_table(path, sheet="lab")


def test_merged_cells_and_formulas_without_values(tmp_path: Path) -> None:
    book, path = _book(tmp_path, [["id", "x"], [1, 2], [3, "=A2*2"]])
    with pytest.raises(TableError, match=r"the formula in cell B3 has no stored value\n.*read as an empty cell"):
        read_table(path)
    book["patients"]["B3"] = 4
    book["patients"].merge_cells("A2:A3")
    book.save(path)
    with pytest.raises(TableError, match=r"merged cells at A2:A3\n  Unmerge them"):
        read_table(path)


def test_spreadsheets_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"t.xlsx is not a readable XLSX file"):
        _read(tmp_path, b"not a zip file", name="t.xlsx")
    _, path = _book(tmp_path, [["id", "x"], [1, 2, 3]])
    with pytest.raises(TableError, match=r"t.xlsx:2: a cell stands beyond the last heading: '3'"):
        read_table(path)
    _, path = _book(tmp_path, [])
    with pytest.raises(TableError, match=r"t.xlsx is empty"):
        read_table(path)
    _, path = _book(tmp_path, [["id", "x"]])
    with pytest.raises(TableError, match="has a header but no rows"):
        read_table(path)


def test_parquet_cells(tmp_path: Path) -> None:
    columns = {
        "id": pyarrow.array([1, None, 3], pyarrow.int64()),
        "x": pyarrow.array([1.0, float("nan"), 0.1]),
        "sex": pyarrow.array(["male", "female", None]).dictionary_encode(),
        "seen": pyarrow.array([datetime.date(2021, 5, 31), None, None]),
        "ok": pyarrow.array([True, False, None]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.rows == (
        ("1", "1", "male", "2021-05-31", "TRUE"),
        ("", "", "female", "", "FALSE"),
        ("3", "0.1", "", "", ""),
    )
    with pytest.raises(TableError, match="is not a readable Parquet file"):
        _read(tmp_path, b"PAR1", name="broken.parquet")


def test_the_three_formats_give_the_same_cohort(tmp_path: Path) -> None:
    rows = clinic_rows()
    book = Workbook()
    page = book.active
    assert page is not None
    for row in [CLINIC_HEADER, *rows]:
        page.append([int(cell) if cell.isdigit() else cell for cell in row])
    book.save(tmp_path / "clinic.xlsx")
    columns = {name: [row[j] for row in rows] for j, name in enumerate(CLINIC_HEADER)}
    columns["age"] = [int(age) for age in columns["age"]]  # type: ignore[misc]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "clinic.parquet")
    cohorts = []
    for name in ("clinic.csv", "clinic.xlsx", "clinic.parquet"):
        loaded = study(tmp_path, rows, change=lambda d, name=name: d["cohort"].update(table=name))  # type: ignore[misc]
        cohorts.append(read_cohort(loaded).cohort)
    for other in cohorts[1:]:
        assert other.units == cohorts[0].units
        assert_array_equal(other.values["age"], cohorts[0].values["age"])
        assert_array_equal(other.values["sex"], cohorts[0].values["sex"])


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    one = read_table(write_csv_table(tmp_path / "a.csv", clinic_rows()))
    two = read_table(write_csv_table(tmp_path / "b.csv", clinic_rows()))
    three = read_table(write_csv_table(tmp_path / "c.csv", _rows(age="99")))
    assert one.sha256 == two.sha256 != three.sha256
