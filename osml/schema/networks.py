"""Predictors that are networks, or combine whole predictors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osml.schema.fields import Block, FilePath, Number, Text, Whole
from osml.schema.tabular import Search

Above0 = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]


class EncoderBlock(Block):
    """How pictures of one input become vectors."""

    model: Text = Field(
        "default", description="a timm model; default: tf_efficientnet_lite0, whose weights come with a package"
    )
    weights: Literal["hub"] | FilePath | None = Field(
        None, description="a file, or hub (timm's own weights, over the network); default: an installed package or "
        "$OSML_WEIGHTS"
    )  # fmt: skip
    tune: Literal["frozen", "lora", "full"] = Field(
        "frozen", description="frozen: vectors are computed once and cached; lora, full: trained too, on a GPU"
    )
    rank: Annotated[Whole, Field(ge=1)] = Field(8, description="of `tune: lora`")
    size: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="side of the input in pixels; default: what the weights were made for"
    )
    scale: Literal["resize", "native"] = Field(
        "resize", description="native: crops at full resolution, mean and maximum of their vectors; for frozen ones"
    )
    layers: Literal["final"] | Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        None, description="modules by name, whose maps' means and SDs are the vector; final: the model's own vector. "
        "Default: final; of the frozen default encoder for pictures of free orientation blocks.3 and blocks.4 at 448 "
        "pixels with 2 stained copies"
    )  # fmt: skip
    stain: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="frozen encoders of H&E: copies of every picture with other strengths of its stains, which "
        "training draws from; default: none, unless `layers` are left to their default"
    )  # fmt: skip


class Divide(Block):
    """Divide by a constant: age by 100."""

    divide: Above0 = Field(description="the divisor")


class NodeWeights(Block):
    """Weights of the decisions of a tree in the loss."""

    kind: Literal["fixed", "uncertainty"] = Field(description="fixed: 1 each; uncertainty: learnt")
    eta: Above0 = Field(0.5, description="constant of the learnt weights; it only rescales the loss")


class Train(Block):
    """How a network is trained: a preset, and what departs from it."""

    preset: Literal["embeddings", "fine-tune", "late-fusion-paper", "histology-paper"] | None = Field(
        None, description="default: embeddings for frozen encoders, else fine-tune"
    )
    epochs: Annotated[Whole, Field(ge=1)] | None = Field(None, description="passes; the most, with early stopping")
    batch: Annotated[Whole, Field(ge=1)] | None = Field(None, description="rows per step")
    optimizer: Literal["adamw", "sgd"] | None = Field(None, description="adamw, or sgd with momentum")
    rate: Above0 | None = Field(None, description="learning rate")
    encoder_rate: Above0 | None = Field(None, description="learning rate of encoders that are tuned")
    weight_decay: Annotated[Number, Field(ge=0)] | None = Field(None, description="on matrices and kernels")
    patience: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="epochs without gain on inner patients before training stops"
    )
    ema: Annotated[Number, Field(gt=0, lt=1)] | None = Field(None, description="decay of the average of weights")


class NetworkPredictor(Block):
    """Encoders per input, fusion, head; trained on the GPU where there is one."""

    kind: Literal["network"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, description="any mix of images, radiomics, numbers, labs, "
                                              "levels")]  # fmt: skip
    label: Text | None = Field(None, description="name in tables and figures; default: the predictor's name")
    encoders: dict[str, EncoderBlock] = Field({}, description="image or volume: its encoder; default: the default one")
    encode: dict[str, Literal["standard", "kit"] | Divide] = Field(
        {}, description="number or lab: standard (default) | kit, (y-L)/(H-L) | {divide: 100}"
    )
    fusion: Literal["concat", "gated", "film"] = Field(
        "concat", description="concat: vectors side by side; gated: weighted mean; film: the others scale the first"
    )
    width: Annotated[Whole, Field(ge=1)] = Field(256, description="length of the vectors of gated and film")
    reduce: Literal["mean", "max", "attention"] = Field("mean", description="over several images of a unit")
    head: Literal["tree", "flat", "cox", "discrete_time"] | None = Field(
        None, description="default: after the target; flat for a hierarchy trains its leaves side by side"
    )
    node_weights: NodeWeights = Field(NodeWeights(kind="fixed"), description="of a tree's decisions")
    dropout: Share = Field(0.3, description="in the branches of tables and radiomics")
    head_dropout: Share = Field(0.0, description="before the last layer of a concat head")
    modality_dropout: Share = Field(0.1, description="chance that an input is hidden in training, so that it may miss")
    seeds: Annotated[Whole, Field(ge=1)] = Field(
        1, description="networks from independent seeds, whose outputs are averaged; their spread is that of training, "
        "not of patients"
    )  # fmt: skip
    train: Train = Field(Train(), description="recipe of the training")
    calibrate: Literal["temperature", "platt", "none"] | None = Field(
        None, description="on inner out-of-fold scores; default: temperature (binary: platt), none without inner folds"
    )
    abstain: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        None, description="accepted share of wrong prediction sets; units with more than one class in theirs are left "
        "undecided"
    )  # fmt: skip
    ablation: Literal["none", "modalities", "inputs"] = Field(
        "modalities", description="on the same folds: modalities, images alone and the rest alone; inputs: every "
        "subset of the inputs"
    )  # fmt: skip
    search: Search | None = Field(None, description="try other settings on inner folds; default: none")


class StackPredictor(Block):
    """Whole predictors combined by their out-of-fold scores."""

    kind: Literal["stack"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=2, description="predictors")]
    label: Text | None = Field(None, description="name in tables and figures; default: the predictor's name")
    method: Literal["mean", "logistic"] = Field(
        "mean",
        description="mean: of log odds, log hazards or log P(class); logistic: weights learnt on out-of-fold "
        "scores, none below 0",
    )
