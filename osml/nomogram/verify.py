"""Proof that points reproduce the model: on every training row when made, on ticks and synthetic cases when loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import VerificationError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.spec import FloatArray
from osml.stats.terms import LinearModel

TOLERANCE = 1e-6
CASES = 20


def verify_points(nomogram: Nomogram, model: LinearModel, values: Mapping[str, ArrayLike]) -> float:
    """Largest |p(points) - p(model)| over the rows of `values`.

    Raises
    ------
    VerificationError
        The difference reaches 1e-6: the points are not this model's.
    """
    x = nomogram.encode(values)
    by_points = np.atleast_2d(nomogram.probability(x).T)
    by_model = nomogram.outcome.probability(model.lp(x)).T
    gap = float(np.max(np.abs(by_points - by_model), initial=0.0))
    if not gap < TOLERANCE:
        row = int(np.argmax(np.max(np.abs(by_points - by_model), axis=0)))
        raise VerificationError(
            f"the points do not reproduce the model: probabilities differ by up to {gap:.3g} (row {row})",
            why=f"A nomogram must agree with its model within {TOLERANCE:g}.",
            do="Build it from the deployed model, shrinkage and recalibration included.",
        )
    return gap


def synthetic_cases(nomogram: Nomogram, n: int = CASES, seed: int = 0) -> dict[str, FloatArray]:
    """Made-up patients drawn evenly over the axes: float arrays (n,), level positions for categories."""
    rng = np.random.default_rng(seed)
    out: dict[str, FloatArray] = {}
    for p in nomogram.predictors:
        u = rng.random(n)
        if p.kind == "category":
            out[p.name] = np.floor(u * len(p.levels))
        else:
            low, high = p.bounds
            x = np.exp(np.log(low) + u * np.log(high / low)) if p.log else low + u * (high - low)
            out[p.name] = np.clip(np.round(x, p.decimals) if p.decimals is not None else x, low, high)
    return out


def golden(nomogram: Nomogram) -> dict[str, Any]:
    """Points at every tick, and 20 synthetic cases with total and probability: what a loaded copy must repeat."""
    ticks = [
        {
            "input": axis.input,
            "settings": dict(axis.settings),
            "values": list(axis.ticks),
            "points": nomogram.axis_points(c, axis, axis.ticks).tolist(),
        }
        for c in nomogram.components
        for axis in c.axes
    ]
    cases = synthetic_cases(nomogram)
    return {
        "ticks": ticks,
        "cases": {
            "values": {name: x.tolist() for name, x in cases.items()},
            "total": nomogram.total(cases).tolist(),
            "probability": nomogram.probability(cases).tolist(),
        },
    }


def check_golden(nomogram: Nomogram, expected: Mapping[str, Any]) -> None:
    """Refuse a nomogram whose ticks or synthetic cases differ from what was stored with it."""
    found = golden(nomogram)
    if len(found["ticks"]) != len(expected["ticks"]):
        raise VerificationError(f"the file stores {len(expected['ticks'])} axes, its model gives {len(found['ticks'])}")
    for a, b in zip(found["ticks"], expected["ticks"], strict=True):
        if a["input"] != b["input"] or a["settings"] != b["settings"] or len(a["points"]) != len(b["points"]):
            raise VerificationError(f"axis {a['input']!r}: the stored ticks belong to another axis")
        _compare(f"axis {a['input']!r}: points at its ticks", a["points"], b["points"], 1e-6)
    stored = expected["cases"]
    values = {name: np.asarray(x, dtype=np.float64) for name, x in stored["values"].items()}
    verify_points(nomogram, nomogram.model, values)
    _compare("synthetic cases: total points", nomogram.total(values), stored["total"], 1e-6)
    _compare("synthetic cases: probability", nomogram.probability(values), stored["probability"], 1e-9)


def _compare(what: str, found: ArrayLike, stored: ArrayLike, tolerance: float) -> None:
    a, b = np.asarray(found, dtype=np.float64), np.asarray(stored, dtype=np.float64)
    gap = float(np.max(np.abs(a - b), initial=0.0)) if a.shape == b.shape else float("nan")
    if not gap <= tolerance:
        raise VerificationError(
            f"{what} differ by {gap:.3g} from the stored ones",
            why="The file was changed after it was made, or made by another version.",
            do="Make the nomogram again from its run.",
        )
