"""What is kept of the images of a table's rows: those of a form, or those that were uploaded beside a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from osml.cohort.cohort import FeatureTable, ImageTable
from osml.cohort.table import Table
from osml.predictors.chain import Chain
from osml.schema.model import Schema
from osml.serving.form import FormTable
from osml.serving.measured import Measured, nothing_measured


@dataclass(frozen=True)
class FilesTable(Table):
    """An uploaded table whose images came with it.

    measured : line → what the images of that row's patient gave; rows that cannot be used anyway have none
    """

    measured: Mapping[int, Measured] = field(default_factory=dict)


def measured_of(table: Table, row: int) -> Measured | None:
    """What the images of one row gave; None where no image came with the table."""
    if isinstance(table, FilesTable):
        return table.measured.get(table.lines[row])
    return table.measured if isinstance(table, FormTable) else None


def gathered_measures(schema: Schema, chain: Chain, parts: Sequence[Measured | None]) -> Measured:
    """Several units, one after the other; pictures only where there is a single one."""
    empty = nothing_measured(schema, chain)
    if len(parts) == 1 and parts[0] is not None and not parts[0].lost:
        return parts[0]
    lost = {k: part.lost[0] for k, part in enumerate(parts) if part is not None and part.lost}
    own = [empty if part is None or part.lost else part for part in parts]
    tables = {
        name: FeatureTable(table.columns, np.concatenate([one.tables[name].x for one in own]) if own else table.x[:0])
        for name, table in empty.tables.items()
    }
    images = {key: _joined(table, [one.images[key] for one in own]) for key, table in empty.images.items()}
    return Measured(tables, lost, images=images)


def _joined(empty: ImageTable, parts: Sequence[ImageTable]) -> ImageTable:
    here = [(k, part) for k, part in enumerate(parts) if len(part.row)]
    if not here:
        return empty
    row = np.concatenate([np.full(len(part.row), k, dtype=np.intp) for k, part in here])
    stored = np.concatenate([part.values() for _, part in here])
    return ImageTable(stored, np.arange(len(row)), row)
