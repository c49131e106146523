"""Boosted trees that look at pictures through the default encoder: from files of a study, a bundle and an upload."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
from networked import serve_xray

from osml.cohort.table import read_table
from osml.errors import VerificationError
from osml.explanation.networks import network_explanation
from osml.files import read_json, write_json
from osml.predictors.boosting import FittedBoosting
from osml.report import make_report
from osml.runs.bundle import seal
from osml.serving import load

pytestmark = pytest.mark.full
CELLS = {"age": "55", "alp": "200", "sex": "male"}
INPUTS = ["xray", "age", "sex", "alp"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trees = {"trees": {"kind": "boosting", "inputs": INPUTS, "smallest_leaf": 3}}
    fed = {"clinical": {"kind": "nomogram", "inputs": ["age", "trees"], "shrink": "none"}}
    return serve_xray(tmp_path_factory.mktemp("pictures"), predictors={**trees, **fed})


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OSML_DEVICE", "cpu")


def test_a_table_and_uploads_give_what_the_run_gave(run: Path) -> None:
    model = load(run, "trees")
    fitted = model.fitted
    assert isinstance(fitted, FittedBoosting)
    assert fitted.untaught() == ()  # two patients have no picture
    assert fitted.spec.encoders["xray"].weights["model"] == "tf_efficientnet_lite0"
    folder = run.parents[2]
    table = read_table(folder / "table.csv")
    rows = model.predict(table, root=folder)
    assert all(row.ok for row in rows)
    names = table.column("file")
    two = next(i for i in range(len(rows) - 1) if rows[i].unit == rows[i + 1].unit)
    cells = {name: table.column(name)[two] for name in CELLS}
    files = {"xray": [(folder / names[i]).read_bytes() for i in (two, two + 1)]}
    upload = model.one_row(cells, images=files)
    again = model.predict(upload)[0]
    assert again.p == pytest.approx(rows[two].p, abs=1e-9)
    explanation = model.explain(upload)
    assert [c.input for c in explanation.contributions] == INPUTS
    assert explanation.base + sum(c.value for c in explanation.contributions) == pytest.approx(again.lp, rel=1e-9)
    assert explanation.contributions[0].shown == "2 pictures"
    assert model.grad_cam(upload) == ()
    bare = model.predict_one(CELLS)
    assert (bare.ok, bare.missing) == (True, ("xray",))


def test_scores_of_trees_that_look_at_pictures_feed_a_nomogram(run: Path) -> None:
    folder = run.parents[2]
    rows = load(run, "clinical").predict(read_table(folder / "table.csv"), root=folder)
    assert sum(row.ok for row in rows) > 30


def test_another_encoder_is_refused(run: Path, tmp_path: Path) -> None:
    """The bundle holds what its encoder gives of two made-up pictures, and how pictures become vectors."""
    folder = shutil.copytree(run / "bundle", tmp_path / "bundle")
    manifest = read_json(folder / "manifest.json")
    facts = {key: manifest[key] for key in ("study", "seed", "schema_sha256", "encoders")}
    assert [one["model"] for one in manifest["encoders"]] == ["tf_efficientnet_lite0"]
    place = folder / "predictors" / "trees" / "golden.json"
    golden = read_json(place)
    kept = golden["encoders"]["xray"][0][0]
    golden["encoders"]["xray"][0][0] = kept + 10.0
    write_json(place, golden)
    seal(folder, facts)
    model = load(folder, "trees")
    table = read_table(run.parents[2] / "table.csv")
    with pytest.raises(VerificationError, match="does not give the vectors"):
        model.predict(table, root=run.parents[2])
    recipe = read_json(folder / "recipe.json")
    assert set(recipe["images"]) == {"trees.xray"}
    recipe["images"]["trees.xray"]["pixels"] = "another"
    write_json(folder / "recipe.json", recipe)
    seal(folder, facts)
    with pytest.raises(VerificationError, match="the vectors of 'xray' were computed with pixels"):
        load(folder, "trees")


def test_contributions_and_report(run: Path) -> None:
    """A picture is one input; what the run's cache no longer holds is computed again."""
    found = network_explanation(run, "trees").shap["bad"]
    assert [column.name for column in found.columns] == INPUTS
    assert found.columns[0].many
    page = make_report(run).read_text(encoding="utf-8")
    assert "xray: tf_efficientnet_lite0" in page
    assert 'id="shap_trees"' in page
