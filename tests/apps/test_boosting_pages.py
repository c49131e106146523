"""Every page of the app for boosted trees: gaps stay gaps, contributions add up, nothing draws a nomogram."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app's extra is not installed")
pytest.importorskip("lightgbm", reason="the automl extra is not installed")
from served import FIVE, serve
from test_pages import PAGES, errors, fill, tables, visit, words

from osml.serving import load

CELLS = {"age": "51.5", "marker": "240", "size": "77", "sex": "male", "stage": "late"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trees = {"kind": "boosting", "inputs": FIVE, "rounds": 10}
    validation = {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}, "seed": 5}
    return serve(tmp_path_factory.mktemp("trees"), predictors={"trees": trees}, validation=validation)


def test_every_page_opens(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert len(app.title) == 1
        if page == "nomogram":
            assert "in trees they do not" in errors(app)
        else:
            assert errors(app) == ""
        if page == "explain":
            assert "The inputs of trees do not act one by one" in words(app)


@pytest.mark.parametrize("gone", [False, True])
def test_a_patient_is_predicted_and_explained(run: Path, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """Without the marker, which some training patients lacked: it is missing, not estimated."""
    app = fill(visit(monkeypatch, run), marker="" if gone else "240", unknown=gone)
    assert not app.exception
    model = load(run)
    cells = {key: value for key, value in CELLS.items() if not gone or key != "marker"}
    expected = model.predict_one(cells)
    assert expected.missing == (("marker",) if gone else ())
    assert f"### {100 * expected.p[0]:.0f} %" in words(app)
    assert "the average training patient" in words(app)
    parts = {c.label: c.value for c in model.explain(model.one_row(cells)).contributions}
    assert len(parts) == 5
    shown = tables(app)
    for label in parts:
        assert label in shown
