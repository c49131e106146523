"""One predictor on all development patients: the model that is deployed, and what is known of it besides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import derive_seed, patient_classes
from osml.predictors.chain import Chain, training_design
from osml.predictors.contract import Design
from osml.predictors.nomogram import Development
from osml.predictors.nomogram import develop as develop_nomogram
from osml.predictors.recipe import recipe_of
from osml.schema.load import LoadedSchema
from osml.schema.model import NomogramPredictor, RadscorePredictor
from osml.study.judge import judge_development
from osml.study.judge_survival import judge_survival_development
from osml.study.model_checks import candidate_parameters
from osml.study.network import develop_network
from osml.study.radscore import develop_radscore
from osml.study.tables import write_regression
from osml.study.tasks import adjusted, final_seed, probabilities_hidden


@dataclass(frozen=True)
class DevelopTask:
    """Everything a worker needs to fit one predictor for deployment."""

    loaded: LoadedSchema
    name: str
    cohort: Cohort
    run: Path


@dataclass(frozen=True)
class Developed:
    """A predictor that is ready to be deployed; of a nomogram also its development, from which it is drawn."""

    chain: Chain
    design: Design
    facts: dict[str, Any]
    development: Development | None = None


def develop(task: DevelopTask) -> Developed:
    """Fit, and write the tables and curves of the fit into the run. Runs in any process."""
    loaded, name, cohort = task.loaded, task.name, task.cohort
    block = loaded.schema.predictors[name]
    if isinstance(block, NomogramPredictor):
        development, chain = _nomogram(loaded, name, cohort)
        facts = _development_facts(loaded, name, cohort, development)
        reason = write_regression(development.fitted.recipe, development.design, task.run / "tables")
        if reason:
            facts["regression_tables"] = {"reason": reason}
        return Developed(chain, development.design, facts, development)
    other = develop_radscore if isinstance(block, RadscorePredictor) else develop_network
    chain, facts = other(loaded, name, cohort, task.run)
    return Developed(chain, Design(cohort), facts)


def _nomogram(loaded: LoadedSchema, name: str, cohort: Cohort) -> tuple[Development, Chain]:
    schema = loaded.schema
    seed = final_seed(schema)
    design, links = training_design(schema, name, cohort, seed)
    optimism = schema.validation.optimism
    wanted = optimism is not None and name in optimism.predictors
    development = develop_nomogram(
        recipe_of(schema, name), design, derive_seed(*seed, name), final=True, bootstrap=wanted
    )
    return development, adjusted(Chain(name, development.fitted, links), schema)


def _development_facts(loaded: LoadedSchema, name: str, cohort: Cohort, development: Development) -> dict[str, Any]:
    optimism = loaded.schema.validation.optimism
    corrected = optimism is not None and name in optimism.predictors
    outcome = cohort.outcome
    parameters = candidate_parameters(loaded.schema, name)
    if isinstance(outcome, BinaryOutcome):
        facts = judge_development(development, cohort, corrected, probabilities_hidden(loaded.schema), parameters)
    else:
        assert outcome is not None
        facts = judge_survival_development(development, cohort, corrected)
    slope = development.fitted.slope
    facts["shrinkage"] = {
        "kind": development.fitted.recipe.shrink,
        "slope": slope.value,
        "source": slope.source,
        "bootstraps": slope.replicates,
        "not_estimable": slope.failed,
    }
    facts["candidate_parameters"] = parameters
    facts["development"] = {
        "patients": len(cohort.patient_ids),
        "rows": len(cohort),
        "events": int(patient_classes(cohort).sum()),
    }
    facts["selected"] = dict(development.fitted.selected)
    return facts
