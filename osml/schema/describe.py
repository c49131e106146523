"""The schema printed: as JSON Schema for editors, or as a plain list of keys for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from osml.schema.model import Schema


def json_schema() -> str:
    """JSON Schema of version 1, for completion in an editor."""
    return json.dumps(Schema.model_json_schema(), indent=1, ensure_ascii=False)


def describe() -> str:
    """Every block and key with its meaning and default, one line each."""
    root = Schema.model_json_schema()
    return "\n".join(_block("schema (top level)", root, root, set()))


def _block(title: str, node: Mapping[str, Any], root: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    required = set(node.get("required", ()))
    yield title + (f"   {_first_line(node['description'])}" if "description" in node else "")
    below: list[str] = []
    for key, field in node.get("properties", {}).items():
        shown = "" if key in required else f" [{json.dumps(field['default'])}]" if "default" in field else " [optional]"
        meaning = field.get("description", "")
        if "const" in field:
            shown, meaning = f" = {field['const']}", meaning
        if "enum" in field:
            meaning = f"{' | '.join(map(str, field['enum']))}. {meaning}"
        yield f"  {key}{shown}   {meaning}".rstrip()
        below += _references(field)
    yield ""
    for name in dict.fromkeys(below):
        if name not in seen:
            seen.add(name)
            yield from _block(name, root["$defs"][name], root, seen)


def _references(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        own = [str(node["$ref"]).rsplit("/", 1)[-1]] if "$ref" in node else []
        return own + [name for value in node.values() for name in _references(value)]
    if isinstance(node, list):
        return [name for value in node for name in _references(value)]
    return []


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
