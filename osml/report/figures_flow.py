"""Flow of patients: who was in the table, who was left out and why, who was analysed, and how they were split."""

from __future__ import annotations

import textwrap
from typing import Any

from osml.explanation.drawing import GRID, INK, PAPER, QUIET, new_figure, pen
from osml.report.exhibit import Exhibit
from osml.report.run import Run
from osml.report.wording import plural, split_words

_LINE = 0.155  # inches
_GAP = 0.40


def flow_exhibit(run: Run) -> Exhibit:
    """Boxes from the table to the analysis; exclusions stand to the right of the arrow that they leave."""
    steps = _steps(run)
    rows = [(words, count) for words, count in _counts(run)]
    heights = [_LINE * (len(_lines(s[0], 40)) + 1.1) for s in steps]
    sides = [_LINE * (len(_lines(s[1], 30)) + 1.1) if s[1] else 0.0 for s in steps]
    gaps = [max(_GAP, side + 0.16) for side in sides]
    total = sum(heights) + sum(gaps[:-1]) + 0.1
    with pen():
        figure = new_figure(total)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 4.8)
        axes.set_ylim(total, 0)
        top = 0.05
        left, wide = 0.05, 2.55
        for k, ((words, aside), height) in enumerate(zip(steps, heights, strict=True)):
            box(axes, left, top, wide, height, _lines(words, 40))
            middle = left + wide / 2
            if k + 1 < len(steps):
                end = top + height + gaps[k]
                axes.annotate(
                    "", (middle, end), (middle, top + height), arrowprops={"arrowstyle": "-|>", "color": QUIET, "lw": 1}
                )
                if aside:
                    y = top + height + gaps[k] / 2
                    axes.annotate("", (2.75, y), (middle, y), arrowprops={"arrowstyle": "-|>", "color": QUIET, "lw": 1})
                    box(axes, 2.75, y - sides[k] / 2, 2.0, sides[k], _lines(aside, 30))
            top += height + gaps[k]
    caption = "Everyone in the table is accounted for. The final model is fitted to all who were analysed."
    return Exhibit("flow", "Flow of patients", caption, figure, ("step", "number"), rows)


def _steps(run: Run) -> list[tuple[str, str]]:
    """Text of each box, and of the box to the right of the arrow below it."""
    summary, n = run.summary, len(run.cohort)
    excluded = summary["excluded"]
    lost = sum(excluded.values())
    aside = ""
    if lost:
        aside = f"Left out: {lost}\n" + "\n".join(f"{count}  {reason}" for reason, count in excluded.items())
    people = "" if run.cohort.per_row is False else f" of {plural(len(run.cohort.patient_ids), 'patient')}"
    told = [f"{count} {name}" for name, count in _outcomes(run)]
    events = f"{plural(n, run.units.removesuffix('s'))}{people} analysed\n" + (
        "\n".join(told) if run.classes else plural(summary["events"], "event")
    )
    return [
        (f"Table: {plural(summary['rows'], 'row')}\n{n + lost} {run.units}", aside),
        (events, ""),
        (_validation(run), ""),
        (f"Final model of each predictor: all {n} {run.units}", ""),
    ]


def _validation(run: Run) -> str:
    words = split_words(run)
    train, test = (sorted({len(getattr(fold, side)) for fold in run.folds}) for side in ("train", "test"))
    sizes = f"{_span(train)} patients to learn, {_span(test)} to test"
    each = "" if len(run.folds) == 1 else " each"
    count = f"{plural(len(run.folds), 'fold')}: " if len(run.folds) > 1 else ""
    return f"Validation: {words}\n{count}{sizes}{each}"


def _span(sizes: list[int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]}–{sizes[-1]}"


def _counts(run: Run) -> list[tuple[str, int]]:
    excluded = run.summary["excluded"]
    rows = [("rows in the table", run.summary["rows"])]
    rows += [(f"left out: {reason}", count) for reason, count in excluded.items()]
    return [*rows, (f"{run.units} analysed", len(run.cohort)), *_outcomes(run)]


def _outcomes(run: Run) -> list[tuple[str, int]]:
    """Events, or units of every class; labels that stop at an inner node are named as such."""
    if not run.classes:
        return [("events", run.summary["events"])]
    groups = run.cohort.outcome_groups()
    return [
        (name if name in run.classes else f"{name} (no more is known)", int(mine.sum()))
        for name, mine in groups.items()
    ]


def _lines(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""]]


def box(axes: Any, x: float, y: float, width: float, height: float, lines: list[str]) -> None:
    """A frame with lines of text, its top left corner at (x, y)."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((x, y), width, height, facecolor=PAPER, edgecolor=GRID if not lines else QUIET, linewidth=1)
    )
    for k, line in enumerate(lines):
        place = y + height / 2 + _LINE * (k - (len(lines) - 1) / 2)
        axes.text(x + 0.1, place, line, va="center", fontsize=8, color=INK)
