"""Procedural radiographs of a knee: attenuation through soft tissue and bone, lesions, exposure.

Bones are bodies with an outer and an inner surface, seen through: what a pixel shows is the length of compact and
cancellous bone along the ray, so cortices are bright at their edges as in a real radiograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osml.synthetic.fields import smooth_noise, step

PIXELS = 512
FIELD_MM = 190.0
_PX = FIELD_MM / PIXELS
View = Literal["ap", "lateral"]
Array = NDArray[np.floating]
# Attenuation per mm at the energies of a knee radiograph: water, fat, compact bone.
_SOFT, _FAT, _COMPACT = 0.021, 0.0175, 0.062
# Ends of bones are blunter than ellipsoids.
_SQUARE = 2.6
_MARKS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


@dataclass(frozen=True)
class Knee:
    """What a patient's radiographs have in common.

    Attributes
    ----------
    scale : of the skeleton, 1 = adult
    open_plates : growth plates are open
    soft : factor on the soft tissues
    density : factor on cancellous bone (falls with age)
    narrowing_mm : of the joint space, with sclerosis and osteophytes
    side : L or R
    """

    scale: float
    open_plates: bool
    soft: float
    density: float
    narrowing_mm: float
    side: str


@dataclass(frozen=True)
class Lesion:
    """A change of the bone.

    Attributes
    ----------
    kind : sclerotic, lytic, mixed (malignant, with periosteal reaction), or island, cyst (benign, well defined)
    bone : femur or tibia
    height_mm : distance of its centre from the joint
    aside : position across the bone, -1 to 1
    size_mm : half axes across and along
    conspicuity : 0 invisible, 1 obvious
    """

    kind: Literal["sclerotic", "lytic", "mixed", "island", "cyst"]
    bone: Literal["femur", "tibia"]
    height_mm: float
    aside: float
    size_mm: tuple[float, float]
    conspicuity: float


@dataclass
class _Rays:
    """Lengths in mm along each ray."""

    compact: Array
    cancellous: Array

    @classmethod
    def none(cls) -> _Rays:
        """No bone."""
        return cls(np.zeros((PIXELS, PIXELS), dtype=np.float32), np.zeros((PIXELS, PIXELS), dtype=np.float32))

    def add(self, other: _Rays, share: float = 1.0) -> None:
        """Another bone in front of or behind this one."""
        self.compact = self.compact + share * other.compact
        self.cancellous = self.cancellous + share * other.cancellous


def draw_radiograph(
    view: View, knee: Knee, lesion: Lesion | None, anatomy: np.random.Generator, exposure: np.random.Generator
) -> NDArray[np.uint8]:
    """One radiograph, (512, 512), bone bright.

    Parameters
    ----------
    anatomy : of this direction: the same for two radiographs of one knee
    exposure : position, technique and noise of this radiograph
    """
    # Streams of their own: a lesion changes nothing but itself.
    anatomy, lesions = anatomy.spawn(2)
    position, exposure = exposure.spawn(2)
    x, y = _grid(knee, position)
    femur, tibia, small = _Rays.none(), _Rays.none(), _Rays.none()
    if view == "ap":
        places = _front(x, y, femur, tibia, small, knee)
    else:
        places = _side(x, y, femur, tibia, small, knee, anatomy)
    grain = _trabeculae(anatomy)
    bone = _COMPACT * small.compact + 0.02 * knee.density * small.cancellous * (1 + 0.1 * grain)
    change = np.zeros_like(bone)
    for name, rays in (("femur", femur), ("tibia", tibia)):
        across, along, width = places[name]
        near = 0.010 + 0.018 * step(along, 75.0, 20.0)
        part = _COMPACT * rays.compact + knee.density * near * rays.cancellous * (1 + 0.1 * grain)
        if knee.open_plates:
            # A lucent line with a dense border towards the shaft.
            bend = along + 1.2 * np.sin(across / 5.0) + 0.03 * across**2 / 5.0
            part = part * (1 - 0.5 * step(np.abs(bend - 27.0), 1.6, 0.5) + 0.12 * step(np.abs(bend - 29.5), 1.8, 0.6))
        if lesion is not None and lesion.bone == name:
            part, more = _diseased(part, across, along, width, lesion, lesions)
            change += more
        bone = bone + part
    thick, fat = _soft_tissue(x, y, view, knee)
    attenuation = _SOFT * thick - (_SOFT - _FAT) * fat + 0.75 * bone + change
    return _exposed(attenuation * (1 + 0.01 * smooth_noise(attenuation.shape, (9, 9), anatomy)), knee, exposure)


def _grid(knee: Knee, rng: np.random.Generator) -> tuple[Array, Array]:
    """Coordinates in adult mm: x to the patient's lateral side (or front), y down, 0 in the joint."""
    at = (np.arange(PIXELS, dtype=np.float32) - PIXELS / 2) * np.float32(_PX)
    turn, (sx, sy) = rng.normal(0, 0.06), rng.normal(0, [5.0, 9.0])
    xx, yy = at[None, :] - np.float32(sx), at[:, None] - np.float32(sy)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    mirror = np.float32(1 if knee.side == "R" else -1)
    return (xx * c + yy * s) * mirror / np.float32(knee.scale), (yy * c - xx * s) / np.float32(knee.scale)


def _tube(rays: _Rays, across: Array, width: Array, cortex: Array, depth: float, present: Array) -> None:
    """A tube along the limb with half width and cortex per row, added where `present`."""
    outer = depth * width * np.sqrt(np.maximum(1 - (across / width) ** 2, 0))
    within = np.maximum(width - cortex, 0.5)
    inner = depth * within * np.sqrt(np.maximum(1 - (across / within) ** 2, 0))
    _union(rays, 2 * outer * present, 2 * inner * present)


def _ball(rays: _Rays, dx: Array, dy: Array, size: tuple[float, float, float], cortex: float = 1.5) -> None:
    """An ellipsoid with half axes across, along, and in depth."""
    chords = [
        2
        * (size[2] - less)
        * np.sqrt(
            np.maximum(1 - np.abs(dx / (size[0] - less)) ** _SQUARE - np.abs(dy / (size[1] - less)) ** _SQUARE, 0)
        )
        for less in (0.0, cortex)
    ]
    _union(rays, *chords)


def _union(rays: _Rays, outer: Array, inner: Array) -> None:
    """Two overlapping parts of one bone: the longer chord counts."""
    whole = np.maximum(rays.compact + rays.cancellous, outer)
    rays.cancellous = np.minimum(np.maximum(rays.cancellous, inner), whole)
    rays.compact = whole - rays.cancellous


Place = tuple[Array, Array, Array]


def _front(x: Array, y: Array, femur: _Rays, tibia: _Rays, small: _Rays, knee: Knee) -> dict[str, Place]:
    up, down = -y, y + knee.narrowing_mm
    width = 13.5 + 25.5 * np.exp(-((np.maximum(up, 0) / 47.0) ** 2.0))
    _tube(femur, x, width, 1.2 + 4.2 * step(up, 25.0, 80.0), 0.8, step(up, 15.0, 24.0))
    for side in (-1, 1):
        _ball(femur, x - side * 20.0, up - 19.0, (18.5, 17.5 + 0.8 * side, 24.0))
    patella = _Rays.none()
    _ball(patella, x + 1.0, up - 33.0, (19.0, 20.0, 6.0))  # in front of the femur
    small.add(patella, 0.5)
    wide = 12.5 + 24.5 * np.exp(-((np.maximum(down - 4, 0) / 29.0) ** 1.35))
    wide = wide * (1 - 0.07 * np.exp(-np.maximum(down - 4, 0) / 3.0))
    spine = 4.0 * np.exp(-(((np.abs(x) - 4.5) / 3.0) ** 2))
    top = 4.5 - spine
    _tube(tibia, x, wide, 1.2 + 3.8 * step(down, 20.0, 75.0), 0.8, step(down - top, -0.4, 0.4))
    plate = np.exp(-(((down - top - 1.0) / 1.1) ** 2)) * (np.abs(x) < wide)
    tibia.compact = tibia.compact + 7.0 * (1 + 0.5 * knee.narrowing_mm) * plate
    _osteophytes(femur, tibia, x, y, knee)
    shift = x - 30.0 + 0.06 * np.maximum(down - 20, 0)
    fibula = _Rays.none()
    _tube(fibula, shift, 5.5 + 2.5 * step(down, 40.0, 18.0), 1.8 + 0 * down, 0.9, step(down, 13.0, 17.0))
    _ball(fibula, shift, down - 19.0, (8.0, 7.0, 8.0))
    small.add(fibula)
    return {"femur": (x + 0 * y, up + 0 * x, width), "tibia": (x + 0 * y, down + 0 * x, wide)}


def _side(
    x: Array, y: Array, femur: _Rays, tibia: _Rays, small: _Rays, knee: Knee, rng: np.random.Generator
) -> dict[str, Place]:
    up = -y
    axis = x + 2.0 - 5.0 * step(up, 30.0, 110.0)
    width = 12.5 + 14.0 * np.exp(-((np.maximum(up, 0) / 43.0) ** 2))
    _tube(femur, axis, width, 1.2 + 4.0 * step(up, 30.0, 80.0), 0.95, step(up, 18.0, 30.0))
    for shift in (0.0, float(rng.normal(2.5, 1.0))):
        _ball(femur, x + 14.0 - shift, up - 20.0 - 0.5 * shift, (18.0, 19.0, 26.0))
        _ball(femur, x - 1.0 - shift, up - 23.0 - 0.5 * shift, (22.0, 22.0, 24.0))
    patella = _Rays.none()
    _ball(patella, x - 33.0 + 0.25 * (up - 26.0), up - 26.0, (8.5, 20.0, 18.0))
    small.add(patella)
    bend = float(rng.uniform(0.1, 0.55))
    c, s = np.float32(np.cos(bend)), np.float32(np.sin(bend))
    across, down = x * c + y * s + 5.0, y * c - x * s + knee.narrowing_mm
    wide = 11.5 + 15.0 * np.exp(-((np.maximum(down - 3, 0) / 24.0) ** 1.3))
    tubercle = 5.0 * np.exp(-(((down - 34.0) / 11.0) ** 2))
    centre = across - 0.5 * tubercle
    wide = wide + 0.5 * tubercle
    _tube(tibia, centre, wide, 1.2 + 3.8 * step(down, 20.0, 75.0), 1.1, step(down, 3.6, 4.6))
    plate = np.exp(-(((down - 5.0) / 1.2) ** 2)) * (np.abs(centre) < wide)
    tibia.compact = tibia.compact + 9.0 * plate
    fibula = _Rays.none()
    _tube(fibula, across + 17.0, 5.0 + 0 * down, 1.8 + 0 * down, 0.9, step(down, 15.0, 19.0))
    _ball(fibula, across + 17.0, down - 20.0, (7.5, 7.0, 7.0))
    small.add(fibula)
    return {"femur": (axis + 0 * y, up + 0 * x, width + 0 * x), "tibia": (centre, down, wide)}


def _osteophytes(femur: _Rays, tibia: _Rays, x: Array, y: Array, knee: Knee) -> None:
    if knee.narrowing_mm < 1.0:
        return
    for side in (-1, 1):
        _ball(femur, x - side * 37.5, -y - 8.0, (2.0 + knee.narrowing_mm, 3.0, 5.0), 0.8)
        _ball(tibia, x - side * 36.0, y - 4.0, (2.5 + knee.narrowing_mm, 2.6, 5.0), 0.8)


def _trabeculae(rng: np.random.Generator) -> Array:
    shape = (PIXELS, PIXELS)
    along = smooth_noise(shape, (1.6 / _PX, 0.4 / _PX), rng)
    across = smooth_noise(shape, (0.4 / _PX, 1.2 / _PX), rng)
    return 0.8 * along + 0.4 * across + 0.8 * smooth_noise(shape, (4 / _PX, 4 / _PX), rng)


def _diseased(
    bone: Array, across: Array, along: Array, width: Array, lesion: Lesion, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The bone with its lesion, and attenuation outside of it."""
    shape, seen = bone.shape, np.float32(lesion.conspicuity)
    here = np.interp(lesion.height_mm, [0.0, 30.0, 60.0, 110.0], [36.0, 26.0, 17.0, 13.0])
    dx, dy = across - lesion.aside * here, along - lesion.height_mm
    a, b = lesion.size_mm
    away = np.hypot(dx / np.float32(a), dy / np.float32(b))
    if lesion.kind == "island":
        return bone + 0.9 * seen * step(away + 0.08 * smooth_noise(shape, (5, 5), rng), 1.1, 0.7), np.zeros_like(bone)
    if lesion.kind == "cyst":
        rim = np.exp(-(((away - 1.05) / 0.12) ** 2)) * (bone > 0.05)
        return bone * (1 - 0.6 * seen * step(away, 1.1, 0.85)) + 0.35 * seen * rim, np.zeros_like(bone)
    ragged = away + 0.22 * smooth_noise(shape, (7 / _PX, 7 / _PX), rng) + 0.1 * smooth_noise(shape, (2 / _PX,) * 2, rng)
    core = step(ragged, 1.25, 0.55)
    clouds = 0.55 + 0.45 * smooth_noise(shape, (3.5 / _PX, 3.5 / _PX), rng) + 0.2 * smooth_noise(shape, (5, 5), rng)
    holes = step(smooth_noise(shape, (2.6 / _PX, 2.6 / _PX), rng), -0.7, 0.5)
    within = step(np.abs(across) - width, 1.0, -1.0)
    dense = {"sclerotic": 1.7, "lytic": 0.0, "mixed": 1.3}[lesion.kind]
    gone = {"sclerotic": 0.12, "lytic": 0.85, "mixed": 0.6}[lesion.kind]
    bone = bone * (1 - gone * seen * core * (0.35 + 0.65 * holes))
    bone = bone + dense * seen * core * np.clip(clouds, 0, 2) * within
    return bone, seen * _reaction(across, along, width, lesion, core, rng) * (1 - within)


def _reaction(
    across: Array, along: Array, width: Array, lesion: Lesion, core: Array, rng: np.random.Generator
) -> Array:
    """Outside the cortex: a mass, cloudy osteoid, sunburst spicules, Codman's triangles."""
    shape = across.shape
    a, b = lesion.size_mm
    sideways = np.sign(lesion.aside) or 1.0
    outside = np.abs(across) - width
    same = step(sideways * across, -2.0, 2.0)
    dy = along - lesion.height_mm
    reach = (0.8 * a) * np.sqrt(np.maximum(1 - (dy / (1.15 * b)) ** 2, 0))
    mass = step(outside - reach, 3.0, -3.0) * same
    angle = np.arctan2(dy, sideways * across - 0.3 * width)
    rays = np.interp(angle, np.linspace(-np.pi, np.pi, 360), smooth_noise((360,), (1.3,), rng)).astype(np.float32)
    spicules = step(rays, 0.1, 0.9) * step(outside - 0.75 * reach, 2.0, -2.0) * same * (0.6 + 0.4 * np.tanh(rays))
    clouds = np.clip(0.3 + 0.5 * smooth_noise(shape, (3.5 / _PX, 3.5 / _PX), rng), 0, 1.5)
    osteoid = 0.0 if lesion.kind == "lytic" else 0.5
    # Codman: periosteum lifted off where the lesion ends.
    past = np.abs(dy) - 0.95 * b
    lifted = 0.35 * a * np.exp(-np.maximum(past, 0) / 8.0)
    triangle = np.exp(-(((outside - lifted) / 0.7) ** 2)) * step(past, -4.0, 0.0) * step(past, 20.0, 10.0) * same
    return 0.2 * mass + osteoid * mass * clouds * core + 0.42 * spicules * rng.uniform(0.3, 1.0) + 0.35 * triangle


def _soft_tissue(x: Array, y: Array, view: View, knee: Knee) -> tuple[Array, Array]:
    up = np.clip(-y / 110.0, -1.2, 1.2)
    half = (54.0 + 9.0 * up + 5.0 * up**2 if view == "ap" else 52.0 + 10.0 * up + 8.0 * up**2) * knee.soft
    shift = x + (0.0 if view == "ap" else 6.0)
    chords = []
    for less in (0.0, 7.0 * knee.soft):
        w = half - less
        chords.append(1.9 * w * np.sqrt(np.maximum(1 - (shift / w) ** 2, 0)))
    return chords[0], chords[0] - chords[1]


def _exposed(attenuation: Array, knee: Knee, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Scatter, quantum noise, the detector's blur, and a window as technicians set it."""
    sharp = rng.uniform(0.6, 1.3)
    seen = np.exp(-ndimage.gaussian_filter(attenuation, sharp))
    scatter = ndimage.zoom(ndimage.gaussian_filter(seen[::8, ::8], 6), 8, order=1)[:PIXELS, :PIXELS]
    seen = seen + rng.uniform(0.2, 0.45) * scatter
    quanta = float(np.exp(rng.normal(np.log(9000), 0.5)))
    seen = np.maximum(seen + np.sqrt(seen / quanta) * rng.standard_normal(seen.shape, dtype=np.float32), 1e-4)
    film = -np.log(seen)
    film = film + rng.uniform(0.1, 0.6) * (film - ndimage.gaussian_filter(film, 9))
    low, high = np.quantile(film, [0.02, 0.995])
    low = low + rng.normal(0.08, 0.08) * (high - low)
    high = high + rng.uniform(0.0, 0.22) * (high - low)
    level = np.clip((film - low) / (high - low), 0, 1) ** np.exp(rng.normal(0.15, 0.2))
    level = _collimated(level.astype(np.float32), knee.side, rng)
    return np.rint(250 * level).astype(np.uint8)


def _collimated(level: Array, side: str, rng: np.random.Generator) -> Array:
    at = np.arange(PIXELS)
    edges = rng.uniform(0, 40, 4) * (rng.random(4) < 0.6)
    rows = (at >= edges[0]) & (at < PIXELS - edges[1])
    columns = (at >= edges[2]) & (at < PIXELS - edges[3])
    level = level * (rows[:, None] & columns[None, :])
    if rng.random() < 0.7:
        mark = np.kron([[cell == "1" for cell in line] for line in _MARKS[side]], np.ones((4, 4)))
        top, left = int(rng.integers(45, 90)), int(rng.choice([rng.integers(45, 80), rng.integers(410, 440)]))
        window = (slice(top, top + mark.shape[0]), slice(left, left + mark.shape[1]))
        level[window] = np.maximum(level[window], mark)
    return level
