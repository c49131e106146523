"""Reasons to refuse a nomogram or to warn on it. Each has a code; the caller handles what was accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.outcome_axis import MIN_AT_RISK, full_total, outcome_ticks, shown
from osml.nomogram.spec import CoxOutcome

MIN_SLOPE = 0.8
MIN_SPREAD = 0.25

CODES: tuple[tuple[str, Literal["refuse", "warn"], str], ...] = (
    ("OSML014", "refuse", "a predictor that is available only after the time of prediction"),
    ("OSML040", "refuse", "a level without an event, or without a patient free of it"),
    ("OSML041", "warn", "fewer patients than Riley's criteria ask for"),
    ("OSML042", "refuse", "as many parameters as events, or more"),
    ("OSML043", "refuse", "the outcome is separated by the predictors"),
    ("OSML045", "warn", "optimism-corrected calibration slope below 0.8"),
    ("OSML046", "refuse", "a standard error is not finite"),
    ("OSML047", "warn", "an outcome axis squeezed into less than a quarter of the total-points axis"),
    ("OSML048", "refuse", "a score that was computed on its own training rows"),
    ("OSML049", "warn", "a horizon with fewer than 10 patients at risk"),
)


@dataclass(frozen=True)
class Finding:
    """A reason with its code: what, why it matters, what to do. `severity` says what happens unless it is accepted."""

    code: str
    severity: Literal["refuse", "warn"]
    what: str
    why: str
    do: str


@dataclass(frozen=True)
class Facts:
    """What is known about the development of the model beyond the nomogram; None or empty = not known or none.

    Parameters
    ----------
    separation : str
        "quasi" or "complete" when the fitting data were separated.
    n, events, parameters : int
        Patients, events and candidate parameters (all that were tried, not only those kept).
    required_n : int
        Patients that Riley's criteria ask for.
    corrected_slope : float
        Optimism-corrected calibration slope, before any shrinkage.
    in_sample_scores : sequence of str
        Inputs that are scores of another predictor, computed on the rows it was trained on.
    late : mapping from input to words
        Inputs that are available only after the time of prediction, and when.
    """

    separation: str = ""
    n: int | None = None
    events: int | None = None
    parameters: int | None = None
    required_n: int | None = None
    corrected_slope: float | None = None
    in_sample_scores: Sequence[str] = ()
    late: Mapping[str, str] = field(default_factory=dict)


def refusals(nomogram: Nomogram, facts: Facts) -> tuple[Finding, ...]:
    """Everything that speaks against printing this nomogram, in the order of the codes; empty = nothing.

    >>> from osml.nomogram import LogisticOutcome, Predictor, from_coefficients
    >>> n = from_coefficients({"Intercept": -3, "age": 0.05}, [Predictor("age", low=20, high=60)],
    ...                       LogisticOutcome("relapse"))
    >>> [(f.code, f.severity) for f in refusals(n, Facts(events=5, parameters=7))]
    [('OSML042', 'refuse')]
    """
    found: list[Finding] = []

    def add(code: str, what: str, why: str, do: str) -> None:
        severity = next(s for c, s, _ in CODES if c == code)
        found.append(Finding(code, severity, what, why, do))

    if facts.separation:
        add(
            "OSML043",
            f"the predictors separate the outcome ({facts.separation} separation)",
            "The maximum likelihood estimate does not exist; points and probabilities would be arbitrary.",
            "Use Firth's penalised likelihood, ridge, or fewer predictors.",
        )
    _check_errors(nomogram, add)
    _check_levels(nomogram, add)
    if facts.events is not None and facts.parameters is not None and facts.parameters >= facts.events:
        add(
            "OSML042",
            f"{facts.parameters} candidate parameters for {facts.events} events",
            "Such a model fits noise.",
            "Choose fewer candidates before looking at the outcome.",
        )
    if facts.required_n is not None and facts.n is not None and facts.n < facts.required_n:
        add(
            "OSML041",
            f"{facts.n} patients; Riley's criteria ask for {facts.required_n} with these candidates",
            "The model is exploratory: expect strong shrinkage and imprecise risks.",
            "Print 'exploratory', use fewer candidates, or collect more patients.",
        )
    if facts.corrected_slope is not None and facts.corrected_slope < MIN_SLOPE:
        add(
            "OSML045",
            f"the optimism-corrected calibration slope is {facts.corrected_slope:.2f}, below {MIN_SLOPE}",
            "Extreme predictions are too extreme in new patients.",
            "Deploy the shrunken model, or use fewer candidates.",
        )
    _check_outcome(nomogram, add)
    for name in facts.in_sample_scores:
        add(
            "OSML048",
            f"score {name!r} was computed on the rows it was trained on",
            "Its axis is too long: the score looks better in training than in any new patient.",
            "Use out-of-fold scores.",
        )
    for name, when in facts.late.items():
        add(
            "OSML014",
            f"{name!r} is available only {when}, after the time of prediction",
            "Nobody can know it when the nomogram is to be used.",
            "Leave it out, or move the time of prediction.",
        )
    return tuple(sorted(found, key=lambda f: f.code))


def _check_errors(nomogram: Nomogram, add: _Add) -> None:
    if nomogram.model.covariance is None:
        return
    variance = np.diag(np.asarray(nomogram.model.covariance, dtype=np.float64))
    bad = int(np.sum(~np.isfinite(variance) | (variance < 0)))
    if bad:
        add(
            "OSML046",
            f"{bad} standard errors are not finite",
            "The model is not identified by the data.",
            "Remove redundant predictors or merge levels.",
        )


def _check_levels(nomogram: Nomogram, add: _Add) -> None:
    survival = isinstance(nomogram.outcome, CoxOutcome)
    for p in nomogram.predictors:
        if not (p.level_counts and p.level_events):
            continue
        for level, n, events in zip(p.levels, p.level_counts, p.level_events, strict=True):
            if events == 0 or (events == n and not survival):
                lacking = "no event" if events == 0 else "no patient without the event"
                add(
                    "OSML040",
                    f"{p.label} = {level}: {lacking} among {n} patients",
                    "Its effect cannot be estimated.",
                    "Merge the level with another, or use Firth's penalised likelihood.",
                )


def _check_outcome(nomogram: Nomogram, add: _Add) -> None:
    outcome = nomogram.outcome
    for j, name in enumerate(outcome.names):
        if not shown(nomogram, j):
            assert isinstance(outcome, CoxOutcome)
            add(
                "OSML049",
                f"{name}: {outcome.at_risk[j]} patients at risk at that time, fewer than {MIN_AT_RISK}",
                "The baseline survival there rests on a handful of patients.",
                "Choose an earlier horizon; this one gets no axis.",
            )
            continue
        ticks = outcome_ticks(nomogram, j)
        at = nomogram.total_for(np.asarray(ticks), j) if ticks else np.zeros(1)
        spread = float(np.ptp(at)) / full_total(nomogram)
        if spread < MIN_SPREAD:
            add(
                "OSML047",
                f"{name}: its ticks cover {100 * spread:.0f} % of the total-points axis",
                "Most totals lie where the probability hardly changes; the axis cannot be read well.",
                "Check the predictors' ranges, and whether the model separates almost perfectly.",
            )


class _Add(Protocol):
    """Signature of the collector in `refusals`."""

    def __call__(self, code: str, what: str, why: str, do: str) -> None: ...
