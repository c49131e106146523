"""Networks and stacks behind the door: tables with several pictures, uploads, missing inputs, explanations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_studies import Rows, write_table

pytest.importorskip("torch", reason="the nets extra is not installed")
from networked import picture, save, serve_xray

from osml.cohort.table import Table, read_table
from osml.errors import RunError, TableError
from osml.serving import Model, load, record, rows_csv, rows_table, statement

CELLS = {"age": "55", "sex": "male", "alp": "200", "alp_low": "45", "alp_high": "125"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_xray(tmp_path_factory.mktemp("xray"))


@pytest.fixture(scope="module", autouse=True)
def surroundings(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_WEIGHTS", str(run.parents[2] / "weights"))
        patch.setenv("OSML_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OSML_DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run, "fused")


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    """Where the study's table and pictures lie."""
    return run.parents[2]


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return read_table(folder / "table.csv")


def rows_of(table: Table, n: int) -> Rows:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows[:n]]


def written(folder: Path, rows: Rows) -> Table:
    write_table(folder / "new.csv", rows)
    return read_table(folder / "new.csv")


def absolute(rows: Rows, folder: Path) -> Rows:
    return [row | {"file": str(folder / row["file"]) if row["file"] else ""} for row in rows]


# What is asked


def test_the_form_holds_cells_and_pictures_that_may_be_missing(run: Path, model: Model) -> None:
    assert [field.name for field in model.form()] == ["age", "sex", "alp"]
    assert [(f.kit_low, f.kit_high) for f in model.form()] == [(None, None), (None, None), ("alp_low", "alp_high")]
    (image,) = model.images()
    assert (image.key, image.column, image.kind, image.several, image.may_be_missing) == (
        "xray", "file", "image", True, True,
    )  # fmt: skip
    assert (model.kind, model.columns, model.classes, model.horizons) == ("network", ("bad",), (), ())
    assert load(run, "clinical").images() == ()
    assert [field.name for field in load(run, "both").form()] == ["age", "sex", "alp"]
    assert dict(statement(model))["Event"] == "bad outcome"


# Tables


@pytest.mark.parametrize("name", ["fused", "both"])
def test_a_table_gives_every_row_the_prediction_of_its_patient(
    run: Path, folder: Path, table: Table, name: str
) -> None:
    from osml.explanation.held_out import run_cohort, run_schema

    model = load(run, name)
    cohort = run_cohort(run, run_schema(run), "fused")
    expected = dict(zip(cohort.units, model.chain.predict(cohort).p[:, 0].tolist(), strict=True))
    found = model.predict(table, root=folder)
    assert len(found) == len(table.rows) > len(expected) > 20
    assert [row.status for row in found] == ["ok"] * len(found)
    assert [row.p[0] for row in found] == pytest.approx([expected[row.unit] for row in found], abs=1e-6)
    assert np.std([row.p[0] for row in found]) > 0.001


def test_a_patient_with_two_pictures_is_neither_of_them_alone(
    model: Model, folder: Path, table: Table, tmp_path: Path
) -> None:
    rows = absolute([row for row in rows_of(table, 8) if row["id"] == "QX-7013-Z"], folder)
    assert len(rows) == 2
    both = model.predict(written(tmp_path, rows), root=tmp_path)
    alone = [model.predict(written(tmp_path, [row]), root=tmp_path)[0] for row in rows]
    assert both[0].p == both[1].p
    assert min(abs(both[0].p[0] - one.p[0]) for one in alone) > 1e-6
    assert model.explain(written(tmp_path, rows), 1, root=tmp_path).contributions[0].shown == "2 pictures"
    nameless = [{key: cell for key, cell in row.items() if key != "id"} for row in rows]
    found = model.predict(written(tmp_path, nameless), root=tmp_path)
    assert [row.p[0] for row in found] == pytest.approx([row.p[0] for row in alone], abs=1e-6)


def test_rows_that_contradict_their_patient_are_refused(
    model: Model, folder: Path, table: Table, tmp_path: Path
) -> None:
    rows = absolute([row for row in rows_of(table, 8) if row["id"] == "QX-7013-Z"], folder)
    rows[1]["age"] = "31"
    found = model.predict(written(tmp_path, rows), root=tmp_path)
    assert found[1].status == "differs from line 2 of the same patient in age"
    assert found[0].status == "line 3 of the same patient cannot be used"


def test_a_broken_picture_is_named_on_its_row(model: Model, folder: Path, table: Table, tmp_path: Path) -> None:
    rows = absolute(rows_of(table, 8), folder)
    (tmp_path / "broken.png").write_bytes((folder / "pictures" / "p1-0.png").read_bytes()[:400])
    mine = [i for i, row in enumerate(rows) if row["id"] == "QX-7013-Z"]
    rows[mine[1]]["file"] = "broken.png"
    rows[7]["file"] = "nowhere.png"
    found = model.predict(written(tmp_path, rows), root=tmp_path)
    assert "xray: unreadable:" in found[mine[1]].status
    assert "broken.png: cannot be read as a picture" in found[mine[1]].status
    assert found[mine[0]].status == f"line {mine[1] + 2} of the same patient cannot be used"
    assert "nowhere.png: no such file" in found[7].status
    others = [i for i in range(8) if rows[i]["id"] not in ("QX-7013-Z", rows[7]["id"])]
    whole = model.predict(table, root=folder)
    assert others
    assert [found[i].p[0] for i in others] == pytest.approx([whole[i].p[0] for i in others], abs=1e-6)


def test_what_is_missing_is_said_and_a_row_without_anything_is_refused(
    model: Model, folder: Path, table: Table, tmp_path: Path
) -> None:
    row = absolute(rows_of(table, 1), folder)[0] | {"id": "a"}
    rows = [row, row | {"id": "b", "file": ""}, row | {"id": "c", "age": "", "alp_low": ""}]
    rows.append(row | {"id": "d", "file": "", "age": "", "sex": "", "alp": ""})
    found = model.predict(written(tmp_path, rows), root=tmp_path)
    assert [r.missing for r in found] == [(), ("xray",), ("age", "alp"), ()]
    assert [r.status for r in found] == ["ok", "ok", "ok", "every input is missing"]
    assert len({r.p for r in found[:3]}) == 3
    header, lines = rows_table(model, found)
    assert [line[header.index("missing_inputs")] for line in lines] == ["", "xray", "age; alp", ""]
    assert lines[0][header.index("gate: xray")] + lines[0][header.index("gate: table")] == pytest.approx(1)
    assert lines[0][header.index("undecided")] in ("yes", "no")
    assert rows_csv(model, found).count("\n") == 5


def test_columns_that_a_network_reads_are_asked_for(model: Model, folder: Path, table: Table, tmp_path: Path) -> None:
    rows = [{key: cell for key, cell in row.items() if key != "file"} for row in rows_of(table, 2)]
    with pytest.raises(TableError, match=r"1 column not found.*\n.*no column 'file'"):
        model.predict(written(tmp_path, rows), root=tmp_path)
    kept = ("id", "age", "sex", "alp", "alp_low", "alp_high", "file")
    rows = [{key: row[key] for key in kept} for row in rows_of(table, 2)]  # no outcome
    assert all(r.ok for r in model.predict(written(tmp_path, rows), root=folder))


def test_no_path_is_followed_without_a_root(model: Model, table: Table) -> None:
    found = model.predict(table)
    assert {row.status for row in found} == {
        "needs Radiograph: paths in this table are not followed; give the files themselves, or use `osml predict`"
    }


# One patient's files


def test_files_give_what_a_table_of_paths_gives(model: Model, folder: Path, table: Table) -> None:
    rows = [row for row in rows_of(table, 8) if row["id"] == "QX-7013-Z"]
    expected = {row.unit: row for row in model.predict(table, root=folder)}["QX-7013-Z"]
    cells = {name: rows[0][name] for name in CELLS}
    given: dict[str, Any] = {"xray": [(folder / row["file"]).read_bytes() for row in rows]}
    one = model.one_row(cells, images=given)
    result = model.predict(one)[0]
    assert result.p == pytest.approx(expected.p, abs=1e-6)
    assert one.measured is not None
    assert [raw[:4] for raw in one.measured.shown["xray"]] == [b"\x89PNG"] * 2
    data = json.loads(json.dumps(record(model, one), allow_nan=False))
    assert data["gate_weights"].keys() == {"xray", "table"}
    assert len(data["explanation"]["contributions"]) == 4
    alone = model.predict_images(cells, {"xray": folder / rows[0]["file"]})
    assert alone.ok
    assert alone.p != result.p
    missing = model.predict_images({"age": "50"}, {"xray": folder / rows[0]["file"]})
    assert missing.missing == ("sex", "alp")
    assert model.predict_one(CELLS).missing == ("xray",)
    assert model.predict_one({}).status == "every input is missing"


def test_nothing_of_an_upload_is_kept(
    model: Model, folder: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(Path(os.environ["OSML_CACHE"]).rglob("*"))
    assert model.predict_images(CELLS, {"xray": folder / table.column("file")[0]}).ok
    assert not model.predict_images(CELLS, {"xray": b"text"}).ok
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path(os.environ["OSML_CACHE"]).rglob("*")) == before


def test_a_file_that_cannot_be_used_is_a_status(model: Model, folder: Path, table: Table) -> None:
    good = (folder / table.column("file")[0]).read_bytes()
    told = {
        "xray: the file is not PNG, JPEG, TIFF or DICOM": b"text",
        "xray: the file is empty": b"",
        "xray: unreadable: xray.png: cannot be read as a picture": good[:300],
    }
    for words, raw in told.items():
        result = model.predict_images(CELLS, {"xray": raw})
        assert result.status.startswith(words)
        assert result.p == ()
    with pytest.raises(TableError, match="the model has no image 'ct'"):
        model.predict_images(CELLS, {"ct": good})


def test_dicom_is_read_and_burned_in_text_is_refused(model: Model, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="the imaging extra is not installed")
    from dicom_files import write_file
    from pydicom.uid import DigitalXRayImageStorageForPresentation as Radiograph

    grey = (picture(np.random.default_rng(1), 0.5)[:, :, 0].astype(np.uint16)) * 16
    plain = write_file(tmp_path / "a.dcm", grey, Radiograph, BitsStored=12)
    named = write_file(tmp_path / "b.dcm", grey, Radiograph, BitsStored=12, BurnedInAnnotation="YES")
    assert model.predict_images(CELLS, {"xray": plain.read_bytes()}).ok
    refused = model.predict_images(CELLS, {"xray": [plain.read_bytes(), named.read_bytes()]})
    assert refused.status.startswith("xray: burned_in: text is burned into the pixels")
    assert model.predict_images(CELLS, {"xray": plain.read_bytes()[:400]}).status.startswith("xray: unreadable: ")


def test_a_process_that_answers_with_another_size_is_not_believed(
    model: Model, folder: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osml.serving import measured_files

    script = Path(measured_files.__file__).with_name("measure_process.py").read_text(encoding="utf-8")
    assert script.count('fit(picture, job["size"]') == 1
    (tmp_path / "measured_files.py").touch()
    (tmp_path / "measure_process.py").write_text(
        script.replace('fit(picture, job["size"]', 'fit(picture, 2 * job["size"]'), encoding="utf-8"
    )
    monkeypatch.setattr(measured_files, "__file__", str(tmp_path / "measured_files.py"))
    result = model.predict_images(CELLS, {"xray": folder / table.column("file")[0]})
    assert result.status == "xray: the process that reads images gave another size than was asked for"


# Why


def test_contributions_add_up_and_what_is_missing_has_none(model: Model, folder: Path, table: Table) -> None:
    rows = model.predict(table, root=folder)
    for i in (0, next(i for i, row in enumerate(rows) if "age" in row.missing)):
        found = model.explain(table, i, root=folder)
        assert [part.input for part in found.contributions] == ["xray", "age", "sex", "alp"]
        assert found.base + sum(part.value for part in found.contributions) == pytest.approx(rows[i].lp, abs=1e-5)
        assert found.lp == pytest.approx(rows[i].lp, abs=1e-5)
        gone = {part.input: part.value for part in found.contributions if part.imputed}
        assert set(gone) == set(rows[i].missing)
        assert set(gone.values()) <= {0.0}


def test_a_contribution_is_the_shapley_value_of_being_given(model: Model) -> None:
    from itertools import permutations

    cells = {key: CELLS[key] for key in ("age", "sex")}
    found = model.explain(model.one_row(cells))

    def lp(names: tuple[str, ...]) -> float:
        value = model.predict_one({name: cells[name] for name in names}).lp
        assert value is not None
        return value

    # Two inputs, each order by hand; nothing given at all is no row that can be predicted, so it is the base.
    worth = {(): found.base, ("age",): lp(("age",)), ("sex",): lp(("sex",)), ("age", "sex"): lp(("age", "sex"))}
    steps: dict[str, list[float]] = {"age": [], "sex": []}
    for order in permutations(("age", "sex")):
        for k, name in enumerate(order):
            steps[name].append(worth[tuple(sorted(order[: k + 1]))] - worth[tuple(sorted(order[:k]))])
    parts = {part.input: part.value for part in found.contributions}
    assert parts["age"] == pytest.approx(np.mean(steps["age"]), abs=1e-5)
    assert parts["sex"] == pytest.approx(np.mean(steps["sex"]), abs=1e-5)


def test_heat_maps_lie_over_the_pictures_of_the_row(model: Model, folder: Path, table: Table) -> None:
    import io

    from PIL import Image

    i = next(i for i, name in enumerate(table.column("id")) if name == "QX-7013-Z")
    found = model.grad_cam(table, i, root=folder)
    assert [heat.label for heat in found] == ["Radiograph, picture 1", "Radiograph, picture 2"]
    assert {heat.of for heat in found} == {"log odds"}
    for heat in found:
        sizes = {Image.open(io.BytesIO(raw)).size for raw in (heat.picture, heat.overlay)}
        assert sizes == {(170, 170)}
        assert (heat.overlay == heat.picture) is not heat.warm
    files = [folder / row["file"] for row in rows_of(table, 8) if row["id"] == "QX-7013-Z"]
    cells = {name: rows_of(table, i + 1)[i][name] for name in CELLS}
    uploaded = model.grad_cam(model.one_row(cells, images={"xray": files}))
    for a, b in zip(found, uploaded, strict=True):
        pixels = [np.asarray(Image.open(io.BytesIO(raw))).astype(float) for raw in (a.overlay, b.overlay)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 3  # resampled once more on the way
    assert model.grad_cam(model.one_row(CELLS)) == ()


def test_a_stack_adds_up_from_its_scores(run: Path, folder: Path, table: Table) -> None:
    model = load(run, "both")
    row, found = model.predict(table, root=folder)[0], model.explain(table, 0, root=folder)
    assert [part.input for part in found.contributions] == ["fused", "clinical"]
    own = [load(run, name).predict(table, root=folder)[0].lp for name in ("fused", "clinical")]
    assert [part.value for part in found.contributions] == pytest.approx(
        [x / 2 for x in own if x is not None], abs=1e-6
    )
    assert found.base == pytest.approx(0.0, abs=1e-9)
    assert row.lp == pytest.approx(found.lp, abs=1e-6)
    assert model.grad_cam(table, 0, root=folder) == ()


def test_what_a_gap_could_change(model: Model, folder: Path, table: Table) -> None:
    cells = {key: CELLS[key] for key in ("age", "alp", "alp_low", "alp_high")}
    (gap,) = model.gaps(model.one_row(cells))
    ends = [model.predict_one(cells | {"sex": level}).p[0] for level in ("female", "male")]
    assert gap.input == "sex"
    assert (gap.low[0], gap.high[0]) == pytest.approx((min(ends), max(ends)), abs=1e-6)


@pytest.mark.parametrize("name", ["fused", "both"])
def test_there_is_no_nomogram_and_the_reason_is_said(run: Path, name: str) -> None:
    model = load(run, name)
    with pytest.raises(RunError, match=f"'{name}' has no nomogram") as caught:
        model.drawing("svg")
    assert "A nomogram draws a regression" in str(caught.value)
    with pytest.raises(RunError, match="has no nomogram"):
        model.sheet(model.one_row(CELLS))
    assert model.effects() == ()


def test_complete_cases_do_not_miss_anything(run: Path, folder: Path, table: Table, tmp_path: Path) -> None:
    other = tmp_path / "complete"
    other.mkdir()
    complete = serve_xray(other, missing="complete_case")
    model = load(complete, "fused")
    assert not model.images()[0].may_be_missing
    row = absolute(rows_of(table, 1), folder)[0] | {"id": "a"}
    rows = [row, row | {"id": "b", "file": ""}, row | {"id": "c", "age": ""}, row | {"id": "d", "alp_low": ""}]
    found = model.predict(written(tmp_path, rows), root=tmp_path)
    assert [r.status for r in found] == [
        "ok",
        "missing xray, and the model does not impute",
        "missing age, and the model does not impute",
        "missing the kit range of alp, and the model does not impute",
    ]
    assert model.predict_one(CELLS).status == "needs Radiograph: no file is given"


def test_a_network_that_never_missed_an_input_does_not_guess_without_it(tmp_path: Path) -> None:
    from networked import MODEL, QUICK, XRAY, xray_rows

    rows = [row for row in xray_rows(tmp_path) if row["file"]]
    run = serve_xray(
        tmp_path,
        inputs=XRAY,
        predictors={
            "net": {
                "kind": "network", "inputs": ["xray", "sex"], "modality_dropout": 0, "ablation": "none",
                "encoders": {"xray": {"model": MODEL}}, "train": QUICK,
            },
        },
        cohort={"table": "whole.csv", "patient": "id"} if not write_table(tmp_path / "whole.csv", rows) else None,
    )  # fmt: skip
    model = load(run)
    assert not any(asked.may_be_missing for asked in (*model.form(), *model.images()))
    gone = model.predict_one({"sex": "male"})
    assert gone.status == (
        "Radiograph is missing, and no training patient lacked it: the model has not learnt to do without"
    )
    image = {"xray": tmp_path / save(tmp_path / "pictures" / "new.png", picture(np.random.default_rng(3), 0.5))}
    assert model.predict_images({"sex": "male"}, image).ok
    found = model.explain(model.one_row({"sex": "male"}, images=image))
    assert found.note.startswith("In training Radiograph was never missing or hidden")
