"""Procedural haematoxylin and eosin: tiles of bone, marrow, stroma, viable and non-viable osteosarcoma.

Everything is drawn as amounts of three dyes per pixel and turned into colour by Beer and Lambert's law, so a stain
shift is what it is in a laboratory: other absorption, other amounts, other light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from osml.synthetic.fields import Floats, mix, smooth_noise, step

PIXELS = 256
# Microns per pixel: a tile is half a millimetre wide, a lymphocyte's nucleus 4 pixels.
MPP = 2.0
# Absorption of red, green and blue: haematoxylin; eosin, with more blue than the magenta of Ruifrok and Johnston 2001,
# as scanned sections of bone show it; and an orange-red dye for what dense bone and erythrocytes take up besides.
_ABSORPTION = np.array([[0.60, 0.72, 0.35], [0.14, 0.89, 0.43], [0.08, 0.72, 0.69]])


Amount = NDArray[np.floating] | float


@dataclass(frozen=True)
class Stain:
    """How one slide was stained and scanned.

    Attributes
    ----------
    absorption : (3, 3) of haematoxylin, eosin, red for red, green, blue
    strength : (3,) factors on the amounts
    light : (3,) of the empty slide, 0 to 1
    blur : pixels
    """

    absorption: NDArray[np.float64]
    strength: NDArray[np.float64]
    light: NDArray[np.float64]
    blur: float

    def shifted(self, by: float, rng: np.random.Generator) -> Stain:
        """Another laboratory (`by` about 1) or another slide of the same one (about 0.3)."""
        turned = self.absorption + by * rng.normal(0, [[0.045], [0.04], [0.04]], (3, 3))
        turned = np.clip(turned, 0.02, None)
        return Stain(
            turned / np.linalg.norm(turned, axis=1, keepdims=True),
            self.strength * np.exp(by * rng.normal(0, [0.28, 0.24, 0.24])),
            np.clip(self.light + by * rng.normal(0, 0.015, 3) + by * rng.normal(0, 0.02), 0.8, 0.995),
            float(np.clip(self.blur + by * rng.normal(0, 0.2), 0.3, 1.1)),
        )


REFERENCE = Stain(_ABSORPTION, np.ones(3), np.array([0.95, 0.945, 0.955]), 0.6)


@dataclass(frozen=True)
class Cells:
    """Nuclei of one kind.

    Attributes
    ----------
    per_mm2 : density
    radius_um : median of the equivalent radius
    pleomorphism : SD of log radius; shape and chromatin vary with it
    elongation : ratio of axes
    chromatin : amount of haematoxylin
    """

    per_mm2: float
    radius_um: float
    pleomorphism: float
    elongation: float
    chromatin: float


@dataclass
class Canvas:
    """Amounts of the three dyes, drawn upon in place."""

    h: Floats
    e: Floats
    r: Floats

    @classmethod
    def empty(cls) -> Canvas:
        """A bare slide."""
        return cls(*(np.zeros((PIXELS, PIXELS), dtype=np.float32) for _ in range(3)))

    def lay(self, share: Floats, h: Amount, e: Amount, r: Amount = 0.0) -> None:
        """Replace what is there by other amounts, as far as `share` says."""
        self.h, self.e, self.r = mix(self.h, h, share), mix(self.e, e, share), mix(self.r, r, share)

    def colour(self, stain: Stain, rng: np.random.Generator) -> NDArray[np.uint8]:
        """(y, x, 3) as a scanner would see it."""
        amounts = np.stack([self.h, self.e, self.r]) * stain.strength[:, None, None]
        # Section thickness varies a little.
        amounts = amounts * (1 + 0.06 * smooth_noise((PIXELS, PIXELS), (60, 60), rng))
        density = np.tensordot(stain.absorption.T, np.maximum(amounts, 0), 1)
        light = stain.light[:, None, None] * np.exp(-1.25 * density)
        light = ndimage.gaussian_filter(light, (0, stain.blur, stain.blur))
        light += rng.normal(0, 0.008, light.shape)
        return np.moveaxis(np.clip(np.rint(255 * light), 0, 255), 0, 2).astype(np.uint8)


def region(share: float, width: float, rng: np.random.Generator) -> Floats:
    """An organic part of the tile (0 to 1, soft edge) that covers about `share`, in pieces of about `width` pixels."""
    field = smooth_noise((PIXELS, PIXELS), (width, width), rng) + 0.06 * _noise(rng, 3)
    return step(field - np.quantile(field, 1 - share), -0.03, 0.03)


def trabeculae(share: float, rng: np.random.Generator) -> Floats:
    """A network of bands that covers about `share`."""
    field = np.abs(smooth_noise((PIXELS, PIXELS), (38, 38), rng) + 0.03 * _noise(rng, 3))
    return step(field - np.quantile(field, share), 0.03, -0.03)


def bone(canvas: Canvas, where: Floats, rng: np.random.Generator) -> None:
    """Lamellar bone with osteocytes in their lacunae."""
    lines = _wavy(rng, along=45, across=0.8, bend=26) + 0.5 * _noise(rng, 12)
    dense, red = rng.uniform(0.42, 0.75), rng.uniform(0.08, 0.35)
    bluish = rng.uniform(0, 0.12) * step(_noise(rng, 30), 0.8, 1.8)
    canvas.lay(where, 0.03 + bluish, dense + 0.05 * lines, red * (1 + 0.2 * _noise(rng, 40)))
    at, turn = _scatter(rng.uniform(60, 160), 9.0, where, rng)
    for (y, x), angle in zip(at, turn, strict=True):
        _stamp(canvas, "lacuna", y, x, rng.uniform(1.5, 2.4), 1.8, angle, 0.0, rng)
        if rng.random() < 0.75:
            _stamp(canvas, "nucleus", y, x, rng.uniform(0.9, 1.4), 1.6, angle, 0.8, rng)


def fatty_marrow(canvas: Canvas, where: Floats, rng: np.random.Generator, cellular: float) -> None:
    """Adipocytes with thin walls; small uniform marrow cells between them, more with `cellular` from 0 to 1."""
    spacing = rng.uniform(19, 30)
    centres = _spread(int((PIXELS / spacing) ** 2 * 1.4), 0.75 * spacing, rng, margin=spacing)
    near, second = _two_nearest(centres)
    wall = step(second - near - 5.0 * cellular * (1 + _noise(rng, 20)), 1.8, 0.3)
    canvas.lay(where, 0.0, 0.0)
    canvas.lay(where * wall, 0.05 + 0.1 * cellular, 0.22 + 0.05 * _noise(rng, 1.0))
    place = where * step(second - near, 8.0 + 10 * cellular, 2.0)
    _nuclei(canvas, place, Cells(350 + 4200 * cellular, 3.2, 0.12, 1.15, 1.0), rng)


def stroma(canvas: Canvas, where: Floats, rng: np.random.Generator) -> None:
    """Fibrous tissue: wavy eosin, few spindle nuclei."""
    lines = 0.7 * _wavy(rng, along=9, across=1.0, bend=22) + 0.5 * _wavy(rng, along=25, across=2.0, bend=22)
    canvas.lay(where, 0.05, rng.uniform(0.28, 0.42) + 0.08 * lines)
    _nuclei(canvas, where, Cells(rng.uniform(250, 700), 3.0, 0.15, 2.8, 0.85), rng)


def viable_tumour(canvas: Canvas, where: Floats, cells: Cells, rng: np.random.Generator) -> None:
    """Malignant cells in basophilic cytoplasm, with lace-like osteoid and vacuoles."""
    purple = rng.uniform(0.08, 0.2)
    grain = _noise(rng, 1.2)
    canvas.lay(where, purple * (1 + 0.25 * _noise(rng, 14)) + 0.03 * grain, rng.uniform(0.2, 0.36) + 0.06 * grain)
    lace = step(np.abs(_noise(rng, 7)), 0.28, 0.12) * rng.uniform(0, 0.9)
    canvas.lay(where * lace, 0.05, rng.uniform(0.38, 0.55))
    _nuclei(canvas, where, cells, rng)
    _holes(canvas, where, rng.uniform(0, 90), rng)


def dead_tumour(
    canvas: Canvas, where: Floats, cells: Cells, rng: np.random.Generator, patterns: Sequence[float]
) -> None:
    """What treatment leaves, with ghosts of cells and the cells that remain.

    patterns : probabilities of loose fibrosis, hyaline matrix, coagulation necrosis
    """
    pattern = rng.choice(3, p=patterns)
    grain = _noise(rng, 1.3)
    lines = 0.6 * _wavy(rng, along=7, across=0.9, bend=34) + 0.5 * _wavy(rng, along=18, across=2.2, bend=34)
    if pattern == 0:  # pale, loose and wavy
        h, e = 0.08 + 0.03 * lines + 0.02 * grain, rng.uniform(0.12, 0.26) + 0.08 * lines + 0.03 * grain
    elif pattern == 1:  # hyaline
        h, e = 0.03 + 0.01 * grain, rng.uniform(0.3, 0.5) + 0.04 * _noise(rng, 10) + 0.02 * grain
    else:  # coagulation, granular
        h, e = 0.06 + 0.04 * grain, rng.uniform(0.22, 0.42) + 0.08 * grain + 0.05 * _noise(rng, 9)
    canvas.lay(where, h, e)
    ghosts = Cells(rng.uniform(200, 1100), 5.0, 0.3, 1.3, rng.uniform(0.1, 0.28))
    _nuclei(canvas, where, ghosts, rng)
    _nuclei(canvas, where, cells, rng)
    if rng.random() < 0.3:  # calcification
        canvas.lay(where * step(_noise(rng, 9), 1.3, 1.9), 0.45 + 0.1 * grain, 0.25)
    _holes(canvas, where, rng.uniform(0, 60), rng)


def vessel(canvas: Canvas, rng: np.random.Generator) -> None:
    """A small vessel with erythrocytes."""
    y, x = rng.uniform(30, PIXELS - 30, 2)
    size, flat, turn = rng.uniform(6, 16), rng.uniform(1, 2.2), rng.uniform(0, np.pi)
    yy, xx = np.mgrid[:PIXELS, :PIXELS].astype(np.float32)
    away = np.hypot(
        ((xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)) / flat, (yy - y) * np.cos(turn) - (xx - x) * np.sin(turn)
    ).astype(np.float32) + 0.8 * _noise(rng, 5)
    canvas.lay(step(away - size, 2.5, 1.0), 0.1, 0.45)
    lumen = step(away - size, 0.5, -1.0)
    canvas.lay(lumen, 0.0, 0.0)
    canvas.lay(lumen * step(_noise(rng, 1.4), -0.2, 0.5) * rng.uniform(0.2, 1.0), 0.0, 0.35, 0.75)


def cracks(canvas: Canvas, rng: np.random.Generator) -> None:
    """Empty slide where the section tore or the tissue ends."""
    canvas.lay(region(rng.uniform(0.03, 0.25), rng.uniform(14, 40), rng), 0.0, 0.0)


def _noise(rng: np.random.Generator, sigma: float) -> Floats:
    return smooth_noise((PIXELS, PIXELS), (sigma, sigma), rng)


def _wavy(rng: np.random.Generator, along: float, across: float, bend: float) -> Floats:
    """Fibres: noise stretched along a direction that drifts over the tile."""
    n = 2 * PIXELS
    stretched = smooth_noise((n, n), (across, along), rng)
    turn = rng.uniform(0, np.pi)
    yy, xx = np.mgrid[:PIXELS, :PIXELS].astype(np.float32) - PIXELS / 2
    u = xx * np.cos(turn) + yy * np.sin(turn)
    v = yy * np.cos(turn) - xx * np.sin(turn) + bend * _noise(rng, 38) * 0.5 + 0.06 * bend * _noise(rng, 9)
    lines = ndimage.map_coordinates(stretched, [v + PIXELS, u + PIXELS], order=1, mode="wrap")
    return np.asarray(lines, dtype=np.float32)


def _spread(n: int, least: float, rng: np.random.Generator, margin: float = 0.0) -> NDArray[np.float64]:
    """Up to n points of which no two are nearer than `least`; the earlier one stays."""
    points = rng.uniform(-margin, PIXELS + margin, (n, 2))
    pairs = cKDTree(points).query_pairs(least, output_type="ndarray")
    keep = np.ones(n, dtype=bool)
    for first, later in pairs[np.argsort(pairs[:, 0], kind="stable")]:
        if keep[first]:
            keep[later] = False
    return points[keep]


def _two_nearest(centres: NDArray[np.float64]) -> tuple[Floats, Floats]:
    grid = np.moveaxis(np.mgrid[:PIXELS, :PIXELS], 0, 2).reshape(-1, 2)
    away = np.asarray(cKDTree(centres).query(grid, k=2)[0], dtype=np.float32).reshape(PIXELS, PIXELS, 2)
    return away[..., 0], away[..., 1]


def _scatter(
    per_mm2: float, least: float, where: Floats, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places within a region, and an orientation that neighbours share."""
    area = (PIXELS * MPP / 1000) ** 2
    points = _spread(int(rng.poisson(per_mm2 * area)), least, rng)
    row, column = points.astype(int).T
    inside = where[row, column] > rng.random(len(points))
    along = 2 * _noise(rng, 30)[row, column]
    return points[inside], along[inside].astype(np.float64)


def _nuclei(canvas: Canvas, where: Floats, cells: Cells, rng: np.random.Generator) -> None:
    radius = cells.radius_um / MPP
    points, along = _scatter(cells.per_mm2, 1.3 * radius, where, rng)
    for (y, x), angle in zip(points, along, strict=True):
        size = radius * float(np.exp(rng.normal(0, cells.pleomorphism)))
        longer = 1 + (cells.elongation - 1) * float(np.exp(rng.normal(0, 0.2 + cells.pleomorphism)))
        dark = cells.chromatin * float(np.exp(rng.normal(0, 0.12 + 0.5 * cells.pleomorphism)))
        _stamp(canvas, "nucleus", y, x, size, min(longer, 4.0), angle + rng.normal(0, 0.5), dark, rng)


def _holes(canvas: Canvas, where: Floats, per_mm2: float, rng: np.random.Generator) -> None:
    points, along = _scatter(per_mm2, 12.0, where, rng)
    for (y, x), angle in zip(points, along, strict=True):
        _stamp(canvas, "hole", y, x, float(rng.uniform(2.5, 8.0)), float(rng.uniform(1, 1.3)), angle, 0.0, rng)


def _stamp(
    canvas: Canvas, kind: str, y: float, x: float, radius: float, longer: float, angle: float, dark: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """One ellipse of area pi radius², drawn into a small window."""
    a, b = radius * np.sqrt(longer), radius / np.sqrt(longer)
    reach = int(np.ceil(a + 2))
    top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
    window = (slice(top, min(int(y) + reach + 1, PIXELS)), slice(left, min(int(x) + reach + 1, PIXELS)))
    dy = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(window[1].start, window[1].stop, dtype=np.float32) - np.float32(x)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    away = np.hypot((dx * c + dy * s) / np.float32(a), (dy * c - dx * s) / np.float32(b))
    # Soft over about one pixel.
    soft = min(0.9, 0.6 / b)
    inside = step(away, 1 + soft, 1 - soft)
    if kind == "nucleus":
        # Vesicular where large: a darker rim, a paler middle, a nucleolus by chance.
        pale = 0.4 * min(1.0, max(0.0, (radius - 2.0) / 2.5))
        body = dark * (1 - pale * step(away, 0.9, 0.3))
        if radius > 2.6 and rng.random() < 0.5:
            body = body + 0.4 * dark * step(np.hypot(dx - rng.normal(0, 0.6), dy - rng.normal(0, 0.6)), 1.3, 0.6)
        canvas.h[window] = np.maximum(canvas.h[window], mix(canvas.h[window], body, inside))
        return
    for amounts, left_over in ((canvas.h, 0.0), (canvas.e, 0.12 if kind == "lacuna" else 0.0), (canvas.r, 0.0)):
        amounts[window] = mix(amounts[window], left_over, inside)
