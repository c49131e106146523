"""A finished run is found again by the contents of its files, before anything is read from images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import osml
from osml.cohort.build import BuiltCohort
from osml.features import digest_of_image
from osml.files import read_json, write_json
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema

NAME = "inputs.json"
ABSENT = "absent"


def remember(run: RunDirectory, loaded: LoadedSchema, built: BuiltCohort, weights: Mapping[str, str]) -> None:
    """Store what a run was made of: schema, table, weights, and every image file that the table names.

    built : the cohort as the table gives it, before patients without a usable image leave it
    """
    root = loaded.table_path.parent
    files = {path: _digest(root / path) for path in _paths(built)}
    write_json(run.path / NAME, _basis(loaded, built, weights) | {"files": files})


def finished_before(
    runs: Path, loaded: LoadedSchema, built: BuiltCohort, weights: Mapping[str, str]
) -> RunDirectory | None:
    """The finished run of exactly these contents, or None. Costs the reading of its files' bytes, not of images."""
    basis, root = _basis(loaded, built, weights), loaded.table_path.parent
    wanted = set(_paths(built))
    digests: dict[str, str] = {}
    for file in sorted((runs / loaded.schema.name).glob(f"*/{NAME}")):
        run = RunDirectory(file.parent)
        if file.parent.is_symlink() or run.status().get("state") != "finished":
            continue
        stored = read_json(file)
        files = stored.pop("files")
        if stored != basis or set(files) != wanted:
            continue
        if all(_remembered(root, path, digests) == digest for path, digest in files.items()):
            return run
    return None


def _remembered(root: Path, path: str, digests: dict[str, str]) -> str:
    if path not in digests:
        digests[path] = _digest(root / path)
    return digests[path]


def _digest(path: Path) -> str:
    return digest_of_image(path) if path.exists() else ABSENT


def _paths(built: BuiltCohort) -> list[str]:
    cohort = built.cohort
    several = (path for column in cohort.several.values() for paths in column for path in paths)
    return sorted({path for column in cohort.files.values() for path in column if path} | set(several))


def _basis(loaded: LoadedSchema, built: BuiltCohort, weights: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schema": loaded.digest(),
        "osml": osml.__version__,
        "table": [built.table.name, built.table.sha256],
        "weights": dict(weights),
    }
