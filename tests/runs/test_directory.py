"""Identity, folders, status, events, locks of a run directory."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osml.engine import Place
from osml.errors import RunError
from osml.runs.directory import RunDirectory, environment, run_identity
from osml.schema.load import load_schema

HASHES = {"table.csv": "0" * 64}


def test_identity_is_twelve_hex_digits_and_repeats(small_study: Callable[..., Any]) -> None:
    loaded = load_schema(small_study().schema)
    first = run_identity(loaded, HASHES)
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert run_identity(load_schema(loaded.path), dict(HASHES)) == first


def test_identity_changes_with_table_schema_override_and_version(
    small_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_study().schema
    loaded = load_schema(path)
    seen = {run_identity(loaded, HASHES)}
    seen.add(run_identity(loaded, {"table.csv": "1" * 64}))
    seen.add(run_identity(load_schema(path, ["validation.seed=6"]), HASHES))
    seen.add(run_identity(load_schema(path, ["predictors.clinical.shrink=none"]), HASHES))
    path.write_text(path.read_text().replace("simulated for a test", "simulated for another test"))
    seen.add(run_identity(load_schema(path), HASHES))
    monkeypatch.setattr("osml.__version__", "99.0")
    seen.add(run_identity(load_schema(path), HASHES))
    assert len(seen) == 6


def test_an_override_equal_to_the_file_is_the_same_study(small_study: Callable[..., Any]) -> None:
    path = small_study().schema
    assert run_identity(load_schema(path, ["validation.seed=5"]), HASHES) == run_identity(load_schema(path), HASHES)


def test_layout_comments_and_the_folder_of_the_table_are_no_part_of_the_identity(
    small_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_study().schema
    before = run_identity(load_schema(path), HASHES)
    data = json.loads(path.read_text())
    data["cohort"]["table"] = "${SMALL_STUDY_DATA}/table.csv"
    path.write_text("# a comment\n" + json.dumps(data, indent=4))
    monkeypatch.setenv("SMALL_STUDY_DATA", "elsewhere")
    assert run_identity(load_schema(path), HASHES) == before


def test_the_same_identity_is_the_same_folder_and_new_is_another(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, "a", "0123456789ab")
    assert RunDirectory.create(tmp_path, "a", "0123456789ab") == first
    second = RunDirectory.create(tmp_path, "a", "0123456789ab", new=True)
    third = RunDirectory.create(tmp_path, "a", "0123456789ab", new=True)
    assert [r.path.name for r in (first, second, third)] == ["0123456789ab", "0123456789ab-2", "0123456789ab-3"]


def finished(root: Path, identity: str) -> RunDirectory:
    run = RunDirectory.create(root, "a", identity)
    run.set_status("finished", failed=[])
    run.point_latest()
    return run


def test_latest_follows_the_run_pointed_at_last(tmp_path: Path) -> None:
    first, second = finished(tmp_path, "111111111111"), finished(tmp_path, "222222222222")
    for given in (tmp_path / "a", tmp_path / "a" / "latest", second.path):
        assert RunDirectory.open(given).path == second.path.resolve()
    first.point_latest()
    assert RunDirectory.open(tmp_path / "a").path == first.path.resolve()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["111111111111", "222222222222", "latest"]


def test_latest_is_a_file_where_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError("links are not allowed here")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    run = finished(tmp_path, "111111111111")
    assert (tmp_path / "a" / "latest").read_text() == "111111111111\n"
    assert RunDirectory.open(tmp_path / "a").path == run.path.resolve()
    assert RunDirectory.open(tmp_path / "a" / "latest").path == run.path.resolve()


def test_open_refuses_what_is_no_run_and_what_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        RunDirectory.open(tmp_path)
    with pytest.raises(RunError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "absent")
    run = RunDirectory.create(tmp_path, "a", "111111111111")
    run.set_status("running")
    with pytest.raises(RunError, match="running, not finished") as caught:
        RunDirectory.open(run.path)
    assert "again to continue" in caught.value.do


def test_status_and_events_are_readable_records(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "a", "111111111111")
    assert run.status() == {}
    run.set_status("finished", failed=["x"])
    status = run.status()
    assert (status["state"], status["failed"]) == ("finished", ["x"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["time"])
    run.event("started")
    run.event("fold", predictor="µ\nb", ok=True)
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "fold"]
    assert json.loads(lines[1])["predictor"] == "µ\nb"
    run.log("words")
    assert (run.path / "run.log").read_text().endswith(" words\n")


def hold(path: Path, held: Any, seconds: float) -> None:
    with RunDirectory(path).locked():
        held.set()
        time.sleep(seconds)


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, 0.5))
    other.start()
    assert held.wait(30)
    with RunDirectory(tmp_path).locked() as waited:
        assert waited
    other.join()
    with RunDirectory(tmp_path).locked() as waited:
        assert not waited


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, 60.0))
    other.start()
    assert held.wait(30)
    other.kill()
    other.join()
    with RunDirectory(tmp_path).locked() as waited:
        assert not waited


def test_environment_names_versions_without_paths(tmp_path: Path) -> None:
    import numpy

    facts = environment("cpu", 2, Place("auto", "10.0.0.1:6379"), 3)
    assert facts["packages"]["numpy"] == numpy.__version__
    assert [facts[key] for key in ("workers", "devices", "engine", "cluster")] == [2, 3, "auto", "10.0.0.1:6379"]
    assert str(Path.home()) not in json.dumps(facts)
