"""Shapley values of AutoGluon's predictions for held-out units, computed in the fold, while its models are in memory.

Stored beside the fold, so that neither a report nor `osml explain` has to read a pickle. An input outside a coalition
takes a training unit's value; all columns of an image, of radiomics or of a score of classes belong together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import RunError
from osml.explanation.asking import asked, replayed
from osml.explanation.held_out import done_folds
from osml.explanation.permutation import Predict, permutation_shap, subset_shap
from osml.explanation.run import BACKGROUND, Column, Explained
from osml.explanation.values import Shap
from osml.files import read_json
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.contract import Design
from osml.runs.cohort_store import load_cohort
from osml.schema.model import BinaryInput, CategoryInput, Schema

Float = NDArray[np.float64]
FILE = "shap.json"
MOST_ROWS = 30_000  # predicted rows of one fold, a few seconds; more only for the fewest units
MOST_UNITS, FEWEST_UNITS = 60, 20  # of one fold
FEWEST = 5  # training units that stand for an unknown value
MANY = 20  # inputs from which on fewer orders are walked
_CHUNK = 4096


def held_out_shap(fitted: FittedAutogluon, train: Design, test: Design, seed: int) -> dict[str, Any]:
    """Contributions of every input to every output for units of a fold, for JSON; read by `autogluon_shap`.

    The rows that have to be predicted are found first and predicted together, for all outputs: most of the time goes
    into asking AutoGluon, not into rows.

    Parameters
    ----------
    train, test : designs with the scores that feed the predictor, of units it was and was not fitted to
    """
    rng = np.random.default_rng([seed, 3])
    inputs, n = fitted.spec.inputs, min(len(test.cohort), MOST_UNITS)
    exact, pairs = 2 ** len(inputs) * n * FEWEST <= MOST_ROWS, 4 if len(inputs) < MANY else 2
    walks = 2 ** len(inputs) if exact else 2 * pairs * max(1, len(inputs) - 1)
    n = min(n, max(FEWEST_UNITS, MOST_ROWS // (walks * FEWEST)))
    chosen = np.sort(rng.permutation(len(test.cohort))[:n])
    m = min(len(train.cohort), BACKGROUND, max(FEWEST, MOST_ROWS // (walks * n)))
    behind = np.sort(rng.permutation(len(train.cohort))[:m])
    # Values are places in a pool of units: a place stands for all that an input holds there.
    pool = np.concatenate([fitted.spec.matrix(train)[behind], fitted.spec.matrix(test)[chosen]])
    background = {name: np.arange(m, dtype=np.float64) for name in inputs}
    values = {name: np.arange(m, m + n, dtype=np.float64) for name in inputs}

    def way(predict: Predict) -> Shap:
        if exact:
            return subset_shap(predict, values, background)
        return permutation_shap(predict, values, background, permutations=pairs, seed=seed)

    places = asked(way)
    lp = np.concatenate(
        [
            fitted.risks(fitted.raw(_mixed(fitted, pool, {k: v[at : at + _CHUNK] for k, v in places.items()})))[1]
            for at in range(0, len(places[inputs[0]]), _CHUNK)
        ]
    )
    outputs = {name: k for k, name in enumerate(fitted.columns)}
    wanted = fitted.tree.leaves if fitted.tree is not None else fitted.columns
    found = {name: replayed(way, lp if lp.ndim == 1 else lp[:, outputs[name]]) for name in wanted}
    scores = {
        name: test.upstream[name][chosen].tolist()
        for name in inputs
        if name in test.upstream and test.upstream[name].ndim == 1
    }
    return {
        "units": [test.cohort.units[i] for i in chosen],
        "of": len(test.cohort),
        "inputs": list(inputs),
        "pairs": None if exact else pairs,
        "background": m,
        "rows": len(lp),
        "scores": scores,
        "outputs": {
            name: {
                "scale": fitted.scale(name),
                "values": shap.values.tolist(),
                "lp": (shap.lp - shap.base).tolist(),
                "error": shap.error.tolist(),
            }
            for name, shap in found.items()
        },
    }


def autogluon_shap(run: Path, schema: Schema, name: str) -> dict[str, Explained]:
    """Output → contributions over the held-out units of the first repeat: the event, or every class.

    Raises
    ------
    RunError
        No fold of the predictor was finished, or its contributions were not stored.
    """
    cohort = load_cohort(run / "cohort" / "cohort.parquet")
    parts = []
    for fold in done_folds(run, name, 1):
        file = run / "folds" / fold.name / name / FILE
        if not file.is_file():
            raise RunError(f"{name}: what its inputs contribute was not stored in fold {fold.name}")
        parts.append(read_json(file))
    units = tuple(unit for part in parts for unit in part["units"])
    inputs = tuple(parts[0]["inputs"])
    columns = tuple(_column(schema, item, cohort, units, parts) for item in inputs)
    return {
        key: Explained(
            name,
            first["scale"],
            _method(parts, key),
            Shap(
                inputs,
                0.0,
                np.concatenate([np.array(part["outputs"][key]["values"]) for part in parts]),
                np.concatenate([np.array(part["outputs"][key]["lp"]) for part in parts]),
                sum(part["rows"] for part in parts),
                np.concatenate([np.array(part["outputs"][key]["error"]) for part in parts]),
            ),
            columns,
            units,
        )
        for key, first in parts[0]["outputs"].items()
    }


def _mixed(fitted: FittedAutogluon, pool: Float, places: Mapping[str, Float]) -> Float:
    """Rows whose inputs stand at these places of the pool."""
    x = np.empty((len(next(iter(places.values()))), pool.shape[1]))
    for name, at in places.items():
        columns = fitted.spec.places(name)
        x[:, columns] = pool[at.astype(np.intp)][:, columns]
    return x


def _method(parts: Sequence[Mapping[str, Any]], key: str) -> str:
    shown, of = sum(len(part["units"]) for part in parts), sum(part["of"] for part in parts)
    pairs = max((part["pairs"] or 0 for part in parts), default=0)
    how = f"{pairs} antithetic pairs of orders" if pairs else "all coalitions of the inputs"
    behind = sorted({part["background"] for part in parts})
    words = f"{behind[0]}" if len(behind) == 1 else f"{behind[0]} to {behind[-1]}"
    rows = sum(part["rows"] for part in parts)
    error = max((float(np.max(part["outputs"][key]["error"], initial=0.0)) for part in parts), default=0.0)
    few = f"; {shown} of {of} units" if shown < of else ""
    sampled = f"; largest standard error {error:.2g}" if error else ""
    return f"out-of-fold, {how}, against {words} training units of each fold; {rows:,} rows predicted{sampled}{few}"


def _column(
    schema: Schema, name: str, cohort: Cohort, units: tuple[str, ...], parts: Sequence[Mapping[str, Any]]
) -> Column:
    nothing = np.zeros(len(units), dtype=bool)
    many = np.full(len(units), np.nan)
    if name in schema.predictors:
        label = getattr(schema.predictors[name], "label", None) or f"{name} score"
        if name not in parts[0]["scores"]:
            return Column(name, label, "", (), many, nothing, many=True)
        return Column(name, label, "", (), np.concatenate([np.array(part["scores"][name]) for part in parts]), nothing)
    block = schema.inputs[name]
    label = getattr(block, "label", None) or name
    if name not in cohort.values:
        return Column(name, label, "", (), many, nothing, many=True)
    position = {unit: i for i, unit in enumerate(cohort.units)}
    x = cohort.values[name][np.array([position[unit] for unit in units], dtype=np.intp)]
    levels = tuple(map(str, block.levels)) if isinstance(block, BinaryInput | CategoryInput) else ()
    return Column(name, label, getattr(block, "unit", None) or "", levels, x, nothing)
