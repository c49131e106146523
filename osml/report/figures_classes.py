"""Figures of targets with classes: confusion matrix, one-against-rest ROC curves, calibration, results side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.evaluation.discrimination import roc_curve
from osml.explanation.drawing import (
    BLUE,
    GRID,
    INK,
    PAPER,
    QUIET,
    SERIES,
    VERMILLION,
    Series,
    grid,
    new_figure,
    pen,
    unit_square,
)
from osml.report.classes import LABELS, capital
from osml.report.exhibit import Exhibit, unavailable
from osml.report.feature_words import wrapped
from osml.report.figures_roc import averaged_roc
from osml.report.run import Run
from osml.report.wording import predictions_words, thinned
from osml.runs.class_sets import ClassSet, by_repeat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]
DARKEST = 0.6  # of a full cell, so that its number can be read on it in a bright and in a dark page


def series(k: int) -> Series:
    """The k-th series; beyond four the colours come again with another dash."""
    return Series(SERIES[k % 4].colour, SERIES[(k + k // 4) % 4].dash, SERIES[(k + k // 4) % 4].marker)


def confusion_exhibit(run: Run, predictor: str) -> Exhibit:
    """True classes in rows, predicted ones in columns; labels that stop at an inner node below a gap."""
    found = run.metrics["predictors"][predictor]["out_of_fold"]["confusion"]
    classes: list[str] = found["classes"]
    rows = [(name, counts, 0.0) for name, counts in zip(classes, found["counts"], strict=True)]
    rows += [(f"{name} (partial)", counts, 0.35) for name, counts in found["partial"].items()]
    k, places, y = len(classes), [], 0.0
    for n, (_, _, gap) in enumerate(rows):
        y += gap if n == k else 0.0
        places.append(y)
        y += 1.0
    with pen():
        figure = new_figure(1.25 + 0.52 * y)
        axes = figure.add_subplot()
        for (_, counts, _), top in zip(rows, places, strict=True):
            total = sum(counts)
            for j, count in enumerate(counts):
                _cell(axes, j, top, count, count / total if total else 0.0)
        axes.set_xlim(-0.02, k + 0.02)
        axes.set_ylim(y + 0.02, -0.02)
        axes.set_xticks(np.arange(k) + 0.5, [wrapped(c, 14) for c in classes])
        axes.set_yticks([p + 0.5 for p in places], [wrapped(name, 16) for name, _, _ in rows])
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
    words = "mean counts over the repeats" if found["repeats"] > 1 else "counts"
    caption = (
        f"{predictions_words(run)} {capital(words)}, and the share of each row; darker is more of the row. The "
        "predicted class is the most probable one."
    )
    if found["partial"]:
        caption += " Partial: the label stops at this node, so the class below it is not known."
    header = ("true class", *classes)
    data = [(name, *counts) for name, counts, _ in rows]
    return Exhibit(f"confusion_{predictor}", f"Confusion matrix, {predictor}", caption, figure, header, data)


def _cell(axes: Axes, x: float, y: float, count: float, share: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=BLUE, alpha=DARKEST * share, edgecolor="none"))
    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor="none", edgecolor=GRID, linewidth=0.8))
    text = f"{count:.0f}" if float(count).is_integer() else f"{count:.1f}"
    axes.text(x + 0.5, y + 0.42, text, ha="center", va="center", fontsize=10, color=INK)
    axes.text(x + 0.5, y + 0.75, f"{100 * share:.0f} %", ha="center", va="center", fontsize=7.5, color=INK)


def class_roc_exhibit(run: Run, predictor: str) -> Exhibit:
    """One curve per class against the rest; its area is the AUC that the table of classes states."""
    name, title = f"roc_{predictor}", f"ROC curves, each class against the rest, {predictor}"
    found = run.metrics["predictors"][predictor]["out_of_fold"]
    pooled = run.alone or run.independent_test
    sets = by_repeat(run.sets[predictor]) if pooled else list(run.sets[predictor])
    curves: list[tuple[str, Float, Float, int]] = []
    for k, c in enumerate(run.classes):
        both = [one for s in sets if (one := _binary(s, k)) is not None]
        if both:
            x, y = averaged_roc([roc_curve(*one) for one in both])
            curves.append((c, x, y, len(both)))
    if not curves:
        return unavailable(name, title, "No test set holds a class and its rest.")
    with pen():
        figure = new_figure(4.5)
        axes = figure.add_subplot()
        unit_square(axes)
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), label="chance, AUC 0.50")
        for c, x, y, _ in curves:
            line = series(run.classes.index(c))
            area = found["per_class"][c]["auc"]["value"]
            axes.plot(x, y, color=line.colour, linestyle=line.dash, linewidth=1.8, label=f"{c}, AUC {area:.2f}")
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")
        upside_down = any(float(np.trapezoid(y, x)) < 0.6 for _, x, y, _ in curves)
        axes.legend(loc="best" if upside_down else "lower right", labelcolor=INK)
    parts = [predictions_words(run)]
    if run.alone:
        parts.append("Pooled over patients, secondary: each patient's model is another scale.")
    elif not run.independent_test:
        parts.append("Curves of the folds that hold the class and its rest, averaged at each specificity.")
    if run.cohort.clustered:
        parts.append("Rows are counted, and those of a patient are alike.")
    gone = [c for c in run.classes if c not in [curve[0] for curve in curves]]
    if gone:
        parts.append(f"No curve of {', '.join(gone)}: no test set holds it and its rest.")
    data = [(c, float(a), float(b)) for c, x, y, _ in curves for a, b in zip(x, y, strict=True)]
    shown = [(c, float(x[i]), float(y[i])) for c, x, y, _ in curves for i in thinned(len(x), 6)]
    return Exhibit(name, title, " ".join(parts), figure, ("class", "1 - specificity", "sensitivity"), data, shown)


def _binary(s: ClassSet, k: int) -> tuple[NDArray[np.bool_], Float] | None:
    keep = s.full
    y = s.y[keep] == k
    return (y, s.p_leaves[keep][:, k]) if y.any() and not y.all() else None


def class_calibration_exhibit(run: Run, predictor: str) -> Exhibit:
    """Observed against predicted in tenths of probability, a panel per node of the tree."""
    name, title = f"calibration_{predictor}", f"Calibration per class, {predictor}"
    found = run.metrics["predictors"][predictor]["out_of_fold"]["calibration"]
    if "reason" in found:
        return unavailable(name, title, f"{capital(found['reason'])}.")
    nodes = [(node, one) for node, one in found.items() if isinstance(one, dict)]
    drawn = [(node, one) for node, one in nodes if "groups" in one]
    if not drawn:
        reasons = "; ".join(f"{node}: {one['reason']}" for node, one in nodes)
        return unavailable(name, title, f"No class can be judged ({reasons}).")
    columns = 2 if len(drawn) in (2, 4) else min(3, len(drawn))
    lines = -(-len(drawn) // columns)
    data: list[tuple[Any, ...]] = []
    with pen(font_size=8.5):
        figure = new_figure(2.75 * lines + 0.15, 2.7 * columns)
        for axes in figure.subplots(lines, columns, squeeze=False).ravel()[len(drawn) :]:
            axes.set_visible(False)
        for (node, one), axes in zip(drawn, figure.axes[: len(drawn)], strict=True):
            unit_square(axes, (0, 0.5, 1.0))
            axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)))
            x, y, n = (np.array([g[k] for g in one["groups"]], dtype=float) for k in range(3))
            axes.plot(x, y, color=BLUE, linewidth=1.1, alpha=0.6)
            axes.scatter(x, y, s=14 + 60 * n / n.max(), color=VERMILLION, marker="s", edgecolor=PAPER, zorder=3)
            slope = one["slope"].get("value")
            label = "no slope" if slope is None else f"slope {slope:.2f}"
            axes.set_title(f"{node}: {label}", fontsize=9, loc="left", color=INK)
            data += [(node, *map(float, g[:2]), int(g[2])) for g in one["groups"]]
        for axes in figure.axes[: len(drawn)]:
            axes.set_xlabel("predicted share")
            axes.set_ylabel("observed share")
    parts = [
        predictions_words(run),
        "Tenths of predicted probability of repeat 1; larger marks: more units; no interval.",
    ]
    parts.append("Slopes: 1 is ideal, below 1 predictions are too extreme; mean over repeats.")
    parts += [f"{node}: not shown, {one['reason']}." for node, one in nodes if "groups" not in one]
    if run.alone:
        parts.append("Pooled over patients: with few of them this shows their differences more than calibration.")
    header = ("node", "predicted", "observed", "units")
    return Exhibit(name, title, " ".join(parts), figure, header, data, wide=columns > 1)


def spread_exhibit(run: Run) -> Exhibit | None:
    """Macro-F1 of all predictors: a mark per patient where a fold is one, else per fold, with mean and interval."""
    names = [n for n in (run.schema.report.compare or tuple(run.held_out)) if n in run.held_out]
    name, title = "side_by_side", "Predictors side by side"
    if len(names) < 2:
        return None
    rows: list[tuple[Any, ...]] = []
    for predictor in names:
        facts = run.metrics["predictors"][predictor]
        if run.alone:
            table = facts.get("patients", {}).get("table", ())
            rows += [(predictor, r["patient"], r["macro_f1"]) for r in table if r["macro_f1"] is not None]
        else:
            entries = facts["out_of_fold"]["macro_f1"].get("folds", ())
            rows += [(predictor, e["fold"], e["value"]) for e in entries if e["value"] is not None]
            whole = facts["out_of_fold"]["macro_f1"]
            if whole.get("value") is not None:
                ends = [whole.get("low"), whole.get("high")]
                rows += [
                    (predictor, w, v) for w, v in zip(("mean", "low", "high"), [whole["value"], *ends], strict=True)
                ]
    if not rows:
        return unavailable(name, title, "No patient or fold has a macro-F1.")
    with pen():
        figure = new_figure(1.1 + 0.5 * len(names), 6.4)
        axes = figure.add_subplot()
        for k, predictor in enumerate(names):
            _marks(axes, k, [r for r in rows if r[0] == predictor], run.alone)
        axes.set_yticks(range(len(names)), [wrapped(n, 24) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(LABELS["macro_f1"])
        grid(axes, "x")
    what = (
        "One mark a patient, with the patient's number; macro-F1 over the classes that the patient has."
        if run.alone
        else "Light: folds of all repeats; filled: mean with its 95 % interval, where one exists."
    )
    caption = f"{predictions_words(run)} {what}"
    return Exhibit(name, title, caption, figure, ("predictor", "of", "macro_f1"), rows, wide=True)


def _marks(axes: Axes, k: int, rows: Sequence[tuple[Any, ...]], alone: bool) -> None:
    single = [(of, v) for _, of, v in rows if of not in ("mean", "low", "high") and v is not None]
    whole = {of: v for _, of, v in rows if of in ("mean", "low", "high") and v is not None}
    line = series(k)
    values = np.array([v for _, v in single], dtype=float)
    face, alpha = (line.colour, 1.0) if alone else ("none", 0.45)
    axes.plot(
        values, np.full(len(values), k), linestyle="", marker=line.marker, markersize=7, markerfacecolor=face,
        markeredgecolor=line.colour, alpha=alpha,
    )  # fmt: skip
    if alone and len(single) <= 12:
        for of, v in single:
            axes.annotate(
                of.removeprefix("patient "), (v, k), (0, 6), textcoords="offset points", ha="center", fontsize=7.5
            )
    if "mean" in whole:
        axes.plot([whole["mean"]], [k], marker=line.marker, markersize=8, color=line.colour)
    if "low" in whole and "high" in whole:
        axes.plot([whole["low"], whole["high"]], [k, k], color=line.colour, linewidth=1.8)
