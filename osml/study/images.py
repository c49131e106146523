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
from osml.cohort.build import BuiltCohort
from osml.cohort.cohort import ClassOutcome, Cohort, Exclusion
from osml.cohort.outcomes import require_outcomes
from osml.features import NO_PATH, Features, Unusable, compute_features, used_radiomics, with_features
from osml.features.images import ImagePlan, Images, compute_images, image_plans, with_images
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
    plans = image_plans(loaded.schema)
    if not names and not plans:
        return WithImages(built, (), (), {}, {})
    features = compute_features(
        loaded.schema, names, cohort.units, cohort.files, loaded.table_path.parent, workers=workers, quiet=quiet
    )
    if plans:
        images = _network_images(loaded, cohort, tuple(plans.values()), quiet)
        cohort = with_images(cohort, images)
        built = replace(built, cohort=cohort)
        features = replace(
            features, unusable=(*features.unusable, *images.unusable), hashes=features.hashes | images.hashes
        )
    features = replace(features, unusable=_without_legal_gaps(loaded, features.unusable))
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
    counts = [f"{name} {table.x.shape[1]:,}" for name, table in features.tables.items()]
    counts += [f"{len(table.row)} images of {key.split('@')[0]}" for key, table in cohort.images.items()]
    told = ", ".join(dict.fromkeys(counts))
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


def _without_legal_gaps(loaded: LoadedSchema, unusable: Sequence[Unusable]) -> tuple[Unusable, ...]:
    """Under `missing: impute` a network does without an image for which no path is given; a Rad-score does not."""
    schema = loaded.schema
    scored = {item for block in schema.predictors.values() if block.kind == "radscore" for item in block.inputs}
    legal = schema.missing == "impute"
    return tuple(u for u in unusable if not (legal and u.reason == NO_PATH and u.input not in scored))


def _network_images(loaded: LoadedSchema, cohort: Cohort, plans: Sequence[ImagePlan], quiet: bool) -> Images:
    from osml.nets.device import choose_device

    names = {plan.input for plan in plans}
    return compute_images(
        loaded.schema,
        plans,
        cohort.units,
        {name: cohort.paths(name) for name in names},
        {name: cohort.files.get(f"{name}.mask", ()) for name in names},
        loaded.table_path.parent,
        device=choose_device(),
        quiet=quiet,
    )


def missing_files(loaded: LoadedSchema, cohort: Cohort) -> list[tuple[str, str, str]]:
    """(unit, input, path) of every path that leads nowhere: what `check` can say without reading images."""
    units = cohort.units if cohort.per_row else cohort.patients
    root = loaded.table_path.parent
    return [
        (units[i], key, path)
        for key in cohort.files
        for i, paths in enumerate(cohort.paths(key))
        for path in paths
        if not (root / path).exists()
    ]


def write_images(run: Path, images: WithImages) -> None:
    """cohort/images.csv: who has no usable image and why; cohort/regions_<input>.csv: what was measured."""
    rows = [(unit, lost.input, lost.reason, lost.detail) for unit, lost in images.unusable]
    if images.hashes or rows:
        write_csv(run / "cohort" / "images.csv", ("unit", "input", "reason", "detail"), rows)
    for name, lines in images.regions.items():
        if not lines:
            continue
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
    reasons: dict[str, int] = {}
    for _, told in sorted({(lost.row, f"{lost.input} {lost.reason}") for lost in unusable}):  # one may have several
        reasons[told] = reasons.get(told, 0) + 1
    evidence = f"{int(gone.sum())} of {len(gone)}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    groups = cohort.outcome_groups()
    if isinstance(cohort.outcome, ClassOutcome):
        evidence += "; lost " + ", ".join(f"{100 * gone[g].mean():.0f} % of {name}" for name, g in groups.items())
    elif all(g.any() for g in groups.values()):
        yes, no = groups.values()
        evidence += f"; lost {100 * gone[yes].mean():.0f} % with and {100 * gone[no].mean():.0f} % without the event"
    found = [Finding("OSML020", evidence)]
    if gone.mean() > MANY_LOST:
        found.append(Finding("OSML022", evidence))
    return found


def _shared(loaded: LoadedSchema, cohort: Cohort, features: Features) -> list[Finding]:
    """Images, not masks: an empty mask may well equal another."""
    found = []
    used = {loaded.schema.radiomics()[table].of for table in features.tables}
    for name in sorted(used | {plan.input for plan in image_plans(loaded.schema).values()}):
        owner: dict[str, str] = {}
        for patient, paths in zip(cohort.patients, cohort.paths(name), strict=True):
            for digest in (features.hashes.get(path) for path in paths):
                if digest is None or owner.setdefault(digest, patient) == patient:
                    continue
                first = owner[digest]
                found.append(Finding("OSML021", f"{first} and {patient} have the same image", name))
    return found
