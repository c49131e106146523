"""What the report says and draws of a Rad-score: the run's own selections, held out beside apparent, and every gap."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Page
from report_runs import FEATURES, REGIONS, FitRun, image_inputs, made_up_features, scored_schema, with_images
from small_studies import SURVIVAL, schema_data, simulate_rows

from osml.evaluation.delong import delong
from osml.evaluation.thresholds import confusion
from osml.predictors.chain import load_chain
from osml.report import make_report
from osml.report.feature_words import feature_words, wrapped
from osml.report.figures_selection import selection_exhibits, spread
from osml.report.models import COUNTS, counts_at, model_rows
from osml.report.radscores import radscores
from osml.report.run import Run, read_run

ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f0300050001ff5a2b1d4d0000000049454e44ae426082"
)
full = pytest.mark.full


# Names and labels


@pytest.mark.parametrize("column", [f"t1|{r}|{f}" for r in REGIONS for f in FEATURES])
def test_features_are_named_in_words(column: str):
    words = feature_words(column)
    assert words.startswith(column.split("|")[1])
    assert "_" not in words
    assert "|" not in words
    assert "original" not in words


def test_known_names_of_features():
    assert feature_words("t1|tumour|original_glcm_Imc2", region=False) == "GLCM information correlation 2"
    assert feature_words("t1|tumour|squareroot_firstorder_90Percentile", region=False) == (
        "square root · first-order 90th percentile"
    )
    assert feature_words("t1|tumour|log-sigma-1-5-mm-3D_ngtdm_Busyness", region=False) == "LoG 1.5 mm · NGTDM busyness"
    assert feature_words("t1|0-2mm|original_shape2D_PixelSurface") == "0-2mm · 2D shape pixel surface"


@given(st.text(st.sampled_from("ab ·"), max_size=60), st.integers(8, 30))
def test_wrapping_loses_no_word(text: str, width: int):
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= max(width, max(map(len, line.split()), default=0) + 2) for line in lines)


@given(
    st.lists(st.tuples(st.floats(-0.5, 1.5), st.floats(0.01, 0.15)), min_size=1, max_size=6),
)
def test_labels_do_not_overlap_and_keep_the_order_of_their_curves(blocks: list[tuple[float, float]]):
    wanted, sizes = [w for w, _ in blocks], [s for _, s in blocks]
    found = spread(wanted, sizes)
    order = sorted(range(len(found)), key=lambda k: (found[k], wanted[k]))
    assert [wanted[k] for k in order] == sorted(wanted)
    for a, b in pairwise(order):
        assert found[b] - found[a] >= (sizes[a] + sizes[b]) / 2 - 1e-9
    assert min(f - s / 2 for f, s in zip(found, sizes, strict=True)) >= -1e-9
    assert max(f + s / 2 for f, s in zip(found, sizes, strict=True)) <= 1 + 1e-9


# Counts at a threshold

labels = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=20)


@given(labels)
def test_counts_agree_with_the_confusion_table(rows: list[tuple[bool, int]]):
    y, p = np.array([a for a, _ in rows], dtype=float), np.array([b / 4 for _, b in rows])
    if not 0 < y.sum() < len(y):
        return
    found, table = counts_at(y, p, 0.5), confusion(y, p, 0.5)
    expected = [table.accuracy.value, table.sensitivity.value, table.specificity.value, table.ppv.value, table.f1]
    for key, value in zip(COUNTS, expected, strict=True):
        assert (found[key] is None) == (value is None)
        assert value is None or found[key] == pytest.approx(value, rel=1e-12)


@given(labels, st.integers(1, 5))
def test_counts_at_a_prevalence_are_those_of_a_population_with_it(rows: list[tuple[bool, int]], times: int):
    """Non-events repeated `times` are a population whose prevalence is known."""
    y, p = np.array([a for a, _ in rows], dtype=float), np.array([b / 4 for _, b in rows])
    if not 0 < y.sum() < len(y):
        return
    again = np.where(y == 1, 1, times)
    wide_y, wide_p = np.repeat(y, again), np.repeat(p, again)
    weighted, plain = counts_at(y, p, 0.5, float(wide_y.mean())), counts_at(wide_y, wide_p, 0.5)
    for key in COUNTS:
        assert (weighted[key] is None) == (plain[key] is None)
        assert weighted[key] is None or weighted[key] == pytest.approx(plain[key], rel=1e-9)


# A whole run


@pytest.fixture(scope="session")
def scored(scored_run: Path) -> Run:
    return read_run(scored_run)


@pytest.fixture(scope="session")
def scored_page(scored_run: Path) -> Page:
    return Page(scored_run / "report" / "report.html")


@pytest.fixture
def damaged(scored_run: Path, tmp_path: Path) -> Callable[[Callable[[Path], None]], Page]:
    """A copy of the run to which something was done, and the page of its new report."""

    def make(change: Callable[[Path], None]) -> Page:
        copy = tmp_path / scored_run.name
        shutil.copytree(scored_run, copy, ignore=shutil.ignore_patterns("report"))
        change(copy)
        page = Page(make_report(copy))
        assert page.unbalanced == []
        return page

    return make


def selection(run: Path, where: str) -> dict[str, Any]:
    return json.loads((run / where).read_text())


@full
def test_the_flow_counts_what_the_run_recorded(scored: Run):
    (score,) = radscores(scored)
    flow, _, _ = selection_exhibits(scored, score)
    final = selection(scored.path, "selection/radscore.json")["steps"]
    folds = [selection(scored.path, f"folds/{f.name}/radscore/selection.json")["steps"] for f in scored.folds]
    assert [row[1] for row in flow.data] == [step["kept"] for step in final]
    for k, row in enumerate(flow.data):
        kept = [steps[k]["kept"] for steps in folds]
        assert row[2] == (f"{min(kept)}" if min(kept) == max(kept) else f"{min(kept)}–{max(kept)}")
    assert "stable: ICC(2,1) ≥ 0.75" in [row[0] for row in flow.data]
    assert f"over {len(folds)} folds" in str(flow.caption)


@full
def test_the_path_drawn_is_the_stored_one_and_its_caption_warns(scored: Run):
    (score,) = radscores(scored)
    _, _, path = selection_exhibits(scored, score)
    stored = selection(scored.path, "selection/radscore.json")
    assert [row[1] for row in path.data] == stored["path"]["lambdas"]
    assert [list(row[4:]) for row in path.data] == stored["path"]["coefficients"]
    assert list(path.header[4:]) == stored["path"]["columns"]
    assert path.shown is not None
    assert {row[0] for row in path.shown} == {feature_words(c, region=False) for c in stored["columns"]}
    assert "inner deviance is optimistic" in str(path.caption)
    left, right = path.figure.axes[:2]  # type: ignore[union-attr]
    for axes in (left, right):
        marks = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        for key in ("lambda_min", "lambda_1se"):
            assert any(np.isclose(m, np.log(stored["path"][key])) for m in marks)


@full
def test_frequencies_are_counts_over_outer_folds_and_name_the_final_features(scored: Run):
    (score,) = radscores(scored)
    _, frequency, _ = selection_exhibits(scored, score)
    folds = [selection(scored.path, f"folds/{f.name}/radscore/selection.json") for f in scored.folds]
    final = selection(scored.path, "selection/radscore.json")["columns"]
    for column, _, count, of, in_final in frequency.data:
        assert count == sum(column in fold["columns"] for fold in folds)
        assert of == len(folds)
        assert in_final == (column in final)
    assert {row[0] for row in frequency.data} == {c for fold in folds for c in fold["columns"]} | set(final)
    assert dict(score.regions) == {r: sum(f["region"] == r for f in folds) for r in {f["region"] for f in folds}}


@full
def test_the_section_says_what_was_measured_who_was_lost_and_what_it_is_worth(scored_page: Page, scored: Run):
    words = scored_page.section("radiomics")
    n = len(scored.cohort)
    assert f"6 features were computed in each of 2 regions of {n} patients: 12 candidates" in words
    assert "4 had no usable image and left the whole study" in words
    assert "4 × geometry" in words
    assert "2 perturbed copies of mask and image per patient" in words
    assert "all regions at once" in words
    assert "there is no test between them and no p-value" in words
    assert "whatever it is worth" in words
    assert "resampled to 1 × 1 × 3 mm" in words
    clipped = sum(i % 9 == 0 for i in range(4, n + 4))
    assert f"{clipped} (at most 25 %)" in words
    ids = {row["id"] for row in simulate_rows(60, 3)}
    assert not [name for name in ids if name in scored_page.source]


@full
def test_coefficients_on_the_page_are_those_of_the_model(scored_page: Page, scored: Run):
    selected = scored.metrics["predictors"]["radscore"]["selected"]
    assert selected
    for column, value in selected.items():
        assert scored_page.metrics()[f"predictors/radscore/selected/{column}"][0] == value


@full
def test_models_stand_held_out_beside_apparent(scored: Run, scored_page: Page):
    rows = model_rows(scored)
    assert [(r.predictor, r.data) for r in rows] == [
        (name, data) for name in scored.schema.predictors for data in ("out of fold", "apparent")
    ]
    y = scored.outcome.y  # type: ignore[union-attr]
    for row in rows:
        if row.data == "apparent":
            chain = load_chain(scored.schema, row.predictor, scored.path / "bundle" / "predictors" / row.predictor)
            found = chain.predict(scored.cohort)
            area = delong(y, found.lp)
            assert (row.area.value, row.area.low, row.area.high) == pytest.approx((area.value, area.low, area.high))
            tables = [confusion(y, found.p[:, 0], t) for t in (0.5, 0.35)]
            assert [c["sensitivity"] for c in row.counts] == [t.sensitivity.value for t in tables]
        else:
            assert row.area.value == scored.metrics["predictors"][row.predictor]["out_of_fold"]["auc"]["value"]
            each = [confusion(y[r.index], r.p[:, 0], 0.35).f1 for r in scored.repeats(row.predictor)]
            assert row.counts[1]["f1"] == pytest.approx(np.mean([f for f in each if f is not None]), rel=1e-12)
    words = scored_page.section("results")
    assert "counts at a risk of 0.5" in words
    assert "counts at a risk of 0.35" in words
    share = max(y.mean(), 1 - y.mean())
    assert f"has an accuracy of {100 * share:.1f} %" in words
    header, *lines = (scored.path / "tables" / "models.csv").read_text().splitlines()
    assert header == "predictor,data,n,auc,auc_low,auc_high,threshold,accuracy,sensitivity,specificity,precision,f1"
    assert len(lines) == 2 * len(rows)


@full
def test_the_panel_draws_held_out_curves_whose_area_is_stated(scored: Run):
    header, *lines = (scored.path / "report" / "figures" / "side_by_side.csv").read_text().splitlines()
    assert header == "panel,predictor,x,y"
    rows = [line.split(",") for line in lines]
    assert {row[0] for row in rows} == {"roc", "decision", "calibration"}
    for name, facts in scored.metrics["predictors"].items():
        roc = np.array([[float(v) for v in row[2:]] for row in rows if row[:2] == ["roc", name]])
        assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(facts["out_of_fold"]["auc"]["value"], rel=1e-12)
        curve = [float(row[3]) for row in rows if row[:2] == ["decision", name]]
        stored = facts["out_of_fold"]["decision"]["curve"]
        assert curve == pytest.approx([point["model"] for point in stored], rel=1e-12)


@full
def test_the_panel_names_the_apparent_area_beside_the_held_out_one(scored: Run, scored_page: Page):
    legend = [e.words for e in scored_page.all("text") if e.words.startswith("combined: AUC")]
    own = next(r for r in model_rows(scored) if r.predictor == "combined" and r.data == "apparent")
    honest = scored.metrics["predictors"]["combined"]["out_of_fold"]["auc"]
    assert own.area.value is not None
    assert legend == [
        f"combined: AUC {honest['value']:.2f} ({honest['low']:.2f} to {honest['high']:.2f}); "
        f"apparent {own.area.value:.2f}"
    ]


@full
def test_explanations_name_the_score_with_its_scale_and_features_in_words(scored_page: Page, scored_run: Path):
    figures = {e.attributes["id"]: e.words for e in scored_page.all("figure") if "id" in e.attributes}
    assert "Rad-score (log odds)" in figures["shap_combined"]
    for column in selection(scored_run, "selection/radscore.json")["columns"]:
        assert feature_words(column).split()[-1] in figures["shap_radscore"]
    assert "original_" not in figures["shap_radscore"]
    table = (scored_run / "report" / "figures" / "shap_radscore.csv").read_text()
    assert all(line.count('"') % 2 == 0 for line in table.splitlines())


@full
def test_the_model_card_names_features_in_words(scored_run: Path):
    card = (scored_run / "model_card.md").read_text()
    final = selection(scored_run, "selection/radscore.json")
    assert f"Rad-score (linear) of the region {final['region']}; features kept: " in card
    assert all(feature_words(c) in card for c in final["columns"])


# What may be missing


@full
def test_a_score_that_selected_nothing_is_told_as_such(damaged: Any):
    def empty(run: Path) -> None:
        for file in [run / "selection" / "radscore.json", *run.glob("folds/*/radscore/selection.json")]:
            data = json.loads(file.read_text())
            data["columns"], data["steps"][-1]["kept"], data["path"]["chosen"] = [], 0, 0
            file.write_text(json.dumps(data))

    words = damaged(empty).section("radiomics")
    assert "no feature was worth a coefficient" in words
    assert "In 6 of 6 outer folds no feature was selected" in words
    assert "No feature was selected in any of 6 outer folds" in words
    assert "No coefficient differs from 0 there" in words


@full
def test_a_score_that_failed_on_all_patients_says_why(damaged: Any):
    def fail(run: Path) -> None:
        metrics = json.loads((run / "metrics.json").read_text())
        facts = metrics["predictors"]["radscore"]
        metrics["predictors"]["radscore"] = {
            **{k: facts[k] for k in ("folds", "failed_folds", "out_of_fold")}, "final": {"failed": "it did not work"},
        }  # fmt: skip
        (run / "metrics.json").write_text(json.dumps(metrics))
        (run / "selection" / "radscore.json").unlink()
        shutil.rmtree(run / "bundle" / "predictors" / "radscore")

    page = damaged(fail)
    assert "There is no final score: it did not work" in page.section("radiomics")
    assert "There is no final model: it did not work" in page.section("radiomics")
    assert "selected_radscore" in {e.attributes.get("id") for e in page.all("figure")}


@full
def test_pictures_of_lesions_are_shown_or_said_to_be_missing(damaged: Any):
    tiles = [{"outcome": "bad", "size": 12.0, "share": 0.2}]
    facts = {"outlines_mm": [2.0], "left_out": 1, "tiles": tiles}

    def picture(run: Path) -> None:
        (run / "cohort" / "montage_rad.png").write_bytes(ONE_PIXEL)
        (run / "cohort" / "montage_rad.json").write_text(json.dumps(facts))

    page = damaged(picture)
    (figure,) = page.all("figure", id="regions_rad")
    assert "Innermost line: the mask; further out, 2 mm from it" in figure.words
    assert "1 picture could not be drawn" in figure.words
    assert page.all("img", alt="Lesions and regions, rad")[0].attributes["src"].startswith("data:image/png;base64,")


@full
def test_without_pictures_the_section_says_so(scored_page: Page):
    assert "The run holds no pictures of the lesions" in scored_page.section("radiomics")


def test_a_study_without_images_has_no_such_section(binary_run: Path):
    page = Page(binary_run / "report" / "report.html")
    assert not page.all("section", id="radiomics")
    assert "There is no table of training against test patients" in page.section("baseline")
    assert (binary_run / "tables" / "models.csv").is_file()


@full
def test_one_region_one_forest_and_a_survival_target(fit_run: FitRun):
    rows = with_images(simulate_rows(60, 3))
    block = {"kind": "radscore", "inputs": ["rad"], "region": "best", "score": "forest"}
    features = made_up_features(rows, regions=("tumour",))
    schema = scored_schema(decision=None, inputs={**schema_data()["inputs"], **image_inputs(("tumour",))})
    schema |= {"predictors": {"radscore": block}, "report": {"compare": []}}
    schema["validation"] = {**schema["validation"], "split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}}
    page = Page(fit_run(rows, features=features, **schema) / "report" / "report.html")
    words = page.section("radiomics")
    assert "random forest on these features" in words
    assert "region chosen" not in words
    assert "there is no test between them" not in words
    assert not page.all("figure", id="side_by_side")

    features = made_up_features(rows)
    schema = scored_schema(decision=None, target=SURVIVAL)
    schema["validation"] = {**schema["validation"], "split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}}
    run = fit_run(rows, features=features, **schema)
    page = Page(run / "report" / "report.html")
    assert "Mean C over inner folds" in page.section("radiomics")
    assert "do not exist for a time with censoring" in page.section("results")
    header = (run / "tables" / "models.csv").read_text().splitlines()[0]
    assert header == "predictor,data,n,c,c_low,c_high"
    panels = {line.split(",")[0] for line in (run / "report" / "figures" / "side_by_side.csv").read_text().splitlines()}
    assert panels == {"panel", "c", "c apparent", "calibration"}
    assert "log hazard" in page.section("explanation")
