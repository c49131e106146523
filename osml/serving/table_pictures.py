"""What is kept of the images of a table's row: those of a form, or those that were uploaded beside a table."""

from __future__ import annotations

from osml.cohort.table import Table
from osml.serving.form import FormTable
from osml.serving.measured import Measured


def measured_of(table: Table, row: int) -> Measured | None:
    """What the images of one row gave; None where no image came with the table."""
    return table.measured if isinstance(table, FormTable) else None
