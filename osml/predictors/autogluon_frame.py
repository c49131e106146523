"""The table as AutoGluon gets it: no missing value, levels as categories, short names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.predictors.table import TableSpec

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """What stands for missing values, learnt from training units.

    fills : of each column of the table: the median, or the position of the most frequent level
    spreads : SD of each column among the training units that have it, 0 of categories: how far made-up units lie apart
    lacking : inputs that some training unit lacks as a whole; each has an indicator
    """

    table: TableSpec
    fills: tuple[float, ...]
    spreads: tuple[float, ...]
    lacking: tuple[str, ...] = ()

    @property
    def owners(self) -> tuple[str, ...]:
        """The input or predictor behind each column of the frame."""
        return (*(column.input for column in self.table.columns), *self.lacking)

    def absent(self, x: Float) -> dict[str, NDArray[np.bool_]]:
        """Units that lack an input as a whole, bool (n,) by input."""
        return {name: np.all(np.isnan(x[:, self.table.places(name)]), axis=1) for name in self.table.inputs}

    def make(self, x: Float) -> DataFrame:
        """The frame of a matrix of the table, (n, columns).

        Columns are called c0, c1, … and m0, m1, … for indicators: names of features hold signs that LightGBM refuses.
        """
        import pandas as pd

        columns: dict[str, Any] = {}
        for j, column in enumerate(self.table.columns):
            values = np.where(np.isnan(x[:, j]), self.fills[j], x[:, j])
            if column.kind == "category":
                names = [str(k) for k in range(len(column.levels))]
                columns[f"c{j}"] = pd.Categorical.from_codes(values.astype(np.intp), categories=pd.Index(names))
            else:
                columns[f"c{j}"] = values
        gone = self.absent(x)
        columns |= {f"m{k}": gone[name].astype(np.float64) for k, name in enumerate(self.lacking)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(x)))

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"table": self.table.to_json(), "fills": list(self.fills), "spreads": list(self.spreads),
                "lacking": list(self.lacking)}  # fmt: skip


def fit_frame(table: TableSpec, x: Float) -> Frame:
    """Learn what stands for missing values from the training units' matrix (n, columns)."""
    fills: list[float] = []
    spreads: list[float] = []
    for column, values in zip(table.columns, x.T, strict=True):
        given = values[~np.isnan(values)]
        if column.kind == "category":
            fills.append(float(np.bincount(given.astype(np.intp), minlength=len(column.levels)).argmax()))
            spreads.append(0.0)
        else:
            fills.append(float(np.median(given)) if len(given) else 0.0)
            spreads.append(float(given.std()) if len(given) else 0.0)
    frame = Frame(table, tuple(fills), tuple(spreads))
    return replace(frame, lacking=tuple(name for name, gone in frame.absent(x).items() if gone.any()))


def frame_from_json(data: Mapping[str, Any], table: TableSpec) -> Frame:
    """Inverse of `Frame.to_json`, with its table read already."""
    return Frame(table, tuple(data["fills"]), tuple(data["spreads"]), tuple(data["lacking"]))
