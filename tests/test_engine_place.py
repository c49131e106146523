"""The choice of a place for tasks, and what must be the same on all machines."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osml.engine import Place, on, run_tasks, slots
from osml.engine.facts import differences, facts_of_here, files_in, files_missing
from osml.engine.place import Standing, standing
from osml.errors import ClusterError, InvalidInputError, MissingExtraError

ADDRESS = "127.0.0.1:6379"


def process_id(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(
    "given, words",
    [
        ({"kind": "ray"}, "needs the address of a running cluster"),
        ({"kind": "local", "address": ADDRESS}, "local uses no cluster"),
        ({"kind": "dask"}, "Use auto, local, ray"),
        *(
            ({"address": text}, "HOST:PORT is expected")
            for text in ("node1", "ray://node1:10001", "node1:", ":1", "n:0")
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Place(**given)


@contextmanager
def listening(says: bytes) -> Iterator[str]:
    """A server that answers every caller with these bytes."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(24)
                line.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def closed_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    place = Place("ray", closed_port())
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at {place.address}"), on(place):
        pytest.fail("the block is not entered")


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_another_server_is_no_cluster(says: bytes) -> None:
    with listening(says) as address, pytest.raises(ClusterError, match="is no Ray cluster"), on(Place("auto", address)):
        pytest.fail("the block is not entered")


# The first frame of an HTTP/2 server: no payload, type 4 (settings), stream 0.
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def test_the_place_holds_within_its_block() -> None:
    with listening(SETTINGS) as address:
        place = Place("ray", address)
        with on(place):
            assert standing().place == place
            assert slots(workers=3) == 3
    assert standing().place == Place()


class ClusterAskedFor(Exception):  # noqa: N818  a marker
    """The cluster would be used now."""


def refuse_cluster(_: Standing) -> None:
    raise ClusterAskedFor


@pytest.mark.parametrize("workers", [None, 2])
def test_auto_keeps_small_work_here(workers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standing, "cluster", refuse_cluster)
    with listening(SETTINGS) as address, on(Place("auto", address)):
        found = {outcome.result for outcome in run_tasks(process_id, range(3), workers=workers)}
    assert found == {os.getpid()}


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"deadline": float("inf")}])
def test_auto_uses_the_cluster_once_it_pays(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standing, "cluster", refuse_cluster)
    monkeypatch.setattr("osml.engine.run.POOL_PAYS_AFTER_S", 0.0)
    monkeypatch.setattr("osml.engine.run.CLUSTER_PAYS_AFTER_S", 0.0)
    monkeypatch.setattr("osml.engine.task.cores", lambda: 2)
    with listening(SETTINGS) as address, on(Place("auto", address)), pytest.raises(ClusterAskedFor):
        list(run_tasks(process_id, range(3), **options))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        listening(SETTINGS) as address,
        on(Place("ray", address)),
        pytest.raises(MissingExtraError, match=r"osml\[cluster\]"),
    ):
        list(run_tasks(process_id, [0]))


@dataclass(frozen=True)
class Item:
    """A task's item as callers make them."""

    files: dict[str, tuple[Path, ...]]
    folder: Path
    values: Any


def test_paths_are_found_wherever_an_item_names_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("four")
    (tmp_path / "b").write_text("")
    item = Item({"x": (tmp_path / "a", tmp_path / "b")}, tmp_path / "runs" / "later", np.zeros(3))
    assert files_in([partial(process_id, item), [item, item], "text"]) == {
        str(tmp_path / "a"): 4,
        str(tmp_path / "b"): 0,
        str(tmp_path): -1,
    }


def test_a_file_that_is_missing_or_another_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("four")
    sizes = {str(tmp_path / "a"): 4, str(tmp_path): -1}
    assert files_missing(sizes) == []
    there = {str(tmp_path / "a"): 5, str(tmp_path / "none"): 1, str(tmp_path / "gone"): -1, str(tmp_path / "a/x"): 0}
    assert files_missing(there) == list(there)


def test_a_machine_that_differs_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with facts_of_here([Path("runs")]) as facts:
        assert sorted(Path(name).parent.name for name in facts.tokens) == sorted([tmp_path.name, "runs"])
        assert differences(facts) == []
        other = replace(facts, versions={**facts.versions, "python": "2.7", "osml": "0.0"})
        words = "; ".join(differences(other))
        assert "python is " in words
        assert "here it is 2.7" in words
        assert "osml is " in words
        Path("runs", next(Path("runs").glob(".osml-*")).name).write_text("another")
        assert differences(facts) == [f"{tmp_path / 'runs'} is another folder there"]
    assert [path.name for path in tmp_path.rglob(".osml-*")] == []
    assert "is another folder" in "; ".join(differences(facts))
    (gone,) = differences(replace(facts, folder=str(tmp_path / "none")))
    assert f"working folder {tmp_path / 'none'} cannot be entered" in gone
