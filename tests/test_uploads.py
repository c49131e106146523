"""Tables that a visitor uploads: found out by content, bounded, matched with the model, without identifiers."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from served import patients, serve

from osml.cohort.table import Table, read_table
from osml.errors import TableError
from osml.serving import Model, load, read_upload
from osml.serving import uploads as uploads_module
from osml.serving.uploads import identifying_columns

NUMBERS = ("age", "marker", "size")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


@pytest.fixture(scope="module")
def table(run: Path) -> Table:
    return read_table(run.parents[2] / "table.csv")


def csv_of(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8")


def xlsx(fill: Callable[[Any], None]) -> bytes:
    book = openpyxl.Workbook()
    fill(book.active)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def sheet_of(rows: list[dict[str, str]]) -> bytes:
    def fill(page: Any) -> None:
        page.append(list(rows[0]))
        for row in rows:
            page.append([float(v) if k in NUMBERS and v else v or None for k, v in row.items()])

    return xlsx(fill)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_by_content(model: Model, table: Table, delimiter: str) -> None:
    raw = csv_of(patients()).decode().replace(",", delimiter).encode()
    assert [r.p for r in model.predict(read_upload(raw, model))] == [r.p for r in model.predict(table)]


def test_excel_and_bom_are_read(model: Model, table: Table) -> None:
    expected = [r.p for r in model.predict(table)]
    assert [r.p for r in model.predict(read_upload(sheet_of(patients()), model))] == expected
    assert [r.p for r in model.predict(read_upload(b"\xef\xbb\xbf" + csv_of(patients()), model))] == expected


def archive(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name.replace("__", "/"), data)
    return stream.getvalue()


FAR = b'<worksheet><sheetData><row r="1"><c r="XFD1048576" t="n"><v>1</v></c></row></sheetData></worksheet>'


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7 x", "is a PDF"),
        (b"\x89PNG\r\n", "is a picture"),
        (b"PAR1xxxx", "is a Parquet file"),
        (b"\xd0\xcf\x11\xe0xxxx", "old Excel file"),
        (b"\x1f\x8bxxxx", "compressed"),
        (b"ab\x00cd,ef\n1,2\n", "neither text nor XLSX"),
        (b"PK\x03\x04garbage", "not a readable XLSX"),
        (archive(readme=b"x"), "an archive, not a table"),
        (archive(xl__workbook_xml=b"x", **{"..__evil": b"x"}), "an archive, not a table"),
        (archive(**{"xl__workbook.xml": b"x", "..__evil": b"x"}), "not one that a spreadsheet writes"),
        (archive(**{"xl__workbook.xml": b"0" * 10_000_000}), "would unpack to 10 MB"),
        (archive(**{"xl__workbook.xml": b"x", "xl__worksheets__sheet1.xml": FAR}), "a cell at XFD1048576"),
        ("age,größe\n1,2\n".encode("latin-1"), "not UTF-8"),
        (b"age,age\n1,2\n", "stands twice"),
        (b"age\n" + b"1\n" * 60_000, "more than 50000 lines"),
        (b",".join(b"c%d" % i for i in range(600)) + b"\n", "more than 500 columns"),
        (csv_of([{"patient name": "x", **patients()[0]}]), "may identify a person: 'patient name'"),
        (csv_of([{"Geburtsdatum": "x", "phone": "y", **patients()[0]}]), "'Geburtsdatum', 'phone'"),
    ],
)
def test_what_is_not_a_table_of_patients_is_refused(model: Model, raw: bytes, words: str) -> None:
    with pytest.raises(TableError, match=words):
        read_upload(raw, model)


def test_a_file_that_is_too_large_is_refused_unread(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_BYTES", 100)
    with pytest.raises(TableError, match="at most 0 MB are read"):
        read_upload(csv_of(patients()), model)


def test_a_table_without_the_models_columns_says_which(model: Model) -> None:
    rows = [{k: v for k, v in row.items() if k != "size"} for row in patients()]
    with pytest.raises(TableError, match="no column 'size'"):
        model.predict(read_upload(csv_of(rows), model))


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("name", True), ("Patient Name", True), ("firstName", True), ("last_name", True), ("DOB", True),
        ("E-Mail", True), ("date of birth", True), ("birth_date", True), ("Téléfono", True), ("住院号", True),
        ("MRN", True), ("zip", True),
        ("tumour_name", False), ("drug name", False), ("birth_weight", False), ("admission", False), ("age", False),
        ("number", False), ("patient", False), ("", False),
    ],
)  # fmt: skip
def test_headings_that_identify(column: str, named: bool) -> None:
    assert identifying_columns([column]) == ([column] if named else [])
    assert identifying_columns([column], {column}) == []
