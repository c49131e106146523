"""The audit log: what is written, that it cannot be lost or changed, in SQLite and in PostgreSQL."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from helpers import ROOT
from typer.testing import CliRunner

from osml.cli import app
from osml.errors import TableError
from osml.serving.audit import HEADER, AuditError, AuditLog, Entry, log_csv, open_log, read_log, shown_url
from osml.serving.database import AUDIT, key_of, opened

ENTRY = Entry("predict", "ada@example.org", "s1", "b" * 64, "clinical", "h" * 64)
DEBIAN = Path("/usr/lib/postgresql")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of Debian, started for this file; it runs as another user than root."""
    binaries = sorted(DEBIAN.glob("*/bin/initdb"))
    if not binaries:
        pytest.skip(f"no PostgreSQL below {DEBIAN}")
    pytest.importorskip("psycopg")
    as_user: list[str] = []
    folder = tmp_path_factory.mktemp("postgres")
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        folder = Path(f"/tmp/osml-postgres-{os.getpid()}")
        folder.mkdir(mode=0o700)
        shutil.chown(folder, "nobody", "nogroup")
    bin_ = binaries[-1].parent
    data = folder / "data"
    try:
        subprocess.run(
            [*as_user, bin_ / "initdb", "-D", data, "-U", "osml", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True,
        )  # fmt: skip
        command = [*as_user, bin_ / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                for _ in range(100):
                    ready = subprocess.run([bin_ / "pg_isready", "-h", folder, "-U", "osml"], capture_output=True)
                    if ready.returncode == 0:
                        break
                    assert process.poll() is None, "PostgreSQL ended"
                    time.sleep(0.1)
                yield f"postgresql+psycopg://osml@/postgres?host={folder}"
            finally:
                process.send_signal(signal.SIGINT)  # SIGTERM would wait for every client to leave
    finally:
        if as_user:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    open_log.cache_clear()
    opened.cache_clear()
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'audit.sqlite'}"
        return
    address = request.getfixturevalue("server")
    yield address
    opened(address).dispose()
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS osml_audit, osml_counts"))
    engine.dispose()
    opened.cache_clear()


def lines(url: str) -> list[dict[str, Any]]:
    return [dict(zip(HEADER, row, strict=True)) for row in read_log(url)]


def test_an_action_has_a_beginning_and_an_end(url: str) -> None:
    log = open_log(url)
    with log.recorded(ENTRY) as taken:
        assert [line["outcome"] for line in lines(url)] == ["started"]  # on disk before anything is computed
        taken.rows = 3
    first, second = lines(url)
    assert (second["outcome"], second["rows"], second["error"]) == ("ok", 3, "")
    assert first["event"] == second["event"] != ""
    assert first["time_utc"] <= second["time_utc"]
    assert first["time_utc"].endswith("Z")
    for line in (first, second):
        assert (line["user"], line["action"], line["predictor"]) == ("ada@example.org", "predict", "clinical")


def test_refusals_and_failures_are_told_apart_and_hold_no_words(url: str) -> None:
    log = open_log(url)
    with pytest.raises(TableError), log.recorded(ENTRY):
        raise TableError("row 3: age 17 of Ann Smith is odd")
    with pytest.raises(ZeroDivisionError), log.recorded(ENTRY):
        _ = 1 / 0
    with log.recorded(ENTRY) as taken:
        taken.refuse("NoPrediction")
    found = [(line["outcome"], line["error"]) for line in lines(url) if line["outcome"] != "started"]
    assert found == [("refused", "TableError"), ("failed", "ZeroDivisionError"), ("refused", "NoPrediction")]
    assert "Smith" not in repr(lines(url))


def test_lines_cannot_be_changed_or_removed(url: str) -> None:
    log = open_log(url)
    log.write(ENTRY, "ok")
    for statement in (AUDIT.update().values(user="eve"), AUDIT.delete()):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), log.engine.begin() as connection:
            connection.execute(statement)
    assert lines(url)[0]["user"] == "ada@example.org"


def test_fifty_at_once_lose_nothing(url: str) -> None:
    log = open_log(url)

    def one(k: int) -> None:
        with log.recorded(Entry("predict", f"user {k}", f"s{k}")) as taken:
            taken.rows = k

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(one, range(200)))
    found = lines(url)
    assert len(found) == 400
    assert sorted(line["rows"] for line in found if line["outcome"] == "ok") == list(range(200))


def test_a_log_that_cannot_be_written_stops_what_it_should_record(url: str) -> None:
    log = open_log(url)
    done = []
    AUDIT.drop(log.engine)
    words = r"cannot be written(.|\n)*Nothing is shown that is not recorded"
    with pytest.raises(AuditError, match=words) as caught, log.recorded(ENTRY):
        done.append("predicted")
    assert done == []
    assert "ada@example.org" not in str(caught.value)  # the statement's values are not in the message


def test_an_end_that_cannot_be_written_is_an_error_too(url: str) -> None:
    log = open_log(url)
    with pytest.raises(AuditError), log.recorded(ENTRY):
        AUDIT.drop(log.engine)


def test_a_process_that_is_killed_leaves_its_beginning(tmp_path: Path) -> None:
    place = tmp_path / "audit.sqlite"
    code = (
        "import sys, time; from osml.serving.audit import *\n"
        "with open_log(sys.argv[1]).recorded(Entry('predict', 'ada', 's1')):\n"
        "    print('begun', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    assert [line["outcome"] for line in lines(str(place))] == ["started"]
    open_log(str(place)).write(ENTRY, "ok")  # and the log goes on
    assert len(lines(str(place))) == 2


def test_inputs_are_hashed_under_a_key_that_nobody_else_reads(tmp_path: Path) -> None:
    one, two = str(tmp_path / "a.sqlite"), str(tmp_path / "b.sqlite")
    first, second = open_log(one), open_log(two)
    assert first.input_hash("age", "17") == AuditLog(first.engine, key_of(one)).input_hash("age", "17")
    assert first.input_hash("age", "17") != second.input_hash("age", "17")
    assert first.input_hash("age", "17") != first.input_hash("age1", "7")
    assert first.input_hash(b"age") != first.input_hash(b"age", b"")
    key = tmp_path / "a.sqlite.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.sqlite").stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(AuditError, match="others may read the key"):
        key_of(one)
    key.chmod(0o600)
    key.write_text("short", encoding="ascii")
    with pytest.raises(AuditError, match="is damaged"):
        key_of(one)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("sqlite://", "an audit log in memory is none"),
        ("nonsense://host/x", "none that SQLAlchemy reads"),
        ("/proc/nowhere/audit.sqlite", "cannot be written"),
    ],
)
def test_a_place_that_is_none(place: str, words: str) -> None:
    with pytest.raises(AuditError, match=words):
        open_log(place)


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE osml_audit (id INTEGER PRIMARY KEY, words TEXT)")
    with pytest.raises(AuditError, match="other columns"):
        open_log(str(tmp_path / "other.sqlite"))
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be looked at" * 30, encoding="utf-8")
    with pytest.raises(AuditError, match="cannot be opened"):
        open_log(str(tmp_path / "text.sqlite"))


def test_passwords_are_not_shown() -> None:
    assert "hidden" not in shown_url("postgresql+psycopg://osml:hidden@db/osml")


def test_the_command_shows_and_exports_without_formulas(tmp_path: Path) -> None:
    place = str(tmp_path / "audit.sqlite")
    open_log(place).write(Entry("login", "=HYPERLINK(1)\n\x1b[31m", "s1"), "ok")
    done = CliRunner().invoke(app, ["audit", place])
    assert done.exit_code == 0
    assert "login" in done.output
    assert "\x1b" not in done.output
    CliRunner().invoke(app, ["audit", place, "-o", str(tmp_path / "log.csv")])
    row = next(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text(encoding="utf-8"))))
    assert row["user"] == "'=HYPERLINK(1)  [31m"
    assert log_csv([]) == ",".join(HEADER) + "\n"
    missing = CliRunner().invoke(app, ["audit", str(tmp_path / "none.sqlite")])
    assert isinstance(missing.exception, AuditError)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_role_that_may_only_add_lines_is_enough(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The grants of docs/deployment.md: the app then cannot change a line even where triggers are dropped.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    opened.cache_clear()
    open_log.cache_clear()
    owner = opened(server)
    with owner.begin() as connection:
        for statement in (
            "CREATE ROLE app LOGIN",
            "GRANT SELECT, INSERT ON osml_audit TO app",
            "GRANT SELECT, INSERT, UPDATE ON osml_counts TO app",
            "GRANT USAGE ON SEQUENCE osml_audit_id_seq TO app",
        ):
            connection.execute(sa.text(statement))
    try:
        address = server.replace("osml@", "app@")
        log = open_log(address)
        with log.recorded(ENTRY):
            pass
        assert [line["outcome"] for line in lines(address)] == ["started", "ok"]
        with pytest.raises(sa.exc.DBAPIError, match="must be owner"), log.engine.begin() as connection:
            connection.execute(sa.text("DROP TRIGGER osml_audit_append_only ON osml_audit"))
        log.engine.dispose()
    finally:
        with owner.begin() as connection:
            connection.execute(sa.text("DROP TABLE osml_audit, osml_counts"))
            connection.execute(sa.text("DROP ROLE app"))
        owner.dispose()
        opened.cache_clear()
        open_log.cache_clear()
