"""Where tasks run: in this process or on this machine's cores, one BLAS thread each, with progress and cancel.

The number of workers never changes a result: a task sees only its own item, and its arithmetic runs on one thread
wherever it runs. A task that raises is reported with its traceback and does not end the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TextIO

from osml.errors import OsmlError

# Starting a worker process costs about this long (it imports numpy, scipy and pandas), so less work stays here.
POOL_PAYS_AFTER_S = 6.0


@dataclass(frozen=True)
class Outcome:
    """What became of one task: its result, or its error and traceback."""

    index: int
    result: Any = None
    error: BaseException | None = None

    @property
    def traceback(self) -> str:
        """Full traceback of a failed task, also from a worker process."""
        return "".join(traceback.format_exception(self.error)) if self.error is not None else ""


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def single_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call with BLAS and OpenMP held to one thread: equal bytes whatever the number of workers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return function(*args)


def run_tasks(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Run `function(item)` for every item, yielding outcomes as they come (not in order).

    Parameters
    ----------
    function : a module-level function (it may run in another process)
    items : picklable
    workers : processes; None measures the first task here and starts a pool only when that pays
    progress : told of every finished task

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C cancels what has not begun and stops the workers; finished tasks are already with the caller.
    """
    todo = list(enumerate(items))
    limit = cores() if workers is None else max(1, workers)
    started = time.monotonic()
    if workers is None or limit == 1:
        here = todo[:1] if limit > 1 else todo
        with ThreadPoolExecutor(1) as inline:
            for index, item in here:
                yield _finish(index, inline.submit(single_thread, function, item), progress)
            todo = todo[len(here) :]
            # After each task the rest is weighed again, so a misjudged first task costs little.
            while todo and (time.monotonic() - started) / (len(items) - len(todo)) * len(todo) < POOL_PAYS_AFTER_S:
                index, item = todo.pop(0)
                yield _finish(index, inline.submit(single_thread, function, item), progress)
    if todo:
        yield from _pooled(function, todo, min(limit, len(todo)), progress)


def _pooled(
    function: Callable[[Any], Any], todo: Sequence[tuple[int, Any]], workers: int, progress: Progress | None
) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    pool: Executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_quietly)
    futures = {pool.submit(single_thread, function, item): index for index, item in todo}
    try:
        for future in as_completed(futures):
            outcome = _finish(futures[future], future, progress)
            if isinstance(outcome.error, BrokenProcessPool):
                time.sleep(0.5)  # on Ctrl-C the workers may be gone a moment before this process is interrupted
                raise OsmlError(
                    "a worker process died (killed, or out of memory); finished work is kept",
                    do="Run the same command again to continue, if need be with --workers 1.",
                )
            yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_quietly() -> None:
    # A terminal sends Ctrl-C to the workers too: they end without a traceback of their own; writes are atomic.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A parent that is killed cannot end its workers: they watch it, so that none computes for nobody.
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _finish(index: int, future: Future[Any], progress: Progress | None) -> Outcome:
    error = future.exception()
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    if progress is not None:
        progress.step()
    return Outcome(index, None if error is not None else future.result(), error)


class Progress:
    """Counts finished tasks; a line with the time left on a terminal, one plain line per tenth elsewhere."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.label, self.total, self.done = label, total, 0
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet or total == 0
        self.started = time.monotonic()
        self._last_tenth = 0

    def step(self) -> None:
        """One more task is done."""
        self.done += 1
        if self.quiet:
            return
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        rate = f"{60 * self.done / max(elapsed, 1e-9):.3g}/min"
        if self.stream.isatty():
            end = "\n" if self.done == self.total else ""
            self.stream.write(f"\r{self.label:<10}{self.done}/{self.total}  {_clock(left)} left  {rate} \x1b[K{end}")
        else:
            tenth = 10 * self.done // self.total
            if tenth == self._last_tenth and self.done != self.total:
                return
            self._last_tenth = tenth
            self.stream.write(f"{self.label:<10}{self.done}/{self.total}  {_clock(elapsed)} elapsed  {rate}\n")
        self.stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
