"""Numbers, labs, sexes and categories as columns of a network: what is learnt in the fold, and how a value enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

ColumnKind = Literal["standard", "divide", "kit", "binary", "category"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """How one input enters.

    kind : "standard", (y - mean) / sd of the training rows; "divide", y / `divide` (age / 100); "kit",
        (y - L) / (H - L) with the reference range of each row, above 1 is above normal; "binary", -0.5 for level 0 and
        +0.5 for level 1; "category", one column per level, and an indicator of unknown where training had unknowns
    levels : number of levels of a category
    divide : the divisor of "divide"
    """

    name: str
    kind: ColumnKind
    levels: int = 0
    divide: float = 1.0

    def __post_init__(self) -> None:
        if self.kind == "category" and self.levels < 2:
            raise InvalidInputError(f"category {self.name!r} has {self.levels} levels")
        if self.divide == 0:
            raise InvalidInputError(f"input {self.name!r} is divided by 0")

    @property
    def width(self) -> int:
        """Encoded columns."""
        return self.levels if self.kind == "category" else 1


@dataclass(frozen=True)
class ColumnCode:
    """A column with what the training rows taught.

    centre, scale : of "standard"; 0 and 1 otherwise. A column without spread in training has scale 1.
    start : mean of each encoded column over the rows that have it, (width,): where a missing value starts from
    missing : training rows without it
    """

    column: Column
    centre: float
    scale: float
    start: tuple[float, ...]
    missing: int


@dataclass(frozen=True)
class TabularCode:
    """Encoding of a table, fitted on training rows."""

    columns: tuple[ColumnCode, ...]

    @property
    def width(self) -> int:
        """Encoded columns."""
        return sum(code.column.width for code in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoded columns; the columns of a category are name=position of the level."""
        out: list[str] = []
        for code in self.columns:
            c = code.column
            out += [f"{c.name}={k}" for k in range(c.levels)] if c.kind == "category" else [c.name]
        return tuple(out)

    @property
    def start(self) -> tuple[float, ...]:
        """Values that missing columns start from, (width,)."""
        return tuple(value for code in self.columns for value in code.start)

    @property
    def indicators(self) -> tuple[tuple[int, ...], ...]:
        """Encoded columns of each input that was missing in some training row."""
        out, at = [], 0
        for code in self.columns:
            if code.missing:
                out.append(tuple(range(at, at + code.column.width)))
            at += code.column.width
        return tuple(out)

    def encode(self, values: Mapping[str, Floats], kit: Mapping[str, tuple[Floats, Floats]]) -> NDArray[np.float32]:
        """Float32 array (n, width), NaN where the value (or its reference range) is missing."""
        blocks = []
        for code in self.columns:
            raw = _raw(code.column, values, kit)
            blocks.append(raw if raw.ndim == 2 else ((raw - code.centre) / code.scale)[:, None])
        return np.concatenate(blocks, axis=1).astype(np.float32)


def fit_tabular(
    columns: Sequence[Column], values: Mapping[str, Floats], kit: Mapping[str, tuple[Floats, Floats]]
) -> TabularCode:
    """Learn the encoding from training rows.

    Parameters
    ----------
    columns : in the order of the encoded table
    values : input → float array (n,), level positions for binary inputs and categories, NaN = missing
    kit : lab → (low, high) float arrays (n,), for the columns of kind "kit"

    >>> age, sex = np.array([20.0, 40.0, np.nan]), np.array([0.0, 1.0, 1.0])
    >>> code = fit_tabular([Column("age", "divide", divide=100), Column("sex", "binary")], {"age": age, "sex": sex}, {})
    >>> code.encode({"age": age, "sex": sex}, {}).tolist(), code.indicators
    ([[0.20000000298023224, -0.5], [0.4000000059604645, 0.5], [nan, 0.5]], ((0,),))

    Raises
    ------
    InvalidInputError
        An input without any value in training, a level out of range, a reference range whose ends are not in order.
    """
    if not columns:
        raise InvalidInputError("no columns to encode")
    codes = []
    for column in columns:
        raw = _raw(column, values, kit)
        known = raw[~(np.isnan(raw).any(axis=1) if raw.ndim == 2 else np.isnan(raw))]
        if len(known) == 0:
            raise InvalidInputError(
                f"input {column.name!r} has no value in the {len(raw)} training rows",
                why="Nothing can be learnt about it.",
                do="Leave it out of the predictor's inputs.",
            )
        centre, scale = 0.0, 1.0
        if column.kind == "standard":
            centre, spread = float(known.mean()), float(known.std())
            # Equal values leave a rounding error for a spread, which would blow up any other value.
            scale = spread if spread > 1e-12 * max(1.0, abs(centre)) else 1.0
        start = known.mean(axis=0) if known.ndim == 2 else np.atleast_1d((known.mean() - centre) / scale)
        codes.append(ColumnCode(column, centre, scale, tuple(float(v) for v in start), len(raw) - len(known)))
    return TabularCode(tuple(codes))


def _raw(column: Column, values: Mapping[str, Floats], kit: Mapping[str, tuple[Floats, Floats]]) -> Floats:
    """Values before centring, float array (n,), or (n, levels) for a category; NaN = missing."""
    y = np.asarray(values[column.name], dtype=np.float64)
    if np.isinf(y).any():
        raise InvalidInputError(f"input {column.name!r} holds infinite values")
    if column.kind == "divide":
        return y / column.divide
    if column.kind == "kit":
        if column.name not in kit:
            raise InvalidInputError(
                f"lab {column.name!r} enters by its reference range, and none is given",
                do="Add `kit: {low: …, high: …}` to the input.",
            )
        low, high = kit[column.name]
        wrong = np.flatnonzero(high <= low)
        if len(wrong):
            i = wrong[0]
            raise InvalidInputError(
                f"lab {column.name!r}: reference range {low[i]:g} to {high[i]:g} in row {i} ({len(wrong)} such rows)",
                why="(y-L)/(H-L) needs an upper limit above the lower.",
            )
        return (y - low) / (high - low)
    if column.kind == "standard":
        return y
    count = 2 if column.kind == "binary" else column.levels
    known = ~np.isnan(y)
    odd = known & ~np.isin(y, np.arange(count))
    if odd.any():
        raise InvalidInputError(
            f"input {column.name!r} holds {y[odd][0]:g}, which is no position among its {count} levels"
        )
    if column.kind == "binary":
        return y - 0.5
    out = np.full((len(y), count), np.nan)
    out[known] = np.eye(count)[y[known].astype(np.intp)]
    return out


def tabular_to_json(code: TabularCode) -> list[dict[str, Any]]:
    """Plain data for JSON."""
    return [asdict(entry) for entry in code.columns]


def tabular_from_json(data: Sequence[Mapping[str, Any]]) -> TabularCode:
    """The encoding that `tabular_to_json` wrote."""
    return TabularCode(
        tuple(
            ColumnCode(**{**entry, "column": Column(**entry["column"]), "start": tuple(entry["start"])})
            for entry in data
        )
    )
