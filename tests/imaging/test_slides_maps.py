"""Stitching on disk, and what is written of a map: OME-TIFF, pictures, whole files or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging.slide_files import picture, write_tiff

from osml.errors import InvalidInputError, OsmlError
from osml.imaging import slides_stitch
from osml.imaging.slides import open_slide
from osml.imaging.slides_batches import tile_batches
from osml.imaging.slides_classes import NOTHING, PAPER_CLASSES, LabelRaster
from osml.imaging.slides_draw import class_overlay, picture_view, thumbnail, tissue_overlay
from osml.imaging.slides_files import array_on_disk, whole_file, whole_folder, write_whole
from osml.imaging.slides_grid import tile_grid
from osml.imaging.slides_ome import write_ome
from osml.imaging.slides_stitch import Stitcher, blend_window, cut, map_frame, region_places, tile_patches
from osml.imaging.slides_tissue import find_tissue, overview

pytest.importorskip("openslide", reason="the extra `slides` is not installed")


@given(st.integers(1, 40), st.data())
def test_windows_add_up_to_one(size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    line = np.sqrt(np.diagonal(blend_window(size, overlap)))
    total = np.zeros(3 * size)
    for at in range(0, 2 * size, size - overlap):
        total[at : at + size] += line[: len(total) - at]
    assert total[overlap : 2 * size - overlap] == pytest.approx(1, abs=1e-6)
    assert line.min() > 0


@pytest.mark.parametrize("size, overlap", [(7, 0), (8, 3), (16, 8), (10, 9)])
def test_patches_of_a_map_give_the_map_back(
    tmp_path: Path, size: int, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slides_stitch, "BLOCK", 11)
    rng = np.random.default_rng(size)
    truth = rng.integers(0, 4, (37, 53)).astype(np.uint8)
    wanted = np.zeros(truth.shape, dtype=bool)
    wanted[3:30, 20:50] = True
    places = region_places(wanted, size, overlap)
    window = blend_window(size, overlap)
    with Stitcher(tmp_path, truth.shape, 4, places, size, window, keep=True) as map:
        for number in rng.permutation(len(places)):
            patch = cut(truth, *places[number], size, beyond=0)
            map.add(number, (patch == np.arange(4)[:, None, None]).astype(np.float32))
        assert map.missing == 0
        assert not map._sums
        seen = map.labels != NOTHING
        assert seen[wanted].all()
        assert np.array_equal(map.labels[seen], truth[seen])
        assert np.array_equal(map.probabilities[:, seen] > 127, truth[seen] == np.arange(4)[:, None])
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_two_patches_are_blended_smoothly(tmp_path: Path) -> None:
    window = blend_window(8, 4)
    with Stitcher(tmp_path, (8, 12), 2, np.array([[0, 0], [4, 0]]), 8, window, keep=True) as map:
        map.add(0, np.stack([np.ones((8, 8)), np.zeros((8, 8))]))
        map.add(1, np.stack([np.zeros((8, 8)), np.ones((8, 8))]))
        row = np.asarray(map.probabilities[0, 4]) / 255
    # Squared cosine over the four pixels that both cover.
    expected = [1] * 4 + (np.cos(np.pi / 2 * (np.arange(4) + 0.5) / 4) ** 2).tolist() + [0] * 4
    assert row == pytest.approx(expected, abs=1 / 255)


def test_patches_come_once_and_in_shape(tmp_path: Path) -> None:
    places = np.array([[0, 0]])
    with Stitcher(tmp_path, (8, 8), 2, places, 8, blend_window(8, 0)) as map:
        with pytest.raises(InvalidInputError, match="another size"):
            map.add(0, np.zeros((3, 8, 8)))
        map.add(0, np.ones((2, 8, 8)))
        with pytest.raises(InvalidInputError, match="came twice"):
            map.add(0, np.ones((2, 8, 8)))
    with pytest.raises(InvalidInputError, match="touch the map"):
        Stitcher(tmp_path, (8, 8), 2, np.array([[-9, 0]]), 8, blend_window(8, 0))


def test_a_finished_strip_frees_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slides_stitch, "BLOCK", 8)
    places = region_places(np.ones((400, 40), dtype=bool), 8, 4)
    most = 0
    with Stitcher(tmp_path, (400, 40), 2, places, 8, blend_window(8, 4)) as map:
        for number in range(len(places)):
            map.add(number, np.ones((2, 8, 8)))
            most = max(most, len(map._sums))
    # Of 250 blocks, two rows of five and the one at work.
    assert most <= 11


@pytest.mark.parametrize("at", [(0, 0), (64, 128), (80, 200), (101, 93), (159, 161), (432, 336)])
def test_an_object_of_one_tile_is_found_at_its_place(tmp_path: Path, at: tuple[int, int]) -> None:
    """A tile's worth of purple at seams, between them and in corners; each tile votes with its purple share."""
    x, y = at
    side, map_px = 64, 16
    rgb = np.full((400, 500, 3), 240, dtype=np.uint8)
    rgb[y : y + side, x : x + side] = (90, 60, 140)
    with open_slide(write_tiff(tmp_path / "a.tif", rgb, levels=1, compression="deflate")) as slide:
        grid = tile_grid(slide, mpp=0.5, size=side, overlap=48)
        frame = map_frame(slide, grid, side // map_px)
        assert (frame.step, frame.scale, frame.shape) == (1, 16.0, (25, 32))
        tiles = np.arange(grid.count)
        places = frame.places(grid, tiles)
        with Stitcher(tmp_path, frame.shape, 2, places, frame.side, blend_window(frame.side, 3)) as map:
            for batch in tile_batches(slide, grid, tiles, 50):
                share = (batch.pixels[..., 1] < 150).mean(axis=(1, 2))
                patches = tile_patches(np.stack([1 - share, share], axis=1), frame.side)
                for number, patch in zip(batch.tiles, patches, strict=True):
                    map.add(int(number), patch)
            rows, columns = np.nonzero(map.labels == 1)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * frame.scale
    assert np.abs(found - (x, y, x + side, y + side)).max() <= frame.scale


def test_tiles_must_begin_at_pixels_of_the_map(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", picture(300, 300), levels=1)) as slide:
        grid = tile_grid(slide, mpp=0.5, size=64, overlap=10)
        with pytest.raises(InvalidInputError, match="multiple of 16 px"):
            map_frame(slide, grid, 4)


def raster(h: int = 1500, w: int = 2300, mpp: float = 4.0) -> LabelRaster:
    y, x = np.mgrid[:h, :w]
    labels = ((y // 150 + x // 190) % 7).astype(np.uint8)
    labels[:40] = NOTHING
    return LabelRaster(labels, 8.0, mpp)


def test_a_map_is_written_as_pyramidal_ome_tiff(tmp_path: Path) -> None:
    import tifffile

    write_ome(tmp_path / "a.ome.tif", raster(), PAPER_CLASSES)
    write_ome(tmp_path / "b.ome.tif", raster(), PAPER_CLASSES)
    assert (tmp_path / "a.ome.tif").read_bytes() == (tmp_path / "b.ome.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(1500, 2300), (750, 1150), (375, 575)]
        assert np.array_equal(levels[0].asarray(), raster().labels)
        assert np.array_equal(levels[2].asarray(), raster().labels[::4, ::4])
        said = file.ome_metadata or ""
    for words in ('PhysicalSizeX="4.0"', 'PhysicalSizeXUnit="µm"', '<M K="2">NC</M>'):
        assert words in said


def test_pictures_show_slide_tissue_tiles_and_classes(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", picture(1200, 1600))) as slide:
        view = overview(slide)
        tissue = find_tissue(slide, view)
        fine = picture_view(slide, view, side=400)
        grid = tile_grid(slide, mpp=0.5, size=256)
        framed = tissue_overlay(fine, tissue, grid, np.array([9]), side=400)
    assert thumbnail(fine).shape == framed.shape == (300, 400, 3)
    # Tile 9 lies at x 512 to 768, y 256 to 512 of level 0, here at a quarter.
    assert (framed[64:129, [128, 192]] == (30, 80, 200)).all()
    assert (framed[[64, 128], 128:193] == (30, 80, 200)).all()
    labels = np.zeros((150, 200), dtype=np.uint8)
    labels[:, 100:] = 1
    drawn = class_overlay(fine, LabelRaster(labels, 8.0, 4.0), PAPER_CLASSES, opacity=1.0, skip=("BG",), side=400)
    assert drawn.shape[0] > 300
    assert np.array_equal(drawn[:300, :200], thumbnail(fine)[:, :200])
    assert (drawn[:300, 200:] == PAPER_CLASSES[1].colour).all()


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "old.txt").write_text("old")
    monkeypatch.setattr(os, call, no_room)
    with pytest.raises(OsmlError, match=r"old\.txt: cannot be written \(No space left"):
        write_whole(tmp_path / "old.txt", "new")
    with pytest.raises(OsmlError, match="half-written"):
        write_ome(tmp_path / "a.ome.tif", raster(60, 60), PAPER_CLASSES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.txt": b"old"}


def test_a_file_or_folder_that_fails_midway_is_gone(tmp_path: Path) -> None:
    def half_a_file() -> None:
        with whole_file(tmp_path / "a.bin") as part:
            part.write_bytes(b"half")
            no_room()

    def half_a_folder() -> None:
        with whole_folder(tmp_path / "a") as made:
            (made / "x").write_text("half")
            no_room()

    for begin in (half_a_file, half_a_folder):
        with pytest.raises(OsmlError, match="No space left"):
            begin()
    assert not list(tmp_path.iterdir())
    for text in ("one", "two"):
        with whole_folder(tmp_path / "a") as made:
            (made / "x").write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "x").read_text() == "two"


def test_room_on_the_disk_is_taken_before_it_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_on_disk(tmp_path / "a", (3, 5))
    assert (array.shape, int(array.sum()), (tmp_path / "a").stat().st_blocks > 0) == ((3, 5), 0, True)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OsmlError, match="Make room"):
        Stitcher(tmp_path / "maps", (8, 8), 2, np.array([[0, 0]]), 8, blend_window(8, 0))
    assert not list((tmp_path / "maps").iterdir())
