"""The feature table of one image as plain numbers and bytes, and many of them side by side."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Facts about the region and the extraction, in front of the features, with their types in a data frame.
FACTS = {
    "voxels": np.int64, "clipped_share": np.float64, "in_plane_only": np.bool_, "mask_drift_voxels": np.float64,
    "one_level_images": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class FeatureTable:
    """Regions in rows, facts and features in columns.

    Attributes
    ----------
    regions, columns : names
    values : float64 (regions, columns); truth is 1 or 0, NaN where a feature does not exist
    """

    regions: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def frame(self) -> pd.DataFrame:
        """As `extract` returns it: `region`, then the columns."""
        out = pd.DataFrame(self.values, columns=list(self.columns))
        out = out.astype({name: kind for name, kind in FACTS.items() if name in out})
        return pd.concat([pd.Series(self.regions, name="region", dtype=object), out], axis=1)


def table_of(frame: pd.DataFrame) -> FeatureTable:
    """The numbers of a data frame that `extract` returned."""
    body = frame.drop(columns="region")
    return FeatureTable(tuple(frame["region"]), tuple(map(str, body)), body.to_numpy(dtype=np.float64))


def to_bytes(table: FeatureTable) -> bytes:
    """One line of JSON with the names, then the values as little-endian float64 by rows.

    >>> table = FeatureTable(("tumour",), ("a", "b"), np.array([[0.1, np.nan]]))
    >>> from_bytes(to_bytes(table)).values.tolist()
    [[0.1, nan]]
    """
    names = json.dumps([table.regions, table.columns], ensure_ascii=False).encode("utf-8")
    return names + b"\n" + np.ascontiguousarray(table.values, dtype="<f8").tobytes()


def from_bytes(data: bytes, known: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] | None = None) -> FeatureTable:
    """The reverse of `to_bytes`; `known` keeps the names that were read before, so that they are read once."""
    known = {} if known is None else known
    end = data.index(b"\n")
    head = data[:end]
    if head not in known:
        regions, columns = json.loads(head)
        known[head] = tuple(regions), tuple(columns)
    regions, columns = known[head]
    return FeatureTable(regions, columns, np.frombuffer(data, "<f8", offset=end + 1).reshape(len(regions), -1))


def wide(rows: int, parts: Sequence[tuple[int, str, FeatureTable]]) -> pd.DataFrame:
    """One row per patient, columns `name|region|feature`, NaN where a patient has no such image.

    Parameters
    ----------
    rows : patients
    parts : (row, image name, table); columns come in the order in which they are first met
    """
    place: dict[str, int] = {}
    columns: dict[Hashable, NDArray[np.intp]] = {}
    for _, name, table in parts:
        key = name, table.regions, table.columns
        if key not in columns:
            words = [f"{name}|{region}|{column}" for region in table.regions for column in table.columns]
            columns[key] = np.array([place.setdefault(word, len(place)) for word in words], dtype=np.intp)
    values = np.full((rows, len(place)), np.nan)
    for row, name, table in parts:
        values[row, columns[name, table.regions, table.columns]] = table.values.ravel()
    return pd.DataFrame(values, columns=list(place))


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """A table of thousands of columns as Parquet; without per-column statistics, which nobody asks for here."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [name for name in table if table[name].dtype == object]
    numbers = [name for name in table if name not in set(text)]
    block = np.ascontiguousarray(table[numbers].to_numpy(dtype=np.float64).T)
    columns = {name: pa.array(table[name].to_numpy()) for name in text}
    columns |= dict(zip(numbers, map(pa.array, block), strict=True))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({str(name): columns[name] for name in table}), sink, compression="zstd", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip
    return sink.getvalue().to_pybytes()
