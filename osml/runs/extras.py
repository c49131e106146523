"""What a predictor tells beside its probabilities, on disk: gate weights, presence of inputs, each seed alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from osml.cohort.splits import Fold
from osml.predictors.contract import Prediction
from osml.runs.store import write_rows

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
    write_rows(path, rows, COLUMNS)


def read_extras(path: Path) -> list[ExtraRow]:
    """Rows of an extras file, in stored order; none where it was not written."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    return [ExtraRow(**record) for record in pq.read_table(path).to_pylist()]
