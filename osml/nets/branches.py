"""From the items of one modality to one vector per row: missing columns, small networks, several images of a row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from osml.nets.recipe import Fusion, Modality, Reduce

BRANCH_HIDDEN = 256
ATTENTION_HIDDEN = 128
STANDARD_LIMIT = 6.0


class Items(NamedTuple):
    """The items of one modality in a batch: images, embeddings or encoded tables.

    values : (t, …), one entry per item
    owner : (t,) int64, the row of the batch that each item belongs to, not decreasing; a row without items lacks the
        modality
    """

    values: Tensor
    owner: Tensor


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes any batch: fewer than two rows have no variance and use the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised (n, width)."""
        if self.training and len(x) < 2:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


class Standard(nn.Module):
    """Vectors as z-scores of the training pictures, drawn in to ±6; without means and SDs as they are."""

    centre: Tensor
    spread: Tensor

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(modality.centre), persistent=False)
        self.register_buffer("spread", torch.tensor(modality.spread), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(t, width)."""
        if not len(self.centre):
            return values
        return ((values - self.centre) / self.spread).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)


class Columns(nn.Module):
    """Encoded columns with missing values: a learned value in place of each, and an indicator per input.

    The learned value starts at the training mean of the column. Only inputs that were missing in training have an
    indicator: the weight of any other would never be trained.
    """

    start: Tensor
    groups: Tensor

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.tensor(modality.start))
        groups = torch.zeros(len(modality.indicators), modality.width)
        for k, columns in enumerate(modality.indicators):
            groups[k, list(columns)] = 1.0
        self.register_buffer("groups", groups, persistent=False)
        self.width = modality.width + len(modality.indicators)

    def forward(self, values: Tensor) -> Tensor:
        """(t, width + indicators), no NaN, from (t, width) with NaN."""
        missing = values.isnan()
        filled = torch.where(missing, self.token, torch.nan_to_num(values))
        return torch.cat([filled, ((missing.float() @ self.groups.T) > 0).float()], dim=1)


def two_layers(width: int, out: int, dropout: float) -> nn.Sequential:
    """Linear, ReLU, dropout, linear, with 256 hidden units."""
    return nn.Sequential(nn.Linear(width, BRANCH_HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(BRANCH_HIDDEN, out))


def make_branch(modality: Modality, fusion: Fusion, width: int, dropout: float) -> tuple[nn.Module, int]:
    """Module from the modality's vectors to what is fused, and the length of that.

    Radiomics: batch normalisation, then two layers, for every fusion. With "concat" images and tables stay as they are
    (late fusion in feature space); otherwise a linear map for images and two layers for tables lead to `width`.
    """
    if modality.kind == "radiomics":
        columns = Columns(modality)
        return nn.Sequential(columns, BatchNorm(columns.width), two_layers(columns.width, width, dropout)), width
    if modality.kind == "tabular":
        columns = Columns(modality)
        if fusion == "concat":
            return columns, columns.width
        return nn.Sequential(columns, two_layers(columns.width, width, dropout)), width
    if fusion == "concat":
        return nn.Identity(), modality.width
    return nn.Linear(modality.width, width), width


class ReduceItems(nn.Module):
    """The items of a row as one vector: their mean, their largest value per column, or a learned weighted mean.

    Attention: w = softmax(v' tanh(V h)) over the items of a row, 128 hidden units; Ilse et al. 2018, equation (8).
    """

    def __init__(self, kind: Reduce, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.score: nn.Sequential | None = None
        if kind == "attention":
            self.score = nn.Sequential(
                nn.Linear(width, ATTENTION_HIDDEN), nn.Tanh(), nn.Linear(ATTENTION_HIDDEN, 1, bias=False)
            )

    def forward(self, values: Tensor, owner: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(n, width), zeros for rows without items, and whether each row has any, bool (n,)."""
        counts = torch.bincount(owner, minlength=n)
        present = counts > 0
        # Rows beside slots instead of sums by owner: those would be added in an order that changes between GPU runs.
        slot = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
        slots = int(counts.max()) if n else 0
        padded = values.new_zeros(n, slots, values.shape[1])
        padded[owner, slot] = values
        if slots <= 1:
            return padded.sum(dim=1), present
        used = torch.arange(slots, device=owner.device) < counts[:, None]
        if self.kind == "max":
            top = padded.masked_fill(~used[:, :, None], float("-inf")).amax(dim=1)
            return torch.where(present[:, None], top, torch.zeros_like(top)), present
        if self.score is None:
            return padded.sum(dim=1) / counts.clamp(min=1)[:, None], present
        scores = self.score(padded)[:, :, 0].masked_fill(~used, float("-inf"))
        # A row without items would be 0/0: its scores are all equal instead, and it sums zeros.
        weights = torch.softmax(scores.masked_fill(~present[:, None], 0.0), dim=1)
        return (weights[:, :, None] * padded).sum(dim=1), present
