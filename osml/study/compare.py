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


def _adjusted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tested = [entry for entry in entries if "p" in entry]
    if tested:
        for entry, p in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
            entry["p_holm"] = float(p)
    return entries
