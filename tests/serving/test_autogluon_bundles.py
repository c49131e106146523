"""Bundles with AutoGluon: what is flagged, what is refused without trust, and what needs none."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_models import serve_many
from served import FIVE
from typer.testing import CliRunner

from osml.cli import app
from osml.cohort.table import read_table
from osml.errors import MissingExtraError, TrustError, VerificationError
from osml.explanation.write import write_explanation
from osml.files import read_json
from osml.predictors import autogluon as module
from osml.predictors.autogluon import FittedAutogluon
from osml.report import make_report
from osml.runs.bundle import MANIFEST, seal
from osml.serving import load

pytestmark = pytest.mark.full
CELLS = {"age": "61", "marker": "200", "size": "90", "sex": "male", "stage": "late"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)  # where AutoGluon writes, unless it is told otherwise
        path = serve_many(tmp_path_factory.mktemp("many"))
    assert list(here.iterdir()) == []
    return path


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(module, "revive", refuse)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_files_that_run_code_lie_apart_and_are_named(run: Path) -> None:
    manifest = read_json(run / "bundle" / MANIFEST)
    flagged = manifest["untrusted"]
    pickles = [name for name in manifest["files"] if (run / "bundle" / name).read_bytes()[:1] == b"\x80"]
    assert pickles
    assert set(pickles) <= set(flagged)
    assert all("/untrusted/" in name for name in flagged)
    for name in flagged:
        assert manifest["files"][name] == hashlib.sha256((run / "bundle" / name).read_bytes()).hexdigest()
    assert {name.split("/")[1] for name in flagged} == {"many", "both"}


@pytest.mark.parametrize("name", ["many", "both"])
def test_nothing_runs_without_trust(copied: Path, tmp_path: Path, name: str) -> None:
    """Not even of a bundle whose hashes are right."""
    mark = tmp_path / "ran"
    for file in copied.rglob("*.pkl"):
        file.write_bytes(pickle.dumps(Bomb(mark)))
    for file in copied.rglob("model.json"):
        data = read_json(file)
        if data.get("kind") == "autogluon":
            names = data["files"]
            data["files"] = {
                key: hashlib.sha256((file.parent / "untrusted" / key).read_bytes()).hexdigest() for key in names
            }
            file.write_text(json.dumps(data), encoding="utf-8")
    manifest = read_json(copied / MANIFEST)
    seal(copied, {key: manifest[key] for key in ("study", "seed", "schema_sha256")})
    with pytest.raises(TrustError, match="'many' is of kind autogluon, whose files are pickles; none was read"):
        load(copied, name)
    assert not mark.exists()
    assert load(copied, "clinical").predict_one({"age": "61", "sex": "male"}).ok
    assert not mark.exists()
    # With trust it runs: this is what the question is about.
    with pytest.raises((VerificationError, AttributeError)):
        load(copied, name, trust=True)
    assert mark.exists()


def test_other_predictors_need_no_trust(run: Path, no_pickle: None) -> None:
    assert load(run, "clinical").name == "clinical"
    assert load(run).name == "clinical"


@pytest.mark.parametrize("name", ["many", "both"])
def test_with_trust_it_says_what_it_said(run: Path, name: str) -> None:
    model = load(run, name, trust=True)
    row = model.predict_one(CELLS)
    assert row.ok
    assert 0 < row.p[0] < 1
    again = load(run, name, trust=True).predict_one(CELLS)
    assert again.p == row.p
    explanation = model.explain(model.one_row(CELLS))
    total = explanation.base + sum(part.value for part in explanation.contributions)
    assert total == pytest.approx(explanation.lp)
    assert explanation.lp == pytest.approx(row.lp, abs=1e-5)


def test_contributions_of_one_patient(run: Path) -> None:
    model = load(run, "many", trust=True)
    table = model.one_row({**CELLS, "marker": ""})
    parts = {part.input: part for part in model.explain(table).contributions}
    assert list(parts) == FIVE
    assert parts["marker"].value == 0.0
    assert {gap.input for gap in model.gaps(table)} == {"marker"}
    assert [answer.input for answer in model.answers(table)] == FIVE


def test_golden_cases_are_replayed(copied: Path) -> None:
    file = copied / "predictors" / "many" / "golden.json"
    data = read_json(file)
    data["p"][3][0] += 1e-4
    file.write_text(json.dumps(data), encoding="utf-8")
    manifest = read_json(copied / MANIFEST)
    seal(copied, {key: manifest[key] for key in ("study", "seed", "schema_sha256")})
    with pytest.raises(VerificationError, match="does not reproduce its golden cases"):
        load(copied, "many", trust=True)


def test_a_manifest_that_hides_them_is_refused(copied: Path) -> None:
    manifest = read_json(copied / MANIFEST)
    for untrusted in (None, manifest["untrusted"][1:]):
        changed = {key: value for key, value in manifest.items() if key != "untrusted"}
        changed |= {} if untrusted is None else {"untrusted": untrusted}
        (copied / MANIFEST).write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(VerificationError, match="does not name the files that run code"):
            load(copied, "clinical")


def test_the_command_line(run: Path, tmp_path: Path) -> None:
    table, out = run.parents[2] / "table.csv", tmp_path / "p.csv"
    asked = ["predict", str(run), str(table), "--predictor", "many", "-o", str(out)]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, TrustError)
    assert not out.exists()
    done = CliRunner().invoke(app, [*asked, "--trust"])
    assert done.exit_code == 0
    assert "predicted 72 of 72 rows with 'many'" in done.output
    found = read_table(out)
    risks = np.array([float(cell) for cell in found.column("risk: bad")])
    # Not the patients it is tested on: only that it is the model, which knows them.
    bad = np.array([cell == "bad" for cell in read_table(table).column("outcome")])
    assert risks[bad].mean() > risks[~bad].mean() + 0.1
    assert sum("marker" in cell for cell in found.column("missing_inputs")) == sum(
        not cell for cell in read_table(table).column("marker")
    )


def test_report_and_explanation_read_no_pickle(run: Path, no_pickle: None, tmp_path: Path) -> None:
    before = (run / "report" / "report.html").read_bytes()
    make_report(run)
    page = (run / "report" / "report.html").read_bytes()
    assert page == before
    text = page.decode("utf-8")
    assert "Its leaderboard, many" in text
    assert "Contributions of the inputs, many" in text
    said: list[str] = []
    write_explanation(run, "many", tmp_path / "e", said.append)
    assert (tmp_path / "e" / "shap_summary.csv").is_file() or list((tmp_path / "e").glob("shap*.csv"))
    assert any("SHAP      log odds" in line for line in said)


def test_a_stack_of_it_is_explained_with_trust(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrustError):
        write_explanation(run, "both", tmp_path, lambda line: None)
    said: list[str] = []
    write_explanation(run, "both", tmp_path, said.append, trust=True)
    assert any("many" in line for line in said)


def test_contributions_add_up_to_the_held_out_predictions(run: Path) -> None:
    """Stored by each fold for the patients that it did not train on."""
    from osml.runs.store import read_predictions

    rows = {(r.unit, r.fold): r.lp for r in read_predictions(run / "predictions.parquet") if r.predictor == "many"}
    seen = set()
    for fold in read_json(run / "splits.json"):
        found = read_json(run / "folds" / f"r0-f{fold['index']}" / "many" / "shap.json")
        assert set(found["units"]) <= set(fold["test"])
        part = found["outputs"]["bad"]
        sums = np.array(part["values"]).sum(axis=1)
        np.testing.assert_allclose(sums, part["lp"], atol=1e-9)
        # lp is measured from the background's mean, the same for all units of the fold.
        own = np.array([rows[unit, fold["index"]] for unit in found["units"]])
        np.testing.assert_allclose(np.ptp(own - np.array(part["lp"])), 0.0, atol=1e-5)
        seen |= set(found["units"])
    assert len(seen) == 72


def test_facts_of_the_run(run: Path) -> None:
    facts = read_json(run / "metrics.json")["predictors"]["many"]["autogluon"]
    assert facts["planned"] == 7
    assert facts["folds"]["counted"] == 2
    assert set(facts["folds"]["importance"]) == set(FIVE)
    weights = [row["weight"] or 0.0 for row in facts["folds"]["models"].values()]
    assert sum(weights) == pytest.approx(1.0)
    assert len(facts["deployed"]["leaderboard"]) == 8
    for place in (run / "folds" / "r0-f0" / "many" / "autogluon.json", run / "training" / "many.json"):
        record = read_json(place)
        assert {row["role"] for row in record["leaderboard"]} == {"model", "ensemble"}
        assert len(record["overrides"]) > 10
    assert "Fitting model:" in (run / "folds" / "r0-f0" / "many" / "autogluon.log").read_text(encoding="utf-8")
    card = (run / "model_card.md").read_text(encoding="utf-8")
    assert "many: AutoGluon. Deployed: " in card
    assert "no time limit" in card
    assert "loaded with --trust only" in card


def test_autogluon_that_is_not_installed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osml.predictors import autogluon_files

    def version(package: str) -> str:
        raise autogluon_files.PackageNotFoundError(package)

    monkeypatch.setattr(autogluon_files, "version", version)
    with pytest.raises(MissingExtraError, match=r"autogluon\.tabular is not installed.*\n.*osml\[autogluon\]"):
        load(run, "many", trust=True)
    assert load(run, "clinical").name == "clinical"


def test_the_bundle_holds_no_patient(run: Path) -> None:
    """No number of the table with its seven digits, as text or in binary, and no id."""
    table = read_table(run.parents[2] / "table.csv")
    model = load(run, "many", trust=True)
    assert isinstance(model.fitted, FittedAutogluon)
    shared = {*model.fitted.frame.fills}
    texts = {cell for name in ("id", "age", "marker", "size") for cell in table.column(name) if cell}
    values = [float(cell) for name in ("age", "size") for cell in table.column(name)]
    for file in (run / "bundle").rglob("*"):
        if not file.is_file():
            continue
        raw = file.read_bytes()
        assert [text for text in texts if text.encode() in raw and float_or(text) not in shared] == [], file
        if "untrusted" in file.parts:
            hits = [x for x in values if x not in shared and np.float64(x).tobytes() in raw]
            hits += [x for x in values if x not in shared and np.float32(x).tobytes() in raw]
            assert hits == [], file


def float_or(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
