"""Recalibration of a network on out-of-fold outputs, and prediction sets with a promised coverage.

Every function here learns from outputs for patients that the network was not trained on; from training outputs it would
learn that the network is always right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import as_groups, as_labels
from osml.evaluation.multiclass import class_positions, class_probabilities
from osml.nets.label_tree import Decision, decisions, leaf_positions
from osml.stats.inputs import vector
from osml.stats.logistic import fit_logistic
from osml.stats.tree import LabelTree

Floats = NDArray[np.float64]
_WIDEST = 1e4  # inverse temperatures beyond this are a separation, not a calibration
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by one temperature per decision of the tree, in the order of `label_tree.decisions`."""

    tree: LabelTree
    temperatures: tuple[float, ...]

    def apply(self, logits: ArrayLike) -> Floats:
        """Calibrated logits (n, nodes); ranks among siblings stay."""
        out = _logits(self.tree, logits)
        for decision, temperature in zip(decisions(self.tree), self.temperatures, strict=True):
            out[:, list(decision.members)] /= temperature
        return out

    def leaves(self, logits: ArrayLike) -> Floats:
        """Calibrated P(leaf), (n, leaves)."""
        scaled = self.apply(logits)
        for decision in decisions(self.tree):
            members = list(decision.members)
            scaled[:, members] = log_softmax(scaled[:, members], axis=1)
        return np.exp(scaled @ self.tree.lineage.T.astype(np.float64))[:, list(leaf_positions(self.tree))]


def fit_temperature(
    tree: LabelTree, logits: ArrayLike, node: ArrayLike, offset: ArrayLike | None = None
) -> Temperature:
    """Temperature of each decision by maximum likelihood over the rows whose label passes it.

    Parameters
    ----------
    logits : float array (n, nodes), out-of-fold
    node : int array (n,), position of each row's label; partial labels serve the decisions above them
    offset : float array (nodes,), added to the logits behind the division: log shares of classes that the network was
        trained to ignore are no evidence, so no temperature makes them weaker

    Raises
    ------
    NotEstimableError
        No row passes a decision, the true class is always the most likely one (the temperature would be 0), or the
        logits do not favour the true class at all (it would be infinite).

    Notes
    -----
    The likelihood is concave in 1/T, so its derivative has one root. Guo et al. 2017 (ICML, 1321).

    >>> from osml.nets.label_tree import flat_tree
    >>> logits = [[0.0, 4.0]] * 3 + [[0.0, 4.0]]
    >>> [round(t, 4) for t in fit_temperature(flat_tree(["no", "yes"]), logits, [1, 1, 1, 0]).temperatures]
    [3.641]
    """
    z = _logits(tree, logits)
    labels = class_positions(node, len(tree.nodes))
    if len(labels) != len(z):
        raise InvalidInputError(f"{len(labels)} labels for {len(z)} rows of logits")
    lineage = tree.lineage[labels]
    shift = np.zeros(len(tree.nodes)) if offset is None else np.asarray(offset, dtype=np.float64)
    found = []
    for decision in decisions(tree):
        members = list(decision.members)
        passing = lineage[:, members].any(axis=1)
        true = lineage[passing][:, members].argmax(axis=1)
        found.append(_temperature(z[passing][:, members], true, decision, shift[members]))
    return Temperature(tree, tuple(found))


def _temperature(z: Floats, true: NDArray[np.intp], decision: Decision, shift: Floats) -> float:
    where = f"decision {decision.name}"
    if len(z) == 0:
        raise NotEstimableError(f"{where}: no row has a label below it, so it has no temperature")
    chosen = z[np.arange(len(z)), true]

    def slope(inverse: float) -> float:
        scaled = inverse * z + shift
        weight = np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True))
        return float(((weight * z).sum(axis=1) - chosen).mean())

    if slope(0.0) >= 0:
        raise NotEstimableError(
            f"{where}: the outputs do not favour the true class over {len(z)} rows",
            why="No temperature makes such probabilities right.",
            do="Report the classes' frequencies; the network has learnt nothing here.",
        )
    if np.all(chosen >= z.max(axis=1)) or slope(_WIDEST) <= 0:
        raise NotEstimableError(
            f"{where}: the true class is the most likely one in all {len(z)} rows",
            why="The likelihood then grows without end as the temperature goes to 0.",
            do="Keep the outputs as they are, or calibrate on more patients.",
        )
    return 1.0 / float(brentq(slope, 0.0, _WIDEST, xtol=1e-12, rtol=1e-12))


@dataclass(frozen=True)
class Platt:
    """Logistic recalibration of a score: P(event) = expit(intercept + slope * score)."""

    intercept: float
    slope: float

    def apply(self, score: ArrayLike) -> Floats:
        """Calibrated logits (n,)."""
        return self.intercept + self.slope * vector(score, "score")


def fit_platt(score: ArrayLike, y: ArrayLike) -> Platt:
    """Intercept and slope by maximum likelihood, from out-of-fold logits (n,) and 0/1 outcomes (n,).

    Unlike Platt's own, the outcomes are not smoothed: few patients show in the interval, not in a shifted target.
    Separation and a slope at or below 0 are refused.

    >>> fit = fit_platt([0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1, 1])
    >>> round(fit.intercept, 4), round(fit.slope, 4)
    (-0.7895, 1.1272)
    """
    x = vector(score, "score")
    fit = fit_logistic(x[:, None], as_labels(y, both=True))
    slope = float(fit.coef[0])
    if slope <= 0:
        raise NotEstimableError(
            f"the calibration slope is {slope:.3g}: higher scores do not go with the event",
            why="Recalibrating would turn the ranking round.",
        )
    return Platt(float(fit.intercept), slope)


@dataclass(frozen=True)
class PredictionSets:
    """Which classes stay in the prediction set: those with P at or above 1 - threshold.

    thresholds : float array (K,), infinite where the patients are too few for the promise: the class is always in
    miss : the share of wrong sets that is accepted
    patients : int array (K,), patients behind each threshold
    by_class : whether the promise holds within each true class
    """

    thresholds: Floats
    miss: float
    patients: NDArray[np.intp]
    by_class: bool

    def sets(self, p: ArrayLike) -> NDArray[np.bool_]:
        """Bool array (n, K) from probabilities (n, K)."""
        return 1.0 - class_probabilities(p, len(self.thresholds)) <= self.thresholds + _ROUNDING

    def decide(self, p: ArrayLike) -> NDArray[np.intp]:
        """Position of the only class in the set; -1 = abstain, because several classes remain, or none."""
        sets = self.sets(p)
        return np.where(sets.sum(axis=1) == 1, sets.argmax(axis=1), -1)


def prediction_sets(
    p: ArrayLike, y: ArrayLike, patients: ArrayLike, *, miss: float = 0.1, by_class: bool = False
) -> PredictionSets:
    """Conformal prediction sets by patient.

    For a row drawn at random from a new patient, exchangeable with these, P(true class in the set) >= 1 - miss. Each
    patient counts once, however many rows it has: row i of patient k has weight 1 / ((m + 1) n_k), the missing share
    1 / (m + 1) lies at infinity. With one row per patient this is split conformal prediction. The score of a row is
    1 - P(true class).

    Parameters
    ----------
    p : float array (n, K), rows sum to 1
    y : int array (n,), class positions; rows with partial labels do not belong here
    patients : array (n,)
    miss : above 0 and below 1
    by_class : keep the promise within each true class, also where classes were sampled at other shares than in
        practice (case-control); needs about 1 / miss patients in each class

    Notes
    -----
    Exact when p comes from one network that never saw these patients. With p pooled over folds the networks differ from
    the one that is deployed, and the promise is approximate. Lee, Barber and Willett 2023 (arXiv:2306.06342).

    >>> rule = prediction_sets([[.9, .1], [.2, .8], [.6, .4], [.3, .7]], [0, 1, 0, 1], list("abcd"), miss=0.25)
    >>> rule.thresholds.tolist(), rule.decide([[.95, .05], [.5, .5], [.39, .61]]).tolist()
    ([0.4, 0.4], [0, -1, 1])
    """
    if not 0 < miss < 1:
        raise InvalidInputError(f"miss must be above 0 and below 1, got {miss}")
    raw = np.asarray(p)
    classes = raw.shape[1] if raw.ndim == 2 else 0
    probability, true = class_probabilities(p, classes), class_positions(y, classes)
    if len(true) != len(probability):
        raise InvalidInputError(f"y holds {len(true)} entries, p {len(probability)}")
    codes = as_groups(patients, len(true))
    scores = 1.0 - probability[np.arange(len(true)), true]
    if not by_class:
        threshold, m = _threshold(scores, codes, miss)
        return PredictionSets(np.full(classes, threshold), miss, np.full(classes, m), by_class)
    found = [_threshold(scores[true == k], codes[true == k], miss) for k in range(classes)]
    return PredictionSets(np.array([t for t, _ in found]), miss, np.array([m for _, m in found]), by_class)


def _threshold(scores: Floats, codes: NDArray[np.intp], miss: float) -> tuple[float, int]:
    """The (1 - miss) quantile of scores in which each patient weighs 1 / (patients + 1), and the number of patients."""
    present, place, rows = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    share = np.cumsum(1.0 / rows[place[order]]) / (len(present) + 1)
    enough = np.flatnonzero(share >= 1.0 - miss - _ROUNDING)
    return (float(scores[order][enough[0]]) if len(enough) else float("inf")), len(present)


def _logits(tree: LabelTree, logits: ArrayLike) -> Floats:
    z = np.array(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] != len(tree.nodes) or not np.isfinite(z).all():
        raise InvalidInputError(f"logits have shape {z.shape} or are not finite; expected (n, {len(tree.nodes)})")
    return z
