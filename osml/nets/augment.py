"""Random changes of pictures in training, in batches on the device that holds them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from osml.errors import InvalidInputError

# Optical density in red, green and blue of haematoxylin, eosin and a third stain (Ruifrok and Johnston 2001).
STAINS = ((0.18, 0.20, 0.08), (0.01, 0.13, 0.01), (0.10, 0.21, 0.29))
# ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """What may change, and how far; each picture draws its own values.

    flip : mirror left and right with chance one half. Off where a side has a meaning
    turn : quarter turns and both mirrors, equally likely: for pictures that have no up and no left
    rotate_degrees : up to this angle to either side; the border is filled by reflection
    zoom : smallest side of the random crop, as a share of the picture; 1 = the whole picture
    brightness, contrast, saturation : factors of 1 ± this
    stain : standard deviation of the log factor of haematoxylin and of eosin (0.1: mostly ±20 %); of H&E slides only
    """

    flip: bool = True
    turn: bool = False
    rotate_degrees: float = 15.0
    zoom: float = 0.8
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    stain: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.zoom <= 1:
            raise InvalidInputError(f"zoom must be above 0 and at most 1, got {self.zoom}")
        if not 0 <= self.rotate_degrees <= 180:
            raise InvalidInputError(f"rotate_degrees must be between 0 and 180, got {self.rotate_degrees}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if not self.stain >= 0:
            raise InvalidInputError(f"stain must not be negative, got {self.stain}")


HISTOLOGY = Augmentation(turn=True, brightness=0.1, contrast=0.1, stain=0.1)
RADIOGRAPH = Augmentation(flip=False, rotate_degrees=10.0, zoom=0.85, brightness=0.1, contrast=0.1)


@dataclass(frozen=True)
class Prepare:
    """From stored uint8 pictures to the encoder's size: augmented in training, the whole picture in evaluation.

    size : px that the encoder takes
    augmentation : none: training pictures are as in evaluation
    """

    size: int
    augmentation: Augmentation | None = None

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Float32 pictures (n, 3, size, size) from 0 to 255.

        Parameters
        ----------
        images : uint8 (n, 3, s, s)
        generator : on the pictures' device; None: evaluation
        """
        if generator is None or self.augmentation is None:
            return whole(images, self.size)
        return augment(images, self.size, self.augmentation, generator)


def whole(images: Tensor, size: int) -> Tensor:
    """Whole pictures at `size`, float32 from 0 to 255, anti-aliased."""
    _check(images)
    if images.shape[-1] == size:
        return images.float()
    out = functional.interpolate(
        images.float(), (size, size), mode="bilinear", align_corners=False, antialias=True
    )  # fmt: skip
    return out.clamp_(0, 255)


def augment(images: Tensor, size: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crops, turns and colours of pictures, float32 (n, 3, size, size) from 0 to 255.

    One resampling for crop, rotation and flip together, so that nothing is blurred twice.

    Parameters
    ----------
    images : uint8 (n, 3, s, s), any device
    generator : on that device; the same state gives the same pictures
    """
    _check(images)
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=images.device)

    scale = uniform(how.zoom, 1.0)
    shift_x, shift_y = uniform(-1, 1) * (1 - scale), uniform(-1, 1) * (1 - scale)
    angle = uniform(-1, 1) * math.radians(how.rotate_degrees)
    mirror_x = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if how.flip or how.turn else torch.ones_like(scale)
    mirror_y = torch.ones_like(scale)
    if how.turn:
        mirror_y = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        angle = angle + (uniform(0, 1) < 0.5) * (math.pi / 2)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack(
        [
            torch.stack([cosine * mirror_x, -sine * mirror_y, shift_x], dim=1),
            torch.stack([sine * mirror_x, cosine * mirror_y, shift_y], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, [n, 3, size, size], align_corners=False)
    out = functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )  # fmt: skip
    if how.stain > 0:
        strength = torch.randn(n, 2, generator=generator, device=images.device) * how.stain
        out = _restained(out, strength.exp())
    if how.saturation > 0:
        grey = _luma(out)
        out = grey + (out - grey) * _each(uniform(1 - how.saturation, 1 + how.saturation))
    if how.contrast > 0:
        mean = _luma(out).mean(dim=(2, 3), keepdim=True)
        out = mean + (out - mean) * _each(uniform(1 - how.contrast, 1 + how.contrast))
    if how.brightness > 0:
        out = out * _each(uniform(1 - how.brightness, 1 + how.brightness))
    return out.clamp_(0, 255)


def _restained(images: Tensor, factors: Tensor) -> Tensor:
    """Densities of haematoxylin and eosin times `factors` (n, 2); optical density is -log10(I / 255)."""
    stains = torch.tensor(STAINS, dtype=torch.float64)
    stains = stains / stains.norm(dim=1, keepdim=True)
    diagonal = torch.cat([factors, torch.ones_like(factors[:, :1])], dim=1).double()
    change = stains.inverse().to(images.device) * diagonal[:, None, :] @ stains.to(images.device)
    # A count of 0 is taken as 1, so that densities are finite.
    density = (images.clamp(min=1.0) / 255).log()
    return 255 * torch.einsum("nchw,ncd->ndhw", density, change.float()).exp()


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=images.device).reshape(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _each(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise InvalidInputError(
            f"pictures of shape {tuple(images.shape)} and type {images.dtype}; uint8 (n, 3, s, s) is expected"
        )
