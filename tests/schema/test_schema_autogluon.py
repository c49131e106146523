"""Mistakes about AutoGluon in a schema: where they stand, and what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import autogluon_schema, network_schema, survival_target, write_schema

from osml.errors import SchemaError
from osml.schema import crosscheck_autogluon
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.load import load_schema

Data = dict[str, Any]


def written(folder: Path, change: Callable[[Data], object], data: Data | None = None) -> Path:
    data = copy.deepcopy(autogluon_schema() if data is None else data)
    change(data)
    return write_schema(folder, data)


def refused(folder: Path, change: Callable[[Data], object], data: Data | None = None) -> tuple[str, list[str]]:
    """The error, and the lines of the schema."""
    path = written(folder, change, data)
    with pytest.raises(SchemaError) as error:
        load_schema(path)
    return str(error.value), path.read_text(encoding="utf-8").splitlines()


def line_of(lines: list[str], start: str, after: str = "  many:") -> int:
    return next(i for i, line in enumerate(lines) if i > lines.index(after) and line.strip().startswith(start)) + 1


def test_it_loads_with_its_defaults(tmp_path: Path) -> None:
    def plain(data: Data) -> None:
        data["predictors"]["many"] = {"kind": "autogluon", "inputs": ["age", "sex"]}

    block = load_schema(written(tmp_path, plain)).schema.predictors["many"]
    assert isinstance(block, AutogluonPredictor)
    assert (block.presets, block.time_limit, block.memory_limit, block.calibrate) == ("small_n", None, 4.0, True)


def test_survival_is_refused_where_it_stands(tmp_path: Path) -> None:
    def survival(data: Data) -> None:
        data["target"] = survival_target()

    told, lines = refused(tmp_path, survival)
    assert f"study.yaml:{line_of(lines, 'kind:')}: " in told
    assert "AutoGluon has no objective for censored times" in told
    assert "Use `kind: nomogram`, `boosting` or `network`." in told


@pytest.mark.parametrize("presets", ["high_quality", "best_quality"])
def test_large_portfolios_need_a_time_limit(tmp_path: Path, presets: str) -> None:
    def unlimited(data: Data) -> None:
        data["predictors"]["many"] |= {"presets": presets}
        del data["predictors"]["many"]["time_limit"]

    told, lines = refused(tmp_path, unlimited)
    assert f"study.yaml:{line_of(lines, 'presets:')}: " in told
    assert f"{presets} tries 34 models" in told


@pytest.mark.parametrize(
    "presets", ["extreme_quality", "interpretable", "best_quality_v150", "optimize_for_deployment"]
)
def test_presets_that_do_not_run_offline_are_unknown(tmp_path: Path, presets: str) -> None:
    told, _ = refused(tmp_path, lambda data: data["predictors"]["many"].update(presets=presets))
    assert presets in told
    assert "small_n" in told


@pytest.mark.parametrize("limit", [9, 0, -5, 12.5, "1h"])
def test_time_limits_are_seconds(tmp_path: Path, limit: Any) -> None:
    told, _ = refused(tmp_path, lambda data: data["predictors"]["many"].update(time_limit=limit))
    assert "time_limit" in told


def test_bags_need_inner_folds(tmp_path: Path) -> None:
    def no_inner(data: Data) -> None:
        data["predictors"]["many"]["inputs"] = ["age", "sex"]
        data["validation"]["inner"] = "none"

    told, _ = refused(tmp_path, no_inner)
    assert "its models are bagged over inner folds of patients, but `validation.inner` is none" in told


def test_absent_packages_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object:
        if name.startswith("autogluon"):
            raise ModuleNotFoundError("No module named 'autogluon'")
        return None

    monkeypatch.setattr(crosscheck_autogluon, "find_spec", find_spec)
    told, lines = refused(tmp_path, lambda data: None)
    assert f"study.yaml:{line_of(lines, 'kind:')}: " in told
    assert "autogluon.tabular and lightgbm are not installed; this kind needs it" in told
    assert "pip install 'osml[autogluon]'" in told


def test_images_need_what_they_need_elsewhere(tmp_path: Path) -> None:
    def volume(data: Data) -> None:
        data["inputs"]["t2"] = {"kind": "volume", "column": "t2", "available": "visit"}
        data["predictors"]["many"] = {"kind": "autogluon", "inputs": ["age", "t2"]}

    told, _ = refused(tmp_path, volume)
    assert "'t2' has no mask: its vectors are of the slices in which the lesion is largest" in told

    def harmonised(data: Data) -> None:
        data["cohort"]["site"] = "centre"
        data["inputs"]["nuclei"]["harmonise"] = "combat"
        data["predictors"] = {"many": {"kind": "autogluon", "inputs": ["age", "nuclei"]}}

    told, _ = refused(tmp_path, harmonised, network_schema())
    assert "'nuclei' is harmonised over sites, which only Rad-scores do" in told
