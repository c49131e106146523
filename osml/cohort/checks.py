"""Coded checks of the data alone: what a careful statistician looks at before fitting anything.

Each check is a function from the cohort to findings; `CHECKS` lists all of them, so none can be forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.codes import Finding
from osml.cohort.build import BuiltCohort
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.schema.model import BinaryInput, CategoryInput, Schema

_IDENTIFIER_WORDS = frozenset({
    "id", "ids", "identifier", "name", "surname", "firstname", "lastname", "forename", "mrn", "pid", "uid", "ssn",
    "nhs", "dob", "birthdate", "birthday", "phone", "telephone", "mobile", "email", "mail", "address", "street",
    "zip", "postcode", "postal", "accession", "barcode", "vorname", "nachname", "geburtsdatum", "telefon",
    "adresse", "fallnummer", "fallnr",
})  # fmt: skip
PROXY_AUC = 0.98
RARE = 5
MUCH_MISSING = 0.4


@dataclass(frozen=True)
class Evidence:
    """What the checks look at."""

    schema: Schema
    built: BuiltCohort

    @property
    def cohort(self) -> Cohort:
        return self.built.cohort

    @property
    def events(self) -> dict[str, NDArray[np.bool_]]:
        """What is to be predicted, yes or no for each unit: the event, or each class against the rest."""
        groups = self.cohort.outcome_groups()
        return groups if isinstance(self.cohort.outcome, ClassOutcome) else {"the event": next(iter(groups.values()))}

    def levels(self, name: str) -> tuple[str, ...]:
        """Level names of an input, empty for numbers."""
        block = self.schema.inputs[name]
        return block.levels if isinstance(block, (BinaryInput, CategoryInput)) else ()


def run_checks(schema: Schema, built: BuiltCohort) -> list[Finding]:
    """All findings, in the order of `CHECKS`."""
    evidence = Evidence(schema, built)
    return [finding for check in CHECKS for finding in check(evidence)]


def identifier_words(column: str) -> list[str]:
    """Words of a column's name that name a person or a record.

    >>> identifier_words("PatientID"), identifier_words("patient_id"), identifier_words("hybrid")
    (['id'], ['id'], [])
    """
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower())
    return sorted(_IDENTIFIER_WORDS & set(words))


def counts_rows(first: float, n: int) -> bool:
    """Whether n consecutive whole numbers, each once, are a running number; ages 30 to 41 of 12 patients are not."""
    return first in (0, 1) or n >= 20


def identifiers(e: Evidence) -> Iterator[Finding]:
    """OSML010: by the column's name, or by values that only count or name patients."""
    for name, block in e.schema.values().items():
        column = block.column or name
        hit = identifier_words(column)
        if hit:
            yield Finding("OSML010", f"column {column!r} is named like one ({', '.join(hit)})", name)
            continue
        x = e.cohort.values[name]
        x = x[~np.isnan(x)]
        if len(x) < 10:
            continue
        unique = np.unique(x)
        if e.levels(name):
            if len(unique) >= 0.9 * len(x):
                yield Finding("OSML010", f"{len(unique)} levels for {len(x)} patients", name)
        elif len(unique) == len(x) and np.all(x == np.round(x)):
            if np.all(np.diff(unique) == 1) and counts_rows(float(unique[0]), len(unique)):
                yield Finding("OSML010", f"the values count the patients: {unique[0]:g} to {unique[-1]:g}", name)
            elif unique[0] >= 100_000 and not getattr(block, "unit", None):
                digits = len(str(int(unique[-1])))
                yield Finding("OSML010", f"every patient has another whole number of {digits} digits", name)


def constants(e: Evidence) -> Iterator[Finding]:
    """OSML011: one value, or none."""
    for name, x in e.cohort.values.items():
        seen = np.unique(x[~np.isnan(x)])
        if len(seen) == 0:
            yield Finding("OSML011", "every value is missing", name)
        elif len(seen) == 1:
            shown = e.levels(name)[int(seen[0])] if e.levels(name) else f"{seen[0]:g}"
            yield Finding("OSML011", f"every patient has {shown!r}", name)


def rare_levels(e: Evidence) -> Iterator[Finding]:
    """OSML012: a level with fewer than 5 patients or events (binary target: or non-events)."""
    for name, x in e.cohort.values.items():
        for position, level in enumerate(e.levels(name)):
            inside = x == position
            n = int(inside.sum())
            counts = {what: int(event[inside].sum()) for what, event in e.events.items()}
            small = min(counts.values()) < RARE or (
                isinstance(e.cohort.outcome, BinaryOutcome) and n - counts["the event"] < RARE
            )
            if small:
                told = ", ".join(f"{k} with {what}" for what, k in counts.items())
                yield Finding("OSML012", f"level {level!r}: {n} patients, {told}", name)


def proxies(e: Evidence) -> Iterator[Finding]:
    """OSML013: one input alone ranks the outcome almost perfectly, or equals the follow-up time."""
    outcome = e.cohort.outcome
    for name, x in e.cohort.values.items():
        known = ~np.isnan(x)
        v = x[known]
        if len(np.unique(v)) < 2:
            continue
        for what, whole in e.events.items():
            event = whole[known]
            if event.sum() < 2 or (~event).sum() < 2 or isinstance(outcome, SurvivalOutcome):
                continue
            area = _category_auc(v, event) if e.levels(name) else _auc(v, event)
            if area >= PROXY_AUC:
                alone = "the classes" if isinstance(outcome, BinaryOutcome) else f"{what!r} from the rest"
                yield Finding("OSML013", f"alone it separates {alone} with an AUC of {area:.3f}", name)
        if isinstance(outcome, SurvivalOutcome):
            event = outcome.event[known]
            if event.sum() < 2 or (~event).sum() < 2:
                continue
            if len(np.unique(outcome.time[known])) < 2:
                continue
            rank = abs(np.corrcoef(_ranks(v), _ranks(outcome.time[known]))[0, 1])
            if rank >= PROXY_AUC:
                yield Finding("OSML013", f"rank correlation with the follow-up time is {rank:.3f}", name)


def availability(e: Evidence) -> Iterator[Finding]:
    """OSML014: an input of a predictor is known only after the prediction is made."""
    times = list(e.schema.times)
    moment = times.index(e.schema.time_of_prediction)
    for name in e.schema.inputs:
        known = e.schema.available(name)
        if times.index(known) > moment:
            users = [p for p, predictor in e.schema.predictors.items() if name in predictor.inputs]
            if users:
                moments = f"known at {known!r}, predicted at {e.schema.time_of_prediction!r}"
                evidence = f"{moments}, used by {', '.join(users)}"
                yield Finding("OSML014", evidence, name)


def duplicates(e: Evidence) -> Iterator[Finding]:
    """OSML015: different patients whose known values agree in every input, numbers among them."""
    cohort = e.cohort
    numbers = [name for name in cohort.values if not e.levels(name)]
    if not numbers or len(cohort.values) < 3:
        return
    seen: dict[bytes, int] = {}
    matrix = np.column_stack(list(cohort.values.values()))
    for i in np.flatnonzero(~np.isnan(matrix).any(axis=1)):
        key = matrix[i].tobytes()
        j = seen.setdefault(key, int(i))
        if cohort.patients[j] != cohort.patients[i]:
            pair = f"{cohort.patients[j]} and {cohort.patients[i]}"
            yield Finding("OSML015", f"{pair} agree in all {matrix.shape[1]} inputs")


def altered(e: Evidence) -> Iterator[Finding]:
    """OSML016: values below or above a reporting limit."""
    for name, rules in e.built.altered.items():
        yield Finding("OSML016", "; ".join(f"{n} cells, {rule}" for rule, n in sorted(rules.items())), name)


def missingness(e: Evidence) -> Iterator[Finding]:
    """OSML017: more than 40 % missing, counted before incomplete patients are excluded."""
    for name, x in e.built.eligible.values.items():
        share = float(np.isnan(x).mean())
        if MUCH_MISSING < share < 1:
            yield Finding("OSML017", f"{100 * share:.0f} % missing", name)


def tiles(e: Evidence) -> Iterator[Finding]:
    """OSML023: a slide of two patients; OSML024: tiles that overlap on their slide."""
    place = e.schema.cohort.position
    if place is None:
        return
    cohort = e.cohort
    slides = np.array(cohort.keys[place.slide])
    names = [slide for slide in np.unique(slides) if slide]
    for slide in names:
        owners = sorted({cohort.patients[i] for i in np.flatnonzero(slides == slide)})
        if len(owners) > 1:
            yield Finding("OSML023", f"slide {str(slide)!r} belongs to {', '.join(owners[:5])}")
    try:
        x, y = (np.array([float(cell) for cell in cohort.keys[column]]) for column in (place.x, place.y))
    except ValueError:
        x = y = np.array([np.nan])
    if not np.isfinite([x, y]).all():
        yield Finding("OSML024", f"{place.x!r} and {place.y!r} are not all numbers: overlaps were not looked for")
        return
    pairs = 0
    for slide in names:
        here = np.flatnonzero(slides == slide)
        here = here[np.argsort(x[here], kind="stable")]
        # From left to right: a slide may hold many thousand tiles, too many for a table of all pairs.
        ends = np.searchsorted(x[here], x[here] + place.size)
        pairs += sum(int((np.abs(y[here[k + 1 : end]] - y[here[k]]) < place.size).sum()) for k, end in enumerate(ends))
    if pairs:
        yield Finding("OSML024", f"{pairs} pairs of tiles overlap within their slide")


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    identifiers, constants, rare_levels, proxies, availability, duplicates, altered, missingness, tiles,
)  # fmt: skip


def _ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    return (upper - (counts - 1) / 2.0)[inverse]


def _auc(x: NDArray[np.float64], event: NDArray[np.bool_]) -> float:
    """Area under the curve in the better direction, ties one half."""
    n1, n0 = int(event.sum()), int((~event).sum())
    area = (_ranks(x)[event].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)
    return float(max(area, 1 - area))


def _category_auc(x: NDArray[np.float64], event: NDArray[np.bool_]) -> float:
    rates = {level: event[x == level].mean() for level in np.unique(x)}
    return _auc(np.array([rates[level] for level in x]), event)
