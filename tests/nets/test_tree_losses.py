"""Heads and losses of classes: the histology paper's equations (3) to (6), partial labels, learned node weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets_data import DEEP, TREE
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError
from osml.evaluation.tree import node_probabilities
from osml.nets.heads import log_probabilities, probabilities
from osml.nets.label_tree import class_weights, decisions, flat_tree
from osml.nets.losses import FollowUp, Labels, NodeWeights, Objective, decision_losses
from osml.nets.recipe import ClassTarget, CoxTarget
from osml.stats.tree import LabelTree

TREES = [TREE, DEEP, flat_tree(["no", "yes"]), flat_tree(["a", "b", "c", "d"])]


@given(tree=st.sampled_from(TREES), seed=st.integers(0, 10_000), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_leaves_sum_to_one_and_inner_nodes_to_their_leaves(tree: LabelTree, seed: int, scale: float) -> None:
    logits = scale * torch.randn(5, len(tree.nodes), generator=torch.Generator().manual_seed(seed))
    leaves = probabilities(ClassTarget(tree), logits).numpy()
    assert_allclose(leaves.sum(axis=1), 1.0, rtol=1e-12)
    nodes = log_probabilities(tree, logits.double()).exp().numpy()
    assert_allclose(nodes, node_probabilities(tree, leaves), rtol=1e-9, atol=1e-300)


def test_equations_three_to_six_on_a_worked_example() -> None:
    # Three rows: non-tumour, non-viable, viable. Coarse probabilities .8 .3 .4 of non-tumour, fine .6 .7 .2 of
    # non-viable; logits are the logarithms of the conditional probabilities.
    a0, b0 = np.array([0.8, 0.3, 0.4]), np.array([0.6, 0.7, 0.2])
    logits = torch.as_tensor(np.log(np.stack([a0, 1 - a0, b0, 1 - b0], axis=1)))
    node = TREE.positions(["non_tumor", "non_viable", "viable"])
    # (3)
    expected = np.stack([a0, (1 - a0) * b0, (1 - a0) * (1 - b0)], axis=1)
    assert_allclose(probabilities(ClassTarget(TREE), logits).numpy(), expected, rtol=1e-12)
    # beta: one non-tumour to two tumours, one each below.
    beta = class_weights(TREE, node)
    assert_allclose(beta, [4 / 3, 2 / 3, 1, 1], rtol=1e-12)
    # (4), (5): means over three rows and over the two tumour rows.
    coarse = -(4 / 3 * np.log(0.8) + 2 / 3 * np.log(0.7) + 2 / 3 * np.log(0.6)) / 3
    fine = -(np.log(0.7) + np.log(0.8)) / 2
    losses, rows = decision_losses(TREE, logits, torch.as_tensor(node), torch.as_tensor(beta))
    assert_allclose(losses.numpy(), [coarse, fine], rtol=1e-12)
    assert rows.tolist() == [3, 2]
    # (6) at lambda = (0.5, -0.25), eta = 0.2.
    weigh = NodeWeights(2, eta=0.2).double()
    with torch.no_grad():
        weigh.log_variance.copy_(torch.tensor([0.5, -0.25]))
    total = np.exp(-0.5) * coarse + np.exp(0.25) * fine + 0.2 * (0.5 - 0.25)
    assert_allclose(float(weigh(losses, rows).detach()), total, rtol=1e-12)


def test_a_flat_tree_is_ordinary_cross_entropy() -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    node = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    losses, _ = decision_losses(flat_tree(["a", "b", "c"]), logits, node, torch.ones(3))
    assert_allclose(float(losses[0]), float(torch.nn.functional.cross_entropy(logits, node)), rtol=1e-12)


@pytest.mark.parametrize("label", ["b", "d", "e", "a"])
def test_a_label_touches_only_the_decisions_on_its_path(label: str) -> None:
    logits = torch.zeros(1, len(DEEP.nodes), requires_grad=True)
    node = torch.as_tensor(DEEP.positions([label]))
    losses, rows = decision_losses(DEEP, logits, node, torch.ones(len(DEEP.nodes)))
    losses.sum().backward()
    path = DEEP.lineage[int(node)]
    for decision, passing in zip(decisions(DEEP), rows.tolist(), strict=True):
        members = list(decision.members)
        touched = bool((logits.grad[0, members] != 0).any())
        assert touched == bool(path[members].any()) == bool(passing)


def test_learned_weights_reach_eta_over_the_loss() -> None:
    losses, eta = torch.tensor([0.2, 1.5, 0.05]), 0.3
    weigh = NodeWeights(3, eta)
    optimizer = torch.optim.AdamW(weigh.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(2000):
        optimizer.zero_grad()
        weigh(losses, torch.ones(3)).backward()
        optimizer.step()
    assert_allclose(torch.exp(-weigh.log_variance).detach().numpy(), eta / losses.numpy(), rtol=1e-3)


def test_a_decision_without_rows_has_no_loss_and_no_pull() -> None:
    weigh = NodeWeights(2, 0.5)
    with torch.no_grad():
        weigh.log_variance.fill_(1.0)
    total = weigh(torch.tensor([0.8, 0.0]), torch.tensor([4.0, 0.0]))
    total.backward()
    assert_allclose(float(total.detach()), np.exp(-1) * 0.8 + 0.5, rtol=1e-6)
    assert weigh.log_variance.grad[1] == 0
    assert weigh.log_variance.grad[0] != 0


def test_held_out_loss_ignores_learned_weights() -> None:
    truth = Labels(TREE.positions(["non_tumor", "viable", "non_viable", "tumor"]))
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    learned = Objective(ClassTarget(TREE, "uncertainty"), truth)
    before = float(learned.held_out(logits, truth))
    with torch.no_grad():
        learned.node_weights.log_variance.fill_(2.0)
    assert float(learned.held_out(logits, truth)) == before
    assert_allclose(before, float(Objective(ClassTarget(TREE), truth)(logits, truth)), rtol=1e-12)


def test_class_weights_come_from_the_training_rows() -> None:
    train = Labels(np.repeat([0, 1], [30, 10]))
    objective = Objective(ClassTarget(flat_tree(["no", "yes"])), train)
    assert_allclose(objective.class_weights.numpy(), [0.5, 1.5], rtol=1e-6)
    logits, rows = torch.tensor([[0.0, 0.0]]), Labels(np.array([1]))
    assert_allclose(float(objective(logits, rows)), 1.5 * np.log(2), rtol=1e-6)


def test_a_target_and_its_truth_must_agree() -> None:
    with pytest.raises(InvalidInputError, match="needs labels"):
        Objective(ClassTarget(TREE), FollowUp(np.ones(2), np.ones(2, dtype=bool)))
    with pytest.raises(InvalidInputError, match="needs follow-up"):
        Objective(CoxTarget(), Labels(np.array([0, 1])))
    with pytest.raises(InvalidInputError, match="no events among the 2"):
        Objective(CoxTarget(), FollowUp(np.ones(2), np.zeros(2, dtype=bool)))
    with pytest.raises(InvalidInputError, match="eta must be above 0"):
        ClassTarget(TREE, "uncertainty", eta=0.0)
