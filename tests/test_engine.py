"""Where tasks run: equal results anywhere, failures kept apart, interrupts and dead workers said plainly."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osml.engine import Outcome, Progress, cores, run_tasks, single_thread
from osml.errors import CheckError, OsmlError, OutOfTimeError, WorkerLostError
from osml.files import atomic_write


def heavy(seed: int) -> bytes:
    """Linear algebra whose last bits depend on the number of BLAS threads."""
    x = np.random.default_rng(seed).normal(size=(200, 200))
    return np.linalg.svd(x @ x.T, compute_uv=False).tobytes() + np.linalg.inv(x).tobytes()


def odd_fails(item: int) -> int:
    if item % 2:
        raise CheckError(f"item {item} is odd", why="a test", do="Use even numbers.")
    return item * 10


def interrupted(item: int) -> int:
    if item == 1:
        raise KeyboardInterrupt
    return item


def leaves(item: int) -> int:
    raise SystemExit(4)


def killed(item: tuple[int, Path | None]) -> int:
    """Kills its own process: always (2), or the first time (3)."""
    number, seen = item
    if number == 2 or (seen is not None and not seen.exists()):
        if seen is not None:
            seen.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def threads(_: int) -> list[int]:
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info()]


def gathered(function: Any, items: list[int], **options: Any) -> list[Outcome]:
    return sorted(run_tasks(function, items, **options), key=lambda outcome: outcome.index)


@pytest.fixture(scope="module")
def alone() -> list[bytes]:
    return [outcome.result for outcome in gathered(heavy, [1, 2, 3], workers=1)]


def test_one_worker_equals_a_direct_call(alone: list[bytes]) -> None:
    assert alone == [single_thread(heavy, seed) for seed in (1, 2, 3)]


def test_a_pool_gives_the_same_bytes_as_this_process(alone: list[bytes]) -> None:
    pooled = gathered(heavy, [1, 2, 3], workers=2)
    assert [outcome.index for outcome in pooled] == [0, 1, 2]
    assert [outcome.result for outcome in pooled] == alone


def test_short_work_stays_here_and_is_the_same(alone: list[bytes]) -> None:
    assert [outcome.result for outcome in gathered(heavy, [1, 2, 3])] == alone


def test_the_pool_starts_when_the_first_task_says_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a threshold of 0 no work is short enough for this process once the first task is measured.
    monkeypatch.setattr("osml.engine.run.POOL_PAYS_AFTER_S", 0.0)
    monkeypatch.setattr("osml.engine.task.cores", lambda: 2)
    here = {outcome.index: outcome.result for outcome in run_tasks(process_id, [0, 1, 2])}
    assert here[0] == os.getpid()
    assert os.getpid() not in (here[1], here[2])


def process_id(_: int) -> int:
    return os.getpid()


def test_each_task_runs_on_one_thread_anywhere() -> None:
    for workers in (1, 2):
        for outcome in run_tasks(threads, [0], workers=workers):
            assert outcome.result
            assert set(outcome.result) == {1}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_task_keeps_its_error_and_does_not_end_the_others(workers: int) -> None:
    done = gathered(odd_fails, [0, 1, 2, 3], workers=workers)
    assert [outcome.result for outcome in done] == [0, None, 20, None]
    for outcome in (done[1], done[3]):
        assert isinstance(outcome.error, CheckError)
        assert (outcome.error.why, outcome.error.do, outcome.error.exit_code) == ("a test", "Use even numbers.", 2)
        # The line that raised, also when it ran in another process.
        assert "odd_fails" in outcome.traceback
        assert f"item {outcome.index} is odd" in outcome.traceback
    assert done[0].error is None
    assert done[0].traceback == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_inside_a_task_stops_the_run(workers: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        gathered(interrupted, list(range(6)), workers=workers)


def test_outcomes_before_an_interrupt_have_reached_the_caller() -> None:
    outcomes = run_tasks(interrupted, [0, 1, 2], workers=1)
    assert next(outcomes).result == 0
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)


def test_an_exit_inside_a_task_is_not_swallowed() -> None:
    with pytest.raises(SystemExit):
        gathered(leaves, [0], workers=1)


def test_a_task_whose_worker_dies_is_run_again_and_once_more_is_named(tmp_path: Path) -> None:
    done = gathered(killed, [(i, tmp_path / "seen" if i == 3 else None) for i in range(6)], workers=2)
    assert [outcome.result for outcome in done] == [0, 1, None, 3, 4, 5]
    assert isinstance(done[2].error, WorkerLostError)
    assert "was killed by SIGKILL, twice" in str(done[2].error)


def endless(folder: Path) -> None:
    """Starts a process of its own, and is in the middle of an atomic write."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "pids").write_text(f"{os.getpid()} {child.pid}.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", lambda *_: time.sleep(600))
        atomic_write(folder / "result.txt", "half")


def stubborn(folder: Path) -> None:
    """Does not end when asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "pids").write_text(f"{os.getpid()}.")
    time.sleep(600)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that was killed stays in the table until it is waited for, which not every container's init does.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def by_name(item: tuple[str, Path]) -> str:
    name, folder = item
    folder.mkdir(exist_ok=True)
    if name != "fast":
        (endless if name == "endless" else stubborn)(folder)
    return name


def pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().rstrip(".").split()]


class Clock:
    """Stands still until the files are there; a deadline of 1 then comes whatever the load of this machine."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def monotonic(self) -> float:
        return 2.0 if all(file.exists() and file.read_text().endswith(".") for file in self.files) else 0.5


def test_at_the_deadline_unfinished_tasks_end_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / f"{i}" for i in range(4)]
    items = list(zip(["fast", "endless", "stubborn", "fast"], folders, strict=True))
    monkeypatch.setattr("osml.engine.run.time", Clock(folders[1] / "pids", folders[2] / "pids"))
    done = gathered(by_name, items, workers=2, deadline=1.0)
    assert done[0].result == "fast"
    assert all(isinstance(outcome.error, OutOfTimeError) for outcome in done[1:])
    for folder, processes in ((folders[1], 2), (folders[2], 1)):
        assert len(pids(folder)) == processes
        assert all(gone(pid) for pid in pids(folder))
        assert [path.name for path in folder.iterdir()] == ["pids"]
    assert not folders[3].exists()


def test_a_deadline_in_the_past_begins_nothing(tmp_path: Path) -> None:
    progress = Progress("tasks", 2, io.StringIO())
    done = gathered(endless, [tmp_path, tmp_path], deadline=time.monotonic() - 1, progress=progress)
    assert all(isinstance(outcome.error, OutOfTimeError) for outcome in done)
    assert progress.done == 2
    assert list(tmp_path.iterdir()) == []


def test_with_a_deadline_all_tasks_run_in_workers_and_give_the_same(alone: list[bytes]) -> None:
    done = gathered(heavy, [1, 2, 3], workers=1, deadline=time.monotonic() + 600)
    assert [outcome.result for outcome in done] == alone
    (only,) = run_tasks(process_id, [0], deadline=time.monotonic() + 600)
    assert only.result != os.getpid()


def test_leaving_the_outcomes_ends_the_workers(tmp_path: Path) -> None:
    tasks = run_tasks(by_name, [("fast", tmp_path / "a"), ("endless", tmp_path / "b")], workers=2)
    assert next(tasks).result == "fast"
    while Clock(tmp_path / "b" / "pids").monotonic() < 1:
        time.sleep(0.05)
    tasks.close()  # type: ignore[attr-defined]
    assert all(gone(pid) for pid in pids(tmp_path / "b"))


def unreadable(_: int) -> None:
    raise UnreadableError("one", "two")


class UnreadableError(Exception):
    """Can be written for another process, and not read there."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def unsendable(_: int) -> object:
    return lambda: None


@pytest.mark.parametrize("function, words", [(unreadable, "UnreadableError: onetwo"), (unsendable, "cannot be sent")])
def test_what_cannot_cross_processes_is_a_failure_of_its_task(function: Any, words: str) -> None:
    (outcome,) = run_tasks(function, [0], workers=2)
    assert words in str(outcome.error)
    assert "in un" in outcome.traceback or "pickle" in outcome.traceback


def test_workers_that_cannot_start_are_an_error_of_the_call() -> None:
    with pytest.raises(OsmlError, match="cannot be started"):
        gathered(partial(first_of, Poison()), [0], workers=2)


class Poison:
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def first_of(shared: Any, item: int) -> Any:
    return shared[item]


def test_what_a_partial_binds_reaches_the_workers() -> None:
    function = partial(first_of, ["a", "b", "c"])
    assert [outcome.result for outcome in gathered(function, [0, 1, 2], workers=2)] == ["a", "b", "c"]


ESCAPES = """
import sys
from osml.engine import run_tasks
from test_engine import by_name
if __name__ == "__main__":
    outcomes = run_tasks(by_name, [("fast", Path("a")), ("endless", Path("b"))], workers=2)
    next(outcomes)
    raise RuntimeError("the caller's own")
"""


def test_a_caller_that_raises_ends_with_its_workers(tmp_path: Path) -> None:
    # The traceback holds the generator to the end of the interpreter, which waits for its processes.
    script = tmp_path / "script.py"
    script.write_text("from pathlib import Path" + ESCAPES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ended = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "RuntimeError: the caller's own" in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_caller_that_ends_leaves_no_worker(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from pathlib import Path" + ESCAPES.replace("    raise", "    list(outcomes)\n    raise"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as caller:
        while Clock(tmp_path / "b" / "pids").monotonic() < 1:
            time.sleep(0.05)
        caller.send_signal(how)
        _, words = caller.communicate(timeout=60)
    until = time.monotonic() + 30
    while not all(gone(pid) for pid in pids(tmp_path / "b")) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(gone(pid) for pid in pids(tmp_path / "b"))
    assert words.count("Traceback") == (how == signal.SIGINT), "workers say nothing of their own"


def children(parent: int) -> list[int]:
    """Worker processes, also those that have just begun."""
    out = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mine = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent
            if mine and b"spawn_main" in (place / "cmdline").read_bytes():
                out.append(int(place.name))
    return out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_an_interrupt_while_workers_begin_is_told_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from pathlib import Path" + ESCAPES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as caller:  # fmt: skip
        while len(begun := children(caller.pid)) < 2:
            time.sleep(0.01)
        os.killpg(caller.pid, signal.SIGINT)  # as a terminal does
        _, words = caller.communicate(timeout=60)
    assert words.count("Traceback") == 1
    assert words.rstrip().endswith("KeyboardInterrupt")
    assert all(gone(pid) for pid in begun)


def test_nothing_to_do_yields_nothing() -> None:
    assert list(run_tasks(heavy, [])) == []
    assert list(run_tasks(heavy, [], workers=3)) == []


def test_cores_is_positive() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_off_a_terminal_is_one_plain_line_per_tenth() -> None:
    stream = io.StringIO()
    progress = Progress("folds", 50, stream)
    assert len(list(run_tasks(process_id, list(range(50)), workers=1, progress=progress))) == 50
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{k}/50" for k in range(5, 51, 5)]
    assert all(line.startswith("folds") and " elapsed  " in line and line.endswith("/min") for line in lines)
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_progress_on_a_terminal_rewrites_its_line_and_ends_it() -> None:
    stream = Terminal()
    progress = Progress("folds", 2, stream)
    progress.step()
    assert stream.getvalue().startswith("\r")
    assert "\n" not in stream.getvalue()
    progress.step()
    assert stream.getvalue().endswith("\n")
    assert "2/2" in stream.getvalue()


@pytest.mark.parametrize(("total", "quiet"), [(3, True), (0, False)])
def test_progress_says_nothing_when_asked_or_when_there_is_nothing(total: int, quiet: bool) -> None:
    stream = io.StringIO()
    progress = Progress("folds", total, stream, quiet=quiet)
    for _ in range(total):
        progress.step()
    assert stream.getvalue() == ""
    assert progress.done == total


def test_failed_tasks_count_as_progress() -> None:
    stream = io.StringIO()
    progress = Progress("folds", 2, stream)
    gathered(odd_fails, [0, 1], workers=1, progress=progress)
    assert progress.done == 2
