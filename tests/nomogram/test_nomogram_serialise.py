"""JSON: same bytes, exact round trip, tampering and newer formats refused, documented schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nomogram_models import birthwt, birthwt_training, interaction_model, lung, random_nomogram

from osml.errors import InvalidInputError, VerificationError
from osml.nomogram import Histogram, Interval, LogisticOutcome, Predictor, Unit, build, from_json, to_json

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "nomogram.schema.json").read_text(encoding="utf-8"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cox=st.booleans())
def test_round_trip_is_exact(seed: int, cox: bool) -> None:
    n, _ = random_nomogram(seed, cox=cox)
    text = to_json(n)
    again = from_json(text)
    assert to_json(again) == text
    np.testing.assert_array_equal(again.model.coef, n.model.coef)
    assert (again.scale, again.intercept) == (n.scale, n.intercept)
    assert problems(json.loads(text)) == []


def test_round_trip_keeps_everything() -> None:
    n = birthwt(interval=Interval("wald", level=0.9), metadata={"n": 189, "events": 59, "notes": ["a note"]})
    again = from_json(to_json(n))
    assert again.predictors == n.predictors
    assert again.outcome == n.outcome
    assert again.training_totals == n.training_totals
    assert again.metadata == n.metadata
    assert again.interval is not None
    assert again.interval.level == 0.9
    for a, b in zip(again.bounds(birthwt_training()) or (), n.bounds(birthwt_training()) or (), strict=True):
        np.testing.assert_array_equal(a, b)


def test_units_histograms_interactions_and_refits_survive() -> None:
    model, predictors = interaction_model()
    predictors[2] = Predictor(
        "dose",
        low=30,
        high=90,
        units=(Unit("g", 0.001),),
        histogram=Histogram((30.0, 60.0, 90.0), (7, 0)),
        unknown=50.0,
    )
    refits = np.random.default_rng(0).normal(0, 1, (60, 5))
    n = build(model, predictors, LogisticOutcome("relapse"), interval=Interval("instability", refits=refits))
    again = from_json(to_json(n))
    assert again.predictors == n.predictors
    assert again.interval is not None
    np.testing.assert_array_equal(again.interval.refits, refits)
    assert problems(json.loads(to_json(n))) == []
    assert problems(json.loads(to_json(lung(at_risk=(150, 60, 12))))) == []


def changed(data: dict[str, Any], *path: Any, to: Any) -> str:
    where: Any = data
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = to
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "kind", "message"),
    [
        (("model", "coef", 0), -0.05, VerificationError, "points"),
        (("model", "intercept"), 3.4, VerificationError, "points intercept"),
        (("points", "scale"), 25.0, VerificationError, "points scale"),
        (("golden", "ticks", 0, "points", 1), 3.0, VerificationError, "points at its ticks"),
        (("golden", "cases", "probability", 3), 0.5, VerificationError, "probability"),
        (("notice",), "Approved medical device.", VerificationError, "notice"),
        (("version",), 2, InvalidInputError, "format version 2"),
        (("format",), "other", InvalidInputError, "not a nomogram"),
        (("metadata", "centr"), "Zagreb", InvalidInputError, "Did you mean 'centre'"),
        (("outcome", "kind"), "poisson", InvalidInputError, "unknown outcome kind"),
    ],
)
def test_a_changed_file_is_refused(path, value, kind, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=message):
        from_json(changed(json.loads(to_json(birthwt())), *path, to=value))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_text_that_is_no_nomogram_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not "):
        from_json(text)


def test_a_missing_part_is_named() -> None:
    data = json.loads(to_json(birthwt()))
    del data["golden"]
    with pytest.raises(InvalidInputError, match="lacks 'golden'"):
        from_json(json.dumps(data))


def problems(data: Any, schema: dict[str, Any] = SCHEMA, where: str = "$") -> list[str]:
    """What of a small JSON Schema vocabulary `data` violates."""
    if "$ref" in schema:
        return problems(data, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], where)
    if "anyOf" in schema:
        return (
            [] if any(not problems(data, option, where) for option in schema["anyOf"]) else [f"{where}: no option fits"]
        )
    if "const" in schema and data != schema["const"]:
        return [f"{where}: {data!r} is not {schema['const']!r}"]
    if "enum" in schema and data not in schema["enum"]:
        return [f"{where}: {data!r} is not one of {schema['enum']}"]
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    expected = schema.get("type")
    if expected == "null":
        return [] if data is None else [f"{where}: not null"]
    if expected is not None and not isinstance(data, kinds[expected]):
        return [f"{where}: {data!r} is no {expected}"]
    found: list[str] = []
    if isinstance(data, dict) and "properties" in schema:
        found += [f"{where}: lacks {key}" for key in schema.get("required", []) if key not in data]
        if schema.get("additionalProperties") is False:
            found += [f"{where}: {key} is not described" for key in data if key not in schema["properties"]]
        for key, value in data.items():
            if key in schema["properties"]:
                found += problems(value, schema["properties"][key], f"{where}.{key}")
    if isinstance(data, list) and "items" in schema:
        for i, value in enumerate(data):
            found += problems(value, schema["items"], f"{where}[{i}]")
    return found


def test_the_schema_check_can_fail() -> None:
    data = json.loads(to_json(birthwt()))
    data["surprise"] = 1
    data["model"]["coef"][0] = "0.1"
    del data["points"]["scale"]
    assert len(problems(data)) == 3
