"""Explain the final model of a run for its training patients: what it does, not how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.cohort.splits import development_patients, folds_from_json
from osml.errors import NotEstimableError, RunError
from osml.explanation.additive import additive_shap
from osml.explanation.permutation import MOST_INPUTS, permutation_shap, subset_shap
from osml.explanation.values import Shap
from osml.files import read_json
from osml.predictors.chain import Chain, load_chain
from osml.predictors.contract import Design
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore
from osml.runs.cohort_store import load_cohort
from osml.schema.model import BinaryInput, CategoryInput, Schema
from osml.schema.suggest import hint
from osml.schema.targets import SurvivalTarget

Float = NDArray[np.float64]
BACKGROUND = 40  # training rows that stand for an unknown value where a model is not additive
PERMUTATIONS = 8
MOST_CALLS = 2_000_000  # predicted rows up to which all coalitions are walked


@dataclass(frozen=True)
class Column:
    """One input as it is drawn: `x` are values or level positions, `imputed` marks what was not measured.

    many : many numbers that come together (radiomics): no single value stands for them, `x` is NaN
    """

    name: str
    label: str
    unit: str
    levels: tuple[str, ...]
    x: Float
    imputed: NDArray[np.bool_]
    many: bool = False

    @property
    def title(self) -> str:
        """Label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def shown(self, i: int) -> str:
        """The value of unit i in words."""
        if np.isnan(self.x[i]):
            return "missing"
        text = self.levels[int(self.x[i])] if self.levels else f"{self.x[i]:.4g} {self.unit}".strip()
        return text + " (imputed)" if self.imputed[i] else text


@dataclass(frozen=True)
class Explained:
    """SHAP values of one predictor for the training units of its run.

    scale : log odds or log hazard
    method : how the values were computed, and at what cost
    columns : in the order of `shap.inputs`
    """

    predictor: str
    scale: str
    method: str
    shap: Shap
    columns: tuple[Column, ...]
    units: tuple[str, ...]


def explain_run(run: Path, predictor: str | None = None, *, trust: bool = False) -> Explained:
    """SHAP values of a run's final model for all its training units.

    Logistic and Cox models are explained exactly. Any other predictor is explained by coalitions of its inputs, whose
    number of predicted rows is stated in `method`.

    Parameters
    ----------
    run : folder of a run
    predictor : default: the one that the study chose, else the first of the schema that was fitted
    trust : whether files that run code may be read, where a predictor that feeds this one has such files

    Raises
    ------
    TrustError
        There are some, and `trust` is false.
    RunError
        No such predictor, or it failed on all patients.
    NotEstimableError
        Nothing was selected: there is nothing to explain.
    """
    schema = Schema.model_validate(read_json(run / "bundle" / "schema.json"))
    chosen = read_json(run / "bundle" / "facts.json").get("chosen")
    names = sorted(schema.predictors, key=lambda name: name != chosen)
    fitted_names = [n for n in names if (run / "bundle" / "predictors" / n).is_dir()]
    if predictor is None:
        if not fitted_names:
            raise RunError("the run has no final model: all predictors failed")
        predictor = fitted_names[0]
    if predictor not in fitted_names:
        raise RunError(f"the run has no final model of {predictor!r}", do=hint(predictor, fitted_names))
    place = run / "bundle" / "predictors" / predictor
    whole = load_cohort(run / "cohort" / "cohort.parquet")
    folds = folds_from_json(read_json(run / "splits.json"))
    cohort = whole.of(development_patients(whole, folds, schema.validation.split))
    chain = load_chain(schema, predictor, place, trust=trust)
    scale = "log hazard" if isinstance(schema.target, SurvivalTarget) else "log odds"
    if isinstance(chain.fitted, FittedNomogram):
        means = np.array(read_json(place / "background.json")["means"])
        return _additive(predictor, scale, chain, chain.fitted, cohort, means)
    if isinstance(chain.fitted, FittedRadscore):
        return _radscore(predictor, scale, chain.fitted, cohort, schema.validation.seed)
    return _by_coalitions(predictor, scale, chain, cohort, schema)


def _additive(name: str, scale: str, chain: Chain, fitted: FittedNomogram, cohort: Cohort, means: Float) -> Explained:
    if not fitted.model.terms:
        raise NotEstimableError(f"{name}: nothing was selected, so every patient has the same prediction")
    values, imputed = complete(fitted.imputer, fitted.recipe.values(chain.design(cohort.without_outcome())))
    shap = additive_shap(fitted.model, values, means)
    items = [fitted.recipe.input(i) for i in shap.inputs]
    columns = tuple(
        Column(i.name, i.label, "" if i.kind == "category" else i.shown_unit, i.levels, values[i.name], imputed[i.name])
        for i in items
    )
    method = "exact: the model is a sum of terms; measured from the mean of the training patients"
    return Explained(name, scale, method, shap, columns, cohort.units)


def _by_coalitions(name: str, scale: str, chain: Chain, cohort: Cohort, schema: Schema) -> Explained:
    bare = cohort.without_outcome()
    design = chain.design(bare)
    inputs = schema.predictors[name].inputs
    kits = [i for i in inputs if i in cohort.kit]
    if kits:
        raise NotEstimableError(f"{name}: {kits[0]} enters with each patient's own kit range, which cannot be swapped")
    values = {i: design.upstream[i] if i in design.upstream else cohort.values[i] for i in inputs}

    def predict(rows: Mapping[str, Float]) -> Float:
        return chain.fitted.predict(_design(bare, design, rows)).lp

    shap, method = _coalitions(predict, values, schema.validation.seed)
    columns = tuple(_column(schema, i, values[i]) for i in inputs)
    return Explained(name, scale, method, shap, columns, cohort.units)


def _radscore(name: str, scale: str, fitted: FittedRadscore, cohort: Cohort, seed: int) -> Explained:
    """Contributions of the selected features, in standard deviations from the training mean."""
    if not fitted.columns:
        raise NotEstimableError(f"{name}: nothing was selected, so every patient has the same score")
    z, absent = fitted.standardised(cohort.without_outcome())
    forest = fitted.forest
    if forest is None:
        shap = additive_shap(fitted.model, z, np.zeros(len(fitted.columns)))
        method = "exact: the score is a sum of standardised features; measured from the mean of the training patients"
    else:
        shap, method = _coalitions(lambda rows: forest.logit(np.column_stack(list(rows.values()))), z, seed)
    columns = tuple(Column(c, c.replace("|", " "), "SD", (), z[c], absent[c]) for c in fitted.columns)
    return Explained(name, scale, method, shap, columns, cohort.units)


def _coalitions(
    predict: Callable[[Mapping[str, Float]], Float], values: Mapping[str, Float], seed: int
) -> tuple[Shap, str]:
    """SHAP values of any predictor against some training rows, and in words how they came about."""
    n = len(next(iter(values.values())))
    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(n)[:BACKGROUND])
    background = {i: x[chosen] for i, x in values.items()}
    if len(values) <= MOST_INPUTS and 2 ** len(values) * n * len(chosen) <= MOST_CALLS:
        shap = subset_shap(predict, values, background)
        method = f"exact over all coalitions of inputs, against {len(chosen)} training patients; {shap.calls:,} rows"
    else:
        shap = permutation_shap(predict, values, background, permutations=PERMUTATIONS, seed=seed)
        method = (
            f"{PERMUTATIONS} antithetic pairs of orders of the inputs, against {len(chosen)} training patients; "
            f"{shap.calls:,} rows; largest standard error {shap.error.max():.2g}"
        )
    return shap, method + " predicted"


def _design(cohort: Cohort, design: Design, rows: Mapping[str, Float]) -> Design:
    """Made-up units with these values; whatever is not swapped must not enter the predictor, so it is NaN."""
    n = len(next(iter(rows.values())))
    names = tuple(map(str, range(n)))
    values = {i: rows[i] if i in rows else np.full(n, np.nan) for i in cohort.values}
    made = replace(
        cohort, units=names, patients=names, copies=np.zeros(n, dtype=np.intp), values=values, kit={}, keys={}
    )
    return Design(made, {i: rows[i] for i in design.upstream})


def _column(schema: Schema, name: str, x: Float) -> Column:
    nothing = np.zeros(len(x), dtype=bool)
    if name not in schema.inputs:
        return Column(name, f"{name} score", "", (), x, nothing)
    block: Any = schema.inputs[name]
    levels = block.levels if isinstance(block, (BinaryInput, CategoryInput)) else ()
    return Column(name, block.label or name, getattr(block, "unit", None) or "", levels, x, nothing)
