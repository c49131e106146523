"""Inputs that are images: what a schema must say about them, and what it may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import image_schema, survival_target, write_schema

from osml.errors import SchemaError
from osml.features import check_settings, settings_of, used_radiomics
from osml.radiomics.settings import MRI_RINGS
from osml.schema.load import load_schema

Change = Callable[[dict[str, Any]], None]


def changed(path: tuple[str, ...], value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        block = data
        for key in path[:-1]:
            block = block[key]
        block[path[-1]] = value

    return change


def removed(path: tuple[str, ...]) -> Change:
    def change(data: dict[str, Any]) -> None:
        block = data
        for key in path[:-1]:
            block = block[key]
        del block[path[-1]]

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (changed(("inputs", "rad", "of"), "t3"), "inputs.rad.of: there is no input 't3'"),
        (changed(("inputs", "rad", "of"), "flat"), "'flat' is not a volume or an image"),
        (removed(("inputs", "t2", "mask")), "'t2' has no mask: radiomics describe a segmented region"),
        (removed(("inputs", "t2", "body")), "'t2' has no `body` mask to normalise over"),
        (changed(("inputs", "rad", "bins"), {"width": 25, "count": 32}), "give either `width` or `count`"),
        (changed(("inputs", "rad", "stability"), {"icc": "3,1"}), "give either `masks` or `perturb`"),
        (removed(("cohort", "site")), "harmonising needs to know the site of every patient"),
        (changed(("predictors", "radscore", "inputs"), ["t2"]), "'t2' is of kind volume: a radscore takes radiomics"),
        (changed(("predictors", "radscore", "inputs"), ["rad", "flat"]), "one radiomics input"),
        (changed(("validation", "inner"), "none"), "features and penalty are chosen on inner folds"),
        (changed(("target",), survival_target()), "a forest scores binary targets"),
        (
            changed(("predictors", "direct"), {"kind": "nomogram", "inputs": ["rad"]}),
            "'rad' is of kind radiomics: a nomogram takes numbers, levels and scores",
        ),
        (
            changed(("validation", "optimism"), {"predictors": ["radscore"]}),
            "'radscore' is a radscore; the bootstrap is offered for nomograms",
        ),
        (changed(("inputs", "rad", "available"), "visit"), "unknown key 'available'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    data = copy.deepcopy(image_schema())
    change(data)
    with pytest.raises(SchemaError) as caught:
        load_schema(write_schema(tmp_path, data))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (changed(("inputs", "rad", "regions"), ["rind"]), "region 'rind' is not known"),
        (changed(("inputs", "rad", "regions"), ["4-2mm"]), "region '4-2mm' has no width"),
        (changed(("predictors", "radscore", "region"), "0-9mm"), "'rad' has no region '0-9mm'"),
    ],
)
def test_settings_that_no_extraction_could_use_are_refused_with_their_line(
    tmp_path: Path, change: Change, message: str
) -> None:
    data = copy.deepcopy(image_schema())
    change(data)
    loaded = load_schema(write_schema(tmp_path, data))
    with pytest.raises(SchemaError, match=r"study\.yaml:\d+: ") as caught:
        check_settings(loaded)
    assert message in str(caught.value)


def test_settings_are_those_of_the_schema(tmp_path: Path) -> None:
    schema = load_schema(write_schema(tmp_path, image_schema())).schema
    found = settings_of(schema, "rad")
    assert (found.regions, found.filters, found.log_sigma_mm) == (("tumour", "tumour+2mm"), ("original", "log"), (1, 2))
    assert (found.normalise, found.normalise_scale, found.spacing_mm) == ("body", 100.0, (1.0, 1.0, 3.0))
    assert (found.label, found.leaving, found.in_plane, found.engine) == (1.0, "clip", True, "osml")
    assert settings_of(schema, "flat").bin_count == 32


def test_the_preset_is_the_seven_regions(tmp_path: Path) -> None:
    data = image_schema()
    data["inputs"]["rad"]["regions"] = "mri-rings"
    assert settings_of(load_schema(write_schema(tmp_path, data)).schema, "rad").regions == MRI_RINGS


def test_radiomics_are_known_with_their_image_and_used_only_where_asked_for(tmp_path: Path) -> None:
    data = image_schema()
    data["times"] = ["visit", "later"]
    data["inputs"]["t2"]["available"] = "later"
    schema = load_schema(write_schema(tmp_path, data)).schema
    assert (schema.available("rad"), schema.available("flat")) == ("later", "visit")
    assert used_radiomics(schema) == ("rad",)
    assert schema.ancestors("radscore") == ("rad", "t2")
