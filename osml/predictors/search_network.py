"""Search of a network's settings: where it looks, the network with other settings, and the loss that decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.nets.losses import FollowUp, Labels, Truth, discrete_time_loss
from osml.nets.recipe import ClassTarget, DiscreteTimeTarget, Target, TrainRecipe
from osml.predictors.boosting_cox import partial_likelihood
from osml.predictors.network_outputs import SMALLEST, calibrated_leaves, share_offset
from osml.predictors.search import Span, Values
from osml.schema.model import FileInput, Schema

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
MOST_DECAY = 0.3


def network_spans(schema: Schema, name: str, recipe: TrainRecipe) -> tuple[dict[str, Span], dict[str, float | int]]:
    """Where settings are looked for, and what they are without a search."""
    block = schema.networks()[name]
    decay = recipe.weight_decay
    spans = {
        "rate": Span(recipe.rate / 10, recipe.rate * 10, log=True),
        "weight_decay": Span(1e-5, MOST_DECAY, log=True) if decay > 0 else Span(0.0, MOST_DECAY),
    }
    default: dict[str, float | int] = {"rate": float(recipe.rate), "weight_decay": float(decay)}
    if any(not isinstance(schema.inputs[item], FileInput) for item in block.inputs):
        spans["dropout"], default["dropout"] = Span(0.0, 0.6), float(block.dropout)
    if block.fusion == "concat":
        spans["head_dropout"], default["head_dropout"] = Span(0.0, 0.5), float(block.head_dropout)
    else:
        spans["width"], default["width"] = Span(32, 512, log=True, whole=True), int(block.width)
    return spans, default


def with_values(schema: Schema, name: str, values: Values) -> Schema:
    """The schema whose network has these settings."""
    block = schema.networks()[name]
    train = block.train.model_copy(update={key: values[key] for key in ("rate", "weight_decay")})
    own: dict[str, Any] = {key: value for key, value in values.items() if key not in ("rate", "weight_decay")}
    changed = block.model_copy(update={**own, "train": train})
    return schema.model_copy(update={"predictors": {**schema.predictors, name: changed}})


def network_loss(target: Target, truth: Truth, outputs: Float, inside: Rows, outside: Rows) -> tuple[float, float]:
    """Loss of outputs over rows that the network did not train on, and what it is to be divided by.

    Log-loss of the uncalibrated probabilities and rows; of hazards in intervals their negative log-likelihood; of Cox's
    head minus the gain of the log partial likelihood by these rows, and all events.

    outputs : of all rows, (n, outputs); Cox: of those inside, too
    """
    if isinstance(truth, FollowUp):
        known = truth.take(outside)
        if isinstance(target, DiscreteTimeTarget):
            import torch

            loss = discrete_time_loss(torch.as_tensor(outputs[outside]), known.time, known.event, target.cuts)
            return float(loss) * len(outside), float(len(outside))
        both = np.concatenate([inside, outside])
        gain = _partial_likelihood(outputs, truth, both) - _partial_likelihood(outputs, truth, inside)
        return -gain, float(known.event.sum())
    assert isinstance(target, ClassTarget)
    labels = truth.take(outside)
    assert isinstance(labels, Labels)
    tree = target.tree
    offset = share_offset(tree, truth.node[inside])
    leaves = calibrated_leaves(tree, outputs[outside], (), offset, restated=False)
    # A label that stops at an inner node is right about every leaf below it.
    below = tree.lineage[[tree.nodes.index(leaf) for leaf in tree.leaves]][:, labels.node].T
    return -float(np.log(np.maximum((leaves * below).sum(axis=1), SMALLEST)).sum()), float(len(outside))


def _partial_likelihood(outputs: Float, truth: FollowUp, rows: Rows) -> float:
    return partial_likelihood(truth.time[rows], truth.event[rows].astype(np.float64))(outputs[rows, 0])
