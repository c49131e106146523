"""Login and audit log as a visitor meets them: no page before the login, no prediction that is not recorded."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from served import patients, serve
from shown_tables import tables_of
from streamlit.testing.v1 import AppTest

from osml.serving.audit import HEADER, AuditError, open_log, read_log
from osml.serving.database import AUDIT, opened
from osml.serving.launch import AUDIT_VARIABLE, AUTH_VARIABLE, REGISTRY_VARIABLE, RUN_VARIABLE
from osml.serving.registry import list_registry

PAGES = ("predict", "nomogram", "performance", "explain", "cohort", "model_card", "drift", "train")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("guarded"))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = str(tmp_path / "log" / "audit.sqlite")
    monkeypatch.setenv(AUDIT_VARIABLE, url)
    open_log(url)
    return url


def visit(monkeypatch: pytest.MonkeyPatch, run: Path, user: dict[str, Any] | None = None) -> AppTest:
    monkeypatch.setenv(RUN_VARIABLE, str(run))
    monkeypatch.syspath_prepend(str(ROOT / "apps"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    app = AppTest.from_file(str(ROOT / "apps" / "main.py"), default_timeout=60)
    if user is not None:
        app.user = user
    return app.run()


def person(**changes: Any) -> dict[str, Any]:
    return {"is_logged_in": True, "email": "ada@example.org", "sub": "7", "iat": int(time.time())} | changes


def lines(url: str) -> list[dict[str, Any]]:
    return [dict(zip(HEADER, row, strict=True)) for row in read_log(url)]


def fill(app: AppTest, age: str = "51.5") -> AppTest:
    for name, text in (("age", age), ("marker", "240"), ("size", "77")):
        next(widget for widget in app.text_input if widget.key.endswith(f" {name}")).set_value(text)
    for pills, level in zip(app.pills, ("male", "late"), strict=True):
        pills.set_value(level)
    next(button for button in app.button if button.label == "Predict").click()
    return app.run()


def choose_table(app: AppTest, raw: bytes) -> AppTest:
    app.segmented_control[0].set_value("A table").run()
    app.file_uploader[0].set_value(("new.csv", raw, "text/csv"))
    return app.run()


def table(n: int = 4) -> bytes:
    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[:n]]
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode("utf-8")


def risk_shown(app: AppTest) -> bool:
    return any("### " in str(block.value) for block in app.markdown)


# Login


@pytest.mark.parametrize(
    "user",
    [
        {"is_logged_in": False}, {}, {"email": "eve@example.org"}, {"is_logged_in": "yes", "email": "eve@example.org"},
        person(iat=time.time() - 13 * 3600), person(iat=None), person(iat="soon"),
    ],
)  # fmt: skip
def test_no_page_is_shown_without_a_login(
    run: Path, log: str, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any]
) -> None:
    monkeypatch.setenv(AUTH_VARIABLE, "required")
    app = visit(monkeypatch, run, user)
    for page in (None, *PAGES):
        if page is not None:
            app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert [title.value for title in app.title] == ["Log in"]
        assert [button.label for button in app.button] == ["Log in"]
        assert not app.text_input
        assert not app.file_uploader
        assert "Served study" not in "".join(str(block.value) for block in app.markdown)
    assert lines(log) == []


def test_a_visitor_who_logged_in_is_named_in_the_log(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTH_VARIABLE, "required")
    app = fill(visit(monkeypatch, run, person()))
    assert not app.exception
    assert risk_shown(app)
    found = lines(log)
    assert [(line["action"], line["outcome"]) for line in found] == [
        ("login", "started"), ("login", "ok"), ("predict", "started"), ("predict", "ok"),
    ]  # fmt: skip
    assert {line["user"] for line in found} == {"ada@example.org"}
    next(button for button in app.button if button.label == "Clear patient data").click().run()
    assert [line["action"] for line in lines(log)][4:] == ["clear", "clear"]  # and no second login


# The log


def test_a_prediction_is_recorded_and_no_value_of_it(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fill(visit(monkeypatch, run))
    assert risk_shown(app)
    started, ended = lines(log)
    assert (started["outcome"], ended["outcome"], ended["rows"]) == ("started", "ok", 1)
    assert ended["user"] == "anonymous"
    assert len(ended["input_hash"]) == len(ended["bundle"]) == 64
    assert ended["predictor"] == "clinical"
    raw = b"".join(file.read_bytes() for file in Path(log).parent.iterdir() if not file.name.endswith(".key"))
    assert b"51.5" not in raw
    again = fill(visit(monkeypatch, run))
    other = fill(visit(monkeypatch, run), age="52.5")
    assert risk_shown(again)
    assert risk_shown(other)
    hashes = [line["input_hash"] for line in lines(log) if line["outcome"] == "ok"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_refused_answers_and_tables_are_recorded(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fill(visit(monkeypatch, run), age="200")
    assert not risk_shown(app)
    assert (lines(log)[-1]["outcome"], lines(log)[-1]["error"]) == ("refused", "NoPrediction")
    app = choose_table(app, b"patient name,age\nSmith,3\n")
    last = lines(log)[-1]
    assert (last["action"], last["outcome"], last["error"]) == ("predict table", "refused", "TableError")
    assert "Smith" not in repr(lines(log))


def test_a_table_is_recorded_once_however_often_the_page_runs(
    run: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = choose_table(visit(monkeypatch, run), table())
    for index in (1, 2, 3):
        app.selectbox(key="row 0").set_value(index).run()
    found = [line for line in lines(log) if line["action"] == "predict table"]
    assert [(line["outcome"], line["rows"]) for line in found] == [("started", None), ("ok", 4)]


def test_without_its_log_nothing_is_predicted(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    AUDIT.drop(opened(log))
    app = fill(app)
    assert not app.exception
    assert "audit log cannot be written" in "".join(error.value for error in app.error).replace("\\", "")
    assert not risk_shown(app)
    assert "patient" not in app.session_state
    app = choose_table(app, table())
    assert "audit log cannot be written" in "".join(error.value for error in app.error).replace("\\", "")
    assert not app.dataframe


def test_an_end_that_cannot_be_recorded_shows_nothing(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    from osml.serving import Model

    real = Model.predict

    def predict_and_lose_the_disk(self: Model, *args: Any, **kwargs: Any) -> Any:
        AUDIT.drop(opened(log), checkfirst=True)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "predict", predict_and_lose_the_disk)
    app = fill(app)
    assert "audit log cannot be written" in "".join(error.value for error in app.error).replace("\\", "")
    assert not risk_shown(app)
    assert "patient" not in app.session_state


def test_a_prediction_that_dies_half_way_is_in_the_log(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from osml.serving import Model

    app = visit(monkeypatch, run)

    def die(self: Model, *args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Model, "predict", die)
    app = fill(app)
    assert [(line["outcome"], line["error"]) for line in lines(log)] == [("started", ""), ("failed", "MemoryError")]
    assert not risk_shown(app)


def test_a_download_is_recorded_when_it_is_taken(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamlit

    offered: dict[str, Any] = {}
    real = streamlit.download_button

    def offer(label: str, data: Any, *args: Any, **kwargs: Any) -> Any:
        offered[label] = data
        return real(label, data, *args, **kwargs)

    monkeypatch.setattr(streamlit, "download_button", offer)
    app = choose_table(visit(monkeypatch, run), table())
    assert not app.exception
    assert "download" not in {line["action"] for line in lines(log)}
    assert "risk: bad" in offered["Results as CSV"]()  # as the server does on a click, outside the page's run
    found = [line for line in lines(log) if line["action"] == "download"]
    assert [(line["outcome"], line["predictor"]) for line in found] == [("started", "clinical"), ("ok", "clinical")]
    AUDIT.drop(opened(log))
    with pytest.raises(AuditError):
        offered["Results as CSV"]()


# Several bundles, one of them damaged


def test_a_damaged_bundle_does_not_stop_the_others(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"
    for name in ("good", "bad", "other", "pickled"):
        shutil.copytree(run / "bundle", registry / name)
    file = registry / "bad" / "predictors" / "clinical" / "model.json"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    (registry / "pickled" / "predictors" / "clinical" / "weights.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    shutil.copytree(run / "bundle", registry / ".half-copied")
    entries = {entry.name: entry for entry in list_registry(registry, replay=True)}
    assert sorted(entries) == ["bad", "good", "other", "pickled"]
    assert "model.json was changed" in entries["bad"].refused
    assert "a file that its manifest does not name" in entries["pickled"].refused
    good = entries["good"]
    assert (good.refused, good.predictors) == ("", ("clinical",))
    assert good.validation == "internally validated only"
    assert len(good.model_hash) == 64
    monkeypatch.setenv(REGISTRY_VARIABLE, str(registry))
    app = visit(monkeypatch, registry)
    study = next(box for box in app.sidebar.selectbox if box.label == "Study")
    assert study.options == ["good", "other"]
    assert "model.json was changed" in "".join(str(block.value) for block in app.markdown).replace("\\", "")
    assert not app.exception
    assert app.text_input


# Drift


def test_the_drift_page_waits_for_twenty_and_then_answers(run: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = choose_table(visit(monkeypatch, run), table(19))
    app.switch_page("views/drift.py").run()
    assert not app.exception
    assert "Fewer than 20 predictions" in "".join(block.value for block in app.info)
    assert not tables_of(app)
    app.switch_page("views/predict.py").run()
    app = choose_table(app, table(80))
    app.switch_page("views/drift.py").run()
    assert not app.exception
    text = "".join(str(block.value) for block in app.markdown)
    assert "Inputs look like training" in text
    assert "It does not say that predictions are worse" in text
    assert "99" in text  # 19 and 80
    header, *overview = tables_of(app)[0]
    assert {"Age", "Marker", "Sex"} <= {row[header.index("Input")] for row in overview}
    assert "Period" in [box.label for box in app.selectbox]


def test_without_a_log_the_drift_page_says_why_it_is_empty(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUDIT_VARIABLE, "none")
    app = visit(monkeypatch, run)
    app.switch_page("views/drift.py").run()
    assert not app.exception
    assert "Nothing is counted" in "".join(block.value for block in app.info)
