"""`osml schema`: every key is listed with its meaning, and the JSON Schema accepts what the loader accepts."""

from __future__ import annotations

import json

from schema_walk import blocks

from osml.schema.describe import describe, json_schema
from osml.schema.suggest import closest, hint


def test_every_key_and_block_has_a_description() -> None:
    for name, block in blocks().items():
        assert (block.__doc__ or "").strip().endswith("."), name
        bare = [key for key, field in block.model_fields.items() if key != "kind" and not field.description]
        meta = [k for k in bare if not any(getattr(m, "description", None) for m in block.model_fields[k].metadata)]
        assert meta == [], name


def test_the_list_holds_every_key() -> None:
    lines = [*describe().splitlines(), ""]
    for name, block in blocks().items():
        if name == "Schema":
            start = 0
        else:
            start = next(i for i, line in enumerate(lines) if line.split("   ")[0] == name)
        end = lines.index("", start)
        listed = {line.split()[0] for line in lines[start + 1 : end]}
        assert set(block.model_fields) <= listed, name


def test_the_json_schema() -> None:
    data = json.loads(json_schema())
    assert data["additionalProperties"] is False
    assert set(data["required"]) == {
        "version", "name", "study", "cohort", "time_of_prediction", "times", "target", "inputs", "predictors",
        "validation",
    }  # fmt: skip
    assert set(blocks()) - {"Schema"} <= set(data["$defs"])


def test_what_was_meant() -> None:
    assert closest("Time_Of Prediction", ["times", "time_of_prediction"]) == "time_of_prediction"
    assert closest("xyz", ["times"]) is None
    assert hint("tmes", ["times", "name"]) == "Did you mean 'times'? Allowed: times, name."
    assert hint("q", [str(i) for i in range(20)], limit=2) == "Allowed: 0, 1, … (20 in all)."
