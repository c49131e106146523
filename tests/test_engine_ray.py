"""Tasks on a Ray cluster of two nodes: alike worker processes of this machine, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT
from imaged import write_images

ray = pytest.importorskip("ray", reason="needs ray: pip install 'osml[cluster]'")
pytestmark = pytest.mark.full
TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Nodes:
    """A running cluster, and the code that it was started with."""

    address: str
    code: Path
    folder: Path

    def environment(self, code: Path | None = None) -> dict[str, str]:
        return environment(code or self.code, self.folder)

    def drive(self, what: str, folder: Path, code: Path | None = None) -> Any:
        """What the driver says; nothing else may be printed to standard output."""
        done = subprocess.run(
            [sys.executable, TESTS / "ray_driver.py", what, self.address],
            cwd=folder, env=self.environment(code), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "raylet" not in done.stderr
        return json.loads(done.stdout)


def environment(code: Path, folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(code), str(TESTS)])
    # PWD marks the cluster's processes, also for those that end them.
    return os.environ | {"PYTHONPATH": path, "PWD": str(folder), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # Names of sockets must be short. The code is copied: what is compared may not change while a cluster runs.
    folder = Path(tempfile.mkdtemp(prefix="osml-ray-", dir="/tmp"))
    code = folder / "code"
    shutil.copytree(ROOT / "osml", code / "osml", ignore=shutil.ignore_patterns("__pycache__"))
    log = folder / "log"
    for number in range(3):  # a busy machine starts Ray's own processes too slowly for Ray now and then
        cluster = subprocess.Popen(
            [sys.executable, TESTS / "ray_nodes.py", folder / f"ray{number}"], cwd=folder,
            env=environment(code, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"),
            text=True,
        )  # fmt: skip
        assert cluster.stdout is not None
        address = next((line.split()[1] for line in cluster.stdout if line.startswith("address ")), "")
        if address:
            break
        cluster.wait()
    assert address, log.read_text()
    yield Nodes(address, code, folder)
    cluster.communicate(timeout=120)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def found(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tasks")
    return nodes.drive("tasks", folder) | {"folder": folder}


def test_tasks_run_on_both_nodes_in_the_folder_of_the_caller(found: Any) -> None:
    where = [outcome["result"] for outcome in found["nodes"]]
    assert len({node for node, _ in where}) == 2
    assert {folder for _, folder in where} == {str(found["folder"])}


@pytest.mark.parametrize("what", ["heavy", "fails", "shared", "dies", "deadline"])
def test_a_cluster_and_this_machine_agree(what: str, found: Any) -> None:
    near, far = found["near"][what], found["far"][what]
    assert [(o["result"], o["error"]) for o in near] == [(o["result"], o["error"]) for o in far]


def test_failed_and_lost_tasks_say_what_happened(found: Any) -> None:
    for where in ("near", "far"):
        assert [o["error"] for o in found[where]["fails"]] == ["NoneType", "CheckError", "NoneType", "CheckError"]
        assert "in odd_fails" in found[where]["fails"][1]["traceback"]
        assert "item 1 is odd" in found[where]["fails"][1]["words"]
        assert [o["result"] for o in found[where]["dies"]] == [0, 1, None, 3, 4, 5]
        assert found[where]["dies"][2]["error"] == "WorkerLostError"
        assert "twice, the second time with nothing running beside it" in found[where]["dies"][2]["words"]
        assert [o["error"] for o in found[where]["deadline"]] == ["NoneType", *["OutOfTimeError"] * 3]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def processes(folder: Path) -> list[int]:
    return [int(pid) for file in folder.glob("*.pids") for pid in file.read_text().split()]


def all_gone(folder: Path) -> bool:
    until = time.monotonic() + 20
    while not all(map(gone, processes(folder))) and time.monotonic() < until:
        time.sleep(0.1)
    return all(map(gone, processes(folder)))


def test_the_deadline_leaves_no_process(found: Any) -> None:
    for where in ("near", "far"):
        assert len(processes(found["folder"] / where)) == 4  # two tasks, each with a process of its own
        assert all_gone(found["folder"] / where)


def test_folds_and_extraction_give_the_same_bytes_also_when_a_worker_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    cells = [write_images(tmp_path, f"p{i}", rng, 1.0) for i in range(4)]
    rows = [f"P{i},{cell['t1']},{cell['t1_mask']}" for i, cell in enumerate(cells)]
    (tmp_path / "images.csv").write_text("\n".join(["patient,image,mask", *rows]) + "\n")
    found = nodes.drive("study", tmp_path)
    assert found["killed"] == 1
    assert set(found["near"]) == {"predictions.parquet", "features.parquet"}
    assert found["near"] == found["far"] == found["hit"]


def test_an_interrupt_ends_the_run_and_its_tasks(nodes: Nodes, tmp_path: Path) -> None:
    command = [sys.executable, TESTS / "ray_driver.py", "endless", nodes.address]
    with subprocess.Popen(command, cwd=tmp_path, env=nodes.environment(), stderr=subprocess.PIPE, text=True) as driver:
        until = time.monotonic() + 120
        while len(processes(tmp_path)) < 4 and driver.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        _, words = driver.communicate(timeout=180)
    assert len(processes(tmp_path)) == 4
    assert words.rstrip().endswith("KeyboardInterrupt")
    assert (tmp_path / "begun").exists()
    assert all_gone(tmp_path)


def test_nodes_with_other_code_are_refused(nodes: Nodes, tmp_path: Path) -> None:
    other = tmp_path / "code"
    shutil.copytree(nodes.code, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "osml" / "__init__.py").write_text((other / "osml" / "__init__.py").read_text() + "# another version\n")
    said = nodes.drive("connect", tmp_path, code=other)
    assert said["error"] == "ClusterError"
    assert "osml is " in said["words"]
    assert "Nothing was computed there" in said["words"]
    assert not list(tmp_path.glob(".osml-*"))
