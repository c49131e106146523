"""Patient-disjoint splits, made once from the cohort, the schema and the seed, then saved and reused.

A fold names patients, never rows. Disjointness is asserted where a fold is made: no option can let a patient cross.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.errors import InvalidInputError, TableError
from osml.schema.model import Holdout, KFold, LeaveOneGroupOut, LeaveOnePatientOut, Split, TimeSplit

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( .*)?")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


@dataclass(frozen=True)
class Fold:
    """One split: patients to train on, patients to test on, disjoint."""

    repeat: int
    index: int
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        shared = set(self.train) & set(self.test)
        if shared:
            raise InvalidInputError(f"patients in training and test of fold {self.name}: {sorted(shared)[:5]}")
        if not self.train or not self.test:
            sizes = f"{len(self.train)} training and {len(self.test)} test patients"
            raise InvalidInputError(f"fold {self.name} has {sizes}")

    @property
    def name(self) -> str:
        return f"r{self.repeat}-f{self.index}"


def derive_seed(master: int, repeat: int, fold: int, name: str) -> np.random.SeedSequence:
    """Seeds by name: adding a predictor changes the draws of no other."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.SeedSequence([master, repeat, fold, digest])


def make_folds(cohort: Cohort, split: Split, seed: int) -> tuple[Fold, ...]:
    """Outer folds of a cohort after the schema's `validation.split`."""
    ids = np.array(cohort.patient_ids, dtype=object)
    if isinstance(split, KFold):
        classes = patient_classes(cohort)
        folds = []
        for repeat in range(split.repeats):
            rng = np.random.default_rng(derive_seed(seed, repeat, 0, "split"))
            assigned = stratified(classes, split.folds, rng)
            for k in range(split.folds):
                folds.append(Fold(repeat, k, tuple(ids[assigned != k]), tuple(ids[assigned == k])))
        return tuple(folds)
    if isinstance(split, LeaveOnePatientOut):
        return tuple(Fold(0, k, tuple(np.delete(ids, k)), (ids[k],)) for k in range(len(ids)))
    key = _patient_key(cohort, split.column)
    texts = [key[p] for p in ids]
    if isinstance(split, LeaveOneGroupOut):
        groups = sorted(set(texts))
        if len(groups) < 2:
            raise TableError(f"column {split.column!r} has one value only ({groups[0]!r}): no group can be left out")
        inside = [np.array([t == g for t in texts]) for g in groups]
        return tuple(Fold(0, k, tuple(ids[~here]), tuple(ids[here])) for k, here in enumerate(inside))
    if isinstance(split, TimeSplit):
        late = _from(texts, split.test_from, split.column)
        return (_single(ids, late, f"`test_from: {split.test_from}`"),)
    return (_single(ids, np.array([t == split.test for t in texts]), f"{split.column} = {split.test!r}"),)


def development_patients(cohort: Cohort, folds: Sequence[Fold], split: Split) -> tuple[str, ...]:
    """Patients of the deployed model: all of them, or those before a time or hold-out split, whose test set then judges
    the very model that is deployed."""
    return folds[0].train if isinstance(split, (Holdout, TimeSplit)) else cohort.patient_ids


def inner_folds(cohort: Cohort, folds: int, seed: np.random.SeedSequence) -> tuple[Fold, ...]:
    """Folds inside a training set, grouped by original patient, so that copies of a resampled patient stay together."""
    ids = np.array(cohort.patient_ids, dtype=object)
    assigned = stratified(patient_classes(cohort), min(folds, len(ids)), np.random.default_rng(seed))
    return tuple(Fold(0, k, tuple(ids[assigned != k]), tuple(ids[assigned == k])) for k in np.unique(assigned))


def patient_classes(cohort: Cohort) -> NDArray[np.intp]:
    """Stratum of each patient: the event (any event among a patient's rows), or the class of most rows; 0 without
    outcome."""
    outcome = cohort.outcome
    if outcome is None:
        return np.zeros(len(cohort.patient_ids), dtype=np.intp)
    if isinstance(outcome, ClassOutcome):
        place = {patient: i for i, patient in enumerate(cohort.patient_ids)}
        counts = np.zeros((len(place), len(outcome.tree.nodes)), dtype=np.intp)
        np.add.at(counts, (np.array([place[p] for p in cohort.patients], dtype=np.intp), outcome.node), 1)
        return counts.argmax(axis=1).astype(np.intp)
    any_event: dict[str, bool] = {}
    for patient, e in zip(cohort.patients, outcome.event, strict=True):
        any_event[patient] = any_event.get(patient, False) or bool(e)
    return np.array([int(any_event[p]) for p in cohort.patient_ids], dtype=np.intp)


def stratified(classes: NDArray[np.intp], folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Fold of each patient: classes dealt out in turn, so that fold sizes and class counts differ by one at most."""
    if folds > len(classes):
        raise InvalidInputError(f"{folds} folds for {len(classes)} patients", do="Use fewer folds.")
    assigned = np.empty(len(classes), dtype=np.intp)
    start = 0
    for value in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == value))
        assigned[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return assigned


def _single(ids: NDArray[np.object_], test: NDArray[np.bool_], rule: str) -> Fold:
    if test.all() or not test.any():
        raise TableError(f"{rule} puts {int(test.sum())} of {len(ids)} patients into the test set")
    return Fold(0, 0, tuple(ids[~test]), tuple(ids[test]))


def _patient_key(cohort: Cohort, column: str) -> dict[str, str]:
    key: dict[str, str] = {}
    for patient, text in zip(cohort.patients, cohort.keys[column], strict=True):
        if key.setdefault(patient, text) != text:
            raise TableError(f"patient {patient} has {key[patient]!r} and {text!r} in split column {column!r}")
        if not text.strip():
            raise TableError(f"patient {patient} has an empty cell in split column {column!r}")
    return key


def _from(texts: Sequence[str], start: str, column: str) -> NDArray[np.bool_]:
    if all(_ISO_DATE.fullmatch(t) for t in (*texts, start)):
        for t in (*texts, start):
            _require_date(t, column)
        return np.array([t >= start for t in texts])
    if all(_NUMBER.fullmatch(t.strip()) for t in (*texts, start)):
        return np.array([float(t) >= float(start) for t in texts])
    kind = _ISO_DATE if _ISO_DATE.fullmatch(start) else _NUMBER
    odd = next((t for t in texts if not kind.fullmatch(t.strip())), start)
    raise TableError(
        f"split column {column!r} must hold ISO dates (2021-05-31) or numbers throughout, as `test_from` does; "
        f"found {odd!r}"
    )


def _require_date(text: str, column: str) -> None:
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError as error:
        raise TableError(f"split column {column!r}: {text!r} is not a day of the calendar ({error})") from None


def folds_to_json(folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Plain data for splits.json."""
    return [{"repeat": f.repeat, "index": f.index, "train": list(f.train), "test": list(f.test)} for f in folds]


def folds_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[Fold, ...]:
    """Inverse of `folds_to_json`; disjointness is asserted again."""
    return tuple(Fold(d["repeat"], d["index"], tuple(d["train"]), tuple(d["test"])) for d in data)
