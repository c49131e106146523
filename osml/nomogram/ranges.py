"""Where an axis may run: round values inside the training range, never a single patient's value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.nomogram.spec import FloatArray, Histogram, Predictor
from osml.nomogram.ticks import nice_steps, round_number

MIN_PATIENTS = 5


@dataclass(frozen=True)
class AxisRange:
    """Ends of an axis, and the share of training patients below and above them."""

    low: float
    high: float
    share_below: float
    share_above: float


def axis_range(
    x: ArrayLike, *, log: bool = False, decimals: int | None = None, groups: ArrayLike | None = None
) -> AxisRange:
    """Round ends inside the observed training range, with at least 5 patients at or beyond each end.

    With 200 patients or more the ends also lie inside the 1st to 99th percentile.

    Parameters
    ----------
    x : float array (n,)
        Training values. NaN is refused: leave out the rows where the value was not measured.
    log : bool
        Ends are rounded to two significant digits instead of to a step of the range; x must be positive.
    decimals : int, optional
        Decimals to which x is recorded; the ends are no finer.
    groups : array (n,), optional
        Patient of each row, when patients have several rows. Patients are counted, not rows.

    Raises
    ------
    NotEstimableError
        Fewer than 10 patients, or no room between the ends.

    Examples
    --------
    >>> r = axis_range([14, 15, 15, 16, 17, 18, 19, 23, 28, 31, 33, 34, 35, 36, 45], decimals=0)
    >>> r.low, r.high
    (17.0, 33.0)
    """
    values = _numbers(x)
    if log and np.any(values <= 0):
        raise InvalidInputError(f"a log axis needs positive values, got {int((values <= 0).sum())} at or below 0")
    lowest, highest = _per_patient(values, groups)
    n = len(lowest)
    if n < 2 * MIN_PATIENTS:
        raise NotEstimableError(
            f"an axis range needs at least {2 * MIN_PATIENTS} patients, got {n}",
            why="Each end must have 5 patients at or beyond it; an observed extreme is somebody's value.",
            do="Give low and high from knowledge of the field.",
        )
    low, high = float(np.sort(lowest)[MIN_PATIENTS - 1]), float(np.sort(highest)[-MIN_PATIENTS])
    if n >= 200:
        q01, q99 = np.quantile(values, [0.01, 0.99])
        low, high = max(low, float(q01)), min(high, float(q99))
    if low < high:
        low, high = _round_inwards(low, high, log=log, decimals=decimals)
    if low >= high:
        raise NotEstimableError(
            f"no axis fits: too few patients differ at one end of {values.min():g} to {values.max():g}",
            do="Enter this input as a category, or give low and high from knowledge of the field.",
        )
    return AxisRange(low, high, float(np.mean(lowest < low)), float(np.mean(highest > high)))


def number_predictor(
    name: str,
    x: ArrayLike,
    *,
    log: bool = False,
    decimals: int | None = None,
    groups: ArrayLike | None = None,
    bins: int | None = None,
    **fields: Any,
) -> Predictor:
    """A number's `Predictor` with its axis range, share outside and histogram taken from training values.

    `decimals` defaults to 0 when every value is whole. Other fields go to `Predictor`.
    """
    values = _numbers(x)
    if decimals is None and np.all(values == np.round(values)):
        decimals = 0
    ends = axis_range(values, log=log, decimals=decimals, groups=groups)
    return Predictor(
        name,
        "number",
        low=ends.low,
        high=ends.high,
        log=log,
        decimals=decimals,
        histogram=_histogram(values, ends, log=log, bins=bins),
        share_below=ends.share_below,
        share_above=ends.share_above,
        **fields,
    )


def category_predictor(
    name: str, x: ArrayLike, levels: Sequence[str], *, events: ArrayLike | None = None, **fields: Any
) -> Predictor:
    """A category's `Predictor` with patients, and events where labels are given, counted per level.

    `x` holds level positions 0..K-1, `events` 0/1 labels, one per patient. Other fields go to `Predictor`.
    """
    codes = _numbers(x)
    k = len(levels)
    if np.any((codes != np.round(codes)) | (codes < 0) | (codes >= k)):
        raise InvalidInputError(f"category {name!r}: level positions outside 0..{k - 1}")
    index = codes.astype(np.intp)
    counts = np.bincount(index, minlength=k)
    hits: tuple[int, ...] = ()
    if events is not None:
        y = _numbers(events)
        if y.shape != codes.shape or not np.all((y == 0) | (y == 1)):
            raise InvalidInputError(f"category {name!r}: events must be 0 or 1, one per patient")
        hits = tuple(int(c) for c in np.bincount(index, weights=y, minlength=k))
    return Predictor(
        name,
        "category",
        levels=tuple(levels),
        level_counts=tuple(int(c) for c in counts),
        level_events=hits,
        **fields,
    )


def _numbers(x: ArrayLike) -> FloatArray:
    array = np.asarray(x)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise InvalidInputError(f"expected a 1-d array of numbers, got shape {array.shape}, dtype {array.dtype}")
    values = array.astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise InvalidInputError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite",
            do="Leave out the rows where the value was not measured.",
        )
    return values


def _per_patient(values: FloatArray, groups: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest value of each patient."""
    if groups is None:
        return values, values
    ids: NDArray[Any] = np.asarray(groups)
    if ids.shape != values.shape:
        raise InvalidInputError(f"{len(ids)} groups for {len(values)} values")
    _, inverse = np.unique(ids, return_inverse=True)
    lowest = np.full(inverse.max() + 1, np.inf) if len(values) else np.empty(0)
    highest = np.full_like(lowest, -np.inf)
    np.minimum.at(lowest, inverse, values)
    np.maximum.at(highest, inverse, values)
    return lowest, highest


def _round_inwards(low: float, high: float, *, log: bool, decimals: int | None) -> tuple[float, float]:
    if log:
        steps = [10.0 ** (math.floor(math.log10(v)) - 1) for v in (low, high)]
    else:
        fine = [s for s in nice_steps(high - low, decimals) if s <= (high - low) / 20 * (1 + 1e-9)]
        steps = [max(fine)] * 2 if fine else [min(nice_steps(high - low, decimals))] * 2
    up = round_number(math.ceil(low / steps[0] - 1e-9) * steps[0], steps[0])
    down = round_number(math.floor(high / steps[1] + 1e-9) * steps[1], steps[1])
    return up, down


def _histogram(values: FloatArray, ends: AxisRange, *, log: bool, bins: int | None) -> Histogram | None:
    inside = values[(values >= ends.low) & (values <= ends.high)]
    k = bins if bins is not None else int(np.clip(len(values) // 12, 4, 24))
    if log:
        edges = np.exp(np.linspace(math.log(ends.low), math.log(ends.high), k + 1))
        edges[0], edges[-1] = ends.low, ends.high
    else:
        edges = np.linspace(ends.low, ends.high, k + 1)
    counts, _ = np.histogram(inside, edges)
    counts = np.where(counts >= MIN_PATIENTS, counts, 0)
    if not counts.any():
        return None
    return Histogram(tuple(float(e) for e in edges), tuple(int(c) for c in counts))
