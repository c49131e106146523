"""A run that is killed, wherever it was, gives the same bytes when it is run again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full

OSML = [sys.executable, "-c", "from osml.cli import main; main()"]
SAME_BYTES = (
    "predictions.parquet",
    "metrics.json",
    "leaderboard.csv",
    "splits.json",
    *(f"nomogram/{p}/nomogram.{kind}" for p in ("clinical", "fed") for kind in ("json", "pdf", "svg")),
    *(f"bundle/predictors/{p}/model.json" for p in ("clinical", "fed")),
    "bundle/manifest.json",
)
STUDY: dict[str, Any] = {
    "predictors": {
        "clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"]},
        "fed": {"kind": "nomogram", "inputs": ["clinical", "stage"]},
    },
    "bootstraps": 60,
}


def command(schema: Path, runs: Path, *more: str) -> list[str]:
    return [*OSML, "fit", str(schema), "--runs", str(runs), "--quiet", *more]


def start(schema: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    # A session of its own, so that worker processes can be killed with it.
    return subprocess.Popen(
        command(schema, runs, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def folder(runs: Path) -> Path:
    return next(p for p in (runs / "small").iterdir() if p.is_dir() and not p.is_symlink())


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in SAME_BYTES}


def state(run: Path) -> str:
    return str(json.loads((run / "status.json").read_text())["state"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], float]:
    """Schema, bytes and duration of a run that nobody touched."""
    from small_studies import SmallStudy, schema_data, simulate_rows

    place = tmp_path_factory.mktemp("undisturbed")
    study = SmallStudy(place / "study.yaml", place / "table.csv")
    study.write_rows(simulate_rows())
    study.schema.write_text(json.dumps(schema_data(**STUDY)))
    begun = time.monotonic()
    finish(start(study.schema, place / "runs", "--workers", "1"))
    took = time.monotonic() - begun
    return study.schema, contents(folder(place / "runs")), took


@pytest.mark.parametrize(("workers", "shares"), [("1", (0.25, 0.5, 0.7, 0.9)), ("2", (0.6, 0.9))])
def test_killed_at_random_moments_and_run_again(
    workers: str, shares: tuple[float, ...], undisturbed: tuple[Path, dict[str, bytes], float], tmp_path: Path
) -> None:
    schema, expected, took = undisturbed
    rng = random.Random(int(workers))
    kills, unfinished = 0, 0
    for share in shares:
        runs = tmp_path / f"{share}"
        # Twice in a row: the second kill meets what the first one left.
        for _ in range(2):
            process = start(schema, runs, "--workers", workers)
            time.sleep(took * share * rng.uniform(0.8, 1.2))
            killed = process.poll() is None
            if killed:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += killed
            unfinished += killed and (runs / "small").exists() and state_or_none(folder(runs)) != "finished"
        finish(start(schema, runs, "--workers", workers))
        assert state(folder(runs)) == "finished"
        assert contents(folder(runs)) == expected
    # The kills must have hit runs at work, or nothing was tested.
    assert kills >= len(shares)
    assert unfinished >= 1


def state_or_none(run: Path) -> str | None:
    return state(run) if (run / "status.json").exists() else None


def test_two_processes_at_once_agree_and_share_one_run(
    undisturbed: tuple[Path, dict[str, bytes], float], tmp_path: Path
) -> None:
    schema, expected, _ = undisturbed
    both = [start(schema, tmp_path / "runs", "--workers", "1") for _ in range(2)]
    said = [finish(process) for process in both]
    assert [p.name for p in (tmp_path / "runs" / "small").iterdir() if not p.is_symlink()] == [
        folder(tmp_path / "runs").name
    ]
    assert contents(folder(tmp_path / "runs")) == expected
    assert sum("another process was fitting this run" in text for text in said) == 1
    assert sum("finished before" in text for text in said) == 1
    events = [
        json.loads(line)["event"] for line in (folder(tmp_path / "runs") / "events.jsonl").read_text().splitlines()
    ]
    assert events.count("started") == events.count("finished") == 1


def test_a_waiting_process_takes_over_when_the_first_is_killed(
    undisturbed: tuple[Path, dict[str, bytes], float], tmp_path: Path
) -> None:
    schema, expected, took = undisturbed
    first = start(schema, tmp_path / "runs", "--workers", "1")
    time.sleep(took * 0.5)
    second = start(schema, tmp_path / "runs", "--workers", "1")
    time.sleep(took * 0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    finish(second)
    assert contents(folder(tmp_path / "runs")) == expected


def test_new_in_two_processes_at_once_makes_two_runs(
    undisturbed: tuple[Path, dict[str, bytes], float], tmp_path: Path
) -> None:
    schema, expected, _ = undisturbed
    for process in [start(schema, tmp_path / "runs", "--new", "--workers", "1") for _ in range(2)]:
        finish(process)
    runs = [p for p in (tmp_path / "runs" / "small").iterdir() if p.is_dir() and not p.is_symlink()]
    assert len(runs) == 2
    for run in runs:
        assert contents(run) == expected


def test_ctrl_c_stops_with_words_and_continues(
    undisturbed: tuple[Path, dict[str, bytes], float], tmp_path: Path
) -> None:
    schema, expected, _ = undisturbed
    process = start(schema, tmp_path / "runs", "--workers", "2")
    # By what is done and not by the clock: machines are now slow, now fast.
    while process.poll() is None and not list((tmp_path / "runs").glob("small/*/folds/*/*/status.json")):
        time.sleep(0.01)
    # What a terminal sends: the interrupt reaches the command and its workers.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the same command continues" in err
    assert "Traceback" not in err
    finish(start(schema, tmp_path / "runs", "--workers", "1"))
    assert contents(folder(tmp_path / "runs")) == expected
