"""Worker processes of this machine: one task each at a time, so that a death has one culprit; killed for good."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from osml.engine.task import Answer, Caught, attempt, be_worker, from_bytes, to_bytes
from osml.errors import OsmlError

# A worker that is stopped may remove its temporary files for so long; one that has nothing to do may end by itself.
GRACE_S, IDLE_S = 1.0, 5.0
# So many workers in a row that end before their first task mean that none can be started.
_BOOTS = 2
_READY = b"ready"


@dataclass
class _Worker:
    process: Any
    connection: Connection
    ready: bool = False
    task: tuple[int, Any] | None = None
    sender: threading.Thread | None = None


class LocalPool:
    """Up to `size` processes that call `function`, started when they are needed."""

    def __init__(self, function: Callable[[Any], Any], size: int) -> None:
        self._function, self._size = function, size
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._failed_boots = 0
        # A caller that raises may leave its generator to the end of the interpreter, which waits for processes.
        atexit.register(self.close)

    def free(self) -> bool:
        """Whether another task can be taken."""
        return sum(worker.task is not None for worker in self._workers) < self._size

    def submit(self, index: int, item: Any) -> None:
        """Start a task."""
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
        worker.task = (index, item)
        data = ForkingPickler.dumps(item)
        if worker.ready:
            _send(worker.connection, data)
        else:  # it reads once it has begun, whatever this process does then
            worker.sender = threading.Thread(target=_send, args=(worker.connection, data), daemon=True)
            worker.sender.start()

    def alone(self) -> None:
        """End the idle workers: the next task has a new process, and the machine's memory."""
        idle = [worker for worker in self._workers if worker.task is None]
        self._workers = [worker for worker in self._workers if worker.task is not None]
        _end(idle)

    def wait(self, timeout: float | None) -> list[tuple[int, Answer]]:
        """What has become of tasks; waits for the first news, which may be none of a task, or for `timeout` seconds."""
        sources: dict[Any, _Worker] = {}
        for worker in self._workers:
            sources |= {worker.connection: worker, worker.process.sentinel: worker}
        # Shorter than what a platform's timer can hold; the caller asks again.
        heard = wait(list(sources), None if timeout is None else min(timeout, 3600.0))
        news = []
        for worker in {id(sources[source]): sources[source] for source in heard}.values():
            news += self._hear(worker)
        return news

    def close(self) -> None:
        """Stop all workers and whatever they started."""
        atexit.unregister(self.close)
        workers, self._workers = self._workers, []
        _end(workers)

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, self._function), name="osml-worker")
        with _interrupts_held():
            process.start()
            worker = _Worker(process, here)
            self._workers.append(worker)  # or an interrupt would leave it out of what `close` ends
        there.close()
        return worker

    def _hear(self, worker: _Worker) -> list[tuple[int, Answer]]:
        news: list[tuple[int, Answer]] = []
        with contextlib.suppress(EOFError, OSError):
            alive = not wait([worker.process.sentinel], 0)  # before the last look: what a dead worker said is heard
            while worker.connection.poll():
                data = worker.connection.recv_bytes()
                if not worker.ready:
                    assert data == _READY
                    worker.ready, self._failed_boots = True, 0
                elif worker.task is not None:
                    news.append((worker.task[0], from_bytes(data)))
                    worker.task = None
            if alive:
                return news
        self._workers.remove(worker)
        _end([worker])
        if worker.task is not None:
            if worker.ready:
                how = _how(worker.process.exitcode)
                return [*news, (worker.task[0], Answer("lost", text=how))]
            self._boot_failed(worker.process.exitcode)
            self.submit(*worker.task)
        return news

    def _boot_failed(self, code: int | None) -> None:
        self._failed_boots += 1
        if self._failed_boots >= _BOOTS:
            raise OsmlError(
                f"worker processes cannot be started: {_BOOTS} in a row {_how(code)} before their first task",
                do="See the lines above, or use --workers 1.",
            )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started meanwhile hears no Ctrl-C until it asks to; this process hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let them through where it has yet to start its process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(connection: Connection, data: Any) -> None:
    with contextlib.suppress(OSError):  # gone: the next wait tells
        connection.send_bytes(data)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _end(workers: Collection[_Worker]) -> None:
    """End workers for good: ask, then kill, together with all that they started."""
    for worker in workers:
        if worker.task is not None:
            _signal(worker.process, "SIGTERM")
        else:
            worker.connection.close()  # it waits for a task, and ends on this
    until = time.monotonic() + (GRACE_S if any(worker.task is not None for worker in workers) else IDLE_S)
    waiting = {worker.process.sentinel for worker in workers}
    while waiting and (left := until - time.monotonic()) > 0:
        waiting -= set(wait(list(waiting), left))
    for worker in workers:
        _signal(worker.process, "SIGKILL")
        worker.process.join()
        if worker.sender is not None:
            worker.sender.join()
        worker.connection.close()


def _signal(process: Any, name: str) -> None:
    # Not yet waited for, so that the number of the group is still its own.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, getattr(signal, name))
            return
    if process.is_alive():
        process.terminate() if name == "SIGTERM" else process.kill()


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Life of a worker."""
    be_worker()
    if hasattr(os, "setpgid"):
        # A group of its own: it is killed with all that it started, and Ctrl-C in a terminal reaches the parent alone,
        # which stops its workers.
        os.setpgid(0, 0)
    if hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came before
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    # A parent that is killed cannot end its workers: they watch it, so that none computes for nobody.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection.send_bytes(_READY)
    while True:
        try:
            data = connection.recv_bytes()
        except (EOFError, OSError):
            return
        item = None
        with Caught() as caught:
            item = ForkingPickler.loads(data)
        del data
        answer = Answer("failed", caught.error) if caught.error is not None else attempt(function, item)
        del item  # not kept while waiting
        try:
            connection.send_bytes(to_bytes(answer))
        except OSError:
            return
        del answer


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
