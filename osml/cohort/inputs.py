"""Inputs of a schema read from a table: types, units, kit ranges. Used alike by `fit` and by `predict`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem, Column, parse_levels, parse_numbers
from osml.cohort.table import Table
from osml.cohort.units import conversion_factor
from osml.errors import TableError
from osml.schema.images import ImageInput, RadiomicsInput, VolumeInput
from osml.schema.model import BinaryInput, CategoryInput, ColumnUnit, Input, Kit, LabInput, Schema, ValueInput
from osml.schema.suggest import hint

Float = NDArray[np.float64]
Where = Callable[..., str]


@dataclass
class ParsedInputs:
    """Values per table row, before rows are gathered into patients."""

    values: dict[str, Float] = field(default_factory=dict)
    kit: dict[str, tuple[Float, Float]] = field(default_factory=dict)
    problems: list[CellProblem] = field(default_factory=list)
    altered: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_inputs(schema: Schema, table: Table, where: Where, names: Collection[str] | None = None) -> ParsedInputs:
    """Read the inputs called `names` (default: all) from a table; bad cells are collected, not raised."""
    wanted = {name: block for name, block in schema.inputs.items() if names is None or name in names}
    require_columns(columns_of(wanted, where), table)
    missing = set(schema.cohort.missing)
    out = ParsedInputs()
    for key, source in file_columns(wanted).items():
        out.files[key] = tuple("" if cell in missing else cell for cell in table.column(source))
    for name, block in wanted.items():
        if not isinstance(block, ValueInput):
            continue
        column = _parse(name, block, table, missing, where)
        out.values[name] = column.values
        out.problems += column.problems
        if column.altered:
            out.altered[name] = column.altered
    for name, block in wanted.items():
        if isinstance(block, LabInput) and block.kit is not None:
            out.kit[name] = _kit_range(name, block, block.kit, schema, table, missing, out, where)
    return out


def columns_of(inputs: dict[str, Input], where: Where) -> list[tuple[str, str]]:
    """(column, file:line that asks for it) of every column that these inputs read."""
    out: list[tuple[str, str]] = []
    for name, block in inputs.items():
        if not isinstance(block, ValueInput):
            places = file_columns({name: block})
            out += [(column, where("inputs", *key.split("."))) for key, column in places.items()]
            continue
        out.append((block.column or name, where("inputs", name, "column")))
        if isinstance(block, LabInput) and block.kit is not None:
            sides = (("low", block.kit.low), ("high", block.kit.high))
            out += [(side, where("inputs", name, "kit", key)) for key, side in sides if isinstance(side, str)]
        unit = getattr(block, "table_unit", None)
        if isinstance(unit, ColumnUnit):
            out.append((unit.column, where("inputs", name, "table_unit")))
    return out


def file_columns(inputs: Mapping[str, Input]) -> dict[str, str]:
    """Every column of paths: `input`, `input.mask`, `input.body`, and `input.stability` for a second reader's masks."""
    out: dict[str, str] = {}
    for name, block in inputs.items():
        if isinstance(block, (VolumeInput, ImageInput)):
            out[name] = block.column or name
            if block.mask is not None:
                out[f"{name}.mask"] = block.mask.column
        if isinstance(block, VolumeInput) and block.body is not None:
            out[f"{name}.body"] = block.body
        if isinstance(block, RadiomicsInput) and block.stability is not None and block.stability.masks is not None:
            out[f"{name}.stability"] = block.stability.masks
    return out


def require_columns(asked: list[tuple[str, str]], table: Table) -> None:
    """Raise one error naming every column that is not in the table, with the line that asks for it."""
    absent = [(column, place) for column, place in asked if column not in table.columns]
    if absent:
        lines = [f"{place}: no column {c!r} in {table.name}. {hint(c, table.columns)}" for c, place in absent]
        raise TableError(
            f"{len(absent)} column{'s' if len(absent) != 1 else ''} not found in {table.name}",
            do="\n  ".join(dict.fromkeys(lines)),
        )


def _parse(name: str, block: ValueInput, table: Table, missing: set[str], where: Where) -> Column:
    cells = table.column(block.column or name)
    if isinstance(block, (BinaryInput, CategoryInput)):
        groups = block.groups if isinstance(block, CategoryInput) else None
        # A level that is also a missing token is a level: the schema's levels are the more specific statement.
        return parse_levels(name, cells, block.levels, missing=missing, groups=groups)
    factors: list[float | str] | float = 1.0
    if block.table_unit is not None:
        place = where("inputs", name, "table_unit")
        if block.unit is None:
            raise TableError(f"{place}: `table_unit` needs `unit`, the unit to convert to")
        if isinstance(block.table_unit, ColumnUnit):
            factors = _unit_column(table, block.table_unit.column, block.unit, missing)
        else:
            factors = conversion_factor(block.table_unit, block.unit, place)
    censored = block.censored
    return parse_numbers(
        name,
        cells,
        missing=missing,
        below=censored.below if censored else None,
        above=censored.above if censored else None,
        limits=block.limits,
        factors=factors,
    )


def _unit_column(table: Table, column: str, unit: str, missing: set[str]) -> list[float | str]:
    """A factor per row, or why there is none: a row without a value may lack its unit, so this is not yet an error."""
    known: dict[str, float | str] = {}
    cells = table.column(column)
    for text in dict.fromkeys(cells):
        if text in missing or not text.strip():
            known[text] = f"the value has no unit: column {column!r} is empty here"
            continue
        try:
            known[text] = conversion_factor(text, unit, f"column {column!r}")
        except TableError as error:
            known[text] = " ".join(filter(None, (f"{error.what};", error.do)))
    return [known[text] for text in cells]


def _kit_range(
    name: str,
    block: LabInput,
    kit: Kit,
    schema: Schema,
    table: Table,
    missing: set[str],
    out: ParsedInputs,
    where: Where,
) -> tuple[Float, Float]:
    n = len(table.rows)
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    if kit.bands is not None:
        low, high = _banded(name, kit, schema, out, n)
    else:
        for side, target in ((kit.low, low), (kit.high, high)):
            if isinstance(side, str):
                column = parse_numbers(f"{name} (kit, column {side})", table.column(side), missing=missing)
                target[:] = column.values
                out.problems += column.problems
            elif side is not None:
                target[:] = side
    for i in np.flatnonzero(low >= high):
        out.problems.append(CellProblem(int(i), name, f"kit range {low[i]:g} to {high[i]:g}: low is not below high"))
    return low, high


def _banded(name: str, kit: Kit, schema: Schema, out: ParsedInputs, n: int) -> tuple[Float, Float]:
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    by = kit.by
    sex = out.values.get(by.sex) if by is not None and by.sex else None
    age = out.values.get(by.age) if by is not None and by.age else None
    hits = np.zeros(n, dtype=int)
    for band in kit.bands or ():
        inside = np.ones(n, dtype=bool)
        if band.sex is not None and sex is not None and by is not None and by.sex is not None:
            levels = getattr(schema.inputs[by.sex], "levels", ())
            inside &= sex == levels.index(band.sex)
        if band.age is not None and age is not None:
            inside &= (age >= band.age[0]) & (age < band.age[1])
        low[inside], high[inside] = band.low, band.high
        hits += inside
    for i in np.flatnonzero(hits > 1):
        out.problems.append(CellProblem(int(i), name, "two kit bands apply to this row"))
    return low, high
