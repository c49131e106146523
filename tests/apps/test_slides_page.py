"""The pages of models that map tissue on whole slides, and what the page Slides says with other models."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
pytest.importorskip("openslide", reason="the slides extra is not installed")
pytest.importorskip("streamlit", reason="the app extra is not installed")
pytest.importorskip("sqlalchemy", reason="the app extra is not installed")
from helpers import ROOT

sys.path.append(str(ROOT / "tests" / "study"))
from region_runs import region_study, run, set_stage
from test_pages import NOTICE, AppTest, errors, press, serve, tables, visit, words

from osml.errors import RunError
from osml.serving import SegmentedSlide, SlideJobs, chosen_slide, find_bundles, legend, load_region, overlay, region_box
from osml.serving.audit import HEADER, AuditError, Entry, open_log, read_log
from osml.serving.launch import AUDIT_VARIABLE, SLIDES_VARIABLE
from osml.serving.slide_jobs import read_region


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished region study whose classifier is a stand-in, and its slides."""
    folder = tmp_path_factory.mktemp("regions")
    with pytest.MonkeyPatch.context() as patch:
        set_stage(patch, folder)
        schema, _ = region_study(folder)
        run(schema, folder / "runs")
        yield folder


@pytest.fixture
def opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(SLIDES_VARIABLE, str(place / "slides"))
    return visit(monkeypatch, place / "runs")


def choose(app: AppTest, name: str) -> AppTest:
    next(box for box in app.selectbox if box.label == "Slide").set_value(name)
    return press(app.run(), "Segment this slide")


def waited(app: AppTest) -> AppTest:
    job = app.session_state["slide job"]
    end = time.monotonic() + 300
    while job.running and time.monotonic() < end:
        time.sleep(0.2)
    return app.run()


def test_the_slides_are_a_list(opened: AppTest, place: Path) -> None:
    assert not opened.exception
    assert opened.title[0].value == "Slides"
    assert NOTICE in words(opened)
    assert "Not a pathology report" in words(opened)
    assert not opened.text_input
    assert not opened.file_uploader
    box = next(box for box in opened.selectbox if box.label == "Slide")
    assert box.options == sorted(path.name for path in (place / "slides").iterdir())


@pytest.mark.parametrize("page", ["performance", "cohort", "model_card", "train"])
def test_the_other_pages_open(opened: AppTest, page: str) -> None:
    app = opened.switch_page(f"views/{page}.py").run()
    assert not app.exception
    assert not app.error
    if page == "performance":
        facts = load_region(_bundle(opened)).own["maps"]["best"]
        assert "best, chosen on inner patients (in use)" in tables(app)
        assert f"{facts['overall']['miou']['value']:.3f}" in tables(app)
        assert "viable" in tables(app).lower() or "VT" in tables(app)
        assert "P1" not in tables(app)
    if page == "model_card":
        assert load_region(_bundle(opened)).bundle.model_hash in words(app)


def _bundle(app: AppTest) -> Path:
    return Path(app.session_state["model"].bundle.path)


def test_held_out_slides_are_shown_without_names(opened: AppTest) -> None:
    opened.segmented_control[0].set_value("Held out in the study")
    app = opened.run()
    assert not app.exception
    (picture,) = app.get("image")
    assert "lowest mean IoU" in picture.proto.imgs[0].alt
    assert "P1" not in words(app)


def test_a_model_that_is_damaged_is_told_without_a_path(opened: AppTest, place: Path) -> None:
    # The stand-in cannot be read by another process.
    app = waited(choose(opened, "P1-A.tif"))
    assert not app.exception
    assert "No map: " in errors(app)
    assert str(place) not in errors(app)


def test_without_a_folder_none_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLIDES_VARIABLE, raising=False)
    app = visit(monkeypatch, place / "runs")
    assert not app.exception
    assert "started without a folder of them" in words(app)
    assert not any(button.label == "Segment this slide" for button in app.button)


def test_with_other_models_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, serve(tmp_path), "slides")
    assert not app.exception
    assert "This model reads no slides" in words(app)
    assert not app.selectbox or all(box.label != "Slide" for box in app.selectbox)


def test_a_region_is_read_at_the_size_that_is_asked_for(place: Path) -> None:
    slide = chosen_slide(place / "slides", "P1-A.tif")
    whole, facts = read_region(slide, "P1-A", (0, 0, 1024, 1024), 256)
    assert max(whole.shape) in range(256, 513)
    assert facts["width"] == 1024
    part, facts = read_region(slide, "P1-A", (320, 320, 128, 128), 256)
    assert part.shape == (128, 128, 3)
    assert facts["step"] == 1.0
    step = 1024 / whole.shape[0]
    same = whole[round(320 / step) : round(448 / step), round(320 / step) : round(448 / step)]
    assert same.mean(axis=(0, 1)) == pytest.approx(part.mean(axis=(0, 1)), abs=2)


def test_jobs_are_counted_over_all_visitors_and_end_with_their_session(place: Path) -> None:
    jobs, model = SlideJobs(at_once=1), load_region(find_bundles(place / "runs")[0])
    slide = chosen_slide(place / "slides", "P1-A.tif")
    first = jobs.start(model, slide, "P1-A.tif")
    folder, process = first._folder, first._process
    with pytest.raises(RunError, match="no more run at once"):
        jobs.start(model, slide, "P1-A.tif")
    del first  # the session is gone
    assert process.poll() is not None
    assert not folder.exists()
    jobs.start(model, slide, "P1-A.tif").close()


def test_the_colours_lie_where_the_map_says(tmp_path: Path) -> None:
    classes = [{"name": "BG", "colour": [255, 255, 255], "label": "glass"}]
    classes.append({"name": "VT", "colour": [200, 0, 0], "label": "viable"})
    facts = {"classes": classes, "map": {"scale": 32.0}, "mpp": 0.5, "width": 640, "height": 640}
    (tmp_path / "slide.json").write_text(json.dumps(facts), encoding="utf-8")
    found = SegmentedSlide(tmp_path, tmp_path / "none.tif", "none")
    labels = np.zeros((20, 20), dtype=np.uint8)
    labels[5, 7] = 1
    found.__dict__["labels"] = labels
    box = region_box(found, 0.128, (7 * 32 + 16) / 640, (5 * 32 + 16) / 640)
    assert box == (112, 48, 256, 256)
    grey = np.full((256, 256, 3), 100, dtype=np.uint8)
    painted = overlay(found, grey, box, 1.0, 1.0)
    rows, columns = np.nonzero((painted == (200, 0, 0)).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (112, 143, 112, 143)
    assert (overlay(found, grey, box, 1.0, 0.0) == 100).all()
    assert (overlay(found, grey, box, 1.0, 1.0, hidden=["VT"]) == 100).all()
    found.facts["classes"][1]["label"] = "<script>viable</script>"
    assert "&lt;script&gt;viable" in legend(found)
    assert "#c80000" in legend(found)
    assert "viable" not in legend(found, ["VT"])


def test_clearing_ends_the_job_and_removes_its_files(opened: AppTest) -> None:
    app = choose(opened, "P1-A.tif")
    job = app.session_state["slide job"]
    folder = job._folder
    assert folder.exists()
    app = press(app, "Clear patient data")
    assert not app.exception
    assert "slide job" not in app.session_state
    assert not folder.exists()
    assert not job.running


def lines(url: str) -> list[tuple[str, str, str]]:
    """Action, outcome and kind of error of each line of a log."""
    wanted = [HEADER.index(name) for name in ("action", "outcome", "error")]
    return [tuple(row[k] for k in wanted) for row in read_log(url)]  # type: ignore[misc]


def test_the_end_of_a_segmentation_is_recorded_when_it_has_ended(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "audit.sqlite")
    monkeypatch.setenv(AUDIT_VARIABLE, url)
    monkeypatch.setenv(SLIDES_VARIABLE, str(place / "slides"))
    app = choose(visit(monkeypatch, place / "runs"), "P1-A.tif")
    assert lines(url) == [("predict", "started", "")]
    app = waited(app)
    assert lines(url)[1:] == [("predict", "failed", "NoAnswerError")]  # the stand-in is no model for another process
    assert "No map: " in errors(app)
    app = press(choose(app, "P1-A.tif"), "Clear patient data")
    assert not app.exception
    assert lines(url)[2:] == [
        ("predict", "started", ""),
        ("predict", "refused", "Stopped"),
        ("clear", "started", ""),
        ("clear", "ok", ""),
    ]


def test_an_end_that_cannot_be_recorded_leaves_no_result(place: Path) -> None:
    @contextmanager
    def full() -> Iterator[None]:
        try:
            yield
        finally:
            raise AuditError("the disk is full")

    model = load_region(find_bundles(place / "runs")[0])
    job = SlideJobs().start(model, chosen_slide(place / "slides", "P1-A.tif"), "P1-A.tif", full)
    end = time.monotonic() + 120
    while job.running and time.monotonic() < end:
        time.sleep(0.1)
    assert job.failure == "the disk is full"
    assert job.result is None


def test_a_job_that_is_not_started_is_recorded_as_refused(place: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "audit.sqlite")
    log, model = open_log(url), load_region(find_bundles(place / "runs")[0])
    with pytest.raises(RunError, match="no more run at once"):
        SlideJobs(at_once=0).start(
            model,
            chosen_slide(place / "slides", "P1-A.tif"),
            "P1-A.tif",
            lambda: log.recorded(Entry("predict", "", "")),
        )
    assert lines(url) == [("predict", "started", ""), ("predict", "refused", "RunError")]
