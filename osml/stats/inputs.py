"""Checked arrays: every fitting function reads its arguments through these, so one rule and one message serve all."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError

Array = NDArray[np.float64]


def design_array(X: ArrayLike, name: str = "X") -> Array:
    """Finite float array (n, p); one row per patient, no intercept column."""
    out = _numbers(X, name)
    if out.ndim != 2:
        raise InvalidInputError(
            f"{name} must have two dimensions (patients, columns), got shape {out.shape}",
            do="Pass x[:, None] for one column." if out.ndim == 1 else "",
        )
    if len(out) == 0:
        raise InvalidInputError(f"{name} has no rows")
    return out


def vector(x: ArrayLike, name: str, n: int | None = None) -> Array:
    """Finite float array (n,)."""
    out = _numbers(x, name)
    if out.ndim != 1 or (n is not None and len(out) != n):
        wanted = "one dimension" if n is None else f"shape ({n},)"
        raise InvalidInputError(f"{name} must have {wanted}, got shape {out.shape}")
    return out


def labels(y: ArrayLike, n: int | None = None, name: str = "y") -> Array:
    """Labels as 0.0 and 1.0, float array (n,), from bool or 0/1; strings and other codes are refused."""
    out = vector(y, name, n)
    odd = ~((out == 0) | (out == 1))
    if odd.any():
        raise InvalidInputError(
            f"{name} must hold only 0/1 or False/True; found {np.unique(out[odd])[:5].tolist()}",
            do="Compare with the level that is the event, e.g. y = status == 2.",
        )
    return out


def frequency_weights(weights: ArrayLike | None, n: int) -> Array:
    """Non-negative float array (n,), ones when None; a weight of w stands for w equal rows, 0 drops the row."""
    if weights is None:
        return np.ones(n)
    out = vector(weights, "weights", n)
    if np.any(out < 0):
        raise InvalidInputError(f"weights must be 0 or more; {int((out < 0).sum())} are negative")
    if not np.any(out > 0):
        raise InvalidInputError("every weight is 0, so no patient is left")
    return out


def survival_outcome(time: ArrayLike, event: ArrayLike, n: int | None = None) -> tuple[Array, Array]:
    """Follow-up times above 0 and events as 0.0 and 1.0, float arrays (n,)."""
    t = vector(time, "time", n)
    if np.any(t <= 0):
        raise InvalidInputError(
            f"{int((t <= 0).sum())} of {len(t)} follow-up times are 0 or negative (smallest {t.min():g})",
            do="Count time from the start of follow-up; exclude patients without any.",
        )
    return t, labels(event, len(t), "event")


def penalty_strength(ridge: float) -> float:
    """A finite ridge penalty, 0 or more."""
    value = float(ridge)
    if not np.isfinite(value) or value < 0:
        raise InvalidInputError(f"ridge must be a finite number, 0 or more; got {ridge!r}")
    return value


def confidence_level(level: float) -> float:
    """A confidence level strictly between 0 and 1, e.g. 0.95."""
    value = float(level)
    if not 0 < value < 1:
        raise InvalidInputError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}")
    return value


def fold_ids(folds: ArrayLike, n: int) -> NDArray[np.int64]:
    """Fold of each row as 0..k-1, int array (n,); any integer codes are accepted, at least two folds."""
    ids = vector(folds, "folds", n)
    if np.any(ids != np.round(ids)):
        raise InvalidInputError("folds must be integer codes, one per row")
    codes, out = np.unique(ids, return_inverse=True)
    if len(codes) < 2:
        raise InvalidInputError("folds names a single fold; at least two are needed")
    return np.asarray(out, dtype=np.int64)


def _numbers(x: ArrayLike, name: str) -> Array:
    raw = np.asarray(x)
    if raw.dtype.kind == "O":
        kinds = {type(value).__name__ for value in raw.ravel() if not isinstance(value, (bool, int, float, np.number))}
        kinds -= {"bool", "bool_"}
        if kinds:
            raise InvalidInputError(f"{name} must be numbers; it holds {', '.join(sorted(kinds))}")
    elif raw.dtype.kind not in "biuf":
        word = "strings" if raw.dtype.kind in "US" else f"values of type {raw.dtype}"
        raise InvalidInputError(
            f"{name} must be numbers; it holds {word}", do="Code them first, e.g. y = status == 'dead'."
        )
    out = raw.astype(np.float64)
    bad = ~np.isfinite(out)
    if bad.any():
        raise InvalidInputError(
            f"{name} holds {int(bad.sum())} missing or infinite values",
            do="Impute or exclude them first; nothing was dropped silently.",
        )
    return out
