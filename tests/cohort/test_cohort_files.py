"""Files that hold a table, and files that do not: text, spreadsheets, Parquet."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from helpers import CLINIC_HEADER, clinic_rows, clinic_with, study, write_csv_table
from numpy.testing import assert_array_equal
from openpyxl import Workbook

from osml.cohort.build import read_cohort
from osml.cohort.table import read_table
from osml.errors import TableError

Change = Callable[[dict[str, Any]], None]


def _read(folder: Path, raw: bytes | str, name: str = "t.csv", **kwargs: Any) -> Any:
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return read_table(path, **kwargs)


# Text files ----------------------------------------


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


# Spreadsheets and Parquet ----------------------------------------


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
    three = read_table(write_csv_table(tmp_path / "c.csv", clinic_with(age="99")))
    assert one.sha256 == two.sha256 != three.sha256
