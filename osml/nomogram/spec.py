"""What a nomogram is drawn from: predictors with their axes, and the outcome that the total points stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

FloatArray = NDArray[np.float64]


def check_text(text: str, where: str) -> None:
    """Refuse text that cannot be printed on one line."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{where}: expected text, got {text!r}")
    bad = sorted({f"U+{ord(c):04X}" for c in text if not c.isprintable()})
    if bad:
        raise InvalidInputError(f"{where}: {text!r} holds characters that cannot be printed: {', '.join(bad)}")


def _finite(value: float, where: str) -> None:
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise InvalidInputError(f"{where}: expected a finite number, got {value!r}")


@dataclass(frozen=True)
class Unit:
    """Another unit that the calculator offers: value in this unit = factor * (value in the model's unit) + offset."""

    name: str
    factor: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_text(self.name, "unit")
        _finite(self.factor, f"unit {self.name!r}: factor")
        _finite(self.offset, f"unit {self.name!r}: offset")
        if self.factor == 0:
            raise InvalidInputError(f"unit {self.name!r}: factor is 0")


@dataclass(frozen=True)
class Histogram:
    """Training patients per bin; a bin with fewer than 5 holds 0, so that no single patient can be read.

    Parameters
    ----------
    edges : tuple of float (k + 1,)
        Increasing, in the predictor's unit.
    counts : tuple of int (k,)
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1 or any(b <= a for a, b in pairwise(self.edges)):
            raise InvalidInputError(f"histogram of {len(self.counts)} counts with edges {self.edges}")
        small = [c for c in self.counts if c != 0 and c < 5]
        if small:
            raise InvalidInputError(
                f"histogram holds counts below 5: {small}",
                why="A bin of fewer than 5 patients can identify one.",
                do="Set such bins to 0, as `number_predictor` does.",
            )


@dataclass(frozen=True)
class Predictor:
    """One input of the model: how its axis is named, where it runs and what the training patients looked like.

    Parameters
    ----------
    name : str
        Input name in the model's terms.
    kind : "number" or "category"
    label, unit, definition : str
        Printed at the axis; the label defaults to the name.
    low, high : float, optional
        Ends of a number's axis, in its unit: see `axis_range`. They default to the ends of `ticks`.
    ticks : tuple of float
        Explicit major ticks, increasing; empty = 5 to 9 round values and the two ends.
    log : bool
        The axis is chosen and ticked on the logarithmic scale; labels stay on the natural scale.
    decimals : int, optional
        Decimals to which the value is recorded; no tick is finer.
    levels : tuple of str
        Level names of a category, in the order of the positions 0..K-1 of the model's term.
    level_counts, level_events : tuple of int
        Training patients and events per level; empty = not given.
    reference : int
        Position of the level marked as reference.
    histogram : Histogram, optional
    share_below, share_above : float
        Share of training patients below `low` and above `high`.
    unknown : float, optional
        Value (or level position) that stands for "not known"; None = the value must be given.
    by_hand : bool
        False for a score that only software can compute (Rad-score): said at the axis.
    second_reader : (float, float), optional
        Median and 95th percentile of the change of probability when a second reader draws the mask.
    units : tuple of Unit
        Other units offered by the calculator.
    """

    name: str
    kind: Literal["number", "category"] = "number"
    label: str = ""
    unit: str = ""
    definition: str = ""
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] = ()
    log: bool = False
    decimals: int | None = None
    levels: tuple[str, ...] = ()
    level_counts: tuple[int, ...] = ()
    level_events: tuple[int, ...] = ()
    reference: int = 0
    histogram: Histogram | None = None
    share_below: float = 0.0
    share_above: float = 0.0
    unknown: float | None = None
    by_hand: bool = True
    second_reader: tuple[float, float] | None = None
    units: tuple[Unit, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.name, self.label, self.unit, self.definition, *self.levels):
            check_text(text, f"predictor {self.name!r}")
        if not self.name:
            raise InvalidInputError("a predictor has an empty name")
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if self.kind == "category":
            self._check_category()
        elif self.kind == "number":
            self._check_number()
        else:
            raise InvalidInputError(f"predictor {self.name!r}: kind {self.kind!r} is neither 'number' nor 'category'")

    def _check_category(self) -> None:
        k = len(self.levels)
        if k < 2 or len(set(self.levels)) != k or "" in self.levels:
            raise InvalidInputError(
                f"category {self.name!r} needs at least two distinct, named levels, got {self.levels}"
            )
        for what, counts in (("level_counts", self.level_counts), ("level_events", self.level_events)):
            if counts and len(counts) != k:
                raise InvalidInputError(f"category {self.name!r}: {len(counts)} {what} for {k} levels")
        if not 0 <= self.reference < k:
            raise InvalidInputError(f"category {self.name!r}: reference position {self.reference} of {k} levels")
        if self.unknown is not None and self.unknown not in range(k):
            raise InvalidInputError(f"category {self.name!r}: unknown={self.unknown} is no level position")

    def _check_number(self) -> None:
        if self.ticks:
            for tick in self.ticks:
                _finite(tick, f"predictor {self.name!r}: tick")
            if len(self.ticks) < 2 or any(b <= a for a, b in pairwise(self.ticks)):
                raise InvalidInputError(f"predictor {self.name!r}: ticks must increase, got {self.ticks}")
            if self.low is None:
                object.__setattr__(self, "low", float(self.ticks[0]))
            if self.high is None:
                object.__setattr__(self, "high", float(self.ticks[-1]))
        if self.low is None or self.high is None:
            raise InvalidInputError(f"predictor {self.name!r}: a number needs low and high (see axis_range), or ticks")
        _finite(self.low, f"predictor {self.name!r}: low")
        _finite(self.high, f"predictor {self.name!r}: high")
        if self.low >= self.high:
            raise InvalidInputError(f"predictor {self.name!r}: low {self.low} is not below high {self.high}")
        if self.ticks and (self.ticks[0] < self.low or self.ticks[-1] > self.high):
            raise InvalidInputError(f"predictor {self.name!r}: ticks outside {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise InvalidInputError(f"predictor {self.name!r}: a log axis cannot begin at {self.low}")

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of a number's axis."""
        if self.low is None or self.high is None:
            raise InvalidInputError(f"predictor {self.name!r} is a category: it has no ends")
        return float(self.low), float(self.high)

    @property
    def title(self) -> str:
        """Label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class LogisticOutcome:
    """Probability of `event`: logistic(lp). `horizon` is words, such as "within 30 days of surgery"."""

    event: str
    horizon: str = ""
    kind: ClassVar[str] = "logistic"

    def __post_init__(self) -> None:
        check_text(self.event, "outcome event")
        check_text(self.horizon, "outcome horizon")

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the outcome axis."""
        return (f"Risk of {self.event}" + (f" {self.horizon}" if self.horizon else ""),)

    def probability(self, lp: FloatArray) -> FloatArray:
        """Probability of the event, float array (n, 1), from the linear predictor (n,)."""
        lp = np.asarray(lp, dtype=np.float64)
        e = np.exp(-np.abs(lp))
        return np.where(lp >= 0, 1 / (1 + e), e / (1 + e))[:, None]

    def linear_predictor(self, p: FloatArray, which: int = 0) -> FloatArray:
        """Inverse of `probability`: logit of p, strictly between 0 and 1."""
        p = _open_unit(p)
        return np.log(p) - np.log1p(-p)


@dataclass(frozen=True)
class CoxOutcome:
    """Risk of `event` by each horizon, 1 - S0(t)^exp(lp), or survival S0(t)^exp(lp).

    Parameters
    ----------
    event : str
    horizons : tuple of float
        Times, in `unit`, increasing.
    survival : tuple of float
        Baseline survival S0(t) at lp = 0 as the model is centred (Efron), one per horizon.
    unit : str
        Unit of time, as printed: "months".
    show : "risk" or "survival"
        The one that the axes show.
    at_risk : tuple of int
        Training patients still at risk at each horizon; empty = not given. Below 10 a horizon gets no axis.
    baseline_times, baseline_survival : tuple of float
        Steps of S0, right-continuous, for the median; empty = no median axis.
    log_hazard_variance : tuple of float
        Per horizon, variance of the log cumulative baseline hazard due to the counting process alone:
        sum(d / denominator^2) / H0(t)^2. With `mean_design` it gives Wald intervals; empty = none.
    mean_design : tuple of tuple of float
        Per horizon, the mean of the design columns over the baseline hazard: integral of xbar dH0 / H0(t).
    """

    event: str
    horizons: tuple[float, ...]
    survival: tuple[float, ...]
    unit: str = ""
    show: Literal["risk", "survival"] = "risk"
    at_risk: tuple[int, ...] = ()
    baseline_times: tuple[float, ...] = ()
    baseline_survival: tuple[float, ...] = ()
    log_hazard_variance: tuple[float, ...] = ()
    mean_design: tuple[tuple[float, ...], ...] = ()
    kind: ClassVar[str] = "cox"

    def __post_init__(self) -> None:
        check_text(self.event, "outcome event")
        check_text(self.unit, "outcome unit")
        k = len(self.horizons)
        if k == 0 or any(not t > 0 for t in self.horizons) or any(b <= a for a, b in pairwise(self.horizons)):
            raise InvalidInputError(f"horizons must be positive and increasing, got {self.horizons}")
        if len(self.survival) != k or any(not 0 < s < 1 for s in self.survival):
            raise InvalidInputError(
                f"baseline survival: one value in (0, 1) per horizon {self.horizons}, got {self.survival}",
                do="Choose horizons after the first event and before the baseline survival reaches 0.",
            )
        if any(b > a for a, b in pairwise(self.survival)):
            raise InvalidInputError(f"baseline survival increases with time: {self.survival}")
        if self.show not in ("risk", "survival"):
            raise InvalidInputError(f"show is {self.show!r}: choose 'risk' or 'survival'")
        for what, given in (
            ("at_risk", self.at_risk),
            ("log_hazard_variance", self.log_hazard_variance),
            ("mean_design", self.mean_design),
        ):
            if given and len(given) != k:
                raise InvalidInputError(f"{len(given)} {what} for {k} horizons")
        if bool(self.log_hazard_variance) != bool(self.mean_design):
            raise InvalidInputError("log_hazard_variance and mean_design belong together: give both or neither")
        if len(self.baseline_times) != len(self.baseline_survival):
            raise InvalidInputError(
                f"{len(self.baseline_times)} baseline times with {len(self.baseline_survival)} survival values"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outcome axes, one per horizon."""
        return tuple(
            (f"Risk of {self.event} by " if self.show == "risk" else f"Probability of no {self.event} by ")
            + " ".join(part for part in (f"{t:.10g}", self.unit) if part)
            for t in self.horizons
        )

    def probability(self, lp: FloatArray) -> FloatArray:
        """What the axes show, float array (n, horizons), from the linear predictor (n,)."""
        hazard = -np.log(np.asarray(self.survival))[None, :] * np.exp(np.asarray(lp, dtype=np.float64))[:, None]
        return -np.expm1(-hazard) if self.show == "risk" else np.exp(-hazard)

    def linear_predictor(self, p: FloatArray, which: int = 0) -> FloatArray:
        """Inverse of `probability` at horizon number `which`."""
        p = _open_unit(p)
        hazard = -np.log1p(-p) if self.show == "risk" else -np.log(p)
        return np.log(hazard) - np.log(-np.log(self.survival[which]))


Outcome = LogisticOutcome | CoxOutcome


def _open_unit(p: FloatArray) -> FloatArray:
    p = np.asarray(p, dtype=np.float64)
    if not np.all((p > 0) & (p < 1)):
        raise InvalidInputError(f"probabilities must lie strictly between 0 and 1, got {p}")
    return p
