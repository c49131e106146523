"""What is printed beside the axes: a plain mapping given by the caller, checked here, stored in the JSON as it is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from osml.errors import InvalidInputError
from osml.nomogram.spec import check_text

NOTICE = "Research use only. Not a medical device."

KEYS: dict[str, str] = {
    "title": "heading of the sheet; the outcome's name otherwise",
    "population": "who the patients were",
    "centre": "where they were treated",
    "period": "years of inclusion",
    "time_of_prediction": "when the prediction is made: before surgery",
    "validation": "external validation in words; without it the sheet says 'no external validation'",
    "n": "patients in development",
    "events": "events in development",
    "parameters": "candidate parameters, for events per parameter",
    "performance": "list of {measure, apparent, corrected, low, high}; numbers or null",
    "exploratory": "why the sample is too small, in words; prints 'Exploratory' on the first page",
    "warnings": "list of sentences",
    "accepted": "mapping from check code to the reason for accepting it",
    "notes": "list of sentences",
    "surrogate": "mapping {of, r2, mean_error, max_error, slope, intercept, rows}: what is approximated, how well",
    "provenance": "mapping of words: model id, hash, seed, version",
}
_TEXT = ("title", "population", "centre", "period", "time_of_prediction", "validation", "exploratory")
_COUNT = ("n", "events", "parameters")
_LIST = ("warnings", "notes")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse unknown keys and values of the wrong kind.

    >>> check_metadata({"centre": "Zagreb", "n": 93})
    """
    for key, value in metadata.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            raise InvalidInputError(
                f"unknown metadata key {key!r}",
                do=(f"Did you mean {near[0]!r}? " if near else "") + f"Allowed: {', '.join(KEYS)}.",
            )
        if key in _TEXT:
            check_text(value, f"metadata {key}")
        elif key in _COUNT:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInputError(f"metadata {key}: expected a count, got {value!r}")
        elif key in _LIST:
            if not isinstance(value, list | tuple):
                raise InvalidInputError(f"metadata {key}: expected a list of sentences, got {value!r}")
            for sentence in value:
                check_text(sentence, f"metadata {key}")
        elif key == "performance":
            _check_performance(value)
        elif not isinstance(value, Mapping):
            raise InvalidInputError(f"metadata {key}: expected a mapping, got {value!r}")
        else:
            for name, entry in value.items():
                check_text(str(name), f"metadata {key}")
                check_text(str(entry), f"metadata {key}.{name}")
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"metadata cannot be written as JSON: {error}") from error


def _check_performance(value: Any) -> None:
    allowed = {"measure", "apparent", "corrected", "low", "high"}
    for row in value:
        if not isinstance(row, Mapping) or not {"measure"} <= set(row) <= allowed:
            raise InvalidInputError(
                f"metadata performance: a row needs 'measure' and at most {sorted(allowed)}: {row!r}"
            )
        check_text(row["measure"], "metadata performance")
