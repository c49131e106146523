"""`run_tasks`: the one way in which many tasks are run, wherever they run."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

from osml.engine import task as tasks
from osml.engine.local import LocalPool
from osml.engine.place import standing
from osml.engine.progress import Progress
from osml.engine.task import Answer, Outcome, attempt, outcome_of
from osml.errors import OutOfTimeError, WorkerLostError

# Starting a worker process costs about this long (it imports numpy, scipy and pandas), so less work stays here.
POOL_PAYS_AFTER_S = 6.0
# The same for a cluster, of the time that this machine's cores would take together.
CLUSTER_PAYS_AFTER_S = 20.0
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
) -> Generator[Outcome, None, None]:
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
    ClusterError
        The cluster of the place in use (`osml.engine.on`) is out of reach, or its nodes lack the code or the files.
    """
    todo = list(enumerate(items))
    here = standing()
    limit = tasks.cores() if workers is None else max(1, workers)
    far = here.place.kind == "ray"
    if here.place.kind == "auto" and here.place.address:
        far = deadline is not None and len(todo) > 1  # nobody limits the time of small work
    if deadline is None and not far and (workers is None or limit == 1 or here.place.address):
        started = time.monotonic()
        each = 0.0
        # After each task the rest is weighed again, so a misjudged first task costs little.
        while todo and (limit == 1 or len(todo) == len(items) or each * len(todo) < POOL_PAYS_AFTER_S):
            index, item = todo.pop(0)
            yield _finish(index, attempt(function, item), progress)
            each = (time.monotonic() - started) / (len(items) - len(todo))
        far = bool(here.place.address) and each * len(todo) / limit > CLUSTER_PAYS_AFTER_S
    if not todo:
        return
    pool: Pool
    if far:
        pool = here.cluster().pool(function, [item for _, item in todo], workers, gpus)
    else:
        pool = LocalPool(function, min(limit, len(todo), _side_by_side(gpus)))
    yield from _drive(pool, todo, deadline, progress)


def slots(workers: int | None = None) -> int:
    """Tasks that run side by side at the place in use: `workers` where given, else the cores there."""
    here = standing()
    if workers is not None:
        return max(1, workers)
    return here.cluster().cpus() if here.place.kind == "ray" else tasks.cores()


def _side_by_side(gpus: float) -> int:
    """Tasks that this machine's cards hold at once; as many as you like without a card."""
    if gpus <= 0 or os.environ.get("OSML_DEVICE") == "cpu":
        return sys.maxsize
    import torch  # whoever asks for a share of a card has it

    cards = torch.cuda.device_count()
    return max(1, int(cards / gpus + 1e-9)) if cards else sys.maxsize


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
