"""Grad-CAM: the class activation map where both exist, a planted patch, transformers, other inputs held fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_files import TINY_SIZE, random_images, tiny_encoder
from torch import Tensor
from torch.nn import functional

from osml.errors import InvalidInputError, NotEstimableError
from osml.nets.encoders import Encoder
from osml.nets.gradcam import GradCam, fit_maps, grad_cam

SIZE = 96
PATCH = 24


def with_patches(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Dim noise; every other picture has a bright square at a random place. Pictures, labels, corners (y, x)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(40, 90, (n, 3, SIZE, SIZE), dtype=np.uint8)
    corners = rng.integers(0, SIZE - PATCH, (n, 2))
    for picture, (y, x) in zip(images[::2], corners[::2], strict=True):
        picture[:, y : y + PATCH, x : x + PATCH] = 235
    labels = (np.arange(n) % 2 == 0).astype(np.float32)
    return torch.tensor(images), torch.tensor(labels), torch.tensor(corners)


def trained_on_patches(encoder: Encoder, steps: int, rate: float) -> torch.nn.Linear:
    """The encoder and a head that tell pictures with a patch from those without."""
    torch.manual_seed(0)
    head = torch.nn.Linear(encoder.width, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=rate)
    encoder.train()
    for step in range(steps):
        images, labels, _ = with_patches(16, 100 + step)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(head(encoder(images))[:, 0], labels).backward()
        optimizer.step()
    encoder.eval()
    return head.requires_grad_(False)


def share_on_patch(cam: GradCam, corners: Tensor) -> np.ndarray:
    """Of each picture, whether the map's peak lies on the patch, one cell of the layer's grid allowed around it."""
    cell = SIZE // cam.grid[0]
    peaks = cam.maps.reshape(len(cam.maps), -1).argmax(1)
    places = np.stack([peaks // SIZE, peaks % SIZE], axis=1)
    low, high = corners.numpy() - cell, corners.numpy() + PATCH + cell
    return ((places >= low) & (places < high)).all(axis=1)


@pytest.mark.full
@pytest.mark.parametrize("model, steps, rate", [("test_resnet", 40, 2e-3), ("test_vit", 120, 1e-3)])
def test_the_map_peaks_on_the_patch_that_drives_the_network(
    tmp_path: Path, model: str, steps: int, rate: float
) -> None:
    encoder = tiny_encoder(tmp_path, model, tune="full", size=SIZE)
    head = trained_on_patches(encoder, steps, rate)
    images, labels, corners = with_patches(40, 1)
    cam = grad_cam(encoder, images, lambda vectors: head(vectors)[:, 0])
    with_patch = labels.numpy() == 1
    assert cam.scores[with_patch].min() > cam.scores[~with_patch].max()
    hits = share_on_patch(cam, corners)
    assert hits[with_patch].mean() >= 0.9
    # A place at random lies within the patch and its margin about a quarter of the time.
    assert hits[~with_patch].mean() < 0.6


def test_it_is_the_class_activation_map_behind_average_pooling(tmp_path: Path) -> None:
    # A linear score w of averaged features F has gradient w / (rows · columns) everywhere: CAM of Zhou et al. 2016.
    encoder, images = tiny_encoder(tmp_path, "test_resnet"), random_images(3)
    weights = torch.randn(encoder.width, generator=torch.Generator().manual_seed(0))
    cam = grad_cam(encoder, images, lambda vectors: vectors @ weights)
    with torch.inference_mode():
        features = encoder.backbone.forward_features(encoder.normalised(images))  # type: ignore[operator]
        scores = encoder(images) @ weights
    expected = torch.einsum("nchw,c->nhw", features, weights).clamp(min=0) / features[0, 0].numel()
    assert cam.grid == (5, 5) == tuple(expected.shape[1:])
    assert cam.peak == pytest.approx(expected.amax((1, 2)).numpy(), rel=1e-4)
    assert cam.scores == pytest.approx(scores.numpy(), rel=1e-4)
    relative = expected / expected.amax((1, 2), keepdim=True)
    large = functional.interpolate(relative[:, None], (TINY_SIZE, TINY_SIZE), mode="bilinear")[:, 0]
    assert cam.maps == pytest.approx(large.numpy(), abs=1e-4)


@pytest.mark.parametrize("model", ["test_vit", "test_mambaout", "test_convnext", "test_efficientnet"])
def test_maps_of_other_networks(tmp_path: Path, model: str) -> None:
    encoder, images = tiny_encoder(tmp_path, model), random_images(2)
    cam = grad_cam(encoder, images, lambda vectors: vectors.square().sum(1))
    assert cam.maps.shape == (2, TINY_SIZE, TINY_SIZE)
    assert cam.grid == ((10, 10) if model == "test_vit" else (5, 5))
    assert float(cam.maps.min()) >= 0
    assert float(cam.maps.max()) <= 1
    assert cam.peak.max() > 0


def test_prefix_tokens_are_no_part_of_the_map(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path, "test_vit"), random_images(2)
    norm = encoder.backbone.blocks[-1].norm1  # type: ignore[index, union-attr]
    kept: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = encoder(images.float().requires_grad_())[:, 3].sum()
    handle.remove()
    (slope,) = torch.autograd.grad(score, kept[0])
    weights = slope[:, 1:].mean(dim=1)
    expected = torch.einsum("npc,nc->np", kept[0][:, 1:], weights).clamp(min=0).amax(1)
    assert grad_cam(encoder, images, lambda v: v[:, 3]).peak == pytest.approx(expected.detach().numpy(), rel=1e-3)


def test_pictures_do_not_see_each_other(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path, "test_resnet"), random_images(3)
    together = grad_cam(encoder, images, lambda v: v.square().sum(1))
    alone = [grad_cam(encoder, image[None], lambda v: v.square().sum(1)).maps[0] for image in images]
    assert together.maps == pytest.approx(np.stack(alone), abs=1e-4)


def test_other_inputs_are_held_fixed(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path, "test_resnet"), random_images(2)
    labs = torch.tensor([0.0, 10.0])
    plain = grad_cam(encoder, images, lambda v: v.sum(1))
    shifted = grad_cam(encoder, images, lambda v: v.sum(1) + labs)
    assert np.array_equal(plain.maps, shifted.maps)
    assert shifted.scores - plain.scores == pytest.approx([0.0, 10.0], abs=1e-4)
    scaled = grad_cam(encoder, images, lambda v: v.sum(1) * labs)
    assert scaled.peak[0] == 0
    assert not scaled.maps[0].any()
    assert scaled.peak[1] == pytest.approx(10 * plain.peak[1], rel=1e-4)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_the_encoder_is_left_as_it_was(tmp_path: Path, tune: str) -> None:
    encoder = tiny_encoder(tmp_path, "test_vit", tune=tune)
    encoder.train()
    mode, before = encoder.training, {name: value.clone() for name, value in encoder.state_dict().items()}
    grad_cam(encoder, random_images(2), lambda v: v.sum(1))
    assert encoder.training == mode
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_it_works_where_gradients_are_off(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path), random_images(1)
    with torch.no_grad():
        assert grad_cam(encoder, images, lambda v: v.square().sum(1)).peak[0] > 0


def test_scores_are_checked(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path), random_images(2)
    with pytest.raises(InvalidInputError, match=r"\(2, 256\); one score per picture"):
        grad_cam(encoder, images, lambda v: v)
    with pytest.raises(InvalidInputError, match="does not depend"):
        grad_cam(encoder, images, lambda v: torch.zeros(2))
    with pytest.raises(NotEstimableError, match="not finite"):
        grad_cam(encoder, images, lambda v: v.sum(1) * torch.nan)
    assert not encoder.training


def test_maps_are_stretched_over_the_picture() -> None:
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    assert fit_maps(maps, (16, 24)).shape == (2, 16, 24)
    assert np.array_equal(fit_maps(maps, (8, 8)), maps)
