"""Shares of a network's inputs, drawn: gradients beside integrated gradients, with the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from osml.explanation.contributions import Contribution, Interval
from osml.explanation.drawing import QUIET, SERIES, grid, new_figure, pen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
MOST_ROWS = 15
MOST_COLUMNS = len(SERIES)
_NAMES = ("gradient", "gradient_share", "integrated", "integrated_share")
_DRAWN = ("gradient_share", "integrated_share")
HEADER = (
    "output", "input", "feature", "units", *(f"{name}{end}" for name in _NAMES for end in ("", "_low", "_high")),
)  # fmt: skip


def contribution_figure(found: Mapping[str, Sequence[Contribution]], labels: Mapping[str, str]) -> tuple[Figure, Table]:
    """Two panels, shares of the gradient and of integrated gradients; one mark an output, whiskers its 95 % interval.

    Parameters
    ----------
    found : output → its contributions; up to four outputs are drawn, the table has all
    labels : name of an input or feature → what stands beside its row
    """
    shown = dict(list(found.items())[:MOST_COLUMNS])
    order = _order(shown)[:MOST_ROWS]
    many = len(shown) > 1
    with pen(font_size=8):
        figure = new_figure(1.15 + len(order) * (0.22 + 0.09 * len(shown)) + 0.2 * many, 6.4)
        left, right = figure.subplots(1, 2, sharey=True, sharex=True)
        for axes, key, words in (
            (left, _DRAWN[0], "share of the gradient\n(depends on scales)"),
            (right, _DRAWN[1], "share of integrated\ngradients (does not)"),
        ):
            _panel(axes, shown, order, key)
            axes.set_xlabel(words)
        left.set_yticks([-row for row in range(len(order))], [labels.get(name) or _short(name) for name in order])
        most = max(_end(getattr(c, key)) for several in shown.values() for c in several for key in _DRAWN)
        left.set_xlim(0, 1.06 * most)
        left.set_ylim(-len(order) + 0.45, 0.55)
        left.tick_params(axis="y", length=0)
        right.tick_params(axis="y", length=0)
        if many:
            handles, names = left.get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure, (HEADER, contribution_rows(found))


def contribution_rows(found: Mapping[str, Sequence[Contribution]]) -> list[tuple[Any, ...]]:
    """One row an output and number, as `HEADER` names them."""
    return [
        (column, c.part.input, c.part.feature, c.units, *(v for name in _NAMES for v in _three(getattr(c, name))))
        for column, several in found.items()
        for c in several
    ]


def _short(name: str) -> str:
    """A feature's name without the picture that it is of, on lines that leave room for the panels."""
    return fill(" ".join(name.split("|")[1:] or [name]).replace("_", " "), 28)


def _end(one: Interval) -> float:
    return one.value if one.high is None else max(one.value, one.high)


def _three(one: Interval) -> tuple[float, float | None, float | None]:
    return one.value, one.low, one.high


def _order(found: Mapping[str, Sequence[Contribution]]) -> list[str]:
    """Names by their largest share of either kind in any output, the largest first."""
    best: dict[str, float] = {}
    for several in found.values():
        for c in several:
            share = max(c.gradient_share.value, c.integrated_share.value)
            best[c.part.name] = max(share, best.get(c.part.name, 0.0))
    return sorted(best, key=lambda name: -best[name])


def _panel(axes: Axes, found: Mapping[str, Sequence[Contribution]], order: Sequence[str], key: str) -> None:
    k = len(found)
    for s, (column, several) in enumerate(found.items()):
        series = SERIES[s]
        by_name = {c.part.name: getattr(c, key) for c in several}
        rows = [(row, by_name[name]) for row, name in enumerate(order) if name in by_name]
        y = [-row + (k - 1 - 2 * s) * 0.34 / max(k, 2) for row, _ in rows]
        x = [one.value for _, one in rows]
        for at, (_, one) in zip(y, rows, strict=True):
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [at, at], color=series.colour, linewidth=1.2)
        axes.plot(x, y, linestyle="", marker=series.marker, color=series.colour, markersize=4, label=column)
    axes.axvline(0, color=QUIET, linewidth=0.7)
    grid(axes, "x")
