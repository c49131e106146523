"""What a tabular learner reads of a design: one typed table of values, radiomics, image vectors and scores.

Nothing is encoded, scaled or filled in: a number stays in its unit, a level is its position, and missing is NaN. A row
depends on its own unit only. Which columns exist is learnt at fit and demanded at prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.errors import InvalidInputError, NotEstimableError
from osml.features.images import image_plan
from osml.predictors.contract import Design, Flag
from osml.predictors.network import EncoderRecord, encoder_record
from osml.predictors.network_inputs import ImageSource, radiomics_columns
from osml.schema.images import RadiomicsInput
from osml.schema.model import BinaryInput, CategoryInput, FileInput, Schema

Float = NDArray[np.float64]
FAR_SD = 3.0
CONSTANT = 1e-12


@dataclass(frozen=True)
class TableColumn:
    """One column.

    name : unique in the table
    kind : number, or category: positions in `levels` as whole numbers
    source : where it comes from: a cell of the table, radiomics, the vector of an image, or a predictor's score
    input : the schema's input or predictor
    part : radiomics: the feature; image: place in the vector; score of classes: the node; else empty
    centre, spread : mean and SD among the training units, of numbers that are cells; they say what is far away
    """

    name: str
    kind: Literal["number", "category"]
    source: Literal["value", "radiomics", "image", "score"]
    input: str
    part: str = ""
    levels: tuple[str, ...] = ()
    centre: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class TableSpec:
    """The columns of a tabular learner and where they come from.

    columns : those of each input side by side, in the order of the predictor's inputs
    sources : image inputs, as `Cohort.images` holds them
    encoders : of each image input, always frozen
    """

    columns: tuple[TableColumn, ...]
    sources: tuple[ImageSource, ...] = ()
    encoders: Mapping[str, EncoderRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise InvalidInputError(f"two columns are called {twice[0]!r}", do="Rename one of the inputs.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs and predictors that it reads, each once."""
        return tuple(dict.fromkeys(column.input for column in self.columns))

    @property
    def images(self) -> dict[str, ImageSource]:
        """Image inputs by name."""
        return {source.name: source for source in self.sources}

    @property
    def radiomics(self) -> dict[str, tuple[str, ...]]:
        """Radiomics inputs and the features that are read."""
        found: dict[str, list[str]] = {}
        for column in self.columns:
            if column.source == "radiomics":
                found.setdefault(column.input, []).append(column.part)
        return {name: tuple(features) for name, features in found.items()}

    @property
    def categories(self) -> tuple[int, ...]:
        """Positions of the columns that are categories."""
        return tuple(j for j, column in enumerate(self.columns) if column.kind == "category")

    def places(self, name: str) -> NDArray[np.intp]:
        """Positions of the columns of an input or predictor."""
        return np.array([j for j, column in enumerate(self.columns) if column.input == name], dtype=np.intp)

    def matrix(self, design: Design) -> Float:
        """Float64 array (n, columns), NaN where missing.

        Raises
        ------
        InvalidInputError
            A column that was there at fit is not there.
        """
        parts = [self._block(name, design) for name in self.inputs]
        return np.ascontiguousarray(np.concatenate(parts, axis=1)) if parts else np.empty((len(design.cohort), 0))

    def present(self, cohort: Cohort) -> dict[str, NDArray[np.bool_]]:
        """Whether each unit has each input, bool (n,); a predictor has a score for everybody."""
        out: dict[str, NDArray[np.bool_]] = {}
        kinds = {column.input: column.source for column in self.columns}
        for name, kind in kinds.items():
            if kind == "value":
                out[name] = np.asarray(~np.isnan(cohort.values[name]))
            elif kind == "radiomics":
                out[name] = np.asarray(~np.isnan(radiomics_columns(cohort, name, self.radiomics[name])).all(axis=1))
            elif kind == "image":
                here = np.zeros(len(cohort), dtype=bool)
                here[cohort.images[self.images[name].key].row] = True
                out[name] = here
        return out

    def flags(self, cohort: Cohort) -> tuple[Flag, ...]:
        """What is missing, and numbers further than `FAR_SD` SD from the training mean, where trees are flat."""
        here = self.present(cohort)
        out = [Flag(cohort.units[i], name, "missing") for name, x in here.items() for i in np.flatnonzero(~x)]
        for column in self.columns:
            if column.centre is None or not column.spread:
                continue
            z = (cohort.values[column.input] - column.centre) / column.spread
            far = np.flatnonzero(np.abs(z) > FAR_SD)
            out += [Flag(cohort.units[i], column.input, "extrapolated", float(z[i])) for i in far]
        return tuple(out)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "sources": [asdict(source) for source in self.sources],
            "encoders": {name: asdict(record) for name, record in self.encoders.items()},
        }

    def _block(self, name: str, design: Design) -> Float:
        """The columns of one input or predictor."""
        mine = [column for column in self.columns if column.input == name]
        cohort, kind = design.cohort, mine[0].source
        if kind == "radiomics":
            return radiomics_columns(cohort, name, [column.part for column in mine])
        if kind == "image":
            return image_vectors(self.images[name], cohort)
        if kind == "score":
            found = design.upstream.get(name)
            if found is None:
                raise InvalidInputError(f"the score of {name!r} is needed and was not computed")
        else:
            found = cohort.values.get(name)
            if found is None:
                raise InvalidInputError(f"the values of {name!r} were not read")
        found = np.asarray(found, dtype=np.float64).reshape(len(cohort), -1)
        if found.shape[1] != len(mine):
            raise InvalidInputError(f"{name!r} has {found.shape[1]} columns, {len(mine)} were learnt from")
        return found


def fit_table(schema: Schema, name: str, design: Design) -> TableSpec:
    """The table of the predictor `name`, as its training units have it.

    Radiomics that do not vary among the training units are left out. Images enter by the vectors of the default frozen
    encoder.

    Raises
    ------
    InvalidInputError
        Radiomics, images or scores that the predictor names were not computed.
    NotEstimableError
        No unit has an input.
    """
    columns: list[TableColumn] = []
    sources: list[ImageSource] = []
    for item in schema.predictors[name].inputs:
        if item in schema.predictors:
            columns += _scores(item, design)
            continue
        block = schema.inputs[item]
        if isinstance(block, FileInput):
            sources.append(_image(schema, name, item, design.cohort))
            width = sources[-1].width or 0
            columns += [TableColumn(f"{item}|{j}", "number", "image", item, str(j)) for j in range(width)]
        elif isinstance(block, RadiomicsInput):
            columns += _radiomics(item, design.cohort)
        elif isinstance(block, BinaryInput | CategoryInput):
            _somebody(item, design.cohort.values[item])
            levels = tuple(str(level) for level in block.levels)
            columns.append(TableColumn(item, "category", "value", item, levels=levels))
        else:
            values = design.cohort.values[item]
            x = _somebody(item, values)
            centre, spread = float(x.mean()), float(x.std())
            columns.append(TableColumn(item, "number", "value", item, centre=centre, spread=spread))
    records = {source.name: encoder_record(schema, name, source.name) for source in sources}
    return TableSpec(tuple(columns), tuple(sources), records)


def table_from_json(data: Mapping[str, Any]) -> TableSpec:
    """Inverse of `TableSpec.to_json`."""
    columns = tuple(TableColumn(**{**column, "levels": tuple(column["levels"])}) for column in data["columns"])
    sources = tuple(
        ImageSource(**{**source, "centre": tuple(source["centre"]), "spread": tuple(source["spread"])})
        for source in data["sources"]
    )
    return TableSpec(columns, sources, {name: EncoderRecord(**record) for name, record in data["encoders"].items()})


def image_vectors(source: ImageSource, cohort: Cohort) -> Float:
    """Mean vector of each unit's pictures, (n, width); NaN without one.

    Of copies that only training of networks draws from, none counts; views of a picture without orientation are
    averaged.
    """
    table = cohort.images.get(source.key)
    if table is None:
        raise InvalidInputError(f"the images of {source.name!r} were not read")
    if table.shape()[-1] != source.width:
        raise InvalidInputError(
            f"the vectors of {source.name!r} have {table.shape()[-1]} numbers, {source.width} were learnt from"
        )
    values = table.values().astype(np.float64)
    each = values[:, 0] if source.plain else values.mean(axis=1)
    total = np.zeros((len(cohort), each.shape[1]))
    np.add.at(total, table.row, each)
    count = np.bincount(table.row, minlength=len(cohort)).astype(np.float64)
    return np.where(count[:, None] > 0, total / np.maximum(count, 1.0)[:, None], np.nan)


def _somebody(name: str, values: Float) -> Float:
    """The values that are not missing."""
    x = values[~np.isnan(values)]
    if not len(x):
        raise NotEstimableError(f"no training unit has a value of {name!r}")
    return x


def _scores(name: str, design: Design) -> list[TableColumn]:
    score = design.upstream.get(name)
    if score is None:
        raise InvalidInputError(f"the score of {name!r} is needed and was not computed")
    if score.ndim == 1:
        return [TableColumn(name, "number", "score", name)]
    outcome = design.cohort.outcome
    if not isinstance(outcome, ClassOutcome) or len(outcome.tree.nodes) != score.shape[1]:
        raise InvalidInputError(f"the score of {name!r} has {score.shape[1]} columns, and the outcome other classes")
    return [TableColumn(f"{name}|{node}", "number", "score", name, node) for node in outcome.tree.nodes]


def _radiomics(name: str, cohort: Cohort) -> list[TableColumn]:
    table = cohort.features.get(name)
    if table is None:
        raise InvalidInputError(f"the features of {name!r} were not computed")
    there = ~np.isnan(table.x)
    low = np.where(there, table.x, np.inf).min(axis=0, initial=np.inf)
    high = np.where(there, table.x, -np.inf).max(axis=0, initial=-np.inf)
    kept = [column for column, a, b in zip(table.columns, low, high, strict=True) if b - a > CONSTANT * abs(b)]
    if not kept:
        raise NotEstimableError(f"no feature of {name!r} varies among the training units")
    return [TableColumn(f"{name}|{column}", "number", "radiomics", name, column) for column in kept]


def _image(schema: Schema, predictor: str, name: str, cohort: Cohort) -> ImageSource:
    plan = image_plan(schema, predictor, name)
    table = cohort.images.get(plan.key)
    if table is None:
        raise InvalidInputError(f"predictor {predictor!r} needs the images of {name!r}")
    if not len(table.row):
        raise NotEstimableError(f"no training unit has an image of {name!r}")
    if not plan.frozen:
        raise InvalidInputError(f"predictor {predictor!r} reads vectors of a frozen encoder; that of {name!r} is not")
    return ImageSource(name, plan.key, table.shape()[-1], plan.orientation, plan.embedding().stain > 0)
