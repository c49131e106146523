"""What pooled measures of classes are worth when predictions know nothing. Nothing is fitted again.

Three references, from least to most knowing: the class shares of each fold's training patients given to its test
patient, which leaving a patient out turns against that patient; the predictions as they are with the labels of all
rows shuffled; and with labels shuffled within patients, which keeps what knowing the patient alone would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.evaluation.class_measures import OVERALL, class_measures
from osml.runs.class_sets import OF_PROBABILITIES, ClassSet, pool

Float = NDArray[np.float64]
PERMUTATIONS = 200
NOTE = (
    "permutation mean: these predictions, labels shuffled over all rows {n} times, no refit; training shares: every "
    "unit given the class shares of its fold's training patients"
)
WITHIN = "; within patients: labels shuffled among the rows of each patient, what knowing the patient alone gives"


@dataclass(frozen=True)
class References:
    """Reference → measure → value, NaN where it does not exist; `note` says what each is."""

    means: dict[str, dict[str, float]]
    permutations: int
    note: str


def references(sets: Sequence[ClassSet], seed: int, hidden: str) -> References:
    """References for measures pooled over the folds of one repeat.

    Parameters
    ----------
    sets : one per fold; together they hold every patient once as a test patient
    """
    repeat = sets[0].folds[0].repeat
    sets = [s for s in sets if s.folds[0].repeat == repeat]
    everything = pool(sets)
    full = everything.take(everything.full)
    y, p = full.y, full.p_leaves
    names = [name for name in OVERALL if not (hidden and name in OF_PROBABILITIES)]
    _, code = np.unique(full.patients.astype(str), return_inverse=True)
    rng = np.random.default_rng([seed, 4])
    shuffled = [y[rng.permutation(len(y))] for _ in range(PERMUTATIONS)]
    means = {"permutation_mean": _mean(shuffled, p, names)}
    note = NOTE.format(n=PERMUTATIONS)
    if len(np.unique(code)) < len(code):
        order = np.argsort(code, kind="stable")
        inside = []
        for _ in range(PERMUTATIONS):
            # Sorting random keys within each patient permutes that patient's rows only.
            moved = order[np.lexsort((rng.random(len(y)), code[order]))]
            labels = np.empty_like(y)
            labels[order] = y[moved]
            inside.append(labels)
        means["within_patients_mean"] = _mean(inside, p, names)
        note += WITHIN
    means["training_shares"] = _shares_only(full, names)
    return References(means, PERMUTATIONS, note)


def _mean(labels: Sequence[NDArray[np.intp]], p: Float, names: Sequence[str]) -> dict[str, float]:
    found = [class_measures(y, p).overall for y in labels]
    return {name: _finite_mean(np.array([one[name][0] for one in found])) for name in names}


def _shares_only(full: ClassSet, names: Sequence[str]) -> dict[str, float]:
    """Every unit gets the class shares of the training patients of its fold."""
    k = len(full.tree.leaves)
    shares = np.empty((len(full), k))
    patients = full.patients.astype(str)
    for fold in full.folds:
        counts = np.bincount(full.y[np.isin(patients, fold.train)], minlength=k)
        shares[np.isin(patients, fold.test)] = counts / max(int(counts.sum()), 1) if counts.any() else 1 / k
    found = class_measures(full.y, shares).overall
    return {name: float(found[name][0]) for name in names}


def _finite_mean(values: Float) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else float("nan")
