"""Settings that would load and then do nothing are refused, each at its own place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import minimal_schema, write_schema

from osml.errors import SchemaError
from osml.schema.load import load_schema

Data = dict[str, Any]


def _data() -> Data:
    """Two predictors, the second fed by the first, and a lab with a constant range."""
    data = minimal_schema()
    data["inputs"]["alp"] = {"kind": "lab", "unit": "U/L", "kit": {"low": 40, "high": 120}, "available": "visit"}
    data["predictors"]["second"] = {"kind": "nomogram", "inputs": ["clinical", "alp"]}
    return data


def _with(folder: Path, change: Callable[[Data], Any]) -> Path:
    data = _data()
    change(data)
    return write_schema(folder, data)


SCORE = "'clinical' is the score of a predictor; scores enter linearly\n      Remove 'clinical' from"
FIRTH = "selects by maximum likelihood, which firth is there to avoid\n      Use `select: none` or `select: lasso`"
ADVICE = "a comparison needs two predictors\n      Name another, or remove this key."


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda d: d["predictors"]["second"].update(terms={"clinical": "log"}), f"second.terms.clinical: {SCORE}"),
        (lambda d: d["predictors"]["second"].update(terms={"clinical": {"rcs": 3}}), f"second.terms.clinical: {SCORE}"),
        (lambda d: d["predictors"]["second"].update(encode={"clinical": "uln"}), f"second.encode.clinical: {SCORE}"),
        (
            lambda d: d["inputs"]["alp"]["kit"].update(by={"sex": "sex"}),
            "inputs.alp.kit.by: `low` and `high` hold for all patients; only `bands` look at `by`",
        ),
        (lambda d: d.update(report={"compare": ["clinical"]}), f"report.compare: {ADVICE}"),
        (
            lambda d: d.update(report={"compare": ["clinical", "second", "clinical"]}),
            "report.compare.2: 'clinical' stands twice",
        ),
        (
            lambda d: d.update(report={"adds": [["clinical", "secnd"]]}),
            "study.yaml:53: report.adds.0.1: there is no predictor 'secnd'",
        ),
        (lambda d: d.update(report={"adds": [["second", "second"]]}), "report.adds.0: 'second' cannot add to itself"),
        (
            lambda d: d.update(report={"adds": [["clinical", "second"], ["clinical", "second"]]}),
            "report.adds.1: [clinical, second] stands twice",
        ),
        (
            lambda d: d["predictors"]["clinical"].update(estimator="firth", select="backward"),
            f"predictors.clinical.select: 'backward' {FIRTH}",
        ),
        (
            lambda d: d["predictors"]["clinical"].update(estimator="firth", select="univariable"),
            f"predictors.clinical.select: 'univariable' {FIRTH}",
        ),
    ],
)
def test_settings_that_would_be_ignored(tmp_path: Path, change: Callable[[Data], Any], said: str) -> None:
    with pytest.raises(SchemaError) as caught:
        load_schema(_with(tmp_path, change))
    message = str(caught.value)
    assert message.startswith("1 problem in study.yaml")
    assert said in message


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["predictors"]["second"].update(terms={"alp": "log"}, encode={"alp": "uln"}),
        lambda d: d["inputs"]["alp"].update(
            kit={"by": {"sex": "sex"}, "bands": [{"sex": "male", "low": 40, "high": 120}]}
        ),
        lambda d: d["inputs"]["alp"].update(kit={"bands": [{"low": 40, "high": 120}]}),
        lambda d: d.update(report={"compare": ["clinical", "second"]}),
        lambda d: d.update(report={"compare": []}),
        lambda d: d["predictors"]["clinical"].update(estimator="firth", select="lasso"),
        lambda d: d["predictors"]["clinical"].update(estimator="firth"),
        lambda d: d["predictors"]["clinical"].update(select="backward"),
    ],
)
def test_their_neighbours_load(tmp_path: Path, change: Callable[[Data], Any]) -> None:
    data = _data()
    change(data)
    loaded = load_schema(write_schema(tmp_path, data)).schema.model_dump(mode="json", exclude_unset=True)
    assert (loaded["predictors"], loaded.get("report")) == (data["predictors"], data.get("report"))
