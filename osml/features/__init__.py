"""Row-local, label-free features of a cohort: radiomics of each unit's own image, cached by content.

A row depends on its unit's files and the schema's settings only, so features may be computed before any split. What
cannot be read or measured is a reason per unit, never a stop and never a filled-in value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, FeatureTable
from osml.errors import InvalidInputError, SchemaError
from osml.files import sha256_file
from osml.schema.images import LogFilter, RadiomicsInput
from osml.schema.load import LoadedSchema
from osml.schema.model import RadscorePredictor, Schema

if TYPE_CHECKING:
    import pandas as pd

    from osml.radiomics.settings import Settings

Files = Mapping[str, Sequence[str]]
# What a table of features says of the region itself; the rest are features.
DIAGNOSTICS = ("region", "voxels", "clipped_share", "in_plane_only", "mask_drift_voxels", "one_level_images")
NO_PATH = "no_path"


@dataclass(frozen=True)
class Unusable:
    """Why a unit has no features: `reason` is a short code, `detail` names the file and what was found."""

    row: int
    input: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Features:
    """Features of units.

    tables : radiomics input → features, one row per unit; a row of NaN where the unit is in `unusable`
    regions : per input, one line per unit and region: voxels, clipped share and so on
    hashes : path as given → SHA-256 of each file that was read (a folder: of its files)
    """

    tables: dict[str, FeatureTable]
    unusable: tuple[Unusable, ...]
    regions: dict[str, list[dict[str, Any]]]
    hashes: dict[str, str]


def used_radiomics(schema: Schema, predictors: Collection[str] | None = None) -> tuple[str, ...]:
    """The radiomics inputs that these predictors (default: all) rest on, in the schema's order."""
    names = schema.predictors if predictors is None else predictors
    wanted = {item for name in names for item in schema.ancestors(name)}
    return tuple(name for name in schema.radiomics() if name in wanted)


def settings_of(schema: Schema, name: str) -> Settings:
    """Extraction settings of a radiomics input."""
    from osml.radiomics.settings import MRI_RINGS, Settings

    block = schema.radiomics()[name]
    mask = schema.source(name).mask
    logs = [f.log for f in block.filters if isinstance(f, LogFilter)]
    filters = [f for f in block.filters if isinstance(f, str)] + (["log"] if logs else [])
    normalise = block.normalise
    return Settings(
        filters=tuple(filters),
        log_sigma_mm=tuple(sigma for widths in logs for sigma in widths),
        classes=block.classes,
        regions=MRI_RINGS if block.regions == "mri-rings" else block.regions,
        bin_width=25.0 if block.bins.width is None else block.bins.width,
        bin_count=block.bins.count,
        spacing_mm=block.spacing,
        normalise="none" if normalise is None else normalise.over,
        normalise_scale=1.0 if normalise is None else normalise.scale,
        in_plane=block.in_plane,
        crop=block.crop,
        leaving=block.leaving,
        label=None if mask is None else mask.label,
        ibsi=block.ibsi,
        engine=block.engine,
        others="subtract" if mask is None else mask.others,
    )


def check_settings(loaded: LoadedSchema) -> None:
    """Raise SchemaError, with its line, for settings or regions that no extraction could use."""
    schema, where = loaded.schema, loaded.where
    for name, block in schema.radiomics().items():
        try:
            regions = settings_of(schema, name).regions if block.mask is None else (block.mask,)
        except InvalidInputError as error:
            raise SchemaError(f"{where('inputs', name)}: {error.what}", why=error.why, do=error.do) from None
        for predictor, user in schema.predictors.items():
            if not isinstance(user, RadscorePredictor) or name not in user.inputs:
                continue
            if user.region not in ("best", *regions):
                raise SchemaError(
                    f"{where('predictors', predictor, 'region')}: {name!r} has no region {user.region!r}",
                    do=f"Regions: best, {', '.join(regions)}.",
                )


def compute_features(
    schema: Schema,
    names: Sequence[str],
    units: Sequence[str],
    files: Files,
    root: Path,
    *,
    readings: bool = True,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = True,
) -> Features:
    """Features of every unit.

    Parameters
    ----------
    names : radiomics inputs
    units : names of the units, for messages
    files : key (`input`, `input.mask`, …) → path of each unit, "" = missing; relative paths start at `root`
    readings : also what stability needs; a prediction does not
    cache : folder; default `osml.cache.default_folder()`
    quiet : no line of progress
    """
    from osml.cache import default_folder
    from osml.engine import Progress
    from osml.radiomics.jobs import Failure, Job, extract_jobs

    tables: dict[str, FeatureTable] = {}
    lost: list[Unusable] = []
    regions: dict[str, list[dict[str, Any]]] = {}
    hashes: dict[str, str] = {}
    tiles = [name for name in names if schema.radiomics()[name].mask is not None]
    for name in tiles:
        tables[name], gone = _tile_table(schema, name, units, files, root, hashes, cache, workers, quiet)
        lost += gone
        regions[name] = []
    plans = {name: _plan(schema, name, files, readings) for name in names if name not in tiles}
    progress = Progress("radiomics", sum(len(plan.items) for plan in plans.values()), quiet=quiet)
    for name, plan in plans.items():
        block = schema.radiomics()[name]
        lost += plan.unusable
        jobs = [
            Job(
                id=f"{item.row}:{item.reading}",
                patient=units[item.row],
                image=root / item.image,
                mask=root / item.mask,
                body=root / item.body if item.body else None,
                draw=item.draw,
                seed=schema.validation.seed,
            )
            for item in plan.items
        ]
        found = extract_jobs(
            jobs, settings_of(schema, name), cache=cache or default_folder(), workers=workers, progress=progress
        )
        readable: dict[str, pd.DataFrame] = {}
        for job, item in zip(jobs, plan.items, strict=True):
            result = found[job.id]
            if not isinstance(result, Failure):
                readable[job.id] = result
            elif item.reading == 0:
                lost.append(Unusable(item.row, name, result.reason, result.message))
            for path in (item.image, item.mask, item.body):
                if path and path not in hashes and (root / path).exists():
                    hashes[path] = digest_of_image(root / path)
        tables[name], regions[name] = _gathered(schema, name, block, readable, plan)
    return Features(tables, tuple(lost), regions, hashes)


def _tile_table(
    schema: Schema,
    name: str,
    units: Sequence[str],
    files: Files,
    root: Path,
    hashes: dict[str, str],
    cache: Path | None,
    workers: int | None,
    quiet: bool,
) -> tuple[FeatureTable, list[Unusable]]:
    """Radiomics of pictures whose masks are found in their colours."""
    from osml.cache import default_folder
    from osml.engine import Progress
    from osml.features.tiles import measure_tiles, tile_settings
    from osml.imaging.errors import ImagingError

    block = schema.radiomics()[name]
    paths = files[block.of]
    lost = [Unusable(i, name, NO_PATH, f"{block.of}: no path is given") for i, path in enumerate(paths) if not path]
    here = [i for i, path in enumerate(paths) if path]
    found: dict[int, dict[str, float]] = {}
    progress = Progress(name, len(here), quiet=quiet)
    settings = tile_settings(schema, name)
    wanted = [root / paths[i] for i in here]
    for k, result in measure_tiles(
        wanted, settings, cache=cache or default_folder(), workers=workers, progress=progress
    ):
        if isinstance(result, ImagingError):
            lost.append(Unusable(here[k], name, result.reason, f"{units[here[k]]}: {result.what}"))
        else:
            found[here[k]] = result
            hashes[paths[here[k]]] = digest_of_image(root / paths[here[k]])
    columns = tuple(next(iter(found.values()), {}))
    x = np.full((len(paths), len(columns)), np.nan)
    for i, values in found.items():
        x[i] = [values[column] for column in columns]
    return FeatureTable(tuple(f"{block.of}|{block.mask}|{column}" for column in columns), x), sorted(
        lost, key=lambda one: one.row
    )


@dataclass(frozen=True)
class _Item:
    """One extraction: reading 0 is the unit's own, higher ones are read for stability only."""

    row: int
    reading: int
    image: str
    mask: str
    body: str
    draw: int | None


@dataclass(frozen=True)
class _Plan:
    rows: int
    readings: int
    items: tuple[_Item, ...]
    unusable: tuple[Unusable, ...]


def _plan(schema: Schema, name: str, files: Files, readings: bool) -> _Plan:
    block = schema.radiomics()[name]
    image, mask = files[block.of], files[f"{block.of}.mask"]
    body = files.get(f"{block.of}.body", [""] * len(image))
    stability = block.stability if readings else None
    second = files[f"{name}.stability"] if stability is not None and stability.masks is not None else None
    copies = stability.perturb if stability is not None and stability.perturb is not None else 0
    items: list[_Item] = []
    lost = []
    for i in range(len(image)):
        absent = [what for what, path in ((block.of, image[i]), (f"{block.of}.mask", mask[i])) if not path]
        if absent:
            lost.append(Unusable(i, name, NO_PATH, f"{' and '.join(absent)}: no path is given"))
            continue
        items.append(_Item(i, 0, image[i], mask[i], body[i], None))
        if second is not None and second[i]:
            items.append(_Item(i, 1, image[i], second[i], body[i], None))
        items += [_Item(i, k + 1, image[i], mask[i], body[i], k) for k in range(copies)]
    count = copies if second is None else 1
    return _Plan(len(image), count, tuple(items), tuple(lost))


def _gathered(
    schema: Schema, name: str, block: RadiomicsInput, readable: Mapping[str, pd.DataFrame], plan: _Plan
) -> tuple[FeatureTable, list[dict[str, Any]]]:
    settings = settings_of(schema, name)
    columns: tuple[str, ...] = ()
    x = np.empty((plan.rows, 0))
    readings: NDArray[np.float64] | None = None
    lines: list[dict[str, Any]] = []
    for item in plan.items:
        table = readable.get(f"{item.row}:{item.reading}")
        if table is None:
            continue
        features = [c for c in table.columns if c not in DIAGNOSTICS]
        named = tuple(f"{block.of}|{region}|{feature}" for region in settings.regions for feature in features)
        if not columns:
            columns = named
            x = np.full((plan.rows, len(columns)), np.nan)
            if plan.readings:
                readings = np.full((plan.rows, len(columns), plan.readings), np.nan)
        elif named != columns:
            raise InvalidInputError(
                f"{name}: {item.image} gives other features than the images before it",
                why="Pictures and volumes have other shape features.",
                do="Give every unit an image of the same number of dimensions.",
            )
        values = table.set_index("region").loc[list(settings.regions), features].to_numpy(dtype=np.float64).ravel()
        if item.reading == 0:
            x[item.row] = values
            facts = table[list(DIAGNOSTICS)].to_dict("records")
            lines += [{"row": item.row, **{str(k): v for k, v in fact.items()}} for fact in facts]
        elif readings is not None:
            readings[item.row, :, item.reading - 1] = values
    return FeatureTable(columns, x, readings), lines


def digest_of_image(path: Path) -> str:
    """Of all files of an image; what cannot be listed has no content that two patients could share."""
    from osml.cache import content_key
    from osml.imaging.errors import ImagingError
    from osml.imaging.read import image_files

    try:
        return content_key(map(sha256_file, image_files(path)))
    except ImagingError:
        return f"unreadable: {path}"


def with_features(cohort: Cohort, features: Features) -> Cohort:
    """The cohort with its features attached; units in `unusable` still to be excluded."""
    return replace(cohort, features=features.tables)
