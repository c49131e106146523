"""Held-out slides to look at: what somebody drew beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.evaluation.necrosis import necrosis_rates
from osml.evaluation.segmentation import overlap
from osml.files import write_json
from osml.imaging.slides_classes import LabelRaster
from osml.imaging.slides_draw import class_overlay, picture_view
from osml.imaging.slides_files import write_png
from osml.imaging.slides_tissue import overview
from osml.predictors.slide_recipe import SlideRecipe
from osml.study.slides.judge import BEST, map_of
from osml.study.slides.measure import read_labels

if TYPE_CHECKING:
    from osml.predictors.slide_prepare import PreparedSlide

SHOWN, SIDE, GAP = 3, 640, 12


def write_overlays(
    run: Path, predictor: str, prepared: Mapping[str, PreparedSlide], results: Sequence[Mapping[str, Any]], kind: str,
    recipe: SlideRecipe,
) -> None:  # fmt: skip
    """overlays/<predictor>-1.png …: the slides with the lowest, middle and highest mean IoU; overlays/<predictor>.json
    says which and why."""
    from osml.predictors.slide_prepare import slide_of

    chosen = pick(results, kind)
    facts = []
    for number, (one, miou) in enumerate(chosen, start=1):
        made = prepared[one["slide"]]
        used = one["chosen"] if kind == BEST else kind
        labels = read_labels(run / "folds" / one["fold"] / predictor / "maps" / f"{one['slide']}.{used}.png")
        rasters = [made.raster, LabelRaster(labels, made.frame.scale, made.frame.mpp)]
        with slide_of(made) as slide:
            view = picture_view(slide, overview(slide), SIDE)
        glass = recipe.names[:1]
        pictures = [class_overlay(view, raster, recipe.classes, skip=glass, side=SIDE) for raster in rasters]
        write_png(run / "overlays" / f"{predictor}-{number}.png", side_by_side(pictures))
        facts.append({
            "slide": one["slide"], "patient": one["patient"], "fold": one["fold"], "map": used, "miou": miou,
            **_rates(one, kind, recipe),
        })  # fmt: skip
    write_json(run / "overlays" / f"{predictor}.json", facts)


def pick(results: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[Mapping[str, Any], float]]:
    """Annotated slides with the lowest, the middle and the highest mean IoU, each once; ties by name."""
    scored = {}
    for one in results:
        if one["annotated"] and one["slide"] not in scored:
            table = np.asarray(map_of(one, kind)["table"], dtype=np.float64)
            if table.sum():
                scored[one["slide"]] = (one, float(overlap(table).overall["miou"]))
    order = sorted(scored.values(), key=lambda pair: (pair[1], pair[0]["slide"]))
    places = dict.fromkeys(round(k * (len(order) - 1) / (SHOWN - 1)) for k in range(SHOWN)) if order else {}
    return [order[place] for place in places]


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height beside each other on white."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([pictures[0], *(part for p in pictures[1:] for part in (gap, p))], axis=1)


def _rates(one: Mapping[str, Any], kind: str, recipe: SlideRecipe) -> dict[str, float | None]:
    if recipe.bed is None:
        return {}
    table = np.asarray(map_of(one, kind)["table"], dtype=np.float64)
    true, called = (float(necrosis_rates(table.sum(axis=axis), recipe.bed)) for axis in (1, 0))
    return {"reference": None if true != true else true, "predicted": None if called != called else called}
