"""Features of new patients' images, by the model's own recipe: from paths in a table, or from files of one patient."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import osml
from osml.cohort.cohort import FeatureTable
from osml.cohort.inputs import file_columns
from osml.errors import InvalidInputError, OsmlError, TableError
from osml.features import Features, Unusable, compute_features, used_radiomics
from osml.files import read_json, write_json
from osml.imaging.errors import ImagingError, UnreadableError
from osml.imaging.read import PICTURE_SUFFIXES
from osml.predictors.chain import Chain
from osml.predictors.radscore import FittedRadscore
from osml.schema.images import VolumeInput
from osml.schema.model import Schema
from osml.schema.suggest import hint
from osml.serving.image_bytes import MAX_BYTES, checked

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Measured:
    """What the images of some rows gave.

    tables : radiomics input → the features that the model reads, one row per row asked for
    lost : row → why it has none
    regions : radiomics input → voxels, clipped share and so on of each region of the first row
    pictures : radiomics input → PNG of the slice with most of the lesion, its outline drawn; uploads only
    """

    tables: Mapping[str, FeatureTable]
    lost: Mapping[int, str]
    regions: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def spread(self, rows: Sequence[int], n: int) -> Measured:
        """The same for a table of `n` rows, of which these were asked for."""
        tables = {}
        for name, table in self.tables.items():
            x = np.full((n, table.x.shape[1]), np.nan)
            x[list(rows)] = table.x
            tables[name] = replace(table, x=x)
        lost = {rows[k]: why for k, why in self.lost.items()}
        return replace(self, tables=tables, lost=lost)


def needed_features(chain: Chain) -> dict[str, tuple[str, ...]]:
    """Radiomics input → the columns that a chain's scores read."""
    out: dict[str, tuple[str, ...]] = {}
    fitted = chain.fitted
    if isinstance(fitted, FittedRadscore):
        out[fitted.recipe.input] = fitted.columns
    for link in chain.upstream:
        for name, columns in needed_features(link).items():
            out[name] = tuple(dict.fromkeys((*out.get(name, ()), *columns)))
    return out


def measure_rows(
    schema: Schema, chain: Chain, units: Sequence[str], files: Mapping[str, Sequence[str]], root: Path
) -> Measured:
    """Features of images that a table names.

    Parameters
    ----------
    units : name of each row, for messages
    files : `input`, `input.mask`, … → path of each row, relative ones from `root`
    """
    names = used_radiomics(schema, [chain.name])
    flat = _pictures(schema, names, files)
    rows = [i for i in range(len(units)) if i not in flat]
    parts: list[tuple[list[int], Features]] = []
    try:
        parts.append((rows, _measured(schema, names, units, files, rows, root)))
    except InvalidInputError:
        # One image of another kind than the others stops them all: each is then read alone.
        parts += [([i], _measured(schema, names, units, files, [i], root)) for i in rows]
    return _joined(chain, parts, units, flat)


def measure_files(
    schema: Schema, chain: Chain, images: Mapping[str, bytes | Path], *, timeout_s: float = TIMEOUT_S
) -> Measured:
    """Features of one patient's files, which are checked, read in a process of their own, and not kept.

    Parameters
    ----------
    images : `input`, `input.mask`, `input.body` → content, or the path of a file; its name plays no part
    timeout_s : after which reading and measuring are stopped

    Raises
    ------
    TableError
        A file that the model does not ask for. One that is missing or unusable is a reason in `lost`.
    """
    names = used_radiomics(schema, [chain.name])
    sources = dict.fromkeys(schema.radiomics()[name].of for name in names)
    asked = list(file_columns({source: schema.inputs[source] for source in sources}))
    for key in images:
        if key not in asked:
            raise TableError(f"the model has no image {key!r}", do=hint(key, asked))
    absent = [key for key in asked if key not in images]
    if absent:
        return Measured({}, {0: f"{' and '.join(absent)}: no file is given"})
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            files = {key: _received(folder, key, images[key], schema) for key in asked}
        except ImagingError as error:
            return Measured({}, {0: error.what})
        job = {"schema": schema.model_dump(mode="json"), "names": list(names), "files": files}
        write_json(folder / "job.json", job)
        failure = _run(folder, timeout_s)
        if failure:
            return Measured({}, {0: f"{', '.join(sources)}: {failure}"})
        answer = read_json(folder / "answer.json")
        if "refused" in answer:
            raise OsmlError(answer["refused"])
        features = Features(
            {
                name: FeatureTable(tuple(table["columns"]), np.array(table["x"], dtype=np.float64).reshape(1, -1))
                for name, table in answer["tables"].items()
            },
            tuple(
                Unusable(0, lost["input"], lost["reason"], lost["detail"].replace(f"{folder}{os.sep}", ""))
                for lost in answer["unusable"]
            ),
            answer["regions"],
            {},
        )
    found = _joined(chain, [([0], features)], [""])
    pictures = {name: base64.b64decode(text) for name, text in answer["pictures"].items()}
    return Measured(found.tables, found.lost, found.regions, pictures)


def _received(folder: Path, key: str, given: bytes | Path, schema: Schema) -> str:
    """Check one file and write it under a name of our own."""
    if isinstance(given, Path) and not given.is_file():
        raise UnreadableError(f"{key}: no file at {given}")
    if isinstance(given, Path) and given.stat().st_size > MAX_BYTES:
        raise UnreadableError(f"{key}: {given} is larger than {MAX_BYTES // 2**20} MB")
    try:
        raw, suffix = checked(given if isinstance(given, bytes) else given.read_bytes(), _kind(key, schema))
    except ImagingError as error:
        raise type(error)(f"{key}: {error.what}", why=error.why, do=error.do) from None
    name = f"{key}{suffix}"
    (folder / name).write_bytes(raw)
    return name


def _kind(key: str, schema: Schema) -> str:
    source = key.rpartition(".")[0] if key not in schema.inputs else key
    return schema.inputs[source].kind


def _run(folder: Path, timeout_s: float) -> str:
    """Measure in another process; why it failed, or ""."""
    # By path and not by module: the package of this module would be imported with it, and half of the time be its.
    script = Path(__file__).with_name("measure_process.py")
    home = str(Path(osml.__file__).parents[1])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script), str(folder)],
            env=os.environ | {"PYTHONPATH": paths},
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not measured within {timeout_s:g} s"
    if done.returncode or not (folder / "answer.json").is_file():
        lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        return f"reading or measuring the images failed ({lines[-1].partition(':')[0] if lines else 'ended'})"
    return ""


def _measured(
    schema: Schema,
    names: Sequence[str],
    units: Sequence[str],
    files: Mapping[str, Sequence[str]],
    rows: Sequence[int],
    root: Path,
) -> Features:
    chosen = {key: [paths[i] for i in rows] for key, paths in files.items()}
    return compute_features(schema, names, [units[i] for i in rows], chosen, root, readings=False)


def _pictures(schema: Schema, names: Sequence[str], files: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """Rows that name a picture where the model reads volumes: many features exist of either, with other values."""
    out: dict[int, str] = {}
    for source in dict.fromkeys(schema.radiomics()[name].of for name in names):
        if not isinstance(schema.inputs[source], VolumeInput):
            continue
        for i, path in enumerate(files[source]):
            if path.lower().endswith(PICTURE_SUFFIXES):
                out.setdefault(i, f"{source}: {path} is a picture; the model reads volumes")
    return out


def _joined(
    chain: Chain, parts: Sequence[tuple[list[int], Features]], units: Sequence[str], lost: dict[int, str] | None = None
) -> Measured:
    """The columns that the model reads, of all rows."""
    lost = {} if lost is None else lost
    tables: dict[str, FeatureTable] = {}
    regions: dict[str, list[dict[str, Any]]] = {}
    for rows, found in parts:
        for gone in found.unusable:
            row = rows[gone.row]
            detail = " ".join(gone.detail.removeprefix(f"{units[row]}: ").split())
            lost.setdefault(row, f"{gone.input}: {gone.reason}: {detail}")
    for name, columns in needed_features(chain).items():
        x = np.full((len(units), len(columns)), np.nan)
        for rows, found in parts:
            table = found.tables[name]
            place = {column: j for j, column in enumerate(table.columns)}
            here = [k for k, row in enumerate(rows) if row not in lost]
            absent = [column for column in columns if column not in place]
            if absent:
                words = f"{name}: the image has no {absent[0]}: it has another number of dimensions than in training"
                lost |= {rows[k]: words for k in here}
                continue
            x[[rows[k] for k in here]] = table.x[np.ix_(here, [place[column] for column in columns])]
            regions.setdefault(name, [line for line in found.regions[name] if line["row"] == 0])
        tables[name] = FeatureTable(columns, x)
    return Measured(tables, lost, regions)
