"""Judge predictors of classes on stored out-of-fold predictions: multiclass and hierarchy targets.

Under resampling every measure is computed within folds and averaged. Leaving one patient out, a fold is a patient: the
table of patients comes first (`judge_patients`), pooled values second, beside what noise gives. A class that a test
fold lacks has no value there, and no mean over classes exists in that fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, FIXED, resample_patients
from osml.evaluation.calibration import calibration
from osml.evaluation.class_measures import OVERALL
from osml.runs.class_sets import (
    OF_PROBABILITIES,
    ClassSet,
    Key,
    by_repeat,
    class_sets,
    decisions,
    mean_per_patient,
    measured,
    pool,
)
from osml.runs.store import PredictionRow
from osml.schema.model import Schema
from osml.study.judge import BOOTSTRAPS, FEW_PATIENTS, FIXED_BY_DESIGN, Metric, metric
from osml.study.null_classes import References, references

Float = NDArray[np.float64]
PER_FOLD = (*OVERALL,)
ONE_PATIENT = "a fold is one patient: see the table of patients"
WITHIN, POOLED, TEST = "within folds, averaged over folds and repeats", "pooled over patients", "the test set"


def judge_classes(
    rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold], schema: Schema, hidden: str
) -> dict[str, Any]:
    """Out-of-fold metrics of one predictor of classes.

    Parameters
    ----------
    rows : its predictions, P(node) of every node of the tree
    hidden : why log loss, Brier score and calibration cannot be had from this sample, "" when they can

    Returns
    -------
    dict
        Measures of `class_measures`, `per_class`, `tree` and `decisions` (hierarchies), `confusion`, `calibration`,
        `pooled`, `per_patient`; each number a metric, null with its reason where it does not exist.
    """
    split, seed = schema.validation.split.kind, schema.validation.seed
    sets = class_sets(rows, cohort, folds)
    repeats = by_repeat(sets)
    alone = split == "leave_one_patient_out"
    groups = repeats if alone else sets
    first = repeats[0]
    basis = POOLED if alone else TEST if split in ("holdout", "time") else WITHIN
    found = averaged(groups, seed, hidden, basis, split)
    out: dict[str, Any] = {
        "classes": list(first.tree.leaves),
        "n": len(first),
        "partial": int((~first.full).sum()),
        "patients": len(np.unique(first.patients.astype(str))),
        "per_class_n": _counts(first),
        "basis": basis,
    }
    out |= {name: metric(None, reason=ONE_PATIENT) for name in OVERALL} if alone else found["overall"]
    if hidden:
        out |= {name: metric(None, reason=hidden) for name in OF_PROBABILITIES}
    out["per_class"] = found["per_class"]
    if first.tree.inner:
        out |= {"tree": found["tree"], "decisions": found["decisions"]}
    out["confusion"] = confusion_counts(repeats)
    out["calibration"] = {"reason": hidden} if hidden else calibration_by_node(repeats, split)
    if alone:
        out["pooled"] = _beside_noise(found["overall"], references(sets, seed, hidden))
    elif basis == WITHIN:
        out["pooled"] = averaged(repeats, seed, hidden, POOLED, split, resample=False)["overall"]
    out["per_patient"] = _per_patient(sets, seed, hidden, basis, split)
    return out


def averaged(
    groups: Sequence[ClassSet], seed: int, hidden: str, basis: str, split: str, *, resample: bool = True
) -> dict[str, Any]:
    """All measures of each set, averaged over the sets; patients are resampled for the intervals."""
    everyone = np.unique(np.concatenate([s.patients for s in groups]).astype(str))
    enough = len(everyone) >= FEW_PATIENTS and resample
    weights = _drawn(groups, everyone, seed, split) if enough else None
    code = {patient: k for k, patient in enumerate(everyone)}
    own: list[dict[Key, Float]] = []
    drawn: list[dict[Key, Float]] = []
    for s in groups:
        own.append(measured(s))
        if weights is not None:
            drawn.append(measured(s, weights[:, [code[p] for p in s.patients.astype(str)]]))
    kind = FIXED if basis == TEST else CONDITIONAL
    few = (
        ""
        if enough or not resample
        else f"{len(everyone)} patients: " + ("range only" if basis == WITHIN else "no interval")
    )
    found: dict[str, Any] = {"overall": {}, "per_class": {}, "tree": {}, "decisions": {}}
    keys = dict.fromkeys(key for one in own for key in one)
    for key in keys:
        if hidden and key[0] in OF_PROBABILITIES:
            continue
        values = np.array([one[key][0] if key in one else np.nan for one in own])
        entry = _entry(key, groups, values, basis, few)
        if drawn and entry["value"] is not None:
            entry |= _interval(key, drawn, kind)
        place = found
        for part in ("overall", *key)[:-1] if len(key) == 1 else key[:-1]:
            place = place.setdefault(part, {})
        place[key[-1]] = entry
    tree = groups[0].tree
    found["decisions"] = [
        {"node": node, "children": list(children), "n": _below(groups, children)} | found["decisions"].get(str(k), {})
        for k, (node, children) in enumerate(decisions(tree))
    ]
    for name in tree.leaves:  # a class of which no fold has a row
        found["per_class"].setdefault(name, {})
    return found


def _entry(key: Key, groups: Sequence[ClassSet], values: Float, basis: str, few: str) -> Metric:
    """Mean over the sets in which the measure exists."""
    good = values[np.isfinite(values)]
    facts: dict[str, Any] = {}
    if basis == WITHIN and key[0] in PER_FOLD:
        facts["folds"] = [
            {"fold": s.folds[0].name, "n": int(s.full.sum()), "value": float(v)}
            if np.isfinite(v)
            else {"fold": s.folds[0].name, "n": int(s.full.sum()), "value": None, "reason": why_not(key, s, v)}
            for s, v in zip(groups, values, strict=True)
        ]
    if not len(good):
        reason = why_not(key, groups[0], values[0])
        if len(groups) > 1:
            reason = f"in no fold: {reason}"
        return metric(None, reason=reason, **facts)
    missing = len(values) - len(good)
    if few:
        facts |= {"reason": few}
        if len(good) > 1:
            facts["range"] = [float(good.min()), float(good.max())]
    return metric(float(good.mean()), not_estimable=missing or None, **facts)


def why_not(key: Key, s: ClassSet, value: float) -> str:
    """Why a measure has no value on a set."""
    if np.isinf(value):
        return "a true class was given probability 0"
    if key[0] == "decisions":
        children = decisions(s.tree)[int(key[1])][1]
        absent = [name for name, n in _below([s], children).items() if not n]
    else:
        counts = _counts(s)
        absent = [name for name in s.tree.leaves if not counts[name]]
        if key[0] == "per_class" and key[1] not in absent:
            return f"no unit of another class than {key[1]}"
        if key[0] == "per_class":
            absent = [key[1]]
    return f"no unit of {', '.join(absent)}" if absent else "not estimable"


def _interval(key: Key, drawn: Sequence[dict[Key, Float]], kind: str) -> dict[str, Any]:
    """Percentiles of the mean over folds; a fold that lost a class in a resample is left out of that resample."""
    replicates = np.stack([one[key] for one in drawn if key in one])
    replicates[~np.isfinite(replicates)] = np.nan
    exists = np.asarray(np.isfinite(replicates).any(axis=0))
    means = np.nanmean(replicates[:, exists], axis=0)
    if exists.mean() < 0.9:
        return {"reason": "no interval: in more than a tenth of the resamples it does not exist"}
    low, high = np.percentile(means, [2.5, 97.5])
    return {"low": float(low), "high": float(high), "interval": kind}


def _drawn(groups: Sequence[ClassSet], everyone: NDArray[np.str_], seed: int, split: str) -> Float:
    """How often each patient is drawn, (B, patients); within the groups that were left out in turn, where they were."""
    strata = None
    if split == "leave_one_group_out":
        home = {p: s.folds[0].name for s in groups for p in s.patients.astype(str)}
        strata = [home[p] for p in everyone]
    return resample_patients(everyone, BOOTSTRAPS, np.random.default_rng([seed, 1]), strata=strata).astype(float)


def _beside_noise(pooled: Mapping[str, Metric], found: References) -> dict[str, Any]:
    """Pooled values, each beside what predictions without knowledge give."""
    out: dict[str, Any] = {"note": found.note, "permutations": found.permutations}
    for name, entry in pooled.items():
        out[name] = entry | {key: metric(values[name])["value"] for key, values in found.means.items()}
    return out


def _counts(s: ClassSet) -> dict[str, int]:
    return {name: int((s.y == k).sum()) for k, name in enumerate(s.tree.leaves)}


def _below(groups: Sequence[ClassSet], children: Sequence[str]) -> dict[str, int]:
    """Units at or below each child, of the first repeat."""
    s = pool([g for g in groups if g.folds[0].repeat == groups[0].folds[0].repeat])
    lineage = s.tree.lineage[s.node]
    return {name: int(lineage[:, s.tree.nodes.index(name)].sum()) for name in children}


def confusion_counts(repeats: Sequence[ClassSet]) -> dict[str, Any]:
    """True classes in rows, predicted ones in columns; mean over repeats. Labels at an inner node stand apart."""
    leaves = repeats[0].tree.leaves
    k = len(leaves)
    table = np.zeros((k, k))
    partial: dict[str, Float] = {}
    for s in repeats:
        np.add.at(table, (s.y[s.full], s.predicted[s.full]), 1 / len(repeats))
        for node in np.unique(s.node[~s.full]):
            counts = np.bincount(s.predicted[s.node == node], minlength=k) / len(repeats)
            name = s.tree.nodes[node]
            partial[name] = partial.get(name, np.zeros(k)) + counts
    return {
        "classes": list(leaves),
        "rows": "true class",
        "repeats": len(repeats),
        "counts": [[round(float(v), 6) for v in row] for row in table],
        "partial": {name: [round(float(v), 6) for v in row] for name, row in partial.items()},
    }


def calibration_by_node(repeats: Sequence[ClassSet], split: str) -> dict[str, Any]:
    """Calibration of P(node) against the rest, for every node: pooled within repeats, then averaged over them.

    Units whose label stops above a node say nothing about it and are left out.
    """
    tree = repeats[0].tree
    out: dict[str, Any] = {}
    for k, name in enumerate(tree.nodes):
        found, reason = [], ""
        for s in repeats:
            known = tree.lineage[s.node, k] | ~tree.lineage[k, s.node]
            y, p = tree.lineage[s.node, k][known], np.clip(s.p[known, k], 1e-12, 1 - 1e-12)
            if y.all() or not y.any():
                reason = f"{int(y.sum())} of {len(y)} units are {name}"
                continue
            try:
                found.append(calibration(y, p))
            except NotEstimableError as error:  # every probability the same
                reason = error.what
        if not found:
            out[name] = {"reason": reason}
            continue
        slopes = [c.slope.value for c in found if c.slope is not None]
        out[name] = {
            "n": found[0].n,
            "events": found[0].events,
            "slope": metric(float(np.mean(slopes))) if slopes else metric(None, reason=found[0].slope_reason),
            "o_e": metric(float(np.mean([c.o_e.value for c in found]))),
            "groups": [[g.mean_p, g.observed.value, g.n] for g in found[0].groups],
        }
        flexible = [c.flexible.ici for c in found if c.flexible is not None]
        out[name]["ici"] = (
            metric(float(np.mean(flexible))) if flexible else metric(None, reason=found[0].flexible_reason)
        )
    if split == "kfold":
        out["note"] = f"observed over expected: {FIXED_BY_DESIGN}"
    return out


def _per_patient(sets: Sequence[ClassSet], seed: int, hidden: str, basis: str, split: str) -> dict[str, Any]:
    """The same with one unit per patient, the mean of its rows' probabilities."""
    first = by_repeat(sets)[0]
    patients = len(np.unique(first.patients.astype(str)))
    if patients == len(first):
        return {"reason": "one row per patient: the measures above are per patient"}
    reduced = [mean_per_patient(s) for s in sets]
    mixed = sum(len(np.unique(first.node[first.patients == p])) > 1 for p in np.unique(first.patients.astype(str)))
    if mixed:
        return {
            "reason": f"rows of {mixed} of {patients} patients differ in class: such a target has no value per patient"
        }
    groups = [s for s in reduced if s is not None]
    found = averaged(by_repeat(groups) if basis == POOLED else groups, seed, hidden, basis, split)
    return {"basis": basis, **found["overall"], "per_class": found["per_class"]}
