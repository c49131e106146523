"""A typo anywhere in a schema is refused with the line it stands on and the word that was meant."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from helpers import write_schema
from schema_walk import blocks, documents, renamed, replaced, written_keys

from osml.errors import SchemaError
from osml.schema.load import load_schema

KEYS = written_keys()


def _line_of(path: Path, text: str) -> int:
    hits = [
        i for i, line in enumerate(path.read_text().splitlines(), start=1) if re.search(rf"\b{re.escape(text)}\b", line)
    ]
    assert len(hits) == 1, f"{text!r} must stand on one line, found {hits}"
    return hits[0]


def _error(path: Path) -> str:
    with pytest.raises(SchemaError) as caught:
        load_schema(path)
    return str(caught.value)


def test_the_documents_write_every_key_of_every_block() -> None:
    known = {(name, key) for name, block in blocks().items() for key in block.model_fields}
    assert known - {(block, key) for block, key, _, _ in KEYS} == set()


@pytest.mark.parametrize("block, key, number, path", KEYS, ids=[f"{b}.{k}" for b, k, _, _ in KEYS])
def test_misspelt_key(tmp_path: Path, block: str, key: str, number: int, path: tuple[Any, ...]) -> None:
    wrong = key + key[-1]
    file = write_schema(tmp_path, renamed(documents()[number], path, wrong))
    message = _error(file)
    line = _line_of(file, wrong)
    dotted = ".".join(str(part) for part in (*path[:-1], wrong))
    assert f"study.yaml:{line}: {dotted}: unknown key {wrong!r}; unknown keys are never ignored" in message
    after = message.split(f"unknown key {wrong!r}", 1)[1].splitlines()[1]
    assert after.strip().startswith(f"Did you mean {key!r}? Allowed: "), message


def _choices() -> list[tuple[str, str, int, tuple[Any, ...], tuple[str, ...]]]:
    """Keys whose values are words of a fixed list, kinds among them."""
    out = []
    for block, key, number, path in KEYS:
        annotation = blocks()[block].model_fields[key].annotation
        words = _words(annotation)
        if words and not _takes_any_text(annotation):
            out.append((block, key, number, path, words))
    return out


def _words(annotation: Any) -> tuple[str, ...]:
    if typing.get_origin(annotation) is Literal:
        return tuple(word for word in typing.get_args(annotation) if isinstance(word, str))
    return tuple(word for part in typing.get_args(annotation) for word in _words(part))


def _takes_any_text(annotation: Any) -> bool:
    """Whether a text that is no word of the list is a value as well: `weights` is `hub` or the path of a file."""
    return annotation is str or (
        typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated)
        and any(_takes_any_text(part) for part in typing.get_args(annotation))
    )


CHOICES = _choices()


def test_the_walk_meets_every_kind_and_choice() -> None:
    kinds = {block for block, key, *_ in CHOICES if key == "kind"}
    assert {"BinaryTarget", "SurvivalTarget", "LabInput", "KFold", "Holdout", "NomogramPredictor"} <= kinds
    assert {"MulticlassTarget", "HierarchyTarget", "NetworkPredictor", "StackPredictor", "NodeWeights"} <= kinds
    others = {(block, key) for block, key, *_ in CHOICES if key != "kind"}
    assert {
        ("Study", "sampling"), ("Schema", "missing"), ("NomogramPredictor", "select"), ("NomogramPredictor", "terms"),
        ("SurvivalTarget", "unit"), ("Censored", "below"), ("Validation", "inner"), ("EncoderBlock", "tune"),
        ("Train", "preset"), ("NetworkPredictor", "encode"), ("NetworkPredictor", "calibrate"),
        ("RadiomicsInput", "mask"), ("RadiomicsInput", "channels"), ("ImageInput", "orientation"),
        ("StackPredictor", "method"),
    } <= others  # fmt: skip


@pytest.mark.parametrize("block, key, number, path, words", CHOICES, ids=[f"{b}.{k}" for b, k, *_ in CHOICES])
def test_misspelt_choice(
    tmp_path: Path, block: str, key: str, number: int, path: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    here: tuple[Any, ...] = path
    value = documents()[number]
    for part in path:
        value = value[part]
    if isinstance(value, dict) and key in ("terms", "encode"):
        here = (*path, next(name for name, item in value.items() if isinstance(item, str)))
    if key in ("filters", "classes", "channels"):
        here = (*path, 0)
    word = words[0]
    wrong = word + word[-1] + "q"
    file = write_schema(tmp_path, replaced(documents()[number], here, wrong))
    message = _error(file)
    line = _line_of(file, wrong)
    assert f"study.yaml:{line}: {'.'.join(map(str, here))}: " in message
    assert f"Did you mean {word!r}? Allowed: " in message, message
    assert all(other in message for other in words)


@pytest.mark.parametrize("wrong", ["KFOLD", "leave-one-patient-out", "Time"])
def test_kinds_are_found_whatever_their_case_and_hyphens(tmp_path: Path, wrong: str) -> None:
    data = replaced(documents()[0], ("validation", "split", "kind"), wrong)
    message = _error(write_schema(tmp_path, data))
    meant = {"KFOLD": "kfold", "leave-one-patient-out": "leave_one_patient_out", "Time": "time"}[wrong]
    assert f"unknown kind {wrong!r}" in message
    assert (
        f"Did you mean {meant!r}? Allowed: kfold, leave_one_patient_out, leave_one_group_out, time, holdout." in message
    )


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = documents()[0]
    for path, new in (
        (("study", "endpoint"), "endpiont"),
        (("cohort", "delimiter"), "delimeter"),
        (("inputs", "age", "limits"), "limit"),
        (("validation", "split", "repeats"), "repeat"),
    ):
        data = renamed(data, path, new)
    message = _error(write_schema(tmp_path, data))
    assert message.startswith("4 problems in study.yaml; no data was read.")
    places = [message.index(f"unknown key '{word}'") for word in ("endpiont", "delimeter", "limit", "repeat")]
    assert places == sorted(places)


def test_a_missing_key_says_what_it_is_for(tmp_path: Path) -> None:
    data = documents()[1]
    del data["study"]["sampling"]
    del data["inputs"]["age"]["available"]
    del data["target"]["horizons"]
    del data["validation"]["seed"]
    message = _error(write_schema(tmp_path, data))
    assert "study: key 'sampling' is missing" in message
    assert "case_control or enriched: probabilities are withheld until `prevalence` is given" in message
    assert (
        "inputs.age: key 'available' is missing\n      available: one of `times`: when the value is known." in message
    )
    assert "target: key 'horizons' is missing\n      horizons: times at which risk is predicted." in message
    assert "validation: key 'seed' is missing\n      seed: every random draw follows from it." in message


def test_a_missing_kind_lists_all_kinds(tmp_path: Path) -> None:
    data = documents()[0]
    del data["validation"]["split"]["kind"]
    message = _error(write_schema(tmp_path, data))
    assert "validation.split: key 'kind' is missing\n" in message
    assert "One of: kfold, leave_one_patient_out, leave_one_group_out, time, holdout." in message
