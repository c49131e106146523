"""Simulated data are called that in every output, also where the schema forgets to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_studies import small_study

from osml.schema.load import load_schema
from osml.synthetic.slide_mosaics import NOTICE

__all__ = ["small_study"]


@pytest.mark.parametrize(
    ("note", "stated", "told"),
    [
        (None, None, None),
        ("Synthetic data: no row describes a real person.\nosml synth nac\n", None, "no row describes a real person"),
        ("Synthetic data: no row describes a real person.\n", "made for a course", "made for a course"),
        ("", None, "simulated"),
    ],
)
def test_a_note_beside_the_table_is_read(
    small_study: Callable[..., Any], note: str | None, stated: str | None, told: str | None
) -> None:
    study = small_study()
    if note is not None:
        (study.schema.parent / "SYNTHETIC.txt").write_text(note, encoding="utf-8")
    loaded = load_schema(study.schema, [f"study.synthetic={stated}" if stated else "study.synthetic=null"])
    assert loaded.schema.study.synthetic == told
    assert loaded.resolved()["study"]["synthetic"] == told


def test_results_on_mosaics_are_called_optimistic(small_study: Callable[..., Any]) -> None:
    study = small_study()
    (study.schema.parent / "SYNTHETIC.txt").write_text(f"{NOTICE}osml synth slides --tiles x\n", encoding="utf-8")
    loaded = load_schema(study.schema, ["study.synthetic=null"])
    assert "results on these slides are optimistic" in str(loaded.schema.study.synthetic)
