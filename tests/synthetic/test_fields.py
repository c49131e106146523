"""Random fields: mean, spread and reach as asked for, on any grid."""

from __future__ import annotations

import numpy as np
import pytest

from osml.synthetic.fields import mix, smooth_noise, step


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.5, 12.0])
def test_a_field_is_standardised_and_reaches_as_far_as_its_kernel(sigma: float) -> None:
    field = smooth_noise((400, 400), (sigma, sigma), np.random.default_rng(1))
    assert field.shape == (400, 400)
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, rel=1e-5)
    if sigma == 0:
        assert abs((field[1:] * field[:-1]).mean()) < 0.01
        return
    # White noise under a Gaussian kernel is correlated by exp(-d² / (4 sigma²)); the coarse grid blurs a little more.
    shift = round(2 * sigma)
    found = (field[shift:] * field[:-shift]).mean()
    assert found == pytest.approx(np.exp(-(shift**2) / (4 * sigma**2)), abs=0.15)


def test_axes_have_their_own_reach() -> None:
    field = smooth_noise((60, 300), (0.0, 10.0), np.random.default_rng(2))
    assert (field[:, 1:] * field[:, :-1]).mean() > 0.9
    assert abs((field[1:] * field[:-1]).mean()) < 0.1


def test_steps_rise_or_fall() -> None:
    at = np.linspace(-1, 3, 9)
    up, down = step(at, 0, 2), step(at, 2, 0)
    assert np.all(np.diff(up) >= 0)
    assert np.allclose(up + down, 1)
    assert (up[at <= 0] == 0).all()
    assert (up[at >= 2] == 1).all()


def test_mixing_lays_one_over_the_other() -> None:
    base = np.full((2, 2), 3.0, dtype=np.float32)
    share = np.array([[0, 0.5], [1, 0.25]], dtype=np.float32)
    assert mix(base, 1.0, share).tolist() == [[3.0, 2.0], [1.0, 2.5]]
