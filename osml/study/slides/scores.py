"""Inputs of `kind: score`: what a frozen bundle says of each patient's slides, as a number among others.

A bundle looks better on patients that it was fitted to, and a model that learns from such scores trusts them too much.
Patients and slides of its training are known by the bundle's keyed hashes; their values come from the out-of-fold file
of the bundle's run, or the study is refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osml.cache import Cache, content_key, default_folder
from osml.cohort.inputs import require_columns
from osml.cohort.table import Table, read_table
from osml.engine import run_tasks
from osml.errors import OsmlError, SchemaError, TableError, VerificationError
from osml.files import json_text, sha256_file
from osml.imaging.slides_job import slide_key
from osml.nets.device import choose_device
from osml.predictors.slide_recipe import SlideCase, SlideRecipe, recipe_of
from osml.runs.bundle import Bundle, open_bundle
from osml.schema.load import LoadedSchema
from osml.schema.model import NumberInput
from osml.schema.slides import ScoreInput, SlideInput
from osml.schema.suggest import hint
from osml.study.slides.measure import rates_of
from osml.study.slides.publish import TRAINING
from osml.study.slides.table import Lost
from osml.study.slides.tasks import PrepareTask, prepare_one
from osml.study.slides.trained import Training, training_of

if TYPE_CHECKING:
    from osml.predictors.slide_prepare import PreparedSlide

RATE = "necrosis_rate"
_LISTED = 5
_VERSION = "score-1"
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Source:
    """An opened bundle: its predictor's folder and recipe, and who was trained on."""

    bundle: Bundle
    name: str
    recipe: SlideRecipe
    training: Training


def with_scores(loaded: LoadedSchema, say: Say = lambda _: None) -> tuple[LoadedSchema, Table]:
    """The study with its scores as numbers: the schema names number inputs in their place, the table has their columns.

    Raises
    ------
    SchemaError
        No region bundle, or no such output.
    TableError
        The table has a column of a score's name already.
    OsmlError
        Patients of the bundle's training without out-of-fold values.
    VerificationError
        The bundle is damaged, or the out-of-fold file is another run's.
    """
    block = loaded.schema.cohort
    table = read_table(loaded.table_path, delimiter=block.delimiter, sheet=block.sheet)
    inputs = dict(loaded.schema.inputs)
    for name, score in loaded.schema.scores().items():
        if name in table.columns:
            raise TableError(
                f"{loaded.where('inputs', name)}: {table.name} has a column {name!r}, and {name!r} is a score",
                why="It would be a guess which of the two is meant.",
                do="Rename the input, or read the column by `kind: number`.",
            )
        values = score_values(loaded, name, score, table, say)
        patients = table.column(block.patient)
        cells = ["" if math.isnan(values[p]) else repr(values[p]) for p in patients]
        digest = hashlib.sha256("\n".join([table.sha256, name, *cells]).encode()).hexdigest()
        rows = tuple((*row, cell) for row, cell in zip(table.rows, cells, strict=True))
        table = replace(table, columns=(*table.columns, name), rows=rows, sha256=digest)
        inputs[name] = NumberInput(
            kind="number", column=None, label=score.label, available=score.available, limits=(0.0, 1.0),
            censored=None, table_unit=None, unit=None,
        )  # fmt: skip
    return replace(loaded, schema=loaded.schema.model_copy(update={"inputs": inputs})), table


def score_values(
    loaded: LoadedSchema, name: str, score: ScoreInput, table: Table, say: Say
) -> dict[str, float]:  # fmt: skip
    """patient → value; NaN where the patient has no slide, or one that cannot be read."""
    source = _opened(loaded, name, score)
    cases = _cases(loaded, score, table)
    known = {path: slide_key(path) for path in {case.path for own in cases.values() for case in own}}
    trained = _trained(cases, known, source)
    held_out = _held_out(loaded, name, score, source, trained)
    ours = {patient: own for patient, own in cases.items() if patient not in held_out}
    areas, lost = _areas(source, ours, known)
    for one in lost:
        say(f"  {name}: {one.slide} of {one.patient}: {one.reason}; the patient has no value")
    out = dict(held_out)
    for patient, own in ours.items():
        found = [areas.get(known[case.path]) for case in own]
        whole = [a for a in found if a is not None]
        value = None
        if own and len(whole) == len(own):
            value = rates_of(np.sum(whole, axis=0), source.recipe)[score.output]
        out[patient] = math.nan if value is None else value
    gaps = sum(math.isnan(v) for v in out.values())
    say(
        f"score     {name}: {score.output} of {len(out) - gaps} patients by the bundle of "
        f"{source.bundle.manifest['study']!r}, {len(held_out)} of them out of fold, {gaps} without a value"
    )
    return out


def _opened(loaded: LoadedSchema, name: str, score: ScoreInput) -> _Source:
    bundle = open_bundle(score.bundle)
    where = loaded.where("inputs", name, "bundle")
    recipe = bundle.read("recipe.json")
    if bundle.manifest.get("target") != "region" or TRAINING not in bundle.manifest["files"]:
        raise SchemaError(
            f"{where}: {score.bundle} is not the bundle of a region study", do="Give one that maps slides."
        )
    names = recipe["predictors"]
    if len(names) != 1:
        raise SchemaError(
            f"{where}: the bundle holds {len(names)} predictors ({', '.join(names)})",
            why="Which of them is meant would be a guess.",
            do="Fit a region study with one predictor.",
        )
    facts = bundle.read(f"predictors/{names[0]}/slide.json")
    made = recipe_of(facts["recipe"])
    outputs = [*([RATE] if made.bed is not None else []), *made.names[1:]]
    if score.output not in outputs:
        raise SchemaError(
            f"{loaded.where('inputs', name, 'output')}: the bundle has no output {score.output!r}",
            do=hint(score.output, outputs),
        )
    return _Source(bundle, names[0], made, training_of(bundle))


def _cases(loaded: LoadedSchema, score: ScoreInput, table: Table) -> dict[str, list[SlideCase]]:
    """patient → its slides, each file once."""
    block, source = loaded.schema.cohort, loaded.schema.inputs[score.of]
    assert isinstance(source, SlideInput)
    column = source.column or score.of
    asked = [(block.patient, loaded.where("cohort", "patient")), (column, loaded.where("inputs", score.of, "column"))]
    require_columns(asked, table)
    mpp = None if source.mpp == "from_file" else float(source.mpp)
    out: dict[str, dict[Path, SlideCase]] = {}
    absent = []
    for patient, cell in zip(table.column(block.patient), table.column(column), strict=True):
        own = out.setdefault(patient, {})
        if cell in block.missing or not cell.strip():
            continue
        path = (loaded.table_path.parent / cell).resolve()
        if not path.is_file():
            absent.append(f"{patient}: {cell}")
        own[path] = SlideCase(path.stem, patient, path, None, mpp)
    if absent:
        raise TableError(
            f"{len(absent)} slides of {column!r} do not exist", do="\n  ".join(absent[:_LISTED])
        )  # fmt: skip
    return {patient: list(own.values()) for patient, own in out.items()}


def _trained(cases: Mapping[str, Sequence[SlideCase]], known: Mapping[Path, str], source: _Source) -> dict[str, str]:
    """Patients of this study whom the bundle was fitted to → how they are known."""
    out = {}
    for patient, own in cases.items():
        if source.training.knows(patient):
            out[patient] = "by name"
        elif slides := [c.slide for c in own if source.training.holds(known[c.path])]:
            out[patient] = f"by slide {slides[0]}, under another name"
    return out


def _held_out(
    loaded: LoadedSchema, name: str, score: ScoreInput, source: _Source, trained: Mapping[str, str]
) -> dict[str, float]:
    """Out-of-fold values of the patients that the bundle was fitted to."""
    if not trained:
        return {}
    where = loaded.where("inputs", name)
    if score.oof is None:
        raise _overlap(where, trained, "Give `oof`: necrosis_oof.csv of the bundle's run, or leave these patients out.")
    path = Path(score.oof)
    if not path.is_file():
        raise OsmlError(f"{loaded.where('inputs', name, 'oof')}: {path} does not exist", do="Check the path.")
    if source.bundle.read(TRAINING).get("oof_sha256") != sha256_file(path):
        raise VerificationError(
            f"{path.name} is not the out-of-fold file of this bundle's run",
            why="Values of another run may be those of models that saw the patients.",
            do="Take necrosis_oof.csv and bundle/ from one run folder, unchanged.",
        )
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    out, missing = {}, {}
    for patient, how in trained.items():
        own = [row for row in rows if row["patient"] == patient]
        if not own:
            missing[patient] = how
            continue
        areas = np.zeros(len(source.recipe.names))
        for row in own:
            tissue = float(row["tissue_mm2"])
            areas[1:] += [tissue * float(row[code] or 0.0) for code in source.recipe.names[1:]]
        value = rates_of(areas, source.recipe)[score.output]
        out[patient] = math.nan if value is None else value
    if missing:
        raise _overlap(where, missing, f"{path.name} holds no value of them: leave them out, or give them their names.")
    return out


def _overlap(where: str, patients: Mapping[str, str], do: str) -> OsmlError:
    told = [f"{patient} ({how})" for patient, how in patients.items()]
    more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    return OsmlError(
        f"{where}: the bundle was fitted to {len(told)} patients of this study: {', '.join(told[:_LISTED])}{more}",
        why="Its scores of them look better than those of new patients, and a model would learn to trust them.",
        do=do,
    )


def _areas(
    source: _Source, cases: Mapping[str, Sequence[SlideCase]], known: Mapping[Path, str]
) -> tuple[dict[str, list[float]], list[Lost]]:
    """Key of a slide's file → areas of its classes by the bundle, in cells; and the slides that cannot be read."""
    from osml.predictors.slide import load_slide

    cache = Cache(default_folder() / "scores", ".json")
    unique = {known[case.path]: case for own in cases.values() for case in own}
    keys = {k: content_key([_VERSION, source.bundle.model_hash, k, repr(case.mpp)]) for k, case in unique.items()}
    out: dict[str, list[float]] = {}
    for k in unique:
        if (raw := cache.load(keys[k])) is not None:
            out[k] = json.loads(raw)
    todo = {k: case for k, case in unique.items() if k not in out}
    if not todo:
        return out, []
    device = choose_device()
    fitted = load_slide(source.bundle.path / "predictors" / source.name)
    tasks = [PrepareTask(case, fitted.recipe, default_folder(), device) for case in todo.values()]
    lost: list[Lost] = []
    order = list(todo)
    gpus = 1.0 if device.startswith("cuda") else 0.0
    ready: dict[str, PreparedSlide] = {}
    for outcome in run_tasks(prepare_one, tasks, gpus=gpus):
        if outcome.error is not None:
            raise outcome.error
        if isinstance(outcome.result, Lost):
            lost.append(outcome.result)
        else:
            ready[order[outcome.index]] = outcome.result
    for k in order:
        if k in ready:
            labels: Any = np.asarray(fitted.refined(ready[k], device=device)).argmax(axis=0)
            counts = np.bincount(labels.ravel(), minlength=len(source.recipe.names)).astype(np.float64)
            out[k] = counts.tolist()
            cache.store(keys[k], json_text(out[k]).encode())
    return out, lost
