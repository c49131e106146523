"""First order from 256 counts, beside NumPy on the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from osml.errors import InvalidInputError
from osml.radiomics.discretise import bin_edges, discretise
from osml.radiomics.firstorder import first_order, percentile
from osml.radiomics.histogram import first_order_8bit, grey_counts

bytes_of = arrays(np.uint8, st.integers(1, 90), elements=st.integers(0, 255))


def expected(x: np.ndarray, level: np.ndarray, area: float) -> dict[str, float]:
    """The definitions, word by word."""
    p10, p25, p50, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    m2, m3, m4 = (((x - x.mean()) ** k).mean() for k in (2, 3, 4))
    middle = x[(x >= p10) & (x <= p90)]
    robust = np.abs(middle - middle.mean()).mean() if middle.size else np.nan
    p = np.unique(level, return_counts=True)[1] / x.size
    return {
        "10Percentile": p10, "90Percentile": p90, "Energy": (x**2).sum(), "Entropy": -(p * np.log2(p)).sum(),
        "InterquartileRange": p75 - p25, "Kurtosis": m4 / m2**2 if m2 else 0.0, "Maximum": x.max(),
        "MeanAbsoluteDeviation": np.abs(x - x.mean()).mean(), "Mean": x.mean(), "Median": p50, "Minimum": x.min(),
        "Range": np.ptp(x), "RobustMeanAbsoluteDeviation": robust,
        "RootMeanSquared": np.sqrt((x**2).mean()), "Skewness": m3 / m2**1.5 if m2 else 0.0,
        "StandardDeviation": x.std(), "TotalEnergy": area * (x**2).sum(), "Uniformity": (p**2).sum(),
        "Variance": x.var(),
    }  # fmt: skip


@given(bytes_of, st.sampled_from([(25.0, None), (1.0, None), (None, 8), (7.5, None)]))
def test_all_features_are_those_of_the_pixels(x: np.ndarray, bins: tuple[float | None, int | None]) -> None:
    pixels = x.astype(float)
    level = discretise(pixels, width=bins[0], count=bins[1])
    want = {
        name: pytest.approx(v, rel=1e-9, abs=1e-12, nan_ok=True) for name, v in expected(pixels, level, 0.25).items()
    }
    count = np.bincount(x, minlength=256)
    assert first_order_8bit(count, 0.25, bin_width=bins[0], bin_count=bins[1]) == want
    assert first_order(pixels, level, 0.25) == want


@given(bytes_of, st.integers(0, 100))
def test_percentiles_are_numpys_to_the_last_digit(x: np.ndarray, q: int) -> None:
    ranked = np.sort(x.astype(float))
    assert percentile(lambda k: ranked[k], x.size, q) == np.percentile(x.astype(float), q)


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([(25.0, None), (0.3, None), (None, 2), (None, 32)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_levels_are_those_of_digitize(x: np.ndarray, bins: tuple[float | None, int | None], kind: type) -> None:
    values = x.astype(kind)
    edges = bin_edges(values, width=bins[0], count=bins[1])
    assert np.array_equal(discretise(values, width=bins[0], count=bins[1]), np.digitize(values, edges))


def test_values_on_an_edge_and_far_from_even_bins() -> None:
    x = np.concatenate([np.arange(0, 1, 0.1), [1e-9, 0.3, 1 - 1e-12, 1.0]])
    for count in (3, 10, 200):
        assert np.array_equal(discretise(x, count=count), np.digitize(x, bin_edges(x, count=count)))


def test_two_pixels_have_nothing_between_the_deciles() -> None:
    found = first_order_8bit(np.bincount([3, 9], minlength=256))
    assert np.isnan(found.pop("RobustMeanAbsoluteDeviation"))
    assert all(np.isfinite(value) for value in found.values())


def test_counts_within_a_mask() -> None:
    rng = np.random.default_rng(4)
    for shape in ((1, 1), (3, 7), (64, 65), (2, 5, 9)):
        image, inside = rng.integers(0, 256, shape).astype(np.uint8), rng.random(shape) < 0.4
        assert np.array_equal(grey_counts(image, inside), np.bincount(image[inside], minlength=256))
        turned = grey_counts(image.T, inside.T)
        assert np.array_equal(turned, grey_counts(image, inside))


def test_ibsi_kurtosis_is_the_excess() -> None:
    count = np.bincount([1, 2, 2, 9], minlength=256)
    a, b = first_order_8bit(count), first_order_8bit(count, ibsi=True)
    assert a["Kurtosis"] - b["Kurtosis"] == 3


@pytest.mark.parametrize("count", [np.zeros(256, np.int64), np.ones(255, np.int64)])
def test_no_pixels_are_refused(count: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="256 counts"):
        first_order_8bit(count)


def test_only_bytes_have_a_histogram() -> None:
    with pytest.raises(InvalidInputError, match="uint8 and equal shapes"):
        grey_counts(np.zeros((2, 2)), np.ones((2, 2), bool))  # type: ignore[arg-type]
