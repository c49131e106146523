"""A network that looks at volumes: three planes of a lesion, from a table of paths and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
pytest.importorskip("SimpleITK", reason="the radiomics extra is not installed")
from imaged import INPUTS, imaged_patients
from networked import MODEL, QUICK, weights_file
from served import serve
from test_serving_images import blank, files

from osml.cohort.table import read_table
from osml.serving import load

pytestmark = pytest.mark.full


def test_a_network_sees_the_planes_of_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_file(tmp_path, MODEL)
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("OSML_DEVICE", "cpu")
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))
    net = {
        "kind": "network", "inputs": ["t1", "age"], "encoders": {"t1": {"model": MODEL}}, "ablation": "none",
        "train": QUICK,
    }  # fmt: skip
    study = tmp_path / "study"
    rows = imaged_patients(study, n=24)
    inputs = {name: INPUTS[name] for name in ("t1", "age")}
    run = serve(study, rows, inputs=inputs, predictors={"net": net}, missing="impute")
    model = load(run)
    assert [(image.key, image.may_be_missing) for image in model.images()] == [("t1", True), ("t1.mask", True)]
    found = model.predict(read_table(study / "table.csv"), root=study)
    assert all(row.ok for row in found)
    given = files(study, rows[0])
    one = model.one_row({"age": rows[0]["age"]}, images=given)
    assert model.predict(one)[0].p == pytest.approx(found[0].p, abs=1e-5)
    assert [heat.label for heat in model.grad_cam(one)] == [f"T1 MRI, picture {k}" for k in (1, 2, 3)]
    half = model.predict_images({"age": rows[0]["age"]}, {"t1": given["t1"]})
    assert half.status == "t1.mask: no file is given"
    assert model.predict_one({"age": "50"}).missing == ("t1",)
    burnt = given | {"t1.mask": blank(study, rows[0])}
    assert model.predict_images({"age": "50"}, burnt).status.startswith("t1: empty_mask: ")
