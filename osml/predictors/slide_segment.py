"""A slide segmented: class map, outlines, pictures, areas and necrosis rate, in a folder that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.evaluation.bootstrap import Interval
from osml.evaluation.huvos import GRADE_IV, foci, foci_for_review
from osml.evaluation.necrosis import PatientRate, block_areas, patient_rate
from osml.files import csv_text, json_text
from osml.imaging.slides_classes import LabelRaster
from osml.imaging.slides_draw import class_overlay
from osml.imaging.slides_files import disk_full, whole_file, whole_folder, write_png, write_whole
from osml.imaging.slides_geojson import write_geojson
from osml.imaging.slides_job import slide_key
from osml.imaging.slides_ome import write_ome
from osml.imaging.slides_tissue import Overview
from osml.predictors.slide import FittedSlide
from osml.predictors.slide_maps import BAND, maps_on_disk, most_probable
from osml.predictors.slide_prepare import PreparedSlide, prepare_slide
from osml.predictors.slide_recipe import SlideCase, SlideRecipe

VERSION = 1
MAP, OUTLINES, OVERLAY, THUMBNAIL = "classes.ome.tif", "classes.geojson", "overlay.png", "thumbnail.png"
AREAS, BLOCKS, FACTS, PROBABILITIES = "areas.csv", "blocks.csv", "slide.json", "probabilities.ome.tif"
NOT_A_REPORT = "Research use; not a pathology report. No grade of response is asserted."
# Side of the blocks that are drawn for intervals: wider than patches of one tissue.
BLOCK_UM = 1000.0
# Foci that are listed; more are counted.
MOST_FOCI = 200


@dataclass(frozen=True)
class SlideResult:
    """What was found on a slide.

    folder : where its files lie
    areas_mm2 : of each class by name
    rate : necrosis rate in 0..1; None without tumour bed, or where the recipe counts none
    facts : what `slide.json` holds
    """

    slide: str
    patient: str
    folder: Path
    areas_mm2: dict[str, float]
    rate: float | None
    facts: dict[str, Any]


def segment_slide(
    fitted: FittedSlide, case: SlideCase, out: Path, *, cache: Path | None, device: str, probabilities: bool = False,
    stage: Callable[[str], None] = lambda words: None,
) -> SlideResult:  # fmt: skip
    """Segment one slide into the folder `out`; an annotation is not looked at.

    Parameters
    ----------
    cache : for tile vectors, so that another predictor with the same encoder need not look at the slide again; None:
        nothing is kept
    probabilities : also write those of every class and cell, as bytes (255 is 1)
    stage : told what begins

    Notes
    -----
    Memory: the overview at 8 µm per pixel, batches of tiles, bands of maps that lie on disk, and the class map.

    Raises
    ------
    ImagingError
        The slide cannot be used; nothing was written (but a thumbnail where no tissue is found, which is named).
    OsmlError
        The disk is full; nothing was left.
    """
    recipe = fitted.recipe
    bare = SlideCase(case.slide, case.patient, case.path, None, case.mpp)
    encoder = fitted.encoder() if recipe.encoder.tune == "frozen" else None
    stage("tissue and tiles")
    with _cache(cache) as place:
        prepared = prepare_slide(bare, recipe, cache=place, device=device, encoder=encoder)
        with whole_folder(out) as made:
            shape = (len(recipe.classes), *prepared.frame.shape)
            with maps_on_disk(made, shape, 2) as (coarse, refined):
                stage("classes of the tiles")
                fitted.coarse(prepared, device=device, out=coarse)
                stage("refining the map")
                fitted.refined(prepared, device=device, coarse=coarse, out=refined)
                stage("areas, outlines and pictures")
                labels = most_probable(refined)
                if probabilities:
                    _write_probabilities(made / PROBABILITIES, refined, prepared, recipe)
            facts = _write(made, labels, prepared, fitted, identity(fitted, case, probabilities))
    return result_of(facts, out)


def identity(fitted: FittedSlide, case: SlideCase, probabilities: bool) -> dict[str, Any]:
    """What a finished slide is known by."""
    return {
        "version": VERSION, "source": slide_key(case.path), "mpp": case.mpp, "patient": case.patient,
        "model": fitted.identity, "probabilities": probabilities,
    }  # fmt: skip


def result_of(facts: dict[str, Any], folder: Path) -> SlideResult:
    """From what `slide.json` holds."""
    rate = None if facts["necrosis"] is None else facts["necrosis"]["rate"]
    return SlideResult(facts["slide"], facts["patient"], folder, facts["areas_mm2"], rate, facts)


def rate_facts(found: PatientRate, recipe: SlideRecipe) -> dict[str, Any]:
    """A rate for JSON: with the classes that count, the interval, and what that leaves out."""
    return {
        "rate": found.rate if np.isfinite(found.rate) else None,
        "viable": list(recipe.viable), "necrotic": list(recipe.necrotic), "tumour_bed_mm2": found.tumour_bed,
        "interval": None if found.interval is None else interval_facts(found.interval),
        "no_interval": found.reason, "leaves_out": list(found.leaves_out), "blocks": found.blocks,
        "block_um": BLOCK_UM,
    }  # fmt: skip


def interval_facts(interval: Interval) -> dict[str, Any]:
    """Limits, level and kind."""
    return {"low": interval.low, "high": interval.high, "level": interval.level, "kind": interval.kind}


@contextmanager
def _cache(cache: Path | None) -> Iterator[Path]:
    if cache is not None:
        yield cache
        return
    with TemporaryDirectory(prefix="osml-slide-") as folder:
        yield Path(folder)


def _write(
    folder: Path, labels: NDArray[np.uint8], prepared: PreparedSlide, fitted: FittedSlide, settings: dict[str, Any]
) -> dict[str, Any]:  # fmt: skip
    recipe, case = fitted.recipe, prepared.case
    background = recipe.names[:1]
    raster = LabelRaster(labels, prepared.frame.scale, prepared.frame.mpp)
    write_ome(folder / MAP, raster, recipe.classes)
    # A cell or two is noise of the map, and QuPath drowns in it.
    pieces = write_geojson(
        folder / OUTLINES, raster, recipe.classes, prepared.size, min_area_um2=4 * raster.mpp**2, skip=background
    )  # fmt: skip
    pixels = np.asarray(prepared.thumbnail)
    write_png(folder / THUMBNAIL, pixels)
    view = Overview(pixels, prepared.thumbnail_scale, prepared.thumbnail_scale * prepared.mpp)
    write_png(folder / OVERLAY, class_overlay(view, raster, recipe.classes, skip=background))
    areas = {name: float(area) for name, area in zip(recipe.names, raster.areas_mm2(len(recipe.names)), strict=True)}
    rows = [(k.name, k.label, round(areas[k.name], 6)) for k in recipe.classes[1:]]
    write_whole(folder / AREAS, csv_text(("class", "label", "mm2"), rows))
    cell_mm2 = (raster.mpp / 1000) ** 2
    blocks = block_areas(labels, len(recipe.names), side=max(1, round(BLOCK_UM / raster.mpp)), cell_mm2=cell_mm2)
    blocks = blocks[blocks[:, 1:].sum(axis=1) > 0]
    write_whole(folder / BLOCKS, csv_text(recipe.names, np.round(blocks, 6).tolist()))
    facts: dict[str, Any] = {
        "slide": case.slide, "patient": case.patient, "statement": NOT_A_REPORT, "grade": GRADE_IV,
        "width": prepared.size[0], "height": prepared.size[1], "mpp": prepared.mpp,
        "map": {"mpp": raster.mpp, "scale": raster.scale, "shape": list(labels.shape)},
        "classes": [asdict(kind) for kind in recipe.classes], "areas_mm2": areas, "tissue_mm2": prepared.tissue_mm2,
        "tiles": len(prepared.tiles), "outlines": pieces, "refiner": fitted.record()["refiner"],
        "necrosis": None, "foci": None, "notes": list(prepared.notes), "settings": settings,
    }  # fmt: skip
    if recipe.bed is not None:
        found = patient_rate(blocks, [case.slide] * len(blocks), recipe.bed)
        facts["necrosis"] = rate_facts(found, recipe)
        seen = foci(labels, recipe.bed.viable, cell_mm2=cell_mm2, slide=case.slide)
        review = foci_for_review(seen, fitted.limit)
        facts["foci"] = {
            "viable": len(seen), "for_review": len(review), "limit": asdict(fitted.limit),
            "why": "viable tumour in areas below the limit down to which such areas are found reliably"
            if fitted.limit.limit_mm2 is not None
            else "no detection limit is known, so that every viable area is listed, smallest first",
            "listed": [
                {"x": round(f.column * raster.scale), "y": round(f.row * raster.scale), "mm2": round(f.area_mm2, 6)}
                for f in review[:MOST_FOCI]
            ],
        }  # fmt: skip
    write_whole(folder / FACTS, json_text(facts))
    return facts


def _write_probabilities(path: Path, p: NDArray[Any], prepared: PreparedSlide, recipe: SlideRecipe) -> None:
    """One plane of bytes per class, tiled, deflated."""
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile with imagecodecs", "slides", "writing OME-TIFF") from error
    side = 2 * BAND

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for plane in p:
            for top in range(0, p.shape[1], side):
                for left in range(0, p.shape[2], side):
                    part = plane[top : top + side, left : left + side]
                    yield np.rint(np.clip(part, 0, 1) * 255).astype(np.uint8)

    mpp = prepared.frame.mpp
    meta = {
        "axes": "CYX", "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": "µm", "Channel": {"Name": list(recipe.names)},
        "UUID": "urn:uuid:00000000-0000-0000-0000-000000000000",
    }  # fmt: skip
    with disk_full(path), whole_file(path) as part, tifffile.TiffWriter(part, bigtiff=True, ome=True) as writer:
        writer.write(
            tiles(), shape=p.shape, dtype=np.uint8, tile=(side, side), compression="adobe_deflate",
            photometric="minisblack", resolution=(10_000 / mpp,) * 2, resolutionunit="CENTIMETER", metadata=meta,
        )  # fmt: skip
