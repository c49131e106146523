import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError
from osml.evaluation.multiclass import multiclass
from osml.evaluation.tree import hierarchical_scores, node_probabilities
from osml.stats.tree import label_tree

TREE = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
DEEP = label_tree(["a", {"b": ["c", {"d": ["e", "f", "g"]}]}, {"h": ["i", "j"]}])


def ancestors(tree, name):
    k, out = tree.nodes.index(name), set()
    while k >= 0:
        out.add(tree.nodes[k])
        k = tree.parents[k]
    return out


def test_structure():
    assert TREE.parents == (-1, -1, 1, 1)
    assert DEEP.leaves == ("a", "c", "e", "f", "g", "i", "j")
    assert DEEP.inner == ("b", "d", "h")
    assert [n for n, on in zip(DEEP.nodes, DEEP.lineage[DEEP.nodes.index("f")], strict=True) if on] == ["b", "d", "f"]


def test_by_hand():
    # Sets: {tumor, viable} thrice over; the errors share `tumor` or nothing.
    found = hierarchical_scores(TREE, ["viable", "viable", "non_tumor"], ["viable", "non_viable", "viable"])
    assert found.precision == pytest.approx(3 / 6)
    assert found.recall == pytest.approx(3 / 5)
    assert found.f1 == pytest.approx(6 / 11)
    assert found.leaf_accuracy == pytest.approx(1 / 3)
    assert found.node_precision == pytest.approx([np.nan, 2 / 3, 0, 1 / 2], nan_ok=True)
    assert found.node_recall == pytest.approx([0, 1, np.nan, 1 / 2], nan_ok=True)
    assert found.node_support.tolist() == [1, 2, 0, 2]


def test_partial_label_says_nothing_about_what_lies_below():
    right = hierarchical_scores(TREE, ["tumor", "viable"], ["viable", "viable"])
    other = hierarchical_scores(TREE, ["tumor", "viable"], ["non_viable", "viable"])
    assert right.f1 == other.f1 == 1.0
    assert right.partial == 1
    assert right.leaf_accuracy == 1.0
    wrong = hierarchical_scores(TREE, ["tumor", "viable"], ["non_tumor", "viable"])
    assert (wrong.precision, wrong.recall) == pytest.approx((2 / 3, 2 / 3))
    assert hierarchical_scores(TREE, ["tumor"], ["tumor"]).leaf_accuracy is None


def test_early_stopping_prediction_costs_recall_only():
    found = hierarchical_scores(TREE, ["viable"], ["tumor"])
    assert (found.precision, found.recall) == (1.0, 0.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DEEP.leaves), st.sampled_from(DEEP.nodes)), min_size=1, max_size=20))
def test_sets_of_ancestors(pairs):
    y, guess = zip(*pairs, strict=True)
    found = hierarchical_scores(DEEP, y, guess)
    sets = [(ancestors(DEEP, t), ancestors(DEEP, g)) for t, g in pairs]
    hit = sum(len(t & g) for t, g in sets)
    assert found.precision == pytest.approx(hit / sum(len(g) for _, g in sets))
    assert found.recall == pytest.approx(hit / sum(len(t) for t, _ in sets))
    assert found.f1 == pytest.approx(2 * hit / sum(len(t) + len(g) for t, g in sets))
    assert found.partial == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_flat_tree_gives_accuracy(pairs):
    flat = label_tree(["x", "y", "z"])
    y, guess = np.array(pairs).T
    found = hierarchical_scores(flat, np.array(flat.nodes)[y], np.array(flat.nodes)[guess])
    accuracy = multiclass(y, np.eye(3)[guess], flat.nodes).accuracy
    assert found.precision == found.recall == pytest.approx(accuracy)
    assert found.leaf_accuracy == pytest.approx(accuracy)


def test_node_probabilities_sum_their_leaves():
    p = np.random.default_rng(0).dirichlet(np.ones(7), size=5)
    nodes = node_probabilities(DEEP, p)
    column = {name: nodes[:, k] for k, name in enumerate(DEEP.nodes)}
    np.testing.assert_allclose(column["d"], column["e"] + column["f"] + column["g"])
    np.testing.assert_allclose(column["b"], column["c"] + column["d"])
    np.testing.assert_allclose(column["a"] + column["b"] + column["h"], 1)
    with pytest.raises(InvalidInputError, match="shape"):
        node_probabilities(DEEP, p[:, :3])


@pytest.mark.parametrize(
    "bad",
    [
        ["only"],
        "text",
        ["a", {"b": ["c"]}],
        ["a", {"b": ["c", "a"]}],
        ["a", {"b": ["c", "d"], "e": ["f", "g"]}],
        ["a", 3],
        [],
        ["a", {"b": None}],
    ],
)
def test_bad_trees_are_refused(bad):
    with pytest.raises(InvalidInputError):
        label_tree(bad)


def test_unknown_labels_are_refused():
    with pytest.raises(InvalidInputError, match="mixed"):
        hierarchical_scores(TREE, ["mixed"], ["viable"])
    with pytest.raises(InvalidInputError, match="2 labels"):
        hierarchical_scores(TREE, ["viable", "tumor"], ["viable"])
    with pytest.raises(InvalidInputError, match="nan"):
        hierarchical_scores(TREE, ["viable", float("nan")], ["viable", "viable"])
