"""Fitted predictors that read one table, and what any predictor looks at: images, radiomics, encoders."""

from __future__ import annotations

from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.boosting import FittedBoosting
from osml.predictors.contract import Fitted
from osml.predictors.network import FittedNetwork
from osml.predictors.table import TableSpec

Tabular = FittedAutogluon | FittedBoosting
# Both name `images`, `encoders` and `radiomics`.
Reader = FittedNetwork | TableSpec


def reader_of(fitted: Fitted) -> Reader | None:
    """What says which images and radiomics a predictor looks at; None for one that looks at none itself."""
    if isinstance(fitted, FittedNetwork):
        return fitted
    return fitted.spec if isinstance(fitted, Tabular) else None
