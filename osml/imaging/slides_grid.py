"""Tiles of a slide: a regular grid from its upper left corner, and how much of each tile a mask covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.slides import SAME_SCALE, Slide
from osml.imaging.slides_tissue import Tissue

# Sides of what is read at once, in pixels of the level: large enough that tiles share the file's own tiles.
_READ_AT_ONCE = 2048
_READ_AT_MOST = 4096


@dataclass(frozen=True)
class TileGrid:
    """Where tiles lie. Tile `i` is in row `i // columns`, column `i % columns`.

    Attributes
    ----------
    mpp : µm per pixel of a tile; that of the level where the slide has one within 2 % of what was asked for
    size, stride : pixels of a tile, and from one tile to the next; they overlap by the difference
    level : of the slide that is read
    ratio : pixels of that level per pixel of a tile; 1: read as stored
    scale : pixels of level 0 per pixel of a tile
    columns, rows : tiles; those at the right and lower border reach beyond the slide and are white there
    block : tiles along a side that are read at once
    """

    mpp: float
    size: int
    stride: int
    level: int
    ratio: float
    scale: float
    columns: int
    rows: int
    block: int

    @property
    def count(self) -> int:
        return self.columns * self.rows

    @property
    def overlap(self) -> int:
        return self.size - self.stride

    def corners(self, tiles: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n, 2) upper left corners x, y, in pixels of a tile from the slide's corner."""
        row, column = np.divmod(np.asarray(tiles, dtype=np.int64), self.columns)
        return np.stack([column, row], axis=1) * self.stride

    def boxes(self, tiles: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, 4) left, top, right, bottom in pixels of level 0."""
        corner = self.corners(tiles)
        return np.concatenate([corner, corner + self.size], axis=1) * self.scale

    def um(self, tiles: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, 2) corners in µm from the slide's corner."""
        return self.corners(tiles).astype(np.float64) * self.mpp

    def blocks(self, tiles: NDArray[np.integer]) -> list[NDArray[np.int64]]:
        """The tiles grouped as they are read, in order from above."""
        tiles = np.unique(np.asarray(tiles, dtype=np.int64))
        row, column = np.divmod(tiles, self.columns)
        across = -(-self.columns // self.block)
        key = row // self.block * across + column // self.block
        order = np.argsort(key, kind="stable")
        return [part for part in np.split(tiles[order], np.flatnonzero(np.diff(key[order])) + 1) if len(part)]


def tile_grid(slide: Slide, *, mpp: float, size: int, overlap: int = 0, exact: bool = False) -> TileGrid:
    """The grid of a slide.

    Parameters
    ----------
    mpp : µm per pixel of the tiles
    size : pixels along a side; `size * mpp` is its side in µm
    overlap : pixels that neighbours share
    exact : resample also where a level lies within 2 %: for what must fit another grid pixel by pixel

    Raises
    ------
    ScaleError
        The slide is coarser than `mpp`.
    """
    if not (math.isfinite(mpp) and mpp > 0) or size < 1 or not 0 <= overlap < size:
        raise InvalidInputError(
            f"tiles of {size} px at {mpp:g} µm per pixel with an overlap of {overlap} px",
            do="Size and scale are positive, and the overlap is smaller than the tile.",
        )
    number = slide.level_for(mpp)
    level = slide.levels[number]
    near = 1e-6 if exact else SAME_SCALE
    ratio = 1.0 if abs(level.mpp / mpp - 1) <= near else mpp / level.mpp
    stride = size - overlap
    columns, rows = (max(1, math.ceil((n / ratio - overlap) / stride)) for n in (level.width, level.height))
    return TileGrid(
        level.mpp * ratio, size, stride, number, ratio, level.downsample * ratio, columns, rows,
        _block(stride * ratio, level.segment[0]),
    )  # fmt: skip


def cover(grid: TileGrid, tissue: Tissue) -> NDArray[np.float64]:
    """Share of each tile of the grid that is tissue, float (rows × columns,)."""
    return area_shares(tissue.inside, tissue.scale, grid.boxes(np.arange(grid.count)))


def area_shares(inside: NDArray[np.bool_], scale: float, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each box that a mask covers; what lies beyond the mask counts as not covered.

    Parameters
    ----------
    inside : bool (h, w)
    scale : pixels of level 0 per pixel of the mask
    boxes : (n, 4) left, top, right, bottom in pixels of level 0

    Notes
    -----
    Exact areas: boxes in one row share the sums of their pixels' columns, weighted by how much of each row they hold.
    Memory is one row of boxes.

    >>> area_shares(np.array([[True, False]]), 10.0, np.array([[5.0, 0.0, 15.0, 10.0]])).tolist()
    [0.5]
    """
    height, width = inside.shape
    left, top, right, low = (np.asarray(boxes, dtype=np.float64) / scale).T
    covered = np.zeros(len(left))
    ends, row_of = np.unique(np.stack([top, low], axis=1), axis=0, return_inverse=True)
    order = np.argsort(row_of.ravel(), kind="stable")
    members = np.split(order, np.cumsum(np.bincount(row_of.ravel(), minlength=len(ends)))[:-1])
    for (first, last), some in zip(ends.tolist(), members, strict=True):
        y = np.arange(max(math.floor(first), 0), min(math.ceil(last), height))
        if not len(y):
            continue
        weights = np.minimum(last, y + 1) - np.maximum(first, y)
        run = np.concatenate([[0.0], np.cumsum(weights @ inside[y[0] : y[-1] + 1])])
        at = np.arange(width + 1)
        covered[some] = np.interp(right[some], at, run) - np.interp(left[some], at, run)
    return np.clip(covered / ((right - left) * (low - top)), 0.0, 1.0)


def _block(stride: float, segment: int) -> int:
    """Tiles along a side that are read at once: a whole number of the file's own tiles if that is not too large."""
    if stride == round(stride) and segment:
        together = math.lcm(round(stride), segment)
        if together <= _READ_AT_MOST:
            return max(1, round(max(1, _READ_AT_ONCE // together) * together / stride))
    return max(1, int(_READ_AT_ONCE // stride))
