"""The Brownian bridge between a coarse map y and the true map x0: pure arithmetic, for numpy arrays and tensors alike.

q(x_t | x0, y) = N((1 - m_t) x0 + m_t y, δ_t I) with δ_t = 2s(m_t - m_t²), m linear over T times (Li et al. 2023,
arXiv:2205.07680, BBDM; applied to tissue maps by Nguyen et al. 2025). m near 0 is the truth, m near 1 the coarse map.

One reverse step is written here in three forms that agree: with the paper's coefficients, with a stochasticity η as in
DDIM (Song et al. 2021), and as the Gaussian posterior of Bayes' rule, which is the reference of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

M_FIRST, M_LAST = 0.001, 0.999


@dataclass(frozen=True)
class Schedule:
    """Times of a bridge, numbered 0 (next to the truth) to `times` - 1 (next to the coarse map).

    times : T, the number of times that training draws from
    scale : s of the variance δ_t, whose largest value is s / 2
    """

    times: int = 1000
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.times < 2:
            raise InvalidInputError(f"a bridge needs 2 or more times, got {self.times}")
        if not self.scale > 0:
            raise InvalidInputError(f"scale must be above 0, got {self.scale}")

    @property
    def m(self) -> NDArray[np.float64]:
        """Share of the coarse map at each time, float array (T,), 0.001 to 0.999 in equal steps."""
        return np.linspace(M_FIRST, M_LAST, self.times)

    def variance(self, m: Any) -> Any:
        """δ = 2s(m - m²) at a share m; arrays and tensors keep their kind."""
        return 2.0 * self.scale * m * (1.0 - m)

    def path(self, steps: int) -> NDArray[np.float64]:
        """Shares of the times that sampling visits, from the coarse map to the truth, float array (steps,).

        >>> Schedule(times=5).path(3).round(3)
        array([0.999, 0.5  , 0.001])
        """
        if not 1 <= steps <= self.times:
            raise InvalidInputError(f"{steps} steps; expected 1 to {self.times}")
        return self.m[np.rint(np.linspace(self.times - 1, 0, steps)).astype(np.intp)]


@dataclass(frozen=True)
class Reverse:
    """One step from share m_t down to m_u < m_t: the numbers of the paper's form.

    x_u = c_x x_t + c_y y - c_eps ε_θ + √variance z, where ε_θ estimates m_t (y - x0) + √δ_t ε, that is x_t - x0.

    within : δ_{t|u}, variance of x_t given x_u
    variance : δ̃ = δ_{t|u} δ_u / δ_t, variance of x_u given x_t, x0 and y
    """

    c_x: float
    c_y: float
    c_eps: float
    within: float
    variance: float


def forward(schedule: Schedule, x0: Any, y: Any, m: Any, noise: Any) -> Any:
    """x_t = (1 - m) x0 + m y + √δ noise; m is a number or broadcasts against the maps."""
    return (1.0 - m) * x0 + m * y + schedule.variance(m) ** 0.5 * noise


def reverse(schedule: Schedule, m_t: float, m_u: float) -> Reverse:
    """Coefficients of the step from m_t to m_u.

    δ_{t|u} = δ_t - δ_u ((1 - m_t) / (1 - m_u))² is taken as 2s (1 - m_t)(m_t - m_u) / (1 - m_u), which is the same and
    loses no digits between neighbouring times.

    Raises
    ------
    InvalidInputError
        Not 0 < m_u < m_t < 1.
    """
    if not 0.0 < m_u < m_t < 1.0:
        raise InvalidInputError(f"a reverse step goes from m_t down to m_u inside (0, 1), got {m_t} to {m_u}")
    delta_t, delta_u = schedule.variance(m_t), schedule.variance(m_u)
    within = 2.0 * schedule.scale * (1.0 - m_t) * (m_t - m_u) / (1.0 - m_u)
    kept = (1.0 - m_t) / (1.0 - m_u)
    return Reverse(
        c_x=delta_u / delta_t * kept + within / delta_t * (1.0 - m_u),
        c_y=m_u - m_t * kept * delta_u / delta_t,
        c_eps=(1.0 - m_u) * within / delta_t,
        within=within,
        variance=within * delta_u / delta_t,
    )


def coefficient_step(schedule: Schedule, x_t: Any, y: Any, eps: Any, m_t: float, m_u: float, noise: Any) -> Any:
    """x_u in the paper's form; `eps` is the network's ε_θ, and x̂0 = x_t - ε_θ."""
    c = reverse(schedule, m_t, m_u)
    return c.c_x * x_t + c.c_y * y - c.c_eps * eps + c.variance**0.5 * noise


def eta_step(
    schedule: Schedule, x_t: Any, y: Any, x0: Any, m_t: float, m_u: float, *, eta: float, noise: Any = 0.0
) -> Any:
    """x_u with stochasticity η: 1 is the posterior, 0 adds no noise and carries the present noise on.

    x_u = (1 - m_u) x̂0 + m_u y + √((δ_u - η² δ̃) / δ_t) (x_t - (1 - m_t) x̂0 - m_t y) + η √δ̃ z. For every η the marginal
    of x_u given x0 and y is that of `forward`. (Code published with BBDM keeps the whole δ_u at η = 0.)

    Raises
    ------
    InvalidInputError
        η outside 0..1, or shares out of order.
    """
    if not 0.0 <= eta <= 1.0:
        raise InvalidInputError(f"eta must be between 0 and 1, got {eta}")
    c = reverse(schedule, m_t, m_u)
    spread = eta * c.variance**0.5
    carried = ((schedule.variance(m_u) - spread**2) / schedule.variance(m_t)) ** 0.5
    out = (1.0 - m_u) * x0 + m_u * y + carried * (x_t - (1.0 - m_t) * x0 - m_t * y)
    return out + spread * noise if eta > 0.0 else out


def posterior(schedule: Schedule, x_t: Any, y: Any, x0: Any, m_t: float, m_u: float) -> tuple[Any, float]:
    """Mean and variance of q(x_u | x_t, x0, y) by Bayes' rule: the prior of x_u times the likelihood of x_t given x_u.

    x_t | x_u ~ N(a x_u + b y, δ_{t|u}) with a = (1 - m_t) / (1 - m_u) and b = m_t - a m_u.
    """
    c = reverse(schedule, m_t, m_u)
    a = (1.0 - m_t) / (1.0 - m_u)
    b = m_t - a * m_u
    delta_u = schedule.variance(m_u)
    precision = 1.0 / delta_u + a * a / c.within
    prior = (1.0 - m_u) * x0 + m_u * y
    return (prior / delta_u + a * (x_t - b * y) / c.within) / precision, 1.0 / precision
