"""Where a tree of classes is decided: one softmax over each set of siblings, and the weight of each class there.

The tree itself is `osml.stats.tree.LabelTree`; a flat target is a tree of depth one, a binary one has two leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.stats.tree import LabelTree, label_tree

ROOT = "(root)"
FEW_ROWS = 10


@dataclass(frozen=True)
class Decision:
    """One softmax: the children of one inner node, or those of the root.

    parent : position of the inner node, -1 for the root
    name : the inner node's name, "(root)" for the root
    members : positions of the children in `tree.nodes`, two or more
    """

    parent: int
    name: str
    members: tuple[int, ...]


def flat_tree(classes: Sequence[str]) -> LabelTree:
    """Tree of depth one: every class is a leaf below the root.

    >>> flat_tree(["no", "yes"]).leaves
    ('no', 'yes')
    """
    return label_tree(list(classes))


def flatten(tree: LabelTree) -> LabelTree:
    """The tree's leaves as a flat tree: what `head: flat` trains, on the rows that `leaf_labels` places."""
    return flat_tree(tree.leaves)


def decisions(tree: LabelTree) -> tuple[Decision, ...]:
    """The softmax groups of a tree, the root first, then inner nodes in tree order.

    >>> tree = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
    >>> [(d.name, d.members) for d in decisions(tree)]
    [('(root)', (0, 1)), ('tumor', (2, 3))]
    """
    inner = [-1, *(k for k in range(len(tree.nodes)) if k in tree.parents)]
    return tuple(
        Decision(
            parent,
            ROOT if parent < 0 else tree.nodes[parent],
            tuple(k for k, above in enumerate(tree.parents) if above == parent),
        )
        for parent in inner
    )


def leaf_positions(tree: LabelTree) -> tuple[int, ...]:
    """Positions of the leaves among the nodes, in the order of `tree.leaves`."""
    return tuple(tree.nodes.index(name) for name in tree.leaves)


def leaf_labels(tree: LabelTree, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Position of each label among the leaves, int array (n,); -1 for a partial label.

    >>> tree = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
    >>> leaf_labels(tree, tree.positions(["viable", "tumor", "non_tumor"])).tolist()
    [2, -1, 0]
    """
    place = np.full(len(tree.nodes), -1, dtype=np.intp)
    place[list(leaf_positions(tree))] = np.arange(len(tree.leaves))
    return place[labels]


def node_counts(tree: LabelTree, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows whose label is at or below each node, int array (nodes,); labels are node positions (n,)."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InvalidInputError(f"labels have shape {labels.shape} and type {labels.dtype}; expected positions (n,)")
    if len(labels) and (labels.min() < 0 or labels.max() >= len(tree.nodes)):
        raise InvalidInputError(
            f"labels range over {labels.min()}..{labels.max()}; the tree has {len(tree.nodes)} nodes"
        )
    return tree.lineage[labels].sum(axis=0).astype(np.intp)


def class_weights(tree: LabelTree, labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weight of each node among its siblings: inverse frequency in the training rows, mean 1 over the siblings present.

    A node without a training row has weight 0: no row carries it. Labels that stop at an inner node count for that
    node and those above it.

    >>> tree = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
    >>> class_weights(tree, tree.positions(["non_tumor", "tumor", "non_viable", "viable"]))
    array([1.5, 0.5, 1. , 1. ])
    """
    counts = node_counts(tree, labels)
    out = np.zeros(len(counts))
    for decision in decisions(tree):
        here = [k for k in decision.members if counts[k] > 0]
        if here:
            inverse = 1.0 / counts[here]
            out[here] = inverse / inverse.mean()
    return out


def rare_classes(tree: LabelTree, labels: NDArray[np.intp], fewest: int = FEW_ROWS) -> tuple[tuple[str, int], ...]:
    """Nodes with fewer than `fewest` training rows, with their counts: worth a warning.

    >>> rare_classes(flat_tree(["a", "b"]), np.repeat([0, 1], [40, 3]))
    (('b', 3),)
    """
    counts = node_counts(tree, labels)
    return tuple((name, int(n)) for name, n in zip(tree.nodes, counts, strict=True) if n < fewest)
