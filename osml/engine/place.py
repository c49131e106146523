"""Where tasks run: chosen once for a block of code, read by every `run_tasks` inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from osml.errors import InvalidInputError

if TYPE_CHECKING:
    from osml.engine.cluster import Cluster

Kind = Literal["auto", "local", "ray"]


@dataclass(frozen=True)
class Place:
    """Where tasks run.

    Attributes
    ----------
    kind : local: this machine. ray: all tasks on the cluster. auto: this machine; where an address is named, the
        cluster once the first task, measured here, says that it pays
    address : HOST:PORT of a running Ray cluster
    folders : where tasks write, beside the working folder; checked to be the same on all nodes

    Raises
    ------
    InvalidInputError
        `ray` without an address, `local` with one, or an address of another form.
    """

    kind: Kind = "auto"
    address: str = ""
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInputError(f"engine {self.kind!r}", do=f"Use {', '.join(get_args(Kind))}.")
        if self.kind == "ray" and not self.address:
            raise InvalidInputError(
                "engine ray needs the address of a running cluster; none is ever started by osml",
                do="Add --address HOST:PORT, or start one with: ray start --head",
            )
        if self.kind == "local" and self.address:
            raise InvalidInputError(f"engine local uses no cluster, yet the address {self.address} is given")
        if self.address:
            host, _, port = self.address.rpartition(":")
            if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise InvalidInputError(
                    f"address {self.address!r}: HOST:PORT is expected, e.g. 10.0.0.1:6379",
                    do="It is the address that `ray start --head` prints, not that of a Ray client or the dashboard.",
                )


@dataclass
class Standing:
    """A place in use: the connection is made when the first task needs it, and kept."""

    place: Place
    say: Callable[[str], None] | None = None
    connected: Cluster | None = None

    def cluster(self) -> Cluster:
        """The connection to the place's cluster."""
        if self.connected is None:
            from osml.engine.cluster import connect

            self.connected = connect(self.place)
            if self.say is not None:
                self.say(f"engine    {self.connected.describe()}")
        return self.connected


_STANDING: ContextVar[Standing | None] = ContextVar("osml_engine", default=None)


def standing() -> Standing:
    """The place of the code that asks."""
    return _STANDING.get() or Standing(Place())


def current_place() -> Place:
    """Where the tasks of the code that asks run."""
    return standing().place


def far_away() -> bool:
    """Whether all tasks run on a cluster."""
    return standing().place.kind == "ray"


@contextmanager
def on(place: Place, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Run the tasks of a block at a place; `say` is told of the cluster once it is used.

    Raises
    ------
    ClusterError
        Nothing answers at the address; at once, though the connection is made only when the first task needs it.
    """
    if place.address:
        from osml.engine.reach import reach

        reach(place.address)
    here = Standing(place, say)
    token = _STANDING.set(here)
    try:
        yield
    finally:
        _STANDING.reset(token)
        if here.connected is not None:
            here.connected.close()
