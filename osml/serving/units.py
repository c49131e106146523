"""Which rows of a table are one unit: each row, or all rows of a patient where a patient may have several images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.cohort.inputs import ParsedInputs
from osml.cohort.table import Table
from osml.schema.images import ImageInput
from osml.schema.model import Schema

OK = "ok"


@dataclass(frozen=True)
class Units:
    """Rows of a table by unit.

    of : unit of each row
    first : the first row of each unit, whose cells count
    """

    of: NDArray[np.intp]
    first: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.first)

    def rows(self, unit: int) -> NDArray[np.intp]:
        """The rows of a unit."""
        return np.flatnonzero(self.of == unit)


def each_row(n: int) -> Units:
    """Every row is its own unit."""
    return Units(np.arange(n), np.arange(n))


def gathered(schema: Schema, table: Table, images: Sequence[str]) -> Units:
    """As `fit` does it: the rows of a patient belong together where an image has `several: true`."""
    several = any(_several(schema, name) for name in images)
    if schema.cohort.row is not None or not several or schema.cohort.patient not in table.columns:
        return each_row(len(table.rows))
    place: dict[str, int] = {}
    of: list[int] = []
    first: list[int] = []
    missing = {*schema.cohort.missing, ""}
    for i, patient in enumerate(table.column(schema.cohort.patient)):
        known = patient.strip() not in missing
        if not known or patient not in place:
            if known:
                place[patient] = len(first)
            of.append(len(first))
            first.append(i)
        else:
            of.append(place[patient])
    return Units(np.array(of, dtype=np.intp), np.array(first, dtype=np.intp))


def spread_faults(schema: Schema, table: Table, parsed: ParsedInputs, units: Units, status: list[str]) -> None:
    """Adds to `status`: rows that contradict their patient's first row, and rows of a patient whose row is unusable."""
    if len(units) == len(status):
        return
    for i in range(len(status)):
        j = int(units.first[units.of[i]])
        differing = _differences(schema, parsed, i, j) if i != j and status[i] == OK else []
        if differing:
            status[i] = f"differs from line {table.lines[j]} of the same patient in {', '.join(differing)}"
    share_faults(table, units, status)


def share_faults(table: Table, units: Units, status: list[str]) -> None:
    """A patient with an unusable row has no prediction: its other rows say which row that is."""
    if len(units) == len(status):
        return
    bad: dict[int, int] = {}
    for i, text in enumerate(status):
        if text != OK:
            bad.setdefault(int(units.of[i]), i)
    for i, text in enumerate(status):
        unit = int(units.of[i])
        if text == OK and unit in bad:
            status[i] = f"line {table.lines[bad[unit]]} of the same patient cannot be used"


def unit_paths(schema: Schema, parsed: ParsedInputs, units: Units, name: str) -> list[tuple[str, ...]]:
    """Paths of an image input of every unit, each once, in the order of the table."""
    cells = parsed.files.get(name)
    if cells is None:
        return [()] * len(units)
    if not _several(schema, name):
        return [(cells[i],) if cells[i] else () for i in units.first]
    out: list[dict[str, None]] = [{} for _ in range(len(units))]
    for i, path in enumerate(cells):
        if path:
            out[units.of[i]][path] = None
    return [tuple(found) for found in out]


def _several(schema: Schema, name: str) -> bool:
    block = schema.inputs[name]
    return isinstance(block, ImageInput) and block.several


def _differences(schema: Schema, parsed: ParsedInputs, i: int, j: int) -> list[str]:
    columns: Mapping[str, NDArray[np.float64]] = parsed.values
    kits = {f"the kit limits of {name}": ends for name, ends in parsed.kit.items()}
    out = [name for name, x in columns.items() if not _same(x[i], x[j])]
    out += [name for name, (low, high) in kits.items() if not (_same(low[i], low[j]) and _same(high[i], high[j]))]
    for key, cells in parsed.files.items():
        if (key not in schema.inputs or not _several(schema, key)) and cells[i] != cells[j]:
            out.append(f"the path of {key}")
    return out


def _same(a: float, b: float) -> bool:
    return bool(a == b or (np.isnan(a) and np.isnan(b)))
