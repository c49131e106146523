"""Which cases a gallery shows, and under which names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from explained_networks import made_cohort
from made_classes import class_cohort, class_rows, patient_folds

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.explanation.cases import Case, aliases, calls_of, choose_cases, entropy
from osml.runs.store import PredictionRow

LABELS = ["non_tumor", "viable", "non_viable", "tumor", "viable", "viable"]
# Leaves in the tree's order: non_tumor, non_viable, viable.
P = np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [0.05, 0.0, 0.95], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.0, 0.0, 1.0]])


def test_right_wrong_and_least_sure_of_each_predicted_class() -> None:
    cohort = class_cohort(LABELS, [f"P{i}" for i in range(6)])
    calls = calls_of(class_rows(cohort, patient_folds(cohort), P), cohort)
    assert calls.units == ("P0", "P1", "P2", "P4", "P5")  # P3's label stops at tumor
    seen = np.ones(5, dtype=bool)
    assert choose_cases(calls, seen, most=1) == (
        Case(0, "non_tumor", "right"),
        Case(4, "viable", "right"),
        Case(2, "viable", "wrong"),
        Case(3, "viable", "uncertain"),
    )
    kinds = [(c.index, c.kind) for c in choose_cases(calls, seen) if c.called == "viable"]
    assert kinds == [(4, "right"), (1, "right"), (3, "right"), (2, "wrong")]
    assert calls.shown[4] == "P >0.99"
    assert calls.fold[3] == 4


def test_units_without_a_picture_are_not_chosen() -> None:
    cohort = class_cohort(LABELS, [f"P{i}" for i in range(6)])
    calls = calls_of(class_rows(cohort, patient_folds(cohort), P), cohort)
    chosen = choose_cases(calls, np.array([True, True, True, True, False]))
    assert 4 not in [c.index for c in chosen]


def binary_rows(lp: list[float], *, hidden: bool = False) -> list[PredictionRow]:
    return [
        PredictionRow("net", 0, 0, f"unit-{i:03d}", f"SECRET-{i:03d}", "bad",
                      float("nan") if hidden else 1 / (1 + np.exp(-v)), v, None, None, "none")
        for i, v in enumerate(lp)
    ]  # fmt: skip


@pytest.mark.parametrize("hidden", [False, True])
def test_binary_calls_are_made_at_even_odds(hidden: bool) -> None:
    cohort = replace(made_cohort(4), outcome=BinaryOutcome(np.array([1.0, 0.0, 0.0, 1.0]), "bad", "good"))
    calls = calls_of(binary_rows([2.0, -0.1, 0.5, -3.0], hidden=hidden), cohort)
    assert calls.called.tolist() == [1, 0, 1, 0]
    assert calls.right is not None
    assert calls.right.tolist() == [True, True, False, False]
    assert calls.shown[0] == ("log odds +2.0" if hidden else "P(bad) 0.88")
    first = choose_cases(calls, np.ones(4, dtype=bool))
    assert [(c.index, c.called, c.kind) for c in first] == [
        (1, "good", "right"), (3, "good", "wrong"), (0, "bad", "right"), (2, "bad", "wrong"),
    ]  # fmt: skip


def test_of_times_the_surest_of_each_half_are_shown() -> None:
    time, event = np.array([5.0, 20.0, 9.0, 30.0]), np.array([True, False, True, False])
    cohort = replace(made_cohort(4), outcome=SurvivalOutcome(time, event, "month", (12.0,)))
    calls = calls_of(binary_rows([2.0, -1.0, 0.5, -3.0]), cohort)
    chosen = choose_cases(calls, np.ones(4, dtype=bool), most=1)
    assert [(c.index, c.called, c.kind) for c in chosen] == [
        (3, "lower hazard", "surest"), (0, "higher hazard", "surest"),
    ]  # fmt: skip
    assert calls.truth[:2] == ("event at 5 month", "no event by 20 month")


def test_entropy_is_a_share_of_the_largest() -> None:
    assert entropy(np.array([[1 / 3] * 3, [0.5, 0.5, 0.0]])) == pytest.approx([1.0, np.log(2) / np.log(3)])


def test_aliases_hide_ids_and_their_order() -> None:
    ids = [f"{k:04d}" for k in range(60)]
    names = aliases(ids, 5)
    assert len(set(names.values())) == 60
    assert not any(one in alias for one in ids for alias in names.values())
    assert [names[one] for one in ids] != sorted(names.values(), key=lambda a: (len(a), a))
    assert names == aliases(ids[::-1], 5)
    assert sorted(names.values(), key=lambda a: (len(a), a))[25:28] == ["patient Z", "patient AA", "patient AB"]
