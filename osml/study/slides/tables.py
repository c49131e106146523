"""Tables of a region study as CSV: slides, classes, refiners, patients, and the out-of-fold file for other studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osml.evaluation.necrosis import necrosis_rates
from osml.evaluation.segmentation import EACH, overlap
from osml.files import write_csv
from osml.predictors.slide_recipe import SlideRecipe
from osml.study.slides.judge import map_of
from osml.study.slides.measure import rates_of
from osml.study.slides.table import Lost, SlideTable

OOF = "necrosis_oof.csv"
OVERALL = ("miou", "precision", "recall", "dice", "accuracy")


def oof_header(recipe: SlideRecipe) -> tuple[str, ...]:
    """Columns of the out-of-fold file: patient, slide, rate, share of each class of tissue, tissue in mm²."""
    return ("patient", "slide", "necrosis_rate", *recipe.names[1:], "tissue_mm2")


def oof_rows(results: Sequence[Mapping[str, Any]], kind: str, recipe: SlideRecipe) -> list[tuple[Any, ...]]:
    """One row per slide, mean areas over repeats; whole slides, each mapped by a model that never saw its patient."""
    rows = []
    for slide in sorted({one["slide"] for one in results}):
        mine = [one for one in results if one["slide"] == slide]
        areas = np.mean([map_of(one, kind)["areas"] for one in mine], axis=0)
        rates = rates_of(areas, recipe)
        cells = [rates.get("necrosis_rate"), *(rates[name] for name in recipe.names[1:])]
        rows.append((mine[0]["patient"], slide, *cells, float(areas[1:].sum())))
    return rows


def write_oof(path: Path, results: Sequence[Mapping[str, Any]], kind: str, recipe: SlideRecipe) -> None:
    """necrosis_oof.csv: values that another study may use for the patients of this one."""
    write_csv(path, oof_header(recipe), oof_rows(results, kind, recipe))


def write_refiners(path: Path, metrics: Mapping[str, Any]) -> None:
    """refiners.csv: one row per predictor and map, with intervals and what it gains over the coarse map."""
    header = ["predictor", "map"]
    for name in (*OVERALL, "necrosis_error"):
        header += [name, f"{name}_low", f"{name}_high"]
    header += ["necrosis_bias", "gain_miou", "gain_miou_low", "gain_miou_high", "gain_necrosis", "gain_necrosis_low",
               "gain_necrosis_high"]  # fmt: skip
    rows = []
    for predictor, facts in metrics["predictors"].items():
        for kind in facts.get("kinds", ()):
            found = facts["maps"][kind]
            necrosis, gain = found.get("necrosis", {}), facts["gain"].get(kind, {})
            cells: list[Any] = [predictor, kind]
            for name in OVERALL:
                cells += _three(found["overall"][name])
            cells += _three(necrosis.get("mean_absolute", {}))
            cells += [necrosis.get("bias", {}).get("value"), *_three(gain.get("miou", {}))]
            cells += _three(gain.get("necrosis", {}))
            rows.append(cells)
    write_csv(path, header, rows)


def write_classes(path: Path, metrics: Mapping[str, Any]) -> None:
    """classes.csv: overlap of each class in each map."""
    header = ["predictor", "map", "class", "share_of_reference"]
    for name in EACH:
        header += [name, f"{name}_low", f"{name}_high"]
    rows = []
    for predictor, facts in metrics["predictors"].items():
        for kind in facts.get("kinds", ()):
            for code, found in facts["maps"][kind]["classes"].items():
                cells = [predictor, kind, code, found["share"]]
                for name in EACH:
                    cells += _three(found[name])
                rows.append(cells)
    write_csv(path, header, rows)


def write_patients(path: Path, metrics: Mapping[str, Any]) -> None:
    """necrosis.csv: reference and held-out rate of each patient, on what area, with its interval."""
    header = (
        "predictor", "patient", "slides", "reference", "predicted_on_annotated_area", "predicted", "low", "high",
        "tumour_bed_mm2", "good_response", "good_response_low", "good_response_high", "why_no_grade",
        "viable_foci_to_review",
    )  # fmt: skip
    rows = []
    for predictor, facts in metrics["predictors"].items():
        for row in facts.get("necrosis_by_patient", ()):
            interval, huvos = row.get("interval", {}), row.get("huvos", {})
            good = huvos.get("good_response", {})
            rows.append((
                predictor, row["patient"], " ".join(row["slides"]), row["reference"], row["predicted_there"],
                row["predicted"], interval.get("low"), interval.get("high"), row["tumour_bed_mm2"], good.get("value"),
                good.get("low"), good.get("high"), huvos.get("reason"), row["review"],
            ))  # fmt: skip
    write_csv(path, header, rows)


def write_slides(
    path: Path, slides: SlideTable, lost: Sequence[Lost], results: Mapping[str, Sequence[Mapping[str, Any]]],
    recipe: SlideRecipe, deployed: Mapping[str, str],
) -> None:  # fmt: skip
    """slides.csv: every slide of the table, what became of it, and its held-out values."""
    header = ("patient", "slide", "annotated", "state", "predictor", "fold", "tissue_mm2", "share_annotated", "miou",
              "reference_rate", "rate_on_annotated_area", "rate")  # fmt: skip
    gone = {one.slide: one for one in lost}
    rows: list[tuple[Any, ...]] = []
    for name, why in gone.items():
        rows.append((why.patient, name, None, f"not used: {why.reason}", *[None] * 8))
    for predictor, found in results.items():
        for one in found:
            rates = _rates(one, map_of(one, deployed[predictor]), recipe)
            rows.append((one["patient"], one["slide"], one["annotated"], "held out", predictor, one["fold"],
                         one["tissue_mm2"], one.get("share_annotated"), *rates))  # fmt: skip
    seen = {row[1] for row in rows} | set(gone)
    rows += [
        (case.patient, case.slide, case.annotation is not None, "not held out by any fold", *[None] * 8)
        for case in slides.cases if case.slide not in seen
    ]  # fmt: skip
    write_csv(path, header, rows)


def _rates(one: Mapping[str, Any], found: Mapping[str, Any], recipe: SlideRecipe) -> tuple[float | None, ...]:
    whole = rates_of(found["areas"], recipe).get("necrosis_rate")
    if not one["annotated"]:
        return (None, None, None, whole)
    table = np.asarray(found["table"], dtype=np.float64)
    miou = float(overlap(table).overall["miou"]) if table.sum() else float("nan")
    sides: list[float] = [miou]
    if recipe.bed is not None:
        sides += [float(necrosis_rates(table.sum(axis=axis), recipe.bed)) for axis in (1, 0)]
    else:
        sides += [float("nan")] * 2
    return (*(None if v != v else v for v in sides), whole)


def _three(found: Mapping[str, Any]) -> list[Any]:
    return [found.get("value"), found.get("low"), found.get("high")]


def summary_rows(metrics: Mapping[str, Any], slides: SlideTable, lost: Sequence[Lost]) -> list[tuple[str, str, str]]:
    """Table 1 of a region study: what, annotated slides, the others."""
    used = [case for case in slides.cases if case.slide not in {one.slide for one in lost}]
    drawn = [case for case in used if case.annotation is not None]
    plain = [case for case in used if case.annotation is None]
    out = [
        ("Slides", str(len(drawn)), str(len(plain))),
        ("Patients", str(len({c.patient for c in drawn})), str(len({c.patient for c in plain}))),
    ]
    counts = [[sum(c.patient == p for c in side) for p in {c.patient for c in side}] for side in (drawn, plain)]
    out.append(("Slides per patient, median (range)", _span(counts[0]), _span(counts[1])))
    tissue = metrics["tissue_mm2"]
    out.append(("Tissue per slide, mm², median (range)", _span(tissue["annotated"]), _span(tissue["others"])))
    for facts in list(metrics["classes"].values())[1:]:
        out.append((f"Annotated as {facts['name']}, mm² (share)", _area(facts), ""))
    rates = [r for r in metrics["reference_rates"] if r is not None]
    if metrics["necrosis"]:
        out.append(("Reference necrosis rate of patients, median (range)", _span(rates, percent=True), ""))
    return out


def _area(facts: Mapping[str, Any]) -> str:
    share = "–" if facts["share"] is None else f"{100 * facts['share']:.1f} %"
    return f"{facts['mm2']:.3g} ({share})"


def _span(values: Sequence[float], *, percent: bool = False) -> str:
    if not values:
        return "–"
    scale, end = (100.0, " %") if percent else (1.0, "")
    middle, low, high = (float(f(values)) * scale for f in (np.median, np.min, np.max))
    return f"{middle:.3g} ({low:.3g} to {high:.3g}){end}"
