"""The slides of a region study: one row of the table is one slide of one patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from osml.codes import Finding
from osml.cohort.build import table_problems
from osml.cohort.cells import CellProblem
from osml.cohort.cohort import Cohort
from osml.cohort.inputs import require_columns
from osml.cohort.table import Table, read_table
from osml.errors import TableError
from osml.files import sha256_file
from osml.imaging.slides_job import slide_key
from osml.predictors.slide_recipe import SlideCase
from osml.schema.load import LoadedSchema
from osml.schema.model import Holdout, LeaveOneGroupOut, TimeSplit
from osml.schema.slides import RegionTarget, SlideInput

LOST_TOO_MANY = 0.2
_LISTED = 5


@dataclass(frozen=True)
class Lost:
    """A slide that cannot be used, and why; `reason` is a short code."""

    slide: str
    patient: str
    reason: str
    detail: str


@dataclass(frozen=True)
class SlideTable:
    """What the table says.

    cases : slides whose files exist, in its order
    lost : the others
    keys : column of the split → slide → its cell
    hashes : slide → what its file and its annotation hold
    """

    table: Table
    cases: tuple[SlideCase, ...]
    lost: tuple[Lost, ...]
    keys: dict[str, dict[str, str]]
    hashes: dict[str, str]

    def cohort(self, slides: Sequence[SlideCase]) -> Cohort:
        """These slides as units of their patients, without values: what splits are made of."""
        return Cohort(
            units=tuple(case.slide for case in slides),
            patients=tuple(case.patient for case in slides),
            copies=np.zeros(len(slides), dtype=np.intp),
            values={},
            kit={},
            keys={column: tuple(cells[case.slide] for case in slides) for column, cells in self.keys.items()},
            outcome=None,
            per_row=True,
        )


def parts(loaded: LoadedSchema) -> tuple[RegionTarget, str, SlideInput]:
    """Target, name of the slide input, and that input."""
    target = loaded.schema.target
    assert isinstance(target, RegionTarget)
    block = loaded.schema.inputs[target.of]
    assert isinstance(block, SlideInput)
    return target, target.of, block


def read_slides(loaded: LoadedSchema) -> SlideTable:
    """Read the table of a region study; files are looked for, and read as bytes only.

    Raises
    ------
    TableError
        Misspelt columns, empty or repeated names, one file twice for one patient, one annotation for two slides, fewer
        than two patients with an annotation; all cells at once.
    """
    block, where = loaded.schema.cohort, loaded.where
    target, name, source = parts(loaded)
    table = read_table(loaded.table_path, delimiter=block.delimiter, sheet=block.sheet)
    assert block.row is not None
    column = source.column or name
    split = loaded.schema.validation.split
    keyed = [split.column] if isinstance(split, (LeaveOneGroupOut, TimeSplit, Holdout)) else []
    asked = [
        (block.patient, where("cohort", "patient")), (block.row, where("cohort", "row")),
        (target.column, where("target", "column")), (column, where("inputs", name, "column")),
        *((key, where("validation", "split", "column")) for key in keyed),
    ]  # fmt: skip
    require_columns(asked, table)
    missing = set(block.missing)
    patients, slides = table.column(block.patient), table.column(block.row)
    _names(table, patients, slides, (block.patient, block.row), missing)
    root = loaded.table_path.parent
    mpp = None if source.mpp == "from_file" else float(source.mpp)
    cases, lost = [], []
    for slide, patient, path, drawn in zip(
        slides, patients, table.column(column), table.column(target.column), strict=True
    ):
        annotation = None if drawn in missing or not drawn.strip() else root / drawn
        case = SlideCase(slide, patient, root / path, annotation, mpp)
        if path in missing or not path.strip():
            lost.append(Lost(slide, patient, "no path", "the table names no file"))
        elif not case.path.exists():
            lost.append(Lost(slide, patient, "missing", f"{path}: no such file"))
        elif annotation is not None and not annotation.is_file():
            lost.append(Lost(slide, patient, "missing", f"{drawn}: no such file"))
        else:
            cases.append(case)
    keys = {key: dict(zip(slides, table.column(key), strict=True)) for key in keyed}
    hashes = {case.slide: _content(case) for case in cases}
    found = SlideTable(table, tuple(cases), tuple(lost), keys, hashes)
    _twice(found, table)
    enough(found.cases, table.name)
    return found


def enough(cases: Sequence[SlideCase], table: str) -> None:
    """Raise unless two patients have an annotated slide."""
    drawn = {case.patient for case in cases if case.annotation is not None}
    if len(drawn) < 2:
        raise TableError(
            f"{table}: {len(drawn)} patient{'' if len(drawn) == 1 else 's'} with an annotated slide that can be used",
            why="A classifier is fitted to some patients and judged on others.",
            do="Annotate slides of two or more patients; or mend the files that are named as missing.",
        )


def findings(loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost]) -> list[Finding]:
    """Coded checks of a region study: times, slides of two patients, losses."""
    out = []
    schema = loaded.schema
    for name, block in schema.inputs.items():
        known = schema.available(name)
        if schema.times.index(known) > schema.times.index(schema.time_of_prediction):
            out.append(
                Finding(
                    "OSML014", f"known at {known}, prediction is at {schema.time_of_prediction}", block.label or name
                )
            )
    shared = [cases for cases in _same_files(slides) if len({case.patient for case in cases}) > 1]
    for cases in shared:
        told = ", ".join(f"{case.slide} ({case.patient})" for case in cases)
        out.append(Finding("OSML023", f"one file under two patients: {told}"))
    if lost:
        everybody = {case.patient for case in slides.cases} | {one.patient for one in slides.lost}
        left = {case.patient for case in slides.cases} - _without(slides, lost)
        gone = len(everybody - left)
        reasons: dict[str, int] = {}
        for one in lost:
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
        told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        whole = len(slides.cases) + len(slides.lost)
        evidence = f"{len(lost)} of {whole} slides ({told}), {gone} of {len(everybody)} patients"
        out.append(Finding("OSML020", evidence))
        if gone > LOST_TOO_MANY * len(everybody):
            out.append(Finding("OSML022", evidence))
    return out


def without(slides: SlideTable, lost: Sequence[Lost]) -> tuple[SlideCase, ...]:
    """The cases that are not lost."""
    gone = {one.slide for one in lost}
    return tuple(case for case in slides.cases if case.slide not in gone)


def _without(slides: SlideTable, lost: Sequence[Lost]) -> set[str]:
    """Patients none of whose slides is left."""
    return {case.patient for case in slides.cases} - {case.patient for case in without(slides, lost)}


def _names(
    table: Table, patients: Sequence[str], slides: Sequence[str], columns: tuple[str, str], missing: set[str]
) -> None:
    problems = []
    for what, column, cells in (("patient", columns[0], patients), ("slide", columns[1], slides)):
        for i, cell in enumerate(cells):
            if cell in missing or not cell.strip():
                problems.append(CellProblem(i, column, f"the name of the {what} is empty"))
            elif cell != cell.strip():
                problems.append(CellProblem(i, column, f"{cell!r} has blanks around it: one {what} could count as two"))
    first: dict[str, int] = {}
    for i, cell in enumerate(slides):
        if first.setdefault(cell, i) != i:
            told = f"slide {cell!r} is named on line {table.lines[first[cell]]} already"
            problems.append(CellProblem(i, columns[1], told))
        elif cell.strip() in (".", "..") or any(mark in cell for mark in "/\\\0"):
            problems.append(CellProblem(i, columns[1], f"{cell!r} cannot name files of results"))
    if problems:
        raise table_problems(problems, table, list(patients))


def _same_files(slides: SlideTable) -> list[list[SlideCase]]:
    """Slides that share their file's content, two or more each."""
    groups: dict[str, list[SlideCase]] = {}
    for case in slides.cases:
        groups.setdefault(slides.hashes[case.slide].partition(":")[0], []).append(case)
    return [group for group in groups.values() if len(group) > 1]


def _twice(slides: SlideTable, table: Table) -> None:
    """A file twice for one patient, or one annotation for two slides: its area would count twice."""
    lines = []
    for group in _same_files(slides):
        if len({case.patient for case in group}) == 1:
            lines.append(f"{', '.join(case.slide for case in group)} of patient {group[0].patient} are the same file")
    drawn: dict[Path, list[SlideCase]] = {}
    for case in slides.cases:
        if case.annotation is not None:
            drawn.setdefault(case.annotation.resolve(), []).append(case)
    lines += [
        f"{place.name} is the annotation of {', '.join(case.slide for case in group)}"
        for place, group in drawn.items() if len(group) > 1
    ]  # fmt: skip
    if lines:
        more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        raise TableError(
            f"{table.name}: files stand twice; nothing was fitted.",
            why="Areas would count twice, or come from another slide's annotation.",
            do="\n  ".join([*lines[:_LISTED], *more]),
        )


def _content(case: SlideCase) -> str:
    """Hash of the slide's file and, after a colon, of its annotation."""
    drawn = "" if case.annotation is None else sha256_file(case.annotation)
    return f"{slide_key(case.path)}:{drawn}"


def predicted_only(case: SlideCase) -> SlideCase:
    """The same slide without its annotation."""
    return replace(case, annotation=None)
