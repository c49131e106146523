"""How much the log-loss of held-out patients grows when an input is shuffled among them.

AutoGluon's own permutation importance asks the whole bag about rows that most of its models were fitted to. Here each
bag's models are asked about the rows that were held out of that very bag, with the weights of the ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.predictors.autogluon_frame import Frame

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]
SHUFFLES = 10
_SMALLEST = 1e-6


def held_out_probabilities(
    predictor: Any, weights: Mapping[str, float], frame: DataFrame, bag: int, classes: int
) -> Float:
    """What the models of one bag say together of rows, (n, classes).

    weights : of the base models, by AutoGluon's names
    frame : rows as `Frame.make` gives them
    bag : position of the fold that was held out of these models
    """
    x = predictor.transform_features(frame)
    total = np.zeros((len(frame), classes))
    for name, weight in weights.items():
        whole = predictor._trainer.load_model(name)
        p = np.asarray(whole.load_child(whole.models[bag]).predict_proba(x), dtype=np.float64)
        total += weight * (p if p.ndim == 2 else np.column_stack([1 - p, p]))
    return np.asarray(total / total.sum(axis=1, keepdims=True))


def importance(
    predictor: Any,
    weights: Mapping[str, float],
    frame: Frame,
    x: DataFrame,
    y: NDArray[np.intp],
    bag: NDArray[np.intp],
    seed: np.random.SeedSequence,
) -> list[dict[str, Any]]:
    """Of every input, largest first: `log_loss`, by how much it grows on average, and its `sd` over the shuffles.

    An input's columns are shuffled together, its indicator of absence among them, within the rows held out of a bag.

    Parameters
    ----------
    x : the frame of the training units (n rows)
    y : class of each, int (n,)
    bag : position of the fold that holds each out, int (n,)
    """
    rng = np.random.default_rng(seed)
    inputs = frame.table.inputs
    owners = np.array(frame.owners, dtype=object)
    grown = np.zeros((SHUFFLES, len(inputs)))
    for k in range(int(bag.max()) + 1):
        rows = np.flatnonzero(bag == k)
        variants = [np.arange(len(rows)), *(rng.permutation(len(rows)) for _ in range(SHUFFLES * len(inputs)))]
        # One question to each model for all shuffles: most of its cost is the asking.
        asked = _mixed(x.iloc[rows], inputs, owners, variants)
        p = held_out_probabilities(predictor, weights, asked, k, int(y.max()) + 1)
        loss = -np.log(np.clip(p, _SMALLEST, 1.0)[np.arange(len(p)), np.tile(y[rows], len(variants))])
        totals = loss.reshape(len(variants), len(rows)).sum(axis=1)
        grown += (totals[1:] - totals[0]).reshape(SHUFFLES, len(inputs)) / len(y)
    found = [
        {"input": name, "log_loss": float(grown[:, j].mean()), "sd": float(grown[:, j].std(ddof=1))}
        for j, name in enumerate(inputs)
    ]
    return sorted(found, key=lambda one: -float(str(one["log_loss"])))


def _mixed(
    rows: DataFrame, inputs: Sequence[str], owners: NDArray[np.object_], variants: Sequence[NDArray[np.intp]]
) -> DataFrame:
    """The rows as they are, then once for every shuffle and input with that input's columns in another order."""
    import pandas as pd

    n = len(rows)
    out = pd.concat([rows] * len(variants), ignore_index=True)
    place = np.tile(np.arange(n), len(variants)).reshape(len(variants), n)
    order = np.repeat(place[None], len(owners), axis=0)
    for v, permutation in enumerate(variants[1:], start=1):
        order[owners == inputs[(v - 1) % len(inputs)], v] = permutation
    for j, column in enumerate(out.columns):
        out[column] = rows[column].take(order[j].ravel()).array
    return out
