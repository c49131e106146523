"""Attacks on the app over the wire: the server that `osml app` starts, and a visitor who is no browser."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from raw_visitor import Visitor, osml_app, request, resident_mb
from served import patients, serve
from websockets.exceptions import InvalidStatus

from osml.serving.audit import HEADER, read_log

pytestmark = pytest.mark.full

UPLOAD_MB = 120
HOSTILE = "<script>alert(document.domain)</script>"
NAMES = ("../../etc/passwd", "a\0b.csv", "n" * 4096, f"{HOSTILE}.csv", "/etc/passwd", "C:\\boot.ini", "\r\nX-A: b", "")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[tuple[int, int]]:
    run = serve(home / "study")
    with osml_app(run, "--upload-mb", str(UPLOAD_MB), home=home) as found:
        yield found


@pytest.fixture(scope="module")
def port(server: tuple[int, int]) -> int:
    return server[0]


def log(home: Path) -> list[dict[str, Any]]:
    return [dict(zip(HEADER, row, strict=True)) for row in read_log(str(home / "state" / "osml" / "audit.sqlite"))]


def table(n: int = 3, **cells: str) -> bytes:
    rows = [row | {"marker": row["marker"] or "3"} | cells for row in patients()[:n]]
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode("utf-8")


def fill(visitor: Visitor, age: str) -> None:
    visitor.answer("Age (", age)
    visitor.answer("Marker (", "240")
    visitor.answer("Size (", "77")
    visitor.choose("Sex", "male")
    visitor.choose("Stage", "late")


def risk(visitor: Visitor) -> str:
    found = re.search(r"### (\d[\d.<>]* %)", visitor.words())
    assert found, visitor.words()[-600:]
    return found.group(1)


def at_table(port: int) -> Visitor:
    visitor = Visitor(port)
    visitor.choose("Patients", "A table")
    visitor.run()
    return visitor


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_hostile_name_is_no_path_and_no_markup(port: int, home: Path, name: str) -> None:
    before = {path for path in home.rglob("*") if "osml/audit" not in str(path)}
    with at_table(port) as visitor:
        status = visitor.send_file("Table of patients", table(), name)
        visitor.run()
        if status == 204:
            assert "3 of 3 rows predicted" in visitor.words()
            assert "etc/passwd" not in visitor.words()
            assert not re.search(r"(?<!\\)<script>", visitor.words())
        else:
            assert status == 400  # not a file at all to the server
    assert {path for path in home.rglob("*") if "osml/audit" not in str(path)} == before
    assert all("passwd" not in repr(line) for line in log(home))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x7fELF" + bytes(4000), "neither text nor XLSX"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture"),
        (b"<html><script>alert(1)</script></html>", "has a header but no rows"),
        (b"\x80\x04\x95" + b"cposix\nsystem\n", "neither text|not UTF-8"),
        (b"," * (100 * 2**20), "at most 50 MB"),
        (b"," * (49 * 2**20), "more than 500 columns"),
        ((b"," * 400 + b"\n") * 60_000, "more than 50000 lines"),
    ],
    ids=["elf", "png", "html", "pickle", "100 MB of commas", "49 MB of commas", "rows of commas"],
)
def test_wrong_content_under_a_right_extension(server: tuple[int, int], home: Path, raw: bytes, words: str) -> None:
    port, process = server
    with at_table(port) as visitor:
        before = resident_mb(process)
        assert visitor.send_file("Table of patients", raw, "patients.csv") == 204
        begun = time.monotonic()
        visitor.run()
        assert time.monotonic() - begun < 20
        assert re.search(words, visitor.words().replace("\\", ""))
        assert "rows predicted" not in visitor.words()
        assert not visitor.all("exception")
        assert resident_mb(process) - before < 4 * len(raw) / 2**20 + 100
    assert log(home)[-1]["outcome"] == "refused"


def test_more_than_the_limit_is_not_taken(port: int) -> None:
    with at_table(port) as visitor:
        assert visitor.send_file("Table of patients", b"," * ((UPLOAD_MB + 3) * 2**20), "patients.csv") == 413


def test_an_upload_needs_the_sessions_own_token(port: int) -> None:
    with at_table(port) as visitor:
        path = f"/_stcore/upload_file/{visitor.session}/some-file"
        assert visitor.put(path, table(), "a.csv", xsrf="") == 403
        assert visitor.put(path, table(), "a.csv", xsrf="guess") == 403
        assert visitor.put("/_stcore/upload_file/no-session/some-file", table(), "a.csv") == 400
        assert visitor.put("/_stcore/upload_file/..%2f..%2fetc/some-file", table(), "a.csv") >= 400


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/static/../../../etc/passwd", "/app/static/study.yaml",
        "/media/../../etc/passwd", "/media/" + "a" * 5000, "/%00", "/_stcore/stream/../../../etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file_of_the_server(port: int, path: str) -> None:
    answer = request(port, "GET", path)
    assert b"root:" not in answer.body  # type: ignore[attr-defined]
    assert b"QX-" not in answer.body  # type: ignore[attr-defined]


def test_a_page_of_somebody_else_gets_no_session(port: int) -> None:
    with pytest.raises(InvalidStatus):
        Visitor(port, origin="https://evil.example.org")
    with pytest.raises(InvalidStatus):  # a name of somebody else that points at this machine
        Visitor(port, host=f"evil.example.org:{port}", origin=f"http://evil.example.org:{port}")
    with Visitor(port, origin=f"http://127.0.0.1:{port}") as visitor:
        assert visitor.session


def test_script_tags_in_ids_and_cells_are_text(port: int) -> None:
    with at_table(port) as visitor:
        raw = table(id=HOSTILE, sex=HOSTILE)
        assert visitor.send_file("Table of patients", raw, "patients.csv") == 204
        visitor.run()
        assert "0 of 3 rows predicted" in visitor.words()
        assert not re.search(r"(?<!\\)<script>", visitor.words())


def test_two_visitors_do_not_see_each_other(port: int) -> None:
    with Visitor(port) as one, Visitor(port) as two:
        assert one.session != two.session
        fill(one, "81.25")
        one.run(click="Predict")
        first = risk(one)
        two.run()
        assert "81.25" not in two.words()
        assert "###" not in two.words()
        fill(two, "23.75")
        two.run(click="Predict")
        assert risk(two) != first
        one.run()
        assert risk(one) == first
        assert "Age 81.25 year" in one.words().replace("\\", "")
        assert "23.75" not in one.words()
        # A file of one is not reachable from the session of the other.
        one.choose("Patients", "A table")
        one.run()
        one.send_file("Table of patients", table(), "mine.csv")
        two.choose("Patients", "A table")
        two.run()
        stolen = next(state for state in one.states.values() if state.HasField("file_uploader_state_value"))
        uploader = two.widget("file_uploader", "Table of patients")
        two.states[uploader.id] = type(stolen)()
        two.states[uploader.id].CopyFrom(stolen)
        two.states[uploader.id].id = uploader.id
        two.run()
        assert "rows predicted" not in two.words()


def test_fifty_at_once_get_their_own_answers(port: int, home: Path) -> None:
    ages = [f"{30 + k * 0.5:.2f}" for k in range(50)]
    before = len(log(home))

    def one(age: str) -> tuple[str, str]:
        with Visitor(port) as visitor:
            fill(visitor, age)
            visitor.run(click="Predict")
            shown = visitor.words().replace("\\", "")
            assert f"Age {float(age):g} year" in shown
            return age, risk(visitor)

    with ThreadPoolExecutor(50) as pool:
        together = dict(pool.map(one, ages))
    assert len(together) == 50
    alone = dict(map(one, ages[::10]))
    assert alone == {age: together[age] for age in alone}
    new = log(home)[before:]
    ended = [line for line in new if line["action"] == "predict" and line["outcome"] == "ok"]
    assert len(ended) == 55
    assert len({line["input_hash"] for line in ended}) == 50
    assert len({line["event"] for line in ended}) == 55


def test_a_visitor_who_leaves_half_way_harms_nobody(port: int, home: Path) -> None:
    for _ in range(10):
        visitor = Visitor(port)
        fill(visitor, "44")
        visitor.begin(click="Predict")
        visitor.socket.close()
    with Visitor(port) as other:
        fill(other, "61")
        other.run(click="Predict")
        assert risk(other)
    assert request(port, "GET", "/_stcore/health").status == 200


def test_many_predictions_do_not_fill_the_memory(server: tuple[int, int]) -> None:
    port, process = server
    with Visitor(port) as visitor:
        for k in range(60):
            fill(visitor, f"{30 + k % 40}")
            visitor.run(click="Predict")
        warm = resident_mb(process)
        for k in range(240):
            fill(visitor, f"{30 + k % 40}.5")
            visitor.run(click="Predict")
        assert resident_mb(process) - warm < 40


def test_the_server_ends_with_its_starter_and_keeps_its_log(home: Path, tmp_path: Path) -> None:
    run = next((home / "study" / "runs").glob("*/*/bundle")).parent
    with osml_app(run, home=tmp_path) as (port, process):
        visitor = Visitor(port)
        fill(visitor, "44")
        visitor.run(click="Predict")
        assert risk(visitor)
    for _ in range(100):
        if not Path(f"/proc/{process}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{process}").exists()
    assert [line["outcome"] for line in log(tmp_path)] == ["started", "ok"]


def test_a_server_that_is_killed_half_way_leaves_the_beginning_in_the_log(home: Path, tmp_path: Path) -> None:
    run = next((home / "study" / "runs").glob("*/*/bundle")).parent
    with osml_app(run, home=tmp_path) as (port, process):
        visitor = Visitor(port)
        visitor.choose("Patients", "A table")
        visitor.run()
        visitor.send_file(
            "Table of patients", table(90) + b"\n" + b"\n".join(table(90).splitlines()[1:] * 500), "a.csv"
        )
        visitor.begin()
        for _ in range(400):
            if log(tmp_path):
                break
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
    found = log(tmp_path)
    assert [line["outcome"] for line in found] == ["started"]
    assert found[0]["action"] == "predict table"
