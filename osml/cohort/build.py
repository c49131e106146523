"""From table rows to a cohort: one unit per patient (or row), outcome, exclusions with reasons.

Every problem of the table is collected and raised at once. Nothing is dropped without a reason in `exclusions`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem, parse_numbers
from osml.cohort.cohort import BinaryOutcome, Cohort, Exclusion, Float, Outcome, SurvivalOutcome
from osml.cohort.inputs import ParsedInputs, Where, columns_of, parse_inputs, require_columns
from osml.cohort.table import Table, read_table
from osml.errors import TableError
from osml.schema.load import LoadedSchema
from osml.schema.model import (
    BinaryTarget,
    Holdout,
    LeaveOneGroupOut,
    Schema,
    SurvivalTarget,
    TimeSplit,
)
from osml.schema.suggest import closest

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
    outcome, no_outcome, target_problems = _outcome(schema, table)
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
    )
    cohort = _exclude(cohort, no_outcome[index], "no outcome", [table.where(int(i)) for i in index])
    eligible = cohort
    if schema.missing == "complete_case":
        used = {name for p in schema.predictors.values() for name in p.inputs if name in schema.inputs}
        for name in (n for n in schema.values() if n in used):
            places = dict(zip(units, (table.where(int(i)) for i in index), strict=True))
            gone = np.isnan(cohort.values[name])
            cohort = _exclude(cohort, gone, f"{name} missing (complete_case)", [places[u] for u in cohort.units])
            if any(p.encode.get(name, "value") != "value" for p in schema.nomograms().values()):
                low, high = cohort.kit[name]
                reason = f"kit range of {name} missing (complete_case)"
                cohort = _exclude(cohort, np.isnan(low) | np.isnan(high), reason, [places[u] for u in cohort.units])
    require_outcomes(cohort, table.name)
    return BuiltCohort(cohort, eligible, table, parsed.altered, len(table.rows))


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


def target_columns(schema: Schema, where: Where) -> list[tuple[str, str]]:
    """(column, file:line that asks for it) of the outcome."""
    target = schema.target
    if isinstance(target, BinaryTarget):
        return [(target.column, where("target", "column"))]
    columns = [(target.time, where("target", "time")), (target.event, where("target", "event"))]
    if target.competing != "none":
        columns += [(column, where("target", "competing")) for column in target.competing]
    return columns


def _key_columns(schema: Schema, where: Where) -> list[tuple[str, str]]:
    split = schema.validation.split
    keys = []
    if isinstance(split, (LeaveOneGroupOut, TimeSplit, Holdout)):
        keys.append((split.column, where("validation", "split", "column")))
    if schema.cohort.site:
        keys.append((schema.cohort.site, where("cohort", "site")))
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


def _outcome(schema: Schema, table: Table) -> tuple[Outcome, NDArray[np.bool_], list[CellProblem]]:
    target, missing = schema.target, set(schema.cohort.missing)
    if isinstance(target, BinaryTarget):
        y, gone, problems, negative = _two_valued(target.column, target.positive, target.negative, table, missing)
        return BinaryOutcome(y, target.positive, negative), gone, problems
    return _survival(target, table, missing)


def _two_valued(
    column: str, positive: str, negative: str | None, table: Table, missing: set[str]
) -> tuple[Float, NDArray[np.bool_], list[CellProblem], str]:
    cells = table.column(column)
    values = [cell for cell in dict.fromkeys(cells) if cell == positive or cell not in missing]
    others = [value for value in values if value != positive]
    problems: list[CellProblem] = []
    if positive not in values:
        near = closest(positive, values)
        meant = f"did you mean {near!r}?" if near is not None else f"its values: {values[:10]}"
        raise TableError(f"{table.name}: column {column!r} never holds the positive value {positive!r}; {meant}")
    if negative is None:
        if len(others) > 1:
            raise TableError(
                f"{table.name}: outcome {column!r} has {len(values)} values besides missing: {values[:10]}",
                why="Which of them is the absence of the event would be a guess.",
                do="Set `negative:` in the target, or write a column with two values. Competing events have a key.",
            )
        negative = others[0] if others else "(none)"
    y = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell == positive:
            y[i] = 1.0
        elif cell == negative:
            y[i] = 0.0
        elif cell not in missing:
            problems.append(CellProblem(i, column, f"{cell!r} is neither {positive!r} nor {negative!r}"))
    return y, np.isnan(y), problems, negative


def _survival(
    target: SurvivalTarget, table: Table, missing: set[str]
) -> tuple[Outcome, NDArray[np.bool_], list[CellProblem]]:
    parsed = parse_numbers(target.time, table.column(target.time), missing=missing)
    y, gone, problems, _ = _two_valued(target.event, target.positive, target.negative, table, missing)
    problems += parsed.problems
    for i in np.flatnonzero(parsed.values <= 0):
        value = parsed.values[i]
        message = f"follow-up of {value:g} {target.unit}s: a patient at risk has a time above 0; correct or remove it"
        problems.append(CellProblem(int(i), target.time, message))
    event, time = y == 1.0, parsed.values.copy()
    competing = None
    if target.competing != "none":
        competing = np.zeros(len(time), dtype=bool)
        for column in target.competing:
            other, unknown, more, _ = _two_valued(column, "1", None, table, missing)
            competing |= other == 1.0
            gone = gone | unknown
            problems += more
            message = f"the event ({target.event!r}) and the competing event {column!r} both happened; one came first"
            problems += [CellProblem(int(i), target.event, message) for i in np.flatnonzero(event & (other == 1.0))]
    if target.censor_at is not None:
        beyond = time > target.censor_at
        event, time = event & ~beyond, np.where(beyond, target.censor_at, time)
        competing = None if competing is None else competing & ~beyond
    return SurvivalOutcome(time, event, target.unit, target.horizons, competing), gone | np.isnan(time), problems


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
            differing = _differences(i, j, parsed, keys, outcome)
            if differing:
                message = f"differs from line {table.lines[j]} of the same patient in {', '.join(differing)}"
                problems.append(CellProblem(i, "row", message))
    return list(first.values()), problems


def _differences(i: int, j: int, parsed: ParsedInputs, keys: dict[str, tuple[str, ...]], outcome: Outcome) -> list[str]:
    columns: dict[str, Float] = dict(parsed.values)
    paths = [f"the path of {name}" for name, cells in parsed.files.items() if cells[i] != cells[j]]
    for name, (low, high) in parsed.kit.items():
        columns |= {f"the lower kit limit of {name}": low, f"the upper kit limit of {name}": high}
    if isinstance(outcome, BinaryOutcome):
        columns["the outcome"] = outcome.y
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


def require_outcomes(cohort: Cohort, table: str) -> None:
    """Raise TableError where nothing could be learnt: nobody is left, or one class has fewer than 2 patients.

    table : its name, for messages
    """
    if not len(cohort):
        reasons = sorted({e.reason for e in cohort.exclusions})
        raise TableError(f"no patient of {table} is left: all were excluded", do=f"Reasons: {'; '.join(reasons)}.")
    if isinstance(cohort.outcome, BinaryOutcome):
        event = cohort.outcome.event
        for found, word in ((event.sum(), "the event"), ((~event).sum(), "no event")):
            if found < 2:
                raise TableError(
                    f"only {int(found)} of {len(event)} patients have {word}: nothing can be learnt or validated",
                    do=f"`target.positive` is {cohort.outcome.positive!r}; check the outcome column.",
                )
    elif isinstance(cohort.outcome, SurvivalOutcome):
        if cohort.outcome.event.sum() < 2:
            raise TableError(
                f"only {cohort.outcome.event.sum()} of {len(cohort)} patients have the event: nothing can be learnt",
                do="Check `target.positive`, `censor_at`, and the columns of events: a missing cell is no outcome.",
            )
        late = [h for h in cohort.outcome.horizons if h > cohort.outcome.time.max()]
        if late:
            longest = f"{cohort.outcome.time.max():g} {cohort.outcome.unit}s"
            raise TableError(
                f"horizons {', '.join(f'{h:g}' for h in late)} lie beyond the longest follow-up ({longest})",
                do="Choose horizons that patients have been followed to.",
            )
