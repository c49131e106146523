"""`osml fit` of a region study: slides, maps of held-out patients, metrics, report, bundle; resumable by slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osml.cache import default_folder
from osml.cohort.splits import Fold, folds_from_json, folds_to_json, make_folds
from osml.engine import Progress, run_tasks
from osml.errors import OsmlError
from osml.files import read_json, sha256_file, write_json
from osml.nets.device import choose_device
from osml.nets.weights import folders_at_hand
from osml.predictors.slide_recipe import SlideRecipe
from osml.runs.directory import RunDirectory, run_identity
from osml.schema.load import LoadedSchema
from osml.study.failures import Failure, tell_failures, write_failures
from osml.study.prepare import Say, describe_split, finding_line, refusals, refuse, write_findings
from osml.study.slides.finish import finish
from osml.study.slides.recipe import recipe_for, slide_predictors
from osml.study.slides.record import record
from osml.study.slides.table import Lost, SlideTable, enough, findings, read_slides, without
from osml.study.slides.tasks import ORDER, FoldTask, PrepareTask, prepare_one, run_fold, seed_of, slide_results

if TYPE_CHECKING:
    from osml.codes import Finding
    from osml.predictors.slide_prepare import PreparedSlide


# Slides that are named in the terminal when they cannot be used.
SHOWN = 5


@dataclass(frozen=True)
class RegionFit:
    """What became of a region study."""

    run: RunDirectory
    reused: bool
    metrics: dict[str, Any]
    failed: tuple[str, ...]


def fit_regions(
    loaded: LoadedSchema, *, runs: Path, new: bool, workers: int | None, say: Say, quiet: bool
) -> RegionFit:
    """Run a region study.

    Raises
    ------
    TableError
        Before anything is written.
    CheckError
        A check refuses and is not accepted.
    """
    slides = read_slides(loaded)
    introduce(loaded, slides, say)
    found = findings(loaded, slides, slides.lost)
    _tell(loaded, found, say)
    if stopped := refusals(loaded, found):
        raise refuse(stopped)
    weights = {f"weights of {path.name}": sha256_file(path) for path in loaded.weights}
    hashes = {f"slide {name}": digest for name, digest in slides.hashes.items()}
    identity = run_identity(loaded, {slides.table.name: slides.table.sha256, **hashes, **weights})
    run = RunDirectory.create(runs, loaded.schema.name, identity, new=new)
    with run.locked() as waited:
        if waited:
            say("run       another process was fitting this run; it has ended")
        if not new and (before := _reused(run, say)):
            return before
        with folders_at_hand(path.parent for path in loaded.weights):
            return _run(loaded, slides, run, workers, say, quiet)


def introduce(loaded: LoadedSchema, slides: SlideTable, say: Say) -> None:
    """Schema and slides in a few lines."""
    schema = loaded.schema
    say(f"schema    ok: {schema.name}, region target, {len(schema.predictors)} predictors")
    if schema.study.synthetic:
        say(f"          SYNTHETIC: {schema.study.synthetic}")
    drawn = [case for case in slides.cases if case.annotation is not None]
    whole = len(slides.cases) + len(slides.lost)
    reasons: dict[str, int] = {}
    for one in slides.lost:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    told = "".join(f", -{n} {reason}" for reason, n in reasons.items())
    say(
        f"slides    {whole} → {len(slides.cases)} of {len({c.patient for c in slides.cases})} patients{told}; "
        f"{len(drawn)} annotated, of {len({c.patient for c in drawn})} patients"
    )


def _tell(loaded: LoadedSchema, found: Sequence[Finding], say: Say) -> None:
    for finding in found:
        say(finding_line(loaded, finding))


def _reused(run: RunDirectory, say: Say) -> RegionFit | None:
    status = run.status()
    failed = tuple(status.get("failed", ()))
    if status.get("state") != "finished":
        return None
    if failed:
        say(f"run       {run.path}: trying again what failed before ({', '.join(failed)})")
        return None
    say(f"run       {run.path} (finished before; --new fits again)")
    run.point_latest()
    return RegionFit(run, True, read_json(run.path / "metrics.json"), failed)


def _run(
    loaded: LoadedSchema, slides: SlideTable, run: RunDirectory, workers: int | None, say: Say, quiet: bool
) -> RegionFit:
    run.set_status("running")
    run.event("started")
    device = choose_device()
    recipes = {name: recipe_for(loaded, name) for name in slide_predictors(loaded)}
    prepared, lost = prepare_all(slides, recipes, device, workers, quiet, say)
    lost = (*slides.lost, *lost)
    found = findings(loaded, slides, lost)
    _tell(loaded, [f for f in found if f.code in ("OSML020", "OSML022")] if len(lost) > len(slides.lost) else (), say)
    record(loaded, slides, lost, run, workers, device)
    write_findings(run.path, loaded, found)
    if stopped := refusals(loaded, found):
        raise refuse(stopped)
    enough(without(slides, lost), slides.table.name)
    folds = _splits(loaded, slides, lost, run)
    say(f"split     {describe_split(loaded)} → {run.path / 'splits.json'}")
    failures = _folds(loaded, recipes, prepared, folds, run, workers, quiet, device)
    for failure in failures:
        run.log(f"{failure.predictor} {failure.stage} failed: {failure.traceback}")
    tell_failures(failures, len(folds), say)
    results = {name: slide_results([run.path / "folds" / fold.name / name for fold in folds]) for name in recipes}
    say("final     models on all patients, tables, overlays, report")
    metrics, final = finish(loaded, slides, lost, recipes, prepared, folds, results, failures, found, run, device)
    failures += final
    write_failures(run.path / "failures.csv", failures)
    failed = tuple(sorted({failure.predictor for failure in failures}))
    run.set_status("finished", failed=list(failed))
    run.event("finished", failed=list(failed))
    run.point_latest()
    return RegionFit(run, False, metrics, failed)


def prepare_all(
    slides: SlideTable, recipes: Mapping[str, SlideRecipe], device: str, workers: int | None, quiet: bool, say: Say
) -> tuple[dict[str, dict[str, PreparedSlide]], tuple[Lost, ...]]:
    """predictor → slide → ready; and the slides that cannot be used, by any predictor's recipe, each once."""
    cache = default_folder()
    tasks = [PrepareTask(case, recipe, cache, device) for recipe in recipes.values() for case in slides.cases]
    where = [(name, case.slide) for name in recipes for case in slides.cases]
    progress = Progress("slides", len(tasks), quiet=quiet)
    ready: dict[str, dict[str, PreparedSlide]] = {name: {} for name in recipes}
    lost: dict[str, Lost] = {}
    gpus = 1.0 if device.startswith("cuda") else 0.0
    for outcome in run_tasks(prepare_one, tasks, workers=workers, progress=progress, gpus=gpus):
        name, slide = where[outcome.index]
        if outcome.error is not None:
            raise outcome.error
        if isinstance(outcome.result, Lost):
            lost.setdefault(slide, outcome.result)
        else:
            ready[name][slide] = outcome.result
    for one in list(lost.values())[:SHOWN]:
        say(f"  {one.slide}: {one.reason}: {one.detail}")
    if len(lost) > SHOWN:
        say(f"  … and {len(lost) - SHOWN} more; cohort/images.csv of the run names them")
    # In the order of the table: nothing may depend on which slide was ready first.
    order = [case.slide for case in slides.cases if case.slide not in lost]
    return {name: {slide: found[slide] for slide in order} for name, found in ready.items()}, tuple(
        lost[case.slide] for case in slides.cases if case.slide in lost
    )


def _splits(loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost], run: RunDirectory) -> tuple[Fold, ...]:
    """Outer folds of the patients with annotations; the other slides of a patient go where the patient goes."""
    drawn = [case for case in without(slides, lost) if case.annotation is not None]
    made = make_folds(slides.cohort(drawn), loaded.schema.validation.split, loaded.schema.validation.seed)
    few = [fold.name for fold in made if len(fold.train) < 2]
    if few:
        raise OsmlError(
            f"fold {few[0]} trains on {len(made[0].train)} patient",
            why="Training length and refiner are chosen on inner patients.",
            do="Annotate slides of more patients, or use fewer test patients.",
        )
    file = run.path / "splits.json"
    if file.exists():
        stored = folds_from_json(read_json(file))
        if stored != made:
            raise OsmlError(
                f"{file} holds other splits than this study makes",
                why="A slide could be read before and cannot now, or the other way round.",
                do="Remove the run folder, or use --new.",
            )
        return stored
    write_json(file, folds_to_json(made))
    return made


def _folds(
    loaded: LoadedSchema, recipes: Mapping[str, SlideRecipe], prepared: Mapping[str, Mapping[str, PreparedSlide]],
    folds: Sequence[Fold], run: RunDirectory, workers: int | None, quiet: bool, device: str,
) -> list[Failure]:  # fmt: skip
    seed = loaded.schema.validation.seed
    tasks, where = [], []
    for name, recipe in recipes.items():
        for fold in folds:
            folder = run.path / "folds" / fold.name / name
            if (folder / "status.json").exists():
                continue
            beside = ORDER[1:] if recipe.refine == "best" else ()
            ready = tuple(prepared[name].values())
            tasks.append(FoldTask(folder, name, fold, recipe, ready, seed_of(seed, fold, name), device, beside))
            where.append((name, fold))
    failures: list[Failure] = []
    progress = Progress("folds", len(tasks), quiet=quiet)
    gpus = 1.0 if device.startswith("cuda") else 0.0
    for outcome in run_tasks(run_fold, tasks, workers=workers, progress=progress, gpus=gpus):
        name, fold = where[outcome.index]
        if outcome.error is not None:
            failures.append(Failure.of(name, fold.name, outcome))
            continue
        for one in outcome.result["lost"]:
            failures.append(Failure(name, fold.name, "ImagingError", f"{one['slide']}: {one['detail']}", "", ""))
    return failures


def missing_slides(loaded: LoadedSchema, say: Say) -> int:
    """`osml check` of a region study: everything that can be said before a slide is decoded; findings that stop."""
    slides = read_slides(loaded)
    introduce(loaded, slides, say)
    for one in slides.lost[:SHOWN]:
        say(f"slide     {one.slide}: {one.detail}")
    if len(slides.lost) > SHOWN:
        say(f"slide     … and {len(slides.lost) - SHOWN} more that cannot be used")
    found = findings(loaded, slides, slides.lost)
    _tell(loaded, found, say)
    say(f"checks    {len(found)} findings, {len(refusals(loaded, found))} refuse; slides are read by `osml fit`")
    return len(refusals(loaded, found))
