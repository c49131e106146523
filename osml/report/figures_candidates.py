"""The candidates as measured, the chosen one after its correction, and how far each lies from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from osml.explanation.drawing import BLUE, INK, QUIET, VERMILLION, grid, new_figure, pen
from osml.report.candidates import NAMES
from osml.report.exhibit import Exhibit
from osml.report.run import Run
from osml.report.wording import predictions_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADER = (
    "predictor", "complexity", "chosen", "measure", "value", "low", "high", "log_loss", "difference_to_best", "se",
    "chosen_share",
)  # fmt: skip
SHOWN = ("predictor", "value", "low", "high", "difference_to_best", "se")


def candidates_exhibit(run: Run) -> Exhibit | None:
    """Dots and intervals of every ranked predictor; None where nothing was chosen."""
    found = run.metrics.get("selection", {})
    if "winner" not in found:
        return None
    main = found["measures"][0]
    entries = [entry for entry in found["table"] if "loss" in entry]
    area = all(entry.get(main, {}).get("value") is not None for entry in entries)
    rows = len(entries) + 1
    with pen(font_size=8.5):
        figure = new_figure(1.2 + 0.3 * rows, 8.2 if area else 5.2)
        panels = list(figure.subplots(1, 2, sharey=True)) if area else [figure.subplots()]
        if area:
            _areas(panels[0], found, entries, main)
        _losses(panels[-1], found, entries)
        _names(panels[0], found, entries)
    data = [
        (
            entry["predictor"], entry["complexity"], "yes" if entry["predictor"] == found["winner"] else "no", main,
            *(entry.get(main, {}).get(key) for key in ("value", "low", "high")), entry["loss"], entry["difference"],
            entry["se"], entry["chosen_share"],
        )
        for entry in entries
    ]  # fmt: skip
    after = found["corrected"][main]
    words = f"{found['winner']}, corrected for the choice"
    data.append((words, "", "", main, *(after.get(key) for key in ("value", "low", "high")), None, None, None, None))
    shown = [tuple(row[HEADER.index(name)] for name in SHOWN) for row in data]
    return Exhibit(
        "candidates", "Candidates and choice", _caption(run, found, main, area), figure, HEADER, data, shown, SHOWN,
        wide=True,
    )  # fmt: skip


def _caption(run: Run, found: Mapping[str, Any], main: str, area: bool) -> str:
    left = (
        f"Left: {NAMES[main]} with 95 % interval; filled, as measured, not corrected for the choice; hollow, the "
        "chosen predictor corrected for it. Right: "
        if area
        else ""
    )
    return (
        f"{predictions_words(run)} {left}log-loss above that of the best, {found['best']}, with one standard error to "
        "either side; where the bar reaches 0 the predictor is within one standard error. The simplest of these is "
        "chosen (square)."
    )


def _areas(axes: Axes, found: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], main: str) -> None:
    grid(axes, "x")
    if main in ("auc", "c"):
        axes.axvline(0.5, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)))
    for k, entry in enumerate(entries):
        won = entry["predictor"] == found["winner"]
        _dot(axes, _height(k, entries), entry[main], VERMILLION if won else BLUE, "s" if won else "o", filled=True)
    after = found["corrected"][main]
    if after.get("value") is not None:
        _dot(axes, 0.0, after, VERMILLION, "s", filled=False)
    axes.set_xlabel(f"{NAMES[main]}" + (" (0.5: chance)" if main in ("auc", "c") else ""))


def _losses(axes: Axes, found: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    grid(axes, "x")
    axes.axvline(0, color=INK, linewidth=0.9)
    for k, entry in enumerate(entries):
        if entry["difference"] is None:
            continue
        won = entry["predictor"] == found["winner"]
        d, se = entry["difference"], entry["se"]
        _dot(axes, _height(k, entries), {"value": d, "low": d - se, "high": d + se}, VERMILLION if won else BLUE,
             "s" if won else "o", filled=True)  # fmt: skip
    axes.set_xlabel("log-loss above the best (± one standard error)")


def _height(k: int, entries: Sequence[object]) -> float:
    return float(len(entries) - k)


def _dot(axes: Axes, y: float, entry: Mapping[str, Any], colour: str, marker: str, *, filled: bool) -> None:
    if entry.get("low") is not None:
        axes.plot([entry["low"], entry["high"]], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    face = colour if filled else "#ffffff"
    axes.plot([entry["value"]], [y], marker=marker, color=colour, markerfacecolor=face, markersize=6, linestyle="none")


def _names(axes: Axes, found: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Predictors from top to bottom in the order of the schema, the corrected value of the chosen one last."""
    labels = [
        f"{entry['predictor']} (chosen)" if entry["predictor"] == found["winner"] else str(entry["predictor"])
        for entry in entries
    ]
    ticks = [_height(k, entries) for k in range(len(entries))]
    axes.set_yticks([*ticks, 0.0], [*labels, f"{found['winner']}, corrected"])
    axes.set_ylim(-0.7, len(entries) + 0.7)
