"""Pictures of a slide to look at: thumbnail, tissue and tiles, classes laid over it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from osml.imaging.slides import Pixels, Slide
from osml.imaging.slides_classes import NOTHING, LabelRaster, SlideClass
from osml.imaging.slides_grid import TileGrid
from osml.imaging.slides_tissue import Overview, Tissue, overview, small

# Longer side of a picture.
SIDE = 2048
_OUTLINE, _INK, _KEPT = (0, 110, 60), (255, 0, 255), (30, 80, 200)


def picture_view(slide: Slide, view: Overview, side: int = SIDE // 2) -> Overview:
    """The overview, or a finer one where it has fewer than `side` pixels along its longer side."""
    if max(view.pixels.shape[:2]) >= side or view.scale == 1:
        return view
    return overview(slide, max(slide.mpp, max(slide.width, slide.height) * slide.mpp / side))


def thumbnail(view: Overview, side: int = SIDE) -> Pixels:
    """The slide with at most `side` pixels along its longer side."""
    return small(view.pixels, side)


def tissue_overlay(
    view: Overview, tissue: Tissue, grid: TileGrid, tiles: NDArray[np.integer], side: int = SIDE
) -> Pixels:
    """The slide with the outline of its tissue (green), ink (magenta) and the tiles (blue frames)."""
    out = thumbnail(view, side).copy()
    inside, ink = (_scaled(plane, out.shape[:2]) for plane in (tissue.inside, tissue.ink))
    out[ink] = _INK
    out[_edge(inside)] = _OUTLINE
    factor = out.shape[1] / view.pixels.shape[1] / view.scale
    limit = np.array([out.shape[1], out.shape[0]] * 2) - 1
    for left, top, right, low in np.clip(np.rint(grid.boxes(tiles) * factor), 0, limit).astype(int).tolist():
        out[[top, low], left : right + 1] = _KEPT
        out[top : low + 1, [left, right]] = _KEPT
    return out


def class_overlay(
    view: Overview, raster: LabelRaster, classes: Sequence[SlideClass], *, opacity: float = 0.45,
    skip: Sequence[str] = (), side: int = SIDE,
) -> Pixels:  # fmt: skip
    """The slide with its classes in colour, and a key below.

    Parameters
    ----------
    opacity : of the colours, 0 to 1
    skip : names of classes that are not coloured (background)
    """
    base = thumbnail(view, side)
    width = base.shape[1]
    step = view.scale * view.pixels.shape[1] / width / raster.scale
    out = painted(base, raster.labels, (0.0, 0.0), step, classes, opacity, skip)
    return np.concatenate([out, _key(width, classes)], axis=0)


def painted(
    base: Pixels, labels: NDArray[np.uint8], corner: tuple[float, float], step: float, classes: Sequence[SlideClass],
    opacity: float, skip: Collection[str] = (),
) -> Pixels:  # fmt: skip
    """A picture with the classes below it in colour.

    Parameters
    ----------
    labels : class map of the whole slide
    corner : where the picture's corner lies on the map, x and y in its cells
    step : cells per pixel of the picture
    """
    height, width = base.shape[:2]
    row = np.clip((corner[1] + (np.arange(height) + 0.5) * step).astype(int), 0, labels.shape[0] - 1)
    column = np.clip((corner[0] + (np.arange(width) + 0.5) * step).astype(int), 0, labels.shape[1] - 1)
    found = labels[row[:, None], column]
    colours = np.zeros((NOTHING + 1, 3), dtype=np.float32)
    share = np.zeros(NOTHING + 1, dtype=np.float32)
    for number, kind in enumerate(classes):
        colours[number] = kind.colour
        share[number] = 0.0 if kind.name in skip else opacity
    weight = share[found][..., None]
    return np.rint(base * (1 - weight) + colours[found] * weight).astype(np.uint8)


def _key(width: int, classes: Sequence[SlideClass]) -> Pixels:
    """A strip with a patch of each colour and its words, in as many lines as it takes."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    words = [kind.label or kind.name for kind in classes]
    widths = [28 + int(font.getlength(word)) + 18 for word in words]
    places, x, y = [], 8, 6
    for wide in widths:
        if x + wide > width and x > 8:
            x, y = 8, y + 22
        places.append((x, y))
        x += wide
    strip = Image.new("RGB", (width, y + 24), (255, 255, 255))
    pen = ImageDraw.Draw(strip)
    for (left, top), word, kind in zip(places, words, classes, strict=True):
        pen.rectangle((left, top, left + 18, top + 14), fill=kind.colour, outline=(90, 90, 90))
        pen.text((left + 24, top - 1), word, fill=(20, 20, 20), font=font)
    return np.asarray(strip)


def _scaled(plane: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    row = ((np.arange(shape[0]) + 0.5) * plane.shape[0] / shape[0]).astype(int)
    column = ((np.arange(shape[1]) + 0.5) * plane.shape[1] / shape[1]).astype(int)
    return plane[row[:, None], column]


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    return ndimage.binary_dilation(inside) & ~inside
