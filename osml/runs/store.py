"""Predictions on disk: Parquet with a fixed layout, so that equal predictions give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.files import atomic_write

COLUMNS = ("predictor", "repeat", "fold", "unit", "patient", "column", "p", "lp", "low", "high", "interval")


@dataclass(frozen=True)
class PredictionRow:
    """One probability: of `column` (the event, or a horizon) for `unit`, by `predictor`, in one outer fold."""

    predictor: str
    repeat: int
    fold: int
    unit: str
    patient: str
    column: str
    p: float
    lp: float
    low: float | None
    high: float | None
    interval: str


def write_predictions(path: Path, rows: Iterable[PredictionRow]) -> None:
    """Write rows in a fixed order (predictor, repeat, fold, then as given), without times or paths."""
    write_rows(path, rows, COLUMNS)


def write_rows(path: Path, rows: Iterable[Any], columns: Sequence[str]) -> None:
    """Dataclass rows as Parquet, by predictor, repeat and fold, then as given; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda r: (r.predictor, r.repeat, r.fold))
    number, whole = ("p", "lp", "low", "high", "value"), ("repeat", "fold")
    types = {c: pa.float64() if c in number else pa.int32() if c in whole else pa.string() for c in columns}
    table = {c: pa.array([getattr(r, c) for r in ordered], type=types[c]) for c in columns}
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, compression="zstd", write_statistics=False)
    atomic_write(path, sink.getvalue())


def read_predictions(path: Path) -> list[PredictionRow]:
    """Rows of a predictions file, in stored order."""
    import pyarrow.parquet as pq

    return [PredictionRow(**record) for record in pq.read_table(path).to_pylist()]
