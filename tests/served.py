"""A fitted study for tests of the bundle, of serving and of the app: every patient's numbers can be recognised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_studies import BINARY, SURVIVAL, Rows, schema_data, write_table

from osml.study.fit import fit

INPUTS: dict[str, Any] = {
    "age": {"kind": "number", "label": "Age", "unit": "year", "limits": [0, 110], "available": "diagnosis"},
    "marker": {"kind": "lab", "label": "Marker", "unit": "U/L", "table_unit": "µkat/L", "available": "diagnosis"},
    "size": {"kind": "number", "label": "Size", "unit": "mm", "available": "diagnosis"},
    "sex": {"kind": "binary", "label": "Sex", "levels": ["female", "male"], "available": "diagnosis"},
    "stage": {
        "kind": "category", "label": "Stage", "levels": ["early", "late"],
        "groups": {"early": ["I", "II"], "late": ["III"]}, "available": "diagnosis",
    },
}  # fmt: skip
FIVE = ["age", "marker", "size", "sex", "stage"]


def patients(n: int = 90, seed: int = 3, missing: float = 0.06) -> Rows:
    """Rows whose numbers have seven significant digits, so that finding one in a file is no coincidence."""
    rng = np.random.default_rng(seed)
    age, marker, size = rng.normal(50, 12, n), np.exp(rng.normal(1.2, 0.5, n)), rng.normal(80, 25, n).clip(15)
    sex, stage = rng.integers(0, 2, n), rng.integers(0, 3, n)
    lp = 0.05 * (age - 50) + 1.1 * (np.log(marker) - 1.2) + 0.01 * (size - 80) + 0.5 * sex + 0.4 * (stage - 1)
    y = rng.random(n) < 1 / (1 + np.exp(-lp))
    time = rng.exponential(20 * np.exp(-0.7 * lp)) + 0.1
    censored = rng.uniform(5, 40, n)
    gone = rng.random(n) < missing
    return [
        {
            "id": f"QX-{7000 + 13 * i}-Z",
            "age": f"{age[i]:.5f}",
            "marker": "" if gone[i] else f"{marker[i]:.6f}",
            "size": f"{size[i]:.5f}",
            "sex": ("female", "male")[sex[i]],
            "stage": ("I", "II", "III")[stage[i]],
            "outcome": "bad" if y[i] else "good",
            "months": f"{min(time[i], censored[i]):.5f}",
            "relapse": "1" if time[i] <= censored[i] else "0",
        }
        for i in range(n)
    ]


def serve(folder: Path, rows: Rows | None = None, target: Mapping[str, Any] = BINARY, **changes: Any) -> Path:
    """Fit the study in a folder, without its report; returns the run's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table.csv", patients() if rows is None else rows)
    blocks: dict[str, Any] = {
        "inputs": INPUTS,
        "missing": "impute",
        "target": dict(target),
        "predictors": {"clinical": {"kind": "nomogram", "inputs": FIVE, "terms": {"marker": "log"}}},
    }
    data = schema_data(bootstraps=60, **{**blocks, **changes})
    data["study"] |= {"title": "Served study", "endpoint": "bad outcome", "population": "adults", "centre": "Testville"}
    data["study"]["period"] = "2015 to 2020"
    data["validation"]["split"]["folds"] = 2
    schema = folder / "study.yaml"
    schema.write_text(json.dumps(data), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("osml.study.fit.make_report", lambda path: path)  # most of the time of so small a study
        return fit(schema, runs=folder / "runs", workers=1, say=lambda line: None, quiet=True).run.path


__all__ = ["BINARY", "FIVE", "INPUTS", "SURVIVAL", "patients", "serve"]
