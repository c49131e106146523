"""Random forests: equal to scikit-learn's, readable without it, and safe to load."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from osml.errors import InvalidInputError, NotEstimableError, RunError
from osml.predictors.forest import GRID, Forest, Settings, fit_forest, gather, load_forest, tune_forest

Float = NDArray[np.float64]


def patients(n: int = 70, seed: int = 0) -> tuple[Float, Float]:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, 5)), 2)
    return x, (x[:, 0] - x[:, 1] + rng.logistic(size=n) > 0).astype(float)


@pytest.mark.parametrize("depth, leaf", [(None, 1), (2, 1), (3, 5), (None, 10)])
def test_share_is_scikit_learns_probability(depth: int | None, leaf: int) -> None:
    x, y = patients()
    peer = RandomForestClassifier(40, max_depth=depth, min_samples_leaf=leaf, random_state=3).fit(x, y)
    forest = gather(peer.estimators_, columns=5, patients=len(y), settings=Settings(depth, leaf))
    # Rows on the thresholds themselves, and next to them in double but not in single precision.
    cuts = forest.threshold[forest.feature >= 0][:200, None] * np.ones(5)
    new = np.vstack([x, cuts, np.nextafter(cuts, -np.inf), np.nextafter(cuts, np.inf), 1e6 * x[:3]])
    assert_allclose(forest.share(new), peer.predict_proba(new)[:, 1], rtol=1e-12, atol=1e-15)


def test_a_fitted_forest_is_close_to_a_random_forest_classifier() -> None:
    x, y = patients(150)
    new = patients(200, seed=1)[0]
    peer = RandomForestClassifier(300, max_depth=3, min_samples_leaf=5, random_state=0).fit(x, y)
    own = fit_forest(x, y, trees=300, settings=Settings(3, 5), seed=0).share(new)
    other = RandomForestClassifier(300, max_depth=3, min_samples_leaf=5, random_state=1).fit(x, y)
    expected = peer.predict_proba(new)[:, 1]
    chance = np.sqrt(np.mean((other.predict_proba(new)[:, 1] - expected) ** 2))
    assert np.sqrt(np.mean((own - expected) ** 2)) < 2 * chance


def test_probability_has_a_logit_and_keeps_the_order() -> None:
    x = np.repeat([[0.0], [1.0]], 20, axis=0)
    forest = fit_forest(x, np.repeat([0, 1], 20), trees=30, settings=Settings(None, 1), seed=0)
    assert forest.share([[0.0], [1.0]]).tolist() == [0.0, 1.0]
    assert_allclose(forest.probability([[0.0], [1.0]]), [0.5 / 41, 40.5 / 41], rtol=1e-12)
    assert_allclose(forest.logit([[0.0], [1.0]]), [-np.log(81), np.log(81)], rtol=1e-12)
    x, y = patients()
    forest = fit_forest(x, y, trees=30, seed=0)
    assert np.array_equal(np.argsort(forest.probability(x)), np.argsort(forest.share(x)))
    assert_allclose(1 / (1 + np.exp(-forest.logit(x))), forest.probability(x), rtol=1e-12)


def test_rows_of_a_patient_are_drawn_together() -> None:
    x, y = patients()
    once = fit_forest(x, y, trees=20, settings=Settings(None, 3), max_features=1.0, seed=4)
    twice = np.tile(np.arange(len(y)), 2)
    names = np.array([f"P{9999 - 7 * k}" for k in twice])
    double = fit_forest(
        x[twice], y[twice], trees=20, settings=Settings(None, 6), max_features=1.0, groups=names, seed=4
    )
    assert_allclose(double.share(x), once.share(x), rtol=1e-12)
    assert double.patients == once.patients == len(y)
    apart = fit_forest(x[twice], y[twice], trees=20, settings=Settings(None, 6), max_features=1.0, seed=4)
    assert not np.allclose(apart.share(x), once.share(x))


def test_the_seed_decides_everything_and_rows_do_not_depend_on_each_other() -> None:
    x, y = patients()
    a, b = fit_forest(x, y, trees=15, seed=7), fit_forest(x, y, trees=15, seed=np.random.SeedSequence(7))
    assert {k: v.tobytes() for k, v in a.to_arrays().items()} == {k: v.tobytes() for k, v in b.to_arrays().items()}
    assert a.trees == 15
    assert not np.allclose(a.share(x), fit_forest(x, y, trees=15, seed=8).share(x))
    many = np.tile(x, (3000, 1))
    assert_allclose(a.share(many)[:: len(x)], a.share(x[:1])[0], rtol=1e-12)


def test_settings_hold_in_every_tree() -> None:
    x, y = patients()
    forest = fit_forest(x, y, trees=25, settings=Settings(2, 10), seed=0)
    for start, end in zip(forest.offsets[:-1], forest.offsets[1:], strict=True):
        assert end - start <= 7
    assert forest.settings == Settings(2, 10)
    assert fit_forest(x, y, trees=5, seed=0).settings == Settings(None, 5)


def log_loss(y: Float, p: Float) -> float:
    return -float(np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)))


def checkerboard(n: int = 240) -> tuple[Float, Float]:
    """An event where both features have the same sign: no single split tells anything."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(float)


def test_tuning_grows_deep_trees_where_they_pay_and_shallow_ones_where_they_do_not() -> None:
    x, y = checkerboard()
    fold = np.arange(len(y)) % 4
    deep = tune_forest(x, y, fold, trees=30, tuning_trees=30, seed=0)
    assert deep.settings.max_depth is None
    assert deep.settings.min_leaf < 10
    noise = np.random.default_rng(5).integers(0, 2, len(y)).astype(float)
    assert tune_forest(x, noise, fold, trees=30, tuning_trees=30, seed=0).settings == GRID[0]


def test_a_cut_forest_is_a_forest_grown_to_that_depth() -> None:
    x, y = patients()
    full = fit_forest(x, y, trees=10, settings=Settings(None, 2), max_features=1.0, seed=3)
    cut = full._walk(x, [1, 3, None])
    for column, depth in enumerate((1, 3, None)):
        grown = fit_forest(x, y, trees=10, settings=Settings(depth, 2), max_features=1.0, seed=3)
        # Features that split equally well are drawn by lot, so single trees may differ.
        assert np.mean(np.abs(cut[:, column] - grown.share(x))) < (1e-12 if depth is None else 0.02)


def test_the_grid_is_judged_on_held_out_rows() -> None:
    x, y = checkerboard()
    fold = np.arange(len(y)) % 3
    grid = (Settings(1, 5), Settings(None, 5))
    losses = []
    for one in grid:
        loss = 0.0
        for k in range(3):
            forest = fit_forest(x[fold != k], y[fold != k], trees=40, settings=one, seed=k)
            loss += log_loss(y[fold == k], forest.probability(x[fold == k]))
        losses.append(loss)
    assert losses[1] < 0.8 * losses[0]
    assert tune_forest(x, y, fold, grid=grid, trees=5, tuning_trees=40, seed=0).settings == grid[1]


def test_saved_and_loaded(tmp_path: Path) -> None:
    x, y = patients()
    forest = fit_forest(x, y, trees=12, settings=Settings(3, 4), seed=0)
    forest.save(tmp_path / "a" / "forest.npz")
    again = load_forest(tmp_path / "a" / "forest.npz")
    assert again.share(x).tolist() == forest.share(x).tolist()
    assert (again.settings, again.patients, again.columns) == (Settings(3, 4), len(y), 5)
    again.save(tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "a" / "forest.npz").read_bytes()
    deep = Forest.from_arrays(fit_forest(x, y, trees=2, settings=Settings(None, 4), seed=0).to_arrays())
    assert deep.settings.max_depth is None


def damaged(arrays: dict[str, Any], name: str, position: int, value: float) -> dict[str, Any]:
    changed = arrays[name].copy()
    changed[position] = value
    return {**arrays, name: changed}


def test_arrays_that_are_no_forest_are_refused(tmp_path: Path) -> None:
    x, y = patients()
    arrays = fit_forest(x, y, trees=3, seed=0).to_arrays()
    for name, position, value in (
        ("left", 0, 0),  # a walk that never ends
        ("right", 0, 10**6),
        ("left", 0, int(arrays["offsets"][1])),  # into the next tree
        ("feature", 0, 5),
        ("threshold", 0, np.nan),
        ("value", 1, 1.5),
        ("offsets", 1, 0),
        ("shape", 1, 0),
    ):
        with pytest.raises(InvalidInputError, match="not a forest"):
            Forest.from_arrays(damaged(arrays, name, position, value))
    with pytest.raises(InvalidInputError, match="has the arrays"):
        Forest.from_arrays({k: v for k, v in arrays.items() if k != "value"})
    with pytest.raises(InvalidInputError, match="must be <f8"):
        Forest.from_arrays({**arrays, "value": arrays["value"].astype(np.float32)})

    path = tmp_path / "forest.npz"
    fit_forest(x, y, trees=3, seed=0).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match="not a forest that this osml reads"):
        load_forest(path)
    path.write_text("{}")
    with pytest.raises(RunError, match="not a forest that this osml reads"):
        load_forest(path)
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([print], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("feature.npy", member.getvalue())
    with pytest.raises(RunError, match="allow_pickle=False"):
        load_forest(path)


def test_refusals() -> None:
    x, y = patients()
    with pytest.raises(NotEstimableError):
        fit_forest(x, np.zeros(len(y)), seed=0)
    with pytest.raises(InvalidInputError, match="missing"):
        fit_forest(np.where(x > 2, np.nan, x), y, seed=0)
    with pytest.raises(InvalidInputError, match="beyond single precision"):
        fit_forest(x * 1e39, y, seed=0)
    with pytest.raises(InvalidInputError, match="at least one feature"):
        fit_forest(x[:, :0], y, seed=0)
    with pytest.raises(InvalidInputError, match="must be 1 or more"):
        fit_forest(x, y, trees=0, seed=0)
    with pytest.raises(InvalidInputError, match="groups must have shape"):
        fit_forest(x, y, groups=[1, 2], seed=0)
    with pytest.raises(InvalidInputError, match="x has 2 columns, the forest 5"):
        fit_forest(x, y, trees=2, seed=0).share(x[:, :2])
    fold = np.arange(len(y)) % 3
    with pytest.raises(InvalidInputError, match="rows in two folds"):
        tune_forest(x, y, fold, groups=np.arange(len(y)) // 2, seed=0)
    with pytest.raises(InvalidInputError, match="grid is empty"):
        tune_forest(x, y, fold, grid=(), seed=0)
    with pytest.raises(NotEstimableError):
        tune_forest(x, y, (y == 1).astype(int), trees=3, tuning_trees=3, seed=0)
