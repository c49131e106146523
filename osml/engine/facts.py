"""What must be the same on every machine that runs tasks: the code, and the files."""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

# Packages whose versions decide the last digits of results.
_PACKAGES = ("numpy", "scipy", "pandas", "torch", "timm", "lightgbm", "SimpleITK")


@dataclass(frozen=True)
class Facts:
    """Of the machine that asks; to be found again on the one that works.

    versions : of Python, osml (with a hash of its sources) and packages; "" = not installed
    folder : the working folder
    tokens : file → its content; each is written where tasks write
    variables : of the environment, set for every task
    """

    versions: Mapping[str, str]
    folder: str
    tokens: Mapping[str, str]
    variables: Mapping[str, str]


@contextmanager
def facts_of_here(folders: Iterable[Path]) -> Iterator[Facts]:
    """The facts, with token files in the working folder and `folders` for as long as the block runs."""
    here = Path.cwd()
    tokens: dict[str, str] = {}
    try:
        for folder in dict.fromkeys([here, *(here / folder for folder in folders)]):
            word = uuid.uuid4().hex
            token = folder / f".osml-{word[:12]}"
            # Where nothing can be written, tasks do not write either; that it exists there is still checked.
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                token.write_text(word, encoding="utf-8")
                tokens[str(token)] = word
        yield Facts(versions(), str(here), tokens, variables())
    finally:
        for name in tokens:
            Path(name).unlink(missing_ok=True)


def variables() -> dict[str, str]:
    """Settings of osml that the environment holds."""
    return {name: value for name, value in os.environ.items() if name.startswith("OSML_")}


def set_variables(given: Mapping[str, str]) -> None:
    """Make them those of another process."""
    for name in variables():
        del os.environ[name]
    os.environ.update(given)


@cache
def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version(), "osml": _osml()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found


def _osml() -> str:
    import osml

    root = Path(osml.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{osml.__version__} (sources {digest.hexdigest()[:12]})"


def differences(asked: Facts) -> list[str]:
    """How this machine differs from the one that asks; empty when it can work for it. Moves into its working folder."""
    found = versions()
    out = [
        f"{name} is {found[name] or 'not installed'}, here it is {version or 'not installed'}"
        for name, version in asked.versions.items()
        if found[name] != version
    ]
    try:
        os.chdir(asked.folder)
    except OSError as error:
        return [*out, f"the working folder {asked.folder} cannot be entered: {error.strerror}"]
    for name, word in asked.tokens.items():
        folder = Path(name).parent
        if not folder.is_dir():
            out.append(f"the folder {folder} is missing")
        elif not Path(name).is_file() or Path(name).read_text(encoding="utf-8") != word:
            out.append(f"{folder} is another folder there")
    return out


def files_in(values: Any) -> dict[str, int]:
    """Paths that values name (in fields, sequences and mappings) → size in bytes; -1 for a folder.

    A path that does not exist yet stands for the nearest folder above it that does.
    """
    out: dict[str, int] = {}
    for path in set(_paths(values, set())):
        place = path.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        out[str(place)] = place.stat().st_size if place.is_file() else -1
    return out


def files_missing(files: Mapping[str, int]) -> list[str]:
    """Those that are not here as they are there."""
    return [name for name, size in files.items() if not _same(Path(name), size)]


def _same(path: Path, size: int) -> bool:
    try:
        return path.is_dir() if size < 0 else path.stat().st_size == size
    except OSError:
        return False


def _paths(value: Any, seen: set[int]) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
        return
    if isinstance(value, (str, bytes, int, float, type(None))) or id(value) in seen:
        return
    seen.add(id(value))
    if is_dataclass(value) and not isinstance(value, type):
        parts: Iterable[Any] = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, partial):
        parts = [*value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    else:
        return
    for part in parts:
        yield from _paths(part, seen)
