"""Low-rank adaptation: frozen weights W with a trained addition of low rank (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from osml.errors import InvalidInputError

# Layers of attention in timm's transformers, by the last part of their names.
ATTENTION = ("qkv", "q", "k", "v", "kv", "q_proj", "k_proj", "v_proj", "proj")


class LowRank(nn.Module):
    """W + (alpha / rank) · B A, reshaped to W. B starts at zero, so that nothing changes before training."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        bound = 1 / math.sqrt(columns)
        start = torch.rand(rank, columns, generator=generator) * 2 * bound - bound
        self.a = nn.Parameter(start.to(weight.device))
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        return weight + (self.scale * self.b @ self.a).reshape(weight.shape)


def add_lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    generator: torch.Generator,
    layers: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """Freeze a model and give low-rank additions to its Linear and Conv2d layers, in place.

    The addition is computed for the whole weight (not for the activations), so it suits every kernel size and every
    layer that reads its weight itself; the price is one product of B and A per step.

    Parameters
    ----------
    rank : of the additions, limited per layer by its smaller side
    alpha : scale of the additions is alpha / rank; None: alpha = rank
    generator : of the start of A, on the CPU
    layers : names of layers; None: query, key, value and output projections of attention where there are any, else
        every ungrouped convolution but the first. (Depthwise convolutions have few weights per channel, and the first
        layer's edges and colours transfer as they are.)

    Returns
    -------
    tuple of the names of the adapted layers

    Raises
    ------
    InvalidInputError
        A rank below 1, a layer that is absent or of another kind, a model already adapted, or none that suits.
    """
    if rank < 1:
        raise InvalidInputError(f"LoRA of rank {rank}; 1 or more is expected")
    if adapted_layers(model):
        raise InvalidInputError("the model already has LoRA additions")
    modules = dict(model.named_modules())
    chosen = suitable_layers(model) if layers is None else layers
    unfit = [name for name in chosen if not isinstance(modules.get(name), (nn.Linear, nn.Conv2d))]
    if unfit:
        raise InvalidInputError(f"LoRA needs Linear or Conv2d layers; {unfit[0]!r} is none")
    if not chosen:
        raise InvalidInputError("the model has no layer that suits LoRA", do="Use `tune: frozen` or `tune: full`.")
    model.requires_grad_(False)
    for name in chosen:
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        here = min(rank, weight.shape[0], weight[0].numel())
        ratio = 1.0 if alpha is None else alpha / rank
        # `unsafe` spares a trial run; shape and type are kept by construction.
        parametrize.register_parametrization(
            modules[name], "weight", LowRank(weight, here, ratio * here, generator), unsafe=True
        )
    return tuple(chosen)


def suitable_layers(model: nn.Module) -> tuple[str, ...]:
    """Which layers `add_lora` adapts by itself."""
    attention = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ATTENTION
    ]
    if attention:
        return tuple(attention)
    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return tuple(name for name, module in convolutions[1:] if module.groups == 1)


def adapted_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of layers with an addition."""
    return tuple(name for name, module in model.named_modules() if _addition(module) is not None)


def lora_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The additions alone, `layer.a` (rank, columns) and `layer.b` (rows, rank): all that needs saving."""
    out: dict[str, Tensor] = {}
    for name in adapted_layers(model):
        addition = _addition(model.get_submodule(name))
        assert addition is not None
        out |= {f"{name}.a": addition.a.detach(), f"{name}.b": addition.b.detach()}
    return out


def load_lora(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put saved additions into a model that has some of the same shapes.

    Raises
    ------
    InvalidInputError
        Names or shapes differ; nothing was changed.
    """
    own = lora_tensors(model)
    if own.keys() != tensors.keys():
        raise InvalidInputError(f"LoRA tensors differ: {sorted(own.keys() ^ tensors.keys())[0]!r} is on one side only")
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise InvalidInputError(
                f"LoRA tensor {name!r}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} here"
            )
    for name, value in own.items():
        value.copy_(tensors[name])


def merge_lora(model: nn.Module) -> dict[str, Tensor]:
    """Write the adapted weights into the layers and remove the additions; returns the weights as they were before.

    `unmerge_lora` with what is returned puts back the very same numbers, which subtracting would not.
    """
    before = {}
    for name in adapted_layers(model):
        module = model.get_submodule(name)
        before[name] = module.parametrizations.weight.original.detach().clone()  # type: ignore[union-attr, operator]
        with torch.no_grad():
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return before


def unmerge_lora(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Put back the weights that `merge_lora` returned: the model without additions."""
    for name, weight in before.items():
        module = model.get_submodule(name)
        assert isinstance(module.weight, nn.Parameter)
        with torch.no_grad():
            module.weight.copy_(weight)


def _addition(module: nn.Module) -> LowRank | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    found = [p for p in module.parametrizations.weight if isinstance(p, LowRank)]  # type: ignore[union-attr]
    return found[0] if found else None
