"""Words that several parts of the report share: the split, the predictions that a figure uses, shares and counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from osml.report.run import Run
from osml.schema.slides import RegionTarget
from osml.schema.targets import HierarchyTarget, MulticlassTarget


def split_words(run: Run) -> str:
    """How predictors were judged."""
    split = run.schema.validation.split
    if split.kind == "kfold":
        times = f", repeated {split.repeats} times" if split.repeats > 1 else ""
        return f"{split.folds}-fold cross-validation by patient{times}"
    if split.kind == "leave_one_patient_out":
        return "leaving out one patient at a time"
    if split.kind == "leave_one_group_out":
        return f"leaving out one value of “{split.column}” at a time"
    if split.kind == "time":
        return f"a test on later patients (“{split.column}” from {split.test_from} on)"
    return f"a test on patients set apart (“{split.column}” = {split.test})"


def predictions_words(run: Run) -> str:
    """Which predictions a performance figure uses."""
    if run.independent_test:
        return "Predictions for the test patients by a model that was fitted without them."
    return (
        f"Out-of-fold predictions: each patient predicted by models fitted without that patient ({split_words(run)})."
    )


def event_words(run: Run) -> str:
    """The event as a clinician says it; the column's value where the study gives no words."""
    target = run.schema.target
    if run.schema.study.endpoint:
        return run.schema.study.endpoint
    if isinstance(target, MulticlassTarget | HierarchyTarget):
        return f"{target.column}: {', '.join(run.classes[:-1])} or {run.classes[-1]}"
    if isinstance(target, RegionTarget):
        return f"tissue of whole slides: {', '.join(kind.name for kind in target.classes.values())}"
    return "the event" if target.kind == "survival" else f"{target.column} = {target.positive}"


def counts_words(run: Run) -> str:
    """Units with their events, or with their classes."""
    n, unit = len(run.cohort), run.units.removesuffix("s")
    if not run.classes:
        events = run.summary["events"]
        return f"{plural(n, unit)} with {plural(events, 'event')} ({percent(events / n)})"
    people = f" of {plural(len(run.cohort.patient_ids), 'patient')}" if run.cohort.per_row else ""
    found = run.cohort.outcome_groups()
    told = [f"{int(found[name].sum()) if name in found else 0:,} {name}" for name in run.classes]
    told += [f"{int(mine.sum()):,} labelled {name} only" for name, mine in found.items() if name not in run.classes]
    return f"{plural(n, unit)}{people}: {', '.join(told)}"


def percent(value: float) -> str:
    """A share in percent.

    >>> percent(0.2), percent(0.125)
    ('20 %', '12.5 %')
    """
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def plural(count: float, one: str) -> str:
    """A count with its noun.

    >>> plural(1, "event"), plural(2, "event")
    ('1 event', '2 events')
    """
    return f"{count:,} {one}" + ("" if count == 1 else "s")


def time_unit(run: Run) -> str:
    """Plural of the unit of follow-up."""
    return f"{getattr(run.outcome, 'unit', '')}s"


def thinned(n: int, most: int) -> list[int]:
    """Positions of at most `most` of n rows, evenly spread, the first and the last among them.

    >>> thinned(5, 3), thinned(2, 3)
    ([0, 2, 4], [0, 1])
    """
    return list(range(n)) if n <= most else [int(k) for k in np.unique(np.linspace(0, n - 1, most).round())]


def no_model(facts: Mapping[str, Any], otherwise: str = "") -> str:
    """Why a predictor has no final model: it failed, was not chosen or ran out of time."""
    final = facts.get("final", {})
    return str(final.get("failed") or final.get("skipped") or otherwise)
