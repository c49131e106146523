"""Vectors of pictures from a frozen encoder: computed once per file, cached by content, the same in any batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osml.cache import Cache, content_key
from osml.engine import Progress, cores
from osml.errors import InvalidInputError
from osml.files import sha256_file
from osml.imaging.errors import ImagingError, UnreadableError
from osml.imaging.stain import stain_augment
from osml.nets.device import one_thread
from osml.nets.encoders import Encoder
from osml.nets.images import PIXELS_VERSION, ImageFailure, Pixels, crops, decode, fit, in_threads

VIEWS = 8
# Of the copies that `stain` draws: SD of the log factor of either stain, and of the OD added to a channel.
STAIN_SIGMA, STAIN_OFFSET = 0.2, 0.02
BATCH_CPU, BATCH_GPU = 8, 64


@dataclass(frozen=True)
class EmbeddingSettings:
    """How a picture becomes vectors.

    scale : resize: the whole picture at the encoder's size; native: crops that cover it without resizing, the mean and
        maximum of their vectors side by side. Native sees cells as they are and takes as many passes as there are crops
    orientation : fixed; or free, for pictures that have no up and no left (histology): eight vectors, one per flip and
        rotation, at eight times the cost
    stain : copies of an H&E picture with other strengths of its stains and another light, each turned at random where
        the orientation is free; they stand behind the vector of the picture as it is, which alone counts in prediction
    """

    scale: Literal["resize", "native"] = "resize"
    orientation: Literal["fixed", "free"] = "fixed"
    stain: int = 0

    def __post_init__(self) -> None:
        if self.scale not in ("resize", "native"):
            raise InvalidInputError(f"scale {self.scale!r}: resize or native is expected")
        if self.orientation not in ("fixed", "free"):
            raise InvalidInputError(f"orientation {self.orientation!r}: fixed or free is expected")
        if self.stain < 0:
            raise InvalidInputError(f"stain {self.stain}: a number of copies is expected")

    @property
    def views(self) -> int:
        """Vectors per picture."""
        if self.stain:
            return 1 + self.stain
        return VIEWS if self.orientation == "free" else 1

    def for_prediction(self) -> EmbeddingSettings:
        """Without the copies that only training draws from."""
        return EmbeddingSettings(self.scale) if self.stain else self

    def width(self, encoder: Encoder) -> int:
        """Length of a vector."""
        return encoder.width * (2 if self.scale == "native" else 1)


@dataclass(frozen=True)
class Embeddings:
    """Vectors of pictures, in the order of the files.

    values : float32 (n, views, width); NaN where the picture is in `failures`
    failures : pictures that could not be used
    hashes : SHA-256 of each file, None where it could not be read
    from_cache : pictures that were not computed again
    """

    values: NDArray[np.float32]
    failures: tuple[ImageFailure, ...]
    hashes: tuple[str | None, ...]
    from_cache: int


@dataclass(frozen=True)
class _Read:
    digest: str
    key: str
    vectors: NDArray[np.float32] | None
    pieces: Tensor | None


def embed_images(
    paths: Sequence[Path],
    encoder: Encoder,
    settings: EmbeddingSettings | None = None,
    *,
    cache: Path | None = None,
    device: str = "cpu",
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Vectors of picture files, read in threads while the encoder runs.

    Parameters
    ----------
    encoder : frozen; moved to `device` and left there
    cache : folder; a file with the same content, encoder and settings is not computed again. None: nothing is kept
    batch : pieces per pass; changes time, memory and the last digits (it is part of the cache's key). None: 8, on a
        GPU 64
    workers : threads that read, and on the CPU compute; None: one per core. Changes no bit of the result, nor do the
        order and number of files

    Raises
    ------
    InvalidInputError
        The encoder is not frozen: its vectors would be out of date after the first step.
    """
    settings = settings or EmbeddingSettings()
    if encoder.tune != "frozen":
        raise InvalidInputError(f"embeddings need a frozen encoder, this one has tune: {encoder.tune}")
    size = (BATCH_GPU if device.startswith("cuda") else BATCH_CPU) if batch is None else batch
    if size < 1:
        raise InvalidInputError(f"batch of {size}; 1 or more is expected")
    encoder = encoder.to(device)
    kept = Cache(cache, ".f32") if cache is not None else None
    shape = (settings.views, settings.width(encoder))
    values = np.full((len(paths), *shape), np.nan, dtype=np.float32)
    hashes: list[str | None] = [None] * len(paths)
    failures: list[ImageFailure] = []
    from_cache = 0
    recipe = _recipe(encoder, settings, device, size)

    def read(path: Path) -> _Read | ImagingError:
        if not path.is_file():
            return UnreadableError(f"{path}: no such file")
        digest = sha256_file(path)
        key = content_key([*recipe, digest])
        data = kept.load(key) if kept else None
        if data is not None and len(data) == 4 * shape[0] * shape[1]:
            return _Read(digest, key, np.frombuffer(data, dtype="<f4").reshape(shape), None)
        try:
            return _Read(digest, key, None, _pieces(decode(path), encoder, settings, path.name, digest))
        except ImagingError as error:
            return error

    keys: dict[int, str] = {}

    def to_compute() -> Iterator[tuple[int, Tensor]]:
        nonlocal from_cache
        for index, result in in_threads(read, paths, workers):
            if isinstance(result, ImagingError):
                failures.append(ImageFailure(index, result.reason, str(result)))
            else:
                hashes[index], keys[index] = result.digest, result.key
                if result.pieces is not None:
                    yield index, result.pieces
                    continue
                from_cache += 1
                values[index] = result.vectors
            if progress is not None:
                progress.step()

    runners = 1 if device.startswith("cuda") else cores() if workers is None else max(1, workers)
    with one_thread(), closing(_embedded(to_compute(), encoder, settings.views, size, device, runners)) as computed:
        for index, vectors in computed:
            # (crops, views, d) to (views, d) or (views, 2 d)
            pooled = (
                vectors[0] if settings.scale == "resize" else np.concatenate([vectors.mean(0), vectors.max(0)], axis=1)
            )
            values[index] = pooled
            if kept:
                kept.store(keys[index], pooled.astype("<f4").tobytes())
            if progress is not None:
                progress.step()
    return Embeddings(values, tuple(failures), tuple(hashes), from_cache)


def views_of(images: Tensor, views: int = VIEWS) -> Tensor:
    """(views, n, 3, s, s): four quarter turns, then the same of the mirror image; with 1 view the picture alone."""
    if views == 1:
        return images[None]
    both = (images, images.flip(3))
    return torch.stack([image.rot90(turns, (2, 3)) for image in both for turns in range(4)])


def _recipe(encoder: Encoder, settings: EmbeddingSettings, device: str, batch: int) -> tuple[str, ...]:
    # Versions because kernels and model definitions change; the kind of device because last digits differ.
    return (
        "embedding-1", PIXELS_VERSION, encoder.record.model, encoder.record.sha256, encoder.arguments,
        str(encoder.size), encoder.interpolation, settings.scale, settings.orientation,
        *([f"layers {' '.join(encoder.layers)}"] if encoder.layers else []),
        *([f"stain {settings.stain} {STAIN_SIGMA} {STAIN_OFFSET}"] if settings.stain else []),
        device.partition(":")[0], str(batch),
        version("torch"), version("timm"),
    )  # fmt: skip


def _pieces(pixels: Pixels, encoder: Encoder, settings: EmbeddingSettings, name: str, digest: str) -> Tensor:
    """What the encoder takes of a picture, uint8 (crops · views, 3, size, size), the views of a crop together."""
    if not settings.stain:
        return views_of(_cut(pixels, encoder, settings, name), settings.views).transpose(0, 1).flatten(0, 1)
    versions = [pixels]
    for copy in range(settings.stain):
        # From the picture's content: the same picture has the same copies in every study and every order.
        rng = np.random.default_rng([int(digest[:15], 16), copy])
        version = stain_augment(pixels, rng, STAIN_SIGMA, offset=STAIN_OFFSET)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        if settings.orientation == "free":
            version = np.rot90(version[:, ::-1] if mirrored else version, turns)
        versions.append(np.ascontiguousarray(version))
    each = [_cut(version, encoder, settings, name) for version in versions]
    return torch.stack(each).transpose(0, 1).flatten(0, 1)


def _cut(pixels: Pixels, encoder: Encoder, settings: EmbeddingSettings, name: str) -> Tensor:
    native = settings.scale == "native"
    cut = crops(pixels, encoder.size, name) if native else fit(pixels, encoder.size, encoder.interpolation)[None]
    return torch.tensor(cut).permute(0, 3, 1, 2)  # a copy: pictures come read-only from the decoder


def _embedded(
    stream: Iterator[tuple[int, Tensor]], encoder: Encoder, views: int, batch: int, device: str, runners: int
) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
    """(index, vectors (crops, views, d)) in the stream's order, from batches that cross the borders of pictures."""
    waiting: deque[tuple[int, int]] = deque()  # index, and pieces that will come out
    queued: list[Tensor] = []
    running: deque[Future[Tensor]] = deque()
    done: list[Tensor] = []

    def finished(most: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        while len(running) > most:
            done.append(running.popleft().result())
        while waiting and sum(map(len, done)) >= waiting[0][1]:
            index, count = waiting.popleft()
            joined = torch.cat(done)
            done[:] = [joined[count:]] if len(joined) > count else []
            yield index, joined[:count].reshape(count // views, views, -1).numpy()

    # Parallel over batches, each on one thread: sums then have one order whatever the number of cores.
    with ThreadPoolExecutor(runners, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for index, pieces in stream:
            queued.append(pieces)
            waiting.append((index, len(pieces)))
            if sum(map(len, queued)) >= batch:
                *full, rest = torch.cat(queued).split(batch)
                if len(rest) == batch:
                    full.append(rest)
                queued[:] = [rest] if len(rest) < batch else []
                for images in full:
                    running.append(pool.submit(_forward, encoder, images, batch, device))
                    yield from finished(2 * runners)
        if queued:
            running.append(pool.submit(_forward, encoder, torch.cat(queued), batch, device))
        yield from finished(0)


def _forward(encoder: Encoder, images: Tensor, batch: int, device: str) -> Tensor:
    # Kernels, and with them last digits, depend on the size of a batch, so that all batches have the same.
    n = len(images)
    padded = torch.cat([images, images[:1].expand(batch - n, -1, -1, -1)])
    with torch.inference_mode():
        return encoder(padded.to(device))[:n].float().cpu()
