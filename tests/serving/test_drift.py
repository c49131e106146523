"""Drift: training counts in a bundle, counts of predictions beside them, and what may be said of a difference."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import SURVIVAL, patients, serve

from osml.cohort.table import Table
from osml.runs.bundle import MANIFEST, seal
from osml.serving import Model, load
from osml.serving.database import COUNTS, opened
from osml.serving.drift import MIN_N, count, drift, months_of, training_of
from osml.serving.training_counts import MIN_CELL, _number, cell_names, cells_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("drift"), patients(400))


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "audit.sqlite")


def new_table(n: int, seed: int = 11, shift: float = 0.0, **columns: str) -> Table:
    rows = patients(n, seed)
    for row in rows:
        row["age"] = f"{float(row['age']) + shift:.5f}"
        row |= columns
    header = tuple(rows[0])
    return Table("new.csv", header, tuple(tuple(row[c] for c in header) for row in rows), tuple(range(2, n + 2)), "")


def counted(url: str, model: Model, table: Table) -> None:
    count(opened(url), model, table, model.predict(table))


# Training counts


def test_a_bundle_holds_counts_of_ten_or_more_and_no_value(model: Model, run: Path) -> None:
    training = training_of(model)
    assert training is not None
    assert set(training["inputs"]) == {"age", "marker", "size", "sex", "stage"}
    assert set(training["predictions"]) == set(model.columns)
    for block in [*training["inputs"].values(), *training["predictions"].values()]:
        assert min(block["counts"]) >= MIN_CELL
        assert block["missing"] is None or block["missing"] == 0 or block["missing"] >= MIN_CELL
        assert len(block["counts"]) == (len(block["edges"]) + 1 if "edges" in block else len(block["groups"]))
    raw = (run / "bundle" / "predictors" / "clinical" / "training.json").read_text(encoding="utf-8")
    values = {row[name] for row in patients(400) for name in ("age", "marker", "size") if row[name]}
    assert not [value for value in values if value in raw]
    assert len(training["inputs"]["age"]["counts"]) >= 6


def test_few_missing_values_are_not_counted_out() -> None:
    values = np.append(np.random.default_rng(1).normal(50, 10, 97), [np.nan] * 3)
    block = _number(values)
    assert block is not None
    assert block["missing"] is None
    assert 100 - sum(block["counts"]) != 3 or any(n % 10 == 0 for n in block["counts"])
    none = _number(np.append(values[:97], [np.nan] * 12))
    assert none is not None
    assert none["missing"] == 12


@pytest.mark.parametrize("values", [[1.0] * 50, [float("nan")] * 50, list(range(12)), [0.0] * 45 + [1.0] * 3])
def test_too_little_to_count(values: list[float]) -> None:
    assert _number(np.array(values)) is None


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_every_value_has_its_cell(scale: float) -> None:
    values = np.random.default_rng(2).lognormal(0, 1, 500) * scale
    block = _number(values)
    assert block is not None
    cells = cells_of(block, values)
    assert [cells.count(str(k)) for k in range(len(block["counts"]))] == block["counts"]
    assert len(cell_names(block)) == len(block["counts"])
    assert cells_of(block, np.array([np.nan, -1e30, 1e30])) == ["missing", "0", str(len(block["counts"]) - 1)]


def test_rare_levels_share_a_cell(tmp_path: Path) -> None:
    rows = patients(120)
    inputs: dict[str, Any] = {
        "age": {"kind": "number", "available": "diagnosis"},
        "stage": {"kind": "category", "levels": ["I", "II", "III"], "available": "diagnosis"},
    }
    for i, row in enumerate(rows):
        row["stage"] = "III" if i % 30 == 0 else "II" if i % 2 else "I"
    predictors = {"clinical": {"kind": "nomogram", "inputs": ["age", "stage"], "estimator": "firth"}}
    training = training_of(load(serve(tmp_path, rows, inputs=inputs, predictors=predictors)))
    assert training is not None
    groups = training["inputs"]["stage"]["groups"]
    assert sorted(level for group in groups for level in group) == [0, 1, 2]
    assert len(groups) == 2
    assert min(training["inputs"]["stage"]["counts"]) >= MIN_CELL


def test_where_risks_are_withheld_they_are_not_counted(tmp_path: Path, url: str) -> None:
    model = load(serve(tmp_path / "s", study={"sampling": "case_control", "synthetic": "simulated for a test"}))
    training = training_of(model)
    assert training is not None
    assert training["predictions"] == {}
    counted(url, model, new_table(30))
    assert {c.name for c in drift(url, model, months_of(url, model)).comparisons} <= set(training["inputs"])


# Counts and comparisons


def test_the_same_kind_of_patients_look_like_training(url: str, model: Model) -> None:
    counted(url, model, new_table(300))
    found = drift(url, model, months_of(url, model))
    assert (found.n, found.why, found.differing) == (300, "", ())
    assert {one.label for one in found.comparisons} >= {"Age", "Marker", "Size", "Sex", "Stage", "Predicted: bad"}
    for one in found.comparisons:
        assert sum(one.training) == pytest.approx(1)
        assert sum(one.new) == pytest.approx(1)
        assert len(one.names) == len(one.training) == len(one.new)


def test_older_patients_are_noticed(url: str, model: Model) -> None:
    for seed in (11, 12, 13):
        counted(url, model, new_table(60, seed, shift=15))
    found = drift(url, model, months_of(url, model))
    assert found.n == 180
    names = {one.name for one in found.differing}
    assert "age" in names
    assert not names & {"sex", "stage", "size", "marker"}
    age = next(one for one in found.comparisons if one.name == "age")
    assert age.new[-1] > 2 * age.training[-1]
    assert age.outside is not None
    assert age.outside > 0


def test_more_missing_values_are_noticed(url: str, model: Model) -> None:
    table = new_table(100)
    place = table.columns.index("marker")
    rows = tuple((*row[:place], "" if i % 2 else row[place], *row[place + 1 :]) for i, row in enumerate(table.rows))
    counted(url, model, Table("new.csv", table.columns, rows, table.lines, ""))
    marker = next(one for one in drift(url, model, months_of(url, model)).comparisons if one.name == "marker")
    assert marker.verdict == "differs from training"
    assert marker.missing_new == pytest.approx(0.5, abs=0.06)
    assert marker.missing_training == pytest.approx(0.06, abs=0.03)


def test_few_predictions_are_not_shown_and_not_called_alike(url: str, model: Model) -> None:
    counted(url, model, new_table(MIN_N - 1))
    found = drift(url, model, months_of(url, model))
    assert found.comparisons == ()
    assert "Fewer than 20" in found.why
    counted(url, model, new_table(3, seed=5))
    found = drift(url, model, months_of(url, model))
    assert found.n == 22
    assert found.comparisons[0].verdict == "no difference found, but too few to tell"


def test_equal_patients_are_called_different_about_as_seldom_as_said(tmp_path: Path, model: Model) -> None:
    wrong = 0
    for seed in range(40):
        url = str(tmp_path / f"{seed}.sqlite")
        counted(url, model, new_table(80, 1000 + seed))
        wrong += bool(drift(url, model, months_of(url, model)).differing)
    assert wrong <= 6  # 5 % are 2; 7 or more have a probability of 0.3 %


def test_rows_without_a_prediction_are_counted_apart(url: str, model: Model) -> None:
    counted(url, model, new_table(30))
    counted(url, model, new_table(7, seed=2, sex="x"))
    found = drift(url, model, months_of(url, model))
    assert (found.n, found.refused) == (30, 7)


def test_a_form_is_counted_in_the_models_units(url: str, model: Model) -> None:
    cells = {"age": "51.5", "marker": "4", "size": "77", "sex": "male", "stage": "late"}
    table = model.one_row(cells, {"marker": "µkat/L"})
    count(opened(url), model, table, model.predict(table))
    one = _cells(url)
    other = model.one_row(cells | {"marker": "240"})
    count(opened(url), model, other, model.predict(other))
    assert {key: 2 * n for key, n in one.items()} == _cells(url)
    assert one["rows", "ok"] == 1


def test_the_database_holds_no_row(url: str, model: Model) -> None:
    table = new_table(50)
    counted(url, model, table)
    raw = Path(url).read_bytes() + Path(f"{url}-wal").read_bytes()
    cells = {cell for row in table.rows for name, cell in zip(table.columns, row, strict=True) if len(cell) > 5}
    assert not [cell for cell in cells if cell.encode() in raw]


def test_models_and_their_bundles_are_kept_apart(url: str, model: Model, tmp_path: Path) -> None:
    counted(url, model, new_table(40))
    other = load(serve(tmp_path, target=SURVIVAL))
    assert months_of(url, other) == []
    assert "Fewer than 20" in drift(url, other, []).why
    assert set((training_of(other) or {})["predictions"]) == set(other.columns)


@pytest.mark.parametrize("change", ["without", "newer"])
def test_bundles_without_training_counts_load_and_say_so(run: Path, tmp_path: Path, url: str, change: str) -> None:
    bundle = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    file = bundle / "predictors" / "clinical" / "training.json"
    if change == "without":
        file.unlink()
    else:
        file.write_text(json.dumps({"version": 2, "something": "else"}), encoding="utf-8")
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    seal(bundle, {key: manifest[key] for key in manifest if key not in ("format", "version", "osml", "files")})
    model = load(bundle)
    table = new_table(30)
    rows = model.predict(table)
    count(opened(url), model, table, rows)
    assert _cells(url) == {}
    assert "no training aggregates" in drift(url, model, []).why


def _cells(url: str) -> dict[tuple[str, str], int]:
    import sqlalchemy as sa

    with opened(url).connect() as connection:
        return {(v, c): n for v, c, n in connection.execute(sa.select(COUNTS.c.variable, COUNTS.c.cell, COUNTS.c.n))}


def test_a_small_month_is_not_told_by_the_difference_of_two_pages(
    url: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        month = "2031-01-15"

        @classmethod
        def now(cls, zone: object) -> datetime:
            return datetime.fromisoformat(cls.month)

    monkeypatch.setattr("osml.serving.drift.datetime", Clock)
    counted(url, model, new_table(MIN_N + 5))
    Clock.month = "2031-02-15"
    counted(url, model, new_table(3, seed=12))
    months = months_of(url, model)
    assert months == ["2031-02", "2031-01"]
    assert drift(url, model, ["2031-02"]).comparisons == ()
    assert drift(url, model, months) == drift(url, model, ["2031-01"])
    Clock.month = "2031-03-15"
    counted(url, model, new_table(MIN_N - 3, seed=13))
    assert drift(url, model, months_of(url, model)).n == 2 * MIN_N + 5
