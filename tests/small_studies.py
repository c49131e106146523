"""Small studies that fit in about a second, for tests of runs, predictors and studies."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class SmallStudy:
    """A schema file with its table beside it."""

    schema: Path
    table: Path

    def rows(self) -> Rows:
        with self.table.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def write_rows(self, rows: Sequence[Mapping[str, str]]) -> None:
        write_table(self.table, rows)


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def simulate_rows(n: int = 90, seed: int = 0, missing: float = 0.0) -> Rows:
    """Patients with two numbers, two categories, a binary outcome, a follow-up time and a hold-out column."""
    rng = np.random.default_rng(seed)
    age, marker = rng.normal(50, 12, n), np.exp(rng.normal(4, 0.6, n))
    sex, stage = rng.integers(0, 2, n), rng.integers(0, 3, n)
    lp = -0.6 + 0.04 * (age - 50) + 1.2 * (np.log(marker) - 4) + 0.5 * sex + 0.4 * stage
    y = rng.random(n) < 1 / (1 + np.exp(-lp))
    time = rng.exponential(20 * np.exp(-0.7 * lp)) + 0.1
    censored = rng.uniform(5, 40, n)
    gone = rng.random((n, 2)) < missing
    return [
        {
            "id": f"P{i:03d}",
            "age": "" if gone[i, 0] else f"{age[i]:.2f}",
            "marker": "" if gone[i, 1] else f"{marker[i]:.3f}",
            "sex": ("female", "male")[sex[i]],
            "stage": ("I", "II", "III")[stage[i]],
            "outcome": "bad" if y[i] else "good",
            "months": f"{min(time[i], censored[i]):.3f}",
            "relapse": "1" if time[i] <= censored[i] else "0",
            "part": "test" if i % 4 == 3 else "training",
        }
        for i in range(n)
    ]


BINARY: dict[str, Any] = {"kind": "binary", "column": "outcome", "positive": "bad", "negative": "good"}
SURVIVAL: dict[str, Any] = {
    "kind": "survival", "time": "months", "event": "relapse", "positive": "1", "negative": "0", "unit": "month",
    "horizons": [6, 12], "competing": "none",
}  # fmt: skip


def schema_data(predictors: Mapping[str, Any] | None = None, *, bootstraps: int = 20, **changes: Any) -> dict[str, Any]:
    """The schema of a small study; `changes` replace whole top-level blocks."""
    data: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "study": {"sampling": "cohort", "synthetic": "simulated for a test"},
        "cohort": {"table": "table.csv", "patient": "id"},
        "time_of_prediction": "diagnosis",
        "times": ["diagnosis"],
        "target": BINARY,
        "inputs": {
            "age": {"kind": "number", "unit": "year", "available": "diagnosis"},
            "marker": {"kind": "lab", "unit": "U/L", "available": "diagnosis"},
            "sex": {"kind": "binary", "levels": ["female", "male"], "available": "diagnosis"},
            "stage": {"kind": "category", "levels": ["I", "II", "III"], "available": "diagnosis"},
        },
        "predictors": predictors or {"clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"]}},
        "validation": {
            "split": {"kind": "kfold", "folds": 3},
            "optimism": {"predictors": [], "bootstraps": bootstraps},
            "seed": 5,
        },
        "checks": {"accept": {"OSML041": "a test", "OSML042": "a test"}},
    }
    return {**data, **changes}


@pytest.fixture
def small_study(tmp_path: Path) -> Callable[..., SmallStudy]:
    """Writes a study into the test's folder: `small_study(rows, predictors=..., target=..., validation=...)`."""

    def write(rows: Rows | None = None, folder: str = "study", **schema: Any) -> SmallStudy:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        study = SmallStudy(place / "study.yaml", place / "table.csv")
        study.write_rows(simulate_rows() if rows is None else rows)
        # JSON is YAML, and leaves no doubt about types.
        study.schema.write_text(json.dumps(schema_data(**schema)), encoding="utf-8")
        return study

    return write


@pytest.fixture
def no_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the drawing of nomograms where a test is not about them: it is most of a small study's time."""
    monkeypatch.setattr(
        "osml.study.final.draw_sheet", lambda *a, **k: {"drawn": False, "reason": "left out in this test"}
    )
    monkeypatch.setattr("osml.study.fit.make_report", lambda path: path)
