"""A heat map over its picture: colour where it is warm, the picture itself where it is not, a line at half the heat."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError

Pixels = NDArray[np.uint8]
# Even in lightness, readable with any colour vision and in grey, and unlike both bone and the pink of H&E.
COLOURS = "viridis"
MOST_OPAQUE = 0.55
OUTLINE = 0.5  # share of the largest value at which the line runs
# Lines keep their width on paper however large the picture is: one pixel of it per this many of its shorter side.
_LINE = 220


def overlay_png(picture: Pixels, heat: ArrayLike) -> bytes:
    """PNG of `overlay`; the same input gives the same bytes.

    Parameters
    ----------
    picture : uint8 array (h, w, 3)
    heat : float array (h, w), 0 to 1

    Raises
    ------
    InvalidInputError
        Another shape or type, or values outside 0 to 1.
    """
    return png(overlay(picture, heat))


def overlay(picture: Pixels, heat: ArrayLike) -> Pixels:
    """The picture with the heat over it, uint8 (h, w, 3).

    Opacity grows with heat from 0 to 55 %, so that cold parts are the picture itself. A white line with a dark edge
    runs around what has at least half of 1: it shows where the map is warm in black and white, too.
    """
    from scipy.ndimage import binary_dilation

    base, warm = _checked(picture, heat)
    opacity = MOST_OPAQUE * warm[:, :, None]
    out = (1 - opacity) * base + opacity * _colours()[np.rint(255 * warm).astype(np.intp)]
    inside = warm >= OUTLINE
    if inside.any() and not inside.all():
        width = max(1, round(min(inside.shape) / _LINE))
        edge = binary_dilation(inside, iterations=2 * width)
        line = binary_dilation(inside, iterations=width)
        out[edge & ~line] = 20.0
        out[line & ~inside] = 255.0
    return np.rint(out).astype(np.uint8)


def png(picture: Pixels) -> bytes:
    """Pixels (h, w, 3) as a PNG file."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def _checked(picture: Pixels, heat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    warm = np.asarray(heat, dtype=np.float64)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InvalidInputError(f"a picture of {picture.dtype} {picture.shape}; uint8 (h, w, 3) is expected")
    if warm.shape != picture.shape[:2]:
        raise InvalidInputError(f"heat {warm.shape} over a picture of {picture.shape[:2]}", do="Use `fit_maps`.")
    if not (np.isfinite(warm).all() and warm.min() >= 0 and warm.max() <= 1 + 1e-6):
        raise InvalidInputError("heat holds values outside 0 to 1, or none")
    return picture.astype(np.float64), np.minimum(warm, 1.0)


@cache
def _colours() -> NDArray[np.float64]:
    """Red, green, blue from 0 to 255 of 256 values, (256, 3)."""
    import matplotlib

    return 255.0 * np.asarray(matplotlib.colormaps[COLOURS](np.arange(256)))[:, :3]
