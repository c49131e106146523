"""Kaplan-Meier curves and cumulative incidence by risk group; no group comes from a model that had seen the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import SurvivalOutcome
from osml.errors import NotEstimableError
from osml.evaluation.cumulative_incidence import cumulative_incidence
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.evaluation.survival import number_at_risk
from osml.explanation.drawing import INK, QUIET, SERIES, grid, new_figure, pen
from osml.predictors.chain import load_chain
from osml.report.exhibit import Exhibit, unavailable
from osml.report.run import Run
from osml.report.wording import event_words, predictions_words, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float = NDArray[np.float64]
GROUPS = ("low risk", "middle risk", "high risk")
_GROUPS_CAPTION = (
    "Groups: thirds of the predictions that each fold's model makes for its own training patients; test patients fall "
    "into them by their held-out prediction, so groups need not be equal in size."
)


@dataclass(frozen=True)
class Steps:
    """A step curve from `start` at time 0; no bounds where none exist."""

    start: float
    times: Float
    values: Float
    low: Float | None = None
    high: Float | None = None


def risk_groups(run: Run, predictor: str) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """For each repeat: positions of the held-out units, and their group 0, 1, 2 (low, middle, high)."""
    schema = run.schema
    by_repeat: dict[int, list[tuple[NDArray[np.intp], NDArray[np.intp]]]] = {}
    for held_out in run.held_out[predictor]:
        fold = held_out.fold
        chain = load_chain(schema, predictor, run.path / "folds" / fold.name / predictor)
        cuts = np.quantile(chain.predict(run.cohort.of(fold.train)).lp, [1 / 3, 2 / 3])
        group = np.searchsorted(cuts, held_out.lp, side="left")
        by_repeat.setdefault(fold.repeat, []).append((held_out.index, group))
    return [
        (np.concatenate([i for i, _ in parts]), np.concatenate([g for _, g in parts]))
        for _, parts in sorted(by_repeat.items())
    ]


def risk_group_exhibit(run: Run, predictor: str) -> Exhibit:
    """Event-free survival by risk group; with competing events the incidence of the event instead."""
    outcome = run.outcome
    assert isinstance(outcome, SurvivalOutcome)
    competing = outcome.competing is not None
    name = f"risk_groups_{predictor}"
    title = f"{'Cumulative incidence' if competing else 'Kaplan-Meier'} by risk group, {predictor}"
    if run.network(predictor):
        return unavailable(
            name, title, "A network is in it, whose training predictions, which cut the groups, are not kept."
        )
    repeats = risk_groups(run, predictor)
    used = [g for g in range(len(GROUPS)) if np.any(repeats[0][1] == g)]
    if len(used) < 2:
        return unavailable(name, title, "The held-out predictions fall into one group only.")
    with pen():
        figure, axes, below = _survival_figure(run, outcome, len(used))
        data: list[tuple[Any, ...]] = []
        for r, (index, group) in reversed(list(enumerate(repeats))):
            for g in used:
                mine = index[group == g]
                if len(mine) == 0:
                    continue
                curve = _curve(outcome, mine)
                _draw(axes, curve, g, main=r == 0, label=f"{GROUPS[g]}, n = {len(mine)}")
                data += _rows(f"repeat {r + 1}, {GROUPS[g]}", curve)
        members = [(GROUPS[g], repeats[0][0][repeats[0][1] == g], g) for g in used]
        shown = _at_risk(axes, below, outcome, members)
        _finish(axes, run, outcome, f"risk of {event_words(run)}" if competing else f"free of {event_words(run)}")
    first = f" Thick lines, bands (95 %) and numbers at risk: repeat 1 of {len(repeats)}; light: the other repeats."
    caption = f"{predictions_words(run)} {_GROUPS_CAPTION}{first if len(repeats) > 1 else ' Bands: 95 %.'}"
    if competing:
        caption += " Aalen-Johansen: competing events are counted as such, not as censoring."
    header = ("curve", "time", "at risk", "value", "low", "high")
    return Exhibit(name, title, caption, figure, header, data, shown)


def incidence_exhibit(run: Run) -> Exhibit:
    """Observed incidence in the whole cohort: of the event, and of the competing events where there are any."""
    outcome = run.outcome
    assert isinstance(outcome, SurvivalOutcome)
    name, title = "incidence", "Observed incidence in the whole cohort"
    causes = [(1, event_words(run))] + ([(2, "competing event")] if outcome.competing is not None else [])
    everybody = np.arange(len(outcome.time))
    with pen():
        figure, axes, below = _survival_figure(run, outcome, 1)
        data: list[tuple[Any, ...]] = []
        for k, (cause, words) in enumerate(causes):
            curve = _incidence(outcome, everybody, cause)
            _draw(axes, curve, k, main=True, label=words)
            data += _rows(words, curve)
        shown = _at_risk(axes, below, outcome, [("all patients", everybody, None)])
        _finish(axes, run, outcome, "cumulative incidence")
    how = "Aalen-Johansen" if outcome.competing is not None else "One minus Kaplan-Meier"
    caption = f"Data, not predictions: all {len(everybody)} {run.units} of the cohort. {how}, bands 95 %."
    return Exhibit(name, title, caption, figure, ("curve", "time", "at risk", "value", "low", "high"), data, shown)


def _curve(outcome: SurvivalOutcome, index: NDArray[np.intp]) -> Steps:
    if outcome.competing is not None:
        return _incidence(outcome, index, 1)
    time, event = outcome.time[index], outcome.event[index]
    try:
        km = kaplan_meier(time, event, conf="log-log")
    except NotEstimableError:  # nobody of this group had the event: flat at 1, and no variance to draw
        return Steps(1.0, np.array([time.max()]), np.ones(1))
    return Steps(1.0, km.times, km.survival, km.low, km.high)


def _incidence(outcome: SurvivalOutcome, index: NDArray[np.intp], cause: int) -> Steps:
    time = outcome.time[index]
    competing = np.zeros(len(index), dtype=bool) if outcome.competing is None else outcome.competing[index]
    codes = np.where(outcome.event[index], 1, np.where(competing, 2, 0))
    if not np.any(codes == cause):
        return Steps(0.0, np.array([time.max()]), np.zeros(1))
    found = cumulative_incidence(time, codes, conf="log-log")
    k = found.causes.index(cause)
    return Steps(0.0, found.times, found.incidence[k], found.low[k], found.high[k])


def _survival_figure(run: Run, outcome: SurvivalOutcome, rows: int) -> tuple[Figure, Axes, Axes]:
    figure = new_figure(3.9 + 0.2 * rows)
    axes, below = figure.subplots(2, 1, height_ratios=[1, 0.055 + 0.05 * rows])
    axes.set_xlim(0, 1.02 * float(outcome.time.max()))
    axes.set_ylim(-0.02, 1.02)
    grid(axes)
    for h in outcome.horizons:
        axes.axvline(h, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    return figure, axes, below


def _draw(axes: Axes, curve: Steps, k: int, *, main: bool, label: str) -> None:
    x, y = np.concatenate([[0.0], curve.times]), np.concatenate([[curve.start], curve.values])
    series = SERIES[k]
    if not main:
        axes.step(x, y, where="post", color=series.colour, linewidth=0.6, alpha=0.35)
        return
    axes.step(x, y, where="post", color=series.colour, linestyle=series.dash, linewidth=1.9, label=label)
    if curve.low is not None and curve.high is not None:
        band = [np.concatenate([[curve.start], b]) for b in (curve.low, curve.high)]
        axes.fill_between(x, band[0], band[1], step="post", color=series.colour, alpha=0.09, linewidth=0)


def _at_risk(
    axes: Axes, below: Axes, outcome: SurvivalOutcome, members: Sequence[tuple[str, NDArray[np.intp], int | None]]
) -> list[tuple[Any, ...]]:
    """Numbers at risk under the time ticks; returns the rows of the page's table."""
    below.set_axis_off()
    ticks = [t for t in axes.get_xticks() if 0 <= t <= axes.get_xlim()[1]]
    below.set_xlim(*axes.get_xlim())
    below.set_ylim(len(members), -1)
    below.text(0, -0.55, "at risk", fontsize=8, color=QUIET, ha="left", va="center", transform=below.transData)
    rows: list[tuple[Any, ...]] = []
    for row, (words, index, series) in enumerate(members):
        counts = number_at_risk(outcome.time[index], outcome.event[index], ticks)
        colour = INK if series is None else SERIES[series].colour
        below.text(
            -0.045, row + 0.45, words.removesuffix(" risk"), transform=below.get_yaxis_transform(), ha="right",
            va="center", fontsize=8, color=colour,
        )  # fmt: skip
        curve = _curve(outcome, index)
        for t, n in zip(ticks, counts, strict=True):
            below.text(t, row + 0.45, str(int(n)), ha="center", va="center", fontsize=8)
            rows.append((words, float(t), int(n), *_value_at(curve, t)))
    return rows


def _value_at(curve: Steps, t: float) -> tuple[float | None, float | None, float | None]:
    if t > curve.times[-1]:
        return None, None, None
    k = int(np.searchsorted(curve.times, t, side="right")) - 1
    if k < 0:
        return curve.start, None, None
    low, high = (float(b[k]) if b is not None and np.isfinite(b[k]) else None for b in (curve.low, curve.high))
    return float(curve.values[k]), low, high


def _rows(words: str, curve: Steps) -> list[tuple[Any, ...]]:
    blank = np.full(len(curve.times), np.nan)
    bounds = (blank if b is None else b for b in (curve.low, curve.high))
    columns = (curve.times, curve.values, *bounds)
    return [
        (words, float(t), None, float(v), *(float(b) if np.isfinite(b) else None for b in (lo, hi)))
        for t, v, lo, hi in zip(*columns, strict=True)
    ]


def _finish(axes: Axes, run: Run, outcome: SurvivalOutcome, words: str) -> None:
    axes.set_xlabel(time_unit(run))
    axes.set_ylabel(words if len(words) <= 44 else words[:43] + "…")
    axes.legend(loc="best", labelcolor=INK)
