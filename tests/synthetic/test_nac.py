"""The synthetic chemotherapy cohort: published marginals, reproducible, plainly labelled."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from osml.errors import InvalidInputError
from osml.synthetic.nac import COLUMNS, NOTICE, NacCohort, simulate_nac, write_nac


def columns(cohort: NacCohort) -> dict[str, list[str]]:
    return dict(zip(COLUMNS, map(list, zip(*cohort.rows, strict=True)), strict=True))


def test_the_published_group_sizes() -> None:
    table = columns(simulate_nac())
    assert Counter(table["response"]) == {"poor": 48, "good": 45}
    assert len(set(table["patient_id"])) == 93


def test_the_published_counts_by_response() -> None:
    table = columns(simulate_nac())
    found = Counter(zip(table["pathological_fracture"], table["response"], strict=True))
    # Zheng et al., Table 1: fracture in 21 of 45 good and 36 of 48 poor responders.
    assert found == {("Yes", "good"): 21, ("None", "good"): 24, ("Yes", "poor"): 36, ("None", "poor"): 12}
    assert Counter(table["sex"]) == {"female": 69, "male": 24}
    assert Counter(table["lung_metastasis"]) == {"None": 85, "Yes": 8}


def test_large_samples_have_the_published_means_and_spread() -> None:
    table = columns(simulate_nac(40_000, seed=1, missing_ldh=0.0))
    poor = np.array([r == "poor" for r in table["response"]])
    alp = np.array(table["alp"], dtype=float)
    age = np.array(table["age"], dtype=float)
    # Table 1: ALP 207 (SD 122) in good, 468 (SD 881) in poor responders; the floor of 30 U/L lifts the mean a little.
    assert alp[~poor].mean() == pytest.approx(207.0, rel=0.02)
    assert alp[~poor].std() == pytest.approx(121.98, rel=0.05)
    assert alp[poor].mean() == pytest.approx(467.58, rel=0.06)
    assert np.median(alp[poor]) < 0.6 * alp[poor].mean()
    assert age[poor].mean() == pytest.approx(17.77, rel=0.02)
    assert (alp >= 30).all()
    assert (age >= 4).all()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_nac(tmp_path / "a", seed=7), write_nac(tmp_path / "b", seed=7)
    assert one.read_bytes() == two.read_bytes()
    assert write_nac(tmp_path / "c", seed=8).read_bytes() != one.read_bytes()


def test_the_folder_says_that_nobody_is_real(tmp_path: Path) -> None:
    table = write_nac(tmp_path, patients=50, seed=3)
    notice = (tmp_path / "SYNTHETIC.txt").read_text()
    assert notice.startswith(NOTICE)
    assert "--patients 50 --seed 3" in notice
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 50
    assert tuple(rows[0]) == COLUMNS


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.05, 60, 140), (0.5, 900, 1100)])
def test_missing_ldh_cells_are_dashes(share: float, least: int, most: int) -> None:
    table = columns(simulate_nac(2000, missing_ldh=share))
    assert least <= table["ldh"].count("-") <= most
    assert all("-" not in table[name] for name in COLUMNS if name != "ldh")


def test_kit_ranges_come_in_pairs() -> None:
    table = columns(simulate_nac(200))
    assert set(zip(table["ldh_low"], table["ldh_high"], strict=True)) == {("120", "250"), ("125", "220")}


@pytest.mark.parametrize("patients", [10, 11, 37])
def test_small_cohorts_hold_both_classes(patients: int) -> None:
    counts = Counter(columns(simulate_nac(patients))["response"])
    assert sum(counts.values()) == patients
    assert min(counts.values()) >= 4


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="9 patients are too few"):
        simulate_nac(9)
