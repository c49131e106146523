"""How much weight a gated network gives each of its inputs, by true class; medians per patient in the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.explanation.drawing import INK, PAPER, grid, new_figure, pen
from osml.report.classes import capital
from osml.report.exhibit import Exhibit, unavailable
from osml.report.feature_words import wrapped
from osml.report.figures_classes import series
from osml.report.run import Run
from osml.report.wording import predictions_words
from osml.schema.model import NetworkPredictor

Float = NDArray[np.float64]
PREFIX = "gate:"
AT = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 5  # units below which only the median is shown
MOST_PATIENTS = 40


def gates_exhibit(run: Run, predictor: str) -> Exhibit:
    """Quantiles of the weights of held-out units, a row per true class, a mark per input."""
    name, title = f"gates_{predictor}", f"Gate weights, {predictor}"
    block = run.schema.predictors[predictor]
    assert isinstance(block, NetworkPredictor)
    if len(block.inputs) < 2 or block.fusion != "gated":
        how = "one input" if len(block.inputs) < 2 else f"fusion {block.fusion}"
        return unavailable(name, title, f"The network has no gate ({how}).")
    weights = _weights(run, predictor)
    if not weights:
        return unavailable(name, title, "There are no weights: its inputs enter as one vector.")
    groups = {words: mine for words, mine in run.cohort.outcome_groups().items() if mine.any()}
    modalities = list(weights)
    data: list[tuple[Any, ...]] = []
    with pen():
        figure = new_figure(1.2 + (0.26 * len(modalities) + 0.2) * len(groups))
        axes = figure.add_subplot()
        step = 0.8 / len(modalities)
        for g, (words, mine) in enumerate(groups.items()):
            for m, modality in enumerate(modalities):
                values = weights[modality][mine]
                values = values[np.isfinite(values)]
                if not len(values):
                    continue
                y = g - 0.4 + step * (m + 0.5)
                row = _draw(axes, y, m, values, modality if g == 0 else None)
                data.append(("class", words, modality, len(values), *row))
        axes.set_yticks(range(len(groups)), [f"{wrapped(w, 18)}\nn = {int(v.sum())}" for w, v in groups.items()])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("weight of the input in the fused vector")
        grid(axes, "x")
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16 - 0.14 / len(groups)),
            ncols=min(3, len(modalities)),
            labelcolor=INK,
        )
    people = _by_patient(run, weights)
    caption = (
        f"{predictions_words(run)} Median (mark), middle half (thick) and 5th to 95th percentile (thin) of the weights "
        "within each true class; a unit's weights sum to 1; mean over seeds and repeats. A weight says where the fused "
        "vector comes from, not how much the input helps: see the table of fewer inputs."
    )
    header = ("by", "group", "input", "units", *(f"{100 * q:g} %" for q in AT))
    shown = [*data, *people] if len(people) <= MOST_PATIENTS * len(modalities) else data
    return Exhibit(name, title, caption, figure, header, [*data, *people], shown)


def _weights(run: Run, predictor: str) -> dict[str, Float]:
    """Input → weight of each unit of the cohort, mean over repeats; NaN for a unit that was not held out."""
    position = {unit: i for i, unit in enumerate(run.cohort.units)}
    sums: dict[str, Float] = {}
    counts: dict[str, Float] = {}
    for row in run.extras:
        if row.predictor != predictor or not row.name.startswith(PREFIX):
            continue
        name = row.name.removeprefix(PREFIX)
        if name not in sums:
            sums[name], counts[name] = np.zeros(len(run.cohort)), np.zeros(len(run.cohort))
        sums[name][position[row.unit]] += row.value
        counts[name][position[row.unit]] += 1
    return {
        name: np.divide(total, counts[name], out=np.full(len(total), np.nan), where=counts[name] > 0)
        for name, total in sums.items()
    }


def _draw(axes: Any, y: float, m: int, values: Float, label: str | None) -> Sequence[float | None]:
    line = series(m)
    low, q1, median, q3, high = (float(v) for v in np.quantile(values, AT))
    if len(values) >= FEWEST:
        axes.plot([low, high], [y, y], color=line.colour, linewidth=1)
        axes.plot([q1, q3], [y, y], color=line.colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
    axes.plot(
        [median], [y], marker=line.marker, markersize=7, color=line.colour, markeredgecolor=PAPER, linestyle="",
        label=None if label is None else capital(label),
    )  # fmt: skip
    return (low, q1, median, q3, high) if len(values) >= FEWEST else (None, None, median, None, None)


def _by_patient(run: Run, weights: dict[str, Float]) -> list[tuple[Any, ...]]:
    """Quantiles of each patient's rows; patients are numbered. Nothing where a patient is one unit."""
    if not run.cohort.clustered:
        return []
    patients = np.array(run.cohort.patients, dtype=object)
    rows: list[tuple[Any, ...]] = []
    for k, patient in enumerate(run.cohort.patient_ids):
        for modality, values in weights.items():
            mine = values[(patients == patient) & np.isfinite(values)]
            if len(mine):
                quantiles = [float(v) for v in np.quantile(mine, AT)]
                few = len(mine) < FEWEST
                shown = [None if few and q != 0.5 else v for q, v in zip(AT, quantiles, strict=True)]
                rows.append(("patient", f"patient {k + 1}", modality, len(mine), *shown))
    return rows
