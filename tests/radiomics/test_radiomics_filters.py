"""Filtered images beside SimpleITK and PyWavelets, and that they do not depend on how much is computed."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
from radiomics_data import blob

from osml.imaging.errors import DimensionError
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics.filters import filtered
from osml.radiomics.laplacian import laplacian


@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.3, 5.0])
@pytest.mark.parametrize("spacing", [(0.9, 0.97, 3.27), (1.0, 1.0, 1.0), (0.7, 1.5)])
def test_the_laplacian_is_that_of_simpleitk_to_the_last_bit(sigma: float, spacing: tuple[float, ...]) -> None:
    shape = (14, 41, 30)[-len(spacing) :]
    image = Volume(np.random.default_rng(1).normal(100, 50, shape), spacing)
    sitk = simple_itk()
    expected = sitk.GetArrayFromImage(
        sitk.LaplacianRecursiveGaussian(to_sitk(image), sigma=sigma, normalizeAcrossScale=True)
    )
    found = laplacian(image.array, sigma, spacing[::-1])
    assert found.dtype == np.float32
    # Coefficients rest on the C library's exp and sin, so another platform may differ in a last bit here and there.
    assert np.mean(found != expected) < 1e-3
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_laplacian_of_a_gaussian_blob_by_its_formula() -> None:
    """Two Gaussians in a row are one of variance s² + t²; at its centre the Laplacian is -3 / (s² + t²) of its peak."""
    s, t = 4.0, 3.0
    z, y, x = np.ogrid[-30:31, -30:31, -30:31]
    ball = np.exp(-(x**2 + y**2 + z**2) / (2 * s**2))
    peak = (s**2 / (s**2 + t**2)) ** 1.5
    expected = -(t**2) * 3 / (s**2 + t**2) * peak
    assert laplacian(ball, t, (1, 1, 1))[30, 30, 30] == pytest.approx(expected, rel=0.02)  # the recursion's fit


def test_a_part_of_the_laplacian_has_the_values_of_the_whole() -> None:
    x = np.random.default_rng(2).normal(0, 1, (20, 30, 40))
    wanted = [(3, 9), (0, 30), (11, 12)]
    part = laplacian(x, 2.0, (3, 1, 1), wanted)
    assert np.array_equal(part, laplacian(x, 2.0, (3, 1, 1))[3:9, :, 11:12])


def test_filters_around_a_region_have_the_values_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    image = Volume(rng.normal(100, 30, (30, 60, 61)), (1.0, 1.0, 2.0))
    focus = np.zeros(image.array.shape, dtype=bool)
    focus[12:18, 20:30, 25:31] = True
    options = {"filters": ("log", "wavelet"), "log_sigma_mm": (1.0,)}
    for (name, whole), (_, part) in zip(
        filtered(image, **options), filtered(image, focus=focus, **options), strict=True
    ):
        # The recursion's tail is exponential: at 8 sigma exp(-1.37 × 8), a part in 60,000 of the noise of 30.
        tolerance = 30 / 60_000 if name.startswith("log") else 0
        assert part[focus] == pytest.approx(whole[focus], rel=0, abs=tolerance), name
        assert np.isnan(part[0, 0, 0])


@pytest.mark.parametrize("in_plane", [False, True])
def test_wavelets_are_one_step_of_pywavelets(in_plane: bool) -> None:
    image, _ = blob((1.0, 1.0, 1.0))
    array = image.array[:, :26, :]
    # PyRadiomics counts axes, and letters, from x.
    bands = pywt.swtn(array, "coif1", level=1, axes=(2, 1) if in_plane else (2, 1, 0))[0]
    found = dict(filtered(image.like(array), ("wavelet",), in_plane=in_plane))
    assert len(found) == (4 if in_plane else 8)
    for letters, band in bands.items():
        name = "wavelet-" + letters.replace("a", "L").replace("d", "H")
        assert np.array_equal(found[name], band), name


def test_too_few_voxels_for_a_laplacian_are_refused() -> None:
    image = Volume(np.zeros((3, 20, 20)), (1, 1, 5))
    with pytest.raises(DimensionError, match="too few for a Laplacian"):
        list(filtered(image, ("log",), log_sigma_mm=(2.0,)))
