"""Features of a study's images: extracted before the folds because no label and no other patient enters them.

Patients whose image cannot be used leave the whole study, so that all predictors are compared on the same patients;
who left, and why, is written down and told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from osml.codes import Finding
from osml.cohort.build import BuiltCohort, require_outcomes
from osml.cohort.cohort import Cohort, Exclusion
from osml.features import Features, Unusable, compute_features, used_radiomics, with_features
from osml.files import write_csv
from osml.schema.load import LoadedSchema

MANY_LOST = 0.2
SHOWN = 4


@dataclass(frozen=True)
class WithImages:
    """A cohort with its features.

    unusable, regions : what `write_images` stores
    hashes : path as given → SHA-256, part of the run's identity
    """

    built: BuiltCohort
    findings: tuple[Finding, ...]
    unusable: tuple[tuple[str, Unusable], ...]
    regions: dict[str, list[dict[str, Any]]]
    hashes: dict[str, str]


def add_features(
    loaded: LoadedSchema,
    built: BuiltCohort,
    *,
    workers: int | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = print,
) -> WithImages:
    """Extract what the predictors need, and leave out patients whose image cannot be used."""
    cohort, names = built.cohort, used_radiomics(loaded.schema)
    if not names:
        return WithImages(built, (), (), {}, {})
    features = compute_features(
        loaded.schema, names, cohort.units, cohort.files, loaded.table_path.parent, workers=workers, quiet=quiet
    )
    gone = np.zeros(len(cohort), dtype=bool)
    gone[[lost.row for lost in features.unusable]] = True
    units = cohort.units if cohort.per_row else cohort.patients
    lines = _lines(built, loaded)
    exclusions = []
    for row in np.flatnonzero(gone):
        first = next(lost for lost in features.unusable if lost.row == row)
        exclusions.append(Exclusion(units[row], f"{first.input}: {first.reason}", lines[cohort.units[row]]))
    kept = with_features(cohort, features).excluding(gone, exclusions)
    findings = [*_lost(cohort, gone, features.unusable), *_shared(loaded, cohort, features)]
    n = int((~gone).sum())
    told = ", ".join(f"{name} {table.x.shape[1]:,}" for name, table in features.tables.items())
    say(f"features  {told} per {'row' if cohort.per_row else 'patient'}; {n} of {len(cohort)} with a usable image")
    for lost in features.unusable[:SHOWN]:
        say(f"  {units[lost.row]}: {lost.reason}: {lost.detail.splitlines()[0]}")
    if len(features.unusable) > SHOWN:
        say(f"  … and {len(features.unusable) - SHOWN} more; all stand in cohort/images.csv of the run")
    require_outcomes(kept, built.table.name)
    return WithImages(
        replace(built, cohort=kept),
        tuple(findings),
        tuple((units[lost.row], lost) for lost in features.unusable),
        {name: [{"unit": units[r["row"]], **r} for r in rows] for name, rows in features.regions.items()},
        features.hashes,
    )


def missing_files(loaded: LoadedSchema, cohort: Cohort) -> list[tuple[str, str, str]]:
    """(unit, input, path) of every path that leads nowhere: what `check` can say without reading images."""
    units = cohort.units if cohort.per_row else cohort.patients
    root = loaded.table_path.parent
    return [
        (units[i], key, path)
        for key, paths in cohort.files.items()
        for i, path in enumerate(paths)
        if path and not (root / path).exists()
    ]


def write_images(run: Path, images: WithImages) -> None:
    """cohort/images.csv: who has no usable image and why; cohort/regions_<input>.csv: what was measured."""
    rows = [(unit, lost.input, lost.reason, lost.detail) for unit, lost in images.unusable]
    if images.regions:
        write_csv(run / "cohort" / "images.csv", ("unit", "input", "reason", "detail"), rows)
    for name, lines in images.regions.items():
        header = ("unit", "region", "voxels", "clipped_share", "in_plane_only", "mask_drift_voxels", "one_level_images")
        write_csv(run / "cohort" / f"regions_{name}.csv", header, [tuple(line[h] for h in header) for line in lines])


def _lines(built: BuiltCohort, loaded: LoadedSchema) -> dict[str, str]:
    """Where each unit stands in the table."""
    block = loaded.schema.cohort
    ids = built.table.column(block.row or block.patient)
    return {name: built.table.where(i) for i, name in reversed(list(enumerate(ids)))}


def _lost(cohort: Cohort, gone: np.ndarray[Any, np.dtype[np.bool_]], unusable: Sequence[Unusable]) -> list[Finding]:
    if not gone.any():
        return []
    assert cohort.outcome is not None
    event = cohort.outcome.event
    reasons: dict[str, int] = {}
    for lost in unusable:
        reasons[f"{lost.input} {lost.reason}"] = reasons.get(f"{lost.input} {lost.reason}", 0) + 1
    evidence = f"{int(gone.sum())} of {len(gone)}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    if event.any() and (~event).any():
        evidence += (
            f"; lost {100 * gone[event].mean():.0f} % with and {100 * gone[~event].mean():.0f} % without the event"
        )
    found = [Finding("OSML020", evidence)]
    if gone.mean() > MANY_LOST:
        found.append(Finding("OSML022", evidence))
    return found


def _shared(loaded: LoadedSchema, cohort: Cohort, features: Features) -> list[Finding]:
    """Images, not masks: an empty mask may well equal another."""
    found = []
    for name in {loaded.schema.radiomics()[table].of for table in features.tables}:
        owner: dict[str, str] = {}
        for patient, path in zip(cohort.patients, cohort.files[name], strict=True):
            digest = features.hashes.get(path)
            if digest is None:
                continue
            first = owner.setdefault(digest, patient)
            if first != patient:
                found.append(Finding("OSML021", f"{first} and {patient} have the same image", name))
    return found
