"""Reference data and results shared by the tests of osml.stats."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent / "reference" / "r"


@cache
def result(name: str) -> Any:
    return json.loads((ROOT / "out" / f"{name}.json").read_text())


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}.csv")


def birthwt() -> tuple[np.ndarray, np.ndarray]:
    """age, lwt, race=black, race=other, smoke, ptd, ht, ui (189, 8) and low (189,)."""
    b = table("birthwt")
    columns = [b.age, b.lwt, b.race == "black", b.race == "other"] + [
        b[v] == "yes" for v in ("smoke", "ptd", "ht", "ui")
    ]
    return np.column_stack([np.asarray(c, dtype=float) for c in columns]), b.low.to_numpy()


def lung() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """age, sex, ph.ecog, wt.loss (213, 4), time and death."""
    d = table("lung")
    d = d[d.row.isin(result("f1_survival_lung")["rows"])]
    X = d[["age", "sex", "ph.ecog", "wt.loss"]].to_numpy(dtype=float)
    return X, d.time.to_numpy(dtype=float), d.status.to_numpy() == 2


def simulated() -> tuple[np.ndarray, pd.DataFrame]:
    """Six columns (160, 6) and the frame of fitting.json: y, o (offset), w (weights), time, event."""
    d = pd.DataFrame(result("fitting")["data"])
    return d[[f"x{k}" for k in range(1, 7)]].to_numpy(dtype=float), d
