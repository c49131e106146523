"""Maps put together from overlapping patches on disk: memory holds only the blocks that patches are still missing for.

Patches are weighted with a smooth window and averaged, each at its exact place. Nothing is cut off and nothing is
squeezed: the border of the slide is a border like any other.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.slides import Slide
from osml.imaging.slides_classes import NOTHING
from osml.imaging.slides_files import array_on_disk, disk_full
from osml.imaging.slides_grid import TileGrid, area_shares

Floats = NDArray[np.float32]
# Pixels along a side of what is finished and written at once.
BLOCK = 512


def blend_window(size: int, overlap: int) -> Floats:
    """(size, size) weights: 1 in the middle, falling as a squared sine over the overlap; never 0.

    Windows that follow each other at `size - overlap` add up to 1 where at most two of them overlap along an axis.

    >>> window = blend_window(8, 3)[4]
    >>> bool(np.allclose(window[:3] + window[5:], 1)), bool((window > 0).all())
    (True, True)
    """
    if not 0 <= overlap < size:
        raise InvalidInputError(f"a window of {size} px with an overlap of {overlap} px")
    ramp = min(overlap, size // 2)
    rise = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / max(ramp, 1)) ** 2
    line = np.ones(size)
    line[:ramp] = rise
    line[size - ramp :] = rise[::-1]
    return np.outer(line, line).astype(np.float32)


class Stitcher:
    """Averages patches of class probabilities into a map on disk.

    Parameters
    ----------
    folder : for the maps; a folder of its own is made in it and removed by `close`
    shape : (h, w) of the map
    classes : channels of a patch
    places : (n, 2) x, y of the upper left corner of every patch that will come, in pixels of the map
    size : pixels along a side of a patch; what lies beyond the map is dropped
    window : (size, size) weights above 0, `blend_window`
    keep : also keep the probabilities, as bytes (255 is 1)

    Attributes
    ----------
    labels : uint8 (h, w) on disk: the most probable class, `NOTHING` where no patch lay
    probabilities : uint8 (classes, h, w) on disk, or None

    Notes
    -----
    Every patch comes once, in any order; in the order of `TileGrid.blocks` memory is a strip of blocks as wide as the
    tissue: at most `4 * (classes + 1) * width * (size + BLOCK)` bytes.

    >>> with Stitcher(Path("."), (4, 6), 2, np.array([[0, 0], [2, 0]]), 4, blend_window(4, 2)) as map:
    ...     map.add(0, np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32))
    ...     map.add(1, np.stack([np.zeros((4, 4)), np.ones((4, 4))]).astype(np.float32))
    ...     map.labels[0].tolist()
    [0, 0, 0, 1, 1, 1]
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int], classes: int, places: NDArray[np.integer], size: int,
        window: Floats, *, keep: bool = False,
    ) -> None:  # fmt: skip
        self._places = np.asarray(places, dtype=np.int64)
        if window.shape != (size, size) or not (window > 0).all() or not 1 <= classes < NOTHING:
            raise InvalidInputError(f"a window of {window.shape} for patches of {size} px, {classes} classes")
        if self._places.shape != (len(self._places), 2) or (self._places.size and self._places.min() <= -size):
            raise InvalidInputError("places are x, y of patches that touch the map")
        self.shape, self.classes, self.size = shape, classes, size
        self._window = window
        self._left = Counter(block for place in self._places for block in self._blocks(place))
        self._came = np.zeros(len(self._places), dtype=np.bool_)
        self._sums: dict[tuple[int, int], Floats] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=".stitch.", dir=folder))
        try:
            with disk_full(folder):
                self.labels = array_on_disk(self._folder / "labels", shape)
                self.labels[:] = NOTHING
                self.probabilities = array_on_disk(self._folder / "probabilities", (classes, *shape)) if keep else None
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def add(self, number: int, patch: NDArray[np.floating]) -> None:
        """One patch, (classes, size, size), at place `number`.

        Raises
        ------
        InvalidInputError
            It came before, or has another shape.
        """
        if patch.shape != (self.classes, self.size, self.size) or self._came[number]:
            raise InvalidInputError(f"patch {number} of shape {patch.shape} came twice or is of another size")
        self._came[number] = True
        x, y = (int(v) for v in self._places[number])
        for block in self._blocks(self._places[number]):
            top, left, height, width = self._extent(block)
            y0, y1 = max(y, top), min(y + self.size, top + height)
            x0, x1 = max(x, left), min(x + self.size, left + width)
            inner = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
            sums = self._sums.setdefault(block, np.zeros((self.classes + 1, height, width), dtype=np.float32))
            here = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            weight = self._window[inner]
            sums[(slice(0, -1), *here)] += weight * patch[(slice(None), *inner)]
            sums[(-1, *here)] += weight
            self._left[block] -= 1
            if not self._left[block]:
                self._finish(block)

    def close(self) -> None:
        """Remove the maps."""
        del self.labels, self.probabilities
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def missing(self) -> int:
        """Patches that have not come."""
        return int((~self._came).sum())

    def __enter__(self) -> Stitcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blocks(self, place: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
        x, y = (int(v) for v in place)
        for row in range(max(y, 0) // BLOCK, math.ceil(min(y + self.size, self.shape[0]) / BLOCK)):
            for column in range(max(x, 0) // BLOCK, math.ceil(min(x + self.size, self.shape[1]) / BLOCK)):
                yield row, column

    def _extent(self, block: tuple[int, int]) -> tuple[int, int, int, int]:
        top, left = block[0] * BLOCK, block[1] * BLOCK
        return top, left, min(BLOCK, self.shape[0] - top), min(BLOCK, self.shape[1] - left)

    def _finish(self, block: tuple[int, int]) -> None:
        sums = self._sums.pop(block)
        top, left, height, width = self._extent(block)
        here = (slice(top, top + height), slice(left, left + width))
        seen = sums[-1] > 0
        with disk_full(self._folder):
            self.labels[here] = np.where(seen, sums[:-1].argmax(axis=0), NOTHING)
            if self.probabilities is not None:
                share = sums[:-1] / np.maximum(sums[-1], np.float32(1e-12))
                self.probabilities[(slice(None), *here)] = np.rint(np.clip(share, 0, 1) * 255)


def tile_patches(probabilities: NDArray[np.floating], side: int) -> Floats:
    """(n, classes) of whole tiles as (n, classes, side, side) patches of one value each."""
    n, classes = probabilities.shape
    return np.broadcast_to(np.asarray(probabilities, np.float32)[:, :, None, None], (n, classes, side, side)).copy()


@dataclass(frozen=True)
class MapFrame:
    """The grid of a map over a slide; its corner is the slide's.

    Attributes
    ----------
    shape : (h, w)
    scale : pixels of level 0 per pixel of the map
    mpp : µm per pixel of the map
    side, step : pixels of the map per tile, and from one tile to the next
    """

    shape: tuple[int, int]
    scale: float
    mpp: float
    side: int
    step: int

    def places(self, grid: TileGrid, tiles: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n, 2) x, y of the corners of tiles, whole pixels of the map."""
        return grid.corners(tiles) // grid.stride * self.step


def map_frame(slide: Slide, grid: TileGrid, side: int) -> MapFrame:
    """The map on which each tile of the grid is `side` pixels wide.

    Raises
    ------
    InvalidInputError
        Tiles would begin between pixels of the map.
    """
    step = grid.stride * side / grid.size
    if step != int(step) or step < 1:
        raise InvalidInputError(
            f"a map of {side} px per tile of {grid.size} px that overlap by {grid.overlap} px",
            why="Tiles would begin between pixels of the map, and seams would be shifted.",
            do=f"Choose an overlap that is a multiple of {grid.size / side:g} px.",
        )
    scale = grid.scale * grid.size / side
    shape = (math.ceil(slide.height / scale - 1e-9), math.ceil(slide.width / scale - 1e-9))
    return MapFrame(shape, scale, scale * slide.mpp, side, int(step))


def region_places(inside: NDArray[np.bool_], size: int, overlap: int) -> NDArray[np.int64]:
    """(n, 2) x, y of square regions that cover a map, those that hold any of `inside` (h, w); in order from above.

    The last region of a row or column may reach beyond the map; `cut` pads it.
    """
    step = size - overlap
    if not 0 <= overlap < size:
        raise InvalidInputError(f"regions of {size} px with an overlap of {overlap} px")
    rows, columns = (max(1, math.ceil((n - overlap) / step)) for n in inside.shape)
    y, x = np.divmod(np.arange(rows * columns), columns)
    corner = np.stack([x, y], axis=1) * step
    shares = area_shares(inside, 1.0, np.concatenate([corner, corner + size], axis=1).astype(np.float64))
    return corner[shares > 0]


def cut(map: NDArray[Any], x: int, y: int, size: int, beyond: int = 0) -> NDArray[Any]:
    """A square of a map (…, h, w), `beyond` outside of it.

    >>> cut(np.array([[1, 2], [3, 4]]), 1, 0, 2).tolist()
    [[2, 0], [4, 0]]
    """
    out = np.full((*map.shape[:-2], size, size), beyond, dtype=map.dtype)
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + size, map.shape[-2]), min(x + size, map.shape[-1])
    if y1 > y0 and x1 > x0:
        out[..., y0 - y : y1 - y, x0 - x : x1 - x] = map[..., y0:y1, x0:x1]
    return out
