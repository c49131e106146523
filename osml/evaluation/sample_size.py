"""How many patients a prediction model needs, and what to expect at the number at hand.

Sources: Riley et al. 2019, Stat Med 38:1276 (part II: shrinkage, optimism, overall risk), Riley et al. 2020,
BMJ 368:m441 (four criteria), van Smeden et al. 2019, Stat Methods Med Res 28:2455 (mean absolute prediction error).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, isfinite, log, sqrt
from typing import Literal

from scipy.optimize import brentq
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError

Kind = Literal["binary", "survival"]


@dataclass(frozen=True)
class Criterion:
    """One criterion and the patients it needs. `note` says where its formula is used outside its studied range."""

    name: str
    n: int
    note: str = ""


@dataclass(frozen=True)
class SampleSize:
    """Minimum sample size for developing a model.

    Parameters
    ----------
    n, events : int, float
        Required patients, and the events expected among them (`n * prevalence`, or `n * rate * mean_follow_up`).
    epv, epv_smaller : float
        Events per parameter, and patients of the smaller class per parameter, at `n`.
    driving : str
        Name of the criterion that sets `n`.
    r2_cs, max_r2_cs : float
        Anticipated Cox-Snell R² and its maximum for this outcome.
    """

    kind: Kind
    parameters: int
    n: int
    events: float
    epv: float
    epv_smaller: float
    driving: str
    criteria: tuple[Criterion, ...]
    r2_cs: float
    max_r2_cs: float
    shrinkage: float


@dataclass(frozen=True)
class Adequacy:
    """A given number of patients held against the requirement.

    Parameters
    ----------
    n, events : int
        At hand.
    required : SampleSize
    shortfall : int
        Patients missing; 0 when enough.
    expected_shrinkage : float
        Calibration slope to expect in new patients of a model fitted without penalty on these n.
    expected_optimism : float
        Apparent minus adjusted Nagelkerke R² to expect.
    epv, epv_smaller : float
        Events, and patients of the smaller class, per parameter.
    exploratory : bool
        True when `shortfall` > 0: printed on page one of every output.
    """

    n: int
    events: int
    required: SampleSize
    shortfall: int
    expected_shrinkage: float
    expected_optimism: float
    epv: float
    epv_smaller: float
    exploratory: bool


def riley_sample_size(
    kind: Kind,
    parameters: int,
    *,
    prevalence: float | None = None,
    event_rate: float | None = None,
    mean_follow_up: float | None = None,
    horizon: float | None = None,
    r2_cs: float | None = None,
    r2_fraction: float = 0.15,
    shrinkage: float = 0.9,
    optimism: float = 0.05,
    margin: float = 0.05,
    mean_absolute_error: float | None = 0.05,
) -> SampleSize:
    """Minimum number of patients for a model with this many candidate parameters.

    Parameters
    ----------
    kind : "binary" or "survival"
    parameters : int
        All candidate coefficients before any selection: indicators, spline terms and upstream scores included.
    prevalence : float
        Binary: anticipated proportion of events, in (0, 1).
    event_rate, mean_follow_up, horizon : float
        Survival: events per unit of person-time, mean follow-up and the time at which risk is predicted, in one unit.
    r2_cs : float, optional
        Anticipated (adjusted) Cox-Snell R² from a cited model. Default: `r2_fraction` of its maximum. Never the
        apparent R² of the data at hand.
    shrinkage : float
        Target for the global shrinkage factor.
    optimism : float
        Largest accepted difference between apparent and adjusted Nagelkerke R².
    margin : float
        Half-width of the 95 % confidence interval of the overall risk (at the horizon).
    mean_absolute_error : float or None
        Binary: target mean absolute error of the predicted probabilities (BMJ 2020, step 2). None leaves the
        criterion out: the three criteria of Stat Med 2019.

    Returns
    -------
    SampleSize

    Examples
    --------
    Pre-eclampsia, 30 parameters, 5 % of women, R² 0.05 (Riley 2020):

    >>> size = riley_sample_size("binary", 30, prevalence=0.05, r2_cs=0.05)
    >>> size.n, size.driving, [(c.name, c.n) for c in size.criteria][:2]
    (5249, 'shrinkage', [('overall risk', 73), ('mean absolute error', 544)])
    """
    _check_parameters(parameters)
    for name, value in (("r2_fraction", r2_fraction), ("shrinkage", shrinkage), ("optimism", optimism)):
        _check_open_unit(name, value)
    _check_open_unit("margin", margin)
    if kind == "binary":
        if prevalence is None or (event_rate, mean_follow_up, horizon) != (None, None, None):
            raise InvalidInputError("a binary outcome needs `prevalence` and no event rate, follow-up or horizon")
        maximum = max_r2_cs_binary(prevalence)
        events_per_patient, smaller = prevalence, min(prevalence, 1 - prevalence)
        criteria = [Criterion("overall risk", ceil(_Z**2 * prevalence * (1 - prevalence) / margin**2))]
        if mean_absolute_error is not None:
            _check_open_unit("mean_absolute_error", mean_absolute_error)
            criteria.append(_mean_absolute_error(parameters, smaller, mean_absolute_error))
    elif kind == "survival":
        if prevalence is not None or event_rate is None or mean_follow_up is None or horizon is None:
            raise InvalidInputError(
                "a survival outcome needs `event_rate`, `mean_follow_up` and `horizon`, and no prevalence"
            )
        maximum = max_r2_cs_survival(event_rate, mean_follow_up)
        events_per_patient = smaller = event_rate * mean_follow_up
        criteria = [Criterion("overall risk", _overall_survival_risk(event_rate, mean_follow_up, horizon, margin))]
    else:
        raise InvalidInputError(f"unknown kind {kind!r}", do="Allowed: 'binary', 'survival'.")
    r2 = r2_fraction * maximum if r2_cs is None else r2_cs
    _check_r2(r2, maximum)
    for name, factor in (("shrinkage", shrinkage), ("optimism", r2 / (r2 + optimism * maximum))):
        criteria.append(Criterion(name, _n_for_shrinkage(parameters, r2, factor)))
    driving = max(criteria, key=lambda c: c.n)
    n = driving.n
    return SampleSize(
        kind,
        parameters,
        n,
        n * events_per_patient,
        n * events_per_patient / parameters,
        n * smaller / parameters,
        driving.name,
        tuple(criteria),
        r2,
        maximum,
        shrinkage,
    )


def adequacy(n: int, events: int, required: SampleSize) -> Adequacy:
    """Hold the patients at hand against a requirement.

    Parameters
    ----------
    n, events : int
        Patients and events at hand.

    Raises
    ------
    NotEstimableError
        No events, or no patient without one in a binary outcome.

    Examples
    --------
    >>> size = riley_sample_size("binary", 8, prevalence=0.33)
    >>> a = adequacy(187, 61, size)
    >>> a.shortfall, round(a.expected_shrinkage, 2), a.exploratory
    (441, 0.73, True)
    """
    if isinstance(n, bool) or n != int(n) or events != int(events) or not 0 <= events <= n or n < 1:
        raise InvalidInputError(f"n and events must be whole numbers with 0 <= events <= n, got {n} and {events}")
    smaller = min(events, n - events) if required.kind == "binary" else events
    if smaller == 0:
        raise NotEstimableError(f"{events} events among {n} patients: nothing can be predicted")
    factor = expected_shrinkage(n, required.parameters, required.r2_cs)
    # Adjusted R² = shrinkage * apparent R² (part II), on Nagelkerke's scale.
    optimism = required.r2_cs / required.max_r2_cs * (1 / factor - 1)
    return Adequacy(
        n=int(n),
        events=int(events),
        required=required,
        shortfall=max(0, required.n - int(n)),
        expected_shrinkage=factor,
        expected_optimism=optimism,
        epv=events / required.parameters,
        epv_smaller=smaller / required.parameters,
        exploratory=n < required.n,
    )


def expected_shrinkage(n: float, parameters: int, r2_cs: float) -> float:
    """Global shrinkage factor to expect at n patients: S with n = P / ((S - 1) ln(1 - R²/S)), R² the adjusted one.

    S is 1 for infinitely many patients and falls towards R² itself for few. Riley 2019, part II.

    >>> round(expected_shrinkage(5249, 30, 0.05), 3)
    0.9
    """
    _check_parameters(parameters)
    _check_open_unit("r2_cs", r2_cs)
    if not (isfinite(n) and n > 0):
        raise InvalidInputError(f"n must be positive, got {n}")

    def excess(s: float) -> float:
        return n * (s - 1) * log(1 - r2_cs / s) - parameters

    low = r2_cs * (1 + 1e-12)
    return float(brentq(excess, low, 1.0, xtol=1e-15)) if excess(low) > 0 else r2_cs


def max_r2_cs_binary(prevalence: float) -> float:
    """Largest possible Cox-Snell R² of a binary outcome: 1 - (φ^φ (1 - φ)^(1 - φ))².

    >>> round(max_r2_cs_binary(0.05), 2)
    0.33
    """
    _check_open_unit("prevalence", prevalence)
    return 1 - exp(2 * (prevalence * log(prevalence) + (1 - prevalence) * log(1 - prevalence)))


def max_r2_cs_survival(event_rate: float, mean_follow_up: float) -> float:
    """Largest possible Cox-Snell R² of a survival outcome: 1 - exp(2 (m ln m - m)), m = events per patient.

    m = rate x mean follow-up, so that the unit of time does not matter (null log-likelihood of the event counts).

    >>> round(max_r2_cs_survival(0.065, 2.07), 3)
    0.555
    """
    _check_positive("event_rate", event_rate)
    _check_positive("mean_follow_up", mean_follow_up)
    m = event_rate * mean_follow_up
    if m > 1:
        raise InvalidInputError(
            f"event rate {event_rate:g} x mean follow-up {mean_follow_up:g} gives {m:.3g} events per patient, above 1",
            do="Give both in the same unit of time; each patient has at most one event.",
        )
    return 1 - exp(2 * (m * log(m) - m))


_Z = float(norm.isf(0.025))


def _n_for_shrinkage(parameters: int, r2: float, factor: float) -> int:
    if factor <= r2:
        raise InvalidInputError(
            f"a shrinkage factor of {factor:.3g} at a Cox-Snell R² of {r2:.3g} has no sample size",
            do="The shrinkage target must exceed R².",
        )
    return ceil(parameters / ((factor - 1) * log(1 - r2 / factor)))


def _mean_absolute_error(parameters: int, smaller: float, target: float) -> Criterion:
    n = ceil(exp((-0.508 + 0.259 * log(smaller) + 0.504 * log(parameters) - log(target)) / 0.544))
    outside = []
    if parameters > 30:
        outside.append(f"{parameters} parameters (studied up to 30)")
    if smaller < 0.1:
        outside.append(f"smaller class {smaller:.3g} (studied from 0.1)")
    return Criterion("mean absolute error", n, f"extrapolated: {', '.join(outside)}" if outside else "")


def _overall_survival_risk(rate: float, mean_follow_up: float, horizon: float, margin: float) -> int:
    """Smallest n at which both 95 % limits of 1 - exp(-rate * horizon) lie within the margin (exponential survival)."""
    _check_positive("horizon", horizon)
    survival = exp(-rate * horizon)
    # The survival curve is convex in the rate, so the lower limit of the risk is the farther one unless it is cut at 0.
    if survival + margin < 1:
        distance = rate + log(survival + margin) / horizon
    elif survival > margin:
        distance = -rate - log(survival - margin) / horizon
    else:
        return 1
    return max(1, ceil((_Z * sqrt(rate / mean_follow_up) / distance) ** 2))


def _check_parameters(parameters: int) -> None:
    if isinstance(parameters, bool) or parameters != int(parameters) or parameters < 1:
        raise InvalidInputError(f"parameters must be a whole number of at least 1, got {parameters!r}")


def _check_open_unit(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InvalidInputError(f"{name} must lie between 0 and 1, both excluded, got {value!r}")


def _check_positive(name: str, value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise InvalidInputError(f"{name} must be positive, got {value!r}")


def _check_r2(r2: float, maximum: float) -> None:
    if not 0 < r2 < maximum:
        raise InvalidInputError(
            f"r2_cs {r2:g} is impossible: the Cox-Snell R² of this outcome lies between 0 and {maximum:.4f}",
            do="Give the Cox-Snell R², not Nagelkerke's; the latter times the maximum is the former.",
        )
