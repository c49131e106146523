"""Predictors of kind boosting and searches of settings: what a schema may not ask of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import image_schema, minimal_schema, write_schema

from osml.errors import SchemaError
from osml.schema import crosscheck_tabular
from osml.schema.load import load_schema

Data = dict[str, Any]


def trees(**keys: Any) -> Data:
    return {"kind": "boosting", "inputs": ["age", "sex"], **keys}


def study(block: Data, *, inner: bool = True, base: Callable[[], Data] = minimal_schema) -> Data:
    data = copy.deepcopy(base())
    data["predictors"]["trees"] = block
    if not inner:
        data["validation"]["inner"] = "none"
        data["predictors"] = {"clinical": {"kind": "nomogram", "inputs": ["age"]}, "trees": block}
    return data


def refused(folder: Path, data: Data) -> str:
    with pytest.raises(SchemaError) as caught:
        load_schema(write_schema(folder, data))
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "said", "hint"),
    [
        (study(trees(), inner=False), "predictors.trees: the number of trees is found on inner folds", "Give `rounds`"),
        (study(trees(rounds=9, calibrate=True), inner=False), "trees.calibrate: calibrate learns from inner", "inner:"),
        (
            study(trees(rounds=9, search={}), inner=False),
            "trees.search: settings are judged on inner folds",
            "Remove it",
        ),
        (
            study({"kind": "network", "inputs": ["age"], "search": {"trials": 3}}, inner=False),
            "trees.search: settings are judged on inner folds",
            "Remove it",
        ),
        (study(trees(inputs=["age", "rad"]), base=image_schema), "'rad' is harmonised over sites", ""),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, data: Data, said: str, hint: str) -> None:
    message = refused(tmp_path, data)
    assert message.startswith("1 problem"), message
    assert said in message
    assert hint in message.partition(said)[2]


def test_volumes_need_a_mask(tmp_path: Path) -> None:
    data = study(trees(inputs=["age", "ct"]))
    data["inputs"]["ct"] = {"kind": "volume", "available": "visit"}
    message = refused(tmp_path, data)
    assert "'ct' has no mask: its vectors are of the slices in which the lesion is largest" in message


@pytest.mark.parametrize(("package", "block"), [("lightgbm", trees()), ("optuna", trees(search={}))])
def test_an_absent_package_is_said_before_a_study_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, block: Data
) -> None:
    plain = crosscheck_tabular.find_spec
    monkeypatch.setattr(crosscheck_tabular, "find_spec", lambda name: None if name == package else plain(name))
    message = refused(tmp_path, study(block))
    assert f"{package} is not installed" in message
    assert "pip install 'osml[automl]'" in message


def test_without_inner_folds_a_stated_number_is_enough(tmp_path: Path) -> None:
    schema = load_schema(write_schema(tmp_path, study(trees(rounds=9), inner=False))).schema
    assert schema.predictors["trees"].kind == "boosting"


def test_fewer_than_two_trials_are_no_search(tmp_path: Path) -> None:
    assert "trees.search.trials" in refused(tmp_path, study(trees(search={"trials": 1})))
