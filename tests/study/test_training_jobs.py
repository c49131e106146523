"""Training jobs of the app: what is taken in, what a schema may name, what a kill leaves, what is published."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_studies import simulate_rows

from osml.archives import Limits
from osml.errors import ArchiveError, InvalidInputError, OsmlError, RunError, SchemaError, TableError, VerificationError
from osml.files import read_json, write_json
from osml.schema.document import read_document
from osml.schema.model import Schema
from osml.serving import find_bundles, load
from osml.study.failures import Failure, write_failures
from osml.study.training import (
    Form,
    Job,
    Workspace,
    cancel,
    check,
    check_name,
    choose_models,
    columns_seen,
    draft,
    failures,
    judge,
    known_at,
    progress,
    publish,
    registry,
    report_html,
    result,
    results_zip,
    running,
    start,
    state,
    stored_table,
    take_in,
    use_input,
    workspace,
    write,
)
from osml.study.training.judge import forbidden
from osml.study.training.process import OUTCOME, PID, STARTED


def as_csv(rows: list[dict[str, str]]) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def table(**more: list[str]) -> bytes:
    """A small study's table without what is known only later, and with further columns."""
    rows = simulate_rows()
    kept = [{key: row[key] for key in ("id", "age", "marker", "sex", "stage", "outcome")} for row in rows]
    return as_csv([row | {name: cells[i] for name, cells in more.items()} for i, row in enumerate(kept)])


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def job(space: Workspace) -> Job:
    job = space.create()
    take_in(job, table(), name="../../my study.csv")
    draft(job, "id", "outcome")
    return job


def form(job: Job) -> Form:
    read = stored_table(job)
    assert read is not None
    return Form(read_document(job.text(), "schema.yaml"), columns_seen(read), job.facts()["images"])


def answer(job: Job, name: str, value: str) -> None:
    """Answer one field of the form, wherever it stands."""
    asked = form(job)
    fields = [*asked.study(), *asked.patients(), *asked.target(), *asked.validation()]
    fields += [field for item in asked.inputs() for field in asked.input(item)]
    field = next(field for field in fields if field.name == name)
    job.write_text(write(job.text(), field, value, asked.seen))


def answered(job: Job) -> None:
    """Answer all that a draft asks, and keep the study small."""
    answer(job, "study.sampling", "cohort")
    answer(job, "times", "diagnosis, surgery")
    answer(job, "time_of_prediction", "diagnosis")
    answer(job, "target.positive", "bad")
    job.write_text(known_at(job.text(), form(job), "diagnosis"))
    answer(job, "validation.split.folds", "2")
    answer(job, "validation.split.repeats", "")
    job.write_text(write(job.text(), form(job).acceptance("OSML041"), "a test", {}))


def test_a_job_opens_with_its_key_for_its_owner_only(space: Workspace) -> None:
    mine, theirs, nobody = space.create("a@x"), space.create("b@x"), space.create()
    assert len({mine.key, theirs.key, nobody.key}) == 3
    assert len(mine.key) == 40
    assert mine.path.stat().st_mode & 0o077 == 0
    assert space.open(mine.key, "a@x") == mine
    assert space.open(nobody.key) == nobody
    for key, user in (
        (mine.key, "b@x"),
        (mine.key, ""),
        (nobody.key, "a@x"),
        ("0" * 40, ""),
        ("../jobs", ""),
        ("", ""),
    ):
        with pytest.raises(RunError, match="no such training job"):
            space.open(key, user)
    assert space.jobs_of("a@x") == [mine]
    assert space.jobs_of("") == []


def test_a_deleted_job_leaves_nothing(space: Workspace, job: Job) -> None:
    space.delete(job)
    assert list(space.jobs.iterdir()) == []
    with pytest.raises(RunError, match="no such"):
        space.open(job.key)


def test_without_the_variable_there_is_no_workspace(tmp_path: Path) -> None:
    assert workspace({}) is None
    assert workspace({"OSML_APP_WORKSPACE": ""}) is None
    assert workspace({"OSML_APP_WORKSPACE": str(tmp_path)}) == Workspace(tmp_path)


def test_the_draft_is_that_of_init_and_asks(job: Job) -> None:
    found = judge(job, job.text())
    assert found.problems == ()
    assert {question.where for question in found.questions} >= {"study.sampling", "time_of_prediction", "times.0"}
    assert all(job.text().splitlines()[question.line - 1].count('"?"') for question in found.questions)
    assert form(job).study()[0].value == "my-study"
    assert form(job).inputs() == ["age", "marker", "sex", "stage"]
    assert "# Draft from table.csv: 90 rows" in job.text()


def test_answers_go_into_the_text_and_comments_stay(job: Job) -> None:
    comments = [line.partition("#")[2] for line in job.text().splitlines() if "#" in line]
    answered(job)
    found = judge(job, job.text())
    assert found.ready
    assert found.schema is not None
    assert found.schema.target.model_dump()["positive"] == "bad"
    assert found.schema.validation.split.model_dump() == {"kind": "kfold", "folds": 2, "repeats": 1}
    assert all(comment in job.text() for comment in comments)
    assert check(job).units == 90
    assert not check(job).stops


def test_text_and_form_are_one(job: Job) -> None:
    job.write_text(job.text().replace('sampling: "?"', "sampling: case_control"))
    assert next(field for field in form(job).study() if field.name == "study.sampling").value == "case_control"
    answer(job, "study.sampling", "")
    assert 'sampling: "?"' in job.text()
    with pytest.raises(InvalidInputError, match="not a number"):
        answer(job, "inputs.age.limits", "0, old")
    answer(job, "inputs.age.limits", "0, 110")
    answer(job, "inputs.stage.kind", "binary")
    assert judge(job, job.text()).problems
    answer(job, "inputs.stage.kind", "category")
    answer(job, "inputs.marker.kind", "lab")
    assert "inputs.marker.unit" in {question.where for question in judge(job, job.text()).questions}


def test_an_input_is_taken_out_and_put_back(job: Job) -> None:
    answered(job)
    before = read_document(job.text(), "x").data
    job.write_text(use_input(job, job.text(), "stage", False))
    assert "stage" not in form(job).inputs()
    assert judge(job, job.text()).ready
    job.write_text(use_input(job, job.text(), "stage", True))
    assert read_document(job.text(), "x").data == before


def test_outcome_and_patient_are_no_inputs(space: Workspace) -> None:
    job = space.create()
    take_in(job, table())
    draft(job, None, None)
    assert "outcome" in form(job).inputs()
    answer(job, "target.column", "outcome")
    assert "outcome" not in form(job).inputs()
    assert "outcome" not in read_document(job.text(), "x").data["predictors"]["clinical"]["inputs"]


def test_other_targets_and_models(job: Job) -> None:
    answered(job)
    for choice in ("auto", "nomogram+boosting", "nomogram"):
        job.write_text(choose_models(job.text(), choice))
        assert judge(job, job.text()).ready
        assert form(job).models()[0] == choice
    answer(job, "target.kind", "multiclass")
    assert {question.where for question in judge(job, job.text()).questions} == set()
    answer(job, "target.kind", "survival")
    asked = {question.where for question in judge(job, job.text()).questions}
    assert asked >= {"target.time", "target.positive", "target.unit", "target.competing"}


@pytest.mark.parametrize(
    "change, line, words",
    [
        (("kind: nomogram", "kind: nomgram"), "kind: nomgram", "unknown kind"),
        (("seed: 2026", "sed: 2026"), "sed: 2026", "unknown key"),
        (("folds: 5", "folds: five"), "folds: five", "whole number"),
        (("version: 1", "version: [1"), "", "not valid YAML"),
        (("version: 1", "version: !!python/object/apply:os.system [id]"), "version", "tag"),
    ],
)
def test_errors_carry_their_line(job: Job, change: tuple[str, str], line: str, words: str) -> None:
    text = job.text().replace(*change)
    found = judge(job, text).problems
    meant = next(problem for problem in found if words in problem.message)
    assert meant.line > 0
    assert line in text.splitlines()[meant.line - 1]


@pytest.mark.parametrize("path", ["/etc/passwd", "../table.csv", "${HOME}/table.csv", "${X:-/etc/passwd}", "other.csv"])
def test_only_the_uploaded_table_is_read(job: Job, path: str) -> None:
    answered(job)
    job.write_text(job.text().replace("table: table.csv", f"table: '{path}'"))
    found = judge(job, job.text())
    assert [problem.where for problem in found.problems] == ["cohort.table"]
    with pytest.raises(SchemaError, match="open places"):
        check(job)


PICTURE: dict[str, Any] = {"kind": "image", "column": "photo", "available": "t"}
OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"inputs": {"x": PICTURE | {"column": "elsewhere"}}}, "inputs.x.column"),
    ({"inputs": {"elsewhere": {"kind": "volume", "available": "t"}}}, "inputs.elsewhere.column"),
    ({"inputs": {"x": PICTURE | {"mask": {"column": "elsewhere"}}}}, "inputs.x.mask.column"),
    ({"inputs": {"x": PICTURE | {"kind": "volume", "body": "elsewhere"}}}, "inputs.x.body"),
    ({"inputs": {"r": {"kind": "radiomics", "stability": {"masks": "elsewhere"}}}}, "inputs.r.stability.masks"),
    ({"inputs": {"s": {"kind": "score", "bundle": "/srv/b", "oof": "../oof.csv"}}}, "inputs.s.kind"),
    ({"inputs": {"s": {"kind": "slide", "column": "photo"}}}, "inputs.s.kind"),
    ({"target": {"kind": "region"}}, "target.kind"),
    ({"predictors": {"p": {"kind": "slide"}}}, "predictors.p.kind"),
    ({"predictors": {"p": {"kind": "autogluon"}}}, "predictors.p.kind"),
    ({"predictors": {"p": {"encoders": {"x": {"weights": "hub"}}}}}, "predictors.p.encoders.x.weights"),
    ({"predictors": {"p": {"encoders": {"x": {"weights": "/srv/w.pt"}}}}}, "predictors.p.encoders.x.weights"),
    ({"predictors": {"p": {"encoders": {"x": {"weights": "../../w"}}}}}, "predictors.p.encoders.x.weights"),
]


@pytest.mark.parametrize("data, place", OUTSIDE, ids=[place for _, place in OUTSIDE])
def test_what_leads_outside_is_refused(data: dict[str, Any], place: str) -> None:
    assert [".".join(map(str, problem.path)) for problem in forbidden(data, ["photo"])] == [place]


def test_what_is_inside_is_allowed() -> None:
    data = {
        "cohort": {"table": "table.csv"},
        "inputs": {"x": PICTURE, "r": {"kind": "radiomics", "of": "x"}},
        "predictors": {"p": {"kind": "autogluon"}, "n": {"encoders": {"x": {"tune": "frozen"}}}},
    }
    assert list(forbidden(data, ["photo"], trust=True)) == []


def test_every_key_of_the_schema_that_is_a_path_is_known_to_the_refusals() -> None:
    found: set[tuple[str, str]] = set()

    def visit(node: Any, owner: str, key: str) -> None:
        if isinstance(node, dict):
            if "${NAME:-default}" in str(node.get("description", "")):
                found.add((owner, key))
            for name, item in node.items():
                if name == "properties":
                    for inner, block in item.items():
                        if "${NAME:-default}" in str(block):
                            found.add((owner, inner))
                else:
                    visit(item, owner, key)
        elif isinstance(node, list):
            for item in node:
                visit(item, owner, key)

    for owner, block in Schema.model_json_schema()["$defs"].items():
        visit(block, owner, "")
    paths = {key for _, key in found}
    assert paths <= {"table", "weights", "bundle", "oof"}, f"a new path that `forbidden` must look at: {found}"
    assert {owner for owner, _ in found} <= {"CohortBlock", "EncoderBlock", "SlideEncoder", "ScoreInput"}


@pytest.mark.parametrize(
    "raw, words",
    [
        (table(surname=["x"] * 90), "identify a person"),
        (b"%PDF-1.7", "a PDF"),
        (b"", "empty"),
        (b"\x00\x01", "neither text nor XLSX"),
        (b"id,a\n" + b"1,2\n" * 50_003, "more than 50000 lines"),
        (b"," * 200_000, "more than 500 columns"),
    ],
    ids=["name", "pdf", "empty", "binary", "long", "wide"],
)
def test_tables_that_are_refused_leave_nothing(space: Workspace, raw: bytes, words: str) -> None:
    job = space.create()
    with pytest.raises(TableError, match=words):
        take_in(job, raw)
    assert sorted(path.name for path in job.path.iterdir()) == ["job.json"]


def test_cells_are_stored_as_they_were(space: Workspace) -> None:
    job = space.create()
    take_in(job, b'id;note\n007;"=1+1; ""x"""\n008;<5\n')
    read = stored_table(job)
    assert read is not None
    assert read.rows == (("007", '=1+1; "x"'), ("008", "<5"))


def pictures(n: int = 90) -> list[str]:
    return [f"p{i}.png" for i in range(n)]


def test_images_are_matched_by_base_name(space: Workspace) -> None:
    job = space.create()
    take_in(job, table(photo=pictures()), zipped({f"all/{name}": b"\x89PNG" for name in pictures()}))
    assert job.facts()["images"] == ["photo"]
    read = stored_table(job)
    assert read is not None
    assert all((job.path / cell).is_file() for cell in read.column("photo"))
    draft(job, "id", "outcome")
    assert "left out: photo" not in job.text()
    block = read_document(job.text(), "x").data
    assert block["inputs"]["photo"] == {"kind": "image", "column": "photo", "available": "?"}
    answered(job)
    assert judge(job, job.text()).ready
    assert block["predictors"]["network"]["inputs"][-1] == "photo"


def test_an_image_with_a_mask_is_drafted_with_radiomics(space: Workspace) -> None:
    job = space.create()
    scans, masks = [f"s{i}.nii.gz" for i in range(90)], [f"m{i}.nii.gz" for i in range(90)]
    take_in(job, table(t2=scans, t2_mask=masks), zipped(dict.fromkeys([*scans, *masks], b"\x1f\x8b")))
    draft(job, "id", "outcome")
    data = read_document(job.text(), "x").data
    assert data["inputs"]["t2"]["mask"] == {"column": "t2_mask"}
    assert data["inputs"]["t2"]["kind"] == "volume"
    answered(job)
    assert judge(job, job.text()).ready
    assert form(job).models()[0] == "radscore+nomogram"


@pytest.mark.parametrize(
    "cells, files, words",
    [
        (pictures(), pictures(89), "names 1 files that are not in the ZIP"),
        (["../../etc/passwd.png", *pictures()[1:]], pictures(), "names 1 files that are not in the ZIP"),
        (["/etc/passwd.png", *pictures()[1:]], pictures(), "names 1 files that are not in the ZIP"),
        (pictures(), pictures(91), "1 files of the ZIP are named by no cell"),
        ([""] * 90, pictures(), "no column of the table names"),
        (pictures(), [*pictures(), "b/p1.png", "a/p1.png"], "named by no cell"),
    ],
)
def test_what_does_not_match_is_an_error(space: Workspace, cells: list[str], files: list[str], words: str) -> None:
    job = space.create()
    with pytest.raises(TableError, match=words):
        take_in(job, table(photo=cells), zipped(dict.fromkeys(files, b"\x89PNG")))
    assert sorted(path.name for path in job.path.iterdir()) == ["job.json"]


def test_hostile_archives_leave_nothing(space: Workspace) -> None:
    job = space.create()
    for raw in (zipped({"../x.png": b""}), b"no zip", zipped({"x.png": zipped({"y.png": b""})})):
        with pytest.raises(ArchiveError):
            take_in(job, table(), raw)
    with pytest.raises(ArchiveError, match="at most"):
        take_in(job, table(photo=pictures()), zipped(dict.fromkeys(pictures(), b"12345")), limits=Limits(500, 4))
    assert sorted(path.name for path in job.path.iterdir()) == ["job.json"]


def test_a_schema_with_open_places_is_not_started(space: Workspace, job: Job) -> None:
    with pytest.raises(SchemaError, match=r"line 6: study\.sampling"):
        start(space, job)
    assert state(job).stage == "draft"


@pytest.mark.parametrize("name", ["", "latest", "bundle", "../x", "a/b", ".hidden", "A", "x" * 61, "a\x00", "a b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RunError, match="no name"):
        check_name(name)


def test_where_models_are_published(tmp_path: Path) -> None:
    assert registry({"OSML_APP_RUN": str(tmp_path)}) == tmp_path
    assert registry({"OSML_APP_RUN": "x", "OSML_APP_REGISTRY": str(tmp_path)}) == tmp_path
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="one study"):
        registry({"OSML_APP_RUN": str(tmp_path)})


def waited(job: Job, limit: float = 180.0) -> None:
    deadline = time.monotonic() + limit
    while running(job):
        assert time.monotonic() < deadline, progress(job)
        time.sleep(0.1)


@pytest.fixture
def clean(job: Job) -> Iterator[Job]:
    """A job whose process does not outlive the test."""
    answered(job)
    yield job
    if running(job):
        cancel(job)


@pytest.mark.full
def test_killed_cancelled_and_continued_then_published(space: Workspace, clean: Job, tmp_path: Path) -> None:
    job = clean
    answer(job, "validation.split.repeats", "10")
    start(space, job)
    second = space.create()
    shutil.copytree(job.path, second.path, dirs_exist_ok=True, ignore=lambda *_: ["runs", "lock"])
    with pytest.raises(RunError, match="another study is being fitted"):
        start(space, second)
    with pytest.raises(RunError, match="already"):
        start(space, job)
    with pytest.raises(RunError, match="being fitted"):
        space.delete(job)
    deadline = time.monotonic() + 120
    while progress(job).done < 2:
        assert time.monotonic() < deadline, progress(job)
        time.sleep(0.05)
    assert progress(job).total == 20
    group = read_json(job.path / PID)["pid"]
    assert os.getpgid(group) == group != os.getpgid(0)
    assert os.getpriority(os.PRIO_PROCESS, group) == 10
    os.killpg(group, signal.SIGKILL)
    waited(job)
    assert state(job).stage == "lost"
    kept = progress(job).done
    assert kept >= 2
    start(space, job)
    assert progress(job).done >= kept
    while not (job.path / PID).is_file():
        time.sleep(0.05)
    assert cancel(job) >= kept
    assert not running(job)
    assert state(job).stage == "cancelled"
    start(space, job)
    waited(job)
    now = state(job)
    assert now.stage == "finished", (job.path / "log.txt").read_text()
    assert now.outcome["failed"] == []
    assert len([path for path in job.path.glob("runs/*/*") if not path.is_symlink()]) == 1
    assert failures(job)[1] == []
    assert b"<html" in (report_html(job) or b"")[:500].lower()
    with zipfile.ZipFile(io.BytesIO(results_zip(job))) as archive:
        names = archive.namelist()
        assert {"report/report.html", "leaderboard.csv", "metrics.json"} <= set(names)
        assert not [name for name in names if name.endswith(".parquet") or "splits" in name]
        assert not [name for name in names if b"P013" in archive.read(name)]
    folder = tmp_path / "registry"
    bundle = publish(job, "mine", folder)
    assert find_bundles(folder) == (bundle,)
    assert load(bundle).name == "clinical"
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="already"):
        publish(job, "mine", folder)
    model = result(job).path / "bundle" / "predictors" / "clinical" / "model.json"
    model.write_bytes(model.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(VerificationError, match="changed"):
        publish(job, "forged", folder)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    assert find_bundles(folder) == (bundle,)
    answer(job, "study.title", "Another title")
    assert state(job).changed
    space.delete(job)
    assert load(bundle).name == "clinical"


@pytest.fixture
def finished(space: Workspace) -> Job:
    """A job whose run failed in one fold; its log and table say where the server keeps them."""
    job = space.create()
    run = job.path / "runs" / "study" / "one"
    trace = 'Traceback (most recent call last):\n  File "/opt/secret/osml/fit.py", line 3, in fit'
    message = f"no weights at /opt/secret/hub/net.pt, {job.path}/images/P1.png"
    for name, text in (("metrics.json", "{}"), ("bundle/manifest.json", "{}")):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    write_failures(run / "failures.csv", [Failure("net", f"fold {k}", "OSError", message, "", trace) for k in (1, 2)])
    write_json(job.path / STARTED, {"time": "", "clock": time.time(), "schema": "", "trust": False})
    write_json(job.path / OUTCOME, {"code": 0, "run": "runs/study/one", "failed": ["net"], "skipped": []})
    (job.path / "log.txt").write_text("=== begun\n/opt/secret/site-packages/a.py:3: UserWarning: slow\n")
    return job


def test_what_failed_is_told_without_tracebacks_and_folders_of_the_server(finished: Job) -> None:
    text, reasons = failures(finished)
    assert reasons == ["net: no weights at net.pt, P1.png (2 times)"]
    assert text.splitlines()[0] == "predictor,stage,kind,message"
    assert len(text.splitlines()) == 3
    with zipfile.ZipFile(io.BytesIO(results_zip(finished))) as archive:
        assert archive.read("failures.csv").decode() == text
    assert progress(finished).lines == ("a.py:3: UserWarning: slow",)
    assert not [part for part in (text, *reasons, *progress(finished).lines) if "secret" in part or "Trace" in part]


def test_an_error_in_the_data_is_told_without_folders_of_the_server(job: Job) -> None:
    answered(job)
    job.table_path.unlink()
    error = check(job).error
    assert error is not None
    assert "table.csv" in error.what
    assert str(job.path) not in str(error)


def test_a_registry_that_takes_no_files_is_an_error_in_words(finished: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OsmlError, match="could not be published: Not a directory"):
        publish(finished, "mine", tmp_path / "file")


@pytest.mark.full
def test_an_error_of_the_study_is_told_in_words(space: Workspace, clean: Job) -> None:
    job = clean
    text = job.text().replace("accept:", "accept: {OSML042: x}\n  # accept:")
    job.write_text(text if judge(job, text).ready else job.text())
    (job.path / "table.csv").write_text("id,age\n1,2\n")
    start(space, job)
    waited(job)
    now = state(job)
    assert now.stage == "failed"
    assert "table.csv" in now.outcome["error"]["what"] + now.outcome["error"]["do"]
    assert "Traceback" not in "\n".join(progress(job).lines)
    assert str(job.path) not in str(now.outcome) + "\n".join(progress(job).lines)
    assert read_json(job.path / STARTED)["trust"] is False
    with pytest.raises(OsmlError, match="not finished"):
        result(job)
