"""Summary, dependence and waterfall figures of SHAP values; each with the table it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.explanation.drawing import BLUE, GREEN, GRID, INK, PAPER, PURPLE, QUIET, VERMILLION, grid, new_figure, pen
from osml.explanation.run import Column, Explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float = NDArray[np.float64]
Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
MOST_INPUTS = 20
# (words, colour, marker, filled): thirds of a number, or reference and other level of a category.
_THIRDS = (("low third", BLUE, "v"), ("middle third", QUIET, "o"), ("high third", VERMILLION, "^"))
_MANY = ("many numbers together", INK, "o")
_LEVELS = (("reference level", PURPLE, "s"), ("another level", GREEN, "D"))


def summary_figure(explained: Explained) -> tuple[Figure, Table]:
    """Beeswarm: one row an input, one mark a patient, the most important input on top (20 at most).

    Colour and marker say together whether a number is in the low, middle or high third, and whether a category is at
    its reference level.
    """
    shap = explained.shap
    order = shap.order[:MOST_INPUTS]
    with pen():
        figure = new_figure(1.5 + 0.42 * len(order))
        axes = figure.add_subplot()
        seen: dict[str, tuple[str, str]] = {}
        width = float(np.ptp(shap.values)) or 1.0
        for row, j in enumerate(order):
            offsets = _swarm(shap.values[:, j] / width)
            for words, colour, marker, mine in _kinds(explained.columns[j]):
                if not mine.any():
                    continue
                seen[words] = colour, marker
                axes.scatter(
                    shap.values[mine, j], -row + offsets[mine], s=11, marker=marker, c=colour, alpha=0.8, linewidths=0
                )
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks([-row for row in range(len(order))], [explained.columns[j].label for j in order])
        axes.set_ylim(-len(order) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"contribution to the {explained.scale} (right: {_meaning(explained)})")
        grid(axes, "x")
        _legend(figure, seen)
    header = ("input", "mean_absolute", "lowest", "highest", "sampling_error")
    rows = [
        (
            explained.columns[j].title, float(shap.importance[j]), float(shap.values[:, j].min()),
            float(shap.values[:, j].max()), float(shap.error[:, j].max()),
        )
        for j in shap.order
    ]  # fmt: skip
    return figure, (header, rows)


def dependence_figure(explained: Explained) -> tuple[Figure, Table]:
    """One panel an input: its value against its contribution, one mark a patient; hollow marks were imputed."""
    shap = explained.shap
    order = [j for j in shap.order if not explained.columns[j].many][:MOST_INPUTS]
    if not order:
        raise NotEstimableError("no input has a value of its own to draw its contribution against")
    wide = 2 if len(order) > 1 else 1
    tall = -(-len(order) // wide)
    limits = _padded(shap.values)
    with pen(font_size=8):
        figure = new_figure(0.5 + 1.75 * tall)
        gaps = False
        for k, j in enumerate(order):
            axes = figure.add_subplot(tall, wide, k + 1)
            _dependence(axes, explained.columns[j], shap.values[:, j])
            gaps |= bool(explained.columns[j].imputed.any())
            axes.set_ylim(*limits)
        figure.supylabel(f"contribution to the {explained.scale}", fontsize=8.5)
        if gaps:
            figure.supxlabel("hollow: imputed value", fontsize=8, color=QUIET)
    header = ("input", "value", "contribution", "imputed")
    rows = [
        (c.name, _cell(c, c.x[i]), float(shap.values[i, j]), int(c.imputed[i]))
        for j, c in enumerate(explained.columns)
        if not c.many
        # By value, so that a row does not lead back to a patient's place in the cohort.
        for i in np.lexsort((shap.values[:, j], c.x))
    ]
    return figure, (header, rows)


def waterfall_figure(explained: Explained, unit: int) -> tuple[Figure, Table]:
    """One patient: from the average prediction, input by input, to the patient's own.

    unit : position in `explained.units`
    """
    if not 0 <= unit < len(explained.units):
        raise InvalidInputError(f"unit {unit} is not a position among {len(explained.units)} units")
    shap = explained.shap
    order = sorted(range(len(shap.inputs)), key=lambda j: -abs(shap.values[unit, j]))
    steps = [float(shap.values[unit, j]) for j in order]
    ends = np.concatenate([[shap.base], shap.base + np.cumsum(steps)])
    low, high = float(ends.min()), float(ends.max())
    room = 0.22 * ((high - low) or 1.0)
    with pen():
        figure = new_figure(1.3 + 0.36 * len(order))
        axes = figure.add_subplot()
        for row, step in enumerate(steps):
            up = step >= 0
            axes.barh(
                -row, step, left=ends[row], height=0.62, color=VERMILLION if up else BLUE, edgecolor=PAPER,
                hatch="" if up else "////", linewidth=0,
            )  # fmt: skip
            side = max(ends[row], ends[row + 1])
            axes.text(side + room / 12, -row, _signed(step), va="center", ha="left", fontsize=8.5)
            if row + 1 < len(order):
                axes.plot([ends[row + 1]] * 2, [-row - 0.31, -row - 0.69], color=QUIET, linewidth=0.8)
        names = [f"{explained.columns[j].label}\n{explained.columns[j].shown(unit)}" for j in order]
        axes.set_yticks([-row for row in range(len(order))], names, fontsize=8)
        axes.axvline(shap.base, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_xlim(low - room / 2, high + room)
        axes.set_ylim(-len(order) + 0.4, 1.0)
        axes.text(shap.base, 0.55, f"average {_minus(shap.base)}", ha="center", fontsize=8, color=QUIET)
        axes.set_xlabel(f"{explained.scale}: this patient {_minus(shap.lp[unit])}\nfilled raises it, hatched lowers it")
        axes.tick_params(axis="y", length=0)
        grid(axes, "x")
    rows: list[tuple[Any, ...]] = [("average patient", "", None, float(shap.base))]
    for row, (j, step) in enumerate(zip(order, steps, strict=True)):
        column = explained.columns[j]
        rows.append((column.label, column.shown(unit), step, float(ends[row + 1])))
    return figure, (("input", "value", "contribution", "running_total"), rows)


def typical_units(explained: Explained) -> tuple[int, int]:
    """Positions of a patient with the median linear predictor and of one at its 90th percentile."""
    order = np.argsort(explained.shap.lp, kind="stable")
    n = len(order)
    return int(order[(n - 1) // 2]), int(order[min(round(0.9 * (n - 1)), n - 1)])


def _kinds(column: Column) -> list[tuple[str, str, str, NDArray[np.bool_]]]:
    x = column.x
    if column.many:
        return [(*_MANY, np.ones(len(x), dtype=bool))]
    if column.levels:
        return [(*_LEVELS[0], x == 0), (*_LEVELS[1], x > 0)]
    known = x[~np.isnan(x)]
    first, second = np.quantile(known, [1 / 3, 2 / 3]) if len(known) else (np.nan, np.nan)
    return [
        (*_THIRDS[0], x <= first), (*_THIRDS[1], (x > first) & (x <= second)), (*_THIRDS[2], x > second),
        ("missing", GRID, "x", np.isnan(x)),
    ]  # fmt: skip


def _swarm(x: Float) -> Float:
    """Vertical offsets that set close marks apart, the first at 0 and then alternately up and down."""
    out = np.zeros(len(x))
    bins = np.round(x * 60).astype(np.intp)
    for value in np.unique(bins):
        mine = np.flatnonzero(bins == value)
        rank = np.arange(len(mine))
        step = min(0.09, 0.8 / max(len(mine), 1))
        out[mine] = np.where(rank % 2 == 0, -1, 1) * ((rank + 1) // 2) * step
    return out


def _legend(figure: Figure, seen: dict[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    order = [words for words, _, _ in (*_THIRDS, *_LEVELS, _MANY)] + ["missing"]
    handles = [
        Line2D([], [], linestyle="", marker=seen[words][1], color=seen[words][0], markersize=5, label=words)
        for words in order
        if words in seen
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=1.2)


def _dependence(axes: Axes, column: Column, shap: Float) -> None:
    axes.axhline(0, color=QUIET, linewidth=0.7)
    x = column.x
    if column.levels:
        # Spread to the sides in a fixed pattern: one level has one contribution, its patients would hide each other.
        place = x + 0.24 * (np.arange(len(x)) % 11 - 5) / 5
        axes.set_xticks(range(len(column.levels)), [_short(level) for level in column.levels])
        axes.set_xlim(-0.5, len(column.levels) - 0.5)
    else:
        place = x
    for mine, face in ((~column.imputed, BLUE), (column.imputed, "none")):
        axes.scatter(place[mine], shap[mine], s=10, facecolors=face, edgecolors=BLUE, alpha=0.75, linewidths=0.7)
    axes.set_xlabel(column.title, fontsize=8.5)
    grid(axes, "y")


def _meaning(explained: Explained) -> str:
    return "more likely" if explained.scale.startswith(("log P", "mean log odds")) else "higher risk"


def _cell(column: Column, x: float) -> Any:
    if np.isnan(x):
        return "missing"
    return column.levels[int(x)] if column.levels else float(x)


def _short(text: str) -> str:
    return text if len(text) <= 12 else text[:11] + "…"


def _minus(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def _padded(values: Float) -> tuple[float, float]:
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    room = 0.08 * ((high - low) or 1.0)
    return low - room, high + room
