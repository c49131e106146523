"""Perturbed images and masks: how far they move, and what they depend on."""

from __future__ import annotations

import numpy as np
import pytest
from radiomics_data import blob, sphere

from osml.imaging.errors import EmptyMaskError, RegionError
from osml.imaging.volume import Volume
from osml.radiomics import Settings
from osml.radiomics.perturb import VOLUME_SHARE, noise_level, perturb, perturbed

DRAWS = 40


def ball_in_noise(spread: float = 5.0, spacing: tuple[float, ...] = (1, 1, 3)) -> tuple[Volume, Volume]:
    ball = sphere(12, spacing, 9)
    image = ball.like(np.random.default_rng(2).normal(100, spread, ball.array.shape))
    return image, ball.like(ball.array.astype(np.uint8))


def test_volume_and_place_move_as_far_as_documented() -> None:
    image, mask = ball_in_noise()
    size = int(mask.array.sum())
    centre = np.argwhere(mask.array).mean(axis=0) * mask.spacing_mm[::-1]
    masks = [moved for _, moved in perturbed(image, mask, draws=DRAWS, seed=3)]
    share = np.array([int(moved.array.sum()) for moved in masks]) / size - 1
    assert np.abs(share).max() <= VOLUME_SHARE + 1 / size
    assert share.min() < -VOLUME_SHARE / 2
    assert share.max() > VOLUME_SHARE / 2
    shift = np.array([np.argwhere(moved.array).mean(axis=0) * moved.spacing_mm[::-1] for moved in masks]) - centre
    # Up to one voxel of the finest axis (1 mm) along each axis, and a little for rounding to voxels.
    assert np.abs(shift).max() < 1.2
    assert (np.abs(shift).max(axis=0) > 0.3).all()


def test_the_noise_has_the_level_of_the_image() -> None:
    image, mask = ball_in_noise(spread=7.0)
    noisy, _ = perturb(image, mask, draw=0, seed=1)
    added = noisy.array - image.array
    assert added.std() == pytest.approx(7.0, rel=0.05)
    assert abs(added.mean()) < 0.2
    clean = image.like(np.full(image.array.shape, 5.0))
    assert np.array_equal(perturb(clean, mask, draw=0, seed=1)[0].array, clean.array)


def test_edges_along_an_axis_are_not_noise() -> None:
    ramp = np.add.outer(np.arange(40.0) ** 2, np.where(np.arange(40) < 20, 0.0, 500.0))
    assert noise_level(ramp) == pytest.approx(0, abs=1e-9)


def test_draws_depend_on_seed_number_and_content_only() -> None:
    image, mask = blob()
    first = [moved.array for _, moved in perturbed(image, mask, draws=3, seed=1)]
    again = perturb(Volume(image.array.copy(), image.spacing_mm, name="elsewhere"), mask, draw=2, seed=1)
    assert np.array_equal(again[1].array, first[2])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(perturb(image, mask, draw=0, seed=2)[1].array, first[0])
    other = perturb(image.like(image.array + 1), mask, draw=0, seed=1)[1]
    assert not np.array_equal(other.array, first[0])


def test_labels_keep_their_values_and_other_lesions_stay() -> None:
    image, mask = ball_in_noise()
    two = mask.array * 2
    two[:, :, -6:] = 7
    two[mask.array == 1] = 2
    labelled = mask.like(two)
    for _, moved in perturbed(image, labelled, Settings(label=2), draws=8, seed=4):
        assert np.array_equal(moved.array == 7, two == 7)
        assert set(np.unique(moved.array)) == {0, 2, 7}
        assert moved.array.dtype == two.dtype


def test_a_single_voxel_survives() -> None:
    image, mask = ball_in_noise()
    mask.array[:] = 0
    mask.array[4, 20, 20] = 1
    assert [int(moved.array.sum()) for _, moved in perturbed(image, mask, draws=5, seed=1)] == [1] * 5


def test_a_picture() -> None:
    image, mask = blob((0.9, 1.1))
    _, moved = perturb(image, mask, draw=0, seed=1)
    assert moved.array.shape == mask.array.shape
    assert 0 < (moved.array != mask.array).sum() < mask.array.sum()


def test_what_cannot_be_perturbed_is_refused() -> None:
    image, mask = blob()
    with pytest.raises(EmptyMaskError):
        perturb(image, mask.like(mask.array * 0), draw=0, seed=1)
    crowded = np.full(mask.array.shape, 2, dtype=np.uint8)
    crowded[mask.array > 0] = 1
    with pytest.raises(RegionError, match="other labels leave"):
        for _ in perturbed(image, mask.like(crowded), Settings(label=1), draws=20, seed=1):
            pass
