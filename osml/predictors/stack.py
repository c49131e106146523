"""Predictor `stack`: whole predictors combined, by the mean of their probabilities or by learnt weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError, RunError
from osml.evaluation.tree import node_probabilities
from osml.files import read_json, write_json
from osml.predictors.contract import Design, Prediction
from osml.schema.model import Schema
from osml.schema.networks import StackPredictor
from osml.stats.cox import baseline_hazard
from osml.stats.cox_risk_sets import evaluate, risk_sets
from osml.stats.sampling import correct_intercept
from osml.stats.tree import LabelTree

Float = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True)
class FittedStack:
    """A fitted stack.

    names : predictors, in the order of `weights`
    weights : none below 0. Binary and survival: of the linear predictors; classes: of log P(class)
    intercept : binary
    baseline : survival: cumulative hazard at each horizon for a linear predictor of 0
    share : binary: of the event among the training units
    """

    name: str
    columns: tuple[str, ...]
    tree: LabelTree | None
    names: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float = 0.0
    baseline: tuple[float, ...] = ()
    share: float | None = None

    def with_prevalence(self, prevalence: float) -> FittedStack:
        """Binary: the log odds moved from the sample's share of events to a population's (King & Zeng)."""
        assert self.share is not None
        return replace(self, intercept=correct_intercept(self.intercept, self.share, prevalence))

    def predict(self, design: Design) -> Prediction:
        """Combine the scores of the upstream predictors, each row for itself."""
        cohort = design.cohort
        scores = _scores(self.names, design)
        if self.tree is not None:
            p = node_probabilities(self.tree, _pooled(scores, np.array(self.weights), self.tree, self.columns))
            return Prediction(cohort.units, cohort.patients, self.columns, p, np.log(np.maximum(p, 1e-12)))
        lp = self.intercept + np.tensordot(np.array(self.weights), scores, axes=1)
        if self.baseline:
            p = 1 - np.exp(-np.exp(np.clip(lp, -50, 50))[:, None] * np.array(self.baseline))
        else:
            p = 1 / (1 + np.exp(-np.clip(lp, -700, 700)))[:, None]
        return Prediction(cohort.units, cohort.patients, self.columns, p, lp)

    def save(self, folder: Path) -> None:
        """model.json."""
        write_json(folder / "model.json", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON form at full precision."""
        tree = None if self.tree is None else {"nodes": list(self.tree.nodes), "parents": list(self.tree.parents)}
        return {
            "format": FORMAT,
            "kind": "stack",
            "name": self.name,
            "columns": list(self.columns),
            "tree": tree,
            "names": list(self.names),
            "weights": list(self.weights),
            "intercept": self.intercept,
            "baseline": list(self.baseline),
            "share": self.share,
        }


def load_stack(folder: Path) -> FittedStack:
    """Inverse of `FittedStack.save`."""
    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT or data.get("kind") != "stack":
        raise RunError(f"{folder / 'model.json'} is not a stack that this osml reads", do="Update osml.")
    tree = data["tree"]
    return FittedStack(
        data["name"],
        tuple(data["columns"]),
        None if tree is None else LabelTree(tuple(tree["nodes"]), tuple(tree["parents"])),
        tuple(data["names"]),
        tuple(data["weights"]),
        data["intercept"],
        tuple(data["baseline"]),
        data["share"],
    )


def fit_stack(schema: Schema, name: str, design: Design) -> FittedStack:
    """Fit the stack `name` on out-of-fold scores of its predictors.

    `mean` averages linear predictors (log odds, log hazards, log P of classes) and learns nothing but, for survival,
    the baseline; `logistic` maximises the likelihood over weights that are not below 0, drawn towards equal ones with
    the worth of one unit, so that scores which separate a small sample do not send them to infinity.
    """
    block = schema.predictors[name]
    assert isinstance(block, StackPredictor)
    outcome, k = design.cohort.outcome, len(block.inputs)
    equal = (1.0 / k,) * k
    scores = _scores(block.inputs, design)
    if isinstance(outcome, ClassOutcome):
        tree = outcome.tree
        weights = equal if block.method == "mean" else _class_weights(scores, outcome)
        return FittedStack(name, tree.nodes, tree, block.inputs, weights)
    if isinstance(outcome, BinaryOutcome):
        intercept, weights = (0.0, equal) if block.method == "mean" else _binary_weights(scores, outcome.y)
        share = float(outcome.y.mean())
        return FittedStack(name, (outcome.positive,), None, block.inputs, weights, intercept, share=share)
    if not isinstance(outcome, SurvivalOutcome):
        raise NotEstimableError("a predictor cannot be fitted to patients without outcomes")
    weights = equal if block.method == "mean" else _cox_weights(scores, outcome)
    lp = np.tensordot(np.array(weights), scores, axes=1)
    hazard = baseline_hazard(lp, outcome.time, outcome.event).at(np.array(outcome.horizons))
    columns = tuple(f"{h:g} {outcome.unit}" for h in outcome.horizons)
    return FittedStack(name, columns, None, block.inputs, weights, 0.0, tuple(float(h) for h in hazard))


def _scores(names: tuple[str, ...], design: Design) -> Float:
    """(predictors, n) or, of classes, (predictors, n, nodes)."""
    for name in names:
        if name not in design.upstream:
            raise InvalidInputError(f"a stack needs the score of {name!r}")
    return np.stack([design.upstream[name] for name in names])


def _pooled(scores: Float, weights: Float, tree: LabelTree, columns: tuple[str, ...]) -> Float:
    """P(leaf), (n, leaves): normalised product of the predictors' probabilities, each to the power of its weight."""
    leaves = [columns.index(leaf) for leaf in tree.leaves]
    log_p = np.tensordot(weights, scores[:, :, leaves], axes=1)
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _class_weights(scores: Float, outcome: ClassOutcome) -> tuple[float, ...]:
    below = outcome.tree.lineage[[outcome.tree.nodes.index(leaf) for leaf in outcome.tree.leaves]]

    def loss(w: Float) -> float:
        p = _pooled(scores, w, outcome.tree, outcome.tree.nodes)
        own = (p * below.T[outcome.node]).sum(axis=1)  # a partial label: the sum over the leaves below its node
        return -float(np.log(np.maximum(own, 1e-12)).mean()) + _pull(w, len(own))

    return _minimised(loss, len(scores))


def _binary_weights(scores: Float, y: Float) -> tuple[float, tuple[float, ...]]:
    def loss(w: Float) -> float:
        lp = w[-1] + w[:-1] @ scores
        return float(np.mean(np.logaddexp(0, lp) - y * lp)) + _pull(w[:-1], len(y))

    k = len(scores)
    start = np.append(np.full(k, 1.0 / k), 0.0)
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0, None)] * k + [(None, None)])
    if not found.success or not np.isfinite(found.x).all():
        raise NotEstimableError("the weights of the stack have no finite optimum", do="Use `method: mean`.")
    return float(found.x[-1]), tuple(float(w) for w in found.x[:-1])


def _cox_weights(scores: Float, outcome: SurvivalOutcome) -> tuple[float, ...]:
    sets = risk_sets(outcome.time, outcome.event.astype(float), np.ones(len(outcome.time)), "efron")
    columns = np.empty((len(sets.order), 0))

    def loss(w: Float) -> float:
        fit = evaluate(sets, columns, (w @ scores)[sets.order], derivatives=False)
        return -fit.log_likelihood / len(sets.order) + _pull(w, len(sets.order))

    return _minimised(loss, len(scores))


def _pull(weights: Float, n: int) -> float:
    """Half the squared distance to equal weights, spread over n units."""
    return float(((weights - 1.0 / len(weights)) ** 2).sum()) / (2 * n)


def _minimised(loss: Any, k: int) -> tuple[float, ...]:
    found = minimize(loss, np.full(k, 1.0 / k), method="L-BFGS-B", bounds=[(0, None)] * k)
    if not found.success or not np.isfinite(found.x).all():
        raise NotEstimableError("the weights of the stack have no finite optimum", do="Use `method: mean`.")
    return tuple(float(w) for w in found.x)
