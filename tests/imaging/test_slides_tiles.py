"""Tissue, the grid of tiles, and batches of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging.slide_files import GLASS, PINK, picture, write_tiff
from PIL import Image

from osml.errors import InvalidInputError
from osml.imaging.errors import NoTissueError, ScaleError
from osml.imaging.slides import Slide, open_slide
from osml.imaging.slides_batches import read_ahead, read_tiles, tile_batches
from osml.imaging.slides_grid import area_shares, cover, tile_grid
from osml.imaging.slides_stain import normalise_tiles, slide_stains
from osml.imaging.slides_tissue import Tissue, find_tissue, overview
from osml.imaging.stain import RUIFROK, StainError, Stains

pytest.importorskip("openslide", reason="the extra `slides` is not installed")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    folder = tmp_path_factory.mktemp("slide")
    return open_slide(write_tiff(folder / "P1.tif", picture(1500, 2000), mpp=1.0, compression="none"))


def with_marks(height: int = 1200, width: int = 1600) -> np.ndarray:
    """Tissue on glass with green and blue pen, a black border and grey dirt."""
    rgb = picture(height, width)
    rgb[:, :40] = 0
    rgb[30:60, 100:1500] = (30, 140, 80)
    rgb[1100:1130, 200:1400] = (40, 60, 160)
    rgb[80:160, 1350:1500] = (120, 120, 122)
    return rgb


def test_tissue_is_found_with_its_area(slide: Slide) -> None:
    tissue = find_tissue(slide)
    assert (tissue.scale, tissue.mpp) == (8.0, 8.0)
    true = np.pi * 0.36 * 1500 * 0.38 * 2000 / 1e6
    assert tissue.area_mm2 == pytest.approx(true, rel=0.06)
    assert not tissue.ink.any()


def test_pens_borders_and_dirt_are_no_tissue(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", with_marks(), mpp=2.0, levels=1)) as slide:
        tissue = find_tissue(slide)
    y, x = np.mgrid[:300, :400]
    true = ((y / 300 - 0.5) / 0.36) ** 2 + ((x / 400 - 0.5) / 0.38) ** 2 < 1
    assert 2 * (tissue.inside & true).sum() / (tissue.inside.sum() + true.sum()) > 0.95
    assert not tissue.inside[:, :9].any()
    assert not tissue.inside[:16].any()
    assert tissue.ink[8:14, 30:370].mean() > 0.9


def test_pale_tissue_counts_and_grey_glass_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rgb = np.full((800, 800, 3), (226, 222, 228))
    rgb[200:600, 200:600] = (212, 196, 212)
    rgb = np.clip(rgb + rng.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
    with open_slide(write_tiff(tmp_path / "a.tif", rgb, mpp=2.0, levels=1)) as slide:
        tissue = find_tissue(slide)
    assert tissue.area_mm2 == pytest.approx(0.64, rel=0.08)


def test_holes_are_filled_by_their_size_in_square_microns(tmp_path: Path) -> None:
    rgb = np.full((800, 800, 3), GLASS, dtype=np.uint8)
    rgb[100:700, 100:700] = PINK
    rgb[200:240, 200:240] = GLASS  # 80 × 80 µm
    rgb[300:600, 300:600] = GLASS  # 600 × 600 µm
    rgb[700:, 300:340] = PINK
    rgb[780:, :340] = PINK  # what is now cut off from the other glass touches the border
    with open_slide(write_tiff(tmp_path / "a.tif", rgb, mpp=2.0, levels=1)) as slide:
        inside = find_tissue(slide).inside
        assert inside[55, 55]
        assert not inside[110, 110]
        filled = find_tissue(slide, max_hole_um2=1e6).inside
        assert filled[110, 110]
        assert not filled[185, 30]
        assert not find_tissue(slide, max_hole_um2=0).inside[55, 55]


def test_a_slide_without_tissue_shows_its_thumbnail(tmp_path: Path) -> None:
    blank = np.full((600, 600, 3), GLASS, dtype=np.uint8)
    with open_slide(write_tiff(tmp_path / "P9.tif", blank, mpp=1.0)) as slide:
        with pytest.raises(NoTissueError, match=r"P9: no tissue was found \(blank.*; see .*P9\.png"):
            find_tissue(slide, thumbnail=tmp_path / "P9.png")
        assert Image.open(tmp_path / "P9.png").size == (75, 75)
        with pytest.raises(NoTissueError, match="no tissue was found"):
            find_tissue(slide)
    assert {path.name for path in tmp_path.iterdir()} == {"P9.tif", "P9.png"}


def test_the_overview_averages_whole_blocks(slide: Slide) -> None:
    view = overview(slide, 8.0)
    assert view.pixels.shape == (188, 250, 3)
    # Level 2 is every fourth pixel; the overview halves it.
    level = slide.read(2, 0, 0, 500, 375).astype(float)
    assert view.pixels[10, 20] == pytest.approx(level[20:22, 40:42].mean(axis=(0, 1)), abs=0.51)
    assert overview(slide, 0.2).pixels.shape == (1500, 2000, 3)


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.floats(0.3, 5),
    st.lists(st.tuples(st.floats(-9, 70), st.floats(-9, 70), st.floats(0.1, 40), st.floats(0.1, 40)), min_size=1,
             max_size=6),
)  # fmt: skip
def test_shares_are_areas(
    h: int, w: int, seed: int, scale: float, boxes: list[tuple[float, float, float, float]]
) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < 0.5
    ends = np.array([(x, y, x + a, y + b) for x, y, a, b in boxes])
    found = area_shares(mask, scale, ends)
    for share, (left, top, right, low) in zip(found, ends / scale, strict=True):
        across = np.clip(np.minimum(right, np.arange(w) + 1) - np.maximum(left, np.arange(w)), 0, None)
        down = np.clip(np.minimum(low, np.arange(h) + 1) - np.maximum(top, np.arange(h)), 0, None)
        assert share == pytest.approx((down[:, None] * across * mask).sum() / ((right - left) * (low - top)), abs=1e-9)


def test_the_grid_covers_the_slide(slide: Slide) -> None:
    grid = tile_grid(slide, mpp=1.0, size=256, overlap=64)
    assert (grid.stride, grid.level, grid.ratio, grid.scale) == (192, 0, 1.0, 1.0)
    boxes = grid.boxes(np.arange(grid.count))
    assert boxes[:, :2].min() == 0
    # The last tiles reach the border, and none begins beyond what the one before covers.
    assert boxes[:, 2].max() >= 2000 > boxes[:, 2].max() - 192
    assert boxes[:, 3].max() >= 1500 > boxes[:, 3].max() - 192
    assert grid.um(np.array([grid.columns + 2])).tolist() == [[384.0, 192.0]]
    shares = cover(grid, find_tissue(slide))
    assert shares.min() == 0
    assert shares.max() == 1
    with pytest.raises(ScaleError, match="the slide has 1"):
        tile_grid(slide, mpp=0.5, size=256)
    with pytest.raises(InvalidInputError, match="overlap"):
        tile_grid(slide, mpp=1, size=256, overlap=256)


def test_a_level_within_two_percent_is_read_as_it_is_stored(slide: Slide) -> None:
    near = tile_grid(slide, mpp=2.03, size=100)
    assert (near.level, near.ratio, near.mpp) == (1, 1.0, 2.0)
    exact = tile_grid(slide, mpp=2.03, size=100, exact=True)
    assert (exact.level, exact.ratio) == (1, pytest.approx(1.015))
    assert exact.mpp == pytest.approx(2.03)


@pytest.mark.parametrize("mpp, size, overlap", [(1.0, 256, 0), (1.0, 200, 60), (2.0, 128, 32), (3.0, 96, 16)])
def test_batches_hold_every_tile_once_with_its_own_pixels(slide: Slide, mpp: float, size: int, overlap: int) -> None:
    grid = tile_grid(slide, mpp=mpp, size=size, overlap=overlap)
    wanted = np.arange(grid.count)[::3]
    batches = list(tile_batches(slide, grid, wanted[::-1], 7, threads=2))
    assert [len(batch.tiles) for batch in batches[:-1]] == [7] * (len(batches) - 1)
    numbers = np.concatenate([batch.tiles for batch in batches])
    pixels = np.concatenate([batch.pixels for batch in batches])
    assert sorted(numbers) == wanted.tolist()
    again = list(tile_batches(slide, grid, wanted, 50, threads=1))
    assert np.array_equal(numbers, np.concatenate([batch.tiles for batch in again]))
    assert np.array_equal(pixels, np.concatenate([batch.pixels for batch in again]))
    for number, tile in list(zip(numbers, pixels, strict=True))[::5]:
        x, y = grid.corners([number])[0]
        alone = read_tiles(slide, grid, np.array([number]))[0]
        if grid.ratio == 1:
            assert np.array_equal(tile, slide.read(grid.level, x, y, size, size))
            assert np.array_equal(tile, alone)
        else:
            assert np.abs(tile.astype(int) - alone).max() <= 1


def test_resampled_tiles_lie_where_they_should(tmp_path: Path) -> None:
    # Brightness rises by a half per pixel along x: a tile's pixel k averages around x = (corner + k + 0.5) * ratio.
    x = np.arange(400)
    rgb = np.repeat(np.rint(20 + 0.5 * x)[None, :, None], 300, axis=0).repeat(3, axis=2).astype(np.uint8)
    with open_slide(write_tiff(tmp_path / "a.tif", rgb, mpp=1.0, levels=1, compression="deflate")) as slide:
        grid = tile_grid(slide, mpp=2.5, size=40, overlap=10)
        tile = read_tiles(slide, grid, np.array([2]))[0]
    assert grid.ratio == pytest.approx(2.5)
    middle = (60 + np.arange(40) + 0.5) * 2.5 - 0.5
    assert tile[20, :, 0] == pytest.approx(20 + 0.5 * middle, abs=1.0)


def test_blocks_keep_the_order_and_hold_everything(slide: Slide) -> None:
    grid = tile_grid(slide, mpp=1.0, size=64)
    blocks = grid.blocks(np.arange(grid.count))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(grid.count))
    assert all(len(block) <= grid.block**2 for block in blocks)
    # Whole tiles of the file: 2,048 px at once.
    assert grid.block * 64 == 2048


def test_reading_ahead_keeps_the_order_and_its_limit() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        return n * n

    results = read_ahead(work, range(20), threads=2, ahead=1)
    assert next(results) == 0
    assert len(begun) <= 4
    assert list(results) == [n * n for n in range(1, 20)]

    def fail(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return n

    results = read_ahead(fail, range(9), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_one_stain_of_the_slide_normalises_its_tiles(slide: Slide) -> None:
    view = overview(slide)
    stains = slide_stains(view, find_tissue(slide, view))
    to = Stains(RUIFROK.haematoxylin, RUIFROK.eosin, strength=stains.strength)
    tiles = np.stack([np.full((32, 32, 3), GLASS, dtype=np.uint8), slide.read(0, 900, 700, 32, 32)])
    changed = normalise_tiles(tiles, to=to, stains=stains)
    assert changed.shape == tiles.shape
    assert np.abs(changed[0].astype(int) - GLASS).max() < 14
    same = normalise_tiles(tiles, to=stains, stains=stains)
    assert np.abs(same[1].astype(int) - tiles[1]).mean() < 6
    nowhere = np.zeros(view.pixels.shape[:2], dtype=bool)
    with pytest.raises(StainError, match="0 stained pixels"):
        slide_stains(view, Tissue(nowhere, 8.0, 8.0, nowhere))
