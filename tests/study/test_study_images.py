"""Images in a study: who is left out and why, what is told, and that nothing about a label enters a feature."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaged import INPUTS, PREDICTORS, imaged_patients
from small_studies import Rows

from osml.cohort.build import read_cohort
from osml.cohort.splits import make_folds
from osml.errors import CheckError
from osml.predictors.radscore import load_radscore
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema, load_schema
from osml.study.fit import fit
from osml.study.images import add_features, missing_files
from osml.study.known import finished_before
from osml.study.leakage import artefacts, check_leakage, overwrite_patients
from osml.study.prepare import prepare

SimpleITK = pytest.importorskip("SimpleITK")

BASE: dict[str, Any] = {
    "version": 1,
    "name": "imaged",
    "study": {"sampling": "cohort"},
    "cohort": {"table": "patients.csv", "patient": "id"},
    "time_of_prediction": "diagnosis",
    "times": ["diagnosis"],
    "target": {"kind": "binary", "column": "outcome", "positive": "bad", "negative": "good"},
    "inputs": INPUTS,
    "predictors": PREDICTORS,
    "validation": {"split": {"kind": "kfold", "folds": 3}, "inner": {"folds": 3}, "seed": 3},
    "checks": {"accept": {"OSML041": "a test", "OSML042": "a test"}},
}


def write_study(folder: Path, rows: Rows, **blocks: Any) -> Path:
    from ruamel.yaml import YAML

    with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    yaml = YAML(typ="safe", pure=True)
    path = folder / "study.yaml"
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump({**BASE, **blocks}, stream)
    return path


@pytest.fixture(scope="module")
def cohort_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    folder = tmp_path_factory.mktemp("imaged")
    return folder, imaged_patients(folder, n=40)


@pytest.fixture
def cached(cohort_files: tuple[Path, Rows], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Rows]:
    folder, rows = cohort_files
    monkeypatch.setenv("OSML_CACHE", str(folder / "cache"))
    return folder, [dict(row) for row in rows]


def loaded_study(folder: Path, rows: Rows, **blocks: Any) -> LoadedSchema:
    return load_schema(write_study(folder, rows, **blocks))


def test_every_usable_patient_has_a_row_of_features(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    loaded = loaded_study(folder, rows)
    found = add_features(loaded, read_cohort(loaded), workers=1, quiet=True, say=lambda _: None)
    table = found.built.cohort.features["rad"]
    assert table.x.shape == (40, len(table.columns))
    assert np.isfinite(table.x).all()
    assert {column.split("|")[1] for column in table.columns} == {"tumour", "0-2mm"}
    assert all(column.startswith("t1|") for column in table.columns)
    assert found.findings == ()


def test_an_unusable_image_takes_its_patient_out_and_no_other(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    empty = SimpleITK.ReadImage(str(folder / rows[2]["t1_mask"])) * 0
    SimpleITK.WriteImage(empty, str(folder / "mri" / "empty.nii.gz"))
    rows[0]["t1"] = ""
    rows[1]["t1"] = "mri/nowhere.nii.gz"
    rows[2]["t1_mask"] = "mri/empty.nii.gz"
    loaded = loaded_study(folder, rows)
    built = read_cohort(loaded)
    said: list[str] = []
    found = add_features(loaded, built, workers=1, quiet=True, say=said.append)
    lost = [rows[i]["id"] for i in range(3)]
    assert set(found.built.cohort.patients) == {row["id"] for row in rows} - set(lost)
    reasons = {e.patient: e.reason for e in found.built.cohort.exclusions}
    assert reasons == {lost[0]: "rad: no_path", lost[1]: "rad: unreadable", lost[2]: "rad: empty_mask"}
    assert [e.where for e in found.built.cohort.exclusions] == [f"patients.csv:{line}" for line in (2, 3, 4)]
    assert [f.code for f in found.findings] == ["OSML020"]
    assert found.findings[0].evidence.startswith("3 of 40: ")
    assert any(lost[1] in line and "nowhere.nii.gz" in line for line in said)
    assert missing_files(loaded, built.cohort) == [(lost[1], "t1", "mri/nowhere.nii.gz")]


def test_a_wrong_folder_is_refused_and_not_taken_for_a_small_cohort(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    for row in rows[:10]:
        row["t1"] = row["t1"].replace("mri/", "mir/")
    with pytest.raises(CheckError) as caught:
        fit(write_study(folder, rows), runs=folder / "runs", workers=1, say=lambda _: None, quiet=True)
    assert "OSML022" in str(caught.value)
    assert "10 of 40" in str(caught.value)


def test_one_image_under_two_ids_is_refused(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    rows[5] |= {"t1": rows[4]["t1"], "t1_mask": rows[4]["t1_mask"]}
    with pytest.raises(CheckError, match="OSML021") as caught:
        fit(write_study(folder, rows), runs=folder / "runs", workers=1, say=lambda _: None, quiet=True)
    assert rows[4]["id"] in str(caught.value)
    assert rows[5]["id"] in str(caught.value)


def test_features_look_at_no_label_and_no_other_patient(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    loaded = loaded_study(folder, rows)
    whole = add_features(loaded, read_cohort(loaded), workers=1, quiet=True, say=lambda _: None).built.cohort
    for row in rows:
        row["outcome"] = "good" if row["outcome"] == "bad" else "bad"
    part = loaded_study(folder, rows[10:30])
    few = add_features(part, read_cohort(part), workers=1, quiet=True, say=lambda _: None).built.cohort
    assert np.array_equal(few.features["rad"].x, whole.features["rad"].x[10:30])


def test_a_study_runs_from_images_to_nomogram_and_its_files_say_how(
    cached: tuple[Path, Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = cached
    rows[7]["t1_mask"] = ""
    result = fit(write_study(folder, rows), runs=tmp_path, workers=1, say=lambda _: None, quiet=True)
    run = result.run.path
    assert result.failed == ()
    with (run / "cohort" / "images.csv").open(encoding="utf-8") as stream:
        assert [(r["unit"], r["reason"]) for r in csv.DictReader(stream)] == [(rows[7]["id"], "no_path")]
    with (run / "cohort" / "regions_rad.csv").open(encoding="utf-8") as stream:
        regions = list(csv.DictReader(stream))
    assert len(regions) == 39 * 2
    assert all(int(r["voxels"]) > 0 for r in regions)
    selection = json.loads((run / "selection" / "radscore.json").read_text(encoding="utf-8"))
    counts = [step["kept"] for step in selection["steps"]]
    assert counts == sorted(counts, reverse=True)
    assert selection["region"] in ("tumour", "0-2mm")
    folds = sorted((run / "folds").glob("*/radscore/selection.json"))
    assert len(folds) == 3
    assert json.loads((run / "nomogram" / "combined" / "nomogram.json").read_text(encoding="utf-8"))
    metrics = result.metrics["predictors"]
    assert metrics["radscore"]["apparent"]["auc"]["value"] > 0.5
    # The score that feeds the nomogram is the one that stands alone.
    bundled = run / "bundle" / "predictors"
    alone, feeding = load_radscore(bundled / "radscore"), load_radscore(bundled / "combined" / "upstream" / "radscore")
    assert alone.to_dict() == feeding.to_dict()
    assert metrics["combined"]["shrinkage"]["kind"] == "uniform"
    bundle = {p.name for p in (run / "bundle").rglob("*") if p.is_file()}
    assert "selection.json" not in bundle
    assert not any(row["id"] in p.read_text(errors="replace") for row in rows for p in (run / "bundle").rglob("*.json"))

    # Asked again it is found by the contents of its files, and no image is read.
    loaded, built, _ = prepare(folder / "study.yaml")
    assert finished_before(tmp_path, loaded, built, {}) == RunDirectory(run)
    with monkeypatch.context() as patch:
        patch.setattr("osml.study.fit.add_features", lambda *_, **__: pytest.fail("images were read again"))
        again = fit(folder / "study.yaml", runs=tmp_path, workers=1, say=lambda _: None, quiet=True)
    assert again.reused
    assert again.metrics == result.metrics
    file = folder / rows[0]["t1"]
    content = file.read_bytes()
    try:
        file.write_bytes(content + b"\0")
        assert finished_before(tmp_path, loaded, built, {}) is None, "an image has changed"
        file.unlink()
        assert finished_before(tmp_path, loaded, built, {}) is None, "an image is gone"
    finally:
        file.write_bytes(content)


def test_the_run_is_another_one_when_an_image_changes(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    loaded = loaded_study(folder, rows)
    first = add_features(loaded, read_cohort(loaded), workers=1, quiet=True, say=lambda _: None).hashes
    image = SimpleITK.ReadImage(str(folder / rows[0]["t1"])) + 1.0
    SimpleITK.WriteImage(image, str(folder / "mri" / "other.nii.gz"))
    rows[0]["t1"] = "mri/other.nii.gz"
    again = loaded_study(folder, rows)
    second = add_features(again, read_cohort(again), workers=1, quiet=True, say=lambda _: None).hashes
    assert set(first.values()) != set(second.values())
    assert len(first) == 80


def test_overwriting_test_patients_takes_their_features_along(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    loaded, built, _ = prepare(write_study(folder, rows))
    built = add_features(loaded, built, workers=1, quiet=True, say=lambda _: None).built
    test = built.cohort.patient_ids[:10]
    changed = overwrite_patients(loaded, built.table, built.cohort, test, 1)
    before, after = built.cohort.features["rad"].x, changed.features["rad"].x
    assert np.array_equal(before[10:], after[10:])
    assert all(not np.array_equal(before[i], after[i]) for i in range(10))


def test_a_twin_that_selects_on_all_patients_is_caught_and_the_study_is_not(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    changes = {"predictors": {"radscore": PREDICTORS["radscore"] | {"region": "tumour"}}}
    loaded, built, _ = prepare(write_study(folder, rows, **changes))
    built = add_features(loaded, built, workers=1, quiet=True, say=lambda _: None).built
    report = check_leakage(loaded, built, permutations=2, workers=1, quiet=True)
    found = {check.pipeline: check for check in report.checks}
    assert found["study"].changed == ()
    assert len(found["selection"].changed) >= 2
    assert found["selection"].caught
    assert found["imputation"].not_applicable == "a Rad-score imputes nothing and is fed by nothing"
    assert report.verdict("radscore") == "no power"


def test_a_fold_that_looked_at_its_test_patients_features_would_be_seen(cached: tuple[Path, Rows]) -> None:
    folder, rows = cached
    loaded, built, _ = prepare(write_study(folder, rows))
    cohort = add_features(loaded, built, workers=1, quiet=True, say=lambda _: None).built.cohort
    fold = make_folds(cohort, loaded.schema.validation.split, 3)[0]
    before = artefacts(loaded.schema, "radscore", "study", cohort, fold)
    inside = replace(fold, train=(*fold.train, fold.test[0]), test=fold.test[1:])
    assert artefacts(loaded.schema, "radscore", "study", cohort, inside) != before
