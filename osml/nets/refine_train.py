"""Training of the networks that refine maps.

The bridge as published is trained on states x_t made of the true map, which shine through them: for most m the answer
can be read off x_t. So the network hardly learns to find it in y and O, and in sampling, where x_t holds its own
errors, it trusts and repeats them. Here every crop is answered twice: at the coarse map, where sampling starts, and at
a random m from a state made of that first answer ("recycling", Fu et al. 2023, arXiv:2308.16355). Both answers are held
to the truth.

Everything random comes from (seed, step): crops, turns, stains, shares m, noise. A training that was killed and
continued is therefore the one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from osml.engine.progress import Progress
from osml.errors import ConvergenceError, RunError
from osml.nets.bridge import M_LAST, Schedule, forward
from osml.nets.checkpoint import State, read_state, write_state
from osml.nets.device import one_thread
from osml.nets.refine_crops import Crops
from osml.nets.refine_maps import UNLABELLED, MapSpec, Region
from osml.nets.refine_network import NetworkRefiner, condition, make_network, mixed, prior
from osml.nets.refine_recipe import NetworkKind, RefineRecipe, recipe_facts
from osml.nets.train import Checkpoints
from osml.nets.unet import UNet

_CHECK_EVERY = 50
_START, _BRIDGE = 0, 1  # what a generator is for


def fit_network(
    kind: NetworkKind,
    regions: list[Region],
    spec: MapSpec,
    recipe: RefineRecipe,
    *,
    seed: int,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> NetworkRefiner:
    """Train a refiner for `recipe.steps` steps; see `refine.fit_refiner`."""
    with one_thread():
        training = _Training(kind, spec, recipe, seed, device)
        fingerprint = _fingerprint(kind, regions, spec, recipe, seed) if checkpoints else ""
        if checkpoints is not None and (stored := read_state(checkpoints.folder, fingerprint)) is not None:
            training.restore(stored)
        crops = Crops(regions, recipe, seed, device)
        last_write = time.monotonic()
        while training.steps < recipe.steps:
            training.step(*crops.batch(training.steps))
            finished = training.steps == recipe.steps
            if checkpoints is not None and (finished or time.monotonic() - last_write >= checkpoints.every_s):
                write_state(checkpoints.folder, training.state(), fingerprint)
                last_write = time.monotonic()
            if progress is not None:
                progress.step()
        return NetworkRefiner(kind, spec, recipe, training.averaged(), seed)


class _Training:
    """What changes during training: weights, their average, the optimizer, the count of steps."""

    def __init__(self, kind: NetworkKind, spec: MapSpec, recipe: RefineRecipe, seed: int, device: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_word(seed, 0, _START))
            self.network = make_network(kind, spec, recipe).to(device)
        self.kind, self.recipe, self.seed, self.device = kind, recipe, seed, device
        parameters = list(self.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, fused=True)
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.schedule = Schedule(scale=recipe.scale)
        self.steps = 0

    def step(self, y: Tensor, optical: Tensor, labels: Tensor) -> None:
        """One step of the optimizer and of the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * _rate_factor(self.steps, self.recipe.steps)
        with mixed(self.device):
            answers = self._answers(y, optical, labels)
        loss = torch.stack([self._loss(answer.float(), labels) for answer in answers]).mean()
        if self.steps % _CHECK_EVERY == 0 and not math.isfinite(value := float(loss.detach())):
            raise ConvergenceError(
                f"the loss of the {self.kind} refiner is {value} at step {self.steps}",
                why="Weights that are no longer numbers refine nothing.",
                do="Lower `rate`.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.steps += 1
        # A short memory at first, or the average would hold the initial weights for long.
        decay = min(self.recipe.ema, self.steps / (self.steps + 9.0))
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                self.average[name].lerp_(p, 1.0 - decay)

    def _answers(self, y: Tensor, optical: Tensor, labels: Tensor) -> list[Tensor]:
        """Logits (n, C, h, w) of each pass."""
        seen, start = self.network.look(condition(y, optical)), prior(y)
        if self.kind == "unet":
            return [self.network(seen, start)]
        if self.recipe.published:
            return [self.network(seen, start, *self._states(y, _truth(y, labels)))]
        first = self.network(seen, start, y, torch.full((len(y),), M_LAST, device=y.device))
        own = first.detach().float().softmax(dim=1)
        return [first, self.network(seen, start, *self._states(y, own))]

    def _states(self, y: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and m at random places between maps x0 and y."""
        generator = torch.Generator().manual_seed(_word(self.seed, self.steps, _BRIDGE))
        at = torch.randint(0, self.schedule.times, (len(y),), generator=generator)
        m = torch.from_numpy(self.schedule.m).float()[at].to(y.device)
        noise = torch.randn(y.shape, generator=generator).to(y.device)
        return forward(self.schedule, x0, y, m[:, None, None, None], noise), m

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        transition, cross_entropy = losses(logits, labels)
        if self.kind == "unet":
            return cross_entropy
        return transition + self.recipe.cross_entropy * cross_entropy

    def averaged(self) -> UNet:
        """The network with its averaged weights, on the CPU, in evaluation mode."""
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                p.copy_(self.average[name])
        return self.network.to("cpu").eval()

    def state(self) -> State:
        """All of it, for a checkpoint."""
        tensors = {f"network.{name}": p.detach() for name, p in self.network.named_parameters()}
        tensors |= {f"average.{name}": p for name, p in self.average.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        return State(tensors, {"steps": self.steps})

    def restore(self, state: State) -> None:
        """Continue from a checkpoint."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in state.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        own = dict(self.network.named_parameters())
        if own.keys() != parts["network"].keys():
            raise RunError("the stored training holds other tensors", do="Delete the folder; training starts again.")
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(parts["network"][name])
                self.average[name].copy_(parts["average"][name])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, key = name.partition(".")
            # Laid out as the weights are: the fused optimizer walks through both in the order of memory.
            laid = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
            slots.setdefault(int(index), {})[key] = laid
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.steps = state.facts["steps"]


def losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Transition loss, mean over annotated cells and classes, and cross-entropy, mean over annotated cells.

    With x̂0 = softmax(logits) and ε_θ = x_t - x̂0, the transition loss |m_t (y - x0) + √δ_t ε - ε_θ|² is |x̂0 - x0|²: both
    are proper scores of the same probabilities. A crop without annotated cells gives zeros.
    """
    known = labels != UNLABELLED
    count = known.sum().clamp(min=1)
    log_p = logits.permute(0, 2, 3, 1)[known].log_softmax(dim=1)
    truth = functional.one_hot(labels[known], logits.shape[1]).to(log_p.dtype)
    transition = (log_p.exp() - truth).square().mean(dim=1).sum() / count
    return transition, -(log_p * truth).sum() / count


def _truth(y: Tensor, labels: Tensor) -> Tensor:
    """One-hot labels (n, C, h, w); the coarse map where nobody annotated."""
    known = labels != UNLABELLED
    truth = functional.one_hot(labels.clamp(min=0), y.shape[1]).permute(0, 3, 1, 2).to(y.dtype)
    return torch.where(known[:, None], truth, y)


def _rate_factor(step: int, steps: int) -> float:
    """Rises over the first twentieth, then falls as a cosine to zero."""
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _word(seed: int, step: int, purpose: int) -> int:
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0]) >> 1


def _fingerprint(kind: str, regions: list[Region], spec: MapSpec, recipe: RefineRecipe, seed: int) -> str:
    """Hash of all that decides the result."""
    facts = [kind, asdict(spec), recipe_facts(recipe), seed]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for region in regions:
        digest.update(repr(region.labels.shape).encode())
        for array in (region.coarse, region.image, region.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
