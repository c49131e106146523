"""Data moves one way: a module imports only from its own room and from the rooms before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from helpers import ROOT

# One row, one level: a room imports from its own row and from those above.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "codes", "files", "archives"),
    ("engine",),
    ("cache",),
    ("stats",),
    ("schema",),
    ("imaging",),
    ("cohort",),
    ("radiomics",),
    ("evaluation",),
    ("nomogram",),
    ("nets",),
    ("features",),
    ("predictors",),
    ("runs",),
    ("explanation",),
    ("serving",),
    ("report",),
    ("study",),
    ("synthetic",),
    ("doctor",),
    ("cli",),
)
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
# Usable alone: they know nothing of a study.
ALONE = {"stats": set(), "evaluation": {"stats"}, "nomogram": {"stats", "evaluation"}}
PACKAGE = ROOT / "osml"
MODULES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE
)


def room_of(module: Path) -> str:
    """Top-level name below osml: the package's folder or the module's own name."""
    return module.parts[0].removesuffix(".py")


def imported_rooms(source: str, module: Path) -> list[tuple[int, str]]:
    """(line, room) of every import of osml in a module, also those inside functions."""
    package = ["osml", *module.parent.parts]
    out: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names] if stem == "osml" else [stem]
        else:
            continue
        rooms = [name.split(".")[1] for name in names if name.startswith("osml.")]
        out += [(node.lineno, room) for room in rooms if room in LEVEL or (PACKAGE / room).is_dir()]
    return out


def test_every_room_has_its_row() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms <= set(LEVEL), f"rooms without a row: {sorted(rooms - set(LEVEL))}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_one_way(module: Path) -> None:
    own = room_of(module)
    wrong = [
        f"{module}:{line} imports osml.{room}"
        for line, room in imported_rooms((PACKAGE / module).read_text(encoding="utf-8"), module)
        if LEVEL[room] > LEVEL[own]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", sorted(ALONE))
def test_rooms_that_stand_alone(room: str) -> None:
    basic = {"errors", "codes", "files", room} | ALONE[room]
    wrong = [
        f"{module}:{line} imports osml.{other}"
        for module in MODULES
        if room_of(module) == room
        for line, other in imported_rooms((PACKAGE / module).read_text(encoding="utf-8"), module)
        if other not in basic
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source, rooms",
    [
        ("import osml.cli", ["cli"]),
        ("from osml import cli, __version__", ["cli"]),
        ("from osml.study.fit import fit", ["study"]),
        ("def f():\n    from osml.runs import store", ["runs"]),
        ("if True:\n    import osml.runs.store as s, numpy", ["runs"]),
        ("from . import cells", ["cohort"]),
        ("from .cells import x", ["cohort"]),
        ("from ..runs.store import x", ["runs"]),
        ("from .. import study", ["study"]),
        ("import numpy", []),
    ],
)
def test_the_reader_of_imports(source: str, rooms: list[str]) -> None:
    assert [room for _, room in imported_rooms(source, Path("cohort/build.py"))] == rooms
