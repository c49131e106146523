"""Tiles of many slides as files: one task per slide, whole or not at all; a broken slide does not stop the others."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from osml.engine import Progress, cores, run_tasks
from osml.errors import InvalidInputError
from osml.files import csv_text, json_text
from osml.imaging.errors import ImagingError
from osml.imaging.slides import Pixels, Slide, open_slide
from osml.imaging.slides_batches import tile_batches
from osml.imaging.slides_draw import picture_view, thumbnail, tissue_overlay
from osml.imaging.slides_files import disk_full, whole_folder, write_png, write_whole
from osml.imaging.slides_grid import TileGrid, cover, tile_grid
from osml.imaging.slides_tissue import find_tissue, overview

# Part of what a finished slide is known by: raise it when tiles would differ.
VERSION = 1
TILE_COLUMNS = ("tile", "image", "slide", "x", "y", "x_um", "y_um", "tissue")
SLIDE_COLUMNS = ("slide", "tiles", "tissue_mm2", "width", "height", "mpp", "tile_mpp", "vendor", "notes")
FAILURE_COLUMNS = ("slide", "reason", "detail")
_WHOLE_BELOW, _SAMPLES, _SAMPLE = 64 << 20, 64, 64 << 10
_AT_ONCE = 64
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Tiling:
    """What is cut.

    Attributes
    ----------
    mpp : µm per pixel of the tiles
    size, overlap : pixels of a tile, and what neighbours share
    min_tissue : share of a tile that is tissue, at least
    format : jpeg, or png, which loses nothing and is about six times larger
    slide_mpp : µm per pixel of the slides, instead of what they say
    """

    mpp: float
    size: int = 256
    overlap: int = 0
    min_tissue: float = 0.5
    format: Literal["jpeg", "png"] = "jpeg"
    slide_mpp: float | None = None


@dataclass(frozen=True)
class Task:
    """One slide."""

    path: Path
    name: str
    folder: Path
    tiling: Tiling
    threads: int


def slide_names(paths: Sequence[Path]) -> list[str]:
    """A name for each slide: its file's, without the suffix.

    Raises
    ------
    InvalidInputError
        Two slides have the same.
    """
    names = [path.stem for path in paths]
    double = sorted(name for name, n in Counter(names).items() if n > 1)
    if double:
        raise InvalidInputError(
            f"{len(double)} slides share a name: {', '.join(double[:5])}",
            why="The name is what a slide is known by in tables and folders.",
            do="Rename the files, or run each folder by itself.",
        )
    return names


def tile_slides(
    paths: Sequence[Path], folder: Path, tiling: Tiling, *, workers: int | None = None,
    say: Callable[[str], None] = print, quiet: bool = False,
) -> int:  # fmt: skip
    """`osml slide tile`: a folder per slide, and tables of all; the number of slides that failed.

    Writes `<slide>/` (tiles/, tiles.csv, thumbnail.png, tissue.png, slide.json), `slides.csv`, `tiles.csv`,
    `failures.csv`. A slide that was finished with the same settings is not read again.
    """
    if not 0 <= tiling.min_tissue <= 1:
        raise InvalidInputError(f"a share of tissue of {tiling.min_tissue:g}; 0 to 1 is expected")
    names = slide_names(paths)
    together = min(len(paths), cores() if workers is None else workers) or 1
    tasks = [Task(p, n, folder, tiling, max(1, cores() // together)) for p, n in zip(paths, names, strict=True)]
    done: dict[int, dict[str, Any]] = {}
    failed: dict[int, ImagingError] = {}
    kept = 0
    progress = Progress("slides", len(tasks), quiet=quiet)
    with _alone(folder):
        for outcome in run_tasks(tile_slide, tasks, workers=workers, progress=progress):
            if isinstance(outcome.error, ImagingError):
                failed[outcome.index] = outcome.error
            elif outcome.error is not None:
                raise outcome.error
            else:
                done[outcome.index], old = outcome.result
                kept += old
        _write_tables(folder, tasks, done, failed)
    for index in sorted(failed):
        say(f"  {names[index]}: {failed[index].reason}: {failed[index].what}")
    say(
        f"wrote {folder / 'slides.csv'}: {len(done)} of {len(tasks)} slides, "
        f"{sum(facts['tiles'] for facts in done.values()):,} tiles; {kept} were finished before, {len(failed)} failed"
    )
    if failed:
        say(f"      {folder / 'failures.csv'}: why")
    return len(failed)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One job in a folder at a time; what a killed one left half-made is removed."""
    from filelock import FileLock, Timeout

    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InvalidInputError(
            f"{folder}: another job is writing there", do="Wait for it, or name another folder."
        ) from error
    try:
        for left in folder.glob(".*.part"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        lock.release()


def tile_slide(task: Task) -> tuple[dict[str, Any], bool]:
    """Cut one slide; its facts, and whether it was finished before."""
    with open_slide(task.path, mpp=task.tiling.slide_mpp, name=task.name) as slide:
        identity = {"version": VERSION, "source": slide_key(task.path), **asdict(task.tiling)}
        place = task.folder / task.name
        if (facts := _finished(place, identity)) is not None:
            return facts, True
        with whole_folder(place) as made:
            facts = _cut(slide, task, made)
            write_whole(made / "slide.json", json_text(facts | {"settings": identity}))
    return facts, False


def slide_key(path: Path) -> str:
    """SHA-256 of a file up to 64 MB; of a larger one its size and 64 samples, so that a cohort is known in seconds.

    Of a slide in several files (MRXS) the names and sizes of those beside it count too.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        if size <= _WHOLE_BELOW:
            digest.update(stream.read())
        else:
            for at in np.linspace(0, size - _SAMPLE, _SAMPLES).astype(np.int64).tolist():
                stream.seek(at)
                digest.update(stream.read(_SAMPLE))
    if (beside := path.with_suffix("")) != path and beside.is_dir():
        for part in sorted(beside.iterdir()):
            digest.update(f"{part.name} {part.stat().st_size} ".encode())
    return digest.hexdigest()


def describe(slide: Slide) -> str:
    """Facts of a slide in one line and its levels below."""
    mm = [side * slide.mpp / 1000 for side in (slide.width, slide.height)]
    lines = [
        f"{slide.name}: {slide.vendor}, {slide.width}×{slide.height} px, {mm[0]:.1f}×{mm[1]:.1f} mm, "
        f"{slide.mpp:.4g} µm/px ({slide.mpp_source})"
    ]
    for number, level in enumerate(slide.levels):
        how = f"tiles of {level.segment[0]}×{level.segment[1]} decoded directly" if level.segment[0] else "by OpenSlide"
        lines.append(f"  level {number}: {level.width}×{level.height}, {level.mpp:.4g} µm/px, {how}")
    return "\n".join([*lines, *(f"  {note}" for note in slide.notes)])


def _cut(slide: Slide, task: Task, folder: Path) -> dict[str, Any]:
    tiling = task.tiling
    grid = tile_grid(slide, mpp=tiling.mpp, size=tiling.size, overlap=tiling.overlap)
    view = overview(slide)
    tissue = find_tissue(slide, view, thumbnail=task.folder / f"{task.name}.thumbnail.png")
    shares = cover(grid, tissue)
    tiles = np.flatnonzero(shares >= max(tiling.min_tissue, 1e-9))
    suffix = "png" if tiling.format == "png" else "jpg"
    (folder / "tiles").mkdir()
    for batch in tile_batches(slide, grid, tiles, _AT_ONCE, threads=task.threads):
        for number, pixels in zip(batch.tiles.tolist(), batch.pixels, strict=True):
            (folder / "tiles" / f"{_tile_name(slide, grid, number)}.{suffix}").write_bytes(
                _encoded(pixels, tiling.format)
            )
    rows = []
    for number, (x, y, _, _), (x_um, y_um) in zip(tiles.tolist(), grid.boxes(tiles), grid.um(tiles), strict=True):
        name = _tile_name(slide, grid, number)
        rows.append((name, f"tiles/{name}.{suffix}", slide.name, round(x), round(y), round(x_um, 2), round(y_um, 2),
                     round(float(shares[number]), 4)))  # fmt: skip
    (folder / "tiles.csv").write_text(csv_text(TILE_COLUMNS, rows), encoding="utf-8")
    picture = picture_view(slide, view)
    write_png(folder / "thumbnail.png", thumbnail(picture))
    write_png(folder / "tissue.png", tissue_overlay(picture, tissue, grid, tiles))
    return {
        "slide": slide.name, "tiles": len(tiles), "tissue_mm2": round(tissue.area_mm2, 4), "width": slide.width,
        "height": slide.height, "mpp": slide.mpp, "tile_mpp": grid.mpp, "vendor": slide.vendor,
        "notes": "; ".join(slide.notes),
    }  # fmt: skip


def _tile_name(slide: Slide, grid: TileGrid, number: int) -> str:
    x, y = (round(v) for v in grid.boxes(np.array([number]))[0, :2])
    return f"{slide.name}-{x}-{y}"


def _encoded(pixels: Pixels, kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    if kind == "png":
        Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    else:
        # Colour at full resolution: stain is what is looked at.
        Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Facts of a slide that was cut with the same settings from the same file."""
    try:
        facts = json.loads((folder / "slide.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return facts if facts.pop("settings", None) == identity else None


def _write_tables(
    folder: Path, tasks: Sequence[Task], done: dict[int, dict[str, Any]], failed: dict[int, ImagingError]
) -> None:
    lines: list[str] = [csv_text(TILE_COLUMNS, [])]
    for index in sorted(done):
        name = tasks[index].name
        own = (folder / name / "tiles.csv").read_text(encoding="utf-8").splitlines()[1:]
        # Paths relative to this table.
        lines += [line.replace(",tiles/", f",{name}/tiles/", 1) + "\n" for line in own]
    write_whole(folder / "tiles.csv", "".join(lines))
    rows = [[done[index][column] for column in SLIDE_COLUMNS] for index in sorted(done)]
    write_whole(folder / "slides.csv", csv_text(SLIDE_COLUMNS, rows))
    found = [(tasks[index].name, failed[index].reason, str(failed[index])) for index in sorted(failed)]
    write_whole(folder / "failures.csv", csv_text(FAILURE_COLUMNS, found))
