"""From a list of slides to a map, by a model that was really fitted: apart from the stand-in of the other pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
pytest.importorskip("openslide", reason="the slides extra is not installed")
pytest.importorskip("streamlit", reason="the app extra is not installed")
from helpers import ROOT

sys.path.append(str(ROOT / "tests" / "study"))
from region_runs import run
from test_pages import press, tables, visit, words
from test_slides_page import choose, waited

from osml.serving.launch import SLIDES_VARIABLE


@pytest.mark.full
def test_a_slide_from_list_to_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osml.synthetic.slides import write_slides

    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OSML_DEVICE", "cpu")
    write_slides(tmp_path, patients=4, seed=5, max_slides=1, sides=(1024, 1024), workers=1)
    config = (ROOT / "configs" / "slide_necrosis.yaml").read_text(encoding="utf-8")
    assert "refine: best" in config
    for old, new in (("refine: best", "refine: majority"), ("folds: 4", "folds: 2"), ("folds: 3", "folds: 2")):
        config = config.replace(old, new)
    (tmp_path / "study.yaml").write_text(config.replace("${DATA:-../examples/slides}/", ""), encoding="utf-8")
    run(tmp_path / "study.yaml", tmp_path / "runs")
    monkeypatch.setenv(SLIDES_VARIABLE, str(tmp_path / "slides"))
    app = visit(monkeypatch, tmp_path / "runs")
    name = next(box for box in app.selectbox if box.label == "Slide").options[0]
    app = choose(app, name)
    assert any(name in block.value.replace("\\", "") for block in app.info)
    app = waited(app)
    assert not app.exception
    assert not app.error
    assert "Research use; not a pathology report." in words(app)
    assert "helped to develop the model" in words(app)
    assert "viable tumour," in tables(app)
    assert [button.label for button in app.download_button] == [
        "Outlines for QuPath (GeoJSON)", "Areas (CSV)", "Class map (OME-TIFF)", "All facts (JSON)",
    ]  # fmt: skip
    key = app.session_state["slide pixels"][0]
    next(box for box in app.selectbox if box.label == "Part of the slide").set_value("0.25 mm")
    app = app.run()
    assert not app.exception
    assert app.session_state["slide pixels"][0] != key
    app = press(app, "Clear patient data")
    assert "slide job" not in app.session_state
    assert not key[0].exists()
