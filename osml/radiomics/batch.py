"""Extraction over a table of images: processes, cache, failures as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from osml.cache import default_folder
from osml.engine import Progress
from osml.errors import InvalidInputError
from osml.files import atomic_write, write_csv
from osml.radiomics.jobs import Failure, Job, Work, run_works
from osml.radiomics.names import feature_dictionary
from osml.radiomics.settings import Settings, read_settings
from osml.radiomics.table import FACTS, FeatureTable, parquet_bytes, wide

REQUIRED, OPTIONAL = ("patient", "image", "mask"), ("name", "body")


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


def extract_all(tasks: list[Task], *, workers: int | None = None, progress: Progress | None = None) -> Extracted:
    """Run all tasks; what fails becomes a reason and does not stop the others."""
    works = [Work(Job(f"{t.patient}|{t.name}", t.patient, t.image, t.mask, t.body), t.settings, t.cache) for t in tasks]
    done = dict(run_works(works, workers=workers, progress=progress))
    row_of: dict[str, int] = {}
    reasons: list[list[Failure]] = []
    parts: list[tuple[int, str, FeatureTable]] = []
    from_cache = 0
    for index, task in enumerate(tasks):  # in the table's order, whoever finished first
        row = row_of.setdefault(task.patient, len(row_of))
        if row == len(reasons):
            reasons.append([])
        result, cached = done[index]
        from_cache += cached
        if isinstance(result, Failure):
            reasons[row].append(result)
        else:
            parts.append((row, task.name, result))
    head = pd.DataFrame({
        "patient": list(row_of),
        "reason": ["; ".join(f.reason for f in failed) for failed in reasons],
        "detail": ["; ".join(f.message for f in failed) for failed in reasons],
    }, dtype=object)  # fmt: skip
    table = pd.concat([head, wide(len(head), parts)], axis=1)
    return Extracted(table, sum(map(bool, reasons)), from_cache)


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
        atomic_write(out, parquet_bytes(done.table))
    else:
        write_csv(out, columns, done.table.astype(object).where(done.table.notna(), None).values.tolist())
    features = [c for c in columns if "|" in c and c.rsplit("|", 1)[1] not in FACTS]
    words = feature_dictionary(features, chosen)
    write_csv(out.with_suffix(".dictionary.csv"), list(map(str, words)), words.values.tolist())
    for patient, reason, detail in done.table[["patient", "reason", "detail"]].to_numpy().tolist():
        if reason:
            say(f"  {patient}: {reason}: {detail.splitlines()[0]}")
    patients = len(done.table)
    say(
        f"wrote {out}: {patients} patients, {patients - done.failed} complete, {done.failed} with a reason, "
        f"{len(features)} features, {done.from_cache} of {len(tasks)} images from the cache"
    )
    return done.failed
