"""Held-out maps judged: overlap with the annotation, necrosis rates, what refinement adds; patients are the unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.evaluation.bootstrap import Interval
from osml.evaluation.huvos import References, detection_limit, grade_probabilities, huvos_grade
from osml.evaluation.necrosis import (
    MIN_BLOCKS,
    NecrosisErrors,
    TumourBed,
    block_replicates,
    necrosis_errors,
    necrosis_gain,
    necrosis_rates,
    patient_rate,
)
from osml.evaluation.segmentation import (
    EACH,
    MIN_PATIENTS,
    OVERALL,
    SegmentationReport,
    Table,
    segmentation_gain,
    segmentation_report,
)
from osml.predictors.slide_recipe import SlideRecipe

BEST = "best"
COARSE = "none"
Results = Sequence[Mapping[str, Any]]


def kinds_of(results: Results) -> tuple[str, ...]:
    """Maps that every slide has, `none` first; `best` last, the one that each fold chose, where folds had a choice."""
    kinds = [kind for kind in results[0]["maps"] if all(kind in one["maps"] for one in results)]
    chosen = {one["chosen"] for one in results}
    return (*kinds, BEST) if len(kinds) > 2 or len(chosen) > 1 else tuple(kinds)


def map_of(one: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The numbers of a slide's map of this kind."""
    found: Mapping[str, Any] = one["maps"][one["chosen"] if kind == BEST else kind]
    return found


def judge(results: Results, recipe: SlideRecipe, seed: int) -> dict[str, Any]:
    """Metrics of one predictor from its held-out slides.

    Parameters
    ----------
    results : of every slide and fold, as `tasks.map_slide` writes them

    Notes
    -----
    With repeated folds a slide comes once per repeat: counts add up, so that every repeat weighs the same, and rates
    are those of the mean areas.
    """
    judged = [one for one in results if one["annotated"]]
    kinds = kinds_of(results)
    patients = [one["patient"] for one in judged]
    reports = {kind: _report(judged, kind, patients, recipe, seed) for kind in kinds}
    out: dict[str, Any] = {
        "kinds": list(kinds),
        "deployed": BEST if BEST in kinds else _only(results),
        "slides": len({one["slide"] for one in judged}),
        "patients": len(set(patients)),
        "chosen": _counts(one["chosen"] for one in {one["fold"]: one for one in results}.values()),
        "maps": {kind: _segmentation(report) for kind, report in reports.items()},
        "gain": {kind: _gain(reports[COARSE], reports[kind], seed) for kind in kinds if kind != COARSE},
    }
    if recipe.bed is not None:
        errors = {kind: _errors(judged, kind, recipe.bed, seed) for kind in kinds}
        for kind in kinds:
            out["maps"][kind]["necrosis"] = _necrosis(errors[kind], judged, kind, recipe.bed)
            if kind != COARSE:
                out["gain"][kind]["necrosis"] = _necrosis_gain(errors[COARSE], errors[kind], seed)
        out |= _clinical(results, judged, errors[out["deployed"]], out["deployed"], recipe, seed)
    return out


def _only(results: Results) -> str:
    chosen: str = results[0]["chosen"]
    return chosen


def _counts(items: Any) -> dict[str, int]:
    out: dict[str, int] = {}
    for item in items:
        out[item] = out.get(item, 0) + 1
    return out


def _report(judged: Results, kind: str, patients: Sequence[str], recipe: SlideRecipe, seed: int) -> SegmentationReport:
    tables = []
    for one in judged:
        found = map_of(one, kind)
        tables.append(Table(np.asarray(found["table"], dtype=np.int64), int(found["unlabelled"])))
    return segmentation_report(tables, patients, recipe.names, seed=seed)


def _segmentation(report: SegmentationReport) -> dict[str, Any]:
    overall = {name: value(float(report.pooled.overall[name]), report.intervals.get(name)) for name in OVERALL}
    classes = {
        label: {
            name: value(float(report.pooled.each[name][k]), report.class_intervals.get((name, label))) for name in EACH
        }
        | {"share": _share(report, k)}
        for k, label in enumerate(report.classes)
    }
    means = report.by_patient.overall["miou"]
    inside = report.pooled.each["iou"][1:]
    return {
        "overall": overall,
        "tissue_miou": finite(_nanmean(inside.tolist())),
        "classes": classes,
        "absent": list(report.absent),
        "by_patient": {"miou": [finite(float(v)) for v in means]},
        "no_interval": report.no_interval,
        "unlabelled": report.unlabelled,
    }


def _share(report: SegmentationReport, k: int) -> float | None:
    """Of the annotated tissue, the share that truly is of a class; of the background: none."""
    whole = report.tables[:, 1:].sum()
    if k == 0:
        return None
    return float(report.tables[:, k].sum() / whole) if whole else None


def _gain(before: SegmentationReport, after: SegmentationReport, seed: int) -> dict[str, Any]:
    if len(before.patients) < MIN_PATIENTS:
        differences = {k: float(after.pooled.overall[k] - before.pooled.overall[k]) for k in OVERALL}
        return {k: value(v, None) for k, v in differences.items()}
    found = segmentation_gain(before, after, seed=seed)
    return {k: value(found[k].value if k in found else math.nan, found.get(k)) for k in OVERALL}


def pooled(judged: Results, kind: str) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Patients, and cells of their annotated area by true and by predicted class, float (P, K) each."""
    names = tuple(dict.fromkeys(one["patient"] for one in judged))
    place = {name: k for k, name in enumerate(names)}
    K = len(judged[0]["reference"])
    true, called = np.zeros((len(names), K)), np.zeros((len(names), K))
    for one in judged:
        table = np.asarray(map_of(one, kind)["table"], dtype=np.float64)
        true[place[one["patient"]]] += table.sum(axis=1)
        called[place[one["patient"]]] += table.sum(axis=0)
    return names, true, called


def _errors(judged: Results, kind: str, bed: TumourBed, seed: int) -> NecrosisErrors:
    names, true, called = pooled(judged, kind)
    return necrosis_errors(names, necrosis_rates(true, bed), necrosis_rates(called, bed), seed=seed)


def _necrosis(errors: NecrosisErrors, judged: Results, kind: str, bed: TumourBed) -> dict[str, Any]:
    """Errors over patients and over slides, in points; of the annotated area, and of the whole slides."""
    slides = []
    for one in judged:
        table = np.asarray(map_of(one, kind)["table"], dtype=np.float64)
        r, p = (float(necrosis_rates(table.sum(axis=axis), bed)) for axis in (1, 0))
        slides.append(abs(100 * (r - p)))
    whole = []
    names, true, _ = pooled(judged, kind)
    for name, areas in zip(names, true, strict=True):
        mine = np.sum([map_of(one, kind)["areas"] for one in judged if one["patient"] == name], axis=0)
        whole.append(abs(100 * float(necrosis_rates(areas, bed) - necrosis_rates(mine, bed))))
    return {
        "mean_absolute": value(errors.mean_absolute, errors.mean_absolute_interval),
        "bias": value(errors.bias, errors.bias_interval),
        "patients": len(errors.patients),
        "without_reference": len(errors.without_reference),
        "without_prediction": len(errors.without_prediction),
        "by_slide": {"mean_absolute": finite(_nanmean(slides)), "slides": int(np.isfinite(slides).sum())},
        "whole_slides": finite(_nanmean(whole)),
    }


def _nanmean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def _necrosis_gain(before: NecrosisErrors, after: NecrosisErrors, seed: int) -> dict[str, Any]:
    """By how many points the mean absolute error falls."""
    try:
        found = necrosis_gain(before, after, seed=seed)
    except InvalidInputError as error:
        return {"value": finite(before.mean_absolute - after.mean_absolute), "reason": error.what}
    return value(found.value, found)


def _clinical(
    results: Results, judged: Results, errors: NecrosisErrors, kind: str, recipe: SlideRecipe, seed: int
) -> dict[str, Any]:
    """Rates of patients with their intervals, Huvos grades within their limits, viable foci to look at again."""
    bed = recipe.bed
    assert bed is not None
    judged_names = {one["patient"] for one in judged}
    references = dict(zip(errors.patients, zip(errors.reference, errors.predicted, strict=True), strict=True))
    share = _nanmean([one["share_annotated"] for one in judged])
    areas, found = _foci(judged, kind)
    limit = detection_limit(areas, found)
    rows = []
    for name in dict.fromkeys(one["patient"] for one in results):
        mine = [one for one in results if one["patient"] == name]
        first = [one for one in mine if one["fold"].partition("-")[0] == mine[0]["fold"].partition("-")[0]]
        blocks = [(block, one["slide"]) for one in first for block in map_of(one, kind)["blocks"]]
        whole = np.sum([map_of(one, kind)["areas"] for one in mine], axis=0)
        row: dict[str, Any] = {
            "patient": name,
            "slides": sorted({one["slide"] for one in mine}),
            "judged": name in judged_names,
            "reference": finite(float(references[name][0])) if name in references else None,
            "predicted_there": finite(float(references[name][1])) if name in references else None,
            "predicted": finite(float(necrosis_rates(whole, bed))),
            "tumour_bed_mm2": float(whole[list(bed.counted)].sum() / len(mine) * len({one["slide"] for one in mine})),
        }
        replicates = None
        if blocks:
            array, where = np.asarray([b for b, _ in blocks]), [s for _, s in blocks]
            rate = patient_rate(array, where, bed, seed=seed)
            row["interval"] = value(rate.rate, rate.interval) | ({"reason": rate.reason} if rate.reason else {})
            if len(blocks) >= MIN_BLOCKS:
                replicates = block_replicates(array, where, bed, seed=seed)
        others = [other for other in references if other != name]
        if row["predicted"] is not None:
            known = References(
                tuple(others),
                np.array([references[o][0] for o in others]),
                np.array([references[o][1] for o in others]),
            )
            grades = grade_probabilities(row["predicted"], known, patient=name, replicates=replicates)
            row["huvos"] = {"reason": f"{grades.reason}, other than the patient"} if grades.reason else {
                "grade": grades.grade, "good_response": value(float(grades.good_response or 0.0), None)
                | {"low": grades.low, "high": grades.high}, "references": grades.references,
                "with_sampling": grades.with_sampling,
            }  # fmt: skip
            if row["reference"] is not None:
                row["reference_grade"] = huvos_grade(row["reference"])
        small = [f for one in first for f in map_of(one, kind)["viable"]["smallest"]]
        row["review"] = sum(limit.limit_mm2 is None or f[2] < limit.limit_mm2 for f in small)
        rows.append(row)
    return {
        "necrosis_by_patient": rows,
        "share_annotated": finite(share),
        "detection_limit": {
            "mm2": limit.limit_mm2, "sensitivity": limit.sensitivity, "foci": limit.foci, "found": limit.found,
            "reason": limit.reason,
        },
        "huvos": {"references": len(references), "reason": _huvos_reason(rows)},
    }  # fmt: skip


def _huvos_reason(rows: Sequence[Mapping[str, Any]]) -> str:
    reasons = {row["huvos"].get("reason", "") for row in rows if "huvos" in row}
    return reasons.pop() if len(reasons) == 1 else ""


def _foci(judged: Results, kind: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    found = [map_of(one, kind)["foci"] for one in judged]
    return (
        np.concatenate([np.asarray(f["mm2"], dtype=np.float64) for f in found]),
        np.concatenate([np.asarray(f["found"], dtype=np.bool_) for f in found]),
    )


def finite(number: float) -> float | None:
    """None for NaN, which JSON does not know."""
    return number if math.isfinite(number) else None


def value(number: float, interval: Interval | None) -> dict[str, Any]:
    """A value and its interval for JSON."""
    out: dict[str, Any] = {"value": finite(number)}
    if interval is not None:
        out |= {"low": interval.low, "high": interval.high, "level": interval.level, "interval": interval.kind}
        if interval.failed:
            out |= {"replicates": interval.replicates, "failed": interval.failed}
    return out
