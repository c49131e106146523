"""Segmentation of a large, sparse synthetic slide, end to end: seconds beside the encoder's alone, and peak memory.

    python benchmarks/bench_slide_segment.py [--side 100000] [--tissue 0.02] [--folder FOLDER]

The slide is a pyramidal TIFF (JPEG tiles of 512 px, levels 1, 4, 16) whose tissue lies in round islands. The patch
classifier and the refiner are untrained: they cost what trained ones cost. The encoder alone sees the same tiles,
decoded and in memory beforehand, in the same batches and threads. Targets: at most 1.2 times the encoder's time, and
under 4 GB for 100,000 x 100,000 px with 2 % tissue.
"""

from __future__ import annotations

import argparse
import io
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

TILE, MPP = 512, 0.5


def jpeg(pixels: np.ndarray) -> bytes:
    """A tile as the file holds it."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80, subsampling=2)
    return stream.getvalue()


def write_slide(path: Path, side: int, share: float) -> None:
    """Round islands of texture on glass; lower levels hold the texture's mean colour."""
    import tifffile

    rng = np.random.default_rng(1)
    colour = np.array([190.0, 120.0, 180.0])
    texture = np.clip(rng.normal(0, 22, (TILE, TILE, 3)) + colour, 0, 235).astype(np.uint8)
    white = np.full((TILE, TILE, 3), 242, dtype=np.uint8)
    glass = jpeg(white)
    count = 8
    radius = math.sqrt(share * side * side / count / math.pi)
    centres = [((k % 4 + 0.5) * side / 4, (k // 4 + 0.5) * side / 2) for k in range(count)]
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in range(3):
            down = 4**level
            wide = -(-side // down)
            grid = -(-wide // TILE)
            drawn = texture if level == 0 else np.full_like(white, colour.astype(np.uint8))

            def tiles(down: int = down, grid: int = grid, drawn: np.ndarray = drawn) -> Iterator[bytes]:
                reach = TILE * down
                within = (np.arange(TILE) + 0.5) * down
                for row in range(grid):
                    for column in range(grid):
                        x, y = column * reach, row * reach
                        inside = np.zeros((TILE, TILE), dtype=np.bool_)
                        for a, b in centres:
                            if math.hypot(max(x - a, a - x - reach, 0), max(y - b, b - y - reach, 0)) < radius:
                                inside |= np.hypot(y + within[:, None] - b, x + within - a) < radius
                        yield jpeg(np.where(inside[..., None], drawn, white)) if inside.any() else glass

            per_cm = 10_000 / (MPP * down)
            writer.write(
                tiles(), shape=(wide, wide, 3), dtype=np.uint8, tile=(TILE, TILE), compression="jpeg",
                photometric="ycbcr", subsampling=(2, 2), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
                subfiletype=int(level > 0), metadata=None,
            )  # fmt: skip


def save_model(folder: Path) -> None:
    """An untrained predictor with a one-step network as its refiner."""
    import torch

    from osml.imaging.slides_classes import PAPER_CLASSES
    from osml.nets.refine_maps import MapSpec
    from osml.nets.refine_network import NetworkRefiner, make_network
    from osml.predictors.slide import assemble
    from osml.predictors.slide_head import make_head
    from osml.predictors.slide_recipe import SlideRecipe
    from osml.predictors.slide_vectors import frozen_encoder

    recipe = SlideRecipe(PAPER_CLASSES, ("VT",), ("NC", "FH", "HC", "IF"), refine="unet")
    torch.manual_seed(1)
    head = make_head(recipe, frozen_encoder(recipe.encoder).width)
    spec = MapSpec(recipe.names, recipe.cell_um)
    refiner = NetworkRefiner("unet", spec, recipe.refiner, make_network("unet", spec, recipe.refiner).eval(), 1)
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    assemble(recipe, tensors, 1.0, refiner, {}, 1).save(folder)


def segment(folder: Path) -> None:
    """In a process of its own: seconds and peak memory."""
    from osml.predictors.slide import load_slide
    from osml.predictors.slide_recipe import SlideCase
    from osml.predictors.slide_segment import segment_slide

    fitted = load_slide(folder / "model")
    fitted.encoder()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    case = SlideCase("slide", "slide", folder / "slide.tif")
    result = segment_slide(fitted, case, folder / "out", cache=folder / "cache", device="cpu")
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"segment   {result.facts['tiles']:,} tiles in {spent:.1f} s; peak memory {peak:.2f} GB ({base:.2f} before)")


def encoder_alone(folder: Path, most: int) -> None:
    """Seconds per tile of the encoder on tiles that are there already."""
    import torch

    from osml.engine import cores
    from osml.imaging.slides import open_slide
    from osml.imaging.slides_batches import tile_batches
    from osml.nets.device import one_thread
    from osml.predictors.slide import load_slide
    from osml.predictors.slide_prepare import plan_slide
    from osml.predictors.slide_vectors import batch_size

    fitted = load_slide(folder / "model")
    encoder, size = fitted.encoder(), batch_size("cpu")
    with open_slide(folder / "slide.tif") as slide:
        plan = plan_slide(slide, fitted.recipe, None)
        some = plan.tiles[: most // size * size]
        batches = [torch.tensor(b.pixels).permute(0, 3, 1, 2) for b in tile_batches(slide, plan.grid, some, size)]

    def one(images: torch.Tensor) -> None:
        with torch.inference_mode():
            encoder(images)

    start = time.perf_counter()
    with one_thread(), ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        deque(pool.map(one, batches), maxlen=0)
    spent = time.perf_counter() - start
    each = spent / len(some)
    whole = each * len(plan.tiles)
    print(f"encoder   {len(some):,} tiles in {spent:.1f} s: {1000 * each:.1f} ms each, {whole:.1f} s for all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="px; the target is stated for 100,000")
    parser.add_argument("--tissue", type=float, default=0.02, help="share of the slide")
    parser.add_argument("--most", type=int, default=1024, help="tiles on which the encoder alone is timed")
    parser.add_argument("--folder", type=Path, help="keep the slide and the results there")
    parser.add_argument("--part", choices=["segment", "encoder"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "segment":
        segment(options.folder)
    elif options.part == "encoder":
        encoder_alone(options.folder, options.most)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "slide.tif").is_file():
                write_slide(folder / "slide.tif", options.side, options.tissue)
            save_model(folder / "model")
            size = (folder / "slide.tif").stat().st_size / 2**20
            print(
                f"slide     {options.side:,} x {options.side:,} px, {100 * options.tissue:g} % tissue, {size:.0f} MB",
                flush=True,
            )
            for part in ("encoder", "segment", "encoder"):  # the machine's load changes: before and after
                command = [
                    sys.executable,
                    __file__,
                    "--folder",
                    str(folder),
                    "--part",
                    part,
                    "--most",
                    str(options.most),
                ]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
