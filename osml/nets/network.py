"""The network: encoders, branches, fusion and head as one module, built from a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from osml.errors import InvalidInputError
from osml.nets.branches import Items, ReduceItems, Standard, make_branch
from osml.nets.fusion import hide_modalities, make_fusion
from osml.nets.heads import make_head
from osml.nets.recipe import NetworkRecipe


class Outputs(NamedTuple):
    """What a forward pass gives.

    outputs : (n, target.outputs) float32: logits of nodes or intervals, or the log hazard ratio
    weights : (n, k) gate weights in the order of `recipe.names`, rows sum to 1; None without a gate
    present : (n, k) bool, which modalities each row had
    """

    outputs: Tensor
    weights: Tensor | None
    present: Tensor


class Network(nn.Module):
    """Encoders, branches, fusion and head.

    Parameters
    ----------
    recipe : NetworkRecipe
    encoders : modality name → module, one for each modality of kind "image": (t, …) to (t, modality.width).
        Their tensors with `requires_grad` are trained, the others stay; a batch-normalisation layer that is not
        trained keeps its statistics, too.

    A row without items of a modality gets the modality's learned token instead. `modality_dropout` trains the tokens
    also where every training row is complete.
    """

    untrained_absence: Tensor

    def __init__(self, recipe: NetworkRecipe, encoders: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        given, wanted = set(encoders or {}), {m.name for m in recipe.modalities if m.kind == "image"}
        if given != wanted:
            raise InvalidInputError(f"encoders for {sorted(given)}; modalities of kind image are {sorted(wanted)}")
        self.recipe = recipe
        # Keys are positions: torch takes no module named `keys`, `type` or `a.b`, and a schema's inputs may be.
        self.encoders = nn.ModuleDict(
            {str(k): encoders[m.name] for k, m in enumerate(recipe.modalities) if m.name in given} if encoders else {}
        )
        self.tuned = tuple(name for name, p in self.encoders.named_parameters() if p.requires_grad)
        self.standards = nn.ModuleList([Standard(m) for m in recipe.modalities])
        self.reducers = nn.ModuleList([ReduceItems(m.reduce, m.width) for m in recipe.modalities])
        branches = [make_branch(m, recipe.fusion, recipe.width, recipe.dropout) for m in recipe.modalities]
        widths = [width for _, width in branches]
        self.branches = nn.ModuleList([branch for branch, _ in branches])
        self.tokens = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in widths])
        self.fusion = make_fusion(recipe.fusion, widths)
        hidden = recipe.fusion == "concat"
        self.head = make_head(self.fusion.width, recipe.target, hidden=hidden, dropout=recipe.head_dropout)
        # True until a training row lacked (or had hidden) the modality: until then its token says nothing.
        self.register_buffer("untrained_absence", torch.ones(len(widths), dtype=torch.bool))

    def forward(self, batch: Mapping[str, Items], n: int) -> Outputs:
        """Outputs for the n rows of a batch; every modality of the recipe must be in it, if with no items."""
        return self.fused([self.encoded(k, batch[m.name]) for k, m in enumerate(self.recipe.modalities)], n)

    def fused(self, items: Sequence[Items], n: int) -> Outputs:
        """Outputs for n rows whose pictures are vectors already: one entry per modality of the recipe, in its order."""
        # All but the encoders is small: half precision would cost digits and save nothing.
        with torch.autocast(items[0].owner.device.type, enabled=False):
            vectors, presence = zip(*(self._vectors(k, part, n) for k, part in enumerate(items)), strict=True)
            present = torch.stack(presence, dim=1)
            shown = present
            if self.training:
                if self.recipe.modality_dropout > 0 and len(vectors) > 1:
                    shown = hide_modalities(present, self.recipe.modality_dropout)
                self.untrained_absence &= shown.all(dim=0)
            filled = [
                torch.where(shown[:, k, None], z, token)
                for k, (z, token) in enumerate(zip(vectors, self.tokens, strict=True))
            ]
            fused, weights = self.fusion(filled)
            return Outputs(self.head(fused), weights, present)

    def encoded(self, k: int, items: Items) -> Items:
        """The items of modality k as vectors (t, width) in float32."""
        if str(k) not in self.encoders:
            return Items(items.values.float(), items.owner)
        if len(items.values) == 0:
            return Items(torch.zeros(0, self.recipe.modalities[k].width, device=items.owner.device), items.owner)
        return Items(self.encoders[str(k)](items.values).float(), items.owner)

    def _vectors(self, k: int, items: Items, n: int) -> tuple[Tensor, Tensor]:
        """(n, width) of modality k, anything where it is absent, and presence (n,)."""
        reduced, here = self.reducers[k](self.standards[k](items.values), items.owner, n)
        branch, token = self.branches[k], self.tokens[k]
        rows = here.nonzero()[:, 0]
        if len(rows) == n:
            return branch(reduced), here
        # Rows without the modality do not pass the branch: they would enter its batch statistics as zeros.
        z = token.new_zeros(n, len(token))
        if len(rows):
            z = z.index_copy(0, rows, branch(reduced[rows]))
        return z, here

    def train(self, mode: bool = True) -> Network:
        """Training or evaluation mode; frozen encoders and untrained normalisation layers stay in evaluation mode."""
        super().train(mode)
        for encoder in self.encoders.values() if mode else ():
            if not any(p.requires_grad for p in encoder.parameters()):
                encoder.eval()
            for module in encoder.modules():
                if isinstance(module, _BatchNorm) and not (module.weight is not None and module.weight.requires_grad):
                    module.eval()
        return self

    def tune_encoders(self, on: bool) -> None:
        """Freeze the encoders, or make the tensors trainable again that were when the network was built."""
        for name, parameter in self.encoders.named_parameters():
            parameter.requires_grad_(on and name in self.tuned)

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors that training changes, in a fixed order: what a checkpoint or a bundle must hold.

        Frozen tensors of encoders are not among them: an encoder is found again by its own name and hash.
        """
        for name, parameter in self.named_parameters():
            encoder, _, inner = name.partition(".")
            if encoder != "encoders" or inner in self.tuned:
                yield name, parameter
        saved = set(self.state_dict(keep_vars=True))
        for name, buffer in self.named_buffers():
            encoder, _, inner = name.partition(".")
            if name in saved and (encoder != "encoders" or f"{inner.rpartition('.')[0]}.weight" in self.tuned):
                yield name, buffer


def build_network(recipe: NetworkRecipe, encoders: Mapping[str, nn.Module] | None = None, *, seed: int) -> Network:
    """A network whose initial weights depend on the recipe and the seed only; torch's global generator is put back.

    >>> from osml.nets.label_tree import flat_tree
    >>> from osml.nets.recipe import ClassTarget, Modality
    >>> recipe = NetworkRecipe((Modality("tile", "embedding", 8),), ClassTarget(flat_tree(["no", "yes"])))
    >>> a, b = build_network(recipe, seed=1), build_network(recipe, seed=1)
    >>> all(bool((x == y).all()) for (_, x), (_, y) in zip(a.trained(), b.trained()))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(recipe, encoders)
