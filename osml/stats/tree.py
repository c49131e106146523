"""Classes that form a tree: its nodes, their parents, and where labels stand in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError


@dataclass(frozen=True)
class LabelTree:
    """Nodes below the root, parents before children.

    Attributes
    ----------
    nodes : tuple of str
    parents : tuple of int
        Position of each node's parent; -1 below the root.
    """

    nodes: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def leaves(self) -> tuple[str, ...]:
        """Nodes without children, in tree order: the columns of leaf probabilities."""
        return tuple(name for k, name in enumerate(self.nodes) if k not in self.parents)

    @property
    def inner(self) -> tuple[str, ...]:
        """Nodes with children."""
        return tuple(name for k, name in enumerate(self.nodes) if k in self.parents)

    @property
    def lineage(self) -> NDArray[np.bool_]:
        """Bool array (nodes, nodes): row k marks node k and its ancestors."""
        out = np.eye(len(self.nodes), dtype=bool)
        for k, parent in enumerate(self.parents):
            if parent >= 0:
                out[k] |= out[parent]
        return out

    def positions(self, labels: ArrayLike, name: str = "y") -> NDArray[np.intp]:
        """Node positions of an array of node names, int array (n,); unknown names are refused."""
        raw = np.asarray(labels)
        if raw.ndim != 1 or raw.size == 0:
            raise InvalidInputError(f"{name} has shape {raw.shape}; expected (n,) node names")
        table = {node: k for k, node in enumerate(self.nodes)}
        unknown = sorted({str(v) for v in raw.tolist()} - table.keys())
        if unknown:
            raise InvalidInputError(
                f"{name} holds labels that are no nodes of the tree: {', '.join(unknown[:5])}",
                do=f"Nodes: {', '.join(self.nodes)}.",
            )
        return np.array([table[str(v)] for v in raw.tolist()], dtype=np.intp)


def label_tree(structure: Sequence[Any]) -> LabelTree:
    """Tree from nested lists: a name is a leaf, `{name: [children]}` an inner node.

    >>> tree = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
    >>> tree.nodes, tree.leaves
    (('non_tumor', 'tumor', 'non_viable', 'viable'), ('non_tumor', 'non_viable', 'viable'))
    """
    nodes: list[str] = []
    parents: list[int] = []

    def add(children: object, parent: int) -> None:
        where = nodes[parent] if parent >= 0 else "the root"
        if not isinstance(children, Sequence) or isinstance(children, str) or len(children) < 2:
            raise InvalidInputError(f"{where} needs a list of two or more children; got {children!r}")
        for child in children:
            inner, below = isinstance(child, Mapping), None
            if isinstance(child, Mapping):
                if len(child) != 1:
                    raise InvalidInputError(f"an inner node is {{name: [children]}} with one name; got {dict(child)!r}")
                ((child, below),) = child.items()
            if not isinstance(child, str) or not child:
                raise InvalidInputError(f"a node's name is text; got {child!r} under {where}")
            if child in nodes:
                raise InvalidInputError(f"node {child!r} appears twice in the tree")
            nodes.append(child)
            parents.append(parent)
            if inner:
                add(below, len(nodes) - 1)

    add(structure, -1)
    return LabelTree(tuple(nodes), tuple(parents))
