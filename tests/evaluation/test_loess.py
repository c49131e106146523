import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.loess import loess, lowess

OUT = Path(__file__).parents[1] / "reference" / "r" / "out"
VAL = json.loads((OUT / "c3_valprob_pima_external.json").read_text())
DIRECT = json.loads((OUT / "c3b_loess_direct_pima.json").read_text())
P, Y = np.array(VAL["p"]), np.array(VAL["y"], dtype=float)


def local_fit(x, y, at, span, degree):
    """The definition, one point at a time: row of the smoother."""
    q = int(np.floor(len(x) * span + 1e-5))
    distance = np.abs(x - at)
    width = np.sort(distance)[q - 1]
    w = np.clip(1 - (distance / width) ** 3, 0, None) ** 3
    basis = np.vander(x - at, degree + 1, increasing=True)
    root = np.sqrt(w)[:, None]
    return np.linalg.pinv(root * basis)[0] * root[:, 0]


@pytest.mark.parametrize("degree", [1, 2])
def test_direct_loess_equals_r(degree):
    found = loess(P, Y, degree=degree)
    np.testing.assert_allclose(found.fitted, DIRECT[f"loess_direct_deg{degree}"], rtol=1e-9, atol=1e-12)
    distance, ref = np.abs(found.fitted - P), DIRECT[f"errors_deg{degree}"]
    assert distance.mean() == pytest.approx(ref["ICI"], rel=1e-10)
    assert np.median(distance) == pytest.approx(ref["E50"], rel=1e-10)
    assert np.quantile(distance, 0.9) == pytest.approx(ref["E90"], rel=1e-10)
    assert distance.max() == pytest.approx(ref["Emax"], rel=1e-10)


def test_lowess_equals_r():
    x, smooth = lowess(P, Y, iterations=0)
    np.testing.assert_allclose(x, VAL["lowess"]["x"], rtol=1e-13)
    np.testing.assert_allclose(smooth, VAL["lowess"]["y"], rtol=1e-10, atol=1e-13)


def test_val_prob_distances_come_from_lowess():
    x, smooth = lowess(P, Y, iterations=0)
    distance = np.abs(x - smooth)
    assert distance.max() == pytest.approx(VAL["val_prob"]["Emax"], rel=1e-10)
    assert distance.mean() == pytest.approx(VAL["val_prob"]["Eavg"], rel=1e-10)
    assert np.quantile(distance, 0.9) == pytest.approx(VAL["val_prob"]["E90"], rel=1e-10)


def test_interval_by_its_definition():
    x, y = P[:60], Y[:60]
    found = loess(x, y, at=[0.1, 0.3, 0.5], span=0.8, level=0.9)
    L = np.array([local_fit(x, y, at, 0.8, 2) for at in x])
    rest = np.eye(60) - L
    delta_1, delta_2 = np.trace(rest.T @ rest), np.trace((rest.T @ rest) @ (rest.T @ rest))
    scale, df = np.sqrt(((y - L @ y) ** 2).sum() / delta_1), delta_1**2 / delta_2
    rows = np.array([local_fit(x, y, at, 0.8, 2) for at in (0.1, 0.3, 0.5)])
    half = stats.t.isf(0.05, df) * scale * np.sqrt((rows**2).sum(axis=1))
    assert found.scale == pytest.approx(scale, rel=1e-8)
    assert found.df == pytest.approx(df, rel=1e-8)
    np.testing.assert_allclose(found.curve, rows @ y, rtol=1e-8)
    np.testing.assert_allclose(found.high - found.curve, half, rtol=1e-8)
    np.testing.assert_allclose(found.curve - found.low, half, rtol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.4, 0.75, 1.0]))
def test_polynomials_are_reproduced_and_units_do_not_matter(seed, span):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 5, 40)
    a, b, c = rng.normal(size=3)
    np.testing.assert_allclose(loess(x, a + b * x + c * x**2, span=span).fitted, a + b * x + c * x**2, atol=1e-7)
    np.testing.assert_allclose(loess(x, a + b * x, span=span, degree=1).fitted, a + b * x, atol=1e-8)
    y = rng.normal(size=40)
    np.testing.assert_allclose(loess(1e3 * x + 7, y, span=span).fitted, loess(x, y, span=span).fitted, atol=1e-6)
    xs, smooth = lowess(x, a + b * x, iterations=0)
    np.testing.assert_allclose(smooth, a + b * xs, atol=1e-9)


def lowess_by_definition(x, y, f, passes):
    """Cleveland's algorithm, a local fit at every point (delta = 0)."""
    n = len(x)
    q = max(2, min(n, int(f * n + 1e-7)))
    robust, out = np.ones(n), np.zeros(n)
    for _ in range(passes + 1):
        for i, at in enumerate(x):
            start = min(range(n - q + 1), key=lambda s: max(at - x[s], x[s + q - 1] - at))
            part = slice(start, start + q)
            width = max(at - x[start], x[start + q - 1] - at)
            w = np.clip(1 - (np.abs(x[part] - at) / width) ** 3, 0, None) ** 3 * robust[part]
            root = np.sqrt(w)[:, None]
            basis = np.column_stack([np.ones(q), x[part] - at])
            out[i] = np.linalg.lstsq(root * basis, root[:, 0] * y[part], rcond=None)[0][0]
        size = np.abs(y - out)
        robust = np.clip(1 - (size / (6 * np.median(size))) ** 2, 0, None) ** 2
    return out


@pytest.mark.parametrize("passes", [0, 3])
def test_lowess_by_its_definition(passes):
    rng = np.random.default_rng(2)
    x = np.sort(rng.uniform(size=50))
    y = np.sin(6 * x) + rng.normal(scale=0.2, size=50)
    y[10] += 5
    _, smooth = lowess(x, y, iterations=passes, delta=0)
    # The cut-offs at 0.1 % and 99.9 % of the width, kept for equality with R, are not in the definition.
    np.testing.assert_allclose(smooth, lowess_by_definition(x, y, 2 / 3, passes), atol=2e-5)


def test_robust_passes_resist_an_outlier():
    x = np.linspace(0, 1, 41)
    y = 2 * x
    y[20] = 50
    _, plain = lowess(x, y, iterations=0)
    _, robust = lowess(x, y, iterations=3)
    assert np.abs(plain - 2 * x).max() > 1
    np.testing.assert_allclose(robust, 2 * x, atol=1e-6)


@pytest.mark.full
def test_statsmodels_lowess_agrees():
    from statsmodels.nonparametric.smoothers_lowess import lowess as theirs

    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=200), rng.integers(0, 2, 200).astype(float)
    ours = lowess(x, y, iterations=2, delta=0)
    np.testing.assert_allclose(ours[1], theirs(y, x, it=2, delta=0)[:, 1], atol=1e-6)


def test_many_points_are_interpolated_closely():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=2600)
    y = np.sin(5 * x) + rng.normal(scale=0.1, size=2600)
    at = np.linspace(x.min(), x.max(), 30)
    found = loess(x, y, at=at)
    assert np.isinf(found.df)
    np.testing.assert_allclose(np.interp(at, np.sort(x), found.fitted[np.argsort(x)]), found.curve, atol=1e-4)
    assert found.scale == pytest.approx(0.1, rel=0.1)


def test_ties_and_small_inputs():
    with pytest.raises(NotEstimableError, match="share one x"):
        loess([1, 1, 1, 1, 1, 2], [0, 1, 0, 1, 0, 1], span=0.7)
    with pytest.raises(NotEstimableError, match="too few"):
        loess([1, 2, 3], [0, 1, 0])
    x, smooth = lowess([2, 2, 2, 2], [0, 1, 1, 0], iterations=0)
    np.testing.assert_allclose(smooth, 0.5)
    assert lowess([1.0], [2.0])[1].tolist() == [2.0]
    assert x.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"span": 0}, "span"),
        ({"degree": 3}, "degree"),
        ({"at": [2.0]}, "extrapolated"),
        ({"y": [0, 1, np.nan] * 5}, "missing"),
        ({"x": [[1.0]]}, "shape"),
    ],
)
def test_bad_input_is_refused(change, what):
    given_ = {"x": np.linspace(0, 1, 15), "y": np.arange(15) % 2.0, **change}
    with pytest.raises(InvalidInputError, match=what):
        loess(**given_)
    with pytest.raises(InvalidInputError, match="delta"):
        lowess([1, 2], [1, 2], delta=-1)
    with pytest.raises(InvalidInputError, match="iterations"):
        lowess([1, 2], [1, 2], iterations=-1)
