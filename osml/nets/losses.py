"""What training minimises: cross-entropy down a tree, Cox's partial likelihood, the likelihood of discrete times.

Everything is in float32 or higher; outputs of a mixed-precision encoder are converted before they come here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from osml.errors import InvalidInputError
from osml.nets.heads import log_conditionals
from osml.nets.label_tree import class_weights, decisions
from osml.nets.recipe import ClassTarget, CoxTarget, Target
from osml.stats.cox_risk_sets import risk_sets
from osml.stats.inputs import survival_outcome
from osml.stats.tree import LabelTree


@dataclass(frozen=True)
class Labels:
    """Node position of each row, int array (n,); an inner node is a partial label."""

    node: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.node)

    def take(self, rows: NDArray[np.intp]) -> Labels:
        """The labels of some rows."""
        return Labels(self.node[rows])


@dataclass(frozen=True)
class FollowUp:
    """Follow-up time above 0 and whether the event happened at it (True) or the row is censored, arrays (n,)."""

    time: NDArray[np.float64]
    event: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: NDArray[np.intp]) -> FollowUp:
        """The follow-up of some rows."""
        return FollowUp(self.time[rows], self.event[rows])


Truth = Labels | FollowUp


def decision_losses(tree: LabelTree, logits: Tensor, node: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean weighted cross-entropy of each decision over the rows whose label passes through it.

    Row i contributes -β log P(child | parent) to every decision on the path of its label, β the weight of the true
    child, and nothing to any other: a label that stops at an inner node leaves the decisions below untouched. The mean
    divides by the number of those rows, not by their weights.

    Parameters
    ----------
    logits : (n, nodes)
    node : (n,), position of each row's label
    weights : (nodes,), from `label_tree.class_weights`

    Returns
    -------
    losses : (decisions,), in the order of `label_tree.decisions`; 0 for a decision that no row passes
    rows : (decisions,), how many rows pass
    """
    path = torch.as_tensor(tree.lineage, dtype=logits.dtype, device=logits.device)[node]
    per_node = -(path * weights * log_conditionals(tree, logits)).sum(dim=0)
    passing = path.sum(dim=0)
    groups = [list(d.members) for d in decisions(tree)]
    rows = torch.stack([passing[members].sum() for members in groups])
    losses = torch.stack([per_node[members].sum() for members in groups])
    return losses / rows.clamp(min=1), rows


class NodeWeights(nn.Module):
    """Learned weights of the decisions: L = Σ_k exp(-λ_k) L̄_k + η Σ_k λ_k, λ_k the log variance of decision k.

    At the optimum exp(-λ_k) = η / L̄_k: each weighted loss becomes η, so η only rescales the whole. A decision that no
    row of the batch passes contributes neither term, so its λ gets no pull. λ starts at 0 (weights 1) and belongs in a
    parameter group of its own, without weight decay and with a larger rate than the network's.

    Source: Kendall, Gal and Cipolla 2018 (CVPR, 7482).
    """

    def __init__(self, n: int, eta: float) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(n))
        self.eta = eta

    def forward(self, losses: Tensor, rows: Tensor) -> Tensor:
        """Total loss from `decision_losses`."""
        terms = torch.exp(-self.log_variance) * losses + self.eta * self.log_variance
        return terms[rows > 0].sum()


def cox_loss(log_hazard: Tensor, time: NDArray[np.float64], event: NDArray[np.bool_]) -> Tensor:
    """Minus the log partial likelihood per event, Efron's ties; the rows given are the whole risk set.

    log_hazard : (n,). Without an event the loss is 0. Computed in float64 on the CPU, where sums over risk sets keep
    their order: the same rows give the same bits on a GPU, too.

    Source: Efron 1977 (JASA 72:557); Katzman et al. 2018 (BMC Med Res Methodol 18:24) for networks.
    """
    if not event.any():
        return log_hazard.sum() * 0.0
    t, died = survival_outcome(time, event, len(log_hazard))
    sets = risk_sets(t, died, np.ones(len(t)), "efron")
    lp = log_hazard.cpu().double()[torch.as_tensor(sets.order)]
    top = lp.detach().max()
    risk = torch.exp(lp - top)
    at_risk = risk.flip(0).cumsum(0).flip(0)[torch.as_tensor(sets.start)]
    deaths = torch.as_tensor(np.flatnonzero(sets.died > 0))
    place = torch.as_tensor(sets.tied_row)[deaths]
    tied = torch.zeros(len(sets.times), dtype=lp.dtype).index_add(0, place, risk[deaths])
    term = torch.as_tensor(sets.term_time)
    denominator = at_risk[term] - torch.as_tensor(sets.term_tied) * tied[term]
    loss = (torch.log(denominator).sum() - (lp[deaths] - top).sum()) / len(deaths)
    return loss.to(log_hazard.device, log_hazard.dtype)


def discrete_time_loss(
    logits: Tensor, time: NDArray[np.float64], event: NDArray[np.bool_], cuts: tuple[float, ...]
) -> Tensor:
    """Mean negative log-likelihood of hazards h_j = sigmoid(logit_j) in the intervals (c_{j-1}, c_j].

    A row survives every interval that it leaves alive; an event ends the interval in which it falls; a censored row
    counts as a survivor of its last interval when it was followed for at least half of it. Times beyond the last cut
    are survivors of all intervals.

    Source: Gensheimer and Narasimhan 2019 (PeerJ 7:e6257).
    """
    survived, died = interval_status(time, event, cuts)
    alive = torch.as_tensor(survived, dtype=logits.dtype, device=logits.device)
    dead = torch.as_tensor(died, dtype=logits.dtype, device=logits.device)
    return -(alive * functional.logsigmoid(-logits) + dead * functional.logsigmoid(logits)).sum() / len(logits)


def interval_status(
    time: NDArray[np.float64], event: NDArray[np.bool_], cuts: tuple[float, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(survived, died), bool arrays (n, intervals); an interval in neither says nothing about the row.

    >>> survived, died = interval_status(np.array([1.5, 1.5, 1.4, 9.0]), np.array([True, False, False, True]), (1, 2))
    >>> survived.astype(int).tolist(), died.astype(int).tolist()
    ([[1, 0], [1, 1], [1, 0], [1, 1]], [[0, 1], [0, 0], [0, 0], [0, 0]])
    """
    high = np.asarray(cuts, dtype=np.float64)
    low = np.concatenate([[0.0], high[:-1]])
    t, e = time[:, None], event[:, None]
    died = e & (t > low) & (t <= high)
    survived = np.where(e, t > high, t >= (low + high) / 2)
    return survived, died


class Objective(nn.Module):
    """The loss of a target, with what it takes from the training rows: class weights, and learned node weights.

    Parameters
    ----------
    target : Target
    truth : Labels or FollowUp of the training rows only
    """

    class_weights: Tensor

    def __init__(self, target: Target, truth: Truth) -> None:
        super().__init__()
        self.target = target
        self.node_weights: NodeWeights | None = None
        if isinstance(target, ClassTarget):
            if not isinstance(truth, Labels):
                raise InvalidInputError("a target of classes needs labels, not follow-up times")
            weights = class_weights(target.tree, truth.node)
            self.register_buffer("class_weights", torch.as_tensor(weights, dtype=torch.float32))
            if target.node_weights == "uncertainty":
                self.node_weights = NodeWeights(len(decisions(target.tree)), target.eta)
        elif not isinstance(truth, FollowUp):
            raise InvalidInputError("a survival target needs follow-up times, not labels")
        elif not truth.event.any():
            raise InvalidInputError(f"no events among the {len(truth)} training rows")

    def forward(self, outputs: Tensor, truth: Truth) -> Tensor:
        """Training loss of outputs (n, target.outputs), one number."""
        return self._loss(outputs, truth, self.node_weights)

    def held_out(self, outputs: Tensor, truth: Truth) -> Tensor:
        """The same loss with every node weight 1, so that it compares between epochs while λ moves."""
        return self._loss(outputs, truth, None)

    def _loss(self, outputs: Tensor, truth: Truth, node_weights: NodeWeights | None) -> Tensor:
        if len(outputs) != len(truth):
            raise InvalidInputError(f"{len(outputs)} outputs for {len(truth)} rows")
        target = self.target
        if isinstance(target, ClassTarget) and isinstance(truth, Labels):
            node = torch.as_tensor(truth.node, device=outputs.device)
            losses, rows = decision_losses(target.tree, outputs.float(), node, self.class_weights)
            return losses.sum() if node_weights is None else node_weights(losses, rows)
        if not isinstance(truth, FollowUp) or isinstance(target, ClassTarget):
            raise InvalidInputError("target and truth are of different kinds")
        if isinstance(target, CoxTarget):
            return cox_loss(outputs[:, 0].float(), truth.time, truth.event)
        return discrete_time_loss(outputs.float(), truth.time, truth.event, target.cuts)
