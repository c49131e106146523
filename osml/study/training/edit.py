"""Change one place of a schema's text: comments, order and spelling of all other places stay as they are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from osml.cohort.columns import Seen
from osml.errors import SchemaError
from osml.schema.document import Key, read_document
from osml.schema.model import AUTO

ASK = "?"
Path = tuple[Key, ...]
_NUMERIC = ("column", "label", "available", "unit", "limits", "censored", "table_unit")
_KEYS = {
    "number": _NUMERIC,
    "lab": (*_NUMERIC, "kit"),
    "binary": ("column", "label", "available", "levels"),
    "category": ("column", "label", "available", "levels", "groups"),
    "image": ("column", "label", "available", "mask", "several", "orientation", "mpp"),
    "volume": ("column", "label", "available", "mask", "body"),
}


def set_value(text: str, path: Path, value: Any) -> str:
    """The text with one value written; None removes the key. Blocks on the way are begun.

    >>> print(set_value("a: 1  # one\\nb: {c: x}\\n", ("b", "c"), "no"), end="")
    a: 1  # one
    b: {c: no}
    """
    data = _loaded(text)
    _put(data, path, value)
    return _dumped(data)


def set_target(text: str, kind: str, seen: Mapping[str, Seen]) -> str:
    """Another kind of outcome: what still fits is kept, the rest is asked."""
    data = _loaded(text)
    old = data.get("target") if isinstance(data.get("target"), dict) else {}
    column = old.get("column", ASK)
    blocks: dict[str, dict[str, Any]] = {
        "binary": {"kind": kind, "column": column, "positive": ASK},
        "survival": {
            "kind": kind, "time": ASK, "event": column, "positive": ASK, "unit": ASK, "horizons": [ASK],
            "competing": ASK,
        },
        "multiclass": {"kind": kind, "column": column, "classes": list(seen[column].levels) if column in seen else ASK},
    }  # fmt: skip
    data["target"] = _made(blocks[kind])
    return _dumped(data)


def set_input_kind(text: str, name: str, kind: str, seen: Seen | None) -> str:
    """Another kind of an input: keys that it cannot have go, those that it needs are filled from the table or asked."""
    data = _loaded(text)
    block = data["inputs"][name]
    for key in [key for key in block if key != "kind" and key not in _KEYS[kind]]:
        del block[key]
    block["kind"] = kind
    if kind in ("binary", "category"):
        block["levels"] = _made(list(seen.levels) if seen is not None and seen.levels else [ASK, ASK])
    if kind == "lab" and "unit" not in block:
        block["unit"] = ASK
    return _dumped(data)


def leave_out(text: str, name: str) -> tuple[str, dict[str, Any]]:
    """The text without an input, and what stood there: the block as plain data, and the predictors that read it."""
    kept = read_document(text, "schema.yaml").data["inputs"][name]
    data = _loaded(text)
    readers = []
    for predictor, block in _predictors(data).items():
        if name in block.get("inputs", ()):
            readers.append(predictor)
            block["inputs"].remove(name)
    del data["inputs"][name]
    return _dumped(data), {"block": _plain(kept), "readers": readers}


def take_back(text: str, name: str, aside: Mapping[str, Any]) -> str:
    """An input that was left out, as it stood."""
    data = _loaded(text)
    data["inputs"][name] = _made(aside["block"])
    for predictor, block in _predictors(data).items():
        if predictor in aside["readers"] and name not in block.get("inputs", ()):
            block["inputs"].append(name)
    return _dumped(data)


def set_models(text: str, choice: str) -> str:
    """The predictors: `auto`, or one of each named kind over all inputs that it can read.

    choice : auto, or kinds joined by "+": nomogram, boosting, network, radscore
    """
    data = _loaded(text)
    if choice == AUTO:
        data["predictors"] = AUTO
        data.pop("report", None)
        return _dumped(data)
    kinds = {name: str(block.get("kind", "")) for name, block in data.get("inputs", {}).items()}
    table = [name for name, kind in kinds.items() if kind in ("number", "lab", "binary", "category", ASK)]
    images = [name for name, kind in kinds.items() if kind in ("image", "volume")]
    radiomics = [name for name, kind in kinds.items() if kind == "radiomics"]
    wanted = choice.split("+")
    blocks: dict[str, Any] = {}
    scores = []
    if "radscore" in wanted and radiomics:
        blocks["radscore"] = {"kind": "radscore", "inputs": radiomics}
        scores = ["radscore"]
    if "nomogram" in wanted and (table or scores):
        blocks["clinical"] = {"kind": "nomogram", "inputs": [*table, *scores]}
    if "boosting" in wanted:
        blocks["boosted"] = {"kind": "boosting", "inputs": [*table, *radiomics]}
    if "network" in wanted:
        blocks["network"] = {"kind": "network", "inputs": [*table, *images, *radiomics]}
    data["predictors"] = _made({name: block for name, block in blocks.items() if block["inputs"]})
    data.pop("report", None)
    return _dumped(data)


def add_images(text: str, kinds: Mapping[str, str]) -> str:
    """Image columns as inputs; a column named like a mask becomes that of the only image there is.

    kinds : column → volume, image or "?"
    """
    data = _loaded(text)
    masks = [column for column in kinds if any(word in column.lower() for word in ("mask", "seg", "roi"))]
    pictures = [column for column in kinds if column not in masks] or list(kinds)
    for column in pictures:
        name = _free("".join(c if c.isalnum() and c.isascii() else "_" for c in column).strip("_") or "image", data)
        block: dict[str, Any] = {"kind": kinds[column], "column": column}
        if masks and len(pictures) == 1:
            block["mask"] = {"column": masks[0]}
        data["inputs"][name] = _made(block | {"available": ASK})
        if "mask" in block:
            data["inputs"][_free(f"{name}_radiomics", data)] = _made({"kind": "radiomics", "of": name})
    radiomics = [name for name, block in data["inputs"].items() if block.get("kind") == "radiomics"]
    text = _dumped(data)
    return set_models(text, "radscore+nomogram" if radiomics else "nomogram+network")


def _free(name: str, data: Mapping[str, Any]) -> str:
    number, out = 2, name if name[0].isalpha() else f"image_{name}"
    start = out
    while out in data["inputs"]:
        out, number = f"{start}_{number}", number + 1
    return out


def _predictors(data: Mapping[str, Any]) -> dict[str, Any]:
    found = data.get("predictors")
    return found if isinstance(found, dict) else {}


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _loaded(text: str) -> Any:
    read_document(text, "schema.yaml")  # refuses what is no schema, alias bombs and tags among it
    return _yaml().load(text)


def _dumped(data: Any) -> str:
    stream = io.StringIO()
    _yaml().dump(data, stream)
    return stream.getvalue()


def _made(value: Any) -> Any:
    """Plain data as it is written by hand: blocks on lines of their own, lists and small blocks in one."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, dict):
        out = CommentedMap((key, _made(item)) for key, item in value.items())
        if len(out) <= 2 and not any(isinstance(item, (dict, list)) for item in value.values()) and "kind" not in value:
            out.fa.set_flow_style()
        return out
    if isinstance(value, (list, tuple)):
        items = CommentedSeq([_made(item) for item in value])
        items.fa.set_flow_style()
        return items
    return DoubleQuotedScalarString(value) if value == ASK else value


def _plain(value: Any) -> Any:
    """Data of a document as JSON can hold it; scalars as they were written where that is a text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if getattr(value, "text", "").lower() in ("true", "false"):
        return bool(value)
    return int(value) if isinstance(value, int) else float(value)


def _put(data: Any, path: Path, value: Any) -> None:
    here: Any = data
    for step in path[:-1]:
        inside = here.get(step) if isinstance(here, dict) else here[step]
        if not isinstance(inside, (dict, list)):
            if inside is not None and not isinstance(here, dict):
                raise SchemaError(f"{step!r} is one value, not a block")
            inside = here[step] = _made({})
            inside.fa.set_block_style()
        here = inside
    last = path[-1]
    if value is None:
        if isinstance(here, dict):
            here.pop(last, None)
        return
    if isinstance(here, dict) and last in here and isinstance(here[last], str) and isinstance(value, str):
        here[last] = value if value != ASK else _made(value)  # without the quotes that the question had
        return
    here[last] = _made(value)
