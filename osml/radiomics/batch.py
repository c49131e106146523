"""Extraction over a table of images: processes, cache, failures as rows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from osml.cache import Cache, content_key, default_folder
from osml.engine import Progress, run_tasks
from osml.errors import InvalidInputError, OsmlError
from osml.files import atomic_write, sha256_file, write_csv
from osml.imaging.errors import ImagingError, UnreadableError
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import simple_itk
from osml.radiomics import extract
from osml.radiomics.names import feature_dictionary
from osml.radiomics.settings import Settings, read_settings, resolved

# Part of every cache key: raise it when any value changes.
ENGINE_VERSION = 1
REQUIRED, OPTIONAL = ("patient", "image", "mask"), ("name", "body")
_FACTS = ("voxels", "clipped_share", "in_plane_only", "mask_drift_voxels", "one_level_images")


@dataclass(frozen=True)
class Task:
    """One image of one patient."""

    patient: str
    name: str
    image: Path
    mask: Path
    body: Path | None
    settings: Settings
    cache: Path


@dataclass(frozen=True)
class Extracted:
    """The outcome of a batch.

    Attributes
    ----------
    table : one row per patient: `patient`, `reason` and `detail` (empty where all went well), then the columns
        `name|region|feature`; NaN for what failed
    failed : patients with a reason
    from_cache : images that were not computed again
    """

    table: pd.DataFrame
    failed: int
    from_cache: int


def read_images_table(path: Path, settings: Settings, cache: Path) -> list[Task]:
    """Tasks from a CSV with columns patient, image, mask and optionally name, body; paths relative to the CSV.

    Raises
    ------
    InvalidInputError
        Columns are missing or unknown, a cell is empty, or a patient has the same image name twice.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [c for c in REQUIRED if c not in table]
    unknown = [str(c) for c in table if c not in REQUIRED + OPTIONAL]
    if missing or unknown:
        words = "; ".join(
            f"{what} {', '.join(found)}" for what, found in (("missing:", missing), ("unknown:", unknown)) if found
        )
        raise InvalidInputError(
            f"{path}: columns {words}", do="Columns are patient, image, mask, and if needed name, body."
        )
    if table.empty:
        raise InvalidInputError(f"{path}: no rows")
    names = table["name"] if "name" in table else pd.Series("image", index=table.index)
    tasks, seen = [], set()
    for line, (row, name) in enumerate(zip(table.to_dict("records"), names, strict=True), start=2):
        if not all(row[c].strip() for c in REQUIRED) or not name or "|" in name:
            raise InvalidInputError(
                f"{path}:{line}: patient, image, mask and name must not be empty, nor name hold '|'"
            )
        if (row["patient"], name) in seen:
            raise InvalidInputError(f"{path}:{line}: patient {row['patient']} has image {name!r} twice")
        seen.add((row["patient"], name))
        body = row.get("body", "")
        tasks.append(
            Task(row["patient"], name, path.parent / row["image"], path.parent / row["mask"],
                 path.parent / body if body else None, settings, cache)
        )  # fmt: skip
    return tasks


def extract_one(task: Task) -> tuple[pd.DataFrame, bool]:
    """Features of one task, and whether they came from the cache.

    Raises
    ------
    ImagingError
        With the patient in its message.
    """
    files = [task.image, task.mask, *([task.body] if task.body else [])]
    for file in files:
        if not file.is_file():
            raise UnreadableError(f"{task.patient}: {file}: no such file")
    facts = json.dumps({"engine": ENGINE_VERSION, "body": task.body is not None, **resolved(task.settings)})
    key = content_key([facts, *map(sha256_file, files), *(file.name.partition(".")[2] for file in files)])
    cache = Cache(task.cache / "radiomics", ".parquet")
    kept = cache.load(key)
    if kept is not None:
        return pd.read_parquet(io.BytesIO(kept)), True
    simple_itk().ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        body = read_mask(task.body) if task.body else None
        table = extract(read_image(task.image), read_mask(task.mask), task.settings, body=body)
    except ImagingError as error:
        raise type(error)(f"{task.patient}: {error.what}", why=error.why, do=error.do) from error
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    cache.store(key, buffer.getvalue())
    return table, False


def extract_all(tasks: list[Task], *, workers: int | None = None, progress: Progress | None = None) -> Extracted:
    """Run all tasks; what fails becomes a reason and does not stop the others."""
    rows: dict[str, dict[str, Any]] = {
        task.patient: {"patient": task.patient, "reason": "", "detail": ""} for task in tasks
    }
    results: dict[int, dict[str, Any]] = {}
    from_cache = 0
    for outcome in run_tasks(extract_one, tasks, workers=workers, progress=progress):
        if outcome.error is None:
            table, cached = outcome.result
            from_cache += cached
            results[outcome.index] = _wide(table, tasks[outcome.index].name)
            continue
        if not isinstance(outcome.error, OsmlError):
            raise outcome.error
        reason = getattr(outcome.error, "reason", "refused")
        results[outcome.index] = {"reason": reason, "detail": outcome.error.what}
    for index, task in enumerate(tasks):  # in the table's order, whoever finished first
        found = results[index]
        row = rows[task.patient]
        for column in ("reason", "detail"):
            text = found.pop(column, "")
            row[column] = "; ".join(part for part in (row[column], text) if part)
        row.update(found)
    table = pd.DataFrame(list(rows.values()))
    return Extracted(table, int((table["reason"] != "").sum()), from_cache)


def _wide(table: pd.DataFrame, name: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for row in table.to_dict("records"):
        region = row.pop("region")
        out |= {f"{name}|{region}|{feature}": value for feature, value in row.items()}
    return out


def extract_file(
    images: Path,
    out: Path,
    *,
    settings: Path | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> int:
    """`osml radiomics extract`: write the feature table (.parquet or .csv) and its dictionary; failed patients.

    The dictionary is `<out>.dictionary.csv`: filter, class, IBSI tag and crop mode of every column.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise InvalidInputError(f"{out}: the table is written as .parquet or .csv")
    chosen = read_settings(settings) if settings else Settings()
    tasks = read_images_table(images, chosen, cache or default_folder())
    done = extract_all(tasks, workers=workers, progress=Progress("radiomics", len(tasks), quiet=quiet))
    columns = [str(c) for c in done.table]
    if out.suffix == ".parquet":
        buffer = io.BytesIO()
        done.table.to_parquet(buffer, index=False)
        atomic_write(out, buffer.getvalue())
    else:
        write_csv(out, columns, done.table.astype(object).where(done.table.notna(), None).values.tolist())
    features = [c for c in columns if "|" in c and c.rsplit("|", 1)[1] not in _FACTS]
    words = feature_dictionary(features, chosen)
    write_csv(out.with_suffix(".dictionary.csv"), list(map(str, words)), words.values.tolist())
    for row in done.table[done.table["reason"] != ""].itertuples():
        say(f"  {row.patient}: {row.reason}: {str(row.detail).splitlines()[0]}")
    patients = len(done.table)
    say(
        f"wrote {out}: {patients} patients, {patients - done.failed} complete, {done.failed} with a reason, "
        f"{len(features)} features, {done.from_cache} of {len(tasks)} images from the cache"
    )
    return done.failed
