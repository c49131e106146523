"""`osml init`: the draft writes what the table shows, asks what it cannot show, and loads once it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import clinic_rows, data_path, reference_table, write_csv_table
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from osml.cohort.build import BuiltCohort, read_cohort
from osml.cohort.checks import run_checks
from osml.cohort.columns import look
from osml.cohort.draft import draft_schema, scalar
from osml.errors import SchemaError, TableError
from osml.schema.document import read_document
from osml.schema.load import LoadedSchema, load_schema

ANSWERS = {"sampling": "cohort", "time_of_prediction": "visit", "available": "visit", "times": "visit"}


def _draft(table: Path, folder: Path, **known: str) -> tuple[str, Path]:
    out = folder / "draft.yaml"
    text = draft_schema(table, out, **known)
    assert not out.exists()
    return text, out


def _again(table: Path, folder: Path, **known: str) -> tuple[str, Path]:
    (folder / "draft.yaml").unlink()
    return _draft(table, folder, **known)


def _answered(text: str, out: Path, **answers: str) -> LoadedSchema:
    """The draft with every "?" answered by its key."""
    lines = []
    for line in text.splitlines():
        code, hash_, comment = line.partition("  #")
        if '"?"' in code and not code.startswith("#"):
            key = code.split(":")[0].strip()
            parts = {**ANSWERS, **answers}
            if key == "censored":
                code = code.replace('below: "?"', "below: half").replace('above: "?"', "above: limit")
            else:
                code = code.replace('"?"', parts[key])
        lines.append(code + hash_ + comment)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_schema(out)


def _data(text: str) -> dict[str, Any]:
    document = read_document(text, "draft.yaml")
    assert document.problems == []
    assert isinstance(document.data, dict)
    return document.data


def _no_question_left(text: str, loaded: LoadedSchema) -> BuiltCohort:
    result = read_cohort(loaded)
    codes = {finding.code for finding in run_checks(loaded.schema, result)}
    assert not codes & {"OSML010", "OSML011", "OSML014", "OSML017"}
    return result


def test_birthwt(tmp_path: Path) -> None:
    text, out = _draft(reference_table("birthwt.csv"), tmp_path, target="low")
    assert "# Draft from birthwt.csv: 189 rows, 12 columns." in text
    assert '  patient: "?"  # which column names the patient? in 189 rows: row (189 distinct values)' in text
    assert "  # left out: row: counts the rows: 1 to 189" in text
    assert '  column: low  # 0: 130, 1: 59\n  positive: "1"  # the event; check it' in text
    assert (
        "    levels: [white, other, black]  # the first is the reference\n    # white: 96, other: 67, black: 26" in text
    )
    assert 'if these are codes: {kind: category, levels: ["0", "1", "2", "3"]}' in text
    data = _data(text)
    assert list(data["inputs"]) == ["age", "lwt", "race", "smoke", "ptl", "ht", "ui", "ftv", "bwt", "ptd"]
    assert data["inputs"]["smoke"] == {"kind": "binary", "levels": ["no", "yes"], "available": "?"}
    assert data["inputs"]["age"]["kind"] == "number"
    out.write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError) as caught:
        load_schema(out)
    assert str(caught.value).count("still to be answered") == text.replace("# Every", "").count('"?"') - 1
    result = _no_question_left(text, _answered(text, out, patient="row"))
    assert (len(result.cohort), int(result.cohort.outcome.event.sum())) == (189, 59)  # type: ignore[union-attr]


def test_pima(tmp_path: Path) -> None:
    text, out = _draft(reference_table("pima_tr.csv"), tmp_path)
    data = _data(text)
    assert data["target"] == {"kind": "binary", "column": "?", "positive": "?"}
    assert "which column is the outcome? Remove it from the inputs below; with two values: type" in text
    assert data["inputs"]["type"]["levels"] == ["No", "Yes"]
    with pytest.raises(SchemaError, match=r"inputs.type: column 'type' is the outcome .* cannot be an input as well"):
        _answered(text, out, patient="row", column="type", positive="Yes")
    text, out = _again(reference_table("pima_tr.csv"), tmp_path, target="type", patient="row")
    assert "  patient: row  # 200 distinct values in 200 rows" in text
    assert 'positive: "Yes"  # the event; check it' in text
    result = _no_question_left(text, _answered(text, out))
    assert len(result.cohort) == 200


@pytest.mark.data
def test_sarcoma(tmp_path: Path) -> None:
    table = data_path("soft_tissue_sarcoma", "patients.csv")
    text, out = _draft(table, tmp_path, target="lung_metastasis")
    assert "  patient: patient  # 51 distinct values in 51 rows" in text
    assert '  missing: [""]  # "": 3 cells in 1 column' in text
    assert "  # left out: t1: file paths" in text
    assert "  # left out: histology: free text or too many levels: 31 distinct values in 51 cells" in text
    assert "High: 28, Intermediate: 15, Low: 5; 3 cells missing" in text
    assert 'available: "?"  # died: is it known before the prediction is made?' in text
    assert "missing: complete_case  # or impute; 48 of 51 rows have every input" in text
    result = _no_question_left(text, _answered(text, out))
    assert len(result.cohort) == 48
    text, out = _again(table, tmp_path, target="followup_days")
    assert "kind: survival  # followup_days: 50 numbers above 0, taken as follow-up" in text
    answers = {"event": "died", "positive": '"1"', "unit": "day", "horizons": "730", "competing": "none"}
    with pytest.raises(SchemaError, match="column 'died' is the outcome"):
        _answered(text, out, **answers)


def _table(folder: Path, header: list[str], columns: list[list[str]], name: str = "t.csv", sep: str = ",") -> Path:
    path = folder / name
    rows = [header, *map(list, zip(*columns, strict=True))]
    path.write_text("\n".join(sep.join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def _column(column: str, cells: list[str], tmp_path: Path) -> str:
    """Draft of a table with an id, an outcome and one column more; only the lines about that column."""
    n = len(cells)
    ids, outcome = [f"P{i}" for i in range(n)], [("no", "yes")[i % 2] for i in range(n)]
    text, _ = _draft(
        _table(
            tmp_path, ["patient", "outcome", "z", column], [ids, outcome, [f"{i / 3:.2f}" for i in range(n)], cells]
        ),
        tmp_path,
        target="outcome",
    )
    _data(text)
    return text.split("inputs:\n", 1)[1].split("predictors:")[0].split('available: "?"\n', 1)[1]


@pytest.mark.parametrize(
    "cells, said",
    [
        ([""] * 12, "# left out: x: every cell is missing"),
        (["a"] * 11 + [""], "# left out: x: one value only ('a'), 1 cells missing"),
        ([f"2021-05-{i:02d}" for i in range(1, 13)], "# left out: x: dates; usable in `validation.split` (kind: time)"),
        ([f"{i}.05.2021" for i in range(1, 13)], "# left out: x: dates; usable in `validation.split` (kind: time)"),
        ([f"mri/{i}.nii.gz" for i in range(12)], "# left out: x: file paths"),
        ([f"note number {i}" for i in range(12)], "# left out: x: free text or too many levels: 12 distinct values"),
        ([str(900_000 + 7 * i) for i in range(12)], "# left out: x: another whole number of 6 digits in every row"),
        ([str(i) for i in range(12)], "# left out: x: counts the rows: 0 to 11"),
        ([f"{i};5" for i in range(12)], "# left out: x: free text or too many levels"),
        ([f"{i}.5" for i in range(14)] + ["high"], "# left out: x: numbers, but 1 cells are not: 'high'"),
        (["0", "1"] * 6, 'kind: binary\n    levels: ["0", "1"]  # the first is the reference\n    # 0: 6, 1: 6'),
        (["None", "Yes", "Yes"] * 4, 'kind: binary\n    levels: ["None", "Yes"]'),
        (["+", "-", "-"] * 4, 'kind: binary\n    levels: ["-", "+"]'),
        (["male", "male ", "female"] * 4, "4 cells have blanks around them: written as they stand in the table"),
        (["<5", "7.5", "8", "9"] * 3, 'censored: {below: "?"}\n    # below: half | limit; 3 cells like \'<5\''),
        (["<5", "7.5", ">90", "9"] * 3, 'censored: {below: "?", above: "?"}'),
        (["1", "2", "3"] * 4, '# 1: 4, 2: 4, 3: 4; if these are codes: {kind: category, levels: ["1", "2", "3"]}'),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_a_column_shows(tmp_path: Path, cells: list[str], said: str) -> None:
    assert said in _column("x", cells, tmp_path)


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = "\n".join(f"P{i};{('no', 'yes')[i % 2]};{i},5;{i / 7:.3f}" for i in range(12))
    table.write_text("patient;outcome;x;y\n" + rows + "\n", encoding="utf-8")
    text, out = _draft(table, tmp_path, target="outcome")
    assert '  delimiter: ";"\n' in text
    assert "# left out: x: decimal commas, e.g. '0,5': write points instead" in text
    assert len(_no_question_left(text, _answered(text, out)).cohort) == 12


def test_missing_tokens_are_proposed_with_counts(tmp_path: Path) -> None:
    columns = [
        [f"P{i}" for i in range(12)], ["no", "yes"] * 6, ["NA", "", "unknown", *[f"{i}.5" for i in range(9)]],
        ["-", "a", "b", "NA", *["a", "b"] * 4],
    ]  # fmt: skip
    table = _table(tmp_path, ["patient", "outcome", "x", "g"], columns)
    text, out = _draft(table, tmp_path, target="outcome")
    assert '  missing: ["", "-", NA, unknown]  # ' in text
    assert (
        '"": 1 cell in 1 column; "-": 1 cell in 1 column; NA: 2 cells in 2 columns; unknown: 1 cell in 1 column' in text
    )
    assert len(_no_question_left(text, _answered(text, out)).cohort) == 8


def test_headings_that_are_no_names(tmp_path: Path) -> None:
    header = ["patient", "outcome", "CRP (mg/L)", "2nd value", "no", "a.b", "a b", "µ: #1", "?"]
    n = 12
    numbers = [[f"{i * k / 7.3:.3f}" for i in range(n)] for k in range(3, 10)]
    columns = [[f"P{i}" for i in range(n)], ["no", "yes"] * 6, *numbers]
    text, out = _draft(_table(tmp_path, header, columns), tmp_path, target="outcome")
    loaded = _answered(text, out)
    names = {name: block.column or name for name, block in loaded.schema.inputs.items()}
    assert names == {
        "CRP_mg_L": "CRP (mg/L)", "input_2nd_value": "2nd value", "no": "no", "a_b": "a.b", "a_b_2": "a b",
        "µ_1": "µ: #1",
    }  # fmt: skip
    assert loaded.schema.inputs["CRP_mg_L"].label == "CRP (mg/L)"
    assert loaded.schema.predictors["clinical"].inputs == tuple(names)
    assert "# left out: ?: give the column a name first" in text
    assert len(read_cohort(loaded).cohort) == n


def test_the_path_to_the_table_is_relative_to_the_schema(tmp_path: Path) -> None:
    (tmp_path / "data here").mkdir()
    table = write_csv_table(tmp_path / "data here" / "clinic.csv", clinic_rows())
    (tmp_path / "studies").mkdir()
    text, out = _draft(table, tmp_path / "studies", target="outcome", patient="id")
    assert _data(text)["cohort"]["table"] == "../data here/clinic.csv"
    assert len(read_cohort(_answered(text, out)).cohort) == 12


def test_columns_of_a_kit_range_are_no_inputs(tmp_path: Path) -> None:
    numbers = [[f"{i + k * 50}.5" for i in range(12)] for k in range(3)]
    table = _table(
        tmp_path,
        ["patient", "outcome", "ldh", "ldh_low", "ldh_high", "grade_low"],
        [[f"P{i}" for i in range(12)], ["no", "yes"] * 6, *numbers, ["a", "b"] * 6],
    )
    text, out = _draft(table, tmp_path, target="outcome")
    use = "use it there as {kind: lab, unit: …, kit: {low: ldh_low, high: ldh_high}}"
    assert f"  # left out: ldh_low: looks like the kit range of ldh; {use}" in text
    assert list(_answered(text, out).schema.inputs) == ["ldh", "grade_low"]


def test_several_rows_per_patient_are_pointed_out(tmp_path: Path) -> None:
    rows = clinic_rows(20)
    for i, row in enumerate(rows):
        row[0] = f"P{i // 2}"
    text, _ = _draft(write_csv_table(tmp_path / "clinic.csv", rows), tmp_path, target="outcome", patient="id")
    assert "  patient: id  # 10 distinct values in 20 rows\n  # Several rows per patient" in text


def test_spreadsheets(tmp_path: Path) -> None:
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["patient", "age", "outcome"])
    for i in range(12):
        page.append([f"P{i}", 30.5 + i, i % 2])
    book.save(tmp_path / "t.xlsx")
    text, out = _draft(tmp_path / "t.xlsx", tmp_path, target="outcome")
    assert len(_no_question_left(text, _answered(text, out)).cohort) == 12
    book.create_sheet("labs")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(TableError, match=r"has several sheets: .*, labs"):
        _draft(tmp_path / "t.xlsx", tmp_path)


def test_what_cannot_be_drafted(tmp_path: Path) -> None:
    table = write_csv_table(tmp_path / "clinic.csv", clinic_rows())
    with pytest.raises(TableError, match=r"no column 'outcom' in clinic.csv\n  Did you mean 'outcome'\?"):
        _draft(table, tmp_path, target="outcom")
    with pytest.raises(TableError, match=r"no column 'pat' in clinic.csv"):
        _draft(table, tmp_path, patient="pat")
    with pytest.raises(TableError, match="column 'id' cannot be the outcome: it has 12 values"):
        _draft(table, tmp_path, target="id")
    with pytest.raises(TableError, match="no table at"):
        _draft(tmp_path / "none.csv", tmp_path)
    lonely = _table(tmp_path, ["patient", "outcome"], [[f"P{i}" for i in range(4)], ["a", "b"] * 2], "l.csv")
    with pytest.raises(TableError, match=r"no column of l.csv can be an input"):
        _draft(lonely, tmp_path, target="outcome", patient="patient")


@pytest.mark.parametrize(
    "values, positive", [(("no", "yes"), "yes"), (("alive", "dead"), "dead"), (("FALSE", "TRUE"), "TRUE"),
                         (("good", "poor"), "?"), (("1", "2"), "?"), (("0", "1"), "1")]
)  # fmt: skip
def test_the_event_is_written_only_where_it_is_evident(tmp_path: Path, values: tuple[str, str], positive: str) -> None:
    rows = [[*row[:3], values[i % 2]] for i, row in enumerate(clinic_rows())]
    text, _ = _draft(write_csv_table(tmp_path / "clinic.csv", rows), tmp_path, target="outcome")
    target = _data(text)["target"]
    assert str(getattr(target["positive"], "text", target["positive"])) == positive


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@given(texts)
def test_every_text_survives_as_yaml(text: str) -> None:
    if text == "?":
        assert scalar(text) == "'?'"
    assert read_document(f"a: [{scalar(text)}]  # x", "s.yaml").data == {"a": [text]}
    assert read_document(f"{scalar(text) if text else 'x'}: 1", "s.yaml").data == {text or "x": 1}


@given(st.lists(st.sampled_from(["1", "2.5", "<3", ">9", "NA", "", "yes", "no", "+", "-", "None", " 4 "]), max_size=30))
def test_counts_of_a_column_add_up(cells: list[str]) -> None:
    seen = look("x", cells)
    assert sum(seen.counts.values()) + seen.blank == len(cells)
    assert set(seen.levels) == set(seen.counts)
    assert not set(seen.levels) & set(seen.missing)


cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=6)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12), st.lists(cells, min_size=3, max_size=3))
def test_any_table_gives_a_readable_draft_or_a_plain_refusal(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], header: list[str]
) -> None:
    import csv

    folder = tmp_path_factory.mktemp("any")
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    try:
        text = draft_schema(folder / "t.csv", folder / "t.yaml")
    except TableError:
        return
    data = _data(text)
    assert data["predictors"]["clinical"]["inputs"] == list(data["inputs"])
    assert text.isprintable() or all(ch == "\n" or ch.isprintable() for ch in text)
