"""Calibration of held-out risks: groups and recalibration line, and a smooth curve only where the data carry one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.evaluation.calibration import Calibration, calibration, calibration_groups
from osml.evaluation.survival_calibration import SurvivalCalibration, calibration_at
from osml.explanation.drawing import BLUE, INK, PAPER, QUIET, VERMILLION, grid, new_figure, pen
from osml.report.exhibit import Exhibit, unavailable
from osml.report.html import Markup, join, number
from osml.report.run import Pooled, Run
from osml.report.wording import predictions_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]
PATIENTS_PER_GROUP = 15
HEADER = ("part", "predicted", "observed", "low", "high", "patients")


def calibration_exhibits(run: Run, predictor: str) -> list[Exhibit]:
    """One figure for a binary outcome, one a horizon for survival."""
    if run.survival:
        outcome = run.outcome
        assert isinstance(outcome, SurvivalOutcome)
        return [_at_horizon(run, predictor, outcome, k) for k in range(len(outcome.horizons))]
    return [_binary(run, predictor)]


def _groups(n: int, most: int) -> int:
    return int(np.clip(n // PATIENTS_PER_GROUP, 3, most))


def _binary(run: Run, predictor: str) -> Exhibit:
    name, title = f"calibration_{predictor}", f"Calibration, {predictor}"
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    repeats = run.repeats(predictor)
    found, reason = [], ""
    for pooled in repeats:
        y, p = outcome.y[pooled.index], np.clip(pooled.p[:, 0], 1e-12, 1 - 1e-12)
        if len(np.unique(y)) == 2:
            found.append((y, p, calibration(y, p)))
        else:
            reason = "All held-out patients are of one class."
    if not found:
        return unavailable(name, title, reason)
    y, p, first = found[0]
    groups = calibration_groups(y, p, groups=_groups(len(y), 10))
    bars = [
        (g.mean_p, g.observed.value, None, None) if run.clustered
        else (g.mean_p, g.observed.value, g.observed.low, g.observed.high)
        for g in groups
    ]  # fmt: skip
    data: list[tuple[Any, ...]] = [("group", *b, g.n) for b, g in zip(bars, groups, strict=True)]
    shown = list(data)
    with pen():
        figure = new_figure(5.2)
        axes, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        _frame(axes)
        _points(axes, bars)
        data += _lines(axes, [one for _, _, one in found])
        if first.flexible is not None:
            data += _loess(axes, first)
        axes.legend(loc="upper left", labelcolor=INK)
        data += _histogram(below, y, p, outcome)
        below.set_xlabel("predicted risk")
        axes.set_ylabel("observed share")
    return Exhibit(name, title, _binary_caption(run, predictor, repeats, first), figure, HEADER, data, shown)


def _frame(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    grid(axes)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), label="ideal")


def _lines(axes: Axes, found: Sequence[Calibration]) -> list[tuple[Any, ...]]:
    """Recalibration line of each repeat, light, and the one that their mean intercept and mean slope give."""
    good = [one for one in found if one.slope is not None and one.intercept is not None and one.line is not None]
    if not good:
        return []
    for k, one in enumerate(good if len(good) > 1 else []):
        assert one.line is not None
        label = "line of one repeat" if k == 0 else None
        axes.plot(one.line_p, one.line, color=BLUE, linewidth=0.7, alpha=0.45, label=label)
    intercept = np.mean([one.intercept.value for one in good if one.intercept is not None])
    slope = np.mean([one.slope.value for one in good if one.slope is not None])
    x = np.linspace(min(one.line_p[0] for one in good), max(one.line_p[-1] for one in good), 101)
    y = expit(intercept + slope * logit(x))
    label = "recalibration line" if len(good) == 1 else "mean recalibration line"
    axes.plot(x, y, color=BLUE, linewidth=1.9, label=label)
    return [("line", float(a), float(b), None, None, None) for a, b in zip(x, y, strict=True)]


def _points(axes: Axes, bars: Sequence[tuple[Any, ...]]) -> None:
    x, y, low, high = (np.array([b[k] if b[k] is not None else np.nan for b in bars], dtype=float) for k in range(4))
    axes.vlines(x, low, high, color=VERMILLION, linewidth=1)
    axes.plot(
        x,
        y,
        marker="s",
        linestyle="",
        color=VERMILLION,
        markeredgecolor=PAPER,
        markersize=5.5,
        label="groups of patients",
    )


def _loess(axes: Axes, found: Calibration) -> list[tuple[Any, ...]]:
    assert found.flexible is not None
    curve = found.flexible.curve
    at, low, mid, high = curve.at, *(np.clip(v, 0, 1) for v in (curve.low, curve.curve, curve.high))
    axes.fill_between(at, low, high, color=INK, alpha=0.12, linewidth=0)
    axes.plot(at, mid, color=INK, linewidth=1.4, linestyle=(0, (5, 2)), label="loess with 95 % band")
    return [("loess", *map(float, row), None) for row in zip(at, mid, low, high, strict=True)]


def _histogram(axes: Axes, y: Float, p: Float, outcome: BinaryOutcome) -> list[tuple[Any, ...]]:
    edges = np.linspace(0, 1, 41)
    up, down = np.histogram(p[y == 1], edges)[0], np.histogram(p[y == 0], edges)[0]
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], up, width=width * 0.85, align="edge", color=VERMILLION)
    axes.bar(
        edges[:-1], -down, width=width * 0.85, align="edge", color=BLUE, hatch="////", edgecolor=PAPER, linewidth=0
    )
    axes.axhline(0, color=QUIET, linewidth=0.8)
    most = max(int(up.max()), int(down.max()), 1)
    axes.set_ylim(-1.5 * most, 1.5 * most)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for words, height, side in (
        (f"event: {outcome.positive}", 0.97, "top"), (f"no event: {outcome.negative}", 0.03, "bottom"),
    ):
        axes.text(0.995, height, words, transform=axes.transAxes, ha="right", va=side, fontsize=8)
    middle = (edges[:-1] + edges[1:]) / 2
    rows: list[tuple[Any, ...]] = []
    for words, counts in ((outcome.positive, up), (outcome.negative, down)):
        rows += [
            (f"histogram {words}", float(m), None, None, None, int(c)) for m, c in zip(middle, counts, strict=True)
        ]
    return rows


def _binary_caption(run: Run, predictor: str, repeats: Sequence[Pooled], first: Calibration) -> Markup:
    found = run.metrics["predictors"][predictor]["out_of_fold"]
    path = ("predictors", predictor, "out_of_fold")
    parts: list[object] = [predictions_words(run), " ", _entry(found, path, "slope", "Slope"), "; "]
    parts += [_entry(found, path, "intercept", "intercept"), ". "]
    several = (
        f"Groups and histogram: repeat 1 of {len(repeats)}; thick line: mean of the repeats. "
        if len(repeats) > 1
        else ""
    )
    parts.append(several)
    if first.flexible is None:
        parts.append(f"Smooth curve {first.flexible_reason}; the recalibration line is drawn instead. ")
    if run.clustered:
        parts.append("Patients have several rows, so groups are drawn without intervals. ")
    else:
        parts.append("Bars: 95 % Wilson intervals. ")
    parts.append("Ideal is slope 1; below 1, predictions are too extreme.")
    return join(parts)


def _entry(found: dict[str, Any], path: tuple[str, ...], key: str, label: str) -> Markup:
    entry = found.get(key, {})
    if entry.get("value") is None:
        return join([label, " ", entry.get("reason", "not estimable")])
    parts: list[object] = [label, " ", number(entry["value"], 2, (*path, key, "value"))]
    if "low" in entry:
        parts += [" (", number(entry["low"], 2, (*path, key, "low")), " to "]
        parts += [number(entry["high"], 2, (*path, key, "high")), ")"]
    elif "repeats" in entry:
        parts.append(" (mean over repeats)" if entry["repeats"] > 1 else "")
    return join(parts)


def _at_horizon(run: Run, predictor: str, outcome: SurvivalOutcome, k: int) -> Exhibit:
    horizon = outcome.horizons[k]
    name = f"calibration_{predictor}_{horizon:g}"
    title = f"Calibration at {horizon:g} {outcome.unit}s, {predictor}"
    repeats = run.repeats(predictor)
    found: list[SurvivalCalibration] = []
    reason = ""
    for pooled in repeats:
        t, e = outcome.time[pooled.index], outcome.event[pooled.index]
        try:
            found.append(calibration_at(t, e, pooled.p[:, k], horizon, lp=pooled.lp, groups=_groups(len(t), 5)))
        except NotEstimableError as error:
            reason = error.what
    if not found:
        return unavailable(name, title, reason)
    first, groups = found[0], found[0].groups
    bars = [
        tuple(float(v) if np.isfinite(v) else None for v in row)
        for row in zip(groups.predicted, groups.observed, groups.low, groups.high, strict=True)
    ]
    if run.clustered:
        bars = [(*b[:2], None, None) for b in bars]
    data: list[tuple[Any, ...]] = [("group", *b, int(n)) for b, n in zip(bars, groups.n, strict=True)]
    shown = list(data)
    with pen():
        figure = new_figure(4.4)
        axes = figure.add_subplot()
        _frame(axes)
        axes.set_aspect("equal")
        for j, other in enumerate(found[1:]):
            g = other.groups
            axes.plot(
                g.predicted, g.observed, marker="o", linestyle="", markerfacecolor="none", markeredgecolor=BLUE,
                markersize=4, alpha=0.6, label="groups of another repeat" if j == 0 else None,
            )  # fmt: skip
        _points(axes, bars)
        if first.flexible is not None:
            c = first.flexible
            axes.fill_between(c.risk, c.low, c.high, color=INK, alpha=0.12, linewidth=0)
            axes.plot(
                c.risk, c.observed, color=INK, linewidth=1.4, linestyle=(0, (5, 2)), label="spline with 95 % band"
            )
            data += [("curve", *map(float, row), None) for row in zip(c.risk, c.observed, c.low, c.high, strict=True)]
        axes.set_xlabel(f"predicted risk by {horizon:g} {outcome.unit}s")
        axes.set_ylabel("observed risk (1 − Kaplan-Meier)")
        axes.legend(loc="upper left", labelcolor=INK)
    oof = run.metrics["predictors"][predictor]["out_of_fold"]
    parts: list[object] = [predictions_words(run), " "]
    parts += [_entry(oof, ("predictors", predictor, "out_of_fold"), "slope", "Slope over all follow-up"), ". "]
    parts.append(f"Groups with bars (95 %): repeat 1 of {len(repeats)}. " if len(repeats) > 1 else "Bars: 95 %. ")
    if first.flexible is None:
        parts.append(f"No smooth curve: {first.flexible_reason}. ")
    if not run.independent_test:
        parts.append("How high risks are on average is fixed by design under random resampling: no evidence.")
    return Exhibit(name, title, join(parts), figure, HEADER, data, shown)
