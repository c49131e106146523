"""Tables that arrive from a browser: bounded, sniffed by content, matched with the model's columns, no identifiers."""

from __future__ import annotations

import io
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from osml.cohort.inputs import columns_of
from osml.cohort.table import Table, read_table
from osml.errors import TableError
from osml.serving.form import needed_inputs, reading_schema
from osml.serving.model import Model

MAX_BYTES = 50 * 2**20
MAX_ROWS = 50_000
MAX_COLUMNS = 500
MAX_ENTRIES = 1_000
MAX_INFLATED = 200 * 2**20
MAX_RATIO = 200

_SAVE = "Save the table as 'CSV UTF-8' or as .xlsx."
# Whole words of a heading, after splitting at anything that is neither letter nor digit.
_WORDS = {
    "surname", "forename", "firstname", "lastname", "fullname", "patientname", "dob", "birthdate", "birthday",
    "dateofbirth", "phone", "telephone", "mobile", "cellphone", "email", "mail", "address", "street", "postcode",
    "zipcode", "zip", "mrn", "ssn", "passport", "nhs", "insurance", "vorname", "nachname", "geburtsdatum", "telefon",
    "adresse", "apellido", "telefono", "prenom",
}  # fmt: skip
_PHRASES = (
    ("birth", "date"), ("date", "birth"), ("date", "of", "birth"), ("medical", "record", "number"), ("national", "id"),
    ("social", "security"), ("phone", "number"), ("hospital", "number"), ("admission", "number"),
)  # fmt: skip
_NAME_COMPANIONS = {
    "name",
    "patient",
    "first",
    "last",
    "full",
    "family",
    "given",
    "middle",
    "maiden",
    "nurse",
    "doctor",
}
_PARTS = ("姓名", "身份证", "电话", "手机", "出生日期", "住址", "地址", "住院号", "病历号", "氏名", "生年月日")


def read_upload(raw: bytes, model: Model) -> Table:
    """Read the bytes of an uploaded CSV, TSV or XLSX for `Model.predict`. The client's file name plays no part.

    Raises
    ------
    TableError
        Too large, neither text nor XLSX, too many rows or columns, headings that identify a person, or columns that
        the model needs and the table lacks.
    """
    block = model.schema.cohort
    asked = _asked(model)
    return read_bounded(
        raw,
        wanted=asked,
        allowed={block.patient, block.row or "", block.site or "", *asked},
        sheet=block.sheet,
        why="The model does not need them, and they should not travel. Nothing was read.",
        do=f"Remove them; a study's own pseudonym may stand in {block.patient!r}.",
        large="Use `osml predict` for large tables.",
    )


def read_bounded(
    raw: bytes,
    *,
    wanted: Collection[str] = (),
    allowed: Collection[str] = (),
    sheet: str | None = None,
    why: str,
    do: str,
    large: str,
) -> Table:
    """Read the bytes of an uploaded CSV, TSV or XLSX: bounded, and without headings that identify a person.

    Parameters
    ----------
    wanted : columns that are looked for; the delimiter under which most of them are found is taken
    allowed : headings that may stand whatever they look like
    why, do : said about headings that identify a person
    large : said about a table that is too large
    """
    if not raw:
        raise TableError("the uploaded file is empty")
    if len(raw) > MAX_BYTES:
        raise TableError(
            f"the uploaded file has {len(raw) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read", do=large
        )
    table = _read_xlsx(raw, sheet) if raw[:4] == b"PK\x03\x04" else _read_text(raw, wanted)
    if len(table.rows) > MAX_ROWS:
        raise TableError(f"the table has {len(table.rows)} rows; at most {MAX_ROWS} are read", do="Split it.")
    found = identifying_columns(table.columns, allowed)
    if found:
        raise TableError(f"columns that may identify a person: {', '.join(map(repr, found))}", why=why, do=do)
    return table


def identifying_columns(columns: Sequence[str], allowed: Collection[str] = ()) -> list[str]:
    """Headings that name a person, a birth date, an address, a phone or a record number.

    >>> identifying_columns(["Patient name", "dob", "E-Mail", "tumour_name", "age"])
    ['Patient name', 'dob', 'E-Mail']
    """
    return [column for column in columns if column not in allowed and _identifies(column)]


def _identifies(column: str) -> bool:
    text = unicodedata.normalize("NFKC", column)
    if any(part in text for part in _PARTS):
        return True
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    words = re.findall(r"[a-z0-9]+", text.lower())
    joined = "".join(words)
    if not words:
        return False
    if joined in _WORDS or any(word in _WORDS for word in words):
        return True
    if "name" in words and set(words) <= _NAME_COMPANIONS:
        return True
    return any(_holds(words, phrase) for phrase in _PHRASES)


def _holds(words: Sequence[str], phrase: tuple[str, ...]) -> bool:
    k = len(phrase)
    return any(tuple(words[i : i + k]) == phrase for i in range(len(words) - k + 1))


def _asked(model: Model) -> list[str]:
    schema = reading_schema(model.schema, model.name)
    wanted = {name: schema.inputs[name] for name in needed_inputs(model.schema, model.name)}
    return [column for column, _ in columns_of(wanted, lambda *path: ".".join(map(str, path)))]


def _read_text(raw: bytes, wanted: Collection[str]) -> Table:
    known = {
        b"\xd0\xcf\x11\xe0": "an old Excel file (.xls) or one with a password",
        b"PAR1": "a Parquet file",
        b"%PDF": "a PDF",
        b"\x89PNG": "a picture",
        b"\xff\xd8\xff": "a picture",
        b"\x1f\x8b": "a compressed file",
    }
    for start, words in known.items():
        if raw.startswith(start):
            raise TableError(f"the uploaded file is {words}, not a table", do=_SAVE)
    if b"\x00" in raw[:4096] and raw[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise TableError("the uploaded file is neither text nor XLSX", do=_SAVE)
    first = raw.split(b"\n", 1)[0]
    delimiter = _delimiter(first.decode("utf-8-sig", errors="replace"), wanted)
    if raw.count(b"\n") > MAX_ROWS + 1:
        raise TableError(f"the table has more than {MAX_ROWS} lines", do="Split it, or use `osml predict`.")
    if first.count(delimiter.encode()) >= MAX_COLUMNS:
        raise TableError(f"the table has more than {MAX_COLUMNS} columns", do="Keep those that the model needs.")
    return _through_file(raw, "upload.csv", delimiter, None)


def _delimiter(header: str, wanted: Collection[str]) -> str:
    """The delimiter under which most of the wanted columns are found, else the most frequent; a comma when equal."""
    asked = set(wanted)

    def found(delimiter: str) -> int:
        cells = header.split(delimiter)
        return len(asked & {cell.strip().strip('"') for cell in cells}) if asked else len(cells)

    return max((",", ";", "\t", "|"), key=found)


def _read_xlsx(raw: bytes, sheet: str | None) -> Table:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            _bounded(archive)
    except zipfile.BadZipFile as error:
        raise TableError(f"the uploaded file is not a readable XLSX file: {error}", do=_SAVE) from None
    return _through_file(raw, "upload.xlsx", None, sheet)


def _bounded(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is no workbook, or that would unpack to something huge."""
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if "xl/workbook.xml" not in names:
        raise TableError("the uploaded file is an archive, not a table", do=_SAVE)
    if len(entries) > MAX_ENTRIES or any(".." in name.split("/") or name.startswith("/") for name in names):
        raise TableError("the uploaded XLSX file is not one that a spreadsheet writes", do=_SAVE)
    inflated = sum(entry.file_size for entry in entries)
    packed = max(1, sum(entry.compress_size for entry in entries))
    if inflated > MAX_INFLATED or inflated / packed > MAX_RATIO:
        raise TableError(f"the uploaded XLSX file would unpack to {inflated / 2**20:.0f} MB", do=_SAVE)
    for name in names:
        if name.startswith("xl/worksheets/") and name.endswith(".xml"):
            _bounded_sheet(archive.read(name))


def _bounded_sheet(xml: bytes) -> None:
    # A single cell far away makes a reader walk through every cell before it.
    for column, row in re.findall(rb'<c [^>]*?r="([A-Z]+)(\d+)"', xml):
        if int(row) > MAX_ROWS + 1 or len(column) > 3 or _column_number(column) > MAX_COLUMNS:
            raise TableError(
                f"the uploaded sheet has a cell at {(column + row).decode()}; at most {MAX_ROWS} rows and "
                f"{MAX_COLUMNS} columns are read"
            )


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number


def _through_file(raw: bytes, name: str, delimiter: str | None, sheet: str | None) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        return read_table(path, delimiter=delimiter, sheet=sheet)
