"""Many slides: a broken one stops no other, a job that was stopped continues; maps judged against annotations."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from slide_designs import RECIPE, cases

from osml.errors import InvalidInputError, OsmlError
from osml.imaging.slides_classes import PAPER_CLASSES, LabelRaster
from osml.imaging.slides_geojson import write_geojson
from osml.imaging.slides_ome import write_ome

pytest.importorskip("tifffile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from osml.synthetic.slides import write_slides

    out = tmp_path_factory.mktemp("slides")
    write_slides(out, patients=3, seed=5, max_slides=1, sides=(1024, 1024), workers=1)
    return out


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from osml.predictors.slide_fit import fit_slide
    from osml.predictors.slide_prepare import prepare_slide

    place = tmp_path_factory.mktemp("model")
    prepared = [prepare_slide(case, RECIPE, cache=place / "cache", device="cpu") for case in cases(folder)]
    fit_slide(prepared, RECIPE, seed=3, device="cpu").save(place / "model")
    return place / "model"


def osml(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    environment = {**os.environ, "OSML_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from osml.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_broken_slide_stops_no_other(folder: Path, model: Path, tmp_path: Path) -> None:
    from osml.predictors.slide_job import SegmentJob, segment_slides
    from osml.predictors.slide_recipe import SlideCase

    broken = tmp_path / "SLI009-A.tif"
    good = cases(folder)
    broken.write_bytes(good[0].path.read_bytes()[:20_000])
    job = SegmentJob(model, tmp_path / "out", tmp_path / "cache", "cpu", False)
    todo = [good[0], SlideCase("SLI009-A", "SLI009", broken), good[1]]
    said: list[str] = []
    assert segment_slides(job, todo, by_patient=True, workers=1, say=said.append, quiet=True) == 1
    assert [row["slide"] for row in rows(tmp_path / "out/slides.csv")] == ["SLI001-A", "SLI002-A"]
    (failure,) = rows(tmp_path / "out/failures.csv")
    assert failure["slide"] == "SLI009-A"
    assert failure["reason"] == "unreadable"
    assert not (tmp_path / "out/SLI009-A").exists()
    patients = rows(tmp_path / "out/patients.csv")
    assert [row["patient"] for row in patients] == ["SLI001", "SLI002"]
    facts = json.loads((tmp_path / "out/SLI001-A/slide.json").read_text())
    assert float(patients[0]["necrosis_rate"]) == pytest.approx(facts["necrosis"]["rate"], abs=1e-4)
    assert "not a pathology report" in json.loads((tmp_path / "out/patients.json").read_text())["statement"]

    # Again: nothing is segmented, tables are the same.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*")}
    assert segment_slides(job, todo, by_patient=True, workers=1, say=said.append, quiet=True) == 1
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*")} == before
    assert any("2 were finished before, 1 failed" in line for line in said)


def test_what_a_killed_job_left_is_swept_and_nothing_else(folder: Path, model: Path, tmp_path: Path) -> None:
    from osml.predictors.slide_job import SegmentJob, segment_slides

    out, (first, *_) = tmp_path / "out", cases(folder)
    left = out / f".{first.slide}.x1y2.part"
    left.mkdir(parents=True)
    (left / "classes.ome.tif").write_bytes(b"half")
    own = out / ".SLI999-A.x1y2.part"
    own.mkdir()
    job = SegmentJob(model, out, tmp_path / "cache", "cpu", False)
    with FileLock(str(out / ".lock")), pytest.raises(OsmlError, match="another process is writing"):
        segment_slides(job, [first], by_patient=False, workers=1, quiet=True)
    assert left.is_dir()
    segment_slides(job, [first], by_patient=False, workers=1, say=lambda _: None, quiet=True)
    assert not left.exists()
    assert own.is_dir()
    assert rows(out / "slides.csv")[0]["in_training"] == "unknown"


def test_patients_of_the_training_are_named(folder: Path, model: Path, tmp_path: Path) -> None:
    from osml.imaging.slides_job import slide_key
    from osml.predictors.slide_job import SegmentJob, segment_slides
    from osml.study.slides.publish import keyed
    from osml.study.slides.trained import Training, in_training

    first, second, third = cases(folder)
    # The first is known by its name; the second came under another one, and its twin is the same patient's.
    renamed, twin = replace(second, patient="X"), replace(third, patient="X")
    key = b"key"
    training = Training(key, frozenset(keyed(key, [first.patient])), frozenset(keyed(key, [slide_key(second.path)])))
    known = in_training(training, [first, renamed, twin])
    assert known == {first.slide: "by name", second.slide: "by content", third.slide: "by another slide"}
    assert in_training(training, [replace(third, patient="Y"), replace(first, patient="Z")]) == {}

    said: list[str] = []
    job = SegmentJob(model, tmp_path / "out", tmp_path / "cache", "cpu", False)
    segment_slides(
        job, [first, third], by_patient=True, workers=1, trained={first.slide: "by name"}, say=said.append, quiet=True
    )
    assert [row["in_training"] for row in rows(tmp_path / "out/slides.csv")] == ["by name", "no"]
    assert [row["in_training"] for row in rows(tmp_path / "out/patients.csv")] == ["by name", "no"]
    assert [line for line in said if "trained on them" in line and first.patient in line]


@pytest.mark.full
def test_a_killed_job_redoes_only_the_unfinished(folder: Path, model: Path, tmp_path: Path) -> None:
    out, slides = tmp_path / "out", [case.path for case in cases(folder)]
    environment = {**os.environ, "OSML_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from osml.cli import main; main()", "slide", "segment", model, *slides, "-o", out]
    command = [str(part) for part in [*command, "--workers", "1", "--device", "cpu"]]
    first = out / cases(folder)[0].slide / "slide.json"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while not first.exists() and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    done = {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/slide.json")}
    assert first.parent.name in done
    again = osml(*command[3:], cache=tmp_path / "cache")
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} were finished before, 0 failed" in again.stdout
    after = {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/slide.json")}
    assert set(after) == {case.slide for case in cases(folder)}
    assert {name: after[name] for name in done} == done
    assert not [path.name for path in out.iterdir() if ".part" in path.name]


@pytest.mark.full
def test_the_commands(folder: Path, model: Path, tmp_path: Path) -> None:
    slides = [case.path for case in cases(folder)]
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no slide")
    options = ["-o", tmp_path / "out", "--workers", "1", "--device", "cpu", "--quiet"]
    found = osml("slide", "segment", model, *slides, broken, *options, cache=tmp_path / "cache")
    assert found.returncode == 2, found.stderr
    assert "3 of 4 slides" in found.stdout
    table = ["--table", folder / "slides.csv"]
    found = osml("slide", "segment", model, *slides, *table, *options, cache=tmp_path / "cache")
    assert found.returncode == 0, found.stderr
    assert len(rows(tmp_path / "out/patients.csv")) == 3
    # One of them is named by no line.
    found = osml("slide", "segment", model, broken, *table, *options, cache=tmp_path / "cache")
    assert found.returncode == 1
    assert "broken" in found.stderr
    judged = tmp_path / "judged.json"
    found = osml("slide", "evaluate", tmp_path / "out", folder / "slides.csv", "-o", judged, cache=tmp_path / "cache")
    assert found.returncode == 0, found.stderr
    assert "no intervals: 3 patients" in found.stdout
    facts = json.loads(judged.read_text())
    assert set(facts["patients"]) == {"SLI001", "SLI002", "SLI003"}
    assert 0 < facts["overall"]["accuracy"]["value"] <= 1


def a_map(folder: Path, name: str, labels: np.ndarray, rate: bool = True) -> None:
    """What `segment_slide` leaves, as far as it is judged: cells of 16 µm, 32 px."""
    raster = LabelRaster(labels.astype(np.uint8), 32.0, 16.0)
    write_ome(folder / name / "classes.ome.tif", raster, PAPER_CLASSES)
    counted = {"viable": ["VT"], "necrotic": ["NC", "FH", "HC", "IF"]}
    facts = {
        "slide": name, "width": labels.shape[1] * 32, "height": labels.shape[0] * 32, "mpp": 0.5,
        "map": {"mpp": 16.0},
        "classes": [{"name": c.name, "colour": c.colour, "label": c.label} for c in PAPER_CLASSES],
        "necrosis": counted if rate else None,
    }  # fmt: skip
    (folder / name / "slide.json").write_text(json.dumps(facts))


def test_maps_are_judged_at_their_places(tmp_path: Path) -> None:
    """Two patients whose tables can be counted by hand."""
    from osml.predictors.slide_evaluate import evaluate_maps

    true = np.zeros((4, 6), dtype=np.uint8)
    true[:2], true[2] = 1, 2
    called = true.copy()
    called[0, :3] = 2
    for name in ("a", "b"):
        a_map(tmp_path / "out", name, called if name == "a" else true)
        raster = LabelRaster(true, 32.0, 16.0)
        write_geojson(tmp_path / f"{name}.geojson", raster, PAPER_CLASSES, (192, 128), skip=("BG",))
    drawn = {name: (name.upper(), tmp_path / f"{name}.geojson") for name in ("a", "b")}
    found = evaluate_maps(tmp_path / "out", drawn)
    assert found.slides == ("a", "b")
    # Glass was not drawn: 6 cells of each slide are nobody's.
    assert found.overlap.unlabelled == 12
    assert found.overlap.tables[0][1, :3].tolist() == [0, 9, 3]
    assert found.overlap.by_patient.overall["accuracy"].tolist() == pytest.approx([15 / 18, 1])
    assert found.necrosis is not None
    assert found.necrosis.reference.tolist() == pytest.approx([6 / 18, 6 / 18])
    assert found.necrosis.predicted.tolist() == pytest.approx([9 / 18, 6 / 18])
    assert found.necrosis.mean_absolute == pytest.approx(100 * 3 / 18 / 2)
    # One map alone, by its file.
    one = evaluate_maps(tmp_path / "out/b/classes.ome.tif", drawn)
    assert one.slides == ("b",)
    assert json.loads(json.dumps(one.as_json()))["overall"]["miou"]["value"] == 1
    with pytest.raises(InvalidInputError, match="1 slides of the table have no map"):
        evaluate_maps(tmp_path / "out", drawn | {"c": ("C", tmp_path / "a.geojson")})
    with pytest.raises(InvalidInputError, match="no segmented slide"):
        evaluate_maps(tmp_path / "nothing", drawn)
    a_map(tmp_path / "out", "b", true, rate=False)
    assert evaluate_maps(tmp_path / "out/b", drawn).necrosis is None
