"""Rad-scores behind the door: exact contributions, golden cases of every link, and which sites are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from osml.cohort.cohort import Cohort, FeatureTable
from osml.errors import VerificationError
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.predictors.forest import fit_forest
from osml.predictors.radscore import FittedRadscore, RadscoreRecipe
from osml.predictors.selection import SelectionRecipe
from osml.schema.model import Schema
from osml.serving.form import SITE, fields, sites
from osml.serving.golden import golden, replay
from osml.serving.scores import explain_score, feature_label, score_curves
from osml.stats.combat import fit_combat
from osml.stats.terms import Linear, LinearModel

SCHEMA = Schema.model_validate(
    {
        "version": 1,
        "name": "scores",
        "study": {"sampling": "cohort"},
        "cohort": {"table": "t.csv", "patient": "id", "site": "centre"},
        "time_of_prediction": "visit",
        "times": ["visit"],
        "target": {"kind": "binary", "column": "y", "positive": "yes"},
        "inputs": {
            "t1": {"kind": "volume", "label": "T1", "mask": {"column": "m"}, "available": "visit"},
            "rad": {"kind": "radiomics", "of": "t1", "harmonise": "combat"},
        },
        "predictors": {"score": {"kind": "radscore", "inputs": ["rad"]}},
        "validation": {"split": {"kind": "kfold"}, "seed": 1},
    }
)


def features(n: int, columns: int, seed: int = 2) -> tuple[tuple[str, ...], Any]:
    rng = np.random.default_rng(seed)
    names = tuple(f"t1|tumour|original_firstorder_F{j}" for j in range(columns))
    return names, rng.normal(5, 2, (n, columns))


def radscore(columns: int = 3, *, forest: bool = False, harmonised: bool = False, horizons: bool = False) -> Any:
    """A score of made-up patients, and a cohort of them."""
    names, x = features(60, columns)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - centre) / scale
    site = np.array(["north", "south", "west"])[np.arange(60) % 3]
    recipe = RadscoreRecipe(
        "score", "Rad-score", "rad", "best", "forest" if forest else "linear", SelectionRecipe(), 5,
        "centre" if harmonised else "",
    )  # fmt: skip
    model = LinearModel((), np.empty(0), -0.4)
    if not forest:
        model = LinearModel(tuple(map(Linear, names)), np.arange(1.0, columns + 1) / 4, -0.4)
    y = (z[:, 0] + z[:, 1] * z[:, 2] > 0).astype(float)
    fitted = FittedRadscore(
        recipe=recipe,
        region="tumour",
        columns=names,
        centre=centre,
        scale=scale,
        lower=centre - 3 * scale,
        upper=centre + 3 * scale,
        model=model,
        forest=fit_forest(z, y, trees=30, seed=1) if forest else None,
        combat=fit_combat(x, site) if harmonised else None,
        event="yes",
        horizons=(6.0, 12.0) if horizons else (),
        time_unit="month" if horizons else "",
        survival=(0.9, 0.8) if horizons else (),
    )  # fmt: skip
    units = tuple(map(str, range(60)))
    keys = {"centre": tuple(site)}
    table = FeatureTable(names, x)
    cohort = Cohort(units, units, np.zeros(60, dtype=np.intp), {}, {}, keys, None, features={"rad": table})
    return fitted, cohort


@pytest.mark.parametrize(("columns", "forest"), [(3, False), (3, True), (17, True)])
def test_contributions_add_up_to_the_score(columns: int, forest: bool) -> None:
    fitted, cohort = radscore(columns, forest=forest)
    lp = fitted.predict(Design(cohort)).lp
    for i in (0, 7):
        found = explain_score(SCHEMA, fitted, cohort.take(np.array([i])))
        assert found.lp == pytest.approx(lp[i], rel=1e-9, abs=1e-12)
        assert found.base + sum(c.value for c in found.contributions) == pytest.approx(found.lp, rel=1e-12)
        assert [c.input for c in found.contributions] == list(fitted.columns)
    at_mean = replace(cohort, features={"rad": FeatureTable(fitted.columns, np.tile(fitted.centre, (60, 1)))})
    typical = explain_score(SCHEMA, fitted, at_mean.take(np.array([0])))
    assert [c.value for c in typical.contributions] == [0.0] * columns
    assert typical.base == pytest.approx(fitted.predict(Design(at_mean)).lp[0], rel=1e-12, abs=1e-12)


def test_a_linear_contribution_is_coefficient_times_standard_deviations() -> None:
    fitted, cohort = radscore()
    found = explain_score(SCHEMA, fitted, cohort.take(np.array([4])))
    z = (cohort.features["rad"].x[4] - fitted.centre) / fitted.scale
    assert [c.value for c in found.contributions] == pytest.approx(list(fitted.model.coef * z), rel=1e-12)
    assert found.contributions[0].label == "T1, tumour: firstorder F0"
    assert f"({z[0]:+.1f} SD)" in found.contributions[0].shown


def test_a_feature_beyond_the_limits_says_what_it_counts_as() -> None:
    fitted, cohort = radscore()
    x = cohort.features["rad"].x.copy()
    x[0, 1] = fitted.centre[1] + 5 * fitted.scale[1]
    one = replace(cohort, features={"rad": FeatureTable(fitted.columns, x)}).take(np.array([0]))
    part = explain_score(SCHEMA, fitted, one).contributions[1]
    assert part.shown == f"{x[0, 1]:.4g} (counts as +3.0 SD)"
    assert part.value == pytest.approx(3 * fitted.model.coef[1], rel=1e-12)


def test_a_feature_that_does_not_exist_stands_at_the_mean_and_says_so() -> None:
    fitted, cohort = radscore()
    x = cohort.features["rad"].x.copy()
    x[0, 1] = np.nan
    one = replace(cohort, features={"rad": FeatureTable(fitted.columns, x)}).take(np.array([0]))
    part = explain_score(SCHEMA, fitted, one).contributions[1]
    assert (part.value, part.shown, part.imputed) == (0.0, "not computable", True)


@pytest.mark.parametrize("forest", [False, True])
def test_effects_of_features_are_changes_of_the_score(forest: bool) -> None:
    fitted, cohort = radscore(forest=forest)
    curve = score_curves(SCHEMA, fitted)[1]
    assert (curve.values[0], curve.values[-1], curve.shown[0]) == (-2.0, 2.0, "-2.0 SD")
    x = np.tile(fitted.centre, (2, 1))
    x[1, 1] += 2 * fitted.scale[1]
    units = cohort.take(np.arange(2))
    lp = fitted.predict(Design(replace(units, features={"rad": FeatureTable(fitted.columns, x)}))).lp
    assert curve.effect[-1] == pytest.approx(lp[1] - lp[0], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", [{}, {"forest": True}, {"harmonised": True}, {"horizons": True}])
def test_golden_cases_of_a_score_are_replayed(kind: dict[str, bool]) -> None:
    fitted, cohort = radscore(**kind)
    stored = golden(fitted)
    assert len(stored["p"]) == 20
    assert np.std(stored["p"]) > 0.01
    replay("score", fitted, stored)
    own = {float(v) for row in cohort.features["rad"].x for v in row}
    assert not own & {float(v) for column in stored["values"].values() for v in column}
    with pytest.raises(VerificationError, match="golden cases"):
        replay("score", replace(fitted, upper=fitted.centre), stored)
    with pytest.raises(VerificationError, match="'score' does not reproduce its golden cases"):
        replay("score", replace(fitted, centre=fitted.centre + (0.5 if fitted.forest else 1e-6)), stored)


def test_every_site_takes_part_in_the_golden_cases() -> None:
    fitted, _ = radscore(harmonised=True)
    assert fitted.combat is not None
    stored = golden(fitted)
    for k in range(3):
        shift = fitted.combat.shift.copy()
        shift[k] += 1e-3
        with pytest.raises(VerificationError, match="golden cases"):
            replay("score", replace(fitted, combat=replace(fitted.combat, shift=shift)), stored)


def test_a_harmonised_score_asks_for_its_site() -> None:
    harmonised, plain = Chain("score", radscore(harmonised=True)[0]), Chain("score", radscore()[0])
    assert sites(harmonised) == ("north", "south", "west")
    assert sites(plain) is None
    (field,) = fields(SCHEMA, harmonised)
    assert (field.name, field.column, field.levels, field.may_be_missing) == (
        SITE, "centre", ("north", "south", "west"), False,
    )  # fmt: skip
    assert fields(SCHEMA, plain) == ()


def test_a_feature_is_named_with_its_image_and_region() -> None:
    assert feature_label(SCHEMA, "t1|0-2mm|wavelet-LLH_glcm_Idmn") == "T1, 0-2mm: wavelet-LLH glcm Idmn"
