"""Stain of a whole slide: estimated once on its tissue, used for all of its tiles."""

from __future__ import annotations

import numpy as np

from osml.imaging.slides import Pixels
from osml.imaging.slides_tissue import Overview, Tissue
from osml.imaging.stain import Stains, estimate_stains, normalise

# Pixels of tissue that are looked at: enough, and a moment.
_MOST = 250_000


def slide_stains(view: Overview, tissue: Tissue) -> Stains:
    """Stain vectors and strengths of a slide's tissue (Macenko et al. 2009), from the overview that it was found on.

    Raises
    ------
    StainError
        Fewer than 300 stained pixels, or one stain only.
    """
    pixels = view.pixels[tissue.inside]
    return estimate_stains(pixels[:: max(1, len(pixels) // _MOST)][None])


def normalise_tiles(pixels: Pixels, *, to: Stains, stains: Stains) -> Pixels:
    """Tiles (n, h, w, 3) as if stained like the reference.

    Parameters
    ----------
    to : `slide_stains` of a reference slide (of its overview too: strengths of single pixels are higher)
    stains : `slide_stains` of the tiles' slide, so that a blank tile stays blank
    """
    n, height, width, _ = pixels.shape
    flat = normalise(np.ascontiguousarray(pixels).reshape(n * height, width, 3), to=to, stains=stains)
    return flat.reshape(pixels.shape)
