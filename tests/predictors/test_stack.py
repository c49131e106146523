"""The predictor `stack`: whole predictors by their scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_designs import TARGETS, TREE

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, Outcome, SurvivalOutcome
from osml.errors import InvalidInputError, RunError
from osml.evaluation.tree import node_probabilities
from osml.predictors.contract import Design
from osml.predictors.stack import fit_stack, load_stack
from osml.schema.model import Schema

N = 400


def schema(target: str, method: str, *members: str) -> Schema:
    one = {"kind": "network", "inputs": ["age"]}
    return Schema.model_validate(
        {
            "version": 1,
            "name": "stacked",
            "study": {"sampling": "cohort"},
            "cohort": {"table": "t.csv", "patient": "id"},
            "time_of_prediction": "now",
            "times": ["now"],
            "target": TARGETS[target],
            "inputs": {"age": {"kind": "number", "available": "now"}},
            "predictors": {
                **dict.fromkeys(members, one),
                "all": {"kind": "stack", "inputs": members, "method": method},
            },
            "validation": {"split": {"kind": "kfold"}, "seed": 1},
        }
    )


def design(outcome: Outcome, scores: Mapping[str, Any]) -> Design:
    names = tuple(f"P{i}" for i in range(N))
    return Design(Cohort(names, names, np.zeros(N, dtype=np.intp), {}, {}, {}, outcome), scores)


def binary(seed: int = 0) -> tuple[BinaryOutcome, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, N))
    return BinaryOutcome((rng.random(N) < 1 / (1 + np.exp(-a - b))).astype(float), "bad", "good"), a, b


def test_the_mean_is_that_of_the_log_odds() -> None:
    y, a, b = binary()
    found = fit_stack(schema("binary", "mean", "a", "b"), "all", design(y, {"a": a, "b": b}))
    np.testing.assert_allclose(found.predict(design(y, {"a": a, "b": b})).lp, (a + b) / 2, atol=1e-12)


def test_learnt_weights_find_the_halves_and_leave_noise_out() -> None:
    y, a, b = binary()
    scores = {"a": a, "b": b, "noise": np.random.default_rng(9).normal(size=N)}
    found = fit_stack(schema("binary", "logistic", *scores), "all", design(y, scores))
    weights = dict(zip(found.names, found.weights, strict=True))
    assert all(0.6 < weights[name] < 1.4 for name in ("a", "b"))
    assert 0 <= weights["noise"] < 0.3


def test_a_score_that_goes_the_wrong_way_gets_no_weight() -> None:
    y, a, b = binary()
    scores = {"a": a, "backwards": -b}
    assert fit_stack(schema("binary", "logistic", *scores), "all", design(y, scores)).weights[1] == 0


def test_a_doubled_score_hardly_changes_a_prediction() -> None:
    y, a, b = binary()
    once = fit_stack(schema("binary", "logistic", "a", "b"), "all", design(y, {"a": a, "b": b}))
    scores = {"a": a, "b": b, "c": b}
    twice = fit_stack(schema("binary", "logistic", *scores), "all", design(y, scores))
    np.testing.assert_allclose(
        twice.predict(design(y, scores)).lp, once.predict(design(y, {"a": a, "b": b})).lp, atol=0.05
    )


def test_scores_that_separate_a_small_sample_keep_finite_weights() -> None:
    y = BinaryOutcome(np.repeat([0.0, 1.0], N // 2), "bad", "good")
    perfect = np.where(y.y == 1, 1.0, -1.0)
    found = fit_stack(schema("binary", "logistic", "a", "b"), "all", design(y, {"a": perfect, "b": np.zeros(N)}))
    assert 1 < found.weights[0] < 10
    assert found.predict(design(y, {"a": perfect, "b": np.zeros(N)})).p.max() < 1 - 1e-5


def test_another_prevalence_moves_the_log_odds() -> None:
    y, a, b = binary()
    scores = {"a": a, "b": b}
    found = fit_stack(schema("binary", "logistic", "a", "b"), "all", design(y, scores))
    share = y.y.mean()
    moved = found.with_prevalence(0.05).predict(design(y, scores)).lp - found.predict(design(y, scores)).lp
    np.testing.assert_allclose(moved, np.log(0.05 / 0.95) - np.log(share / (1 - share)), atol=1e-9)


def classes(seed: int = 0) -> tuple[ClassOutcome, np.ndarray, np.ndarray]:
    """Labels, log probabilities of a sharp and of an uninformed predictor."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.5, 0.5, 0.5], N)
    leaf = np.array([rng.choice(3, p=row) for row in p])
    node = np.array([0, 2, 3])[leaf]
    node[::10] = np.where(node[::10] > 0, 1, 0)
    flat = rng.dirichlet([5, 5, 5], N)
    return ClassOutcome(node.astype(np.intp), TREE), *(np.log(node_probabilities(TREE, q)) for q in (p, flat))  # type: ignore[return-value]


def test_classes_are_pooled_and_sum_to_one() -> None:
    outcome, sharp, flat = classes()
    scores = {"sharp": sharp, "flat": flat}
    mean = fit_stack(schema("hierarchy", "mean", *scores), "all", design(outcome, scores))
    found = mean.predict(design(outcome, scores))
    leaves = found.p[:, [0, 2, 3]]
    np.testing.assert_allclose(leaves.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(found.p[:, 1], leaves[:, 1:].sum(axis=1), atol=1e-12)
    product = np.exp((sharp + flat)[:, [0, 2, 3]] / 2)
    np.testing.assert_allclose(leaves, product / product.sum(axis=1, keepdims=True), atol=1e-12)


def test_learnt_weights_of_classes_trust_the_informed_predictor() -> None:
    outcome, sharp, flat = classes()
    scores = {"sharp": sharp, "flat": flat}
    found = fit_stack(schema("hierarchy", "logistic", *scores), "all", design(outcome, scores))
    weights = dict(zip(found.names, found.weights, strict=True))
    assert 0.8 < weights["sharp"] < 1.2, "its probabilities are the true ones"
    assert weights["flat"] < 0.2


def test_survival_gets_its_baseline_from_the_combined_score() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, N))
    time = rng.exponential(10 * np.exp(-a)) + 0.01
    outcome = SurvivalOutcome(np.minimum(time, 20.0), time <= 20, "month", (6.0, 12.0))
    scores = {"a": a, "b": b}
    found = fit_stack(schema("survival", "logistic", *scores), "all", design(outcome, scores))
    weights = dict(zip(found.names, found.weights, strict=True))
    assert 0.8 < weights["a"] < 1.2
    assert weights["b"] < 0.2
    p = found.predict(design(outcome, scores)).p
    np.testing.assert_allclose(p.mean(axis=0), [(time <= h).mean() for h in (6, 12)], atol=0.04)


def test_a_stored_stack_is_the_same(tmp_path: Path) -> None:
    outcome, sharp, flat = classes()
    scores = {"sharp": sharp, "flat": flat}
    found = fit_stack(schema("hierarchy", "logistic", *scores), "all", design(outcome, scores))
    found.save(tmp_path)
    assert load_stack(tmp_path) == found
    (tmp_path / "model.json").write_text((tmp_path / "model.json").read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(RunError, match="is not a stack that this osml reads"):
        load_stack(tmp_path)


def test_a_score_that_is_missing_is_an_error() -> None:
    y, a, _ = binary()
    with pytest.raises(InvalidInputError, match="a stack needs the score of 'b'"):
        fit_stack(schema("binary", "mean", "a", "b"), "all", design(y, {"a": a}))
