"""Stored predictions: exact numbers, fixed order, equal bytes."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from osml.runs.store import COLUMNS, PredictionRow, read_predictions, write_predictions

ROWS = [
    PredictionRow("b", 0, 1, "u1", "p1", "bad", 0.1 + 0.2, -1.0 / 3.0, 0.1, 0.9, "a kind"),
    PredictionRow("b", 0, 0, "u2", "p2", "bad", 1e-300, -690.7, None, None, "no interval available"),
    PredictionRow("a", 1, 0, "u3", "p1", "bad", 1.0, 40.0, 0.9, 1.0, "a kind"),
    PredictionRow("a", 0, 0, "u4", "p3", "bad", 0.5, 0.0, 0.4, 0.6, "a kind"),
    PredictionRow("a", 0, 0, "u0", "p4", "bad", 0.25, -1.1, 0.2, 0.3, "a kind"),
]


def test_rows_come_back_exactly_in_a_fixed_order(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet", ROWS)
    back = read_predictions(tmp_path / "p.parquet")
    assert back == [ROWS[3], ROWS[4], ROWS[2], ROWS[1], ROWS[0]]
    assert [row.p for row in back] == [0.5, 0.25, 1.0, 1e-300, 0.30000000000000004]


def test_the_order_in_which_folds_finish_does_not_change_a_byte(tmp_path: Path) -> None:
    write_predictions(tmp_path / "a.parquet", ROWS)
    groups = [[ROWS[0]], [ROWS[1]], [ROWS[2]], ROWS[3:]]
    for k in range(5):
        random.Random(k).shuffle(groups)
        write_predictions(tmp_path / "b.parquet", [row for group in groups for row in group])
        assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "a.parquet").read_bytes()


def test_withheld_risks_stay_undefined(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet", [replace(ROWS[0], p=math.nan)])
    assert np.isnan(read_predictions(tmp_path / "p.parquet")[0].p)


def test_an_empty_file_has_the_same_columns(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet", [])
    assert read_predictions(tmp_path / "p.parquet") == []
    assert tuple(pq.read_schema(tmp_path / "p.parquet").names) == COLUMNS


def test_no_time_or_path_is_stored(tmp_path: Path) -> None:
    write_predictions(tmp_path / "one.parquet", ROWS)
    write_predictions(tmp_path / "elsewhere" / "two.parquet", ROWS)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "elsewhere" / "two.parquet").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "one.parquet").read_bytes()
