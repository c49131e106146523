"""Segmentation of one slide in the background: started, watched, cancelled; its files go with the browser's session."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import osml
from osml.errors import OsmlError, RunError
from osml.files import read_json, write_json
from osml.serving.regions import RegionModel

AT_ONCE = 2
REGION_S = 120.0
SEGMENT_S = 6 * 3600.0
CLOSE_S = 5.0

Recorded = Callable[[], AbstractContextManager[Any]]


class SlideJob:
    """A slide that is being segmented, or was; not shared between visitors.

    The process ends and the folder is removed when the last reference is dropped.

    name : of the slide, as the list has it
    """

    def __init__(self, model: RegionModel, slide: Path, name: str, taken: Any = None) -> None:
        self.name, self.slide, self.model_hash, self.predictor = name, slide, model.bundle.model_hash, model.name
        place = tempfile.TemporaryDirectory(prefix="osml-slide-")
        self._folder = Path(place.name)
        job = {"kind": "segment", "model": str(model.folder.resolve()), "slide": str(slide), "name": name}
        write_json(self._folder / "job.json", job)
        self._process, self._record = _started(self._folder), _Record(taken)
        self._began = time.monotonic()
        self._end = weakref.finalize(self, _ended, self._process, place, self._record)
        # It knows the process and not this object, which would otherwise never be dropped.
        told = (self._process, self._folder)
        self._watch = threading.Thread(target=self._record.watch, args=told, daemon=True)

    def watch(self, ending: ExitStack) -> None:
        """Have the end waited for, and `ending` left then."""
        self._record.ending = ending
        self._watch.start()

    @property
    def running(self) -> bool:
        """Whether the process still works, or its end is not recorded yet."""
        return self._watch.is_alive()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    @property
    def stage(self) -> str:
        """What the process is at, in words."""
        file = self._folder / "stage.json"
        return str(read_json(file)["stage"]) if file.is_file() else "starting"

    @property
    def failure(self) -> str:
        """Why there is no result; "" while it runs and where there is one."""
        if self.running:
            return ""
        if self._record.error:
            return self._record.error
        file = self._folder / "answer.json"
        if not file.is_file():
            return f"segmenting {self.name} ended without a result (code {self._process.returncode})"
        return str(read_json(file).get("refused", ""))

    @property
    def result(self) -> Path | None:
        """Folder of the result: `slide.json`, `classes.geojson`, `areas.csv`, `classes.ome.tif` and pictures."""
        done = not self.running and not self.failure
        return self._folder / "result" if done else None

    def close(self) -> None:
        """Stop the process and remove everything."""
        self._end()
        self._watch.join(CLOSE_S)


class NoAnswerError(Exception):
    """The process ended without an answer."""


class _Record:
    """How a job ends, told to whoever records it: in a thread, because no page may be open then.

    error : why the end could not be recorded; the result is not shown then
    """

    def __init__(self, taken: Any) -> None:
        self.stopped, self.ending = threading.Event(), ExitStack()
        self.error = ""
        self._taken = taken

    def watch(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        """Wait for the end, stop what takes too long, and record it."""
        try:
            process.wait(SEGMENT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        try:
            with self.ending:
                kind = "Stopped" if self.stopped.is_set() else _kind(folder / "answer.json")
                if kind and self._taken is not None:
                    self._taken.refuse(kind)
        except NoAnswerError:
            return  # recorded as failed, and told by `SlideJob.failure`
        except OsmlError as error:
            self.error = str(error)


def _kind(answer: Path) -> str:
    """Why there is no result, in a word; "" where there is one."""
    try:
        return "Refused" if "refused" in read_json(answer) else ""
    except FileNotFoundError:
        raise NoAnswerError from None


@dataclass
class SlideJobs:
    """Jobs of all visitors, counted so that a server is not overrun; each visitor holds only their own."""

    at_once: int = AT_ONCE
    _running: list[weakref.ref[SlideJob]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, model: RegionModel, slide: Path, name: str, recorded: Recorded = nullcontext) -> SlideJob:
        """Start a job.

        Parameters
        ----------
        recorded : entered before the job begins and left when it has ended; what it gives is told why there is no
            result

        Raises
        ------
        RunError
            Too many run already.
        """
        with ExitStack() as ending, self._lock:
            taken = ending.enter_context(recorded())
            self._running = [ref for ref in self._running if (job := ref()) is not None and job.running]
            if len(self._running) >= self.at_once:
                raise RunError(
                    f"{len(self._running)} slides are being segmented; no more run at once on this server",
                    do="Try again when one of them is finished.",
                )
            job = SlideJob(model, slide, name, taken)
            self._running.append(weakref.ref(job))
            job.watch(ending.pop_all())
            return job


def read_region(slide: Path, name: str, box: tuple[int, int, int, int], side: int) -> tuple[Any, dict[str, Any]]:
    """Pixels of a part of a slide, uint8 (h, w, 3), and facts: `step` is pixels of level 0 per pixel.

    Parameters
    ----------
    box : x, y, width, height in pixels of level 0
    side : pixels along the longer side, at most about twice as many

    Raises
    ------
    OsmlError
        The slide cannot be read, or not in time.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="osml-region-") as made:
        folder = Path(made)
        write_json(folder / "job.json", {"kind": "region", "slide": str(slide), "name": name, "box": box, "side": side})
        process = _started(folder)
        try:
            process.wait(REGION_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise OsmlError(f"{name}: the region was not read within {REGION_S:g} s") from None
        if not (folder / "answer.json").is_file():
            raise OsmlError(f"{name}: reading the region failed (code {process.returncode})")
        answer = read_json(folder / "answer.json")
        if "refused" in answer:
            raise OsmlError(answer["refused"])
        height, width = answer["shape"]
        raw = (folder / "region.u8").read_bytes()
    return np.frombuffer(raw, dtype=np.uint8).reshape(height, width, 3), answer


def _started(folder: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("slide_process.py")
    home = str(Path(osml.__file__).parents[1])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-P", str(script), str(folder)],
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes], place: tempfile.TemporaryDirectory[str], record: _Record) -> None:
    record.stopped.set()
    if process.poll() is None:
        process.kill()
    process.wait()
    place.cleanup()
