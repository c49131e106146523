"""Vectors of a slide's tiles: read ahead by threads while the encoder runs; memory is that of a few batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from osml.engine import cores
from osml.imaging.slides import Pixels, Slide
from osml.imaging.slides_batches import TileBatch, tile_batches
from osml.imaging.slides_grid import TileGrid
from osml.imaging.stain import stain_augment
from osml.nets.device import one_thread
from osml.nets.embeddings import BATCH_CPU, BATCH_GPU, STAIN_OFFSET, STAIN_SIGMA
from osml.nets.encoders import Encoder, build_encoder
from osml.nets.images import PIXELS_VERSION, fit
from osml.predictors.slide_recipe import SlideEncoder

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TileVectors:
    """Tiles of a batch: numbers (n,) within the grid, vectors (n, 1 + copies, width)."""

    tiles: NDArray[np.int64]
    values: Vectors


@lru_cache(maxsize=1)
def frozen_encoder(settings: SlideEncoder) -> Encoder:
    """The encoder, kept for the next slide."""
    return build_encoder(settings.settings())


def encoder_key(encoder: Encoder, device: str) -> tuple[str, ...]:
    """What decides a vector, besides the tile: part of a cache's key."""
    return (
        "tiles-1", PIXELS_VERSION, encoder.record.model, encoder.record.sha256, encoder.arguments, str(encoder.size),
        encoder.interpolation, " ".join(encoder.layers), f"{STAIN_SIGMA} {STAIN_OFFSET}", device.partition(":")[0],
        str(batch_size(device)), version("torch"), version("timm"),
    )  # fmt: skip


def batch_size(device: str) -> int:
    """Tiles per pass."""
    return BATCH_GPU if device.startswith("cuda") else BATCH_CPU


def tile_vectors(
    slide: Slide, grid: TileGrid, tiles: NDArray[np.integer], encoder: Encoder, *, device: str, copies: int = 0,
    seed: int = 0,
) -> Iterator[TileVectors]:  # fmt: skip
    """Vectors of tiles, block by block from above; each tile comes once.

    Parameters
    ----------
    encoder : moved to `device` and left there
    copies : stained copies of each tile that stand behind its vector
    seed : of the copies, which depend on it and on the tile's number alone

    Raises
    ------
    UnreadableError
        A region of the slide is damaged.
    """
    encoder = encoder.to(device).eval()
    size = batch_size(device)
    runners = 1 if device.startswith("cuda") else cores()

    def one(batch: TileBatch) -> TileVectors:
        versions = [_pieces(batch.pixels, encoder)]
        for copy in range(copies):
            stained = [
                _stained(pixels, np.random.default_rng([seed, copy, number]))
                for number, pixels in zip(batch.tiles.tolist(), batch.pixels, strict=True)
            ]
            versions.append(_pieces(np.stack(stained), encoder))
        return TileVectors(batch.tiles, np.stack([_forward(encoder, pieces, size, device) for pieces in versions], 1))

    running: deque[Future[TileVectors]] = deque()
    # Parallel over batches, each on one thread: sums then have one order whatever the number of cores.
    with one_thread(), ThreadPoolExecutor(runners, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in tile_batches(slide, grid, tiles, size):
            running.append(pool.submit(one, batch))
            if len(running) > 2 * runners:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def encoder_pieces(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """Tiles (n, s, s, 3) at the encoder's size."""
    if pixels.shape[1] == size:
        return pixels
    return np.stack([fit(one, size, interpolation) for one in pixels])


def _pieces(pixels: Pixels, encoder: Encoder) -> torch.Tensor:
    sized = encoder_pieces(pixels, encoder.size, encoder.interpolation)
    return torch.tensor(sized).permute(0, 3, 1, 2)


def _stained(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Other strengths of stains, another light, and another orientation: tissue has no up and no left."""
    stained = stain_augment(pixels, rng, STAIN_SIGMA, offset=STAIN_OFFSET)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    return np.ascontiguousarray(np.rot90(stained[:, ::-1] if mirrored else stained, turns))


def _forward(encoder: Encoder, images: torch.Tensor, batch: int, device: str) -> Vectors:
    # Kernels, and with them last digits, depend on the size of a batch, so that all batches have the same.
    n = len(images)
    padded = torch.cat([images, images[:1].expand(batch - n, -1, -1, -1)]) if n < batch else images
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        return encoder(padded.to(device))[:n].float().cpu().numpy()
