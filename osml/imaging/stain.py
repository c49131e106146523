"""Haematoxylin and eosin: colour deconvolution, estimation from a picture, normalisation, augmentation.

Optical density (OD) is -log10(I / 255) per colour channel, a count of 0 taken as 1, so that it lies in 0..2.41.
Densities of stains add (Beer and Lambert); intensities do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError, NotEstimableError

Plane = NDArray[np.float32]
Vector = tuple[float, float, float]
DENSITY = np.log10(255 / np.maximum(np.arange(256), 1)).astype(np.float32)
DENSITY.setflags(write=False)
# Fewer stained pixels do not give two stain directions.
MIN_STAINED_PIXELS = 300
# Vectors nearer than this are one stain: separation would amplify noise more than fivefold.
MIN_ANGLE_DEGREES = 11.0


class StainError(NotEstimableError):
    """Two stains cannot be told apart in this picture."""

    reason = "stain"


@dataclass(frozen=True)
class Stains:
    """OD of one unit of each stain in red, green and blue (unit length), and how strong the stains are in a picture.

    Attributes
    ----------
    haematoxylin, eosin : unit vectors
    residual : the third unit vector; none: orthogonal to both
    strength : 99th percentile of either stain's density over stained pixels; what `normalise` brings together

    Raises
    ------
    StainError
        The vectors are nearly parallel.
    """

    haematoxylin: Vector
    eosin: Vector
    residual: Vector | None = None
    strength: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("haematoxylin", "eosin", "residual"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _unit(name, getattr(self, name)))
        if len(self.strength) != 2 or not all(0 < value < np.inf for value in self.strength):
            raise InvalidInputError(f"stain strength {self.strength}: two positive numbers are expected")
        angle = float(np.degrees(np.arccos(np.clip(np.dot(self.haematoxylin, self.eosin), -1, 1))))
        if not angle >= MIN_ANGLE_DEGREES:
            raise StainError(
                f"the two stain vectors are {angle:.1f}° apart; at least {MIN_ANGLE_DEGREES:g}° are needed",
                why="The picture holds one stain only, or none: a separation would be noise.",
                do="Estimate on a larger part of the slide, or use RUIFROK.",
            )
        if abs(np.linalg.det(self.matrix())) < 0.01:
            raise StainError("the residual's vector lies in the plane of the two stains")

    def matrix(self) -> NDArray[np.float64]:
        """Rows haematoxylin, eosin, residual: density → OD."""
        across = np.cross(self.haematoxylin, self.eosin)
        third = across / np.linalg.norm(across) if self.residual is None else self.residual
        return np.array([self.haematoxylin, self.eosin, third])


def _unit(name: str, vector: Vector) -> Vector:
    array = np.asarray(vector, dtype=np.float64)
    if array.shape != (3,) or not np.all(np.isfinite(array)) or not np.any(array):
        raise InvalidInputError(f"stain vector {name} {vector}: three finite numbers, not all zero, are expected")
    red, green, blue = (array / np.linalg.norm(array)).tolist()
    return red, green, blue


# Ruifrok and Johnston 2001, their normed matrix. The third, diaminobenzidine, is not in an H&E slide; it takes the blue
# that real eosin absorbs and their eosin vector lacks, which an orthogonal third vector would count as haematoxylin.
RUIFROK = Stains((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


@dataclass(frozen=True)
class Shift:
    """One change of staining: factors on haematoxylin and eosin, and an OD added to red, green and blue."""

    factor: tuple[float, float]
    offset: Vector


def optical_density(rgb: NDArray[np.uint8]) -> Plane:
    """OD of every channel, float32 of the same shape.

    >>> optical_density(np.array([[[255, 26, 0]]], dtype=np.uint8)).astype(float).round(2).tolist()
    [[[0.0, 0.99, 2.41]]]
    """
    return DENSITY.take(check_rgb(rgb))


def separate(rgb: NDArray[np.uint8], stains: Stains = RUIFROK) -> tuple[Plane, Plane, Plane]:
    """Densities of haematoxylin, eosin and the residual, by colour deconvolution (Ruifrok and Johnston 2001).

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
    stains : `RUIFROK`, or `estimate_stains` of the slide

    Returns
    -------
    three float32 (h, w) in OD units. Negative where a pixel is purer in the other stain than its vector. The
    residual is 0 where the two stains explain the colour.
    """
    channels = DENSITY.take(check_rgb(rgb).reshape(-1, 3).T)
    planes = (np.linalg.inv(stains.matrix()).T.astype(np.float32) @ channels).reshape(3, *rgb.shape[:2])
    return planes[0], planes[1], planes[2]


def combine(haematoxylin: Plane, eosin: Plane, residual: Plane, stains: Stains = RUIFROK) -> NDArray[np.uint8]:
    """The picture of these densities, uint8 (h, w, 3): the inverse of `separate`, rounded."""
    density = np.stack([haematoxylin, eosin, residual], axis=-1) @ stains.matrix().astype(np.float32)
    return _intensity(density)


def estimate_stains(rgb: NDArray[np.uint8], *, min_density: float = 0.15, percentile: float = 1.0) -> Stains:
    """The picture's own stain vectors and strengths (Macenko et al. 2009).

    The plane through the origin nearest to the stained pixels' ODs, and in it the extreme directions.

    Parameters
    ----------
    rgb : uint8 (h, w, 3); 1,000 × 1,000 pixels are enough, a thumbnail of the slide is better than one tile
    min_density : pixels count as stained where their densest channel exceeds this OD. (The paper asks it of every
        channel, which loses eosin: it hardly absorbs red.) Pixels that are black in a channel are left out
    percentile : share of pixels beyond either extreme direction, in percent

    Raises
    ------
    StainError
        Fewer than 300 stained pixels, or a single stain.
    """
    check_rgb(rgb)
    pixels = rgb.reshape(-1, 3)
    step = max(1, len(pixels) // 500_000)
    density = DENSITY[pixels[::step]].astype(np.float64)
    stained = density[(density.max(axis=1) > min_density) & (density.max(axis=1) < DENSITY[1])]
    if len(stained) < MIN_STAINED_PIXELS:
        raise StainError(
            f"{len(stained)} stained pixels (OD above {min_density:g}); at least {MIN_STAINED_PIXELS} are needed",
            do="Estimate on a larger part of the slide, or use RUIFROK.",
        )
    plane = np.linalg.eigh(stained.T @ stained)[1][:, [2, 1]]
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    along, across = (stained @ plane).T
    angle = np.arctan2(across, along)
    extremes = np.percentile(angle, [percentile, 100 - percentile])
    vectors = [np.maximum(plane @ (np.cos(a), np.sin(a)), 0.0) for a in extremes]
    # Of the two, haematoxylin absorbs more of the red light.
    vectors.sort(key=lambda v: -v[0] / np.linalg.norm(v))
    found = Stains((*vectors[0],), (*vectors[1],))
    amounts = (stained @ np.linalg.inv(found.matrix()))[:, :2]
    strength = np.percentile(amounts, 99, axis=0)
    if strength.min() <= 0:
        raise StainError("one of the two stains has no density above zero", do="Use RUIFROK.")
    return Stains(found.haematoxylin, found.eosin, strength=(float(strength[0]), float(strength[1])))


def normalise(rgb: NDArray[np.uint8], *, to: Stains, stains: Stains | None = None) -> NDArray[np.uint8]:
    """The picture as if stained like the reference: other vectors, and densities scaled to the reference's strengths.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
    to : `estimate_stains` of a reference picture
    stains : the source's, best from the whole slide; none: from this picture, which may raise

    The residual is dropped, as in Macenko et al. 2009.

    Raises
    ------
    StainError
        The picture's own stains cannot be estimated. A white tile can be normalised with the slide's `stains`.
    """
    own = estimate_stains(rgb) if stains is None else stains
    change = np.linalg.inv(own.matrix())[:, :2] * (np.array(to.strength) / own.strength) @ to.matrix()[:2]
    return _intensity(optical_density(rgb) @ change.astype(np.float32))


def draw_shift(rng: np.random.Generator, sigma: float = 0.1, offset: float = 0.01) -> Shift:
    """A random change of staining, to be drawn once per patient, slide or tile.

    Parameters
    ----------
    rng : generator
    sigma : standard deviation of the log factor of either stain (0.1: mostly ±20 %)
    offset : standard deviation of the OD added to each channel (light and glass; 0.01 moves white by 6 of 255)
    """
    if not (sigma >= 0 and offset >= 0):
        raise InvalidInputError(f"sigma {sigma} and offset {offset} must not be negative")
    factor = np.exp(sigma * rng.standard_normal(2))
    added = offset * rng.standard_normal(3)
    return Shift((float(factor[0]), float(factor[1])), (float(added[0]), float(added[1]), float(added[2])))


def apply_shift(rgb: NDArray[np.uint8], shift: Shift, stains: Stains = RUIFROK) -> NDArray[np.uint8]:
    """The picture with its stains multiplied and its channels' ODs moved; the residual stays as it is."""
    matrix = stains.matrix()
    change = np.linalg.inv(matrix) * (*shift.factor, 1.0) @ matrix
    return _intensity(optical_density(rgb) @ change.astype(np.float32) + np.array(shift.offset, dtype=np.float32))


def stain_augment(
    rgb: NDArray[np.uint8], rng: np.random.Generator, sigma: float = 0.1, *, offset: float = 0.01
) -> NDArray[np.uint8]:
    """`apply_shift` of a fresh `draw_shift`: for training only (after Tellez et al. 2018).

    >>> tile = np.full((2, 2, 3), (180, 120, 170), dtype=np.uint8)
    >>> stain_augment(tile, np.random.default_rng(1), 0.0, offset=0.0)[0, 0].tolist()
    [180, 120, 170]
    """
    return apply_shift(rgb, draw_shift(rng, sigma, offset))


def check_rgb(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """The array itself, if it is a colour picture of bytes."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InvalidInputError(
            f"a picture of shape {rgb.shape} and type {rgb.dtype} was given; uint8 (h, w, 3) is expected",
            why="Optical density is defined from counts of 0 to 255.",
        )
    return rgb


def _intensity(density: Plane) -> NDArray[np.uint8]:
    light = np.exp(density * np.float32(-np.log(10)), dtype=np.float32)
    light *= 255
    return np.clip(np.rint(light, out=light), 0, 255, out=light).astype(np.uint8)
