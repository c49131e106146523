"""Resampling beside SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
from radiomics_data import blob

from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics.resample import resample_image, resample_mask, window_around


def by_simpleitk(image: Volume, like: Volume) -> np.ndarray:
    sitk = simple_itk()
    grid = to_sitk(like.like(like.array.astype(np.float64)))
    return sitk.GetArrayFromImage(sitk.Resample(to_sitk(image), grid, sitk.Transform(), sitk.sitkBSpline))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.0, 2.0), (2.0, 0.5, 2.5), (0.3, 3.0, 1.25)])
def test_the_spline_is_that_of_simpleitk(spacing: tuple[float, ...]) -> None:
    image, mask = blob()
    turned = Volume(image.array, image.spacing_mm, (5, -7, 11), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    window = window_around(mask.array > 0, turned.spacing_mm, spacing, np.array([3, 3, 3]))
    found = resample_image(turned, window)
    assert found.spacing_mm == pytest.approx(spacing)
    # SimpleITK starts its recursion from a sum cut at 1e-10, which shows near the border.
    assert found.array == pytest.approx(by_simpleitk(turned, found), rel=1e-8, abs=1e-7)


def test_voxels_beyond_the_image_are_zero_as_in_simpleitk() -> None:
    image = Volume(np.random.default_rng(1).normal(50, 5, (7, 9, 10)), (1.0, 1.0, 1.0))
    window = window_around(np.ones(image.array.shape, dtype=bool), image.spacing_mm, (1.6, 1.0, 1.9), np.full(3, 5))
    found = resample_image(image, window)
    expected = by_simpleitk(image, found)
    assert (expected == 0).any()
    assert np.array_equal(found.array == 0, expected == 0)
    assert found.array == pytest.approx(expected, rel=1e-8, abs=1e-7)


def test_a_cubic_is_reproduced_away_from_the_border() -> None:
    x = np.arange(200.0)
    line = 1e-3 * (x - 90) ** 3 - x**2 + 5
    image = Volume(np.tile(line, (8, 8, 1)), (1.0, 1.0, 1.0))
    inside = np.zeros(image.array.shape, dtype=bool)
    inside[2:6, 2:6, 80:120] = True
    window = window_around(inside, image.spacing_mm, (0.3, 1.0, 1.0), np.zeros(3, dtype=int))
    at = window.start[0] + window.step[0] * np.arange(window.size[0])
    expected = 1e-3 * (at - 90) ** 3 - at**2 + 5
    assert resample_image(image, window).array[3, 3] == pytest.approx(expected, rel=1e-10)


def test_an_unchanged_axis_keeps_its_values() -> None:
    image, mask = blob((1.0, 1.0, 3.0))
    window = window_around(mask.array > 0, image.spacing_mm, (1.0, 1.0, 1.5), np.full(3, 2))
    moved = resample_image(image, window)
    assert moved.spacing_mm == (1.0, 1.0, 1.5)
    same = window_around(mask.array > 0, image.spacing_mm, image.spacing_mm, np.full(3, 2))
    cut = resample_image(image, same)
    low = (same.first[::-1]).astype(int)
    assert np.array_equal(cut.array, image.array[tuple(map(slice, low, low + cut.array.shape))])


def test_windows_of_different_margins_share_one_grid() -> None:
    image, mask = blob()
    inside = mask.like(mask.array > 0)
    narrow, wide = (window_around(inside.array, image.spacing_mm, (1.3, 0.8, 2.0), np.full(3, m)) for m in (1, 4))
    a, b = resample_image(image, narrow), resample_image(image, wide)
    shift = (np.subtract(a.origin_mm, b.origin_mm) / a.spacing_mm)[::-1]
    assert shift == pytest.approx(np.rint(shift), abs=1e-9)
    start = np.rint(shift).astype(int)
    part = tuple(map(slice, start, start + a.array.shape))
    assert b.array[part] == pytest.approx(a.array, rel=1e-9, abs=1e-9)
    assert np.array_equal(resample_mask(inside, wide).array[part], resample_mask(inside, narrow).array)
