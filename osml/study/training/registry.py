"""What a finished job gives away: its results, its report, and its bundle, published whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from osml.errors import OsmlError, RunError
from osml.files import csv_text
from osml.runs.results import Results
from osml.serving import available_predictors, bundle_folder, load
from osml.serving.launch import REGISTRY_VARIABLE, RUN_VARIABLE
from osml.study.training.process import state
from osml.study.training.workspace import Job, without_folders

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_RESERVED = {"latest", "bundle", "runs", "jobs"}
_STAGING = ".publishing"
# What may leave a run: results and drawings; no file with a line per patient.
_TAKEN = ("report", "tables", "nomogram")
_FILES = ("metrics.json", "leaderboard.csv", "model_card.md", "schema.yaml", "plan.yaml")
_FAILURES = ("predictor", "stage", "kind", "message")  # no traceback: it tells how the server is built


def registry(environment: Mapping[str, str] | None = None) -> Path:
    """The folder into which bundles are published: the app's registry, else its folder of runs.

    Raises
    ------
    RunError
        The app shows one run or bundle only.
    """
    environment = os.environ if environment is None else environment
    if environment.get(REGISTRY_VARIABLE):
        return Path(environment[REGISTRY_VARIABLE])
    folder = Path(environment.get(RUN_VARIABLE) or "runs")
    try:
        bundle_folder(folder)
    except RunError:
        return folder
    raise RunError(
        "the app shows one study, so there is no place for another", do="Start it with a folder of runs, or a registry."
    )


def result(job: Job) -> Results:
    """The results of a finished job."""
    outcome = state(job).outcome
    if "run" not in outcome:
        raise RunError("this job is not finished")
    return Results(job.path / outcome["run"])


def report_html(job: Job) -> bytes | None:
    """The report as one file that needs no network; None where it was not made."""
    file = result(job).path / "report" / "report.html"
    return file.read_bytes() if file.is_file() else None


def results_zip(job: Job) -> bytes:
    """Report, figures, tables, nomograms, metrics and failures; nothing with a line per patient."""
    run = result(job).path
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        files = [run / name for name in _FILES]
        files += [path for folder in _TAKEN for path in sorted((run / folder).rglob("*"))]
        for path in files:
            if path.is_file():
                archive.write(path, path.relative_to(run).as_posix())
        archive.writestr("failures.csv", failures(job)[0])
    return stream.getvalue()


def failures(job: Job) -> tuple[str, list[str]]:
    """The run's failures as CSV without tracebacks and folders of the server; distinct reasons, each with its count."""
    file = result(job).path / "failures.csv"
    found = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    rows = [tuple(without_folders(row[name]) for name in _FAILURES) for row in found]
    met = Counter(f"{predictor}: {message}" for predictor, _, _, message in rows)
    told = [f"{reason} ({n} times)" if n > 1 else reason for reason, n in met.most_common()]
    return csv_text(_FAILURES, rows), told


def check_name(name: str) -> None:
    """Refuse a name that is no plain folder name.

    Raises
    ------
    RunError
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise RunError(
            f"{name[:60]!r} is no name for a published model",
            do="Use small letters, digits, '-' and '_', at most 60, beginning with a letter or digit; not "
            f"{', '.join(sorted(_RESERVED))}.",
        )


def publish(job: Job, name: str, folder: Path, *, trust: bool = False) -> Path:
    """Copy the bundle of a finished job into the registry, verified as it will be served.

    Parameters
    ----------
    name : under which it is shown
    folder : the registry
    trust : whether files that run code may be read while verifying

    Returns
    -------
    Path
        The published bundle.

    Raises
    ------
    RunError
        A bad name, a name that is taken, or a job that is not finished or has no model.
    VerificationError, TrustError
        The copy does not reproduce its golden cases; nothing was published.
    """
    check_name(name)
    source = result(job).path / "bundle"
    if not (source / "manifest.json").is_file():
        raise RunError("this job has no bundle: every predictor failed", do="See the failures.")
    place = folder / name
    if place.exists():
        raise RunError(f"there is a published model {name!r} already; it was not touched", do="Choose another name.")
    staging = folder / _STAGING / secrets.token_hex(8)
    try:
        staging.mkdir(parents=True)
        shutil.copytree(source, staging / "bundle", symlinks=True)
        predictors = available_predictors(staging / "bundle")
        if not predictors:
            raise RunError("this job has no model: every predictor failed", do="See the failures.")
        for predictor in predictors:
            load(staging / "bundle", predictor, trust=trust)
        _rename(staging, place, name)
    except OSError as error:
        raise _unpublished(error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # gone after the rename
    job.remember(published=[*job.facts().get("published", []), name])
    return place / "bundle"


def _rename(staging: Path, place: Path, name: str) -> None:
    try:
        place.mkdir()  # whoever makes the folder has the name; a folder is renamed only over an empty one
    except FileExistsError:
        raise RunError(f"there is a published model {name!r} already", do="Choose another name.") from None
    try:
        staging.rename(place)
    except OSError as error:
        place.rmdir()
        raise _unpublished(error) from None


def _unpublished(error: OSError) -> OsmlError:
    return OsmlError(
        f"the bundle could not be published: {error.strerror or type(error).__name__}",
        do="Whoever runs the server has to see to the folder of published models. The job keeps its results.",
    )
