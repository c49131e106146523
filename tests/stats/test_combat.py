"""ComBat against neuroCombat 0.2.12 (its iteration tightened to 1e-14), and its promises."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.combat import Combat, fit_combat

PATIENT = np.arange(1, 16)
BATCH = np.array(list("aaaaabbbbbbcccc"))
SEX = (PATIENT % 2).astype(float)[:, None]
X = np.column_stack([np.sin(k * PATIENT) * k + PATIENT % k / 2 for k in (1, 2, 3, 5)])
X = np.where(BATCH[:, None] == "b", X + 2, X) * np.where(BATCH[:, None] == "c", 1.5, 1)

# neuroCombat(X.T, covars, "batch", continuous_cols=["sex"]), it_sol's `conv` set to 1e-14; patients 0, 5 and 14.
HARMONISED = [
    [1.4781911164643573, 3.0367605632911268, 2.0820098824009516, -1.9345264396252695],
    [0.7667762999059586, -0.6323282676271857, -1.616913099124111, -3.94557153173636],
    [1.2297524800069992, -0.5720976812355157, 4.251770002976788, -1.0424650423011035],
]
SHIFT_C = [-0.4387217886453428, -0.5067788025250669, -0.46562540203152786, -0.18075871158496443]
SCALE_C = [1.9535335402145346, 1.9921127547928266, 1.979280226186047, 1.9771216299541765]


def test_matches_neurocombat():
    fitted = fit_combat(X, BATCH, SEX)
    np.testing.assert_allclose(fitted.apply(X, BATCH, SEX)[[0, 5, 14]], HARMONISED, rtol=1e-10)
    np.testing.assert_allclose(fitted.shift[2], SHIFT_C, rtol=1e-10)
    np.testing.assert_allclose(fitted.scale[2], SCALE_C, rtol=1e-10)
    assert fitted.counts == (5, 6, 4)


def test_posterior_means_solve_their_equations():
    """Johnson 2007: gamma* and delta* are each the posterior mean given the other."""
    fitted = fit_combat(X, BATCH)
    z = (X - fitted.mean) / fitted.sd
    for i, name in enumerate(fitted.batches):
        rows = z[name == BATCH]
        n, g, d = len(rows), rows.mean(axis=0), rows.var(axis=0, ddof=1)
        m, s2 = d.mean(), d.var(ddof=1)
        a, b = m**2 / s2 + 2, m**3 / s2 + m
        gamma, delta = fitted.shift[i], fitted.scale[i]
        t2 = g.var(ddof=1)
        np.testing.assert_allclose(gamma, (n * t2 * g + delta * g.mean()) / (n * t2 + delta), rtol=1e-10)
        squares = ((rows - gamma) ** 2).sum(axis=0)
        np.testing.assert_allclose(delta, (b + squares / 2) / (n / 2 + a - 1), rtol=1e-10)


def big(seed=0, n=400, p=60):
    rng = np.random.default_rng(seed)
    batch = rng.choice(["site 1", "site 2", "site 3"], n)
    age = rng.normal(size=n) + (batch == "site 2")
    slope = rng.normal(size=p)
    truth = rng.normal(size=(n, p)) + age[:, None] * slope
    shift = {b: rng.normal(size=p) for b in ("site 1", "site 2", "site 3")}
    scale = {"site 1": 0.6, "site 2": 1.0, "site 3": 1.7}
    noise = truth - age[:, None] * slope
    x = np.array([age[i] * slope + noise[i] * scale[b] + 2 * shift[b] for i, b in enumerate(batch)])
    return x, batch, age[:, None], slope


def test_removes_location_and_scale_but_keeps_the_covariate():
    x, batch, age, slope = big()
    y = fit_combat(x, batch, age).apply(x, batch, age)
    design = np.column_stack([batch == "site 1", batch == "site 2", batch == "site 3", age]).astype(float)
    before, after = (np.linalg.lstsq(design, m, rcond=None)[0] for m in (x, y))
    assert np.abs(np.diff(before[:3], axis=0)).mean() > 1.5
    assert np.abs(np.diff(after[:3], axis=0)).mean() < 0.1
    np.testing.assert_allclose(after[3], before[3], atol=0.15)
    assert np.corrcoef(after[3], slope)[0, 1] > 0.99
    residual = y - design @ after
    spread = [residual[batch == b].std() for b in ("site 1", "site 2", "site 3")]
    assert max(spread) / min(spread) < 1.05


def test_ignoring_a_confounded_covariate_would_remove_it():
    x, batch, age, _ = big()
    kept, lost = fit_combat(x, batch, age).apply(x, batch, age), fit_combat(x, batch).apply(x, batch)
    assert not np.allclose(kept, lost, atol=0.1)


def test_a_new_row_does_not_depend_on_its_company():
    fitted = fit_combat(X, BATCH, SEX)
    together = fitted.apply(X, BATCH, SEX)
    for i in range(len(X)):
        assert np.array_equal(fitted.apply(X[i : i + 1], BATCH[i : i + 1], SEX[i : i + 1]), together[i : i + 1])


def test_json_round_trip_is_exact():
    fitted = fit_combat(X, BATCH, SEX)
    again = Combat.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert np.array_equal(again.apply(X, BATCH, SEX), fitted.apply(X, BATCH, SEX))
    plain = Combat.from_dict(json.loads(json.dumps(fit_combat(X, BATCH).to_dict())))
    assert np.array_equal(plain.apply(X, BATCH), fit_combat(X, BATCH).apply(X, BATCH))


def test_batches_may_be_numbers():
    number = np.select([BATCH == "a", BATCH == "b"], [3, 10], 2)
    np.testing.assert_allclose(fit_combat(X, number).apply(X, number), fit_combat(X, BATCH).apply(X, BATCH), rtol=1e-12)


def test_equal_features_share_one_prior():
    """No spread between features: the prior variance is zero and the shrinkage complete, not 0/0."""
    same = np.column_stack([X[:, 0], X[:, 0]])
    y = fit_combat(same, BATCH).apply(same, BATCH)
    assert np.all(np.isfinite(y))
    np.testing.assert_allclose(y[:, 0], y[:, 1], rtol=1e-12)


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(NotEstimableError, match="one batch"):
        fit_combat(X, ["a"] * 15)
    with pytest.raises(NotEstimableError, match="batch z has one training patient"):
        fit_combat(X, [*BATCH[:-1], "z"])
    with pytest.raises(NotEstimableError, match="confounded"):
        fit_combat(X, BATCH, (BATCH == "b")[:, None].astype(float))
    with pytest.raises(NotEstimableError, match="confounded"):
        fit_combat(X, BATCH, np.ones((15, 1)))
    with pytest.raises(NotEstimableError, match="at least 2"):
        fit_combat(X[:, :1], BATCH)
    with pytest.raises(NotEstimableError, match=r"1 features do not vary within batches \(columns 1\)"):
        fit_combat(np.column_stack([X[:, 0], np.where(BATCH == "a", 1.0, 2.0), X[:, 1]]), BATCH)


def test_bad_input_is_refused():
    fitted = fit_combat(X, BATCH, SEX)
    with pytest.raises(InvalidInputError, match="no training patient came from batch d"):
        fitted.apply(X[:2], ["a", "d"], SEX[:2])
    with pytest.raises(InvalidInputError, match="1 covariates, got 4 and 0"):
        fitted.apply(X, BATCH)
    with pytest.raises(InvalidInputError, match="4 features"):
        fitted.apply(X[:, :2], BATCH, SEX)
    with pytest.raises(InvalidInputError, match="1 missing or infinite values, in columns 2"):
        fit_combat(np.where((np.arange(60) == 2).reshape(15, 4), np.nan, X), BATCH)
    with pytest.raises(InvalidInputError, match="batch is missing for 1 of 15"):
        fit_combat(X, [*BATCH[:-1].tolist(), None])
    with pytest.raises(InvalidInputError, match="one batch for each of 15"):
        fit_combat(X, BATCH[:3])
    with pytest.raises(InvalidInputError, match="must hold numbers"):
        fit_combat([["a", "b"]] * 4, list("aabb"))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_units_carry_through(scale, shift):
    y = fit_combat(X, BATCH, SEX).apply(X, BATCH, SEX)
    z = fit_combat(X * scale + shift, BATCH, SEX).apply(X * scale + shift, BATCH, SEX)
    np.testing.assert_allclose(z, y * scale + shift, rtol=1e-7, atol=1e-7 * scale)
