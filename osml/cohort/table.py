"""Read CSV, TSV, Parquet and XLSX as text: every cell exactly as written, with the line it stands on.

Nothing is interpreted here: `NA`, `None`, `007` and `<5` stay what they are; the schema alone assigns types and missing
tokens. What cannot be a table (wrong encoding, ragged rows, duplicate header) is refused with its line.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.errors import TableError
from osml.schema.suggest import hint

MAX_LISTED = 5
_YAML_TEXT = {";": '";"', "\t": '"\\t"', ",": '","', "|": '"|"'}
FORMATS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class Table:
    """Texts of a table. `lines[i]` is the line (or sheet row) on which row i stands, for messages."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    sha256: str

    def column(self, name: str) -> list[str]:
        """Cells of one column; KeyError when there is none (callers check first and suggest)."""
        j = {column: j for j, column in enumerate(self.columns)}[name]
        return [row[j] for row in self.rows]

    def where(self, row: int) -> str:
        """`file:line` of a row."""
        return f"{self.name}:{self.lines[row]}"


def read_table(path: str | Path, *, delimiter: str | None = None, sheet: str | None = None) -> Table:
    """Read a table as text.

    Parameters
    ----------
    path : .csv, .tsv, .tab, .txt (tab-separated), .parquet or .xlsx
    delimiter : one character; default comma for .csv, tab for the others
    sheet : name of an XLSX sheet; needed when there are several

    Raises
    ------
    TableError
        No such file, unknown format, not UTF-8, empty, duplicate or empty header, ragged rows.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise TableError(f"no table at {path}", do="Check the path; `cohort.table` is relative to the YAML file.")
    raw = path.read_bytes()
    if suffix in FORMATS:
        header, rows, lines = _read_text(raw, path.name, delimiter or FORMATS[suffix])
    elif suffix == ".xlsx":
        header, rows, lines = _read_xlsx(raw, path.name, sheet)
    elif suffix == ".parquet":
        header, rows, lines = _read_parquet(raw, path.name)
    else:
        raise TableError(
            f"{path.name}: tables of kind {suffix or '(no ending)'!r} are not read",
            do="Save it as .csv (UTF-8), .tsv, .parquet or .xlsx.",
        )
    _check_header(header, path.name)
    if not rows:
        raise TableError(f"{path.name} has a header but no rows")
    return Table(path.name, tuple(header), tuple(rows), tuple(lines), hashlib.sha256(raw).hexdigest())


def _read_text(raw: bytes, name: str, delimiter: str) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TableError(f"{name} is UTF-16 (Excel's 'Unicode Text')", do="Save it as 'CSV UTF-8'.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise TableError(
            f"{name}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8",
            why="Guessing another encoding would change names and units without a word.",
            do="Save the file as 'CSV UTF-8'.",
        ) from None
    if "\x00" in text:
        raise TableError(f"{name}:{text[: text.index(chr(0))].count(chr(10)) + 1}: the file holds NUL bytes")
    if not text.strip():
        raise TableError(f"{name} is empty")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    ragged: list[str] = []
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells) and len(header) != 1:
                continue  # a blank line, or the empty rows that spreadsheets export
            if not header:
                header = [cell.strip() for cell in cells]
                _check_delimiter(header, name, delimiter)
            elif len(cells) != len(header):
                ragged.append(f"{name}:{line}: {len(cells)} cells, the header has {len(header)}")
            else:
                rows.append(tuple(cells))
                lines.append(line)
    except csv.Error as error:
        raise TableError(f"{name}:{reader.line_num}: {error}", do="A quote may be unbalanced.") from None
    if ragged:
        raise TableError(
            f"{len(ragged)} rows of {name} have too many or too few cells; nothing was read.",
            why="A shifted row puts values under the wrong heading.",
            do="\n  ".join(_first(ragged)),
        )
    return header, rows, lines


def _check_delimiter(header: Sequence[str], name: str, delimiter: str) -> None:
    if len(header) > 1:
        return
    for other, word in ((";", "semicolons"), ("\t", "tabs"), (",", "commas"), ("|", "bars")):
        if other != delimiter and header[0].count(other) >= 1:
            raise TableError(
                f"{name} seems to be separated by {word}: its header is {header[0][:80]!r}",
                do=f"Set `cohort.delimiter: {_YAML_TEXT[other]}`. Decimal commas must be changed to points.",
            )


def _check_header(header: Sequence[str], name: str) -> None:
    empty = [j + 1 for j, column in enumerate(header) if not column]
    double = sorted({column for column in header if column and list(header).count(column) > 1})
    if empty:
        raise TableError(f"{name}: column {empty[0]} has no heading", do="Name or remove it.")
    if double:
        raise TableError(
            f"{name}: the heading {', '.join(map(repr, double))} stands twice",
            why="It would be a guess which one is meant.",
            do="Rename one of them.",
        )


def _first(items: Sequence[str]) -> list[str]:
    return [*items[:MAX_LISTED], *([f"… and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else [])]


def cell_text(value: Any) -> str:
    """Text of a typed cell (XLSX, Parquet): 12.0 → '12', dates as ISO, booleans as TRUE/FALSE, empty as ''.

    >>> cell_text(12.0), cell_text(True), cell_text(None)
    ('12', 'TRUE', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(sep=" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float):
        if value != value:
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _read_xlsx(raw: bytes, name: str, sheet: str | None) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    import zipfile
    import zlib
    from xml.etree import ElementTree

    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(raw), data_only=True)
        formulas = openpyxl.load_workbook(io.BytesIO(raw))
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, ElementTree.ParseError) as error:
        raise TableError(
            f"{name} is not a readable XLSX file: {error}",
            do="Open it in a spreadsheet and save it again, without a password.",
        ) from None
    sheets = [page.title for page in book.worksheets]
    if sheet is None and len(sheets) > 1:
        raise TableError(
            f"{name} has several sheets: {', '.join(sheets)}", do="Name one in `cohort.sheet`, or keep one only."
        )
    if sheet is not None and sheet not in sheets:
        raise TableError(f"{name} has no sheet {sheet!r}", do=hint(sheet, sheets))
    page = book[sheet] if sheet is not None else book.worksheets[0]
    if page.merged_cells.ranges:
        merged = ", ".join(sorted(str(cells) for cells in page.merged_cells.ranges)[:MAX_LISTED])
        raise TableError(f"{name}: merged cells at {merged}", do="Unmerge them: one cell, one value.")
    for row in formulas[page.title].iter_rows():
        for cell in row:
            if cell.data_type == "f" and page[cell.coordinate].value is None:
                raise TableError(
                    f"{name}: the formula in cell {cell.coordinate} has no stored value",
                    why="It would be read as an empty cell, that is, as missing.",
                    do="Open the file in a spreadsheet and save it, or replace formulas by their values.",
                )
    records = [tuple(cell_text(cell) for cell in row) for row in page.iter_rows(values_only=True)]
    return _records(records, name)


def _records(records: Iterable[tuple[str, ...]], name: str) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    header: list[str] = []
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    for number, record in enumerate(records, start=1):
        if not any(cell.strip() for cell in record):
            continue
        if not header:
            header = [cell.strip() for cell in record]
            while header and not header[-1]:
                header.pop()
            continue
        beyond = [cell for cell in record[len(header) :] if cell]
        if beyond:
            raise TableError(f"{name}:{number}: a cell stands beyond the last heading: {beyond[0]!r}")
        rows.append(record[: len(header)])
        lines.append(number)
    if not header:
        raise TableError(f"{name} is empty")
    return header, rows, lines


def _read_parquet(raw: bytes, name: str) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(raw))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise TableError(f"{name} is not a readable Parquet file: {error}") from None
    header = [str(column).strip() for column in table.column_names]
    if not header:
        raise TableError(f"{name} is empty")
    columns = [[cell_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = list(zip(*columns, strict=True))
    return header, rows, list(range(1, len(rows) + 1))
