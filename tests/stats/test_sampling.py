"""Prior correction for case-control and enriched samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit, logit

from osml.errors import InvalidInputError
from osml.stats.logistic import fit_logistic
from osml.stats.sampling import correct_intercept, prevalence_shift, to_prevalence

inner = st.floats(0.01, 0.99)


def test_odds_by_hand():
    # Sampled 1:1, true prevalence 1/10: the odds shrink ninefold. 9:1 odds become 1:1.
    assert to_prevalence([0.9], 0.5, 0.1)[0] == pytest.approx(0.5, rel=1e-14)
    assert correct_intercept(0.3, 0.5, 0.1) == pytest.approx(0.3 - np.log(9), rel=1e-14)


def test_king_and_zeng_formula():
    tau, ybar = 0.03, 0.4
    wanted = 1.2 - np.log((1 - tau) / tau * ybar / (1 - ybar))
    assert correct_intercept(1.2, ybar, tau) == pytest.approx(wanted, rel=1e-14)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), inner, inner, inner)
def test_recalibrations_compose_and_invert(p, a, b, c):
    p = np.array(p)
    there = to_prevalence(p, a, b)
    assert_allclose(to_prevalence(there, b, a), p, atol=1e-9)
    assert_allclose(to_prevalence(there, b, c), to_prevalence(p, a, c), atol=1e-9)
    assert_allclose(to_prevalence(p, a, a), p, atol=1e-12)
    assert np.all(np.diff(to_prevalence(np.sort(p), a, b)) >= 0)


@given(st.floats(-5, 5), inner, inner)
def test_intercept_and_probability_agree(lp, sample, target):
    corrected = expit(correct_intercept(lp, sample, target))
    assert to_prevalence([expit(lp)], sample, target)[0] == pytest.approx(corrected, rel=1e-9)


def test_correction_recovers_the_population_model():
    rng = np.random.default_rng(0)
    n = 200_000
    x = rng.normal(size=n)
    y = rng.random(n) < expit(-3.5 + x)
    cases = np.flatnonzero(y)
    rows = np.concatenate([cases, rng.choice(np.flatnonzero(~y), len(cases), replace=False)])
    fit = fit_logistic(x[rows, None], y[rows])
    assert fit.coef[0] == pytest.approx(1.0, abs=4 * np.sqrt(fit.covariance[1, 1]))
    corrected = correct_intercept(fit.intercept, y[rows].mean(), y.mean())
    assert corrected == pytest.approx(-3.5, abs=4 * np.sqrt(fit.covariance[0, 0]))
    assert abs(fit.intercept + 3.5) > 2
    p = to_prevalence(expit(fit.intercept + fit.coef[0] * x), 0.5, y.mean())
    assert p.mean() == pytest.approx(y.mean(), rel=0.02)


def test_certainty_stays_certain():
    assert to_prevalence([0.0, 1.0], 0.5, 0.01).tolist() == [0, 1]


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 1.5, 30, np.nan, np.inf])
def test_prevalence_outside_zero_to_one_is_refused(prevalence):
    for arguments in ((prevalence, 0.1), (0.5, prevalence)):
        with pytest.raises(InvalidInputError, match="prevalence"):
            prevalence_shift(*arguments)
        with pytest.raises(InvalidInputError, match="prevalence"):
            to_prevalence([0.5], *arguments)
        with pytest.raises(InvalidInputError, match="prevalence"):
            correct_intercept(0.0, *arguments)


def test_bad_probabilities_and_intercepts_are_refused():
    with pytest.raises(InvalidInputError, match="probabilities"):
        to_prevalence([1.2], 0.5, 0.1)
    with pytest.raises(InvalidInputError, match="p"):
        to_prevalence([np.nan], 0.5, 0.1)
    with pytest.raises(InvalidInputError, match="intercept"):
        correct_intercept(np.nan, 0.5, 0.1)


def test_shift_is_the_difference_of_logits():
    assert prevalence_shift(0.3, 0.05) == pytest.approx(logit(0.05) - logit(0.3), rel=1e-15)
