"""Settings: from YAML, strict, each with its own effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from radiomics_data import blob

from osml.errors import InvalidInputError
from osml.imaging.errors import GreyLevelError, ImagingError, RegionError
from osml.radiomics import Settings, extract, read_settings, settings_from


def test_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("filters: [original, log]\nlog_sigma_mm: [1, 2.5]\nspacing_mm: [1, 1, 3]\nregions: mri-rings\n")
    found = read_settings(path)
    assert found.log_sigma_mm == (1.0, 2.5)
    assert found.spacing_mm == (1.0, 1.0, 3.0)
    assert len(found.regions) == 7


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("")
    assert read_settings(path) == Settings()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"bin_with": 5}, "Did you mean 'bin_width'"),
        ({"bin_width": "5"}, "wrong type"),
        ({"bin_width": True}, "wrong type"),
        ({"bin_width": 0}, "positive"),
        ({"bin_count": 1}, "at least 2"),
        ({"filters": ["orginal"]}, "orginal is not allowed"),
        ({"filters": []}, "nothing is not allowed"),
        ({"filters": ["log"]}, "belong together"),
        ({"log_sigma_mm": [1]}, "belong together"),
        ({"classes": ["glcm", "GLRLM"]}, "GLRLM is not allowed"),
        ({"regions": ["tumour", "tumour"]}, "once"),
        ({"spacing_mm": [1, 1, -1]}, "positive"),
        ({"crop": "tight"}, "tight is not allowed"),
        ({"others": "drop"}, "drop is not allowed"),
        ({"engine": "mine"}, "mine is not allowed"),
        ({"device": "gpu"}, "gpu is not allowed"),
        ({"max_levels": 1}, "at least 2"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        settings_from(values)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\n")
    with pytest.raises(InvalidInputError, match="not valid YAML"):
        read_settings(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InvalidInputError, match="key: value"):
        read_settings(tmp_path / "list.yaml")


def test_classes_choose_columns() -> None:
    table = extract(*blob(), Settings(classes=("firstorder", "ngtdm")))
    groups = {name.split("_")[1] for name in table if name.startswith("original")}
    assert groups == {"firstorder", "ngtdm"}


def test_z_scores_need_a_smaller_bin_width() -> None:
    image, mask = blob()
    with pytest.raises(GreyLevelError, match="single grey level"):
        extract(image.like(image.array / 100 + 3), mask)
    scaled = extract(image, mask, Settings(normalise="image", normalise_scale=100)).iloc[0]
    assert scaled["original_firstorder_Entropy"] > 2
    assert abs(scaled["original_firstorder_Mean"]) < 150


def test_normalising_over_the_body() -> None:
    image, mask = blob()
    body = image.like((image.array > 60).astype(int))
    with pytest.raises(ImagingError, match="needs a body mask"):
        extract(image, mask, Settings(normalise="body", bin_width=0.2))
    row = extract(image, mask, Settings(normalise="body", bin_width=0.2), body=body).iloc[0]
    inside = image.array[body.array > 0]
    expected = (image.array[mask.array > 0].mean() - inside.mean()) / inside.std(ddof=1)
    assert row["original_firstorder_Mean"] == pytest.approx(expected, rel=1e-9)


def test_a_constant_image_has_no_z_score() -> None:
    image, mask = blob()
    with pytest.raises(GreyLevelError, match="constant"):
        extract(image.like(image.array * 0 + 7), mask, Settings(normalise="image"))


def test_too_many_levels_are_refused_before_memory_is_used() -> None:
    image, mask = blob()
    with pytest.raises(GreyLevelError, match="grey levels in the original image"):
        extract(image, mask, Settings(bin_width=1e-7))


def test_small_regions_are_refused() -> None:
    image, mask = blob()
    mask.array[:] = 0
    mask.array[5, 5, 5] = 1
    with pytest.raises(RegionError, match="has 1 voxels"):
        extract(image, mask)


def test_a_mask_of_the_whole_image_is_fine() -> None:
    image, mask = blob()
    assert extract(image, mask.like(mask.array * 0 + 1)).iloc[0]["voxels"] == image.array.size


def test_a_filtered_image_with_one_level_is_counted() -> None:
    row = extract(*blob(), Settings(filters=("square",), bin_width=1000, classes=("glcm",))).iloc[0]
    assert row["one_level_images"] == 1
    assert row["square_glcm_JointEntropy"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("bins", [{"bin_width": 25.0}, {"bin_count": 16}])
def test_a_constant_region_has_one_level_however_it_is_binned(bins: dict[str, Any]) -> None:
    image, mask = blob()
    flat = image.like(np.where(mask.array > 0, 7.0, image.array))
    with pytest.raises(GreyLevelError, match="single grey level"):
        extract(flat, mask, Settings(**bins))
