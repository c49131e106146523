"""Small changes of a lesion and its image that another reader or another scan could have made.

A feature that does not survive them is not worth a coefficient. No outcome is looked at: a draw depends on the seed,
its number and the bytes of this image and mask, never on other patients. After Zwanenburg et al. 2019 (Sci Rep 9:614):
noise, translation, volume adaptation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from osml.imaging.errors import RegionError
from osml.imaging.masks import align, check_finite, choose_label
from osml.imaging.volume import Volume
from osml.radiomics.regions import box_of, surface_distance
from osml.radiomics.settings import Settings

# Two readers of a sarcoma or a lung tumour commonly differ by this share of the volume, and by a voxel in place.
VOLUME_SHARE = 0.15
SHIFT_VOXELS = 1.0
# Voxels around the lesion in which its surface may move, and on which the noise level is measured.
MARGIN = 8
# Median of |x| of a standard normal variable.
_MEDIAN_ABSOLUTE = 0.6744897501960817


def perturbed(
    image: Volume, mask: Volume, settings: Settings | None = None, *, draws: int, seed: int
) -> Iterator[tuple[Volume, Volume]]:
    """`draws` perturbed pairs of image and mask, numbered from 0: see `perturb`."""
    for draw in range(draws):
        yield perturb(image, mask, settings, draw=draw, seed=seed)


def perturb(
    image: Volume, mask: Volume, settings: Settings | None = None, *, draw: int, seed: int
) -> tuple[Volume, Volume]:
    """One perturbed pair.

    Parameters
    ----------
    image, mask : Volumes on one grid
    settings : `label` says which lesion
    draw, seed : the same numbers and bytes give the same pair, whatever else is drawn

    Returns
    -------
    image : with white Gaussian noise added at the level that it already has around the lesion (`noise_level`)
    mask : on the same grid, with its lesion moved by up to one voxel of the finest axis along each axis and its
        volume changed by up to 15 %, both uniformly; other labels are left as they are, and the lesion does not grow
        into them

    Raises
    ------
    ImagingError
        As `extract` does for the unperturbed pair; RegionError where the image's border leaves too little room.

    Notes
    -----
    The signed distance from the lesion is shifted by linear interpolation, and the voxels nearest to the lesion are
    kept up to the drawn volume; equal distances are chosen by the draw.

    Examples
    --------
    >>> image = Volume(np.random.default_rng(1).normal(0, 5, (20, 20, 20)))
    >>> mask = image.like(np.pad(np.ones((8, 8, 8), dtype=np.uint8), 6))
    >>> [int(moved.array.sum()) for _, moved in perturbed(image, mask, draws=4, seed=1)]
    [455, 479, 448, 452]
    """
    settings = settings or Settings()
    check_finite(image)
    mask, _ = align(image, mask)
    lesion = choose_label(mask, settings.label)
    rng = np.random.default_rng(_entropy(image, mask, draw, seed))
    low, high = box_of(lesion.array)
    low, high = np.maximum(low - MARGIN, 0), np.minimum(high + MARGIN, lesion.array.shape)
    cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = lesion.window(low, high)
    size = int(part.array.sum())
    shift = rng.uniform(-SHIFT_VOXELS, SHIFT_VOXELS, part.array.ndim) * min(part.spacing_mm) / part.spacing_mm[::-1]
    wanted = max(1, round(size * (1 + rng.uniform(-VOLUME_SHARE, VOLUME_SHARE))))
    distance = _shifted(surface_distance(part), shift)
    distance[(mask.array[cut] != 0) & ~part.array] = np.inf
    free = int(np.isfinite(distance).sum())
    if free < wanted:
        raise RegionError(f"{mask.name}: the image and other labels leave {free} voxels for a lesion of {wanted}")
    reach = np.partition(distance.ravel(), wanted - 1)[wanted - 1]
    moved = distance < reach
    ties = np.flatnonzero(distance == reach)
    moved.flat[rng.permutation(ties)[: wanted - int(moved.sum())]] = True
    value = mask.array[lesion.array][0]
    labels = np.where(lesion.array, 0, mask.array).astype(mask.array.dtype)
    labels[cut][moved] = value
    noise = rng.standard_normal(image.array.shape) * noise_level(image.window(low, high).array)
    return image.like(image.array + noise), mask.like(labels)


def noise_level(x: NDArray[np.float64]) -> float:
    """Standard deviation of the noise in an image (z, y, x) or (y, x).

    The median absolute second mixed difference within the slices, in which edges along either axis cancel, over that
    of standard normal noise; 0 for a flat image. Donoho and Johnstone 1994; Immerkær 1996.

    >>> round(noise_level(np.random.default_rng(1).normal(50, 3, (64, 64))), 1)
    3.0
    """
    x = np.asarray(x, dtype=np.float64)
    second = x[..., 2:] - 2 * x[..., 1:-1] + x[..., :-2]
    mixed = second[..., 2:, :] - 2 * second[..., 1:-1, :] + second[..., :-2, :]
    # The weights 1 -2 1 twice: their squares add to 36.
    return float(np.median(np.abs(mixed))) / (6 * _MEDIAN_ABSOLUTE) if mixed.size else 0.0


def _entropy(image: Volume, mask: Volume, draw: int, seed: int) -> list[int]:
    digest = hashlib.sha256()
    for volume in (image, mask):
        digest.update(repr((volume.array.shape, volume.spacing_mm)).encode())
        digest.update(np.ascontiguousarray(volume.array, dtype="<f8").data)
    return [seed, draw, int.from_bytes(digest.digest()[:16])]


def _shifted(x: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values moved by a part of a voxel along each axis (linear; the border's value goes on outside)."""
    for axis, by in enumerate(shift):
        at = np.clip(np.arange(x.shape[axis]) - by, 0, x.shape[axis] - 1)
        below = np.minimum(at.astype(int), max(x.shape[axis] - 2, 0))
        weight = np.expand_dims(at - below, tuple(k for k in range(x.ndim) if k != axis))
        above = np.minimum(below + 1, x.shape[axis] - 1)
        x = x.take(below, axis) * (1 - weight) + x.take(above, axis) * weight
    return x
