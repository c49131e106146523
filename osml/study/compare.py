"""Differences between predictors under the same folds, with the correction that resampling needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.delong import delong_test
from osml.evaluation.multiplicity import holm, nadeau_bengio
from osml.study.judge import FEW_PATIENTS, TestSet


def compare_folds(
    names: Sequence[str],
    measure: str,
    values: Mapping[str, Mapping[str, float | None]],
    folds: Sequence[Fold],
    patients: int,
) -> list[dict[str, Any]]:
    """Pairwise differences of a per-fold measure by Nadeau and Bengio, p-values adjusted by Holm.

    Parameters
    ----------
    values : predictor → fold name → value, None where a fold has none
    """
    size = {fold.name: (len(fold.train), len(fold.test)) for fold in folds}
    out: list[dict[str, Any]] = []
    for first, second in combinations(names, 2):
        entry: dict[str, Any] = {"first": first, "second": second, "measure": measure}
        out.append(entry)
        if first not in values or second not in values:
            entry["reason"] = "a predictor is not ranked: some of its folds failed"
            continue
        pairs = [(n, values[first].get(n), values[second].get(n)) for n in size]
        shared = [(n, a, b) for n, a, b in pairs if a is not None and b is not None]
        differences = [a - b for _, a, b in shared]
        entry["folds"] = len(differences)
        if patients < FEW_PATIENTS:
            entry["reason"] = f"{patients} patients: no interval, no test"
            continue
        if len(differences) < 2:
            entry["reason"] = "fewer than two folds have a value for both"
            continue
        try:
            test = nadeau_bengio(
                np.array(differences),
                float(np.mean([size[n][0] for n, _, _ in shared])),
                float(np.mean([size[n][1] for n, _, _ in shared])),
            )
        except NotEstimableError as error:
            entry |= {"difference": float(np.mean(differences)), "reason": error.what}
            continue
        entry |= {"difference": test.mean, "low": test.low, "high": test.high, "p": test.p, "test": "Nadeau-Bengio"}
    return _adjusted(out)


def compare_test_set(names: Sequence[str], sets: Mapping[str, TestSet]) -> list[dict[str, Any]]:
    """Pairwise paired DeLong tests on one independent test set, p-values adjusted by Holm."""
    out: list[dict[str, Any]] = []
    for first, second in combinations(names, 2):
        entry: dict[str, Any] = {"first": first, "second": second, "measure": "auc", "test": "DeLong, paired"}
        out.append(entry)
        if first not in sets or second not in sets:
            entry["reason"] = "a predictor is not ranked: its fold failed"
            continue
        try:
            test = delong_test(sets[first].y, sets[first].lp, sets[second].lp, groups=sets[first].patients.astype(str))
        except NotEstimableError as error:
            entry["reason"] = error.what
            continue
        entry |= {"difference": test.difference, "low": test.low, "high": test.high, "p": test.p_value}
    return _adjusted(out)


def compare_classes(
    names: Sequence[str], found: Mapping[str, Mapping[str, Any]], folds: Sequence[Fold], patients: int, split: str
) -> list[dict[str, Any]]:
    """Pairwise differences of macro-F1 and log loss of predictors of classes; p-values adjusted by Holm per measure.

    Parameters
    ----------
    found : ranked predictor → `out_of_fold` of `judge_classes`, and `patients` of `judge_patients`
    split : leaving one patient out, differences stand patient by patient, without interval and test
    """
    out: list[dict[str, Any]] = []
    for measure in ("macro_f1", "log_loss"):
        hidden = [f["out_of_fold"][measure] for f in found.values() if "folds" not in f["out_of_fold"][measure]]
        if split == "leave_one_patient_out":
            entries = [_by_patient(a, b, measure, found) for a, b in combinations(names, 2)]
        elif split in ("holdout", "time"):
            entries = [_one_test_set(a, b, measure, found) for a, b in combinations(names, 2)]
        elif hidden:
            entries = [
                {"first": a, "second": b, "measure": measure, "reason": hidden[0].get("reason", "not estimable")}
                for a, b in combinations(names, 2)
            ]
        else:
            values = {
                name: {fold["fold"]: fold["value"] for fold in facts["out_of_fold"][measure]["folds"]}
                for name, facts in found.items()
            }
            entries = compare_folds(names, measure, values, folds, patients)
        for entry in entries:
            entry["better"] = "lower" if measure == "log_loss" else "higher"
        out += entries
    return out


def _by_patient(first: str, second: str, measure: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """First − second on each patient's rows."""
    entry: dict[str, Any] = {"first": first, "second": second, "measure": measure}
    if first not in found or second not in found:
        return entry | {"reason": "a predictor is not ranked: some of its folds failed"}
    tables = [found[name].get("patients", {}) for name in (first, second)]
    reason = next((t["reason"] for t in tables if "reason" in t), "")
    if reason:
        return entry | {"reason": reason}
    other = {row["patient"]: row.get(measure) for row in tables[1]["table"]}
    pairs = [(row["patient"], row.get(measure), other.get(row["patient"])) for row in tables[0]["table"]]
    each = [{"patient": p, "difference": a - b} for p, a, b in pairs if a is not None and b is not None]
    if not each:
        return entry | {"reason": found[first]["out_of_fold"][measure].get("reason", "not estimable")}
    differences = [one["difference"] for one in each]
    return entry | {
        "patients": each,
        "range": [min(differences), max(differences)],
        "reason": f"{len(each)} patients, one by one: no interval, no test",
    }


def _one_test_set(first: str, second: str, measure: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"first": first, "second": second, "measure": measure}
    if first not in found or second not in found:
        return entry | {"reason": "a predictor is not ranked: its fold failed"}
    a, b = (found[name]["out_of_fold"][measure] for name in (first, second))
    if a.get("value") is None or b.get("value") is None:
        return entry | {"reason": a.get("reason") or b.get("reason") or "not estimable"}
    return entry | {"difference": a["value"] - b["value"], "reason": "one test set: no test of this measure is made"}


def _adjusted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tested = [entry for entry in entries if "p" in entry]
    if tested:
        for entry, p in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
            entry["p_holm"] = float(p)
    return entries
