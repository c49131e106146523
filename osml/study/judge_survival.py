"""Judge Cox predictors on out-of-fold predictions: C within folds, Brier and AUC at the horizons, slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from osml.cohort.cohort import Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, patient_bootstrap
from osml.evaluation.censoring import fit_censoring
from osml.evaluation.concordance import harrell_c
from osml.evaluation.ipcw import auc_at, brier_at
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.predictors.nomogram import Development
from osml.predictors.refits import OPTIMISM, calibration_slopes
from osml.runs.store import PredictionRow
from osml.schema.model import Schema
from osml.study.decision import decision_survival
from osml.study.judge import BOOTSTRAPS, FEW_PATIENTS, Metric, metric, one_patient_per_fold

Float = NDArray[np.float64]
CORRECTED_C = "Wald: jackknife variance of C and half the optimism; its coverage was not simulated"


def judge_survival(
    rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold], schema: Schema, withheld: str
) -> dict[str, Any]:
    """Out-of-fold metrics; censoring weights come from all patients pooled, never from one fold.

    withheld : why risks are not shown, "" when they are
    """
    split, seed = schema.validation.split.kind, schema.validation.seed
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    position = {unit: i for i, unit in enumerate(cohort.units)}
    columns = list(dict.fromkeys(row.column for row in rows))
    index: dict[tuple[int, int], NDArray[np.intp]] = {}
    risk: dict[tuple[int, int], Float] = {}
    score: dict[tuple[int, int], Float] = {}
    for fold in folds:
        mine = [r for r in rows if (r.repeat, r.fold) == (fold.repeat, fold.index)]
        key = (fold.repeat, fold.index)
        first = [r for r in mine if r.column == columns[0]]
        index[key] = np.array([position[r.unit] for r in first], dtype=np.intp)
        score[key] = np.array([r.lp for r in first])
        risk[key] = np.column_stack([[r.p for r in mine if r.column == c] for c in columns])
    out: dict[str, Any] = {"c": _concordance(outcome, cohort, index, score, split, seed)}
    repeats = sorted({key[0] for key in index})
    pooled = [
        (
            np.concatenate([index[k] for k in index if k[0] == r]),
            np.concatenate([score[k] for k in index if k[0] == r]),
            np.concatenate([risk[k] for k in index if k[0] == r]),
        )
        for r in repeats
    ]
    slopes = [calibration_slopes(lp[None], outcome.take(i), np.ones((1, len(i))))[0] for i, lp, _ in pooled]
    good = [s for s in slopes if np.isfinite(s)]
    out["slope"] = metric(float(np.mean(good)), repeats=len(good)) if good else metric(None, reason="not estimable")
    if withheld:
        out["brier"] = metric(None, reason=withheld)
        out["decision"] = {"reason": withheld}
        return out
    # The evaluation population: the test set of a hold-out, all patients pooled under cross-validation.
    population = outcome.take(pooled[0][0]) if split in ("holdout", "time") else outcome
    out["horizons"] = [_at_horizon(outcome, population, h, k, pooled) for k, h in enumerate(outcome.horizons)]
    last = out["horizons"][-1]
    out["brier"] = {**last["brier"], "horizon": last["horizon"]}
    everything = np.concatenate([i for i, _, _ in pooled])
    names = np.array(cohort.patients, dtype=object).astype(str)[everything]
    risks = np.concatenate([r for _, _, r in pooled])[:, -1]
    out["decision"] = decision_survival(schema, outcome, everything, risks, names, outcome.horizons[-1], seed)
    return out


def _concordance(
    outcome: SurvivalOutcome,
    cohort: Cohort,
    index: dict[tuple[int, int], NDArray[np.intp]],
    score: dict[tuple[int, int], Float],
    split: str,
    seed: int,
) -> Metric:
    patients = np.array(cohort.patients, dtype=object).astype(str)
    keys = list(index)
    if split in ("holdout", "time"):
        i = index[keys[0]]
        try:
            found = harrell_c(outcome.time[i], outcome.event[i], score[keys[0]], groups=patients[i])
        except NotEstimableError as error:
            return metric(None, reason=error.what)
        return metric(
            found.value, low=found.low, high=found.high, interval="jackknife, fixed model on independent patients"
        )
    if split == "leave_one_patient_out":
        return one_patient_per_fold()
    values = [_c(outcome, index[key], score[key], None) for key in keys]
    folds = [
        {"fold": f"r{r}-f{k}", "n": len(index[r, k]), "value": v if np.isfinite(v) else None}
        for (r, k), v in zip(keys, values, strict=True)
    ]
    good = [v for v in values if np.isfinite(v)]
    if not good:
        return metric(None, reason="no test fold holds a comparable pair")
    ids = np.unique(patients)
    if len(ids) < FEW_PATIENTS:
        return metric(
            float(np.mean(good)), reason=f"{len(ids)} patients: no interval", range=[min(good), max(good)], folds=folds
        )
    code = {p: k for k, p in enumerate(ids)}
    codes = {key: np.array([code[p] for p in patients[index[key]]], dtype=np.intp) for key in keys}

    def statistic(drawn: NDArray[np.intp]) -> float:
        weight = np.bincount(drawn, minlength=len(ids)).astype(float)
        found = [_c(outcome, index[key], score[key], weight[codes[key]]) for key in keys]
        usable = [v for v in found if np.isfinite(v)]
        if not usable:
            raise NotEstimableError("no fold holds a comparable pair in this resample")
        return float(np.mean(usable))

    ci = patient_bootstrap(statistic, ids, BOOTSTRAPS // 5, np.random.default_rng([seed, 1]))
    return metric(
        ci.value,
        low=ci.low,
        high=ci.high,
        interval=CONDITIONAL,
        folds=folds,
        not_estimable=len(values) - len(good) or None,
    )


def _c(outcome: SurvivalOutcome, i: NDArray[np.intp], lp: Float, weights: Float | None) -> float:
    keep = np.ones(len(i), dtype=bool) if weights is None else weights > 0
    try:
        return harrell_c(
            outcome.time[i][keep], outcome.event[i][keep], lp[keep], None if weights is None else weights[keep]
        ).value
    except NotEstimableError:
        return float("nan")


def _at_horizon(
    outcome: SurvivalOutcome,
    population: SurvivalOutcome,
    horizon: float,
    k: int,
    pooled: Sequence[tuple[NDArray[np.intp], Float, Float]],
) -> dict[str, Any]:
    """AUC and Brier of each repeat's pooled patients, averaged over repeats; risks share one scale."""
    out: dict[str, Any] = {"horizon": horizon, "at_risk": int((population.time >= horizon).sum())}
    if horizon > population.time.max():
        reason = f"no test patient is followed to {horizon:g}"
        return out | {name: metric(None, reason=reason) for name in ("auc", "brier", "scaled_brier")}
    censoring = fit_censoring(population.time, population.event)
    null_risk = float(1 - kaplan_meier(population.time, population.event).at(horizon)[0])
    areas, briers, scaled = [], [], []
    reason = ""
    for i, _, risk in pooled:
        t, e = outcome.time[i], outcome.event[i]
        try:
            areas.append(auc_at(t, e, risk[:, k], horizon, censoring=censoring).value)
            found = brier_at(t, e, risk[:, k], horizon, censoring=censoring, null_risk=null_risk)
        except NotEstimableError as error:
            reason = error.what
            continue
        briers.append(found.value)
        scaled.append(found.scaled)
    for name, values in (("auc", areas), ("brier", briers), ("scaled_brier", scaled)):
        out[name] = metric(float(np.mean(values))) if values else metric(None, reason=reason)
    return out


def judge_survival_development(development: Development, cohort: Cohort, corrected: bool) -> dict[str, Any]:
    """Apparent C and slope of the unshrunken model, and with `corrected` their optimism over the stored refits."""
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    lp, n = development.lp, len(outcome.time)
    everybody = np.arange(n)
    if np.ptp(lp) < 1e-12:
        return {"apparent": {"reason": "nothing was selected: every patient has the same risk"}}
    own = {"c": _c(outcome, everybody, lp, None), "slope": calibration_slopes(lp[None], outcome, np.ones((1, n)))[0]}
    out: dict[str, Any] = {"apparent": {name: metric(value) for name, value in own.items()}}
    refits = development.refits
    if not corrected or not refits.ok.any():
        return out
    good = np.flatnonzero(refits.ok)
    train = np.array([_c(outcome, everybody, refits.lp[b], refits.weights[b]) for b in good])
    test = np.array([_c(outcome, everybody, refits.lp[b], None) for b in good])
    optimism = float(np.nanmean(train - test))
    value = own["c"] - optimism
    # As for the AUC: the variance of a validation in as many patients, plus half the optimism squared.
    variance = (
        harrell_c(outcome.time, outcome.event, lp, groups=np.array(cohort.patients, dtype=object).astype(str)).variance
        + optimism**2 / 4
    )
    half = float(norm.isf(0.025)) * float(np.sqrt(variance))
    out["optimism_corrected"] = {
        "c": metric(
            value, low=max(0.0, value - half), high=min(1.0, value + half), interval=CORRECTED_C, bootstraps=len(good)
        ),
        "slope": metric(development.fitted.slope.value if development.fitted.slope.source == OPTIMISM else None),
    }
    out["bootstrap_failures"] = dict(refits.failures)
    return out
