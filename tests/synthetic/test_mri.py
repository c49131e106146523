"""Synthetic volumes: what is planted is found again, and nothing else tells it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from osml.errors import InvalidInputError
from osml.imaging.volume import Volume
from osml.radiomics import extract
from osml.radiomics.settings import Settings
from osml.synthetic.mri import DIAMETER_MM, PLANE, SLICE_MM, Scan, largest_diameter, simulate_scan

NORMALISED = Settings(
    classes=("firstorder", "glcm"), regions=("tumour", "0-2mm", "0-4mm"), spacing_mm=(1, 1, 3),
    normalise="image", normalise_scale=100, bin_width=25,
)  # fmt: skip


def scan(diameter: float = 60.0, heterogeneity: float = 0.0, seed: int = 1, **options: object) -> Scan:
    return simulate_scan(diameter, heterogeneity, np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def inside(volume: Volume | None) -> np.ndarray:
    assert volume is not None
    return volume.array.astype(bool)


def test_the_diameter_of_a_box_is_between_its_faces() -> None:
    box = np.zeros((4, 9, 9), dtype=bool)
    box[1:3, 2:6, 3] = True
    # Faces centred 2 × 5 mm apart along z at the same place; across the box 3 × 2 mm further along y.
    across = np.hypot(3 * 2.0, 2 * 5.0)
    assert largest_diameter(box, (2.0, 2.0, 5.0)) == pytest.approx(across)


@pytest.mark.parametrize("diameter", [20.0, 45.0, 104.0, 260.0])
@pytest.mark.parametrize("location", ["femur", "tibia", "other"])
def test_the_lesion_has_the_wanted_diameter_and_leaves_room_for_rings(diameter: float, location: str) -> None:
    made = scan(diameter, seed=5, location=location)
    mask = inside(made.mask)
    assert made.diameter_mm == pytest.approx(largest_diameter(mask, made.mask.spacing_mm))  # type: ignore[arg-type]
    assert abs(made.diameter_mm - diameter) <= SLICE_MM
    at = np.argwhere(mask)
    room = np.minimum(at.min(axis=0), np.array(mask.shape) - 1 - at.max(axis=0)) * np.array([5.0, 1.5, 1.5])
    assert room.min() >= 6.0
    assert set(np.unique(made.mask.array)) == {0, 1}


def test_the_grid_is_that_of_the_protocol() -> None:
    small, paper = scan(30.0), scan(30.0, size="paper")
    for made, (pixels, pixel_mm) in zip((small, paper), PLANE.values(), strict=True):
        assert made.image.size[:2] == (pixels, pixels)
        assert made.image.spacing_mm == (pixel_mm, pixel_mm, SLICE_MM)
        assert made.image.grid() == made.mask.grid()
        assert made.image.array.dtype == np.int16
        assert made.image.array.min() >= 0
    # The same patient at both sizes: anatomy does not depend on the grid.
    volume = [inside(made.mask).sum() * np.prod(made.mask.spacing_mm) for made in (small, paper)]
    assert volume[0] == pytest.approx(volume[1], rel=0.1)


def test_the_same_seed_draws_the_same_patient() -> None:
    one, two, other = scan(seed=3), scan(seed=3), scan(seed=4)
    assert np.array_equal(one.image.array, two.image.array)
    assert not np.array_equal(one.image.array[:14], other.image.array[:14])


def test_heterogeneity_changes_nothing_but_a_shell() -> None:
    quiet, loud = scan(heterogeneity=-2.0, seed=6), scan(heterogeneity=2.0, seed=6)
    assert np.array_equal(quiet.mask.array, loud.mask.array)
    changed = quiet.image.array != loud.image.array
    mask = inside(quiet.mask)
    spacing = quiet.mask.spacing_mm[::-1]
    away = np.where(mask, distance_transform_edt(mask, spacing), distance_transform_edt(~mask, spacing))
    assert changed[away < 3].mean() > 0.7
    # The point spread carries a little of it on.
    assert not changed[away > 12].any()


def test_a_second_reader_agrees_but_not_wholly() -> None:
    dice = []
    for seed in range(6):
        made = scan(80.0, seed=seed, second_reader=True)
        one, two = inside(made.mask), inside(made.reader2)
        dice.append(2 * (one & two).sum() / (one.sum() + two.sum()))
    assert 0.85 < min(dice) <= max(dice) < 0.995
    assert len(set(dice)) == len(dice)


def test_a_second_reader_leaves_the_image_alone() -> None:
    assert np.array_equal(scan(seed=2).image.array, scan(seed=2, second_reader=True).image.array)
    assert scan(seed=2).reader2 is None


@pytest.mark.parametrize("diameter", [DIAMETER_MM[0] - 1, DIAMETER_MM[1] + 1, float("nan")])
def test_impossible_diameters_are_refused(diameter: float) -> None:
    with pytest.raises(InvalidInputError, match="diameter"):
        scan(diameter)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="'tiny' is not known; small or paper"):
        scan(size="tiny")


@pytest.mark.full
def test_ring_entropy_rises_with_heterogeneity_of_one_patient() -> None:
    entropy = [
        extract(made.image, made.mask, NORMALISED)["original_firstorder_Entropy"].to_numpy()[1:]
        for made in (scan(45.0, h, seed=8) for h in (-2.0, 0.0, 2.0))
    ]
    assert all((low < high).all() for low, high in pairwise(entropy))


@pytest.mark.full
def test_rings_tell_heterogeneity_and_intensities_do_not() -> None:
    patients = 60
    rng = np.random.default_rng(11)
    heterogeneity = rng.normal(size=patients)
    tables = []
    for seed, value in enumerate(heterogeneity):
        made = scan(float(rng.uniform(40, 120)), float(value), seed=100 + seed)
        tables.append((extract(made.image, made.mask, NORMALISED), made.image.array[inside(made.mask)].mean()))

    def rho(region: int, feature: str) -> float:
        return float(spearmanr([table.loc[region, feature] for table, _ in tables], heterogeneity).statistic)

    for feature in ("original_firstorder_Entropy", "original_glcm_JointEntropy", "original_firstorder_Variance"):
        assert rho(1, feature) > 0.75, feature
        assert rho(2, feature) > 0.75, feature
        # Deeper in the tumour, texture of its own hides it.
        assert rho(0, feature) < rho(1, feature) - 0.15, feature
    # Under independence |rho| of 60 patients exceeds 0.33 in 1 % of samples.
    assert all(abs(rho(region, "original_firstorder_Mean")) < 0.33 for region in range(3))
    assert abs(spearmanr([raw for _, raw in tables], heterogeneity).statistic) < 0.33
