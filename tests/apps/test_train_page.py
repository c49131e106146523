"""The page Train as a visitor uses it: from a table to a published model, and what it refuses on the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from served import serve
from shown_tables import tables_of
from small_studies import simulate_rows

from osml.serving.launch import REGISTRY_VARIABLE, RUN_VARIABLE, WORKSPACE_VARIABLE
from osml.study.training import Workspace, cancel, running

pytest.importorskip("streamlit", reason="the app's extra is not installed")
from streamlit.testing.v1 import AppTest

HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) :red[b]"
KEPT = ("id", "age", "marker", "sex", "stage", "outcome")


def table(**renamed: str) -> bytes:
    rows = [{renamed.get(key, key): row[key] for key in KEPT} for row in simulate_rows()]
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "runs").mkdir()
    space = Workspace(tmp_path / "workspace")
    yield space
    for path in space.jobs.iterdir() if space.jobs.is_dir() else ():
        job = space.open(path.name)
        if running(job):
            cancel(job)


@pytest.fixture
def visit(space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the app in a session of its own; `key` is what stands in the address."""
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path / "runs"))
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(space.folder))
    monkeypatch.delenv(REGISTRY_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(ROOT / "apps"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def open_app(key: str = "") -> AppTest:
        app = AppTest.from_file(str(ROOT / "apps" / "main.py"), default_timeout=60)
        if key:
            app.query_params["job"] = key
        return app.run()

    return open_app


def words(app: AppTest) -> str:
    blocks: list[Any] = [*app.markdown, *app.error, *app.warning, *app.info, *app.success, *app.title, *app.header]
    return "\n".join(str(block.value) for block in blocks).replace("\\", "")


def errors(app: AppTest) -> str:
    return "\n".join(block.value for block in app.error).replace("\\", "")


def key_of(app: AppTest) -> str:
    """The key of the job in the address."""
    value: Any = app.query_params["job"]
    return value if isinstance(value, str) else str(value[0])


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def choose(app: AppTest, label: str, value: str) -> AppTest:
    next(box for box in app.selectbox if box.label.startswith(label)).set_value(value)
    return app.run()


def fill(app: AppTest, label: str, value: str) -> AppTest:
    next(field for field in app.text_input if field.label.startswith(label)).set_value(value)
    return app.run()


def upload(app: AppTest, raw: bytes, name: str = "cohort.csv") -> AppTest:
    app.file_uploader[0].set_value((name, raw, "text/csv"))
    return press(app, "Read the table")


def drafted(app: AppTest) -> AppTest:
    upload(app, table())
    choose(app, "Which column names the patient?", "id")
    choose(app, "Which column is the outcome?", "outcome")
    return press(app, "Draft the schema")


def answered(app: AppTest) -> AppTest:
    drafted(app)
    choose(app, "How patients came into the table", "cohort")
    fill(app, "Moments in order", "diagnosis")
    choose(app, "Moment of prediction", "diagnosis")
    choose(app, "Value of the outcome", "bad")
    return choose(app, "When are the 4 inputs known", "diagnosis")


def as_text(app: AppTest) -> Any:
    next(group for group in app.segmented_control if group.label == "Edit as").set_value("YAML").run()
    return app.text_area[0]


def test_training_has_to_be_allowed(visit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, "")
    monkeypatch.setenv(RUN_VARIABLE, str(serve(tmp_path / "served")))
    app = visit().switch_page("views/train.py").run()
    assert not app.exception
    assert "osml app --train FOLDER" in words(app)
    assert list(app.file_uploader) == []


def test_without_a_model_the_page_is_what_opens(visit: Any) -> None:
    app = visit()
    assert not app.exception
    assert [title.value for title in app.title] == ["Train"]
    assert "Research use only. Not a medical device." in words(app)


def test_a_draft_asks_first_and_counts_what_is_open(visit: Any) -> None:
    app = drafted(visit())
    assert not app.exception
    assert "Questions that only you can answer" in words(app)
    assert "8 questions to answer" in words(app)
    assert "Start training" not in [button.label for button in app.button]
    answered_app = choose(app, "How patients came into the table", "cohort")
    assert "7 questions to answer" in words(answered_app)


def test_a_whole_schema_is_checked_before_it_can_be_started(visit: Any) -> None:
    app = answered(visit())
    assert not app.exception
    assert "The schema is whole." in words(app)
    assert "Used: 90 patients" in words(app).replace("*", "")
    start = next(button for button in app.button if button.label == "Start training")
    assert not start.disabled


def test_an_error_in_the_text_is_shown_with_its_line(visit: Any, space: Workspace) -> None:
    app = answered(visit())
    area = as_text(app)
    good = area.value
    number = 1 + next(i for i, line in enumerate(good.splitlines()) if "kind: nomogram" in line)
    area.set_value(good.replace("kind: nomogram", "kind: nomgram").replace("table: table.csv", "table: /etc/passwd"))
    app.run()
    assert "2 errors" in errors(app)
    assert f"Line {number}" in words(app)
    assert "must be table.csv, the table that was uploaded" in words(app)
    assert "Start training" not in [button.label for button in app.button]
    app.text_area[0].set_value("inputs: [").run()
    assert "not valid YAML" in words(app)
    next(group for group in app.segmented_control if group.label == "Edit as").set_value("Form").run()
    assert not app.exception
    assert "there is no form" in words(app)
    as_text(app).set_value(good)
    app.run()
    assert "The schema is whole." in words(app)


def test_names_of_columns_and_files_show_as_text(visit: Any) -> None:
    app = upload(visit(), table(age=HOSTILE.replace(",", "")), name=f"{HOSTILE}.csv")
    choose(app, "Which column names the patient?", "id")
    choose(app, "Which column is the outcome?", "outcome")
    press(app, "Draft the schema")
    assert not app.exception
    shown: list[Any] = [*app.markdown, *app.expander]
    raw = "\n".join(str(getattr(block, "value", None) or getattr(block, "label", "")) for block in shown)
    assert "<script>" not in raw.replace("\\<", "")
    assert not any(getattr(block, "allow_html", False) for block in app.markdown)


@pytest.mark.parametrize(
    "raw, said",
    [
        (table(id="Patient name"), "identify a person"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04broken", "not a readable XLSX"),
        (b"," * 100_000_000, "at most 50 MB"),
        (b"id,id\n1,2\n", "stands twice"),
    ],
    ids=["name", "pdf", "xlsx", "commas", "twice"],
)
def test_uploads_that_are_refused_leave_no_job(visit: Any, space: Workspace, raw: bytes, said: str) -> None:
    app = upload(visit(), raw)
    assert not app.exception
    assert said in errors(app)
    assert list(space.jobs.iterdir()) == []


def test_two_users_do_not_see_each_other(visit: Any, space: Workspace) -> None:
    mine, theirs = drafted(visit()), visit()
    key = key_of(mine)
    assert space.open(key).text()
    assert [title.value for title in theirs.title] == ["Train"]
    assert "Questions" not in words(theirs)
    assert key not in words(theirs)
    guess = visit("0" * 40)
    assert "no such training job" in errors(guess)
    drafted(theirs)
    assert key_of(theirs) != key


def test_a_closed_tab_comes_back_by_its_address(visit: Any) -> None:
    key = key_of(drafted(visit()))
    again = visit(key)
    assert "8 questions to answer" in words(again)
    press(again, "Clear patient data")
    assert "Questions" not in words(again)
    assert "job" not in again.query_params


def test_a_job_is_deleted_with_its_data(visit: Any, space: Workspace) -> None:
    app = drafted(visit())
    app.checkbox[0].check().run()
    press(app, "Delete this job")
    assert "The job was deleted" in words(app)
    assert list(space.jobs.iterdir()) == []


@pytest.mark.full
def test_from_a_table_to_a_published_model(visit: Any, tmp_path: Path) -> None:
    app = answered(visit())
    fill(app, "Folds", "2")
    fill(app, "Repeats", "")
    press(app, "Start training")
    assert "It goes on when this tab is closed" in words(app)
    key = key_of(app)
    tab = visit(key)
    deadline = time.monotonic() + 180
    while "Training" in [header.value for header in tab.header]:
        assert time.monotonic() < deadline
        time.sleep(1)
        tab.run()
    assert not tab.exception
    assert "Held-out performance" in words(tab)
    assert len(tables_of(tab)[0]) == 2  # headings and the model
    fill(tab, "Name of the published model", "../../x")
    press(tab, "Publish")
    assert "is no name for a published model" in errors(tab)
    fill(tab, "Name of the published model", "cohort")
    press(tab, "Publish")
    assert not tab.exception
    assert "Published as cohort." in words(tab)
    press(tab, "Publish")
    assert "already" in errors(tab)
    visitor = visit()
    assert [title.value for title in visitor.title] == ["Predict"]
    assert "Study cohort" in "\n".join(block.value for block in visitor.sidebar.markdown).replace("*", "")
    assert [title.value for title in visit(key).title] == ["Train"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".publishing", "cohort"]
