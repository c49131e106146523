"""What changes while a network is trained: its weights, their average, the optimizer, the best epoch so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from osml.nets.checkpoint import State, put_tensors
from osml.nets.losses import Objective
from osml.nets.network import Network
from osml.nets.recipe import TrainRecipe

if TYPE_CHECKING:
    from osml.nets.spread import Spread


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows.

    train_loss : mean over its steps
    held_out_loss : of the weights in use (the average where there is one) on the inner rows; None without them
    node_weights : exp(-λ) of each decision; empty where they are fixed
    """

    number: int
    train_loss: float
    held_out_loss: float | None
    node_weights: tuple[float, ...]


class TrainingState:
    """Everything that changes while a network is trained."""

    def __init__(self, network: Network, objective: Objective, recipe: TrainRecipe) -> None:
        self.network, self.objective, self.recipe = network, objective, recipe
        self.optimizer = _optimizer(network, objective, recipe)
        self.steps = 0
        self.epochs: list[Epoch] = []
        self.best_epoch = -1
        self.best: dict[str, Tensor] = {}
        self.average = _copy(network) if recipe.ema is not None else {}

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        patience = self.recipe.patience
        return patience is not None and self.best_epoch >= 0 and len(self.epochs) - 1 - self.best_epoch >= patience

    def step(self, loss: Tensor, factor: float, spread: Spread | None = None) -> None:
        """One step of the optimizer and of the average; over several devices with the gradient of all."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if spread is not None:
            spread.reduce(self.network, self.objective)
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self.optimizer.step()
        self.steps += 1
        if self.recipe.ema is None:
            return
        # A short memory at first, or the average would hold the initial weights for long.
        decay = min(self.recipe.ema, self.steps / (self.steps + 9.0))
        with torch.no_grad():
            for name, tensor in self.network.trained():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor.detach(), 1.0 - decay)
                else:
                    self.average[name].copy_(tensor)

    @contextmanager
    def weights_in_use(self) -> Iterator[None]:
        """The network with its averaged weights for a while, where an average is kept."""
        if not self.average:
            yield
            return
        moving = _copy(self.network)
        put_tensors(self.network, self.average)
        try:
            yield
        finally:
            put_tensors(self.network, moving)

    def close_epoch(self, epoch: Epoch) -> Epoch:
        """Note an epoch, and keep its weights when they are the best on the inner rows so far."""
        self.epochs.append(epoch)
        if epoch.held_out_loss is not None:
            best = self.epochs[self.best_epoch].held_out_loss if self.best_epoch >= 0 else None
            if best is None or epoch.held_out_loss < best:
                self.best_epoch = epoch.number
                current = self.average or dict(self.network.trained())
                self.best = {name: tensor.detach().clone() for name, tensor in current.items()}
        return epoch

    def final(self) -> dict[str, Tensor]:
        """The weights to use: the best on the inner rows, else the average, else the last."""
        return self.best or self.average or _copy(self.network)

    def state(self) -> State:
        """All of it, for a checkpoint."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.trained()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"objective.{name}": tensor for name, tensor in self.objective.named_parameters()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items() if value is not None}
        facts = {"steps": self.steps, "best_epoch": self.best_epoch, "epochs": [asdict(e) for e in self.epochs]}
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Continue from a checkpoint."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        device = next(self.network.parameters()).device
        put_tensors(self.network, parts["network"])
        self.average = {name: tensor.to(device) for name, tensor in parts.get("average", {}).items()}
        self.best = {name: tensor.to(device) for name, tensor in parts.get("best", {}).items()}
        with torch.no_grad():
            for name, parameter in self.objective.named_parameters():
                parameter.copy_(parts["objective"][name])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts.get("optimizer", {}).items():
            index, _, key = name.partition(".")
            slots.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.steps, self.best_epoch = state.facts["steps"], state.facts["best_epoch"]
        self.epochs = list(epochs_of(state.facts))


def epochs_of(facts: Mapping[str, Any]) -> tuple[Epoch, ...]:
    """The epochs that a state's facts hold."""
    return tuple(Epoch(**{**epoch, "node_weights": tuple(epoch["node_weights"])}) for epoch in facts["epochs"])


def rate_factor(recipe: TrainRecipe, epoch: int, done: float) -> float:
    """What multiplies every learning rate after the share `done` of an epoch.

    >>> paper = TrainRecipe(epochs=50, schedule="step", drops=(20, 35, 45), warmup=0)
    >>> [round(rate_factor(paper, e, 0.5), 6) for e in (0, 19, 20, 35, 49)]
    [1.0, 1.0, 0.1, 0.01, 0.001]
    """
    at = epoch + done
    factor = min(1.0, at / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "step":
        return factor * 0.1 ** sum(epoch >= drop for drop in recipe.drops)
    past = max(0.0, at - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return factor * 0.5 * (1.0 + math.cos(math.pi * min(1.0, past)))


def _optimizer(network: Network, objective: Objective, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Groups: weights with decay and the rest without, of the encoders and of all else; node weights by themselves."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        encoder, _, inner = name.partition(".")
        if encoder != "encoders" or inner in network.tuned:
            groups.setdefault((encoder == "encoders", parameter.ndim > 1), []).append(parameter)
    encoder_rate = recipe.rate if recipe.encoder_rate is None else recipe.encoder_rate
    settings = [
        {
            "params": parameters,
            "base": encoder_rate if of_encoder else recipe.rate,
            "weight_decay": recipe.weight_decay if decayed else 0.0,
        }
        for (of_encoder, decayed), parameters in groups.items()
    ]
    learned = list(objective.parameters())
    if learned:
        settings.append({"params": learned, "base": recipe.node_rate, "weight_decay": 0.0})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=recipe.rate, momentum=recipe.momentum)
    return torch.optim.AdamW(settings, lr=recipe.rate, fused=True)


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.trained()}
