"""Folds inside a training set: what a predictor chooses, calibrates or tunes on. Patients are whole in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold, inner_folds, patient_classes
from osml.schema.model import Schema

Rows = NDArray[np.intp]


def training_folds(schema: Schema, cohort: Cohort, seed: np.random.SeedSequence) -> tuple[Fold, ...]:
    """Inner folds, each with an event to be judged by; none where the schema asks for none or patients are too few."""
    wanted = schema.validation.inner
    patients = len(cohort.patient_ids)
    most = min(patients, int(patient_classes(cohort).sum())) if cohort.has_event else patients
    if wanted == "none" or most < 2:
        return ()
    return inner_folds(cohort, min(wanted.folds, most), seed)


def fold_rows(cohort: Cohort, fold: Fold) -> tuple[Rows, Rows]:
    """Positions of the units inside a fold's training part, and of those outside it."""
    patients = np.array(cohort.patients, dtype=object)
    inside = np.isin(patients, np.array(fold.train, dtype=object))
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def why_none(schema: Schema) -> str:
    """Why there are no inner folds."""
    return "no inner folds" if schema.validation.inner == "none" else "too few patients for inner folds"
