"""Chained regression imputation: row-local, exact under weights and JSON, sensible numbers."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.impute import Imputer, fit_imputer

KINDS = {"age": "number", "ldh": "number", "size": "number", "sex": "category", "grade": "category"}
LEVELS = {"sex": 2, "grade": 4}


def cohort(n=200, missing=0.15, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, n)
    size = 0.2 * age + rng.normal(0, 1, n)
    ldh = np.exp(5 + 0.03 * (age - 50) + rng.normal(0, 0.1, n))
    sex = (rng.random(n) < 0.5).astype(float)
    grade = np.digitize(size, [8.0, 10.0, 12.0]).astype(float)
    full = {"age": age, "ldh": ldh, "size": size, "sex": sex, "grade": grade}
    holed = {name: np.where(rng.random(n) < missing, np.nan, x) for name, x in full.items()}
    return full, holed


def fit(values, **options):
    return fit_imputer(values, KINDS, LEVELS, log={"ldh"}, **options)


def test_a_linear_relation_is_recovered_exactly_enough():
    x = np.linspace(0, 9, 40)
    y = 3 * x - 2
    holed = np.where(np.arange(40) % 5 == 2, np.nan, y)
    imputer = fit_imputer({"x": x, "y": holed}, {"x": "number", "y": "number"}, {})
    filled, imputed = imputer.apply({"x": x, "y": holed})
    low, high = imputer.models[1].low, imputer.models[1].high
    assert low < 16  # the fifth value from either end, rounded inwards
    assert high > 9
    np.testing.assert_allclose(filled["y"], np.where(imputed["y"], np.clip(y, low, high), y), atol=2e-4)
    assert np.array_equal(imputed["y"], np.isnan(holed))
    assert not imputed["x"].any()


def test_one_missing_input_equals_least_squares():
    """The ridge of 1e-6 moves a least-squares prediction by about as much."""
    full, _ = cohort()
    hole = np.arange(200) < 30
    values = {name: full[name] for name in ("age", "size", "sex")}
    values["age"] = np.where(hole, np.nan, full["age"])
    imputer = fit_imputer(values, {n: KINDS[n] for n in values}, {"sex": 2})
    filled, _ = imputer.apply(values)
    design = np.column_stack([np.ones(200), full["size"], full["sex"]])
    coef = np.linalg.lstsq(design[~hole], full["age"][~hole], rcond=None)[0]
    model = imputer.models[0]
    expected = np.clip(design[hole] @ coef, model.low, model.high)
    np.testing.assert_allclose(filled["age"][hole], expected, rtol=1e-5)


def test_filling_beats_the_mean_and_levels_beat_the_mode():
    full, holed = cohort(n=400)
    imputer = fit(holed)
    filled, imputed = imputer.apply(holed)
    at = imputed["size"]
    assert np.mean((filled["size"][at] - full["size"][at]) ** 2) < 0.4 * full["size"].var()
    at = imputed["grade"]
    mode = np.bincount(full["grade"].astype(int)).argmax()
    assert np.mean(filled["grade"][at] == full["grade"][at]) > np.mean(full["grade"][at] == mode) + 0.2


def test_present_values_are_never_changed_and_nothing_stays_missing():
    _, holed = cohort()
    filled, imputed = fit(holed).apply(holed)
    for name, x in holed.items():
        assert np.array_equal(filled[name][~imputed[name]], x[~imputed[name]])
        assert not np.isnan(filled[name]).any()
        assert np.array_equal(imputed[name], np.isnan(x))


def test_filled_numbers_stay_in_the_training_range_and_logs_positive():
    _, holed = cohort()
    imputer = fit(holed)
    far = {"age": [500.0], "ldh": [np.nan], "size": [np.nan], "sex": [1.0], "grade": [np.nan]}
    filled, _ = imputer.apply(far)
    for name in ("ldh", "size"):
        assert np.nanmin(holed[name]) <= filled[name][0] <= np.nanmax(holed[name])
    low = imputer.apply({"age": [-1e6], "ldh": [np.nan], "size": [np.nan], "sex": [1.0], "grade": [np.nan]})[0]
    observed = np.sort(holed["ldh"][~np.isnan(holed["ldh"])])
    assert observed[4] <= low["ldh"][0] <= observed[10]
    assert filled["age"][0] == 500.0
    assert filled["grade"][0] in (0, 1, 2, 3)


def test_an_input_complete_in_training_is_filled_at_prediction():
    full, _ = cohort()
    imputer = fit(full)
    new = {name: x[:5].copy() for name, x in full.items()}
    new["size"][2] = np.nan
    filled, imputed = imputer.apply(new)
    assert imputed["size"].tolist() == [False, False, True, False, False]
    assert abs(filled["size"][2] - full["size"][2]) < 3


@pytest.mark.parametrize("seed", range(3))
def test_a_row_does_not_depend_on_its_company(seed):
    _, holed = cohort(n=60, missing=0.4, seed=seed)
    imputer = fit(holed)
    together, _ = imputer.apply(holed)
    rng = np.random.default_rng(seed)
    some = rng.permutation(60)[:17]
    part, _ = imputer.apply({name: x[some] for name, x in holed.items()})
    for name, x in holed.items():
        assert np.array_equal(part[name], together[name][some])
        for i in range(60):
            alone, _ = imputer.apply({other: v[i : i + 1] for other, v in holed.items()})
            assert alone[name][0] == together[name][i], (name, i, x[i])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=60, max_size=60).filter(lambda w: sum(w) > 40))
def test_weights_are_repeated_rows(weights):
    _, holed = cohort(n=60)
    w = np.array(weights)
    weighted = fit(holed, weights=w)
    repeated = fit({name: np.repeat(x, w) for name, x in holed.items()})
    for a, b in zip(weighted.models, repeated.models, strict=True):
        assert (a.method, a.observed, a.missing, a.low, a.high, a.seen) == (
            b.method,
            b.observed,
            b.missing,
            b.low,
            b.high,
            b.seen,
        )
        assert a.constant == b.constant
        np.testing.assert_allclose(a.coef, b.coef, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(a.intercept, b.intercept, rtol=1e-6, atol=1e-9)


def test_json_round_trip_is_exact():
    _, holed = cohort()
    holed["sex"][8:] = np.nan
    imputer = fit(holed)
    again = Imputer.from_dict(json.loads(json.dumps(imputer.to_dict())))
    assert json.dumps(again.to_dict()) == json.dumps(imputer.to_dict())
    before, after = imputer.apply(holed)[0], again.apply(holed)[0]
    assert all(np.array_equal(before[name], after[name]) for name in holed)


def test_fitting_twice_gives_the_same_bytes():
    _, holed = cohort()
    assert json.dumps(fit(holed).to_dict()) == json.dumps(fit(holed).to_dict())


def test_few_observed_values_fall_back_to_median_or_mode():
    _, holed = cohort()
    holed["size"][:] = np.nan
    holed["size"][:9] = [1, 2, 3, 4, 5, 6, 7, 8, 90]
    holed["sex"][:] = np.nan
    holed["sex"][:3] = [1, 1, 0]
    imputer = fit(holed)
    methods = {m.name: m.method for m in imputer.models}
    assert methods == {"age": "regression", "ldh": "regression", "size": "median", "sex": "mode", "grade": "regression"}
    filled, _ = imputer.apply(holed)
    assert set(filled["size"][9:]) == {5.0}
    assert set(filled["sex"][3:]) == {1.0}


def test_a_level_unseen_in_training_is_never_filled_in_but_may_be_given():
    full, _ = cohort()
    full["grade"] = np.where(full["grade"] == 2, 1.0, full["grade"])
    imputer = fit(full)
    probe = {name: np.repeat(x, 2) for name, x in full.items()}
    probe["grade"] = np.tile([2.0, np.nan], 200)
    filled, _ = imputer.apply(probe)
    assert set(filled["grade"][1::2]) <= {0.0, 1.0, 3.0}
    assert set(filled["grade"][::2]) == {2.0}


def test_constant_collinear_and_single_inputs():
    x = np.arange(30.0)
    values = {"a": x, "twice": 2 * x, "flat": np.full(30, 7.0), "b": np.where(x > 24, np.nan, x**2)}
    filled, _ = fit_imputer(values, dict.fromkeys(values, "number"), {}).apply(values)
    assert all(np.all(np.isfinite(v)) for v in filled.values())
    gone = {**values, "flat": np.full(30, np.nan)}
    assert set(fit_imputer(values, dict.fromkeys(values, "number"), {}).apply(gone)[0]["flat"]) == {7.0}
    alone = fit_imputer({"a": np.where(x > 24, np.nan, x)}, {"a": "number"}, {})
    assert alone.apply({"a": [np.nan]})[0]["a"][0] == pytest.approx(12.0, rel=1e-12)


def test_everything_missing_gives_a_patient_near_the_centre():
    _, holed = cohort()
    filled, imputed = fit(holed).apply({name: [np.nan] for name in KINDS})
    assert all(mask.all() for mask in imputed.values())
    assert abs(filled["age"][0] - 50) < 5


def test_no_rows_and_complete_rows_pass_through():
    full, _ = cohort()
    imputer = fit(full)
    filled, imputed = imputer.apply(full)
    assert all(np.array_equal(filled[name], full[name]) for name in full)
    assert not any(mask.any() for mask in imputed.values())
    assert imputer.apply({name: [] for name in KINDS})[0]["age"].shape == (0,)


def test_an_input_missing_everywhere_is_named():
    full, _ = cohort()
    full["size"] = np.full(200, np.nan)
    with pytest.raises(NotEstimableError, match="no training patient has a value for size"):
        fit(full)
    _, holed = cohort()
    with pytest.raises(NotEstimableError, match="age, ldh"):
        fit(holed, weights=np.isnan(holed["age"]) & np.isnan(holed["ldh"]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ldh": np.r_[0.0, np.ones(199)]}, "'ldh' is modelled as a logarithm but holds 1 values"),
        ({"grade": np.full(200, 4.0)}, r"'grade' holds level positions outside 0\.\.3"),
        ({"age": np.r_[np.inf, np.ones(199)]}, "'age' holds 1 infinite"),
        ({"age": np.ones(3)}, "one value per patient"),
        ({"age": ["x"] * 200}, "'age' must hold numbers"),
    ],
)
def test_bad_values_are_refused(change, message):
    full, _ = cohort()
    with pytest.raises(InvalidInputError, match=message):
        fit(full | change)
    with pytest.raises(InvalidInputError, match=message):
        fit(full).apply(full | change)


def test_bad_settings_are_refused():
    full, _ = cohort()
    with pytest.raises(InvalidInputError, match="missing size"):
        fit(full).apply({name: x for name, x in full.items() if name != "size"})
    with pytest.raises(InvalidInputError, match="unknown outcome"):
        fit(full).apply(full | {"outcome": full["sex"]})
    with pytest.raises(InvalidInputError, match="needs at least 2 levels"):
        fit_imputer({"a": np.ones(5)}, {"a": "category"}, {"a": 1})
    with pytest.raises(InvalidInputError, match="has kind None"):
        fit_imputer({"a": np.ones(5)}, {}, {})
    with pytest.raises(InvalidInputError, match="no values for b"):
        fit_imputer({"a": np.ones(5)}, {"a": "number", "b": "number"}, {})
    with pytest.raises(InvalidInputError, match="cannot be modelled as a logarithm"):
        fit_imputer({"a": np.ones(5)}, {"a": "category"}, {"a": 2}, log={"a"})
    with pytest.raises(InvalidInputError, match="weights"):
        fit(full, weights=-np.ones(200))
    with pytest.raises(InvalidInputError, match="iterations"):
        fit(full, iterations=0)
    with pytest.raises(InvalidInputError, match="no inputs"):
        fit_imputer({}, {}, {})


@pytest.mark.full
def test_fits_in_milliseconds():
    full, holed = cohort()
    for values, limit in ((full, 0.01), (holed, 0.05)):
        best = min(_timed(values) for _ in range(5))
        assert best < limit


def _timed(values):
    start = time.perf_counter()
    fit(values)
    return time.perf_counter() - start
