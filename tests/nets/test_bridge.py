"""The Brownian bridge: three forms of one reverse step, marginals, schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.nets.bridge import Schedule, coefficient_step, eta_step, forward, posterior, reverse

SCALES = st.sampled_from([0.05, 0.5, 1.0, 2.0])


@st.composite
def shares(draw: st.DrawFn) -> tuple[float, float]:
    """Two shares of the schedule's times, m_u < m_t."""
    m = Schedule().m
    t = draw(st.integers(1, 999))
    return float(m[t]), float(m[draw(st.integers(0, t - 1))])


def maps(seed: int) -> tuple[np.ndarray, ...]:
    """x0 (one-hot), y (probabilities), noise and a state between them, (7, 5, 4) each."""
    rng = np.random.default_rng(seed)
    x0 = np.moveaxis(np.eye(7)[rng.integers(0, 7, (5, 4))], -1, 0)
    y = np.moveaxis(rng.dirichlet(np.ones(7), (5, 4)), -1, 0)
    return x0, y, rng.normal(size=x0.shape), rng.normal(size=x0.shape)


@given(times=shares(), scale=SCALES, seed=st.integers(0, 100))
def test_the_three_forms_agree(times: tuple[float, float], scale: float, seed: int) -> None:
    schedule = Schedule(scale=scale)
    m_t, m_u = times
    x0, y, noise, z = maps(seed)
    x_t = forward(schedule, x0, y, m_t, noise)
    mean, variance = posterior(schedule, x_t, y, x0, m_t, m_u)
    bayes = mean + np.sqrt(variance) * z
    size = 1 + np.abs(x_t).max()
    assert_allclose(coefficient_step(schedule, x_t, y, x_t - x0, m_t, m_u, z), bayes, rtol=0, atol=2e-15 * size)
    assert_allclose(eta_step(schedule, x_t, y, x0, m_t, m_u, eta=1.0, noise=z), bayes, rtol=0, atol=2e-15 * size)
    assert reverse(schedule, m_t, m_u).variance == pytest.approx(variance, rel=1e-14)


@given(times=shares(), scale=SCALES, seed=st.integers(0, 100))
def test_what_the_network_estimates_is_the_state_less_the_truth(
    times: tuple[float, float], scale: float, seed: int
) -> None:
    schedule = Schedule(scale=scale)
    x0, y, noise, _ = maps(seed)
    m = times[0]
    estimated = m * (y - x0) + np.sqrt(schedule.variance(m)) * noise
    assert_allclose(forward(schedule, x0, y, m, noise) - estimated, x0, rtol=0, atol=1e-14)


@given(times=shares(), scale=SCALES, eta=st.sampled_from([0.0, 0.3, 1.0]))
def test_every_eta_keeps_the_marginal(times: tuple[float, float], scale: float, eta: float) -> None:
    """x_u is linear in (noise of x_t, z): mean (1 - m_u) x0 + m_u y, and the squared weights add up to δ_u."""
    schedule = Schedule(scale=scale)
    m_t, m_u = times

    def step(noise: float, z: float) -> float:
        return eta_step(schedule, forward(schedule, 1.0, 0.0, m_t, noise), 0.0, 1.0, m_t, m_u, eta=eta, noise=z)

    rest = step(0.0, 0.0)
    assert rest == pytest.approx(1.0 - m_u, abs=1e-12)
    total = (step(1.0, 0.0) - rest) ** 2 + (step(0.0, 1.0) - rest) ** 2
    assert total == pytest.approx(schedule.variance(m_u), rel=1e-9)


@given(times=shares(), scale=SCALES)
def test_coefficients_are_those_of_the_definitions(times: tuple[float, float], scale: float) -> None:
    schedule = Schedule(scale=scale)
    m_t, m_u = times
    d_t, d_u = 2 * scale * (m_t - m_t**2), 2 * scale * (m_u - m_u**2)
    within = d_t - d_u * ((1 - m_t) / (1 - m_u)) ** 2
    c = reverse(schedule, m_t, m_u)
    assert c.within == pytest.approx(within, rel=1e-9, abs=1e-14)
    assert c.variance == pytest.approx(within * d_u / d_t, rel=1e-9, abs=1e-14)
    assert c.c_x == pytest.approx(d_u / d_t * (1 - m_t) / (1 - m_u) + within / d_t * (1 - m_u), abs=1e-12)
    assert c.c_y == pytest.approx(m_u - m_t * (1 - m_t) / (1 - m_u) * d_u / d_t, abs=1e-12)
    assert c.c_eps == pytest.approx((1 - m_u) * within / d_t, abs=1e-12)


def test_eta_zero_is_deterministic_and_draws_on_no_noise() -> None:
    schedule = Schedule()
    x0, y, noise, z = maps(3)
    x_t = forward(schedule, x0, y, 0.7, noise)
    once = eta_step(schedule, x_t, y, x0, 0.7, 0.2, eta=0.0, noise=z)
    assert_array_equal(once, eta_step(schedule, x_t, y, x0, 0.7, 0.2, eta=0.0, noise=-5 * z))
    # The noise of x_t is carried on, scaled from its old to its new standard deviation; in full it would not shrink.
    assert_allclose(once - (0.8 * x0 + 0.2 * y), np.sqrt(schedule.variance(0.2)) * noise, rtol=0, atol=1e-14)
    assert not np.array_equal(once, eta_step(schedule, x_t, y, x0, 0.7, 0.2, eta=0.5, noise=z))


def test_a_chain_of_steps_is_one_step() -> None:
    """Two posterior steps have the mean and variance of the direct one, given x0 and y."""
    schedule = Schedule(scale=0.5)
    x_t, y, x0 = 0.3, 0.2, 1.0
    far, _ = posterior(schedule, x_t, y, x0, 0.9, 0.2)
    near, spread = posterior(schedule, x_t, y, x0, 0.9, 0.5)
    through, last = posterior(schedule, near, y, x0, 0.5, 0.2)
    slope = posterior(schedule, near + 1.0, y, x0, 0.5, 0.2)[0] - through
    assert through == pytest.approx(far, abs=1e-14)
    assert slope**2 * spread + last == pytest.approx(posterior(schedule, x_t, y, x0, 0.9, 0.2)[1], rel=1e-12)


def test_the_schedule_is_linear_between_its_ends_and_widest_in_the_middle() -> None:
    schedule = Schedule(times=1000, scale=0.5)
    assert schedule.m[0] == 0.001
    assert schedule.m[-1] == 0.999
    assert_allclose(np.diff(schedule.m), 0.998 / 999, rtol=1e-9)
    assert schedule.variance(0.5) == 0.25
    assert schedule.variance(np.array([0.0, 1.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("steps", [1, 2, 20, 1000])
def test_a_path_goes_from_the_coarse_map_to_the_truth(steps: int) -> None:
    path = Schedule().path(steps)
    assert len(path) == steps
    assert path[0] == 0.999
    assert (np.diff(path) < 0).all()
    assert steps == 1 or path[-1] == 0.001


def test_tensors_and_arrays_take_the_same_step() -> None:
    schedule = Schedule()
    x0, y, noise, z = maps(1)
    x_t = forward(schedule, x0, y, 0.6, noise)
    here = eta_step(schedule, x_t, y, x0, 0.6, 0.3, eta=0.5, noise=z)
    a, b, c, d = (torch.as_tensor(v) for v in (x_t, y, x0, z))
    assert_allclose(eta_step(schedule, a, b, c, 0.6, 0.3, eta=0.5, noise=d).numpy(), here, rtol=0, atol=1e-15)


@pytest.mark.parametrize("m_t, m_u", [(0.3, 0.3), (0.2, 0.5), (1.0, 0.5), (0.5, 0.0)])
def test_steps_that_do_not_go_down_are_refused(m_t: float, m_u: float) -> None:
    with pytest.raises(InvalidInputError, match="m_t down to m_u"):
        reverse(Schedule(), m_t, m_u)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 or more times"):
        Schedule(times=1)
    with pytest.raises(InvalidInputError, match="scale"):
        Schedule(scale=0.0)
    with pytest.raises(InvalidInputError, match="21 steps"):
        Schedule(times=20).path(21)
    with pytest.raises(InvalidInputError, match="eta"):
        eta_step(Schedule(), 0.0, 0.0, 0.0, 0.5, 0.2, eta=1.5)
