"""What the training data looked like, as counts in cells of ten patients or more: for a bundle, to compare with later.

`predictors/NAME/training.json` of a bundle. Cells of numbers end at multiples of a round step, not at patients' values.
A count of missing values from 1 to 9 is not written, and the largest cell beside it is rounded to tens, so that it
cannot be had by subtraction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.schema.model import BinaryInput, CategoryInput, Schema
from osml.serving.form import needed_inputs

Float = NDArray[np.float64]
NAME = "training.json"
VERSION = 1
MIN_CELL = 10
CELLS = 8
MISSING = "missing"


def training_counts(
    schema: Schema, name: str, cohort: Cohort, held_out: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Counts of every input of a predictor and of its predictions.

    Parameters
    ----------
    cohort : development patients
    held_out : column of the predictor → predictions of patients that the model had not seen; those of its own training
        patients would be too sure, and every new patient would look different from them
    """
    inputs: dict[str, Any] = {}
    for item in needed_inputs(schema, name):
        if item in cohort.values:
            found = _category(cohort.values[item], schema, item) or _number(cohort.values[item])
            inputs |= {} if found is None else {item: found}
    predictions = {column: _number(np.asarray(p, dtype=np.float64)) for column, p in held_out.items()}
    kept = {column: found for column, found in predictions.items() if found is not None}
    return {"version": VERSION, "inputs": inputs, "predictions": kept}


def cells_of(block: Mapping[str, Any], values: Float) -> list[str]:
    """The cell of each value: its position as text, or "missing"."""
    if block["kind"] == "category":
        place = {int(level): k for k, group in enumerate(block["groups"]) for level in group}
        return [MISSING if np.isnan(x) else str(place.get(int(x), 0)) for x in values]
    index = np.searchsorted(np.array(block["edges"]), values, side="left")
    return [MISSING if np.isnan(x) else str(int(k)) for x, k in zip(values, index, strict=True)]


def cell_names(block: Mapping[str, Any], levels: Sequence[str] = ()) -> list[str]:
    """What each cell is called.

    >>> cell_names({"kind": "number", "edges": [10.0, 20.0], "counts": [12, 30, 11]})
    ['up to 10', '10 to 20', 'above 20']
    """
    if block["kind"] == "category":
        return [" or ".join(levels[int(i)] for i in group) for group in block["groups"]]
    edges = [f"{edge:.6g}" for edge in block["edges"]]
    middle = [f"{a} to {b}" for a, b in pairwise(edges)]
    return [f"up to {edges[0]}", *middle, f"above {edges[-1]}"]


def _category(values: Float, schema: Schema, item: str) -> dict[str, Any] | None:
    block = schema.values()[item]
    if not isinstance(block, BinaryInput | CategoryInput):
        return None
    given = values[~np.isnan(values)].astype(np.intp)
    counts = np.bincount(given, minlength=len(block.levels)).tolist()
    cells = [(n, [k]) for k, n in enumerate(counts)]
    while len(cells) > 1 and min(cells)[0] < MIN_CELL:
        cells.sort()
        (few, one), (more, other) = cells[:2]
        cells = [(few + more, sorted([*one, *other])), *cells[2:]]
    if len(cells) < 2:
        return None
    cells.sort(key=lambda cell: cell[1])
    return _with_missing({"kind": "category", "groups": [group for _, group in cells]}, [n for n, _ in cells], values)


def _number(values: Float) -> dict[str, Any] | None:
    given = values[~np.isnan(values)]
    if len(given) < 2 * MIN_CELL:
        return None
    low, high = np.quantile(given, [0.05, 0.95])
    if not high > low:
        return None
    step = _round_step(float(high - low) / 20)
    wanted = np.quantile(given, np.arange(1, CELLS) / CELLS)
    digits = max(0, 1 - math.floor(math.log10(step)))
    edges = sorted({round(float(np.round(x / step)) * step, digits) for x in wanted})
    counts = _counts(given, edges)
    while len(edges) > 0 and min(counts) < MIN_CELL:
        k = int(np.argmin(counts))
        # The edge to the smaller neighbour goes.
        drop = 0 if k == 0 else k - 1 if k == len(edges) or counts[k - 1] <= counts[k + 1] else k
        del edges[drop]
        counts = _counts(given, edges)
    return _with_missing({"kind": "number", "edges": edges}, counts, values) if edges else None


def _counts(given: Float, edges: Sequence[float]) -> list[int]:
    index = np.searchsorted(np.array(edges, dtype=np.float64), given, side="left")
    return [int(n) for n in np.bincount(index, minlength=len(edges) + 1)]


def _round_step(rough: float) -> float:
    """The next smaller of 1, 2, 5, 10, 20 … and their like."""
    power = 10.0 ** math.floor(math.log10(rough))
    return max(m * power for m in (1, 2, 5) if m * power <= rough * (1 + 1e-9))


def _with_missing(block: dict[str, Any], counts: list[int], values: Float) -> dict[str, Any]:
    gone = int(np.isnan(values).sum())
    if 0 < gone < MIN_CELL:
        k = int(np.argmax(counts))
        counts = [max(MIN_CELL, round(n, -1)) if i == k else n for i, n in enumerate(counts)]
    return {**block, "counts": counts, "missing": None if 0 < gone < MIN_CELL else gone}
