"""Classes of tissue and rasters of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.slides_grid import TileGrid, area_shares

Colour = tuple[int, int, int]
# Value of a raster where nobody said what it is, or nothing was looked at.
NOTHING = 255


@dataclass(frozen=True)
class SlideClass:
    """A class of tissue: its name in annotations and results, its colour (red, green, blue), its words."""

    name: str
    colour: Colour
    label: str = ""


# Nguyen et al., Bridging classification and segmentation in osteosarcoma assessment: their seven classes.
PAPER_CLASSES = (
    SlideClass("BG", (255, 255, 255), "background"),
    SlideClass("VT", (200, 30, 40), "viable tumour"),
    SlideClass("NC", (60, 60, 60), "necrosis"),
    SlideClass("FH", (70, 130, 220), "fibrosis, hyalinisation"),
    SlideClass("HC", (150, 50, 170), "haemorrhage, cystic change"),
    SlideClass("IF", (245, 200, 40), "inflammation"),
    SlideClass("NT", (60, 170, 90), "non-tumour tissue"),
)


@dataclass(frozen=True)
class LabelRaster:
    """Classes over a slide.

    Attributes
    ----------
    labels : uint8 (h, w), number of the class, or `NOTHING`
    scale : pixels of level 0 per pixel of the raster; the corner is the slide's
    mpp : µm per pixel of the raster
    notes : what a reader should know (annotations of different classes that overlap)
    """

    labels: NDArray[np.uint8]
    scale: float
    mpp: float
    notes: tuple[str, ...] = ()

    def areas_mm2(self, classes: int) -> NDArray[np.float64]:
        """Area of each class."""
        counts = np.bincount(self.labels.ravel(), minlength=NOTHING + 1)[:classes]
        return counts.astype(np.float64) * (self.mpp**2 / 1e6)


def check_classes(classes: Sequence[SlideClass]) -> None:
    """Raises `InvalidInputError` where classes share a name or a colour, or are too many for a byte."""
    for what, values in (("name", [c.name for c in classes]), ("colour", [str(c.colour) for c in classes])):
        double = {value for value in values if values.count(value) > 1}
        if double:
            raise InvalidInputError(f"classes share the {what} {', '.join(sorted(double))}")
    if not 1 <= len(classes) < NOTHING:
        raise InvalidInputError(f"{len(classes)} classes; 1 to {NOTHING - 1} are expected")


def tile_shares(grid: TileGrid, tiles: NDArray[np.integer], raster: LabelRaster, classes: int) -> NDArray[np.float64]:
    """Share of each tile's area that each class covers, float (n, classes); the rest of a row's sum is unlabelled."""
    boxes = grid.boxes(tiles)
    return np.stack([area_shares(raster.labels == k, raster.scale, boxes) for k in range(classes)], axis=1)


def tile_labels(shares: NDArray[np.float64], min_share: float = 0.5) -> NDArray[np.int64]:
    """The class that covers most of each tile; -1 where it covers less than `min_share`. Ties: the first class.

    >>> tile_labels(np.array([[0.2, 0.7], [0.3, 0.3]])).tolist()
    [1, -1]
    """
    best = shares.argmax(axis=1)
    return np.where(shares[np.arange(len(shares)), best] >= min_share, best, -1)
