"""Cells to values: numbers by a strict grammar, levels by exact text, reporting limits by a stated rule.

Each function returns float values (NaN = missing) and a list of problems, one per bad cell, so that `fit` can refuse
the table with all of them at once and `predict` can report the bad rows and do the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from osml.schema.suggest import closest

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥)\s*([0-9.]+([eE][+-]?[0-9]+)?)")
_COMMA = re.compile(r"[+-]?[0-9]{1,3}([.,' ][0-9]{3})*[.,][0-9]+|[+-]?[0-9]+,[0-9]+")


@dataclass(frozen=True)
class CellProblem:
    """One bad cell: the row's position in the table, the input, and what is wrong with it."""

    row: int
    input: str
    message: str


@dataclass
class Column:
    """Values of one input in table order, and what was seen on the way."""

    values: NDArray[np.float64]
    problems: list[CellProblem] = field(default_factory=list)
    altered: dict[str, int] = field(default_factory=dict)


def parse_numbers(
    name: str,
    cells: Sequence[str],
    *,
    missing: Collection[str],
    below: str | None = None,
    above: str | None = None,
    limits: tuple[float, float] | None = None,
    factors: Sequence[float | str] | float = 1.0,
) -> Column:
    """Numbers of a column; blanks around a number are ignored, nothing else is.

    Parameters
    ----------
    below, above : rule for '<5' ("half" or "limit") and '>2000' ("limit"); None refuses such cells
    limits : values outside are impossible; compared after conversion
    factors : unit conversion, one factor or one per row (a text: why the row's unit cannot be used)
    """
    column = Column(np.full(len(cells), np.nan))
    for i, cell in enumerate(cells):
        if cell in missing:
            continue
        text = cell.strip()
        if _NUMBER.fullmatch(text):
            value = float(text)
        else:
            parsed = _reporting_limit(text, below, above)
            if isinstance(parsed, str):
                column.problems.append(CellProblem(i, name, parsed))
                continue
            value, rule = parsed
            column.altered[rule] = column.altered.get(rule, 0) + 1
        factor = factors if isinstance(factors, (int, float)) else factors[i]
        if isinstance(factor, str):
            column.problems.append(CellProblem(i, name, factor))
            continue
        value *= factor
        if not np.isfinite(value):
            column.problems.append(CellProblem(i, name, f"{cell!r} is not a finite number"))
        elif limits is not None and not limits[0] <= value <= limits[1]:
            message = f"{value:g} is outside the possible range {limits[0]:g} to {limits[1]:g}"
            column.problems.append(CellProblem(i, name, message))
        else:
            column.values[i] = value
    return column


def _reporting_limit(text: str, below: str | None, above: str | None) -> tuple[float, str] | str:
    match = _LIMIT.fullmatch(text)
    if match and _NUMBER.fullmatch(match.group(2)):
        lower = match.group(1) in ("<", "<=", "≤")
        rule = below if lower else above
        if rule is None:
            side = "below: half" if lower else "above: limit"
            return f"{text!r} is a reporting limit; state a rule, e.g. `censored: {{{side}}}`"
        limit = float(match.group(2))
        return (limit / 2 if rule == "half" else limit), f"{'below' if lower else 'above'}: {rule}"
    if not text:
        return "the cell is blank, and its text is not in `cohort.missing`; add it there if it means missing"
    if _COMMA.fullmatch(text):
        return f"{text!r}: decimal commas and thousands separators are not read; write 1234.5"
    if text.lower() in ("na", "n/a", "nan", "null", "none", "missing", "unknown", "?", "-", "inf", "-inf", "infinity"):
        return f"{text!r} is not a number; add it to `cohort.missing` if it means missing"
    return f"{text!r} is not a number"


def parse_levels(
    name: str,
    cells: Sequence[str],
    levels: Sequence[str],
    *,
    missing: Collection[str],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Column:
    """Level positions 0..K-1 of a column, compared as exact text; an unknown level is a problem, never a guess."""
    position = {level: float(i) for i, level in enumerate(levels) if level not in (groups or {})}
    for level, members in (groups or {}).items():
        for member in members:
            position[member] = float(levels.index(level))
    column = Column(np.full(len(cells), np.nan))
    for i, cell in enumerate(cells):
        if cell in position:
            column.values[i] = position[cell]
        elif cell not in missing:
            column.problems.append(CellProblem(i, name, _unknown_level(cell, list(position))))
    return column


def _unknown_level(cell: str, allowed: list[str]) -> str:
    near = closest(cell, allowed) if cell.strip() else None
    if near is not None and near.strip() == cell.strip():
        meant = f"; it differs from {near!r} only by blanks"
    elif near is not None:
        meant = f"; did you mean {near!r}?"
    else:
        meant = "; add it to `levels`, or to `cohort.missing` if it means missing"
    return f"{cell!r} is not one of {allowed}{meant}"
