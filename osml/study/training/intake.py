"""A table and a ZIP of images become the files of a job: nothing is read that the table does not name, nothing is
named that was not uploaded."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from osml.archives import Limits, unpack
from osml.cohort.columns import MISSING_TOKENS, Seen, look
from osml.cohort.draft import draft_schema
from osml.cohort.table import Table, read_table
from osml.errors import OsmlError, TableError
from osml.files import atomic_write
from osml.serving.uploads import read_bounded
from osml.study.training.edit import add_images, set_value
from osml.study.training.workspace import IMAGES, SCHEMA, TABLE, Job

SHOWN = 5
_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FILE_NAME = re.compile(r".*\.(nii(\.gz)?|nrrd|mha|mhd|dcm|dicom|png|jpe?g|tiff?)", re.IGNORECASE)


def take_in(job: Job, table: bytes, images: bytes | None = None, name: str = "", limits: Limits | None = None) -> Table:
    """Read what was uploaded and store it in an empty job; after an error the job is as empty as before.

    Parameters
    ----------
    table : CSV, TSV or XLSX; stored cell by cell as CSV
    images : ZIP; every cell of an image column must name one of its files (or a folder of DICOM slices), and every
        file must be named
    name : of the uploaded table; it only becomes the study's name

    Raises
    ------
    TableError, ArchiveError
        What cannot be read, identifies a person, or does not match.
    """
    read = read_bounded(
        table,
        why="Only pseudonyms may be uploaded. Nothing was stored.",
        do="Remove them, or replace them by a study number of your own.",
        large="Use `osml fit` for large tables.",
    )
    columns: list[str] = []
    try:
        if images is not None:
            files = unpack(images, job.path / IMAGES, limits or Limits())
            read, columns = _matched(read, files)
        atomic_write(job.table_path, _as_written(read))
    except OsmlError:
        shutil.rmtree(job.path / IMAGES, ignore_errors=True)
        raise
    job.remember(images=columns, rows=len(read.rows), columns=len(read.columns), name=_study_name(name))
    return read


def stored_table(job: Job) -> Table | None:
    """The table of a job; None before there is one."""
    return read_table(job.table_path) if job.table_path.is_file() else None


def columns_seen(table: Table) -> dict[str, Seen]:
    """What the cells of each column show."""
    return {column: look(column, table.column(column)) for column in table.columns}


def patient_candidates(seen: Mapping[str, Seen]) -> list[str]:
    """Columns, those that name every row first."""
    return sorted(seen, key=lambda name: (not seen[name].identifier, len(seen[name].levels) < seen[name].rows))


def draft(job: Job, patient: str | None, target: str | None) -> str:
    """The schema that `osml init` would write for the job's table, and its image columns as inputs."""
    text = draft_schema(job.path / TABLE, job.path / SCHEMA, patient=patient, target=target)
    facts = job.facts()
    text = set_value(text, ("name",), facts.get("name") or "study")
    if facts["images"]:
        table = read_table(job.path / TABLE)
        kinds = {column: _image_kind(table.column(column)) for column in facts["images"]}
        # `osml init` leaves paths out; here their files are at hand.
        gone = tuple(f"  # left out: {column}: " for column in kinds)
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(gone))
        text = add_images(text, kinds)
    job.write_text(text)
    return text


def _as_written(table: Table) -> str:
    """The table as CSV, every cell as it was: this file is read again, not opened in a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return stream.getvalue()


def _study_name(name: str) -> str:
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("_.-")[:60] or "study"


def _matched(table: Table, files: Mapping[str, Path]) -> tuple[Table, list[str]]:
    """The table with the cells of its image columns as paths below the job's folder, and those columns."""
    places = _places(files)
    found: dict[str, dict[str, str]] = {}
    for column in table.columns:
        cells = {cell for cell in table.column(column) if cell.strip() not in MISSING_TOKENS}
        known = {cell: place for cell in cells if (place := places.get(_plain_path(cell))) is not None}
        if not known and not (cells and all(_FILE_NAME.fullmatch(cell.strip()) for cell in cells)):
            continue
        if len(known) < len(cells):
            absent = sorted(cells - set(known))
            raise TableError(
                f"column {column!r} names {len(absent)} files that are not in the ZIP, or are there twice: "
                + _some(absent),
                why="A patient without the image that the table names would be left out without a word.",
                do="Add the files under these names, or empty the cells.",
            )
        found[column] = known
    if not found:
        raise TableError(
            "no column of the table names the files of the ZIP",
            do="Add a column with the file's name for each kind of image, e.g. P001.nii.gz.",
        )
    used = {place for known in found.values() for place in known.values()}
    spare = [name for name in files if not any(name == place or name.startswith(f"{place}/") for place in used)]
    if spare:
        raise TableError(
            f"{len(spare)} files of the ZIP are named by no cell of the table: {_some(spare)}",
            why="A misspelt name would leave a patient without an image.",
            do="Name them in the table, or leave them out of the ZIP.",
        )
    rows = tuple(
        tuple(
            f"{IMAGES}/{found[column][cell]}" if column in found and cell in found[column] else cell
            for column, cell in zip(table.columns, row, strict=True)
        )
        for row in table.rows
    )
    return Table(table.name, table.columns, rows, table.lines, table.sha256), list(found)


def _places(files: Mapping[str, Path]) -> dict[str, str]:
    """What a cell may say → file or folder of the ZIP: the whole path, or a base name that stands there once."""
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents if str(parent) != "."}
    whole = {name: name for name in (*files, *folders)}
    bases: dict[str, list[str]] = {}
    for name in whole:
        bases.setdefault(PurePosixPath(name).name, []).append(name)
    return {base: names[0] for base, names in bases.items() if len(names) == 1} | whole


def _plain_path(cell: str) -> str:
    """A cell as a name in the ZIP: blanks around it, `./` and the folders before it do not count when it is a path."""
    text = cell.strip().replace("\\", "/")
    return text.removeprefix("./").rstrip("/")


def _image_kind(cells: Sequence[str]) -> str:
    """Volume or picture by the files' endings; "?" where they do not say."""
    names = [cell.lower() for cell in cells if cell.strip() not in MISSING_TOKENS]
    if all(name.endswith(_VOLUMES) or "." not in PurePosixPath(name).name for name in names):
        return "volume"
    return "image" if all(name.endswith(_PICTURES) for name in names) else "?"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
