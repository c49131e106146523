"""What a schema asks for, in words that reports and terminals share."""

from __future__ import annotations

from osml.schema.model import Schema


def missing_words(schema: Schema) -> str:
    """What becomes of missing values."""
    if schema.missing != "impute":
        return "complete cases only"
    kinds = {block.kind for block in schema.predictors.values()}
    filled, kept = "imputed inside each fold", "left missing for networks and trees"
    if not kinds & {"network", "boosting", "autogluon"}:
        return filled
    return f"{filled} for regressions, {kept}" if "nomogram" in kinds else kept
