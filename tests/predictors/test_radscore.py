"""The Rad-score: chosen on training patients only, saved without loss, honest about noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort, FeatureTable, SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.discrimination import auc
from osml.predictors.contract import Design
from osml.predictors.radscore import FittedRadscore, RadscoreRecipe, load_radscore
from osml.predictors.radscore_fit import fit_radscore, regions_of
from osml.predictors.selection import SelectionRecipe

REGIONS = ("tumour", "0-2mm")
FEATURES = 12


def cohort(n: int = 80, effect: float = 1.6, seed: int = 0, survival: bool = False, site: bool = False) -> Cohort:
    """Features of two regions; the first two of the ring carry the outcome."""
    rng = np.random.default_rng(seed)
    columns = tuple(f"t2|{region}|original_glcm_F{j}" for region in REGIONS for j in range(FEATURES))
    units = np.random.default_rng(99)  # the same in every cohort
    z = rng.normal(size=(n, len(columns)))
    x = z * units.uniform(0.1, 100, len(columns)) + units.uniform(-50, 50, len(columns))
    eta = effect * (z[:, FEATURES] - z[:, FEATURES + 1])
    sites = tuple("AB"[i % 2] for i in range(n))
    if site:
        x = x + np.where(np.array(sites) == "B", 3.0, 0.0)[:, None] * x.std(axis=0)
    readings = x[:, :, None] + 0.05 * x.std(axis=0)[None, :, None] * rng.normal(size=(n, len(columns), 1))
    outcome: Any
    if survival:
        time = rng.exponential(np.exp(-eta) * 20) + 0.01
        outcome = SurvivalOutcome(np.minimum(time, 40.0), time <= 40.0, "month", (12.0, 24.0))
    else:
        outcome = BinaryOutcome((rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float), "poor", "good")
    names = tuple(f"P{i:03d}" for i in range(n))
    table = FeatureTable(columns, x, readings)
    keys = {"centre": sites} if site else {}
    return Cohort(names, names, np.zeros(n, dtype=np.intp), {}, {}, keys, outcome, features={"rad": table})


def recipe(
    region: str = "best", score: Literal["linear", "forest"] = "linear", site: str = "", **selection: Any
) -> Any:
    return RadscoreRecipe("radscore", "Rad-score", "rad", region, score, SelectionRecipe(**selection), 5, site)


def fit(data: Cohort, **settings: Any) -> FittedRadscore:
    return fit_radscore(recipe(**settings), Design(data), np.random.SeedSequence(5))


def changed(data: Cohort, x: NDArray[np.float64]) -> Cohort:
    return replace(data, features={"rad": replace(data.features["rad"], x=x)})


def test_the_planted_region_and_features_are_found() -> None:
    data = cohort()
    fitted = fit(data)
    assert fitted.region == "0-2mm"
    assert {"t2|0-2mm|original_glcm_F0", "t2|0-2mm|original_glcm_F1"} <= set(fitted.columns)
    assert [row.region for row in fitted.regions] == list(REGIONS)
    assert fitted.regions[1].discrimination > fitted.regions[0].discrimination + 0.2
    new = cohort(seed=1)
    assert isinstance(new.outcome, BinaryOutcome)
    assert auc(new.outcome.y, fitted.predict(Design(new)).lp) > 0.75


@pytest.mark.parametrize("score", ["linear", "forest"])
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, score: Literal["linear", "forest"]) -> None:
    data = cohort()
    fitted = fit(data, region="0-2mm", score=score)
    fitted.save(tmp_path)
    again = load_radscore(tmp_path)
    new = cohort(seed=2).without_outcome()
    assert np.array_equal(again.predict(Design(new)).p, fitted.predict(Design(new)).p)
    assert np.array_equal(again.predict(Design(new)).lp, fitted.predict(Design(new)).lp)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == ({"model.json", "forest.npz"} if score == "forest" else {"model.json"})
    fitted.save(tmp_path / "again")
    assert all((tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_the_score_is_measured_from_the_average_training_patient() -> None:
    data = cohort()
    fitted = fit(data, region="0-2mm")
    table = data.features["rad"]
    x = table.x.copy()
    x[:, [table.columns.index(name) for name in fitted.columns]] = fitted.centre
    mean = changed(data, x)
    assert fitted.predict(Design(mean)).lp == pytest.approx(0.0, abs=1e-9)


def test_probabilities_are_the_logistic_of_score_and_intercept() -> None:
    fitted = fit(cohort(), region="0-2mm")
    found = fitted.predict(Design(cohort(seed=3)))
    assert found.p[:, 0] == pytest.approx(1 / (1 + np.exp(-(found.lp + fitted.model.intercept))), rel=1e-12)


def test_noise_may_leave_no_feature_and_then_everybody_has_the_same_score() -> None:
    cohorts = (cohort(effect=0.0, seed=seed) for seed in range(20))
    fits = ((one, fit(one, region="tumour", mrmr=3, lasso="1se")) for one in cohorts)
    data, fitted = next((one, found) for one, found in fits if not found.columns)
    found = fitted.predict(Design(data))
    assert fitted.columns == ()
    assert isinstance(data.outcome, BinaryOutcome)
    assert np.all(found.lp == 0.0)
    assert found.p[:, 0] == pytest.approx(data.outcome.y.mean(), rel=1e-6)


def test_survival_has_risks_that_rise_with_time() -> None:
    data = cohort(survival=True)
    fitted = fit(data)
    found = fitted.predict(Design(cohort(survival=True, seed=4)))
    assert found.columns == ("12 month", "24 month")
    assert np.all(found.p[:, 1] >= found.p[:, 0])
    assert fitted.region == "0-2mm"


def test_a_feature_that_does_not_exist_stands_at_the_mean_and_is_flagged() -> None:
    data = cohort()
    fitted = fit(data, region="0-2mm")
    new = cohort(seed=6)
    x = new.features["rad"].x.copy()
    name = fitted.columns[0]
    x[3, new.features["rad"].columns.index(name)] = np.nan
    found = fitted.predict(Design(changed(new, x)))
    assert [(f.unit, f.input) for f in found.flags if f.code == "imputed"] == [("P003", name)]
    assert np.all(np.isfinite(found.p))


def test_an_unusual_feature_is_flagged_with_its_distance() -> None:
    data = cohort()
    fitted = fit(data, region="0-2mm")
    x = data.features["rad"].x.copy()
    column = data.features["rad"].columns.index(fitted.columns[0])
    x[5, column] = fitted.centre[0] + 9 * fitted.scale[0]
    found = [f for f in fitted.predict(Design(changed(data, x))).flags if f.code == "extrapolated"]
    far = {(f.unit, f.input): f.value for f in found}
    assert far["P005", fitted.columns[0]] == pytest.approx(9.0, rel=1e-9)
    assert all(value is not None and abs(value) > 2.5 for value in far.values())


def test_unstable_features_do_not_reach_the_score() -> None:
    data = cohort()
    table = data.features["rad"]
    readings = table.readings
    assert readings is not None
    rng = np.random.default_rng(0)
    worst = table.columns.index("t2|0-2mm|original_glcm_F0")
    noisy = readings.copy()
    noisy[:, worst, 0] = rng.permutation(noisy[:, worst, 0])
    shaken = replace(data, features={"rad": replace(table, readings=noisy)})
    fitted = fit(shaken, region="0-2mm", icc="2,1")
    assert table.columns[worst] not in fitted.columns
    assert table.columns[worst] in fit(data, region="0-2mm", icc="2,1").columns


def test_sites_are_harmonised_inside_training_and_an_unseen_one_is_refused() -> None:
    data = cohort(site=True)
    fitted = fit(data, region="0-2mm", site="centre", icc="2,1")
    new = cohort(site=True, seed=7)
    assert isinstance(new.outcome, BinaryOutcome)
    assert auc(new.outcome.y, fitted.predict(Design(new)).lp) > 0.7
    elsewhere = replace(new, keys={"centre": ("C",) * len(new)})
    with pytest.raises(InvalidInputError, match="no training patient came from batch C"):
        fitted.predict(Design(elsewhere))


def test_rows_do_not_depend_on_each_other() -> None:
    data = cohort()
    fitted = fit(data)
    whole = fitted.predict(Design(data))
    alone = fitted.predict(Design(data.take(np.array([7], dtype=np.intp))))
    assert alone.lp[0] == whole.lp[7]


def test_the_same_patients_and_seed_give_the_same_score() -> None:
    data = cohort()
    first, second = (fit(data, region="0-2mm", score="forest") for _ in range(2))
    assert np.array_equal(first.predict(Design(data)).p, second.predict(Design(data)).p)


def test_what_a_score_cannot_be_made_from_is_named() -> None:
    data = cohort()
    with pytest.raises(InvalidInputError, match="no feature of region 'rind'; regions: tumour, 0-2mm"):
        fit(data, region="rind")
    with pytest.raises(NotEstimableError, match="without outcomes"):
        fit(data.without_outcome())
    fitted = fit(data, region="tumour")
    bare = replace(data, features={})
    with pytest.raises(InvalidInputError, match="needs the features of 'rad'"):
        fitted.predict(Design(bare))
    if fitted.columns:
        other = replace(data, features={"rad": FeatureTable(("t2|tumour|other",), np.ones((len(data), 1)))})
        with pytest.raises(InvalidInputError, match="were not computed"):
            fitted.predict(Design(other))


def test_regions_are_read_from_the_columns_in_their_order() -> None:
    assert regions_of(cohort(n=5).features["rad"]) == REGIONS


def test_one_extreme_patient_moves_the_score_no_further_than_three_sd() -> None:
    data = cohort()
    fitted = fit(data, region="0-2mm")
    table = data.features["rad"]
    columns = [table.columns.index(name) for name in fitted.columns]
    near, far = table.x.copy(), table.x.copy()
    sign = np.sign(fitted.model.coef)
    near[0, columns] = np.where(sign > 0, fitted.upper, fitted.lower)
    far[0, columns] = fitted.centre + 1000 * sign * fitted.scale
    ends = [fitted.predict(Design(changed(data, x))).lp[0] for x in (near, far)]
    assert ends[0] == ends[1]
    assert ends[0] > fitted.predict(Design(data)).lp.max() - 1e-9
