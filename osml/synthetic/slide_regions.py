"""Where what lies on a synthetic slide: islands of tissue, and smooth regions of classes within them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osml.synthetic.fields import smooth_noise

Cells8 = NDArray[np.uint8]
# Pixels of level 0 per cell of the maps.
CELL = 8
# Classes by number: background, viable, necrosis, fibrosis, haemorrhage, inflammation, non-tumour.
NAMES = ("BG", "VT", "NC", "FH", "HC", "IF", "NT")
# What a patch of each class is mistaken for.
MISTAKEN: Mapping[str, tuple[str, ...]] = {
    "VT": ("NC", "IF"), "NC": ("VT", "FH"), "FH": ("NT", "NC"), "HC": ("NC", "FH"), "IF": ("VT", "FH"),
    "NT": ("FH", "HC"),
}  # fmt: skip


# How strongly a class of small weight is held back: the shares then about follow the weights.
_PULL = 0.6


@dataclass(frozen=True)
class Regions:
    """Maps of one slide, one byte per cell of `CELL` pixels.

    Attributes
    ----------
    truth : number of the class
    drawn : number of the texture: another class's in the patches that deceive
    """

    truth: Cells8
    drawn: Cells8


def draw_regions(
    shape: tuple[int, int], weights: Sequence[float], rng: np.random.Generator, *, width: float = 45.0,
    deceiving: float = 0.2,
) -> Regions:  # fmt: skip
    """Draw one slide.

    Parameters
    ----------
    shape : cells
    weights : of the seven classes; the first is ignored; a class of weight 0 does not occur
    width : of the regions, in cells
    deceiving : share of the tissue that is drawn with the texture of another class
    """
    tissue = _islands(shape, rng)
    best = np.full(shape, -np.inf, dtype=np.float32)
    truth = np.zeros(shape, dtype=np.uint8)
    for number, weight in enumerate(weights[1:], start=1):
        field = smooth_noise(shape, (width, width), rng) + 0.1 * smooth_noise(shape, (6, 6), rng)
        if weight <= 0:
            continue
        field = field + np.float32(_PULL * np.log(weight))
        truth[field > best] = number
        best = np.maximum(best, field)
    truth[~tissue] = 0
    return Regions(truth, _deceived(truth, deceiving, rng))


def necrosis_rate(truth: Cells8) -> float | None:
    """(NC + FH + HC + IF) / (VT + NC + FH + HC + IF); None without tumour.

    >>> necrosis_rate(np.array([[1, 2, 3, 6, 0]], dtype=np.uint8))
    0.6666666666666666
    """
    counts = np.bincount(truth.ravel(), minlength=len(NAMES))
    tumour = int(counts[1:6].sum())
    return int(counts[2:6].sum()) / tumour if tumour else None


def _islands(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """One to three pieces that leave a border of glass."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = y / shape[0], x / shape[1]
    ragged = 0.16 * smooth_noise(shape, (38, 38), rng) + 0.03 * smooth_noise(shape, (5, 5), rng)
    inside = np.zeros(shape, dtype=np.bool_)
    count = int(rng.integers(1, 4))
    for k in range(count):
        centre = (0.5, 0.5) if count == 1 else (rng.uniform(0.3, 0.7), (k + 0.5) / count)
        radius = (rng.uniform(0.3, 0.4), rng.uniform(0.32, 0.4) if count == 1 else 0.44 / count)
        inside |= np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1]) < 1 + ragged
    edge = max(4, round(0.02 * min(shape)))
    inside[:edge] = inside[-edge:] = False
    inside[:, :edge] = inside[:, -edge:] = False
    # Crumbs that would count as tissue of their own.
    label, n = ndimage.label(inside)
    large = np.bincount(label.ravel(), minlength=n + 1) >= 0.01 * inside.size
    large[0] = False
    return large[label]


def _deceived(truth: Cells8, share: float, rng: np.random.Generator) -> Cells8:
    """Patches of about one tile whose texture says something else."""
    drawn = truth.copy()
    if share <= 0:
        return drawn
    spots = smooth_noise(truth.shape, (12, 12), rng)
    chosen = spots > np.quantile(spots, 1 - share)
    which = smooth_noise(truth.shape, (20, 20), rng) > 0
    present = {int(n) for n in np.unique(truth)}
    for number, name in enumerate(NAMES[1:], start=1):
        options = [NAMES.index(other) for other in MISTAKEN[name] if NAMES.index(other) in present]
        if not options:
            continue
        here = chosen & (truth == number)
        drawn[here & which] = options[0]
        drawn[here & ~which] = options[-1]
    return drawn
