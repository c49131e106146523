"""Random forest of a binary outcome: grown by scikit-learn, kept as plain arrays, read without scikit-learn.

A forest is six arrays in an .npz without pickles; equal forests give equal bytes. Sources: Breiman 2001 (Mach Learn
45:5); probability forests of Malley et al. 2012 (Methods Inf Med 51:74), whose leaves hold shares, not votes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, RunError, missing_extra
from osml.files import atomic_write
from osml.stats.inputs import design_array, fold_ids, labels
from osml.stats.separation import refuse_one_class

Float = NDArray[np.float64]
Int = NDArray[np.int32]
TREES = 500
TUNING_TREES = 100
_ARRAYS: Mapping[str, str] = {
    "feature": "<i4",
    "threshold": "<f8",
    "left": "<i4",
    "right": "<i4",
    "value": "<f8",
    "offsets": "<i8",
    "shape": "<i8",
}
_ROWS = 1 << 20  # row-tree pairs walked at once


@dataclass(frozen=True)
class Settings:
    """How deep trees grow: the two settings that decide how smooth the forest's probability is.

    max_depth : levels of splits, None without limit
    min_leaf : rows of the bootstrap sample that each leaf holds at least, each distinct row counted once
    """

    max_depth: int | None = None
    min_leaf: int = 5


# Shallow and smooth first: the first of equals is taken.
GRID = tuple(Settings(depth, leaf) for depth, leaf in product((2, 3, None), (10, 5, 1)))


@dataclass(frozen=True)
class Forest:
    """Trees one after the other: tree t holds nodes offsets[t] to offsets[t + 1], its root first.

    feature : int array (nodes,), column that the node splits; -1 in a leaf
    threshold : float array (nodes,), rows at or below it go left; 0 in a leaf
    left, right : int arrays (nodes,), positions among all nodes; in a leaf the leaf itself
    value : float array (nodes,), share of events among the training rows that reached the node
    offsets : int array (trees + 1,)
    columns : number of features
    patients : training patients
    settings : Settings
    """

    feature: Int
    threshold: Float
    left: Int
    right: Int
    value: Float
    offsets: NDArray[np.int64]
    columns: int
    patients: int
    settings: Settings

    def __post_init__(self) -> None:
        _require_trees(self)

    @property
    def trees(self) -> int:
        """Number of trees."""
        return len(self.offsets) - 1

    def share(self, x: ArrayLike) -> Float:
        """Mean over trees of the event share in the leaf that a row reaches, float array (n,), 0 and 1 included.

        Equals scikit-learn's `predict_proba`, whose trees compare features rounded to single precision; so do these.

        Parameters
        ----------
        x : float array (n, columns)
            No missing values, within single precision's range.
        """
        return self._walk(x, [None])[:, 0]

    def probability(self, x: ArrayLike) -> Float:
        """Risk of the event, float array (n,), strictly between 0 and 1: (patients * share + 1/2) / (patients + 1).

        Leaves of a forest can be pure, and then its share is 0 or 1, which has no logit. The correction is that of one
        more patient who is half an event; it keeps the order of rows, and how sure a forest can be depends on how many
        patients it has seen, not on how many trees were grown.
        """
        return _inner(self.share(x), self.patients)

    def logit(self, x: ArrayLike) -> Float:
        """log(p / (1 - p)) of `probability`, float array (n,): the scale on which a score enters other models."""
        p = self.probability(x)
        return np.log(p) - np.log1p(-p)

    def _walk(self, x: ArrayLike, depths: Sequence[int | None]) -> Float:
        """Share at each of `depths` (None: at the leaves), as if no tree had grown deeper, float array (n, depths)."""
        table = _single(x, self.columns)
        roots = self.offsets[:-1].astype(np.intp)
        out = np.empty((len(table), len(depths)))
        column = np.maximum(self.feature, 0)
        step = max(1, _ROWS // len(roots))
        for start in range(0, len(table), step):
            part = table[start : start + step]
            rows = np.arange(len(part))[:, None]
            node = np.broadcast_to(roots, (len(part), len(roots)))
            level = 0
            pending = True
            while pending:
                for k, depth in enumerate(depths):
                    if depth == level:
                        out[start : start + step, k] = self.value[node].mean(axis=1)
                below = np.where(part[rows, column[node]] <= self.threshold[node], self.left[node], self.right[node])
                pending = bool(np.any(below != node))
                node = below
                level += 1
            for k, depth in enumerate(depths):
                if depth is None or depth >= level:
                    out[start : start + step, k] = self.value[node].mean(axis=1)
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Little-endian arrays; `shape` holds columns, patients, max_depth (-1: none) and min_leaf."""
        depth = -1 if self.settings.max_depth is None else self.settings.max_depth
        shape = np.array([self.columns, self.patients, depth, self.settings.min_leaf])
        return {
            name: np.ascontiguousarray(shape if name == "shape" else getattr(self, name), dtype=kind)
            for name, kind in _ARRAYS.items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Forest:
        """Inverse of `to_arrays`; arrays that are no forest are refused."""
        if set(arrays) != set(_ARRAYS):
            raise InvalidInputError(f"a forest has the arrays {', '.join(_ARRAYS)}; got {', '.join(sorted(arrays))}")
        for name, kind in _ARRAYS.items():
            if arrays[name].dtype != np.dtype(kind) or arrays[name].ndim != 1:
                found = f"{arrays[name].dtype} with {arrays[name].ndim} dimensions"
                raise InvalidInputError(f"array {name!r} of a forest must be {kind} with one dimension, got {found}")
        if arrays["shape"].shape != (4,):
            raise InvalidInputError(f"array 'shape' of a forest has 4 entries, got {len(arrays['shape'])}")
        columns, patients, depth, leaf = arrays["shape"].tolist()
        return cls(
            **{name: arrays[name] for name in _ARRAYS if name != "shape"},
            columns=columns,
            patients=patients,
            settings=Settings(None if depth == -1 else depth, leaf),
        )

    def save(self, path: Path) -> None:
        """Write an .npz at once, without pickles or time stamps."""
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
            for name, array in self.to_arrays().items():
                member = io.BytesIO()
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
        atomic_write(path, raw.getvalue())


def load_forest(path: Path) -> Forest:
    """Inverse of `Forest.save`; a file that is no forest is refused, and nothing in it is ever executed."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Forest.from_arrays({name: archive[name] for name in archive.files})
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise RunError(f"{path} is not a forest that this osml reads: {error}") from error


def fit_forest(
    x: ArrayLike,
    y: ArrayLike,
    *,
    trees: int = TREES,
    settings: Settings | None = None,
    max_features: float | Literal["sqrt"] = "sqrt",
    groups: ArrayLike | None = None,
    seed: int | np.random.SeedSequence,
) -> Forest:
    """Grow a random forest by scikit-learn's classification trees (Gini).

    Each tree sees a bootstrap sample of patients, all rows of a patient together, and at each split a random subset of
    the features. With one row per patient this is `RandomForestClassifier`, but for the random stream.

    Parameters
    ----------
    x : float array (n, p), no missing values
    y : bool or 0/1 array (n,)
    trees : int
        More make the probability less random, not more certain. About 0.7 ms each for 75 patients.
    settings : Settings
    max_features : 'sqrt', or the share of features to look at in (0, 1]
    groups : array (n,), optional
        Patient of each row; None: each row is a patient.
    seed : int or SeedSequence

    Raises
    ------
    NotEstimableError
        One class.
    MissingExtraError
        scikit-learn is not installed.
    """
    table, target, number = _training(x, y, groups)
    return _grow(table, target, number, trees, settings or Settings(), max_features, np.random.default_rng(seed))


def tune_forest(
    x: ArrayLike,
    y: ArrayLike,
    folds: ArrayLike,
    *,
    grid: Sequence[Settings] = GRID,
    trees: int = TREES,
    tuning_trees: int = TUNING_TREES,
    max_features: float | Literal["sqrt"] = "sqrt",
    groups: ArrayLike | None = None,
    seed: int | np.random.SeedSequence,
) -> Forest:
    """Grow a forest with the settings of `grid` that have the lowest held-out log loss.

    Parameters
    ----------
    x, y, trees, max_features, groups, seed
        As in `fit_forest`.
    folds : int array (n,)
        Fold in which each row is held out. All rows of a patient must share one.
    grid : sequence of Settings
        Default: depth 2, 3 or unlimited, leaves of at least 10, 5 or 1; the first of equals is taken.
    tuning_trees : int
        Trees of the forests that are compared. One forest per leaf size and fold serves all its depths: cut at a depth
        it is a forest grown to that depth.

    Raises
    ------
    NotEstimableError
        A fold whose training rows hold one class.
    """
    table, target, number = _training(x, y, groups)
    if len(grid) == 0:
        raise InvalidInputError("grid is empty: there is nothing to choose from")
    fold = fold_ids(folds, len(target))
    if len(set(zip(number.tolist(), fold.tolist(), strict=True))) > number.max() + 1:
        raise InvalidInputError("a patient has rows in two folds", why="Its other rows would tell the held-out ones.")
    rng = np.random.default_rng(seed)
    choice, growth = rng.spawn(2)
    loss = np.zeros(len(grid))
    for leaf in dict.fromkeys(one.min_leaf for one in grid):
        here = [k for k, one in enumerate(grid) if one.min_leaf == leaf]
        depths = [grid[k].max_depth for k in here]
        deepest = None if None in depths else max(d for d in depths if d is not None)
        for k in range(int(fold.max()) + 1):
            out = fold == k
            forest = _grow(
                table[~out], target[~out], number[~out], tuning_trees, Settings(deepest, leaf), max_features, choice
            )
            p = _inner(forest._walk(table[out], depths), forest.patients)
            loss[here] -= np.log(np.where(target[out, None] > 0, p, 1.0 - p)).sum(axis=0)
    return _grow(table, target, number, trees, grid[int(np.argmin(loss))], max_features, growth)


def _training(x: ArrayLike, y: ArrayLike, groups: ArrayLike | None) -> tuple[NDArray[np.float32], Float, NDArray[Any]]:
    """Features in single precision, labels, and the number of each row's patient in order of appearance."""
    table = _single(x, None)
    target = labels(y, len(table))
    if table.shape[1] == 0:
        raise InvalidInputError("a forest needs at least one feature")
    ids = np.arange(len(table)) if groups is None else np.asarray(groups)
    if ids.shape != (len(table),):
        raise InvalidInputError(f"groups must have shape ({len(table)},), got {ids.shape}")
    _, first, position = np.unique(ids, return_index=True, return_inverse=True)
    return table, target, np.argsort(np.argsort(first))[position]


def _grow(
    x: NDArray[np.float32],
    y: Float,
    number: NDArray[Any],
    trees: int,
    settings: Settings,
    max_features: float | Literal["sqrt"],
    rng: np.random.Generator,
) -> Forest:
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise missing_extra("scikit-learn", "radiomics", "random forests") from error

    if trees < 1 or settings.min_leaf < 1 or (settings.max_depth is not None and settings.max_depth < 1):
        raise InvalidInputError(f"trees, max_depth and min_leaf must be 1 or more, got {trees} and {settings}")
    refuse_one_class(y, np.ones(len(y)))
    patients, who = np.unique(number, return_inverse=True)
    grown = []
    for _ in range(trees):
        draws = np.bincount(rng.integers(0, len(patients), len(patients)), minlength=len(patients))
        tree = DecisionTreeClassifier(
            max_depth=settings.max_depth,
            min_samples_leaf=settings.min_leaf,
            max_features=max_features,
            random_state=int(rng.integers(0, 2**31 - 1)),
        )
        grown.append(tree.fit(x, y, sample_weight=draws[who].astype(np.float64), check_input=False))
    return gather(grown, columns=x.shape[1], patients=len(patients), settings=settings)


def gather(grown: Sequence[Any], *, columns: int, patients: int, settings: Settings) -> Forest:
    """Forest of fitted scikit-learn classification trees of classes 0 and 1 (`RandomForestClassifier.estimators_`)."""
    trees = [tree.tree_ for tree in grown]
    sizes = np.array([tree.node_count for tree in trees])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    own = np.arange(offsets[-1])
    start = np.repeat(offsets[:-1], sizes)
    feature = np.concatenate([tree.feature for tree in trees])
    leaf = feature < 0
    left = np.concatenate([tree.children_left for tree in trees]) + start
    right = np.concatenate([tree.children_right for tree in trees]) + start
    counts = np.concatenate([tree.value[:, 0, :] for tree in trees])
    return Forest(
        feature=np.where(leaf, -1, feature).astype(np.int32),
        threshold=np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees])),
        left=np.where(leaf, own, left).astype(np.int32),
        right=np.where(leaf, own, right).astype(np.int32),
        value=counts[:, 1] / counts.sum(axis=1),
        offsets=offsets,
        columns=columns,
        patients=patients,
        settings=settings,
    )


def _inner(share: Float, patients: int) -> Float:
    return (patients * share + 0.5) / (patients + 1.0)


def _single(x: ArrayLike, columns: int | None) -> NDArray[np.float32]:
    table = design_array(x, "x")
    if columns is not None and table.shape[1] != columns:
        raise InvalidInputError(f"x has {table.shape[1]} columns, the forest {columns}")
    if np.abs(table).max(initial=0.0) > np.finfo(np.float32).max:
        raise InvalidInputError("x holds values beyond single precision", do="Standardise the features first.")
    return table.astype(np.float32)


def _require_trees(forest: Forest) -> None:
    """Arrays that a walk can follow: children lie behind their parent and inside its tree, so every walk ends."""
    nodes, offsets = len(forest.feature), forest.offsets
    good = (
        all(len(a) == nodes for a in (forest.threshold, forest.left, forest.right, forest.value))
        and len(offsets) > 1
        and offsets[0] == 0
        and offsets[-1] == nodes
        and bool(np.all(np.diff(offsets) > 0))
        and forest.columns > 0
        and forest.patients > 0
    )
    if good:
        own = np.arange(nodes)
        end = np.repeat(offsets[1:], np.diff(offsets))
        leaf = forest.feature < 0
        inside = (forest.left > own) & (forest.left < end) & (forest.right > own) & (forest.right < end)
        good = (
            bool(np.all(np.where(leaf, (forest.left == own) & (forest.right == own), inside)))
            and bool(np.all(forest.feature < forest.columns))
            and bool(np.all(np.isfinite(forest.threshold)))
            and bool(np.all((forest.value >= 0) & (forest.value <= 1)))
        )
    if not good:
        raise InvalidInputError("these arrays are not a forest: a node, child, share or offset is out of place")
