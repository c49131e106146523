"""Leaky twins: pipelines with one deliberate leak each, to show that the leakage check would have seen it.

selection : inputs are chosen by their univariable p-value on all patients, test patients included; a Rad-score's
    candidate features by mRMR on all patients.
imputation : missing values are filled by a model fitted to all patients.
upstream : a score that was fitted to all patients enters as an input, instead of an out-of-fold one.
They exist for `osml check --leakage` and its tests only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort, EventOutcome, FeatureTable
from osml.cohort.splits import derive_seed
from osml.files import write_json
from osml.predictors.chain import Chain, fit_chain, training_design
from osml.predictors.contract import Design, Prediction
from osml.predictors.learn import Learnt, complete, fit_recipe_imputer, learn, make_terms
from osml.predictors.nomogram import fold_numbers
from osml.predictors.radscore import FittedRadscore, radscore_recipe
from osml.predictors.radscore_fit import fit_radscore
from osml.predictors.recipe import GlmRecipe, InputRecipe, recipe_of
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.model import RadscorePredictor, Schema
from osml.schema.networks import NetworkPredictor, StackPredictor
from osml.schema.tabular import BoostingPredictor
from osml.stats.impute import Imputer
from osml.stats.select import select_univariable
from osml.stats.terms import design_matrix

Float = NDArray[np.float64]
Twin = Literal["selection", "imputation", "upstream"]
LEAKED_FEATURES = 5  # the first of mRMR: what a paper's "final features" usually are
TWINS: tuple[Twin, ...] = ("selection", "imputation", "upstream")


@dataclass(frozen=True)
class LeakyChain:
    """A twin's fitted model with what leaked into it."""

    recipe: GlmRecipe
    learnt: Learnt
    leak: Mapping[str, object]
    score: Learnt | None
    upstream: tuple[Chain, ...]

    def predict(self, cohort: Cohort) -> Prediction:
        """Linear predictor of units; probabilities are not the twin's business and are its logistic transform."""
        design = Design(cohort.without_outcome(), {link.name: link.predict(cohort).lp for link in self.upstream})
        values = self.recipe.values(design) if self.score is None else _with_score(self.recipe, design, self.score)
        filled, _ = complete(self.learnt.imputer, values)
        model = self.learnt.model
        lp = model.lp(filled) if model.terms else np.full(len(cohort), model.intercept)
        p = 1 / (1 + np.exp(-np.clip(lp, -700, 700)))
        return Prediction(cohort.units, cohort.patients, ("event",), p[:, None], lp)

    def save(self, folder: Path) -> None:
        """Coefficients and the leaked part, for byte comparison."""
        imputer = self.learnt.imputer
        write_json(
            folder / "twin.json",
            {
                "coef": [float(c) for c in self.learnt.model.coef],
                "intercept": float(self.learnt.model.intercept),
                "imputer": None if imputer is None else imputer.to_dict(),
                "score": None if self.score is None else [float(c) for c in self.score.model.coef],
                **self.leak,
            },
        )


def fit_twin(
    kind: Twin, schema: Schema, name: str, cohort: Cohort, train: Sequence[str], seed: tuple[int, int, int]
) -> LeakyChain | LeakyRadscore | LeakyWhole:
    """Fit a twin: `cohort` holds all patients, which is the leak; only `train` should have been seen."""
    if isinstance(schema.predictors[name], NetworkPredictor | StackPredictor | AutogluonPredictor | BoostingPredictor):
        return LeakyWhole(fit_chain(schema, name, cohort, seed))
    if isinstance(schema.predictors[name], RadscorePredictor):
        return _radscore_twin(schema, name, cohort, train, seed)
    recipe = recipe_of(schema, name)
    everybody, _ = training_design(schema, name, cohort, seed)
    inside, links = training_design(schema, name, cohort.of(train), seed)
    folds = fold_numbers(inside, recipe.inner_folds, derive_seed(*seed, "twin"))
    ones = np.ones(len(inside.cohort))
    outcome = _outcome(inside)
    if kind == "selection":
        chosen, p_values = _chosen(recipe, everybody)
        recipe = replace(recipe, inputs=tuple(i for i in recipe.inputs if i.name in chosen), select="none")
        learnt = learn(recipe, recipe.values(inside), outcome, ones, folds)
        return LeakyChain(recipe, learnt, {"p_values": p_values}, None, links)
    if kind == "imputation":
        imputer = fit_recipe_imputer(recipe, recipe.values(everybody), np.ones(len(cohort)))
        learnt = _learn_filled(recipe, recipe.values(inside), outcome, ones, folds, imputer)
        return LeakyChain(recipe, learnt, {}, None, links)
    score = learn(
        recipe,
        recipe.values(everybody),
        _outcome(everybody),
        np.ones(len(cohort)),
        fold_numbers(everybody, recipe.inner_folds, derive_seed(*seed, "twin")),
    )
    scored = replace(recipe, inputs=(*recipe.inputs, InputRecipe("_score", "score", "score")))
    learnt = _fit_scored(scored, _with_score(recipe, inside, score), outcome, ones, folds)
    return LeakyChain(recipe, learnt, {}, score, links)


@dataclass(frozen=True)
class LeakyRadscore:
    """A Rad-score whose few candidates were chosen by mRMR on all patients, test patients included."""

    fitted: FittedRadscore
    chosen: tuple[str, ...]

    def predict(self, cohort: Cohort) -> Prediction:
        """As the Rad-score predicts."""
        return self.fitted.predict(Design(_only(cohort.without_outcome(), self.fitted.recipe.input, self.chosen)))

    def save(self, folder: Path) -> None:
        """The score and what leaked into it."""
        self.fitted.save(folder)
        write_json(folder / "twin.json", list(self.chosen))


@dataclass(frozen=True)
class LeakyWhole:
    """A network or stack that was fitted to all patients, test patients included."""

    chain: Chain

    def predict(self, cohort: Cohort) -> Prediction:
        """As the predictor predicts."""
        return self.chain.predict(cohort)

    def save(self, folder: Path) -> None:
        """What it learnt."""
        self.chain.save(folder)


def _radscore_twin(
    schema: Schema, name: str, cohort: Cohort, train: Sequence[str], seed: tuple[int, int, int]
) -> LeakyRadscore:
    recipe = radscore_recipe(schema, name)
    everybody = fit_radscore(recipe, Design(cohort), derive_seed(*seed, name))
    assert everybody.selection is not None
    kept = next(step.kept for step in everybody.selection.steps if step.name == "mrmr")[:LEAKED_FEATURES]
    chosen = tuple(everybody.names[j] for j in kept)
    inside = _only(cohort.of(train), recipe.input, chosen)
    return LeakyRadscore(fit_radscore(recipe, Design(inside), derive_seed(*seed, name)), chosen)


def _only(cohort: Cohort, name: str, columns: Sequence[str]) -> Cohort:
    """The cohort with these columns of a feature table, in the table's order."""
    table, wanted = cohort.features[name], set(columns)
    index = [j for j, column in enumerate(table.columns) if column in wanted]
    readings = None if table.readings is None else table.readings[:, index]
    kept = FeatureTable(tuple(table.columns[j] for j in index), table.x[:, index], readings)
    return replace(cohort, features={**cohort.features, name: kept})


def _outcome(design: Design) -> EventOutcome:
    return design.cohort.event_outcome


def _chosen(recipe: GlmRecipe, everybody: Design) -> tuple[set[str], list[float]]:
    """The third of the inputs (at least one) with the smallest univariable p-values over all patients."""
    values = recipe.values(everybody)
    ones = np.ones(len(everybody.cohort))
    filled, _ = complete(fit_recipe_imputer(recipe, values, ones), values)
    terms = make_terms(recipe, filled, ones)
    groups, start = [], 0
    for term in terms:
        groups.append(list(range(start, start + len(term.columns))))
        start += len(term.columns)
    outcome = _outcome(everybody)
    y = outcome.y if isinstance(outcome, BinaryOutcome) else (outcome.time, outcome.event)
    p = select_univariable(groups, design_matrix(terms, filled), y, p_enter=1.0).p_values
    best = np.argsort(p, kind="stable")[: max(1, len(terms) // 3)]
    return {terms[k].inputs[0] for k in best}, [float(x) for x in p]


def _learn_filled(
    recipe: GlmRecipe,
    values: Mapping[str, Float],
    outcome: EventOutcome,
    ones: Float,
    folds: NDArray[np.intp],
    imputer: Imputer | None,
) -> Learnt:
    filled, _ = complete(imputer, values)
    return replace(learn(replace(recipe, impute=False), filled, outcome, ones, folds), imputer=imputer)


def _with_score(recipe: GlmRecipe, design: Design, score: Learnt) -> dict[str, Float]:
    values = recipe.values(design)
    filled, _ = complete(score.imputer, values)
    lp = score.model.lp(filled) if score.model.terms else np.zeros(len(design.cohort))
    return {**values, "_score": lp}


def _fit_scored(
    recipe: GlmRecipe, values: Mapping[str, Float], outcome: EventOutcome, ones: Float, folds: NDArray[np.intp]
) -> Learnt:
    """The score alone: beside the columns it was made of it would be collinear."""
    only = replace(recipe, inputs=recipe.inputs[-1:], select="none", impute=False)
    return learn(only, {"_score": values["_score"]}, outcome, ones, folds)
