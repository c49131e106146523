"""`osml slide info` and `osml slide tile`: many slides, broken ones among them, continued where they stopped."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, data_path
from imaging.slide_files import GLASS, picture, write_sparse, write_tiff
from PIL import Image

from osml.cli import main
from osml.errors import EXIT_CHECK, EXIT_FINE, EXIT_USER, InvalidInputError, OsmlError
from osml.imaging import slides_job
from osml.imaging.slides import open_slide
from osml.imaging.slides_job import Tiling, slide_key, tile_slides

pytest.importorskip("openslide", reason="the extra `slides` is not installed")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def osml(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `osml slide WORDS` in this process: exit code, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["osml", "slide", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good slides, and one broken in each way."""
    folder = tmp_path_factory.mktemp("cohort")
    for name, seed in (("A1", 1), ("B1", 2)):
        write_tiff(folder / f"{name}.tif", picture(700, 1000, seed), mpp=1.0)
    write_tiff(folder / "C1.tif", picture(300, 300), mpp=None)
    write_tiff(folder / "D1.tif", np.full((600, 600, 3), GLASS, dtype=np.uint8), mpp=1.0)
    (folder / "E1.svs").write_bytes(b"nothing" * 99)
    cut = write_tiff(folder / "F1.tif", picture(600, 600), mpp=1.0)
    cut.write_bytes(cut.read_bytes()[:-9000])
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_info_tells_facts_and_names_what_is_broken(osml: Call, cohort: Path) -> None:
    code, out, _ = osml("info", cohort / "A1.tif")
    assert code == EXIT_FINE
    assert "A1: generic-tiff, 1000×700 px, 1.0×0.7 mm, 1 µm/px (file)" in out
    assert "level 1: 500×350, 2 µm/px, tiles of 256×256 decoded directly" in out
    code, out, _ = osml("info", *sorted(cohort.iterdir()))
    assert code == EXIT_CHECK
    assert "C1.tif: mpp: C1: the file does not say its µm per pixel" in out
    assert "E1.svs: unreadable:" in out
    assert osml("info", cohort / "C1.tif", "--mpp", "0.5")[0] == EXIT_FINE


def test_broken_slides_are_recorded_and_stop_no_other(osml: Call, cohort: Path, tmp_path: Path) -> None:
    words = ("tile", *sorted(cohort.iterdir()), "-o", tmp_path, "--mpp", 1, "--size", 128, "--workers", 1, "--quiet")
    code, out, _ = osml(*words)
    assert code == EXIT_CHECK
    assert "2 of 6 slides" in out
    assert [row["slide"] for row in rows_of(tmp_path / "slides.csv")] == ["A1", "B1"]
    failures = rows_of(tmp_path / "failures.csv")
    assert {row["slide"]: row["reason"] for row in failures} == {
        "C1": "mpp", "D1": "no_tissue", "E1": "unreadable", "F1": "unreadable",
    }  # fmt: skip
    assert str(tmp_path / "D1.thumbnail.png") in failures[1]["detail"]
    assert left_in(tmp_path) == {"A1", "B1", "D1.thumbnail.png", "slides.csv", "tiles.csv", "failures.csv"}
    assert {path.name for path in (tmp_path / "A1").iterdir()} == {
        "tiles", "tiles.csv", "slide.json", "thumbnail.png", "tissue.png",
    }  # fmt: skip
    tiles = rows_of(tmp_path / "tiles.csv")
    assert sum(int(row["tiles"]) for row in rows_of(tmp_path / "slides.csv")) == len(tiles) > 30
    with open_slide(cohort / "A1.tif") as slide:
        for row in tiles[:5]:
            assert row["tile"] == f"A1-{row['x']}-{row['y']}"
            assert float(row["x_um"]) == int(row["x"])
            assert 0.5 <= float(row["tissue"]) <= 1
            shown = np.asarray(Image.open(tmp_path / row["image"])).astype(int)
            assert np.abs(shown - slide.read(0, int(row["x"]), int(row["y"]), 128, 128)).mean() < 3


def test_png_tiles_are_the_pixels_of_the_slide(cohort: Path, tmp_path: Path) -> None:
    assert tile_slides([cohort / "A1.tif"], tmp_path, Tiling(2.0, 96, 32, 0.9, "png"), say=str, quiet=True) == 0
    rows = rows_of(tmp_path / "tiles.csv")
    assert {int(row["x"]) % 128 for row in rows} == {0}
    with open_slide(cohort / "A1.tif") as slide:
        for row in rows[::7]:
            shown = np.asarray(Image.open(tmp_path / row["image"]))
            assert np.array_equal(shown, slide.read(1, int(row["x"]) // 2, int(row["y"]) // 2, 96, 96))


def left_in(folder: Path) -> set[str]:
    """Names in a folder, but the lock of a job."""
    return {path.name for path in folder.iterdir()} - {".lock"}


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: (path / "slide.json").stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}


def test_a_stopped_job_redoes_only_the_unfinished_slide(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [cohort / "A1.tif", cohort / "B1.tif"]
    tiling = Tiling(1.0, 128)
    said: list[str] = []
    real = slides_job._cut

    def stopped(slide: object, task: slides_job.Task, folder: Path) -> object:
        facts = real(slide, task, folder)  # type: ignore[arg-type]
        if task.name == "B1":
            raise KeyboardInterrupt
        return facts

    monkeypatch.setattr(slides_job, "_cut", stopped)
    with pytest.raises(KeyboardInterrupt):
        tile_slides(paths, tmp_path, tiling, workers=1, say=said.append, quiet=True)
    # All of A1, nothing of B1.
    assert left_in(tmp_path) == {"A1"}
    before = stamps(tmp_path)
    # A job that was killed could not even remove what it had begun.
    (tmp_path / ".B1.x.part").mkdir()
    monkeypatch.setattr(slides_job, "_cut", real)
    assert tile_slides(paths, tmp_path, tiling, workers=1, say=said.append, quiet=True) == 0
    assert "1 were finished before" in said[-1]
    assert stamps(tmp_path)["A1"] == before["A1"]
    assert left_in(tmp_path) == {"A1", "B1", "slides.csv", "tiles.csv", "failures.csv"}
    # Other settings, or another file of the name, are other tiles.
    assert tile_slides(paths[:1], tmp_path, Tiling(1.0, 64), workers=1, say=said.append, quiet=True) == 0
    assert "0 were finished before" in said[-1]


def test_a_full_disk_ends_the_job_and_leaves_no_half_slide(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(slides_job, "_encoded", full)
    with pytest.raises(OsmlError, match=r"A1: cannot be written \(No space left on device\)"):
        tile_slides([cohort / "A1.tif"], tmp_path, Tiling(1.0, 128), workers=1, say=str, quiet=True)
    assert left_in(tmp_path) == set()


def test_one_job_at_a_time_writes_to_a_folder(cohort: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(str(tmp_path / ".lock")), pytest.raises(InvalidInputError, match="another job is writing there"):
        tile_slides([cohort / "A1.tif"], tmp_path, Tiling(1.0, 128), say=str, quiet=True)


def test_two_slides_of_one_name_are_refused(osml: Call, tmp_path: Path) -> None:
    code, _, err = osml("tile", "a/P1.svs", "b/P1.svs", "-o", tmp_path / "out")
    assert code == EXIT_USER
    assert "1 slides share a name: P1" in err
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidInputError, match="share of tissue"):
        tile_slides([], tmp_path, Tiling(1.0, min_tissue=2.0))


def test_a_slide_is_known_by_its_content(tmp_path: Path) -> None:
    size = (64 << 20) + 1000
    for name in "ab":
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
    assert slide_key(tmp_path / "a") == slide_key(tmp_path / "b")
    with (tmp_path / "b").open("r+b") as stream:
        stream.seek(size - 3)
        stream.write(b"x")
    assert slide_key(tmp_path / "a") != slide_key(tmp_path / "b")
    with (tmp_path / "b").open("r+b") as stream:
        stream.truncate(size - 1)
    assert slide_key(tmp_path / "a") != slide_key(tmp_path / "b")
    # Pixels of an MRXS lie in a folder beside it.
    (tmp_path / "m.mrxs").write_bytes(b"index")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"pixels")
    before = slide_key(tmp_path / "m.mrxs")
    (tmp_path / "m" / "Data0001.dat").write_bytes(b"more")
    assert slide_key(tmp_path / "m.mrxs") != before


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from osml.imaging.slides import open_slide
from osml.imaging.slides_batches import tile_batches
from osml.imaging.slides_grid import cover, tile_grid
from osml.imaging.slides_tissue import find_tissue
import PIL.Image, scipy.ndimage, tifffile, imagecodecs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_slide(sys.argv[1]) as slide:
    tissue = find_tissue(slide)
    grid = tile_grid(slide, mpp=0.5, size=256)
    tiles = np.flatnonzero(cover(grid, tissue) >= 0.5)
    seen = sum(len(batch.tiles) for batch in tile_batches(slide, grid, tiles, 64, threads=2))
print(seen, len(tiles), slide.width, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_slide_larger_than_memory_is_read_in_little_of_it(tmp_path: Path) -> None:
    side = 32_768
    path = write_sparse(tmp_path / "a.tif", side, tile=1024, tissue=0.01)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    seen, wanted, width, megabytes = (float(word) for word in done.stdout.split())
    assert (seen, width) == (wanted, side)
    assert wanted > 100
    # Whole it would be 3,221 MB; blocks of 4,096 px are 50 MB each, four at once, and the overview of 4 Mpx.
    assert megabytes < 500


@pytest.mark.data
@pytest.mark.full
def test_the_real_slides_as_a_cohort(osml: Call, tmp_path: Path) -> None:
    folder = data_path("slides")
    code, out, _ = osml("tile", *sorted(folder.iterdir()), "-o", tmp_path, "--mpp", 0.5, "--quiet")
    assert code == EXIT_CHECK
    assert "1 of 5 slides" in out
    assert {row["slide"]: row["reason"] for row in rows_of(tmp_path / "failures.csv")} == {
        "openslidepy_boxes": "mpp", "openslidepy_small": "no_tissue", "openslidepy_unopenable": "unreadable",
        "openslidepy_unreadable": "unreadable",
    }  # fmt: skip
    (found,) = rows_of(tmp_path / "slides.csv")
    assert (found["slide"], found["width"], found["height"], found["mpp"]) == (
        "cmu-1-small-region", "2220", "2967", "0.499",
    )  # fmt: skip
    assert 0.6 < float(found["tissue_mm2"]) < 0.8
    assert 35 < int(found["tiles"]) < 55
    assert json.loads((tmp_path / "cmu-1-small-region" / "slide.json").read_text())["settings"]["mpp"] == 0.5
