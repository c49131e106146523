"""Vectors of pictures computed on a cluster, into the cache that this machine then reads.

Here, threads embed pictures faster than processes would, so that tasks are made for a cluster only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from osml.engine import Progress, far_away, run_tasks
from osml.errors import WorkerLostError

if TYPE_CHECKING:
    from osml.nets.embeddings import EmbeddingSettings
    from osml.nets.encoders import EncoderSettings

# Pictures of one task: long beside building the encoder, short beside a cohort.
CHUNK = 64
GPU_SHARE = 0.5


@dataclass(frozen=True)
class VectorWork:
    """By which encoder pictures become vectors, and where these are kept."""

    encoder: EncoderSettings
    settings: EmbeddingSettings
    cache: Path
    device: str


def fill_cache(pictures: Sequence[Path], work: VectorWork, *, label: str, quiet: bool) -> None:
    """Compute what the cache lacks, if tasks run on a cluster; without one, nothing is done.

    What a picture lacks is told by whoever reads the cache: a task does not fail for it. A task whose worker died twice
    is left to this machine.
    """
    if not far_away() or len(pictures) <= CHUNK:
        return
    chunks = [tuple(pictures[start : start + CHUNK]) for start in range(0, len(pictures), CHUNK)]
    progress = Progress(label, len(chunks), quiet=quiet)
    gpus = GPU_SHARE if work.device.startswith("cuda") else 0.0
    for outcome in run_tasks(partial(embed_chunk, work), chunks, progress=progress, gpus=gpus):
        if outcome.error is not None and not isinstance(outcome.error, WorkerLostError):
            raise outcome.error


def embed_chunk(work: VectorWork, pictures: Sequence[Path]) -> None:
    """Vectors of some pictures, stored in the cache."""
    from osml.nets.embeddings import embed_images
    from osml.nets.encoders import build_encoder

    embed_images(pictures, build_encoder(work.encoder), work.settings, cache=work.cache, device=work.device)
