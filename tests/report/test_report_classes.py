"""Reports of targets with classes and of networks: patients first, numbers as stored, reasons where there is none."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import KFOLD, LOPO, SKILLS, binary_run, classes_run, many_patients, three_patients
from pages import Page

from osml.files import read_json, write_json
from osml.report import make_report
from osml.report.figures_classes import class_calibration_exhibit, class_roc_exhibit, confusion_exhibit
from osml.report.figures_gates import gates_exhibit
from osml.report.run import read_run
from osml.report.summary import summary_paragraphs


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients left out one at a time, tiles chosen by class."""
    run = classes_run(tmp_path_factory.mktemp("alone"), three_patients(), LOPO, "enriched")
    make_report(run)
    return run


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty patients, three folds, twice."""
    run = classes_run(tmp_path_factory.mktemp("folded"), many_patients(), KFOLD)
    make_report(run)
    return run


@pytest.fixture(scope="session")
def yes_or_no(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of a binary target."""
    run = binary_run(tmp_path_factory.mktemp("binary"))
    make_report(run)
    return run


def page_of(run: Path) -> Page:
    return Page(run / "report" / "report.html")


def at(metrics: Any, path: str) -> Any:
    for part in path.split("/"):
        metrics = metrics[int(part) if isinstance(metrics, list) else part]
    return metrics


def table_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["alone", "folded", "yes_or_no"])
def test_every_number_is_the_one_in_metrics_json(name: str, request: pytest.FixtureRequest):
    run: Path = request.getfixturevalue(name)
    page, metrics = page_of(run), json.loads((run / "metrics.json").read_text())
    assert page.unbalanced == []
    found = page.metrics()
    for path, (value, shown) in found.items():
        assert value == at(metrics, path), path
        digits = len(shown.partition(".")[2])
        assert shown.replace("\N{MINUS SIGN}", "-") == f"{value:.{digits}f}", path
    head = "predictors/fused"
    wanted = {f"{head}/seeds/measures/{{0}}/values/2", f"{head}/ablation/subsets/1/measures/{{0}}/value"}
    key = "auc" if name == "yes_or_no" else "macro_f1"
    assert {path.format(key) for path in wanted} <= set(found)
    assert f"{head}/patterns/patterns/1/measures/{key}/value" in found


def test_patients_come_first_where_each_fold_is_one_and_pooled_values_beside_noise(alone: Path):
    page = page_of(alone)
    results = page.section("results")
    assert results.index("Patient by patient, flat") < results.index("then pooled")
    assert results.index("Patient by patient, fused") < results.index("Predictors side by side")
    found = page.metrics()
    for name in SKILLS:
        head = f"predictors/{name}"
        assert {f"{head}/patients/table/{k}/accuracy" for k in range(3)} <= set(found)
        assert {f"{head}/patients/range/macro_f1/{k}" for k in range(2)} <= set(found)
        pooled = f"{head}/out_of_fold/pooled/macro_f1"
        assert {f"{pooled}/value", f"{pooled}/permutation_mean", f"{pooled}/training_shares"} <= set(found)
    words = page.section("summary")
    assert "over 3 patients, each predicted by a model that had not seen them. Pooled, secondary: macro-F1" in words
    assert "where shuffled labels give" in words
    assert "3 patients: results are values and their range. No interval, no test." in page.words
    # A bootstrap of three patients is nowhere.
    assert not [path for path in found if path.endswith(("/low", "/high"))]
    assert "95 %" not in page.section("results")
    assert page.section("comparisons").count("3 patients, one by one: no interval, no test") == 1


def test_the_summary_is_the_first_section_and_patients_are_numbered_not_named(alone: Path):
    page = page_of(alone)
    assert page.all("section")[0].attributes["id"] == "summary"
    assert page.section("summary").startswith(
        "SummaryThis study predicts tissue: non_tumor, non_viable or viable, at the time “now”, for the patients of "
        "this table. It rests on 233 rows of 3 patients: 125 non_tumor, 47 non_viable, 53 viable, 8 labelled tumor "
        "only."
    )
    left = [alone / "report" / "report.html", alone / "model_card.md", alone / "metrics.json"]
    left += [*(alone / "bundle").rglob("*.json"), *(alone / "tables").rglob("*.csv")]
    left += list((alone / "report" / "figures").glob("*.csv"))
    for file in left:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"Case-3|Case-48|\bP9\b|\bu12\b", text), file.name
    assert "Patient 1" in page.section("results").replace("\N{NO-BREAK SPACE}", " ")


def test_a_class_that_is_rare_in_training_is_flagged_with_its_count(alone: Path):
    rows = {(r["predictor"], r["patient"]): r for r in table_rows(alone / "tables" / "patients.csv")}
    first = rows["flat", "patient 1"]
    assert (first["rows non_viable"], first["training rows non_viable"], first["partial"]) == ("45", "2", "2")
    assert "non_viable (2)" in page_of(alone).section("results")
    words = "Fewer than 10 training rows of non_viable without patient 1, of viable without patient 2"
    assert words in page_of(alone).section("summary")
    assert "no better than noise" not in page_of(alone).section("summary")
    assert rows["flat", "patient 3"]["auc viable"] == ""


def test_chosen_tiles_say_that_their_shares_are_no_prevalences_and_why_no_loss_is_given(alone: Path):
    page = page_of(alone)
    first = page.all("ul", class_="warnings")[0].words
    assert "Sampling is enriched: class shares here are not prevalences" in first
    assert "sample is not that of the population" in page.section("calibration")
    assert not [path for path in page.metrics() if "log_loss" in path or "brier" in path or "calibration" in path]
    assert "not that of the population" in page.section("comparisons")
    card = (alone / "model_card.md").read_text()
    assert "class shares here are not prevalences" in card
    assert "sampling: enriched" in card


def test_what_classes_do_not_have_is_said_in_one_line(alone: Path, folded: Path):
    for run in (alone, folded):
        page = page_of(run)
        assert "None: a decision curve needs the risk of one event" in page.section("decision")
        assert "None: a regression table has one event" in page.section("regression")
        assert "a nomogram draws a regression; this predictor is none" in page.section("nomogram")
        assert "the event" not in page.section("summary")


def test_over_folds_the_table_has_values_with_patient_intervals(folded: Path):
    page, metrics = page_of(folded), read_json(folded / "metrics.json")
    for name in SKILLS:
        entry = metrics["predictors"][name]["out_of_fold"]["macro_f1"]
        words = f"{entry['value']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
        assert words in page.section("results")
        assert f"{name}: macro-F1 {entry['value']:.2f} (95 % interval" in page.section("summary")
    assert "conditional on the fitted models, too narrow" in page.section("results")
    assert {"comparisons/0/p_holm", "comparisons/1/difference"} <= set(page.metrics())
    assert "log loss (lower is better)" in page.section("comparisons")
    # Thirty patients are folded away, below the results of all.
    results = page.section("results")
    assert results.index("Performance on patients whom the model had not seen") < results.index("Patient by patient")


def test_the_confusion_matrix_drawn_is_the_stored_one_with_partial_labels_apart(alone: Path):
    run = read_run(alone)
    exhibit = confusion_exhibit(run, "fused")
    stored = run.metrics["predictors"]["fused"]["out_of_fold"]["confusion"]
    assert [list(row[1:]) for row in exhibit.data] == [*stored["counts"], stored["partial"]["tumor"]]
    assert [row[0] for row in exhibit.data] == ["non_tumor", "non_viable", "viable", "tumor (partial)"]
    assert np.sum(stored["counts"]) == run.metrics["n"] - 8
    texts = [t.get_text() for t in exhibit.figure.axes[0].texts]  # type: ignore[union-attr]
    shares = [f"{100 * row[1] / sum(row[1:]):.0f} %" for row in exhibit.data]
    assert set(shares) <= set(texts)


@pytest.mark.parametrize("name", ["alone", "folded"])
def test_the_area_under_each_class_curve_is_the_auc_of_the_table(name: str, request: pytest.FixtureRequest):
    run = read_run(request.getfixturevalue(name))
    exhibit = class_roc_exhibit(run, "fused")
    found = run.metrics["predictors"]["fused"]["out_of_fold"]["per_class"]
    for c in run.classes:
        x, y = (np.array([row[k] for row in exhibit.data if row[0] == c]) for k in (1, 2))
        assert np.trapezoid(y, x) == pytest.approx(found[c]["auc"]["value"], rel=1e-10)
    words = "Pooled over patients, secondary" if name == "alone" else "averaged at each specificity"
    assert words in str(exhibit.caption)


def test_calibration_is_drawn_per_node_and_counts_everyone_it_knows(folded: Path):
    run = read_run(folded)
    exhibit = class_calibration_exhibit(run, "flat")
    labels = np.array(run.outcome.labels)  # type: ignore[union-attr]
    totals = {node: sum(r[3] for r in exhibit.data if r[0] == node) for node in ("tumor", "viable")}
    assert totals == {"tumor": len(labels), "viable": int((labels != "tumor").sum())}
    events = sum(r[2] * r[3] for r in exhibit.data if r[0] == "viable")
    assert events == pytest.approx((labels == "viable").sum())


def test_gate_weights_are_quantiles_by_true_class_and_medians_by_patient(alone: Path):
    run = read_run(alone)
    exhibit = gates_exhibit(run, "fused")
    labels = np.array(run.outcome.labels)  # type: ignore[union-attr]
    weight = dict.fromkeys(run.cohort.units, np.nan)
    for row in run.extras:
        if row.predictor == "fused" and row.name == "gate:tile":
            weight[row.unit] = row.value
    values = np.array(list(weight.values()))
    rows = {(r[0], r[1], r[2]): r[3:] for r in exhibit.data}
    for name in ("viable", "non_tumor"):
        n, *quantiles = rows["class", name, "tile"]
        assert n == (labels == name).sum()
        assert quantiles == pytest.approx(np.quantile(values[labels == name], [0.05, 0.25, 0.5, 0.75, 0.95]))
    patients = np.array(run.cohort.patients)
    assert rows["patient", "patient 2", "tile"][3] == pytest.approx(np.median(values[patients == "Case-48"]))
    assert rows["class", "viable", "tile"][3] > rows["class", "non_tumor", "tile"][3]
    assert "no gate (one input)" in gates_exhibit(run, "flat").reason


def test_networks_say_what_each_input_adds_and_what_their_seeds_show(alone: Path, folded: Path, yes_or_no: Path):
    for run in (alone, folded, yes_or_no):
        page, metrics = page_of(run), read_json(run / "metrics.json")
        words = page.section("networks")
        sentence = metrics["predictors"]["fused"]["ablation"]["sentence"]
        assert sentence in words
        assert sentence in page.section("summary")
        assert sentence in (run / "model_card.md").read_text().replace("\\", "") or run is yes_or_no
        assert "Spread of the training, not uncertainty about patients" in words
        assert "flatNo comparison with fewer inputs" in words
        assert "By what was missing, fused" in words
        assert (
            "network of tile, age; encoders: tile by tf\\_efficientnet\\_lite0" in (run / "model_card.md").read_text()
        )


def test_networks_of_a_binary_target_keep_the_other_sections_and_say_what_they_lack(yes_or_no: Path):
    page = page_of(yes_or_no)
    order = [e.attributes["id"] for e in page.all("section")]
    assert order == [
        "summary", "patients", "baseline", "regression", "results", "discrimination", "calibration", "decision",
        "networks", "nomogram", "explanation", "checks", "comparisons", "provenance",
    ]  # fmt: skip
    assert "a network has no coefficients" in page.section("regression")
    assert "predictors/fused/out_of_fold/slope/value" in page.metrics()
    assert "apparent900.91" in page.section("results")
    assert "Accuracy" in page.section("results")
    figures = {e.attributes["id"] for e in page.all("figure") if "id" in e.attributes}
    assert {"roc_fused", "calibration_fused", "gates_fused", "side_by_side"} <= figures
    units = {row["group"] for row in table_rows(yes_or_no / "report" / "figures" / "gates_fused.csv")}
    assert units == {"good", "bad"}


def test_a_network_whose_risks_are_withheld_shows_no_risk(tmp_path: Path):
    run = binary_run(tmp_path, sampling="case_control")
    make_report(run)
    page = page_of(run)
    shown = set(page.metrics())
    assert "predictors/fused/ablation/subsets/0/measures/auc/value" in shown
    assert not [path for path in shown if "brier" in path or "slope" in path]


def test_a_predictor_of_classes_that_failed_is_named_and_the_rest_reported(tmp_path: Path):
    run = classes_run(tmp_path, three_patients(), LOPO)
    metrics = read_json(run / "metrics.json")
    metrics["predictors"]["flat"] = {
        "folds": 1, "failed_folds": 2, "out_of_fold": {"reason": "not ranked: 2 of 3 folds failed"},
        "final": {"failed": "out of memory"},
    }  # fmt: skip
    write_json(run / "metrics.json", metrics)
    make_report(run)
    page = page_of(run)
    assert page.unbalanced == []
    assert "Not all fits succeeded: flat" in page.all("ul", class_="warnings")[0].words
    assert "not ranked: 2 of 3 folds failed" in page.section("results")
    assert "flat: not ranked: 2 of 3 folds failed" in page.section("networks")
    assert "| flat | not ranked" in (run / "model_card.md").read_text()
    assert "predictors/fused/patients/table/0/accuracy" in page.metrics()


def test_pooled_values_below_those_of_shuffled_labels_are_called_noise(alone: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(alone, copy)
    metrics = read_json(copy / "metrics.json")
    metrics["predictors"]["flat"]["out_of_fold"]["pooled"]["macro_f1"]["value"] = 0.2
    write_json(copy / "metrics.json", metrics)
    words = "".join(str(p) for p in summary_paragraphs(read_run(copy)))
    assert words.count("pooled, it is no better than noise") == 1


def test_the_same_run_gives_the_same_bytes(alone: Path):
    before = (alone / "report" / "report.html").read_bytes()
    make_report(alone)
    assert (alone / "report" / "report.html").read_bytes() == before


def test_wide_tables_and_figures_scroll_by_themselves(alone: Path):
    page = page_of(alone)
    assert all(e.attributes.get("class") != "wide" for e in page.all("table"))
    for scroll in page.all("div", class_="scroll"):
        assert scroll.attributes["tabindex"] == "0"
        assert scroll.attributes["aria-label"]
