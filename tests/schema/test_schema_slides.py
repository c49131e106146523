"""Regions of slides, slide predictors and scores of bundles: what a schema may not ask of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import minimal_schema, score_schema, slide_schema, write_schema

from osml.cohort.build import read_cohort
from osml.errors import SchemaError, TableError
from osml.schema.load import load_schema

Data = dict[str, Any]
Change = Callable[[Data], None]
COLOUR = ("target", "classes", "NC", "colour")


def put(*path: str, value: Any) -> Change:
    """Write a value at a path of the document."""

    def change(data: Data) -> None:
        for key in path[:-1]:
            data = data.setdefault(key, {})
        data[path[-1]] = value

    return change


def refused(folder: Path, base: Callable[[], Data], *changes: Change) -> str:
    data = copy.deepcopy(base())
    for change in changes:
        change(data)
    with pytest.raises(SchemaError) as caught:
        load_schema(write_schema(folder, data))
    return str(caught.value)


SCORE = {"kind": "score", "of": "wsi", "bundle": "b", "output": "VT", "available": "visit"}


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        (put("target", "of", value="wsl"), "target.of: there is no input 'wsl'", "Did you mean 'wsi'?"),
        (put(*COLOUR, value="#c81e28"), "NC.colour: #c81e28 is the colour of 'VT' as well", "Give every class its own"),
        (put(*COLOUR, value="red"), "NC.colour: must be a colour such as #d55e00, not 'red'", ""),
        (put("target", "necrosis", "viable", value=["TV"]), "viable.0: there is no class 'TV'", "Allowed: BG, VT, NC"),
        (put("target", "necrosis", "viable", value=["BG"]), "viable.0: 'BG' is the background", "Glass"),
        (put("target", "necrosis", "necrotic", value=["VT"]), "necrotic.0: 'VT' is viable already", "one side"),
        (put("cohort", value={"table": "t.csv", "patient": "id"}), "cohort: a region study has one row", "cohort.row"),
        (put("missing", value="impute"), "missing: nothing is imputed in a region study", "Remove it"),
        (put("validation", "inner", value="none"), "predictors.necrosis: the length of training", "inner: {folds: 3}"),
        (put("predictors", "necrosis", "tile", value={"size_um": 100, "stride_um": 120}), "leave tissue", ""),
        (put("predictors", "necrosis", "tile", value={"size_um": 128, "stride_um": 100}), "do not begin", "16 µm"),
        (put("predictors", "necrosis", "encoders", value={"wsl": {}}), "'wsl' is not among this predictor's", "wsi"),
        (put("predictors", "other", value={"kind": "boosting", "inputs": ["wsi"]}), "a boosting does not", "slide"),
        (put("inputs", "age", value={"kind": "number", "available": "visit"}), "'age' is of kind number: a region", ""),
        (put("report", "select", value=True), "`report.select` is for predictors of patients", "Remove it"),
        (
            put("decision", value={"action": "a", "act_on": "x", "thresholds": [0.1, 0.2], "why": "w"}),
            "decision: a decision curve needs the risk of an event", "Remove it",
        ),
    ],
)  # fmt: skip
def test_what_a_region_study_may_not_ask(tmp_path: Path, change: Change, said: str, hint: str) -> None:
    message = refused(tmp_path, slide_schema, change)
    assert said in message
    assert "study.yaml:" in message
    assert hint in message.partition(said)[2]


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        (
            minimal_schema, put("predictors", "s", value={"kind": "slide", "inputs": ["age"]}),
            "predictors.s.kind: a slide predictor needs a region target",
        ),
        (
            score_schema, put("predictors", "clinical", "inputs", value=["age", "wsi"]),
            "'wsi' is a whole slide, which a nomogram does not read",
        ),
        (score_schema, put("inputs", "necrosis", "of", value="age"), "inputs.necrosis.of: 'age' is not of kind slide"),
        (score_schema, put("inputs", "wsi", "available", value="surgery"), "available: known at visit, but"),
        (score_schema, put("inputs", "necrosis", "of", value="nobody"), "there is no input 'nobody'"),
        (slide_schema, put("inputs", "again", value=SCORE), "'again' is of kind score: a region study reads slides"),
    ],
)  # fmt: skip
def test_slides_elsewhere(tmp_path: Path, base: Callable[[], Data], change: Change, said: str) -> None:
    assert said in refused(tmp_path, base, change)


def test_colours_numbers_and_paths_as_they_are_used(tmp_path: Path) -> None:
    data = slide_schema()
    data["target"]["classes"]["NC"]["colour"] = "#AABBCC"
    loaded = load_schema(write_schema(tmp_path, data))
    assert loaded.schema.target.classes["NC"].colour == "#aabbcc"
    score = load_schema(write_schema(tmp_path, score_schema())).schema.scores()["necrosis"]
    assert score.bundle == str(tmp_path / "bundle")
    assert score.oof == str(tmp_path / "necrosis_oof.csv")


def test_a_logarithm_of_a_score_is_one_of_a_number(tmp_path: Path) -> None:
    data = score_schema()
    data["predictors"]["clinical"]["terms"] = {"necrosis": {"rcs": 3}}
    assert load_schema(write_schema(tmp_path, data)).schema.nomograms()["clinical"].terms


def test_a_table_of_patients_is_not_made_of_regions(tmp_path: Path) -> None:
    loaded = load_schema(write_schema(tmp_path, slide_schema()))
    (tmp_path / "slides.csv").write_text("id,slide,file,annotation\nP1,S1,a.tif,a.geojson\n")
    with pytest.raises(TableError, match="regions of slides"):
        read_cohort(loaded)
