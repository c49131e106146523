"""The section on images and radiomics: what was measured, who was lost, how the score was chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.predictors.radscore import WINSOR_SD
from osml.report.exhibit import Exhibit
from osml.report.feature_words import feature_words
from osml.report.html import Markup, details, join, number, table, tag
from osml.report.radscores import Radscore
from osml.report.run import Run, read_note, read_table
from osml.report.wording import percent, plural
from osml.schema.images import LogFilter, RadiomicsInput

Cells = list[object]
COUNT_WORDS = ("Accuracy", "Sensitivity", "Specificity", "Precision", "F1")
_OPTIMISTIC = (
    "A score of few features out of many fits the patients that it was chosen on, whatever it is worth. Numbers on "
    "those patients (“apparent”, the “training set” of many papers) stand beside the held-out ones to show by how much."
)
_REGIONS = (
    "Regions are compared to describe them: there is no test between them and no p-value. The region was chosen on the "
    "inner folds of the same patients, so the best one looks better there than it is; the choice is made again in "
    "every outer fold, and the held-out results carry its cost."
)


def radiomics_inputs(run: Run) -> list[str]:
    """Radiomics inputs whose features the run holds, in the order of the schema."""
    return [name for name in run.schema.radiomics() if name in run.cohort.features]


def measured(run: Run, name: str) -> list[object]:
    """What was extracted from which image, with which settings, and who was lost on the way."""
    block = run.schema.radiomics()[name]
    features = run.cohort.features[name].columns
    regions = list(dict.fromkeys(c.split("|")[1] for c in features))
    each = len(features) // max(len(regions), 1)
    images = list(dict.fromkeys(c.split("|")[-1].rsplit("_", 2)[0] for c in features))
    source = run.schema.inputs[block.of]
    title = getattr(source, "label", None) or block.of
    n = len(run.cohort)
    words = (
        f"From {title} with its mask, {each:,} features were computed in each of {plural(len(regions), 'region')} of "
        f"{n} {run.units}: {plural(len(features), 'candidate')}. They depend on each patient's own image only and know "
        "no outcome, so they were computed before any split; everything learnt from them is learnt inside the folds."
    )
    return [
        tag("h3", f"{block.label or name}: radiomics of {title}"),
        tag("p", words),
        tag("p", _lost(run, name)),
        details("Settings of the extraction", _settings(run, block, images)),
        _extent(run, name),
    ]


def _lost(run: Run, name: str) -> str:
    file = run.path / "cohort" / "images.csv"
    reasons: dict[str, int] = {}
    if file.is_file():
        header, rows = read_table(file)
        for row in (dict(zip(header, cells, strict=True)) for cells in rows):
            if row["input"] == name:
                reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    if not reasons:
        return f"Every one of the {run.units} had an image and a mask that could be used."
    listed = ", ".join(f"{count} × {reason.replace('_', ' ')}" for reason, count in reasons.items())
    evidence = next((c["evidence"] for c in run.checks if c["code"] == "OSML020"), "")
    by_outcome = evidence.partition("; ")[2]  # reasons come first, and stand here already
    return (
        f"{sum(reasons.values())} had no usable image and left the whole study, so that all predictors are compared on "
        f"the same {run.units}: {listed}. Nobody's image was replaced or guessed. cohort/images.csv says who and why."
        f"{f' All inputs together {by_outcome}.' if by_outcome else ''}"
    )


def _settings(run: Run, block: RadiomicsInput, images: Sequence[str]) -> Markup:
    normalise, bins = block.normalise, block.bins
    by = "pyradiomics" if block.engine == "pyradiomics" else f"osml {run.environment['osml']}"
    rows: list[Cells] = [
        ["Engine", f"{by}; feature names and definitions of {'the IBSI' if block.ibsi else 'PyRadiomics 3.0.1'}"],
        ["Grey values", "as stored" if normalise is None else
         f"z-score over the {'whole image' if normalise.over == 'image' else 'body'}, times {normalise.scale:g}"],
        ["Grid", "as stored" if block.spacing is None else
         f"resampled to {' × '.join(f'{s:g}' for s in block.spacing)} mm; image by B-spline, mask by nearest voxel"],
        ["Grey levels", f"{bins.count} per region and image" if bins.count is not None else
         f"fixed bin width {25.0 if bins.width is None else bins.width:g}"],
        ["Images", ", ".join(_filter_words(f) for f in block.filters) + f" ({len(images)})"],
        ["Features", ", ".join(block.classes) + (", within slices" if block.in_plane else "")],
        ["Filters around", "all regions at once, so that filtered images do not depend on the region"
         if block.crop == "shared" else "each region by itself, as PyRadiomics crops"],
        ["Ring outside the image or body", "clipped, share reported" if block.leaving == "clip" else "patient refused"],
        ["Stability", _stability(run, block)],
        ["Harmonisation", "none" if block.harmonise is None else "ComBat over sites, learnt inside each training fold"],
    ]  # fmt: skip
    return table(("Setting", "Value"), rows, "Settings of the extraction", text_columns=2)


def _filter_words(item: Any) -> str:
    if isinstance(item, LogFilter):
        return f"LoG {', '.join(f'{s:g}' for s in item.log)} mm"
    return str(item)


def _stability(run: Run, block: RadiomicsInput) -> str:
    stability = block.stability
    if stability is None:
        return "not asked for: no feature was dropped for depending on who draws the mask"
    how = (
        f"{stability.perturb} perturbed copies of mask and image per patient (moved, grown or shrunken, noise added)"
        if stability.perturb is not None
        else f"a second reader's masks (column “{stability.masks}”)"
    )
    return f"{how}; features with ICC({stability.icc}) below {stability.min:g} in the training patients were dropped"


def _extent(run: Run, name: str) -> object:
    """Size of every region, and how often it had to be clipped."""
    file = run.path / "cohort" / f"regions_{name}.csv"
    if not file.is_file():
        return None
    header, lines = read_table(file)
    spacing = run.schema.radiomics()[name].spacing
    by_region: dict[str, list[dict[str, str]]] = {}
    for cells in lines:
        row = dict(zip(header, cells, strict=True))
        by_region.setdefault(row["region"], []).append(row)
    ml = float(np.prod(spacing)) / 1000 if spacing is not None and len(spacing) == 3 else None
    rows: list[Cells] = []
    for region, mine in by_region.items():
        size = np.array([float(r["voxels"]) for r in mine]) * (ml or 1.0)
        clipped = np.array([float(r["clipped_share"]) for r in mine])
        flat = sum(r["in_plane_only"] == "True" for r in mine)
        level = sum(int(r["one_level_images"]) > 0 for r in mine)
        rows.append([
            region, f"{_size(np.median(size))} ({_size(size.min())} to {_size(size.max())})",
            f"{int((clipped > 0).sum())}" + (f" (at most {percent(round(clipped.max(), 3))})" if clipped.any() else ""),
            flat, level,
        ])  # fmt: skip
    unit = "ml" if ml else "voxels"
    head = ("Region", f"Size in {unit}, median (range)", "Clipped in", "Within slices only", "One grey level somewhere")
    note = (
        f"Numbers of {run.units}. Within slices only: the ring is thinner than the distance between slices, so it "
        "surrounds the lesion in its own slices only. One grey level: some filtered image is flat there."
    )
    return join([table(head, rows, f"Regions of {name}"), tag("p", note, class_="note")])


def _size(value: Any) -> str:
    return f"{float(value):,.1f}" if value < 10 else f"{float(value):,.0f}"


def chosen(run: Run, score: Radscore) -> list[object]:
    """What a Rad-score is made of, and how its region was chosen; the figures stand under it."""
    out: list[object] = [tag("h3", f"How {score.name} was made")]
    if score.final is None:
        out.append(tag("p", f"There is no final score: {score.reason}.", class_="absent"))
    else:
        out += [tag("p", _words(run, score)), _formula(run, score)]
    if score.several_regions:
        out += [tag("p", _REGIONS), regions_table(run, score)]
    return out


def _words(run: Run, score: Radscore) -> str:
    assert score.final is not None
    n, region = len(score.final.columns), score.final.region
    same = sum(f.region == region for f in score.folds)
    parts = [f"The final score reads {plural(n, 'feature')} of the region {region}."]
    if not n:
        parts = [
            f"In the region {region} no feature was worth a coefficient: the score is the same for every patient, and "
            "says nothing about any of them."
        ]
    elif score.block.score == "forest":
        parts.append("It is the probability of a random forest on these features, written as log odds.")
    if score.several_regions and score.folds:
        parts.append(f"{same} of {plural(len(score.folds), 'outer fold')} chose this region too.")
    empty = sum(not f.columns for f in score.folds)
    if empty:
        parts.append(f"In {empty} of {plural(len(score.folds), 'outer fold')} no feature was selected.")
    return " ".join([*parts, _OPTIMISTIC])


def _formula(run: Run, score: Radscore) -> object:
    assert score.final is not None
    if not score.final.columns:
        return None
    coefficients = run.metrics["predictors"][score.name].get("selected", {})
    counts = dict(score.frequency)
    linear = score.block.score == "linear"
    rows: list[Cells] = [
        [feature_words(c, region=False), c.split("|")[-1],
         *([number(coefficients.get(c), 3, ("predictors", score.name, "selected", c))] if linear else []),
         f"{counts.get(c, 0)} of {len(score.folds)}"]
        for c in score.final.columns
    ]  # fmt: skip
    scale = "log hazard" if run.survival else "log odds"
    head = ("Feature", "Column", *(("Coefficient per SD",) if linear else ()), "Outer folds")
    note = f"Values further than {WINSOR_SD:g} SD from the training mean are drawn in to that limit before they enter."
    caption = f"{score.name}: sum of coefficient × (feature − mean) / SD, on the {scale} scale" if linear else (
        f"{score.name}: features of the forest"
    )  # fmt: skip
    return join([table(head, rows, caption, text_columns=2), tag("p", note, class_="note")])


def regions_table(run: Run, score: Radscore) -> object:
    """Table 3 of radiomics papers; survival: mean C on inner folds."""
    if run.survival or run.withheld:
        return _regions_inner(run, score)
    path = run.path / "tables" / f"regions_{score.name}.csv"
    if not path.is_file():
        return _regions_inner(run, score)
    header, lines = read_table(path)
    rows: list[Cells] = []
    for cells in lines:
        row = dict(zip(header, cells, strict=True))
        name: object = tag("strong", f"{row['region']} (chosen)") if row["chosen"] == "True" else row["region"]
        if row["data"] not in ("apparent", "inner folds"):
            rows.append([name, row["data"], *["–"] * 8])
            continue
        area = join(
            [_two(row["auc"]), f" ({_two(row['auc_low'])} to {_two(row['auc_high'])})" if row["auc_low"] else ""]
        )
        counts = [_two(row[key]) for key in ("accuracy", "sensitivity", "specificity", "precision", "f1")]
        rows.append([name, row["data"], row["n"], row["features"], area, *counts])
    head = ("Region", "Data", run.units.capitalize(), "Features", "AUC (95 %)", *COUNT_WORDS)
    note = re.sub(r"`([^`]*)`", r"“\1”", read_note(path))
    return join([
        table(head, rows, f"Regions of {score.name}", text_columns=2),
        tag("p", note, class_="note") if note else "",
        tag("p", "File: ", tag("code", f"tables/{path.name}"), class_="file"),
    ])  # fmt: skip


def _two(text: str) -> str:
    return f"{float(text):.2f}" if text else "–"


def _regions_inner(run: Run, score: Radscore) -> object:
    facts = run.metrics["predictors"].get(score.name, {}).get("radscore", {})
    if len(facts.get("regions", ())) < 2:
        return None
    measure = "C" if run.survival else "AUC"
    rows: list[Cells] = []
    for k, row in enumerate(facts["regions"]):
        name: object = tag("strong", f"{row['region']} (chosen)") if row["region"] == facts["region"] else row["region"]
        path = ("predictors", score.name, "radscore", "regions", k, "discrimination")
        rows.append([name, number(row["discrimination"], 2, path)])
    return table(("Region", f"Mean {measure} over inner folds"), rows, f"Regions of {score.name}")


def section(
    run: Run, regions: Sequence[Exhibit], scores: Sequence[tuple[Radscore, Sequence[Exhibit]]], draw: Any
) -> list[object]:
    """Content of the section; `draw` turns exhibits into markup."""
    out: list[object] = []
    for name in radiomics_inputs(run):
        out += measured(run, name)
    if regions:
        out.append(draw(regions))
    for score, exhibits in scores:
        out += [*chosen(run, score), draw(exhibits)]
    return out
