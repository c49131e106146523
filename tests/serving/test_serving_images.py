"""Models that read images: tables with paths, uploaded files, what is refused, and what a bundle says of its recipe."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaged import PREDICTORS, SITES, draw_volume, serve_images, write_images
from small_studies import Rows, write_table

from osml.cohort.table import Table, read_table
from osml.errors import RunError, TableError, VerificationError
from osml.runs.bundle import MANIFEST, seal
from osml.serving import SITE, Model, load, read_upload, record, rows_csv, statement

for package in ("SimpleITK", "numba", "pywt"):
    pytest.importorskip(package, reason="the radiomics extra is not installed")
pytestmark = pytest.mark.full

CELLS = {"age": "55"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_images(tmp_path_factory.mktemp("images"), missing="impute")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    """Where the study's table and images lie."""
    return run.parents[2]


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return read_table(folder / "table.csv")


def rows_of(table: Table, n: int) -> Rows:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows[:n]]


def files(folder: Path, row: dict[str, str]) -> dict[str, bytes | Path]:
    return {"t1": folder / row["t1"], "t1.mask": folder / row["t1_mask"]}


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_every_predictor_of_the_study_is_served(run: Path, name: str) -> None:
    model = load(run, name)
    assert [f.name for f in model.form()] == ([] if name == "radscore" else ["age"])
    assert [i.key for i in model.images()] == ([] if name == "clinical" else ["t1", "t1.mask"])
    assert model.scores == (() if name == "clinical" else ("radscore",))
    assert statement(model)


@pytest.mark.parametrize("name", ["radscore", "combined"])
def test_a_table_of_paths_gives_the_scores_of_the_fit(run: Path, folder: Path, table: Table, name: str) -> None:
    from osml.runs.cohort_store import load_cohort

    model, cohort = load(run, name), load_cohort(run / "cohort" / "cohort.parquet")
    expected = model.chain.predict(cohort)
    found = model.predict(table, root=folder)
    assert [r.status for r in found] == ["ok"] * len(found)
    assert [r.unit for r in found] == list(expected.units)
    assert [r.p[0] for r in found] == pytest.approx(expected.p[:, 0].tolist(), rel=1e-12)
    assert np.std(expected.p) > 0.01


def test_an_image_that_cannot_be_used_is_named_and_the_others_go_on(
    run: Path, folder: Path, table: Table, tmp_path: Path
) -> None:
    model = load(run, "combined")
    rows = rows_of(table, 7)
    for row in rows:
        row |= {key: str(folder / row[key]) for key in ("t1", "t1_mask")}
    rows[1]["t1"] = "nowhere.nii.gz"
    rows[2]["t1_mask"] = ""
    rows[3]["age"] = "200"
    (tmp_path / "text.nii.gz").write_text("not an image", encoding="utf-8")
    rows[4]["t1_mask"] = "text.nii.gz"
    rows[5]["t1"] = rows[6]["t1_mask"]  # one grey level in the lesion
    write_table(tmp_path / "new.csv", rows)
    found = model.predict(read_table(tmp_path / "new.csv"), root=tmp_path)
    assert [r.ok for r in found] == [True, False, False, False, False, False, True]
    assert "nowhere.nii.gz: no such file" in found[1].status
    assert found[2].status == "rad: no_path: t1.mask: no path is given"
    assert found[3].status == "age: 200 is outside the possible range 0 to 110"
    assert "text.nii.gz: cannot be read" in found[4].status
    assert "p6_mask.nii.gz" in found[5].status or "geometry" in found[5].status
    assert all("\n" not in r.status for r in found)
    whole = model.predict(table, root=folder)
    assert [found[i].p for i in (0, 6)] == [whole[i].p for i in (0, 6)]


def test_a_picture_among_volumes_is_a_row_without_a_prediction(run: Path, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    model = load(run, "radscore")
    rng = np.random.default_rng(5)
    picture, mask = rng.integers(0, 255, (20, 20), dtype=np.uint8), np.zeros((20, 20), dtype=np.uint8)
    mask[5:15, 5:15] = 1
    for name, array in (("x.png", picture), ("m.png", mask)):
        Image.fromarray(array).save(tmp_path / name)
    volume = write_images(tmp_path, "v", rng, 1.0)
    write_table(tmp_path / "new.csv", [{"id": "a", "t1": "x.png", "t1_mask": "m.png"}, {"id": "b", **volume}])
    found = model.predict(read_table(tmp_path / "new.csv"), root=tmp_path)
    assert found[0].status == "t1: x.png is a picture; the model reads volumes"
    assert found[1].ok


def test_no_path_of_an_uploaded_table_is_followed(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr("osml.serving.measured.compute_features", never)
    model = load(run, "combined")
    raw = f"id,age,t1,t1_mask\na,50,/etc/passwd,/etc/passwd\nb,x,{folder}/mri/p0.nii.gz,{folder}/mri/p0_mask.nii.gz\n"
    found = model.predict(read_upload(raw.encode(), model))
    assert found[0].status.startswith("needs T1 MRI: paths in this table are not followed")
    assert found[1].status == "age: 'x' is not a number"
    assert [r.p for r in found] == [(), ()]
    assert model.predict(read_upload(b"id,age\na,50\n", model))[0].status.startswith("needs T1 MRI")
    assert rows_csv(model, found).count("\n") == 3


# One patient's files


def test_files_give_what_a_table_of_paths_gives(run: Path, folder: Path, table: Table) -> None:
    row = rows_of(table, 1)[0]
    expected = load(run, "combined").predict(table, root=folder)[0]
    model = load(run, "combined")
    one = model.one_row({"age": row["age"]}, images={k: Path(v).read_bytes() for k, v in files(folder, row).items()})
    result = model.predict(one)[0]
    assert result.ok
    assert result.p == pytest.approx(expected.p, rel=1e-12)
    assert result.lp == pytest.approx(expected.lp, rel=1e-12)
    assert one.measured is not None
    assert one.measured.pictures["rad"].startswith(b"\x89PNG")
    assert [line["region"] for line in one.measured.regions["rad"]] == ["tumour", "0-2mm"]
    own = model.explain(one)
    assert own.base + sum(c.value for c in own.contributions) == pytest.approx(result.lp, rel=1e-9)
    ((label, inside),) = model.explain_scores(one)
    assert label == "Rad-score"
    score = next(c for c in own.contributions if c.input == "radscore")
    assert f"{inside.lp:.4g}" in score.shown
    assert model.sheet(one).startswith(b"%PDF")
    data = json.loads(json.dumps(record(model, one), allow_nan=False))
    assert data["regions"]["rad"][0]["voxels"] > 100
    assert list(data["scores"]) == ["Rad-score"]
    unknown = model.predict_images({}, files(folder, row))
    assert unknown.ok
    assert unknown.imputed == ("age",)
    assert model.gaps(model.one_row({}, images=files(folder, row)))[0].input == "age"


def test_nothing_of_an_upload_is_kept(
    run: Path, folder: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(Path(os.environ["OSML_CACHE"]).rglob("*"))
    model, row = load(run, "radscore"), rows_of(table, 1)[0]
    assert model.predict_images({}, files(folder, row)).ok
    assert not model.predict_images({}, {"t1": b"text", "t1.mask": b"text"}).ok
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path(os.environ["OSML_CACHE"]).rglob("*")) == before


def spoilt(folder: Path, row: dict[str, str], change: Callable[[bytes], bytes]) -> dict[str, bytes | Path]:
    given = files(folder, row)
    return given | {"t1": change((folder / row["t1"]).read_bytes())}


def test_a_file_that_cannot_be_used_is_a_status(run: Path, folder: Path, table: Table) -> None:
    model = load(run, "radscore")
    row, other = rows_of(table, 1)[0], rows_of(table, 2)[1]
    good = files(folder, row)
    told = {
        "t1.mask: no file is given": {"t1": good["t1"]},
        "t1: the compressed file is damaged": spoilt(folder, row, lambda raw: raw[:40] + b"\0" * 400),
        "t1: the file is not NIfTI": spoilt(folder, row, lambda raw: b"text"),
        "t1: no file at": good | {"t1": folder / "nowhere"},
        "rad: empty_mask: t1.mask.nii.gz": good | {"t1.mask": blank(folder, row)},
    }
    for words, given in told.items():
        result = model.predict_images({}, given)
        assert result.status.startswith(words)
        assert result.p == ()
        assert str(folder) not in result.status or "no file at" in words
    assert other["t1"] != row["t1"]
    with pytest.raises(TableError, match=r"the model has no image 't1_mask'"):
        model.predict_images({}, {"t1": good["t1"], "t1_mask": good["t1.mask"]})
    assert model.predict(model.one_row({}))[0].status == "needs T1 MRI: no file is given"


def blank(folder: Path, row: dict[str, str]) -> bytes:
    """A mask in which nothing is segmented."""
    import SimpleITK

    mask = SimpleITK.ReadImage(str(folder / row["t1_mask"])) * 0
    path = folder / "blank.nii.gz"
    SimpleITK.WriteImage(mask, str(path), True)
    return path.read_bytes()


def test_reading_that_takes_too_long_or_dies_is_stopped(
    run: Path, folder: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osml.serving import measured_files

    model, given = load(run, "radscore"), files(folder, rows_of(table, 1)[0])
    slow = measured_files.measure_files(model.schema, model.chain, given, timeout_s=0.05)
    assert slow.lost == {0: "t1: not measured within 0.05 s"}
    (tmp_path / "measured_files.py").touch()
    (tmp_path / "measure_process.py").write_text("raise MemoryError('no more')", encoding="utf-8")
    monkeypatch.setattr(measured_files, "__file__", str(tmp_path / "measured_files.py"))
    died = measured_files.measure_files(model.schema, model.chain, given)
    assert died.lost == {0: "t1: reading or measuring the images failed (MemoryError)"}


# A Rad-score has no sheet


def test_a_rad_score_says_that_it_is_no_nomogram(run: Path, folder: Path, table: Table) -> None:
    model = load(run, "radscore")
    for ask in (
        lambda: model.sheet(table, root=folder),
        lambda: model.drawing("pdf"),
        lambda: model.drawing("html"),
        lambda: model.overlay(table, root=folder),
    ):
        with pytest.raises(RunError, match="'radscore' has no nomogram"):
            ask()
    explained = model.explain(table, 3, root=folder)
    assert explained.lp == pytest.approx(model.predict(table, root=folder)[3].lp, rel=1e-9)
    assert [curve.input for curve in model.effects()] == [c.input for c in explained.contributions]


# Harmonised over sites


def test_an_unseen_site_is_a_status(tmp_path: Path) -> None:
    run = serve_images(
        tmp_path,
        {"harmonise": "combat", "regions": ["tumour"]},
        cohort={"table": "table.csv", "patient": "id", "site": "centre"},
        predictors={name: PREDICTORS[name] for name in ("radscore", "combined")},
        missing="impute",
    )
    model = load(run, "combined")
    rows = rows_of(read_table(tmp_path / "table.csv"), 4)
    rows[1]["centre"], rows[2]["centre"] = "west", ""
    write_table(tmp_path / "new.csv", rows)
    found = model.predict(read_table(tmp_path / "new.csv"), root=tmp_path)
    assert [r.ok for r in found] == [True, False, False, True]
    assert found[1].status == "centre: 'west' is not a site that the score was harmonised over; known: north, south"
    assert found[2].status == "centre: missing; known: north, south"
    field = model.form()[-1]
    assert (field.name, field.levels) == (SITE, SITES)
    given = files(tmp_path, rows[0])
    cells = {"age": rows[0]["age"], SITE: rows[0]["centre"]}
    result = model.predict_images(cells, given)
    assert result.p == pytest.approx(found[0].p, rel=1e-12)
    assert model.predict_images(cells | {SITE: "south"}, given).p != result.p
    assert model.predict_images(cells | {SITE: ""}, given).status == "centre: missing; known: north, south"
    assert model.predict_images(cells | {SITE: "west"}, given).status.startswith("centre: 'west' is not a site")
    gap = model.gaps(model.one_row({SITE: "north"}, images=given))
    assert [g.input for g in gap] == ["age"]
    assert model.answers(model.one_row(cells, images=given))[-1].shown == "north"


# The bundle


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, name: str, change: Callable[[Any], object]) -> None:
    data = json.loads((bundle / name).read_text(encoding="utf-8"))
    change(data)
    (bundle / name).write_text(json.dumps(data), encoding="utf-8")
    facts = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    seal(bundle, {key: facts[key] for key in ("study", "seed", "schema_sha256")})


RECIPE, SCORE = "recipe.json", "predictors/radscore/model.json"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            RECIPE,
            lambda d: d["radiomics"]["rad"].update(engine=1),
            "by version 1 of the radiomics engine; this osml has",
        ),
        (RECIPE, lambda d: d["radiomics"]["rad"]["settings"].update(bin_width=6), "have other settings for 'rad'"),
        (RECIPE, lambda d: d["radiomics"]["rad"]["settings"].update(unheard_of=6), "cannot be read: .*unheard_of"),
        (RECIPE, lambda d: d["radiomics"].clear(), "does not say how the features of 'rad' were computed"),
        (RECIPE, lambda d: d.update(format=2), "has format 2; this osml reads 1"),
        (
            "schema.json",
            lambda d: d["inputs"]["rad"]["bins"].update(width=6),
            "other settings for 'rad'",
        ),
        ("schema.json", lambda d: d["predictors"]["radscore"].update(mrmr=9), "'radscore' has selection"),
        (SCORE, lambda d: d["columns"].__setitem__(0, "t1|9-10mm|original_firstorder_Mean"), "does not compute"),
        (SCORE, lambda d: d.update(intercept=d["intercept"] + 1e-6), "'radscore' does not reproduce its golden cases"),
    ],
)
def test_a_bundle_that_would_measure_something_else_is_refused(
    bundle: Path, name: str, change: Callable[[Any], object], words: str
) -> None:
    edit(bundle, name, change)
    with pytest.raises(VerificationError, match=words):
        load(bundle, "radscore")


def test_a_bundle_without_a_recipe_serves_what_needs_none(bundle: Path) -> None:
    (bundle / RECIPE).unlink()
    edit(bundle, "facts.json", lambda d: d)
    assert isinstance(load(bundle, "clinical"), Model)
    with pytest.raises(VerificationError, match="does not say how the features"):
        load(bundle, "combined")


def test_the_score_that_feeds_a_nomogram_has_its_own_golden_cases(bundle: Path) -> None:
    for link in ("combined", "combined/upstream/radscore"):
        stored = json.loads((bundle / "predictors" / link / "golden.json").read_text(encoding="utf-8"))
        assert len(stored["p"]) == 20
    assert "radscore" in json.loads((bundle / "predictors/combined/golden.json").read_text(encoding="utf-8"))["values"]
    change: Callable[[Any], object] = lambda d: d["coef"].__setitem__(0, d["coef"][0] + 1e-4)  # noqa: E731
    edit(bundle, "predictors/combined/upstream/radscore/model.json", change)
    with pytest.raises(VerificationError, match="'radscore' does not reproduce its golden cases"):
        load(bundle, "combined")


def test_no_patient_and_no_image_stands_in_the_bundle(run: Path, table: Table) -> None:
    from osml.runs.cohort_store import load_cohort

    features = load_cohort(run / "cohort" / "cohort.parquet").features["rad"].x
    # Round numbers are ticks of an axis too; a measured value has more digits.
    own = {float(f"{v:.10g}") for v in features.ravel() if np.isfinite(v) and float(f"{v:.4g}") != float(f"{v:.10g}")}
    shared = {v for v in own if np.sum(np.isclose(features, v, rtol=1e-10)) >= 5}
    ages = {float(row["age"]) for row in rows_of(table, len(table.rows))}
    for file in sorted((run / "bundle").rglob("*.json")):
        text = file.read_text(encoding="utf-8")
        assert "QX-" not in text
        assert ".nii" not in text
        assert "mri/" not in text
        numbers = {float(f"{v:.10g}") for v in numbers_of(json.loads(text))}
        assert not (numbers & own) - shared, file
        assert not numbers & ages, file


def numbers_of(data: Any) -> list[float]:
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        return [x for item in data for x in numbers_of(item)]
    return [float(data)] if isinstance(data, int | float) and not isinstance(data, bool) else []


def test_the_drawn_volume_holds_a_lesion() -> None:
    import SimpleITK

    image, mask = draw_volume(np.random.default_rng(1), 2.0)
    values, inside = SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(mask) > 0
    assert values[inside].mean() > values[~inside].mean() + 30
