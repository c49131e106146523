"""Exact TreeSHAP values of boosted trees, out-of-fold: each unit by the trees of the fold that did not train on it.

Features of radiomics stand by themselves, those that some tree looks at; an image, and the scores of a predictor of
classes, are many numbers that come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.explanation.held_out import done_folds, run_cohort
from osml.explanation.run import Column, Explained
from osml.explanation.values import Shap
from osml.predictors.boosting import FittedBoosting
from osml.predictors.chain import load_chain
from osml.predictors.contract import Design
from osml.predictors.network_inputs import radiomics_columns
from osml.predictors.table import TableColumn
from osml.schema.model import Schema

Float = NDArray[np.float64]
METHOD = (
    "out-of-fold, exact TreeSHAP, each unit from the mean of its trees over the training units (as they run down the "
    "trees)"
)


@dataclass(frozen=True)
class _Fold:
    """The trees of a fold, and the units that they did not see."""

    fitted: FittedBoosting
    design: Design


def boosted_shap(run: Path, schema: Schema, name: str, *, trust: bool = False) -> dict[str, Explained]:
    """Output → contributions over the held-out units of the first repeat: the event, every class, or the hazard.

    trust : whether files that run code may be read, where AutoGluon feeds the trees

    Raises
    ------
    TrustError
        It does, and `trust` is false.
    RunError
        No fold of the predictor was finished.
    """
    cohort = run_cohort(run, schema, name)
    folds = []
    for fold in done_folds(run, name, 1):
        chain = load_chain(schema, name, run / "folds" / fold.name / name, trust=trust)
        assert isinstance(chain.fitted, FittedBoosting)
        folds.append(_Fold(chain.fitted, chain.design(cohort.of(fold.test).without_outcome())))
    fitted = folds[0].fitted
    outputs = fitted.tree.leaves if fitted.tree is not None else fitted.columns[:1]
    keys = outputs if fitted.target != "survival" else ("hazard",)
    return {key: _explained(folds, schema, name, output) for key, output in zip(keys, outputs, strict=True)}


def _explained(folds: Sequence[_Fold], schema: Schema, name: str, output: str) -> Explained:
    parts = _parts(folds)
    values, lp = [], []
    for one in folds:
        found = one.fitted.contributions(one.design, output)
        names = [_part(column) for column in one.fitted.spec.columns]
        own = np.zeros((len(one.design.cohort), len(parts)))
        for j, part in enumerate(parts):
            at = [k for k, known in enumerate(names) if known == part]
            own[:, j] = found.values[:, at].sum(axis=1)
        values.append(own)
        lp.append(found.lp - found.base)
    table = np.concatenate(values)
    shap = Shap(
        tuple(f"{a}|{b}" if b else a for a, b in parts), 0.0, table, np.concatenate(lp), 0, np.zeros_like(table)
    )
    columns = tuple(_column(schema, part, [one.design for one in folds]) for part in parts)
    units = tuple(unit for one in folds for unit in one.design.cohort.units)
    return Explained(name, folds[0].fitted.scale(output), METHOD, shap, columns, units)


def _part(column: TableColumn) -> tuple[str, str]:
    """What a column counts as: its input, and of radiomics its feature."""
    return column.input, column.part if column.source == "radiomics" else ""


def _parts(folds: Sequence[_Fold]) -> tuple[tuple[str, str], ...]:
    """Every input, and the features that some tree looks at, in the order of the inputs."""
    out: dict[tuple[str, str], None] = {}
    for one in folds:
        used = set(one.fitted.used)
        for j, column in enumerate(one.fitted.spec.columns):
            if column.source != "radiomics" or j in used:
                out[_part(column)] = None
    order = {item: k for k, item in enumerate(folds[0].fitted.spec.inputs)}
    return tuple(sorted(out, key=lambda part: order[part[0]]))


def _column(schema: Schema, part: tuple[str, str], designs: Sequence[Design]) -> Column:
    name, feature = part
    cohorts = [design.cohort for design in designs]
    nothing = np.zeros(sum(map(len, cohorts)), dtype=bool)
    if feature:
        x = np.concatenate([radiomics_columns(cohort, name, [feature])[:, 0] for cohort in cohorts])
        spread = float(np.nanstd(x))
        return Column(feature, feature, "SD", (), (x - np.nanmean(x)) / (spread or 1.0), nothing)
    if name in schema.predictors:
        label = getattr(schema.predictors[name], "label", None) or f"{name} score"
        scores = [np.asarray(design.upstream[name]) for design in designs]
        if scores[0].ndim == 1:
            return Column(name, label, "", (), np.concatenate(scores), nothing)
        return Column(name, label, "", (), np.full(len(nothing), np.nan), nothing, many=True)
    block = schema.inputs[name]
    label = getattr(block, "label", None) or name
    if name not in cohorts[0].values:
        return Column(name, label, "", (), np.full(len(nothing), np.nan), nothing, many=True)
    levels = tuple(map(str, getattr(block, "levels", ())))
    return Column(name, label, getattr(block, "unit", None) or "", levels, _values(cohorts, name), nothing)


def _values(cohorts: Sequence[Cohort], name: str) -> Float:
    return np.concatenate([cohort.values[name] for cohort in cohorts])
