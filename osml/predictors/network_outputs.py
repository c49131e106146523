"""From outputs of a network to probabilities: prior shares, calibration, nodes of the tree, survival."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osml.evaluation.tree import node_probabilities
from osml.nets.calibrate import Temperature
from osml.nets.label_tree import class_weights, decisions
from osml.nets.recipe import ClassTarget, DiscreteTimeTarget
from osml.nets.survival import discrete_survival
from osml.stats.tree import LabelTree

if TYPE_CHECKING:
    from osml.predictors.network import FittedNetwork

Float = NDArray[np.float64]
SMALLEST = 1e-12


def risks(fitted: FittedNetwork, outputs: Float) -> tuple[Float, Float]:
    """Probabilities (n, columns) and linear predictors of mean outputs (n, recipe.target.outputs).

    The linear predictor is (n,): log odds or log hazard; of classes (n, columns): log P(node).
    """
    calibration, target = fitted.calibration, fitted.recipe.target
    if fitted.target == "binary":
        lp = log_odds(outputs)
        if calibration.kind == "platt":
            lp = calibration.values[0] + calibration.values[1] * lp
        lp = lp + sum(calibration.offset) + calibration.prevalence
        return 1 / (1 + np.exp(-np.clip(lp, -700, 700)))[:, None], lp
    if isinstance(target, ClassTarget):
        assert fitted.tree is not None
        leaves = calibrated_leaves(target.tree, outputs, calibration.values, calibration.offset, calibration.restated)
        p = node_probabilities(fitted.tree, leaves)
        return p, np.log(np.maximum(p, SMALLEST))
    if isinstance(target, DiscreteTimeTarget):
        survival = discrete_survival(outputs, target.cuts, fitted.horizons)
        last = discrete_survival(outputs, target.cuts, fitted.horizons[-1:])[:, 0]
        return 1 - survival, np.log(-np.log(np.clip(last, SMALLEST, 1 - SMALLEST)))
    lp = outputs[:, 0] * (calibration.values[0] if calibration.kind == "slope" else 1.0)
    return 1 - np.exp(-np.exp(np.clip(lp, -50, 50))[:, None] * np.array(fitted.baseline)), lp


def log_odds(outputs: Float) -> Float:
    """Of the second class against the first, (n,)."""
    return outputs[:, 1] - outputs[:, 0]


def calibrated_leaves(
    tree: LabelTree, outputs: Float, temperatures: tuple[float, ...], offset: tuple[float, ...], restated: bool
) -> Float:
    """P(leaf), (n, leaves), from logits of the nodes."""
    ones = (1.0,) * len(decisions(tree))
    scaled = Temperature(tree, temperatures or ones).apply(outputs)
    # The shares are not evidence: no temperature divides them, and of a sample chosen by class they are left out.
    shift = np.array(offset) if offset and not restated else np.zeros(len(tree.nodes))
    return Temperature(tree, ones).leaves(scaled + shift)


def share_offset(tree: LabelTree, labels: NDArray[np.intp]) -> tuple[float, ...]:
    """Log of each node's share among its siblings in the training rows, up to a constant per decision, (nodes,).

    A node without a row has 0: no row taught anything about it.
    """
    weights = class_weights(tree, labels)
    return tuple(float(-np.log(w)) if w > 0 else 0.0 for w in weights)
