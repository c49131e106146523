"""The outcome column or columns of a table: binary, time to an event, or classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem, parse_numbers
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, Float, Outcome, SurvivalOutcome
from osml.cohort.inputs import Where
from osml.cohort.table import Table
from osml.errors import TableError
from osml.schema.model import Schema
from osml.schema.slides import RegionTarget
from osml.schema.suggest import closest
from osml.schema.targets import BinaryTarget, ClassesTarget, HierarchyTarget, SurvivalTarget, tree_of


def target_columns(schema: Schema, where: Where) -> list[tuple[str, str]]:
    """(column, file:line that asks for it) of the outcome."""
    target = schema.target
    if not isinstance(target, SurvivalTarget):
        return [(target.column, where("target", "column"))]
    columns = [(target.time, where("target", "time")), (target.event, where("target", "event"))]
    if target.competing != "none":
        columns += [(column, where("target", "competing")) for column in target.competing]
    return columns


def read_outcome(schema: Schema, table: Table) -> tuple[Outcome, NDArray[np.bool_], list[CellProblem]]:
    """Outcome of every row, which rows have none, and cells that cannot be used."""
    target, missing = schema.target, set(schema.cohort.missing)
    if isinstance(target, RegionTarget):
        raise TableError(
            "this study's target is regions of slides; it has no table of patients with outcomes",
            do="`osml check` and `osml fit` know such studies; what else reads a table does not.",
        )
    if isinstance(target, BinaryTarget):
        y, gone, problems, negative = _two_valued(target.column, target.positive, target.negative, table, missing)
        return BinaryOutcome(y, target.positive, negative), gone, problems
    return _survival(target, table, missing) if isinstance(target, SurvivalTarget) else _labels(target, table, missing)


def _labels(
    target: ClassesTarget, table: Table, missing: set[str]
) -> tuple[Outcome, NDArray[np.bool_], list[CellProblem]]:
    tree = tree_of(target)
    partial = target.partial if isinstance(target, HierarchyTarget) else {}
    known = {name: tree.nodes.index(partial.get(name, name)) for name in (*tree.nodes, *partial)}
    cells = table.column(target.column)
    node = np.full(len(cells), -1, dtype=np.intp)
    problems = []
    for i, cell in enumerate(cells):
        if cell in known:
            node[i] = known[cell]
        elif cell not in missing:
            near = closest(cell, known)
            meant = f"did you mean {near!r}?" if near is not None else f"known: {', '.join(known)}"
            problems.append(CellProblem(i, target.column, f"{cell!r} is not a class; {meant}"))
    return ClassOutcome(np.maximum(node, 0), tree), node < 0, problems


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
    elif isinstance(cohort.outcome, ClassOutcome):
        few = dict.fromkeys(cohort.outcome.tree.leaves, 0)
        few |= {name: int(units.sum()) for name, units in cohort.outcome_groups().items() if name in few}
        for name, found in few.items():
            if found < 2:
                raise TableError(
                    f"only {found} of {len(cohort)} {'rows' if cohort.per_row else 'patients'} are {name!r}: nothing "
                    "can be learnt of that class",
                    do="Check the outcome column, or leave the class out of the target and its rows out of the table.",
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
