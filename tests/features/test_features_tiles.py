"""Radiomics of H&E pictures in a study: the values of `tile_features`, kept by content, one row per unit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import network_schema
from numpy.testing import assert_allclose, assert_array_equal
from picture_kinds import BAD, plain
from PIL import Image

from osml.cache import Cache
from osml.features import NO_PATH, Features, compute_features, used_radiomics
from osml.features import tiles as module
from osml.features.tiles import TileJob, TileSettings, measure_tile, tile_settings
from osml.radiomics.tiles import tile_features
from osml.schema.model import Schema

GLASS, PINK, PURPLE = (244, 243, 244), (228, 160, 190), (90, 60, 140)


def tile(seed: int = 1, nuclei: int = 6) -> np.ndarray:
    """Pink tissue with purple discs of radius 5, glass on the left."""
    rgb = np.full((120, 120, 3), PINK, float)
    y, x = np.ogrid[:120, :120]
    for k in range(nuclei):
        rgb[(y - 25 - 35 * (k // 2)) ** 2 + (x - 60 - 35 * (k % 2)) ** 2 <= 25] = PURPLE
    rgb[:, :30] = GLASS
    return np.clip(rgb + np.random.default_rng(seed).normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)


def write_tile(path: Path, **settings: int) -> np.ndarray:
    picture = tile(**settings)
    Image.fromarray(picture).save(path)
    return picture


def schema_with(**keys: Any) -> Schema:
    data = copy.deepcopy(network_schema())
    data["inputs"]["nuclei"] = {"kind": "radiomics", "of": "tile", "mask": "nuclei", **keys}
    return Schema.model_validate(data)


def computed(folder: Path, schema: Schema, paths: Sequence[str], **settings: Any) -> Features:
    units = [f"t{i}" for i in range(len(paths))]
    return compute_features(schema, ["nuclei"], units, {"tile": paths}, folder, workers=1, **settings)


@pytest.mark.parametrize(
    "keys, asked",
    [
        (
            {"mask": "nuclei", "channels": ["haematoxylin"], "classes": ["firstorder", "glcm"]},
            {"masks": ["nuclei"], "channels": ["haematoxylin"], "classes": ("firstorder", "glcm")},
        ),
        (
            {"mask": "tissue", "channels": ["eosin", "grey"], "classes": ["glszm"], "bins": {"count": 16}},
            {"masks": ["tissue"], "channels": ["eosin", "grey"], "classes": ("glszm",), "bin_count": 16},
        ),
        (
            {"mask": "full", "bins": {"width": 10}},
            {"masks": ["full"], "channels": None, "bin_width": 10},
        ),
    ],
)  # fmt: skip
def test_values_are_those_of_tile_features(tmp_path: Path, keys: dict[str, Any], asked: dict[str, Any]) -> None:
    pictures = [write_tile(tmp_path / f"{k}.png", seed=k, nuclei=4 + k) for k in range(2)]
    found = computed(tmp_path, schema_with(**keys), ["1.png", "0.png"])
    table = found.tables["nuclei"]
    assert (found.unusable, found.regions, sorted(found.hashes)) == ((), {"nuclei": []}, ["0.png", "1.png"])
    for row, picture in zip(table.x, reversed(pictures), strict=True):
        wanted = tile_features(picture, um_per_px=0.5, **asked).values
        assert table.columns == tuple(f"tile|{keys['mask']}|{name}" for name in wanted)
        assert_array_equal(row, list(wanted.values()))
    assert np.isfinite(table.x).all()
    assert (table.x[0] != table.x[1]).any()


def test_the_scale_of_the_picture_gives_nuclei_in_micrometres(tmp_path: Path) -> None:
    write_tile(tmp_path / "a.png")
    data = network_schema()
    settings = tile_settings(Schema.model_validate(data), "nuclei")
    assert settings == TileSettings("nuclei", ("haematoxylin", "grey"), ("firstorder", "glcm"), 25.0, None, 0.5)
    names = (
        computed(tmp_path, schema_with(channels=["grey"], classes=["firstorder"]), ["a.png"]).tables["nuclei"].columns
    )
    assert "tile|nuclei|nuclei_density_per_mm2" in names
    del data["inputs"]["tile"]["mpp"]
    bare = Schema.model_validate(data)
    assert tile_settings(bare, "nuclei").um_per_px is None
    pixels = computed(tmp_path, bare, ["a.png"]).tables["nuclei"].columns
    assert "tile|nuclei|nuclei_density_per_mm2" not in pixels


def test_shape_is_never_among_the_classes_of_nuclei() -> None:
    settings = tile_settings(schema_with(), "nuclei")
    assert "shape" not in settings.classes
    assert len(settings.classes) == 6


def test_what_is_not_drawn_on_is_used_without_a_mask_column() -> None:
    schema = schema_with()
    assert used_radiomics(schema) == ("nuclei",)
    assert schema.ancestors("net")[:3] == ("tile", "nuclei", "age")


def test_measured_once_and_again_when_file_or_settings_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tile(tmp_path / "a.png")
    measured: list[int] = []
    monkeypatch.setattr(
        "osml.radiomics.tiles.tile_features",
        lambda picture, **keys: measured.append(1) or tile_features(picture, **keys),
    )
    schema = schema_with(channels=["grey"], classes=["firstorder"])
    first = computed(tmp_path, schema, ["a.png"]).tables["nuclei"]
    again = computed(tmp_path, schema, ["a.png"]).tables["nuclei"]
    assert len(measured) == 1
    assert_array_equal(first.x, again.x)
    computed(tmp_path, schema_with(channels=["grey"], classes=["firstorder"], bins={"width": 5}), ["a.png"])
    assert len(measured) == 2
    write_tile(tmp_path / "a.png", seed=9)
    other = computed(tmp_path, schema, ["a.png"]).tables["nuclei"]
    assert len(measured) == 3
    assert (other.x != first.x).any()


def test_what_is_kept_includes_that_nothing_was_found(tmp_path: Path) -> None:
    Image.new("RGB", (80, 80), GLASS).save(tmp_path / "glass.png")
    job = TileJob(tmp_path / "glass.png", tile_settings(schema_with(channels=["grey"]), "nuclei"), tmp_path / "kept")
    first, second = measure_tile(job), measure_tile(job)
    assert list(first) == list(second)
    assert all(np.isnan(first[name]) and np.isnan(second[name]) for name in first)
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 1


def test_a_damaged_entry_of_the_cache_is_measured_again(tmp_path: Path) -> None:
    write_tile(tmp_path / "a.png")
    job = TileJob(tmp_path / "a.png", tile_settings(schema_with(classes=["firstorder"]), "nuclei"), tmp_path / "kept")
    first = measure_tile(job)
    (file,) = (tmp_path / "kept").rglob("*.json")
    file.write_text("{}")
    assert measure_tile(job) == first


def test_a_picture_that_cannot_be_read_names_its_row_and_stops_no_other(tmp_path: Path) -> None:
    for name, (write, _, _) in BAD.items():
        write(tmp_path / name)
    write_tile(tmp_path / "good.png")
    paths = ["", *BAD, "good.png"]
    found = computed(tmp_path, schema_with(channels=["grey"], classes=["firstorder"]), paths)
    lost = found.unusable
    assert [one.row for one in lost] == list(range(len(BAD) + 1))
    assert (lost[0].reason, lost[0].detail) == (NO_PATH, "tile: no path is given")
    for one, (name, (_, reason, words)) in zip(lost[1:], BAD.items(), strict=True):
        # Here a file of DICOM is no picture either.
        assert (one.input, one.reason) == ("nuclei", reason), name
        assert one.detail.startswith(f"t{one.row}: ")
        assert name in one.detail
        assert words in one.detail or name == "named.dcm"
    x = found.tables["nuclei"].x
    assert np.isnan(x[:-1]).all()
    assert np.isfinite(x[-1]).all()


def test_a_grey_picture_has_no_nuclei_and_keeps_its_grey_values(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    write_tile(tmp_path / "a.png")
    keys = {"channels": ["grey"], "classes": ["firstorder"]}
    nuclei = computed(tmp_path, schema_with(**keys), ["grey.png", "a.png"])
    assert nuclei.unusable == ()
    assert np.isnan(nuclei.tables["nuclei"].x[0]).all()
    assert np.isfinite(nuclei.tables["nuclei"].x[1]).all()
    full = computed(tmp_path, schema_with(**keys | {"mask": "full"}), ["grey.png"]).tables["nuclei"]
    mean = full.x[0, full.columns.index("tile|full|grey|full|original_firstorder_Mean")]
    assert_allclose(mean, grey.mean(), rtol=1e-12)


def test_where_no_picture_can_be_read_there_are_no_columns(tmp_path: Path) -> None:
    found = computed(tmp_path, schema_with(), ["gone.png", ""])
    assert found.tables["nuclei"].x.shape == (2, 0)
    assert [one.reason for one in found.unusable] == ["unreadable", NO_PATH]


def test_an_error_that_is_none_of_the_picture_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path / "a.png")

    def broken(self: Cache, key: str) -> bytes:
        raise OSError("disk is gone")

    monkeypatch.setattr(module.Cache, "load", broken)
    with pytest.raises(OSError, match="disk is gone"):
        computed(tmp_path, schema_with(), ["a.png"])
