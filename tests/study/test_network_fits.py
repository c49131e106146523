"""Studies with networks from the schema to the run's files: tiny encoders, pictures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_files import weights_file
from helpers import write_schema
from PIL import Image
from small_studies import write_table

from osml.cohort.splits import make_folds
from osml.errors import NotEstimableError
from osml.files import read_json
from osml.runs.directory import RunDirectory
from osml.runs.extras import read_extras
from osml.runs.store import read_predictions
from osml.schema.load import load_schema
from osml.study.ablation import run_ablation
from osml.study.fit import fit
from osml.study.images import add_features
from osml.study.leakage import artefacts, check_leakage, overwrite_patients
from osml.study.prepare import prepare

CLASSES = ("healthy", "dead", "alive")
COLOURS = {"healthy": (210, 190, 210), "dead": (200, 120, 150), "alive": (110, 60, 140)}
PATIENTS = 18


def draw(path: Path, colour: Any, rng: np.random.Generator) -> None:
    noise = rng.normal(0, 25, (40, 40, 1)) + np.ones(3) * colour
    pixels = np.kron(np.clip(noise, 0, 255).astype(np.uint8), np.ones((4, 4, 1), dtype=np.uint8))
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_file(tmp_path_factory.mktemp("weights"), "test_efficientnet")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_CACHE", str(tmp_path_factory.mktemp("cache")))
        # What reports and sheets look like is tested elsewhere.
        patch.setattr("osml.study.fit.make_report", lambda path: path)
        patch.setattr(
            "osml.study.final.draw_sheet", lambda *a, **k: {"drawn": False, "reason": "left out in this test"}
        )
        yield


def network(weights: Path, *inputs: str, **changes: Any) -> dict[str, Any]:
    encoder = {"model": "test_efficientnet", "weights": str(weights)}
    return {"kind": "network", "inputs": list(inputs), "encoders": {"picture": encoder},
            "train": {"epochs": 3, "batch": 16}, **changes}  # fmt: skip


def xray_study(folder: Path, weights: Path) -> Path:
    """Patients with none to two pictures, of which dark ones mean disease, and a laboratory value."""
    rng = np.random.default_rng(5)
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for i in range(PATIENTS):
        bad = i // 3 % 2
        cells = {"id": f"P{i:02d}", "alp": f"{60 + 40 * bad + rng.normal(0, 25):.1f}", "outcome": ("good", "bad")[bad]}
        for v in range(i % 3):
            name = f"pictures/p{i}_{v}.png"
            draw(folder / name, 90 + 60 * (1 - bad), rng)
            rows.append({**cells, "picture": name})
        if i % 3 == 0:
            rows.append({**cells, "picture": ""})
    write_table(folder / "table.csv", rows)
    data = {
        "version": 1, "name": "xray", "study": {"sampling": "cohort", "synthetic": "drawn for a test"},
        "cohort": {"table": "table.csv", "patient": "id"},
        "time_of_prediction": "visit", "times": ["visit"],
        "target": {"kind": "binary", "column": "outcome", "positive": "bad"},
        "inputs": {
            "picture": {"kind": "image", "several": True, "available": "visit"},
            "alp": {"kind": "lab", "unit": "U/L", "available": "visit"},
        },
        "predictors": {
            "fused": network(weights, "picture", "alp", seeds=2),
            "labs": {"kind": "nomogram", "inputs": ["alp"], "shrink": "none"},
            "both": {"kind": "stack", "inputs": ["fused", "labs"]},
        },
        "missing": "impute",
        "validation": {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}, "seed": 4},
        "checks": {"accept": {"OSML013": "drawn", "OSML042": "drawn", "OSML043": "drawn"}},
    }  # fmt: skip
    return write_schema(folder, data)


def tile_study(folder: Path, weights: Path, patients: int = 3, tiles: int = 12) -> Path:
    """Tiles of three classes, some of which are labelled as tumour only; colours shift between patients."""
    rng = np.random.default_rng(6)
    (folder / "tiles").mkdir(parents=True)
    rows = []
    for p in range(patients):
        shift = rng.integers(-15, 15, 3)
        for k in range(tiles):
            label = CLASSES[k % 3]
            name = f"tiles/t{p}_{k}.png"
            draw(folder / name, np.array(COLOURS[label]) + shift, rng)
            written = "mixed" if k == 5 else label
            rows.append({"tile": f"T{p}-{k}", "patient": f"P{p}", "image": name, "tissue": written})
    write_table(folder / "tiles.csv", rows)
    data = {
        "version": 1, "name": "tiles", "study": {"sampling": "enriched", "synthetic": "drawn for a test"},
        "cohort": {"table": "tiles.csv", "patient": "patient", "row": "tile"},
        "time_of_prediction": "surgery", "times": ["surgery"],
        "target": {"kind": "hierarchy", "column": "tissue", "tree": ["healthy", {"tumour": ["dead", "alive"]}],
                   "partial": {"mixed": "tumour"}},
        "inputs": {
            "picture": {"kind": "image", "column": "image", "orientation": "free", "available": "surgery"},
            "nuclei": {"kind": "radiomics", "of": "picture", "mask": "full", "channels": ["haematoxylin"],
                       "classes": ["firstorder"]},
        },
        "predictors": {
            "flat": network(weights, "picture", head="flat"),
            "tree": network(weights, "picture", "nuclei", fusion="gated",
                            node_weights={"kind": "uncertainty", "eta": 0.5}),
        },
        "validation": {"split": {"kind": "leave_one_patient_out"}, "inner": "none", "seed": 4},
    }  # fmt: skip
    return write_schema(folder, data)


def quiet_fit(study: Path, runs: Path) -> RunDirectory:
    result = fit(study, runs=runs, workers=1, say=lambda _: None, quiet=True)
    assert result.failed == ()
    return result.run


@pytest.fixture(scope="module")
def xray_run(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> RunDirectory:
    folder = tmp_path_factory.mktemp("xray")
    return quiet_fit(xray_study(folder, weights), folder / "runs")


@pytest.fixture(scope="module")
def tile_run(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[Path, RunDirectory]:
    folder = tmp_path_factory.mktemp("tiles")
    study = tile_study(folder, weights)
    return study, quiet_fit(study, folder / "runs")


def test_every_patient_is_predicted_once_by_every_predictor(xray_run: RunDirectory) -> None:
    rows = read_predictions(xray_run.path / "predictions.parquet")
    for name in ("fused", "labs", "both"):
        assert sorted(row.unit for row in rows if row.predictor == name) == [f"P{i:02d}" for i in range(PATIENTS)]


def test_smaller_networks_stand_beside_the_fused_one(xray_run: RunDirectory) -> None:
    rows = read_predictions(xray_run.path / "ablation.parquet")
    assert {row.predictor for row in rows} == {"fused[picture]", "fused[alp]"}
    assert len(rows) == 2 * PATIENTS
    assert not list(xray_run.path.glob("folds/*/*/unfinished"))


def test_presence_and_seeds_are_stored(xray_run: RunDirectory) -> None:
    rows = read_extras(xray_run.path / "extras.parquet")
    assert {row.name for row in rows} == {"present:picture", "present:alp", "seed0:bad", "seed1:bad"}
    absent = {row.unit for row in rows if row.name == "present:picture" and row.value == 0}
    assert absent == {f"P{i:02d}" for i in range(0, PATIENTS, 3)}, "the patients without a picture"


def test_nodes_of_the_tree_are_predicted_and_sum(tile_run: tuple[Path, RunDirectory]) -> None:
    rows = read_predictions(tile_run[1].path / "predictions.parquet")
    for name in ("flat", "tree"):
        p = {(row.unit, row.column): row.p for row in rows if row.predictor == name}
        assert len(p) == 36 * 4
        for unit in {unit for unit, _ in p}:
            assert p[unit, "healthy"] + p[unit, "tumour"] == pytest.approx(1, abs=1e-9)
            assert p[unit, "dead"] + p[unit, "alive"] == pytest.approx(p[unit, "tumour"], abs=1e-9)


def test_pooled_values_come_second_where_one_patient_is_left_out(tile_run: tuple[Path, RunDirectory]) -> None:
    _, run = tile_run
    metrics = read_json(run.path / "metrics.json")
    assert metrics["outcomes"] == {"healthy": 12, "tumour": 3, "dead": 12, "alive": 9}
    honest = metrics["predictors"]["tree"]["out_of_fold"]
    assert honest["macro_f1"]["value"] is None
    assert honest["pooled"]["macro_f1"]["value"] is not None
    board = (run.path / "leaderboard.csv").read_text().splitlines()
    assert board[0].startswith("predictor,macro_f1,accuracy,macro_auc")
    assert len(board) == 3


def test_the_same_study_gives_the_same_bytes_and_goes_on_where_it_stopped(
    tile_run: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    study, run = tile_run
    again = quiet_fit(study, tmp_path)
    for name in ("predictions.parquet", "extras.parquet"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()
    before = {p: p.stat().st_mtime_ns for p in again.path.glob("folds/*/*/model.json")}
    lost = again.path / "folds" / "r0-f1" / "tree" / "status.json"
    lost.unlink()
    again.set_status("running")
    quiet_fit(study, tmp_path)
    changed = {p.parent for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed == {lost.parent}, "finished folds were fitted again"
    assert (again.path / "predictions.parquet").read_bytes() == (run.path / "predictions.parquet").read_bytes()


def test_a_picture_that_cannot_be_read_takes_its_patient_out_by_name(tmp_path: Path, weights: Path) -> None:
    study = xray_study(tmp_path, weights)
    (tmp_path / "pictures" / "p2_1.png").write_bytes((tmp_path / "pictures" / "p2_1.png").read_bytes()[:200])
    (tmp_path / "pictures" / "p4_0.png").unlink()
    loaded, built, _ = prepare(study)
    told: list[str] = []
    images = add_features(loaded, built, workers=1, quiet=True, say=told.append)
    assert {unit for unit, _ in images.unusable} == {"P02", "P04"}
    assert not {"P02", "P04"} & set(images.built.cohort.units)
    text = "\n".join(told)
    assert "P02: unreadable" in text
    assert "p4_0.png: no such file" in text
    assert "OSML020" in {f.code for f in images.findings}


def test_what_is_learnt_does_not_change_with_the_test_patients(tmp_path: Path, weights: Path) -> None:
    loaded, built, _ = prepare(xray_study(tmp_path, weights))
    built = add_features(loaded, built, workers=1, quiet=True, say=lambda _: None).built
    cohort, schema = built.cohort, loaded.schema
    fold = make_folds(cohort, schema.validation.split, 4)[0]
    other = overwrite_patients(loaded, built.table, cohort, fold.test, 4)
    assert any(cohort.images[key].item.tolist() != table.item.tolist() for key, table in other.images.items())
    before = artefacts(schema, "fused", "study", cohort, fold)
    assert before == artefacts(schema, "fused", "study", other, fold)
    assert any(name.endswith("network.safetensors") for name in before)
    leaky = artefacts(schema, "fused", "selection", cohort, fold)
    assert leaky != artefacts(schema, "fused", "selection", other, fold), "the twin sees the test patients"


def test_the_leakage_check_runs_on_networks(tmp_path: Path, weights: Path) -> None:
    loaded, built, _ = prepare(tile_study(tmp_path, weights, tiles=6))
    built = add_features(loaded, built, workers=1, quiet=True, say=lambda _: None).built
    report = check_leakage(loaded, built, permutations=2, workers=1, quiet=True)
    own = {c.predictor: c for c in report.checks if c.pipeline == "study"}
    assert set(own) == {"flat", "tree"}
    assert all(not c.changed for c in own.values())
    assert all(c.caught for c in report.checks if c.pipeline == "selection")
    assert report.verdict("flat") != "passed", "two permutations prove nothing"


def test_a_smaller_network_that_fails_ends_no_other(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_schema(xray_study(tmp_path, weights))

    def fails(schema: Any, name: str, *_: Any, **__: Any) -> Any:
        if name == "fused[alp]":
            raise NotEstimableError("nothing varies")
        return name

    monkeypatch.setattr("osml.study.ablation.fit_chain", fails)
    rows, failed = run_ablation(loaded.schema, "fused", None, (1, 0, 0), tmp_path, lambda chain, called: [called])  # type: ignore[arg-type, list-item]
    assert rows == ["fused[picture]"]
    assert failed == {"fused[alp]": "nothing varies"}
