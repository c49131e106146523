"""SHAP values of a network's table inputs with its pictures held fixed, and of the predictors that a stack combines.

Out-of-fold: each unit is explained by the network of the fold that did not train on it, against training units of that
fold. An input outside a coalition takes a training unit's value, with its reference range or as missing; radiomics are
swapped as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import NotEstimableError
from osml.explanation.contributions import parts_of
from osml.explanation.held_out import HeldOut, done_folds, encoded, linear_predictor, run_cohort, scale_of
from osml.explanation.permutation import Predict, permutation_shap, subset_shap
from osml.explanation.run import BACKGROUND, PERMUTATIONS, Column, Explained
from osml.explanation.values import Shap
from osml.nets.device import one_thread
from osml.predictors.chain import load_chain
from osml.predictors.contract import Design
from osml.predictors.network import FittedNetwork
from osml.predictors.network_inputs import ImageSource, TableSource
from osml.predictors.stack import FittedStack
from osml.schema.model import BinaryInput, CategoryInput, Schema
from osml.schema.targets import SurvivalTarget

if TYPE_CHECKING:
    from torch import Tensor

    from osml.nets.branches import Items

Float = NDArray[np.float64]
MOST_EXACT = 8
_VECTORS = 4096  # of pictures that pass the network at once


def network_shap(held: Sequence[HeldOut], schema: Schema, name: str, column: str) -> Explained:
    """Contributions of the table inputs of a network to one output, over held-out units.

    Measured, for each unit, from the mean prediction of its own pictures with the tables of training units: `base` is 0
    and `lp` is what the table adds to that.

    Raises
    ------
    NotEstimableError
        The network reads no table.
    """
    tables = [source for source in held[0].fitted.sources if isinstance(source, TableSource)]
    inputs = tuple(dict.fromkeys(item for source in tables for item in source.inputs))
    if not inputs:
        raise NotEstimableError(f"{name} reads pictures alone: there is no table whose inputs could share a prediction")
    found = [_of_fold(one, inputs, column, schema.validation.seed) for one in held]
    shap = _joined([s for one in found for s in one], inputs)
    how = "all coalitions" if len(inputs) <= MOST_EXACT else f"{PERMUTATIONS} antithetic pairs of orders"
    method = (
        f"out-of-fold, {how} of the table's inputs with each unit's own pictures held fixed, "
        f"against up to {BACKGROUND} training units"
    )
    columns = tuple(_column(schema, item, [one.test for one in held]) for item in inputs)
    return Explained(
        name, scale_of(held[0].fitted, column), method, shap, columns, tuple(u for one in held for u in one.test.units)
    )


def stack_shap(run: Path, schema: Schema, name: str, column: str | None = None, *, trust: bool = False) -> Explained:
    """Contributions of the predictors of a stack, out-of-fold, against training units.

    column : a class; none for binary and survival targets
    trust : whether files that run code may be read, where one of the predictors has such files
    """
    cohort = run_cohort(run, schema, name)
    inputs = schema.predictors[name].inputs
    found: list[Shap] = []
    scores: list[Float] = []
    units: list[str] = []
    for fold in done_folds(run, name, 1):
        chain = load_chain(schema, name, run / "folds" / fold.name / name, trust=trust)
        stack = chain.fitted
        assert isinstance(stack, FittedStack)
        train, test = cohort.of(fold.train).without_outcome(), cohort.of(fold.test).without_outcome()
        background = train.take(_chosen(len(train), schema.validation.seed))
        upstream = [chain.design(part).upstream for part in (background, test)]
        pools = {item: np.concatenate([part[item] for part in upstream]) for item in inputs}
        which = None if column is None else stack.columns.index(column)

        predict = partial(_stacked, stack, background, pools, which)
        m, n = len(background), len(test)
        found.append(_shap(predict, inputs, np.arange(m, m + n), np.arange(m), schema.validation.seed))
        own = [pools[item][m:] for item in inputs]
        scores.append(np.stack([s if s.ndim == 1 else s[:, which or 0] for s in own], axis=1))
        units += test.units
    shap = _joined(found, inputs)
    table = np.concatenate(scores)
    nothing = np.zeros(len(table), dtype=bool)
    columns = tuple(
        Column(item, getattr(schema.predictors[item], "label", None) or item, "", (), table[:, j], nothing)
        for j, item in enumerate(inputs)
    )
    scale = "log hazard" if isinstance(schema.target, SurvivalTarget) else "log odds"
    method = f"out-of-fold, coalitions of the predictors' scores, against up to {BACKGROUND} training units"
    return Explained(name, f"log P({column})" if column else scale, method, shap, columns, tuple(units))


@one_thread()
def _of_fold(one: HeldOut, inputs: tuple[str, ...], column: str, seed: int) -> list[Shap]:
    """One Shap per test unit."""
    background = one.train.take(_chosen(len(one.train), seed))
    m = len(background)
    items = encoded(one.fitted, one.test)
    out = []
    tables = {
        source.name: (source.encode(background), source.encode(one.test))
        for source in one.fitted.sources
        if isinstance(source, TableSource)
    }
    for i in range(len(one.test)):
        pool = {name: np.concatenate([theirs, own[i : i + 1]]) for name, (theirs, own) in tables.items()}
        fixed = _pictures_of(one.fitted, items, i)

        predict = partial(_in_pieces, one.fitted, pool, fixed, column)
        out.append(_shap(predict, inputs, np.array([m]), np.arange(m), seed))
    return out


def _stacked(
    stack: FittedStack, cohort: Cohort, pools: Mapping[str, Float], which: int | None, rows: Mapping[str, Float]
) -> Float:
    """Linear predictors of a stack whose scores stand at these places of the pools."""
    picked = {item: pools[item][at.astype(np.intp)] for item, at in rows.items()}
    lp = stack.predict(Design(_made_up(cohort, len(next(iter(rows.values())))), picked)).lp
    return lp if which is None else lp[:, which]


def _in_pieces(
    fitted: FittedNetwork,
    pool: Mapping[str, NDArray[np.float32]],
    fixed: Sequence[Sequence[Tensor | None]],
    column: str,
    rows: Mapping[str, Float],
) -> Float:
    at = {item: index.astype(np.intp) for item, index in rows.items()}
    n, most = len(next(iter(at.values()))), max((len(v) for own in fixed for v in own if v is not None), default=1)
    step = max(1, _VECTORS // max(1, most))
    parts = [{item: index[a : a + step] for item, index in at.items()} for a in range(0, n, step)]
    return np.concatenate([_predict(fitted, part, pool, fixed, column) for part in parts])


def _predict(
    fitted: FittedNetwork,
    at: Mapping[str, NDArray[np.intp]],
    pool: Mapping[str, NDArray[np.float32]],
    fixed: Sequence[Sequence[Tensor | None]],
    column: str,
) -> Float:
    """Linear predictors of one unit's pictures with mixed tables: `at` says which row of the pool each input takes."""
    import torch

    from osml.nets.branches import Items

    n = len(next(iter(at.values())))
    mixed: dict[str, NDArray[np.float32]] = {}
    for part in parts_of(fitted):
        source = fitted.sources[part.source].name
        table = mixed.setdefault(source, np.empty((n, pool[source].shape[1]), dtype=np.float32))
        table[:, part.columns] = pool[source][at[part.input]][:, part.columns]
    outputs = []
    with torch.inference_mode():
        for network, vectors in zip(fitted.networks, fixed, strict=True):
            items = []
            for source_, vector in zip(fitted.sources, vectors, strict=True):
                if vector is not None:
                    owner = torch.repeat_interleave(torch.arange(n), len(vector))
                    items.append(Items(vector.repeat(n, 1), owner))
                    continue
                here = np.flatnonzero(~np.isnan(mixed[source_.name]).all(axis=1))
                items.append(Items(torch.from_numpy(mixed[source_.name][here]), torch.from_numpy(here)))
            outputs.append(network.fused(items, n).outputs.double())
        return linear_predictor(fitted, torch.stack(outputs).mean(dim=0), column).numpy().copy()


def _pictures_of(fitted: FittedNetwork, items: Sequence[Sequence[Items]], i: int) -> list[list[Tensor | None]]:
    """Per seed and modality the vectors of unit i's pictures, (m, width); None for tables."""
    return [
        [
            own[k].values[own[k].owner == i] if isinstance(source, ImageSource) else None
            for k, source in enumerate(fitted.sources)
        ]
        for own in items
    ]


def _shap(
    predict: Predict, inputs: tuple[str, ...], rows: NDArray[np.intp], background: NDArray[np.intp], seed: int
) -> Shap:
    """Of places in a pool instead of values: a place stands for all that an input holds there."""
    values = {item: rows.astype(np.float64) for item in inputs}
    others = {item: background.astype(np.float64) for item in inputs}
    if len(inputs) <= MOST_EXACT:
        return subset_shap(predict, values, others)
    return permutation_shap(predict, values, others, permutations=PERMUTATIONS, seed=seed)


def _joined(parts: Sequence[Shap], inputs: tuple[str, ...]) -> Shap:
    """Units of several folds together, each measured from its own base, which becomes 0."""
    return Shap(
        inputs,
        0.0,
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.lp - p.base for p in parts]),
        sum(p.calls for p in parts),
        np.concatenate([p.error for p in parts]),
    )


def _chosen(n: int, seed: int) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng([seed, 3]).permutation(n)[:BACKGROUND])


def _made_up(cohort: Cohort, n: int) -> Cohort:
    """n units without any value: a stack reads nothing but scores."""
    names = tuple(map(str, range(n)))
    return replace(
        cohort, units=names, patients=names, copies=np.zeros(n, dtype=np.intp), values={}, kit={}, keys={}, files={},
        features={}, several={}, images={}, outcome=None,
    )  # fmt: skip


def _column(schema: Schema, name: str, cohorts: Sequence[Cohort]) -> Column:
    n = sum(map(len, cohorts))
    nothing = np.zeros(n, dtype=bool)
    if name not in cohorts[0].values:
        return Column(name, f"{getattr(schema.inputs[name], 'label', None) or name} (radiomics)", "", (),
                      np.full(n, np.nan), nothing, many=True)  # fmt: skip
    block = schema.inputs[name]
    x = np.concatenate([cohort.values[name] for cohort in cohorts])
    levels = block.levels if isinstance(block, (BinaryInput, CategoryInput)) else ()
    return Column(name, block.label or name, getattr(block, "unit", None) or "", levels, x, nothing)
