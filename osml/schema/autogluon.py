"""Predictor `autogluon`: many models of `autogluon.tabular`, bagged over patients and combined."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osml.schema.fields import Block, Number, Text, Whole


class AutogluonPredictor(Block):
    """Models of AutoGluon on a table, bagged over the inner folds of patients and weighted."""

    kind: Literal["autogluon"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, description="numbers, labs, levels, radiomics, images (as "
                                              "vectors of the default frozen encoder) and predictors")]  # fmt: skip
    label: Text | None = Field(None, description="name in tables and figures; default: the predictor's name")
    presets: Literal["small_n", "medium_quality", "good_quality", "high_quality", "best_quality"] = Field(
        "small_n",
        description="which models: small_n, seven small ones for cohorts of a few hundred; or the portfolio of one of "
        "AutoGluon's presets, as far as its models run offline",
    )
    time_limit: Annotated[Whole, Field(ge=10)] | None = Field(
        None, description="seconds of one fit, of which every fold needs one; none: until all models are fitted, and "
        "then the same result again"
    )  # fmt: skip
    memory_limit: Annotated[Number, Field(gt=0)] = Field(
        4.0, description="GB above which AutoGluon leaves a model out"
    )  # fmt: skip
    calibrate: bool = Field(
        True, description="on its out-of-fold probabilities: intercept and slope, of classes a temperature; kept where "
        "it lowers the log-loss of inner folds that it was not fitted to"
    )  # fmt: skip
