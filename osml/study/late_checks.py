"""Coded checks that only a fitted model can answer: proportional hazards, corrected slope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from osml.codes import Finding
from osml.cohort.cohort import SurvivalOutcome
from osml.errors import NotEstimableError
from osml.evaluation.proportional_hazards import proportional_hazards
from osml.predictors.learn import complete
from osml.predictors.nomogram import SCORES_FIXED, Development
from osml.predictors.refits import OPTIMISM
from osml.stats.terms import design_matrix

ALPHA = 0.05
LOW_SLOPE = 0.8


def late_findings(name: str, development: Development, facts: dict[str, Any]) -> list[Finding]:
    """OSML044 and OSML045 for one predictor; the test of proportional hazards is stored in `facts`."""
    return [*_hazards(name, development, facts), *_slope(name, development)]


def _hazards(name: str, development: Development, facts: dict[str, Any]) -> Iterator[Finding]:
    fitted, design = development.fitted, development.design
    outcome = design.cohort.outcome
    model = fitted.unshrunken
    if not isinstance(outcome, SurvivalOutcome) or not model.terms:
        return
    filled, _ = complete(fitted.imputer, fitted.recipe.values(design))
    columns: dict[str, list[int]] = {}
    start = 0
    for term in model.terms:
        columns[term.inputs[0]] = list(range(start, start + len(term.columns)))
        start += len(term.columns)
    try:
        test = proportional_hazards(design_matrix(model.terms, filled), outcome.time, outcome.event, columns)
    except NotEstimableError as error:
        facts["proportional_hazards"] = {"reason": error.what}
        return
    facts["proportional_hazards"] = {
        "test": "Schoenfeld residuals against 1 - Kaplan-Meier, as survival::cox.zph",
        "global_p": test.global_p,
        "p": {term: float(p) for term, p in zip(test.terms, test.p, strict=True)},
    }
    low = [f"{term} (p = {p:.2g})" for term, p in zip(test.terms, test.p, strict=True) if p < ALPHA]
    if low or test.global_p < ALPHA:
        yield Finding("OSML044", f"{', '.join(low) or 'no single input'}; global p = {test.global_p:.2g}", name)


def _slope(name: str, development: Development) -> Iterator[Finding]:
    slope = development.fitted.slope
    if slope.source in (OPTIMISM, SCORES_FIXED) and slope.value < LOW_SLOPE:
        yield Finding("OSML045", f"{slope.value:.2f} ({slope.source})", name)
