"""From table rows to a cohort: one unit per patient (or row), outcome, exclusions with reasons.

Every problem of the table is collected and raised at once. Nothing is dropped without a reason in `exclusions`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, Exclusion, Float, Outcome
from osml.cohort.inputs import ParsedInputs, Where, columns_of, parse_inputs, require_columns
from osml.cohort.outcomes import read_outcome, require_outcomes, target_columns
from osml.cohort.table import Table, read_table
from osml.errors import TableError
from osml.schema.images import ImageInput
from osml.schema.load import LoadedSchema
from osml.schema.model import (
    Holdout,
    LeaveOneGroupOut,
    Schema,
    TimeSplit,
)

LISTED = 12
FEW_KINDS = 3
_VALUE = re.compile(r"'[^']*'|[-+]?[0-9][0-9.,eE+-]*")


@dataclass(frozen=True)
class BuiltCohort:
    """A cohort and what reading it showed.

    `eligible` still holds the patients whom `complete_case` excludes: missingness is judged on it.
    """

    cohort: Cohort
    eligible: Cohort
    table: Table
    altered: dict[str, dict[str, int]]
    rows: int


def read_cohort(loaded: LoadedSchema) -> BuiltCohort:
    """Read the table of a schema into a cohort.

    Raises
    ------
    TableError
        Every misspelt column, unknown level, impossible value, duplicate or contradictory row, at once.
    """
    block = loaded.schema.cohort
    return build_cohort(loaded, read_table(loaded.table_path, delimiter=block.delimiter, sheet=block.sheet))


def build_cohort(loaded: LoadedSchema, table: Table) -> BuiltCohort:
    """The cohort of a table that is already in memory; errors as `read_cohort`."""
    schema, where = loaded.schema, loaded.where
    block = schema.cohort
    asked = [(block.patient, where("cohort", "patient")), *target_columns(schema, where)]
    asked += [(column, place) for column, place in _key_columns(schema, where)]
    if block.row:
        asked.append((block.row, where("cohort", "row")))
    require_columns([*asked, *columns_of(dict(schema.inputs), where)], table)

    patients = table.column(block.patient)
    problems = _empty_ids("patient", block.patient, table, block.missing)
    if block.row:
        problems += _empty_ids("row", block.row, table, block.missing)
    problems += [
        CellProblem(
            i, block.patient, f"the patient id {patient!r} has blanks around it: one patient could count as two"
        )
        for i, patient in enumerate(patients)
        if patient.strip() and patient != patient.strip()
    ]
    parsed = parse_inputs(schema, table, where)
    outcome, no_outcome, target_problems = read_outcome(schema, table)
    problems += parsed.problems + _logarithms(schema, parsed) + target_problems
    # Missing tokens become empty: a site called "-" would otherwise be a site.
    keys = {
        column: tuple("" if cell in block.missing else cell for cell in table.column(column))
        for column, _ in _key_columns(schema, where)
    }
    first, row_problems = _units(schema, table, patients, parsed, keys, outcome)
    problems += row_problems
    if problems:
        raise table_problems(problems, table, patients)

    index = np.array(first, dtype=np.intp)
    if block.row:
        units = tuple(table.column(block.row)[i] for i in index)
    else:
        units = tuple(patients[i] for i in index)
    cohort = Cohort(
        units=units,
        patients=tuple(patients[i] for i in index),
        copies=np.zeros(len(index), dtype=np.intp),
        values={name: column[index] for name, column in parsed.values.items()},
        kit={name: (low[index], high[index]) for name, (low, high) in parsed.kit.items()},
        keys={name: tuple(texts[i] for i in index) for name, texts in keys.items()},
        outcome=outcome.take(index),
        per_row=block.row is not None,
        files={name: tuple(paths[i] for i in index) for name, paths in parsed.files.items()},
        several=_several(schema, table, parsed, index),
    )
    cohort = _exclude(cohort, no_outcome[index], "no outcome", [table.where(int(i)) for i in index])
    eligible = cohort
    if schema.missing == "complete_case":
        used = {name for p in schema.predictors.values() for name in p.inputs if name in schema.inputs}
        kits = {name for p in schema.nomograms().values() for name, how in p.encode.items() if how != "value"}
        kits |= {name for p in schema.networks().values() for name, how in p.encode.items() if how == "kit"}
        places = dict(zip(units, (table.where(int(i)) for i in index), strict=True))
        for name in (n for n in schema.values() if n in used):
            gone = np.isnan(cohort.values[name])
            cohort = _exclude(cohort, gone, f"{name} missing (complete_case)", [places[u] for u in cohort.units])
            if name in kits:
                low, high = cohort.kit[name]
                reason = f"kit range of {name} missing (complete_case)"
                cohort = _exclude(cohort, np.isnan(low) | np.isnan(high), reason, [places[u] for u in cohort.units])
        for name in (n for n in schema.images_read() if n in used):
            gone = np.array([not paths for paths in cohort.paths(name)], dtype=bool)
            cohort = _exclude(cohort, gone, f"{name} missing (complete_case)", [places[u] for u in cohort.units])
    require_outcomes(cohort, table.name)
    return BuiltCohort(cohort, eligible, table, parsed.altered, len(table.rows))


def _several(
    schema: Schema, table: Table, parsed: ParsedInputs, index: NDArray[np.intp]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Of inputs with `several: true`, all paths of each unit, each once, in the order of the table."""
    ids = table.column(schema.cohort.row or schema.cohort.patient)
    out: dict[str, tuple[tuple[str, ...], ...]] = {}
    for key in (key for key in parsed.files if schema_several(schema, key)):
        found: dict[str, dict[str, None]] = {}
        for name, path in zip(ids, parsed.files[key], strict=True):
            if path:
                found.setdefault(name, {})[path] = None
        out[key] = tuple(tuple(found.get(ids[i], ())) for i in index)
    return out


def table_problems(problems: Iterable[CellProblem], table: Table, patients: list[str]) -> TableError:
    """One error for all bad cells, grouped by input and kind, with lines and patients.

    A column in which every cell has the same fault is one line, so that it does not hide the others.
    """
    same: dict[tuple[str, str], list[int]] = {}
    for problem in problems:
        same.setdefault((problem.input, problem.message), []).append(problem.row)
    kinds: dict[tuple[str, str], list[tuple[str, list[int]]]] = {}
    for (name, message), rows in same.items():
        kinds.setdefault((name, _VALUE.sub("…", message)), []).append((message, rows))
    groups: list[tuple[str, str, list[int]]] = []
    for (name, _), members in kinds.items():
        if len(members) <= FEW_KINDS:
            groups += [(name, message, rows) for message, rows in members]
            continue
        rows = sorted(row for _, found in members for row in found)
        groups.append((name, f"{members[0][0]} and {len(members) - 1} other values alike", rows))
    lines = []
    for name, message, rows in groups:
        shown = ", ".join(f"line {table.lines[i]} ({patients[i] or 'no id'})" for i in rows[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        lines.append(f"{name}: {message}: {shown}{more}")
    cells = sum(len(rows) for _, _, rows in groups)
    shown_lines = lines[:LISTED] + ([f"… and {len(lines) - LISTED} more kinds"] if len(lines) > LISTED else [])
    return TableError(
        f"{cells} cell{'s' if cells != 1 else ''} of {table.name} cannot be used; nothing was fitted.",
        do="\n  ".join(shown_lines),
    )


def _key_columns(schema: Schema, where: Where) -> list[tuple[str, str]]:
    split = schema.validation.split
    keys = []
    if isinstance(split, (LeaveOneGroupOut, TimeSplit, Holdout)):
        keys.append((split.column, where("validation", "split", "column")))
    if schema.cohort.site:
        keys.append((schema.cohort.site, where("cohort", "site")))
    if schema.cohort.position:
        place = schema.cohort.position
        columns = (("slide", place.slide), ("x", place.x), ("y", place.y))
        keys += [(column, where("cohort", "position", key)) for key, column in columns]
    return keys


def _empty_ids(what: str, column: str, table: Table, missing: Collection[str]) -> list[CellProblem]:
    return [
        CellProblem(i, column, f"the {what} id is empty")
        for i, cell in enumerate(table.column(column))
        if cell in missing or not cell.strip()
    ]


def _logarithms(schema: Schema, parsed: ParsedInputs) -> list[CellProblem]:
    """Values that some predictor cannot take the logarithm of; as multiples of an upper limit, that limit as well."""
    logged = {(n, p.encode.get(n)) for p in schema.nomograms().values() for n, how in p.terms.items() if how == "log"}
    rule = "enters as a logarithm, so it must be above 0"
    problems: list[CellProblem] = []
    for name in schema.inputs:
        if any(name == n for n, _ in logged):
            x = parsed.values[name]
            problems += [CellProblem(int(i), name, f"{x[i]:g} {rule}") for i in np.flatnonzero(x <= 0)]
        if (name, "uln") in logged:
            high = parsed.kit[name][1]
            message = "the upper kit limit {:g} " + rule
            problems += [CellProblem(int(i), name, message.format(high[i])) for i in np.flatnonzero(high <= 0)]
    return problems


def _units(
    schema: Schema,
    table: Table,
    patients: list[str],
    parsed: ParsedInputs,
    keys: dict[str, tuple[str, ...]],
    outcome: Outcome,
) -> tuple[list[int], list[CellProblem]]:
    """The first table row of every unit, and rows that repeat or contradict another."""
    problems: list[CellProblem] = []
    names = table.column(schema.cohort.row) if schema.cohort.row else patients
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name not in first:
            first[name] = i
            continue
        j = first[name]
        if table.rows[i] == table.rows[j]:
            problems.append(CellProblem(i, "row", f"this row repeats line {table.lines[j]}; keep one"))
        elif schema.cohort.row:
            problems.append(CellProblem(i, schema.cohort.row, f"row id {name!r} stands on line {table.lines[j]} too"))
        else:
            differing = _differences(schema, i, j, parsed, keys, outcome)
            if differing:
                message = f"differs from line {table.lines[j]} of the same patient in {', '.join(differing)}"
                problems.append(CellProblem(i, "row", message))
    return list(first.values()), problems


def schema_several(schema: Schema, key: str) -> bool:
    """Whether the rows of a patient may differ in this column of paths."""
    return isinstance(block := schema.inputs.get(key), ImageInput) and block.several


def _differences(
    schema: Schema, i: int, j: int, parsed: ParsedInputs, keys: dict[str, tuple[str, ...]], outcome: Outcome
) -> list[str]:
    columns: dict[str, Float] = dict(parsed.values)
    free = {key for key in parsed.files if schema_several(schema, key)}
    paths = [f"the path of {name}" for name, cells in parsed.files.items() if name not in free and cells[i] != cells[j]]
    for name, (low, high) in parsed.kit.items():
        columns |= {f"the lower kit limit of {name}": low, f"the upper kit limit of {name}": high}
    if isinstance(outcome, BinaryOutcome):
        columns["the outcome"] = outcome.y
    elif isinstance(outcome, ClassOutcome):
        columns["the class"] = outcome.node.astype(float)
    else:
        columns |= {"the follow-up time": outcome.time, "the event": outcome.event.astype(float)}
        if outcome.competing is not None:
            columns["the competing event"] = outcome.competing.astype(float)
    out = [name for name, column in columns.items() if not _same(column[i], column[j])]
    return out + [name for name, texts in keys.items() if texts[i] != texts[j]] + paths


def _same(a: float, b: float) -> bool:
    return bool(a == b or (np.isnan(a) and np.isnan(b)))


def _exclude(cohort: Cohort, gone: NDArray[np.bool_], reason: str, places: list[str]) -> Cohort:
    if not gone.any():
        return cohort
    rows = np.flatnonzero(gone)
    names = cohort.units if cohort.per_row else cohort.patients
    return cohort.excluding(gone, [Exclusion(names[i], reason, places[i]) for i in rows])
