"""Prediction sets of networks that may leave units undecided: how often the truth is inside, how many are undecided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.evaluation.thresholds import proportion
from osml.runs.extras import ExtraRow
from osml.schema.model import Schema

PREFIX = "set:"


def judge_sets(extras: Sequence[ExtraRow], cohort: Cohort, schema: Schema) -> dict[str, Any] | None:
    """Coverage and undecided share over the held-out units; None for a predictor that makes no sets.

    Parameters
    ----------
    extras : of one predictor; `set:<class>` is 1 where the class is in the unit's set

    Returns
    -------
    dict or None
        `coverage`: share of units whose class is in their set, of each repeat, averaged; `promised`: accepted share of
        wrong sets; `undecided`: share whose set does not hold exactly one class; `by_class`: coverage of each class.
        Labels that stop at an inner node are left out.
    """
    rows = [row for row in extras if row.name.startswith(PREFIX)]
    if not rows:
        return None
    outcome = cohort.outcome
    if isinstance(outcome, ClassOutcome):
        truth = dict(zip(cohort.units, outcome.labels, strict=True))
        counted = {unit for unit, full in zip(cohort.units, outcome.full, strict=True) if full}
    else:
        assert isinstance(outcome, BinaryOutcome)
        words = [outcome.positive if e else outcome.negative for e in outcome.event]
        truth = dict(zip(cohort.units, words, strict=True))
        counted = set(cohort.units)
    inside: dict[tuple[int, str], set[str]] = {}
    for row in rows:
        if row.unit in counted:
            found = inside.setdefault((row.repeat, row.unit), set())
            if row.value > 0.5:
                found.add(row.name.removeprefix(PREFIX))
    names = sorted({row.name.removeprefix(PREFIX) for row in rows})
    hit = np.array([truth[unit] in found for (_, unit), found in inside.items()])
    of_class = np.array([truth[unit] for _, unit in inside])
    undecided = np.array([len(found) != 1 for found in inside.values()])
    repeats = len({repeat for repeat, _ in inside})
    block = schema.networks()[rows[0].predictor]
    return {
        "coverage": float(hit.mean()),
        "undecided": float(undecided.mean()),
        "promised": block.abstain,
        "units": len(hit) // repeats,
        "by_class": {
            name: proportion(int(hit[of_class == name].sum()), int((of_class == name).sum())).value for name in names
        },
    }
