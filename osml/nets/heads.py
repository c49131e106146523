"""The last layer and what its outputs mean: probabilities down a tree of classes, log hazard ratios, hazards.

Tree: softmax among siblings, P(node) = product of the conditional probabilities along its path, as sums of logarithms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from osml.nets.label_tree import decisions, leaf_positions
from osml.nets.recipe import HEAD_HIDDEN, ClassTarget, CoxTarget, DiscreteTimeTarget, Target
from osml.stats.tree import LabelTree


def make_head(width: int, target: Target, *, hidden: bool, dropout: float) -> nn.Module:
    """Linear layer, or two layers with 512 hidden units, from a fused vector to the target's outputs.

    A Cox head has no constant: the partial likelihood does not know it.
    """
    bias = not isinstance(target, CoxTarget)
    if not hidden:
        return nn.Linear(width, target.outputs, bias=bias)
    return nn.Sequential(
        nn.Linear(width, HEAD_HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HEAD_HIDDEN, target.outputs, bias=bias)
    )


def log_conditionals(tree: LabelTree, logits: Tensor) -> Tensor:
    """log P(node | its parent), (n, nodes), from one logit per node (n, nodes): a log-softmax over siblings."""
    out = torch.empty_like(logits)
    for decision in decisions(tree):
        members = list(decision.members)
        out[:, members] = torch.log_softmax(logits[:, members], dim=1)
    return out


def log_probabilities(tree: LabelTree, logits: Tensor) -> Tensor:
    """log P(node), (n, nodes): the sum of `log_conditionals` along the path from the root."""
    lineage = torch.as_tensor(tree.lineage, dtype=logits.dtype, device=logits.device)
    return log_conditionals(tree, logits) @ lineage.T


def probabilities(target: Target, outputs: Tensor) -> Tensor:
    """What the outputs (n, target.outputs) say, in float64.

    Classes: P(leaf), (n, leaves) in the order of `tree.leaves`, rows sum to 1. Discrete time: survival at each cut,
    (n, cuts). A Cox output is a log hazard ratio; survival needs a baseline.
    """
    logits = outputs.double()
    if isinstance(target, ClassTarget):
        return log_probabilities(target.tree, logits)[:, list(leaf_positions(target.tree))].exp()
    if isinstance(target, DiscreteTimeTarget):
        return torch.cumsum(nn.functional.logsigmoid(-logits), dim=1).exp()
    raise TypeError("a Cox output has no probability without a baseline hazard")
