"""Embeddings: the same in any batch, order and process; views and crops; cache; failures as rows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_files import picture_files, tiny_encoder, weights_file
from PIL import Image

from osml.errors import InvalidInputError
from osml.nets import embeddings as module
from osml.nets.embeddings import EmbeddingSettings, embed_images, views_of
from osml.nets.encoders import Encoder, EncoderSettings, build_encoder
from osml.nets.images import crops, decode, fit

NATIVE = EmbeddingSettings(scale="native")
FREE = EmbeddingSettings(orientation="free")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("weights"), size=64)


def by_hand(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    """Vectors of uint8 (n, s, s, 3), all in one batch."""
    with torch.inference_mode():
        return encoder(torch.tensor(pixels).permute(0, 3, 1, 2)).numpy()


def test_vectors_are_the_encoders(tmp_path: Path, encoder: Encoder) -> None:
    paths = picture_files(tmp_path, 5)
    found = embed_images(paths, encoder)
    expected = by_hand(encoder, np.stack([fit(decode(p), 64) for p in paths]))
    assert found.values.shape == (5, 1, encoder.width)
    assert found.values[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert found.failures == ()


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_resnet"])
@pytest.mark.parametrize("settings", [EmbeddingSettings(), NATIVE, FREE])
def test_threads_order_and_company_change_no_bit(tmp_path: Path, model: str, settings: EmbeddingSettings) -> None:
    encoder = tiny_encoder(tmp_path, model, size=64)
    paths = picture_files(tmp_path, 7, (130, 90))
    first = embed_images(paths, encoder, settings).values
    assert np.isfinite(first).all()
    for workers in (1, 3):
        assert np.array_equal(first, embed_images(paths, encoder, settings, workers=workers).values)
    assert np.array_equal(first[::-1], embed_images(paths[::-1], encoder, settings).values)
    alone = [embed_images([path], encoder, settings).values[0] for path in paths]
    assert np.array_equal(first, np.stack(alone))
    for batch in (1, 3, 64):
        other = embed_images(paths, encoder, settings, batch=batch).values
        assert other == pytest.approx(first, rel=1e-4, abs=1e-5 * float(np.abs(first).max()))


def test_torch_keeps_its_threads(tmp_path: Path, encoder: Encoder) -> None:
    paths, before = picture_files(tmp_path, 3), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        on_two = embed_images(paths, encoder).values
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert np.array_equal(on_two, embed_images(paths, encoder).values)
    finally:
        torch.set_num_threads(before)


def test_native_scale_is_mean_and_maximum_over_crops(tmp_path: Path, encoder: Encoder) -> None:
    (path,) = picture_files(tmp_path, 1, (130, 90))
    found = embed_images([path], encoder, NATIVE)
    pieces = by_hand(encoder, crops(decode(path), 64))
    assert len(pieces) == 6
    assert found.values.shape == (1, 1, 2 * encoder.width) == (1, 1, NATIVE.width(encoder))
    assert found.values[0, 0] == pytest.approx(np.concatenate([pieces.mean(0), pieces.max(0)]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("scale", ["resize", "native"])
@pytest.mark.parametrize("turn", ["quarter", "mirror"])
def test_a_turned_picture_has_the_same_views(tmp_path: Path, encoder: Encoder, scale: str, turn: str) -> None:
    (path,) = picture_files(tmp_path, 1, (130, 130))
    pixels = decode(path)
    Image.fromarray(np.rot90(pixels) if turn == "quarter" else pixels[:, ::-1]).save(tmp_path / "turned.png")
    settings = EmbeddingSettings(scale, "free")  # type: ignore[arg-type]
    values = embed_images([path, tmp_path / "turned.png"], encoder, settings).values
    assert values.shape == (2, 8, settings.width(encoder))
    ordered = [v[v[:, 0].argsort()] for v in values]
    # Shrinking a turned picture differs by one count here and there.
    spread = float(np.ptp(values[0], axis=0).max())
    assert ordered[0] == pytest.approx(ordered[1], abs=(0.1 if scale == "resize" else 1e-4) * spread)


def test_views_are_the_eight_symmetries() -> None:
    image = torch.arange(2 * 3 * 9, dtype=torch.uint8).reshape(2, 3, 3, 3)
    views = views_of(image)
    assert views.shape == (8, 2, 3, 3, 3)
    assert len({view.numpy().tobytes() for view in views}) == 8
    assert torch.equal(views[0], image)
    again = {view.numpy().tobytes() for view in views_of(views[5])}
    assert again == {view.numpy().tobytes() for view in views}


def test_the_second_time_nothing_is_computed(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = picture_files(tmp_path, 4)
    first = embed_images(paths, encoder, FREE, cache=tmp_path / "cache")
    assert first.from_cache == 0
    monkeypatch.setattr(module, "decode", lambda path: pytest.fail(f"decoded {path}"))
    paths[1] = paths[1].rename(tmp_path / "renamed.png")
    again = embed_images(paths, encoder, FREE, cache=tmp_path / "cache")
    assert again.from_cache == 4
    assert np.array_equal(first.values, again.values)
    assert first.hashes == again.hashes


def test_what_changes_the_vectors_changes_the_key(tmp_path: Path, encoder: Encoder) -> None:
    paths, cache = picture_files(tmp_path, 2), tmp_path / "cache"
    embed_images(paths, encoder, cache=cache)
    weights = weights_file(tmp_path, "test_efficientnet", seed=5)
    others = [
        (encoder, NATIVE),
        (encoder, FREE),
        (build_encoder(EncoderSettings("test_efficientnet", weights, size=64)), EmbeddingSettings()),
        (tiny_encoder(tmp_path, "test_resnet", size=64), EmbeddingSettings()),
        (tiny_encoder(tmp_path, size=72), EmbeddingSettings()),
    ]
    for other, settings in others:
        assert embed_images(paths, other, settings, cache=cache).from_cache == 0
    assert embed_images(paths, encoder, cache=cache).from_cache == 2
    Image.fromarray(np.full((99, 99, 3), 7, dtype=np.uint8)).save(paths[0])
    assert embed_images(paths, encoder, cache=cache).from_cache == 1


def test_a_damaged_cache_file_is_computed_again(tmp_path: Path, encoder: Encoder) -> None:
    paths, cache = picture_files(tmp_path, 1), tmp_path / "cache"
    first = embed_images(paths, encoder, cache=cache)
    (kept,) = cache.rglob("*.f32")
    kept.write_bytes(kept.read_bytes()[:-4] + b"evil")
    again = embed_images(paths, encoder, cache=cache)
    assert again.from_cache == 0
    assert np.array_equal(first.values, again.values)


def test_failures_are_rows_and_stop_nothing(tmp_path: Path, encoder: Encoder) -> None:
    paths = picture_files(tmp_path, 5, (70, 70))
    paths[1].write_bytes(b"broken")
    paths[3] = tmp_path / "none.png"
    Image.fromarray(np.zeros((20, 90, 3), dtype=np.uint8)).save(paths[4])
    found = embed_images(paths, encoder, NATIVE, cache=tmp_path / "cache")
    assert [(f.index, f.reason) for f in found.failures] == [(1, "unreadable"), (3, "unreadable"), (4, "dimension")]
    assert np.isnan(found.values).all(axis=(1, 2)).tolist() == [False, True, False, True, True]
    assert [h is None for h in found.hashes] == [False, True, False, True, True]
    whole = embed_images([paths[0], paths[2]], encoder, NATIVE)
    assert np.array_equal(found.values[[0, 2]], whole.values)


def test_no_pictures_no_vectors(encoder: Encoder) -> None:
    assert embed_images([], encoder).values.shape == (0, 1, encoder.width)


def test_progress_counts_every_picture(tmp_path: Path, encoder: Encoder) -> None:
    from osml.engine import Progress

    paths = picture_files(tmp_path, 4)
    embed_images(paths[:2], encoder, cache=tmp_path / "cache")
    paths[3].write_bytes(b"broken")
    with Path(os.devnull).open("w") as nowhere:
        progress = Progress("embed", 4, nowhere)
        embed_images(paths, encoder, cache=tmp_path / "cache", progress=progress)
    assert progress.done == 4


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_only_frozen_encoders(tmp_path: Path, tune: str) -> None:
    with pytest.raises(InvalidInputError, match=f"tune: {tune}"):
        embed_images([], tiny_encoder(tmp_path, tune=tune))


def test_settings_are_checked(encoder: Encoder) -> None:
    with pytest.raises(InvalidInputError, match="scale 'tile'"):
        EmbeddingSettings(scale="tile")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="orientation 'any'"):
        EmbeddingSettings(orientation="any")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="batch of 0"):
        embed_images([], encoder, batch=0)
