"""Predictors that learn from one table of numbers, levels, radiomics, image vectors and scores; search of settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osml.schema.fields import Block, Number, Text, Whole

Above0 = Annotated[Number, Field(gt=0)]


class Search(Block):
    """Settings tried on inner folds of every training set."""

    trials: Annotated[Whole, Field(ge=2)] = Field(
        20, description="settings tried, those of the schema first; the lowest inner loss decides"
    )


class BoostingPredictor(Block):
    """Gradient boosted trees (LightGBM). What is missing stays missing: a split learns where it goes."""

    kind: Literal["boosting"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, description="any mix of numbers, labs, levels, radiomics, "
                                              "images, predictors")]  # fmt: skip
    label: Text | None = Field(None, description="name in tables and figures; default: the predictor's name")
    leaves: Annotated[Whole, Field(ge=2)] = Field(6, description="most leaves of a tree")
    smallest_leaf: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="fewest training rows in a leaf; default: a twentieth of them, from 5 to 20"
    )
    rate: Above0 = Field(0.05, description="share of each tree's values that is added")
    rounds: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="trees (of classes: per class); default: as many as the held-out loss of the inner folds "
        "asks for, 1000 at most"
    )  # fmt: skip
    columns: Annotated[Number, Field(gt=0, le=1)] = Field(0.8, description="share of the columns that a tree looks at")
    l2: Annotated[Number, Field(ge=0)] = Field(1.0, description="penalty on squared leaf values")
    calibrate: bool = Field(
        True, description="on inner out-of-fold scores: intercept and slope, of classes a temperature, of survival a "
        "slope; without inner folds nothing is calibrated"
    )  # fmt: skip
    search: Search | None = Field(None, description="try other settings on inner folds; default: none")
