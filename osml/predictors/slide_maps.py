"""From probabilities of tiles to maps of cells, with the glass as it is seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.imaging.slides_files import array_on_disk, disk_full
from osml.imaging.slides_grid import TileGrid
from osml.imaging.slides_stitch import MapFrame, blend_window

Floats = NDArray[np.float32]
# Rows worked on at a time.
BAND = 256
BACKGROUND = 0


def cells_of(picture: NDArray[np.uint8], scale: float, frame: MapFrame, beyond: int) -> NDArray[np.uint8]:
    """A picture of the slide on the cells of a frame: each the mean of what it covers, exactly registered.

    Parameters
    ----------
    picture : uint8 (H, W) or (H, W, 3); its corner is the slide's
    scale : pixels of level 0 per pixel of the picture
    beyond : value outside of the picture
    """
    from PIL import Image

    ratio = frame.scale / scale
    height, width = (n * ratio for n in frame.shape)
    missing = [max(0, math.ceil(want - have)) for want, have in zip((height, width), picture.shape, strict=False)]
    if any(missing):
        pad = [(0, missing[0]), (0, missing[1]), (0, 0)][: picture.ndim]
        picture = np.pad(picture, pad, constant_values=beyond)
    # A picture that is coarser than the cells is interpolated.
    how = Image.Resampling.BOX if ratio >= 1 else Image.Resampling.BILINEAR
    size = (frame.shape[1], frame.shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, how, box=(0.0, 0.0, width, height)))


def coarse_map(
    frame: MapFrame, grid: TileGrid, tiles: NDArray[np.integer], p: Floats, tissue: NDArray[np.uint8],
    out: NDArray[Any],
) -> NDArray[Any]:  # fmt: skip
    """Probabilities of cells from those of tiles.

    Tiles that overlap are averaged with a smooth window. A cell that is glass by the share 1 - s is background by that
    share, and a cell of no tile is background.

    Parameters
    ----------
    tiles, p : numbers (n,) within the grid, probabilities (n, C)
    tissue : uint8 (h, w), 255 s
    out : float32 (C, h, w) that takes the result; may lie on disk
    """
    places = frame.places(grid, tiles)
    window = blend_window(frame.side, frame.side - frame.step)
    height, width = frame.shape
    order = np.argsort(places[:, 1], kind="stable")
    tops = places[order, 1]
    for top in range(0, height, BAND):
        low = min(top + BAND, height)
        sums = np.zeros((p.shape[1] + 1, low - top, width), dtype=np.float32)
        first, last = np.searchsorted(tops, [top - frame.side + 1, low])
        for k in order[first:last].tolist():
            x, y = places[k].tolist()
            y0, y1, x1 = max(y, top), min(y + frame.side, low), min(x + frame.side, width)
            weight = window[y0 - y : y1 - y, : x1 - x]
            here = sums[:, y0 - top : y1 - top, x:x1]
            here[:-1] += p[k][:, None, None] * weight
            here[-1] += weight
        seen = sums[-1] > 0
        share = np.where(seen, tissue[top:low].astype(np.float32) / 255, 0)
        band = sums[:-1] / np.maximum(sums[-1], np.float32(1e-6)) * share
        band[BACKGROUND] += 1 - share
        out[:, top:low] = band
    return out


def keep_glass(p: NDArray[Any], tissue: NDArray[np.uint8]) -> NDArray[Any]:
    """Cells without tissue are background, whatever a refiner says; in place."""
    for top in range(0, p.shape[1], BAND):
        glass = tissue[top : top + BAND] == 0
        band = p[:, top : top + BAND]
        band[:, glass] = 0
        band[BACKGROUND][glass] = 1
    return p


def most_probable(p: NDArray[Any]) -> NDArray[np.uint8]:
    """Class of every cell, uint8 (h, w)."""
    out = np.empty(p.shape[1:], dtype=np.uint8)
    for top in range(0, p.shape[1], BAND):
        out[top : top + BAND] = p[:, top : top + BAND].argmax(axis=0)
    return out


@contextmanager
def maps_on_disk(folder: Path, shape: tuple[int, ...], count: int) -> Iterator[list[NDArray[Any]]]:
    """float32 arrays of one shape in files whose room is taken at once; gone at the end.

    Raises
    ------
    OsmlError
        The disk is full.
    """
    import shutil
    import tempfile

    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".maps.", dir=folder))
    try:
        with disk_full(folder):
            bytes_ = (*shape[:-1], shape[-1] * 4)
            maps: list[NDArray[Any]] = [array_on_disk(place / str(k), bytes_).view("<f4") for k in range(count)]
        yield maps
    finally:
        shutil.rmtree(place, ignore_errors=True)
