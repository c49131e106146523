"""Synthetic knee radiographs with ALP and LDH: osteosarcoma against other knee complaints, several views a patient.

Image and laboratory complement each other by design: among patients with osteosarcoma the lesion is obvious in some
and the laboratory values are raised in some, both in `GROUPS` shares. Each patient's values come from one of several
assays, and ALP of growing patients is higher whatever the diagnosis, so a value means something only beside its kit
range and the age. Other patients may have an arthrosis, a bone island or a cyst.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError, missing_extra
from osml.evaluation.discrimination import auc
from osml.files import atomic_write, write_csv, write_json
from osml.synthetic.nac import NOTICE
from osml.synthetic.radiograph import Knee, Lesion, View, draw_radiograph

COLUMNS = ("mrn", "file", "diagnosis", "age", "sex", "alp", "alp_low", "alp_high", "ldh", "ldh_low", "ldh_high")
TRUTH_COLUMNS = ("mrn", "lesion", "conspicuity", "laboratory_raised")
POSITIVE, NEGATIVE = "osteosarcoma", "other"
# Shares of (obvious lesion, raised laboratory values) among patients with osteosarcoma.
GROUPS: Mapping[tuple[bool, bool], float] = {
    (True, True): 0.35, (True, False): 0.25, (False, True): 0.3, (False, False): 0.1,
}  # fmt: skip
# Ranges of conspicuity; a benign change is as conspicuous as a subtle or middling lesion.
OBVIOUS, SUBTLE, BENIGN = (0.55, 1.0), (0.06, 0.3), (0.2, 0.7)
BENIGN_SHARE = 0.12
# The observer of the bounds below sees conspicuity with this error (SD) and cannot tell benign from malignant.
READING_ERROR = 0.12
# Upper and lower limits of the assays, U/L.
ALP_KITS = ((45.0, 125.0), (40.0, 150.0), (30.0, 110.0))
LDH_KITS = ((120.0, 250.0), (125.0, 220.0), (208.0, 378.0))
# log(value / upper limit): mean, SD; and what raised values add.
_ALP, _ALP_RAISED = (float(np.log(0.6)), 0.25), (0.9, 0.40)
_LDH, _LDH_RAISED = (float(np.log(0.75)), 0.18), (0.35, 0.30)
# Growth multiplies ALP by this much until the plates close.
_GROWTH, _CLOSING = 2.2, {"male": 17.0, "female": 15.0}
# Age: (share, mean, SD) of normals cut at 4 and 81 years.
_AGES = {
    POSITIVE: ((0.75, 16.0, 5.0), (0.25, 40.0, 16.0)),
    NEGATIVE: ((0.35, 18.0, 7.0), (0.65, 42.0, 15.0)),
}
_AGE_RANGE = (4.0, 81.0)
_MALE = {POSITIVE: 0.56, NEGATIVE: 0.52}
_POSITIVE_SHARE = 394 / 848
# Views per patient and their shares: 3.1 on average; some patients have laboratory values only.
_VIEWS = {0: 0.03, 1: 0.04, 2: 0.32, 3: 0.14, 4: 0.47}


@dataclass(frozen=True)
class Patients:
    """The planted values of many patients, one entry each; `conspicuity` is 0 where there is no change of the bone."""

    positive: NDArray[np.bool_]
    age: NDArray[np.float64]
    male: NDArray[np.bool_]
    alp_ratio: NDArray[np.float64]
    ldh_ratio: NDArray[np.float64]
    raised: NDArray[np.bool_]
    conspicuity: NDArray[np.float64]


@dataclass(frozen=True)
class BayesAuc:
    """AUC of exact likelihood ratios.

    Attributes
    ----------
    age_sex, table : age and sex; these with ALP and LDH
    lesion : conspicuity as read by an observer with `READING_ERROR`
    lesion_age_sex : what such an observer can learn from radiographs that betray age and sex as well
    all : everything
    """

    age_sex: float
    table: float
    lesion: float
    lesion_age_sex: float
    all: float


@dataclass(frozen=True)
class _Picture:
    path: Path
    view: View
    knee: Knee
    lesion: Lesion | None
    anatomy: tuple[int, ...]
    exposure: tuple[int, ...]


def draw_patients(patients: int, rng: np.random.Generator) -> Patients:
    """Everything about the patients but their pictures; the published share of osteosarcoma, 394 of 848."""
    if patients < 10:
        raise InvalidInputError(f"{patients} patients are too few for a cohort; at least 10")
    positive = rng.permutation(np.arange(patients) < round(patients * _POSITIVE_SHARE))
    age, male = np.empty(patients), np.empty(patients, dtype=bool)
    for name, here in ((POSITIVE, positive), (NEGATIVE, ~positive)):
        age[here], male[here] = _ages(name, int(here.sum()), rng), rng.random(int(here.sum())) < _MALE[name]
    group = np.array(list(GROUPS))[rng.choice(len(GROUPS), size=patients, p=list(GROUPS.values()))]
    obvious, raised = group[:, 0] & positive, group[:, 1] & positive
    alp = rng.normal(*_ALP, patients) + np.log(_growth(age, male)) + raised * rng.normal(*_ALP_RAISED, patients)
    ldh = rng.normal(*_LDH, patients) + raised * rng.normal(*_LDH_RAISED, patients)
    benign = ~positive & (rng.random(patients) < BENIGN_SHARE)
    seen = np.select(
        [obvious, positive, benign], [rng.uniform(*part, patients) for part in (OBVIOUS, SUBTLE, BENIGN)], 0.0
    )
    return Patients(positive, age, male, np.exp(alp), np.exp(ldh), raised, seen)


def bayes_auc(seed: int = 2026, rows: int = 100_000) -> BayesAuc:
    """Bounds by simulation; their standard error is about 0.001.

    >>> bound = bayes_auc(rows=4000)
    >>> bound.all > max(bound.table, bound.lesion_age_sex) > 0.5
    True
    """
    rng = np.random.default_rng([seed, 4])
    drawn = draw_patients(rows, rng)
    reading = drawn.conspicuity + rng.normal(0, READING_ERROR, rows)
    person = _log_person(drawn)
    table = [_log_laboratory(drawn, raised) for raised in (False, True)]
    none = _log_normal(reading, 0.0, READING_ERROR)
    other = np.logaddexp(np.log(1 - BENIGN_SHARE) + none, np.log(BENIGN_SHARE) + _log_reading(reading, BENIGN))
    seen = [_log_reading(reading, part) for part in (SUBTLE, OBVIOUS)]
    lab, image, both = (
        np.logaddexp.reduce([np.log(share) + part(o, r) for (o, r), share in GROUPS.items()])
        for part in (lambda o, r: table[r], lambda o, r: seen[o], lambda o, r: table[r] + seen[o])
    )
    lesion = image - other
    scores = (person, person + lab - table[0], lesion, person + lesion, person + both - table[0] - other)
    return BayesAuc(*(round(auc(drawn.positive, score), 3) for score in scores))


def write_xray(
    folder: Path, patients: int = 60, seed: int = 2026, *, progress: Callable[[int], Progress] | None = None
) -> BayesAuc:
    """Write images/*.png, truth.json, truth.csv (planted values), a notice and, last, radiographs.csv.

    One row per radiograph, about three a patient (about 0.1 MB each); a patient without one has a row with an empty
    `file`. `progress` makes a counter for a number of radiographs. Returns the bounds.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = draw_patients(patients, rng)
    rows: list[tuple[str, ...]] = []
    truth: list[tuple[str | float, ...]] = []
    pictures: list[_Picture] = []
    for p in range(patients):
        mrn = f"XR{p + 1:04d}"
        own = np.random.default_rng([seed, 2, p])
        cells = _cells(drawn, p, own)
        knee, lesion = _draw_knee(drawn, p, own), _draw_lesion(drawn, p, own)
        views = int(own.choice(list(_VIEWS), p=list(_VIEWS.values())))
        for v in range(views):
            view: View = "ap" if v % 2 == 0 else "lateral"
            name = f"images/{mrn}_{view}{v // 2 + 1}.png"
            # A lesion shows better in one direction than in another.
            shown = None if lesion is None else _fainter(lesion, float(own.uniform(0.7, 1.0)))
            pictures.append(_Picture(folder / name, view, knee, shown, (seed, 3, p, v % 2), (seed, 5, p, v)))
            rows.append((mrn, name, *cells))
        if views == 0:
            rows.append((mrn, "", *cells))
        kind = "none" if lesion is None else lesion.kind
        truth.append((mrn, kind, round(float(drawn.conspicuity[p]), 3), "yes" if drawn.raised[p] else "no"))
    for outcome in run_tasks(_write_picture, pictures, progress=progress(len(pictures)) if progress else None):
        if outcome.error is not None:
            raise outcome.error
    bound = bayes_auc(seed)
    command = f"osml synth xray --patients {patients} --seed {seed}"
    planted = {
        "groups": [{"obvious_lesion": o, "raised_laboratory": r, "share": s} for (o, r), s in GROUPS.items()],
        "conspicuity": {"obvious": OBVIOUS, "subtle": SUBTLE, "benign": BENIGN, "benign_share": BENIGN_SHARE},
        "reading_error": READING_ERROR,
    }
    write_json(
        folder / "truth.json",
        {"synthetic": True, "notice": NOTICE.strip(), "command": command, "planted": planted}
        | {"bayes_auc": asdict(bound)},
    )
    write_csv(folder / "truth.csv", TRUTH_COLUMNS, truth)
    atomic_write(folder / "SYNTHETIC.txt", NOTICE + command + "\n")
    write_csv(folder / "radiographs.csv", COLUMNS, rows)
    return bound


def _cells(drawn: Patients, p: int, rng: np.random.Generator) -> tuple[str, ...]:
    alp_low, alp_high = ALP_KITS[rng.integers(len(ALP_KITS))]
    ldh_low, ldh_high = LDH_KITS[rng.integers(len(LDH_KITS))]
    numbers = (
        drawn.alp_ratio[p] * alp_high, alp_low, alp_high, drawn.ldh_ratio[p] * ldh_high, ldh_low, ldh_high,
    )  # fmt: skip
    return (
        POSITIVE if drawn.positive[p] else NEGATIVE,
        f"{drawn.age[p]:.1f}",
        "male" if drawn.male[p] else "female",
        *(f"{number:.0f}" for number in numbers),
    )


def _draw_knee(drawn: Patients, p: int, rng: np.random.Generator) -> Knee:
    age = float(drawn.age[p])
    growing = bool(_growth(drawn.age[p : p + 1], drawn.male[p : p + 1])[0] > 1)
    adult = 1.0 if drawn.male[p] else 0.93
    worn = float(rng.uniform(1.0, 3.2)) if rng.random() < np.clip((age - 40) / 45, 0, 0.6) else 0.0
    return Knee(
        scale=float(np.interp(age, [4.0, 16.0], [0.62, 1.0])) * adult * float(rng.uniform(0.95, 1.05)),
        open_plates=growing,
        soft=float(rng.uniform(0.85, 1.2)),
        density=float(rng.uniform(0.85, 1.15)) * float(np.interp(age, [40.0, 81.0], [1.0, 0.7])),
        narrowing_mm=worn,
        side="L" if rng.random() < 0.5 else "R",
    )


def _draw_lesion(drawn: Patients, p: int, rng: np.random.Generator) -> Lesion | None:
    seen = float(drawn.conspicuity[p])
    bone = rng.choice(["femur", "tibia"], p=[0.62, 0.38])
    height, aside = float(rng.uniform(36, 66)), float(rng.choice([-1, 1]) * rng.uniform(0.25, 0.85))
    wide, long = float(rng.uniform(18, 28)), float(rng.uniform(1.2, 1.8))
    if seen == 0:
        return None
    if drawn.positive[p]:
        kind = rng.choice(["sclerotic", "lytic", "mixed"], p=[0.4, 0.25, 0.35])
        return Lesion(kind, bone, height, aside, (wide, wide * long), seen)
    if rng.random() < 0.5:
        return Lesion("island", bone, height, 0.6 * aside, (float(rng.uniform(3, 6)), float(rng.uniform(4, 8))), seen)
    return Lesion("cyst", bone, height, aside, (float(rng.uniform(6, 10)), float(rng.uniform(9, 16))), seen)


def _fainter(lesion: Lesion, share: float) -> Lesion:
    return replace(lesion, conspicuity=lesion.conspicuity * share)


def _write_picture(picture: _Picture) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "radiomics", "writing pictures") from error
    anatomy, exposure = np.random.default_rng(picture.anatomy), np.random.default_rng(picture.exposure)
    stream = io.BytesIO()
    Image.fromarray(draw_radiograph(picture.view, picture.knee, picture.lesion, anatomy, exposure)).save(stream, "PNG")
    atomic_write(picture.path, stream.getvalue())


def _growth(age: NDArray[np.float64], male: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(age < np.where(male, _CLOSING["male"], _CLOSING["female"]), _GROWTH, 1.0)


def _ages(name: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    parts = np.array(_AGES[name])
    _, mean, sd = parts[rng.choice(len(parts), size=n, p=parts[:, 0])].T
    low, high = (ndtr((edge - mean) / sd) for edge in _AGE_RANGE)
    return mean + sd * ndtri(low + (high - low) * rng.random(n))


def _log_person(drawn: Patients) -> NDArray[np.float64]:
    """Log likelihood ratio of age and sex."""
    out = []
    for name in (POSITIVE, NEGATIVE):
        parts = []
        for share, mean, sd in _AGES[name]:
            inside = float(np.diff(ndtr((np.array(_AGE_RANGE) - mean) / sd))[0])
            parts.append(np.log(share / inside) + _log_normal(drawn.age, mean, sd))
        sex = np.log(np.where(drawn.male, _MALE[name], 1 - _MALE[name]))
        out.append(np.logaddexp.reduce(parts) + sex)
    return out[0] - out[1]


def _log_laboratory(drawn: Patients, raised: bool) -> NDArray[np.float64]:
    """Log density of both ratios, given age, sex and whether they are raised."""
    alp = np.log(drawn.alp_ratio / _growth(drawn.age, drawn.male))
    out = np.zeros(len(alp))
    for value, base, more in ((alp, _ALP, _ALP_RAISED), (np.log(drawn.ldh_ratio), _LDH, _LDH_RAISED)):
        out += _log_normal(value, base[0] + raised * more[0], float(np.hypot(base[1], raised * more[1])))
    return out


def _log_reading(reading: NDArray[np.float64], part: tuple[float, float]) -> NDArray[np.float64]:
    """Log density of a uniform conspicuity read with error."""
    low, high = part
    inside = ndtr((reading - low) / READING_ERROR) - ndtr((reading - high) / READING_ERROR)
    return np.log(np.maximum(inside, 1e-300) / (high - low))


def _log_normal(value: NDArray[np.float64], mean: float, sd: float) -> NDArray[np.float64]:
    return -(((value - mean) / sd) ** 2) / 2 - np.log(sd * np.sqrt(2 * np.pi))
