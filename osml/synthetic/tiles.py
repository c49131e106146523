"""Synthetic H&E tiles of osteosarcoma resections: several patients, several slides each, one class per tile.

What tells viable from non-viable tumour is planted: the density of living cells, their pleomorphism, and what lies
between them (basophilic cytoplasm and osteoid, or pale, hyaline or granular matrix). Non-tumour tiles hold bone, marrow
or stroma; cellular marrow is as dense as tumour, but uniform. Stain and scanner differ between patients and a little
between slides, independently of class, so colour learnt on some patients misleads in another.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError, missing_extra
from osml.evaluation.discrimination import auc
from osml.files import atomic_write, write_csv, write_json
from osml.synthetic import tissue as draw
from osml.synthetic.nac import NOTICE
from osml.synthetic.tissue import MPP, PIXELS, REFERENCE, Canvas, Cells, Stain

COLUMNS = ("tile", "image", "patient", "slide", "x", "y", "tissue")
TRUTH_COLUMNS = ("tile", "viable_share", "cells_per_mm2", "pleomorphism")
CLASSES = ("non_tumor", "viable", "non_viable", "mixed")
# Slide pixels (1 µm) per side of a tile: `position: {size: 512}` in a schema.
TILE_SIZE = 512
_SLIDE_MM = 12.0
JPEG_QUALITY = 88
# Living cells per mm² (log) and pleomorphism (SD of log radius) by class: mean and SD over tiles.
PLANTED: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "viable": ((float(np.log(2900.0)), 0.45), (0.28, 0.07)),
    "non_viable": ((float(np.log(1100.0)), 0.60), (0.18, 0.07)),
}
_PLEOMORPHISM = (0.05, 0.5)
# Part of the SD of log density that a patient's tiles share.
_SHARED_DENSITY = 0.3


@dataclass(frozen=True)
class Tumour:
    """What the tumour tiles of one patient have in common.

    Attributes
    ----------
    density : shift of the log density of cells, viable or not
    patterns : probabilities of loose fibrosis, hyaline matrix, coagulation necrosis where it is dead
    """

    density: float = 0.0
    patterns: tuple[float, ...] = (0.4, 0.3, 0.3)


@dataclass(frozen=True)
class TilesTruth:
    """What was planted.

    Attributes
    ----------
    auc_of_cells : viable against non-viable tumour for who counts the living cells and measures them without error;
        not a bound for pictures, since cytoplasm and matrix differ too
    counts : tiles by class
    """

    auc_of_cells: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class _Tile:
    name: str
    patient: str
    slide: str
    x: int
    y: int
    tissue: str
    stain: Stain
    tumour: Tumour
    seed: tuple[int, ...]
    folder: Path


@dataclass(frozen=True)
class _Facts:
    """Planted values of one tile; the last two are those of its tumour."""

    viable_share: float
    cells_per_mm2: float | None
    pleomorphism: float | None


def draw_tile(
    tissue: str,
    rng: np.random.Generator,
    stain: Stain = REFERENCE,
    tumour: Tumour = Tumour(),
) -> NDArray[np.uint8]:
    """One tile, (256, 256, 3), 2 µm per pixel.

    >>> draw_tile("viable", np.random.default_rng(1)).shape
    (256, 256, 3)
    """
    return _drawn(tissue, rng, stain, tumour)[0]


def write_tiles(
    folder: Path,
    patients: int = 12,
    seed: int = 2026,
    *,
    tiles_per_patient: int = 40,
    progress: Progress | None = None,
) -> TilesTruth:
    """Write tiles/*.jpg, truth.json, truth.csv (planted values per tile), a notice and, last, tiles.csv.

    Parameters
    ----------
    patients : at least 4
    tiles_per_patient : at least 8; spread over two to four slides
    """
    if patients < 4 or tiles_per_patient < 8:
        raise InvalidInputError(
            f"{patients} patients with {tiles_per_patient} tiles are too few; at least 4 patients with 8 tiles"
        )
    tiles = _plan(folder, patients, tiles_per_patient, seed)
    facts: dict[int, _Facts] = {}
    for outcome in run_tasks(_write_tile, tiles, progress=progress):
        if outcome.error is not None:
            raise outcome.error
        facts[outcome.index] = outcome.result
    counts = {name: sum(tile.tissue == name for tile in tiles) for name in CLASSES}
    truth = TilesTruth(auc_of_cells(seed), counts)
    command = f"osml synth tiles --patients {patients} --tiles {tiles_per_patient} --seed {seed}"
    planted = {
        name: {
            "cells_per_mm2": {"median": round(float(np.exp(log_mean))), "sd_of_log": log_sd},
            "pleomorphism": {"mean": mean, "sd": sd},
        }
        for name, ((log_mean, log_sd), (mean, sd)) in PLANTED.items()
    }
    write_json(
        folder / "truth.json",
        {"synthetic": True, "notice": NOTICE.strip(), "command": command, "mpp": MPP, "planted": planted}
        | asdict(truth),
    )  # fmt: skip
    write_csv(folder / "truth.csv", TRUTH_COLUMNS, [(t.name, *asdict(facts[i]).values()) for i, t in enumerate(tiles)])
    atomic_write(folder / "SYNTHETIC.txt", NOTICE + command + "\n")
    rows = [(t.name, f"tiles/{t.name}.jpg", t.patient, t.slide, t.x, t.y, t.tissue) for t in tiles]
    write_csv(folder / "tiles.csv", COLUMNS, rows)
    return truth


def auc_of_cells(seed: int = 2026, rows: int = 100_000) -> float:
    """AUC of the exact likelihood ratio of density and pleomorphism, of viable against non-viable tumour.

    >>> 0.9 < auc_of_cells(rows=2000) < 1
    True
    """
    rng = np.random.default_rng([seed, 4])
    viable = np.arange(rows) % 2 == 0
    score = np.zeros(rows)
    for k in range(2):
        by_class = [PLANTED[name][k] for name in ("non_viable", "viable")]
        value = np.where(viable, rng.normal(*by_class[1], rows), rng.normal(*by_class[0], rows))
        dead, alive = (-(((value - mean) / sd) ** 2) / 2 - np.log(sd) for mean, sd in by_class)
        score += alive - dead
    return round(auc(viable, score), 3)


def _plan(folder: Path, patients: int, per_patient: int, seed: int) -> list[_Tile]:
    tiles = []
    for p in range(patients):
        rng = np.random.default_rng([seed, 1, p])
        name = f"TIL{p + 1:03d}"
        laboratory = REFERENCE.shifted(1.4, rng)
        tumour = Tumour(float(rng.normal(0, _SHARED_DENSITY)), tuple(rng.dirichlet([0.8, 0.6, 0.6]).tolist()))
        slides = [laboratory.shifted(0.3, rng) for _ in range(rng.integers(2, 5))]
        places: list[list[int]] = [rng.permutation(int(_SLIDE_MM * 1000 / TILE_SIZE) ** 2).tolist() for _ in slides]
        for i, kind in enumerate(_classes(per_patient, rng)):
            s = int(rng.integers(len(slides)))
            row, column = divmod(places[s].pop(), int(_SLIDE_MM * 1000 / TILE_SIZE))
            slide = f"{name}-{'ABCD'[s]}"
            x, y = column * TILE_SIZE, row * TILE_SIZE
            tiles.append(
                _Tile(f"{slide}-{x}-{y}", name, slide, x, y, kind, slides[s], tumour, (seed, 2, p, i), folder)
            )  # fmt: skip
    return sorted(tiles, key=lambda tile: (tile.patient, tile.slide, tile.x, tile.y))


def _classes(n: int, rng: np.random.Generator) -> list[str]:
    """Patients respond differently: from hardly any to nearly all tumour dead."""
    alive = rng.beta(0.8, 0.8)
    healthy, mixed = rng.uniform(0.3, 0.6), rng.uniform(0.02, 0.1)
    shares = np.array([healthy, (1 - healthy - mixed) * alive, (1 - healthy - mixed) * (1 - alive), mixed])
    return rng.choice(CLASSES, size=n, p=shares / shares.sum()).tolist()


def _write_tile(tile: _Tile) -> _Facts:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "radiomics", "writing pictures") from error
    picture, facts = _drawn(tile.tissue, np.random.default_rng(tile.seed), tile.stain, tile.tumour)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=JPEG_QUALITY)
    atomic_write(tile.folder / f"tiles/{tile.name}.jpg", stream.getvalue())
    return facts


def _drawn(tissue: str, rng: np.random.Generator, stain: Stain, tumour: Tumour) -> tuple[NDArray[np.uint8], _Facts]:
    if tissue not in CLASSES:
        raise InvalidInputError(f"tissue {tissue!r} is not known; one of {', '.join(CLASSES)}")
    canvas = Canvas.empty()
    everywhere = np.ones((PIXELS, PIXELS), dtype=np.float32)
    facts = _Facts(0.0, None, None)
    if tissue == "non_tumor":
        _healthy(canvas, everywhere, rng)
    else:
        share = {"viable": 1.0, "non_viable": 0.0}.get(tissue, float(rng.uniform(0.3, 0.7)))
        alive, dead = (_planted_cells(name, tumour, rng) for name in ("viable", "non_viable"))
        if share < 1:
            draw.dead_tumour(canvas, everywhere, dead, rng, tumour.patterns)
        if share > 0:
            where = everywhere if share == 1 else draw.region(share, 45, rng)
            draw.viable_tumour(canvas, where, alive, rng)
        cells = alive if share > 0 else dead
        facts = _Facts(round(share, 3), round(cells.per_mm2), round(cells.pleomorphism, 3))
        if rng.random() < 0.35:
            draw.bone(canvas, draw.trabeculae(float(rng.uniform(0.05, 0.3)), rng), rng)
    if rng.random() < 0.25:
        draw.vessel(canvas, rng)
    if rng.random() < 0.3:
        draw.cracks(canvas, rng)
    return canvas.colour(stain, rng), facts


def _planted_cells(name: str, tumour: Tumour, rng: np.random.Generator) -> Cells:
    (log_mean, log_sd), (mean, sd) = PLANTED[name]
    own = float(np.sqrt(log_sd**2 - _SHARED_DENSITY**2))
    density = float(np.exp(rng.normal(log_mean + tumour.density, own)))
    pleomorphism = float(np.clip(rng.normal(mean, sd), *_PLEOMORPHISM))
    if name == "viable":
        return Cells(density, 4.6, pleomorphism, float(rng.uniform(1.1, 2.2)), float(rng.uniform(0.7, 1.0)))
    return Cells(density, 3.6, pleomorphism, float(rng.uniform(1.1, 2.6)), float(rng.uniform(0.65, 1.0)))


def _healthy(canvas: Canvas, everywhere: NDArray[np.float32], rng: np.random.Generator) -> None:
    kind = rng.choice(["compact", "spongy", "marrow", "stroma"], p=[0.3, 0.35, 0.2, 0.15])
    if kind == "compact":
        draw.bone(canvas, everywhere, rng)
        for _ in range(rng.integers(1, 4)):
            draw.vessel(canvas, rng)
        return
    if kind == "stroma":
        draw.stroma(canvas, everywhere, rng)
        return
    draw.fatty_marrow(canvas, everywhere, rng, cellular=float(rng.uniform(0, 0.5 if kind == "spongy" else 1)))
    if kind == "spongy":
        draw.bone(canvas, draw.trabeculae(float(rng.uniform(0.25, 0.6)), rng), rng)
