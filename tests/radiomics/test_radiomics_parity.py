"""Every feature beside the live PyRadiomics."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import numpy as np
import pytest
from helpers import REFERENCE, data_path, require
from radiomics_data import blob, features

from osml.files import atomic_write
from osml.imaging.masks import choose_label
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import Volume, to_sitk
from osml.radiomics import Settings, extract
from osml.radiomics.regions import make_regions

pytestmark = pytest.mark.full
ALL = ("original", "wavelet", "log", "square", "squareroot", "logarithm", "exponential", "gradient")
PEER_NAMES = {
    "original": "Original", "wavelet": "Wavelet", "log": "LoG", "square": "Square", "squareroot": "SquareRoot",
    "logarithm": "Logarithm", "exponential": "Exponential", "gradient": "Gradient",
}  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> Any:
    try:
        import radiomics
        from radiomics import featureextractor
    except ImportError:
        require("pyradiomics", "PyRadiomics is not installed (pip install pyradiomics-cuda==1.0.4)")
    radiomics.setVerbosity(logging.CRITICAL)
    return featureextractor


def peer_features(peer: Any, image: Volume, inside: np.ndarray, settings: Settings) -> dict[str, float]:
    """All classes by PyRadiomics, the image in float64."""
    options: dict[str, Any] = {"binWidth": settings.bin_width, "force2D": settings.in_plane, "additionalInfo": False}
    if settings.bin_count:
        options["binCount"] = settings.bin_count
    if settings.spacing_mm:
        options |= {"resampledPixelSpacing": list(settings.spacing_mm), "interpolator": "sitkBSpline"}
    extractor = peer.RadiomicsFeatureExtractor(**options)
    extractor.enableAllFeatures()
    if image.array.ndim == 3:
        extractor.enableFeatureClassByName("shape2D", False)
    extractor.disableAllImageTypes()
    for name in settings.filters:
        extra = {"sigma": list(settings.log_sigma_mm)} if name == "log" else {}
        extractor.enableImageTypeByName(PEER_NAMES[name], customArgs=extra)
    found = extractor.execute(to_sitk(image.like(image.array.astype(np.float64))), to_sitk(image.like(inside)))
    return {name: float(value) for name, value in found.items() if not name.startswith("diagnostics")}


def assert_equal(peer: Any, image: Volume, mask: Volume, settings: Settings) -> dict[str, dict[str, float]]:
    """Compare every feature of every region; returns PyRadiomics' values."""
    table = extract(image, mask, settings)
    regions = make_regions(choose_label(mask, settings.label), settings.regions, leaving=settings.leaving)
    assert table["region"].tolist() == [region.name for region in regions]
    out = {}
    for region, row in zip(regions, table.to_dict("records"), strict=True):
        expected, found = peer_features(peer, image, region.inside, settings), features(row)
        assert set(found) >= set(expected)
        assert len(expected) >= 93
        wrong = {
            name: (found[name], value)
            for name, value in expected.items()
            if found[name] != pytest.approx(value, rel=1e-6 if name.endswith("MCC") else 1e-9, abs=1e-14, nan_ok=True)
        }
        assert wrong == {}, region.name
        out[region.name] = expected
    return out


def test_brain(peer: Any) -> None:
    image, mask = (data_path("pyradiomics", f"brain1_{kind}.nrrd") for kind in ("image", "label"))
    settings = Settings(filters=ALL, log_sigma_mm=(2.0, 3.5), crop="compat", max_levels=5000)
    assert_equal(peer, read_image(image), read_mask(mask), settings)


def test_breast_resampled(peer: Any) -> None:
    image, mask = (data_path("pyradiomics", f"breast1_{kind}.nrrd") for kind in ("image", "label"))
    settings = Settings(
        filters=("original", "wavelet", "log", "gradient"), log_sigma_mm=(2.0,), crop="compat",
        spacing_mm=(1.5, 1.5, 1.5), bin_width=5, max_levels=5000,
    )  # fmt: skip
    assert_equal(peer, read_image(image), read_mask(mask), settings)


def test_sarcoma_with_rings_on_thick_slices(peer: Any) -> None:
    folder = data_path("soft_tissue_sarcoma", "mri")
    image, mask = read_image(folder / "STS_001_t1.nii.gz"), read_mask(folder / "STS_001_t1_mask.nii.gz")
    assert image.spacing_mm[2] > 2 * image.spacing_mm[0]
    settings = Settings(
        filters=("original", "wavelet", "log"), log_sigma_mm=(3.0,), crop="compat", leaving="clip",
        regions=("tumour", "0-2mm", "2-4mm", "tumour+6mm"), max_levels=5000,
    )  # fmt: skip
    assert_equal(peer, image, mask, settings)


def test_tile(peer: Any) -> None:
    tiles = sorted((data_path("osteosarcoma_tiles") / "tiles").rglob("*.jpg"))
    image = read_image(tiles[0])
    tissue = image.like((image.array < 200).astype(np.uint8))
    settings = Settings(filters=("original", "wavelet", "square"), crop="compat", bin_width=10, max_levels=5000)
    assert_equal(peer, image, tissue, settings)


@pytest.mark.parametrize("spacing", [(0.9, 1.1, 2.5), (1.0, 1.0)])
@pytest.mark.parametrize("density", [0.03, 0.1, 0.4, 0.95])
def test_scattered_voxels(peer: Any, density: float, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(int(1000 * density))
    shape = (7, 9, 8)[-len(spacing) :] if len(spacing) == 3 else (19, 18)
    image = Volume(rng.normal(100, 60, shape), spacing)
    mask = image.like((rng.random(shape) < density).astype(np.uint8))
    assert_equal(peer, image, mask, Settings(crop="compat", min_voxels=2))


def test_bin_count_within_slices(peer: Any) -> None:
    image, mask = blob()
    settings = Settings(crop="compat", bin_count=16, in_plane=True)
    table = extract(image, mask, settings).iloc[0].to_dict()
    expected = peer_features(peer, image, mask.array, Settings(bin_count=16, in_plane=True, classes=("glcm",)))
    shared = [name for name in expected if not name.endswith("MCC")]
    assert len(shared) == 106
    assert [table[name] for name in shared] == pytest.approx([expected[name] for name in shared], rel=1e-9)


@pytest.mark.parametrize("case", ["3d", "2d"])
def test_frozen_values_are_current(peer: Any, case: str) -> None:
    """With $OSML_FREEZE_RADIOMICS set, writes tests/reference/radiomics/blob.json anew."""
    image, mask = blob() if case == "3d" else blob((0.9, 1.1))
    sigmas = (1.0, 2.5) if case == "3d" else (1.0,)
    settings = Settings(filters=ALL, log_sigma_mm=sigmas, crop="compat", bin_width=20, max_levels=5000)
    found = assert_equal(peer, image, mask, settings)["tumour"]
    path = REFERENCE / "radiomics" / "blob.json"
    frozen = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if os.environ.get("OSML_FREEZE_RADIOMICS"):
        frozen[case] = found
        atomic_write(path, json.dumps(frozen, indent=0) + "\n")
    assert {name: pytest.approx(value, rel=1e-6) for name, value in frozen[case].items()} == found
