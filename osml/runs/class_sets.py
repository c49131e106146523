"""Stored predictions of classes joined with labels: per fold, per repeat, per patient; and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.errors import InvalidInputError
from osml.evaluation.class_measures import EACH, OVERALL, class_measures
from osml.runs.store import PredictionRow
from osml.stats.tree import LabelTree

Float = NDArray[np.float64]
Ints = NDArray[np.intp]
Key = tuple[str, ...]
OF_PROBABILITIES = ("log_loss", "brier")  # need the class shares of the population


@dataclass(frozen=True)
class ClassSet:
    """Predictions of one fold, or of several pooled, with the labels.

    node : position in `tree.nodes` of each unit's label (n,)
    p : P(node) of every node (n, nodes)
    patients : patient of each unit (n,)
    """

    folds: tuple[Fold, ...]
    tree: LabelTree
    index: Ints
    node: Ints
    p: Float
    patients: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.node)

    @property
    def leaves(self) -> Ints:
        """Positions of the leaves among the nodes."""
        return np.array([self.tree.nodes.index(name) for name in self.tree.leaves], dtype=np.intp)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Units whose label is a leaf."""
        return np.isin(self.node, self.leaves)

    @property
    def y(self) -> Ints:
        """Position of each label among the leaves; -1 where it stops at an inner node."""
        place = np.full(len(self.tree.nodes), -1, dtype=np.intp)
        place[self.leaves] = np.arange(len(self.leaves))
        return place[self.node]

    @property
    def p_leaves(self) -> Float:
        """Probabilities of the leaves, rows summing to 1."""
        p = self.p[:, self.leaves]
        return p / p.sum(axis=1, keepdims=True)

    @property
    def predicted(self) -> Ints:
        """Most probable leaf of each unit, as its position among the leaves."""
        return self.p_leaves.argmax(axis=1)

    def take(self, keep: NDArray[np.bool_] | Ints) -> ClassSet:
        """Some of the units."""
        return replace(self, index=self.index[keep], node=self.node[keep], p=self.p[keep], patients=self.patients[keep])


def class_sets(rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold]) -> list[ClassSet]:
    """Predictions of one predictor, a set per fold; folds without a row are left out.

    Raises
    ------
    InvalidInputError
        A unit lacks the probability of a node, or its leaves do not sum to 1.
    """
    outcome = cohort.outcome
    assert isinstance(outcome, ClassOutcome)
    nodes = outcome.tree.nodes
    column = {name: k for k, name in enumerate(nodes)}
    position = {unit: i for i, unit in enumerate(cohort.units)}
    by_fold: dict[tuple[int, int], list[PredictionRow]] = {}
    for row in rows:
        by_fold.setdefault((row.repeat, row.fold), []).append(row)
    sets = []
    for fold in folds:
        mine = by_fold.get((fold.repeat, fold.index))
        if mine is None:
            continue
        place = {unit: i for i, unit in enumerate(dict.fromkeys(row.unit for row in mine))}
        p = np.full((len(place), len(nodes)), np.nan)
        for row in mine:
            p[place[row.unit], column[row.column]] = row.p
        index = np.array([position[unit] for unit in place], dtype=np.intp)
        patients = np.array([cohort.patients[i] for i in index], dtype=object)
        found = ClassSet((fold,), outcome.tree, index, outcome.node[index], p, patients)
        # A network computes in single precision.
        if not np.isfinite(p).all() or np.abs(p[:, found.leaves].sum(axis=1) - 1).max() > 1e-4:
            raise InvalidInputError(f"fold {fold.name}: the probabilities of the classes do not sum to 1")
        sets.append(found)
    return sets


def pool(sets: Sequence[ClassSet]) -> ClassSet:
    """Several folds as one set."""
    first = sets[0]
    index, node, p, patients = (
        np.concatenate([getattr(s, key) for s in sets]) for key in ("index", "node", "p", "patients")
    )
    return ClassSet(tuple(f for s in sets for f in s.folds), first.tree, index, node, p, patients)


def by_repeat(sets: Sequence[ClassSet]) -> list[ClassSet]:
    """The folds of each repeat pooled; repeats are never pooled with each other."""
    numbers = sorted({s.folds[0].repeat for s in sets})
    return [pool([s for s in sets if s.folds[0].repeat == r]) for r in numbers]


def mean_per_patient(s: ClassSet) -> ClassSet | None:
    """One unit per patient with the mean of its rows' probabilities; None where a patient's rows differ in label."""
    _, first, code = np.unique(s.patients.astype(str), return_index=True, return_inverse=True)
    if (s.node != s.node[first][code]).any():
        return None
    mean = np.stack([np.bincount(code, column) for column in s.p.T], axis=1) / np.bincount(code)[:, None]
    return replace(s.take(first), p=mean)


def measured(s: ClassSet, weights: Float | None = None, *, tree: bool = True) -> dict[Key, Float]:
    """Every measure of a set under B weightings, float arrays (B,), NaN where it does not exist.

    Keys are the places in metrics.json: ("macro_f1",), ("per_class", class, "f1"), ("tree", "f1"),
    ("decisions", number, "macro_auc").
    """
    w = np.ones((1, len(s))) if weights is None else weights
    out: dict[Key, Float] = {}
    keep = s.full
    if keep.any():
        found = class_measures(s.y[keep], s.p_leaves[keep], w[:, keep])
        out |= {(name,): found.overall[name] for name in OVERALL}
        for k, name in enumerate(s.tree.leaves):
            out |= {("per_class", name, key): found.each[key][:, k] for key in EACH}
    if tree and s.tree.inner:
        out |= _tree(s, w)
        for number, (_, children) in enumerate(decisions(s.tree)):
            out |= _decision(s, w, number, children)
    return out


def decisions(tree: LabelTree) -> list[tuple[str, tuple[str, ...]]]:
    """What the tree decides: (inner node, its children), the first split as ("", …)."""
    parents = [-1, *(k for k, name in enumerate(tree.nodes) if name in tree.inner)]
    return [
        ("" if k < 0 else tree.nodes[k], tuple(n for n, p in zip(tree.nodes, tree.parents, strict=True) if p == k))
        for k in parents
    ]


def branch(s: ClassSet, children: Sequence[str]) -> tuple[NDArray[np.bool_], Ints]:
    """Units whose label lies at or below one of the children, and which; partial labels count where they are known."""
    lineage = s.tree.lineage[s.node]
    member = lineage[:, [s.tree.nodes.index(name) for name in children]]
    here: NDArray[np.bool_] = np.asarray(member.any(axis=1))
    return here, member.argmax(axis=1).astype(np.intp)


def among(s: ClassSet, children: Sequence[str]) -> Float:
    """Probabilities of siblings given their parent (n, children); equal shares where the parent has probability 0."""
    p = s.p[:, [s.tree.nodes.index(name) for name in children]]
    total = p.sum(axis=1, keepdims=True)
    return np.divide(p, total, out=np.full_like(p, 1 / len(children)), where=total > 0)


def _decision(s: ClassSet, w: Float, number: int, children: Sequence[str]) -> dict[Key, Float]:
    here, child = branch(s, children)
    if not here.any():
        return {}
    found = class_measures(child[here], among(s, children)[here], w[:, here])
    names = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
    return {("decisions", str(number), name): found.overall[name] for name in names}


def _tree(s: ClassSet, w: Float) -> dict[Key, Float]:
    """`hierarchical_scores` under weights: overlaps of labels with their ancestors, summed over units."""
    lineage = s.tree.lineage
    below = lineage.T & ~np.eye(len(lineage), dtype=bool)
    guess = lineage[s.leaves[s.predicted]] & ~below[s.node]
    truth = lineage[s.node]
    hit, called, support = ((w @ rows.sum(axis=1).astype(float)) for rows in (truth & guess, guess, truth))
    nothing = np.full(len(w), np.nan)

    def ratio(above: Float, under: Float) -> Float:
        return np.divide(above, under, out=nothing.copy(), where=under > 0)

    return {
        ("tree", "precision"): ratio(hit, called),
        ("tree", "recall"): ratio(hit, support),
        ("tree", "f1"): ratio(2 * hit, called + support),
    }
