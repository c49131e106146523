"""Rows of new patients as a model's schema reads them: cells, sites, images; each row is usable or says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem
from osml.cohort.cohort import Cohort
from osml.cohort.inputs import ParsedInputs, parse_inputs, require_columns
from osml.cohort.table import Table
from osml.predictors.chain import Chain
from osml.schema.model import Schema
from osml.serving.form import (
    NOT_GIVEN,
    SITE,
    FormTable,
    form_schema,
    image_fields,
    needed_inputs,
    reading_schema,
    sites,
)
from osml.serving.measured import Measured, measure_rows

NO_IMAGE = "needs {}: no file is given"
NOT_FOLLOWED = "needs {}: paths in this table are not followed; give the files themselves, or use `osml predict`"
OK = "ok"


@dataclass(frozen=True)
class Reading:
    """What a table's rows hold; `status` is "ok" or why a row cannot be used."""

    parsed: ParsedInputs
    site: tuple[str, tuple[str, ...]] | None
    measured: Measured | None
    status: tuple[str, ...]
    per_row: bool

    def cohort(self, rows: Sequence[int]) -> Cohort:
        """These rows; units are called by their position in the table."""
        index: NDArray[np.intp] = np.array(rows, dtype=np.intp)
        units = tuple(str(i) for i in rows)
        tables = {} if self.measured is None else self.measured.tables
        return Cohort(
            units=units,
            patients=units,
            copies=np.zeros(len(rows), dtype=np.intp),
            values={name: column[index] for name, column in self.parsed.values.items()},
            kit={name: (low[index], high[index]) for name, (low, high) in self.parsed.kit.items()},
            keys={} if self.site is None else {self.site[0]: tuple(self.site[1][i] for i in rows)},
            outcome=None,
            per_row=self.per_row,
            features={name: table.take(index) for name, table in tables.items()},
        )


def read_rows(schema: Schema, chain: Chain, table: Table, root: Path | None) -> Reading:
    """Read every row; images only where `root` says from where their paths start, or where they came with the form.

    Raises
    ------
    TableError
        A column that the model needs is not in the table.
    """
    form = isinstance(table, FormTable)
    wanted, images = needed_inputs(schema, chain.name), image_fields(schema, chain.name)
    follow = root is not None and not form
    sources = sorted({image.key for image in images if image.key in schema.inputs}) if follow else []
    reading = reading_schema(schema, chain.name)
    parsed = parse_inputs(form_schema(reading) if form else reading, table, _where, [*wanted, *sources])
    status = _cells(parsed, len(table.rows), wanted, schema.missing == "impute", bool(images))
    site = _sites(schema, chain, table, status)
    cells = Reading(parsed, site, None, tuple(status), schema.cohort.row is not None)
    readable = [i for i, text in enumerate(status) if text == OK]
    if readable:
        for k, why in chain.unusable(cells.cohort(readable)).items():
            status[readable[k]] = why
    measured = _measured(schema, chain, table, parsed, status, root) if images else None
    return Reading(parsed, site, measured, tuple(status), cells.per_row)


def _measured(
    schema: Schema, chain: Chain, table: Table, parsed: ParsedInputs, status: list[str], root: Path | None
) -> Measured | None:
    """Features of the rows that are usable so far; adds to `status` why others have none."""
    readable = [i for i, text in enumerate(status) if text == OK]
    files = [image for image in image_fields(schema, chain.name) if image.key in schema.inputs]
    names = " and ".join(schema.inputs[image.key].label or image.key for image in files)
    found: Measured | None = None
    if isinstance(table, FormTable):
        found = table.measured
        lost = {0: NO_IMAGE.format(names)} if found is None else dict(found.lost)
        rows = list(range(len(status)))
    elif root is None:
        lost, rows = dict.fromkeys(readable, NOT_FOLLOWED.format(names)), []
    else:
        column = schema.cohort.row or schema.cohort.patient
        ids = table.column(column) if column in table.columns else [""] * len(status)
        units = [ids[i] or f"line {table.lines[i]}" for i in readable]
        paths = {key: [cells[i] for i in readable] for key, cells in parsed.files.items()}
        found = measure_rows(schema, chain, units, paths, root)
        lost, rows = {readable[k]: why for k, why in found.lost.items()}, readable
    for i, why in lost.items():
        if status[i] == OK:
            status[i] = why
    return None if found is None else found.spread(rows, len(status))


def _sites(schema: Schema, chain: Chain, table: Table, status: list[str]) -> tuple[str, tuple[str, ...]] | None:
    """Column and site of each row where a score is harmonised; adds to `status` where the site was not learnt."""
    known = sites(chain)
    if known is None:
        return None
    column = schema.cohort.site or ""
    asked = SITE if isinstance(table, FormTable) else column
    require_columns([(asked, _where("cohort", "site"))], table)
    missing = {*schema.cohort.missing, NOT_GIVEN}
    found = tuple("" if cell in missing else cell for cell in table.column(asked))
    for i, site in enumerate(found):
        if status[i] != OK or site in known:
            continue
        words = f"{site!r} is not a site that the score was harmonised over" if site else "missing"
        status[i] = f"{column}: {words}; known: {', '.join(known)}"
    return column, found


def _where(*path: Any) -> str:
    return "bundle: " + ".".join(map(str, path))


def _cells(parsed: ParsedInputs, n: int, wanted: Sequence[str], impute: bool, images: bool) -> list[str]:
    problems: dict[int, list[CellProblem]] = {}
    for problem in parsed.problems:
        problems.setdefault(problem.row, []).append(problem)
    gaps = np.array([np.isnan(parsed.values[name]) for name in wanted], dtype=bool).reshape(len(wanted), n).T
    out = []
    for i in range(n):
        if i in problems:
            out.append("; ".join(f"{p.input}: {p.message}" for p in problems[i]))
        elif gaps[i].all() and not images:
            out.append("every input is missing")
        elif gaps[i].any() and not impute:
            absent = ", ".join(name for name, gone in zip(wanted, gaps[i], strict=True) if gone)
            out.append(f"missing {absent}, and the model does not impute")
        else:
            out.append(OK)
    return out
