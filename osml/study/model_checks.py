"""Coded checks that need statistics: sample size, separation, missingness and site by outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from osml.codes import Finding
from osml.cohort.build import BuiltCohort
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold, development_patients, make_folds, patient_classes
from osml.errors import NotEstimableError
from osml.evaluation.contingency import chi_square, fisher_exact
from osml.evaluation.sample_size import Adequacy, adequacy, riley_sample_size
from osml.predictors.contract import Design
from osml.predictors.learn import complete, fit_recipe_imputer, make_terms
from osml.predictors.recipe import GlmRecipe, recipe_of
from osml.schema.model import NomogramPredictor, RadscorePredictor, Schema
from osml.stats.separation import separation
from osml.stats.terms import design_columns, design_matrix

ALPHA = 0.01
FEW_ROWS = 10


def model_checks(schema: Schema, built: BuiltCohort) -> list[Finding]:
    """All findings about the predictors of a schema; missingness is judged before complete-case exclusions."""
    cohort, validation = built.cohort, schema.validation
    folds = make_folds(cohort, validation.split, validation.seed)
    # The patients whom the deployed model is fitted to: a hold-out adds nothing to its sample.
    developed = cohort.of(development_patients(cohort, folds, validation.split))
    return [
        *_missing_by_outcome(built.eligible),
        *_site(schema, cohort),
        *_sample_sizes(schema, developed),
        *_separation(schema, developed),
        *_few_of_a_class(schema, cohort, folds),
    ]


def sample_size(schema: Schema, cohort: Cohort, name: str) -> Adequacy:
    """Riley's criteria for a predictor's candidate parameters, at the patients at hand.

    R² is 15 % of its maximum: never this data's own fit.
    """
    outcome = cohort.outcome
    assert outcome is not None
    parameters = candidate_parameters(schema, name)
    n, events = len(cohort.patient_ids), int(patient_classes(cohort).sum())
    if isinstance(outcome, SurvivalOutcome):
        follow_up = float(outcome.time.mean())
        required = riley_sample_size(
            "survival",
            parameters,
            event_rate=events / (n * follow_up),
            mean_follow_up=follow_up,
            horizon=float(outcome.horizons[-1]),
        )
    else:
        required = riley_sample_size("binary", parameters, prevalence=events / n)
    return adequacy(n, events, required)


def candidate_parameters(schema: Schema, name: str) -> int:
    """Coefficients a nomogram chooses from, those of the nomograms that feed it included.

    A Rad-score counts as the one coefficient that it gets here: it arrives out-of-fold. Its own features are judged
    by `OSML041` of the Rad-score.
    """
    own = recipe_of(schema, name).candidate_parameters
    return own + sum(
        candidate_parameters(schema, item) for item in schema.predictors[name].inputs if item in schema.nomograms()
    )


def _missing_by_outcome(cohort: Cohort) -> Iterator[Finding]:
    groups = cohort.outcome_groups()
    for name, x in cohort.values.items():
        gone = np.isnan(x)
        if not gone.any() or gone.all():
            continue
        p = fisher_exact(np.array([[(part & g).sum() for g in groups.values()] for part in (gone, ~gone)])).p
        if p < ALPHA:
            share = [f"{100 * gone[g].mean():.0f} %" for g in groups.values()]
            words = f"{share[0]} with and {share[-1]} without the event"
            if isinstance(cohort.outcome, ClassOutcome):
                words = ", ".join(f"{s} of {name}" for s, name in zip(share, groups, strict=True))
            yield Finding("OSML018", f"missing in {words} (Fisher p = {p:.2g})", name)


def _site(schema: Schema, cohort: Cohort) -> Iterator[Finding]:
    column = schema.cohort.site
    if column is None or cohort.outcome is None:
        return
    sites = np.array(cohort.keys[column])
    names = np.unique(sites[sites != ""])
    if len(names) < 2:
        return
    groups = cohort.outcome_groups()
    table = np.array([[(g & (sites == s)).sum() for g in groups.values()] for s in names])
    p = chi_square(table).p if table.sum(axis=1).min() >= 5 else fisher_exact(table).p
    if p < ALPHA:
        shares = ", ".join(f"{s}: {100 * row[0] / row.sum():.0f} %" for s, row in zip(names[:8], table, strict=False))
        what = "the event"
        if isinstance(cohort.outcome, ClassOutcome):
            what = next(iter(groups))
        yield Finding("OSML019", f"share with {what} by {column}: {shares} (p = {p:.2g})", column)


def _sample_sizes(schema: Schema, cohort: Cohort) -> Iterator[Finding]:
    if not schema.nomograms() and not any(isinstance(b, RadscorePredictor) for b in schema.predictors.values()):
        return
    outcome = cohort.event_outcome
    events = int(patient_classes(cohort).sum())  # patients with the event: rows of one patient are not new ones
    smaller = min(events, len(cohort.patient_ids) - events) if isinstance(outcome, BinaryOutcome) else events
    for name, block in schema.predictors.items():
        if not isinstance(block, NomogramPredictor | RadscorePredictor):
            continue
        if isinstance(block, RadscorePredictor):
            yield from _candidate_features(schema, block, cohort, name, smaller)
            continue
        parameters = candidate_parameters(schema, name)
        if parameters >= events:
            yield Finding("OSML042", f"{parameters} candidate parameters, {events} events", name)
            continue
        try:
            judged = sample_size(schema, cohort, name)
        except NotEstimableError as error:
            yield Finding("OSML041", error.what, name)
            continue
        if judged.exploratory:
            also = f" and {smaller / parameters:.1f} of the smaller class" if smaller < events else ""
            yield Finding(
                "OSML041",
                f"{judged.n} patients and {events} events for {parameters} candidate parameters; Riley's criteria "
                f"ask for {judged.required.n} patients ({judged.required.driving}); expected shrinkage "
                f"{judged.expected_shrinkage:.2f}; "
                f"{events / parameters:.1f} events{also} per parameter",
                name,
            )


def _candidate_features(
    schema: Schema, block: RadscorePredictor, cohort: Cohort, name: str, smaller: int
) -> Iterator[Finding]:
    table = cohort.features.get(block.inputs[0])
    if table is not None:
        regions = len({column.split("|")[1] for column in table.columns}) if block.region == "best" else 1
        features = sum(column.split("|")[1] == block.region for column in table.columns) or len(table.columns)
        evidence = f"{features:,} candidate features"
        evidence += f" of {regions} regions" if regions > 1 else ""
        yield Finding(
            "OSML041",
            f"{evidence}, {smaller} patients in the smaller class: which features are chosen is unstable",
            name,
        )


def _few_of_a_class(schema: Schema, cohort: Cohort, folds: Sequence[Fold]) -> Iterator[Finding]:
    """OSML050: a network's training fold with fewer than `FEW_ROWS` units of a class."""
    if not schema.networks():
        return
    words = "rows" if cohort.per_row else "patients"
    groups = cohort.outcome_groups()
    if isinstance(cohort.outcome, ClassOutcome):  # a label that stops early is no class of its own
        groups = {leaf: groups[leaf] for leaf in cohort.outcome.tree.leaves}
    for what, units in groups.items():
        counts = {fold.name: int(np.isin(np.array(cohort.patients)[units], fold.train).sum()) for fold in folds}
        name, least = min(counts.items(), key=lambda item: item[1])
        if least < FEW_ROWS:
            few = sum(n < FEW_ROWS for n in counts.values())
            told = f"{few} of {len(folds)} training folds, down to {least} {words} in {name}"
            yield Finding("OSML050", told, what)


def _separation(schema: Schema, cohort: Cohort) -> Iterator[Finding]:
    outcome = cohort.outcome
    for name in schema.nomograms():
        recipe = recipe_of(schema, name)
        yield from _one_sided(schema, recipe, cohort)
        if not isinstance(outcome, BinaryOutcome) or recipe.estimator == "firth" or recipe.shrink == "ridge":
            continue
        if any(i.kind == "score" for i in recipe.inputs) or recipe.candidate_parameters >= outcome.event.sum():
            continue
        values = recipe.values(Design(cohort))
        ones = np.ones(len(cohort))
        try:
            filled, _ = complete(fit_recipe_imputer(recipe, values, ones), values)
            terms = make_terms(recipe, filled, ones)
            found = separation(design_matrix(terms, filled), outcome.y)
        except NotEstimableError:
            continue  # a constant or an empty level: other codes name it
        if found.kind != "none":
            columns = design_columns(terms)
            named = ", ".join(columns[j] for j in found.columns[:6])
            yield Finding("OSML043", f"{found.kind} separation by {named}", name)


def _one_sided(schema: Schema, recipe: GlmRecipe, cohort: Cohort) -> Iterator[Finding]:
    outcome = cohort.event_outcome
    if recipe.estimator == "firth" or recipe.shrink == "ridge":
        return
    for item in recipe.inputs:
        for position, level in enumerate(item.levels):
            inside = cohort.values[item.name] == position
            n, events = int(inside.sum()), int(outcome.event[inside].sum())
            if n == 0:
                yield Finding("OSML040", f"level {level!r} of {item.name!r} has no patient", recipe.name)
            elif events == 0 or (isinstance(outcome, BinaryOutcome) and events == n):
                yield Finding(
                    "OSML040", f"level {level!r} of {item.name!r}: {events} of {n} patients with the event", recipe.name
                )
