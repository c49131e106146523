"""Boosted trees from the schema to the report and the bundle; nothing of test patients reaches what is fitted."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boosting_designs import boosting_schema, cohort_of
from served import FIVE, patients, serve

from osml.cohort.cohort import BinaryOutcome
from osml.cohort.splits import Fold
from osml.cohort.table import Table, read_table
from osml.errors import VerificationError
from osml.explanation.networks import network_explanation
from osml.explanation.write import write_explanation
from osml.files import read_json
from osml.predictors.boosting import FittedBoosting
from osml.predictors.chain import load_chain
from osml.report import make_report
from osml.report.boosting import section
from osml.report.run import read_run
from osml.runs.bundle import seal
from osml.runs.cohort_store import load_cohort
from osml.runs.store import read_predictions
from osml.serving import Model, load, rows_csv
from osml.study.search import search_facts
from osml.study.tasks import FoldTask, run_fold

CELLS = {"age": "51.5", "marker": "240", "size": "77", "sex": "male", "stage": "late"}
PREDICTORS = {
    "boosted": {"kind": "boosting", "label": "Boosted trees", "inputs": FIVE, "search": {"trials": 2}},
    "both": {"kind": "boosting", "inputs": ["age", "clinical"], "rounds": 8},
    "clinical": {"kind": "nomogram", "inputs": ["age", "size", "sex"], "shrink": "none"},
}
VALIDATION = {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}, "seed": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("boosted"), predictors=PREDICTORS, validation=VALIDATION)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run, "boosted")


@pytest.fixture(scope="module")
def table(run: Path) -> Table:
    return read_table(run.parents[2] / "table.csv")


def test_test_patients_are_out_of_reach(tmp_path: Path) -> None:
    """A poisoned test fold: other values and no outcomes. Trees, settings and trials stay byte for byte."""
    schema, cohort = boosting_schema(search={"trials": 3}), cohort_of(n=60, gaps=True)
    ids = cohort.patient_ids
    fold = Fold(0, 0, ids[::2], ids[1::2])
    train, test = cohort.of(fold.train), cohort.of(fold.test)
    values = {name: np.full(len(test), 1e9) for name in test.values}
    values["stage"] = np.zeros(len(test))
    poisoned = replace(test, values=values, outcome=BinaryOutcome(np.ones(len(test)), "bad", "good"))
    for called, part in (("clean", test), ("poisoned", poisoned)):
        run_fold(FoldTask(schema, "net", fold, train, part.without_outcome(), 5, tmp_path / called))
    for name in ("model.json", "trees.txt", "search.json", "training.json"):
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "poisoned" / name).read_bytes()
    said = [[r.p for r in read_predictions(tmp_path / c / "predictions.parquet")] for c in ("clean", "poisoned")]
    assert said[0] != said[1]
    assert not (tmp_path / "clean" / "unfinished").exists()


def test_a_run_says_how_the_trees_were_made(run: Path) -> None:
    facts = read_json(run / "metrics.json")["predictors"]["boosted"]
    assert facts["failed_folds"] == 0
    assert facts["apparent"]["auc"]["value"] > 0.6
    assert facts["boosting"]["inputs"] == FIVE
    assert sum(facts["boosting"]["gain"].values()) == pytest.approx(1.0)
    assert facts["search"]["folds"] == 2
    assert facts["search"]["trials"] == 2
    assert facts["search"]["finished"] + facts["search"]["pruned"] + facts["search"]["failed"] == 4
    assert facts["search"]["final"] == facts["boosting"]["settings"]
    stored = [read_json(run / "folds" / f"r0-f{k}" / "boosted" / "search.json") for k in range(2)]
    assert facts["search"]["chosen"]["leaves"] == [
        min(s["values"]["leaves"] for s in stored),
        max(s["values"]["leaves"] for s in stored),
    ]
    assert search_facts(run, "both") is None


def test_the_report_says_how_settings_were_chosen(run: Path) -> None:
    text = "".join(str(part) for part in section(read_run(run)))
    facts = read_json(run / "metrics.json")["predictors"]["boosted"]
    assert "How they were made" in text
    assert "Gain by input" in text
    row = text.partition("Search of settings")[2].partition("</tr></tbody>")[0]
    low, high = facts["search"]["chosen"]["leaves"]
    assert (f"leaves {low} to {high}" if low < high else f"leaves {low}") in row
    assert f"{facts['search']['kept']} of 2" in row


@pytest.mark.full
def test_the_whole_report_shows_them(run: Path) -> None:
    page = make_report(run).read_text(encoding="utf-8")
    assert '<section id="boosting">' in page
    assert "Search of settings" in page
    assert 'id="shap_boosted"' in page
    assert "exact TreeSHAP" in page
    assert "boosted trees of age, marker, size, sex, stage" in (run / "model_card.md").read_text(encoding="utf-8")


def test_contributions_are_those_of_trees_that_did_not_see_the_unit(run: Path, tmp_path: Path) -> None:
    """Recomputed fold by fold: they add up to each unit's stored linear predictor, less the base of its fold."""
    found = network_explanation(run, "boosted").shap["bad"]
    cohort = load_cohort(run / "cohort" / "cohort.parquet")
    stored = {r.unit: r.lp for r in read_predictions(run / "predictions.parquet") if r.predictor == "boosted"}
    folds = {r.unit: r.fold for r in read_predictions(run / "predictions.parquet") if r.predictor == "boosted"}
    schema = load(run).schema
    chains = [load_chain(schema, "boosted", run / "folds" / f"r0-f{k}" / "boosted") for k in range(2)]
    bases = []
    for chain in chains:
        assert isinstance(chain.fitted, FittedBoosting)
        bases.append(chain.fitted.contributions(chain.design(cohort.without_outcome()), "bad").base)
    for unit, values in zip(found.units, found.shap.values, strict=True):
        assert values.sum() + bases[folds[unit]] == pytest.approx(stored[unit], rel=1e-9)
    assert [column.name for column in found.columns] == FIVE
    folder = write_explanation(run, "both", tmp_path / "out", lambda line: None)
    assert (folder / "shap_bad.csv").is_file()


def test_a_bundle_predicts_and_explains(model: Model, table: Table) -> None:
    fitted = model.fitted
    assert isinstance(fitted, FittedBoosting)
    for i, result in enumerate(model.predict(table)[:20]):
        explanation = model.explain(table, i)
        assert result.lp is not None
        assert explanation.base + sum(c.value for c in explanation.contributions) == pytest.approx(result.lp, rel=1e-9)
        assert 1 / (1 + np.exp(-explanation.lp)) == pytest.approx(result.p[0], rel=1e-9)
        assert result.missing == (() if patients()[i]["marker"] else ("marker",))
    assert (model.kind, model.scale, model.does_without, model.networked) == ("boosting", "log odds", True, False)
    assert "missing_inputs" in rows_csv(model, model.predict(table)).splitlines()[0]
    assert "trees" in model.no_nomogram().why


def test_a_gap_that_training_never_had_takes_the_median_and_says_so(model: Model) -> None:
    fitted = model.fitted
    assert isinstance(fitted, FittedBoosting)
    median = fitted.stand_in[fitted.spec.inputs.index("age")]
    gone = model.predict_one({k: v for k, v in CELLS.items() if k != "age"})
    assert gone.imputed == ("age",)
    assert gone.p == model.predict_one(CELLS | {"age": repr(median)}).p
    gap = next(g for g in model.gaps(model.one_row({k: v for k, v in CELLS.items() if k != "age"})))
    assert gap.low[0] <= gone.p[0] <= gap.high[0]
    lacking = model.predict_one({k: v for k, v in CELLS.items() if k != "marker"})
    assert (lacking.imputed, lacking.missing) == ((), ("marker",))


def test_scores_feed_trees_in_a_bundle(run: Path, table: Table) -> None:
    both = load(run, "both")
    result = both.predict(table)[0]
    explanation = both.explain(table, 0)
    assert [c.input for c in explanation.contributions] == ["age", "clinical"]
    assert explanation.contributions[1].shown.startswith("score ")
    assert result.lp == pytest.approx(explanation.lp, rel=1e-9)


def test_a_bundle_holds_no_value_of_a_patient(run: Path) -> None:
    """Cuts lie between the values of patients, and LightGBM's smallest and largest values are left out."""
    text = (run / "bundle" / "predictors" / "boosted" / "trees.txt").read_text()
    text += (run / "bundle" / "predictors" / "boosted" / "model.json").read_text()
    found = {float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)}
    own = {float(row[name]) for row in patients() for name in ("age", "size")}
    assert len(own) > 150
    assert not {value for value in own if any(abs(value - x) < 1e-7 * abs(value) for x in found)}


def test_changed_trees_are_refused(run: Path, tmp_path: Path) -> None:
    """Sealed again with another leaf, or with other levels than the schema has."""
    folder = shutil.copytree(run / "bundle", tmp_path / "bundle")
    place = folder / "predictors" / "boosted"
    manifest = read_json(folder / "manifest.json")
    facts = {key: manifest[key] for key in ("study", "seed", "schema_sha256", "encoders")}
    trees = (place / "trees.txt").read_text()
    leaves = re.search(r"leaf_value=(\S+)", trees)
    assert leaves is not None
    longer = "leaf_value=" + "9" * len(leaves.group(1))  # as long as before: the file says how long each tree is
    (place / "trees.txt").write_text(trees.replace(leaves.group(0), longer, 1))
    seal(folder, facts)
    with pytest.raises(VerificationError, match="does not reproduce its golden cases"):
        load(folder, "boosted")
    (place / "trees.txt").write_text(trees)
    data = json.loads((place / "model.json").read_text())
    column = next(c for c in data["table"]["columns"] if c["name"] == "stage")
    column["levels"] = column["levels"][::-1]
    (place / "model.json").write_text(json.dumps(data))
    seal(folder, facts)
    with pytest.raises(VerificationError, match="'stage' has levels"):
        load(folder, "boosted")
