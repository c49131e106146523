"""From one vector per modality to one vector per row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from osml.nets.recipe import Fusion

GATE_HIDDEN = 128


class Concat(nn.Module):
    """The vectors side by side."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = sum(widths)

    def forward(self, vectors: Sequence[Tensor]) -> tuple[Tensor, None]:
        """(n, sum of widths); no weights."""
        return torch.cat(list(vectors), dim=1), None


class Gated(nn.Module):
    """A weighted mean of the vectors, one weight per modality and row: z = Σ α_m z_m, α = softmax(g([z_1; …; z_k])).

    g has one hidden layer of 128 units. An absent modality's vector is its learned token, which the gate weighs like
    any other, so a weight may fall on an absence; presence is exported beside the weights.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = widths[0]
        self.gate = nn.Sequential(nn.Linear(sum(widths), GATE_HIDDEN), nn.ReLU(), nn.Linear(GATE_HIDDEN, len(widths)))

    def forward(self, vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(n, width) and the weights (n, k), rows sum to 1."""
        weights = torch.softmax(self.gate(torch.cat(list(vectors), dim=1)), dim=1)
        return (weights[:, :, None] * torch.stack(list(vectors), dim=1)).sum(dim=1), weights


class Film(nn.Module):
    """The other vectors scale and shift the first: z = z_1 ∘ (1 + γ) + β, (γ, β) from one hidden layer of 128 units.

    γ and β start at 0, so training starts from the first modality alone. Perez et al. 2018 (AAAI, 3942).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = widths[0]
        last = nn.Linear(GATE_HIDDEN, 2 * self.width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.condition = nn.Sequential(nn.Linear(sum(widths[1:]), GATE_HIDDEN), nn.ReLU(), last)

    def forward(self, vectors: Sequence[Tensor]) -> tuple[Tensor, None]:
        """(n, width of the first modality); no weights."""
        scale, shift = self.condition(torch.cat(list(vectors[1:]), dim=1)).chunk(2, dim=1)
        return vectors[0] * (1.0 + scale) + shift, None


def make_fusion(kind: Fusion, widths: Sequence[int]) -> Concat | Gated | Film:
    """The fusion of vectors of these lengths; one vector is passed on as it is."""
    if len(widths) == 1 or kind == "concat":
        return Concat(widths)
    return Gated(widths) if kind == "gated" else Film(widths)


def hide_modalities(present: Tensor, chance: float) -> Tensor:
    """Presence (n, k) with each modality of each row hidden by chance; a row keeps one of those it had.

    Draws from torch's global generator, which training seeds per epoch.
    """
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    # One modality per row, at random among its own, stays where all would be hidden.
    order = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    saved = present & (order == order.amax(dim=1, keepdim=True))
    return torch.where(kept.any(dim=1, keepdim=True), kept, saved)
