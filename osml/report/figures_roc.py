"""ROC curves of held-out scores, averaged so that the area drawn is the AUC that metrics.json states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome
from osml.evaluation.discrimination import RocCurve, roc_curve
from osml.explanation.drawing import SERIES, new_figure, pen, unit_square
from osml.report.exhibit import Exhibit, unavailable
from osml.report.html import join, number
from osml.report.run import HeldOut, Run
from osml.report.wording import predictions_words

Float = NDArray[np.float64]


def roc_exhibit(run: Run, predictor: str) -> Exhibit:
    """Average curve over the folds, one light curve a repeat."""
    name, title = f"roc_{predictor}", f"ROC curve, {predictor}"
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    sets = run.held_out[predictor]
    if run.schema.validation.split.kind == "leave_one_patient_out":
        return unavailable(name, title, "One patient per fold has no ROC curve, and pooled scores are not one scale.")
    both = [s for s in sets if 0 < outcome.y[s.index].sum() < len(s.index)]
    if not both:
        return unavailable(name, title, "No test fold holds both classes.")
    curve = averaged_roc(_curves(outcome, both))
    repeats = sorted({s.fold.repeat for s in both})
    light = [averaged_roc(_curves(outcome, [s for s in both if s.fold.repeat == r])) for r in repeats]
    found = run.metrics["predictors"][predictor]["out_of_fold"]["auc"]
    with pen():
        figure = new_figure(4.4)
        axes = figure.add_subplot()
        unit_square(axes)
        axes.plot([0, 1], [0, 1], color="#5b6470", linewidth=0.9, linestyle=(0, (2, 2)), label="chance, AUC 0.50")
        for k, (x, y) in enumerate(light if len(light) > 1 else []):
            axes.plot(x, y, color=SERIES[0].colour, linewidth=0.7, alpha=0.4, label="one repeat" if k == 0 else None)
        label = "test patients" if len(both) == 1 else f"average of {len(both)} folds"
        axes.plot(*curve, color=SERIES[0].colour, linewidth=2.2, label=f"{label}, AUC {found['value']:.2f}")
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")
        axes.legend(loc="lower right")
    path = ("predictors", predictor, "out_of_fold", "auc")
    parts: list[object] = [predictions_words(run), " AUC ", number(found["value"], 2, (*path, "value"))]
    if "low" in found:
        parts += [
            ", 95 % interval ", number(found["low"], 2, (*path, "low")), " to ",
            number(found["high"], 2, (*path, "high")), f" ({found['interval']})",
        ]  # fmt: skip
    if len(both) > 1:
        parts.append(". Curves of the folds are averaged at each specificity; light: single repeats.")
    else:
        parts.append(".")
    data = [("average", float(a), float(b)) for a, b in zip(*curve, strict=True)]
    for r, one in zip(repeats, light, strict=True):
        data += [(f"repeat {r + 1}", float(a), float(b)) for a, b in zip(*one, strict=True)]
    at = np.arange(0, 1.0001, 0.1)
    upper = [float(curve[1][curve[0] <= x + 1e-12][-1]) for x in at]
    shown = [("average", float(x), y) for x, y in zip(at, upper, strict=True)]
    header = ("curve", "1 - specificity", "sensitivity")
    return Exhibit(name, title, join(parts), figure, header, data, shown)


def averaged_roc(curves: Sequence[RocCurve]) -> tuple[Float, Float]:
    """Vertical average of ROC curves as a polyline: 1 - specificity and sensitivity, float arrays (k,).

    Its area is the mean of the curves' areas, exactly: the average is taken on both sides of every step.

    >>> curve = roc_curve([0, 1], [0.2, 0.7])
    >>> [side.tolist() for side in averaged_roc([curve])]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]
    """
    grid = np.unique(np.concatenate([1 - c.specificity for c in curves]))
    sides = np.array([_sides(c, grid) for c in curves]).mean(axis=0)
    return np.repeat(grid, 2), sides.T.ravel()


def _sides(curve: RocCurve, at: Float) -> Float:
    """Sensitivity just left and just right of each point, float array (2, k)."""
    x, y = (1 - curve.specificity)[::-1], curve.sensitivity[::-1]
    places, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    left, right = y[first], y[last]
    k = np.clip(np.searchsorted(places, at, side="right") - 1, 0, len(places) - 1)
    after = np.minimum(k + 1, len(places) - 1)
    width = np.where(after > k, places[after] - places[k], 1.0)
    between = right[k] + (at - places[k]) / width * (left[after] - right[k])
    here = places[k] == at
    return np.array([np.where(here, left[k], between), np.where(here, right[k], between)])


def _curves(outcome: BinaryOutcome, sets: Sequence[HeldOut]) -> list[RocCurve]:
    return [roc_curve(outcome.y[s.index], s.lp) for s in sets]
