"""Tables of a run: baseline characteristics, univariable and multivariable regression, as CSV with their notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.table_one import Kind, table_one
from osml.evaluation.tables import screened
from osml.files import atomic_write, write_csv
from osml.predictors.contract import Design
from osml.predictors.learn import complete, fit_recipe_imputer, make_terms
from osml.predictors.recipe import GlmRecipe
from osml.schema.model import BinaryInput, CategoryInput, Schema


def write_tables(schema: Schema, cohort: Cohort, folder: Path, seed: int) -> None:
    """table_one.csv over the cohort: overall and by outcome, the rule printed underneath."""
    frame, kinds, levels = readable(schema, cohort)
    if not kinds:
        return
    groups, order = outcome_column(cohort)
    frame["outcome"] = groups
    table = table_one(frame, kinds, by="outcome", levels={**levels, "outcome": order}, seed=seed)
    write_frame(folder / "table_one.csv", table.to_frame(), table.rule)


def outcome_column(cohort: Cohort) -> tuple[list[str], list[str]]:
    """The outcome of each unit in words, and the order of its values: the absence of an event comes first."""
    groups = cohort.outcome_groups()
    names = np.empty(len(cohort), dtype=object)
    for name, units in groups.items():
        names[units] = name
    return names.tolist(), list(groups) if isinstance(cohort.outcome, ClassOutcome) else list(reversed(groups))


def readable(schema: Schema, cohort: Cohort) -> tuple[pd.DataFrame, dict[str, Kind], dict[str, list[str]]]:
    """Values as a clinician reads them: level names, labels as headings; None where missing."""
    columns: dict[str, Any] = {}
    kinds: dict[str, Kind] = {}
    levels: dict[str, list[str]] = {}
    for name, block in schema.values().items():
        unit = getattr(block, "unit", None)
        title = (block.label or name) + (f" ({unit})" if unit else "")
        x = cohort.values[name]
        if isinstance(block, (BinaryInput, CategoryInput)):
            columns[title] = [None if np.isnan(v) else block.levels[int(v)] for v in x]
            kinds[title], levels[title] = "category", list(block.levels)
        else:
            columns[title], kinds[title] = x, "number"
    return pd.DataFrame(columns), kinds, levels


def write_regression(recipe: GlmRecipe, design: Design, folder: Path) -> str:
    """univariable, screened and full regression of one predictor's inputs; returns why not, or ""."""
    outcome = design.cohort.event_outcome
    values = recipe.values(design)
    ones = np.ones(len(design.cohort))
    imputer = fit_recipe_imputer(recipe, values, ones)
    try:
        filled, imputed = complete(imputer, values)
        terms = make_terms(recipe, filled, ones)
        if isinstance(outcome, BinaryOutcome):
            result = screened(terms, filled, y=outcome.y)
        else:
            result = screened(terms, filled, time=outcome.time, event=outcome.event)
    except (NotEstimableError, InvalidInputError) as error:
        return error.what
    gaps = sum(int(mask.sum()) for mask in imputed.values())
    clustered = "Patients with several rows count as several: intervals and p-values are too narrow. "
    note = clustered if design.cohort.clustered else ""
    note += f"{gaps} missing values were imputed once; standard errors do not show that. " if gaps else ""
    write_frame(
        folder / f"univariable_{recipe.name}.csv", result.univariable.to_frame(), note + result.univariable.note
    )
    if result.multivariable is not None:
        write_frame(folder / f"screened_{recipe.name}.csv", result.multivariable.to_frame(), note + result.caution)
    if result.full is not None:
        write_frame(folder / f"multivariable_{recipe.name}.csv", result.full.to_frame(), note + result.full.note)
    return result.full_reason


def write_frame(path: Path, frame: pd.DataFrame, note: str) -> None:
    """A CSV and, beside it, the note that belongs printed under the table."""
    write_csv(path, [str(c) for c in frame.columns], frame.itertuples(index=False))
    if note:
        atomic_write(path.with_suffix(".note.txt"), note.strip() + "\n")
