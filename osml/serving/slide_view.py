"""A segmented slide to look at: classes over the slide or over a part of it, areas, necrosis rate, files."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.files import read_json
from osml.imaging.slides_classes import SlideClass
from osml.imaging.slides_draw import painted
from osml.runs.results import Grid
from osml.serving.regions import RegionModel
from osml.serving.slide_jobs import SlideJob, read_region

SIDE = 900
# Longer side of a zoomed region: wide enough for a field of view, narrow enough to show cells.
ZOOM_MM = (0.25, 0.5, 1.0, 2.0, 5.0)
FILES = (
    ("Outlines for QuPath (GeoJSON)", "classes.geojson", "application/geo+json"),
    ("Areas (CSV)", "areas.csv", "text/csv"),
    ("Class map (OME-TIFF)", "classes.ome.tif", "image/tiff"),
    ("All facts (JSON)", "slide.json", "application/json"),
)


@dataclass(frozen=True)
class SegmentedSlide:
    """What a finished job left.

    folder : its result; slide, name : the file that was segmented
    """

    folder: Path
    slide: Path
    name: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Content of slide.json."""
        found: dict[str, Any] = read_json(self.folder / "slide.json")
        return found

    @property
    def classes(self) -> tuple[SlideClass, ...]:
        """Classes in the order of their numbers."""
        return tuple(SlideClass(k["name"], tuple(k["colour"]), k["label"]) for k in self.facts["classes"])

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """The class map, cell by cell."""
        try:
            import tifffile
        except ImportError as error:
            raise missing_extra("tifffile with imagecodecs", "slides", "reading class maps") from error
        with tifffile.TiffFile(self.folder / "classes.ome.tif") as file:
            found: NDArray[np.uint8] = file.series[0].levels[0].asarray()
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0."""
        return int(self.facts["width"]), int(self.facts["height"])

    def file(self, name: str) -> bytes:
        """One of `FILES`."""
        return (self.folder / name).read_bytes()


def finished(job: SlideJob) -> SegmentedSlide | None:
    """The result of a job, once it is there."""
    folder = job.result
    return None if folder is None else SegmentedSlide(folder, job.slide, job.name)


def region_box(
    found: SegmentedSlide, mm: float | None, across: float, down: float
) -> tuple[int, int, int, int]:  # fmt: skip
    """The part of a slide in pixels of level 0: the whole, or a square of `mm` about a place.

    Parameters
    ----------
    across, down : middle of the square as a share of the slide's width and height, 0 to 1
    """
    width, height = found.size
    if mm is None:
        return 0, 0, width, height
    side = round(mm * 1000 / found.facts["mpp"])
    w, h = min(side, width), min(side, height)
    x = min(max(0, round(across * width - w / 2)), width - w)
    y = min(max(0, round(down * height - h / 2)), height - h)
    return x, y, w, h


def look(found: SegmentedSlide, box: tuple[int, int, int, int]) -> tuple[NDArray[np.uint8], float]:
    """Pixels of a part of the slide as it is stored, and pixels of level 0 per pixel."""
    pixels, answer = read_region(found.slide, found.name, box, SIDE)
    return pixels, float(answer["step"])


def overlay(
    found: SegmentedSlide,
    pixels: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    step: float,
    opacity: float,
    hidden: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """A part of the slide with the classes in colour; `legend` says which is which.

    opacity : of the colours, 0 (the slide alone) to 1
    hidden : names of classes that are not coloured; the glass never is
    """
    skip = {found.classes[0].name, *hidden}
    scale = float(found.facts["map"]["scale"])
    corner = box[0] / scale, box[1] / scale
    return painted(pixels, found.labels, corner, step / scale, found.classes, opacity, skip)


def legend(found: SegmentedSlide, hidden: Sequence[str] = ()) -> str:
    """SVG: the colour of each class with its words beside it, one below the other, legible on a phone."""
    shown = [kind for kind in found.classes[1:] if kind.name not in hidden]
    height = 24 * len(shown) + 8
    marks = []
    for k, kind in enumerate(shown):
        fill = "#{:02x}{:02x}{:02x}".format(*kind.colour)
        words = escape(kind.label or kind.name)
        marks.append(
            f'<rect x="8" y="{24 * k + 8}" width="16" height="16" fill="{fill}" stroke="#333"/>'
            f'<text x="34" y="{24 * k + 21}" font-family="sans-serif" font-size="15" fill="#111">{words}</text>'
        )
    size = f'width="320" height="{height}" viewBox="0 0 320 {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><rect width="320" height="{height}" rx="6" fill="#fff"/>'
        f"{''.join(marks)}</svg>"
    )


def trained_on(model: RegionModel, found: SegmentedSlide) -> bool:
    """Whether this very file helped to develop the model; the bundle knows its slides by keyed hashes only."""
    training = model.bundle.read("training.json")
    content = str(found.facts["settings"]["source"])
    own = hmac.new(bytes.fromhex(training["key"]), content.encode(), hashlib.sha256).hexdigest()
    return own in training["slides"]


def area_grid(found: SegmentedSlide) -> Grid:
    """Area and share of each class of tissue."""
    areas = found.facts["areas_mm2"]
    tissue = list(found.classes[1:])
    whole = sum(areas[kind.name] for kind in tissue)
    rows = tuple(
        (kind.label or kind.name, f"{areas[kind.name]:.3f}", f"{100 * areas[kind.name] / whole:.1f} %" if whole else "")
        for kind in tissue
    )
    return Grid(("Class", "Area (mm²)", "Share of the tissue"), (*rows, ("all tissue", f"{whole:.3f}", "")))


def necrosis_rate(found: SegmentedSlide) -> float | None:
    """Of this slide, 0 to 1; None without tumour bed, or where the predictor counts none."""
    facts = found.facts["necrosis"]
    return None if facts is None or facts["rate"] is None else float(facts["rate"])


def necrosis_words(found: SegmentedSlide) -> list[str]:
    """Interval of the necrosis rate and what that leaves out; viable areas to review."""
    facts = found.facts["necrosis"]
    if facts is None:
        return ["This predictor counts no necrosis rate."]
    labels = {kind.name: kind.label or kind.name for kind in found.classes}
    dead, alive = (" + ".join(labels[name] for name in facts[key]) for key in ("necrotic", "viable"))
    if facts["rate"] is None:
        out = ["No necrosis rate: the slide has no tumour bed."]
    else:
        interval = facts["interval"]
        words = f"no interval available ({facts['no_interval']})"
        if interval is not None:
            low, high = 100 * interval["low"], 100 * interval["high"]
            words = f"{100 * interval['level']:.0f} %: {low:.1f} to {high:.1f} %; {interval['kind']}"
        out = [f"Interval: {words}."]
    out.append(f"It is the area of {dead}, divided by that area and {alive}; {facts['tumour_bed_mm2']:.3f} mm² in all.")
    if facts["leaves_out"]:
        out.append(f"Left out: {'; '.join(facts['leaves_out'])}.")
    foci = found.facts["foci"]
    if foci is not None:
        out.append(f"{foci['for_review']} of {foci['viable']} viable areas are listed for review: {foci['why']}.")
    return [*out, *found.facts["notes"]]
