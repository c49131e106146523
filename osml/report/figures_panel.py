"""The predictors of `report.compare` side by side on held-out data: ROC, decision and calibration curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.evaluation.discrimination import roc_curve
from osml.evaluation.measures import MEASURES, measures_batch
from osml.evaluation.survival_calibration import calibration_at
from osml.explanation.drawing import INK, QUIET, SERIES, grid, new_figure, pen, unit_square
from osml.report.exhibit import Exhibit, unavailable
from osml.report.figures_roc import averaged_roc
from osml.report.models import ModelRow
from osml.report.run import Run
from osml.report.wording import predictions_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]
Line = tuple[str, str, Float, Float]  # panel, predictor, x, y
Panel = tuple[str, Callable[["Axes", Run, Sequence[str], Sequence[ModelRow]], list[Line]]]


def panel_exhibit(run: Run, rows: Sequence[ModelRow]) -> Exhibit | None:
    """ROC (survival: C), decision curve and calibration of up to four predictors; None where none are compared."""
    wanted = run.schema.report.compare
    if len(wanted) < 2:
        return None
    name, title = "side_by_side", "Predictors side by side"
    names = [n for n in wanted if n in run.held_out][: len(SERIES)]
    if len(names) < 2:
        return unavailable(name, title, "Fewer than two of the predictors to compare finished all their folds.")
    panels = _panels(run, names)
    wide, high = 3.15 * len(panels), 3.4 + 0.2 * len(names)
    with pen(font_size=8.5):
        figure = new_figure(high, wide)
        lines = [
            line for axes, (_, draw) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True)
            for line in draw(axes, run, names, rows)
        ]  # fmt: skip
        for axes, (words, _) in zip(figure.axes, panels, strict=True):
            axes.set_title(words, fontsize=9, loc="left", color=INK)
        _legend(run, figure, names, rows)
    data = [(panel, n, float(x), float(y)) for panel, n, xs, ys in lines for x, y in zip(xs, ys, strict=True)]
    shown = [
        (row.predictor, row.data, row.area.value, row.area.low, row.area.high) for row in rows if row.predictor in names
    ]
    brief = ("predictor", "data", "C" if run.survival else "AUC", "low", "high")
    header = ("panel", "predictor", "x", "y")
    return Exhibit(name, title, _caption(run, panels, names), figure, header, data, shown, brief, wide=True)


def _panels(run: Run, names: Sequence[str]) -> list[Panel]:
    out: list[Panel] = []
    if run.survival:
        out.append(("Harrell's C", _concordance))
    elif run.schema.validation.split.kind != "leave_one_patient_out":
        out.append(("ROC curve", _roc))
    if run.withheld:
        return out or [("Nothing to draw", _nothing)]
    if all("curve" in run.metrics["predictors"][n]["out_of_fold"].get("decision", {}) for n in names):
        out.append(("Decision curve", _decision))
    out.append(("Calibration", _calibration_survival if run.survival else _calibration_binary))
    return out


def _caption(run: Run, panels: Sequence[Panel], names: Sequence[str]) -> str:
    drawn = {words for words, _ in panels}
    parts = [predictions_words(run)]
    if "ROC curve" in drawn:
        parts.append("ROC: average over the folds, so that the area is the AUC stated.")
    if run.survival:
        parts.append("C: filled with 95 % interval, held out; hollow, apparent.")
    if "Decision curve" not in drawn and not run.withheld:
        parts.append("No decision curve: no decision is stated.")
    if "Calibration" in drawn:
        parts.append(
            "Calibration: groups of patients of repeat 1 at the last horizon."
            if run.survival
            else "Calibration: recalibration line, mean over the repeats, over the range of the risks predicted."
        )
    if run.withheld:
        parts.append(f"Neither decision nor calibration: {run.withheld}.")
    measure = "C" if run.survival else "AUC"
    parts.append(f"Apparent {measure}: final model on its own patients, for comparison only; too good.")
    left_out = [name for name in run.schema.report.compare if name not in names]
    if left_out:
        parts.append(f"Not drawn: {', '.join(left_out)} (some folds failed, or more than {len(SERIES)} predictors).")
    return " ".join(parts)


def _legend(run: Run, figure: Any, names: Sequence[str], rows: Sequence[ModelRow]) -> None:
    from matplotlib.lines import Line2D

    kind = "C" if run.survival else "AUC"
    handles = []
    for k, name in enumerate(names):
        found: Mapping[str, ModelRow] = {
            "apparent" if r.data == "apparent" else "held": r for r in rows if r.predictor == name
        }
        parts = [f"{name}: {kind} {_area(found['held'])}"]
        if "apparent" in found:
            parts.append(f"apparent {_area(found['apparent'])}")
        series = SERIES[k]
        handles.append(Line2D([], [], color=series.colour, linestyle=series.dash, linewidth=2, label="; ".join(parts)))
    figure.legend(handles=handles, loc="outside lower center", ncols=1, labelcolor=INK, handlelength=3)


def _area(row: ModelRow) -> str:
    area = row.area
    if area.value is None:
        return "none"
    if area.low is None or area.high is None or row.data == "apparent":
        return f"{area.value:.2f}"
    return f"{area.value:.2f} ({area.low:.2f} to {area.high:.2f})"


def _nothing(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    axes.set_axis_off()
    return []


def _roc(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    unit_square(axes)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)))
    out: list[Line] = []
    for k, name in enumerate(names):
        both = [s for s in run.held_out[name] if 0 < outcome.y[s.index].sum() < len(s.index)]
        if not both:
            continue
        x, y = averaged_roc([roc_curve(outcome.y[s.index], s.lp) for s in both])
        _line(axes, k, x, y)
        out.append(("roc", name, x, y))
    axes.set_xlabel("1 − specificity")
    axes.set_ylabel("sensitivity")
    return out


def _concordance(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    out: list[Line] = []
    for row in rows:
        area, found = row.area, row.area.value
        if row.predictor not in names or found is None:
            continue
        k, held_out = names.index(row.predictor), row.data != "apparent"
        y, series = float(len(names) - 1 - k), SERIES[k]
        axes.plot(
            [found], [y], marker=series.marker, markerfacecolor=series.colour if held_out else "none",
            markeredgecolor=series.colour, markersize=7, linestyle="",
        )  # fmt: skip
        if held_out and area.low is not None and area.high is not None:
            axes.plot([area.low, area.high], [y, y], color=series.colour, linewidth=1.6)
        out.append(("c" if held_out else "c apparent", row.predictor, np.array([found]), np.array([y])))
    axes.axvline(0.5, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_yticks([float(len(names) - 1 - k) for k in range(len(names))], list(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("C (0.5: chance)")
    grid(axes, "x")
    return out


def _decision(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    grid(axes)
    out: list[Line] = []
    top = 0.02
    curves = [run.metrics["predictors"][n]["out_of_fold"]["decision"]["curve"] for n in names]
    for k, (name, curve) in enumerate(zip(names, curves, strict=True)):
        x, y = _column(curve, "threshold"), _column(curve, "model")
        _line(axes, k, 100 * x, y)
        out.append(("decision", name, x, y))
        top = max(top, float(np.nanmax(np.append(y, top))))
    x, everyone = _column(curves[0], "threshold"), _column(curves[0], "treat_all")
    axes.plot(100 * x, everyone, color=QUIET, linewidth=1.1)
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (1, 1.5)))
    top = max(top, float(np.nanmax(everyone)))
    out.append(("decision", "act on all", x, everyone))
    axes.set_ylim(-0.25 * top, 1.08 * top)
    axes.set_xlim(100 * float(x.min()), 100 * float(x.max()))
    inside = int(np.argmin(np.abs(everyone - 0.5 * top)))
    axes.annotate(
        "act on all", (100 * x[inside], everyone[inside]), (4, 3), textcoords="offset points", fontsize=7.5, color=QUIET
    )
    axes.annotate(
        "act on none", (0.02, 0), (0, -3), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7.5,
        color=QUIET, va="top",
    )  # fmt: skip
    axes.set_xlabel("risk at which one would act (%)")
    axes.set_ylabel("net benefit")
    return out


def _column(curve: Sequence[Mapping[str, Any]], key: str) -> Float:
    return np.array([row[key] if row[key] is not None else np.nan for row in curve], dtype=float)


def _calibration_binary(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    _ideal(axes)
    out: list[Line] = []
    wanted = [MEASURES.index("intercept"), MEASURES.index("slope")]
    for k, name in enumerate(names):
        found, seen = [], []
        for pooled in run.repeats(name):
            y, p = outcome.y[pooled.index], np.clip(pooled.p[:, 0], 1e-9, 1 - 1e-9)
            if np.ptp(p) < 1e-12 or len(np.unique(y)) < 2:
                continue
            one = measures_batch(y, logit(p)[None], np.ones((1, len(y))))[0, wanted]
            if np.isfinite(one).all():
                found.append(one)
                seen.append((p.min(), p.max()))
        if not found:
            continue
        intercept, slope = np.mean(found, axis=0)
        x = np.linspace(min(a for a, _ in seen), max(b for _, b in seen), 101)
        y = expit(intercept + slope * logit(x))
        _line(axes, k, x, y)
        out.append(("calibration", name, x, y))
    axes.set_xlabel("predicted risk")
    axes.set_ylabel("observed share")
    return out


def _calibration_survival(axes: Axes, run: Run, names: Sequence[str], rows: Sequence[ModelRow]) -> list[Line]:
    outcome = run.outcome
    assert isinstance(outcome, SurvivalOutcome)
    _ideal(axes)
    out: list[Line] = []
    k_last, horizon = len(outcome.horizons) - 1, outcome.horizons[-1]
    for k, name in enumerate(names):
        pooled = run.repeats(name)[0]
        t, e = outcome.time[pooled.index], outcome.event[pooled.index]
        try:
            groups = calibration_at(t, e, pooled.p[:, k_last], horizon, lp=pooled.lp, groups=4).groups
        except NotEstimableError:
            continue
        x, y = np.asarray(groups.predicted, dtype=float), np.asarray(groups.observed, dtype=float)
        series = SERIES[k]
        axes.plot(x, y, color=series.colour, linestyle=series.dash, marker=series.marker, markersize=5, linewidth=1.2)
        out.append(("calibration", name, x, y))
    axes.set_xlabel(f"predicted risk by {horizon:g} {outcome.unit}s")
    axes.set_ylabel("observed risk")
    return out


def _ideal(axes: Axes) -> None:
    unit_square(axes)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)))


def _line(axes: Axes, k: int, x: Float, y: Float) -> None:
    axes.plot(x, y, color=SERIES[k].colour, linestyle=SERIES[k].dash, linewidth=1.9)
