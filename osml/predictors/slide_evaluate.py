"""Class maps judged against annotations: overlap, necrosis error, patients apart, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError, missing_extra
from osml.evaluation.bootstrap import Interval
from osml.evaluation.necrosis import NecrosisErrors, TumourBed, necrosis_errors, necrosis_rates
from osml.evaluation.segmentation import (
    EACH,
    OVERALL,
    UNLABELLED,
    SegmentationReport,
    Table,
    confusion_table,
    segmentation_report,
)
from osml.files import read_json
from osml.imaging.errors import UnreadableError
from osml.imaging.slides import Level, Pixels, Slide
from osml.imaging.slides_classes import NOTHING, SlideClass
from osml.imaging.slides_labels import label_raster
from osml.predictors.slide_segment import FACTS, MAP, interval_facts


@dataclass(frozen=True)
class Judged:
    """What maps are worth.

    overlap : over annotated cells of all slides, of each patient, with intervals by drawing patients
    necrosis : of the annotated cells' rates; None where the maps count none
    slides : that were judged
    """

    overlap: SegmentationReport
    necrosis: NecrosisErrors | None
    slides: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it; NaN as null."""
        found, names = self.overlap, self.overlap.classes
        out: dict[str, Any] = {
            "slides": list(self.slides), "unlabelled_cells": found.unlabelled, "absent": list(found.absent),
            "no_interval": found.no_interval,
            "overall": {name: _value(found.pooled.overall[name], found.intervals.get(name)) for name in OVERALL},
            "classes": {
                label: {n: _value(found.pooled.each[n][k], found.class_intervals.get((n, label))) for n in EACH}
                for k, label in enumerate(names)
            },
            "patients": {
                patient: {name: _plain(found.by_patient.overall[name][k]) for name in OVERALL}
                for k, patient in enumerate(found.patients)
            },
        }  # fmt: skip
        if self.necrosis is not None:
            n = self.necrosis
            out["necrosis"] = {
                "mean_absolute_error_points": _value(n.mean_absolute, n.mean_absolute_interval),
                "bias_points": _value(n.bias, n.bias_interval),
                "patients": {
                    who: {"reference": float(r), "predicted": float(p)}
                    for who, r, p in zip(n.patients, n.reference, n.predicted, strict=True)
                },
                "without_reference": list(n.without_reference), "without_prediction": list(n.without_prediction),
            }  # fmt: skip
        return out


def evaluate_maps(place: Path, annotations: Mapping[str, tuple[str, Path]], *, seed: int = 0) -> Judged:
    """Judge segmented slides.

    Parameters
    ----------
    place : a folder of `segment_slide`, the class map in it, or a folder of such folders
    annotations : patient and annotation by slide; slides that are not in `place` are refused, those of `place` that are
        not named are left out

    Raises
    ------
    InvalidInputError
        No map, a named slide without one, or maps of other classes than each other's.
    AnnotationError
        An annotation does not fit its slide.
    """
    folders = _folders(place)
    missing = sorted(set(annotations) - set(folders))
    if missing and len(folders) > 1:
        raise InvalidInputError(
            f"{len(missing)} slides of the table have no map in {place}: {', '.join(missing[:5])}",
            why="A slide that failed would not count.", do="Segment them, or leave their lines out.",
        )  # fmt: skip
    chosen = [name for name in folders if name in annotations]
    if not chosen:
        raise InvalidInputError(f"the table names none of the slides in {place}: {', '.join(sorted(folders)[:5])}")
    facts = {name: read_json(folders[name] / FACTS) for name in chosen}
    first = facts[chosen[0]]
    if any(one["classes"] != first["classes"] for one in facts.values()):
        raise InvalidInputError(f"the maps in {place} are of different classes", do="Judge each model's maps apart.")
    classes = [SlideClass(c["name"], tuple(c["colour"]), c["label"]) for c in first["classes"]]
    tables: list[Table] = []
    for name in chosen:
        predicted = read_map(folders[name] / MAP)
        reference = _reference(facts[name], annotations[name][1], classes, predicted.shape)
        tables.append(confusion_table(reference, predicted.astype(np.int16), len(classes)))
    patients = [annotations[name][0] for name in chosen]
    report = segmentation_report(tables, patients, [kind.name for kind in classes], seed=seed)
    necrosis = None
    if first["necrosis"] is not None:
        names = [kind.name for kind in classes]
        sides = (tuple(names.index(n) for n in first["necrosis"][side]) for side in ("viable", "necrotic"))
        bed = TumourBed(*sides)
        reference_rate, predicted_rate = (necrosis_rates(report.tables.sum(axis=axis), bed) for axis in (2, 1))
        necrosis = necrosis_errors(report.patients, reference_rate, predicted_rate, seed=seed)
    return Judged(report, necrosis, tuple(chosen))


def print_judged(judged: Judged, say: Callable[[str], None]) -> None:
    """As text."""
    found = judged.overlap
    say(f"{len(judged.slides)} slides of {len(found.patients)} patients; per cent, 95 % intervals by drawing patients")
    if found.no_interval:
        say(f"no intervals: {found.no_interval}")
    for name in OVERALL:
        say(f"  {name:<12}{_text(float(found.pooled.overall[name]), found.intervals.get(name), 100)}")
    say(f"  {'class':<12}" + "".join(f"{name:<22}" for name in EACH))
    for k, label in enumerate(found.classes):
        cells = [_text(float(found.pooled.each[n][k]), found.class_intervals.get((n, label)), 100) for n in EACH]
        say(f"  {label:<12}" + "".join(f"{cell:<22}" for cell in cells))
    if found.absent:
        say(f"  in no map: {', '.join(found.absent)}")
    if judged.necrosis is not None:
        n = judged.necrosis
        size = _text(n.mean_absolute, n.mean_absolute_interval, 1)
        say(f"  necrosis    mean |reference − predicted| {size} points; bias {_text(n.bias, n.bias_interval, 1)}")
        for who, r, p in zip(n.patients, n.reference, n.predicted, strict=True):
            say(f"    {who}: reference {100 * r:.1f} %, predicted {100 * p:.1f} %")
        for what, without in (("reference", n.without_reference), ("prediction", n.without_prediction)):
            if without:
                say(f"    without tumour bed in the {what}: {', '.join(without)}")
    say("Annotated cells only; cells that nobody annotated: " + f"{found.unlabelled:,}.")


def read_map(path: Path) -> NDArray[np.uint8]:
    """A class map as `segment_slide` writes it, uint8 (h, w).

    Raises
    ------
    UnreadableError
        Not a map of classes.
    """
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile with imagecodecs", "slides", "reading OME-TIFF") from error
    try:
        labels = tifffile.imread(path, series=0, level=0)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise UnreadableError(f"{path}: cannot be read as a class map ({str(error)[:100]})") from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise UnreadableError(f"{path}: {labels.dtype} of shape {labels.shape}; a map of one byte per cell is expected")
    return np.asarray(labels)


def _folders(place: Path) -> dict[str, Path]:
    """Folders of segmented slides by the slide's name."""
    folder = place.parent if place.is_file() else place
    here = [folder] if (folder / FACTS).is_file() else sorted(p.parent for p in folder.glob(f"*/{FACTS}"))
    if not here:
        raise InvalidInputError(
            f"{place} holds no segmented slide", do="Give what `osml slide segment` wrote: its folder, or one slide's."
        )
    return {str(read_json(one / FACTS)["slide"]): one for one in here if not one.name.startswith(".")}


def _reference(
    facts: Mapping[str, Any], annotation: Path, classes: Sequence[SlideClass], shape: tuple[int, ...]
) -> NDArray[np.int16]:  # fmt: skip
    """Classes of the map's cells as annotated, -1 where nobody said."""
    level = Level(facts["width"], facts["height"], 1.0, facts["mpp"])
    slide = Slide(Path(facts["slide"]), facts["slide"], "map", facts["mpp"], "map", (level,), (), _NoPixels())
    raster = label_raster(slide, annotation, classes, mpp=facts["map"]["mpp"], background=[classes[0].name])
    if raster.labels.shape != shape:
        raise UnreadableError(f"{facts['slide']}: the map has {shape} cells, {raster.labels.shape} are expected")
    out = raster.labels.astype(np.int16)
    out[raster.labels == NOTHING] = UNLABELLED
    return out


class _NoPixels:
    """Annotations need a slide's size and scale only."""

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        raise UnreadableError("a class map has no pixels of its slide")

    def close(self) -> None:
        return None


def _value(value: Any, interval: Interval | None) -> dict[str, Any]:
    return {"value": _plain(value), "interval": None if interval is None else interval_facts(interval)}


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _text(value: float, interval: Interval | None, factor: float) -> str:
    if not np.isfinite(value):
        return "–"
    limits = "" if interval is None else f" ({factor * interval.low:.1f} to {factor * interval.high:.1f})"
    return f"{factor * value:.1f}{limits}"
