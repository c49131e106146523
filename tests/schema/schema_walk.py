"""Every key of the schema, with a document in which it is written: what the typo tests are run over."""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterator
from typing import Any

from helpers import (
    autogluon_schema,
    full_schema,
    image_schema,
    minimal_schema,
    network_schema,
    score_schema,
    slide_schema,
    survival_target,
    tabular_schema,
)
from pydantic import BaseModel

from osml.schema.model import Schema

Path = tuple[str | int, ...]


def documents() -> list[dict[str, Any]]:
    """Valid schemas that together write every key of every block."""
    survival = minimal_schema()
    survival["target"] = survival_target(positive="1", negative="0", censor_at=60, competing=["relapse"])
    classes = network_schema()
    classes["target"] = {"kind": "multiclass", "column": "tissue", "classes": ["bone", "cartilage", "fat"]}
    classes["predictors"] = {"flat": classes["predictors"]["flat"]}
    out = [full_schema(), survival, image_schema(), network_schema(), classes, tabular_schema(), autogluon_schema()]
    out += [slide_schema(), score_schema()]
    splits = [
        {"kind": "leave_one_patient_out"},
        {"kind": "leave_one_group_out", "column": "centre"},
        {"kind": "time", "column": "date", "test_from": "2020-01-01"},
        {"kind": "holdout", "column": "part", "test": "test"},
    ]
    for split in splits:
        data = minimal_schema()
        data["validation"]["split"] = split
        out.append(data)
    return out


def blocks() -> dict[str, type[BaseModel]]:
    """Every block class reachable from `Schema`."""
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation.__name__ not in found:
                found[annotation.__name__] = annotation
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for part in typing.get_args(annotation):
            visit(part)

    visit(Schema)
    return found


def written_keys() -> list[tuple[str, str, int, Path]]:
    """(block, key, number of the document, path) of every key that a document writes, each key of a block once."""
    seen: set[tuple[str, str]] = set()
    out: list[tuple[str, str, int, Path]] = []
    for number, data in enumerate(documents()):
        for block, path in _walk(Schema.model_validate(data), ()):
            for key in _at(data, path):
                if (block, key) not in seen:
                    seen.add((block, key))
                    out.append((block, key, number, (*path, key)))
    return out


def _walk(value: Any, path: Path) -> Iterator[tuple[str, Path]]:
    if isinstance(value, BaseModel):
        yield type(value).__name__, path
        for name in sorted(value.model_fields_set):
            yield from _walk(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(item, (*path, name))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _walk(item, (*path, i))


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def renamed(data: dict[str, Any], path: Path, new: str) -> dict[str, Any]:
    """A copy with the last key of `path` renamed in its place."""
    out = copy.deepcopy(data)
    block = _at(out, path[:-1])
    pairs = [(new if key == path[-1] else key, item) for key, item in block.items()]
    block.clear()
    block.update(pairs)
    return out


def replaced(data: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with another value at `path`."""
    out = copy.deepcopy(data)
    _at(out, path[:-1])[path[-1]] = value
    return out
