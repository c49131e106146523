from __future__ import annotations

import numpy as np
import pytest
from nets_data import DEEP, TREE
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.nets.label_tree import class_weights, decisions, flat_tree, flatten, leaf_positions, node_counts, rare_classes


def test_decisions_of_a_deep_tree() -> None:
    found = {d.name: tuple(DEEP.nodes[k] for k in d.members) for d in decisions(DEEP)}
    assert found == {"(root)": ("a", "b", "h"), "b": ("c", "d"), "d": ("e", "f", "g"), "h": ("i", "j")}
    assert [DEEP.nodes[k] for k in leaf_positions(DEEP)] == ["a", "c", "e", "f", "g", "i", "j"]


def test_every_node_is_decided_once() -> None:
    members = [k for d in decisions(DEEP) for k in d.members]
    assert sorted(members) == list(range(len(DEEP.nodes)))


def test_a_flat_tree_has_one_decision() -> None:
    (only,) = decisions(flat_tree(["x", "y", "z"]))
    assert only.members == (0, 1, 2)
    assert flatten(TREE).nodes == ("non_tumor", "non_viable", "viable")


def test_partial_labels_count_up_to_where_they_stop() -> None:
    # 4 non-tumour, 2 tumour of unknown kind, 3 non-viable, 1 viable.
    labels = TREE.positions(["non_tumor"] * 4 + ["tumor"] * 2 + ["non_viable"] * 3 + ["viable"])
    assert_array_equal(node_counts(TREE, labels), [4, 6, 3, 1])
    # Root: 1/4 and 1/6 over their mean 5/24; below: 1/3 and 1 over their mean 2/3.
    assert_allclose(class_weights(TREE, labels), [1.2, 0.8, 0.5, 1.5], rtol=1e-12)


def test_a_class_without_rows_has_weight_zero_and_is_left_out_of_the_mean() -> None:
    weights = class_weights(flat_tree(["a", "b", "c"]), np.array([0, 0, 0, 1]))
    assert_allclose(weights, [0.5, 1.5, 0.0], rtol=1e-12)


def test_weights_of_the_histology_tiles() -> None:
    # 536, 263 and 345 tiles: beta of "non-tumour or tumour" is 2 * (608, 536) / 1144.
    labels = TREE.positions(["non_tumor"] * 536 + ["non_viable"] * 263 + ["viable"] * 345)
    assert_allclose(class_weights(TREE, labels)[:2], [2 * 608 / 1144, 2 * 536 / 1144], rtol=1e-12)
    assert_allclose(class_weights(TREE, labels)[2:], [2 * 345 / 608, 2 * 263 / 608], rtol=1e-12)


def test_rare_classes_are_named() -> None:
    labels = TREE.positions(["non_tumor"] * 12 + ["viable"] * 9)
    assert rare_classes(TREE, labels) == (("tumor", 9), ("non_viable", 0), ("viable", 9))


def test_labels_outside_the_tree_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"0\.\.4; the tree has 4 nodes"):
        node_counts(TREE, np.array([0, 4]))
