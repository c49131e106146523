"""Baseline characteristics by outcome in training and in test patients, where a study sets test patients apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.evaluation.table_one import RULE, TableOne, table_one
from osml.schema.model import Holdout, Schema, TimeSplit
from osml.study.tables import outcome_column, readable, write_frame


def write_table_two(schema: Schema, cohort: Cohort, folds: Sequence[Fold], folder: Path) -> None:
    """table_two.csv: characteristics by outcome, training patients beside test patients, each with its own tests.

    Written for hold-out and time splits only: by resampling every patient is a test patient once in each repeat, and
    there is nothing to compare.
    """
    if not isinstance(schema.validation.split, (Holdout, TimeSplit)) or not schema.values():
        return
    parts = []
    for words, patients in (("Training", folds[0].train), ("Test", folds[0].test)):
        table = _table(schema, cohort.of(patients))
        frame = table.to_frame()
        if table.groups:
            frame = frame.drop(columns=frame.columns[3])  # overall: it stands in the first table
        names = {c: f"{words}: {'by' if c == 'Test' else c}" for c in frame.columns[2:]}
        parts.append(frame.rename(columns=names))
    first, second = parts
    joined = pd.concat([first, second.drop(columns=["Variable", "Level"])], axis=1)
    note = (
        "Test patients were set apart beforehand. A large p between outcomes in few test patients says little, and "
        "similar training and test patients say nothing about other hospitals. By: the test used. "
    )
    write_frame(folder / "table_two.csv", joined, note + RULE)


def _table(schema: Schema, part: Cohort) -> TableOne:
    """Characteristics of these patients by outcome; overall where they all have the same one."""
    frame, kinds, levels = readable(schema, part)
    frame["outcome"], values = outcome_column(part)
    both = frame["outcome"].nunique() > 1
    order = {**levels, "outcome": values} if both else levels
    return table_one(frame, kinds, by="outcome" if both else None, levels=order, seed=schema.validation.seed)
