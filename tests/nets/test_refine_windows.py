"""Windows over maps of any size: exact places, weights that add up, padding, glass left alone; resizing to cells."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.nets.refine_maps import MapSpec, check_map, nearest, shrink
from osml.nets.refine_windows import Windows, blend, shares, starts

SPEC = MapSpec(("BG", "VT", "NC"), 16.0)
Places = list[tuple[int, int]]


def random_map(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = np.moveaxis(rng.dirichlet(np.ones(3), (height, width)), -1, 0).astype(np.float32)
    return coarse, rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(maps: np.ndarray, _: np.ndarray, __: Places) -> np.ndarray:
    return maps


@given(size=st.integers(1, 700), side=st.integers(2, 160), part=st.floats(0, 0.9))
def test_windows_cover_an_axis_and_weigh_one(size: int, side: int, part: float) -> None:
    overlap = int(part * (side - 1))
    first, weights = starts(size, side, overlap), shares(size, side, overlap)
    assert first[0] == 0
    assert first[-1] + len(weights[-1]) == size
    total = np.zeros(size)
    for at, weight in zip(first, weights, strict=True):
        assert (weight > 0).all()
        total[at : at + len(weight)] += weight
    assert_allclose(total, 1.0, rtol=1e-12)
    assert all(b - a <= side - overlap for a, b in pairwise(first))


def test_weights_fade_towards_a_seam_without_a_jump() -> None:
    left, right = shares(224, 128, 32)
    assert_allclose(left[:96], 1.0)
    assert_allclose(left[96:] + right[:32], 1.0)
    assert (np.diff(left[96:]) < 0).all()
    assert np.abs(np.diff(left)).max() < 0.06


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (31, 33), (64, 64), (100, 37)])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_windows_leave_alone_comes_out_as_it_went_in(shape: tuple[int, int], batch: int) -> None:
    coarse, image = random_map(*shape)
    found = blend(same, coarse, image, Windows(32, 8, 8), batch=batch, out=None)
    assert_allclose(found, coarse, atol=2e-7)


def test_pictures_and_places_are_those_of_the_window() -> None:
    coarse, image = random_map(70, 50)
    image[..., 0], image[..., 1] = np.arange(70)[:, None], np.arange(50)

    def look(maps: np.ndarray, pictures: np.ndarray, places: Places) -> np.ndarray:
        for p, picture, (row, column) in zip(maps, pictures, places, strict=True):
            assert picture.shape == (*p.shape[1:], 3)
            assert (picture[0, 0, 0], picture[0, 0, 1]) == (row, column)
            assert_array_equal(p[:, 0, 0], coarse[:, row, column])
        return maps

    blend(look, coarse, image, Windows(32, 8, 8), batch=2, out=None)


@pytest.mark.parametrize("side, overlap", [(32, 0), (32, 8), (48, 16)])
def test_a_mark_of_one_cell_stays_at_its_place_at_every_seam(side: int, overlap: int) -> None:
    """A step answers with the picture's red, 255 where the mark is: that cell comes out in full, and no other."""
    coarse, image = random_map(100, 90)

    def answer(maps: np.ndarray, pictures: np.ndarray, _: Places) -> np.ndarray:
        red = pictures[..., 0].astype(np.float32) / 255
        return np.stack([1 - red, red, np.zeros_like(red)], axis=1)

    windows = Windows(side, overlap, 8)
    seams = {
        (r + d, c + d) for r in starts(100, side, overlap) for c in starts(90, side, overlap) for d in (0, side - 1)
    }
    for row, column in sorted(seams):
        row, column = min(row, 99), min(column, 89)
        image[:] = 0
        image[row, column, 0] = 255
        found = blend(answer, coarse, image, windows, batch=4, out=None)
        assert np.argwhere(found[1] > 0.01).tolist() == [[row, column]]
        assert found[1, row, column] == pytest.approx(1.0, abs=1e-6)


def test_windows_of_certain_glass_are_not_computed() -> None:
    coarse, image = np.zeros((3, 200, 64), dtype=np.float32), np.zeros((200, 64, 3), dtype=np.uint8)
    coarse[0] = 1.0
    coarse[:, :10] = 1 / 3
    rows: list[int] = []

    def turn(maps: np.ndarray, _: np.ndarray, places: Places) -> np.ndarray:
        rows.extend(row for row, _ in places)
        return maps[:, ::-1]

    found = blend(turn, coarse, image, Windows(64, 16, 8), batch=8, out=None)
    assert rows == [0]
    assert_array_equal(found[0, 64:], 1.0)
    # Two classes that are both certain, each somewhere, are a border to refine.
    coarse[:, :10] = np.array([0.0, 1.0, 0.0])[:, None, None]
    rows.clear()
    blend(turn, coarse, image, Windows(64, 16, 8), batch=8, out=None)
    assert rows == [0]


def test_sides_given_to_a_network_are_multiples() -> None:
    shapes: set[tuple[int, ...]] = set()

    def note(maps: np.ndarray, _: np.ndarray, __: Places) -> np.ndarray:
        shapes.add(maps.shape[2:])
        return maps

    for height, width in ((5, 40), (64, 30), (100, 65)):
        blend(note, *random_map(height, width), Windows(32, 8, 8), batch=1, out=None)
    assert shapes == {(8, 32), (32, 32)}


def test_a_result_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    coarse, image = random_map(90, 70)
    kept = np.lib.format.open_memmap(tmp_path / "p.npy", mode="w+", dtype=np.float32, shape=coarse.shape)
    kept[:] = 5.0
    found = blend(same, coarse, image, Windows(32, 8, 8), batch=2, out=kept)
    assert found is kept
    assert_array_equal(kept, blend(same, coarse, image, Windows(32, 8, 8), batch=2, out=None))
    with pytest.raises(InvalidInputError, match="out has shape"):
        blend(same, coarse, image, Windows(32, 8, 8), batch=2, out=np.zeros((3, 5, 5)))


@pytest.mark.parametrize("side, overlap, factor", [(32, 32, 8), (30, 8, 8), (32, -1, 8)])
def test_windows_that_do_not_fit_are_refused(side: int, overlap: int, factor: int) -> None:
    with pytest.raises(InvalidInputError, match="windows of"):
        Windows(side, overlap, factor)


def test_labels_are_resized_by_the_nearest_cell() -> None:
    """Centres of 4 cells over 6 lie at 0.75, 2.25, 3.75 and 5.25."""
    assert nearest(np.arange(6)[None], 1, 4).tolist() == [[0, 2, 3, 5]]
    tiles = np.array([[[1, 2], [3, 4]]])
    assert_array_equal(nearest(tiles, 16, 16), np.repeat(np.repeat(tiles, 8, axis=1), 8, axis=2))


def test_pictures_are_shrunk_to_the_mean_of_what_a_cell_covers() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    means = image.reshape(8, 8, 12, 8, 3).mean(axis=(1, 3))
    assert np.abs(shrink(image, 8, 12) - means).max() <= 1.0  # rows and columns are rounded in turn
    assert (shrink(np.full((70, 50, 3), 200, dtype=np.uint8), 9, 7) == 200).all()
    with pytest.raises(InvalidInputError, match="expected uint8"):
        shrink(image.astype(float), 8, 12)  # type: ignore[arg-type]


def test_maps_that_are_none_are_refused() -> None:
    coarse, image = random_map(6, 5)
    check_map(coarse, image, SPEC)
    with pytest.raises(InvalidInputError, match=r"expected floats \(3, h, w\), one plane per class of BG, VT, NC"):
        check_map(coarse[:2], image, SPEC)
    with pytest.raises(InvalidInputError, match="cells of the coarse map"):
        check_map(coarse, image[:4], SPEC)
    with pytest.raises(InvalidInputError, match="no probabilities"):
        check_map(np.log(coarse), image, SPEC)
    missing = coarse.copy()
    missing[0, 2, 2] = np.nan
    with pytest.raises(InvalidInputError, match="no probabilities"):
        check_map(missing, image, SPEC)
    with pytest.raises(InvalidInputError, match="different names"):
        MapSpec(("a", "a"), 16.0)
