"""The folder in which the app trains: one folder per job, found by an unguessable key and by nothing else.

A job holds patient data (table, images), the schema, and the runs that were made of them. Whoever has the key of a job
may open it; a job of a person who signed in opens only for that person. Keys are never listed to others.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.errors import RunError
from osml.files import atomic_write, read_json, write_json
from osml.serving.launch import WORKSPACE_VARIABLE

TABLE = "table.csv"
SCHEMA = "schema.yaml"
IMAGES = "images"
MAX_JOBS = 200
MIN_FREE_BYTES = 2 * 2**30
MAX_SCHEMA = 200_000  # characters

_KEY = re.compile(r"[0-9a-f]{40}")
# Folders before a file's name, from the root on; not those of an address of the web or of a path that begins elsewhere.
_FOLDERS = re.compile(r"(?<![\w./:])/(?:[^\s/'\":,;()<>]+/)+")


@dataclass(frozen=True)
class Job:
    """One training job: its folder, named by its key."""

    path: Path

    @property
    def key(self) -> str:
        """What opens the job; to be shown to nobody but its owner."""
        return self.path.name

    @property
    def table_path(self) -> Path:
        return self.path / TABLE

    @property
    def schema_path(self) -> Path:
        return self.path / SCHEMA

    def facts(self) -> dict[str, Any]:
        """Content of job.json: owner, time, what was uploaded, what the forms put aside."""
        facts: dict[str, Any] = read_json(self.path / "job.json")
        return facts

    def remember(self, **facts: Any) -> None:
        """Change entries of job.json."""
        write_json(self.path / "job.json", self.facts() | facts)

    def text(self) -> str:
        """The schema as it was last edited, valid or not; empty before there is one."""
        return self.schema_path.read_text(encoding="utf-8") if self.schema_path.is_file() else ""

    def write_text(self, text: str) -> None:
        """Keep the schema as it is edited.

        Raises
        ------
        RunError
            Far longer than any schema.
        """
        if len(text) > MAX_SCHEMA:
            raise RunError(f"the schema has {len(text)} characters; at most {MAX_SCHEMA} are kept")
        atomic_write(self.schema_path, text)


@dataclass(frozen=True)
class Workspace:
    """A folder of jobs."""

    folder: Path

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    def create(self, user: str = "") -> Job:
        """A new, empty job of a user ("" when nobody signs in here).

        Raises
        ------
        RunError
            Too many jobs, or too little room on the disk.
        """
        self.jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in self.jobs.iterdir()) >= MAX_JOBS:
            raise RunError(f"there are {MAX_JOBS} jobs already", do="Delete jobs that are done with.")
        free = shutil.disk_usage(self.jobs).free
        if free < MIN_FREE_BYTES:
            raise RunError(f"the disk has {free / 2**30:.1f} GB left; a job is not begun below 2 GB")
        path = self.jobs / secrets.token_hex(20)
        path.mkdir(mode=0o700)
        write_json(path / "job.json", {"user": user, "created": now(), "aside": {}, "images": []})
        return Job(path)

    def open(self, key: str, user: str = "") -> Job:
        """The job of a key.

        Raises
        ------
        RunError
            No such job, or somebody else's: both in the same words.
        """
        path = self.jobs / key
        if _KEY.fullmatch(key) and (path / "job.json").is_file():
            job = Job(path)
            if secrets.compare_digest(str(job.facts()["user"]).encode(), user.encode()):
                return job
        raise RunError("there is no such training job, or it is not yours", do="Begin a new one.")

    def jobs_of(self, user: str) -> list[Job]:
        """Jobs of a person who signed in, the newest first; nothing for one who did not."""
        if not user or not self.jobs.is_dir():
            return []
        mine = [job for path in self.jobs.iterdir() if (job := self._mine(path, user)) is not None]
        return sorted(mine, key=lambda job: str(job.facts()["created"]), reverse=True)

    def _mine(self, path: Path, user: str) -> Job | None:
        if not _KEY.fullmatch(path.name) or not (path / "job.json").is_file():
            return None
        job = Job(path)
        return job if job.facts()["user"] == user else None

    def delete(self, job: Job) -> None:
        """Remove a job with its patient data and runs; what was published stays.

        Raises
        ------
        RunError
            It is being fitted.
        """
        from osml.study.training.process import running

        if running(job):
            raise RunError("this job is being fitted", do="Cancel it first.")
        gone = job.path.with_name(f".gone-{secrets.token_hex(8)}")
        job.path.rename(gone)  # from here on nobody finds it, whatever happens to the removal
        shutil.rmtree(gone)


def workspace(environment: Mapping[str, str] | None = None) -> Workspace | None:
    """The workspace that the app was started with; None where training is not allowed."""
    folder = (os.environ if environment is None else environment).get(WORKSPACE_VARIABLE)
    return Workspace(Path(folder)) if folder else None


def without_folders(text: str) -> str:
    """Words for a visitor: of a path of the server only the file's name is left.

    >>> without_folders("no table at /srv/train/table.csv, see https://a.org/b/c, images/P1.png: 3/4")
    'no table at table.csv, see https://a.org/b/c, images/P1.png: 3/4'
    """
    return _FOLDERS.sub("", text)


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
