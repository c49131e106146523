"""Refiners with a network: a U-Net that answers in one step, and one that walks along a Brownian bridge.

Both see the coarse map y and the optical density of the picture O. Their logits are those of the coarse map and what
the network adds: training starts from the map, not from nothing. The bridge's x̂0 is the softmax of its logits and ε_θ
is x_t - x̂0, so every estimate of the true map consists of probabilities. (Cross-entropy of an x̂0 without bounds, as
published, pulls it beyond the one-hot maps that the transition loss asks for.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osml.nets.bridge import Schedule, eta_step
from osml.nets.refine_maps import MapSpec, check_map
from osml.nets.refine_recipe import NetworkKind, RefineRecipe
from osml.nets.refine_windows import Windows, blend
from osml.nets.unet import UNet

SIDE, OVERLAP = 128, 32
# Windows at a time: a processor's caches hold few, a card wants many.
BATCH = {"cpu": 2, "cuda": 32}
# An order of the eight views in which flips and turns alternate.
_VIEWS = (0, 5, 2, 7, 4, 1, 6, 3)


@dataclass(frozen=True, eq=False)
class NetworkRefiner:
    """A trained network, in evaluation mode, holding the averaged weights.

    kind : "unet" or "brownian_bridge"
    seed : of the noise of sampling, which also depends on a window's place and on nothing else
    """

    kind: NetworkKind
    spec: MapSpec
    recipe: RefineRecipe
    network: UNet
    seed: int

    def refine(
        self, coarse: NDArray[Any], image: NDArray[Any], *, out: NDArray[Any] | None = None, device: str = "cpu"
    ) -> NDArray[Any]:
        """The contract of `Refiner.refine`.

        Runs on as many threads as torch is set to; on a CPU more threads change the last digits at most. On a GPU
        in bfloat16.
        """
        check_map(coarse, image, self.spec)
        network = self.network.to(device)
        windows = Windows(SIDE, OVERLAP, self.recipe.factor)

        def apply(
            maps: NDArray[np.float32], pictures: NDArray[np.uint8], places: list[tuple[int, int]]
        ) -> NDArray[np.float32]:
            y, o = torch.from_numpy(maps).to(device), torch.from_numpy(pictures).to(device)
            with torch.inference_mode(), mixed(device):
                seen = condition(y, density(o))
                if self.kind == "unet":
                    p = network(network.look(seen), prior(y)).float().softmax(dim=1)
                else:
                    draws = [_noise(self.seed, place) for place in places] if self.recipe.eta > 0 else []
                    p = walk(network, seen, y, self.recipe, draws)
            return p.cpu().numpy()

        kind = torch.device(device).type
        return blend(apply, coarse, image, windows, batch=BATCH.get(kind, 1), out=out)


def walk(network: UNet, seen: Tensor, y: Tensor, recipe: RefineRecipe, draws: list[torch.Generator]) -> Tensor:
    """From the coarse map along the bridge, `recipe.path` steps; probabilities (n, C, h, w).

    Every step sees the maps under another flip or quarter turn, which training drew from equally, and the result is the
    mean of the x̂0 of all steps: each is an estimate of the same map, and their errors differ. As published, nothing is
    turned and the last x̂0 is the result.

    Parameters
    ----------
    seen : condition of the maps, (n, C + 3, h, w)
    draws : a generator per map, on the CPU so that every device takes the same path; empty with eta 0
    """
    schedule = Schedule(scale=recipe.scale)
    path = [float(m) for m in schedule.path(recipe.path)]
    x, start, total = y, prior(y), torch.zeros_like(y)
    for at, m_t in enumerate(path):
        m = torch.full((len(y),), m_t, device=y.device)
        view = 0 if recipe.published else _VIEWS[at % len(_VIEWS)]
        logits = network(network.look(turn(seen, view)), turn(start, view), turn(x, view), m)
        x0 = turn_back(logits.float().softmax(dim=1), view)
        total += x0
        if at + 1 < len(path):
            noise: Tensor | float = 0.0
            if draws:
                noise = torch.stack([torch.randn(y.shape[1:], generator=g) for g in draws]).to(y.device)
            x = eta_step(schedule, x, y, x0, m_t, path[at + 1], eta=recipe.eta, noise=noise)
    return x0 if recipe.published else total / len(path)


def turn(maps: Tensor, view: int) -> Tensor:
    """One of the eight flips and quarter turns of maps (n, channels, h, w), channels last in memory; 0: as they are."""
    if view == 0:
        return maps
    turned = torch.rot90(maps, view % 4, (2, 3))
    return (turned.flip(3) if view >= 4 else turned).contiguous(memory_format=torch.channels_last)


def turn_back(maps: Tensor, view: int) -> Tensor:
    """What undoes `turn`."""
    return torch.rot90(maps.flip(3) if view >= 4 else maps, -(view % 4), (2, 3))


def density(image: Tensor) -> Tensor:
    """Optical density of uint8 pictures (n, h, w, 3), as (n, 3, h, w): stains add up in it."""
    return -torch.log10((image.permute(0, 3, 1, 2).float() + 1.0) / 256.0)


def condition(y: Tensor, optical: Tensor) -> Tensor:
    """y ⊕ O, (n, C + 3, h, w), channels last in memory, which convolutions on processors and cards like best."""
    return torch.cat([y, optical], dim=1).contiguous(memory_format=torch.channels_last)


def prior(y: Tensor) -> Tensor:
    """Logits of a coarse map; a class that it rules out can still be won."""
    return (y + 0.01).log()


def make_network(kind: NetworkKind, spec: MapSpec, recipe: RefineRecipe) -> UNet:
    """An untrained network for a refiner; its weights are drawn from torch's global generator."""
    classes = len(spec.classes)
    network = UNet(classes, classes + 3, width=recipe.width, levels=recipe.levels, timed=kind != "unet")
    for p in network.parameters():
        if p.ndim == 4:  # as the maps, or every convolution would first copy its weights
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    return network


def mixed(device: str) -> torch.autocast:
    """bfloat16 on a card, float32 elsewhere."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def _noise(seed: int, place: tuple[int, int]) -> torch.Generator:
    word = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word) >> 1)
