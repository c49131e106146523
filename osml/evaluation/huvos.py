"""Huvos grades: probabilities from how far held-out predictions lay from the reference, and foci to look at again.

Grade I: necrosis below 50 %, II: 50 to below 90 %, III: 90 to below 100 %, IV: no viable tumour at all (Rosen et al.
1982; Huvos 1991). Good response is 90 % or more. No sample can show that nothing viable is left anywhere, so grade IV
is never asserted: III and IV share one probability, and viable foci too small for the segmentation to be trusted with
are listed for a pathologist. Not a pathology report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.optimize import isotonic_regression

from osml.errors import InvalidInputError
from osml.evaluation.inputs import Floats
from osml.stats.inputs import confidence_level, vector

MIN_REFERENCES = 20
MIN_FOCI = 20
MIN_ABOVE = 10
GOOD_RESPONSE = 0.9
_HALF = 0.5
GRADES = ("I", "II", "III or IV")
GRADE_IV = "grade IV is not asserted: that no viable tumour is left cannot be shown from a sample of the tumour"


@dataclass(frozen=True)
class References:
    """Held-out patients with a reference rate: what a prediction's error is judged by.

    patients : unique names (n,)
    reference, predicted : float array (n,), shares in 0..1; each prediction by a model that never saw the patient
    """

    patients: tuple[str, ...]
    reference: Floats
    predicted: Floats

    def __post_init__(self) -> None:
        for name in ("reference", "predicted"):
            values = vector(getattr(self, name), name, len(self.patients))
            if len(values) and (values.min() < 0 or values.max() > 1):
                raise InvalidInputError(f"{name} must be shares in 0..1", do="Divide per cent by 100.")
        if len(set(self.patients)) < len(self.patients):
            raise InvalidInputError("patients are repeated")


@dataclass(frozen=True)
class Grades:
    """Probabilities of Huvos grades of one patient, or the reason why there are none.

    Attributes
    ----------
    grade : dict
        "I", "II", "III or IV" to a probability; empty with `reason`.
    good_response : float or None
        P(necrosis >= 90 %), equal to that of "III or IV".
    low, high : float or None
        Wilson limits of `good_response` for as many reference patients.
    references : int
        Held-out patients it rests on.
    with_sampling : bool
        Whether the sampling error of this patient's blocks is in it.
    reason : str
    note : str
        That grade IV is never asserted.
    """

    grade: dict[str, float]
    good_response: float | None
    low: float | None
    high: float | None
    references: int
    with_sampling: bool
    reason: str
    note: str = GRADE_IV


@dataclass(frozen=True)
class Focus:
    """A connected area of a class, cells touching at sides or corners.

    row, column : its centre, in cells of the map
    top, left, bottom, right : its box, in cells, ends outside
    """

    slide: str
    row: float
    column: float
    top: int
    left: int
    bottom: int
    right: int
    area_mm2: float


@dataclass(frozen=True)
class DetectionLimit:
    """The smallest area from which foci are found reliably, as measured on held-out maps.

    limit_mm2 : None with `reason`
    sensitivity : share of foci that is asked for
    foci, found : of the reference
    """

    limit_mm2: float | None
    sensitivity: float
    foci: int
    found: int
    reason: str


def huvos_grade(rate: float, *, viable_seen: bool = True) -> str:
    """Grade of a pathologist's rate in 0..1. IV needs both a rate of 1 and the word that no viable cell was seen.

    >>> [huvos_grade(r) for r in (0.2, 0.5, 0.9, 1.0)], huvos_grade(1.0, viable_seen=False)
    (['I', 'II', 'III', 'III'], 'IV')
    """
    if not 0 <= rate <= 1:
        raise InvalidInputError(f"rate {rate} is not a share in 0..1")
    if rate < _HALF:
        return "I"
    if rate < GOOD_RESPONSE:
        return "II"
    return "IV" if rate == 1 and not viable_seen else "III"


def grade_probabilities(
    predicted: float,
    references: References,
    *,
    patient: str,
    replicates: ArrayLike | None = None,
    level: float = 0.95,
) -> Grades:
    """P(grade) of one patient.

    The unknown reference rate is taken as predicted + D + S, drawn in to 0..1: D one of the differences (reference -
    predicted) of the held-out patients, S one of the deviations of this patient's block bootstrap from its mean. All
    pairs (D, S) count equally. D carries the model's bias and errors of segmentation, S the choice of blocks.

    Parameters
    ----------
    predicted : share in 0..1
    references : held-out patients; the patient itself may not be among them
    patient : name of the patient
    replicates : float array (B,), see `necrosis.block_replicates`; None = too few blocks, no S

    Notes
    -----
    D is assumed to be alike at every predicted rate. With fewer than 20 references there is no probability.
    """
    if not 0 <= predicted <= 1:
        raise InvalidInputError(f"predicted {predicted} is not a share in 0..1")
    if patient in references.patients:
        raise InvalidInputError(
            f"patient {patient!r} is among the reference patients",
            why="Its own difference would tell the grade.",
            do="Leave it out of the references.",
        )
    n = len(references.patients)
    if n < MIN_REFERENCES:
        return Grades(
            {}, None, None, None, n, False, f"{n} held-out patients with a reference rate; {MIN_REFERENCES} are needed"
        )
    difference = np.asarray(references.reference) - np.asarray(references.predicted)
    sampling = np.zeros(1)
    if replicates is not None:
        drawn = vector(replicates, "replicates")
        if not len(drawn) or drawn.min() < 0 or drawn.max() > 1:
            raise InvalidInputError("replicates must be shares in 0..1")
        sampling = drawn - drawn.mean()
    # Thresholds count equality in: 0.9 is a good response, and 0.85 + 0.05 must reach it in floating point, too.
    rate = np.clip(predicted + np.add.outer(difference, sampling), 0.0, 1.0) + 1e-12
    good, at_least_half = float((rate >= GOOD_RESPONSE).mean()), float((rate >= _HALF).mean())
    low, high = _wilson(good, n, level)
    grade = dict(zip(GRADES, (1.0 - at_least_half, at_least_half - good, good), strict=True))
    return Grades(grade, good, low, high, n, replicates is not None, "")


def foci(labels: ArrayLike, classes: Sequence[int], *, cell_mm2: float, slide: str) -> tuple[Focus, ...]:
    """Connected areas of any of `classes` in a label map (h, w), smallest first.

    >>> [(f.row, f.column, f.area_mm2) for f in foci([[1, 0, 0], [0, 0, 1], [0, 0, 1]], [1], cell_mm2=0.5, slide="a")]
    [(0.0, 0.0, 0.5), (1.5, 2.0, 1.0)]
    """
    marked, count = _components(labels, classes)
    if not cell_mm2 > 0:
        raise InvalidInputError(f"cell_mm2 must be above 0, got {cell_mm2}")
    if count == 0:
        return ()
    at = np.arange(1, count + 1)
    sizes = np.bincount(marked.ravel(), minlength=count + 1)[1:]
    centres = np.asarray(ndimage.center_of_mass(marked > 0, marked, at), dtype=np.float64)
    boxes = ndimage.find_objects(marked)
    found = [
        Focus(slide, float(c[0]), float(c[1]), b[0].start, b[1].start, b[0].stop, b[1].stop, float(size * cell_mm2))
        for size, c, b in zip(sizes, centres, boxes, strict=True)
    ]
    return tuple(sorted(found, key=lambda f: (f.area_mm2, f.row, f.column)))


def found_foci(
    true: ArrayLike, predicted: ArrayLike, classes: Sequence[int], *, cell_mm2: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Area in mm² of each focus of the reference map, and whether the prediction calls any of its cells so.

    >>> found_foci([[1, 0, 1, 1]], [[0, 1, 1, 0]], [1], cell_mm2=1.0)
    (array([1., 2.]), array([False,  True]))
    """
    marked, count = _components(true, classes)
    called = np.isin(np.asarray(predicted), list(classes))
    if called.shape != marked.shape:
        raise InvalidInputError(f"the reference has shape {marked.shape}, the prediction {called.shape}")
    sizes = np.bincount(marked.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(marked.ravel(), weights=called.ravel(), minlength=count + 1)[1:]
    return sizes.astype(np.float64) * cell_mm2, hits > 0


def detection_limit(areas_mm2: ArrayLike, found: ArrayLike, *, sensitivity: float = 0.9) -> DetectionLimit:
    """The smallest area from which the share of foci found reaches `sensitivity`.

    The share as a function of area is the rising step function closest to the data (isotonic regression). A limit that
    fewer than ten foci exceed is none: it would rest on chance.

    Parameters
    ----------
    areas_mm2, found : arrays (n,)
        Foci of held-out patients' references, and whether each was found (`found_foci`).
    """
    area = vector(areas_mm2, "areas_mm2")
    hit = np.asarray(found)
    if hit.shape != area.shape or hit.dtype != np.bool_:
        raise InvalidInputError(f"found has shape {hit.shape} and type {hit.dtype}; expected bool ({len(area)},)")
    if not 0 < sensitivity <= 1:
        raise InvalidInputError(f"sensitivity {sensitivity} is not in (0, 1]")
    n, total = len(area), int(hit.sum())
    if n < MIN_FOCI:
        return DetectionLimit(None, sensitivity, n, total, f"{n} foci in the reference; {MIN_FOCI} are needed")
    # Foci of one area are one point of the curve, or their order would decide.
    sizes, which = np.unique(area, return_inverse=True)
    weight = np.bincount(which).astype(np.float64)
    share = isotonic_regression(np.bincount(which, hit) / weight, weights=weight).x
    reached = np.flatnonzero(share >= sensitivity - 1e-9)
    if len(reached) == 0:
        top = float(share[-1])
        return DetectionLimit(None, sensitivity, n, total, f"even of the largest foci only {top:.0%} are found")
    limit = float(sizes[reached[0]])
    above = int((area >= limit).sum())
    if above < MIN_ABOVE:
        return DetectionLimit(
            None, sensitivity, n, total, f"only {above} foci reach {limit:.3g} mm²; {MIN_ABOVE} are needed"
        )
    return DetectionLimit(limit, sensitivity, n, total, "")


def foci_for_review(viable: Sequence[Focus], limit: DetectionLimit) -> tuple[Focus, ...]:
    """Viable foci below the detection limit; all of them where no limit is known."""
    if limit.limit_mm2 is None:
        return tuple(viable)
    return tuple(focus for focus in viable if focus.area_mm2 < limit.limit_mm2)


def _components(labels: ArrayLike, classes: Sequence[int]) -> tuple[NDArray[np.intp], int]:
    m = np.asarray(labels)
    if m.ndim != 2 or m.dtype.kind not in "iu":
        raise InvalidInputError(f"labels have shape {m.shape} and type {m.dtype}; expected an integer map (h, w)")
    marked = np.zeros(m.shape, dtype=np.intp)
    count = ndimage.label(np.isin(m, list(classes)), structure=np.ones((3, 3)), output=marked)
    return marked, int(count)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    from scipy.stats import norm

    z = float(norm.isf((1 - confidence_level(level)) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)
