"""Huvos grades: probabilities from held-out differences, grade IV never asserted, foci for review."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.evaluation.huvos import (
    GRADES,
    Focus,
    References,
    detection_limit,
    foci,
    foci_for_review,
    found_foci,
    grade_probabilities,
    huvos_grade,
)


def references(differences: list[float]) -> References:
    d = np.asarray(differences)
    return References(tuple(f"R{i}" for i in range(len(d))), 0.5 + d / 2, 0.5 - d / 2)


def test_grades_of_a_reference() -> None:
    rates = (0.0, 0.4999, 0.5, 0.8999, 0.9, 0.9999, 1.0)
    assert [huvos_grade(r) for r in rates] == ["I", "I", "II", "II", "III", "III", "III"]
    assert huvos_grade(1.0, viable_seen=False) == "IV"
    assert huvos_grade(0.99, viable_seen=False) == "III"
    with pytest.raises(InvalidInputError, match="share"):
        huvos_grade(95)


def test_probabilities_are_shares_of_differences_by_hand() -> None:
    """Predicted 0.85; of 20 differences 5 bring it to 0.9 or more, 3 below 0.5."""
    found = grade_probabilities(0.85, references([0.05] * 5 + [0.0] * 12 + [-0.4] * 3), patient="X")
    assert_allclose([found.grade[g] for g in GRADES], [3 / 20, 12 / 20, 5 / 20])
    assert found.good_response == pytest.approx(0.25)
    assert found.references == 20
    assert not found.with_sampling


def test_sampling_error_is_added_to_every_difference() -> None:
    differences, drawn = [0.02] * 10 + [-0.02] * 10, np.array([0.80, 0.86, 0.90, 0.88])
    found = grade_probabilities(0.88, references(differences), patient="X", replicates=drawn)
    rates = [0.88 + d + s for d, s in product(differences, drawn - drawn.mean())]
    assert found.good_response == pytest.approx(np.mean([r >= 0.9 - 1e-12 for r in rates]))
    assert found.with_sampling


def test_a_bias_of_the_model_moves_the_grade() -> None:
    """Predictions lie ten points low throughout, so 85 % means 95 %."""
    found = grade_probabilities(0.85, references([0.1] * 25), patient="X")
    assert found.good_response == 1.0
    assert found.low is not None
    # Wilson: 25 of 25 patients are compatible with 1 / (1 + z² / n).
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 25), rel=1e-6)
    assert found.high == pytest.approx(1.0)


def test_grade_iv_is_never_asserted() -> None:
    found = grade_probabilities(1.0, references([0.0] * 40), patient="X", replicates=np.ones(50))
    assert "IV" not in found.grade
    assert set(found.grade) == {"I", "II", "III or IV"}
    assert found.note.startswith("grade IV is not asserted")


def test_fewer_than_twenty_references_give_none_and_the_reason() -> None:
    found = grade_probabilities(0.95, references([0.0] * 19), patient="X")
    assert (found.grade, found.good_response, found.low, found.high) == ({}, None, None, None)
    assert found.reason == "19 held-out patients with a reference rate; 20 are needed"


def test_a_patient_may_not_judge_itself() -> None:
    with pytest.raises(InvalidInputError, match="'R3' is among"):
        grade_probabilities(0.9, references([0.0] * 20), patient="R3")


def test_wrong_rates_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="shares"):
        References(("a",), np.array([95.0]), np.array([0.9]))
    with pytest.raises(InvalidInputError, match="repeated"):
        References(("a", "a"), np.array([0.9, 0.9]), np.array([0.9, 0.9]))
    with pytest.raises(InvalidInputError, match="share"):
        grade_probabilities(float("nan"), references([0.0] * 20), patient="X")
    with pytest.raises(InvalidInputError, match="replicates"):
        grade_probabilities(0.9, references([0.0] * 20), patient="X", replicates=[1.2])


def test_foci_are_connected_at_sides_and_corners() -> None:
    labels = np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    found = foci(labels, [1], cell_mm2=0.01, slide="s1")
    assert found == (
        Focus("s1", 0.5, 0.5, 0, 0, 2, 2, 0.02),
        Focus("s1", 2.5, 3.0, 2, 3, 4, 4, 0.02),
    )
    assert len(foci(labels, [1, 5], cell_mm2=0.01, slide="s1")) == 3
    assert foci(np.zeros((3, 3), dtype=int), [1], cell_mm2=1.0, slide="s1") == ()


def test_a_focus_is_found_by_any_cell_of_it() -> None:
    true = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1]])
    predicted = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    areas, found = found_foci(true, predicted, [1], cell_mm2=2.0)
    assert_array_equal(areas, [4, 2, 2, 4])
    assert_array_equal(found, [True, False, False, True])


def test_the_limit_is_where_the_rising_share_reaches_the_sensitivity() -> None:
    """Of each size ten foci; found 2, 5, 9, 10 of them: 0.9 is reached at the third size."""
    areas = np.repeat([0.1, 0.2, 0.4, 0.8], 10)
    found = np.concatenate([np.arange(10) < k for k in (2, 5, 9, 10)])
    limit = detection_limit(areas, found)
    assert (limit.limit_mm2, limit.foci, limit.found, limit.reason) == (0.4, 40, 26, "")
    assert detection_limit(areas, found, sensitivity=0.95).limit_mm2 == 0.8


def test_a_share_that_falls_is_pooled() -> None:
    """10 of 10 small ones and 6 of 10 larger ones: the rising share is 0.8 for both, so 0.9 begins at the largest."""
    areas = np.repeat([0.1, 0.2, 0.4], 10)
    found = np.concatenate([np.arange(10) < k for k in (10, 6, 10)])
    assert detection_limit(areas, found).limit_mm2 == 0.4
    assert detection_limit(areas, found, sensitivity=0.8).limit_mm2 == 0.1


def test_no_limit_says_why() -> None:
    assert detection_limit(np.ones(19), np.ones(19, dtype=bool)).reason.startswith("19 foci")
    missed = detection_limit(np.arange(1.0, 31), np.arange(30) % 2 == 0)
    assert missed.limit_mm2 is None
    assert missed.reason.startswith("even of the largest")
    lone = detection_limit(np.arange(1.0, 31), np.arange(30) >= 27)
    assert lone.reason == "only 3 foci reach 28 mm²; 10 are needed"


def test_small_viable_foci_are_listed_and_all_of_them_without_a_limit() -> None:
    viable = foci(np.array([[1, 0, 1, 1], [0, 0, 1, 1]]), [1], cell_mm2=0.5, slide="s")
    known = detection_limit(np.repeat([0.5, 1.5], 10), np.repeat([False, True], 10))
    assert known.limit_mm2 == 1.5
    assert [f.area_mm2 for f in foci_for_review(viable, known)] == [0.5]
    assert foci_for_review(viable, detection_limit([], np.empty(0, dtype=bool))) == viable
