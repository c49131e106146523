"""Decision curve over the range that the study states, from metrics.json."""

from __future__ import annotations

import numpy as np

from osml.explanation.drawing import INK, QUIET, SERIES, grid, new_figure, pen
from osml.report.exhibit import Exhibit, unavailable
from osml.report.run import Run
from osml.report.wording import predictions_words, thinned


def decision_exhibit(run: Run, predictor: str) -> Exhibit:
    """Net benefit of the model, of treating all and of treating none."""
    name, title = f"decision_{predictor}", f"Decision curve, {predictor}"
    found = run.metrics["predictors"][predictor]["out_of_fold"]["decision"]
    if "curve" not in found:
        return unavailable(name, title, str(found["reason"]))
    curve = found["curve"]
    x, model, low, high, everyone = (
        np.array([row[key] if row[key] is not None else np.nan for row in curve], dtype=float)
        for key in ("threshold", "model", "low", "high", "treat_all")
    )
    with pen():
        figure = new_figure(3.9)
        axes = figure.add_subplot()
        grid(axes)
        axes.fill_between(100 * x, low, high, color=SERIES[0].colour, alpha=0.15, linewidth=0, label="95 % interval")
        axes.plot(100 * x, model, color=SERIES[0].colour, linewidth=2, label=f"act by {predictor}")
        axes.plot(100 * x, everyone, color=SERIES[1].colour, linestyle=SERIES[1].dash, label="act on all")
        axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (1, 1.5)), label="act on none")
        top = float(np.nanmax(np.concatenate([high, model, everyone, [0.02]])))
        axes.set_ylim(-0.25 * top, 1.08 * top)
        axes.set_xlim(100 * x.min(), 100 * x.max())
        axes.set_xlabel("risk at which one would act (%)")
        axes.set_ylabel("net benefit")
        axes.legend(loc="best", labelcolor=INK)
        axes.tick_params(color=QUIET)
    horizon = f" Risk by {found['horizon']:g} {run.outcome.unit}s." if "horizon" in found and run.survival else ""  # type: ignore[union-attr]
    caption = (
        f"{predictions_words(run)} Decision: {found['action']}, acting on “{found['act_on']}”.{horizon} "
        f"Range {100 * found['thresholds'][0]:g} to {100 * found['thresholds'][1]:g} %: {found['why']}. "
        f"Interval: {found['interval']}. A net benefit of 0.10 is worth 10 more patients rightly treated in 100, "
        "with nobody treated in vain."
    )
    header = tuple(curve[0])
    data = [tuple(row.values()) for row in curve]
    brief = ("threshold", "model", "low", "high", "treat_all", "avoided_per_100")
    shown = [[curve[k][key] for key in brief] for k in thinned(len(curve), 9)]
    return Exhibit(name, title, caption, figure, header, data, shown, brief)


def decision_words(run: Run, predictor: str) -> str:
    """One sentence: how often the model beats both defaults, and how often beyond doubt; "" without a decision."""
    found = run.metrics["predictors"][predictor]["out_of_fold"].get("decision", {})
    if "curve" not in found:
        return ""
    rows = [row for row in found["curve"] if row["model"] is not None]
    better = sum(row["model"] > max(row["treat_all"], row["treat_none"]) for row in rows)
    sure = sum(None not in (row["gain_low"], row["low"]) and min(row["gain_low"], row["low"]) > 0 for row in rows)
    low, high = (f"{100 * t:g}" for t in found["thresholds"])
    return (
        f"For the stated decision ({found['action']}), at risks from {low} to {high} %: acting by {predictor} had a "
        f"higher net benefit than acting on all and on none at {better} of {len(rows)} thresholds; the interval lay "
        f"above both at {sure}."
    )
