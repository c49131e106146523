"""The chain of feature selection: what each step removes, what the score is, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError
from osml.predictors.selection import Selection, SelectionRecipe, select
from osml.stats.icc import icc, icc_features
from osml.stats.lasso import lasso_path
from osml.stats.lasso_cox import lasso_cox_path
from osml.stats.mrmr import f_statistic, mrmr

Float = NDArray[np.float64]
N = 90


def features(seed: int = 0, p: int = 30) -> Float:
    """Five factors behind p features, in units as far apart as radiomics'."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 5)) @ rng.normal(size=(5, p)) + rng.normal(size=(N, p))
    return x * rng.lognormal(0, 5, p) + rng.normal(size=p)


def binary(x: Float, seed: int = 0) -> BinaryOutcome:
    rng = np.random.default_rng(seed + 100)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return BinaryOutcome((z[:, 3] - z[:, 7] + rng.logistic(size=N) > 0.3).astype(float), "bad", "good")


def survival(x: Float, seed: int = 0) -> SurvivalOutcome:
    rng = np.random.default_rng(seed + 200)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    time = np.ceil(12 * rng.exponential(np.exp(z[:, 7] - z[:, 3])))
    return SurvivalOutcome(time, rng.random(N) < 0.7, "month", (12.0,))


def run(x: Float, outcome: Any, recipe: SelectionRecipe | None = None, **options: Any) -> Selection:
    return select(
        x,
        outcome,
        recipe or SelectionRecipe(mrmr=8),
        groups=options.pop("groups", np.arange(len(x))),
        seed=options.pop("seed", 1),
        **options,
    )


def kept(found: Selection) -> dict[str, tuple[int, ...]]:
    return {step.name: step.kept for step in found.steps}


def test_each_step_removes_what_it_is_for() -> None:
    x = features()
    outcome = binary(x)
    rng = np.random.default_rng(9)
    x[4, 11] = np.nan  # a texture that one patient does not have
    x[:, 12] = 1e6 * (1 + 1e-12 * rng.normal(size=N))  # nothing but rounding
    x[:, 13] = 5.0
    second = np.full_like(x, np.nan)
    second[:30] = x[:30] + 0.1 * x.std(axis=0) * rng.normal(size=(30, 30))
    second[:30, 14] = rng.permutation(x[:30, 14])  # the second reader sees something else
    second[7, 15] = np.nan  # exists in one reading only
    x[:, 16] = np.exp(3 * (x[:, 3] - x[:, 3].mean()) / x[:, 3].std())  # ranks patients as column 3 does
    second[:30, 16] = x[:30, 16] * rng.lognormal(0, 0.3, 30)
    second[:30, 3] = x[:30, 3]
    found = run(x, outcome, SelectionRecipe(icc="2,1", mrmr=8), readers=second)
    left = kept(found)
    assert list(left) == ["candidates", "complete", "variance", "stability", "correlation", "mrmr", "lasso"]
    assert left["candidates"] == tuple(range(30))
    assert set(left["candidates"]) - set(left["complete"]) == {11}
    assert set(left["complete"]) - set(left["variance"]) == {12, 13}
    assert {14, 15} <= set(left["variance"]) - set(left["stability"])
    assert {3, 16} <= set(left["stability"])
    assert set(left["correlation"]) & {3, 16} == {3}
    assert len(left["mrmr"]) == 8
    assert set(left["mrmr"]) <= set(left["correlation"])
    assert set(left["lasso"]) <= set(left["mrmr"])
    assert found.columns == left["lasso"] == tuple(sorted(left["lasso"]))
    assert found.icc is not None
    usable = [j for j in left["variance"] if j != 15]
    assert_allclose(found.icc[usable], icc_features(x[:30][:, usable], second[:30][:, usable], "2,1").value)
    assert np.isnan(found.icc[[11, 12, 13, 15]]).all()
    assert found.reread == 30


def test_a_correlated_pair_keeps_the_more_stable_or_else_the_more_relevant() -> None:
    x = features()
    outcome = binary(x)
    rng = np.random.default_rng(4)
    x[:, 20] = x[:, 3] + 0.2 * x[:, 3].std() * rng.normal(size=N)
    worth = f_statistic(x, outcome.y)
    assert worth[3] > worth[20]
    assert set(kept(run(x, outcome))["correlation"]) & {3, 20} == {3}
    noise = np.full(30, 0.05)
    noise[3] = 0.3
    again = x + noise * x.std(axis=0) * rng.normal(size=x.shape)
    found = run(x, outcome, SelectionRecipe(icc="3,1", mrmr=8), readers=again)
    assert set(kept(found)["correlation"]) & {3, 20} == {20}
    ignored = run(x, outcome, SelectionRecipe(mrmr=8), readers=again)
    assert "stability" not in kept(ignored)
    assert ignored.icc is None
    assert set(kept(ignored)["correlation"]) & {3, 20} == {3}


def test_the_score_is_the_lasso_on_the_mrmr_features() -> None:
    x = features()
    outcome = binary(x)
    found = run(x, outcome)
    chosen = list(found.path.columns)
    survivors = list(kept(found)["correlation"])
    order = mrmr(x[:, survivors], f_statistic(x[:, survivors], outcome.y), 8).columns
    assert chosen == [survivors[j] for j in order]
    path = lasso_path(x[:, chosen], outcome.y, "binomial", found.path.lambdas)
    assert_allclose(found.score(x), path.lp(x[:, chosen])[:, found.path.chosen], rtol=1e-6, atol=1e-7)
    assert found.path.lambda_min == found.path.lambdas[found.path.chosen]
    assert_allclose(found.centre, x[:, list(found.columns)].mean(axis=0))
    assert_allclose(found.scale, x[:, list(found.columns)].std(axis=0))
    places = [chosen.index(j) for j in found.columns]
    assert_allclose(found.coefficients, found.path.coefficients[found.path.chosen][places])
    assert np.count_nonzero(found.path.coefficients[0]) == 0
    assert {3, 7} <= set(found.columns)
    assert_allclose(found.standardised(x).std(axis=0), 1.0)


def test_a_survival_outcome_goes_through_the_cox_lasso() -> None:
    x = features()
    outcome = survival(x)
    found = run(x, outcome, SelectionRecipe(mrmr=8, lasso="1se"))
    chosen = list(found.path.columns)
    path = lasso_cox_path(x[:, chosen], outcome.time, outcome.event, found.path.lambdas)
    lp = x[:, chosen] @ path.coefs[found.path.chosen]
    assert_allclose(found.score(x), lp - lp.mean(), rtol=1e-5, atol=1e-7)
    assert found.intercept == 0.0
    assert found.path.lambda_1se == found.path.lambdas[found.path.chosen]
    assert found.path.lambda_1se >= found.path.lambda_min
    assert {3, 7} <= set(found.columns)
    assert found.coefficients[found.columns.index(3)] > 0 > found.coefficients[found.columns.index(7)]


def test_units_and_the_order_of_columns_do_not_matter() -> None:
    x = features()
    outcome = binary(x)
    found = run(x, outcome)
    scaled = run(x * 7.0 - 3.0, outcome)
    assert scaled.columns == found.columns
    assert_allclose(scaled.score(x * 7.0 - 3.0), found.score(x), rtol=1e-6)
    order = np.random.default_rng(0).permutation(30)
    shuffled = run(x[:, order], outcome)
    assert {int(order[j]) for j in shuffled.columns} == set(found.columns)
    assert_allclose(shuffled.score(x[:, order]), found.score(x), rtol=1e-6)


def test_rows_of_a_patient_share_an_inner_fold() -> None:
    x = features()
    outcome = binary(x)
    twice = np.tile(np.arange(N), 2)
    once = run(x, outcome)
    names = np.array([f"P{9999 - 7 * k}" for k in range(N)])
    double = run(x[twice], outcome.take(twice), groups=names[twice])
    # Two copies of everybody, copies together: the same folds, the same means, the same held-out deviance.
    assert kept(double) == kept(once)
    assert_allclose(double.path.deviance, once.path.deviance, rtol=1e-7)
    leaky = run(x[twice], outcome.take(twice), groups=np.arange(2 * N))
    assert leaky.path.deviance[-1] < 0.9 * once.path.deviance[-1]


def test_only_the_inner_folds_are_random() -> None:
    x = features()
    outcome = binary(x)
    a, b = run(x, outcome, seed=np.random.SeedSequence(5)), run(x, outcome, seed=np.random.SeedSequence(5))
    assert a.path.deviance.tolist() == b.path.deviance.tolist()
    assert a.coefficients.tolist() == b.coefficients.tolist()
    c = run(x, outcome, seed=6)
    assert c.path.columns == a.path.columns
    assert_allclose(c.path.coefficients, a.path.coefficients)
    assert not np.allclose(c.path.deviance, a.path.deviance)


def test_without_signal_the_score_may_be_the_intercept() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, 30))
    outcome = BinaryOutcome((np.arange(N) % 3 == 0).astype(float), "bad", "good")
    found = run(x, outcome, SelectionRecipe(lasso="1se", mrmr=5))
    assert found.columns == ()
    assert found.usable(x[:4]).all()
    assert_allclose(found.score(x[:4]), np.log((1 / 3) / (2 / 3)), rtol=1e-9)


def test_usable_looks_at_selected_features_only() -> None:
    x = features()
    found = run(x, binary(x))
    new = x[:4].copy()
    new[0, found.columns[0]] = np.nan
    other = next(j for j in range(30) if j not in found.columns)
    new[1, other] = np.nan
    new[2, found.columns[-1]] = np.inf
    assert found.usable(new).tolist() == [False, True, False, True]
    assert np.isnan(found.score(new)[0])
    assert_allclose(found.score(new)[[1, 3]], found.score(x[:4])[[1, 3]])
    with pytest.raises(InvalidInputError, match=r"shape \(rows, 30\)"):
        found.usable(new[:, :5])


def test_the_path_names_its_features() -> None:
    x = features()
    found = run(x, binary(x))
    data = found.path.to_dict([f"f{j}" for j in range(30)])
    assert data["columns"] == [f"f{j}" for j in found.path.columns]
    assert len(data["coefficients"]) == len(data["lambdas"]) == len(data["deviance"]) == len(data["deviance_se"])
    assert len(data["coefficients"][0]) == 8
    assert data["lambdas"][data["chosen"]] == data["lambda_min"]


def test_refusals() -> None:
    x = features()
    outcome = binary(x)
    stable = SelectionRecipe(icc="2,1")
    with pytest.raises(InvalidInputError, match="no second reading"):
        run(x, outcome, stable)
    few = np.full_like(x, np.nan)
    few[:9] = x[:9]
    with pytest.raises(NotEstimableError, match="9 of 90 training patients were read again; an ICC needs 10"):
        run(x, outcome, stable, readers=few)
    with pytest.raises(NotEstimableError, match="5 of 45 training patients"):
        run(x, outcome, stable, readers=few, groups=np.arange(N) // 2)
    strangers = np.random.default_rng(0).normal(size=x.shape)
    with pytest.raises(NotEstimableError, match=r"after step 'stability': no feature reaches ICC\(2,1\) 0.75 in 90"):
        run(x, outcome, stable, readers=strangers)
    with pytest.raises(InvalidInputError, match="readings have shape"):
        run(x, outcome, stable, readers=x[:, :3])
    with pytest.raises(NotEstimableError, match="after step 'complete'"):
        run(np.where(np.arange(N)[:, None] == 5, np.nan, x), outcome)
    with pytest.raises(NotEstimableError, match="after step 'variance'"):
        run(np.ones((N, 3)), outcome)
    with pytest.raises(NotEstimableError, match="after step 'candidates'"):
        run(x[:, :0], outcome)
    with pytest.raises(InvalidInputError, match=r"2 features hold infinite values \(columns \[1, 4\]\)"):
        run(np.where(np.isin(np.arange(30), [1, 4]), np.inf, x), outcome)
    with pytest.raises(InvalidInputError, match="90 rows of features, 50 outcomes"):
        run(x, outcome.take(np.arange(50)))
    with pytest.raises(NotEstimableError, match="90 events among 90 patients"):
        run(x, replace(outcome, y=np.ones(N)))


def test_several_readings_are_raters_of_one_icc() -> None:
    x = features()
    outcome = binary(x)
    noise = np.random.default_rng(1).normal(size=(N, 30, 3))
    again = x[:, :, None] + 0.2 * x.std(axis=0)[:, None] * noise
    flat = run(x, outcome, SelectionRecipe(icc="2,1"), readers=again[:, :, 0])
    one = run(x, outcome, SelectionRecipe(icc="2,1"), readers=again[:, :, :1])
    assert flat.icc is not None
    assert one.icc is not None
    assert_allclose(flat.icc, one.icc, rtol=1e-12)
    again[40:, :, 1] = np.nan  # not read the third time: these patients have no full set of readings
    found = run(x, outcome, SelectionRecipe(icc="2,1"), readers=again)
    assert found.reread == 40
    assert found.icc is not None
    for j in (0, 17):
        expected = icc(np.column_stack([x[:40, j], again[:40, j]]), "2,1").value
        assert found.icc[j] == pytest.approx(expected, rel=1e-9)
