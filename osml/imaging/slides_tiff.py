"""The tiles of a TIFF or SVS file as they lie in it: decoded straight into RGB, without a canvas in between.

`read_region` of OpenSlide paints onto a canvas with alpha and converts it back; decoding alone takes an eighth of that.
Only what decodes to the same bytes is read here (8-bit RGB, contiguous; JPEG, deflate, LZW or no compression).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.errors import UnreadableError

if TYPE_CHECKING:
    import tifffile

Pixels = NDArray[np.uint8]
WHITE = 255
# TIFF codes: none, LZW, JPEG, deflate (two codes).
_COMPRESSIONS = (1, 5, 7, 8, 32946)
_RGB, _YCBCR, _JPEG = 2, 6, 7
# What tifffile and the codecs raise on damaged files; the codecs' own errors are RuntimeErrors.
DAMAGE = (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, struct.error)


@dataclass(frozen=True)
class Segments:
    """The tiles of one page.

    Attributes
    ----------
    width, height : of the page
    tile_width, tile_height : of its tiles; those at the right and lower border reach beyond the page
    offsets, counts : bytes of each tile, row by row; a count of 0 is a tile that was never written
    page : tifffile's page, which knows how to decode
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    page: Any

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    def covering(self, x: int, y: int, w: int, h: int) -> Iterator[tuple[int, int, int]]:
        """(index, left, top) of the tiles that a region of the page touches."""
        left, top = max(x, 0) // self.tile_width, max(y, 0) // self.tile_height
        right, low = min(x + w, self.width), min(y + h, self.height)
        for row in range(top, -(-low // self.tile_height) if low > 0 else 0):
            for column in range(left, -(-right // self.tile_width) if right > 0 else 0):
                yield row * self.across + column, column * self.tile_width, row * self.tile_height

    def whole(self, x: int, y: int, w: int, h: int) -> bool:
        """Whether every tile of a region was written."""
        return all(self.counts[index] > 0 for index, _, _ in self.covering(x, y, w, h))


class TiffFile:
    """An open TIFF file and those of its pages that can be read tile by tile.

    Raises
    ------
    UnreadableError
        Damaged, or truncated: a tile lies beyond the end of the file.
    """

    def __init__(self, path: Path) -> None:
        tiff = _tifffile()
        self.path = path
        try:
            with tiff.TiffFile(path) as file:
                self.pages: list[tifffile.TiffPage] = [page for page in file.pages if isinstance(page, tiff.TiffPage)]
                self.ome = file.ome_metadata if file.is_ome else None
                series = file.series[0].levels if file.is_ome else []
                self.ome_levels = [level.keyframe for level in series]
                for page in {id(p): p for p in [*self.pages, *self.ome_levels]}.values():
                    _require_whole(path, page)
        except DAMAGE as error:
            if isinstance(error, UnreadableError):
                raise
            raise UnreadableError(
                f"{path}: cannot be read as TIFF ({_words(error, path)})", do="Copy the slide again from its source."
            ) from error
        self._handle = os.open(path, os.O_RDONLY)

    def segments(self, width: int, height: int) -> Segments | None:
        """The tiles of the page of this size; None where there is none, or several, or one of another kind."""
        found = [p for p in self.pages if (p.imagewidth, p.imagelength) == (width, height) and p.is_tiled]
        return segments_of(found[0]) if len(found) == 1 else None

    def read(self, segments: Segments, x: int, y: int, w: int, h: int) -> Pixels:
        """A region of a page, uint8 (h, w, 3); white where the page ends and where tiles were not written.

        Raises
        ------
        UnreadableError
            A tile is damaged.
        """
        out = np.empty((h, w, 3), dtype=np.uint8)
        if x < 0 or y < 0 or x + w > segments.width or y + h > segments.height or not segments.whole(x, y, w, h):
            out[:] = WHITE
        for index, left, top in segments.covering(x, y, w, h):
            if not segments.counts[index]:
                continue
            tile = self._tile(segments, index)
            high = min(top + segments.tile_height, segments.height, y + h)
            wide = min(left + segments.tile_width, segments.width, x + w)
            first_x, first_y = max(left, x), max(top, y)
            out[first_y - y : high - y, first_x - x : wide - x] = tile[
                first_y - top : high - top, first_x - left : wide - left
            ]
        return out

    def _tile(self, segments: Segments, index: int) -> Pixels:
        count = int(segments.counts[index])
        try:
            # At a place of its own, so that threads share the file.
            data = os.pread(self._handle, count, int(segments.offsets[index]))
            if len(data) < count:
                raise EOFError(f"{count - len(data)} of {count} bytes are missing")
            tile = _decoded(segments.page, index, data)
            row, column = divmod(index, segments.across)
            want = (
                min(segments.tile_height, segments.height - row * segments.tile_height),
                min(segments.tile_width, segments.width - column * segments.tile_width),
            )
            if tile.shape[0] < want[0] or tile.shape[1] < want[1] or tile.shape[2:] != (3,):
                raise ValueError(f"it holds {tile.shape} pixels")
            return tile
        except (*DAMAGE, EOFError) as error:
            raise UnreadableError(
                f"{self.path}: tile {index} of its {segments.width}×{segments.height} level cannot be decoded "
                f"({_words(error, self.path)})",
                do="Copy the slide again from its source, or export it again.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def segments_of(page: Any) -> Segments | None:
    """The tiles of a page if they can be decoded to the bytes that OpenSlide gives, else None."""
    plain = (
        page.is_tiled
        and page.compression in _COMPRESSIONS
        and page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == 1
        and page.imagedepth == 1
        and (page.photometric == _RGB or (page.photometric == _YCBCR and page.compression == _JPEG))
        and page.tags.valueof("Orientation", 1) == 1
        and page.fillorder == 1
    )
    if not plain:
        return None
    return Segments(
        page.imagewidth, page.imagelength, page.tilewidth, page.tilelength,
        np.asarray(page.dataoffsets, dtype=np.int64), np.asarray(page.databytecounts, dtype=np.int64), page,
    )  # fmt: skip


def _decoded(page: Any, index: int, data: bytes) -> Pixels:
    if page.compression != _JPEG:
        return page.decode(data, index)[0][0]
    import imagecodecs

    # As OpenSlide does it: the tag alone says whether the three components are RGB (Aperio) or YCbCr.
    space = "YCBCR" if page.photometric == _YCBCR else "RGB"
    return imagecodecs.jpeg8_decode(data, tables=page.jpegtables, colorspace=space, outcolorspace="RGB")


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF or BigTIFF files do."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _require_whole(path: Path, page: Any) -> None:
    ends = np.asarray(page.dataoffsets, dtype=np.int64) + np.asarray(page.databytecounts, dtype=np.int64)
    size = path.stat().st_size
    if len(ends) and int(ends.max()) > size:
        raise UnreadableError(
            f"{path}: truncated: the file ends at byte {size:,}, its pixels at {int(ends.max()):,} "
            f"({int((ends > size).sum())} of {len(ends)} tiles of the {page.imagewidth}×{page.imagelength} level)",
            why="A part of the tissue would be missing.",
            do="Copy the slide again from its source.",
        )


def _words(error: BaseException, path: Path) -> str:
    text = str(error).replace(str(path), "the file").replace("\n", " ").strip()
    return text[:120] or type(error).__name__


def _tifffile() -> Any:
    try:
        import imagecodecs  # noqa: F401 - tifffile decodes with it
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile with imagecodecs", "slides", "reading whole slides") from error
    return tifffile
