"""Synthetic radiographs: lesions where they are planted, laboratory values beside their kit range, honest bounds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import ndtr

from osml.errors import InvalidInputError
from osml.evaluation.discrimination import auc
from osml.files import read_json
from osml.synthetic.radiograph import FIELD_MM, PIXELS, Knee, Lesion, View, draw_radiograph
from osml.synthetic.xray import (
    ALP_KITS,
    COLUMNS,
    GROUPS,
    LDH_KITS,
    NEGATIVE,
    OBVIOUS,
    POSITIVE,
    SUBTLE,
    TRUTH_COLUMNS,
    BayesAuc,
    bayes_auc,
    draw_patients,
    write_xray,
)

ADULT = Knee(1.0, False, 1.0, 1.0, 0.0, "R")


def radiograph(view: View = "ap", knee: Knee = ADULT, lesion: Lesion | None = None, seed: int = 1) -> np.ndarray:
    return draw_radiograph(view, knee, lesion, np.random.default_rng(seed), np.random.default_rng(seed + 1000))


def tumour(conspicuity: float, bone: str = "femur", kind: str = "sclerotic") -> Lesion:
    return Lesion(kind, bone, 50.0, 0.5, (20.0, 30.0), conspicuity)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BayesAuc]:
    folder = tmp_path_factory.mktemp("xray")
    return folder, write_xray(folder, 10, seed=6)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("view", ["ap", "lateral"])
def test_bone_is_brighter_than_soft_tissue_than_air(view: View) -> None:
    made = np.median([radiograph(view, seed=s) for s in range(5)], axis=0)
    assert made.shape == (PIXELS, PIXELS)
    middle = PIXELS // 2
    air, calf, tibia = (
        made[300:420, :20].mean(),
        made[400:440, 160:180].mean(),
        made[400:440, middle - 30 : middle + 30],
    )
    assert air < 30
    assert air + 40 < calf
    assert calf + 15 < tibia.mean()


@pytest.mark.parametrize("bone, above", [("femur", True), ("tibia", False)])
@pytest.mark.parametrize("view", ["ap", "lateral"])
def test_a_lesion_changes_its_own_bone(bone: str, above: bool, view: View) -> None:
    plain, diseased = radiograph(view).astype(float), radiograph(view, lesion=tumour(1.0, bone)).astype(float)
    # The window follows the brightest part of the picture, so grey levels move everywhere: one curve takes that out.
    change = np.abs(diseased - np.polyval(np.polyfit(plain.ravel(), diseased.ravel(), 3), plain))
    below_joint = (np.argwhere(change > np.quantile(change, 0.98))[:, 0] - PIXELS / 2) * FIELD_MM / PIXELS
    # The lesion is planted 50 mm from the joint, which lies near the middle.
    assert np.median(below_joint) == pytest.approx(-50 if above else 50, abs=25)


@pytest.mark.parametrize("kind", ["sclerotic", "lytic", "mixed", "island", "cyst"])
def test_a_lesion_shows_more_the_more_conspicuous_it_is(kind: str) -> None:
    plain = radiograph().astype(float)
    shown = [np.abs(radiograph(lesion=tumour(c, kind=kind)) - plain).mean() for c in (0.1, 0.4, 1.0)]
    assert shown[0] < shown[1] < shown[2]


def test_sides_are_mirrored() -> None:
    left, right = (
        np.median([radiograph(knee=Knee(1.0, False, 1.0, 1.0, 0.0, side), seed=s) for s in range(5)], axis=0)
        for side in "LR"
    )
    # The fibula, beside the shaft of the tibia; position and technique are the same for both.
    row = slice(400, 440)
    assert left[row, 165:200].mean() > right[row, 165:200].mean() + 3
    assert right[row, 312:347].mean() > left[row, 312:347].mean() + 3


@pytest.mark.full
def test_the_table_is_that_of_the_schema(written: tuple[Path, BayesAuc]) -> None:
    folder, _ = written
    rows = rows_of(folder / "radiographs.csv")
    assert tuple(rows[0]) == COLUMNS
    assert {row["diagnosis"] for row in rows} == {POSITIVE, NEGATIVE}
    patients: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        patients.setdefault(row["mrn"], set()).add(tuple(row[c] for c in COLUMNS if c != "file"))
        assert (float(row["alp_low"]), float(row["alp_high"])) in ALP_KITS
        assert (float(row["ldh_low"]), float(row["ldh_high"])) in LDH_KITS
        if row["file"]:
            with Image.open(folder / row["file"]) as picture:
                assert (picture.size, picture.mode) == ((PIXELS, PIXELS), "L")
    assert len(patients) == 10
    assert all(len(cells) == 1 for cells in patients.values())
    files = [row["file"] for row in rows if row["file"]]
    assert len(files) == len(set(files)) > 15


@pytest.mark.full
def test_the_truth_agrees_with_the_table(written: tuple[Path, BayesAuc]) -> None:
    folder, bound = written
    said = read_json(folder / "truth.json")
    assert said["synthetic"] is True
    assert said["bayes_auc"]["all"] == bound.all
    diagnosis = {row["mrn"]: row["diagnosis"] for row in rows_of(folder / "radiographs.csv")}
    planted = rows_of(folder / "truth.csv")
    assert tuple(planted[0]) == TRUTH_COLUMNS
    assert [row["mrn"] for row in planted] == list(diagnosis)
    for row in planted:
        malignant = row["lesion"] in ("sclerotic", "lytic", "mixed")
        assert malignant == (diagnosis[row["mrn"]] == POSITIVE)
        assert (row["lesion"] == "none") == (float(row["conspicuity"]) == 0)
        assert row["laboratory_raised"] == "no" or malignant


@pytest.mark.full
def test_the_same_seed_gives_the_same_bytes(written: tuple[Path, BayesAuc], tmp_path: Path) -> None:
    folder, _ = written
    write_xray(tmp_path, 10, seed=6)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_image_and_laboratory_complement_each_other() -> None:
    drawn = draw_patients(40_000, np.random.default_rng(1))
    assert drawn.positive.mean() == pytest.approx(394 / 848, rel=1e-3)
    assert (drawn.age >= 4).all()
    assert (drawn.age <= 81).all()
    cancer = drawn.positive
    obvious = drawn.conspicuity >= OBVIOUS[0]
    for (seen, raised), share in GROUPS.items():
        found = ((obvious == seen) & (drawn.raised == raised))[cancer].mean()
        assert found == pytest.approx(share, rel=0.05)
    assert drawn.conspicuity[cancer].min() >= SUBTLE[0]
    assert not drawn.raised[~cancer].any()
    # Growing patients have more ALP whatever their diagnosis.
    child = drawn.age < 14
    assert np.median(drawn.alp_ratio[child & ~cancer]) > 1.8 * np.median(
        drawn.alp_ratio[~child & ~cancer & (drawn.age > 20)]
    )


def test_bounds_are_ordered_and_beat_simple_scores() -> None:
    bound = bayes_auc(seed=3, rows=40_000)
    assert bound.age_sex < bound.table < bound.all < 1
    assert bound.lesion < bound.lesion_age_sex < bound.all
    drawn = draw_patients(40_000, np.random.default_rng(7))
    simple = np.log(drawn.alp_ratio) + np.log(drawn.ldh_ratio)
    assert auc(drawn.positive, simple) < bound.table
    # LDH alone: raised values are normal with more mean and spread; the others follow the same law in both groups.
    raised = sum(share for (_, up), share in GROUPS.items() if up)
    expected = (1 - raised) / 2 + raised * ndtr(0.35 / np.hypot(0.18, np.hypot(0.18, 0.30)))
    assert auc(drawn.positive, drawn.ldh_ratio) == pytest.approx(expected, rel=0.01)


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="9 patients are too few"):
        write_xray(tmp_path, 9)
    assert not any(tmp_path.iterdir())
