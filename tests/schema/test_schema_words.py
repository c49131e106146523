"""What becomes of missing values depends on who reads them."""

from __future__ import annotations

import pytest
from helpers import minimal_schema

from osml.schema.model import Schema
from osml.schema.words import missing_words

CLINICAL = {"kind": "nomogram", "inputs": ["age"]}
TREES = {"kind": "boosting", "inputs": ["age"]}


@pytest.mark.parametrize(
    ("missing", "predictors", "words"),
    [
        ("complete_case", {"a": CLINICAL, "b": TREES}, "complete cases only"),
        ("impute", {"a": CLINICAL}, "imputed inside each fold"),
        ("impute", {"b": TREES}, "left missing for networks and trees"),
        (
            "impute",
            {"a": CLINICAL, "b": TREES},
            "imputed inside each fold for regressions, left missing for networks and trees",
        ),
    ],
)
def test_words_for_missing_values(missing: str, predictors: dict[str, object], words: str) -> None:
    schema = Schema.model_validate({**minimal_schema(), "missing": missing, "predictors": predictors})
    assert missing_words(schema) == words
