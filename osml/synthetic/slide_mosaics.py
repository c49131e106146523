"""Synthetic slides whose regions are set with real tiles: viable, non-viable, non-tumour, on glass.

Every invented patient has source slides of his own, so patients apart are source slides apart. They are no patients:
where a class comes from one person's tiles only, its stain tells the class, and results on mosaics are optimistic.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError, missing_extra
from osml.synthetic.slide_regions import CELL, NAMES, Regions, draw_regions, necrosis_rate
from osml.synthetic.slides import SlideRow, write_notes, write_pyramid, write_truth

Pixels = NDArray[np.uint8]
# What the tiles' table calls the classes; other tissue (mixed) is not used.
TISSUE: Mapping[str, str] = {"viable": "VT", "non_viable": "NC", "non_tumor": "NT"}
NEEDED = ("tile", "image", "slide", "tissue")
# Tiles of a class that a source slide must have to give it.
MIN_TILES = 8
# Of 448 px from 1,024 px at 10×.
TILES_MPP = 1024 / 448
_SIDES = (4096, 5120)
# Cells: about four tiles, so that a tile within a region is the rule.
_WIDTH = 110.0
_GLASS = 244
# Tissue is darker in its densest channel.
_PALE = 225
NOTICE = """Mosaics of real tiles: the slides and their patients are invented, the pixels are real.
No patient here is a person, and no class is independent of whose tiles it came from: results on these slides are
optimistic. `sources` in slides.csv names the slides that the tiles of each came from; no two patients share one.
"""


@dataclass(frozen=True)
class Sources:
    """Tiles of one invented patient: the class's code → pictures, and the slides that they came from."""

    pictures: Mapping[str, tuple[Path, ...]]
    slides: tuple[str, ...]


@dataclass(frozen=True)
class _Patient:
    number: int
    seed: int
    slides: int
    mpp: float
    sources: Sources
    folder: Path


def write_mosaics(
    folder: Path, tiles: Path, patients: int | None = None, seed: int = 2026, *, max_slides: int = 3,
    mpp: float = TILES_MPP, workers: int | None = None, progress: Progress | None = None,
) -> tuple[SlideRow, ...]:  # fmt: skip
    """Write what `osml.synthetic.slides.write_slides` writes, with the column `sources`.

    Parameters
    ----------
    tiles : folder with tiles.csv (tile, image, slide, tissue; tissue viable, non_viable, non_tumor or another)
    patients : none: as many as the source slides give
    mpp : µm per pixel of the tiles
    """
    groups = assign_sources(read_tiles_table(tiles))
    if patients is not None and not 2 <= patients <= len(groups):
        raise InvalidInputError(
            f"{patients} patients are asked for; the tiles give 2 to {len(groups)}",
            why=f"Each has slides of his own with at least {MIN_TILES} viable, non-viable and non-tumour tiles.",
        )
    groups = groups[:patients]
    counts = np.random.default_rng([seed, 5]).integers(1, max_slides + 1, len(groups))
    tasks = [
        _Patient(p, seed, int(n), mpp, group, folder) for p, (n, group) in enumerate(zip(counts, groups, strict=True))
    ]
    found: dict[int, list[SlideRow]] = {}
    for outcome in run_tasks(_write_patient, tasks, workers=workers, progress=progress):
        if outcome.error is not None:
            raise outcome.error
        found[outcome.index] = outcome.result
    rows = tuple(row for p in range(len(tasks)) for row in found[p])
    sources = ["; ".join(groups[p].slides) for p in range(len(tasks)) for _ in found[p]]
    command = f"osml synth slides --tiles {tiles.name} --patients {len(groups)} --seed {seed}"
    write_notes(folder, rows, NOTICE, command, {"mpp": mpp, "deceiving": 0.0, "cell_px": CELL}, sources)
    return rows


def read_tiles_table(tiles: Path) -> dict[str, dict[str, list[Path]]]:
    """Source slide → class's code → pictures, in the table's order."""
    table = tiles / "tiles.csv"
    if not table.is_file():
        raise InvalidInputError(f"{table}: no such file", do="Name the folder that holds tiles.csv.")
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    with table.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInputError(f"{table}: columns {', '.join(missing)} are missing")
        for row in reader:
            if row["tissue"] in TISSUE:
                found[row["slide"]][TISSUE[row["tissue"]]].append(tiles / row["image"])
    return {slide: dict(by_class) for slide, by_class in found.items()}


def assign_sources(slides: Mapping[str, Mapping[str, Sequence[Path]]]) -> list[Sources]:
    """As many groups of source slides as there can be in which every class comes from a slide of its own.

    The class that fewest slides have is given first. Raises `InvalidInputError` with fewer than two groups.
    """
    able = {
        kind: sorted(name for name, has in slides.items() if len(has.get(kind, ())) >= MIN_TILES)
        for kind in TISSUE.values()
    }
    order = sorted(able, key=lambda kind: len(able[kind]))
    # A slide that can give a rarer class is kept for it.
    taken: set[str] = set()
    by_kind: dict[str, list[str]] = {}
    for kind in order:
        by_kind[kind] = [name for name in able[kind] if name not in taken]
        taken.update(by_kind[kind])
    groups = min(len(names) for names in by_kind.values())
    if groups < 2:
        raise InvalidInputError(
            f"the tiles give {groups} patients; at least 2 are needed",
            why=f"Slides with at least {MIN_TILES} tiles: "
            + ", ".join(f"{kind} {len(names)}" for kind, names in able.items()),
        )
    out = []
    for g in range(groups):
        names = {kind: by_kind[kind][g] for kind in order}
        pictures = {kind: tuple(slides[name][kind]) for kind, name in names.items()}
        out.append(Sources(pictures, tuple(names[kind] for kind in sorted(names))))
    return out


def _write_patient(patient: _Patient) -> list[SlideRow]:
    rng = np.random.default_rng([patient.seed, 6, patient.number])
    name = f"MOS{patient.number + 1:03d}"
    tiles = {kind: _fuller([_read(p) for p in paths]) for kind, paths in sorted(patient.sources.pictures.items())}
    dead = rng.beta(0.9, 0.9) * 0.9 + 0.05
    rows = []
    for number in range(patient.slides):
        slide = f"{name}-{'ABCDEFGH'[number]}"
        width, height = (int(rng.integers(_SIDES[0] // 256, _SIDES[1] // 256 + 1)) * 256 for _ in range(2))
        weights = np.array([0, 1 - dead, dead, 0, 0, 0, 0.4]) * np.exp(rng.normal(0, 0.25, len(NAMES)))
        shape = (height // CELL, width // CELL)
        regions = draw_regions(shape, weights.tolist(), rng, width=_WIDTH, deceiving=0.0)
        write_pyramid(patient.folder / f"slides/{slide}.tif", _set(regions, tiles, rng), patient.mpp)
        write_truth(patient.folder, slide, regions, (width, height), patient.mpp)
        rows.append(SlideRow(name, slide, necrosis_rate(regions.truth)))
    return rows


def _set(regions: Regions, tiles: Mapping[str, Sequence[Pixels]], rng: np.random.Generator) -> Pixels:
    """Each region filled with turned tiles of its class, on a grid of its own."""
    height, width = (n * CELL for n in regions.truth.shape)
    out = np.full((height, width, 3), _GLASS, dtype=np.uint8)
    for kind, pictures in tiles.items():
        number = NAMES.index(kind)
        side = min(min(picture.shape[:2]) for picture in pictures)
        start = rng.integers(-side + 1, 1, 2)
        for top in range(int(start[0]), height, side):
            for left in range(int(start[1]), width, side):
                picture = pictures[int(rng.integers(len(pictures)))]
                turned = np.rot90(picture, int(rng.integers(4)))
                turned = turned[:, ::-1] if rng.random() < 0.5 else turned
                y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
                here = regions.truth[(np.arange(y0, y1) // CELL)[:, None], np.arange(x0, x1) // CELL] == number
                if here.any():
                    out[y0:y1, x0:x1][here] = turned[y0 - top : y1 - top, x0 - left : x1 - left][here]
    return out


def _fuller(pictures: Sequence[Pixels]) -> list[Pixels]:
    """The half with the most tissue: a region of tumour that is mostly glass would be no tumour."""
    tissue = [-float((picture.min(axis=2) < _PALE).mean()) for picture in pictures]
    order = np.argsort(tissue, kind="stable")
    return [pictures[k] for k in order[: max(MIN_TILES, len(pictures) // 2)].tolist()]


def _read(path: Path) -> Pixels:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "slides", "reading tiles") from error
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file, though tiles.csv names it")
    with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as picture:
        return np.asarray(picture.convert("RGB"))
