"""Features of new patients' images, by the model's own recipe, from the paths of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import FeatureTable, ImageTable
from osml.errors import InvalidInputError
from osml.features import NO_PATH, Features, compute_features, used_radiomics
from osml.features.images import compute_images
from osml.imaging.read import PICTURE_SUFFIXES
from osml.predictors.chain import Chain
from osml.predictors.radscore import FittedRadscore
from osml.schema.images import VolumeInput
from osml.schema.model import Schema
from osml.serving.encoders import EncoderShelf, NetworkImage, empty_images, network_images, readers_of

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Measured:
    """What the images of some units gave.

    tables : radiomics input → the features that the model reads, one row per unit
    lost : unit → why it has none
    regions : radiomics input → voxels, clipped share and so on of each region of the first unit
    pictures : radiomics input → PNG of the slice with most of the lesion, its outline drawn; uploads only
    images : what networks read, by the key under which they look for it
    shown : image input → PNG of each picture; uploads only
    pixels : key of `images` → the pictures as the encoder takes them, for heat maps; uploads only
    """

    tables: Mapping[str, FeatureTable]
    lost: Mapping[int, str]
    regions: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    images: Mapping[str, ImageTable] = field(default_factory=dict)
    shown: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    pixels: Mapping[str, tuple[Pixels, ...]] = field(default_factory=dict)

    def spread(self, units: Sequence[int], n: int) -> Measured:
        """The same for `n` units, of which these were asked for."""
        tables = {}
        for name, table in self.tables.items():
            x = np.full((n, table.x.shape[1]), np.nan)
            x[list(units)] = table.x
            tables[name] = replace(table, x=x)
        place: NDArray[np.intp] = np.array(units, dtype=np.intp)
        images = {key: replace(table, row=place[table.row]) for key, table in self.images.items()}
        lost = {units[k]: why for k, why in self.lost.items()}
        return replace(self, tables=tables, images=images, lost=lost)


@dataclass(frozen=True)
class Wanted:
    """Units of a table whose images are to be measured.

    names : of each unit, for messages
    files : `input`, `input.mask`, … → path of each unit, relative ones from `root`
    paths : image input → all paths of each unit
    """

    names: tuple[str, ...]
    files: Mapping[str, Sequence[str]]
    paths: Mapping[str, Sequence[Sequence[str]]]
    root: Path


def needed_features(chain: Chain) -> dict[str, tuple[str, ...]]:
    """Radiomics input → the columns that a chain reads."""
    out = score_features(chain)
    for reader in readers_of(chain).values():
        for name, columns in reader.radiomics.items():
            out[name] = tuple(dict.fromkeys((*out.get(name, ()), *columns)))
    return out


def score_features(chain: Chain) -> dict[str, tuple[str, ...]]:
    """Radiomics input → the columns that a chain's Rad-scores read."""
    out: dict[str, tuple[str, ...]] = {}
    fitted = chain.fitted
    if isinstance(fitted, FittedRadscore):
        out[fitted.recipe.input] = fitted.columns
    for link in chain.upstream:
        for name, columns in score_features(link).items():
            out[name] = tuple(dict.fromkeys((*out.get(name, ()), *columns)))
    return out


def nothing_measured(schema: Schema, chain: Chain) -> Measured:
    """One unit of which no image is given."""
    tables = {
        name: FeatureTable(columns, np.full((1, len(columns)), np.nan))
        for name, columns in needed_features(chain).items()
    }
    return Measured(tables, {}, images={i.source.key: empty_images(i) for i in network_images(schema, chain)})


def pictures_read(schema: Schema, chain: Chain, measured: Measured, source: str) -> int:
    """How many pictures of an image input were read of a single unit; of what is only measured, 1 or 0."""
    for image in network_images(schema, chain):
        if image.source.name == source and image.source.key in measured.images:
            return len(measured.images[image.source.key].row)
    own = [name for name in measured.tables if schema.radiomics()[name].of == source]
    return int(any(not np.isnan(measured.tables[name].x).all() for name in own))


def measure_rows(schema: Schema, chain: Chain, wanted: Wanted, shelf: EncoderShelf) -> Measured:
    """Features and vectors of images that a table names, all units together; kept in the cache."""
    names = used_radiomics(schema, [chain.name])
    flat = _pictures(schema, names, wanted.files)
    rows = [i for i in range(len(wanted.names)) if i not in flat]
    parts: list[tuple[list[int], Features]] = []
    if names:
        try:
            parts.append((rows, _measured(schema, names, wanted, rows)))
        except InvalidInputError:
            # One image of another kind than the others stops them all: each is then read alone.
            parts += [([i], _measured(schema, names, wanted, [i])) for i in rows]
    found = joined(schema, chain, parts, wanted.names, flat)
    lost, images = dict(found.lost), {}
    for image in network_images(schema, chain):
        images[image.source.key] = _looked_at(schema, image, wanted, shelf, lost)
    return replace(found, lost=lost, images=images)


def _looked_at(
    schema: Schema, image: NetworkImage, wanted: Wanted, shelf: EncoderShelf, lost: dict[int, str]
) -> ImageTable:
    """What a network reads of all units; adds to `lost` why some have none."""
    from osml.nets.device import choose_device

    name = image.source.name
    encoder = shelf.of(image)
    found = compute_images(
        schema, [image.plan], wanted.names, {name: wanted.paths[name]},
        {name: wanted.files.get(f"{name}.mask", [""] * len(wanted.names))}, wanted.root,
        device=choose_device(), keep=False, training=False, encoders={image.plan.key: encoder},
    )  # fmt: skip
    for gone in found.unusable:
        detail = " ".join(gone.detail.removeprefix(f"{wanted.names[gone.row]}: ").split())
        lost.setdefault(gone.row, f"{gone.input}: {gone.reason}: {detail}")
    return found.tables[image.plan.key]


def _measured(schema: Schema, names: Sequence[str], wanted: Wanted, rows: Sequence[int]) -> Features:
    chosen = {key: [paths[i] for i in rows] for key, paths in wanted.files.items()}
    return compute_features(schema, names, [wanted.names[i] for i in rows], chosen, wanted.root, readings=False)


def _pictures(schema: Schema, names: Sequence[str], files: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """Rows that name a picture where the model reads volumes: many features exist of either, with other values."""
    out: dict[int, str] = {}
    for source in dict.fromkeys(schema.radiomics()[name].of for name in names):
        if not isinstance(schema.inputs[source], VolumeInput):
            continue
        for i, path in enumerate(files[source]):
            if path.lower().endswith(PICTURE_SUFFIXES):
                out.setdefault(i, f"{source}: {path} is a picture; the model reads volumes")
    return out


def joined(
    schema: Schema,
    chain: Chain,
    parts: Sequence[tuple[list[int], Features]],
    units: Sequence[str],
    lost: dict[int, str] | None = None,
) -> Measured:
    """The columns that the model reads, of all units."""
    lost = {} if lost is None else lost
    tables: dict[str, FeatureTable] = {}
    regions: dict[str, list[dict[str, Any]]] = {}
    scored = score_features(chain)
    for rows, found in parts:
        for gone in found.unusable:
            if gone.reason == NO_PATH and schema.missing == "impute" and gone.input not in scored:
                continue  # a network does without
            row = rows[gone.row]
            detail = " ".join(gone.detail.removeprefix(f"{units[row]}: ").split())
            lost.setdefault(row, f"{gone.input}: {gone.reason}: {detail}")
    for name, columns in needed_features(chain).items():
        x = np.full((len(units), len(columns)), np.nan)
        for rows, found in parts:
            table = found.tables.get(name)
            if table is None:
                continue
            place = {column: j for j, column in enumerate(table.columns)}
            # No image at all, hence no column: nothing to read, and nothing lost that is not said above.
            here = [k for k, row in enumerate(rows) if row not in lost] if table.columns else []
            absent = [column for column in columns if column not in place]
            if here and absent:
                words = f"{name}: the image has no {absent[0]}: it has another number of dimensions than in training"
                lost |= {rows[k]: words for k in here}
                continue
            if here:
                x[[rows[k] for k in here]] = table.x[np.ix_(here, [place[column] for column in columns])]
            regions.setdefault(name, [line for line in found.regions.get(name, ()) if line["row"] == 0])
        tables[name] = FeatureTable(columns, x)
    return Measured(tables, lost, regions)
