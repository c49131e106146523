"""How a Rad-score came about: features left by each step, the LASSO's path, and how stable the choice is over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.explanation.drawing import BLUE, GRID, INK, QUIET, SERIES, VERMILLION, grid, new_figure, pen
from osml.report.exhibit import Exhibit, unavailable
from osml.report.feature_words import feature_words, wrapped
from osml.report.figures_flow import box
from osml.report.radscores import Radscore
from osml.report.run import Run
from osml.report.wording import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]
MOST_FEATURES = 20
_LINE = 0.135  # inches of a line of small type
_WIDE = 9.4
_BEYOND = 8  # penalties drawn below the smaller one marked: further down the path, overfitting sets the scale


def selection_exhibits(run: Run, score: Radscore) -> list[Exhibit]:
    """Flow of features, frequency over the outer folds, LASSO path."""
    return [_flow(run, score), _frequency(run, score), _path(run, score)]


def _flow(run: Run, score: Radscore) -> Exhibit:
    name, title = f"selection_{score.name}", f"From features to score, {score.name}"
    if score.final is None:
        return unavailable(name, title, f"There is no final model: {score.reason}.")
    steps = score.final.steps
    words = {step: step_words(run, score, step) for step, _ in steps}
    ranges = [_range([dict(f.steps)[step] for f in score.folds if step in dict(f.steps)]) for step, _ in steps]
    tall, gap = 0.40, 0.20
    total = 0.34 + len(steps) * (tall + gap)
    with pen():
        figure = new_figure(total)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 4.8)
        axes.set_ylim(total, 0)
        axes.text(3.22, 0.17, "final", ha="center", va="center", fontsize=8, color=QUIET)
        axes.text(4.25, 0.17, "outer folds", ha="center", va="center", fontsize=8, color=QUIET)
        top = 0.32
        for k, ((step, kept), between) in enumerate(zip(steps, ranges, strict=True)):
            box(axes, 0.05, top, 2.75, tall, wrapped(words[step], 42).split("\n"))
            middle = top + tall / 2
            axes.text(3.22, middle, f"{kept:,}", ha="center", va="center", fontsize=11, color=INK)
            axes.text(4.25, middle, between, ha="center", va="center", fontsize=9, color=INK)
            if k + 1 < len(steps):
                ends = (1.42, top + tall + gap), (1.42, top + tall)
                axes.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": QUIET, "lw": 1})
            top += tall + gap
    where = f"Region {score.final.region}" + (", chosen on inner folds" if score.several_regions else "")
    caption = (
        f"Features left after each step. Final: all {plural(_developed(run), 'patient')} ({where}). Outer folds: "
        f"fewest to most over {plural(len(score.folds), 'fold')}, each with the whole chain learnt again on its own "
        "training patients, choice of the region included."
    )
    rows = [(words[s], kept, between) for (s, kept), between in zip(steps, ranges, strict=True)]
    return Exhibit(name, title, caption, figure, ("step", "final", "outer folds"), rows)


def step_words(run: Run, score: Radscore, step: str) -> str:
    """What a step of the selection asks of a feature."""
    block = score.block
    stability = run.schema.radiomics()[score.input].stability
    icc = "" if stability is None else f"ICC({stability.icc}) ≥ {stability.min:g}"
    words = {
        "candidates": "candidates, one region",
        "complete": "exist in every patient",
        "variance": "vary between patients",
        "stability": f"stable: {icc}",
        "correlation": f"not redundant: |ρ| ≤ {block.correlation:g}",
        "mrmr": f"mRMR: relevant, not redundant (≤ {block.mrmr})",
        "lasso": f"LASSO: not shrunken to 0 (λ {block.penalty})",
    }
    return words.get(step, step)


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "–"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _developed(run: Run) -> int:
    facts = run.metrics["predictors"].values()
    sizes = {f["development"]["patients"] for f in facts if "development" in f}
    return max(sizes, default=len(run.cohort.patient_ids))


def _path(run: Run, score: Radscore) -> Exhibit:
    name, title = f"lasso_{score.name}", f"LASSO path and its cross-validation, {score.name}"
    if score.final is None or score.final.path is None:
        return unavailable(name, title, f"There is no final model: {score.reason}.")
    path = score.final.path
    columns: Sequence[str] = path["columns"]
    lambdas, coefficients = np.array(path["lambdas"]), np.array(path["coefficients"])
    deviance, se = np.array(path["deviance"], dtype=float), np.array(path["deviance_se"], dtype=float)
    at = int(path["chosen"])
    smallest = int(np.argmin(np.abs(lambdas - path["lambda_min"])))
    stop = min(len(lambdas), max(max(smallest, at) + _BEYOND + 1, 16))
    selected = [j for j in np.argsort(-np.abs(coefficients[at])) if coefficients[at, j] != 0]
    labels = [wrapped(feature_words(columns[j], region=False), 34) for j in selected]
    lines = sum(label.count("\n") + 1 for label in labels)
    high = max(3.2, 0.95 + lines * _LINE + 0.05 * len(labels))
    with pen(font_size=8.5):
        figure = new_figure(high, _WIDE)
        figure.set_layout_engine("none")
        inner = (high - 0.95) / high
        left = figure.add_axes((0.68 / _WIDE, 0.5 / high, 3.2 / _WIDE, inner))
        right = figure.add_axes((6.75 / _WIDE, 0.5 / high, 2.55 / _WIDE, inner))
        x = np.log(lambdas[:stop])
        for j in (k for k in range(len(columns)) if k not in set(selected)):
            left.plot(x, coefficients[:stop, j], color=GRID, linewidth=0.9)
        for k, j in enumerate(selected):
            series = SERIES[k % len(SERIES)]
            left.plot(x, coefficients[:stop, j], color=series.colour, linestyle=series.dash, linewidth=1.5)
        _margin_labels(left, [coefficients[stop - 1, j] for j in selected], labels, high * inner)
        left.axhline(0, color=QUIET, linewidth=0.8)
        left.set_ylabel("coefficient per SD")
        _counts_above(left, x, coefficients[:stop])
        right.errorbar(
            x, deviance[:stop], yerr=se[:stop], fmt="o", color=VERMILLION, ecolor=QUIET, elinewidth=0.8, markersize=3.2
        )
        right.set_ylabel("held-out deviance per event" if run.survival else "held-out deviance per patient")
        for axes in (left, right):
            grid(axes)
            axes.set_xlabel("log λ (weaker penalty to the right)")
            axes.set_xlim(x[0] + 0.15, x[-1] - 0.05)
            _marks(axes, path)
        right.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, columnspacing=1, handlelength=1.5)
    which = "smallest deviance (λ min)" if score.block.penalty == "min" else "one standard error rule (λ 1 SE)"
    none = "" if selected else " No coefficient differs from 0 there: the score is the same for every patient."
    forest = " The forest is grown on these features; the coefficients shown only chose them."
    caption = (
        f"Final model, region {score.final.region}: the {len(columns)} features that mRMR left. Left: their "
        "coefficients; those other than 0 at the chosen λ are coloured and named, and the numbers on top count them. "
        f"Right: deviance on inner folds ± 1 SE. Chosen: λ = {lambdas[at]:.4g}, {which}, "
        f"{plural(len(selected), 'feature')}.{none}{forest if score.block.score == 'forest' and selected else ''} The "
        "inner deviance is optimistic, because the features were chosen before it on the same patients: it ranks "
        "penalties and says nothing about performance."
    )
    data = [
        (float(np.log(value)), float(value), float(d), float(s), *map(float, row))
        for value, d, s, row in zip(lambdas, deviance, se, coefficients, strict=True)
    ]
    counts = dict(score.frequency)
    shown = [
        (feature_words(columns[j], region=False), float(coefficients[at, j]), counts.get(columns[j], 0))
        for j in selected
    ]
    header = ("log_lambda", "lambda", "deviance", "deviance_se", *columns)
    brief = ("feature", "coefficient per SD", f"chosen in outer folds (of {len(score.folds)})")
    return Exhibit(name, title, caption, figure, header, data, shown, brief, wide=True)


def _marks(axes: Axes, path: Mapping[str, Any]) -> None:
    for key, dash, label in (("lambda_min", (0, (4, 2)), "λ min"), ("lambda_1se", (0, (1, 1.5)), "λ 1 SE")):
        chosen = bool(np.isclose(path[key], path["lambdas"][path["chosen"]]))
        label += " (chosen)" if chosen else ""
        axes.axvline(np.log(path[key]), color=INK, linewidth=1.3 if chosen else 0.8, linestyle=dash, label=label)


def _counts_above(axes: Axes, x: Float, coefficients: Float) -> None:
    """Number of coefficients other than 0 at a few penalties."""
    above = axes.twiny()
    places = np.unique(np.linspace(0, len(x) - 1, 6).round().astype(int))
    above.set_xlim(x[0] + 0.15, x[-1] - 0.05)
    above.set_xticks([float(x[k]) for k in places], [str(int((coefficients[k] != 0).sum())) for k in places])
    above.tick_params(length=2, labelsize=7.5, colors=QUIET)
    above.text(-0.02, 1.035, "features", transform=above.transAxes, ha="right", va="bottom", fontsize=7.5, color=QUIET)


def _margin_labels(axes: Axes, values: Sequence[float], labels: Sequence[str], high_in: float) -> None:
    """Names to the right of the curves' ends, pushed apart where they would overlap, each with a line to its curve."""
    low, top = axes.get_ylim()
    axes.set_ylim(low, top)
    wanted = [(v - low) / (top - low) for v in values]
    sizes = [((label.count("\n") + 1) * _LINE + 0.05) / high_in for label in labels]
    for k, (value, place, label) in enumerate(zip(wanted, spread(wanted, sizes), labels, strict=True)):
        colour = SERIES[k % len(SERIES)].colour
        axes.annotate(
            label, (1.0, value), (1.09, place), xycoords="axes fraction", textcoords="axes fraction", va="center",
            fontsize=7.5, color=INK, linespacing=1.1, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Middles of blocks of these sizes, near the wanted places, without overlap, inside 0 to 1 while they fit.

    >>> [round(x, 2) for x in spread([0.5, 0.52, 0.9], [0.2, 0.2, 0.2])]
    [0.5, 0.7, 0.9]
    >>> [round(x, 2) for x in spread([0.98, 0.99], [0.2, 0.2])]
    [0.7, 0.9]
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    out = [0.0] * len(wanted)
    floor = 0.0
    for k in order:
        out[k] = max(wanted[k], floor + sizes[k] / 2)
        floor = out[k] + sizes[k] / 2
    ceiling = max(1.0, sum(sizes))
    for k in reversed(order):
        out[k] = min(out[k], ceiling - sizes[k] / 2)
        ceiling = out[k] - sizes[k] / 2
    return out


def _frequency(run: Run, score: Radscore) -> Exhibit:
    name, title = f"selected_{score.name}", f"How often each feature was selected, {score.name}"
    n, frequency = len(score.folds), score.frequency
    if not n:
        return unavailable(name, title, "No outer fold could be fitted.")
    if not frequency:
        return unavailable(name, title, f"No feature was selected in any of {plural(n, 'outer fold')}.")
    final = set() if score.final is None else set(score.final.columns)
    top = frequency[:MOST_FEATURES]
    labels = [wrapped(feature_words(column), 36) for column, _ in top]
    parts = [(labels, [k for _, k in top], [c in final for c, _ in top])]
    if score.several_regions:
        chosen = "" if score.final is None else score.final.region
        regions = [(r, k, r == chosen) for r, k in score.regions]
        parts.insert(0, ([r for r, _, _ in regions], [k for _, k, _ in regions], [f for _, _, f in regions]))
    heights = [sum(0.1 + _LINE * (label.count("\n") + 1) for label in names) for names, _, _ in parts]
    total = sum(heights) + 0.42 * len(parts) + 0.55
    with pen(font_size=8):
        figure = new_figure(total)
        figure.set_layout_engine("none")
        start = total - 0.3
        for k, ((names, counts, mine), high) in enumerate(zip(parts, heights, strict=True)):
            axes = figure.add_axes((2.3 / 4.8, (start - high) / total, 2.35 / 4.8, high / total))
            _bars(axes, names, counts, mine, n)
            region = k == 0 and len(parts) == 2
            axes.set_title("region chosen" if region else "feature selected", fontsize=8.5, loc="left", color=QUIET)
            if k + 1 < len(parts):
                axes.tick_params(labelbottom=False)
            else:
                axes.set_xlabel("outer folds")
            start -= high + 0.42
    more = len(frequency) - len(top)
    caption = (
        f"Over {plural(n, 'outer fold')}, each selecting on its own training patients. Filled: also in the final "
        "model; hatched: not. A feature that other patients would not have selected says little about biology."
        f"{f' {more} less frequent ones stand in the CSV.' if more else ''}"
    )
    rows = [(column, feature_words(column), k, n, column in final) for column, k in frequency]
    shown = [(words, k, "yes" if f else "no") for _, words, k, _, f in rows[:MOST_FEATURES]]
    header = ("feature", "words", "folds_selected", "folds", "in_final_model")
    return Exhibit(name, title, caption, figure, header, rows, shown, ("feature", "folds", "in final model"))


def _bars(axes: Axes, names: Sequence[str], counts: Sequence[int], mine: Sequence[bool], n: int) -> None:
    from matplotlib.ticker import MaxNLocator

    high = [0.1 + _LINE * (label.count("\n") + 1) for label in names]
    ends = np.cumsum(high)
    places = ends - np.array(high) / 2
    for y, count, filled in zip(places, counts, mine, strict=True):
        axes.barh(
            y, count, height=0.16, color=BLUE if filled else "none", edgecolor=BLUE, linewidth=0.8,
            hatch="" if filled else "/////",
        )  # fmt: skip
        axes.text(count + 0.015 * n, y, f"{count}/{n}", va="center", fontsize=7.5, color=INK)
    axes.set_yticks(places, names, fontsize=7.5)
    axes.set_ylim(float(ends[-1]), 0)
    axes.set_xlim(0, 1.14 * n)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0)
    grid(axes, "x")
