"""Many slides segmented: one task per slide, whole or not at all; a broken slide does not stop the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from osml.engine import Progress, cores, run_tasks
from osml.errors import OsmlError
from osml.evaluation.necrosis import patient_rate
from osml.files import csv_text, write_json
from osml.imaging.errors import ImagingError, UnreadableError
from osml.imaging.slides_files import disk_full, write_whole
from osml.predictors.slide import FittedSlide, load_slide
from osml.predictors.slide_recipe import SlideCase, SlideRecipe
from osml.predictors.slide_segment import (
    BLOCKS,
    FACTS,
    NOT_A_REPORT,
    SlideResult,
    identity,
    rate_facts,
    result_of,
    segment_slide,
)

FAILURE_COLUMNS = ("slide", "reason", "detail")


@dataclass(frozen=True)
class SegmentJob:
    """What every task needs.

    model : folder that `FittedSlide.save` wrote
    folder : of the results, one folder per slide
    """

    model: Path
    folder: Path
    cache: Path | None
    device: str
    probabilities: bool


def segment_slides(
    job: SegmentJob, cases: Sequence[SlideCase], *, by_patient: bool, workers: int | None = None,
    trained: Mapping[str, str] | None = None, say: Callable[[str], None] = print, quiet: bool = False,
) -> int:  # fmt: skip
    """Segment slides; the number that failed. The same call continues: finished slides are not read again.

    Writes a folder per slide (see `segment_slide`), `slides.csv`, `failures.csv` and, with `by_patient`,
    `patients.csv` and `patients.json`: rates from the pooled areas of each patient's slides.

    Parameters
    ----------
    trained : slide → how it is known that the predictor was trained on its patient, who is said to be no new one; None:
        nobody knows, since the predictor lies in no bundle

    Raises
    ------
    OsmlError
        What concerns all slides: the predictor is damaged, weights are missing, the disk is full, or another process
        writes to the folder.
    """
    with _held(job.folder):
        swept(job.folder, [case.slide for case in cases])
        return _segment(job, cases, by_patient, workers, trained, say, quiet)


def swept(folder: Path, slides: Sequence[str]) -> int:
    """Remove what killed jobs left half-written of some slides, and nothing else; how many. No other job may run."""
    left = [path for slide in slides for path in folder.glob(f".{escape(slide)}.*.part*")]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(left)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OsmlError(
            f"another process is writing to {folder}",
            why="Two jobs would write the same tables.",
            do="Wait for it, or choose another folder.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _segment(
    job: SegmentJob, cases: Sequence[SlideCase], by_patient: bool, workers: int | None,
    trained: Mapping[str, str] | None, say: Callable[[str], None], quiet: bool,
) -> int:  # fmt: skip
    fitted = load_slide(job.model)
    fitted.encoder()  # a missing encoder is told once, and before any slide
    together = min(len(cases), cores() if workers is None else workers) or 1
    done: dict[int, dict[str, Any]] = {}
    failed: dict[int, ImagingError] = {}
    kept = 0
    progress = Progress("slides", len(cases), quiet=quiet)
    for outcome in run_tasks(partial(segment_task, job), cases, workers=together, progress=progress):
        if isinstance(outcome.error, ImagingError):
            failed[outcome.index] = outcome.error
        elif outcome.error is not None:
            raise outcome.error
        else:
            done[outcome.index], old = outcome.result
            kept += old
    results = [result_of(done[k], job.folder / cases[k].slide) for k in sorted(done)]
    _write_slides(job.folder, results, fitted.recipe, trained)
    found = [(cases[k].slide, failed[k].reason, str(failed[k])) for k in sorted(failed)]
    write_whole(job.folder / "failures.csv", csv_text(FAILURE_COLUMNS, found))
    if by_patient:
        _write_patients(job.folder, results, fitted.recipe, {cases[k].slide: cases[k].patient for k in failed}, trained)
    for k in sorted(failed):
        say(f"  {cases[k].slide}: {failed[k].reason}: {failed[k].what}")
    for result in results:
        say(f"  {line_of(result)}")
    if known := sorted({case.patient for case in cases if case.slide in (trained or {})}):
        say(
            f"  not new to this predictor, which was trained on them: {', '.join(known)}. Their maps look better than "
            "those of new patients; held-out ones stand in the run's necrosis_oof.csv"
        )
    say(
        f"wrote {job.folder / 'slides.csv'}: {len(done)} of {len(cases)} slides; {kept} were finished before, "
        f"{len(failed)} failed"
    )  # fmt: skip
    if failed:
        say(f"      {job.folder / 'failures.csv'}: why")
    say(NOT_A_REPORT)
    return len(failed)


def segment_task(job: SegmentJob, case: SlideCase) -> tuple[dict[str, Any], bool]:
    """Segment one slide; its facts, and whether it was finished before."""
    fitted = _loaded(job.model, (job.model / FACTS).stat().st_mtime_ns)
    place = job.folder / case.slide
    if not case.path.is_file():
        raise UnreadableError(f"{case.path}: no such file")
    if (facts := finished(place, identity(fitted, case, job.probabilities))) is not None:
        return facts, True
    made = segment_slide(fitted, case, place, cache=job.cache, device=job.device, probabilities=job.probabilities)
    return made.facts, False


def finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Facts of a slide that was segmented by the same predictor from the same file."""
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return facts if facts.get("settings") == settings else None


def line_of(result: SlideResult) -> str:
    """A slide in a line."""
    tissue = sum(list(result.areas_mm2.values())[1:])
    rate = "no tumour bed" if result.rate is None else f"necrosis {100 * result.rate:.1f} %"
    interval = (result.facts["necrosis"] or {}).get("interval")
    if interval is not None:
        rate += f" ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"
    return f"{result.slide}: {tissue:.2f} mm² of tissue, {rate}"


@lru_cache(maxsize=1)
def _loaded(folder: Path, changed: int) -> FittedSlide:
    """A worker reads the predictor once."""
    return load_slide(folder)


def _known(trained: Mapping[str, str] | None, slides: Sequence[str]) -> str:
    """A cell: how a patient with these slides is known, no, or unknown."""
    if trained is None:
        return "unknown"
    return next((trained[slide] for slide in slides if slide in trained), "no")


def _write_slides(
    folder: Path, results: Sequence[SlideResult], recipe: SlideRecipe, trained: Mapping[str, str] | None
) -> None:  # fmt: skip
    rows = [
        (r.slide, r.patient, *(round(r.areas_mm2[name], 6) for name in recipe.names[1:]),
         None if r.rate is None else round(r.rate, 6), _known(trained, [r.slide]), "; ".join(r.facts["notes"]))
        for r in results
    ]  # fmt: skip
    header = (
        "slide",
        "patient",
        *(f"{name}_mm2" for name in recipe.names[1:]),
        "necrosis_rate",
        "in_training",
        "notes",
    )
    write_whole(folder / "slides.csv", csv_text(header, rows))


def _write_patients(
    folder: Path, results: Sequence[SlideResult], recipe: SlideRecipe, failed: Mapping[str, str],
    trained: Mapping[str, str] | None,
) -> None:  # fmt: skip
    """Rates from pooled areas; a patient of whom a slide failed is named with it."""
    if recipe.bed is None:
        raise OsmlError("this predictor counts no necrosis rate, so that patients have none")
    rows, facts = [], []
    for patient in dict.fromkeys(r.patient for r in results):
        own = [r for r in results if r.patient == patient]
        blocks = [_blocks(r.folder, len(recipe.names)) for r in own]
        names = [r.slide for r, part in zip(own, blocks, strict=True) for _ in range(len(part))]
        found = rate_facts(patient_rate(np.concatenate(blocks), names, recipe.bed), recipe)
        missing = sorted(slide for slide, of in failed.items() if of == patient)
        known = _known(trained, [*(r.slide for r in own), *missing])
        slides = [r.slide for r in own]
        facts.append({"patient": patient, "slides": slides, "failed": missing, "in_training": known, **found})
        limits = found["interval"] or {"low": None, "high": None}
        rows.append(
            (
                patient,
                len(own),
                len(missing),
                found["rate"],
                limits["low"],
                limits["high"],
                found["tumour_bed_mm2"],
                known,
            )
        )
    header = ("patient", "slides", "slides_failed", "necrosis_rate", "low", "high", "tumour_bed_mm2", "in_training")
    write_whole(folder / "patients.csv", csv_text(header, rows))
    write_json(folder / "patients.json", {"statement": NOT_A_REPORT, "patients": facts})


def _blocks(folder: Path, classes: int) -> np.ndarray[Any, Any]:
    lines = (folder / BLOCKS).read_text(encoding="utf-8").splitlines()[1:]
    return np.array([[float(cell) for cell in line.split(",")] for line in lines]).reshape(-1, classes)
