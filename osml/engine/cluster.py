"""Tasks on a running Ray cluster, alike those of worker processes here; `osml` never starts a cluster.

Ray's own retries stay off: `run` runs a lost task again, by itself, as it does for worker processes of this machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from osml.engine.facts import (
    Facts,
    differences,
    facts_of_here,
    files_in,
    files_missing,
    set_variables,
    variables,
)
from osml.engine.place import Place
from osml.engine.reach import reach
from osml.engine.task import Answer, attempt, be_worker, from_bytes, to_bytes
from osml.errors import ClusterError, OsmlError, missing_extra

# A node that has not answered for so long is given up; starting a first worker process takes it some seconds.
NODE_ANSWERS_S = 60.0
# How often the cluster is looked at while nothing else is heard of it.
_LOOK_S = 5.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass
class Cluster:
    """A connection.

    facts : what all nodes must share
    checked : nodes and files that were found to be in order
    """

    address: str
    facts: Facts
    ray: Any
    checked: set[tuple[str, str]] = field(default_factory=set)

    def nodes(self) -> list[Node]:
        """Those that run tasks."""
        found = []
        for node in self.ray.nodes():
            has: Mapping[str, float] = node["Resources"]
            if node["Alive"] and has.get("CPU", 0) >= 1:
                found.append(Node(node["NodeID"], node["NodeManagerHostname"], has["CPU"], has.get("GPU", 0.0)))
        return sorted(found, key=lambda node: node.id)

    def cpus(self) -> int:
        """Tasks that can run side by side."""
        return max(1, int(sum(node.cpus for node in self.nodes())))

    def describe(self) -> str:
        """One line for a user."""
        nodes = self.nodes()
        gpus = sum(node.gpus for node in nodes)
        cards = f", {gpus:g} GPUs" if gpus else ""
        return f"ray at {self.address}: {len(nodes)} nodes, {self.cpus()} cores{cards}"

    def pool(self, function: Callable[[Any], Any], items: list[Any], size: int | None, gpus: float) -> ClusterPool:
        """A pool for these items, once all files that they name were found on all nodes."""
        nodes = self.nodes()
        self._check_files(nodes, files_in([function, items]))
        cards = sum(node.gpus for node in nodes)
        return ClusterPool(self, function, size or 2 * self.cpus(), gpus if cards else 0.0)

    def close(self) -> None:
        """Disconnect; what still runs is ended by Ray."""
        self.ray.shutdown()

    def check_nodes(self) -> None:
        """Raise ClusterError unless every node has the same code and the working folder."""
        nodes = self.nodes()
        if not nodes:
            raise ClusterError(f"the Ray cluster at {self.address} has no node with a processor for tasks")
        self._tell(self._everywhere(nodes, _differences_there(), asdict(self.facts)))
        self.checked |= {(node.id, "") for node in nodes}

    def _check_files(self, nodes: list[Node], files: Mapping[str, int]) -> None:
        for node in nodes:
            new = {name: size for name, size in files.items() if (node.id, name) not in self.checked}
            if not new:
                continue
            (missing,) = self._everywhere([node], files_missing, new).values()
            if missing:
                kinds = "folder" if new[missing[0]] < 0 else "file"
                more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
                raise _unlike({node.name: [f"the {kinds} {missing[0]}{more} is missing or another one"]})
            self.checked |= {(node.id, name) for name in new}

    def _everywhere(self, nodes: list[Node], function: Callable[[Any], Any], argument: Any) -> dict[str, Any]:
        """What a function returns on each node, by the node's name."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self.ray.remote(function)
        asked = [
            remote.options(
                num_cpus=0, max_retries=2, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(argument)
            for node in nodes
        ]
        done, _ = self.ray.wait(asked, num_returns=len(asked), timeout=NODE_ANSWERS_S)
        out = {}
        for k, (node, answer) in enumerate(zip(nodes, asked, strict=True)):
            if answer not in done:
                raise ClusterError(f"node {node.name} of the cluster does not answer within {NODE_ANSWERS_S:.0f} s")
            try:
                out[f"{node.name} ({k + 1} of {len(nodes)})"] = self.ray.get(answer)
            except self.ray.exceptions.RayError as error:
                raise ClusterError(f"node {node.name} of the cluster cannot work for osml: {error}") from None
        return out

    def _tell(self, found: Mapping[str, list[str]]) -> None:
        if any(found.values()):
            raise _unlike({name: words for name, words in found.items() if words})


def _unlike(found: Mapping[str, list[str]]) -> ClusterError:
    words = [f"{name}: {word}" for name, each in found.items() for word in each]
    return ClusterError(
        "nodes of the cluster differ from this machine:\n    " + "\n    ".join(words[:20]),
        why="Results would depend on the node that computes them. Nothing was computed there.",
        do="Use one installation and one shared file system; see docs/cluster.md.",
    )


def connect(place: Place) -> Cluster:
    """Connect to a running cluster and check its nodes.

    Raises
    ------
    MissingExtraError
        Ray is not installed here.
    ClusterError
        The cluster is out of reach, is of another version, or its nodes lack the code or the folders.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError as error:
        raise missing_extra("ray", "cluster", "running tasks on a cluster") from error
    reach(place.address)
    if ray.is_initialized():
        raise ClusterError("this process is connected to a Ray cluster already", do="Call ray.shutdown() first.")
    with facts_of_here(place.folders) as facts, _signals_kept():
        try:
            ray.init(place.address, log_to_driver=False, logging_level=logging.ERROR)
        except (RuntimeError, ConnectionError, ValueError, OSError) as error:
            raise ClusterError(
                f"cannot connect to the Ray cluster at {place.address}: {_first_line(error)}",
                do="This machine must be a node of the cluster (`ray start --address=HOST:PORT`), with the same "
                "versions of Ray and Python.",
            ) from error
        _quiet()
        cluster = Cluster(place.address, facts, ray)
        try:
            cluster.check_nodes()
        except OsmlError:
            cluster.close()
            raise
        # The token files go with this block; what is left to compare later are versions and the working folder.
        return replace(cluster, facts=replace(facts, tokens={}))


class ClusterPool:
    """Up to `size` tasks at a time on the cluster, one core each."""

    def __init__(self, cluster: Cluster, function: Callable[[Any], Any], size: int, gpus: float) -> None:
        self._cluster, self._ray, self._size = cluster, cluster.ray, size
        # Shipped once; a worker process reads it once.
        self._shared = [self._ray.put((function, replace(cluster.facts, variables=variables()), gpus))]
        self._remote = self._ray.remote(_run).options(num_cpus=1, num_gpus=gpus, max_retries=0, retry_exceptions=False)
        self._running: dict[Any, int] = {}
        self._looked = time.monotonic()

    def free(self) -> bool:
        """Whether another task can be taken; more than can run, so that no node waits."""
        return len(self._running) < self._size

    def submit(self, index: int, item: Any) -> None:
        """Start a task."""
        self._running[self._remote.remote(self._shared, item)] = index

    def alone(self) -> None:
        """A node's idle processes are Ray's to end."""

    def wait(self, timeout: float | None) -> list[tuple[int, Answer]]:
        """What has become of tasks."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, min(until - time.monotonic(), 1.0))
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=left)
            if done:
                break
            if time.monotonic() >= until:
                return []
            self._look()
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(one), self._answer(one)) for one in done]

    def close(self) -> None:
        """Kill what still runs."""
        for one in self._running:
            self._ray.cancel(one, force=True)
        self._running = {}

    def _answer(self, one: Any) -> Answer:
        problems = self._ray.exceptions
        lost = (problems.WorkerCrashedError, problems.NodeDiedError, problems.ObjectLostError)
        try:
            return from_bytes(self._ray.get(one))
        except problems.OutOfMemoryError:
            return Answer("lost", text="was killed for want of memory on its node")
        except lost as error:
            return Answer("lost", text=f"died ({type(error).__name__})")
        except problems.RayError as error:
            return Answer("failed", error, str(error))

    def _look(self) -> None:
        # Without this, Ray waits a minute for a cluster that is gone, and then ends this process.
        if time.monotonic() - self._looked > _LOOK_S:
            reach(self._cluster.address)
            self._looked = time.monotonic()


@dataclass
class _Here:
    """What a worker process of the cluster keeps between tasks: the last function, and whether it fits."""

    key: str = ""
    function: Callable[[Any], Any] | None = None
    words: list[str] = field(default_factory=list)


_HERE = _Here()


def _run(shared: list[Any], item: Any) -> bytes:
    """One task, in a worker process of a node."""
    import ray

    (source,) = shared
    if source.hex() != _HERE.key:
        function, facts, gpus = ray.get(source)
        _HERE.words = differences(facts)  # also on a node that came later
        set_variables(facts.variables)
        if gpus and os.environ.get("OSML_DEVICE", "").startswith("cuda:"):
            os.environ["OSML_DEVICE"] = "cuda"  # Ray shows a task its own card alone
        be_worker()
        _HERE.key, _HERE.function = source.hex(), function
    if _HERE.words:
        return to_bytes(Answer("stop", _unlike({os.uname().nodename: _HERE.words})))
    assert _HERE.function is not None
    return to_bytes(attempt(_HERE.function, item))


def _differences_there() -> Callable[[dict[str, Any]], list[str]]:
    """`differences`, as a function that can be sent where there is no osml, or another one."""

    def there(facts: dict[str, Any]) -> list[str]:
        try:
            from osml.engine.facts import Facts, differences
        except ImportError as error:
            return [f"osml is not installed, or another one: {error}"]
        return differences(Facts(**facts))

    return there


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _quiet() -> None:
    # Ray prints the death of a worker on standard output, whatever `log_to_driver` says; the engine tells of it itself.
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray replaces what a process does on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
