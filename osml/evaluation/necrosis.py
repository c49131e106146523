"""Necrosis rate: the share of the tumour bed that is not viable, from areas of tissue classes.

r = (NC + FH + HC + IF) / (VT + NC + FH + HC + IF) in the paper (Nguyen et al. 2025); which classes count is the
caller's to say. Rates are shares in 0..1, errors are in points of per cent. A tumour bed without area has no rate: NaN,
never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.evaluation.bootstrap import CONDITIONAL, Interval, resample_patients
from osml.evaluation.inputs import Floats
from osml.evaluation.segmentation import MIN_PATIENTS, percentile_interval

MIN_BLOCKS = 10
BLOCKS = "blocks drawn within each slide, percentile"
LEAVES_OUT = (
    "error of the segmentation",
    "tumour that was not sampled or not on the slides analysed",
    "likeness of neighbouring blocks beyond a block's side",
)


@dataclass(frozen=True)
class TumourBed:
    """Which classes make the rate, by their position in the order of classes.

    >>> TumourBed(viable=(1,), necrotic=(2, 3, 4, 5)).counted
    (1, 2, 3, 4, 5)
    """

    viable: tuple[int, ...]
    necrotic: tuple[int, ...]

    def __post_init__(self) -> None:
        both = set(self.viable) & set(self.necrotic)
        if not self.viable or not self.necrotic or both:
            raise InvalidInputError(
                f"viable {self.viable} and necrotic {self.necrotic}",
                why="The rate needs at least one class of each, and a class counts on one side only.",
            )
        if len(set(self.counted)) < len(self.counted) or min(self.counted) < 0:
            raise InvalidInputError(f"classes {self.counted} are repeated or negative")

    @property
    def counted(self) -> tuple[int, ...]:
        """All classes of the tumour bed."""
        return (*self.viable, *self.necrotic)


@dataclass(frozen=True)
class PatientRate:
    """The necrosis rate of one patient from the areas of all slides analysed.

    rate : share in 0..1; NaN where no tumour bed was found
    interval : see `patient_rate`; None with `reason`
    leaves_out : what the interval knows nothing of
    tumour_bed : area of the counted classes, in the unit of the areas
    blocks, slides : that hold tumour bed
    """

    rate: float
    interval: Interval | None
    reason: str
    leaves_out: tuple[str, ...]
    tumour_bed: float
    blocks: int
    slides: int


@dataclass(frozen=True)
class NecrosisErrors:
    """Reference less prediction of held-out patients, in points.

    Attributes
    ----------
    patients : tuple of str
        Those with both rates.
    reference, predicted : float array (P,), shares in 0..1
    difference : float array (P,), 100 (reference - predicted)
    mean_absolute, bias : float
        Means of |difference| and of difference.
    mean_absolute_interval, bias_interval : Interval or None
        By drawing patients; None with fewer than five.
    without_reference, without_prediction : tuple of str
        Patients whose reference, or else whose prediction, has no tumour bed: they have no error and are named.
    """

    patients: tuple[str, ...]
    reference: Floats
    predicted: Floats
    difference: Floats
    mean_absolute: float
    bias: float
    mean_absolute_interval: Interval | None
    bias_interval: Interval | None
    without_reference: tuple[str, ...]
    without_prediction: tuple[str, ...]


def necrosis_rates(areas: ArrayLike, bed: TumourBed) -> Floats:
    """Rates (...) of areas (..., K) in any one unit; NaN where the tumour bed has no area.

    >>> necrosis_rates([[5, 1, 2, 1, 0, 0, 9], [5, 0, 0, 0, 0, 0, 9]], TumourBed((1,), (2, 3, 4, 5)))
    array([0.75,  nan])
    """
    a = _areas(areas, bed)
    necrotic = a[..., list(bed.necrotic)].sum(axis=-1)
    total = necrotic + a[..., list(bed.viable)].sum(axis=-1)
    return np.divide(necrotic, total, out=np.full(total.shape, np.nan), where=total > 0)


def block_areas(labels: ArrayLike, classes: int, *, side: int, cell_mm2: float) -> Floats:
    """Area of each class in square blocks of a label map, float array (blocks, K) in mm²; blocks row by row.

    Parameters
    ----------
    labels : int array (h, w)
        Class position 0..classes-1; negative cells belong to no class.
    side : cells along a block; blocks at the lower and right edge may be smaller
    cell_mm2 : area of a cell

    Notes
    -----
    Blocks should be wider than patches of one tissue: within a block cells are alike, and drawing smaller blocks would
    treat them as independent.
    """
    m = np.asarray(labels)
    if m.ndim != 2 or m.dtype.kind not in "iu":
        raise InvalidInputError(f"labels have shape {m.shape} and type {m.dtype}; expected an integer map (h, w)")
    if side < 1 or not cell_mm2 > 0:
        raise InvalidInputError(f"side {side} and cell_mm2 {cell_mm2} must be above 0")
    if m.size and m.max() >= classes:
        raise InvalidInputError(f"labels reach {m.max()}; expected below {classes}")
    down, across = -(-m.shape[0] // side), -(-m.shape[1] // side)
    block = np.add.outer(np.arange(m.shape[0]) // side * across, np.arange(m.shape[1]) // side)
    known = m >= 0
    code = block[known].astype(np.int64) * classes + m[known]
    cells = np.bincount(code, minlength=down * across * classes).reshape(-1, classes)
    return cells.astype(np.float64) * cell_mm2


def patient_rate(
    areas: ArrayLike,
    slides: Sequence[str],
    bed: TumourBed,
    *,
    B: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PatientRate:
    """Rate of pooled areas, and the interval that the choice of blocks within the slides gives.

    Parameters
    ----------
    areas : float array (blocks, K)
        Area of each class in blocks of tiles or regions, of all slides of one patient.
    slides : slide of each block

    Notes
    -----
    Blocks with tumour bed are drawn with replacement within their slides, so the slides analysed are taken as given.
    What that leaves out is listed in the result. Fewer than ten such blocks: no interval.
    """
    a = _areas(areas, bed)
    if a.ndim != 2 or len(slides) != len(a):
        raise InvalidInputError(f"areas have shape {a.shape} for {len(slides)} slide names; expected (blocks, K)")
    per_block = a[:, list(bed.counted)].sum(axis=1)
    inside = per_block > 0
    rate = float(necrosis_rates(a.sum(axis=0), bed))
    reason, interval = "", None
    if inside.sum() < MIN_BLOCKS:
        reason = f"{int(inside.sum())} blocks with tumour bed: an interval needs {MIN_BLOCKS} or more"
    else:
        interval = percentile_interval(rate, block_replicates(a, slides, bed, B=B, seed=seed), level, BLOCKS)
    holding = {slide for slide, here in zip(slides, inside, strict=True) if here}
    return PatientRate(rate, interval, reason, LEAVES_OUT, float(per_block.sum()), int(inside.sum()), len(holding))


def block_replicates(
    areas: ArrayLike, slides: Sequence[str], bed: TumourBed, *, B: int = 2000, seed: int = 0
) -> Floats:
    """Rates of B bootstrap samples of blocks, float array (B,): the sampling error that grade probabilities take in.

    Raises
    ------
    InvalidInputError
        Fewer than ten blocks hold tumour bed.
    """
    a = _areas(areas, bed)
    inside = a[:, list(bed.counted)].sum(axis=1) > 0
    if inside.sum() < MIN_BLOCKS:
        raise InvalidInputError(f"{int(inside.sum())} blocks with tumour bed; expected {MIN_BLOCKS} or more")
    where = np.asarray(slides, dtype=object)[inside]
    drawn = resample_patients(np.arange(len(where)), B, seed, strata=where).astype(np.float64)
    return necrosis_rates(drawn @ a[inside], bed)


def necrosis_errors(
    patients: Sequence[str],
    reference: ArrayLike,
    predicted: ArrayLike,
    *,
    B: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> NecrosisErrors:
    """|r_reference - r| in points, over held-out patients.

    Parameters
    ----------
    patients : unique names (n,)
    reference, predicted : float array (n,)
        Rates in 0..1; NaN where there is no tumour bed.
    """
    r, p = _rates(reference, "reference", len(patients)), _rates(predicted, "predicted", len(patients))
    names = np.asarray([str(name) for name in patients], dtype=object)
    if len(set(names.tolist())) < len(names):
        raise InvalidInputError("patients are repeated", do="Pool the areas of a patient's slides first.")
    both = np.isfinite(r) & np.isfinite(p)
    difference = 100.0 * (r[both] - p[both])
    n = len(difference)
    size, bias = (float(np.abs(difference).mean()), float(difference.mean())) if n else (np.nan, np.nan)
    of_size = of_bias = None
    if n >= MIN_PATIENTS:
        drawn = resample_patients(np.arange(n), B, seed) / n
        of_size = percentile_interval(size, drawn @ np.abs(difference), level, CONDITIONAL)
        of_bias = percentile_interval(bias, drawn @ difference, level, CONDITIONAL)
    return NecrosisErrors(
        tuple(names[both]), r[both], p[both], difference, size, bias, of_size, of_bias,
        tuple(names[~np.isfinite(r)]), tuple(names[np.isfinite(r) & ~np.isfinite(p)]),
    )  # fmt: skip


def necrosis_gain(
    before: NecrosisErrors, after: NecrosisErrors, *, B: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """By how many points the mean absolute error fell from `before` to `after`, on the patients of both.

    Raises
    ------
    InvalidInputError
        Other patients, or fewer than five.
    """
    if before.patients != after.patients or not np.array_equal(before.reference, after.reference):
        raise InvalidInputError("the two sets of errors are not of the same patients and references")
    n = len(before.patients)
    if n < MIN_PATIENTS:
        raise InvalidInputError(f"{n} patients; expected {MIN_PATIENTS} or more")
    fall = np.abs(before.difference) - np.abs(after.difference)
    drawn = resample_patients(np.arange(n), B, seed) / n
    found = percentile_interval(float(fall.mean()), drawn @ fall, level, CONDITIONAL)
    assert found is not None  # finite by construction
    return found


def _areas(areas: ArrayLike, bed: TumourBed) -> Floats:
    a = np.asarray(areas, dtype=np.float64)
    if a.ndim < 1 or a.shape[-1] <= max(bed.counted):
        raise InvalidInputError(f"areas have shape {a.shape}; the last axis must hold classes 0..{max(bed.counted)}")
    if not np.isfinite(a).all() or (a < 0).any():
        raise InvalidInputError("areas must be finite and not negative")
    return a


def _rates(values: ArrayLike, name: str, n: int) -> NDArray[np.float64]:
    r = np.asarray(values, dtype=np.float64)
    if r.shape != (n,):
        raise InvalidInputError(f"{name} has shape {r.shape}; expected ({n},)")
    if np.isinf(r).any() or (r[np.isfinite(r)] < 0).any() or (r[np.isfinite(r)] > 1).any():
        raise InvalidInputError(
            f"{name} ranges over {np.nanmin(r):.6g} to {np.nanmax(r):.6g}; rates are shares in 0..1",
            do="Divide per cent by 100.",
        )
    return r
