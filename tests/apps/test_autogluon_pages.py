"""The app with AutoGluon in the bundle: refused without trust, and every page with it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app's extra is not installed")
from many_models import serve_many
from test_pages import PAGES, AppTest, errors, fill, visit, words

from osml.serving.launch import TRUST_VARIABLE

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_many(tmp_path_factory.mktemp("many"))


def opened(monkeypatch: pytest.MonkeyPatch, run: Path, name: str) -> AppTest:
    app = visit(monkeypatch, run)
    app.sidebar.selectbox[0].set_value(name)
    return app.run()


def test_without_trust_the_page_says_why_and_others_serve(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    app = opened(monkeypatch, many, "many")
    assert not app.exception
    told = errors(app)
    assert "'many' is of kind autogluon, whose files are pickles; none was read" in told
    assert "--trust" in told
    assert len(app.title) == 0
    app.sidebar.selectbox[0].set_value("clinical")
    app.run()
    assert errors(app) == ""
    assert len(app.title) == 1


def test_every_page_with_trust(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, "yes")
    app = fill(opened(monkeypatch, many, "many"))
    assert not app.exception
    assert errors(app) == ""
    assert "%" in words(app) or "in 100" in words(app)
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert len(app.title) == 1
        if page == "nomogram":
            assert "predictor 'many' has no nomogram" in errors(app)
        else:
            assert errors(app) == ""
        if page == "explain":
            assert "The inputs of its models do not act one by one" in words(app)
        if page == "model_card":
            assert "loaded with --trust only" in words(app)
