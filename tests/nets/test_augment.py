"""Augmentation: reproducible, label-preserving geometry, colours by their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from encoder_files import random_images
from torch import Tensor

from osml.errors import InvalidInputError
from osml.nets.augment import HISTOLOGY, RADIOGRAPH, STAINS, Augmentation, Prepare, augment, whole
from osml.nets.embeddings import views_of

STILL = Augmentation(flip=False, rotate_degrees=0.0, zoom=1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(colour: tuple[int, int, int], n: int = 50, size: int = 4) -> Tensor:
    """Pictures of one colour."""
    return torch.tensor(colour, dtype=torch.uint8).reshape(1, 3, 1, 1).expand(n, 3, size, size)


def test_without_changes_the_picture_stays() -> None:
    images = random_images(3, 20)
    assert augment(images, 20, STILL, generator()).numpy() == pytest.approx(images.numpy().astype(float), abs=1e-2)


@pytest.mark.parametrize("how", [Augmentation(), HISTOLOGY, RADIOGRAPH])
def test_the_seed_decides(how: Augmentation) -> None:
    images = random_images(4, 40)
    first, same, other = (augment(images, 32, how, generator(seed)) for seed in (1, 1, 2))
    assert first.shape == (4, 3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255


def test_every_picture_draws_its_own() -> None:
    images = random_images(1, 40).expand(6, -1, -1, -1)
    out = augment(images, 32, HISTOLOGY, generator())
    assert len({picture.numpy().tobytes() for picture in out}) == 6


def test_turns_are_the_eight_symmetries() -> None:
    image = random_images(1, 12)
    out = augment(image.expand(200, -1, -1, -1), 12, Augmentation(turn=True, rotate_degrees=0.0, zoom=1.0), generator())
    nearest = torch.cdist(out.flatten(1), views_of(image)[:, 0].float().flatten(1))
    assert float(nearest.min(dim=1).values.max()) < 0.5
    counts = np.bincount(nearest.argmin(dim=1).numpy(), minlength=8)
    # Each of 8 equally likely in 200 draws: 25 ± 4.7; beyond 5 deviations is no chance.
    assert counts.min() >= 2
    assert counts.max() <= 49


def test_a_flip_is_left_and_right() -> None:
    image = random_images(1, 12)
    out = augment(image.expand(40, -1, -1, -1), 12, Augmentation(rotate_degrees=0.0, zoom=1.0), generator())
    plain, mirrored = image[0].float(), image[0].flip(2).float()
    kinds = [torch.allclose(o, plain, atol=0.1) + 2 * torch.allclose(o, mirrored, atol=0.1) for o in out]
    assert set(kinds) == {1, 2}


def test_rotation_turns_by_no_more_than_asked() -> None:
    size = 101
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    image[..., 48:53, 88:93] = 255  # east of the centre
    how = Augmentation(flip=False, rotate_degrees=15.0, zoom=1.0)
    out = augment(image.expand(300, -1, -1, -1), size, how, generator())[:, 0]
    mass = out.sum(dim=(1, 2))
    steps = torch.arange(size) - 50.0
    x, y = (out.sum(1) * steps).sum(1) / mass, (out.sum(2) * steps).sum(1) / mass
    degrees = torch.rad2deg(torch.atan2(y, x))
    assert torch.hypot(x, y).numpy() == pytest.approx(40.0, abs=0.5)
    assert 14 < float(degrees.max()) < 15.5
    assert -15.5 < float(degrees.min()) < -14


def test_a_crop_lies_inside_and_has_at_least_its_share() -> None:
    ramp = torch.arange(0, 250, dtype=torch.uint8).reshape(1, 1, 1, 250).expand(200, 3, 250, 250)
    out = augment(ramp, 250, Augmentation(flip=False, rotate_degrees=0.0, zoom=0.6), generator())[:, 0, 125]
    width = (out[:, -1] - out[:, 0]) / 249
    assert 0.6 <= float(width.min()) < 0.65
    assert 0.95 < float(width.max()) <= 1.0
    assert float(out[:, 0].min()) >= 0
    assert float(out[:, -1].max()) <= 249


def test_stain_multiplies_densities() -> None:
    colour = (150, 90, 160)
    out = augment(flat(colour, 400), 4, Augmentation(False, False, 0.0, 1.0, stain=0.1), generator())
    matrix = np.array(STAINS) / np.linalg.norm(STAINS, axis=1, keepdims=True)
    density = -np.log10(out[:, :, 0, 0].double().numpy() / 255) @ np.linalg.inv(matrix)
    before = -np.log10(np.array(colour) / 255) @ np.linalg.inv(matrix)
    factor = np.log(density[:, :2] / before[:2])
    assert density[:, 2] == pytest.approx(before[2], abs=1e-4)
    assert factor.std(axis=0) == pytest.approx([0.1, 0.1], rel=0.2)
    assert factor.mean(axis=0) == pytest.approx([0, 0], abs=5 * 0.1 / math.sqrt(400))
    assert abs(np.corrcoef(factor.T)[0, 1]) < 0.25


def test_white_stays_white_in_any_stain() -> None:
    out = augment(flat((255, 255, 255)), 4, Augmentation(False, False, 0.0, 1.0, stain=0.5), generator())
    assert out.numpy() == pytest.approx(255.0, abs=1e-2)


def test_brightness_is_a_factor() -> None:
    out = augment(flat((100, 50, 20), 300), 4, Augmentation(False, False, 0.0, 1.0, brightness=0.2), generator())
    factor = out[:, :, 0, 0] / torch.tensor([100.0, 50.0, 20.0])
    assert factor.std(dim=1).numpy() == pytest.approx(0.0, abs=1e-5)
    assert 0.8 <= float(factor.min()) < 0.83
    assert 1.17 < float(factor.max()) <= 1.2 + 1e-6


def test_contrast_keeps_the_mean_and_saturation_the_brightness() -> None:
    images = random_images(20, 16) // 2 + 64
    plain = whole(images, 16)
    luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    contrast = augment(images, 16, Augmentation(False, False, 0.0, 1.0, contrast=0.3), generator())
    assert (contrast * luma).sum(1).mean((1, 2)).numpy() == pytest.approx(
        (plain * luma).sum(1).mean((1, 2)).numpy(), rel=1e-3
    )
    assert float((contrast - plain).abs().max()) > 5
    saturation = augment(images, 16, Augmentation(False, False, 0.0, 1.0, saturation=0.3), generator())
    assert (saturation * luma).sum(1).numpy() == pytest.approx((plain * luma).sum(1).numpy(), rel=1e-2)
    assert float((saturation - plain).abs().max()) > 5


def test_evaluation_shows_the_whole_picture_and_draws_nothing() -> None:
    images = random_images(2, 36)
    prepare = Prepare(32, HISTOLOGY)
    state = generator()
    before = state.get_state()
    assert torch.equal(prepare(images, None), whole(images, 32))
    assert torch.equal(Prepare(32)(images, state), whole(images, 32))
    assert torch.equal(state.get_state(), before)
    assert torch.equal(prepare(images, generator(3)), augment(images, 32, HISTOLOGY, generator(3)))
    corners = torch.zeros(1, 3, 36, 36, dtype=torch.uint8)
    corners[..., 0, 0] = 255
    assert float(whole(corners, 32)[0, 0, 0, 0]) > 50


@pytest.mark.parametrize(
    "settings",
    [
        {"zoom": 0.0},
        {"zoom": 1.1},
        {"rotate_degrees": -1.0},
        {"rotate_degrees": 181.0},
        {"brightness": 1.0},
        {"contrast": -0.1},
        {"saturation": 2.0},
        {"stain": -0.1},
        {"stain": math.nan},
    ],
)
def test_settings_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        Augmentation(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)])
def test_other_arrays_are_refused(images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match=r"uint8 \(n, 3, s, s\) is expected"):
        whole(images, 4)
