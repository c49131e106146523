"""Whole slides: levels, µm per pixel, and the pixels of any region. OpenSlide reads; tiled TIFF and SVS go faster.

Only what the pixels need is taken from a file: sizes, scale, vendor. Names, dates and numbers of its metadata are not
kept, and the pictures of label and whole glass are never read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.errors import ScaleError, UnreadableError

Pixels = NDArray[np.uint8]
# Microscopes give 0.1 (100×) to 10 µm per pixel (1×). 352.8 and 84.7 are 72 and 300 dots per inch, which programs
# write where they know nothing.
PLAUSIBLE_MPP = (0.05, 20.0)
# Scanners' axes differ by less; more is a file whose scale nobody checked.
MAX_ANISOTROPY = 0.02
# A level whose scale is this near to the one asked for is read as it is stored.
SAME_SCALE = 0.02


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    width, height : pixels
    downsample : pixels of level 0 per pixel
    mpp : µm per pixel
    segment : width and height of the tiles that the file stores it in; (0, 0) where they cannot be read singly
    """

    width: int
    height: int
    downsample: float
    mpp: float
    segment: tuple[int, int] = (0, 0)


class Source(Protocol):
    """What gives a slide's pixels."""

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Slide:
    """An open slide; threads may read it at once, processes open their own.

    Attributes
    ----------
    path, name : file; its name in messages and results
    vendor : the format, as OpenSlide calls it; `tiff` where tifffile reads it
    mpp : µm per pixel of level 0
    mpp_source : where that was read: file, or override
    levels : largest first
    notes : what a reader should know

    Examples
    --------
    >>> with open_slide("a.svs") as slide:  # doctest: +SKIP
    ...     region = slide.read(0, x=1000, y=2000, w=512, h=512)
    """

    path: Path
    name: str
    vendor: str
    mpp: float
    mpp_source: str
    levels: tuple[Level, ...]
    notes: tuple[str, ...]
    _source: Source = field(repr=False)

    @property
    def width(self) -> int:
        return self.levels[0].width

    @property
    def height(self) -> int:
        return self.levels[0].height

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        """A region of a level, in that level's own pixels: uint8 (h, w, 3), white outside the slide.

        Raises
        ------
        UnreadableError
            The region is damaged.
        """
        if not 0 <= level < len(self.levels) or w <= 0 or h <= 0:
            raise InvalidInputError(
                f"{self.name}: a region of {w}×{h} of level {level}; {len(self.levels)} levels exist"
            )
        return self._source.read(level, x, y, w, h)

    def level_for(self, mpp: float) -> int:
        """The coarsest level that is at least as fine as `mpp`, within `SAME_SCALE`.

        Raises
        ------
        ScaleError
            The slide is coarser: pixels would be invented.
        """
        fine = [k for k, level in enumerate(self.levels) if level.mpp <= mpp * (1 + SAME_SCALE)]
        if not fine:
            raise ScaleError(
                f"{self.name}: {mpp:g} µm per pixel are asked for; the slide has {self.mpp:.4g}",
                why="Pixels between those that were scanned would be invented.",
                do=f"Ask for {self.mpp:.4g} µm per pixel or more.",
            )
        return max(fine, key=lambda k: self.levels[k].mpp)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_slide(path: Path | str, *, mpp: float | None = None, name: str | None = None) -> Slide:
    """Open a whole slide.

    Parameters
    ----------
    path : any format of OpenSlide (SVS, NDPI, MRXS, SCN, BIF, generic tiled TIFF, DICOM …), or a tiled RGB TIFF or
        OME-TIFF
    mpp : µm per pixel of level 0, instead of the file's own
    name : of the slide in messages and results; default: the file's name without its suffix

    Raises
    ------
    UnreadableError
        Missing, damaged, truncated, or not a whole slide.
    ScaleError
        The file does not say its µm per pixel, or implausibly, and `mpp` is not given.
    """
    from osml.imaging.slides_sources import open_source

    path = Path(path)
    name = path.stem if name is None else name
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    if mpp is not None and not 0.01 <= mpp <= 1000:
        raise InvalidInputError(f"{name}: mpp {mpp:g}; 0.01 to 1000 µm per pixel are expected")
    opened = open_source(path)
    try:
        scale, source, notes = _scale(name, opened.mpp, mpp)
        first = opened.sizes[0]
        levels = tuple(
            Level(w, h, down, scale * down, segment)
            for (w, h), down, segment in zip(opened.sizes, opened.downsamples, opened.segments, strict=True)
        )
        slide = Slide(path, name, opened.vendor, scale, source, levels, (*opened.notes, *notes), opened.source)
        # Damage inside is otherwise found after hours.
        slide.read(0, first[0] // 2, first[1] // 2, 1, 1)
        slide.read(len(levels) - 1, levels[-1].width // 2, levels[-1].height // 2, 1, 1)
    except BaseException:
        opened.source.close()
        raise
    return slide


def _scale(name: str, found: tuple[float, float] | None, given: float | None) -> tuple[float, str, tuple[str, ...]]:
    """µm per pixel, where from, notes."""
    if given is not None:
        if found is not None and abs(found[0] / given - 1) > 0.05 and _plausible(found):
            return given, "override", (f"mpp {given:g} was given; the file says {found[0]:.4g}",)
        return given, "override", ()
    do = "Give it as `mpp` (the scanner's log or its vendor knows it: about 0.25 at 40×, 0.5 at 20×)."
    why = "Sizes of tiles, areas and rates would be guessed."
    if found is None:
        raise ScaleError(f"{name}: the file does not say its µm per pixel", why=why, do=do)
    if not _plausible(found):
        low, high = PLAUSIBLE_MPP
        raise ScaleError(
            f"{name}: the file says {found[0]:.4g} × {found[1]:.4g} µm per pixel; {low:g} to {high:g} are plausible "
            "(a printer's resolution?)",
            why=why, do=do,
        )  # fmt: skip
    if abs(found[0] / found[1] - 1) > MAX_ANISOTROPY:
        raise ScaleError(
            f"{name}: {found[0]:.4g} µm per pixel across and {found[1]:.4g} down",
            why="Pixels are taken as squares.", do=do,
        )  # fmt: skip
    return (found[0] + found[1]) / 2, "file", ()


def _plausible(mpp: tuple[float, float]) -> bool:
    return all(PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1] for value in mpp)
