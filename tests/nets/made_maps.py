"""Tissue maps of made-up patients, and what a noisy classifier of tiles makes of them.

Truth: seven classes where the strongest of smooth random fields wins, inside islands of tissue; every patient leans to
classes of its own, so that necrosis rates range from near none to near all. Picture: one colour per class, some of them
close, under the patient's own stain, with grain and with clouds that mean nothing. Coarse map: tiles of 8 x 8 cells;
the classifier sees the shares of classes in a tile through a confusion, with errors that neighbouring tiles share and a
leaning that all tiles of a patient share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from osml.nets.refine_maps import MapSpec, Region

CLASSES = ("BG", "VT", "NC", "FH", "HC", "IF", "NT")
VIABLE, NECROTIC = (1,), (2, 3, 4, 5)
TILE = 8
SPEC = MapSpec(CLASSES, 16.0)

# Share of each class in tissue before a patient's own leaning, as logarithms: HC and IF are rare, as in the paper.
_COMMON = np.array([0.0, 0.45, 0.3, 0.45, -0.45, -0.7, 0.55])
# Optical density of red, green and blue; necrosis, fibrosis and non-tumour tissue are close, so are VT and IF.
_COLOUR = np.array(
    [[0.03, 0.03, 0.03], [0.65, 0.95, 0.45], [0.30, 0.62, 0.38], [0.24, 0.55, 0.30], [0.25, 0.85, 0.70],
     [0.80, 1.00, 0.55], [0.32, 0.52, 0.26]]
)  # fmt: skip
# What a tile of one class looks like to the classifier: rows are true classes.
_CONFUSION = np.array(
    [[0.96, 0.00, 0.01, 0.01, 0.01, 0.00, 0.01],
     [0.01, 0.76, 0.07, 0.03, 0.02, 0.06, 0.05],
     [0.01, 0.08, 0.62, 0.17, 0.04, 0.01, 0.07],
     [0.01, 0.03, 0.17, 0.58, 0.02, 0.01, 0.18],
     [0.03, 0.03, 0.15, 0.07, 0.66, 0.02, 0.04],
     [0.01, 0.27, 0.05, 0.05, 0.03, 0.54, 0.05],
     [0.01, 0.05, 0.06, 0.17, 0.01, 0.02, 0.68]]
)  # fmt: skip


def make_regions(
    patients: int, each: int, *, side: int = 64, seed: int = 0, noise: float = 1.0, first: int = 0
) -> list[Region]:
    """`each` regions of every patient, `side` cells wide (a multiple of 8)."""
    return [
        region
        for p in range(first, first + patients)
        for region in _patient(f"P{p:03d}", each, side, np.random.default_rng([seed, p]), noise)
    ]


def _patient(name: str, each: int, side: int, rng: np.random.Generator, noise: float) -> list[Region]:
    lean = np.array([0.0, 0.55, 0.35, 0.35, 0.2, 0.2, 0.35]) * rng.normal(size=7)
    response = rng.normal() * 0.6  # one axis from viable to necrotic tumour
    lean += response * np.array([0.0, -1.0, 0.6, 0.5, 0.2, 0.0, 0.0])
    stain, shift = np.exp(rng.normal(0, 0.15, 3)), rng.normal(0, 0.03, 3)
    bias = rng.normal(0, 0.5, 7) * noise
    bias[0] = 0.0
    return [_region(name, side, rng, _COMMON + lean, stain, shift, bias, noise) for _ in range(each)]


def _region(
    name: str, side: int, rng: np.random.Generator, lean: NDArray[np.float64], stain: NDArray[np.float64],
    shift: NDArray[np.float64], bias: NDArray[np.float64], noise: float,
) -> Region:  # fmt: skip
    fields = _smooth(rng, 6, side, 6.0) + lean[1:, None, None]
    labels = 1 + fields.argmax(axis=0)
    tissue = _smooth(rng, 1, side, 9.0)[0] > rng.normal(-0.9, 0.4)
    labels[~tissue] = 0
    density = gaussian_filter(_COLOUR[labels], (0.7, 0.7, 0)) * stain + shift
    density = density + 0.14 * rng.normal(size=(side, side, 3)) + 0.10 * _smooth(rng, 1, side, 2.0)[0][..., None]
    image = np.clip(255 * 10.0 ** -np.maximum(density, 0), 0, 255).astype(np.uint8)

    tiles = side // TILE
    share = np.eye(7)[labels].reshape(tiles, TILE, tiles, TILE, 7).mean(axis=(1, 3))
    logits = np.log(share @ _CONFUSION + 0.01) + bias
    logits += noise * 0.9 * np.moveaxis(_smooth(rng, 7, tiles, 0.8), 0, -1) + noise * 0.4 * rng.normal(
        size=logits.shape
    )
    logits[share[..., 0] > 0.95, 0] += 6.0  # glass is told from tissue without a classifier
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    coarse = np.repeat(np.repeat(p, TILE, axis=0), TILE, axis=1)
    return Region(name, np.moveaxis(coarse, -1, 0).astype(np.float32), image, labels.astype(np.int16))


def _smooth(rng: np.random.Generator, count: int, side: int, sigma: float) -> NDArray[np.float64]:
    """Smooth random fields of unit variance, (count, side, side)."""
    raw = gaussian_filter(rng.normal(size=(count, side, side)), (0, sigma, sigma), mode="wrap")
    return raw / raw.std(axis=(1, 2), keepdims=True)
