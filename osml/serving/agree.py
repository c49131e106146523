"""The parts of a bundle have to mean the same: inputs, levels, units and classes of the schema and of each model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from osml.errors import OsmlError, VerificationError
from osml.features import settings_of
from osml.features.images import image_plan
from osml.nets.tabular import Column
from osml.nomogram import Nomogram
from osml.predictors.boosting import FittedBoosting
from osml.predictors.chain import Chain
from osml.predictors.network import FittedNetwork
from osml.predictors.network_inputs import TableSource
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore, radscore_recipe
from osml.predictors.stack import FittedStack
from osml.predictors.tabular import Reader, Tabular
from osml.schema.model import BinaryInput, CategoryInput, FileInput, Schema
from osml.schema.networks import Divide, NetworkPredictor
from osml.schema.slides import RegionTarget
from osml.schema.targets import BinaryTarget, SurvivalTarget, tree_of


def agree(schema: Schema, chain: Chain) -> None:
    """The model asks for inputs by name and reads levels by position: the schema must mean the same by both.

    Raises
    ------
    VerificationError
        It does not.
    """
    fitted = chain.fitted
    if isinstance(fitted, FittedRadscore):
        _score(schema, chain, fitted)
        return
    if isinstance(fitted, FittedNetwork):
        _network(schema, chain, fitted)
        return
    if isinstance(fitted, FittedStack):
        _stack(schema, chain, fitted)
    elif isinstance(fitted, Tabular):
        _tabular(schema, chain, fitted)
    else:
        assert isinstance(fitted, FittedNomogram)
        _nomogram(schema, chain, fitted)
    for link in chain.upstream:
        agree(schema, link)


def agree_drawing(nomogram: Nomogram, chain: Chain) -> None:
    """The drawn nomogram is that of the model."""
    fitted = chain.fitted
    if not isinstance(fitted, FittedNomogram):
        raise _contradiction(f"{chain.name!r} has a nomogram although it is no regression")
    drawn = {p.name: p.levels for p in nomogram.predictors}
    asked = {name: fitted.recipe.input(name).levels for name in fitted.model.inputs}
    if drawn != asked:
        raise _contradiction(f"the nomogram's inputs are {sorted(drawn)}, those of the model {sorted(asked)}")
    same = len(nomogram.model.coef) == len(fitted.model.coef) and np.array_equal(nomogram.model.coef, fitted.model.coef)
    if not same or nomogram.model.intercept != fitted.model.intercept:
        raise _contradiction("the nomogram draws other coefficients than the model has")


def _nomogram(schema: Schema, chain: Chain, fitted: FittedNomogram) -> None:
    for item in fitted.recipe.inputs:
        if item.kind == "score":
            if item.name not in {link.name for link in chain.upstream}:
                raise _contradiction(f"{chain.name!r} needs the score {item.name!r}, which the schema does not feed it")
            continue
        block = schema.inputs.get(item.name)
        if block is None or item.name not in schema.predictors[chain.name].inputs:
            raise _contradiction(f"{chain.name!r} needs the input {item.name!r}, which the schema does not have")
        levels = block.levels if isinstance(block, (BinaryInput, CategoryInput)) else ()
        if levels != item.levels:
            raise _contradiction(
                f"{item.name!r} has levels {list(levels)} in the schema, {list(item.levels)} in the model"
            )
        if (getattr(block, "unit", None) or "") != item.unit:
            raise _contradiction(
                f"{item.name!r} has unit {getattr(block, 'unit', None)!r} in the schema, {item.unit!r} in the model"
            )


def _score(schema: Schema, chain: Chain, fitted: FittedRadscore) -> None:
    """A Rad-score reads features by the name of image, region and settings."""
    stated = radscore_recipe(schema, chain.name)
    if stated != fitted.recipe:
        ours, theirs = asdict(stated), asdict(fitted.recipe)
        key = next(key for key in ours if ours[key] != theirs[key])
        raise _contradiction(f"{chain.name!r} has {key} {ours[key]!r} in the schema, {theirs[key]!r} in the model")
    if (fitted.combat is None) is bool(fitted.recipe.site):
        raise _contradiction(
            f"{chain.name!r}: the schema harmonises its features and the model does not, or vice versa"
        )
    image = schema.radiomics()[fitted.recipe.input].of
    regions = settings_of(schema, fitted.recipe.input).regions
    for column in fitted.columns:
        parts = column.split("|")
        if len(parts) != 3 or parts[0] != image or parts[1] not in regions:
            raise _contradiction(f"{chain.name!r} reads the feature {column!r}, which the schema does not compute")


def _network(schema: Schema, chain: Chain, fitted: FittedNetwork) -> None:
    block = schema.predictors[chain.name]
    assert isinstance(block, NetworkPredictor)
    _target(schema, chain.name, fitted.columns, fitted.tree, fitted.horizons)
    read = [name for source in fitted.sources for name in _inputs(source)]
    if sorted(read) != sorted(block.inputs):
        raise _contradiction(f"{chain.name!r} reads {sorted(read)}, the schema feeds it {sorted(block.inputs)}")
    if tuple(source.name for source in fitted.sources) != fitted.recipe.names:
        raise _contradiction(f"{chain.name!r}: its inputs and its tensors are of other modalities")
    for source in fitted.sources:
        if isinstance(source, TableSource) and source.kind == "tabular":
            for code in source.code.columns:
                expected = _column(schema, block, code.column.name)
                if code.column != expected:
                    name = code.column.name
                    raise _contradiction(f"{name!r} enters as {code.column} in the model, as {expected} in the schema")
        elif isinstance(source, TableSource):
            _radiomics(schema, chain.name, source.name, source.features)
        else:
            _encoder(schema, chain.name, source.name, fitted)


def _tabular(schema: Schema, chain: Chain, fitted: Tabular) -> None:
    """Columns are read by name, levels by position."""
    horizons = fitted.horizons if isinstance(fitted, FittedBoosting) else ()
    _target(schema, chain.name, fitted.columns, fitted.tree, horizons)
    block, spec = schema.predictors[chain.name], fitted.spec
    if sorted(spec.inputs) != sorted(block.inputs):
        raise _contradiction(f"{chain.name!r} reads {sorted(spec.inputs)}, the schema feeds it {sorted(block.inputs)}")
    fed = {link.name for link in chain.upstream}
    for column in spec.columns:
        source = schema.inputs.get(column.input)
        levels = tuple(map(str, source.levels)) if isinstance(source, (BinaryInput, CategoryInput)) else ()
        if column.levels != levels:
            raise _contradiction(
                f"{column.input!r} has levels {list(levels)} in the schema, {list(column.levels)} in the model"
            )
        if (column.source == "score") is not (column.input in fed):
            raise _contradiction(f"{chain.name!r} needs {column.input!r}, which the schema does not feed it")
        if column.source == "radiomics":
            _radiomics(schema, chain.name, column.input, (column.part,))
    for name in spec.images:
        _encoder(schema, chain.name, name, spec)


def _radiomics(schema: Schema, predictor: str, name: str, features: Sequence[str]) -> None:
    """Features belong to the image, and to the mask, that the schema states."""
    block = schema.radiomics()[name]
    start = f"{block.of}|{block.mask}|" if block.mask is not None else f"{block.of}|"
    wrong = next((feature for feature in features if not feature.startswith(start)), None)
    if wrong is not None:
        raise _contradiction(f"{predictor!r} reads the feature {wrong!r}, which the schema does not compute")


def _inputs(source: Any) -> tuple[str, ...]:
    return source.inputs if isinstance(source, TableSource) else (source.name,)


def _encoder(schema: Schema, predictor: str, name: str, fitted: Reader) -> None:
    if not isinstance(schema.inputs.get(name), FileInput) or name not in fitted.encoders:
        raise _contradiction(f"{predictor!r} looks at {name!r}, which is no image of the schema")
    plan, record = image_plan(schema, predictor, name), fitted.encoders[name]
    source = fitted.images[name]
    stated: dict[str, Any] = asdict(plan.settings()) | {"weights": None}
    if json.dumps(stated, sort_keys=True) != json.dumps(dict(record.settings), sort_keys=True):
        raise _contradiction(f"the encoder of {name!r} has other settings in the schema than in {predictor!r}")
    embedding = asdict(plan.embedding()) if plan.frozen else None
    kept = None if record.embedding is None else dict(record.embedding)
    if embedding != kept or plan.frozen is not (source.width is not None) or plan.orientation != source.orientation:
        raise _contradiction(f"{predictor!r} takes other views of {name!r} than the schema states")


def _stack(schema: Schema, chain: Chain, fitted: FittedStack) -> None:
    target = schema.target
    horizons = target.horizons if isinstance(target, SurvivalTarget) and fitted.baseline else ()
    _target(schema, chain.name, fitted.columns, fitted.tree, horizons)
    if fitted.names != schema.predictors[chain.name].inputs or len(fitted.weights) != len(fitted.names):
        raise _contradiction(f"{chain.name!r} combines {list(fitted.names)}, the schema another list")


def _target(schema: Schema, name: str, columns: tuple[str, ...], tree: Any, horizons: tuple[float, ...]) -> None:
    """Columns are read by position."""
    target = schema.target
    if isinstance(target, BinaryTarget):
        expected: tuple[str, ...] = (target.positive,)
    elif isinstance(target, SurvivalTarget):
        expected = tuple(f"{h:g} {target.unit}" for h in target.horizons)
        if tuple(horizons) != tuple(target.horizons):
            raise _contradiction(f"{name!r} predicts at {list(horizons)}, the schema asks for {list(target.horizons)}")
    elif isinstance(target, RegionTarget):
        raise _contradiction(f"{name!r} predicts patients, the schema regions of slides")
    else:
        expected = tree_of(target).nodes
        if tree is None or tree != tree_of(target):
            raise _contradiction(f"{name!r} and the schema have other trees of classes")
    if columns != expected:
        raise _contradiction(f"{name!r} predicts {list(columns)}, the schema asks for {list(expected)}")


def _column(schema: Schema, block: NetworkPredictor, name: str) -> Column | None:
    """How a cell enters, as `osml.predictors.network_inputs` states it from the schema."""
    source = schema.inputs.get(name)
    if isinstance(source, BinaryInput):
        return Column(name, "binary")
    if isinstance(source, CategoryInput):
        return Column(name, "category", levels=len(source.levels))
    how = block.encode.get(name, "standard")
    return Column(name, "divide", divide=how.divide) if isinstance(how, Divide) else Column(name, how)


def _contradiction(what: str) -> OsmlError:
    return VerificationError(
        f"the bundle contradicts itself: {what}", do="Do not use this bundle; make it again from its run."
    )
