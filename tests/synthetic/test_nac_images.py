"""The chemotherapy cohort with MRI: one table, one truth, damage that the library refuses by name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from osml.errors import InvalidInputError
from osml.evaluation.discrimination import auc
from osml.files import read_json
from osml.imaging.errors import ImagingError
from osml.imaging.read import read_image, read_mask
from osml.radiomics import extract
from osml.radiomics.settings import Settings
from osml.synthetic.nac import COLUMNS, NOTICE, log_likelihood_ratio, simulate_nac, write_nac
from osml.synthetic.nac_images import BROKEN, IMAGE_COLUMNS, SEPARATION, NacTruth, bayes_auc, write_nac_images

SETTINGS = Settings(classes=("firstorder",), regions=("0-2mm",), normalise="image", normalise_scale=100, label=1)
REASONS = {
    "mask_grid": "geometry", "empty_mask": "empty_mask", "nan_image": "non_finite", "missing_image": "unreadable",
    "label_255": "label", "constant_image": "grey_levels",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NacTruth]:
    folder = tmp_path_factory.mktemp("nac")
    return folder, write_nac_images(folder, 12, seed=4, broken=True)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "patients.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_clinical_cells_are_those_without_images(written: tuple[Path, NacTruth], tmp_path: Path) -> None:
    folder, _ = written
    plain = write_nac(tmp_path, 12, seed=4).read_text().splitlines()
    cut = [",".join(line.split(",")[: len(COLUMNS)]) for line in (folder / "patients.csv").read_text().splitlines()]
    assert cut == plain


def test_paths_are_relative_and_exist_unless_broken(written: tuple[Path, NacTruth]) -> None:
    folder, truth = written
    rows = rows_of(folder)
    assert tuple(rows[0]) == (*COLUMNS, *IMAGE_COLUMNS)
    for row in rows:
        kind = truth.broken.get(row["patient_id"])
        assert (folder / row["t2_path"]).is_file() == (kind != "missing_image")
        assert (folder / row["t2_mask"]).is_file()
        assert bool(row["t2_mask_reader2"]) == (row["patient_id"] in truth.second_readings)
        if row["t2_mask_reader2"]:
            assert read_mask(folder / row["t2_mask_reader2"]).grid() == read_mask(folder / row["t2_mask"]).grid()


def test_each_kind_of_damage_is_refused_and_the_rest_is_read(written: tuple[Path, NacTruth]) -> None:
    folder, truth = written
    assert sorted(truth.broken.values()) == sorted(BROKEN)
    for row in rows_of(folder):
        kind = truth.broken.get(row["patient_id"])
        if kind is None:
            table = extract(read_image(folder / row["t2_path"]), read_mask(folder / row["t2_mask"]), SETTINGS)
            assert np.isfinite(table["original_firstorder_Mean"]).all()
            continue
        with pytest.raises(ImagingError) as error:
            extract(read_image(folder / row["t2_path"]), read_mask(folder / row["t2_mask"]), SETTINGS)
        assert error.value.reason == REASONS[kind]


def test_the_truth_is_beside_the_table_and_says_synthetic(written: tuple[Path, NacTruth]) -> None:
    folder, truth = written
    said = read_json(folder / "truth.json")
    assert said["synthetic"] is True
    assert said["notice"] == NOTICE.strip()
    assert said["heterogeneity"] == truth.heterogeneity
    assert {patient: entry["kind"] for patient, entry in said["broken"].items()} == truth.broken
    assert said["bayes_auc"] == {
        "clinical": truth.bayes_auc.clinical, "image": truth.bayes_auc.image, "both": truth.bayes_auc.both,
    }  # fmt: skip
    assert (folder / "SYNTHETIC.txt").read_text().endswith(said["command"] + "\n")


@pytest.mark.full
def test_the_same_seed_gives_the_same_bytes(written: tuple[Path, NacTruth], tmp_path: Path) -> None:
    folder, _ = written
    write_nac_images(tmp_path, 12, seed=4, broken=True)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_the_likelihood_ratio_is_that_of_the_published_groups() -> None:
    cohort = simulate_nac(40_000, seed=2)
    poor = np.array([row[-1] == "poor" for row in cohort.rows])
    ratio = log_likelihood_ratio(cohort)
    # A likelihood ratio is calibrated: among rows with ratio r, poor are r times as many per poor as good per good.
    for low, high in ((-1.5, -1.0), (-0.25, 0.25), (0.75, 1.25), (1.75, 2.25)):
        here = (ratio > low) & (ratio < high)
        share = (here & poor).sum() / poor.sum() / ((here & ~poor).sum() / (~poor).sum())
        assert share == pytest.approx(np.exp(ratio[here & ~poor]).mean(), rel=0.1)
    # Fracture alone: 36 of 48 against 21 of 45, so an AUC of 1/2 + (0.75 - 0.4667) / 2.
    fracture = np.array([row[COLUMNS.index("pathological_fracture")] == "Yes" for row in cohort.rows])
    assert auc(poor, fracture) == pytest.approx(0.5 + (36 / 48 - 21 / 45) / 2, rel=0.01)
    assert auc(poor, ratio) > 0.7


def test_bounds_follow_from_the_planted_separation() -> None:
    bound = bayes_auc(seed=1, rows=40_000)
    # Two normals of unit variance, d apart: Phi(d / sqrt 2).
    assert bound.image == pytest.approx(ndtr(SEPARATION / np.sqrt(2)), rel=0.01)
    assert bound.both > max(bound.image, bound.clinical) + 0.03


@pytest.mark.full
def test_damage_changes_no_other_patient(written: tuple[Path, NacTruth], tmp_path: Path) -> None:
    folder, truth = written
    again = write_nac_images(tmp_path, 12, seed=4)
    assert again.heterogeneity == truth.heterogeneity
    assert again.broken == {}
    whole = [patient for patient in again.heterogeneity if patient not in truth.broken]
    assert len(whole) == 6
    for name in (f"t2/{patient}{end}.nii.gz" for patient in whole for end in ("", "_mask")):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_breaking_needs_patients_to_spare(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 12"):
        write_nac_images(tmp_path, 11, broken=True)
    assert not any(tmp_path.iterdir())
