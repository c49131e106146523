"""`recipe.json` of a bundle: how inputs become numbers, by which radiomics engine, encoders and drawing of pictures.

The schema says it already; the recipe says what the schema meant to the osml that made the bundle. Where this osml
would measure anything else, the bundle is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from osml.cohort.inputs import file_columns
from osml.errors import InvalidInputError, VerificationError
from osml.features import settings_of, used_radiomics
from osml.predictors.network import FittedNetwork
from osml.predictors.tabular import Reader
from osml.schema.images import RadiomicsInput, VolumeInput
from osml.schema.model import Schema

NAME = "recipe.json"
FORMAT = 1


def recipe(schema: Schema, predictors: Collection[str], readers: Mapping[str, Reader] | None = None) -> dict[str, Any]:
    """The recipe of these predictors, for JSON.

    readers : networks and tabular learners among them and those that feed them, by name
    """
    used = dict.fromkeys(item for name in predictors for item in schema.ancestors(name))
    cells = {name: block for name, block in schema.values().items() if name in used}
    files = {name: block for name, block in schema.inputs.items() if name in used and name not in cells}
    radiomics = used_radiomics(schema, predictors)
    tiles = [name for name in radiomics if schema.radiomics()[name].mask is not None]
    return {
        "format": FORMAT,
        "inputs": {
            name: {
                "kind": block.kind,
                "column": block.column or name,
                "unit": getattr(block, "unit", None),
                "levels": list(getattr(block, "levels", ())),
            }
            for name, block in cells.items()
        },
        "files": {
            name: {"kind": block.kind, "columns": file_columns({name: block})}
            for name, block in files.items()
            if not isinstance(block, RadiomicsInput)
        },
        "radiomics": {
            name: {
                "of": schema.radiomics()[name].of,
                "engine": _engine_version(),
                "settings": _settings(schema, name),
                "harmonise": schema.radiomics()[name].harmonise,
            }
            for name in radiomics
            if name not in tiles
        },
        "tiles": {name: _tiles(schema, name) for name in tiles},
        "images": {
            f"{name}.{item}": _image(schema, reader, item)
            for name, reader in (readers or {}).items()
            for item in reader.images
        },
        "preprocessing": {"missing": schema.missing, "missing_tokens": list(schema.cohort.missing)},
    }


def check_recipe(
    schema: Schema,
    predictor: str,
    stored: Mapping[str, Any] | None,
    readers: Mapping[str, Reader] | None = None,
) -> None:
    """Refuse images where this osml would not measure what the bundle's model was fitted to.

    stored : content of recipe.json, None where the bundle has none
    readers : the predictor's networks and tabular learners, by name

    Raises
    ------
    VerificationError
        Another version of the radiomics engine, other settings than the schema's, a newer format, or no recipe.
    """
    radiomics = used_radiomics(schema, [predictor])
    if stored is not None and stored.get("format") != FORMAT:
        raise VerificationError(
            f"the bundle's {NAME} has format {stored.get('format')!r}; this osml reads {FORMAT}", do="Update osml."
        )
    for name in radiomics:
        if schema.radiomics()[name].mask is not None:
            found = None if stored is None else stored.get("tiles", {}).get(name)
            _same(f"the features of {name!r}", found, _tiles(schema, name))
            continue
        found = None if stored is None else stored.get("radiomics", {}).get(name)
        if found is None:
            raise VerificationError(
                f"the bundle does not say how the features of {name!r} were computed: they are not in {NAME}",
                do="Make the bundle again from its run.",
            )
        if found.get("engine") != _engine_version():
            raise VerificationError(
                f"the features of {name!r} were computed by version {found.get('engine')} of the radiomics engine; "
                f"this osml has version {_engine_version()}",
                why="Their values differ, so the score would be read from other numbers than it was fitted to.",
                do="Use the osml that made the bundle, or fit the study again.",
            )
        if _again(name, found.get("settings")) != _settings(schema, name) or found.get("of") != (
            schema.radiomics()[name].of
        ):
            raise VerificationError(
                f"the bundle contradicts itself: {NAME} and schema.json have other settings for {name!r}",
                do="Do not use this bundle; make it again from its run.",
            )
    for name, reader in (readers or {}).items():
        for item in reader.images:
            found = None if stored is None else stored.get("images", {}).get(f"{name}.{item}")
            _same(f"the vectors of {item!r}", found, _image(schema, reader, item))


def _tiles(schema: Schema, name: str) -> dict[str, Any]:
    """Radiomics of pictures whose masks are found in their colours."""
    from osml.features.tiles import TILES_VERSION, tile_settings

    settings = json.loads(json.dumps(asdict(tile_settings(schema, name))))
    return {"version": TILES_VERSION, "of": schema.radiomics()[name].of, "settings": settings}


def _image(schema: Schema, reader: Reader, name: str) -> dict[str, Any]:
    """How the files of an image become what a network or tabular learner reads."""
    from osml.features.pictures import DRAWING_VERSION, MARGIN
    from osml.nets.images import PIXELS_VERSION

    source, record = reader.images[name], reader.encoders[name]
    volume = isinstance(schema.inputs[name], VolumeInput)
    facts = {
        "orientation": source.orientation,
        "pixels": PIXELS_VERSION,
        "drawing": {"version": DRAWING_VERSION, "of": "volume" if volume else "dicom"}
        | ({"margin": MARGIN} if volume else {}),
        "encoder": {"settings": record.settings, "weights": record.weights},
        "embedding": record.embedding,
        "reduce": next(m.reduce for m in reader.recipe.modalities if m.name == name)
        if isinstance(reader, FittedNetwork)
        else "mean",
    }
    return json.loads(json.dumps(facts))


def _same(what: str, found: Any, ours: Mapping[str, Any]) -> None:
    if found is None:
        raise VerificationError(
            f"the bundle does not say how {what} were computed: they are not in {NAME}",
            do="Make the bundle again from its run.",
        )
    differing = sorted(key for key in {*ours, *found} if ours.get(key) != found.get(key))
    if differing:
        key = differing[0]
        raise VerificationError(
            f"{what} were computed with {key} {found.get(key)!r}; this osml and the bundle's schema have "
            f"{ours.get(key)!r}",
            why="Their values differ, so the model would read other numbers than it was fitted to.",
            do="Use the osml that made the bundle, or fit the study again.",
        )


def _settings(schema: Schema, name: str) -> dict[str, Any]:
    """As JSON holds them: no tuples."""
    from osml.radiomics.settings import resolved

    return json.loads(json.dumps(resolved(settings_of(schema, name))))


def _again(name: str, stored: Any) -> dict[str, Any]:
    """Stored settings with what this osml takes for those that did not exist when they were stored."""
    from osml.radiomics.settings import resolved, settings_from

    try:
        return json.loads(json.dumps(resolved(settings_from(stored, f"{NAME}: {name}"))))
    except (InvalidInputError, TypeError, AttributeError) as error:
        raise VerificationError(
            f"the radiomics settings of {name!r} cannot be read: {error}", do="Use the osml that made the bundle."
        ) from None


def _engine_version() -> int:
    from osml.radiomics.jobs import ENGINE_VERSION  # pandas comes with it, which models without images do not need

    return ENGINE_VERSION
