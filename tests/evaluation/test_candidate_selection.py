"""The choice of one candidate and its correction: by hand, against a plain loop, and by what may not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.selection import (
    Choice,
    PatientLosses,
    choose,
    choose_anew,
    corrected,
    judge_drawn,
    judge_left_out,
    mean_losses,
    patient_losses,
)

Float = NDArray[np.float64]


def simple(losses: Any) -> PatientLosses:
    """One row per patient, one repeat."""
    x = np.asarray(losses, dtype=float)
    return patient_losses(x, np.arange(x.shape[-1]))


def test_by_hand() -> None:
    # d = (-.1, .1, .2, 0): mean .05, sum of squared deviations .0225 + .0025 + .0225 + .0025 = .05, SE = √(.05 / 12).
    best = np.array([0.4, 0.3, 0.5, 0.7])
    found = choose(simple([best, best + np.array([-0.1, 0.1, 0.2, 0.0])]), ranks=[1, 0])
    np.testing.assert_allclose(found.loss, [0.475, 0.525], rtol=1e-12)
    np.testing.assert_allclose(found.difference, [0, 0.05], atol=1e-15)
    np.testing.assert_allclose(found.se, [0, np.sqrt(0.05 / 12)], rtol=1e-12)
    assert (found.best, found.chosen, found.within.tolist()) == (0, 1, [True, True])
    # Half the spread about the same mean: SE .032 < .05, so the simpler one is worse.
    found = choose(simple([best, best + np.array([-0.025, 0.075, 0.125, 0.025])]), ranks=[1, 0])
    np.testing.assert_allclose(found.se[1], np.sqrt(0.0125 / 12), rtol=1e-12)
    assert (found.chosen, found.within.tolist()) == (0, [True, False])


def test_a_difference_of_exactly_one_standard_error_is_within() -> None:
    # d = (0, 2): mean 1, SE = √(2 / (2 · 1)) = 1.
    assert choose(simple([[1.0, 1.0], [1.0, 3.0]]), ranks=[1, 0]).chosen == 1


def test_by_hand_with_several_rows_of_a_patient() -> None:
    # Patient a has three rows and b one: d = (.3 in all, .1), N = (3, 1), D = .4 / 4 = .1. Influences (.3 - .3) / 4 and
    # (.1 - .1) / 4 are 0: both patients lose .1 a row.
    losses = [[0.5, 0.5, 0.5, 0.5], [0.7, 0.6, 0.5, 0.6]]
    found = choose(patient_losses(losses, ["a", "a", "a", "b"]), ranks=[1, 0])
    np.testing.assert_allclose([found.difference[1], found.se[1]], [0.1, 0.0], atol=1e-12)
    assert found.chosen == 0
    # b loses .3: D = .15, influences (.3 - .45) / 4 and (.3 - .15) / 4, SE² = 2 · 2 · .15² / 16.
    losses[1][3] = 0.8
    found = choose(patient_losses(losses, ["a", "a", "a", "b"]), ranks=[1, 0])
    np.testing.assert_allclose([found.difference[1], found.se[1]], [0.15, 0.075], rtol=1e-12)


def test_among_equally_simple_candidates_the_lower_loss_decides() -> None:
    best = np.array([0.4, 0.3, 0.5, 0.7])
    near, nearer = best + np.array([-0.1, 0.1, 0.2, 0.0]), best + np.array([-0.1, 0.1, 0.1, 0.0])
    assert choose(simple([best, near, nearer]), ranks=[3, 1, 1]).chosen == 2
    assert choose(simple([best, nearer, near]), ranks=[3, 1, 1]).chosen == 1


def plain(losses: Float, patients: list[int], ranks: list[int]) -> tuple[int, Float, Float]:
    """The rule in loops: losses (K, R, n), one entry in `patients` per row."""
    names = sorted(set(patients))
    count = {p: np.isfinite(losses[0][:, [i for i, q in enumerate(patients) if q == p]]).sum() for p in names}
    rows = sum(count.values())
    mean = [np.nansum(x) / rows for x in losses]
    best = int(np.argmin(mean))
    gaps, ses = [], []
    for x in losses:
        gap = np.nansum(x - losses[best]) / rows
        influence = []
        for p in names:
            mine = [i for i, q in enumerate(patients) if q == p]
            influence.append((np.nansum((x - losses[best])[:, mine]) - gap * count[p]) / rows)
        gaps.append(gap)
        ses.append(np.sqrt(sum(v**2 for v in influence) * len(names) / (len(names) - 1)))
    near = [k for k in range(len(losses)) if gaps[k] <= ses[k] + 1e-12]
    return min(near, key=lambda k: (ranks[k], gaps[k], k)), np.array(gaps), np.array(ses)


def case(seed: int) -> tuple[Float, list[int], list[int]]:
    """Losses with repeats, absent rows and clustered patients; every patient has a loss."""
    rng = np.random.default_rng(seed)
    k, r, n = int(rng.integers(2, 6)), int(rng.integers(1, 4)), int(rng.integers(4, 25))
    losses = rng.gamma(2, 0.3, (1, r, n)) + 0.3 * rng.normal(size=(k, r, n))
    if r > 1:
        losses[:, 0, rng.random(n) < 0.3] = np.nan
    patients = (np.arange(n) // int(rng.integers(1, 4))).tolist()
    return losses, patients, rng.integers(0, 3, k).tolist()


def check(found: Choice, expected: tuple[int, Float, Float]) -> None:
    np.testing.assert_allclose(found.difference, expected[1], atol=1e-12)
    np.testing.assert_allclose(found.se, expected[2], atol=1e-9)
    assert found.chosen == expected[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_the_plain_loop(seed: int) -> None:
    losses, patients, ranks = case(seed)
    check(choose(patient_losses(losses, patients), ranks), plain(losses, patients, ranks))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_weights_equal_repeating_patients(seed: int) -> None:
    losses, patients, ranks = case(seed)
    rng = np.random.default_rng([seed, 1])
    groups = sorted(set(patients))
    weights = rng.integers(0, 4, len(groups))
    weights[:2] = 1  # at least two patients
    rows, copies = [], []
    for p, w in zip(groups, weights.tolist(), strict=True):
        for copy in range(w):
            mine = [i for i, q in enumerate(patients) if q == p]
            rows += mine
            copies += [1000 * copy + p] * len(mine)
    found = choose(patient_losses(losses, patients), ranks, weights)
    check(found, plain(losses[:, :, rows], copies, ranks))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_patients_and_candidates_does_not_matter(seed: int) -> None:
    losses, patients, ranks = case(seed)
    rng = np.random.default_rng([seed, 2])
    found = choose(patient_losses(losses, patients), ranks)
    rows, order = rng.permutation(losses.shape[2]), rng.permutation(len(losses))
    moved = choose(
        patient_losses(losses[order][:, :, rows], np.array(patients)[rows]), [ranks[k] for k in order.tolist()]
    )
    assert order[moved.chosen] == found.chosen
    np.testing.assert_allclose(moved.se, found.se[order], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_more_rows_that_say_the_same_change_nothing(seed: int) -> None:
    losses, patients, ranks = case(seed)
    once = patient_losses(losses, patients)
    twice = patient_losses(np.concatenate([losses, losses], axis=2), patients + patients)
    again = patient_losses(np.concatenate([losses, losses], axis=1), patients)
    for more in (twice, again):
        a, b = choose(once, ranks), choose(more, ranks)
        np.testing.assert_allclose(np.stack([b.loss, b.se]), np.stack([a.loss, a.se]), atol=1e-9)
        assert (a.best, a.chosen) == (b.best, b.chosen)
        np.testing.assert_array_equal(
            choose_anew(more, ranks, 40, seed).chosen, choose_anew(once, ranks, 40, seed).chosen
        )


def test_each_sample_is_chosen_as_if_its_patients_were_repeated() -> None:
    losses, patients, ranks = case(11)
    found = choose_anew(patient_losses(losses, patients), ranks, 60, seed=3)
    assert len(np.unique(found.chosen)) > 1
    for drawn, chosen in zip(found.drawn, found.chosen, strict=True):
        rows = [i for i, p in enumerate(patients) for _ in range(drawn[p])]
        copies = [1000 * c + p for p in patients for c in range(drawn[p])]
        assert plain(losses[:, :, rows], copies, ranks)[0] == chosen
    np.testing.assert_allclose(found.share, [np.mean(found.chosen == k) for k in range(len(losses))])


def test_the_winner_is_judged_on_patients_that_were_not_drawn() -> None:
    losses, patients, ranks = case(11)
    added = patient_losses(losses, patients)
    found = choose_anew(added, ranks, 60, seed=3)
    values = judge_left_out(found, lambda k, weights: mean_losses(added, weights)[:, k])
    own = judge_drawn(found, lambda k, weights: mean_losses(added, weights)[:, k])
    for value, at_home, drawn, chosen in zip(values, own, found.drawn, found.chosen, strict=True):
        away = [i for i, p in enumerate(patients) if drawn[p] == 0]
        np.testing.assert_allclose(value, np.nanmean(losses[chosen][:, away]), rtol=1e-12)
        copies = [i for i, p in enumerate(patients) for _ in range(drawn[p])]
        np.testing.assert_allclose(at_home, np.nanmean(losses[chosen][:, copies]), rtol=1e-12)


def test_strata_keep_their_size() -> None:
    strata = np.array([0] * 5 + [1] * 15)
    found = choose_anew(simple(np.random.default_rng(0).random((2, 20))), [0, 1], 100, 1, strata=strata)
    np.testing.assert_array_equal(found.drawn[:, :5].sum(axis=1), 5)


def test_equal_candidates_give_the_simplest_in_every_sample() -> None:
    row = np.random.default_rng(5).random(40)
    found = choose_anew(simple([row, row, row]), ranks=[2, 0, 1], B=200, seed=1)
    np.testing.assert_array_equal(found.share, [0, 1, 0])


def test_the_correction_takes_back_what_choosing_among_noise_gained() -> None:
    # Thirty candidates whose losses have mean 0.7 in truth: the lowest of them lies below it, by design of the minimum.
    rng = np.random.default_rng(7)
    apparent, honest = [], []
    for _ in range(40):
        added = simple(0.7 + 0.2 * rng.normal(size=(30, 80)))
        found = choose_anew(added, np.zeros(30), 100, rng)
        apparent.append(mean_losses(added)[0].min())
        values = judge_left_out(found, lambda k, weights, added=added: mean_losses(added, weights)[:, k])  # type: ignore[misc]
        honest.append(corrected(values).value)
    spread = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(apparent) < 0.67
    assert abs(np.mean(honest) - 0.7) < 3 * spread
    assert spread < 0.004


def bilinear(rng: np.random.Generator, candidates: int, folds: int, size: int, inputs: int) -> tuple[Float, Float]:
    """Gains of models that learn the mean outcome-times-input vector of the other folds, on pure noise: what training
    patients share at its largest. Gains are linear in each test patient; (candidates, patients) and folds (patients,).
    """
    fold = np.repeat(np.arange(folds), size)
    z = rng.normal(size=(candidates, folds * size, inputs))
    others = np.stack([z[:, fold != f].sum(axis=1) for f in range(folds)], axis=1)
    return -(z * others[:, fold]).sum(axis=2) / np.sqrt(inputs * folds * size), fold


def test_luck_that_folds_share_through_training_is_taken_off_in_part() -> None:
    # The slope of the derivation is 1/3: (left out) / (drawn) of a winner with nothing but noise, whose truth is 0.
    rng = np.random.default_rng(8)
    ratio, values = [], []
    for _ in range(60):
        added = simple(bilinear(rng, 30, 5, 20, 100)[0])
        found = choose_anew(added, np.zeros(30), 60, rng)

        def measure(k: int, weights: Float, added: PatientLosses = added) -> Float:
            return mean_losses(added, weights)[:, k]

        away, own = judge_left_out(found, measure), judge_drawn(found, measure)
        ratio.append((away.mean(), own.mean()))
        values.append((corrected(away).value, corrected(away, own).value))
    left_out, drawn = np.mean(ratio, axis=0)
    assert left_out / drawn == pytest.approx(1 / 3, abs=0.08)
    plain_mean, value = np.mean(values, axis=0)
    assert plain_mean < value < 0  # losses: both still too good, the second less so
    assert value == pytest.approx((left_out - drawn / 6) / (5 / 6), rel=1e-9)


def test_infinite_losses() -> None:
    losses = np.array([[0.2, np.inf, 0.2, 0.2], [0.5, 0.4, 0.6, 0.5]])
    added = simple(losses)
    found = choose(added, ranks=[0, 1])
    assert (found.best, found.chosen, found.loss[0], found.within.tolist()) == (1, 1, np.inf, [False, True])
    # Without the patient whose outcome was called impossible the first is better.
    assert choose(added, [0, 1], weights=[1, 0, 1, 1]).chosen == 0
    values = judge_left_out(choose_anew(added, [0, 1], 50, 1), lambda k, w: mean_losses(added, w)[:, k])
    assert corrected(values).infinite
    with pytest.raises(NotEstimableError, match="no loss is finite"):
        choose(simple([[np.inf, 0.1], [0.1, np.inf]]), [0, 1])


def test_a_measure_that_often_does_not_exist_has_no_limits_and_then_no_value() -> None:
    x = np.linspace(0.5, 0.7, 100)
    full = corrected(x)
    assert full.value == pytest.approx(0.6)
    assert (full.low, full.high) == pytest.approx((0.505, 0.695))
    x[:11] = np.nan
    some = corrected(x)
    assert some.value == pytest.approx(np.nanmean(x))
    assert (some.low, some.high, some.used, some.failed) == (None, None, 89, 11)
    x[:51] = np.nan
    assert corrected(x).value is None


@pytest.mark.parametrize(
    "losses, patients, message",
    [
        ([[0.1, np.nan], [0.1, 0.2]], ["a", "b"], "candidates 0 and 1 were judged on different rows"),
        ([[0.1, np.nan]], ["a", "b"], "1 patients have no loss at all"),
        ([[0.1, -np.inf]], ["a", "b"], "a loss is -inf"),
        ([0.1, 0.2], ["a", "b"], "losses have shape"),
        ([[0.1, 0.2]], ["a"], "groups have shape"),
    ],
)
def test_refused_losses(losses: Any, patients: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        patient_losses(losses, patients)


def test_refused_ranks_weights_and_single_patients() -> None:
    added = simple([[0.1, 0.2], [0.2, 0.1]])
    with pytest.raises(InvalidInputError, match="ranks have shape"):
        choose(added, [0])
    with pytest.raises(InvalidInputError, match="weights have shape"):
        choose(added, [0, 1], [1, -1])
    with pytest.raises(NotEstimableError, match="at least two"):
        choose(added, [0, 1], [1, 0])
