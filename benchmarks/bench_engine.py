"""Tasks on a Ray cluster beside worker processes of this machine, in one run: start, small tasks, scaling.

Starts a cluster of two nodes with one core each on this machine, so both places have the same two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

import numpy as np

from osml.engine import Place, on, run_tasks

NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
# Of the longer tasks: a fifth of a second on an idle core of 2023.
STEPS = 1000
TARGET_RATIO, TARGET_SCALING = 1.05, 1.8


@dataclass(frozen=True)
class Timed:
    """Seconds until the first outcome, and from there to the last."""

    first: float
    rest: float


def nothing(_: float) -> None:
    """The smallest task."""


def work(steps: float) -> float:
    """Arithmetic on one core."""
    x = np.linspace(0.0, 1.0, 20_000)
    for _ in range(int(steps)):
        x = np.sin(x) + 0.5
    return float(x[0])


def timed(function: Callable[..., object], items: list[float], workers: int) -> Timed:
    """Time of one `run_tasks`."""
    start = time.perf_counter()
    first = 0.0
    for outcome in run_tasks(function, items, workers=workers, deadline=time.monotonic() + 3600):
        assert outcome.error is None, outcome.traceback
        first = first or time.perf_counter() - start
    return Timed(first, time.perf_counter() - start - first)


@contextmanager
def nodes() -> Iterator[str]:
    """The address of a cluster that lives as long as the block."""
    with tempfile.TemporaryFile("w") as log, subprocess.Popen(
        [sys.executable, "-c", NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as cluster:  # fmt: skip
        assert cluster.stdout is not None
        yield next(line.split()[1] for line in cluster.stdout if line.startswith("address "))
        cluster.communicate()


def main() -> None:
    """Print medians over repeats, all measured by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", type=int, default=400, help="number of the smallest tasks")
    parser.add_argument("--long", type=int, default=24, help="number of the tasks that scaling is measured on")
    chosen = parser.parse_args()
    found: dict[tuple[str, str], list[Timed]] = {}
    longer = [float(STEPS)] * chosen.long
    with nodes() as address:
        for _ in range(chosen.repeats):
            for place in ("local", "ray"):
                with on(Place("ray", address)) if place == "ray" else nullcontext():
                    found.setdefault((place, "small"), []).append(timed(nothing, [0.0] * chosen.small, 2))
                    for workers in (1, 2):
                        found.setdefault((place, f"long{workers}"), []).append(timed(work, longer, workers))
    start = {place: median(t.first for t in found[place, "small"]) for place in ("local", "ray")}
    small = {
        place: median(t.rest for t in found[place, "small"]) / (chosen.small - 1) * 1000 for place in ("local", "ray")
    }
    print(f"start, to the first outcome       local {start['local']:6.2f} s   ray {start['ray']:6.2f} s   "
          f"ratio {start['ray'] / start['local']:.2f}")  # fmt: skip
    print(f"smallest task, two workers        local {small['local']:6.2f} ms  ray {small['ray']:6.2f} ms  "
          f"ratio {small['ray'] / small['local']:.2f}")  # fmt: skip
    rest = {key: median(t.rest for t in times) for key, times in found.items()}
    per_task = {place: rest[place, "long1"] / (chosen.long - 1) for place in ("local", "ray")}
    ratio = rest["ray", "long2"] / rest["local", "long2"]
    print(f"task of {per_task['local']:.2f} s, two workers       ray / local {ratio:.3f} (target {TARGET_RATIO})")
    for place in ("local", "ray"):
        # The outcomes after the first: with two workers, two tasks have begun by then.
        scaling = rest[place, "long1"] / (chosen.long - 1) * (chosen.long - 2) / rest[place, "long2"]
        print(f"scaling from 1 to 2 workers       {place} {scaling:.2f} (target {TARGET_SCALING})")


if __name__ == "__main__":
    main()
