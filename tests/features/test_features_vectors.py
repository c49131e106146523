"""Vectors by tasks: the cache holds what this machine would have computed, and faults are told by whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_files import weights_file
from numpy.testing import assert_array_equal
from picture_kinds import plain

from osml.engine import Outcome
from osml.errors import InvalidInputError, OsmlError, WorkerLostError
from osml.features.vectors import VectorWork, embed_chunk, fill_cache
from osml.nets.embeddings import EmbeddingSettings, embed_images
from osml.nets.encoders import EncoderSettings, build_encoder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [plain(tmp_path / f"{seed}.png", seed) for seed in range(5)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [*paths, tmp_path / "broken.png", tmp_path / "none.png"]


@pytest.fixture
def work(tmp_path: Path) -> VectorWork:
    settings = EncoderSettings("test_efficientnet", weights_file(tmp_path, "test_efficientnet"), size=160)
    return VectorWork(settings, EmbeddingSettings(), tmp_path / "cache", "cpu")


def test_the_cache_holds_what_this_machine_would_compute(
    pictures: list[Path], work: VectorWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osml.features.vectors.far_away", lambda: True)
    monkeypatch.setattr("osml.features.vectors.CHUNK", 3)
    fill_cache(pictures, work, label="tiles", quiet=True)
    encoder = build_encoder(work.encoder)
    here = embed_images(pictures, encoder)
    read = embed_images(pictures, encoder, cache=work.cache)
    assert read.from_cache == 5
    assert_array_equal(read.values, here.values)
    assert [failure.index for failure in read.failures] == [5, 6]
    assert np.isfinite(read.values[:5]).all()


def test_without_a_cluster_nothing_is_done(pictures: list[Path], work: VectorWork) -> None:
    fill_cache(pictures * 20, work, label="tiles", quiet=True)
    assert not work.cache.exists()


@pytest.mark.parametrize("error", [None, WorkerLostError("died twice"), InvalidInputError("no such encoder")])
def test_a_lost_task_is_left_to_this_machine_and_a_fault_is_raised(
    error: OsmlError | None, pictures: list[Path], work: VectorWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def run(function: Any, items: list[Any], **_: Any) -> list[Outcome]:
        given.append((function.func, function.args, items))
        return [Outcome(0, error=error), Outcome(1)]

    monkeypatch.setattr("osml.features.vectors.far_away", lambda: True)
    monkeypatch.setattr("osml.features.vectors.CHUNK", 4)
    monkeypatch.setattr("osml.features.vectors.run_tasks", run)
    if isinstance(error, InvalidInputError):
        with pytest.raises(InvalidInputError, match="no such encoder"):
            fill_cache(pictures, work, label="tiles", quiet=True)
    else:
        fill_cache(pictures, work, label="tiles", quiet=True)
    assert given == [(embed_chunk, (work,), [tuple(pictures[:4]), tuple(pictures[4:])])]
