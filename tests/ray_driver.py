"""Work for a cluster and for this machine, in a process of its own; says what came of it as one line of JSON.

usage: python ray_driver.py WHAT ADDRESS
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osml.engine import Place, on, run_tasks
from osml.errors import CheckError, OsmlError

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "birthwt" / "birthwt.yaml"


def heavy(seed: int) -> str:
    """Linear algebra whose last bits depend on the number of BLAS threads."""
    x = np.random.default_rng(seed).normal(size=(200, 200))
    return hashlib.sha256(np.linalg.svd(x @ x.T, compute_uv=False).tobytes() + np.linalg.inv(x).tobytes()).hexdigest()


def odd_fails(item: int) -> int:
    if item % 2:
        raise CheckError(f"item {item} is odd", do="Use even numbers.")
    return item


def dies(folder: Path, item: int) -> int:
    """Item 2 always kills its process, item 3 the first time."""
    if item == 2 or (item == 3 and not (folder / "seen").exists()):
        (folder / "seen").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def endless(folder: Path, item: int) -> int:
    """Item 0 ends at once; the others begin a process and wait."""
    if item:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        part = folder / f"{item}.part"
        part.write_text(f"{os.getpid()} {child.pid}")
        part.rename(folder / f"{item}.pids")
        time.sleep(600)
    return item


def node_and_folder(_: int) -> tuple[str, str]:
    import ray

    return ray.get_runtime_context().get_node_id(), os.getcwd()


def picked(shared: Sequence[float], item: int) -> float:
    return float(shared[item])


def told(function: Callable[[Any], Any], items: Sequence[Any], **options: Any) -> list[dict[str, Any]]:
    """Outcomes as JSON."""
    outcomes = sorted(run_tasks(function, items, **options), key=lambda outcome: outcome.index)
    return [
        {"result": o.result, "error": type(o.error).__name__, "words": str(o.error or ""), "traceback": o.traceback}
        for o in outcomes
    ]


def tasks(folder: Path, workers: int | None) -> dict[str, Any]:
    """The same tasks wherever they run."""
    folder.mkdir()
    found = {
        "heavy": told(heavy, range(4), workers=workers),
        "fails": told(odd_fails, range(4), workers=workers),
        "shared": told(functools.partial(picked, np.arange(1e6)), range(3), workers=workers),
        "dies": told(functools.partial(dies, folder), range(6), workers=workers),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("osml.engine.run.time", Clock(folder))
        found["deadline"] = told(functools.partial(endless, folder), range(4), workers=workers, deadline=1.0)
    return found


@dataclass(frozen=True)
class Clock:
    """Stands still until two endless tasks have begun; a deadline of 1 then comes whatever the load of this machine."""

    folder: Path

    def monotonic(self) -> float:
        return 2.0 if len(list(self.folder.glob("*.pids"))) >= 2 else 0.5


def compare_tasks(address: str) -> dict[str, Any]:
    with on(Place("ray", address)):
        nodes = told(node_and_folder, range(8))
        far = tasks(Path("far"), None)
    return {"nodes": nodes, "far": far, "near": tasks(Path("near"), 2)}


def study(folder: Path, workers: int | None) -> dict[str, str]:
    """Folds of a study on real data, and an extraction; files → SHA-256."""
    from osml.cohort.splits import make_folds
    from osml.radiomics.batch import extract_file
    from osml.runs.directory import RunDirectory
    from osml.runs.store import read_predictions, write_predictions
    from osml.study.folds import Clock, run_folds
    from osml.study.prepare import prepare

    loaded, built, *_ = prepare(EXAMPLE, ("validation.split.repeats=1",))
    run = RunDirectory.create(folder, "birthwt", "one", new=False)
    folds = make_folds(built.cohort, loaded.schema.validation.split, loaded.schema.validation.seed)
    done = run_folds(loaded, built.cohort, folds, run, workers, True, Clock(), print_to_stderr)
    assert done.failures == ()
    rows = [
        row
        for name in loaded.schema.predictors
        for fold in folds
        for row in read_predictions(run.path / "folds" / fold.name / name / "predictions.parquet")
    ]
    write_predictions(folder / "predictions.parquet", rows)
    extract_file(
        Path("images.csv"), folder / "features.parquet", cache=folder / "cache", workers=workers, say=print_to_stderr,
        quiet=True,
    )  # fmt: skip
    names = ("predictions.parquet", "features.parquet")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def compare_study(address: str) -> dict[str, Any]:
    with on(Place("ray", address)):
        with kills(1) as killed:
            hit = study(Path("hit"), None)
        far = study(Path("far"), None)
    return {"killed": len(killed), "hit": hit, "far": far, "near": study(Path("near"), 1)}


@contextmanager
def kills(most: int) -> Iterator[list[int]]:
    """Meanwhile, SIGKILL to the first processes of the cluster that are seen at a task."""
    done: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02) and len(done) < most:
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    busy = (place / "cmdline").read_bytes().startswith(b"ray::_run")
                    ours = f"PWD={os.environ['PWD']}\0".encode() in (place / "environ").read_bytes()
                except OSError:
                    continue
                if busy and ours and len(done) < most:
                    os.kill(int(place.name), signal.SIGKILL)
                    done.append(int(place.name))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def wait_for_ever(address: str) -> dict[str, Any]:
    with on(Place("ray", address)):
        for _ in run_tasks(functools.partial(endless, Path.cwd()), range(5)):
            Path("begun").write_text("")
    return {}


def connect(address: str) -> dict[str, Any]:
    try:
        with on(Place("ray", address)):
            return {"outcomes": told(heavy, [0])}
    except OsmlError as error:
        return {"error": type(error).__name__, "words": str(error)}


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


WHAT = {"tasks": compare_tasks, "study": compare_study, "endless": wait_for_ever, "connect": connect}

if __name__ == "__main__":
    said = WHAT[sys.argv[1]](sys.argv[2])
    print(json.dumps(said))
