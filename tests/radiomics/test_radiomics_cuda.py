"""Texture counted in torch beside the compiled kernels."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from helpers import require
from radiomics_data import blob

from osml.errors import InvalidInputError, MissingExtraError
from osml.radiomics import Settings, cuda, extract
from osml.radiomics.cuda import Levels, device_for, levels_of, texture_matrices
from osml.radiomics.kernels import neighbour_counts, run_counts, zones
from osml.radiomics.regions import box_of

RINGS = {"regions": ("tumour", "0-2mm", "tumour+2mm"), "leaving": "clip", "filters": ("original", "wavelet")}


@pytest.fixture
def torch_there() -> None:
    if importlib.util.find_spec("torch") is None:
        require("torch", "torch is not installed")


@pytest.fixture
def card(torch_there: None) -> None:
    import torch

    if not torch.cuda.is_available():
        require("gpu", "no CUDA card")


def scattered(count: int) -> list[Levels]:
    """Regions of all kinds: thin, full, speckled, within slices only, with gaps between their levels."""
    rng = np.random.default_rng(1)
    out = []
    for k in range(count):
        shape = tuple(rng.integers(1, 10, 3)) if k % 3 else tuple(rng.integers(8, 20, 3))
        inside = rng.random(shape) < rng.uniform(0.05, 1)
        inside.flat[0] = True
        inside = np.ascontiguousarray(inside[tuple(map(slice, *box_of(inside)))])
        level = rng.integers(1, rng.integers(2, 9), int(inside.sum())) * rng.integers(1, 4)
        out.append(levels_of(inside, level, k % 4 == 0))
    single = np.ones((1, 1, 1), dtype=bool)
    return [*out, levels_of(single, np.array([3]), False)]


def assert_counts_of_the_kernels(items: list[Levels], device: str) -> None:
    for item, found in zip(items, texture_matrices(items, device), strict=True):
        glcm, gldm, count, difference = neighbour_counts(item.flat, item.voxels, item.steps, item.grey)
        assert np.array_equal(found.glcm, glcm)
        assert np.array_equal(found.gldm, gldm)
        assert np.array_equal(found.count, count)
        assert found.difference == pytest.approx(difference, rel=1e-12, abs=1e-12)
        assert np.array_equal(found.runs, run_counts(item.flat, item.voxels, item.steps, item.grey.size, item.longest))
        alone = [step for step, d in zip(item.steps, item.directions, strict=True) if sum(map(abs, d)) == 1]
        level, size = zones(item.flat, item.voxels, item.steps, int(max(alone, default=1)))
        expected = sorted(zip(level.tolist(), size.tolist(), strict=True))
        assert sorted(zip(found.zone_level.tolist(), found.zone_size.tolist(), strict=True)) == expected


@pytest.mark.usefixtures("torch_there")
def test_counts_are_those_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    items = scattered(40)
    assert_counts_of_the_kernels(items, "cpu")
    assert_counts_of_the_kernels(items[-1:], "cpu")
    # The batch must not matter.
    monkeypatch.setattr(cuda, "BATCH_VOXELS", 300)
    assert_counts_of_the_kernels(items, "cpu")


@pytest.mark.usefixtures("torch_there")
@pytest.mark.parametrize("spacing", [(0.9, 1.1, 2.5), (0.9, 1.1)])
@pytest.mark.parametrize("extra", [{}, {"bin_count": 12, "in_plane": True}, {"classes": ("shape", "glszm", "ngtdm")}])
def test_the_table_is_that_of_the_kernels(
    monkeypatch: pytest.MonkeyPatch, spacing: tuple[float, ...], extra: dict[str, object]
) -> None:
    batch = cuda.batch_features
    monkeypatch.setattr(cuda, "device_for", lambda *_: "cuda")
    monkeypatch.setattr(cuda, "batch_features", lambda *a: batch(*a[:-1], "cpu"))
    image, mask = blob(spacing)
    ours, theirs = (extract(image, mask, Settings(**RINGS, **extra, device=device)) for device in ("cpu", "cuda"))
    assert list(ours) == list(theirs)
    a, b = (table.iloc[:, 1:].to_numpy(dtype=float) for table in (ours, theirs))
    assert b == pytest.approx(a, rel=1e-9, nan_ok=True)


@pytest.mark.gpu
@pytest.mark.usefixtures("card")
def test_a_card_counts_as_the_kernels() -> None:
    assert_counts_of_the_kernels(scattered(40), "cuda")
    ours, theirs = (extract(*blob(), Settings(**RINGS, device=device)) for device in ("cpu", "cuda"))
    a, b = (table.iloc[:, 1:].to_numpy(dtype=float) for table in (ours, theirs))
    assert b == pytest.approx(a, rel=1e-9, nan_ok=True)


def test_the_device_is_chosen_by_the_work_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_for("cpu", 10**9) == "cpu"
    assert device_for("auto", 1000) == "cpu"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert device_for("auto", 10**9) == "cpu"
    with pytest.raises(MissingExtraError, match="torch is not installed"):
        device_for("cuda", 1)


@pytest.mark.usefixtures("torch_there")
def test_a_card_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_for("auto", 10**9) == "cpu"
    with pytest.raises(InvalidInputError, match="no CUDA card"):
        device_for("cuda", 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_for("auto", 10**9) == "cuda"


def test_pyradiomics_runs_on_the_cpu_only() -> None:
    with pytest.raises(InvalidInputError, match="belongs to `engine: osml`"):
        Settings(engine="pyradiomics", device="cuda")
