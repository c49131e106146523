"""A small cohort for networks: images as vectors (several or none per row), a table with gaps, a tree of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from osml.nets.batches import Stores, column_store, store
from osml.nets.recipe import ClassTarget, Modality, NetworkRecipe
from osml.stats.tree import LabelTree, label_tree

TREE = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
DEEP = label_tree(["a", {"b": ["c", {"d": ["e", "f", "g"]}]}, {"h": ["i", "j"]}])


@dataclass(frozen=True)
class Cohort:
    """Rows with their label position, data source and the two modalities of a network."""

    n: int
    node: np.ndarray
    source: Stores
    image: Modality
    table: Modality

    def recipe(self, tree: LabelTree = TREE, **changes: object) -> NetworkRecipe:
        """A small network over both modalities."""
        base = NetworkRecipe((self.image, self.table), ClassTarget(tree), width=16)
        return replace(base, **changes)


def make_cohort(n: int = 60, *, gaps: bool = True, seed: int = 0) -> Cohort:
    """Labels that show in both modalities; with gaps every sixth row lacks the image and every seventh the table."""
    rng = np.random.default_rng(seed)
    leaves = [TREE.nodes.index(name) for name in TREE.leaves]
    node = np.array(leaves)[rng.integers(0, 3, n)]
    per_row = rng.integers(1, 4, n)
    columns = np.stack([node == 0, node == 3, rng.normal(size=n)], axis=1) + 0.5 * rng.normal(size=(n, 3))
    if gaps:
        per_row[::6] = 0
        columns[::7] = np.nan
        columns[1::9, 0] = np.nan
    row = np.repeat(np.arange(n), per_row)
    images = rng.normal(size=(len(row), 8)).astype(np.float32)
    images[:, 0] += 2.0 * (node[row] == 2)
    images[:, 1] += 2.0 * (node[row] == 3)
    source = Stores(
        {"image": store(torch.as_tensor(images), row, n), "table": column_store(columns.astype(np.float32))}
    )
    table = Modality("table", "tabular", 3, start=(0.3, 0.3, 0.0), indicators=((0,), (1,), (2,)))
    return Cohort(n, node.astype(np.intp), source, Modality("image", "embedding", 8), table)
