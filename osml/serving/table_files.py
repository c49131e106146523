"""A table and the images that were uploaded beside it: matched by base name, measured patient by patient, not kept.

Names of the uploads are compared with the table's cells and never become paths. Each patient's files are decoded in a
process of their own, as those of the form are.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from osml.archives import DEFAULT_LIMITS, unpack
from osml.cohort.table import Table
from osml.errors import ArchiveError, TableError
from osml.schema.suggest import hint
from osml.serving.measured import Measured
from osml.serving.measured_files import measure_files
from osml.serving.model import Model
from osml.serving.reading import OK, row_files
from osml.serving.table_pictures import FilesTable

MOST_UNITS = 500
MOST_FILES = 5_000
UNPACKED_BYTES = 4 * 2**30  # of all archives together: many small ones must not fill the disk either
# Pictures as encoders take them are kept for heat maps while they are small enough together.
PIXEL_BYTES = 256 * 2**20
SHOWN = 8
_ZIP = b"PK\x03\x04"

Upload = tuple[str, bytes]


@dataclass
class Offered:
    """What was uploaded: base name → files of that name; name of a folder in an archive → its files."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    folders: dict[str, dict[str, list[Path]]] = field(default_factory=dict)


def table_with_files(
    table: Table, uploads: Sequence[Upload], model: Model, *, say: Callable[[int, int], None] | None = None
) -> FilesTable:
    """The table with what its images gave, for `Model.predict`.

    Parameters
    ----------
    table : as `read_upload` gives it; paths in its cells count by their base name
    uploads : name as the client calls it, and content: files, and ZIP archives of files. Of a volume a cell may name a
        folder of an archive, which holds the slices of one DICOM series
    say : told (patients done, patients in all)

    Raises
    ------
    TableError
        A cell without its file, a file without its cell, two files of one name that a cell means, too many patients.
    ArchiveError
        An archive that is not unpacked; see `osml.archives`.
    """
    columns = _columns(table, model)
    with tempfile.TemporaryDirectory() as made:
        offered = _offered(Path(made), uploads)
        cells = _matched(table, columns, model.schema.cohort.missing, offered)
        units, files, status = row_files(model.schema, model.chain, table)
        if len(units) > MOST_UNITS:
            raise TableError(
                f"the table has {len(units)} patients with images; at most {MOST_UNITS} are read at once",
                do="Split it, or use `osml predict`.",
            )
        measured: dict[int, Measured] = {}
        room = PIXEL_BYTES
        for unit in range(len(units)):
            lines = [table.lines[i] for i in units.rows(unit)]
            if all(status[i] == OK for i in units.rows(unit)):
                own = {key: [p for cell in found[unit] for p in cells[key, cell]] for key, found in files.items()}
                found = measure_files(model.schema, model.chain, own, model.encoders)
                size = sum(picture.nbytes for pictures in found.pixels.values() for picture in pictures)
                found = found if size <= room else replace(found, pixels={})
                room -= size if size <= room else 0
                measured |= dict.fromkeys(lines, found)
            if say is not None:
                say(unit + 1, len(units))
    return FilesTable(table.name, table.columns, table.rows, table.lines, table.sha256, measured)


def base_name(text: str) -> str:
    """What is left of a path of any system, in one form of Unicode.

    >>> base_name("C:\\\\scans\\\\p1.nii.gz"), base_name("mri/p1.nii.gz"), base_name("series/p1/")
    ('p1.nii.gz', 'p1.nii.gz', 'p1')
    """
    parts = unicodedata.normalize("NFC", text.strip()).replace("\\", "/").rstrip("/")
    return parts.rpartition("/")[2]


def _columns(table: Table, model: Model) -> dict[str, str]:
    """Column of each image: key → name."""
    out = {}
    for image in model.images():
        if image.column in table.columns:
            out[image.key] = image.column
        else:
            raise TableError(
                f"the table has no column {image.column!r}, which names the files of {image.label}",
                do=hint(image.column, list(table.columns)),
            )
    return out


def _offered(folder: Path, uploads: Sequence[Upload]) -> Offered:
    out = Offered()
    count, room = 0, UNPACKED_BYTES
    for number, (name, raw) in enumerate(uploads):
        if raw.startswith(_ZIP):
            limits = replace(DEFAULT_LIMITS, total_bytes=min(room, DEFAULT_LIMITS.total_bytes))
            for inside, path in unpack(raw, folder / f"archive{number}", limits).items():
                room -= path.stat().st_size
                above, _, base = unicodedata.normalize("NFC", inside).rpartition("/")
                out.files.setdefault(base, []).append(path)
                if above:
                    out.folders.setdefault(base_name(above), {}).setdefault(f"{number}/{above}", []).append(path)
                count += 1
        else:
            path = folder / f"file{number}"
            path.write_bytes(raw)
            out.files.setdefault(base_name(name), []).append(path)
            count += 1
        if count > MOST_FILES:
            raise ArchiveError(f"more than {MOST_FILES:,} files are given", do="Give the files of fewer patients.")
    return out


def _matched(
    table: Table, columns: Mapping[str, str], missing: Sequence[str], offered: Offered
) -> dict[tuple[str, str], list[Path]]:
    """(key, cell) → its files; everything that does not match is told at once."""
    out: dict[tuple[str, str], list[Path]] = {}
    lost: list[str] = []
    double: list[str] = []
    used: set[Path] = set()
    for key, column in columns.items():
        for i, cell in enumerate(table.column(column)):
            if cell in missing or not cell.strip() or (key, cell) in out:
                continue
            name = base_name(cell)
            found = offered.files.get(name, [])
            series = list(offered.folders.get(name, {}).values()) if not found else []
            where = f"line {table.lines[i]}, {column}: {_short(name)}"
            if len(found) > 1 or len(series) > 1:
                double.append(where)
                used.update(found, *series)
            elif found or series:
                out[key, cell] = found or [p for p in series[0] if p.name != "DICOMDIR"]
                used.update(found or series[0])
            else:
                lost.append(where)
    left = sorted(name for name, paths in offered.files.items() if not used.issuperset(paths))
    if not (lost or double or left):
        return out
    words = []
    words += [f"cells without a file: {_some(lost)}"] if lost else []
    words += [f"several files have the name that a cell gives: {_some(double)}"] if double else []
    words += [f"files that no cell names: {_some([_short(name) for name in left])}"] if left else []
    raise TableError(
        "; ".join(words),
        why="Files and cells are matched by the file's name, folders left out; nothing was predicted.",
        do="Give every file that the table names, each once, and no others.",
    )


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:59]}…")
