"""Tiles of a slide as batches, read ahead by threads (decoders release Python's lock)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from osml.engine import cores
from osml.errors import InvalidInputError
from osml.imaging.slides import Pixels, Slide
from osml.imaging.slides_grid import TileGrid

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TileBatch:
    """Tiles that are looked at together.

    tiles : int (n,), numbers within the grid
    pixels : uint8 (n, size, size, 3)
    """

    tiles: NDArray[np.int64]
    pixels: Pixels


def tile_batches(
    slide: Slide, grid: TileGrid, tiles: NDArray[np.integer] | Sequence[int], batch_size: int, *,
    threads: int | None = None,
) -> Iterator[TileBatch]:  # fmt: skip
    """Batches of the tiles, block by block from above; the last is smaller.

    Parameters
    ----------
    tiles : numbers within the grid; each is read once
    threads : that read ahead; default: the cores. It changes no pixel and no order

    Notes
    -----
    Memory: a block (at most 4,096 pixels of the level along a side) per thread and two more, and two batches.

    Raises
    ------
    UnreadableError
        A region is damaged; batches before it were given.
    """
    if batch_size < 1:
        raise InvalidInputError(f"batches of {batch_size} tiles")
    held: list[tuple[NDArray[np.int64], Pixels]] = []
    count = 0
    blocks = grid.blocks(np.asarray(tiles, dtype=np.int64))
    for numbers, pixels in read_ahead(lambda block: (block, read_tiles(slide, grid, block)), blocks, threads):
        held.append((numbers, pixels))
        count += len(numbers)
        while count >= batch_size:
            batch, held = _take(held, batch_size)
            count -= batch_size
            yield batch
    if count:
        yield _take(held, count)[0]


def read_tiles(slide: Slide, grid: TileGrid, tiles: NDArray[np.integer]) -> Pixels:
    """Tiles that lie near each other, uint8 (n, size, size, 3), by one read of the region that holds them.

    Where no level has the grid's scale, the next finer one is averaged down (triangle filter as wide as the ratio).
    """
    corner = grid.corners(tiles)
    left, top = corner.min(axis=0)
    right, low = corner.max(axis=0) + grid.size
    region = _region(slide, grid, int(left), int(top), int(right - left), int(low - top))
    out = np.empty((len(corner), grid.size, grid.size, 3), dtype=np.uint8)
    for k, (x, y) in enumerate(corner - (left, top)):
        out[k] = region[y : y + grid.size, x : x + grid.size]
    return out


def read_ahead(
    function: Callable[[T], R], items: Iterable[T], threads: int | None = None, ahead: int = 2
) -> Iterator[R]:
    """`map` in threads, in order, with at most `threads + ahead` results that nobody has taken yet.

    Also what reads the next slide while this one is looked at: items are slides, `function` opens and plans one.
    """
    threads = cores() if threads is None else max(1, threads)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= threads + ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _region(slide: Slide, grid: TileGrid, x: int, y: int, w: int, h: int) -> Pixels:
    """A region in pixels of the tiles."""
    if grid.ratio == 1:
        return slide.read(grid.level, x, y, w, h)
    from PIL import Image

    # Pixels around the region, so that its border is averaged as its middle is.
    margin = math.ceil(grid.ratio) + 1
    box = [v * grid.ratio for v in (x, y, x + w, y + h)]
    left, top = math.floor(box[0]) - margin, math.floor(box[1]) - margin
    right, low = math.ceil(box[2]) + margin, math.ceil(box[3]) + margin
    read = Image.fromarray(slide.read(grid.level, left, top, right - left, low - top))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return np.asarray(read.resize((w, h), Image.Resampling.BILINEAR, box=inner))


def _take(
    held: list[tuple[NDArray[np.int64], Pixels]], n: int
) -> tuple[TileBatch, list[tuple[NDArray[np.int64], Pixels]]]:
    """The first n tiles, and what is left."""
    numbers = np.empty(n, dtype=np.int64)
    pixels = np.empty((n, *held[0][1].shape[1:]), dtype=np.uint8)
    filled, rest = 0, list(held)
    while filled < n:
        some, of = rest.pop(0)
        take = min(n - filled, len(some))
        numbers[filled : filled + take], pixels[filled : filled + take] = some[:take], of[:take]
        filled += take
        if take < len(some):
            rest.insert(0, (some[take:], of[take:]))
    return TileBatch(numbers, pixels), rest
