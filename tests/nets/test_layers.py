"""Vectors from the middle of an encoder, stained copies for training, and z-scores of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_files import picture_files, random_images, weights_file

from osml.errors import InvalidInputError
from osml.nets.batches import first_view, random_view
from osml.nets.branches import Standard
from osml.nets.embeddings import EmbeddingSettings, embed_images
from osml.nets.encoders import Encoder, EncoderSettings, build_encoder
from osml.nets.gradcam import grad_cam
from osml.nets.recipe import Modality

LAYERS = ("blocks.1", "blocks.2")
STAINED = EmbeddingSettings(orientation="free", stain=3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("weights")
    weights = weights_file(folder, "test_efficientnet")
    return build_encoder(EncoderSettings("test_efficientnet", weights, size=64, layers=LAYERS))


def test_the_vector_is_mean_and_sd_of_the_layers_maps(encoder: Encoder) -> None:
    images = random_images(3, 64)
    kept: list[torch.Tensor] = []
    handles = [
        dict(encoder.backbone.named_modules())[name].register_forward_hook(lambda _m, _i, out: kept.append(out))
        for name in LAYERS
    ]
    with torch.inference_mode():
        vectors = encoder(images)
    for handle in handles:
        handle.remove()
    flat = [one.flatten(2) for one in kept]
    expected = torch.cat([part for one in flat for part in (one.mean(2), one.std(2, correction=0))], dim=1)
    assert vectors.shape == (3, encoder.width)
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=2e-3)


def test_a_layer_that_does_not_exist_is_named(tmp_path: Path) -> None:
    weights = weights_file(tmp_path, "test_efficientnet")
    with pytest.raises(InvalidInputError, match=r"no layer 'blocks\.17'[\s\S]*Did you mean 'blocks\.1"):
        build_encoder(EncoderSettings("test_efficientnet", weights, size=64, layers=("blocks.17",)))


def test_threads_do_not_mix_up_the_maps_of_batches(encoder: Encoder, tmp_path: Path) -> None:
    paths = picture_files(tmp_path, 24, (64, 64))
    one = embed_images(paths, encoder, STAINED, workers=1).values
    many = embed_images(paths, encoder, STAINED, workers=4).values
    np.testing.assert_array_equal(one, many)


def test_the_first_view_is_the_picture_and_the_others_are_stained_anew(encoder: Encoder, tmp_path: Path) -> None:
    paths = picture_files(tmp_path, 3, (64, 64))
    stained = embed_images(paths, encoder, STAINED, cache=tmp_path / "cache").values
    plain = embed_images(paths, encoder, STAINED.for_prediction()).values
    assert stained.shape == (3, 4, encoder.width)
    assert plain.shape == (3, 1, encoder.width)
    np.testing.assert_array_equal(stained[:, :1], plain)
    for copy in range(1, 4):
        assert np.all(np.abs(stained[:, copy] - stained[:, 0]).max(axis=1) > 1e-3)
    assert np.abs(stained[:, 1] - stained[:, 2]).max() > 1e-3, "copies must differ among themselves"
    again = embed_images(paths[::-1], encoder, STAINED).values[::-1]
    np.testing.assert_array_equal(again, stained, err_msg="copies depend on the picture alone")
    other = embed_images(paths, encoder, EmbeddingSettings(orientation="free", stain=1), cache=tmp_path / "cache")
    assert other.from_cache == 0, "other settings are another entry of the cache"


def test_prediction_takes_the_first_view_and_training_any() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    torch.testing.assert_close(first_view(values, None), values[:, 0])
    drawn = [first_view(values, torch.Generator().manual_seed(k)) for k in range(20)]
    assert {float(one[0, 0]) for one in drawn} == {0.0, 2.0, 4.0}
    torch.testing.assert_close(random_view(values, None), values.mean(dim=1))


def test_without_copies_prediction_is_unchanged() -> None:
    free = EmbeddingSettings(orientation="free")
    assert free.for_prediction() == free
    assert (free.views, STAINED.views, STAINED.for_prediction().views) == (8, 4, 1)


def test_a_map_of_middle_layers_finds_what_raises_the_score(encoder: Encoder) -> None:
    images = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    images[0, :, 40:56, 8:24] = noise
    half = encoder.width // 2
    with torch.inference_mode():  # what the texture adds to the standard deviations of the second layer
        change = encoder(images) - encoder(torch.full_like(images, 128))
    weights = torch.where(torch.arange(encoder.width) >= half, change[0], torch.zeros(encoder.width)).clone()
    found = grad_cam(encoder, images, lambda vectors: vectors @ weights)
    y, x = np.unravel_index(int(found.maps[0].argmax()), found.maps[0].shape)
    assert 36 <= y < 60
    assert 4 <= x < 28


def test_vectors_are_z_scores_of_the_training_pictures_within_six() -> None:
    standard = Standard(Modality("tile", "embedding", 2, centre=(1.0, -1.0), spread=(2.0, 0.5)))
    found = standard(torch.tensor([[3.0, -1.0], [1000.0, -1.25]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [6.0, -0.5]]))
    plain = torch.tensor([[3.0, 1000.0]])
    torch.testing.assert_close(Standard(Modality("tile", "embedding", 2))(plain), plain)


def test_means_and_spreads_belong_together() -> None:
    with pytest.raises(InvalidInputError, match="of width 3 has 2 means"):
        Modality("tile", "embedding", 3, centre=(0.0, 0.0), spread=(1.0, 1.0))
