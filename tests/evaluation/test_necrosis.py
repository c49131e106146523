"""Necrosis rates: by hand, per patient from blocks, errors of held-out patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.evaluation.necrosis import (
    MIN_BLOCKS,
    TumourBed,
    block_areas,
    block_replicates,
    necrosis_errors,
    necrosis_gain,
    necrosis_rates,
    patient_rate,
)

BED = TumourBed(viable=(1,), necrotic=(2, 3))


def blocks(count: int, seed: int = 0) -> np.ndarray:
    """Areas (count, 5) of BG, VT, two kinds of necrosis, NT; mean rate 2/3."""
    return np.random.default_rng(seed).gamma(2.0, size=(count, 5))


def test_the_rate_of_the_paper_by_hand() -> None:
    """VT 20, NC 30, FH 25, HC 15, IF 10; background and non-tumour tissue do not count."""
    paper = TumourBed(viable=(1,), necrotic=(2, 3, 4, 5))
    assert necrosis_rates([500, 20, 30, 25, 15, 10, 900], paper) == pytest.approx(0.8)
    assert necrosis_rates([0, 0, 3, 0, 0, 0, 0], paper) == 1.0
    assert np.isnan(necrosis_rates([500, 0, 0, 0, 0, 0, 900], paper))


def test_the_caller_names_what_counts() -> None:
    areas = [0, 20, 30, 50]
    assert necrosis_rates(areas, TumourBed((1,), (2,))) == pytest.approx(0.6)
    assert necrosis_rates(areas, TumourBed((1, 3), (2,))) == pytest.approx(0.3)


@given(st.integers(1, 9), st.integers(0, 1000))
def test_areas_of_blocks_add_up_to_the_map(side: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 5, (11, 7))
    found = block_areas(labels, 5, side=side, cell_mm2=0.25)
    assert found.shape == (-(-11 // side) * -(-7 // side), 5)
    assert_allclose(found.sum(axis=0), [0.25 * (labels == k).sum() for k in range(5)])


def test_blocks_are_squares_in_reading_order() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]])
    assert_array_equal(block_areas(labels, 3, side=2, cell_mm2=1.0), [[4, 0, 0], [0, 2, 0], [0, 0, 2], [0, 1, 0]])


def test_a_patient_is_pooled_over_areas_not_over_slides() -> None:
    areas = np.array([[0, 1, 1, 0, 0], [0, 1, 97, 0, 0.0]])
    found = patient_rate(areas, ["a", "b"], BED)
    assert found.rate == pytest.approx(98 / 100)
    assert found.interval is None
    assert found.reason.startswith("2 blocks")
    assert (found.blocks, found.slides, found.tumour_bed) == (2, 2, 100.0)
    assert "error of the segmentation" in found.leaves_out


def test_blocks_without_tumour_bed_change_nothing() -> None:
    areas, slides = blocks(30), ["a"] * 30
    glass = np.zeros((50, 5))
    glass[:, 0] = 4.0
    found = patient_rate(areas, slides, BED, seed=2)
    more = patient_rate(np.concatenate([areas, glass]), slides + ["b"] * 50, BED, seed=2)
    assert (more.rate, more.interval, more.blocks, more.slides) == (found.rate, found.interval, 30, 1)


def test_no_tumour_bed_is_no_rate() -> None:
    found = patient_rate(np.array([[3.0, 0, 0, 0, 2.0]] * 20), ["a"] * 20, BED)
    assert np.isnan(found.rate)
    assert found.interval is None
    assert found.reason == "0 blocks with tumour bed: an interval needs 10 or more"


def test_slides_are_taken_as_given() -> None:
    """One slide is viable throughout and one necrotic: drawing within slides leaves their shares as they are."""
    areas = np.zeros((40, 5))
    areas[:20, 1] = areas[20:, 2] = 1.0
    found = patient_rate(areas, ["a"] * 20 + ["b"] * 20, BED)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.5, 0.5)
    mixed = patient_rate(areas, ["a"] * 40, BED)
    assert mixed.interval is not None
    assert mixed.interval.high - mixed.interval.low > 0.2


@pytest.mark.full
def test_the_interval_of_blocks_covers() -> None:
    """Independent blocks of a known mean: 95 % intervals hold it in 91 to 97 % of 400 patients, 40 blocks each."""
    held = 0
    for seed in range(400):
        interval = patient_rate(blocks(40, seed), ["a"] * 40, BED, B=400, seed=seed).interval
        assert interval is not None
        held += interval.low <= 2 / 3 <= interval.high
    assert 0.91 <= held / 400 <= 0.97


def test_replicates_are_those_of_the_interval() -> None:
    areas, slides = blocks(25), ["a"] * 12 + ["b"] * 13
    found = patient_rate(areas, slides, BED, B=500, seed=4)
    drawn = block_replicates(areas, slides, BED, B=500, seed=4)
    assert found.interval is not None
    assert_allclose([found.interval.low, found.interval.high], np.quantile(drawn, [0.025, 0.975]))
    with pytest.raises(InvalidInputError, match=f"expected {MIN_BLOCKS}"):
        block_replicates(areas[:5], slides[:5], BED)


def test_errors_in_points_by_hand() -> None:
    found = necrosis_errors(["a", "b", "c"], [0.9, 0.5, 0.2], [0.8, 0.7, 0.2])
    assert_allclose(found.difference, [10, -20, 0])
    assert found.mean_absolute == pytest.approx(10)
    assert found.bias == pytest.approx(-10 / 3)
    assert found.mean_absolute_interval is None


def test_patients_without_a_rate_are_named_not_dropped_in_silence() -> None:
    found = necrosis_errors(["a", "b", "c", "d"], [0.9, np.nan, 0.4, np.nan], [0.9, 0.3, np.nan, np.nan])
    assert found.patients == ("a",)
    assert found.without_reference == ("b", "d")
    assert found.without_prediction == ("c",)


def test_intervals_and_gain_of_errors() -> None:
    rng = np.random.default_rng(0)
    names, reference = [f"P{i}" for i in range(30)], rng.uniform(0.3, 0.7, 30)
    worse = necrosis_errors(names, reference, reference + rng.normal(0, 0.1, 30), seed=1)
    better = necrosis_errors(names, reference, reference + rng.normal(0, 0.02, 30), seed=1)
    for found in (worse, better):
        assert found.mean_absolute_interval is not None
        assert found.mean_absolute_interval.low < found.mean_absolute < found.mean_absolute_interval.high
    gain = necrosis_gain(worse, better)
    assert gain.value == pytest.approx(worse.mean_absolute - better.mean_absolute)
    assert gain.low > 0
    with pytest.raises(InvalidInputError, match="same patients"):
        necrosis_gain(worse, necrosis_errors(names[:20], reference[:20], reference[:20]))


@pytest.mark.parametrize("viable, necrotic", [((), (1,)), ((1,), ()), ((1,), (1, 2)), ((1, 1), (2,)), ((-1,), (2,))])
def test_a_bed_that_counts_nothing_or_twice_is_refused(viable: tuple[int, ...], necrotic: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError):
        TumourBed(viable, necrotic)


def test_wrong_areas_and_rates_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"classes 0\.\.3"):
        necrosis_rates([1, 2, 3], BED)
    with pytest.raises(InvalidInputError, match="not negative"):
        necrosis_rates([1, -2, 3, 4], BED)
    with pytest.raises(InvalidInputError, match="rates are shares"):
        necrosis_errors(["a"], [95], [0.9])
    with pytest.raises(InvalidInputError, match="repeated"):
        necrosis_errors(["a", "a"], [0.9, 0.9], [0.9, 0.9])
    with pytest.raises(InvalidInputError, match="slide names"):
        patient_rate(blocks(3), ["a"], BED)
    with pytest.raises(InvalidInputError, match="integer map"):
        block_areas(np.zeros((3, 3)), 2, side=1, cell_mm2=1.0)
    with pytest.raises(InvalidInputError, match="expected below 2"):
        block_areas(np.full((3, 3), 2), 2, side=1, cell_mm2=1.0)
