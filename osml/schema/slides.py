"""Whole slides: the target `region`, the inputs `slide` and `score`, the predictor `slide`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from osml.schema.fields import Block, FilePath, Number, Text, Whole

Above0 = Annotated[Number, Field(gt=0)]
Refine = Literal["none", "majority", "unet", "brownian_bridge", "best"]
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


def _colour(value: str) -> str:
    if not _COLOUR.fullmatch(value):
        raise ValueError(f"must be a colour such as #d55e00, not {value!r}")
    return value.lower()


class TissueClass(Block):
    """A class of tissue; its key is its name in annotations and results."""

    name: Text = Field(description="words in tables and figures")
    colour: Annotated[Text, AfterValidator(_colour)] = Field(
        description="red, green and blue as #rrggbb: its colour in masks and overlays"
    )


class Necrosis(Block):
    """Which classes make the necrosis rate: necrotic area / (viable + necrotic area)."""

    viable: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(description="classes of viable tumour")
    necrotic: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        description="classes of tumour bed that is not viable"
    )


class RegionTarget(Block):
    """Classes of tissue over whole slides, as somebody drew them."""

    kind: Literal["region"]
    of: Text = Field(description="the slide input that is annotated")
    column: Text = Field(
        description="column of the annotation: QuPath's GeoJSON, or a picture in the classes' colours; empty: the "
        "slide is predicted only"
    )
    classes: Annotated[dict[str, TissueClass], Field(min_length=2, max_length=254)] = Field(
        description="code in annotations: its words and colour; the first is the background (glass)"
    )
    necrosis: Necrosis | None = Field(None, description="which classes make the necrosis rate; default: there is none")


class SlideInput(Block):
    """A whole slide: Aperio SVS, tiled TIFF and whatever else OpenSlide reads."""

    kind: Literal["slide"]
    column: Text | None = Field(None, description="column of the path; default: the input's name. Paths are relative "
                                "to the table's folder")  # fmt: skip
    label: Text | None = Field(None, description="name in tables and figures; default: the input's name")
    available: Text = Field(description="one of `times`: when the slide is known")
    mpp: Literal["from_file"] | Above0 = Field(
        "from_file", description="µm per pixel of the largest level; a number overrides what the files say"
    )


class ScoreInput(Block):
    """A number that a frozen bundle of another study says of each patient."""

    kind: Literal["score"]
    of: Text = Field(description="the slide input that the bundle looks at")
    bundle: FilePath = Field(description="folder of the bundle; never fitted again here")
    output: Text = Field(description="necrosis_rate, or the code of a class: its share of the tissue")
    oof: FilePath | None = Field(
        None, description="the run's out-of-fold values (necrosis_oof.csv), for patients that the bundle was fitted to"
    )
    label: Text | None = Field(None, description="name on axes and in tables; default: the input's name")
    available: Text = Field(description="one of `times`: when the slides are known")


class SlideTile(Block):
    """Tiles that the encoder looks at, one after the other."""

    size_um: Above0 = Field(128.0, description="side of a tile in µm")
    stride_um: Above0 = Field(128.0, description="from one tile to the next, in µm; overlapping tiles are blended")
    mpp: Above0 = Field(0.5, description="µm per pixel at which tiles are read; slides must be at least as fine")


class LoraBlock(Block):
    """Low-rank matrices beside frozen ones."""

    rank: Annotated[Whole, Field(ge=1)] = Field(16, description="rank of the matrices")
    alpha: Above0 = Field(32.0, description="their weight, divided by the rank")


class Lora(Block):
    """`tune: {lora: {rank: 16, alpha: 32}}`."""

    lora: LoraBlock = Field(description="of the blocks' qkv and proj")


class SlideEncoder(Block):
    """How tiles become vectors."""

    model: Text = Field("default", description="a timm model; default: the encoder whose weights come with a package")
    weights: Literal["hub"] | FilePath | None = Field(
        None, description="a file, or hub (timm's own weights, over the network); default: an installed package or "
        "$OSML_WEIGHTS"
    )  # fmt: skip
    tune: Literal["frozen"] | Lora = Field(
        "frozen", description="frozen: vectors are computed once and cached; {lora: {rank, alpha}}: trained, on a GPU"
    )


class SlideRefiner(Block):
    """Networks that refine maps: their size and the length of their training."""

    width: Annotated[Whole, Field(ge=1)] = Field(32, description="channels at full resolution")
    steps: Annotated[Whole, Field(ge=1)] = Field(1500, description="training steps; of every training there is")


class SlidePredictor(Block):
    """Tiles are classified; a refiner then mends the map of a whole slide."""

    kind: Literal["slide"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1, description="the slide input")]
    label: Text | None = Field(None, description="name in tables and figures; default: the predictor's name")
    tile: SlideTile = Field(SlideTile(), description="tiles that the encoder looks at")
    encoders: dict[str, SlideEncoder] = Field({}, description="slide input: its encoder; default: the default one")
    refine: Refine = Field("best", description="none, majority, unet, brownian_bridge; best: the one that wins on "
                           "inner patients")  # fmt: skip
    refiner: SlideRefiner = Field(SlideRefiner(), description="of unet and brownian_bridge")
    min_tissue: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.1, description="share of a tile that must be tissue for the encoder to look at it; the rest is background"
    )
