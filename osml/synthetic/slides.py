"""Synthetic whole slides: pyramidal TIFF, true class masks, QuPath annotations, necrosis rates.

Planted: smooth regions of seven classes in islands of tissue; a response to treatment that the slides of a patient
share; a stain of each patient's laboratory, a little different on every slide. A share of the tissue is drawn with the
texture of another class, in patches about as large as a tile of 256 px: one tile alone cannot tell, its surroundings
can.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError, missing_extra
from osml.files import atomic_write, write_csv, write_json
from osml.imaging.slides_classes import PAPER_CLASSES, LabelRaster
from osml.imaging.slides_files import whole_file
from osml.imaging.slides_geojson import write_geojson
from osml.synthetic.nac import NOTICE
from osml.synthetic.slide_regions import CELL, NAMES, Regions, draw_regions, necrosis_rate
from osml.synthetic.slide_textures import MPP, SIDE, draw_texture
from osml.synthetic.tissue import REFERENCE

Pixels = NDArray[np.uint8]
COLUMNS = ("case", "slide", "path", "mask", "annotation", "necrosis_rate")
TILE = 256
JPEG_QUALITY = 80
# Pixels along a side of a slide.
SIDES = (4096, 6144)
_LEVELS = 3
_BLOCK = 512


@dataclass(frozen=True)
class SlideRow:
    """What the table says of a slide; paths relative to the folder."""

    patient: str
    slide: str
    necrosis_rate: float | None

    def cells(self) -> tuple[str, ...]:
        """In the order of `COLUMNS`; the rate empty where there is no tumour."""
        rate = "" if self.necrosis_rate is None else f"{self.necrosis_rate:.6f}"
        name = self.slide
        return (self.patient, name, f"slides/{name}.tif", f"masks/{name}.png", f"annotations/{name}.geojson", rate)


@dataclass(frozen=True)
class _Patient:
    number: int
    seed: int
    slides: int
    sides: tuple[int, int]
    deceiving: float
    folder: Path


def write_slides(
    folder: Path, patients: int = 12, seed: int = 2026, *, max_slides: int = 3, sides: tuple[int, int] = SIDES,
    deceiving: float = 0.2, workers: int | None = None, progress: Progress | None = None,
) -> tuple[SlideRow, ...]:  # fmt: skip
    """Write slides/, masks/, annotations/, truth.json, a notice and, last, slides.csv.

    Parameters
    ----------
    patients : at least 2
    max_slides : 1 to this many slides a patient
    sides : smallest and largest side of a slide in pixels
    deceiving : share of the tissue that is drawn with the texture of another class
    """
    if patients < 2 or max_slides < 1 or not 512 <= sides[0] <= sides[1] or not 0 <= deceiving < 0.5:
        raise InvalidInputError(
            f"{patients} patients, up to {max_slides} slides of {sides[0]} to {sides[1]} px, {deceiving:g} deceiving",
            do="At least 2 patients, 1 slide, 512 px, and a share from 0 to below 0.5.",
        )
    counts = np.random.default_rng([seed, 0]).integers(1, max_slides + 1, patients)
    tasks = [_Patient(p, seed, int(n), sides, deceiving, folder) for p, n in enumerate(counts)]
    found: dict[int, list[SlideRow]] = {}
    for outcome in run_tasks(_write_patient, tasks, workers=workers, progress=progress):
        if outcome.error is not None:
            raise outcome.error
        found[outcome.index] = outcome.result
    rows = tuple(row for p in range(patients) for row in found[p])
    command = f"osml synth slides --patients {patients} --seed {seed}"
    write_notes(folder, rows, NOTICE, command, {"mpp": MPP, "deceiving": deceiving, "cell_px": CELL})
    return rows


def write_notes(
    folder: Path, rows: Sequence[SlideRow], notice: str, command: str, planted: dict[str, object],
    sources: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """truth.json, the notice and slides.csv."""
    classes = [{"name": kind.name, "colour": list(kind.colour), "label": kind.label} for kind in PAPER_CLASSES]
    write_json(
        folder / "truth.json",
        {"synthetic": True, "notice": notice.strip(), "command": command, "classes": classes, **planted},
    )
    atomic_write(folder / "SYNTHETIC.txt", notice + command + "\n")
    if sources is None:
        write_csv(folder / "slides.csv", COLUMNS, [row.cells() for row in rows])
        return
    cells = [(*row.cells(), source) for row, source in zip(rows, sources, strict=True)]
    write_csv(folder / "slides.csv", (*COLUMNS, "sources"), cells)


def write_truth(folder: Path, name: str, regions: Regions, side: tuple[int, int], mpp: float) -> None:
    """The mask in the classes' colours and the annotations; the background is in the mask only."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "slides", "writing pictures") from error
    picture = Image.fromarray(regions.truth, "P")
    picture.putpalette([value for kind in PAPER_CLASSES for value in kind.colour])
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    atomic_write(folder / f"masks/{name}.png", stream.getvalue())
    raster = LabelRaster(regions.truth, float(CELL), mpp * CELL)
    place = folder / f"annotations/{name}.geojson"
    write_geojson(place, raster, PAPER_CLASSES, side, skip=("BG",))


def write_pyramid(path: Path, pixels: Pixels, mpp: float) -> None:
    """A tiled, pyramidal TIFF (JPEG, YCbCr): the picture, and a quarter and a sixteenth of its sides, averaged."""
    try:
        import tifffile
        from PIL import Image
    except ImportError as error:
        raise missing_extra("tifffile", "slides", "writing slides") from error
    with whole_file(path) as part, tifffile.TiffWriter(part, bigtiff=False) as writer:
        level = pixels
        for number in range(_LEVELS):
            per_cm = 10_000 / (mpp * 4**number)
            writer.write(
                level, tile=(TILE, TILE), compression="jpeg", compressionargs={"level": JPEG_QUALITY},
                photometric="rgb", subsampling=(2, 2), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
                subfiletype=int(number > 0), metadata=None, maxworkers=1,
            )  # fmt: skip
            level = np.asarray(Image.fromarray(level).reduce(4))


def _write_patient(patient: _Patient) -> list[SlideRow]:
    rng = np.random.default_rng([patient.seed, 1, patient.number])
    name = f"SLI{patient.number + 1:03d}"
    laboratory = REFERENCE.shifted(1.2, rng)
    swatches = [draw_texture(kind, rng) for kind in NAMES]
    weights = _weights(rng)
    rows = []
    for number in range(patient.slides):
        slide = f"{name}-{'ABCDEFGH'[number]}"
        own = laboratory.shifted(0.25, rng)
        low, high = (side // TILE for side in patient.sides)
        width, height = (int(rng.integers(low, high + 1)) * TILE for _ in range(2))
        # Slides of a patient respond alike, not equally.
        here = weights * np.exp(rng.normal(0, 0.25, len(weights)))
        regions = draw_regions(
            (height // CELL, width // CELL), here.tolist(), rng, deceiving=patient.deceiving
        )  # fmt: skip
        textures = np.stack([swatch.colour(own, rng) for swatch in swatches])
        write_pyramid(patient.folder / f"slides/{slide}.tif", _composed(regions, textures, rng), MPP)
        write_truth(patient.folder, slide, regions, (width, height), MPP)
        rows.append(SlideRow(name, slide, necrosis_rate(regions.truth)))
    return rows


def _weights(rng: np.random.Generator) -> NDArray[np.float64]:
    """From hardly any to nearly all tumour dead; necrosis and fibrosis are most of what is dead."""
    dead = rng.beta(0.9, 0.9) * 0.9 + 0.05
    kinds = rng.dirichlet([3.0, 2.5, 1.0, 1.0])
    return np.array([0.0, 1 - dead, *(dead * kinds), rng.uniform(0.15, 0.35)])


def _composed(regions: Regions, textures: Pixels, rng: np.random.Generator) -> Pixels:
    """Level 0: each pixel from the texture of its cell; borders between cells are ragged."""
    height, width = (n * CELL for n in regions.drawn.shape)
    out = np.empty((height, width, 3), dtype=np.uint8)
    flat = np.ascontiguousarray(textures).reshape(-1, 3)
    shifts = [rng.integers(0, SIDE, len(NAMES)) for _ in range(2)]
    turned = rng.random(len(NAMES)) < 0.5
    ragged = rng.integers(-CELL // 2, CELL // 2 + 1, (2, _BLOCK, _BLOCK))
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            h, w = min(_BLOCK, height - top), min(_BLOCK, width - left)
            y, x = np.arange(top, top + h)[:, None], np.arange(left, left + w)
            kind = regions.drawn[
                np.clip(y + ragged[0, :h, :w], 0, height - 1) // CELL,
                np.clip(x + ragged[1, :h, :w], 0, width - 1) // CELL,
            ].astype(np.int64)
            if (only := int(kind[0, 0])) == int(kind.max()) == int(kind.min()):
                # Most blocks are glass, or one region.
                kind = np.full((1, 1), only)
            row, column = y + shifts[0][kind], x + shifts[1][kind]
            row, column = np.where(turned[kind], column, row), np.where(turned[kind], row, column)
            at = (kind * SIDE + row % SIDE) * SIDE + column % SIDE
            out[top : top + h, left : left + w] = flat.take(at, axis=0)
    return out
