"""Grad-CAM: which parts of a picture raise a score (Selvaraju et al. 2017, arXiv:1610.02391)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from osml.errors import InvalidInputError, NotEstimableError
from osml.nets.encoders import Encoder, as_maps, pooled


@dataclass(frozen=True)
class GradCam:
    """Heat maps over pictures.

    maps : float32 (n, size, size) from 0 to 1, each divided by its own largest value; 0 everywhere where no part raises
        the score. Maps of different pictures do not compare
    peak : float32 (n,), the largest value before division
    grid : cells (rows, columns) of the layer: finer detail in a map is interpolation
    scores : float32 (n,)
    """

    maps: NDArray[np.float32]
    peak: NDArray[np.float32]
    grid: tuple[int, int]
    scores: NDArray[np.float32]


def grad_cam(encoder: Encoder, images: Tensor, score: Callable[[Tensor], Tensor]) -> GradCam:
    """Grad-CAM at the encoder's last stage, or at the layers whose maps are pooled.

    Channels are weighted by the mean gradient of the score over the map, summed, and cut at zero. Convolutional
    networks: the last feature map. Transformers: the patch tokens as they enter the last block, behind its first norm
    (behind the last block a class token has already gathered what it needs, and patches carry no gradient). Pooled
    layers: gradient times value, cell by cell (Draelos and Carin 2020, arXiv:2011.08891), summed over layers.

    Parameters
    ----------
    encoder : left as it was, with its parameters' gradients
    images : (n, 3, size, size), uint8 or float from 0 to 255, on the encoder's device
    score : vectors (n, width) to scores (n,); each from its own row only. Other inputs are constants in it, held fixed

    Raises
    ------
    InvalidInputError
        The score has another shape or does not depend on the vectors.
    NotEstimableError
        The gradient is not finite.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.enable_grad():
            layers, vectors = _with_layers(encoder, encoder.normalised(images))
            scores = score(vectors)
            if scores.shape != (len(images),):
                raise InvalidInputError(
                    f"score gave shape {tuple(scores.shape)}; one score per picture, ({len(images)},), is expected"
                )
            if not scores.requires_grad:
                raise InvalidInputError(
                    "the score does not depend on the picture's vectors: Grad-CAM has nothing to show"
                )
            slopes = torch.autograd.grad(scores.sum(), layers)
    finally:
        encoder.train(was_training)
    if not all(bool(slope.isfinite().all()) for slope in slopes):
        raise NotEstimableError("the gradient of the score is not finite; no heat map exists")
    parts = [
        _cam(as_maps(encoder.backbone, slope), as_maps(encoder.backbone, layer.detach()), whole=not encoder.layers)
        for slope, layer in zip(slopes, layers, strict=True)
    ]
    finest = max((part.shape[1:] for part in parts), key=lambda shape: shape[0] * shape[1])
    cam = sum(_resized(part, finest) for part in parts).clamp(min=0).float()  # type: ignore[union-attr]
    peak = cam.amax(dim=(1, 2))
    cam = cam / torch.where(peak > 0, peak, 1.0)[:, None, None]
    grid = (int(cam.shape[1]), int(cam.shape[2]))
    large = functional.interpolate(cam[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return GradCam(large.cpu().numpy(), peak.cpu().numpy(), grid, scores.detach().float().cpu().numpy())


def fit_maps(maps: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (n, size, size) stretched over pictures of another shape (height, width), bilinear."""
    large = functional.interpolate(torch.from_numpy(maps)[:, None], shape, mode="bilinear", align_corners=False)
    return large[:, 0].numpy()


def _cam(slope: Tensor, maps: Tensor, *, whole: bool) -> Tensor:
    """(n, rows, columns): channels weighted by their mean gradient, or each cell by its own.

    A vector that holds standard deviations gives cells gradients whose mean is zero: only cell by cell do they count.
    """
    return ((slope.mean(dim=(2, 3), keepdim=True) if whole else slope) * maps).sum(dim=1)


def _resized(cam: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(cam.shape[1:]) == tuple(shape):
        return cam
    return functional.interpolate(cam[:, None], shape, mode="bilinear", align_corners=False)[:, 0]


def _with_layers(encoder: Encoder, normalised: Tensor) -> tuple[list[Tensor], Tensor]:
    """The layers' values as tensors with gradient, and the vectors computed from them."""
    if encoder.layers:
        maps = [part.detach().requires_grad_() for part in encoder.maps(normalised)]
        return maps, pooled(maps)
    layer, vectors = _with_layer(encoder, normalised)
    return [layer], vectors


def _with_layer(encoder: Encoder, normalised: Tensor) -> tuple[Tensor, Tensor]:
    """The last stage's values as a tensor with gradient, and the vectors computed from them."""
    backbone = encoder.backbone
    if hasattr(backbone, "num_prefix_tokens"):
        norm = getattr(getattr(backbone, "blocks", [None])[-1], "norm1", None)
        if not isinstance(norm, nn.Module):
            raise InvalidInputError(
                f"{encoder.record.model}: a transformer without blocks[-1].norm1 has no Grad-CAM here"
            )
        with _kept(norm) as kept:
            vectors = backbone(normalised.requires_grad_())
        return kept[0], vectors
    layer = backbone.forward_features(normalised).detach().requires_grad_()  # type: ignore[operator]
    return layer, backbone.forward_head(layer)  # type: ignore[operator]


@contextmanager
def _kept(module: nn.Module) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()
