"""Feature values against the IBSI's digital phantom and numbers frozen from PyRadiomics."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers import REFERENCE
from radiomics_data import blob, features, phantom

from osml.imaging.volume import Volume
from osml.radiomics import Settings, extract
from osml.radiomics.names import IBSI_TAGS

ROWS = list(csv.DictReader((REFERENCE / "ibsi" / "pyradiomics_names_and_values.csv").open(encoding="utf-8")))
# tests/reference/radiomics/blob.json: PyRadiomics (pyradiomics-cuda 1.0.4, the code of 3.0.1) on `blob()`, computed by
#   OSML_FREEZE_RADIOMICS=1 python -m pytest tests/radiomics/test_radiomics_parity.py -k frozen
FROZEN = json.loads((REFERENCE / "radiomics" / "blob.json").read_text(encoding="utf-8"))
ALL = ("original", "wavelet", "log", "square", "squareroot", "logarithm", "exponential", "gradient")


def close(value: float, expected: float, name: str) -> bool:
    """The tolerance of the parity: 1e-9, for MCC 1e-6."""
    return value == pytest.approx(expected, rel=1e-6 if name.endswith("MCC") else 1e-9, nan_ok=True)


def phantom_row(ibsi: bool) -> dict[str, float]:
    return extract(*phantom(), Settings(bin_width=1, ibsi=ibsi)).iloc[0].to_dict()


@pytest.mark.parametrize("row", ROWS, ids=[row["pyradiomics_feature"] for row in ROWS])
def test_phantom_as_pyradiomics(row: dict[str, str]) -> None:
    name = row["pyradiomics_feature"]
    assert close(phantom_row(ibsi=False)[f"original_{name}"], float(row["pyradiomics_value"]), name)


TAGGED = [row for row in ROWS if row["ibsi_value"]]


@pytest.mark.parametrize("row", TAGGED, ids=[row["ibsi_tag"] for row in TAGGED])
def test_phantom_as_the_ibsi(row: dict[str, str]) -> None:
    value = phantom_row(ibsi=True)[f"original_{row['pyradiomics_feature']}"]
    expected, tolerance = float(row["ibsi_value"]), float(row["ibsi_tolerance"])
    # The IBSI prints three significant digits.
    assert value == pytest.approx(expected, rel=5e-3, abs=tolerance)


def test_only_three_features_depart_from_the_ibsi() -> None:
    plain = phantom_row(ibsi=False)
    departing = {
        row["ibsi_tag"]
        for row in TAGGED
        if plain[f"original_{row['pyradiomics_feature']}"]
        != pytest.approx(float(row["ibsi_value"]), rel=5e-3, abs=float(row["ibsi_tolerance"]))
    }
    assert departing == {"stat_kurt", "morph_pca_min_axis", "morph_pca_least_axis"}


def test_every_tag_names_a_feature() -> None:
    columns = phantom_row(ibsi=False)
    assert all(f"original_{group}_{name}" in columns for group, names in IBSI_TAGS.items() for name in names)


@pytest.mark.parametrize("case", sorted(FROZEN))
def test_frozen_values_of_pyradiomics(case: str) -> None:
    expected = FROZEN[case]
    image, mask = blob() if case == "3d" else blob((0.9, 1.1))
    sigmas = (1.0, 2.5) if case == "3d" else (1.0,)
    settings = Settings(filters=ALL, log_sigma_mm=sigmas, crop="compat", bin_width=20, max_levels=5000)
    found = features(extract(image, mask, settings).iloc[0].to_dict())
    assert set(found) == set(expected)
    wrong = {name: (found[name], value) for name, value in expected.items() if not close(found[name], value, name)}
    assert wrong == {}


def test_shared_crop_keeps_the_original_image() -> None:
    image, mask = blob()
    wide = Settings(filters=("original", "wavelet"), crop="compat", spacing_mm=(1.0, 1.0, 2.0))
    narrow = Settings(filters=("original", "wavelet"), spacing_mm=(1.0, 1.0, 2.0))
    a, b = (features(extract(image, mask, s).iloc[0].to_dict()) for s in (wide, narrow))
    same = [name for name in a if name.startswith("original")]
    assert len(same) == 107
    assert [b[name] for name in same] == pytest.approx([a[name] for name in same], rel=1e-9)


def test_unsigned_bytes_are_not_wrapped() -> None:
    image, mask = blob()
    bytes_ = image.like(np.clip(image.array, 0, 255).astype(np.uint8))
    a, b = (extract(volume, mask).iloc[0].to_dict() for volume in (bytes_, bytes_.like(bytes_.array.astype(float))))
    assert features(a) == features(b)
    assert a["original_firstorder_Entropy"] > 2


def test_counts_of_features() -> None:
    image, mask = blob()
    assert len(features(extract(image, mask).iloc[0].to_dict())) == 14 + 93
    flat = blob((0.9, 1.1))
    assert len(features(extract(*flat).iloc[0].to_dict())) == 9 + 93


def test_a_laplacian_does_not_depend_on_the_crop() -> None:
    rng = np.random.default_rng(3)
    image = Volume(rng.normal(100, 30, (40, 90, 90)), (1.0, 1.0, 2.0))
    mask = np.zeros(image.array.shape, dtype=np.uint8)
    mask[17:23, 40:50, 38:52] = 1
    common = {"filters": ("log",), "log_sigma_mm": (2.0,), "classes": ("firstorder",), "bin_width": 1.0}
    # Float32 results: a relative difference near 1e-7 is rounding.
    a, b = (extract(image, image.like(mask), Settings(**common, crop=crop)).iloc[0] for crop in ("compat", "shared"))
    names = [f"log-sigma-2-0-mm-3D_firstorder_{name}" for name in ("10Percentile", "Maximum", "Variance", "Energy")]
    assert [b[name] for name in names] == pytest.approx([a[name] for name in names], rel=1e-5)
