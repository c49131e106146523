"""Tissue and nuclei of an H&E picture, from its colours alone: no label, no other picture.

A tile without tissue or nuclei is a fact about the tile: the mask is empty and carries a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.stain import DENSITY, Plane, check_rgb

Bools = NDArray[np.bool_]
# OD of the densest channel: lowest and highest threshold between glass and tissue. Otsu's threshold alone would split a
# tile that is all tissue, or all glass.
TISSUE_DENSITY = (0.04, 0.07)
# Grey dust, pen and black padding differ from stained tissue by their equal channels.
MIN_COLOUR = 0.02
BLACK = 20
# Haematoxylin of a nucleus: at least this OD, and this far above the tissue around it.
NUCLEUS_DENSITY = 0.12
NUCLEUS_CONTRAST = 0.05
# Longer objects are seams of bone, folds and fibres; spindle cells' nuclei stay below 5.
MAX_AXIS_RATIO = 6.0


@dataclass(frozen=True)
class Found:
    """A mask found in a picture.

    Attributes
    ----------
    inside : bool (h, w)
    threshold : OD from which pixels were taken; NaN where none was sought
    reason : why the mask is empty; empty text where it is not
    """

    inside: Bools
    threshold: float
    reason: str = ""


@dataclass(frozen=True)
class Shapes:
    """One value per object: pixels, full axes of the ellipse of equal second moments, whether it touches the border."""

    area: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    on_border: Bools

    @property
    def axis_ratio(self) -> NDArray[np.float64]:
        return self.major / self.minor

    @property
    def eccentricity(self) -> NDArray[np.float64]:
        """0 for a circle, towards 1 for a line."""
        return np.sqrt(np.maximum(1 - (self.minor / self.major) ** 2, 0.0))


def tissue_mask(
    rgb: NDArray[np.uint8], *, min_area_px: float = 40.0, max_hole_px: float = 100.0,
    limits: tuple[float, float] = TISSUE_DENSITY, min_colour: float = MIN_COLOUR,
) -> Found:  # fmt: skip
    """Where tissue is.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
    min_area_px : smaller specks are dropped
    max_hole_px : smaller holes are filled; larger ones (fat cells, vessels, tears) stay outside
    limits : OD between which Otsu's threshold is held
    min_colour : OD by which tissue's densest and palest channel differ at least

    Notes
    -----
    Otsu's threshold on the OD of the densest channel, averaged over 5 × 5 pixels; grey and black pixels are not tissue.
    """
    check_rgb(rgb)
    _areas(min_area_px, max_hole_px)
    red, green, blue = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    densest = _mean(DENSITY.take(low), 5)
    colour = densest - _mean(DENSITY.take(high), 5)
    threshold = float(np.clip(otsu(densest), *limits))
    dense = densest > threshold
    if not dense.any():
        return Found(dense, threshold, "blank: nothing absorbs light")
    inside = dense & (colour > min_colour) & (high >= BLACK)
    if not inside.any():
        return Found(inside, threshold, "no colour: grey or black only")
    inside = drop_small(~drop_small(~inside, max_hole_px), min_area_px)
    return Found(inside, threshold, "" if inside.any() else f"no tissue of {min_area_px:g} pixels or more")


def nuclei_mask(
    haematoxylin: Plane, tissue: Bools, *, min_area_px: float = 12.0, around_px: int = 31, opening_px: int = 0
) -> Found:
    """Where nuclei are; touching nuclei stay one object.

    Parameters
    ----------
    haematoxylin : float32 (h, w), OD of `separate`
    tissue : bool (h, w)
    min_area_px : smaller objects are dropped
    around_px : width of the square over which a nucleus is compared with the tissue around it, several nuclei wide
    opening_px : half width of the opening that cuts fibres and bridges; 0: none

    Notes
    -----
    Otsu's threshold of haematoxylin above the tissue around it (their mean there), within tissue; at least
    `NUCLEUS_CONTRAST`, and the density itself at least `NUCLEUS_DENSITY`. Density is averaged over 3 × 3 pixels first.
    Objects more than `MAX_AXIS_RATIO` times as long as wide are dropped.
    """
    from scipy import ndimage

    if haematoxylin.shape != tissue.shape:
        raise InvalidInputError(f"haematoxylin {haematoxylin.shape} and tissue {tissue.shape} differ in shape")
    _areas(min_area_px, opening_px)
    if around_px < 3:
        raise InvalidInputError(f"around_px {around_px}: at least 3 is expected")
    if not tissue.any():
        return Found(np.zeros_like(tissue), float("nan"), "no tissue")
    weight = tissue.astype(np.float32)
    near = _mean(haematoxylin * weight, around_px) / np.maximum(_mean(weight, around_px), np.float32(1e-3))
    haematoxylin = _mean(haematoxylin, 3)
    contrast = haematoxylin - near
    threshold = max(otsu(contrast[tissue]), NUCLEUS_CONTRAST)
    inside = tissue & (contrast > threshold) & (haematoxylin > NUCLEUS_DENSITY)
    if not inside.any():
        return Found(inside, threshold, "no haematoxylin above that of the tissue around it")
    if opening_px:
        inside = ndimage.binary_opening(inside, iterations=opening_px)
    label, n = ndimage.label(inside)
    shapes = measure(label, n)
    nucleus = np.concatenate([[False], (shapes.area >= min_area_px) & (shapes.axis_ratio <= MAX_AXIS_RATIO)])
    inside = nucleus[label]
    return Found(inside, threshold, "" if inside.any() else f"no nucleus of {min_area_px:g} pixels or more")


def measure(label: NDArray[np.integer], n: int) -> Shapes:
    """Area and ellipse of objects 1..n of a label image (h, w)."""
    at = np.flatnonzero(label)
    which = label.ravel()[at] - 1
    y, x = np.divmod(at, label.shape[1])

    def total(weights: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        return np.bincount(which, weights, minlength=n)[:n].astype(np.float64)

    area = total()
    with np.errstate(divide="ignore", invalid="ignore"):
        my, mx = total(y) / area, total(x) / area
        # A pixel is a square: it adds 1/12 to its own variance.
        yy = total(y * y) / area - my**2 + 1 / 12
        xx = total(x * x) / area - mx**2 + 1 / 12
        xy = total(y * x) / area - my * mx
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    edge = (y == 0) | (x == 0) | (y == label.shape[0] - 1) | (x == label.shape[1] - 1)
    return Shapes(area, 4 * np.sqrt(middle + apart), 4 * np.sqrt(np.maximum(middle - apart, 0.0)), total(edge) > 0)


def otsu(values: NDArray[np.floating]) -> float:
    """Otsu's threshold over 256 bins from the minimum to the maximum: values above it are the upper class.

    The first of equal maxima; a constant gives itself. Otsu 1979.

    >>> 1.0 <= otsu(np.array([0.0, 1.0, 8.0, 9.0])) < 8.0
    True
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise InvalidInputError("values are NaN or infinite")
    if low == high:
        return low
    width = (high - low) / 256
    index = np.minimum(((values - low) * (1 / width)).astype(np.int16), 255)
    count = np.bincount(index.ravel(), minlength=256).astype(np.float64)
    centre = low + (np.arange(256) + 0.5) * width
    below, total = np.cumsum(count), np.cumsum(count * centre)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return low + width * (int(np.nanargmax(between[:-1])) + 1)


def drop_small(inside: Bools, area_px: float) -> Bools:
    """The mask without its 4-connected objects of fewer than `area_px` pixels."""
    from scipy import ndimage

    label, n = ndimage.label(inside)
    if n == 0 or area_px <= 1:
        return inside
    large = np.bincount(label.ravel()) >= area_px
    large[0] = False
    return large[label]


def _mean(plane: Plane, size: int) -> Plane:
    from scipy import ndimage

    return ndimage.uniform_filter(plane, size, mode="nearest")


def _areas(*values: float) -> None:
    if not all(0 <= value < np.inf for value in values):
        raise InvalidInputError(f"areas and widths {values}: numbers of at least 0 are expected")
