"""`osml fit`: schema → cohort → checks → folds → final models → metrics and nomograms, resumable at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from osml.codes import Finding
from osml.cohort.build import BuiltCohort
from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold, folds_from_json, folds_to_json, make_folds
from osml.engine import current_place, single_thread
from osml.errors import OsmlError
from osml.files import atomic_write, read_json, sha256_file, write_csv, write_json
from osml.nets.device import choose_device, choose_devices
from osml.nets.weights import folders_at_hand
from osml.report import make_report
from osml.runs.cohort_store import write_cohort
from osml.runs.directory import RunDirectory, environment, run_identity
from osml.runs.extras import read_extras, write_extras
from osml.runs.store import PredictionRow, read_predictions, write_predictions
from osml.schema.load import LoadedSchema, load_schema
from osml.schema.slides import RegionTarget
from osml.study.failures import tell_failures, write_failures
from osml.study.final import finish
from osml.study.folds import Clock, run_folds
from osml.study.images import WithImages, add_features, write_images
from osml.study.known import finished_before, remember
from osml.study.montage import write_montage
from osml.study.planning.command import Followed, tell
from osml.study.planning.plan import time_limit
from osml.study.prepare import (
    PlanChoice,
    Say,
    all_findings,
    describe_split,
    finding_line,
    introduce,
    prepare_planned,
    refusals,
    refuse,
    write_findings,
)


@dataclass(frozen=True)
class FitResult:
    """What `fit` did.

    reused : the run was finished before
    failed : predictors that failed in a fold or on all development patients
    skipped : candidates of a plan that the time limit left out
    planned : the predictors were those of a plan
    """

    run: RunDirectory
    reused: bool
    metrics: dict[str, Any]
    failed: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    planned: bool = False

    @property
    def ended_badly(self) -> bool:
        """A listed predictor failed, or no candidate of a plan could be ranked."""
        if not self.planned:
            return bool(self.failed)
        return all(facts["failed_folds"] for facts in self.metrics["predictors"].values())


def fit(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    new: bool = False,
    workers: int | None = None,
    say: Say = print,
    quiet: bool = False,
    plan: PlanChoice | None = None,
) -> FitResult:
    """Run a study.

    Parameters
    ----------
    path : schema file
    overrides : `a.b=value` texts
    runs : folder of runs; default `runs/` in the working directory
    new : start another run although one of the same identity exists
    workers : processes; None lets the engine decide
    say : receives one line per stage
    plan : of a schema with `predictors: auto`: which plan; its limit holds for any schema

    Raises
    ------
    SchemaError, TableError
        Before anything is written.
    CheckError
        A check refuses and is not accepted.
    """
    regions = load_schema(path, overrides)
    if isinstance(regions.schema.target, RegionTarget):
        from osml.study.slides.fit import fit_regions  # torch

        done = fit_regions(regions, runs=runs or Path("runs"), new=new, workers=workers, say=say, quiet=quiet)
        return FitResult(done.run, done.reused, done.metrics, done.failed)
    clock = Clock()
    choice = plan or PlanChoice()
    loaded, built, findings, followed = prepare_planned(path, overrides, choice, say)
    if followed is not None:
        clock.limit = followed.plan.file.time_limit
        tell(followed.plan, say)
    if choice.limit is not None:
        clock.limit = time_limit(choice.limit)
    introduce(loaded, built, findings, say)
    stopped = refusals(loaded, findings)
    if stopped:
        raise refuse(stopped)
    weights = {f"weights of {path.name}": sha256_file(path) for path in loaded.weights}
    root = runs or Path("runs")
    before = None if new else finished_before(root, loaded, built, weights)
    lines: list[str] = []
    if before is not None and (found := _reused(before, clock, followed is not None, lines.append)):
        for line in lines:
            say(line)
        return found
    images = add_features(loaded, built, workers=workers, quiet=quiet, say=say)
    if images.hashes:
        known = set(findings)
        findings = [*all_findings(loaded, images.built), *images.findings]
        for finding in findings:
            if finding not in known:
                say(finding_line(loaded, finding))
        if stopped := refusals(loaded, findings):
            raise refuse(stopped)
    identity = run_identity(loaded, {built.table.name: built.table.sha256, **images.hashes, **weights})
    run = RunDirectory.create(root, loaded.schema.name, identity, new=new)
    with run.locked() as waited:
        if waited:
            say("run       another process was fitting this run; it has ended")
        if not new and (found := _reused(run, clock, followed is not None, say)):
            return found
        remember(run, loaded, built, weights)
        with folders_at_hand(path.parent for path in loaded.weights):
            return _run(loaded, images, findings, run, workers, say, quiet, followed, clock)


def _reused(run: RunDirectory, clock: Clock, planned: bool, say: Say) -> FitResult | None:
    """The result of a finished run; None where something is left to do, which is told."""
    status = run.status()
    failed, skipped = tuple(status.get("failed", ())), tuple(status.get("skipped", ()))
    if status.get("state") != "finished":
        return None
    if skipped and clock.more_than(status.get("time_limit")):
        say(f"run       {run.path}: going on with what the time limit left out ({', '.join(skipped)})")
        return None
    if failed and not planned:
        say(f"run       {run.path}: trying again what failed before ({', '.join(failed)})")
        return None
    say(f"run       {run.path} (finished before; --new fits again)")
    if skipped:
        say(f"          left out for time: {', '.join(skipped)}; a longer --time-limit goes on with them")
    run.point_latest()
    return FitResult(run, True, read_json(run.path / "metrics.json"), failed, skipped, planned)


def _run(
    loaded: LoadedSchema,
    images: WithImages,
    findings: Sequence[Finding],
    run: RunDirectory,
    workers: int | None,
    say: Say,
    quiet: bool,
    followed: Followed | None,
    clock: Clock,
) -> FitResult:
    run.set_status("running")
    run.event("started")
    built = images.built
    _record(loaded, built, findings, run, workers)
    if followed is not None:
        atomic_write(run.path / "plan.yaml", followed.plan.text)
    write_images(run.path, images)
    if any(images.regions.values()):
        single_thread(write_montage, loaded, built.cohort, run.path)
    folds = _splits(loaded, built.cohort, run)
    say(f"split     {describe_split(loaded)} → {run.path / 'splits.json'}")
    told = run_folds(loaded, built.cohort, folds, run, workers, quiet, clock, say)
    failures = list(told.failures)
    for failure in failures:
        run.log(f"{failure.predictor} {failure.stage} failed: {failure.traceback}")
    tell_failures(failures, len(folds), say)
    rows = _gather(loaded, folds, run)
    write_predictions(run.path / "predictions.parquet", rows)
    _gather_rest(loaded, folds, run)
    say("final     models for deployment, nomograms, tables, report")
    record = None if followed is None else followed.record()
    done = single_thread(
        partial(finish, unranked=told.skipped, deadline=clock.final_deadline(), workers=workers, plan=record,
                fold_failures=failures),
        loaded, built.cohort, folds, rows, findings, run, say,
    )  # fmt: skip
    failures += done.failed.values()
    write_failures(run.path / "failures.csv", failures)
    single_thread(make_report, run.path)
    failed = tuple(sorted({failure.predictor for failure in failures}))
    skipped = tuple(name for name in loaded.schema.predictors if name in {**told.skipped, **done.out_of_time})
    run.set_status("finished", failed=list(failed), skipped=list(skipped), time_limit=clock.limit)
    run.event("finished", failed=list(failed), skipped=list(skipped))
    run.point_latest()
    return FitResult(run, False, done.metrics, failed, skipped, followed is not None)


def _gather(loaded: LoadedSchema, folds: Sequence[Fold], run: RunDirectory) -> list[PredictionRow]:
    rows: list[PredictionRow] = []
    for name in loaded.schema.predictors:
        for fold in folds:
            folder = run.path / "folds" / fold.name / name
            if (folder / "status.json").exists():
                rows += read_predictions(folder / "predictions.parquet")
    return rows


def _gather_rest(loaded: LoadedSchema, folds: Sequence[Fold], run: RunDirectory) -> None:
    """extras.parquet and ablation.parquet of the run, from those of its folds."""
    every = [run.path / "folds" / fold.name / name for name in loaded.schema.predictors for fold in folds]
    folders = [folder for folder in every if (folder / "status.json").exists()]
    extras = [row for folder in folders for row in read_extras(folder / "extras.parquet")]
    if extras:
        write_extras(run.path / "extras.parquet", extras)
    files = [folder / "ablation.parquet" for folder in folders]
    ablation = [row for file in files if file.exists() for row in read_predictions(file)]
    if ablation:
        write_predictions(run.path / "ablation.parquet", ablation)


def _record(
    loaded: LoadedSchema, built: BuiltCohort, findings: Sequence[Finding], run: RunDirectory, workers: int | None
) -> None:
    from ruamel.yaml import YAML

    atomic_write(run.path / "schema.yaml", loaded.path.read_bytes())
    resolved = loaded.resolved()
    yaml = YAML()
    yaml.default_flow_style = False
    with (run.path / ".schema.part").open("w", encoding="utf-8") as stream:
        yaml.dump(resolved, stream)
    (run.path / ".schema.part").replace(run.path / "schema.resolved.yaml")
    write_json(run.path / "schema.resolved.json", resolved)
    device = choose_device() if loaded.schema.networks() else "cpu"
    devices = choose_devices(device) if loaded.schema.networks() else 1
    write_json(run.path / "environment.json", environment(device, workers, current_place(), devices))
    cohort = built.cohort
    write_json(run.path / "cohort" / "summary.json", summary(built))
    write_findings(run.path, loaded, findings)
    write_cohort(run.path / "cohort" / "cohort.parquet", cohort)
    # Where paths of pictures start: the resolved schema names the table as the YAML did, from wherever that lies.
    write_json(run.path / "cohort" / "source.json", {"folder": str(loaded.table_path.parent)})
    rows = [(e.patient, e.reason, e.where) for e in cohort.exclusions]
    write_csv(run.path / "cohort" / "exclusions.csv", ("patient", "reason", "where"), rows)


def summary(built: BuiltCohort) -> dict[str, Any]:
    """Counts of a cohort: rows, patients, events, exclusions by reason, missing cells by input."""
    cohort = built.cohort
    groups = {name: int(units.sum()) for name, units in cohort.outcome_groups().items()}
    event = not isinstance(cohort.outcome, ClassOutcome)
    reasons: dict[str, int] = {}
    for exclusion in cohort.exclusions:
        reasons[exclusion.reason] = reasons.get(exclusion.reason, 0) + 1
    return {
        "table": built.table.name,
        "sha256": built.table.sha256,
        "rows": built.rows,
        "units": len(cohort),
        "patients": len(cohort.patient_ids),
        "events": next(iter(groups.values())) if event else None,
        "outcomes": groups,
        "excluded": reasons,
        "missing": {name: int((x != x).sum()) for name, x in cohort.values.items()},
        "altered": built.altered,
    }


def _splits(loaded: LoadedSchema, cohort: Cohort, run: RunDirectory) -> tuple[Fold, ...]:
    made = make_folds(cohort, loaded.schema.validation.split, loaded.schema.validation.seed)
    file = run.path / "splits.json"
    if file.exists():
        stored = folds_from_json(read_json(file))
        if stored != made:
            raise OsmlError(
                f"{file} holds other splits than this study makes", do="Remove the run folder, or use --new."
            )
        return stored
    write_json(file, folds_to_json(made))
    return made
