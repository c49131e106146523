"""Synthetic T2-weighted fat-suppressed volumes of a limb with a bone tumour, its mask and a second reader's mask.

One number is planted: the heterogeneity of the tumour's rim and of the oedema just outside it (about 4 mm to either
side of the surface). It scales the amplitude of a texture whose mean is zero, so it moves no mean intensity. Lesion
size, the texture deeper in the tumour, contrast, receive field, gain and noise are drawn independently of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from osml.errors import InvalidInputError
from osml.imaging.volume import Volume
from osml.synthetic.fields import Floats, mix, smooth_noise, step

Size = Literal["small", "paper"]
# Voxels and millimetres in plane; the published protocol has 384 × 384 and slices of 5 mm.
PLANE: Mapping[str, tuple[int, float]] = {"small": (96, 1.5), "paper": (384, 0.46875)}
SLICE_MM = 5.0
# Slices beyond the lesion's ends: a ring of 6 mm must not leave the image.
_MARGIN_SLICES = 3
DIAMETER_MM = (15.0, 400.0)
# Amplitude of the planted texture at heterogeneity 0, as a share of full signal, and its growth per unit.
_AMPLITUDE, _GROWTH = 0.06, 0.4
# Signal as a share of full: what a radiologist expects of T2 with fat suppression.
_SIGNAL = {"skin": 0.3, "fat": 0.1, "muscle": 0.25, "cortex": 0.04, "marrow": 0.13, "vessel": 0.8}


@dataclass(frozen=True)
class Scan:
    """One patient's volume.

    Attributes
    ----------
    image : int16, z along the limb
    mask : uint8, 1 in the lesion
    reader2 : the lesion as a second reader would draw it, or None
    diameter_mm : largest extent of `mask`, between faces of voxels
    """

    image: Volume
    mask: Volume
    reader2: Volume | None
    diameter_mm: float


@dataclass(frozen=True)
class _Limb:
    """Anatomy in mm, the same for every size of image."""

    radius: float
    lobes: NDArray[np.float64]
    fat: float
    shaft: float
    flare: float
    bone: tuple[float, float]
    second_bone: float
    vessels: NDArray[np.float64]


def simulate_scan(
    diameter_mm: float,
    heterogeneity: float,
    rng: np.random.Generator,
    *,
    location: str = "femur",
    size: Size = "small",
    second_reader: bool = False,
) -> Scan:
    """Draw one patient.

    Parameters
    ----------
    diameter_mm : wanted largest diameter of the lesion, along the limb; met within a few mm (slices are 5 mm thick)
    heterogeneity : of rim and peritumoural oedema, in standard deviations of a population
    location : femur, tibia (with a fibula beside it) or other (a thinner limb)
    size : `small`, 96 × 96 of 1.5 mm; `paper`, 384 × 384 of 0.47 mm; both with slices of 5 mm

    >>> scan = simulate_scan(40.0, 0.0, np.random.default_rng(1))
    >>> scan.image.size, scan.image.spacing_mm, scan.image.array.dtype
    ((96, 96, 14), (1.5, 1.5, 5.0), dtype('int16'))
    """
    if size not in PLANE:
        raise InvalidInputError(f"size {size!r} is not known; small or paper")
    if not DIAMETER_MM[0] <= diameter_mm <= DIAMETER_MM[1]:
        raise InvalidInputError(f"a diameter of {diameter_mm:g} mm is outside {DIAMETER_MM[0]:g} to {DIAMETER_MM[1]:g}")
    # Streams of their own: anatomy does not depend on the number of voxels, nor the image on a second reader.
    anatomy, scanner, reader = rng.spawn(3)
    pixels, pixel_mm = PLANE[size]
    slices = int(np.ceil(diameter_mm / SLICE_MM)) + 2 * _MARGIN_SLICES
    spacing = (pixel_mm, pixel_mm, SLICE_MM)
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * s).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        for axis, (n, s) in enumerate(zip((slices, pixels, pixels), spacing[::-1], strict=True))
    )
    width = _width(diameter_mm, anatomy)
    limb = _draw_limb(location, width, anatomy)
    inside, centre, reached = _lesion(x, y, z, diameter_mm, width, limb, spacing, anatomy)
    distance = _distance(inside, spacing)
    tissue, within = _tissue(x - centre[0], y - centre[1], z, limb, distance, spacing, anatomy)
    signal = _with_lesion(tissue, within, distance, heterogeneity, spacing, anatomy)
    image = Volume(_acquired(signal, within, spacing, scanner), spacing, _origin(slices, pixels, spacing))
    redrawn = _redrawn(distance, spacing, reader) if second_reader else None
    return Scan(
        image,
        image.like(inside.astype(np.uint8)),
        None if redrawn is None else image.like(redrawn.astype(np.uint8)),
        reached,
    )


def largest_diameter(inside: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """Largest distance in mm between centres of outer voxel faces of a 3D mask; the mesh diameter of radiomics."""
    padded = np.pad(inside, 1)
    points = []
    for axis in range(3):
        for side in (-1, 1):
            exposed = np.argwhere(padded & ~np.roll(padded, -side, axis)).astype(np.float64)
            exposed[:, axis] += side / 2
            points.append(exposed)
    everywhere = np.concatenate(points) * np.array(spacing[::-1])
    return float(pdist(everywhere[ConvexHull(everywhere).vertices]).max())


def _origin(slices: int, pixels: int, spacing: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(-(n - 1) / 2 * s for n, s in zip((pixels, pixels, slices), spacing, strict=True))


def _width(diameter: float, rng: np.random.Generator) -> tuple[float, float]:
    """Half axes across the limb: osteosarcomas of long bones are longer than wide."""
    share = rng.uniform(0.36, 0.52) if diameter > 50 else rng.uniform(0.6, 0.8)
    half = min(share * diameter, 56.0) / 2
    return half * rng.uniform(0.95, 1.2), half * rng.uniform(0.8, 1.0)


def _draw_limb(location: str, width: tuple[float, float], rng: np.random.Generator) -> _Limb:
    radius = {"femur": 56.0, "tibia": 46.0}.get(location, 42.0) + rng.normal(0, 3.5)
    shaft = {"femur": 14.0, "tibia": 12.5}.get(location, 11.0) + rng.normal(0, 0.8)
    vessel_angle = rng.uniform(0.2, 1.2, 3) + np.array([0.0, 0.15, 1.1])
    vessels = np.column_stack(
        [vessel_angle, shaft + rng.uniform(9, 16, 3), rng.uniform(1.6, 3.4, 3)]
    )  # fmt: skip
    return _Limb(
        # The limb is swollen where the lesion is wide; 60 mm and a margin fit the smaller field of view.
        radius=float(np.clip(radius, max(width) + 0.6 * shaft + 13, 62.0)),
        lobes=np.column_stack([rng.uniform(-0.045, 0.045, 3), rng.uniform(0, 2 * np.pi, 3)]),
        fat=float(rng.uniform(3.5, 9.0)),
        shaft=shaft,
        flare=float(rng.uniform(0.25, 0.8)) * (1 if rng.random() < 0.5 else -1),
        bone=(float(rng.normal(0, 4)), float(rng.normal(-4 if location != "tibia" else -12, 3))),
        second_bone=7.0 if location == "tibia" else 0.0,
        vessels=vessels,
    )


def _lesion(
    x: Floats,
    y: Floats,
    z: Floats,
    diameter: float,
    width: tuple[float, float],
    limb: _Limb,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], tuple[float, float], float]:
    """A lobulated ellipsoid at the bone, scaled until its largest diameter is the wanted one.

    Returns the mask, where the limb's axis lies, and the diameter reached.
    """
    angle = rng.uniform(0, 2 * np.pi)
    aside = limb.shaft * rng.uniform(0.3, 0.8)
    # The field of view is centred between limb and lesion, as a technician would.
    axis = (-0.4 * aside * np.cos(angle), -0.4 * aside * np.sin(angle))
    cx, cy = axis[0] + limb.bone[0] + aside * np.cos(angle), axis[1] + limb.bone[1] + aside * np.sin(angle)
    turn = rng.uniform(0, np.pi)
    u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / np.float32(width[0])
    v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / np.float32(width[1])
    w = z / np.float32(diameter / 2)
    radius = np.sqrt(u * u + v * v + w * w) + np.float32(1e-6)
    lobes = np.zeros_like(radius)
    for _ in range(9):
        direction = rng.normal(size=3)
        direction *= rng.uniform(2.5, 6.5) / np.linalg.norm(direction)
        along = (direction[0] * u + direction[1] * v + direction[2] * w) / radius
        lobes += np.cos(along + np.float32(rng.uniform(0, 2 * np.pi)))
    level = radius / (1 + np.float32(rng.uniform(0.04, 0.08)) * lobes)
    low, high, best = 0.5, 1.6, (np.inf, np.zeros(level.shape, dtype=bool), 0.0)
    for _ in range(12):
        middle = (low + high) / 2
        inside = _one_piece(level < middle)
        reached = largest_diameter(inside, spacing)
        if abs(reached - diameter) < best[0]:
            best = (abs(reached - diameter), inside, reached)
        low, high = (low, middle) if reached > diameter else (middle, high)
    return best[1], axis, best[2]


def _one_piece(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, found = ndimage.label(inside)
    if found < 2:
        return inside
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _distance(inside: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Floats:
    """Signed distance from the drawn surface in mm, negative inside; exact within 25 mm, flat beyond."""
    far = 25.0
    margin = np.ceil(far / np.array(spacing[::-1])).astype(int)
    used = np.argwhere(inside)
    low, high = np.maximum(used.min(axis=0) - margin, 0), used.max(axis=0) + 1 + margin
    window = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part, sampling = inside[window], spacing[::-1]
    half = spacing[0] / 2
    outside = ndimage.distance_transform_edt(~part, sampling=sampling)
    within = ndimage.distance_transform_edt(part, sampling=sampling)
    out = np.full(inside.shape, far, dtype=np.float32)
    out[window] = np.where(part, half - within, np.minimum(outside - half, far))
    return out


def _tissue(
    x: Floats, y: Floats, z: Floats, limb: _Limb, distance: Floats,
    spacing: tuple[float, float, float], rng: np.random.Generator,
) -> tuple[Floats, Floats]:  # fmt: skip
    """The limb without its lesion (coordinates from its axis), and 1 inside the skin."""
    shape = distance.shape
    px = spacing[0]
    angle = np.arctan2(y, x)
    outline = limb.radius * (1 + 0.0006 * z)
    for k, (size, phase) in enumerate(limb.lobes):
        outline = outline * (1 + size * np.cos((k + 2) * angle + phase))
    depth = (outline - np.hypot(x, y)).astype(np.float32)
    within = step(depth, -0.75, 0.75)
    fibres = smooth_noise(shape, (2.0, 1.2 / px, 1.2 / px), rng)
    # Fascia: the zero lines of a wide field that hardly changes along the limb.
    planes = smooth_noise(shape, (4.0, 9.0 / px, 9.0 / px), rng)
    muscle = _SIGNAL["muscle"] + 0.018 * fibres + 0.02 * smooth_noise(shape, (2.0, 7 / px, 7 / px), rng)
    muscle = mix(muscle, 0.13, 0.75 * step(np.abs(planes), 0.11, 0.03))
    fat = _SIGNAL["fat"] + 0.02 * fibres
    # Fat suppression fails towards one side of the coil, as it does off the isocentre.
    side = rng.uniform(0, 2 * np.pi)
    fat = fat + rng.uniform(0.0, 0.3) * step((x * np.cos(side) + y * np.sin(side)) / limb.radius, 0.55, 1.05)
    septa = smooth_noise(shape, (3.0, 3 / px, 3 / px), rng)
    fat = mix(fat, 0.3, 0.5 * step(np.abs(septa), 0.12, 0.03))
    fat_depth = limb.fat * (1 + 0.35 * np.cos(angle + side))
    signal = mix(muscle, fat, step(depth - fat_depth, 1.2, -0.4))
    signal = mix(signal, _SIGNAL["skin"], 0.8 * step(depth, 2.6, 1.2))
    for turn, reach, radius in limb.vessels:
        away = np.hypot(x - limb.bone[0] - reach * np.cos(turn), y - limb.bone[1] - reach * np.sin(turn))
        signal = mix(signal, _SIGNAL["vessel"], step(away - radius, 0.7, -0.7) * step(distance, 2.0, 6.0))
    r = limb.shaft * (1 + abs(limb.flare) * step(np.sign(limb.flare) * z, -20.0, 90.0))
    signal = _with_bone(signal, np.hypot(x - limb.bone[0], (y - limb.bone[1]) * 1.1), r, distance, fibres)
    if limb.second_bone:
        aside = np.hypot(x - limb.bone[0] - limb.shaft - 15, y - limb.bone[1] - 9)
        signal = _with_bone(signal, aside, np.full_like(z, limb.second_bone), distance, fibres)
    return signal * within, within


def _with_bone(signal: Floats, away: Floats, radius: Floats, distance: Floats, fibres: Floats) -> Floats:
    marrow = _SIGNAL["marrow"] + 0.015 * fibres
    signal = mix(signal, marrow, step(away - radius, 0.6, -0.6))
    cortex = step(away - radius, 0.7, -0.4) * step(away - radius, -3.6, -2.4)
    # The tumour has permeated the cortex beside it.
    return mix(signal, _SIGNAL["cortex"], cortex * (0.25 + 0.75 * step(distance, 4.0, 12.0)))


def _with_lesion(
    tissue: Floats, within: Floats, distance: Floats, heterogeneity: float,
    spacing: tuple[float, float, float], rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Oedema, tumour and the planted texture laid over the tissue."""
    px, shape = spacing[0], distance.shape
    # Oedema: brightest at the surface, uneven in reach.
    reach = rng.uniform(5.0, 11.0)
    uneven = smooth_noise(shape, (1.6, 9 / px, 9 / px), rng)
    oedema = rng.uniform(0.5, 0.62)
    spread = step(distance / (1 + 0.25 * np.clip(uneven, -2, 2)), 5.0 + 1.8 * reach, 3.0) * within
    # Fluid spreads in muscle and marrow; cortex, fascia and fat stay visible through it.
    share = 0.92 * spread * (0.35 + 0.65 * step(tissue, 0.06, 0.13))
    signal = mix(tissue, oedema, share)
    # Tumour: bright, with cysts and mineralised islands away from its rim.
    deep = step(distance, -2.0, -6.0)
    solid = oedema + rng.uniform(0.06, 0.16)
    coarse, fine = (smooth_noise(shape, (s / SLICE_MM, s / px, s / px), rng) for s in (5.0, 2.2))
    blobs, islands = (smooth_noise(shape, (5 / SLICE_MM, 4 / px, 4 / px), rng) for _ in range(2))
    own = float(np.exp(rng.normal(0, 0.35)))
    tumour = solid + deep * own * (0.06 * coarse + 0.04 * fine)
    tumour = mix(tumour, 1.0, deep * 0.9 * step(blobs, *(rng.uniform(0.9, 1.8) + np.array([0.0, 0.5]))))
    tumour = mix(tumour, 0.12, deep * 0.9 * step(islands, *(rng.uniform(0.9, 1.8) + np.array([0.0, 0.5]))))
    signal = mix(signal, tumour, step(distance, 0.8, -0.8))
    # The planted effect: mean zero, so that it moves no mean.
    grain, clumps = (smooth_noise(shape, (s / SLICE_MM, s / px, s / px), rng) for s in (1.4, 3.0))
    shell = step(distance, -4.0, -1.5) * step(distance, 6.0, 3.5)
    amplitude = _AMPLITUDE * float(np.exp(_GROWTH * heterogeneity))
    return np.maximum(signal + amplitude * shell * within * (0.8 * grain + 0.6 * clumps), 0)


def _acquired(
    signal: Floats, within: Floats, spacing: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.int16]:
    """Point spread, receive field, gain and Rician noise; integers as scanners write them."""
    sharp = 0.7 / spacing[0]
    signal = ndimage.gaussian_filter(signal, (0, sharp, sharp))
    gz, gy, gx = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in signal.shape), indexing="ij")
    a = rng.normal(0, [0.05, 0.14, 0.14, 0.08, 0.08]).astype(np.float32)
    receive = np.exp(a[0] * gz + a[1] * gy + a[2] * gx + a[3] * gx * gy + a[4] * (gx * gx - gy * gy))
    gain = 110.0 * float(np.exp(rng.normal(0, 0.4)))
    noise = float(rng.uniform(0.012, 0.022))
    first, second = (noise * rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(2))
    # Scanners mask most of the air; what is left of its noise keeps the background from being constant.
    air = 0.2 + 0.8 * ndimage.gaussian_filter(within, (0, 2 * sharp, 2 * sharp))
    return np.rint(gain * np.hypot(signal * receive + first * air, second * air)).astype(np.int16)


def _redrawn(distance: Floats, spacing: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A second reading: the outline wanders by about 1 mm, tighter or looser as a whole, and may lose an end slice."""
    px = spacing[0]
    wander = rng.normal(0, 0.4) + 0.9 * smooth_noise(distance.shape, (0.7, 6 / px, 6 / px), rng)
    inside = distance < wander
    used = np.flatnonzero((distance < 0).any(axis=(1, 2)))
    inside[: used[0]] = inside[used[-1] + 1 :] = False
    if len(used) > 6 and rng.random() < 0.4:
        inside[used[0] if rng.random() < 0.5 else used[-1]] = False
    return _one_piece(inside)
