"""Pictures as encoders take them: decoded once, brought to size, kept as uint8."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from osml.cache import Cache, content_key
from osml.engine import Progress, cores
from osml.errors import InvalidInputError, missing_extra
from osml.files import sha256_file
from osml.imaging.errors import DimensionError, ImagingError, UnreadableError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image as PillowImage

Pixels = NDArray[np.uint8]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
T = TypeVar("T")
FORMATS = ("PNG", "JPEG", "TIFF")
# A small file can hold a picture that fills the memory.
MAX_PIXELS = 80_000_000
# Images are kept a little larger than the encoder's input, so that random crops do not enlarge pixels.
STORE_MARGIN = 1.14
# Part of a content key: raise it when the pixels that leave this module change.
PIXELS_VERSION = "pixels-1"


@dataclass(frozen=True)
class ImageFailure:
    """Why an image could not be used: its position, the short code, the words."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True)
class ImageStack:
    """Pictures of one size, decoded once.

    pixels : uint8 tensor (n, 3, size, size) on the CPU; black where an image is in `failures`
    failures : images that could not be used
    hashes : SHA-256 of each file, None where it could not be read
    """

    pixels: torch.Tensor
    failures: tuple[ImageFailure, ...]
    hashes: tuple[str | None, ...]


def decode(path: Path) -> Pixels:
    """A PNG, JPEG or TIFF file as uint8 (h, w, 3); a camera's rotation (EXIF) is applied, colour profiles are not.

    Grey is repeated over three channels; 16 bits are rounded to 8 (full scale, no window); palettes and CMYK become
    RGB; an alpha channel without effect is dropped.

    Raises
    ------
    UnreadableError
        Missing, damaged, truncated, or another format.
    DimensionError
        Several pages, more than 80 megapixels, transparent pixels, or grey values that are not 8 or 16 bits.
    """
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise missing_extra("pillow", "nets", "reading pictures") from error
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check(picture, path)
            upright = ImageOps.exif_transpose(picture)
            upright.load()
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 100") from error
    except ImagingError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        detail = str(error).replace(str(path), "the file").strip()[:120] or type(error).__name__
        raise UnreadableError(f"{path}: cannot be read as a picture ({detail})") from error
    return _rgb8(upright, path)


def fit(pixels: Pixels, size: int, interpolation: str = "bicubic") -> Pixels:
    """The whole picture as (size, size, 3), anti-aliased; one that is not square is stretched, nothing is cut off."""
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    filters = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    if interpolation not in filters:
        raise InvalidInputError(f"interpolation {interpolation!r}; {', '.join(filters)} are known")
    return np.asarray(Image.fromarray(pixels).resize((size, size), filters[interpolation]))


def crops(pixels: Pixels, size: int, name: str = "picture") -> Pixels:
    """The fewest crops (k, size, size, 3) at native scale that cover the picture, evenly spread, row by row.

    A tile of twice the size gives its four quadrants. Where the sides are no multiples, neighbours overlap.

    Raises
    ------
    DimensionError
        The picture is smaller than one crop.

    >>> crops(np.zeros((448, 500, 3), dtype=np.uint8), 224).shape
    (6, 224, 224, 3)
    """
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise DimensionError(
            f"{name}: {width}×{height} px; a crop at native scale has {size}×{size}",
            do="Use `scale: resize`, or pictures of a higher resolution.",
        )
    return np.stack([pixels[y : y + size, x : x + size] for y, x in corners(height, width, size)])


def corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of the `crops` of a picture, in their order."""
    return [(y, x) for y in _offsets(height, size) for x in _offsets(width, size)]


def stack_images(
    paths: Sequence[Path],
    size: int,
    *,
    interpolation: str = "bicubic",
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageStack:
    """Decode pictures once, in threads, to `size`; for training take `stored_size(encoder.size)`.

    Parameters
    ----------
    cache : folder for the small pictures, keyed by content; none: nothing is kept
    workers : threads; None: one per core

    Takes 3 · size² bytes of memory (and of cache) per picture: 0.2 MB at 256 px.
    """
    import torch

    # The layout that convolutions take, so that batches are copied as they lie.
    pixels = torch.zeros((len(paths), 3, size, size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    place = pixels.permute(0, 2, 3, 1).numpy()
    hashes: list[str | None] = [None] * len(paths)
    failures = []
    kept = Cache(cache, ".u8") if cache is not None else None

    def small(path: Path) -> tuple[str, Pixels] | ImagingError:
        if not path.is_file():
            return UnreadableError(f"{path}: no such file")
        digest = sha256_file(path)
        key = content_key([PIXELS_VERSION, digest, str(size), interpolation])
        data = kept.load(key) if kept else None
        if data is not None and len(data) == 3 * size * size:
            return digest, np.frombuffer(data, dtype=np.uint8).reshape(size, size, 3)
        try:
            picture = fit(decode(path), size, interpolation)
        except ImagingError as error:
            return error
        if kept:
            kept.store(key, picture.tobytes())
        return digest, picture

    for index, result in in_threads(small, paths, workers):
        if isinstance(result, ImagingError):
            failures.append(ImageFailure(index, result.reason, str(result)))
        else:
            hashes[index], place[index] = result
        if progress is not None:
            progress.step()
    return ImageStack(pixels, tuple(failures), tuple(hashes))


def stored_size(size: int) -> int:
    """Side of the pictures that are kept for training with random crops: 1.14 × the encoder's size.

    >>> stored_size(224)
    256
    """
    return round(size * STORE_MARGIN / 2) * 2


def in_threads(function: Callable[[Path], T], paths: Sequence[Path], workers: int | None) -> Iterator[tuple[int, T]]:
    """`(index, function(path))` in order; threads run a little ahead, so that memory stays small."""
    ahead = max(1, cores() if workers is None else workers)
    waiting: deque[tuple[int, Future[T]]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        try:
            for index, path in enumerate(paths):
                waiting.append((index, pool.submit(function, path)))
                if len(waiting) > 4 * ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _offsets(side: int, size: int) -> list[int]:
    count, room = -(-side // size), side - size
    # Rounded up, which leaves no gap, and mirrored, so that a turned picture has the turned crops.
    left = [-(-i * room // (count - 1)) for i in range((count + 1) // 2)] if count > 1 else [0]
    return left + [room - offset for offset in reversed(left[: count // 2])]


def _check(picture: PillowImage, path: Path) -> None:
    pages = getattr(picture, "n_frames", 1)
    # Telephones append previews to a JPEG (MPO); its first page is the picture.
    if pages > 1 and picture.format != "MPO":
        raise DimensionError(f"{path}: {pages} pages; a picture of one page is expected")
    if picture.width * picture.height > MAX_PIXELS:
        megapixels = f"{picture.width * picture.height / 1e6:.0f}"
        raise _too_large(path, megapixels, f"{picture.width}×{picture.height}, ")


def _too_large(path: Path, megapixels: str, size: str = "") -> DimensionError:
    return DimensionError(
        f"{path}: {size}{megapixels} megapixels; at most {MAX_PIXELS // 1_000_000}",
        why="It was not decoded: small files can hold pictures that fill the memory.",
        do="Scale it down or cut it; a whole slide is read in tiles.",
    )


def _rgb8(picture: PillowImage, path: Path) -> Pixels:
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        clear = int((np.asarray(picture.getchannel("A")) < 255).sum())
        if clear:
            raise DimensionError(
                f"{path}: {clear} of {picture.width * picture.height} pixels are transparent",
                why="Their colour would be guessed.",
                do="Flatten the picture onto a background.",
            )
    if picture.mode in ("I", "F"):
        raise DimensionError(
            f"{path}: grey values of type {'int32' if picture.mode == 'I' else 'float32'}",
            why="Which value is white would be guessed.",
            do="Save the picture with 8 or 16 bits.",
        )
    if picture.mode.startswith("I;16"):
        wide: NDArray[Any] = np.asarray(picture).astype(np.uint32)
        return np.repeat(((wide + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))
