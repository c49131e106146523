"""What a network reads of a cohort: images by key, radiomics and table columns as encoded numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, ImageTable
from osml.errors import InvalidInputError, NotEstimableError
from osml.nets.recipe import Modality, Reduce
from osml.nets.tabular import Column, TabularCode, fit_tabular, tabular_from_json, tabular_to_json
from osml.schema.images import RadiomicsInput
from osml.schema.model import BinaryInput, CategoryInput, FileInput, Schema
from osml.schema.networks import Divide, NetworkPredictor

if TYPE_CHECKING:
    from osml.features.images import ImagePlan
    from osml.nets.batches import Stores
    from osml.nets.encoders import Encoder

Float = NDArray[np.float64]
TABLE = "table"
# Texture has heavy tails: beyond this many SD of the training mean a value counts as if it lay there.
CLIP_SD = 4.0


@dataclass(frozen=True)
class ImageSource:
    """An image modality.

    key : of `Cohort.images`
    width : of a vector of a frozen encoder; None for one that is trained, whose own width counts
    orientation : of pictures for a trained encoder: how they are augmented
    plain : the first vector of a picture is the picture as it is, and the one that counts in prediction
    centre, spread : of pooled layers among the training pictures, (width,)
    """

    name: str
    key: str
    width: int | None
    orientation: str = "fixed"
    plain: bool = False
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class TableSource:
    """Encoded columns: of radiomics, or of the table's values.

    features : of radiomics, the columns read
    """

    name: str
    kind: Literal["radiomics", "tabular"]
    code: TabularCode
    features: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The schema's inputs that it holds."""
        return (self.name,) if self.kind == "radiomics" else tuple(c.column.name for c in self.code.columns)

    def encode(self, cohort: Cohort) -> NDArray[np.float32]:
        """Float32 array (n, width), NaN where missing."""
        if self.kind == "tabular":
            return self.code.encode(cohort.values, cohort.kit)
        x = radiomics_columns(cohort, self.name, self.features)
        encoded = self.code.encode({name: x[:, j] for j, name in enumerate(self.features)}, {})
        return np.clip(encoded, -CLIP_SD, CLIP_SD)


Source = ImageSource | TableSource


def sources_of(schema: Schema, name: str, cohort: Cohort) -> tuple[Source, ...]:
    """The modalities of the network `name`, with what training units teach: images first, radiomics, the table last."""
    from osml.features.images import image_plan

    block = schema.networks()[name]
    images: list[Source] = []
    tables: list[Source] = []
    for item in block.inputs:
        source = schema.inputs[item]
        if isinstance(source, FileInput):
            plan = image_plan(schema, name, item)
            table = cohort.images.get(plan.key)
            if table is None:
                raise InvalidInputError(f"predictor {name!r} needs the images of {item!r}")
            images.append(_image_source(plan, table))
        elif isinstance(source, RadiomicsInput):
            tables.append(_radiomics_source(item, cohort))
    columns = [_column(schema, block, item) for item in block.inputs if item in schema.values()]
    if columns:
        tables.append(TableSource(TABLE, "tabular", fit_tabular(columns, cohort.values, cohort.kit)))
    return (*images, *tables)


def _image_source(plan: ImagePlan, table: ImageTable) -> ImageSource:
    if not plan.frozen:
        return ImageSource(plan.input, plan.key, None, plan.orientation)
    values = table.values().reshape(-1, table.shape()[-1]).astype(np.float64)
    if not len(values):
        raise NotEstimableError(f"no training unit has an image of {plan.input!r}")
    if not plan.settings().layers:
        # An encoder's own vector has one scale, and a thousand z-scores beside five values of a table would drown them.
        return ImageSource(plan.input, plan.key, values.shape[1], plan.orientation)
    centre, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 1e-6 * np.maximum(1.0, np.abs(centre)), spread, 1.0)
    return ImageSource(
        plan.input, plan.key, values.shape[1], plan.orientation, plan.embedding().stain > 0,
        tuple(float(np.float32(c)) for c in centre), tuple(float(np.float32(s)) for s in spread),
    )  # fmt: skip


def modality(source: Source, reduce: Reduce, width: int | None = None) -> Modality:
    """As the network's recipe names it; `width` of a trained encoder."""
    if isinstance(source, TableSource):
        code = source.code
        return Modality(source.name, source.kind, code.width, start=code.start, indicators=code.indicators)
    if source.width is not None:
        return Modality(source.name, "embedding", source.width, reduce, centre=source.centre, spread=source.spread)
    assert width is not None
    return Modality(source.name, "image", width, reduce)


def stores(sources: Sequence[Source], cohort: Cohort, encoders: Mapping[str, Encoder], device: str) -> Stores:
    """A cohort's data as batches are drawn from it."""
    import torch

    from osml.nets.augment import HISTOLOGY, RADIOGRAPH, Prepare
    from osml.nets.batches import Stores, column_store, first_view, random_view, store

    out = {}
    for source in sources:
        if isinstance(source, TableSource):
            out[source.name] = column_store(source.encode(cohort), device=device)
            continue
        table = cohort.images.get(source.key)
        if table is None:
            raise InvalidInputError(f"the images of {source.name!r} were not read")
        values = torch.as_tensor(table.values())
        prepare: Any = first_view if source.plain else random_view
        if source.width is None:
            kind = HISTOLOGY if source.orientation == "free" else RADIOGRAPH
            prepare = Prepare(encoders[source.name].size, kind)
        out[source.name] = store(values, table.row, len(cohort), device=device, prepare=prepare)
    return Stores(out)


def presence(sources: Sequence[Source], cohort: Cohort) -> dict[str, NDArray[np.bool_]]:
    """Whether each unit has each of the schema's inputs, bool (n,)."""
    out: dict[str, NDArray[np.bool_]] = {}
    for source in sources:
        if isinstance(source, ImageSource):
            here = np.zeros(len(cohort), dtype=bool)
            here[cohort.images[source.key].row] = True
            out[source.name] = here
        elif source.kind == "radiomics":
            out[source.name] = np.asarray(~np.isnan(source.encode(cohort)).all(axis=1))
        else:
            encoded, at = source.encode(cohort), 0
            for code in source.code.columns:
                out[code.column.name] = ~np.isnan(encoded[:, at])
                at += code.column.width
    return out


def beyond(source: TableSource, cohort: Cohort, limit: float = 3.0) -> list[tuple[int, str, float]]:
    """(unit, input, z) of numbers further from the training mean than `limit` SD."""
    out = []
    if source.kind == "tabular":
        for code in source.code.columns:
            if code.column.kind == "standard":
                z = (cohort.values[code.column.name] - code.centre) / code.scale
                out += [(int(i), code.column.name, float(z[i])) for i in np.flatnonzero(np.abs(z) > limit)]
    return out


def radiomics_columns(cohort: Cohort, name: str, wanted: Sequence[str]) -> Float:
    """Features of a radiomics input by name, (n, len(wanted)); one that was not computed is an error."""
    table = cohort.features.get(name)
    if table is None:
        raise InvalidInputError(f"the features of {name!r} were not computed")
    place = {column: j for j, column in enumerate(table.columns)}
    absent = [column for column in wanted if column not in place]
    if absent:
        raise InvalidInputError(
            f"{len(absent)} features of {name!r} were not computed, e.g. {absent[0]!r}",
            do="Extract with the settings that the model was made with.",
        )
    return table.x[:, [place[column] for column in wanted]]


def source_to_json(source: Source) -> dict[str, Any]:
    """Plain data for JSON."""
    if isinstance(source, ImageSource):
        return {"source": "image", **asdict(source)}
    return {
        "source": source.kind,
        "name": source.name,
        "code": tabular_to_json(source.code),
        "features": list(source.features),
    }


def source_from_json(data: Mapping[str, Any]) -> Source:
    """Inverse of `source_to_json`."""
    facts = dict(data)
    kind = facts.pop("source")
    if kind == "image":
        return ImageSource(**{**facts, "centre": tuple(facts["centre"]), "spread": tuple(facts["spread"])})
    return TableSource(facts["name"], kind, tabular_from_json(facts["code"]), tuple(facts["features"]))


def _radiomics_source(name: str, cohort: Cohort) -> TableSource:
    table = cohort.features.get(name)
    if table is None:
        raise InvalidInputError(f"the features of {name!r} were not computed")
    spread = np.array([np.ptp(x[~np.isnan(x)]) if (~np.isnan(x)).any() else 0.0 for x in table.x.T])
    kept = [j for j in range(len(table.columns)) if spread[j] > 0]
    if not kept:
        raise NotEstimableError(f"no feature of {name!r} varies among the training units")
    columns = tuple(table.columns[j] for j in kept)
    values = {column: table.x[:, j] for column, j in zip(columns, kept, strict=True)}
    code = fit_tabular([Column(column, "standard") for column in columns], values, {})
    # Features are missing together, where a mask is empty: learned values stand for them, and no indicator each.
    code = TabularCode(tuple(replace(column, missing=0) for column in code.columns))
    return TableSource(name, "radiomics", code, columns)


def _column(schema: Schema, block: NetworkPredictor, name: str) -> Column:
    source = schema.inputs[name]
    if isinstance(source, BinaryInput):
        return Column(name, "binary")
    if isinstance(source, CategoryInput):
        return Column(name, "category", levels=len(source.levels))
    how = block.encode.get(name, "standard")
    if isinstance(how, Divide):
        return Column(name, "divide", divide=how.divide)
    return Column(name, how)
