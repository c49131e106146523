"""Rows of new patients as a model's schema reads them: cells, sites, images; each row is usable or says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from osml.serving.encoders import EncoderShelf, networks_of, tabular_of
from osml.serving.form import (
    NOT_GIVEN,
    SITE,
    FormTable,
    ImageField,
    form_schema,
    image_fields,
    needed_inputs,
    optional_images,
    reading_schema,
    sites,
)
from osml.serving.measured import Measured, Wanted, measure_rows, nothing_measured, score_features
from osml.serving.table_pictures import FilesTable, gathered_measures
from osml.serving.units import OK, Units, each_row, gathered, share_faults, spread_faults, unit_paths

NO_IMAGE = "needs {}: no file is given"
NOT_FOLLOWED = "needs {}: paths in this table are not followed; give the files themselves, or use `osml predict`"
NOT_LEARNT = "{} is missing, and no training patient lacked it: the model has not learnt to do without"
NOT_IMPUTED = "missing {}, and the model does not impute"


@dataclass(frozen=True)
class Reading:
    """What a table's rows hold; `status` of each row is "ok" or why it cannot be used. Features are of units."""

    parsed: ParsedInputs
    site: tuple[str, tuple[str, ...]] | None
    measured: Measured | None
    status: tuple[str, ...]
    units: Units
    per_row: bool

    @property
    def usable(self) -> list[int]:
        """Units that can be predicted."""
        return [u for u, row in enumerate(self.units.first) if self.status[row] == OK]

    def cohort(self, units: Sequence[int]) -> Cohort:
        """These units, called by their position."""
        wanted: NDArray[np.intp] = np.array(units, dtype=np.intp)
        index = self.units.first[wanted]
        names = tuple(str(u) for u in units)
        tables = {} if self.measured is None else self.measured.tables
        images = {} if self.measured is None else self.measured.images
        return Cohort(
            units=names,
            patients=names,
            copies=np.zeros(len(units), dtype=np.intp),
            values={name: column[index] for name, column in self.parsed.values.items()},
            kit={name: (low[index], high[index]) for name, (low, high) in self.parsed.kit.items()},
            keys={} if self.site is None else {self.site[0]: tuple(self.site[1][i] for i in index)},
            outcome=None,
            per_row=self.per_row,
            features={name: table.take(wanted) for name, table in tables.items()},
            images={key: table.take(wanted) for key, table in images.items()},
        )


def read_rows(schema: Schema, chain: Chain, table: Table, root: Path | None, shelf: EncoderShelf) -> Reading:
    """Read every row; images only where `root` says from where their paths start, or where they came with the form.

    Raises
    ------
    TableError
        A column that the model needs is not in the table.
    WeightsError, VerificationError
        An encoder of the model's networks is not on this machine, or is another one.
    """
    form = isinstance(table, FormTable)
    wanted, images = needed_inputs(schema, chain.name), image_fields(schema, chain.name)
    follow = isinstance(table, FilesTable) or (root is not None and not form)
    sources = _sources(schema, images) if follow else []
    reading = reading_schema(schema, chain.name)
    parsed = parse_inputs(form_schema(reading) if form else reading, table, _where, [*wanted, *sources])
    units = each_row(len(table.rows)) if form else gathered(schema, table, sources)
    impute = schema.missing == "impute"
    status = _cells(parsed, len(table.rows), wanted, impute, bool(images))
    site = _sites(schema, chain, table, status)
    spread_faults(schema, table, parsed, units, status)
    cells = Reading(parsed, site, None, tuple(status), units, schema.cohort.row is not None)
    for k, why in chain.unusable(cells.cohort(cells.usable)).items() if cells.usable else ():
        status[units.first[cells.usable[k]]] = why
    share_faults(table, units, status)
    measured = _measured(schema, chain, table, parsed, units, status, root, shelf) if images else None
    found = Reading(parsed, site, measured, tuple(status), units, cells.per_row)
    for u, why in _gaps(schema, chain, found, wanted).items():
        status[units.first[u]] = why
    share_faults(table, units, status)
    return Reading(parsed, site, measured, tuple(status), units, cells.per_row)


def row_files(schema: Schema, chain: Chain, table: Table) -> tuple[Units, dict[str, list[tuple[str, ...]]], list[str]]:
    """Units of a table that names images; cells of each image and mask of every unit; status of each row's cells."""
    images = image_fields(schema, chain.name)
    sources, wanted = _sources(schema, images), needed_inputs(schema, chain.name)
    parsed = parse_inputs(reading_schema(schema, chain.name), table, _where, [*wanted, *sources])
    units = gathered(schema, table, sources)
    status = _cells(parsed, len(table.rows), wanted, schema.missing == "impute", True)
    spread_faults(schema, table, parsed, units, status)
    files: dict[str, list[tuple[str, ...]]] = {}
    for image in images:
        if image.key in schema.inputs:
            files[image.key] = unit_paths(schema, parsed, units, image.key)
        else:
            cells = parsed.files[image.key]
            files[image.key] = [(cells[i],) if cells[i] else () for i in units.first]
    return units, files, status


def _sources(schema: Schema, images: Sequence[ImageField]) -> list[str]:
    return sorted({image.key for image in images if image.key in schema.inputs})


def _measured(
    schema: Schema,
    chain: Chain,
    table: Table,
    parsed: ParsedInputs,
    units: Units,
    status: list[str],
    root: Path | None,
    shelf: EncoderShelf,
) -> Measured | None:
    """Features of the units that are usable so far; adds to `status` why others have none."""
    readable = [u for u, row in enumerate(units.first) if status[row] == OK]
    fields = image_fields(schema, chain.name)
    optional = optional_images(schema, chain.name)
    names = " and ".join(
        dict.fromkeys(
            schema.inputs[f.key].label or f.key for f in fields if f.key in schema.inputs and f.key not in optional
        )
    )
    found: Measured | None = None
    lost: dict[int, str] = {}
    if isinstance(table, FormTable):
        found = table.measured
        if found is None and names:
            lost = {0: NO_IMAGE.format(names)}
        found = nothing_measured(schema, chain) if found is None and not names else found
        lost |= {} if found is None else found.lost
        chosen = list(range(len(units)))
    elif isinstance(table, FilesTable):
        parts = [table.measured.get(table.lines[units.first[u]]) for u in readable]
        found = gathered_measures(schema, chain, parts)
        lost, chosen = {readable[k]: why for k, why in found.lost.items()}, readable
    elif root is None:
        words = names or " and ".join(schema.inputs[name].label or name for name in optional)
        lost, chosen = dict.fromkeys(readable, NOT_FOLLOWED.format(words)), []
    else:
        column = schema.cohort.row or schema.cohort.patient
        ids = table.column(column) if column in table.columns else [""] * len(table.rows)
        first = [int(units.first[u]) for u in readable]
        files = {key: [cells[i] for i in first] for key, cells in parsed.files.items()}
        paths = {key: unit_paths(schema, parsed, units, key) for key in parsed.files if key in schema.inputs}
        asked = Wanted(
            tuple(ids[i] or f"line {table.lines[i]}" for i in first),
            files,
            {key: [found[u] for u in readable] for key, found in paths.items()},
            root,
        )
        found = measure_rows(schema, chain, asked, shelf)
        lost, chosen = {readable[k]: why for k, why in found.lost.items()}, readable
    _blame(parsed, units, status, lost)
    share_faults(table, units, status)
    return None if found is None else found.spread(chosen, len(units))


def _blame(parsed: ParsedInputs, units: Units, status: list[str], lost: Mapping[int, str]) -> None:
    """Where a unit has several rows, the reason stands on the row whose file is at fault, else on its first."""
    for u, why in lost.items():
        rows = units.rows(u)
        if any(status[i] != OK for i in rows):
            continue
        named = [i for i in rows if any(cells[i] and cells[i] in why for cells in parsed.files.values())]
        status[(named or rows)[0]] = why


def _gaps(schema: Schema, chain: Chain, reading: Reading, wanted: Sequence[str]) -> dict[int, str]:
    """Units that lack what the model cannot do without: inputs of complete cases, what no training row lacked."""
    units = reading.usable
    if not units:
        return {}
    from osml.predictors.network_inputs import presence

    cohort = reading.cohort(units)
    out: dict[int, str] = {}
    here: dict[str, NDArray[np.bool_]] = {}
    for network in networks_of(chain):
        found = presence(network.sources, cohort)
        here |= found
        for k, source in enumerate(network.sources):
            mine = [source.name] if source.name in found else list(source.inputs)  # type: ignore[union-attr]
            absent = ~np.any([found[name] for name in mine], axis=0)
            if any(bool(one.untrained_absence[k]) for one in network.networks):
                words = " and ".join(schema.inputs[name].label or name for name in mine)
                out |= {units[i]: NOT_LEARNT.format(words) for i in np.flatnonzero(absent)}
    for fitted in tabular_of(chain):
        found = fitted.spec.present(cohort)
        here |= found
        for name in fitted.untaught():
            words = schema.inputs[name].label or name
            out |= {units[i]: NOT_LEARNT.format(words) for i in np.flatnonzero(~found[name])}
    if schema.missing != "impute":
        for i in range(len(units)):
            gone = [f"the kit range of {n}" if n in wanted else n for n in here if not here[n][i]]
            if gone:
                out[units[i]] = NOT_IMPUTED.format(", ".join(gone))
    elif here and not score_features(chain):
        nothing = ~np.any(list(here.values()), axis=0)
        for name in wanted:
            nothing &= np.isnan(cohort.values[name])
        out |= {units[i]: "every input is missing" for i in np.flatnonzero(nothing)}
    return out


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
            out.append(NOT_IMPUTED.format(absent))
        else:
            out.append(OK)
    return out
