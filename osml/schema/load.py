"""Read a schema: YAML → typed `Schema`, or one error that lists every problem with file:line and what was meant."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from osml.errors import SchemaError
from osml.schema.crosscheck import UNANSWERED_MESSAGE, cross_check
from osml.schema.document import Document, Key, Problem, read_document
from osml.schema.model import AUTO, Schema
from osml.schema.suggest import closest, hint

SYNTHETIC_NOTE = "SYNTHETIC.txt"  # what `osml synth` writes beside its tables
_MOST_NOTE = 400  # characters of it that outputs repeat


@dataclass(frozen=True)
class LoadedSchema:
    """A valid schema, where it came from, and the line of each of its keys.

    auto : `predictors: auto`; they are those of a plan, and none before there is one
    """

    schema: Schema
    document: Document
    path: Path
    auto: bool = False

    def where(self, *path: Key) -> str:
        """`file:line` of a key, for later stages' errors."""
        return self.document.where(path)

    @property
    def table_path(self) -> Path:
        """The cohort's table, relative to the YAML."""
        return (self.path.parent / self.schema.cohort.table).resolve()

    @property
    def weights(self) -> tuple[Path, ...]:
        """Files of encoders' weights that the schema names, each once."""
        blocks = [encoder for block in self.schema.encoded().values() for encoder in block.encoders.values()]
        return tuple(dict.fromkeys(Path(b.weights) for b in blocks if b.weights not in (None, "hub") and b.weights))

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults included: what is stored with a run and hashed."""
        return self.schema.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the resolved schema; the spelling of the path to the table does not matter to it."""
        data = self.resolved()
        data["cohort"]["table"] = Path(data["cohort"]["table"]).name
        for predictor in data["predictors"].values():
            for encoder in predictor.get("encoders", {}).values():
                if encoder["weights"] not in (None, "hub"):
                    encoder["weights"] = Path(encoder["weights"]).name
        for score in (block for block in data["inputs"].values() if block["kind"] == "score"):
            score["bundle"], score["oof"] = Path(score["bundle"]).name, score["oof"] and Path(score["oof"]).name
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def load_schema(path: str | Path, overrides: Sequence[str] = (), plan: Document | None = None) -> LoadedSchema:
    """Read and check a schema file.

    Parameters
    ----------
    path : path of the YAML file
    overrides : `a.b=value` texts (the CLI's --set), the value read as YAML
    plan : a document with `predictors` and `report`, which a schema with `predictors: auto` takes from it

    Raises
    ------
    SchemaError
        Lists all problems: duplicate and unknown keys, wrong types, names that lead nowhere.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SchemaError(f"no schema at {path}", do="`osml init table.csv` writes one.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not UTF-8 at byte {error.start}", do="Save the file as UTF-8.") from None
    document = read_document(text, path.name)
    for override in overrides:
        _apply(document, override)
    auto = document.data.get("predictors") == AUTO
    if auto and plan is not None:
        _graft(document, plan)
    schema, problems = examine(document)
    if problems or schema is None:
        raise document.fail(problems)
    folder = path.resolve().parent
    return LoadedSchema(_with_notice(_with_weights(schema, folder), folder), document, path.resolve(), auto)


def examine(document: Document) -> tuple[Schema | None, list[Problem]]:
    """The schema that a document holds, and all that is wrong with it; None when it is no schema yet."""
    problems = list(document.problems)
    schema: Schema | None = None
    try:
        waiting = document.data.get("predictors") == AUTO
        schema = Schema.model_validate(document.data | ({"predictors": {}} if waiting else {}))
    except ValidationError as error:
        problems += _without_echoes(list(_translate(error, document.data)))
    found = cross_check(document.data)
    # "?" fits no type either; that it waits for an answer is the one thing worth saying about it.
    open_questions = {p.path for p in found if p.message == UNANSWERED_MESSAGE}
    problems = [p for p in problems if p.path not in open_questions]
    # A block that is mistyped is already reported; names inside it would only repeat that.
    failed = {problem.path for problem in problems}
    return schema, problems + [p for p in found if p.path not in failed]


def _graft(document: Document, plan: Document) -> None:
    """Put a plan's predictors into the document, and what its `report` says that the schema's own does not."""
    document.data["predictors"] = plan.data["predictors"]
    taken: list[tuple[Key, ...]] = [("predictors",)]
    own = document.data.setdefault("report", {})
    for key, value in plan.data.get("report", {}).items():
        if isinstance(own, dict) and key not in own:
            own[key] = value
            taken.append(("report", key))
    for path in taken:
        document.replaced(path, plan.name)
        below = {known: line for known, line in plan.lines.items() if known[: len(path)] == path}
        document.origin |= {known: f"{plan.name}:{line}" for known, line in below.items()}
    document.problems += plan.problems


def _with_notice(schema: Schema, folder: Path) -> Schema:
    """`study.synthetic` of a simulated table: `osml synth` leaves a note beside it, so that nobody has to remember."""
    note = (folder / schema.cohort.table).parent / SYNTHETIC_NOTE
    if schema.study.synthetic is not None or not note.is_file():
        return schema
    lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
    words = " ".join(" ".join(line for line in lines if not line.startswith("osml ")).split())
    told = words.removeprefix("Synthetic data: ").rstrip(".")[:_MOST_NOTE] or "simulated"
    return schema.model_copy(update={"study": schema.study.model_copy(update={"synthetic": told})})


def _with_weights(schema: Schema, folder: Path) -> Schema:
    """Files of weights, and what scores come from, are relative to the YAML, wherever they are read."""
    predictors, inputs = dict(schema.predictors), dict(schema.inputs)
    for name, score in schema.scores().items():
        paths = {"bundle": score.bundle, "oof": score.oof}
        places = {key: str((folder / path).resolve()) for key, path in paths.items() if path is not None}
        inputs[name] = score.model_copy(update=places)
    for name, block in schema.encoded().items():
        encoders = {
            item: encoder
            if encoder.weights in (None, "hub")
            else encoder.model_copy(update={"weights": str((folder / str(encoder.weights)).resolve())})
            for item, encoder in block.encoders.items()
        }
        predictors[name] = block.model_copy(update={"encoders": encoders})
    return schema.model_copy(update={"predictors": predictors, "inputs": inputs})


def _apply(document: Document, override: str) -> None:
    """Write one `a.b=value` into the document; a block that the schema knows is begun where it is not written yet."""
    name, sign, text = override.partition("=")
    keys = [part.strip() for part in name.split(".")]
    if not sign or not all(keys):
        raise SchemaError(f"--set {override!r} is not of the form a.b=value")
    origin = f"--set {'.'.join(keys)}"
    parsed = read_document(f"value: {text}", origin)
    block: Any = document.data
    path: list[Key] = []
    for key in keys[:-1]:
        step: Key = int(key) if isinstance(block, list) and key.isdigit() else key
        inside = _get(block, step)
        if inside is None and isinstance(block, dict) and isinstance(step, str) and _is_block((*path, step)):
            inside = block[step] = {}
            document.origin[(*path, step)] = origin
        path.append(step)
        if not isinstance(inside, (dict, list)):
            raise SchemaError(f"--set {override!r}: {_no_block(path, block, inside)}")
        block = inside
    last: Key = keys[-1]
    if isinstance(block, list):
        if not keys[-1].isdigit() or int(keys[-1]) >= len(block):
            where = ".".join(map(str, path))
            size = f"has {len(block)} items, counted from 0"
            raise SchemaError(f"--set {override!r}: the list {where!r} {size}; no {last!r}")
        last = int(keys[-1])
    block[last] = parsed.data["value"]
    path.append(last)
    document.replaced(tuple(path), origin)
    document.problems += [Problem((*path, *p.path[1:]), p.message, p.hint) for p in parsed.problems]


def _get(block: Any, key: Key) -> Any:
    if isinstance(block, list):
        return block[key] if isinstance(key, int) and key < len(block) else None
    return block.get(key)


def _no_block(path: Sequence[Key], parent: Any, value: Any) -> str:
    where = ".".join(map(str, path))
    if value is not None:
        return f"{where!r} is one value, not a block of keys"
    known = list(parent) if isinstance(parent, dict) else [str(i) for i in range(len(parent))]
    return f"there is no block {where!r}\n  {hint(str(path[-1]), known)}"


def _is_block(path: Sequence[Key]) -> bool:
    """Whether the schema has a block of fixed keys at this path."""
    root = _json_schema()
    nodes: list[Mapping[str, Any]] = [root]
    for depth, part in enumerate(path):
        options = [option for node in nodes for option in _branches(root, node)]
        nodes = [o["properties"][part] for o in options if part in o.get("properties", {})]
        if depth < len(path) - 1:  # a new predictor or input would be a misspelt one
            nodes += [o["additionalProperties"] for o in options if isinstance(o.get("additionalProperties"), dict)]
    return any("properties" in option for node in nodes for option in _branches(root, node))


def _translate(error: ValidationError, data: Any) -> Iterable[Problem]:
    """pydantic's findings in the words of a person who reads YAML."""
    for item in error.errors():
        path = _yaml_path(item["loc"], data)
        kind, context = item["type"], item.get("ctx", {})
        last = str(path[-1]) if path else ""
        if kind == "extra_forbidden":
            allowed = _allowed_keys(item["loc"][:-1])
            yield Problem(path, f"unknown key {last!r}; unknown keys are never ignored", hint(last, allowed))
        elif kind == "missing" and isinstance(item["loc"][-1], int):
            yield Problem(path, f"item {item['loc'][-1] + 1} of the list is missing")
        elif kind == "missing":
            yield Problem(path[:-1] or path, f"key {last!r} is missing", _describe(item["loc"]))
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tags = _tags(item["loc"])
            block = _inside(data, path)
            near = [key for key in block if closest(key, ["kind"])] if isinstance(block, dict) else []
            if kind == "union_tag_invalid" and isinstance(block, dict):
                tag = getattr(block["kind"], "text", block["kind"])
                yield Problem((*path, "kind"), f"unknown kind {tag!r}", hint(str(tag), tags))
            elif near:
                message = f"unknown key {near[0]!r}; unknown keys are never ignored"
                yield Problem((*path, near[0]), message, hint(near[0], ["kind"]))
            else:
                yield Problem(path, "key 'kind' is missing", f"One of: {', '.join(tags)}.")
        elif kind == "literal_error":
            expected = re.findall(r"'([^']*)'", str(context["expected"])) or [str(context["expected"])]
            yield Problem(path, f"{item['input']!r} is not allowed here", hint(str(item["input"]), expected))
        elif kind == "value_error":
            yield Problem(path, str(context.get("error", item["msg"])))
        elif kind == "string_pattern_mismatch":
            yield Problem(
                path,
                f"{item['input']!r}: only letters a to z, digits, '.', '_' and '-', beginning with a letter or digit",
            )
        elif kind in ("dict_type", "model_type", "model_attributes_type"):
            yield Problem(path, _NO_BLOCK)
        elif kind in ("list_type", "tuple_type"):
            yield Problem(path, "must be a list, [a, b]")
        else:
            yield Problem(path, _lower(item["msg"]))


_NO_BLOCK = "must be a block of `key: value` pairs"


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """A value that fits no branch of a union is reported by every branch: keep the branch that was meant."""
    kept = []
    for problem in problems:
        deeper = any(o.path[: len(problem.path)] == problem.path and len(o.path) > len(problem.path) for o in problems)
        others = any(o.path == problem.path and o.message != _NO_BLOCK for o in problems)
        if (deeper and problem.message.endswith("is not allowed here")) or (problem.message == _NO_BLOCK and others):
            continue
        kept.append(problem)
    return kept


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _yaml_path(loc: tuple[Key, ...], data: Any) -> tuple[Key, ...]:
    """Drop the parts of pydantic's path that name a union's branch, not a key."""
    path: list[Key] = []
    here = data
    for position, part in enumerate(loc):
        final = position == len(loc) - 1
        known = isinstance(here, dict) and part in here
        if known or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            path.append(part)
            here = here[part]
        elif final and isinstance(part, str) and isinstance(here, dict) and not _is_branch(part):
            path.append(part)
    return tuple(path)


def _is_branch(part: str) -> bool:
    return "[" in part or part in ("Rcs", "Inner", "ColumnUnit", "function-before", "str", "float")


@functools.cache
def _json_schema() -> Mapping[str, Any]:
    return Schema.model_json_schema()


def _options(loc: Sequence[Key]) -> list[Mapping[str, Any]]:
    """JSON Schemas that may stand at pydantic's path, following references and union branches."""
    root = _json_schema()
    here: list[Mapping[str, Any]] = _branches(root, root)
    for part in loc:
        found: Mapping[str, Any] | None = None
        for option in here:
            properties = option.get("properties", {})
            if part in properties:
                found = properties[part]
            elif properties.get("kind", {}).get("const") == part or option.get("title") == part:
                found = option
            elif isinstance(part, int) and ("items" in option or "prefixItems" in option):
                found = option.get("items") or option["prefixItems"][0]
            elif isinstance(option.get("additionalProperties"), dict):
                found = option["additionalProperties"]
            if found is not None:
                break
        if found is None:
            return []
        here = _branches(root, found)
    return here


def _definition(loc: Sequence[Key]) -> Mapping[str, Any]:
    return next((option for option in _options(loc) if "properties" in option), {})


def _branches(root: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in node:
        return _branches(root, root["$defs"][str(node["$ref"]).rsplit("/", 1)[-1]])
    out: list[Mapping[str, Any]] = []
    for word in ("anyOf", "oneOf"):
        for option in node.get(word, ()):
            out += _branches(root, option)
    return out or [node]


def _allowed_keys(loc: Sequence[Key]) -> list[str]:
    return list(_definition(loc).get("properties", {}))


def _describe(loc: Sequence[Key]) -> str:
    text = str(_definition(loc[:-1]).get("properties", {}).get(loc[-1], {}).get("description", ""))
    return f"{loc[-1]}: {text}." if text else ""


def _tags(loc: Sequence[Key]) -> list[str]:
    blocks = [option.get("properties", {}) for option in _options(loc)]
    return [str(block["kind"]["const"]) for block in blocks if "const" in block.get("kind", {})]


def _inside(data: Any, path: Sequence[Key]) -> Any:
    for part in path:
        data = data[part]
    return data
