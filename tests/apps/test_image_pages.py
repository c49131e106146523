"""Every page of the app for models that read images: a Rad-score, and a nomogram that it feeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from imaged import serve_images
from test_pages import PAGES, AppTest, all_unknown, errors, field, press, tables, visit, words

from osml.cohort.table import read_table
from osml.serving import load

for package in ("SimpleITK", "numba", "pywt"):
    pytest.importorskip(package, reason="the radiomics extra is not installed")
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_images(tmp_path_factory.mktemp("images"), missing="impute")


def opened(monkeypatch: pytest.MonkeyPatch, run: Path, name: str) -> AppTest:
    """The app with a model chosen in the sidebar."""
    app = visit(monkeypatch, run)
    app.sidebar.selectbox[0].set_value(name)
    return app.run()


def upload(app: AppTest, run: Path, row: int = 0) -> AppTest:
    """The files of one patient, under names that say nothing."""
    folder = run.parents[2]
    table = read_table(folder / "table.csv")
    for widget, column in zip(app.file_uploader, ("t1", "t1_mask"), strict=True):
        raw = (folder / table.column(column)[row]).read_bytes()
        widget.set_value(("../../x.png", raw, "application/octet-stream"))
    return app


@pytest.mark.parametrize("name", ["radscore", "combined"])
def test_every_page_opens(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    app = opened(monkeypatch, run, name)
    assert not app.exception
    assert [w.label for w in app.file_uploader] == ["T1 MRI: image", "T1 MRI: mask of the lesion"]
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert len(app.title) == 1
        told = errors(app)
        if (page, name) == ("nomogram", "radscore"):
            assert "predictor 'radscore' has no nomogram" in told
            assert "one axis, not a sheet of its own" in told
        else:
            assert told == ""
        if page == "explain":
            assert "T1 MRI, " in tables(app)
            assert ("Inside the Rad-score" in words(app)) is (name == "combined")
        if page == "performance":
            assert "Regions that radscore chose from" in words(app)
            assert "0-2mm" in tables(app)


def test_image_and_mask_give_a_prediction(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(opened(monkeypatch, run, "combined"), run)
    field(app, "age").set_value("51.5")
    app = press(app, "Predict")
    assert not app.exception
    folder = run.parents[2]
    table = read_table(folder / "table.csv")
    given = {key: folder / table.column(column)[0] for key, column in (("t1", "t1"), ("t1.mask", "t1_mask"))}
    expected = load(run, "combined").predict_images({"age": "51.5"}, given)
    assert f"### {100 * expected.p[0]:.0f} %" in words(app)
    assert "What the Rad-score is made of" in [block.label for block in app.expander]
    assert "T1 MRI, " in tables(app)
    assert re.search(r"tumour,\"?\d", tables(app))
    assert "x.png" not in words(app)
    assert [b.label for b in app.download_button] == [
        "Sheet of this patient (PDF)", "Nomogram sheet with this patient's lines (PDF)", "Result (JSON)",
    ]  # fmt: skip
    app.switch_page("views/nomogram.py").run()
    assert not app.exception
    app.switch_page("views/explain.py").run()
    assert "This session's patient" in words(app)
    app = press(app, "Clear patient data")
    assert "patient" not in app.session_state
    assert "This session's patient" not in words(app)


def test_an_unknown_age_is_allowed_and_a_missing_image_is_not(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(monkeypatch, run, "combined")
    all_unknown(app).check()
    app = press(app, "Predict")
    assert "Not answered: T1 MRI: image, T1 MRI: mask of the lesion. Fill them in." in errors(app)
    app = press(upload(app, run), "Predict")
    assert not app.exception
    assert "Not given and estimated by the model: Age" in words(app)
    assert "###" in words(app)


def test_a_file_that_is_no_image_is_answered_in_words(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(monkeypatch, run, "radscore")
    for widget in app.file_uploader:
        widget.set_value(("scan.nii", b"<script>alert(1)</script>", "text/html"))
    app = press(app, "Predict")
    assert not app.exception
    assert "No prediction: t1: the file is not NIfTI" in errors(app)
    assert "###" not in words(app)


def test_a_table_of_volumes_comes_with_its_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.parents[2]
    table = read_table(folder / "table.csv")
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()[:3]
    names = [table.column(column)[row] for row in range(2) for column in ("t1", "t1_mask")]
    app = opened(monkeypatch, run, "radscore")
    app.segmented_control[0].set_value("A table").run()
    app.file_uploader[0].set_value(("new.csv", "\n".join(lines).encode(), "text/csv"))
    app.file_uploader[1].set_value([(Path(n).name, (folder / n).read_bytes(), "application/gzip") for n in names])
    app = press(app.run(), "Predict all")
    assert not app.exception
    assert not app.error
    expected = load(run, "radscore").predict(table, root=folder)[:2]
    assert app.dataframe[0].value["risk: bad"].tolist() == pytest.approx([row.p[0] for row in expected], abs=1e-6)


def test_a_model_without_images_has_no_uploader(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(monkeypatch, run, "clinical")
    assert not app.exception
    assert not app.file_uploader
    assert [w.key for w in app.text_input] == ["cell 0 age"]
