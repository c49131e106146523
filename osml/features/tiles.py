"""Radiomics of H&E pictures, whose masks are found in their colours: one task per picture, cached by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osml.cache import Cache, content_key
from osml.engine import Progress, run_tasks
from osml.files import sha256_file
from osml.imaging.errors import ImagingError, UnreadableError
from osml.schema.images import ImageInput
from osml.schema.model import Schema

# Part of every cache key: raise it when any value changes.
TILES_VERSION = 1


@dataclass(frozen=True)
class TileSettings:
    """What is measured of a picture; see `osml.radiomics.tiles.tile_features`."""

    mask: str
    channels: tuple[str, ...] | None
    classes: tuple[str, ...]
    bin_width: float
    bin_count: int | None
    um_per_px: float | None


@dataclass(frozen=True)
class TileJob:
    """One picture."""

    path: Path
    settings: TileSettings
    cache: Path


def tile_settings(schema: Schema, name: str) -> TileSettings:
    """Settings of a radiomics input with `mask: full`, tissue or nuclei."""
    block = schema.radiomics()[name]
    source = schema.inputs[block.of]
    assert isinstance(source, ImageInput)
    assert block.mask is not None
    return TileSettings(
        mask=block.mask,
        channels=block.channels,
        classes=tuple(c for c in block.classes if c != "shape"),
        bin_width=25.0 if block.bins.width is None else block.bins.width,
        bin_count=block.bins.count,
        um_per_px=source.mpp,
    )


def measure_tiles(
    paths: Sequence[Path],
    settings: TileSettings,
    *,
    cache: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, dict[str, float] | ImagingError]]:
    """(index, features by name, or why there are none) of every picture, as they finish."""
    jobs = [TileJob(path, settings, cache) for path in paths]
    for outcome in run_tasks(measure_tile, jobs, workers=workers, progress=progress):
        if isinstance(outcome.error, ImagingError):
            yield outcome.index, outcome.error
        elif outcome.error is not None:
            raise outcome.error
        else:
            yield outcome.index, outcome.result


def measure_tile(job: TileJob) -> dict[str, float]:
    """Features of one picture; NaN where its mask is empty."""
    from osml.nets.images import decode  # heavy, and needed by a worker only
    from osml.radiomics.tiles import tile_features

    if not job.path.is_file():
        raise UnreadableError(f"{job.path}: no such file")
    s = job.settings
    key = content_key(["tile", str(TILES_VERSION), sha256_file(job.path), repr(s)])
    kept = Cache(job.cache, ".json")
    if (data := kept.load(key)) is not None:
        return {name: float("nan") if value is None else value for name, value in json.loads(data).items()}
    found = tile_features(
        decode(job.path),
        masks=[s.mask],
        channels=s.channels,
        classes=s.classes,
        bin_width=s.bin_width,
        bin_count=s.bin_count,
        um_per_px=s.um_per_px,
    ).values
    plain = {name: None if np.isnan(value) else value for name, value in found.items()}
    kept.store(key, json.dumps(plain).encode())
    return found
