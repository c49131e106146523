"""Seven textures of osteosarcoma sections at 0.5 µm per pixel, as squares that continue over their borders.

Drawn as amounts of dyes and turned into colour by Beer and Lambert's law, as the tiles are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from osml.synthetic.fields import Floats, mix, step
from osml.synthetic.tissue import Amount, Cells, Stain

# Pixels along a side, a power of two, and µm per pixel.
SIDE = 1024
MPP = 0.5
_BOX = np.array([SIDE, SIDE], dtype=np.float64)
_MM2 = (SIDE * MPP / 1000) ** 2


@dataclass
class Swatch:
    """Amounts of haematoxylin, eosin and red, drawn upon in place; row and column wrap around."""

    h: Floats
    e: Floats
    r: Floats

    def lay(self, share: Amount, h: Amount, e: Amount, r: Amount = 0.0) -> None:
        """Replace what is there by other amounts, as far as `share` says."""
        cover = np.broadcast_to(np.asarray(share, dtype=np.float32), self.h.shape)
        self.h, self.e, self.r = mix(self.h, h, cover), mix(self.e, e, cover), mix(self.r, r, cover)

    def colour(self, stain: Stain, rng: np.random.Generator) -> NDArray[np.uint8]:
        """(SIDE, SIDE, 3) as a scanner would see it."""
        amounts = np.stack([self.h, self.e, self.r]) * stain.strength[:, None, None].astype(np.float32)
        density = np.tensordot(stain.absorption.T.astype(np.float32), np.maximum(amounts, 0), 1)
        light = stain.light[:, None, None].astype(np.float32) * np.exp(-1.25 * density)
        light = ndimage.gaussian_filter(light, (0, 1.5 * stain.blur, 1.5 * stain.blur), mode="wrap")
        light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(0.008)
        return np.moveaxis(np.clip(np.rint(255 * light), 0, 255), 0, 2).astype(np.uint8)


def draw_texture(name: str, rng: np.random.Generator) -> Swatch:
    """One texture: BG, VT, NC, FH, HC, IF or NT, of one patient."""
    blank = np.zeros((SIDE, SIDE), dtype=np.float32)
    swatch = Swatch(blank, blank.copy(), blank.copy())
    _DRAWN[name](swatch, rng)
    return swatch


def periodic_noise(sigma: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Gaussian field of mean 0 and variance 1, correlated over about `sigma` pixels, that continues over its borders.

    >>> field = periodic_noise((9, 9), np.random.default_rng(1))
    >>> float(np.abs(field[0] - field[-1]).mean()) < 0.2
    True
    """
    # Wide kernels are drawn on a coarser grid.
    coarse = [2 ** int(np.log2(max(1.0, s / 1.5))) for s in sigma]
    field = rng.standard_normal([SIDE // k for k in coarse], dtype=np.float32)
    field = ndimage.gaussian_filter(field, [s / k for s, k in zip(sigma, coarse, strict=True)], mode="wrap")
    for axis, k in enumerate(coarse):
        if k == 1:
            continue
        at = np.arange(SIDE)
        share = ((at % k) / k).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        low = np.take(field, at // k, axis=axis)
        high = np.take(field, (at // k + 1) % field.shape[axis], axis=axis)
        field = low + share * (high - low)
    return (field - field.mean()) / float(field.std())


def _viable(swatch: Swatch, rng: np.random.Generator) -> None:
    grain = periodic_noise((3, 3), rng)
    purple = rng.uniform(0.1, 0.2)
    swatch.lay(1.0, purple * (1 + 0.25 * periodic_noise((50, 50), rng)) + 0.03 * grain,
               rng.uniform(0.2, 0.34) + 0.06 * grain)  # fmt: skip
    lace = step(np.abs(periodic_noise((26, 26), rng)), 0.26, 0.1) * rng.uniform(0.2, 0.9)
    swatch.lay(lace, 0.05, rng.uniform(0.38, 0.55))
    cells = Cells(float(np.exp(rng.normal(np.log(2600), 0.2))), 4.6, rng.uniform(0.22, 0.34), rng.uniform(1.1, 1.9),
                  rng.uniform(0.75, 1.0))  # fmt: skip
    _nuclei(swatch, cells, rng)


def _necrosis(swatch: Swatch, rng: np.random.Generator) -> None:
    grain = periodic_noise((3, 3), rng)
    swatch.lay(1.0, 0.06 + 0.04 * grain, rng.uniform(0.24, 0.4) + 0.08 * grain + 0.05 * periodic_noise((36, 36), rng))
    _nuclei(swatch, Cells(rng.uniform(500, 1000), 5.0, 0.3, 1.3, rng.uniform(0.12, 0.26)), rng)
    _nuclei(swatch, Cells(rng.uniform(300, 800), 2.4, 0.4, 1.3, rng.uniform(0.7, 1.0)), rng)


def _fibrosis(swatch: Swatch, rng: np.random.Generator) -> None:
    lines = 0.6 * _fibres(4, 36, rng) + 0.5 * _fibres(9, 90, rng)
    hyaline = step(periodic_noise((90, 90), rng), 0.2, 1.2)
    swatch.lay(1.0, 0.05 + 0.02 * lines, rng.uniform(0.24, 0.38) + 0.09 * lines * (1 - hyaline) + 0.1 * hyaline)
    _nuclei(swatch, Cells(rng.uniform(250, 600), 3.0, 0.15, 2.8, 0.85), rng)


def _haemorrhage(swatch: Swatch, rng: np.random.Generator) -> None:
    swatch.lay(1.0, 0.02, 0.1 + 0.03 * periodic_noise((14, 14), rng))
    pools = step(periodic_noise((70, 70), rng), -0.9, -0.2)
    cells = step(periodic_noise((4, 4), rng), -0.7, 0.3)
    swatch.lay(pools * cells * rng.uniform(0.75, 1.0), 0.0, 0.32, rng.uniform(0.5, 0.85))
    _nuclei(swatch, Cells(rng.uniform(80, 250), 3.2, 0.2, 1.2, 0.9), rng)


def _inflammation(swatch: Swatch, rng: np.random.Generator) -> None:
    swatch.lay(1.0, 0.06, rng.uniform(0.16, 0.28) + 0.05 * periodic_noise((5, 5), rng))
    _nuclei(swatch, Cells(rng.uniform(4500, 6500), 2.9, 0.1, 1.08, 1.0), rng)


def _healthy(swatch: Swatch, rng: np.random.Generator) -> None:
    """Trabeculae of bone, fatty marrow between them."""
    centres = _spread(int(_MM2 * rng.uniform(220, 320)), 70, rng)
    grid = np.moveaxis(np.mgrid[:SIDE:4, :SIDE:4], 0, 2).reshape(-1, 2)
    near = np.asarray(cKDTree(centres, boxsize=_BOX).query(grid, k=2)[0], dtype=np.float32)
    between = (near[:, 1] - near[:, 0]).reshape(SIDE // 4, SIDE // 4).repeat(4, axis=0).repeat(4, axis=1)
    between = ndimage.uniform_filter(between, 5, mode="wrap")
    swatch.lay(step(between, 9.0, 3.0), 0.05, 0.24 + 0.05 * periodic_noise((4, 4), rng))
    _nuclei(swatch, Cells(rng.uniform(700, 1600), 3.2, 0.12, 1.15, 1.0), rng, step(between, 34.0, 8.0))
    bone = step(np.abs(periodic_noise((110, 110), rng)), 0.55, 0.42)
    lines = _fibres(3, 120, rng)
    swatch.lay(bone, 0.04, rng.uniform(0.45, 0.7) + 0.05 * lines, rng.uniform(0.1, 0.3))
    _nuclei(swatch, Cells(220, 1.6, 0.15, 1.8, 0.8), rng, bone)


def _glass(swatch: Swatch, rng: np.random.Generator) -> None:
    swatch.lay(1.0, 0.0, 0.002 * np.abs(periodic_noise((30, 30), rng)))


_DRAWN = {
    "BG": _glass, "VT": _viable, "NC": _necrosis, "FH": _fibrosis, "HC": _haemorrhage, "IF": _inflammation,
    "NT": _healthy,
}  # fmt: skip


def _fibres(across: float, along: float, rng: np.random.Generator) -> Floats:
    """Noise stretched along rows, and bent."""
    lines = periodic_noise((across, along), rng)
    shift = 60 * periodic_noise((130, 130), rng) + 5 * periodic_noise((30, 30), rng)
    row = (np.arange(SIDE)[:, None] + np.rint(shift).astype(np.int64)) % SIDE
    bent = lines[row, np.arange(SIDE)]
    return bent if rng.random() < 0.5 else np.ascontiguousarray(bent.T)


def _spread(n: int, least: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Up to n points of which no two are nearer than `least`; the earlier one stays."""
    points = rng.uniform(0, SIDE, (n, 2))
    pairs = cKDTree(points, boxsize=_BOX).query_pairs(least, output_type="ndarray")
    keep = np.ones(n, dtype=bool)
    for first, later in pairs[np.argsort(pairs[:, 0], kind="stable")].tolist():
        if keep[first]:
            keep[later] = False
    return points[keep]


def _nuclei(swatch: Swatch, cells: Cells, rng: np.random.Generator, where: Floats | None = None) -> None:
    radius = cells.radius_um / MPP
    points = _spread(int(rng.poisson(cells.per_mm2 * _MM2)), 1.3 * radius, rng)
    if where is not None:
        row, column = points.astype(int).T
        points = points[where[row, column] > rng.random(len(points))]
    size = radius * np.exp(rng.normal(0, cells.pleomorphism, len(points)))
    longer = np.minimum(1 + (cells.elongation - 1) * np.exp(rng.normal(0, 0.2 + cells.pleomorphism, len(points))), 4.0)
    dark = cells.chromatin * np.exp(rng.normal(0, 0.12 + 0.5 * cells.pleomorphism, len(points)))
    turn = rng.uniform(0, np.pi, len(points))
    for values in zip(points.tolist(), size.tolist(), longer.tolist(), dark.tolist(), turn.tolist(), strict=True):
        _stamp(swatch, *values)


def _stamp(
    swatch: Swatch, at: tuple[float, float], radius: float, longer: float, dark: float, turn: float
) -> None:  # fmt: skip
    """One nucleus, paler within where it is large."""
    a, b = radius * longer**0.5, radius / longer**0.5
    reach = int(a + 3)
    rows, columns = (np.arange(int(v) - reach, int(v) + reach + 1, dtype=np.float32) for v in at)
    dy, dx = rows[:, None] - np.float32(at[0]), columns - np.float32(at[1])
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    away = np.hypot((dx * c + dy * s) / np.float32(a), (dy * c - dx * s) / np.float32(b))
    soft = min(0.9, 0.9 / b)
    pale = 0.4 * min(1.0, max(0.0, (radius - 6.0) / 6.0))
    body = dark * (1 - pale * step(away, 0.9, 0.3))
    window = np.ix_(rows.astype(np.int64) % SIDE, columns.astype(np.int64) % SIDE)
    here = swatch.h[window]
    swatch.h[window] = np.maximum(here, mix(here, body, step(away, 1 + soft, 1 - soft)))
