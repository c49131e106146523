"""`osml check --leakage`: three ways to show that nothing about test patients reaches a fitted model.

(a) Byte identity. With the splits fixed, every cell and label of the test patients is overwritten in the table; each
    artefact fitted in that fold must stay byte-identical. This is the deciding test.
(b) Canary. Labels are permuted between patients and everything that depends on labels is run again; the mean
    fold-averaged AUC (C for survival) must be one half: its 90 % interval has to lie inside 0.47 to 0.53.
(c) Leaky twins. Pipelines with a deliberate leak must be caught in the same run, by (a) or (b); a twin that is not
    means that the check had no power here, and then nothing is called passed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from osml.cohort.build import BuiltCohort, build_cohort
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, Outcome, SurvivalOutcome
from osml.cohort.inputs import columns_of
from osml.cohort.outcomes import target_columns
from osml.cohort.splits import Fold, derive_seed, make_folds
from osml.cohort.table import Table
from osml.engine import Progress, run_tasks
from osml.errors import NotEstimableError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc
from osml.features import settings_of
from osml.predictors.chain import Chain, fit_chain
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.load import LoadedSchema
from osml.schema.model import KFold, LeaveOnePatientOut, RadscorePredictor, Schema
from osml.schema.networks import NetworkPredictor, StackPredictor
from osml.schema.tabular import BoostingPredictor
from osml.study.twins import TWINS, LeakyChain, LeakyRadscore, LeakyWhole, Twin, fit_twin

LIMITS = (0.47, 0.53)
ENOUGH = 200
LEVEL = 0.90
Pipeline = Literal["study"] | Twin
PIPELINES: tuple[Pipeline, ...] = ("study", *TWINS)


@dataclass(frozen=True)
class Canary:
    """Mean fold-averaged AUC over permutations with its 90 % interval."""

    mean: float
    low: float
    high: float
    permutations: int
    failed: int

    @property
    def clean(self) -> bool:
        return LIMITS[0] <= self.low and self.high <= LIMITS[1]


@dataclass(frozen=True)
class PipelineCheck:
    """What one pipeline showed: folds whose artefacts changed with the test patients, and its canary."""

    predictor: str
    pipeline: Pipeline
    folds: int
    changed: tuple[str, ...]
    canary: Canary | None
    not_applicable: str = ""

    @property
    def caught(self) -> bool:
        """A leak was seen, in (a) or as a canary above one half."""
        return bool(self.changed) or (self.canary is not None and self.canary.low > LIMITS[1])


@dataclass(frozen=True)
class LeakageReport:
    """All checks; the verdict needs the twins to be caught."""

    checks: tuple[PipelineCheck, ...]
    permutations: int

    def verdict(self, predictor: str) -> Literal["passed", "failed", "no power", "inconclusive"]:
        """failed: an artefact changed, or the canary's interval lies outside one half. inconclusive: too wide."""
        own = next(c for c in self.checks if c.predictor == predictor and c.pipeline == "study")
        twins = [c for c in self.checks if c.predictor == predictor and c.pipeline != "study" and not c.not_applicable]
        canary = own.canary
        if own.changed or canary is None or canary.low > LIMITS[1] or canary.high < LIMITS[0]:
            return "failed"
        if self.permutations < ENOUGH or not twins or not all(t.caught for t in twins):
            return "no power"
        return "passed" if canary.clean else "inconclusive"


def check_leakage(
    loaded: LoadedSchema,
    built: BuiltCohort,
    *,
    permutations: int = ENOUGH,
    workers: int | None = None,
    quiet: bool = False,
) -> LeakageReport:
    """Run all three parts for every predictor of a study."""
    whole, cohort = loaded.schema, built.cohort
    schema = light(whole)
    folds = _canary_folds(schema, cohort)
    overwritten = {
        f.name: overwrite_patients(loaded, built.table, cohort, f.test, schema.validation.seed) for f in folds
    }
    jobs: list[_Part] = []
    for name in schema.predictors:
        for pipeline in PIPELINES:
            jobs.append(_Part(name, pipeline, None))
            chunk = max(1, permutations // 8)
            for start in range(0, permutations, chunk):
                jobs.append(_Part(name, pipeline, range(start, min(start + chunk, permutations))))
    progress = Progress("leakage", len(jobs), quiet=quiet)
    results: dict[int, _Found] = {}
    work = partial(_work, _Shared(whole, schema, cohort, folds, overwritten))  # which is sent to each worker once
    for outcome in run_tasks(work, jobs, workers=workers, progress=progress):
        if outcome.error is not None:
            raise outcome.error
        results[outcome.index] = outcome.result
    checks = []
    for name in schema.predictors:
        for pipeline in PIPELINES:
            mine = [results[i] for i, job in enumerate(jobs) if (job.predictor, job.pipeline) == (name, pipeline)]
            reasons = [found.not_applicable for found in mine if found.not_applicable]
            values = [v for found in mine for v in found.areas]
            changed = tuple(c for found in mine for c in found.changed)
            canary = None if reasons else summarise(values)
            checks.append(PipelineCheck(name, pipeline, len(folds), changed, canary, reasons[0] if reasons else ""))
    return LeakageReport(tuple(checks), permutations)


@dataclass(frozen=True)
class _Part:
    """Part (a) of one pipeline (permutations None), or a chunk of its canary."""

    predictor: str
    pipeline: Pipeline
    permutations: range | None


@dataclass(frozen=True)
class _Shared:
    """What all parts need: the schema and its light form, the patients, and the cohort of each fold's overwriting."""

    whole: Schema
    light: Schema
    cohort: Cohort
    folds: tuple[Fold, ...]
    overwritten: Mapping[str, Cohort]


@dataclass(frozen=True)
class _Job:
    """A part with its schema and patients."""

    schema: Schema
    predictor: str
    pipeline: Pipeline
    cohort: Cohort
    folds: tuple[Fold, ...]
    overwritten: Mapping[str, Cohort]
    permutations: range | None


@dataclass(frozen=True)
class _Found:
    changed: tuple[str, ...] = ()
    areas: tuple[float, ...] = ()
    not_applicable: str = ""


def _work(shared: _Shared, part: _Part) -> _Found:
    schema = shared.whole if part.pipeline == "study" and part.permutations is None else shared.light
    job = _Job(
        schema, part.predictor, part.pipeline, shared.cohort, shared.folds, shared.overwritten, part.permutations
    )
    if reason := _needless(job):
        return _Found(not_applicable=reason)
    if job.permutations is None:
        changed = []
        for fold in job.folds:
            before = artefacts(job.schema, job.predictor, job.pipeline, job.cohort, fold)
            after = artefacts(job.schema, job.predictor, job.pipeline, job.overwritten[fold.name], fold)
            if before != after:
                changed.append(fold.name)
        return _Found(changed=tuple(changed))
    areas = []
    for number in job.permutations:
        rng = np.random.default_rng(derive_seed(job.schema.validation.seed, number, 0, "canary"))
        areas.append(_permuted_area(job, permute_outcomes(job.cohort, rng)))
    return _Found(areas=tuple(areas))


def _permuted_area(job: _Job, cohort: Cohort) -> float:
    """Fold-averaged AUC or C of a pipeline on permuted labels; NaN when no fold could be fitted and judged."""
    values = []
    for fold in _canary_folds(job.schema, cohort):
        try:
            chain = _fit(job.schema, job.predictor, job.pipeline, cohort, fold)
            test = cohort.of(fold.test)
            values.append(_area(test.outcome, chain.predict(test).lp))
        except NotEstimableError:
            continue
    return float(np.mean(values)) if values else float("nan")


def _fit(
    schema: Schema, name: str, pipeline: Pipeline, cohort: Cohort, fold: Fold
) -> Chain | LeakyChain | LeakyRadscore | LeakyWhole:
    seed = (schema.validation.seed, fold.repeat, fold.index)
    if pipeline == "study":
        return fit_chain(schema, name, cohort.of(fold.train), seed)
    return fit_twin(pipeline, schema, name, cohort, fold.train, seed)


def artefacts(schema: Schema, name: str, pipeline: Pipeline, cohort: Cohort, fold: Fold) -> dict[str, bytes]:
    """Every file that fitting this fold writes, by name; a fold that cannot be fitted has its error as artefact."""
    present = set(cohort.patient_ids)
    known = replace(
        fold,
        train=tuple(p for p in fold.train if p in present),
        test=tuple(p for p in fold.test if p in present) or fold.test,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            _fit(schema, name, pipeline, cohort, known).save(Path(folder))
        except NotEstimableError as error:
            return {"error": str(error).encode()}
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def light(schema: Schema) -> Schema:
    """The schema without what only costs time in the canary.

    Uniform shrinkage multiplies a fold's linear predictor by one positive number, so it changes no rank within a fold.
    A network is trained from one seed, and settings are not searched for. A Rad-score looks at its first region:
    choosing among regions repeats the same steps on inner folds, and part (a) runs it in full.
    """
    data = schema.model_dump(mode="json")
    for block in data["predictors"].values():
        if block["kind"] == "nomogram" and block["shrink"] == "uniform":
            block["shrink"] = "none"
        if block["kind"] == "network":
            block["seeds"] = 1
        if "search" in block:
            block["search"] = None
        if block["kind"] == "radscore" and block["region"] == "best":
            regions = settings_of(schema, block["inputs"][0]).regions
            block["region"] = regions[0]
    return Schema.model_validate(data)


def _canary_folds(schema: Schema, cohort: Cohort) -> tuple[Fold, ...]:
    """Folds with several patients each: an AUC within a fold is needed, so leave-one-out becomes five folds."""
    split = schema.validation.split
    if isinstance(split, KFold):
        split = KFold(kind="kfold", folds=split.folds, repeats=1)
    elif isinstance(split, LeaveOnePatientOut):
        split = KFold(kind="kfold", folds=min(5, len(cohort.patient_ids)), repeats=1)
    return make_folds(cohort, split, schema.validation.seed)


def overwrite_patients(
    loaded: LoadedSchema, table: Table, cohort: Cohort, patients: Sequence[str], seed: int
) -> Cohort:
    """The cohort read again from a table in which these patients carry another patient's inputs and outcome.

    Whole rows are taken over, so that every combination of cells stays a legal one; where it is possible the donor has
    another outcome. Ids, split columns and columns that the schema does not read stay. Features of images come along
    with the donor's row.
    """
    schema, rng = loaded.schema, np.random.default_rng(derive_seed(seed, 0, 0, "overwrite:" + "|".join(patients)))
    ids = table.column(schema.cohort.patient)
    targets = [column for column, _ in target_columns(schema, loaded.where)]
    taken = [column for column, _ in columns_of(dict(schema.inputs), loaded.where)] + targets
    kept = {schema.cohort.patient, schema.cohort.row, getattr(schema.validation.split, "column", None)}
    places = [j for j, column in enumerate(table.columns) if column in taken and column not in kept]
    labels = list(zip(*(table.column(column) for column in targets), strict=True))
    cells = [list(row) for row in table.rows]
    donors: dict[str, int] = {}
    for i, patient in enumerate(ids):
        if patient not in set(patients):
            continue
        if patient not in donors:
            others = [k for k in range(len(ids)) if ids[k] != patient and labels[k] != labels[i]]
            others = others or [k for k in range(len(ids)) if ids[k] != patient]
            donors[patient] = others[int(rng.integers(len(others)))]
        for j in places:
            cells[i][j] = table.rows[donors[patient]][j]
    overwritten = [tuple(row) for row in cells]
    # Several rows of a patient may have become one and the same.
    first = sorted({row: i for i, row in reversed(list(enumerate(overwritten)))}.values())
    changed = replace(table, rows=tuple(overwritten[i] for i in first), lines=tuple(table.lines[i] for i in first))
    out = build_cohort(loaded, changed).cohort
    if not cohort.features and not cohort.images:
        return out
    # Whoever has no usable image is in neither cohort; a donor without one leaves the patient's own features.
    place = {unit: i for i, unit in enumerate(cohort.units)}
    names = table.column(schema.cohort.row or schema.cohort.patient)
    source = {
        unit: place.get(names[donors[patient]] if patient in donors else unit, place.get(unit, -1))
        for unit, patient in zip(out.units, out.patients, strict=True)
    }
    known = np.array([i for i, unit in enumerate(out.units) if source[unit] >= 0], dtype=np.intp)
    out = out.take(known)
    rows = np.array([source[unit] for unit in out.units], dtype=np.intp)
    return replace(
        out,
        features={name: features.take(rows) for name, features in cohort.features.items()},
        images={key: images.take(rows) for key, images in cohort.images.items()},
    )


def permute_outcomes(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Outcomes dealt to other patients; with several rows per patient, whole blocks of rows change hands in order."""
    blocks: dict[str, list[int]] = {}
    for i, patient in enumerate(cohort.patients):
        blocks.setdefault(patient, []).append(i)
    ids = list(blocks)
    order = [i for k in rng.permutation(len(ids)) for i in blocks[ids[k]]]
    places = [i for patient in ids for i in blocks[patient]]
    index = np.empty(len(cohort), dtype=np.intp)
    index[places] = order
    assert cohort.outcome is not None
    return replace(cohort, outcome=cohort.outcome.take(index))


def _area(outcome: Outcome | None, lp: NDArray[np.float64]) -> float:
    if isinstance(outcome, SurvivalOutcome):
        return harrell_c(outcome.time, outcome.event, lp).value
    if isinstance(outcome, ClassOutcome):
        return _mean_area(outcome, lp)
    assert isinstance(outcome, BinaryOutcome)
    return auc(outcome.y, lp)


def _mean_area(outcome: ClassOutcome, lp: NDArray[np.float64]) -> float:
    """Mean AUC of the leaves against the rest, over those that some unit has and some has not."""
    nodes, areas = outcome.tree.nodes, []
    for leaf in outcome.tree.leaves:
        own = outcome.node[outcome.full] == nodes.index(leaf)
        if own.any() and not own.all():
            areas.append(auc(own.astype(float), lp[outcome.full, nodes.index(leaf)]))
    if not areas:
        raise NotEstimableError("no class has units on both sides in this fold")
    return float(np.mean(areas))


def summarise(areas: Sequence[float]) -> Canary | None:
    """Mean and 90 % t interval over permutations; None when none could be judged."""
    values = np.array(areas, dtype=float)
    good = values[np.isfinite(values)]
    if len(good) < 2:
        return None
    half = float(student.isf((1 - LEVEL) / 2, len(good) - 1)) * float(good.std(ddof=1)) / np.sqrt(len(good))
    mean = float(good.mean())
    return Canary(mean, mean - half, mean + half, len(good), len(values) - len(good))


def _needless(job: _Job) -> str:
    """Why a twin has nothing to show for this predictor; empty when it has."""
    if job.pipeline == "study":
        return ""
    if isinstance(
        job.schema.predictors[job.predictor], NetworkPredictor | StackPredictor | AutogluonPredictor | BoostingPredictor
    ):
        return (
            ""
            if job.pipeline == "selection"
            else "networks, stacks and tabular learners have one twin: fitted to all patients"
        )
    if isinstance(job.schema.predictors[job.predictor], RadscorePredictor):
        return "" if job.pipeline == "selection" else "a Rad-score imputes nothing and is fed by nothing"
    fed = [item for item in job.schema.ancestors(job.predictor) if item in job.schema.radiomics()]
    if fed and job.pipeline != "upstream":
        return "shown by the Rad-score that feeds it"
    if job.pipeline == "imputation" and not _gaps(job.schema, job.predictor, job.cohort):
        return "nothing is imputed"
    return ""


def _gaps(schema: Schema, name: str, cohort: Cohort) -> bool:
    block = schema.predictors[name]
    inputs = [item for item in block.inputs if item in cohort.values]
    return schema.missing == "impute" and len(inputs) > 1 and any(np.isnan(cohort.values[i]).any() for i in inputs)
