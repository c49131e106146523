"""The form of a model: which inputs it asks for, in which units, and one patient's answers as a table of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from osml.cohort.inputs import file_columns
from osml.cohort.table import Table
from osml.cohort.units import conversion_factor, units_like
from osml.errors import TableError
from osml.features import used_radiomics
from osml.predictors.chain import Chain, upstream_of
from osml.predictors.network_inputs import ImageSource
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore
from osml.schema.images import ImageInput, VolumeInput
from osml.schema.model import (
    BinaryInput,
    CategoryInput,
    ColumnUnit,
    FileInput,
    Input,
    LabInput,
    NomogramPredictor,
    RadscorePredictor,
    Schema,
    ValueInput,
)
from osml.schema.networks import NetworkPredictor
from osml.schema.suggest import hint
from osml.serving.encoders import networks_of, tabular_of
from osml.serving.measured import Measured

# The form's field for the site that harmonised features come from, called as in the schema.
SITE = "cohort.site"
# Nobody can type it, so it is neither a number nor anybody's level.
NOT_GIVEN = "\x18"


@dataclass(frozen=True)
class Field:
    """One input of the form: how it is called, what it may be, and what training looked like.

    kind : number or category
    unit : unit of the model, of `limits` and of `training`
    units : all units in which it may be entered, the model's first; empty when it has none
    limits : hard range; values outside are refused
    training : range of the training axes; values outside are flagged as extrapolated
    may_be_missing : whether the model was trained to do without it
    kit_low, kit_high : names of the columns with the assay's range, when the model reads them
    """

    name: str
    column: str
    label: str
    kind: str
    unit: str
    levels: tuple[str, ...]
    limits: tuple[float, float] | None
    training: tuple[float, float] | None
    may_be_missing: bool
    kit_low: str | None = None
    kit_high: str | None = None
    units: tuple[str, ...] = ()

    def in_unit(self, unit: str) -> Field:
        """The same field with its ranges in another of its units."""
        factor = conversion_factor(self.unit, unit, self.name)

        def convert(ends: tuple[float, float] | None) -> tuple[float, float] | None:
            return None if ends is None else (ends[0] * factor, ends[1] * factor)

        return replace(self, unit=unit, limits=convert(self.limits), training=convert(self.training))


@dataclass(frozen=True)
class ImageField:
    """One file of the form.

    key : `input`, `input.mask` or `input.body`
    column : column of its path in a table
    kind : volume or image (a picture)
    several : whether more than one file may be given
    may_be_missing : whether the model was trained to do without it
    """

    key: str
    column: str
    label: str
    kind: Literal["volume", "image"]
    several: bool = False
    may_be_missing: bool = False


@dataclass(frozen=True)
class FormTable(Table):
    """Answers of a form: read by `form_schema`, where a table of the same columns is read by the study's own schema.

    measured : features of the images that came with the answers
    """

    measured: Measured | None = None


def fields(schema: Schema, chain: Chain) -> tuple[Field, ...]:
    """The cells that a predictor and those that feed it need, in axis order; the site last, where it is needed."""
    needed = indispensable(chain)
    found = tuple(_field(schema, chain, name, name in needed) for name in needed_inputs(schema, chain.name))
    known = sites(chain)
    if known is None:
        return found
    column = schema.cohort.site or ""
    return (*found, Field(SITE, column, column, "category", "", known, None, None, False))


def indispensable(chain: Chain) -> set[str]:
    """Inputs that no training row lacked, of networks and tabular learners: these have not learnt to do without."""
    out = {name for fitted in tabular_of(chain) for name in fitted.untaught()}
    for network in networks_of(chain):
        for k, source in enumerate(network.sources):
            own = [source.name] if isinstance(source, ImageSource) else list(source.inputs)
            # Of several values that stand together one may be missing.
            if len(own) == 1 and any(bool(one.untrained_absence[k]) for one in network.networks):
                out.update(own)
    return out


def image_fields(schema: Schema, name: str) -> tuple[ImageField, ...]:
    """The files that a predictor and those that feed it need: each image, its mask, its body mask."""
    out = []
    optional = optional_images(schema, name)
    words = {"": "image", "mask": "mask of the lesion", "body": "mask of the body"}
    for source, block in needed_files(schema, name).items():
        for key, column in file_columns({source: block}).items():
            label = f"{block.label or source}: {words[key.removeprefix(source).removeprefix('.')]}"
            kind: Literal["volume", "image"] = "volume" if isinstance(block, VolumeInput) else "image"
            several = key == source and isinstance(block, ImageInput) and block.several
            out.append(ImageField(key, column, label, kind, several, source in optional))
    return tuple(out)


def needed_files(schema: Schema, name: str) -> dict[str, FileInput]:
    """The images that a predictor and those that feed it need, without the masks that none of them reads."""
    masked = {schema.radiomics()[item].of for item in used_radiomics(schema, [name]) if _drawn_mask(schema, item)}
    looked_at = {schema.radiomics()[item].of for item in used_radiomics(schema, [name])}
    looked_at |= {item for one in schema.lineage([name]) for item in _own(schema, one)}
    out: dict[str, FileInput] = {}
    for source, block in schema.inputs.items():
        if source not in looked_at or not isinstance(block, FileInput):
            continue
        if isinstance(block, VolumeInput):
            out[source] = block if source in masked else block.model_copy(update={"body": None})
        else:
            out[source] = block if source in masked else block.model_copy(update={"mask": None})
    return out


def optional_images(schema: Schema, name: str) -> tuple[str, ...]:
    """Images that a predictor can do without: trained with `missing: impute`, and read by networks only."""
    if schema.missing != "impute":
        return ()
    scored = {
        schema.radiomics()[item].of
        for one in schema.lineage([name])
        if isinstance(schema.predictors[one], RadscorePredictor)
        for item in schema.predictors[one].inputs
    }
    return tuple(source for source in needed_files(schema, name) if source not in scored)


def _drawn_mask(schema: Schema, radiomics: str) -> bool:
    return schema.radiomics()[radiomics].mask is None


def _own(schema: Schema, predictor: str) -> list[str]:
    return [item for item in schema.predictors[predictor].inputs if isinstance(schema.inputs.get(item), FileInput)]


def sites(chain: Chain) -> tuple[str, ...] | None:
    """Sites that every harmonised score of a chain has learnt; None where none is harmonised."""
    fitted = chain.fitted
    own = fitted.combat.batches if isinstance(fitted, FittedRadscore) and fitted.combat is not None else None
    found = [known for known in (own, *(sites(link) for link in chain.upstream)) if known is not None]
    return tuple(site for site in found[0] if all(site in known for known in found)) if found else None


def needed_inputs(schema: Schema, name: str) -> list[str]:
    """Cells of a predictor and of those that feed it, and the inputs that its kit bands look at, in order."""
    names: list[str] = []
    for item in schema.predictors[name].inputs:
        names += [item] if item in schema.values() else []
    for source in upstream_of(schema, name):
        names += needed_inputs(schema, source)
    for item in list(names):
        kit = getattr(schema.inputs[item], "kit", None)
        if item in encoded_inputs(schema, name) and kit is not None and kit.by is not None:
            names += [other for other in (kit.by.sex, kit.by.age) if other]
    return list(dict.fromkeys(names))


def encoded_inputs(schema: Schema, name: str) -> set[str]:
    """Labs that a predictor or one that feeds it takes by their kit range."""
    block = schema.predictors[name]
    own: set[str] = set()
    if isinstance(block, NomogramPredictor):
        own = {item for item, how in block.encode.items() if how != "value"}
    elif isinstance(block, NetworkPredictor):
        own = {item for item, how in block.encode.items() if how == "kit"}
    return own.union(*(encoded_inputs(schema, source) for source in upstream_of(schema, name)))


def reading_schema(schema: Schema, name: str) -> Schema:
    """The schema for new tables: a kit range or a mask that the predictor does not use is not asked for."""
    encoded = encoded_inputs(schema, name)
    inputs = {
        key: block.model_copy(update={"kit": None}) if isinstance(block, LabInput) and key not in encoded else block
        for key, block in schema.inputs.items()
    } | needed_files(schema, name)
    return schema.model_copy(update={"inputs": inputs})


def form_schema(schema: Schema) -> Schema:
    """The schema by which a form is read: the unit stands beside each value, levels are named as on the axis."""
    inputs: dict[str, Input] = {}
    for name, block in schema.inputs.items():
        if not isinstance(block, ValueInput):
            continue
        if isinstance(block, CategoryInput):
            changes: dict[str, Any] = {"groups": None}
        elif isinstance(block, BinaryInput):
            changes = {}
        else:
            changes = {"table_unit": ColumnUnit(column=_unit_column(name)) if block.unit else None}
        inputs[name] = block.model_copy(update={"column": None, **changes})
    cohort = schema.cohort.model_copy(update={"missing": (NOT_GIVEN,)})
    return schema.model_copy(update={"inputs": inputs, "cohort": cohort})


def form_table(
    asked: tuple[Field, ...], cells: Mapping[str, str], units: Mapping[str, str], measured: Measured | None = None
) -> FormTable:
    """One row of answers.

    Parameters
    ----------
    cells : input, or column of a kit range → text as typed; "" or left out is "not given"
    units : input → unit in which it was given, where that is not the model's
    measured : features of this patient's images

    Raises
    ------
    TableError
        An input that the model does not have, or a unit in which it cannot be given.
    """
    by_name = {f.name: f for f in asked}
    kit_columns = {side for f in asked for side in (f.kit_low, f.kit_high) if side is not None}
    for name in cells:
        if name not in by_name and name not in kit_columns:
            raise TableError(f"the model has no input {name!r}", do=hint(name, by_name))
    for name, unit in units.items():
        if name not in by_name:
            raise TableError(f"the model has no input {name!r}", do=hint(name, by_name))
        if unit not in by_name[name].units:
            raise TableError(
                f"{name} cannot be given in {unit!r}", do=f"Units: {', '.join(by_name[name].units) or 'none'}."
            )
    columns = dict(_cells(asked, cells, units))
    return FormTable("form", tuple(columns), (tuple(columns.values()),), (1,), "", measured)


def _cells(asked: tuple[Field, ...], cells: Mapping[str, str], units: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for field in asked:
        text = cells.get(field.name, "")
        yield field.name, text if text.strip() else NOT_GIVEN
        if field.kind == "number" and field.unit:
            yield _unit_column(field.name), units.get(field.name, field.unit)
        for side in (field.kit_low, field.kit_high):
            if side is not None:
                yield side, cells.get(side, "").strip() or NOT_GIVEN


def entered(table: Table, row: int, field: Field) -> str:
    """What stands beside a value that came by a form: another unit in which it was typed, the assay's range; or ""."""
    if not isinstance(table, FormTable):
        return ""

    def cell(column: str | None) -> str:
        found = "" if column is None or column not in table.columns else table.column(column)[row]
        return "" if found == NOT_GIVEN else found.strip()

    unit = cell(_unit_column(field.name))
    parts = [f"typed as {cell(field.name)} {unit}"] if unit and unit != field.unit and cell(field.name) else []
    low, high = cell(field.kit_low), cell(field.kit_high)
    if low or high:
        parts.append(f"assay's range {low or '?'} to {high or '?'}")
    return "; ".join(parts)


def _unit_column(name: str) -> str:
    return f"{NOT_GIVEN}unit of {name}"


def _field(schema: Schema, chain: Chain, name: str, needed: bool) -> Field:
    block = schema.values()[name]
    category = isinstance(block, (BinaryInput, CategoryInput))
    encoded = name in encoded_inputs(schema, chain.name)
    kit = block.kit if isinstance(block, LabInput) and encoded else None
    unit = getattr(block, "unit", None) or ""
    return Field(
        name=name,
        column=block.column or name,
        label=block.label or name,
        kind="category" if category else "number",
        unit=unit,
        levels=block.levels if isinstance(block, (BinaryInput, CategoryInput)) else (),
        limits=getattr(block, "limits", None),
        training=None if encoded else training_range(chain, name),
        may_be_missing=schema.missing == "impute" and not needed,
        kit_low=kit.low if kit is not None and isinstance(kit.low, str) else None,
        kit_high=kit.high if kit is not None and isinstance(kit.high, str) else None,
        units=units_like(unit) if unit and not encoded else (unit,) if unit else (),
    )


def training_range(chain: Chain, name: str) -> tuple[float, float] | None:
    """Range of a number over the training patients, of this predictor or of one that feeds it."""
    if isinstance(chain.fitted, FittedNomogram) and name in chain.fitted.ranges:
        return chain.fitted.ranges[name]
    return next((r for link in chain.upstream if (r := training_range(link, name)) is not None), None)
