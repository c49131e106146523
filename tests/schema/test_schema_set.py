"""--set: one key overridden from the command line, with errors that name the option instead of a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import minimal_schema, write_schema

from osml.errors import SchemaError
from osml.schema.load import LoadedSchema, load_schema


def _load(folder: Path, *overrides: str) -> LoadedSchema:
    return load_schema(write_schema(folder, minimal_schema()), overrides)


def _error(folder: Path, *overrides: str) -> str:
    with pytest.raises(SchemaError) as caught:
        _load(folder, *overrides)
    return str(caught.value)


def test_values_are_read_as_yaml(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path, "validation.seed=9", "validation.split.folds=3", "inputs.age.limits=[0, 110]", "name = other",
        "predictors.clinical.terms={age: log}", "cohort.missing=['', NA]", "inputs.sex.levels=[no, 01]",
    )  # fmt: skip
    schema = loaded.schema
    assert schema.validation.seed == 9
    assert schema.validation.split.model_dump() == {"kind": "kfold", "folds": 3, "repeats": 1}
    assert schema.inputs["age"].model_dump()["limits"] == (0.0, 110.0)
    assert schema.inputs["sex"].model_dump()["levels"] == ("no", "01")
    assert schema.predictors["clinical"].terms == {"age": "log"}
    assert schema.cohort.missing == ("", "NA")
    assert schema.name == "other"


def test_an_item_of_a_list(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "times.1=after_surgery")
    assert loaded.schema.times == ("visit", "after_surgery")


@pytest.mark.parametrize("override, value", [("validation.inner.folds=3", 3), ("missing=impute", "impute")])
def test_keys_with_defaults_need_not_be_written(tmp_path: Path, override: str, value: object) -> None:
    schema = _load(tmp_path, override).schema
    inner = schema.validation.inner
    assert value in (schema.missing, getattr(inner, "folds", None))


def test_blocks_that_the_schema_knows_are_begun(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path, "study.sampling=case_control", "study.prevalence.value=0.1", "study.prevalence.source=registry"
    )
    prevalence = loaded.schema.study.prevalence
    assert prevalence is not None
    assert (prevalence.value, prevalence.source) == (0.1, "registry")
    message = _error(tmp_path, "study.prevalence.value=0.1")
    assert "--set study.prevalence.value: study.prevalence: key 'source' is missing" in message


@pytest.mark.parametrize(
    "override, said",
    [
        ("predictors.clinicl.select=none", "there is no block 'predictors.clinicl'\n  Did you mean 'clinical'?"),
        ("validaton.seed=1", "there is no block 'validaton'\n  Did you mean 'validation'?"),
        ("inputs.agee.unit=month", "there is no block 'inputs.agee'\n  Did you mean 'age'?"),
        ("name.x=1", "'name' is one value, not a block of keys"),
        ("times.x.y=1", "there is no block 'times.x'"),
        ("times.7=later", "the list 'times' has 2 items, counted from 0; no '7'"),
        ("times.last=later", "the list 'times' has 2 items, counted from 0; no 'last'"),
        ("seed", "is not of the form a.b=value"),
        ("=3", "is not of the form a.b=value"),
        ("a..b=3", "is not of the form a.b=value"),
        ("validation.seed=[1", "--set validation.seed:1: not valid YAML"),
    ],
)
def test_overrides_that_lead_nowhere(tmp_path: Path, override: str, said: str) -> None:
    message = _error(tmp_path, override)
    assert said in message
    assert "--set" in message


@pytest.mark.parametrize(
    "override, said",
    [
        ("validation.seed=abc", "--set validation.seed: validation.seed: must be a whole number, not 'abc'"),
        ("validation.sed=1", "--set validation.sed: validation.sed: unknown key 'sed'"),
        ("study.sampling=cohrt", "--set study.sampling: study.sampling: 'cohrt' is not allowed here"),
        ("study={sampling: cohrt}", "--set study: study.sampling: 'cohrt' is not allowed here"),
        (
            "predictors.clinical.inputs=[aeg]",
            "--set predictors.clinical.inputs: predictors.clinical.inputs.0: there is no",
        ),
        (
            "validation.split={kind: kfold, kind: time}",
            "--set validation.split: validation.split.kind: key 'kind' is written",
        ),
        ("study.title=!custom x", "--set study.title: study.title: tag !custom is not allowed"),
        ("validation=", "--set validation: validation: must be a block"),
    ],
)
def test_wrong_values_name_the_option(tmp_path: Path, override: str, said: str) -> None:
    assert said in _error(tmp_path, override)


def test_a_block_that_is_empty_in_the_file(tmp_path: Path) -> None:
    data = minimal_schema() | {"report": None}
    data["predictors"]["second"] = {"kind": "nomogram", "inputs": ["age"]}
    loaded = load_schema(write_schema(tmp_path, data), ["report.compare=[clinical, second]"])
    assert loaded.schema.report.compare == ("clinical", "second")
