"""Where a slide's pixels come from: OpenSlide, its tiled TIFF and SVS levels decoded directly, or tifffile alone."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osml.errors import missing_extra
from osml.imaging.errors import UnreadableError
from osml.imaging.slides import Pixels, Source
from osml.imaging.slides_tiff import WHITE, Segments, TiffFile, is_tiff, segments_of

# Formats whose levels are pages of plain tiles, without overlap or offset.
_PLAIN = ("aperio", "generic-tiff")
_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # µm per inch, per centimetre
_OME_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}


@dataclass(frozen=True)
class Opened:
    """An open file: sizes and downsamples of its levels, its µm per pixel along x and y if it knows them."""

    source: Source
    vendor: str
    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    segments: tuple[tuple[int, int], ...]
    mpp: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def open_source(path: Path) -> Opened:
    """Open with OpenSlide where it knows the format, else with tifffile.

    Raises
    ------
    UnreadableError
        Damaged, truncated, or no whole slide.
    """
    openslide = _openslide()
    vendor = openslide.OpenSlide.detect_format(path)
    tiff = TiffFile(path) if vendor in (None, *_PLAIN) and is_tiff(path) else None
    try:
        if tiff is not None and (vendor is None or len(tiff.ome_levels) > 1):
            return _open_tiff(tiff)
        if vendor is None:
            raise UnreadableError(
                f"{path}: not a whole slide of a known format",
                do="Export it as SVS, or as tiled pyramidal TIFF; a single picture is an input of `kind: image`.",
            )
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise UnreadableError(
                f"{path}: cannot be opened as a slide ({_short(error)})",
                do="Copy it again from its source, or export it as SVS or tiled pyramidal TIFF.",
            ) from error
        return _open_openslide(path, slide, vendor, tiff)
    except BaseException:
        if tiff is not None:
            tiff.close()
        raise


def _open_openslide(path: Path, slide: Any, vendor: str, tiff: TiffFile | None) -> Opened:
    found = [tiff.segments(w, h) if tiff is not None else None for w, h in slide.level_dimensions]
    source = OpenSlideSource(path, slide, tiff, found)
    along = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    return Opened(
        source, vendor, tuple(slide.level_dimensions), tuple(float(d) for d in slide.level_downsamples),
        tuple((s.tile_width, s.tile_height) if s is not None else (0, 0) for s in found),
        (float(along[0]), float(along[1])) if along[0] and along[1] else None,
    )  # fmt: skip


def _open_tiff(tiff: TiffFile) -> Opened:
    pages = tiff.ome_levels if len(tiff.ome_levels) > 1 else tiff.pages
    levels = sorted(filter(None, map(segments_of, pages)), key=lambda s: -s.width)
    # A thumbnail or label of another shape is no level.
    levels = [s for s in levels if abs(s.width * levels[0].height / (s.height * levels[0].width) - 1) < 0.05]
    if not levels:
        raise UnreadableError(
            f"{tiff.path}: not a tiled TIFF of 8-bit RGB with JPEG, deflate, LZW or no compression",
            why="It would have to be decoded whole to read a part of it.",
            do="Export it as tiled pyramidal TIFF (for example with QuPath or libvips).",
        )
    return Opened(
        TiffSource(tiff, levels), "tiff", tuple((s.width, s.height) for s in levels),
        tuple((levels[0].width / s.width + levels[0].height / s.height) / 2 for s in levels),
        tuple((s.tile_width, s.tile_height) for s in levels), _mpp_of(tiff),
    )  # fmt: skip


def _mpp_of(tiff: TiffFile) -> tuple[float, float] | None:
    """From OME's PhysicalSize, else from the resolution of the first page."""
    if tiff.ome is not None:
        pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", tiff.ome)
        sizes = []
        for axis in "XY":
            size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', pixels.group()) if pixels else None
            unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', pixels.group()) if pixels else None
            factor = _OME_UM.get(unit.group(1) if unit else "µm")
            if size is None or factor is None:
                return None
            sizes.append(float(size.group(1)) * factor)
        return sizes[0], sizes[1]
    tags = tiff.pages[0].tags
    per = _PER_UNIT.get(tags.valueof("ResolutionUnit", 0))
    along = [tags.valueof(f"{axis}Resolution") for axis in "XY"]
    if per is None or not all(value and value[0] and value[1] for value in along):
        return None
    return per * along[0][1] / along[0][0], per * along[1][1] / along[1][0]


class TiffSource:
    """Levels of a tiled TIFF that OpenSlide does not read, or not whole."""

    def __init__(self, tiff: TiffFile, levels: list[Segments]) -> None:
        self._tiff, self._levels = tiff, levels

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        """A region in the level's pixels."""
        return self._tiff.read(self._levels[level], x, y, w, h)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


class OpenSlideSource:
    """OpenSlide; levels of plain tiles are decoded directly, once one tile was compared with OpenSlide's own pixels.

    Where a level is smaller than the first by no whole number, OpenSlide shifts what it reads by a part of a pixel;
    the direct way gives the pixels as they are stored.
    """

    def __init__(self, path: Path, slide: Any, tiff: TiffFile | None, segments: list[Segments | None]) -> None:
        self._path, self._slide, self._tiff = path, slide, tiff
        self._segments = segments
        self._agrees: dict[int, bool] = {}
        self._lock = threading.Lock()

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        """A region in the level's pixels."""
        segments = self._segments[level]
        if self._tiff is None or segments is None or not self._same(level, segments) or not segments.whole(x, y, w, h):
            return self.read_region(level, x, y, w, h)
        return self._tiff.read(segments, x, y, w, h)

    def read_region(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        """The same by OpenSlide alone."""
        down = self._slide.level_downsamples[level]
        try:
            picture = self._slide.read_region((round(x * down), round(y * down)), level, (w, h))
        except _openslide().OpenSlideError as error:
            raise UnreadableError(
                f"{self._path}: the region at {x}, {y} of level {level} cannot be read ({_short(error)})",
                do="Copy the slide again from its source, or export it again.",
            ) from error
        rgba = np.asarray(picture)
        out = np.ascontiguousarray(rgba[..., :3])
        alpha = rgba[..., 3:]
        if alpha.min() == WHITE:
            return out
        share = alpha.astype(np.float32) / WHITE
        return np.rint(out * share + WHITE * (1 - share)).astype(np.uint8)

    def _same(self, level: int, segments: Segments) -> bool:
        """Whether a tile, the nearest to the middle that OpenSlide reads without a shift, decodes to its pixels."""
        with self._lock:
            if level not in self._agrees:
                self._agrees[level] = self._compare(level, segments)
            return self._agrees[level]

    def _compare(self, level: int, segments: Segments) -> bool:
        assert self._tiff is not None
        down = self._slide.level_downsamples[level]
        middle = (segments.across // 2, segments.height // segments.tile_height // 2)
        for column, row in (middle, (0, 0)):
            x, y = column * segments.tile_width, row * segments.tile_height
            exact = all(abs(v * down - round(v * down)) < 1e-6 for v in (x, y))
            w, h = min(segments.tile_width, segments.width - x), min(segments.tile_height, segments.height - y)
            if exact and w > 0 and h > 0 and segments.whole(x, y, w, h):
                return bool(np.array_equal(self._tiff.read(segments, x, y, w, h), self.read_region(level, x, y, w, h)))
        return False

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ").strip()[:120] or type(error).__name__


def _openslide() -> Any:
    try:
        import openslide
    except ImportError as error:
        raise missing_extra("openslide", "slides", "reading whole slides") from error
    return openslide
