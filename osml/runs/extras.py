"""What a predictor tells beside its probabilities, on disk: gate weights, presence of inputs, each seed alone."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from osml.cohort.splits import Fold
from osml.files import atomic_write
from osml.predictors.contract import Prediction

COLUMNS = ("predictor", "repeat", "fold", "unit", "patient", "name", "value")


@dataclass(frozen=True)
class ExtraRow:
    """One value: `name` is gate:<modality>, present:<input>, seed<k>:<column> or set:<class>."""

    predictor: str
    repeat: int
    fold: int
    unit: str
    patient: str
    name: str
    value: float


def extra_rows(prediction: Prediction, predictor: str, fold: Fold) -> list[ExtraRow]:
    """The extras of a prediction, row by row."""
    return [
        ExtraRow(predictor, fold.repeat, fold.index, unit, patient, name, float(value))
        for name, values in prediction.extras.items()
        for unit, patient, value in zip(prediction.units, prediction.patients, values, strict=True)
    ]


def write_extras(path: Path, rows: Iterable[ExtraRow]) -> None:
    """Write rows in a fixed order (predictor, repeat, fold, then as given)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda r: (r.predictor, r.repeat, r.fold))
    types = [pa.string(), pa.int32(), pa.int32(), pa.string(), pa.string(), pa.string(), pa.float64()]
    columns = {
        name: pa.array([getattr(r, name) for r in ordered], type=t) for name, t in zip(COLUMNS, types, strict=True)
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", write_statistics=False)
    atomic_write(path, sink.getvalue())


def read_extras(path: Path) -> list[ExtraRow]:
    """Rows of an extras file, in stored order; none where it was not written."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    return [ExtraRow(**record) for record in pq.read_table(path).to_pylist()]
