"""Features of tiles: names, masks, reasons, and the nuclei's morphology."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from helpers import data_path, require

from osml.errors import InvalidInputError
from osml.imaging.stain import RUIFROK, separate
from osml.imaging.tissue import tissue_mask
from osml.radiomics.classes import intensity_features
from osml.radiomics.tiles import _planes, _regions, grey_of, nuclei_features, tile_features

GLASS, PINK, PURPLE = (244, 243, 244), (228, 160, 190), (90, 60, 140)
FIRST = ("firstorder",)


def tile(noise: float = 4.0) -> np.ndarray:
    """Pink tissue with six purple discs of radius 5, glass on the left."""
    rgb = np.full((120, 120, 3), PINK, float)
    y, x = np.ogrid[:120, :120]
    for cy in (30, 60, 90):
        for cx in (60, 95):
            rgb[(y - cy) ** 2 + (x - cx) ** 2 <= 25] = PURPLE
    rgb[:, :30] = GLASS
    return np.clip(rgb + np.random.default_rng(1).normal(0, noise, rgb.shape), 0, 255).astype(np.uint8)


def test_every_channel_and_mask() -> None:
    found = tile_features(tile())
    assert found.reasons == {}
    assert len(found.values) == 3 * 3 * 93 + 1 + 3 + 8
    assert "haematoxylin|nuclei|original_glcm_JointEntropy" in found.values
    assert all(np.isfinite(v) for v in found.values.values())
    h = {m: found.values[f"haematoxylin|{m}|original_firstorder_Mean"] for m in ("full", "tissue", "nuclei")}
    assert h["full"] < h["tissue"] < h["nuclei"]
    assert found.values["tissue_share"] == pytest.approx(0.75, abs=0.02)


def test_values_are_those_of_the_engine_within_the_mask() -> None:
    rgb = tile()
    found = tile_features(rgb, bin_width=10).values
    tissue = tissue_mask(rgb).inside
    grey, _ = intensity_features(grey_of(rgb).astype(float), tissue, 1.0, bin_width=10)
    h = np.clip(np.rint(separate(rgb)[0].astype(float) * 100), 0, 255)
    stain, _ = intensity_features(h, tissue, 1.0, bin_width=10)
    for channel, want in (("grey", grey), ("haematoxylin", stain)):
        got = {name: found[f"{channel}|tissue|original_{name}"] for name in want}
        assert got == {name: pytest.approx(v, rel=1e-9, abs=1e-12) for name, v in want.items()}


def test_grey_is_pillows_luma() -> None:
    image = pytest.importorskip("PIL.Image")
    rgb = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.array_equal(grey_of(rgb), np.asarray(image.fromarray(rgb).convert("L")))


@pytest.mark.parametrize(
    "colour, reasons",
    [
        ((255, 255, 255), {"tissue": "blank", "nuclei": "no tissue"}),
        ((0, 0, 0), {"tissue": "no colour", "nuclei": "no tissue"}),
        (PINK, {"nuclei": "no haematoxylin above"}),
    ],
)
def test_degenerate_tiles_give_nan_and_a_reason(colour: tuple[int, int, int], reasons: dict[str, str]) -> None:
    found = tile_features(np.full((64, 64, 3), colour, np.uint8))
    assert set(found.values) == set(tile_features(tile()).values)
    assert {mask: why[: len(reasons[mask])] for mask, why in found.reasons.items()} == reasons
    for name, value in found.values.items():
        if "|" in name:
            assert np.isnan(value) == (name.split("|")[1] in reasons), name
    assert found.values["tissue_share"] == (0.0 if "tissue" in reasons else 1.0)
    count = found.values["nuclei_count"]
    assert np.isnan(count) if "tissue" in reasons else count == 0


def test_a_mask_of_few_pixels_counts_as_empty() -> None:
    found = tile_features(tile(), masks=("nuclei",), classes=FIRST, min_pixels=5000)
    assert found.reasons["nuclei"].endswith("pixels; at least 5000 are needed")
    assert np.isnan(found.values["grey|nuclei|original_firstorder_Mean"])
    assert found.values["nuclei_count"] == 6


def test_a_grey_picture_has_one_channel_and_one_mask() -> None:
    grey = grey_of(tile())
    found = tile_features(grey).values
    assert len(found) == 93
    colour = tile_features(tile(), masks=("full",), channels=("grey",)).values
    assert found == colour


def test_the_scale_gives_micrometres() -> None:
    rgb = np.repeat(np.repeat(tile(noise=1.0), 2, axis=0), 2, axis=1)
    found = tile_features(rgb, masks=("nuclei",), channels=("grey",), classes=FIRST, um_per_px=0.5).values
    assert found["nuclei_count"] == 6
    assert found["nuclei_area_um2_Median"] == pytest.approx(np.pi * 25, rel=0.25)
    # 90 × 120 µm of tissue
    assert found["nuclei_density_per_mm2"] == pytest.approx(6 / (0.09 * 0.12), rel=0.05)
    assert found["nuclei_eccentricity_Median"] < 0.3


def test_morphology_leaves_out_cut_nuclei() -> None:
    nuclei, tissue = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    nuclei[5:9, 5:17] = True
    nuclei[0:20, 30:33] = True
    found = nuclei_features(nuclei, tissue)
    assert found["nuclei_count"] == 2
    assert found["nuclei_share"] == (48 + 60) / 1600
    assert found["nuclei_density_per_mpx"] == 2 / 1600 * 1e6
    assert found["nuclei_area_px_Mean"] == 48
    assert found["nuclei_area_px_StandardDeviation"] == 0
    assert found["nuclei_eccentricity_90Percentile"] == pytest.approx((1 - (4 / 12) ** 2) ** 0.5, rel=1e-12)


def test_a_choice_of_channels_masks_and_classes() -> None:
    found = tile_features(tile(), masks=("tissue",), channels=("eosin",), classes=("ngtdm",))
    assert sorted(found.values) == sorted(
        ["tissue_share", *(f"eosin|tissue|original_ngtdm_{n}" for n in
         ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength"))]
    )  # fmt: skip


@pytest.mark.parametrize(
    "picture, options, message",
    [
        (np.zeros((9, 9, 3)), {}, "uint8"),
        (np.zeros((9, 9, 4), np.uint8), {}, r"uint8 \(h, w, 3\)"),
        (np.zeros((0, 9), np.uint8), {}, "uint8"),
        (np.zeros((9, 9), np.uint8), {"masks": ("tissue",)}, "masks tissue need a colour picture"),
        (np.zeros((9, 9), np.uint8), {"channels": ("eosin",)}, "channels eosin need a colour picture"),
        (np.zeros((9, 9, 3), np.uint8), {"classes": ("shape",)}, "classes"),
        (np.zeros((9, 9, 3), np.uint8), {"masks": ()}, "masks"),
        (np.zeros((9, 9, 3), np.uint8), {"um_per_px": 0.0}, "um_per_px"),
        (np.zeros((9, 9, 3), np.uint8), {"min_pixels": 1}, "min_pixels"),
        (np.zeros((9, 9, 3), np.uint8), {"bin_width": 0.0}, "bin_width"),
        (np.zeros((9, 9, 3), np.uint8), {"bin_count": 1}, "bin_count"),
    ],
)
def test_wrong_requests_are_refused(picture: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        tile_features(picture, **options)


@pytest.mark.full
@pytest.mark.parametrize("mask", ["full", "tissue", "nuclei"])
@pytest.mark.parametrize("options", [{"bin_width": 25.0}, {"bin_count": 16}])
def test_tile_beside_pyradiomics(mask: str, options: dict[str, float]) -> None:
    try:
        import radiomics
        from radiomics import featureextractor
    except ImportError:
        require("pyradiomics", "PyRadiomics is not installed (pip install pyradiomics-cuda==1.0.4)")
    image = pytest.importorskip("PIL.Image")
    sitk = pytest.importorskip("SimpleITK")
    radiomics.setVerbosity(logging.CRITICAL)
    rgb = np.asarray(image.open(data_path("osteosarcoma_tiles", "tiles", "Case-3-A12-18156-14343.jpg")).convert("RGB"))
    grey, (planes, haematoxylin) = grey_of(rgb), _planes(rgb, ("haematoxylin",), RUIFROK)
    inside = _regions(rgb, haematoxylin, ("tissue", "nuclei"), None)[mask].inside.copy()
    inside[0, 0] = False  # PyRadiomics refuses a mask of the whole image
    names = {"bin_width": "binWidth", "bin_count": "binCount"}
    settings = {names[k]: v for k, v in options.items()}
    for plane in (grey, planes["haematoxylin"]):
        extractor = featureextractor.RadiomicsFeatureExtractor(additionalInfo=False, **settings)
        extractor.enableAllFeatures()
        extractor.enableFeatureClassByName("shape2D", False)
        want = extractor.execute(
            sitk.GetImageFromArray(plane.astype(float)), sitk.GetImageFromArray(inside.astype(np.uint8))
        )
        want = {k.removeprefix("original_"): float(v) for k, v in want.items() if k.startswith("original_")}
        want = {k: v for k, v in want.items() if not k.startswith("shape")}
        got, _ = intensity_features(plane, inside, 1.0, **options)  # type: ignore[arg-type]
        assert set(want) == set(got)
        wrong = {
            k: (got[k], v)
            for k, v in want.items()
            if got[k] != pytest.approx(v, rel=1e-6 if k.endswith("MCC") else 1e-9, abs=1e-14)
        }
        assert wrong == {}
