"""Rows and types that the report tests share; imported by name, so it is not called conftest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from small_studies import Rows

FitRun = Callable[..., Path]


def noise_rows(n: int, inputs: int, seed: int) -> Rows:
    """An outcome and a follow-up that no input has anything to do with."""
    rng = np.random.default_rng(seed)
    x, y, t = rng.normal(size=(n, inputs)), rng.random(n) < 0.5, rng.exponential(12, n) + 0.1
    return [
        {
            "id": f"N{i:03d}",
            **{f"x{j}": f"{x[i, j]:.4f}" for j in range(inputs)},
            "outcome": "bad" if y[i] else "good",
            "months": f"{min(t[i], 30):.3f}",
            "relapse": str(int(t[i] <= 30)),
        }
        for i in range(n)
    ]
