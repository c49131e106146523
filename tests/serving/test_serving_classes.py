"""Classes behind the door: `osml predict` on new tiles, prediction sets, a trained encoder, what is said of shares."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_studies import Rows, write_table

pytest.importorskip("torch", reason="the nets extra is not installed")
from networked import CLASSES, NODES, picture, save, serve_tiles

from osml.cli import main
from osml.cohort.table import Table, read_table
from osml.errors import RunError
from osml.serving import EQUAL_SHARES, Model, load, patients_table, percent, record, statement

NAMES = ("net", "tuned", "both")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module", autouse=True)
def surroundings(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_WEIGHTS", str(run.parents[2] / "weights"))
        patch.setenv("OSML_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OSML_DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run, "net")


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    return run.parents[2]


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return read_table(folder / "table.csv")


def new_tiles(folder: Path, n: int = 7) -> Rows:
    """Tiles of two new patients without any class: the columns that a folder of files gives."""
    rng = np.random.default_rng(1)
    return [
        {
            "tile": f"N{i}",
            "image": save(folder / "new" / f"N{i}.png", picture(rng, (i + 1) / n)),
            "patient": f"new{i % 2}",
        }
        for i in range(n)
    ]


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def osml(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["osml", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_paths_gives_the_probabilities_of_the_fit(run: Path, folder: Path, table: Table, name: str) -> None:
    from osml.explanation.held_out import run_cohort, run_schema

    model = load(run, name)
    cohort = run_cohort(run, run_schema(run), "net" if name == "both" else name)
    if name == "both":  # its networks look at the tiles in two ways
        other = run_cohort(run, run_schema(run), "tuned")
        cohort = type(cohort)(**{**cohort.__dict__, "images": {**cohort.images, **other.images}})
    expected = model.chain.predict(cohort).p
    found = model.predict(table, root=folder)
    assert [row.status for row in found] == ["ok"] * len(table.rows)
    assert np.array([row.p for row in found]) == pytest.approx(expected, abs=1e-5)
    p = np.array([[row.p[NODES.index(name)] for name in CLASSES] for row in found])
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)))
    assert [row.p[NODES.index("tumour")] for row in found] == pytest.approx((p[:, 1] + p[:, 2]).tolist())
    assert [row.predicted for row in found] == [CLASSES[k] for k in p.argmax(axis=1)]


def test_the_command_writes_rows_and_means_of_patients(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = new_tiles(tmp_path)
    (tmp_path / "new" / "N3.png").write_bytes(b"no picture")
    write_table(tmp_path / "new.csv", rows)
    out = tmp_path / "out.csv"
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", out, "--predictor", "net") == 2
    found = records(out)
    assert list(found[0]) == [
        "line", "tile", "patient", "status", "predictor", *(f"p: {name}" for name in NODES), "predicted",
        "prediction_set", "undecided", "missing_inputs", "outside_range", "gate: tile", "gate: texture", "model_sha256",
    ]  # fmt: skip
    assert [row["tile"] for row in found] == [row["tile"] for row in rows]
    assert [row["status"] == "ok" for row in found] == [True, True, True, False, True, True, True]
    assert "N3.png: cannot be read as a picture" in found[3]["status"]
    assert found[3]["predicted"] == found[3]["p: stroma"] == found[3]["undecided"] == ""
    for row in found:
        if row["status"] == "ok":
            inside = row["prediction_set"].split("; ") if row["prediction_set"] else []
            assert set(inside) <= set(CLASSES)
            assert row["undecided"] == ("no" if len(inside) == 1 else "yes")
            assert float(row["gate: tile"]) + float(row["gate: texture"]) == pytest.approx(1)
    means = records(tmp_path / "out_by_patient.csv")
    assert [(row["patient"], row["rows"], row["rows_used"]) for row in means] == [
        ("new0", "4", "4"),
        ("new1", "3", "2"),
    ]
    for row in means:
        mine = [r for r in found if r["patient"] == row["patient"] and r["status"] == "ok"]
        for name in NODES:
            assert float(row[f"mean p: {name}"]) == pytest.approx(np.mean([float(r[f"p: {name}"]) for r in mine]))
        for name in CLASSES:
            share = np.mean([r["predicted"] == name for r in mine])
            assert float(row[f"share predicted: {name}"]) == pytest.approx(share)
    said = capsys.readouterr().out
    assert said.count("stated for equal class shares") == 1
    assert f"means of each patient → {tmp_path / 'out_by_patient.csv'}" in said
    assert "predicted 6 of 7 rows" in said


def test_without_patients_there_are_no_means(model: Model, tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("tile", "image")} for row in new_tiles(tmp_path, 2)]
    write_table(tmp_path / "new.csv", rows)
    found = model.predict(read_table(tmp_path / "new.csv"), root=tmp_path)
    assert all(row.ok for row in found)
    assert patients_table(model, found) is None


def test_equal_shares_are_said_where_units_were_chosen_by_class(
    run: Path, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = statement(model)
    assert ("Caution", EQUAL_SHARES) in lines
    words = dict(lines)
    assert words["Classes"] == "stroma, dead, alive"
    assert words["Developed with"].startswith("6 patients, 36 rows: stroma 12, ")
    assert "Event" not in words
    assert "Horizon" not in words
    assert load(run, "both").equal_shares
    cohort = serve_tiles(tmp_path_factory.mktemp("cohort"), sampling="cohort")
    assert not load(cohort, "net").equal_shares


@pytest.mark.parametrize("name", ["net", "tuned"])
def test_an_uploaded_tile_gives_what_the_table_gives(run: Path, folder: Path, table: Table, name: str) -> None:
    model = load(run, name)
    expected = model.predict(table, root=folder)[0]
    one = model.one_row({}, images={"tile": folder / table.column("image")[0]})
    result = model.predict(one)[0]
    assert result.p == pytest.approx(expected.p, abs=1e-5)
    assert result.predicted == expected.predicted
    (heat,) = model.grad_cam(one)
    assert heat.of == f"log P({result.predicted})"
    data = json.loads(json.dumps(record(model, one), allow_nan=False))
    assert data["predicted"] == result.predicted
    assert [entry["of"] for entry in data["risk"]] == list(NODES)
    assert (data["prediction_set"] is None) is (name == "tuned")


@pytest.mark.parametrize("name", NAMES)
def test_each_class_has_its_own_explanation(run: Path, folder: Path, table: Table, name: str) -> None:
    model = load(run, name)
    row = model.predict(table, root=folder)[0]
    own = model.explain(table, 0, root=folder)
    for column, p in zip(NODES, row.p, strict=True):
        found = model.explain(table, 0, root=folder, column=column)
        assert found.scale == f"log P({column})"
        assert found.base + sum(part.value for part in found.contributions) == pytest.approx(np.log(p), abs=1e-4)
        if column == row.predicted:
            assert found == own
    with pytest.raises(RunError, match="the model has no output 'bone'"):
        model.explain(table, 0, root=folder, column="bone")


def test_probabilities_in_words_never_are_certain(model: Model, folder: Path, table: Table) -> None:
    row = model.predict(table, root=folder)[0]
    assert all("100 %" not in percent(p) for p in row.p)
