"""Checks of what every measure receives: labels, probabilities, patients. Each returns a clean array or refuses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import labels, vector

Floats = NDArray[np.float64]


def as_labels(y: ArrayLike, *, both: bool = False) -> Floats:
    """Labels as float array (n,) of 0 and 1, n >= 1; `both=True` also demands an event and a non-event.

    >>> as_labels([True, False])
    array([1., 0.])
    """
    out = labels(y)
    if len(out) == 0:
        raise InvalidInputError("y holds no patient")
    events = int(out.sum())
    if both and events in (0, len(out)):
        raise NotEstimableError(
            f"{events} events and {len(out) - events} non-events: the measure needs at least one of each"
        )
    return out


def as_probabilities(p: ArrayLike, n: int, *, name: str = "p", inner: bool = False) -> Floats:
    """Probabilities in [0, 1], float array (n,); `inner=True` refuses exact 0 and 1, whose logit is infinite."""
    out = vector(p, name, n)
    if out.min() < 0 or out.max() > 1:
        raise InvalidInputError(
            f"{name} ranges over {out.min():.6g} to {out.max():.6g}; probabilities lie in 0..1",
            do="Give probabilities, not linear predictors.",
        )
    if inner and (out.min() <= 0 or out.max() >= 1):
        raise InvalidInputError(
            f"{name} holds {int((out <= 0).sum())} zeros and {int((out >= 1).sum())} ones, whose logit is infinite",
            do="Truncate them yourself, and say so, for example np.clip(p, 1e-6, 1 - 1e-6).",
        )
    return out


def as_groups(groups: ArrayLike, n: int) -> NDArray[np.intp]:
    """Patient of each row as codes 0..k-1, int array (n,), in order of first appearance.

    >>> as_groups(["b", "a", "b"], 3)
    array([0, 1, 0])
    """
    raw = np.asarray(groups)
    if raw.shape != (n,):
        raise InvalidInputError(f"groups have shape {raw.shape}; expected ({n},), the patient of each row")
    if raw.dtype.kind == "O":
        if any(v is None or v != v for v in raw):
            raise InvalidInputError("groups hold missing patient identifiers")
        raw = raw.astype(str) if any(isinstance(v, str) for v in raw) else raw
    elif raw.dtype.kind == "f" and np.isnan(raw).any():
        raise InvalidInputError("groups hold missing patient identifiers")
    _, first, codes = np.unique(raw, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[codes]
