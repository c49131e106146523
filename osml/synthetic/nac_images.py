"""The chemotherapy cohort with MRI: the clinical table of `nac`, volumes with masks, and the truth that was planted.

The clinical cells are those that the same seed gives without images. Heterogeneity of the tumour's rim and of the
peritumoural oedema is drawn from N(±0.6, 1) given the response (poor: +) and independently of every clinical column
given the response, so what it adds to ALP and fracture is known. Gain, receive field, contrast and lesion size are
drawn independently of it: raw intensities say nothing, and lesion size no more than the table's diameter.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError
from osml.evaluation.discrimination import auc
from osml.files import atomic_write, write_csv, write_json
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.synthetic.mri import Scan, Size, simulate_scan
from osml.synthetic.nac import COLUMNS, NOTICE, NacCohort, log_likelihood_ratio, simulate_nac

IMAGE_COLUMNS = ("t2_path", "t2_mask", "t2_mask_reader2")
# Mean of the heterogeneity in poor minus good responders, in SDs: an AUC of 0.80 for who sees it without error.
SEPARATION = 1.2
SECOND_READINGS = 30
BROKEN: Mapping[str, str] = {
    "mask_grid": "the mask lies on another grid (slices of 4 mm)",
    "empty_mask": "nothing is segmented",
    "nan_image": "the image (a .nrrd file) holds NaN",
    "missing_image": "the image file does not exist",
    "label_255": "the lesion has the label 255 instead of 1",
    "constant_image": "every voxel of the image has the same value",
}
# Rows for the Bayes AUCs: their standard error is about 0.001.
_TRUTH_ROWS = 100_000


@dataclass(frozen=True)
class BayesAuc:
    """The AUC that no predictor of these inputs can exceed in the long run; `image` sees heterogeneity itself."""

    clinical: float
    image: float
    both: float


@dataclass(frozen=True)
class NacTruth:
    """What was planted.

    Attributes
    ----------
    separation : mean heterogeneity of poor minus good responders, in SDs
    heterogeneity : by patient
    bayes_auc : bounds for clinical inputs, images, and both
    second_readings : patients with a second reader's mask
    broken : patient and kind of damage (a key of `BROKEN`)
    """

    separation: float
    heterogeneity: Mapping[str, float]
    bayes_auc: BayesAuc
    second_readings: tuple[str, ...]
    broken: Mapping[str, str]


@dataclass(frozen=True)
class _Task:
    folder: Path
    patient: str
    diameter_mm: float
    location: str
    heterogeneity: float
    seed: tuple[int, ...]
    size: Size
    second_reader: bool
    damage: str


def write_nac_images(
    folder: Path,
    patients: int = 93,
    seed: int = 2026,
    *,
    size: Size = "small",
    broken: bool = False,
    progress: Progress | None = None,
) -> NacTruth:
    """Write t2/*.nii.gz, truth.json, a notice and, last, patients.csv with paths relative to it.

    Parameters
    ----------
    folder : receives the files; those of the same names are replaced
    size : `small` (96 × 96 of 1.5 mm, about 0.1 MB a patient) or `paper` (384 × 384 of 0.47 mm, about 2 MB)
    broken : damage six patients on purpose, one for each kind in `BROKEN`
    progress : told of every patient
    """
    cohort = simulate_nac(patients, seed)
    truth = _draw_truth(cohort, seed, broken)
    columns = dict(zip(COLUMNS, zip(*cohort.rows, strict=True), strict=True))
    tasks = [
        _Task(
            folder, patient, float(diameter), location, truth.heterogeneity[patient], (seed, 3, i), size,
            patient in truth.second_readings, truth.broken.get(patient, ""),
        )
        for i, (patient, diameter, location) in enumerate(
            zip(columns["patient_id"], columns["diameter"], columns["location"], strict=True)
        )
    ]  # fmt: skip
    for outcome in run_tasks(_write_patient, tasks, progress=progress):
        if outcome.error is not None:
            raise outcome.error
    command = f"osml synth nac --images --patients {patients} --seed {seed} --size {size}" + " --broken" * broken
    write_json(
        folder / "truth.json", {"synthetic": True, "notice": NOTICE.strip(), "command": command, **_words(truth)}
    )
    atomic_write(folder / "SYNTHETIC.txt", NOTICE + command + "\n")
    rows = []
    for row in cohort.rows:
        patient = row[0]
        second = _reader_file(patient) if patient in truth.second_readings else ""
        rows.append((*row, _image_file(patient, truth.broken.get(patient, "")), _mask_file(patient), second))
    write_csv(folder / "patients.csv", (*COLUMNS, *IMAGE_COLUMNS), rows)
    return truth


def bayes_auc(seed: int = 2026, rows: int = _TRUTH_ROWS) -> BayesAuc:
    """AUCs of the exact likelihood ratios on a large cohort.

    >>> bayes_auc(rows=2000).image > 0.75
    True
    """
    cohort = simulate_nac(rows, seed)
    poor = np.array([row[-1] == "poor" for row in cohort.rows])
    clinical = log_likelihood_ratio(cohort)
    # N(d/2, 1) against N(-d/2, 1): the log ratio is d times the value.
    image = SEPARATION * (np.random.default_rng([seed, 4]).normal(size=rows) + SEPARATION * (poor - 0.5))
    return BayesAuc(*(round(auc(poor, score), 3) for score in (clinical, image, clinical + image)))


def _draw_truth(cohort: NacCohort, seed: int, broken: bool) -> NacTruth:
    ids = [row[0] for row in cohort.rows]
    if broken and len(ids) < 2 * len(BROKEN):
        raise InvalidInputError(f"{len(ids)} patients are too few to break {len(BROKEN)} of them; at least 12")
    heterogeneity = {}
    for i, row in enumerate(cohort.rows):
        centre = SEPARATION * ((row[-1] == "poor") - 0.5)
        heterogeneity[row[0]] = round(float(np.random.default_rng([seed, 1, i]).normal(centre)), 4)
    order = np.random.default_rng([seed, 2]).permutation(len(ids))
    # Damaged patients come from the end of the order, second readings from its start, so that they rarely coincide.
    damaged = {ids[i]: kind for i, kind in zip(order[::-1], BROKEN, strict=False)} if broken else {}
    second = sorted(ids[i] for i in order[:SECOND_READINGS] if ids[i] not in damaged)
    return NacTruth(SEPARATION, heterogeneity, bayes_auc(seed), tuple(second), dict(sorted(damaged.items())))


def _words(truth: NacTruth) -> dict[str, object]:
    plain = json.loads(json.dumps(asdict(truth)))
    plain["broken"] = {patient: {"kind": kind, "what": BROKEN[kind]} for patient, kind in truth.broken.items()}
    return {
        "planted": "heterogeneity of rim and oedema, 4 mm to either side of the surface, is N(+separation/2, 1) in "
        "poor and N(-separation/2, 1) in good responders; ALP and fracture as published; given the response, "
        "independent of each other",
        **plain,
    }


def _write_patient(task: _Task) -> None:
    scan = simulate_scan(
        task.diameter_mm, task.heterogeneity, np.random.default_rng(task.seed),
        location=task.location, size=task.size, second_reader=task.second_reader,
    )  # fmt: skip
    if task.damage:
        scan = _damaged(scan, task.damage)
    image = task.folder / _image_file(task.patient, task.damage)
    if task.damage == "missing_image":
        image.unlink(missing_ok=True)
    else:
        _write_volume(image, scan.image)
    _write_volume(task.folder / _mask_file(task.patient), scan.mask)
    if scan.reader2 is not None:
        _write_volume(task.folder / _reader_file(task.patient), scan.reader2)


def _damaged(scan: Scan, kind: str) -> Scan:
    if kind == "mask_grid":
        return replace(scan, mask=replace(scan.mask, spacing_mm=(*scan.mask.spacing_mm[:2], 4.0)))
    if kind == "empty_mask":
        return replace(scan, mask=scan.mask.like(np.zeros_like(scan.mask.array)))
    if kind == "label_255":
        return replace(scan, mask=scan.mask.like(scan.mask.array * np.uint8(255)))
    if kind == "nan_image":
        values = scan.image.array.astype(np.float32)
        values[len(values) // 2, :2, :5] = np.nan
        return replace(scan, image=scan.image.like(values))
    if kind == "constant_image":
        return replace(scan, image=scan.image.like(np.full_like(scan.image.array, 100)))
    return scan


def _write_volume(path: Path, volume: Volume) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        simple_itk().WriteImage(to_sitk(volume), str(part), useCompression=True)
        atomic_write(path, part.read_bytes())


def _image_file(patient: str, damage: str = "") -> str:
    # ITK reads NaN in a NIfTI file as 0, so this damage would be invisible there.
    return f"t2/{patient}.nrrd" if damage == "nan_image" else f"t2/{patient}.nii.gz"


def _mask_file(patient: str) -> str:
    return f"t2/{patient}_mask.nii.gz"


def _reader_file(patient: str) -> str:
    return f"t2/{patient}_mask_reader2.nii.gz"
