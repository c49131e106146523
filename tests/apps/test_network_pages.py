"""Every page of the app for networks and stacks: pictures in, classes and heat maps out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
pytest.importorskip("streamlit", reason="the app's extra is not installed")
from networked import CLASSES, NODES, serve_tiles, serve_xray
from test_pages import PAGES, AppTest, all_unknown, errors, field, press, tables, visit, words

from osml.cohort.table import read_table
from osml.serving import EQUAL_SHARES, Model, load


@pytest.fixture(scope="module")
def xray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_xray(tmp_path_factory.mktemp("xray"))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(autouse=True)
def surroundings(xray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_WEIGHTS", str(xray.parents[2] / "weights"))
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OSML_DEVICE", "cpu")


def opened(monkeypatch: pytest.MonkeyPatch, run: Path, name: str) -> AppTest:
    """The app with a model chosen in the sidebar."""
    app = visit(monkeypatch, run)
    app.sidebar.selectbox[0].set_value(name)
    return app.run()


def give(app: AppTest, files: list[bytes], name: str = "../../x.png") -> AppTest:
    app.file_uploader[0].set_value([(name, raw, "application/octet-stream") for raw in files])
    return app


def pictures(run: Path, column: str, n: int) -> list[bytes]:
    folder = run.parents[2]
    names = [name for name in read_table(folder / "table.csv").column(column) if name]
    return [(folder / name).read_bytes() for name in names[:n]]


def filled(app: AppTest) -> AppTest:
    for name, text in (("age", "55"), ("alp", "200"), ("alp_low", "45"), ("alp_high", "125")):
        field(app, name).set_value(text)
    app.pills[0].set_value("male")
    return app


def shown(app: AppTest) -> list[str]:
    """Alternative texts of the pictures on the page."""
    return [image.alt for element in app.get("image") for image in element.proto.imgs]


CELLS = {"age": "55", "alp": "200", "alp_low": "45", "alp_high": "125", "sex": "male"}


@pytest.mark.parametrize(("study", "name"), [("xray", "fused"), ("xray", "both"), ("tiles", "net"), ("tiles", "both")])
def test_every_page_opens(xray: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch, study: str, name: str) -> None:
    app = opened(monkeypatch, {"xray": xray, "tiles": tiles}[study], name)
    assert not app.exception
    assert [w.label for w in app.file_uploader] == [
        "Radiograph: image (one or several)" if study == "xray" else "Tile: image"
    ]
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert len(app.title) == 1
        told = errors(app)
        if page == "nomogram":
            assert f"predictor '{name}' has no nomogram" in told
            assert "A nomogram draws a regression, whose inputs add up" in told
        else:
            assert told == ""
        if page == "explain":
            assert ("do not act one by one" if name != "both" else "A stack combines whole models") in words(app)
        if page == "performance" and study == "tiles":
            assert "Macro-F1" in tables(app)
            assert "predicted alive" in tables(app)
        if page == "model_card" and study == "tiles":
            assert EQUAL_SHARES in words(app)


def test_several_pictures_give_a_risk_heat_maps_and_weights(xray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pictures(xray, "file", 2)
    app = press(filled(give(opened(monkeypatch, xray, "fused"), files)), "Predict")
    assert not app.exception
    expected = load(xray, "fused").predict_images(CELLS, {"xray": files})
    text = words(app)
    assert f"### {100 * expected.p[0]:.0f} %" in text
    assert "**Prediction set.**" in text
    assert "Interval: no interval available" in text
    assert "x.png" not in text
    assert "Radiograph: 2 pictures" in tables(app)
    assert [a for a in shown(app) if "picture" in a] == ["Radiograph, picture 1 of 2", "Radiograph, picture 2 of 2"]
    assert [b.label for b in app.download_button] == ["Sheet of this patient (PDF)", "Result (JSON)"]
    app.switch_page("views/explain.py").run()
    assert not app.exception
    assert "How the network weighs what it was given" in [h.value for h in app.subheader]
    assert f"table,{expected.gates['table']:.2f}" in tables(app)
    heat = [alt for alt in shown(app) if "score" in alt]
    assert len(heat) == 2
    app = press(app, "Clear patient data")
    assert "patient" not in app.session_state
    assert not shown(app)


def test_a_network_may_go_without_when_that_is_said(xray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = press(filled(opened(monkeypatch, xray, "fused")), "Predict")
    assert "Not answered: Radiograph: image" in errors(app)
    all_unknown(app).check()
    app = press(app, "Predict")
    assert not app.exception
    assert "Not given, so the network does without: Radiograph." in words(app)
    assert f"### {100 * load(xray, 'fused').predict_one(CELLS).p[0]:.0f} %" in words(app)
    field(app, "age").set_value("")
    app = press(app, "Predict")
    assert "does without: Radiograph, Age" in words(app)
    assert "a learned value" not in words(app)


def test_a_class_is_shown_with_its_probabilities(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw,) = pictures(tiles, "image", 1)
    app = opened(monkeypatch, tiles, "net")
    app.file_uploader[0].set_value(("x.png", raw, "image/png"))
    app = press(app, "Predict")
    assert not app.exception
    model: Model = load(tiles, "net")
    expected = model.predict_images({}, {"tile": raw})
    text = words(app)
    assert "risk of" not in text
    assert "with the event" not in text
    assert f"{EQUAL_SHARES}." in text
    assert ("### undecided" in text) is expected.undecided
    assert ("### " + expected.predicted in text) is not expected.undecided
    for name in NODES:
        label = name if name in CLASSES else f"{name} (all classes below it)"
        assert f"{label},{100 * expected.p[NODES.index(name)]:.1f} %" in tables(app)
    assert f"Contribution (log P({expected.predicted}))" in tables(app)
    app.switch_page("views/explain.py").run()
    box = next(box for box in app.selectbox if box.label == "Class that is explained")
    assert box.value == expected.predicted
    box.set_value("tumour").run()
    assert not app.exception
    assert "Contribution (log P(tumour))" in tables(app)
    assert "raises P(tumour)" in tables(app) or "lowers P(tumour)" in tables(app)


def test_a_burned_in_name_is_refused(xray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom", reason="the imaging extra is not installed")
    import numpy as np
    from dicom_files import write_file
    from pydicom.uid import DigitalXRayImageStorageForPresentation as Radiograph

    grey = np.random.default_rng(0).integers(0, 4096, (180, 170)).astype(np.uint16)
    file = write_file(tmp_path / "x.dcm", grey, Radiograph, BitsStored=12, BurnedInAnnotation="YES")
    app = press(filled(give(opened(monkeypatch, xray, "fused"), [file.read_bytes()], "x.dcm")), "Predict")
    assert not app.exception
    assert "No prediction: xray: burned_in: text is burned into the pixels" in errors(app)
    assert "###" not in words(app)
    assert not shown(app)


def test_no_weights_is_said_in_words(xray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    # Elsewhere than the other tests' bundle: the app keeps a loaded model with the encoders that it has built.
    import shutil

    bundle = Path(shutil.copytree(xray / "bundle", tmp_path / "bundle"))
    app = press(filled(give(opened(monkeypatch, bundle, "fused"), pictures(xray, "file", 1))), "Predict")
    assert not app.exception
    assert "are not on this machine" in errors(app)
    assert "###" not in words(app)


def table_of(run: Path, n: int) -> tuple[bytes, list[tuple[str, bytes, str]]]:
    """The first rows of the study's table, and the pictures that they name."""
    folder = run.parents[2]
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()[: n + 1]
    names = [name for name in read_table(folder / "table.csv").column("file")[:n] if name]
    return "\n".join(lines).encode(), [(Path(n).name, (folder / n).read_bytes(), "image/png") for n in names]


def test_a_table_comes_with_its_pictures(xray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, files = table_of(xray, 3)
    app = opened(monkeypatch, xray, "fused")
    app.segmented_control[0].set_value("A table").run()
    assert [w.label for w in app.file_uploader] == ["Table of patients", "Images that the table names"]
    app.file_uploader[0].set_value(("new.csv", raw, "text/csv"))
    app.file_uploader[1].set_value(files[:1])
    app = press(app.run(), "Predict all")
    assert not app.exception
    assert "cells without a file: line 3, file" in errors(app)
    app.file_uploader[1].set_value([*files, ("<b>../../x.png", files[0][1], "image/png")])
    app = press(app.run(), "Predict all")
    assert "files that no cell names: 'x.png'" in errors(app)
    app.file_uploader[1].set_value(files)
    app = press(app.run(), "Predict all")
    assert not app.exception
    assert not app.error
    assert "3 of 3 rows predicted" in words(app)
    folder = xray.parents[2]
    table = read_table(folder / "table.csv")
    model = load(xray, "fused")
    cut = type(table)("t", table.columns, table.rows[:3], table.lines[:3], "")
    expected = model.predict(cut, root=folder)
    shown_rows = app.dataframe[0].value
    assert shown_rows["risk: bad"].tolist() == pytest.approx([row.p[0] for row in expected], abs=1e-6)
    box = next(box for box in app.selectbox if box.label == "Show one patient")
    box.set_value(1)
    app = app.run()
    assert f"### {100 * expected[1].p[0]:.0f} %" in words(app)
    assert "Sheet of this patient (PDF)" in [b.label for b in app.download_button]
    app = press(app, "Clear patient data")
    assert "many patients" not in app.session_state
    assert not app.dataframe
