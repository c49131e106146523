"""YAML 1.2 read into plain Python values, with the line of every key, and nothing else.

ruamel parses; this module builds the values itself from the node tree, because three things are needed that a loader
does not give together: the line of every key and value, all duplicate keys rather than the first, and the source text
of each scalar (`levels: [01, 1.0]` are texts when they are compared with a table that is read as text).
No tag but the core ones is accepted, so no object can be built from a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from osml.errors import SchemaError

Key = str | int
MAX_NODES = 100_000  # an alias bomb stops here; a real schema has a few hundred
MAX_DEPTH = 50

_CORE = "tag:yaml.org,2002:"
_CORE_BLOCKS = (_CORE + "map", _CORE + "seq")
_OTHER_YAML = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*%YAML[ \t]+(?!1\.2\b)")
_INTEGER = re.compile(r"[+-]?(0x[0-9A-Fa-f_]*[0-9A-Fa-f]|0o[0-7_]*[0-7]|0b[01_]*[01]|[0-9][0-9_]{0,4000})")
_REAL = re.compile(r"[+-]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?")
_SPECIAL = {".inf": "inf", "-.inf": "-inf", "+.inf": "inf", ".nan": "nan"}


class SourceInt(int):
    """An integer that remembers how it was written."""

    text: str


class SourceFloat(float):
    """A float that remembers how it was written."""

    text: str


class SourceBool(int):
    """`true` or `false` as written; bool itself cannot carry the text."""

    text: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a schema: where, what, and what was probably meant."""

    path: tuple[Key, ...]
    message: str
    hint: str = ""


@dataclass
class Document:
    """Plain data of one YAML file and where each piece of it stands (1-based lines)."""

    name: str
    data: Any = None
    lines: dict[tuple[Key, ...], int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    origin: dict[tuple[Key, ...], str] = field(default_factory=dict)

    def where(self, path: Iterable[Key]) -> str:
        """`file:line` of the closest enclosing piece that has a line, or the --set option that wrote it."""
        parts = tuple(path)
        while True:
            if parts in self.origin:
                return self.origin[parts]
            if parts in self.lines:
                return f"{self.name}:{self.lines[parts]}"
            if not parts:
                return self.name
            parts = parts[:-1]

    def replaced(self, path: tuple[Key, ...], origin: str) -> None:
        """From now on this piece and all below it stand where `origin` says, not on a line of the file."""
        below = [known for known in self.lines if known[: len(path)] == path]
        for known in below:
            del self.lines[known]
        for known in [k for k in self.origin if k[: len(path)] == path]:
            del self.origin[known]
        self.origin[path] = origin

    def fail(self, problems: Iterable[Problem]) -> SchemaError:
        """One error that lists all problems in the order of the file."""
        unique = list(dict.fromkeys(problems))
        unique.sort(key=lambda p: self.line(p.path))
        lines = []
        for problem in unique:
            dotted = ".".join(str(part) for part in problem.path) or "(top level)"
            lines.append(f"{self.where(problem.path)}: {dotted}: {problem.message}")
            if problem.hint:
                lines.append(f"    {problem.hint}")
        n = len(unique)
        head = f"{n} problem{'s' if n != 1 else ''} in {self.name}; no data was read."
        return SchemaError(head, do="\n  ".join(lines))

    def line(self, path: tuple[Key, ...]) -> int:
        """Line of the closest enclosing piece; 0 when it has none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_document(text: str, name: str) -> Document:
    """Parse YAML text; syntax errors raise, duplicate keys and odd tags are collected in `problems`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    document = Document(name)
    if _OTHER_YAML.match(text):
        # Under 1.1, `no` would be false and 1:30 a number: the same file would mean something else.
        raise SchemaError(f"{name}: only YAML 1.2 is read", do="Remove the line that starts with %YAML.")
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SchemaError(
            f"{name}{line}: not valid YAML: {error.problem or error.context}",
            do="A '?', ':' or '[' that is meant as text must be quoted; tabs may not indent.",
        ) from None
    except YAMLError as error:
        raise SchemaError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SchemaError(f"{name}: blocks are nested too deeply to be a schema") from None
    if node is None:
        raise SchemaError(f"{name} is empty", do="`osml init table.csv` writes a commented schema to start from.")
    builder = _Builder(document)
    document.data = builder.build(node, ())
    if not isinstance(document.data, dict):
        raise SchemaError(f"{name}: the top level must be `key: value` pairs, starting with `version: 1`")
    return document


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.open: list[int] = []  # nodes being built, to meet an alias that contains itself

    def build(self, node: Any, path: tuple[Key, ...]) -> Any:
        self._count()
        lines = self.document.lines
        lines.setdefault(path, node.start_mark.line + 1)
        if node.id == "scalar":
            return self._scalar(node, path)
        if node.tag not in _CORE_BLOCKS:
            self._problem(path, f"tag {node.tag!s} is not allowed in a schema", "Remove it.")
        if node.id == "mapping":
            return self._mapping(node, path)
        self._enter(node, path)
        items = [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        self.open.pop()
        return items

    def _mapping(self, node: Any, path: tuple[Key, ...]) -> dict[str, Any]:
        self._enter(node, path)
        out: dict[str, Any] = {}
        sources: list[Any] = []
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if str(key_node.tag).endswith(":merge"):
                sources += value_node.value if value_node.id == "sequence" else [value_node]
                continue
            if key_node.id != "scalar":
                self._problem(path, f"line {line}: a key must be a plain name")
                continue
            name = str(key_node.value)
            if name in first_line:
                message = f"key {name!r} is written twice, on lines {first_line[name]} and {line}"
                self._problem((*path, name), message, "Keep one of them.")
                continue
            first_line[name] = line
            # A block that is merged in keeps the lines of the keys that override it.
            self.document.lines.setdefault((*path, name), line)
            out[name] = self.build(value_node, (*path, name))
        merged: dict[str, Any] = {}
        for source in sources:
            self._count()
            if source.id != "mapping":
                self._problem(path, "`<<:` can only merge a block of keys")
                continue
            for name, value in self._mapping(source, path).items():
                merged.setdefault(name, value)
        self.open.pop()
        return {**merged, **out}

    def _enter(self, node: Any, path: tuple[Key, ...]) -> None:
        if id(node) in self.open:
            raise SchemaError(f"{self.document.where(path)}: an alias (*) points to a block that contains it")
        if len(self.open) >= MAX_DEPTH:
            raise SchemaError(f"{self.document.where(path)}: blocks are nested too deeply to be a schema")
        self.open.append(id(node))

    def _count(self) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise SchemaError(f"{self.document.name}: more than {MAX_NODES} values after aliases are expanded")

    def _problem(self, path: tuple[Key, ...], message: str, hint: str = "") -> None:
        self.document.problems.append(Problem(path, message, hint))

    def _scalar(self, node: Any, path: tuple[Key, ...]) -> Any:
        tag, text = str(node.tag), node.value
        kind = tag.removeprefix(_CORE)
        if kind in ("str", "timestamp"):
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            flag = SourceBool(text.lower() == "true")
            flag.text = text
            return flag
        if kind == "int" and _INTEGER.fullmatch(text):
            digits = text.replace("_", "")
            sign = -1 if digits.startswith("-") else 1
            body = digits.lstrip("+-")
            base = {"0x": 16, "0o": 8, "0b": 2}.get(body[:2].lower(), 10)
            number = SourceInt(sign * int(body[2:] if base != 10 else body, base))
            number.text = text
            return number
        if kind == "float" and (text.lower() in _SPECIAL or _REAL.fullmatch(text)):
            real = SourceFloat(_SPECIAL.get(text.lower(), text.replace("_", "")))
            real.text = text
            return real
        if kind in ("bool", "int", "float"):
            self._problem(path, f"{text!r} is not a value of the tag {kind}", "Remove the tag (`!!`).")
        else:
            self._problem(path, f"tag {tag} is not allowed in a schema", "Remove it.")
        return text
