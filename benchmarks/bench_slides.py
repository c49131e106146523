"""Tiles of whole slides beside OpenSlide's read_region, pixels compared; and a slide of 100,000 × 100,000 px.

    python benchmarks/bench_slides.py [--slides a.svs b.tif …] [--large] [--tiles 400]

For each slide, tiles of the file's own size and of 256 px at level 0, the first 400: one `read_region` a tile and its
conversion to RGB, beside `tile_batches`; CPU seconds of one thread, each on a freshly opened slide (no tile is in a
cache; opening is not counted), then wall seconds with two threads. The target is 4 times as fast with equal pixels.
Without --slides: the real Aperio slide of the data folder, if it is there, and a synthetic one.
--large: tissue, tiles, stitching and OME-TIFF of a slide of 10 gigapixels with 2 % tissue, its time and peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from osml.imaging.slides import Slide, open_slide
from osml.imaging.slides_batches import read_tiles, tile_batches
from osml.imaging.slides_classes import PAPER_CLASSES, LabelRaster
from osml.imaging.slides_geojson import write_geojson
from osml.imaging.slides_grid import TileGrid, cover, tile_grid
from osml.imaging.slides_ome import write_ome
from osml.imaging.slides_stitch import Stitcher, blend_window, map_frame, tile_patches
from osml.imaging.slides_tissue import find_tissue
from osml.synthetic.slides import write_slides

TARGET = 4.0
ROOT = Path(__file__).resolve().parents[1]


def by_openslide(slide: openslide.OpenSlide, grid: TileGrid, tile: int) -> np.ndarray:
    """One tile as most programs read it."""
    x, y = (int(v) for v in grid.corners(np.array([tile]))[0])
    return np.asarray(slide.read_region((x, y), 0, (grid.size, grid.size)).convert("RGB"))


def timed(opened: Callable[[], Any], call: Callable[[Any], object], clock: Callable[[], float]) -> float:
    """The least of five, each on a freshly opened slide; opening is not counted."""
    best = float("inf")
    for _ in range(5):
        with opened() as slide:
            start = clock()
            call(slide)
            best = min(best, clock() - start)
    return best


def inner(grid: TileGrid, slide: Slide, most: int) -> np.ndarray:
    """The first tiles that lie within the slide: read_region is transparent beyond."""
    boxes = grid.boxes(np.arange(grid.count))
    tiles = np.flatnonzero((boxes[:, 2] <= slide.width) & (boxes[:, 3] <= slide.height))
    return tiles[: max(most, 1)]


def compare(path: Path, size: int, most: int) -> float:
    """Print one line; the ratio on one thread."""
    with open_slide(path, mpp=0.5) as slide:
        grid = tile_grid(slide, mpp=slide.mpp, size=size)
        tiles = inner(grid, slide, most)
        with openslide.OpenSlide(path) as other:
            differing = sum(
                not np.array_equal(pixels, by_openslide(other, grid, number))
                for batch in tile_batches(slide, grid, tiles, 64)
                for number, pixels in zip(batch.tiles.tolist(), batch.pixels, strict=True)
            )

    def theirs(slide: openslide.OpenSlide) -> None:
        for tile in tiles.tolist():
            by_openslide(slide, grid, tile)

    def ours(slide: Slide) -> None:
        for block in grid.blocks(tiles):
            read_tiles(slide, grid, block)

    def threads(slide: Slide) -> None:
        for _ in tile_batches(slide, grid, tiles, 64, threads=2):
            pass

    their_open, our_open = partial(openslide.OpenSlide, path), partial(open_slide, path, mpp=0.5)
    slow, fast = timed(their_open, theirs, time.process_time), timed(our_open, ours, time.process_time)
    wall, wall_two = timed(their_open, theirs, time.perf_counter), timed(our_open, threads, time.perf_counter)
    pixels = len(tiles) * size**2
    print(
        f"{path.name}, {len(tiles)} tiles of {size} px: read_region {slow / pixels * 1e9:.1f} ns/px, "
        f"ours {fast / pixels * 1e9:.1f} ns/px ×{slow / fast:.1f} (target {TARGET:g}), "
        f"two threads ×{wall / wall_two:.1f}; {differing} tiles differ",
        flush=True,
    )
    return slow / fast


def write_large(path: Path, side: int = 100_000, tile: int = 512, tissue: float = 0.02) -> None:
    """A sparse pyramid with the helper of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from imaging.slide_files import write_sparse

    write_sparse(path, side, tile=tile, tissue=tissue)


def large(path: Path) -> None:
    """Everything but the network: a made-up probability per tile."""
    start = time.perf_counter()
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        found = time.perf_counter()
        grid = tile_grid(slide, mpp=0.5, size=256)
        tiles = np.flatnonzero(cover(grid, tissue) >= 0.5)
        frame = map_frame(slide, grid, 8)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            shape, classes = frame.shape, len(PAPER_CLASSES)
            places = frame.places(grid, np.arange(grid.count))
            with Stitcher(place, shape, classes, places[tiles], 8, blend_window(8, 0), keep=True) as map:
                at = {int(tile): k for k, tile in enumerate(tiles)}
                for batch in tile_batches(slide, grid, tiles, 64):
                    share = np.zeros((len(batch.tiles), classes))
                    share[np.arange(len(share)), batch.pixels[:, 0, 0, 0] % classes] = 1
                    for tile, patch in zip(batch.tiles.tolist(), tile_patches(share, 8), strict=True):
                        map.add(at[tile], patch)
                raster = LabelRaster(map.labels, frame.scale, frame.mpp)
                write_ome(place / "map.ome.tif", raster, PAPER_CLASSES)
                pieces = write_geojson(place / "map.geojson", raster, PAPER_CLASSES, (slide.width, slide.height))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{slide.width}×{slide.height} px, {len(tiles)} tiles of tissue: {time.perf_counter() - start:.0f} s "
        f"(tissue {found - start:.0f} s), map {shape[1]}×{shape[0]}, {pieces} pieces, peak memory {peak:.2f} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=Path, nargs="*")
    parser.add_argument("--tiles", type=int, default=400, help="at most this many a slide")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.large_file:
        large(given.large_file)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = given.slides
        if not paths:
            real = (
                Path(os.environ.get("OSML_DATA") or ROOT.parent / "shared" / "data") / "slides/cmu-1-small-region.svs"
            )
            rows = write_slides(Path(folder), 2, max_slides=1, sides=(4096, 4096), workers=1)
            paths = [*([real] if real.is_file() else []), Path(folder) / f"slides/{rows[0].slide}.tif"]
        for path in paths:
            with open_slide(path, mpp=0.5) as slide:
                own = slide.levels[0].segment[0]
            for size in sorted({own or 256, 256}):
                compare(path, size, given.tiles)
        if given.large:
            path = Path(folder) / "large.tif"
            write_large(path)
            # In a process of its own: the peak is then the work's.
            subprocess.run([sys.executable, __file__, "--large-file", str(path)], check=True)


if __name__ == "__main__":
    main()
