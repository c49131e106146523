"""Writing files so that a reader never sees half of one, and equal content gives equal bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: a temporary file in the same folder, synced, then renamed over the target."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        # Gone after the rename; still there after an error or Ctrl-C.
        Path(name).unlink(missing_ok=True)


def json_text(data: Any) -> str:
    """JSON with a fixed layout; NaN and infinity are refused because they are not JSON.

    >>> json_text({"b": 1, "a": [1.5, None]})
    '{\\n "b": 1,\\n "a": [\\n  1.5,\\n  null\\n ]\\n}\\n'
    """
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, data: Any) -> None:
    """Atomic `json_text`."""
    atomic_write(path, json_text(data))


def read_json(path: Path) -> Any:
    """Parsed content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Atomic CSV; floats at full precision, None as an empty cell, formula cells neutralised for spreadsheets."""
    atomic_write(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The text that `write_csv` writes."""
    return "".join([_csv_line(header), *(_csv_line([spreadsheet_safe(cell) for cell in row]) for row in rows)])


def _csv_line(cells: Sequence[Any]) -> str:
    stream = io.StringIO()
    # csv quotes a cell with a line break only if the break is part of the terminator; a bare "\r" would split the row.
    csv.writer(stream, lineterminator="\r\n").writerow(cells)
    return stream.getvalue()[:-2] + "\n"


def spreadsheet_safe(cell: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay numbers.

    >>> spreadsheet_safe("=HYPERLINK(1)"), spreadsheet_safe("-1.5"), spreadsheet_safe(-1.5)
    ("'=HYPERLINK(1)", '-1.5', -1.5)
    """
    if cell is None:
        return ""
    if isinstance(cell, str) and len(cell) > 1 and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        try:
            float(cell)
        except ValueError:
            return "'" + cell
    return cell


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
