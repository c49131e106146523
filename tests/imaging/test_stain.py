"""Colour deconvolution, Macenko's estimation, normalisation and augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from osml.errors import InvalidInputError
from osml.imaging.stain import (
    RUIFROK,
    Shift,
    StainError,
    Stains,
    apply_shift,
    combine,
    draw_shift,
    estimate_stains,
    normalise,
    optical_density,
    separate,
    stain_augment,
)

COLOURS = np.array([[[120, 60, 140], [230, 150, 190], [60, 40, 110]]], dtype=np.uint8)
# scikit-image 0.26 separate_stains(COLOURS, inv(rgb_from_hed)) * 6 (decades in its unit) * norms of its vectors, which
# are rounded; it clips at 0.
EXPECTED = [[0.4159057, 0.0, 0.90575315], [0.25769922, 0.15472562, 0.10408069], [0.14301285, 0.14538033, 0.1164695]]
OTHER = Stains((0.55, 0.75, 0.35), (0.10, 0.85, 0.50))


def stained(stains: Stains, seed: int = 1, size: int = 96, scale: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """A picture of pure and mixed pixels of two stains, a third of it glass."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2.0, 0.2, (2, size, size)) * np.array(scale)[:, None, None]
    only = rng.integers(0, 4, (size, size))
    amount[1][only == 0] = amount[0][only == 1] = 0.0
    amount[:, : size // 3] = 0.0
    zero = np.zeros((size, size), dtype=np.float32)
    return combine(*amount.astype(np.float32), zero, stains)


def degrees(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def test_densities_are_those_of_scikit_image() -> None:
    found = np.stack(separate(COLOURS))[:, 0]
    assert found.dtype == np.float32
    assert np.maximum(found, 0) == pytest.approx(np.array(EXPECTED), rel=1e-5, abs=1e-6)


def test_optical_density() -> None:
    found = optical_density(np.array([[[255, 128, 0]]], dtype=np.uint8))[0, 0]
    assert found == pytest.approx([0.0, -np.log10(128 / 255), np.log10(255)], rel=1e-6)


@pytest.mark.parametrize("stains", [RUIFROK, OTHER])
def test_combine_gives_the_picture_back(stains: Stains) -> None:
    rgb = np.random.default_rng(2).integers(1, 256, (40, 50, 3)).astype(np.uint8)
    assert np.array_equal(combine(*separate(rgb, stains), stains), rgb)


def test_a_pure_stain_has_no_other() -> None:
    unit = np.array([[0.7]], dtype=np.float32)
    zero = np.zeros_like(unit)
    h, e, residual = separate(combine(unit, zero, zero, OTHER), OTHER)
    assert h[0, 0] == pytest.approx(0.7, abs=0.01)
    assert [e[0, 0], residual[0, 0]] == pytest.approx([0, 0], abs=0.01)


@pytest.mark.parametrize("stains", [OTHER, Stains((0.60, 0.70, 0.40), (0.25, 0.80, 0.55))])
def test_macenko_finds_the_vectors(stains: Stains) -> None:
    found = estimate_stains(stained(stains))
    assert degrees(found.haematoxylin, stains.haematoxylin) < 3
    assert degrees(found.eosin, stains.eosin) < 3


def test_macenko_does_not_mind_glass_ink_and_black() -> None:
    rgb = stained(OTHER)
    plain = estimate_stains(rgb)
    wide = np.vstack([rgb, np.full((300, 96, 3), 243, np.uint8), np.zeros((60, 96, 3), np.uint8)])
    found = estimate_stains(wide)
    assert found.haematoxylin == pytest.approx(plain.haematoxylin, rel=1e-12)
    assert found.strength == pytest.approx(plain.strength, rel=1e-12)


def test_strengths_follow_the_amount_of_stain() -> None:
    one, two = estimate_stains(stained(OTHER)), estimate_stains(stained(OTHER, scale=(1.5, 1.0)))
    assert two.strength[0] / one.strength[0] == pytest.approx(1.5, rel=0.05)
    assert two.strength[1] / one.strength[1] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    "rgb, message",
    [
        (np.full((50, 50, 3), 250, np.uint8), "0 stained pixels"),
        (np.zeros((50, 50, 3), np.uint8), "0 stained pixels"),
        (np.full((50, 50, 3), (150, 60, 160), np.uint8), "0.0° apart"),
    ],
)
def test_one_stain_or_none_is_said(rgb: np.ndarray, message: str) -> None:
    with pytest.raises(StainError, match=message):
        estimate_stains(rgb)


def test_normalisation_brings_two_stainings_together() -> None:
    source = Stains((0.60, 0.70, 0.40), (0.20, 0.80, 0.56))
    a, b = stained(OTHER), stained(source, scale=(0.7, 1.3))
    moved = normalise(b, to=estimate_stains(a))
    before, after = (float(np.abs(x.astype(float) - a).mean()) for x in (b, moved))
    assert after < before / 3
    found = estimate_stains(moved)
    assert degrees(found.eosin, OTHER.eosin) < 4


def test_a_white_tile_is_normalised_with_the_slides_stains() -> None:
    reference = estimate_stains(stained(OTHER))
    white = np.full((8, 8, 3), 255, np.uint8)
    with pytest.raises(StainError):
        normalise(white, to=reference)
    assert np.array_equal(normalise(white, to=reference, stains=reference), white)


def test_a_shift_multiplies_the_stains_and_leaves_the_residual() -> None:
    rgb = np.random.default_rng(3).integers(120, 250, (30, 30, 3)).astype(np.uint8)
    before = separate(rgb)
    after = separate(apply_shift(rgb, Shift((1.2, 0.8), (0.0, 0.0, 0.0))))
    # Rounding to bytes is up to 0.002 OD at these intensities, and twice that after unmixing.
    for b, a, factor in zip(before, after, (1.2, 0.8, 1.0), strict=True):
        inside = (a > 0.01) & (b > 0.01)
        assert np.abs(a - factor * b)[inside].max() < 0.01


def test_one_seed_is_one_staining() -> None:
    rgb = stained(OTHER)
    a, b, c = (stain_augment(rgb, np.random.default_rng(seed), 0.2) for seed in (5, 5, 6))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    factors = np.array([draw_shift(np.random.default_rng(s), 0.2).factor for s in range(400)])
    assert np.log(factors).std() == pytest.approx(0.2, rel=0.1)


def test_the_reason_of_a_failure_row() -> None:
    assert StainError("x").reason == "stain"


@pytest.mark.parametrize("rgb", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_only_colour_pictures_of_bytes(rgb: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match=r"uint8 \(h, w, 3\) is expected"):
        separate(rgb)


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: Stains((0.0, 0.0, 0.0), (0.1, 0.9, 0.1)), InvalidInputError),
        (lambda: Stains((0.6, 0.7, 0.3), (0.6, 0.7, 0.3)), StainError),
        (lambda: Stains((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)), StainError),
        (lambda: Stains((0.6, 0.7, 0.3), (0.1, 0.9, 0.1), strength=(0.0, 1.0)), InvalidInputError),
        (lambda: draw_shift(np.random.default_rng(1), -0.1), InvalidInputError),
    ],
)
def test_stains_that_are_none(make: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()  # type: ignore[operator]
