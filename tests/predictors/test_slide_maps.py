"""Maps from tiles: places, seams, glass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osml.imaging.slides_grid import TileGrid
from osml.imaging.slides_stitch import MapFrame
from osml.predictors.slide_maps import cells_of, coarse_map, keep_glass, most_probable
from osml.predictors.slide_recipe import CELLS


def layout(rows: int, columns: int, overlap: int = 0) -> tuple[TileGrid, MapFrame]:
    """Tiles of 256 px at 0.5 µm, and their cells."""
    stride = 256 - overlap
    grid = TileGrid(0.5, 256, stride, 0, 1.0, 1.0, columns, rows, 8)
    step = stride * CELLS // 256
    shape = ((rows - 1) * step + CELLS, (columns - 1) * step + CELLS)
    return grid, MapFrame(shape, 32.0, 16.0, CELLS, step)


def empty(frame: MapFrame, classes: int) -> np.ndarray:
    return np.empty((classes, *frame.shape), dtype=np.float32)


@given(st.integers(0, 39 * 7 - 1), st.sampled_from([0, 64, 128]))
def test_a_tile_is_found_at_its_place(tile: int, overlap: int) -> None:
    """39 rows of tiles are more than one band: also at its seam."""
    grid, frame = layout(39, 7, overlap)
    p = np.zeros((grid.count, 2), dtype=np.float32)
    p[:, 0] = 1
    p[tile] = (0, 1)
    tissue = np.full(frame.shape, 255, dtype=np.uint8)
    found = coarse_map(frame, grid, np.arange(grid.count), p, tissue, empty(frame, 2))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    rows, columns = np.nonzero(found[1] > 1e-6)
    row, column = divmod(tile, grid.columns)
    assert (rows.min(), rows.max()) == (row * frame.step, row * frame.step + CELLS - 1)
    assert (columns.min(), columns.max()) == (column * frame.step, column * frame.step + CELLS - 1)
    weight = found[1]
    centre = (weight * np.arange(frame.shape[0])[:, None]).sum() / weight.sum()
    assert abs(centre - (row * frame.step + (CELLS - 1) / 2)) <= 1


def test_glass_is_background_by_its_share() -> None:
    grid, frame = layout(1, 2)
    tissue = np.full(frame.shape, 255, dtype=np.uint8)
    tissue[0, 0], tissue[1, 1] = 0, 51
    p = np.array([[0.1, 0.9]], dtype=np.float32)
    found = coarse_map(frame, grid, np.array([0]), p, tissue, empty(frame, 2))
    assert found[:, 0, 0].tolist() == [1, 0]
    np.testing.assert_allclose(found[:, 1, 1], [0.1 * 0.2 + 0.8, 0.9 * 0.2], rtol=1e-5)
    np.testing.assert_allclose(found[:, 2, 2], [0.1, 0.9], rtol=1e-5)
    # The second tile was not looked at.
    assert (found[0, :, CELLS:] == 1).all()
    kept = keep_glass(np.full(found.shape, 0.5, dtype=np.float32), tissue)
    assert kept[:, 0, 0].tolist() == [1, 0]
    assert kept[:, 1, 1].tolist() == [0.5, 0.5]
    assert most_probable(found)[0, 0] == 0
    assert most_probable(found)[2, 2] == 1


@pytest.mark.parametrize("scale", [16.0, 8.0, 13.0])
def test_a_picture_lies_on_its_cells(scale: float) -> None:
    """A step at 96 px of level 0 is at cell 3, whatever the picture's own scale."""
    frame = MapFrame((4, 6), 32.0, 16.0, CELLS, CELLS)
    middles = (np.arange(round(192 / scale)) + 0.5) * scale
    picture = np.zeros((round(128 / scale), len(middles)), dtype=np.uint8)
    picture[:, middles > 96] = 200
    found = cells_of(picture, scale, frame, 0)
    assert found.shape == (4, 6)
    assert (found[:3, :2] == 0).all()
    assert (found[:3, 4:5] == 200).all()
    # An exact area: nothing of cell 3 lies to the left of the step where pixels divide cells.
    if scale in (8.0, 16.0):
        assert (found[:, 2] == 0).all()
        assert (found[:, 3] == 200).all()
