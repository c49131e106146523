"""The process that fits a job: it belongs to no browser tab and to no app, and says where it stands by files.

Two locks are inherited by the process and released by the system when it and its workers are gone, however they end:
that of the job tells whether it runs, that of the workspace lets one job run at a time. So a restarted app knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from osml.errors import RunError
from osml.files import read_json, write_json
from osml.study.training.judge import judge, require_ready
from osml.study.training.workspace import Job, Workspace, now, without_folders

LOG, STARTED, OUTCOME, CANCELLED, PID, LOCK, SLOT = (
    "log.txt", "started.json", "outcome.json", "cancelled.json", "pid.json", "lock", "slot.lock",
)  # fmt: skip
LAST_LINES = 12
GRACE_S = 10.0

Stage = Literal["draft", "running", "finished", "failed", "cancelled", "lost"]


@dataclass(frozen=True)
class State:
    """Where a job stands.

    stage : draft, never started; lost, the process ended without a word (killed, or the machine restarted)
    outcome : content of outcome.json, when it ended by itself
    changed : the schema is not the one that was fitted
    """

    stage: Stage
    started: dict[str, Any]
    outcome: dict[str, Any]
    changed: bool


@dataclass(frozen=True)
class Progress:
    """How far a running job is: words of the stage, folds done of all (0 of 0 while unknown), last lines of its log."""

    words: str
    done: int
    total: int
    seconds: float
    lines: tuple[str, ...]


def start(
    space: Workspace, job: Job, *, preset: str | None = None, limit: str | None = None, trust: bool = False
) -> None:
    """Fit a job in a process of its own; what an earlier process finished is not fitted again.

    Parameters
    ----------
    preset, limit : of `predictors: auto`, as `osml fit` takes them

    Raises
    ------
    SchemaError
        The schema is not whole, or asks for what the app does not allow.
    RunError
        The job runs, or another one of this workspace does.
    """
    text = job.text()
    require_ready(judge(job, text, trust=trust))
    with _held(job.path / LOCK) as own, _held(space.folder / SLOT) as slot:
        if own is None:
            raise RunError("this job is being fitted already")
        if slot is None:
            raise RunError(
                "another study is being fitted here; one runs at a time",
                why="Two at once would take the memory and the processors from each other.",
                do="Start this one when the other has ended. Nothing of it is lost.",
            )
        for name in (OUTCOME, CANCELLED, PID):
            (job.path / name).unlink(missing_ok=True)
        facts = {"time": now(), "clock": time.time(), "schema": _digest(text), "preset": preset, "limit": limit}
        write_json(job.path / STARTED, facts | {"trust": trust})
        cores = max(1, len(os.sched_getaffinity(0)) // 2)
        threads = {key: str(cores) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        with (job.path / LOG).open("ab") as log:
            # -P: nothing in the job's folder is ever imported.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "osml.study.training.worker", str(job.path), str(cores)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=job.path, env=os.environ | threads,
                start_new_session=True, pass_fds=(own, slot),
            )  # fmt: skip
    # Whoever waits takes the ended process off the system's list; the app itself never waits.
    threading.Thread(target=process.wait, daemon=True).start()


def running(job: Job) -> bool:
    """Whether a process, or one of its workers, is at work on the job; not on one that was deleted."""
    if not job.path.is_dir():
        return False
    with _held(job.path / LOCK, tries=1) as own:
        return own is None


def state(job: Job) -> State:
    """Where the job stands, from its files alone."""
    started = _json(job.path / STARTED)
    if running(job):
        return State("running", started, {}, False)
    outcome = _json(job.path / OUTCOME)
    changed = bool(started) and started["schema"] != _digest(job.text())
    if not started:
        return State("draft", started, outcome, False)
    if outcome:
        return State("finished" if "run" in outcome else "failed", started, outcome, changed)
    return State("cancelled" if (job.path / CANCELLED).is_file() else "lost", started, outcome, changed)


def cancel(job: Job) -> int:
    """Stop a running job with all its workers; returns how many finished folds are kept for going on.

    Raises
    ------
    RunError
        Some of its processes do not end.
    """
    deadline = time.monotonic() + GRACE_S
    while running(job) and not (job.path / PID).is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    if running(job):
        write_json(job.path / CANCELLED, {"time": now()})
        group = int(_json(job.path / PID)["pid"])
        for kind, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
            # The lock is held, so the group lives and its number belongs to nobody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, kind)
            if _ended(job, patience):
                break
        else:
            raise RunError("the processes of this job do not end", do="Whoever runs the server has to stop them.")
    return progress(job).done


def progress(job: Job) -> Progress:
    """How far the newest run of the job is; cheap enough to ask every second."""
    log = tuple(without_folders(line.replace(f"{job.path}/", "")) for line in _tail(job.path / LOG))
    begun = _json(job.path / STARTED).get("clock", time.time())
    seconds = max(0.0, time.time() - begun)
    run = _newest_run(job)
    if run is None:
        return Progress("Reading the table and the images", 0, 0, seconds, log)
    folds = len(read_json(run / "splits.json")) if (run / "splits.json").is_file() else 0
    resolved = _json(run / "schema.resolved.json")
    total = folds * len(resolved.get("predictors", {}))
    done = sum(1 for _ in run.glob("folds/*/*/status.json")) + _failed_folds(run)
    if any(line.startswith("final ") for line in log):
        return Progress("Final models, nomograms and report", done, total, seconds, log)
    words = "Fitting and testing, fold by fold" if total else "Preparing the folds"
    return Progress(words, min(done, total), total, seconds, log)


def _newest_run(job: Job) -> Path | None:
    found = [p for p in job.path.glob("runs/*/*/events.jsonl") if not p.parent.is_symlink()]
    return max(found, key=lambda p: p.stat().st_mtime).parent if found else None


def _failed_folds(run: Path) -> int:
    """Folds that failed since the run was started last."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max((i for i, event in enumerate(events) if event["event"] == "started"), default=0)
    return sum(event["event"] == "fold" and not event["ok"] for event in events[last:])


def _tail(path: Path) -> tuple[str, ...]:
    """The last lines of this start's log, without those of a traceback."""
    if not path.is_file():
        return ()
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 16_384))
        text = stream.read().decode("utf-8", errors="replace")
    text = text.rpartition("=== ")[2]
    text = text.partition("Traceback (most recent call last)")[0]
    return tuple(line for line in text.splitlines()[1:] if line.strip())[-LAST_LINES:]


def _ended(job: Job, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not running(job):
            return True
        time.sleep(0.1)
    return False


@contextmanager
def _held(path: Path, tries: int = 5) -> Iterator[int | None]:
    """A file lock as a descriptor that a child can inherit; None when another process holds it."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for attempt in range(tries):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Somebody who only looks holds it for an instant.
                if attempt + 1 < tries:
                    time.sleep(0.05)
                continue
            yield descriptor
            return
        yield None
    finally:
        os.close(descriptor)  # a child that inherited it goes on holding the lock


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path)
    except FileNotFoundError:
        return {}
    return found


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
