"""One task: how it is called, what became of it, and how that crosses the border of a process."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Literal

# Set in worker processes: a task uses one core, and what it runs in turn does too.
_WORKER = "OSML_ENGINE_WORKER"


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


@dataclass(frozen=True)
class Answer:
    """What a worker says of a task; `lost`: it said nothing and is gone, `text` tells how."""

    kind: Literal["done", "failed", "stop", "lost"]
    value: Any = None
    text: str = ""


class RemoteTraceback(Exception):  # noqa: N818  not an error: the cause that a traceback prints above one
    """Traceback from another process, as text; the cause of a failed task's error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class UnsentError(RuntimeError):
    """What a task raised or returned could not be sent between processes."""


class Caught:
    """Keeps whatever a block raises, for a border that hands every failure on as a value."""

    error: BaseException | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


def cores() -> int:
    """Cores this process may use; one in a worker, whose siblings use the others."""
    if _WORKER in os.environ:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def be_worker() -> None:
    """From now on this process is a worker."""
    os.environ[_WORKER] = "1"


def single_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call with BLAS and OpenMP held to one thread: equal bytes whatever the number of workers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return function(*args)


def attempt(function: Callable[[Any], Any], item: Any) -> Answer:
    """Run one task; whatever it raises is the answer."""
    result = None
    with Caught() as caught:
        result = single_thread(function, item)
    if caught.error is None:
        return Answer("done", result)
    if isinstance(caught.error, (KeyboardInterrupt, SystemExit)):
        return Answer("stop", caught.error)
    return Answer("failed", caught.error, "".join(traceback.format_exception(caught.error)))


def to_bytes(answer: Answer) -> bytes:
    """An answer for another process; what cannot be sent becomes an error that says so."""
    data = b""
    with Caught() as caught:
        data = bytes(ForkingPickler.dumps(answer))
        if answer.kind == "failed":  # many exceptions can be written and not read
            ForkingPickler.loads(data)
    if caught.error is None:
        return data
    kind = type(answer.value).__name__
    if answer.kind == "failed":
        return bytes(ForkingPickler.dumps(Answer("failed", UnsentError(f"{kind}: {answer.value}"), answer.text)))
    text = "".join(traceback.format_exception(caught.error))
    error = UnsentError(f"the result of a task, {kind}, cannot be sent to another process: {caught.error}")
    return bytes(ForkingPickler.dumps(Answer("failed", error, text)))


def from_bytes(data: bytes) -> Answer:
    """The answer of another process."""
    with Caught() as caught:
        answer: Answer = ForkingPickler.loads(data)
        return answer
    assert caught.error is not None
    return Answer("failed", UnsentError(f"the result of a task cannot be read: {caught.error}"))


def outcome_of(index: int, answer: Answer) -> Outcome:
    """The outcome that an answer means; an interrupt or exit inside a task is raised."""
    if answer.kind == "stop":
        raise answer.value
    if answer.kind == "done":
        return Outcome(index, answer.value)
    error: BaseException = answer.value
    if error.__traceback__ is None and answer.text:
        error.__cause__ = RemoteTraceback(answer.text)
    return Outcome(index, error=error)
