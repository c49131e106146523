"""Stored out-of-fold predictions of several predictors on the same folds, as losses of units and as weighted measures.

The loss is the log-loss: of the event; of the event by the last horizon, weighted for censoring; or of the label among
the classes, where a label at an inner node counts the probability of all leaves below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.censoring import fit_censoring
from osml.evaluation.ipcw import weights_at
from osml.evaluation.survival import check_survival
from osml.runs.store import PredictionRow
from osml.study.headline import Part, columns_of, parts, within_folds

Float = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Compared:
    """Held-out predictions of several predictors on the same folds.

    parts : predictor → its folds, in the same order
    units : positions in the cohort of the units that were held out at least once (n,)
    names : patients of these units, each once, sorted (G,)
    code : patient of each of them, as its position in `names` (n,)
    """

    cohort: Cohort
    parts: Mapping[str, Sequence[Part]]
    units: Ints
    names: NDArray[np.str_]
    code: Ints

    def weights(self, predictor: str, patients: Float) -> list[Float]:
        """Weights of patients (B, G) as weights of the units of each fold."""
        place = np.full(len(self.cohort), -1, dtype=np.intp)
        place[self.units] = self.code
        return [patients[:, place[part.index]] for part in self.parts[predictor]]

    def discrimination(self, predictor: str, patients: Float | None = None) -> dict[str, Float]:
        """AUC, C, or macro-F1 and its kin within folds, averaged, under B weightings of patients, (B,) each."""
        assert self.cohort.outcome is not None
        weights = None if patients is None else self.weights(predictor, patients)
        return within_folds(self.parts[predictor], self.cohort.outcome, weights)

    def spread(self, predictor: str, of_part: Mapping[int, Float]) -> Float:
        """Values of the units of each fold as (repeats, n), NaN where a unit was not held out in a repeat."""
        found = self.parts[predictor]
        repeats = sorted({part.fold.repeat for part in found})
        place = np.full(len(self.cohort), -1, dtype=np.intp)
        place[self.units] = np.arange(len(self.units))
        out = np.full((len(repeats), len(self.units)), np.nan)
        for k, part in enumerate(found):
            out[repeats.index(part.fold.repeat), place[part.index]] = of_part[k]
        return out


def compared(
    rows: Sequence[PredictionRow], predictors: Sequence[str], cohort: Cohort, folds: Sequence[Fold]
) -> Compared:
    """Predictions of the predictors named, none of whose folds may be missing."""
    assert cohort.outcome is not None
    found = {}
    for name in predictors:
        mine = [row for row in rows if row.predictor == name]
        cells = ((r.repeat, r.fold, r.unit, r.column, r.p, r.lp) for r in mine)
        found[name] = parts(cells, columns_of(cohort.outcome, mine), cohort, folds)
    units = np.unique(np.concatenate([part.index for part in found[predictors[0]]]))
    patients = np.array(cohort.patients, dtype=object).astype(str)[units]
    names, code = np.unique(patients, return_inverse=True)
    return Compared(cohort, found, units, names, code.astype(np.intp))


@dataclass(frozen=True)
class UnitLosses:
    """Losses of the units of each fold of one predictor, by number of the fold.

    square : None for classes, whose labels may stop at an inner node
    """

    log: Mapping[int, Float]
    square: Mapping[int, Float] | None


def unit_losses(found: Compared, predictor: str) -> UnitLosses:
    """Log-loss and squared error of every held-out unit; under censoring weighted, 0 for units censored too early.

    Raises
    ------
    NotEstimableError
        Survival: nobody is followed to the last horizon.
    """
    outcome = found.cohort.outcome
    log: dict[int, Float] = {}
    square: dict[int, Float] = {}
    weight, case = _by_horizon(found) if isinstance(outcome, SurvivalOutcome) else (None, None)
    for k, part in enumerate(found.parts[predictor]):
        if isinstance(outcome, ClassOutcome):
            log[k] = _negative_log(_of_label(outcome, part))
            continue
        p = part.p[:, -1]
        if isinstance(outcome, BinaryOutcome):
            y, w = outcome.y[part.index], np.ones(len(p))
        else:
            assert weight is not None
            assert case is not None
            y, w = case[part.index], weight[part.index]
        # A unit of weight 0 is no evidence, not even against a probability of 0.
        log[k] = np.where(w > 0, w * _negative_log(np.where(y == 1, p, 1 - p)), 0.0)
        square[k] = w * (y - p) ** 2
    return UnitLosses(log, None if isinstance(outcome, ClassOutcome) else square)


def _negative_log(p: Float) -> Float:
    with np.errstate(divide="ignore"):
        return -np.log(p)


def _by_horizon(found: Compared) -> tuple[Float, Float]:
    """Weight, and 1.0 with the event by the last horizon, of every unit of the cohort; NaN for those never held out.

    Censoring is that of all units that were held out: the test set, or under cross-validation everybody.
    """
    outcome = found.cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    time, event = check_survival(outcome.time[found.units], outcome.event[found.units], need_events=False)
    horizon = outcome.horizons[-1]
    if horizon > time.max():
        raise NotEstimableError(f"no held-out patient is followed to {horizon:g} {outcome.unit}s")
    weight, case = np.full(len(found.cohort), np.nan), np.full(len(found.cohort), np.nan)
    weight[found.units] = weights_at(time, event, horizon, fit_censoring(time, event))
    case[found.units] = event & (time <= horizon)
    return weight, case


def _of_label(outcome: ClassOutcome, part: Part) -> Float:
    """Probability of each unit's label: the sum over the leaves at or below its node."""
    tree = outcome.tree
    leaves = [tree.nodes.index(name) for name in tree.leaves]
    below = tree.lineage[leaves].astype(np.float64)  # (leaves, nodes)
    p = part.p / part.p.sum(axis=1, keepdims=True)
    share: Float = (p * below[:, outcome.node[part.index]].T).sum(axis=1)
    return share
