"""Outcomes, follow-up and patients: what is refused, who is excluded, and which rows are one patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLINIC_HEADER, built, clinic_rows, clinic_with, refused, survival_target
from numpy.testing import assert_array_equal

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome

Change = Callable[[dict[str, Any]], None]


# Outcomes ----------------------------------------


def _outcomes(*texts: str) -> list[list[str]]:
    return [[*row[:3], texts[i % len(texts)]] for i, row in enumerate(clinic_rows())]


@pytest.mark.parametrize(
    "rows, said, advice",
    [
        (_outcomes("no"), "column 'outcome' never holds the positive value 'yes'; its values: ['no']", ""),
        (_outcomes("Yes", "No"), "never holds the positive value 'yes'; did you mean 'Yes'?", ""),
        (_outcomes("yes"), "only 0 of 12 patients have no event", "`target.positive` is 'yes'"),
        (_outcomes(""), "never holds the positive value 'yes'; its values: []", ""),
        (_outcomes("yes", "no", "maybe"), "outcome 'outcome' has 3 values besides missing: ['yes', 'no', 'maybe']",
         "Set `negative:` in the target, or write a column with two values"),
        (_outcomes("yes", *["no"] * 11), "only 1 of 12 patients have the event: nothing can be learnt", ""),
        (_outcomes("no", *["yes"] * 11), "only 1 of 12 patients have no event", ""),
    ],
)  # fmt: skip
def test_outcomes_that_cannot_be_used(tmp_path: Path, rows: list[list[str]], said: str, advice: str) -> None:
    message = refused(tmp_path, rows)
    assert said in message
    assert advice in message


def test_a_third_outcome_beside_a_stated_negative_is_refused_by_row(tmp_path: Path) -> None:
    rows = clinic_with(outcome="maybe")
    message = refused(tmp_path, rows, change=lambda d: d["target"].update(negative="no"))
    assert "outcome: 'maybe' is neither 'yes' nor 'no': line 4 (P02)" in message


def test_patients_without_outcome_are_excluded_and_named(tmp_path: Path) -> None:
    result = built(tmp_path, clinic_with(outcome=""))
    assert len(result.cohort) == 11
    assert [(e.patient, e.reason, e.where) for e in result.cohort.exclusions] == [("P02", "no outcome", "clinic.csv:4")]
    assert result.rows == 12
    outcome = result.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    assert (outcome.positive, outcome.negative, int(outcome.event.sum())) == ("yes", "no", 3)


def test_patients_without_an_input_are_excluded_or_kept_for_imputation(tmp_path: Path) -> None:
    rows = clinic_with(age="")
    excluded = built(tmp_path, rows).cohort
    assert [(e.patient, e.reason) for e in excluded.exclusions] == [("P02", "age missing (complete_case)")]
    kept = built(tmp_path, rows, change=lambda d: d.update(missing="impute")).cohort
    assert (len(kept), kept.exclusions) == (12, ())
    assert np.isnan(kept.values["age"][2])
    unused = built(tmp_path, rows, change=lambda d: d["predictors"]["clinical"].update(inputs=["sex"])).cohort
    assert len(unused) == 12


def test_an_input_that_is_missing_everywhere_leaves_nobody(tmp_path: Path) -> None:
    rows = [[row[0], "", *row[2:]] for row in clinic_rows()]
    message = refused(tmp_path, rows)
    assert "no patient of clinic.csv is left: all were excluded" in message
    assert "Reasons: age missing (complete_case)." in message


# Survival ----------------------------------------


SURVIVAL_HEADER = ("id", "age", "sex", "months", "died", "relapse")


def _survival_rows(**cells: str) -> list[list[str]]:
    rows = [
        [*row[:3], str(3 * i + 2), str(int(i % 3 == 0)), str(int(i % 3 == 1))] for i, row in enumerate(clinic_rows())
    ]
    for column, text in cells.items():
        rows[2][SURVIVAL_HEADER.index(column)] = text
    return rows


def _survival(**keys: Any) -> Change:
    return lambda data: data.update(target=survival_target(**keys))


def test_survival_outcome(tmp_path: Path) -> None:
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival()).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert_array_equal(outcome.time, 3.0 * np.arange(12) + 2)
    assert_array_equal(outcome.event, np.arange(12) % 3 == 0)
    assert (outcome.unit, outcome.horizons, outcome.competing) == ("month", (12.0,), None)


@pytest.mark.parametrize("text", ["0", "-3"])
def test_follow_up_must_be_above_zero(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, _survival_rows(months=text), SURVIVAL_HEADER, _survival())
    assert f"months: follow-up of {text} months: a patient at risk has a time above 0" in message
    assert "line 4 (P02)" in message


@pytest.mark.parametrize("cell", [{"months": ""}, {"died": ""}])
def test_patients_without_time_or_event_are_excluded(tmp_path: Path, cell: dict[str, str]) -> None:
    cohort = built(tmp_path, _survival_rows(**cell), SURVIVAL_HEADER, _survival()).cohort
    assert [(e.patient, e.reason) for e in cohort.exclusions] == [("P02", "no outcome")]


def test_horizons_beyond_follow_up(tmp_path: Path) -> None:
    message = refused(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(horizons=[12, 60]))
    assert "horizons 60 lie beyond the longest follow-up (35 months)" in message
    assert "Choose horizons that patients have been followed to." in message
    message = refused(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(horizons=[12, 30], censor_at=24))
    assert "horizons 30 lie beyond the longest follow-up (24 months)" in message


def test_administrative_censoring(tmp_path: Path) -> None:
    change = _survival(censor_at=20, competing=["relapse"])
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, change).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    time, number = 3.0 * np.arange(12) + 2, np.arange(12)
    assert_array_equal(outcome.time, np.minimum(time, 20))
    assert_array_equal(outcome.event, (number % 3 == 0) & (time <= 20))
    assert outcome.competing is not None
    assert_array_equal(outcome.competing, (number % 3 == 1) & (time <= 20))


def test_competing_events_are_marked(tmp_path: Path) -> None:
    outcome = built(tmp_path, _survival_rows(), SURVIVAL_HEADER, _survival(competing=["relapse"])).cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert outcome.competing is not None
    assert_array_equal(outcome.competing, np.arange(12) % 3 == 1)


def test_a_missing_competing_event_is_a_missing_outcome(tmp_path: Path) -> None:
    cohort = built(tmp_path, _survival_rows(relapse=""), SURVIVAL_HEADER, _survival(competing=["relapse"])).cohort
    assert [(e.patient, e.reason) for e in cohort.exclusions] == [("P02", "no outcome")]
    # A column that nobody asks for may have gaps.
    assert len(built(tmp_path, _survival_rows(relapse=""), SURVIVAL_HEADER, _survival()).cohort) == 12


@pytest.mark.parametrize("keys", [{}, {"censor_at": 13}])
def test_the_event_and_a_competing_event_exclude_each_other(tmp_path: Path, keys: dict[str, Any]) -> None:
    rows = _survival_rows(died="1", relapse="1")
    rows[6][5] = "1"  # P06, after 20 months
    message = refused(tmp_path, rows, SURVIVAL_HEADER, _survival(competing=["relapse"], **keys))
    said = "died: the event ('died') and the competing event 'relapse' both happened; one came first"
    assert f"{said}: line 4 (P02), line 8 (P06)" in message
    assert message.startswith("2 cells of clinic.csv cannot be used")


def test_a_third_event_code_needs_a_statement(tmp_path: Path) -> None:
    message = refused(tmp_path, _survival_rows(died="2"), SURVIVAL_HEADER, _survival())
    assert "outcome 'died' has 3 values besides missing" in message


def test_one_event_is_not_enough(tmp_path: Path) -> None:
    rows = [[*row[:4], str(int(i == 4)), row[5]] for i, row in enumerate(_survival_rows())]
    message = refused(tmp_path, rows, SURVIVAL_HEADER, _survival())
    assert "only 1 of 12 patients have the event: nothing can be learnt" in message


# Rows and patients ----------------------------------------


def test_ids_keep_their_zeros(tmp_path: Path) -> None:
    rows = clinic_rows()
    rows[2][0], rows[3][0] = "007", "7"
    assert built(tmp_path, rows).cohort.patient_ids[2:4] == ("007", "7")


@pytest.mark.parametrize(
    "text, said", [("", "the patient id is empty"), ("  ", "the patient id is empty"),
                   ("P02 ", "the patient id 'P02 ' has blanks around it: one patient could count as two")]
)  # fmt: skip
def test_ids_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    message = refused(tmp_path, clinic_with(id=text))
    assert f"id: {said}: line 4" in message


def test_duplicate_and_contradictory_rows(tmp_path: Path) -> None:
    rows = clinic_rows()
    rows.append(list(rows[2]))
    rows.append([rows[3][0], "77", rows[3][2], "yes"])
    message = refused(tmp_path, rows)
    assert "row: this row repeats line 4; keep one: line 14 (P02)" in message
    assert "row: differs from line 5 of the same patient in age, the outcome: line 15 (P03)" in message


def test_rows_of_a_patient_that_agree_where_it_matters_are_one_patient(tmp_path: Path) -> None:
    rows = [[*row, "a"] for row in clinic_rows()]
    rows.append([*rows[2][:4], "b"])
    result = built(tmp_path, rows, (*CLINIC_HEADER, "note"))
    assert (len(result.cohort), result.rows) == (12, 13)


def test_prediction_per_row(tmp_path: Path) -> None:
    rows = [[*row, f"v{i}"] for i, row in enumerate(clinic_rows())]
    rows.append([*rows[2][:1], "50", "male", "yes", "v12"])

    def change(data: dict[str, Any]) -> None:
        data["cohort"]["row"] = "visit"

    header = (*CLINIC_HEADER, "visit")
    cohort = built(tmp_path, rows, header, change).cohort
    assert (len(cohort), len(cohort.patient_ids), cohort.per_row) == (13, 12, True)
    assert cohort.units[-1] == "v12"
    assert cohort.patients[-1] == "P02"
    rows[5][4] = "v3"
    message = refused(tmp_path, rows, header, change)
    assert "visit: row id 'v3' stands on line 5 too: line 7 (P05)" in message
    for text in ("", " "):
        rows[5][4] = text
        assert "visit: the row id is empty: line 7 (P05)" in refused(tmp_path, rows, header, change)
