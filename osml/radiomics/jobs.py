"""Extraction of many images: one pool of processes, one cache, failures as values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd

from osml.cache import Cache, content_key, default_folder
from osml.engine import Progress, cores, run_tasks
from osml.errors import InvalidInputError, MissingExtraError, OsmlError, WorkerLostError
from osml.files import sha256_file
from osml.imaging.errors import ImagingError
from osml.imaging.read import image_files, read_image, read_mask
from osml.imaging.volume import simple_itk
from osml.radiomics import extract, require_packages
from osml.radiomics.perturb import perturb
from osml.radiomics.settings import Settings, resolved
from osml.radiomics.table import FeatureTable, from_bytes, table_of, to_bytes

# Part of every cache key: raise it when any value changes.
ENGINE_VERSION = 2
# A process that waits for another one's result gives up after this long and computes it itself.
WAIT_S = 3600.0


@dataclass(frozen=True)
class Job:
    """One image of one patient.

    Attributes
    ----------
    id : key of the result, e.g. `P0042|t2|reader2`
    patient : for messages
    image, mask, body : files; the body may be None
    draw : None, or the number of a perturbation (`osml.radiomics.perturb.perturb`)
    seed : of the perturbation
    """

    id: str
    patient: str
    image: Path
    mask: Path
    body: Path | None = None
    draw: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a job has no features: `reason` is the short code of the error, `message` says the rest."""

    reason: str
    message: str


@dataclass(frozen=True)
class Work:
    """A job with its settings and the cache's folder."""

    job: Job
    settings: Settings
    cache: Path
    key: str = ""


def extract_jobs(
    jobs: Sequence[Job],
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, pd.DataFrame | Failure]:
    """Features of every job by its id, in the order of `jobs`; none ends the others.

    Parameters
    ----------
    jobs : with distinct ids; equal content under several ids is computed once
    settings : default `Settings()`
    cache : folder; default: `$OSML_CACHE` or the user's cache. Processes that run at the same time share it and wait
        for each other instead of computing twice. What is finished is kept on Ctrl-C and on a kill.
    workers : processes, one thread each; None starts them only when that pays
    progress : told of every job, also of those from the cache

    Returns
    -------
    dict id → DataFrame as `extract` returns it, or Failure

    Raises
    ------
    InvalidInputError
        Two jobs have one id.
    MissingExtraError
        A package that the settings need is not installed.
    """
    settings = settings or Settings()
    ids = [job.id for job in jobs]
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise InvalidInputError(f"two radiomics jobs have the id {twice!r}")
    folder = cache or default_folder()
    works = [Work(job, settings, folder) for job in jobs]
    done = dict(run_works(works, workers=workers, progress=progress))
    found = {job.id: done[index][0] for index, job in enumerate(jobs)}
    return {id_: value.frame() if isinstance(value, FeatureTable) else value for id_, value in found.items()}


def run_works(
    works: Sequence[Work], *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[tuple[int, tuple[FeatureTable | Failure, bool]]]:
    """(index, (result, came from the cache)) of every work as it finishes."""
    for settings in {work.settings for work in works}:
        require_packages(settings)
    names: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    same: dict[str, list[int]] = {}
    paths = sorted({path for work in works for path in _files(work.job)})
    with ThreadPoolExecutor(min(8, 2 * cores())) as pool:  # hashing and reading let go of the interpreter lock
        contents = dict(zip(paths, pool.map(_content, paths), strict=True))
        for index, (key, data) in enumerate(pool.map(lambda work: _look_up(work, contents), works)):
            if isinstance(key, Failure) or data is not None:
                if progress is not None:
                    progress.step()
                yield index, (key, False) if isinstance(key, Failure) else (from_bytes(data or b"", names), True)
            else:
                same.setdefault(key, []).append(index)
    todo = [Work(works[at[0]].job, works[at[0]].settings, works[at[0]].cache, key) for key, at in same.items()]
    broken: list[BaseException] = []
    for outcome in run_tasks(compute, todo, workers=workers, progress=progress):
        at = same[todo[outcome.index].key]
        if progress is not None:
            for _ in at[1:]:
                progress.step()
        if outcome.error is None:
            for index in at:
                yield index, (outcome.result, False)
        elif isinstance(outcome.error, (OsmlError, MemoryError)) and not isinstance(outcome.error, MissingExtraError):
            for index in at:
                yield index, (_failure(outcome.error, works[index].job), False)
        else:
            broken.append(outcome.error)
    if broken:  # a fault of osml, not of an image: loud, but after the others are done and kept
        raise broken[0]


def compute(work: Work) -> FeatureTable:
    """Features of one work; stored in the cache before they are returned."""
    from filelock import FileLock, Timeout

    cache = _cache(work.cache)
    lock = FileLock(work.cache / "radiomics" / f"{work.key}.lock", timeout=WAIT_S)
    lock_path = Path(lock.lock_file)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Timeout):  # then the other process hangs, and computing twice does no harm
        lock.acquire()
    try:
        kept = cache.load(work.key)
        if kept is not None:
            return from_bytes(kept)
        table = table_of(_extracted(work.job, work.settings))
        cache.store(work.key, to_bytes(table))
        return table
    finally:
        lock_path.unlink(missing_ok=True)
        lock.release()


def _extracted(job: Job, settings: Settings) -> pd.DataFrame:
    simple_itk().ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = read_image(job.image)
    # Overlapping segments of a DICOM segmentation can only be read one at a time: `others: keep` asks for no more.
    mask = read_mask(job.mask, image, label=settings.label if settings.others == "keep" else None)
    body = read_mask(job.body, image) if job.body else None
    if job.draw is not None:
        image, mask = perturb(image, mask, settings, draw=job.draw, seed=job.seed)
    return extract(image, mask, settings, body=body)


def _cache(folder: Path) -> Cache:
    return Cache(folder / "radiomics", ".features")


def _files(job: Job) -> list[Path]:
    return [job.image, job.mask, *([job.body] if job.body else [])]


def _look_up(work: Work, contents: Mapping[Path, str | OSError | ImagingError]) -> tuple[str | Failure, bytes | None]:
    """Key and cached bytes of a work, or why its files cannot be read."""
    job = work.job
    facts = {"version": ENGINE_VERSION, "body": job.body is not None, **resolved(work.settings)}
    del facts["device"]  # the counts are the same
    if work.settings.engine == "pyradiomics":
        facts["pyradiomics"] = _pyradiomics_version()
    if job.draw is not None:
        facts |= {"draw": job.draw, "seed": job.seed}
    parts = [json.dumps(facts)]
    for file in _files(job):
        content = contents[file]
        if not isinstance(content, str):
            return _failure(content, job), None
        # A suffix decides how a file is read; the rest of its name does not count.
        parts += [content, file.name.partition(".")[2]]
    key = content_key(parts)
    return key, _cache(work.cache).load(key)


def _pyradiomics_version() -> str:
    found = []
    for name in ("pyradiomics", "pyradiomics-cuda"):  # both carry the module `radiomics`
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def _content(path: Path) -> str | OSError | ImagingError:
    """Hash of the names and contents of all files of an image (a DICOM series, the raw data of a header); an error is
    a value here."""
    try:
        files = image_files(path)
        if len(files) == 1:
            return sha256_file(files[0])  # whatever its name: the same image is computed once
        return content_key([text for file in files for text in (file.name, sha256_file(file))])
    except (OSError, ImagingError) as error:
        return error


def _failure(error: BaseException, job: Job) -> Failure:
    if isinstance(error, MemoryError):
        return Failure("memory", f"{job.patient}: {job.image}: not enough memory for this image")
    if isinstance(error, WorkerLostError):
        return Failure("memory", f"{job.patient}: {job.image}: {error.what}")
    if isinstance(error, OSError):
        return Failure("unreadable", f"{job.patient}: {error}")
    reason = str(getattr(error, "reason", "refused"))
    return Failure(reason, f"{job.patient}: {getattr(error, 'what', error)}")
