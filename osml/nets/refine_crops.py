"""Random crops of regions for training: flips, quarter turns, and the strength of stains."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osml.nets.refine_maps import UNLABELLED, Region
from osml.nets.refine_network import density
from osml.nets.refine_recipe import RefineRecipe

_TRIES = 8


class Crops:
    """Batches of crops, each drawn from (seed, step) alone.

    Regions are drawn by their annotated area, crops anywhere inside them.
    """

    def __init__(self, regions: list[Region], recipe: RefineRecipe, seed: int, device: str) -> None:
        self.regions, self.recipe, self.seed, self.device = regions, recipe, seed, device
        known = np.array([(region.labels != UNLABELLED).sum() for region in regions], dtype=np.float64)
        self.chance = known / known.sum()

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Coarse maps (n, C, s, s), optical densities (n, 3, s, s) and labels (n, s, s) on the device."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._crop(rng) for _ in range(self.recipe.batch)]
        y, o, labels = (torch.from_numpy(np.stack(part)).to(self.device) for part in zip(*drawn, strict=True))
        optical = density(o)
        strength, offset = (
            torch.from_numpy(rng.normal(0.0, self.recipe.stain, (len(o), 3, 1, 1)).astype(np.float32)).to(self.device)
            for _ in range(2)
        )
        return y, optical * strength.exp() + offset / 4, labels

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
        region = self.regions[rng.choice(len(self.regions), p=self.chance)]
        side = self.recipe.crop
        for _ in range(_TRIES):  # sparse annotations: look again rather than train on an empty crop
            row, column = (int(rng.integers(0, max(1, size - side + 1))) for size in region.labels.shape)
            labels = np.asarray(region.labels[row : row + side, column : column + side], dtype=np.int64)
            if (labels != UNLABELLED).any():
                break
        y = np.asarray(region.coarse[:, row : row + side, column : column + side], dtype=np.float32)
        o = np.asarray(region.image[row : row + side, column : column + side])
        below, beside = side - labels.shape[0], side - labels.shape[1]
        if below or beside:
            y = np.pad(y, ((0, 0), (0, below), (0, beside)), mode="edge")
            o = np.pad(o, ((0, below), (0, beside), (0, 0)), mode="edge")
            labels = np.pad(labels, ((0, below), (0, beside)), constant_values=UNLABELLED)
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        y, o, labels = (_turn(a, turns, mirror, axes) for a, axes in ((y, (1, 2)), (o, (0, 1)), (labels, (0, 1))))
        return y, o, labels


def _turn(array: NDArray, turns: int, mirror: bool, axes: tuple[int, int]) -> NDArray:
    turned = np.rot90(array, turns, axes)
    return np.ascontiguousarray(np.flip(turned, axes[1]) if mirror else turned)
