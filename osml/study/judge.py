"""Judge predictors on stored out-of-fold predictions: what goes into metrics.json.

Resampled AUC is computed within folds, then averaged; repeats average metrics, never predictions. Apparent values stand
beside the honest ones. Whatever cannot be estimated is null with its reason, never a stand-in number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import Fold, patient_classes
from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import (
    CONDITIONAL,
    corrected_auc_interval,
    corrected_slope_interval,
    patient_bootstrap,
)
from osml.evaluation.calibration import calibration
from osml.evaluation.delong import delong, delong_clustered
from osml.evaluation.discrimination import auc, brier, scaled_brier
from osml.evaluation.measures import MEASURES, measures_batch
from osml.evaluation.optimism import optimism
from osml.predictors.nomogram import Development
from osml.runs.store import PredictionRow

Float = NDArray[np.float64]
Metric = dict[str, Any]
FEW_PATIENTS = 20
BOOTSTRAPS = 1000
PLAUSIBLE_SLOPE = (-1.0, 3.0)  # beyond it the mean rests on replicates with almost constant predictions
FIXED_MODEL = "Wald, fixed model on independent patients"
FIXED_BY_DESIGN = "fixed by design under random resampling: no evidence"


@dataclass(frozen=True)
class TestSet:
    """Predictions of one fold with the outcomes: arrays over its test units."""

    fold: Fold
    y: Float
    p: Float
    lp: Float
    patients: NDArray[np.object_]


def metric(value: float | None, *, low: float | None = None, high: float | None = None, **facts: Any) -> Metric:
    """One number with its interval and what must be said beside it; None values and NaN become null."""
    out: Metric = {"value": _number(value)}
    if low is not None or high is not None:
        out |= {"low": _number(low), "high": _number(high)}
    return out | {key: fact for key, fact in facts.items() if fact is not None}


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def collect(rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold]) -> list[TestSet]:
    """Stored predictions of one predictor and one column, joined with outcomes by unit."""
    outcome = cohort.event_outcome
    position = {unit: i for i, unit in enumerate(cohort.units)}
    by_fold: dict[tuple[int, int], list[PredictionRow]] = {}
    for row in rows:
        by_fold.setdefault((row.repeat, row.fold), []).append(row)
    sets = []
    for fold in folds:
        mine = by_fold.get((fold.repeat, fold.index))
        if mine is None:
            continue
        index = np.array([position[row.unit] for row in mine], dtype=np.intp)
        sets.append(
            TestSet(
                fold,
                outcome.event[index].astype(float),
                np.array([row.p for row in mine], dtype=float),
                np.array([row.lp for row in mine], dtype=float),
                np.array([row.patient for row in mine], dtype=object),
            )
        )
    return sets


def judge_binary(sets: Sequence[TestSet], split: str, seed: int, hidden: str) -> dict[str, Any]:
    """Out-of-fold metrics of a binary predictor.

    Parameters
    ----------
    split : kind of the outer split
    hidden : why measures of probabilities are not shown, "" when they are; the slope does not depend on the intercept
    """
    if split in ("holdout", "time"):
        return _single_test_set(sets[0], hidden)
    repeats = _by_repeat(sets)
    out: dict[str, Any] = {
        "auc": one_patient_per_fold() if split == "leave_one_patient_out" else _within_folds(sets, split, seed)
    }
    pooled = [_pool(group) for group in repeats]
    out["slope"] = _mean_of([_slope(y, lp) for y, _, lp in pooled])
    out["intercept"] = metric(None, reason=FIXED_BY_DESIGN if split != "leave_one_group_out" else "see the groups")
    if hidden:
        out["brier"] = out["scaled_brier"] = metric(None, reason=hidden)
        return out
    out["brier"] = _mean_of([brier(y, p) for y, p, _ in pooled])
    out["scaled_brier"] = _mean_of([scaled_brier(y, p) for y, p, _ in pooled])
    if split == "leave_one_group_out":
        out["groups"] = [_group(s) for s in sets]
    return out


def _by_repeat(sets: Sequence[TestSet]) -> list[list[TestSet]]:
    numbers = sorted({s.fold.repeat for s in sets})
    return [[s for s in sets if s.fold.repeat == r] for r in numbers]


def _pool(sets: Sequence[TestSet]) -> tuple[Float, Float, Float]:
    return tuple(np.concatenate([getattr(s, name) for s in sets]) for name in ("y", "p", "lp"))  # type: ignore[return-value]


def _slope(y: Float, lp: Float) -> float:
    """Calibration slope; NaN where it does not exist (constant scores, separation, one class)."""
    if np.ptp(lp) < 1e-12 or len(np.unique(y)) < 2:
        return float("nan")
    return float(measures_batch(y, lp[None], np.ones((1, len(y))))[0, MEASURES.index("slope")])


def _mean_of(values: Sequence[float]) -> Metric:
    good = [v for v in values if np.isfinite(v)]
    if not good:
        return metric(None, reason="not estimable in any repeat")
    missing = len(values) - len(good)
    return metric(float(np.mean(good)), repeats=len(good), not_estimable=missing or None)


def _within_folds(sets: Sequence[TestSet], split: str, seed: int) -> Metric:
    """AUC within each fold, then averaged over folds and repeats; patients are resampled for the interval."""
    folds: list[dict[str, Any]] = []
    for s in sets:
        try:
            value, reason = auc(s.y, s.lp), ""
        except NotEstimableError as error:
            value, reason = float("nan"), error.what
        folds.append(
            {"fold": s.fold.name, "n": len(s.y), "value": _number(value), **({"reason": reason} if reason else {})}
        )
    usable = [f["value"] for f in folds if f["value"] is not None]
    if not usable:
        return metric(None, reason="no test fold holds both classes", folds=folds)
    patients = np.unique(np.concatenate([s.patients for s in sets]).astype(str))
    if len(patients) < FEW_PATIENTS:
        return metric(
            float(np.mean(usable)),
            reason=f"{len(patients)} patients: values and range only, no interval",
            range=[min(usable), max(usable)],
            folds=folds,
        )
    code = {p: k for k, p in enumerate(patients)}
    codes = [np.array([code[p] for p in s.patients], dtype=np.intp) for s in sets]

    def statistic(rows: NDArray[np.intp]) -> float:
        weight = np.bincount(rows, minlength=len(patients)).astype(float)
        return _averaged_auc(sets, [weight[c] for c in codes])

    strata = _group_and_class(sets, patients) if split == "leave_one_group_out" else None
    ci = patient_bootstrap(statistic, patients, BOOTSTRAPS, np.random.default_rng([seed, 1]), strata=strata)
    return metric(
        ci.value,
        low=ci.low,
        high=ci.high,
        interval=CONDITIONAL,
        folds=folds,
        not_estimable=len(folds) - len(usable) or None,
    )


def _group_and_class(sets: Sequence[TestSet], patients: NDArray[np.str_]) -> list[str]:
    """Stratum of each patient: its group and class, so that no resample loses a small group."""
    home: dict[str, str] = {}
    for s in sets:
        for patient, event in zip(s.patients.astype(str), s.y, strict=True):
            home[patient] = f"{s.fold.name} {max(event, float(home.get(patient, '- 0').split()[1])):g}"
    return [home[p] for p in patients]


def _averaged_auc(sets: Sequence[TestSet], weights: Sequence[Float]) -> float:
    """Mean of fold AUCs under patient weights; folds without both classes are left out."""
    values = []
    for s, w in zip(sets, weights, strict=True):
        if w @ s.y > 0 and w @ (1 - s.y) > 0:
            values.append(auc(s.y, s.lp, weights=w))
    if not values:
        raise NotEstimableError("no fold holds both classes in this resample")
    return float(np.mean(values))


def one_patient_per_fold() -> Metric:
    """Leaving one patient out: no discrimination within a fold; the pooled value is added beside its null mean."""
    return metric(None, reason="one patient per fold has no discrimination within the fold")


def _group(s: TestSet) -> dict[str, Any]:
    out: dict[str, Any] = {"fold": s.fold.name, "n": len(s.y), "events": int(s.y.sum())}
    if 0 < s.y.sum() < len(s.y):
        out["auc"] = auc(s.y, s.lp)
        try:
            found = calibration(s.y, np.clip(s.p, 1e-12, 1 - 1e-12))
        except NotEstimableError as error:  # every risk the same
            return out | {"reason": error.what}
        out |= {"citl": found.citl.value, "o_e": found.o_e.value}
        out["slope"] = None if found.slope is None else found.slope.value
    return out


def _single_test_set(s: TestSet, hidden: str) -> dict[str, Any]:
    """One model, tested on patients of another time or hold-out: DeLong and Wald intervals are right here."""
    everything = ("auc", "brier", "scaled_brier", "slope", "intercept", "citl", "o_e", "ici")
    clustered = len(np.unique(s.patients.astype(str))) < len(s.patients)
    try:
        area = delong_clustered(s.y, s.lp, s.patients) if clustered else delong(s.y, s.lp)
    except NotEstimableError as error:
        return {name: metric(None, reason=error.what) for name in everything}
    facts: dict[str, Any] = {"n": len(s.y), "reason": area.reason or None}
    if area.low is not None:
        facts["interval"] = "DeLong, fixed model on independent patients"
    out: dict[str, Any] = {"auc": metric(area.value, low=area.low, high=area.high, **facts)}
    if hidden:
        out |= {name: metric(None, reason=hidden) for name in everything[1:]}
        out["slope"] = metric(_slope(s.y, s.lp))
        return out
    out |= {"brier": metric(brier(s.y, s.p)), "scaled_brier": metric(scaled_brier(s.y, s.p))}
    try:
        found = calibration(s.y, np.clip(s.p, 1e-12, 1 - 1e-12))
    except NotEstimableError as error:  # every risk the same
        return out | {name: metric(None, reason=error.what) for name in everything[3:]}
    kind = "Wald, rows of a patient taken as independent, too narrow" if clustered else FIXED_MODEL
    estimates = {"slope": found.slope, "intercept": found.intercept, "citl": found.citl, "o_e": found.o_e}
    for name, estimate in estimates.items():
        if estimate is None:
            out[name] = metric(None, reason=found.slope_reason)
        else:
            out[name] = metric(estimate.value, low=estimate.low, high=estimate.high, interval=kind)
    flexible = found.flexible
    if flexible is None:
        out["ici"] = metric(None, reason=found.flexible_reason)
    else:
        out |= {"ici": metric(flexible.ici), "e50": metric(flexible.e50), "e90": metric(flexible.e90)}
    return out


def judge_development(
    development: Development, cohort: Cohort, corrected: bool, hidden: str, parameters: int
) -> dict[str, Any]:
    """Apparent performance of the unshrunken model, and with `corrected` its optimism over the stored refits.

    hidden : why measures of probabilities are not shown, "" when they are
    parameters : candidate coefficients, those of predictors that feed it included
    """
    outcome, lp = cohort.outcome, development.lp
    assert isinstance(outcome, BinaryOutcome)
    y, n = outcome.y, len(lp)
    if np.ptp(lp) < 1e-12:
        return {"apparent": {"reason": "nothing was selected: every patient has the same risk"}}
    own = measures_batch(y, lp[None], np.ones((1, n)))
    names = ("auc", "slope") if hidden else ("auc", "brier", "slope", "intercept", "r2")
    keep = [MEASURES.index(name) for name in names]
    out: dict[str, Any] = {"apparent": {name: metric(own[0, k]) for name, k in zip(names, keep, strict=True)}}
    if hidden:
        out["apparent"]["brier"] = metric(None, reason=hidden)
    refits = development.refits
    if not corrected or not refits.ok.any():
        return out
    good = np.flatnonzero(refits.ok)
    train, test = np.full((len(refits.ok), len(MEASURES)), np.nan), np.full((len(refits.ok), len(MEASURES)), np.nan)
    train[good] = measures_batch(y, refits.lp[good], refits.weights[good])
    test[good] = measures_batch(y, refits.lp[good], np.ones((len(good), n)))
    found = optimism(own[0], train, test)
    honest = {
        name: metric(found.corrected[k], bootstraps=int(found.used[k])) for name, k in zip(names, keep, strict=True)
    }
    out["optimism_corrected"] = honest
    out["bootstrap_failures"] = dict(refits.failures)
    apparent, value = found.of("auc")
    slope = found.of("slope")[1]
    patients, events = len(cohort.patient_ids), int(patient_classes(cohort).sum())
    if patients < FEW_PATIENTS:
        honest["auc"] |= {"reason": f"{patients} patients: no interval"}
    else:
        ci = corrected_auc_interval(apparent, value, events, patients - events, parameters=parameters)
        honest["auc"] |= {"low": ci.low, "high": ci.high, "interval": ci.kind}
    if not PLAUSIBLE_SLOPE[0] <= slope <= PLAUSIBLE_SLOPE[1]:
        honest["slope"] = metric(None, reason="some bootstrap models predict nearly the same for all: no stable slope")
    elif patients < FEW_PATIENTS or cohort.clustered:
        honest["slope"] |= {"reason": "no interval: few patients, or several rows per patient"}
    else:
        ci = corrected_slope_interval(lp, found.of("intercept")[1], slope)
        honest["slope"] |= {"low": ci.low, "high": ci.high, "interval": ci.kind}
    return out


def flat(metrics: Mapping[str, Any], *path: str) -> float | None:
    """Value at a path of nested metrics, None when it is not there."""
    here: Any = metrics
    for part in path:
        here = here.get(part) if isinstance(here, Mapping) else None
    return here.get("value") if isinstance(here, Mapping) else None
