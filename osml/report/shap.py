"""Explanations with names that fit beside an axis: features in words, scores with their unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from osml.explanation.run import Column, Explained
from osml.report.feature_words import feature_words, wrapped
from osml.report.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 24  # characters of a line beside an axis


def readable(run: Run, explained: Explained) -> Explained:
    """The same contributions with labels for figures; their lines are broken, see `one_line`."""
    return replace(explained, columns=tuple(_labelled(run, explained, column) for column in explained.columns))


def _labelled(run: Run, explained: Explained, column: Column) -> Column:
    if column.name in run.schema.predictors:
        label = getattr(run.schema.predictors[column.name], "label", None) or column.label
        return replace(column, label=wrapped(f"{label} ({explained.scale})", _WIDTH), unit="")
    return replace(column, label=wrapped(feature_words(column.name) if "|" in column.name else column.label, _WIDTH))


def with_room(figure: Figure, explained: Explained, most: int, extra: int = 0) -> Figure:
    """The figure tall enough for rows of that many lines: the longest of the `most` first labels, and `extra` lines."""
    order = explained.shap.order[:most]
    lines = max((explained.columns[j].label.count("\n") + 1 + extra for j in order), default=1)
    figure.set_figheight(max(figure.get_figheight(), 1.3 + len(order) * (0.14 * lines + 0.08)))
    return figure


def one_line(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows of a figure's data without the line breaks of its labels."""
    return [tuple(" ".join(cell.split()) if isinstance(cell, str) else cell for cell in row) for row in rows]
