"""Where the tissue of a slide is, from its own pixels: an overview, the glass's colour, Otsu's threshold, areas in µm².

Ink of markers is left out by its colour: it absorbs red more than green, which haematoxylin and eosin do not. Red ink
looks like blood and stays. Black borders and grey dirt have no colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.errors import NoTissueError
from osml.imaging.slides import Pixels, Slide
from osml.imaging.slides_files import write_png
from osml.imaging.stain import DENSITY
from osml.imaging.tissue import Bools, tissue_mask

# µm per pixel at which tissue is sought: several cells per pixel, so that tissue is one body.
OVERVIEW_MPP = 8.0
MIN_AREA_UM2 = 20_000.0
MAX_HOLE_UM2 = 100_000.0
# Pixels read at once while the overview is made: 50 MB.
_BLOCK = 4096
# Bare glass: bright, and without colour.
_GLASS, _GLASS_COLOUR, _GLASS_SHARE = 180, 14, 0.01
# Loose necrotic and fibrous tissue is pale: of 173 tiles of it, 60 would lose more than half above an OD of 0.07. On
# glass that was made white, 0.04 is still well above dust and noise.
_DENSITY, _COLOUR = (0.03, 0.04), 0.012
# Ink absorbs red this much more than green.
_INK_RATIO, _INK_DENSITY = 1.35, 0.12
# By red and green.
_INK = (DENSITY[:, None] > _INK_RATIO * DENSITY[None, :]) & (DENSITY[:, None] > _INK_DENSITY)
_INK.setflags(write=False)


@dataclass(frozen=True)
class Overview:
    """A slide brought down to a picture.

    Attributes
    ----------
    pixels : uint8 (h, w, 3)
    scale : pixels of level 0 per pixel; the corner is the slide's
    mpp : µm per pixel
    """

    pixels: Pixels
    scale: float
    mpp: float


@dataclass(frozen=True)
class Tissue:
    """Where tissue is.

    Attributes
    ----------
    inside : bool (h, w)
    scale : pixels of level 0 per pixel; the corner is the slide's
    mpp : µm per pixel
    ink : bool (h, w), marks of a pen
    """

    inside: Bools
    scale: float
    mpp: float
    ink: Bools

    @property
    def area_mm2(self) -> float:
        return float(np.count_nonzero(self.inside)) * self.mpp**2 / 1e6


def overview(slide: Slide, mpp: float = OVERVIEW_MPP) -> Overview:
    """The whole slide at `mpp` or a little finer: the mean of whole blocks of pixels, never of more than 50 MB at once.

    A slide that is coarser than `mpp` is given as it is.
    """
    from PIL import Image

    number = slide.level_for(max(mpp, slide.mpp))
    level = slide.levels[number]
    factor = max(1, int(mpp / level.mpp * (1 + 1e-6)))
    out = np.empty((-(-level.height // factor), -(-level.width // factor), 3), dtype=np.uint8)
    step = max(1, _BLOCK // factor)
    for top in range(0, out.shape[0], step):
        for left in range(0, out.shape[1], step):
            here = out[top : top + step, left : left + step]
            w = min(here.shape[1] * factor, level.width - left * factor)
            h = min(here.shape[0] * factor, level.height - top * factor)
            block = Image.fromarray(slide.read(number, left * factor, top * factor, w, h))
            here[:] = np.asarray(block.reduce(factor) if factor > 1 else block)
    return Overview(out, level.downsample * factor, level.mpp * factor)


def find_tissue(
    slide: Slide,
    view: Overview | None = None,
    *,
    thumbnail: Path | None = None,
    min_area_um2: float = MIN_AREA_UM2,
    max_hole_um2: float = MAX_HOLE_UM2,
) -> Tissue:
    """Tissue of a slide.

    Parameters
    ----------
    view : `overview(slide)`, if it is there already
    thumbnail : PNG to write where nothing is found, so that one can look why; none: nothing is written
    min_area_um2 : smaller pieces are dropped
    max_hole_um2 : smaller holes are filled

    Raises
    ------
    NoTissueError
        Nothing was found; the message names the thumbnail.
    """
    if not (min_area_um2 >= 0 and max_hole_um2 >= 0):
        raise InvalidInputError(f"areas {min_area_um2:g} and {max_hole_um2:g} µm²: at least 0 is expected")
    view = overview(slide) if view is None else view
    square = view.mpp**2
    clear = _on_white(view.pixels)
    ink = ink_mask(clear)
    clear[ink] = 255
    found = tissue_mask(
        clear, min_area_px=min_area_um2 / square, max_hole_px=0, limits=_DENSITY, min_colour=_COLOUR
    )  # fmt: skip
    # A hole may be filled, but not with ink.
    inside = _fill_holes(found.inside, max_hole_um2 / square) & ~ink
    if not inside.any():
        where = ""
        if thumbnail is not None:
            write_png(thumbnail, small(view.pixels))
            where = f"; see {thumbnail}"
        raise NoTissueError(
            f"{slide.name}: no tissue was found ({found.reason or 'ink only'}){where}",
            why=f"At {view.mpp:.3g} µm per pixel nothing of {min_area_um2:g} µm² absorbs light in colour.",
            do="Look at the thumbnail: a blank slide, very pale stain, or a fluorescence scan?",
        )
    return Tissue(inside, view.scale, view.mpp, ink)


def ink_mask(rgb: NDArray[np.uint8]) -> Bools:
    """Marks of green, blue and black-blue pens: they absorb red more than green; grown by two pixels, for their rim.

    >>> bool(ink_mask(np.full((9, 9, 3), (40, 160, 90), dtype=np.uint8)).all())
    True
    >>> bool(ink_mask(np.full((9, 9, 3), (120, 70, 150), dtype=np.uint8)).any())
    False
    """
    from scipy import ndimage

    marked = _INK.take(rgb[..., 0].astype(np.uint16) * np.uint16(256) + rgb[..., 1])
    if not marked.any():
        return marked
    # Single pixels are noise; a stroke of a pen is many pixels wide.
    marked = ndimage.binary_opening(marked)
    return ndimage.binary_dilation(marked, iterations=2)


def small(pixels: Pixels, side: int = 1024) -> Pixels:
    """A picture whose longer side has at most `side` pixels, averaged."""
    from PIL import Image

    height, width = pixels.shape[:2]
    share = side / max(height, width)
    if share >= 1:
        return pixels
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _fill_holes(inside: Bools, area_px: float) -> Bools:
    """The mask with its holes of up to `area_px` pixels; what touches the border is no hole."""
    from scipy import ndimage

    label, n = ndimage.label(~inside)
    hole = np.bincount(label.ravel(), minlength=n + 1) <= area_px
    for edge in (label[0], label[-1], label[:, 0], label[:, -1]):
        hole[edge] = False
    hole[0] = False
    return inside | hole[label]


def _on_white(rgb: Pixels) -> Pixels:
    """The picture as if its glass were white: glass absorbs, and lamps are yellow."""
    some = rgb.reshape(-1, 3)[:: max(1, rgb.size // 3_000_000)]
    low, high = some.min(axis=1), some.max(axis=1)
    glass = some[(low >= _GLASS) & (high - low <= _GLASS_COLOUR)]
    if len(glass) < _GLASS_SHARE * len(some):
        return rgb.copy()
    white = np.maximum(np.median(glass, axis=0), 1)
    table = np.clip(np.rint(np.arange(256)[:, None] * 255 / white), 0, 255).astype(np.uint8)
    return np.stack([table[:, k].take(rgb[..., k]) for k in range(3)], axis=2)
