"""`run_tasks`: the one way in which many tasks are run, wherever they run."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

from osml.engine import task as tasks
from osml.engine.local import LocalPool
from osml.engine.progress import Progress
from osml.engine.task import Answer, Outcome, attempt, outcome_of
from osml.errors import OutOfTimeError, WorkerLostError

# Starting a worker process costs about this long (it imports numpy, scipy and pandas), so less work stays here.
POOL_PAYS_AFTER_S = 6.0
# A task whose worker dies is run again, by itself; the second death is its own.
ATTEMPTS = 2


class Pool(Protocol):
    """Where tasks run beside this process."""

    def free(self) -> bool:
        """Whether another task can be taken."""

    def submit(self, index: int, item: Any) -> None:
        """Start a task."""

    def alone(self) -> None:
        """The next task is to run by itself."""

    def wait(self, timeout: float | None) -> list[tuple[int, Answer]]:
        """News of tasks, after the first or after `timeout` seconds; may be none."""

    def close(self) -> None:
        """Stop what still runs."""


def run_tasks(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    deadline: float | None = None,
    gpus: float = 0.0,
) -> Iterator[Outcome]:
    """Run `function(item)` for every item, yielding outcomes as they come (not in order).

    Parameters
    ----------
    function : a module-level function (it may run in another process), or a `functools.partial` of one: what that
        binds is sent to each worker once
    items : picklable
    workers : processes; None measures the first task here and starts a pool only when that pays
    progress : told of every finished task
    deadline : a value of `time.monotonic()`. All tasks run in worker processes then, and those that are not finished at
        that time are killed with all that they started; their outcome is OutOfTimeError, as is that of tasks which have
        not begun
    gpus : share of a GPU that one task takes, where there is one

    Yields
    ------
    Outcome
        With WorkerLostError for a task whose worker died twice, the second time with nothing running beside it.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C cancels what has not begun and stops the workers; finished tasks are already with the caller.
    OsmlError
        No worker process can be started.
    """
    todo = list(enumerate(items))
    limit = tasks.cores() if workers is None else max(1, workers)
    if deadline is None and (workers is None or limit == 1):
        started = time.monotonic()
        done = 0
        # After each task the rest is weighed again, so a misjudged first task costs little.
        while todo and (limit == 1 or done == 0 or (time.monotonic() - started) / done * len(todo) < POOL_PAYS_AFTER_S):
            index, item = todo.pop(0)
            yield _finish(index, attempt(function, item), progress)
            done += 1
    if todo:
        yield from _drive(LocalPool(function, min(limit, len(todo))), todo, deadline, progress)


def _drive(
    pool: Pool, todo: Sequence[tuple[int, Any]], deadline: float | None, progress: Progress | None
) -> Iterator[Outcome]:
    waiting, suspects = deque(todo), deque[tuple[int, Any]]()
    running: dict[int, Any] = {}
    deaths: Counter[int] = Counter()
    with closing(pool):
        while waiting or suspects or running:
            if deadline is not None and time.monotonic() >= deadline:
                late = pool.wait(0) if running else []
                pool.close()
                done = [(index, answer) for index, answer in late if answer.kind != "lost"]
                for index, answer in done:
                    del running[index]
                    yield _finish(index, answer, progress)
                for index in sorted([*running, *(index for index, _ in (*waiting, *suspects))]):
                    yield _finish(index, Answer("failed", _out_of_time()), progress)
                return
            while waiting and pool.free():
                index, item = waiting.popleft()
                running[index] = item
                pool.submit(index, item)
            if suspects and not running:
                index, item = suspects.popleft()
                running[index] = item
                pool.alone()
                pool.submit(index, item)
            news = pool.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            finished = []
            for index, answer in news:
                item = running.pop(index)
                if answer.kind == "lost":
                    deaths[index] += 1
                    if deaths[index] < ATTEMPTS:
                        suspects.append((index, item))
                        continue
                    answer = Answer("failed", _lost(answer.text))
                finished.append((index, answer))
            while waiting and pool.free():  # before the caller is given anything to do
                index, item = waiting.popleft()
                running[index] = item
                pool.submit(index, item)
            for index, answer in finished:
                yield _finish(index, answer, progress)


def _finish(index: int, answer: Answer, progress: Progress | None) -> Outcome:
    outcome = outcome_of(index, answer)
    if progress is not None:
        progress.step()
    return outcome


def _out_of_time() -> OutOfTimeError:
    return OutOfTimeError(
        "the time limit came before this was finished; it was stopped, and nothing of it is kept",
        do="Allow more time; what is finished is not computed again.",
    )


def _lost(how: str) -> WorkerLostError:
    return WorkerLostError(
        f"the worker process {how}, twice, the second time with nothing running beside it",
        why="Most often the machine's memory does not suffice for this task.",
        do="See what the system says of killed processes (dmesg), or run where there is more memory.",
    )
