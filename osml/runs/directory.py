"""`runs/<name>/<identity>/`: who may write, what is done, what happened.

The identity is a hash of the resolved schema, the input files and the version of osml, so the same question finds the
same folder: finished → reported at once, unfinished → continued. One process writes at a time (file lock); a killed one
leaves whole files only, because every write is atomic and a fold counts as done when its status file exists.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import osml
from osml.engine import Place
from osml.errors import RunError
from osml.files import atomic_write, read_json, write_json
from osml.schema.load import LoadedSchema

_RECORDED = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib", "pydantic", "ruamel.yaml")


def run_identity(loaded: LoadedSchema, input_hashes: Mapping[str, str]) -> str:
    """Twelve hex digits of SHA-256 over the resolved schema, the input files and the version."""
    parts = {"schema": loaded.digest(), "inputs": dict(sorted(input_hashes.items())), "osml": osml.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str, identity: str, *, new: bool = False) -> RunDirectory:
        """The folder of this identity; with `new`, a fresh one beside it (`<identity>-2`, …)."""
        base = root / name
        path = base / identity
        attempt = 2
        while new and path.exists():
            path = base / f"{identity}-{attempt}"
            attempt += 1
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing, finished run; `latest` and a study's folder are followed."""
        folder = Path(path)
        if (folder / "latest").exists():
            folder = folder / "latest"
        if folder.is_file():
            folder = folder.parent / folder.read_text(encoding="utf-8").strip()
        if not (folder / "status.json").exists():
            raise RunError(f"{path} is not a run directory", do="Give the folder that `osml fit` printed.")
        run = cls(folder.resolve())
        state = run.status().get("state")
        if state != "finished":
            raise RunError(
                f"the run at {path} is {state}, not finished", do="Run the same `osml fit` again to continue."
            )
        return run

    def status(self) -> dict[str, Any]:
        """Content of status.json, empty before the first write."""
        file = self.path / "status.json"
        return read_json(file) if file.exists() else {}

    def set_status(self, state: str, **facts: Any) -> None:
        """Atomic status with the time."""
        write_json(self.path / "status.json", {"state": state, "time": _now(), "osml": osml.__version__, **facts})

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": _now(), "event": kind, **facts}, ensure_ascii=False)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def log(self, message: str) -> None:
        """Append one line to run.log."""
        with (self.path / "run.log").open("a", encoding="utf-8") as stream:
            stream.write(f"{_now()} {message}\n")

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the folder; yields True when another process held it first and we had to wait."""
        from filelock import FileLock, Timeout

        lock = FileLock(str(self.path / ".lock"))
        waited = False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            lock.acquire()
        try:
            yield waited
        finally:
            lock.release()

    def point_latest(self) -> None:
        """`latest` beside the run: a link, or a file with its name where links are not allowed."""
        latest = self.path.parent / "latest"
        temporary = self.path.parent / f".latest.{os.getpid()}"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.path.name)
            os.replace(temporary, latest)
        except OSError:
            atomic_write(latest, self.path.name + "\n")


def environment(device: str, workers: int | None, place: Place, devices: int = 1) -> dict[str, Any]:
    """Versions, machine and where tasks were to run, stored with a run."""
    versions = {}
    for package in _RECORDED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "osml": osml.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "devices": devices,
        "engine": place.kind,
        "cluster": place.address or None,
        "workers": workers,
        "packages": versions,
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
