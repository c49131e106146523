"""Do predicted probabilities agree with what happened? One entry is one patient; probabilities are held-out.

Van Calster et al. 2016, J Clin Epidemiol 74:167; Austin and Steyerberg 2019, Stat Med 38:4051 (ICI);
`rms::val.prob`. Under random resampling of one cohort the intercept and O/E are 0 and 1 by design and show nothing;
they count for another centre, time or hospital.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.discrimination import brier, log_loss, nagelkerke, scaled_brier
from osml.evaluation.inputs import Floats, as_labels, as_probabilities
from osml.evaluation.loess import Loess, loess
from osml.evaluation.thresholds import Proportion, proportion
from osml.stats.inputs import confidence_level
from osml.stats.logistic import LogisticFit, fit_logistic
from osml.stats.splines import rcs_basis, rcs_knots

MINIMUM = 100  # events and non-events below which no flexible curve is drawn (Collins, Ogundimu and Altman 2016)


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and Wald interval."""

    value: float
    se: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of one stretch of predicted probability: mean prediction, observed share, expected events."""

    n: int
    mean_p: float
    observed: Proportion
    events: int
    expected: float


@dataclass(frozen=True)
class HosmerLemeshow:
    """Chi-square over groups; df is groups - 2 where the model was fitted to these patients, else groups."""

    chi2: float
    df: int
    p_value: float


@dataclass(frozen=True)
class FlexibleCalibration:
    """Loess curve of outcome on probability, with its interval, and the distances |curve - p| over the patients.

    Attributes
    ----------
    curve : Loess
        Confine it to 0..1 when drawing; the distances use it as it is.
    ici, e50, e90, emax : float
        Mean, median, 90th percentile and maximum of the distances.
    """

    curve: Loess
    ici: float
    e50: float
    e90: float
    emax: float


@dataclass(frozen=True)
class Calibration:
    """Agreement of probabilities with outcomes.

    Attributes
    ----------
    n, events : int
    intercept, slope : Estimate or None
        Of the recalibration logit P(y) = intercept + slope * logit p, fitted together. 0 and 1 are ideal; a slope below
        1 means predictions too extreme. None with `slope_reason` where not estimable.
    citl : Estimate
        Calibration-in-the-large: the intercept with the slope fixed at 1. Above 0, risks are too low.
    o_e : Estimate
        Observed / expected events; the interval is on the log scale, with the predictions taken as given.
    brier, scaled_brier, log_loss : float
    r2 : float
        Nagelkerke's, of the probabilities as they are (below 0 when they do worse than the prevalence).
    d, u, q : float or None
        Discrimination (LR - 1) / n of the probabilities as they are, unreliability, and quality d - u (`val.prob`).
    spiegelhalter_z, spiegelhalter_p : float
        Spiegelhalter 1986, test that the Brier score is what the probabilities promise.
    unreliability, unreliability_p : float or None
        Likelihood-ratio chi-square (2 df) of intercept 0 and slope 1 (`val.prob` U).
    line_p, line : float arrays (101,) or None
        The recalibration line: observed risk that the intercept and slope give at each predicted risk.
    groups : tuple of CalibrationGroup
        Tenths of predicted risk.
    hosmer_lemeshow : HosmerLemeshow or None
    flexible : FlexibleCalibration or None
        None with `flexible_reason` below 100 events or 100 non-events.
    """

    n: int
    events: int
    intercept: Estimate | None
    slope: Estimate | None
    slope_reason: str
    citl: Estimate
    o_e: Estimate
    brier: float
    scaled_brier: float
    log_loss: float
    r2: float
    d: float
    u: float | None
    q: float | None
    spiegelhalter_z: float
    spiegelhalter_p: float
    unreliability: float | None
    unreliability_p: float | None
    line_p: Floats
    line: Floats | None
    groups: tuple[CalibrationGroup, ...]
    hosmer_lemeshow: HosmerLemeshow | None
    flexible: FlexibleCalibration | None
    flexible_reason: str


def calibration(y: ArrayLike, p: ArrayLike, *, level: float = 0.95, fitted_here: bool = False) -> Calibration:
    """Calibration of probabilities against outcomes.

    Parameters
    ----------
    y : bool or 0/1 array (n,)
        1 = event; one row per patient, both classes needed.
    p : float array (n,)
        Predicted probabilities strictly between 0 and 1.
    level : float
    fitted_here : bool
        True when the model was fitted to these very patients: Hosmer-Lemeshow then loses 2 degrees of freedom.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.1, 0.9, 400)
    >>> found = calibration(rng.random(400) < p, p)
    >>> round(found.slope.value, 2), found.slope.low < 1 < found.slope.high, found.flexible.ici < 0.05
    (1.14, True, True)
    """
    labels = as_labels(y, both=True)
    q = as_probabilities(p, len(labels), inner=True)
    level = confidence_level(level)
    lp = logit(q)
    n, events = len(labels), int(labels.sum())
    fit, reason = _recalibration(labels, lp)
    groups = calibration_groups(labels, q, level=level)
    z = spiegelhalter(labels, q)
    grid = np.linspace(q.min(), q.max(), 101)
    share = events / n
    given, null = _log_likelihood(labels, lp), n * float(share * np.log(share) + (1 - share) * np.log1p(-share))
    d = (2 * (given - null) - 1) / n
    unreliability = None if fit is None else 2 * (fit.log_likelihood - given)
    u = None if unreliability is None else (unreliability - 2) / n
    few = min(events, n - events)
    flexible, why = None, f"not drawn: {events} events and {n - events} non-events, below {MINIMUM} of one of them"
    if few >= MINIMUM:
        flexible, why = _flexible(labels, q, level)
    return Calibration(
        n=n,
        events=events,
        intercept=None if fit is None else _wald(fit, 0, level),
        slope=None if fit is None else _wald(fit, 1, level),
        slope_reason=reason,
        citl=_wald(fit_logistic(np.empty((n, 0)), labels, offset=lp), 0, level),
        o_e=_observed_expected(events, n, float(q.sum()), level),
        brier=brier(labels, q),
        scaled_brier=scaled_brier(labels, q),
        log_loss=log_loss(labels, q),
        r2=nagelkerke(given, null, n),
        d=d,
        u=u,
        q=None if u is None else d - u,
        spiegelhalter_z=z,
        spiegelhalter_p=float(2 * stats.norm.sf(abs(z))),
        unreliability=unreliability,
        unreliability_p=None if unreliability is None else float(stats.chi2.sf(unreliability, 2)),
        line_p=grid,
        line=None if fit is None else expit(fit.intercept + fit.coef[0] * logit(grid)),
        groups=groups,
        hosmer_lemeshow=_hosmer_lemeshow(groups, fitted_here),
        flexible=flexible,
        flexible_reason=why,
    )


def calibration_per_class(
    y: ArrayLike, p: ArrayLike, classes: Sequence[str], *, level: float = 0.95
) -> dict[str, Calibration | str]:
    """Calibration of each class against the rest; a class without patients in `y` gives the reason instead.

    Parameters
    ----------
    y : int array (n,)
        Class position 0..K-1, one row per patient.
    p : float array (n, K)
        Probability of each class.
    classes : sequence of str (K,)

    >>> import numpy as np
    >>> p = np.tile([[.5, .3, .2], [.2, .4, .4], [.3, .3, .4]], (4, 1))
    >>> found = calibration_per_class([0, 1, 2, 1, 1, 0, 2, 2, 2, 0, 1, 0], p, ["a", "b", "c"])
    >>> round(found["a"].o_e.value, 3)
    1.0
    """
    probabilities = np.asarray(p, dtype=np.float64)
    position = np.asarray(y)
    if probabilities.ndim != 2 or probabilities.shape != (len(position), len(classes)):
        raise InvalidInputError(f"p has shape {probabilities.shape}; expected ({len(position)}, {len(classes)})")
    if position.dtype.kind not in "iu" or position.min() < 0 or position.max() >= len(classes):
        raise InvalidInputError(f"y must hold class positions 0..{len(classes) - 1}", do="Give positions, not names.")
    out: dict[str, Calibration | str] = {}
    for k, name in enumerate(classes):
        of_class = position == k
        if of_class.all() or not of_class.any():
            out[name] = f"not estimable: {int(of_class.sum())} of {len(position)} patients are {name}"
        else:
            out[name] = calibration(of_class, probabilities[:, k], level=level)
    return out


def calibration_groups(
    y: ArrayLike, p: ArrayLike, *, groups: int = 10, level: float = 0.95, method: str = "wilson"
) -> tuple[CalibrationGroup, ...]:
    """Observed against predicted in groups cut at quantiles of p (R type 7, closed above); ties merge groups.

    >>> [g.n for g in calibration_groups([0, 0, 1, 1], [.1, .2, .6, .9], groups=2)]
    [2, 2]
    """
    labels = as_labels(y)
    q = as_probabilities(p, len(labels))
    if groups < 2:
        raise InvalidInputError(f"groups = {groups!r}; expected 2 or more")
    cuts = np.unique(np.quantile(q, np.linspace(0, 1, groups + 1)))
    code = np.searchsorted(cuts[1:-1], q, side="left")
    out = []
    for k in range(max(len(cuts) - 1, 1)):
        mine = code == k
        n, events = int(mine.sum()), int(labels[mine].sum())
        if n:
            expected = float(q[mine].sum())
            share = proportion(events, n, method=method, level=level)
            out.append(CalibrationGroup(n, expected / n, share, events, expected))
    return tuple(out)


def calibration_spline(y: ArrayLike, p: ArrayLike, at: ArrayLike, *, knots: int = 5) -> Floats:
    """Observed risk at predicted risks `at`, from a logistic model on a restricted cubic spline of logit p.

    The parametric companion of the loess curve (`rms::lrm(y ~ rcs(qlogis(p), 5))`); default knots of `rcs_knots`.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.05, 0.95, 3000)
    >>> curve = calibration_spline(rng.random(3000) < p, p, [0.2, 0.5, 0.8])
    >>> bool(np.abs(curve - [0.2, 0.5, 0.8]).max() < 0.1)
    True
    """
    labels = as_labels(y, both=True)
    q = as_probabilities(p, len(labels), inner=True)
    points = as_probabilities(at, len(np.atleast_1d(np.asarray(at))), name="at", inner=True)
    places = rcs_knots(logit(q), knots)
    fit = fit_logistic(rcs_basis(logit(q), places), labels)
    return expit(fit.intercept + rcs_basis(logit(points), places) @ fit.coef)


def spiegelhalter(y: ArrayLike, p: ArrayLike) -> float:
    """Spiegelhalter's z: (Brier - expected Brier) / its standard error when the probabilities are right.

    >>> round(spiegelhalter([1, 0, 1], [.8, .3, .4]), 6)
    -0.377964
    """
    labels = as_labels(y)
    q = as_probabilities(p, len(labels))
    variance = float(((1 - 2 * q) ** 2 * q * (1 - q)).sum())
    if variance <= 0:
        raise NotEstimableError("every probability is 0, 1/2 or 1: Spiegelhalter's statistic has variance 0")
    return float(((labels - q) * (1 - 2 * q)).sum() / np.sqrt(variance))


def _recalibration(labels: Floats, lp: Floats) -> tuple[LogisticFit | None, str]:
    try:
        return fit_logistic(lp[:, None], labels), ""
    except NotEstimableError as error:
        return None, f"not estimable: {error.what}"


def _wald(fit: LogisticFit, j: int, level: float) -> Estimate:
    value = float(fit.parameters[j])
    se = float(np.sqrt(fit.covariance[j, j]))
    half = float(stats.norm.isf((1 - level) / 2)) * se
    return Estimate(value, se, value - half, value + half, level)


def _observed_expected(events: int, n: int, expected: float, level: float) -> Estimate:
    # Debray et al. 2017, BMJ 356:i6460, appendix: se(ln O/E) = sqrt((1 - O/n) / O).
    ratio, se = events / expected, float(np.sqrt((1 - events / n) / events))
    reach = float(np.exp(stats.norm.isf((1 - level) / 2) * se))
    return Estimate(ratio, ratio * se, ratio / reach, ratio * reach, level)


def _log_likelihood(labels: Floats, lp: Floats) -> float:
    return -float(np.logaddexp(0.0, np.where(labels > 0, -lp, lp)).sum())


def _hosmer_lemeshow(groups: tuple[CalibrationGroup, ...], fitted_here: bool) -> HosmerLemeshow | None:
    df = len(groups) - 2 * fitted_here
    if df < 1:
        return None
    chi2 = sum((g.events - g.expected) ** 2 / (g.expected * (1 - g.mean_p)) for g in groups)
    return HosmerLemeshow(chi2, df, float(stats.chi2.sf(chi2, df)))


def _flexible(labels: Floats, q: Floats, level: float) -> tuple[FlexibleCalibration | None, str]:
    try:
        curve = loess(q, labels, level=level)
    except NotEstimableError as error:
        return None, f"not drawn: {error.what}"
    distance = np.abs(curve.fitted - q)
    return FlexibleCalibration(
        curve=curve,
        ici=float(distance.mean()),
        e50=float(np.median(distance)),
        e90=float(np.quantile(distance, 0.9)),
        emax=float(distance.max()),
    ), ""
