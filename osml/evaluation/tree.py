"""Classes that form a tree: probabilities of its nodes, and hierarchical precision, recall and F1.

Kiritchenko et al. 2005; Silla and Freitas 2011, Data Min Knowl Disc 22:31, section 5: each label stands for itself and
its ancestors, the root left out, and the overlaps are summed over all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.evaluation.inputs import Floats
from osml.evaluation.multiclass import class_probabilities
from osml.stats.tree import LabelTree


def node_probabilities(tree: LabelTree, p: ArrayLike) -> Floats:
    """Probabilities of all nodes (n, nodes) from those of the leaves (n, leaves): an inner node sums its leaves.

    >>> from osml.stats.tree import label_tree
    >>> tree = label_tree(["a", {"b": ["c", "d"]}])
    >>> node_probabilities(tree, [[.5, .2, .3]])
    array([[0.5, 0.5, 0.2, 0.3]])
    """
    leaves = [tree.nodes.index(name) for name in tree.leaves]
    return class_probabilities(p, len(leaves)) @ tree.lineage[leaves].astype(np.float64)


@dataclass(frozen=True)
class Hierarchical:
    """Hierarchical precision, recall and F1, micro-averaged over rows, and the same per node.

    Attributes
    ----------
    precision, recall, f1 : float
    node_precision, node_recall, node_f1 : float array (nodes,)
        NaN where the denominator is 0.
    node_support : int array (nodes,)
        Rows whose label is at or below the node.
    n : int
    partial : int
        Rows labelled at an inner node; what lies below that node is unknown and counts neither for nor against.
    leaf_accuracy : float or None
        Share of fully labelled rows whose leaf was predicted; None without such rows.
    """

    precision: float
    recall: float
    f1: float
    node_precision: Floats
    node_recall: Floats
    node_f1: Floats
    node_support: NDArray[np.intp]
    n: int
    partial: int
    leaf_accuracy: float | None


def hierarchical_scores(tree: LabelTree, y: ArrayLike, predicted: ArrayLike) -> Hierarchical:
    """Hierarchical precision, recall and F1 of predicted nodes.

    Parameters
    ----------
    tree : LabelTree
    y : array of str (n,)
        True node; an inner node where the rest is not known.
    predicted : array of str (n,)
        Predicted node, a leaf or an inner node where the prediction stops early.

    >>> from osml.stats.tree import label_tree
    >>> tree = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
    >>> found = hierarchical_scores(tree, ["viable", "viable", "tumor"], ["viable", "non_viable", "viable"])
    >>> found.precision, found.recall, found.f1, found.partial
    (0.8, 0.8, 0.8, 1)
    """
    truth, guess = tree.positions(y), tree.positions(predicted, "predicted")
    if len(truth) != len(guess):
        raise InvalidInputError(f"y holds {len(truth)} labels, predicted {len(guess)}")
    lineage = tree.lineage
    below = lineage.T & ~np.eye(len(lineage), dtype=bool)
    true_set, unknown = lineage[truth], below[truth]
    guess_set = lineage[guess] & ~unknown
    hit = (true_set & guess_set).sum(axis=0)
    called, support = guess_set.sum(axis=0), true_set.sum(axis=0)
    is_leaf = np.array([name in tree.leaves for name in tree.nodes])
    full = is_leaf[truth]
    return Hierarchical(
        # A guess always shares or replaces the top-level node, so neither sum can be 0.
        precision=float(hit.sum() / called.sum()),
        recall=float(hit.sum() / support.sum()),
        f1=float(2 * hit.sum() / (called.sum() + support.sum())),
        node_precision=_ratio(hit, called),
        node_recall=_ratio(hit, support),
        node_f1=_ratio(2 * hit, called + support),
        node_support=support,
        n=len(truth),
        partial=int((~full).sum()),
        leaf_accuracy=float((truth == guess)[full].mean()) if full.any() else None,
    )


def _ratio(above: NDArray[np.intp], below: NDArray[np.intp]) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
