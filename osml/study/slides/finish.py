"""After the folds: models on all patients, metrics, tables, overlays, the out-of-fold file, bundle, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osml.codes import BY_CODE, Finding
from osml.cohort.splits import Fold
from osml.engine import run_tasks, single_thread
from osml.evaluation.huvos import DetectionLimit
from osml.evaluation.necrosis import necrosis_rates
from osml.files import write_csv, write_json
from osml.predictors.slide_recipe import SlideRecipe
from osml.report.slides import make_slide_report
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema
from osml.study.failures import Failure
from osml.study.slides import tables
from osml.study.slides.judge import judge, map_of, pooled
from osml.study.slides.measure import rates_of
from osml.study.slides.overlays import write_overlays
from osml.study.slides.publish import publish
from osml.study.slides.record import development, summary
from osml.study.slides.table import Lost, SlideTable, parts
from osml.study.slides.tasks import Fitted, FoldTask, fitted_in, map_slide, seed_of

if TYPE_CHECKING:
    from osml.predictors.slide_prepare import PreparedSlide

Ready = Mapping[str, Mapping[str, "PreparedSlide"]]
Results = Mapping[str, Sequence[Mapping[str, Any]]]


def finish(
    loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost], recipes: Mapping[str, SlideRecipe],
    prepared: Ready, folds: Sequence[Fold], results: Results, failures: Sequence[Failure], noted: Sequence[Finding],
    run: RunDirectory, device: str,
) -> tuple[dict[str, Any], list[Failure]]:  # fmt: skip
    """Everything that a finished region study holds; metrics, and final fits that failed."""
    found = {name: _judged(loaded, recipes[name], results[name], folds, run, name) for name in recipes}
    models, failed = _final(loaded, recipes, prepared, folds, run, device, found)
    for failure in failed:
        found[failure.predictor]["final"] = {"failed": failure.message}
    for name, fitted in models.items():
        found[name]["model"] = fitted.model.record()
    metrics = _metrics(loaded, slides, lost, prepared, results, found, [*failures, *failed], noted)
    write_json(run.path / "metrics.json", metrics)
    _tables(slides, lost, recipes, results, metrics, run)
    for name in recipes:
        if "maps" in found[name]:
            single_thread(
                write_overlays, run.path, name, prepared[name], results[name], found[name]["deployed"], recipes[name]
            )
    publish(loaded, slides, lost, run, {name: fitted.model for name, fitted in models.items()}, folds, metrics)
    single_thread(make_slide_report, run.path)
    return metrics, failed


def _judged(
    loaded: LoadedSchema, recipe: SlideRecipe, results: Sequence[Mapping[str, Any]], folds: Sequence[Fold],
    run: RunDirectory, name: str,
) -> dict[str, Any]:  # fmt: skip
    done = sum((run.path / "folds" / fold.name / name / "status.json").exists() for fold in folds)
    out: dict[str, Any] = {"folds": done, "failed_folds": len(folds) - done}
    if not any(one["annotated"] for one in results):
        return out | {"reason": "no annotated slide was held out and mapped"}
    return out | single_thread(judge, results, recipe, loaded.schema.validation.seed)


def _final(
    loaded: LoadedSchema, recipes: Mapping[str, SlideRecipe], prepared: Ready, folds: Sequence[Fold],
    run: RunDirectory, device: str, found: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Fitted], list[Failure]]:  # fmt: skip
    """Models on all development patients, with the detection limit that held-out maps showed; the slides of patients
    whom nobody annotated are mapped by them."""
    inside = set(development(loaded, folds))
    models: dict[str, Fitted] = {}
    failed: list[Failure] = []
    everybody = Fold(0, 0, tuple(inside), ("\0nobody",))
    tasks = [
        FoldTask(
            run.path / "final" / name, name, everybody,
            recipe, tuple(prepared[name].values()), seed_of(loaded.schema.validation.seed, None, name), device,
        )
        for name, recipe in recipes.items()
    ]  # fmt: skip
    for outcome in run_tasks(run_final, tasks, workers=1):
        name = tasks[outcome.index].name
        if outcome.error is not None:
            failed.append(Failure.of(name, "final", outcome))
            continue
        models[name] = _limited(outcome.result, found[name].get("detection_limit"))
    for task in tasks:
        if task.name in models:
            _predict_rest(models[task.name], task, inside, run)
    return models, failed


def run_final(task: FoldTask) -> Fitted:
    """The model of all development patients."""
    train = [p for p in task.prepared if p.case.patient in set(task.fold.train) and p.annotated]
    return fitted_in(task.folder, train, task)


def _limited(fitted: Fitted, limit: Mapping[str, Any] | None) -> Fitted:
    if limit is None:
        return fitted
    known = DetectionLimit(limit["mm2"], limit["sensitivity"], limit["foci"], limit["found"], limit["reason"])
    return Fitted(fitted.model.with_limit(known), fitted.beside)


def _predict_rest(fitted: Fitted, task: FoldTask, inside: set[str], run: RunDirectory) -> None:
    """predictions.csv of a predictor: slides of patients without any annotation, by the final model."""
    rows = []
    for prepared in task.prepared:
        if prepared.case.patient in inside:
            continue
        one = map_slide(fitted, prepared, task)
        areas = map_of(one, fitted.kind)["areas"]
        rates = rates_of(areas, task.recipe)
        cells = [rates.get("necrosis_rate"), *(rates[name] for name in task.recipe.names[1:])]
        rows.append((one["patient"], one["slide"], *cells, float(np.sum(areas[1:]))))
    if rows:
        write_csv(run.path / "final" / task.name / "predictions.csv", tables.oof_header(task.recipe), rows)


def _metrics(
    loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost], prepared: Ready, results: Results,
    found: Mapping[str, Mapping[str, Any]], failures: Sequence[Failure], noted: Sequence[Finding],
) -> dict[str, Any]:  # fmt: skip
    schema = loaded.schema
    target, _, _ = parts(loaded)
    counts = summary(slides, lost)
    ready = list(next(iter(prepared.values())).values())
    split = schema.validation.split
    return {
        "study": schema.name,
        "target": "region",
        "n": counts["units"],
        "patients": counts["patients"],
        "events": None,
        "outcomes": counts["outcomes"],
        "annotated_patients": counts["annotated_patients"],
        "split": split.model_dump(mode="json"),
        "seed": schema.validation.seed,
        "accepted": {f.code: schema.checks.accept[f.code] for f in noted if f.code in schema.checks.accept},
        "checks": [{"code": f.code, "title": BY_CODE[f.code].title, "subject": f.subject} for f in noted],
        "synthetic": schema.study.synthetic,
        "failures": [failure.record() for failure in failures],
        "necrosis": target.necrosis is not None,
        "classes": _classes(target.classes, next(iter(results.values()))),
        "tissue_mm2": {
            "annotated": [round(p.tissue_mm2, 4) for p in ready if p.annotated],
            "others": [round(p.tissue_mm2, 4) for p in ready if not p.annotated],
        },
        "predictors": {name: dict(facts) for name, facts in found.items()},
    }


def _classes(classes: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name, colour and annotated area of each class, over held-out slides, each once."""
    once = {one["slide"]: one["reference"] for one in results if one["annotated"]}
    areas = np.sum(list(once.values()), axis=0) if once else np.zeros(len(classes))
    whole = float(areas[1:].sum())
    return {
        code: {
            "name": kind.name,
            "colour": kind.colour,
            "mm2": float(area),
            "share": float(area / whole) if whole and place else None,
        }
        for place, ((code, kind), area) in enumerate(zip(classes.items(), areas, strict=True))
    }


def _tables(
    slides: SlideTable, lost: Sequence[Lost], recipes: Mapping[str, SlideRecipe], results: Results,
    metrics: Mapping[str, Any], run: RunDirectory,
) -> None:  # fmt: skip
    folder = run.path / "tables"
    deployed = {name: facts["deployed"] for name, facts in metrics["predictors"].items() if "deployed" in facts}
    tables.write_refiners(folder / "refiners.csv", metrics)
    tables.write_classes(folder / "classes.csv", metrics)
    tables.write_patients(folder / "necrosis.csv", metrics)
    first = next(iter(recipes.values()))
    known = {name: found for name, found in results.items() if name in deployed}
    tables.write_slides(folder / "slides.csv", slides, lost, known, first, deployed)
    for name in deployed:
        file = tables.OOF if len(deployed) == 1 else f"{name}.{tables.OOF}"
        tables.write_oof(run.path / file, results[name], deployed[name], recipes[name])
    rates = _reference_rates(results, deployed, recipes)
    rows = tables.summary_rows({**metrics, "reference_rates": rates}, slides, lost)
    write_csv(folder / "table_one.csv", ("characteristic", "annotated", "predicted only"), rows)


def _reference_rates(
    results: Results, deployed: Mapping[str, str], recipes: Mapping[str, SlideRecipe]
) -> list[float | None]:
    for name, kind in deployed.items():
        bed = recipes[name].bed
        if bed is not None:
            _, true, _ = pooled([one for one in results[name] if one["annotated"]], kind)
            return [float(r) for r in necrosis_rates(true, bed) if np.isfinite(r)]
    return []
