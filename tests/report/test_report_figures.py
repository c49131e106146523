"""What figures draw: held-out predictions only, the AUC that is stated, groups from training cut-points."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osml.cohort.cohort import BinaryOutcome
from osml.errors import RunError
from osml.evaluation.discrimination import auc, roc_curve
from osml.predictors.chain import load_chain
from osml.report.figures_flow import flow_exhibit
from osml.report.figures_roc import averaged_roc, roc_exhibit
from osml.report.figures_survival import risk_groups
from osml.report.run import read_run
from osml.runs.store import read_predictions, write_predictions


def area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.trapezoid(y, x))


@given(st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=4, max_size=15), min_size=1, max_size=4))
def test_area_of_the_average_curve_is_the_mean_area(folds: list[list[tuple[bool, int]]]):
    curves, areas = [], []
    for fold in folds:
        y, s = np.array([a for a, _ in fold], dtype=float), np.array([b for _, b in fold], dtype=float)
        if 0 < y.sum() < len(y):
            curves.append(roc_curve(y, s))
            areas.append(auc(y, s))
    if not curves:
        return
    x, y = averaged_roc(curves)
    assert area(x, y) == pytest.approx(np.mean(areas), rel=1e-12, abs=1e-15)
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= -1e-12)
    assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((0, 0, 1, 1))


def test_the_roc_curve_drawn_has_the_auc_of_metrics_json(binary_run: Path):
    run = read_run(binary_run)
    for name, facts in run.metrics["predictors"].items():
        rows = [row for row in roc_exhibit(run, name).data if row[0] == "average"]
        x, y = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
        assert area(x, y) == pytest.approx(facts["out_of_fold"]["auc"]["value"], rel=1e-12)


def test_held_out_predictions_never_meet_their_training_patients(binary_run: Path, survival_run: Path):
    for path in (binary_run, survival_run):
        run = read_run(path)
        for sets in run.held_out.values():
            for held_out in sets:
                patients = {run.cohort.patients[i] for i in held_out.index}
                assert patients == set(held_out.fold.test)
                assert not patients & set(held_out.fold.train)
        for name in run.held_out:
            for pooled in run.repeats(name):
                assert sorted(pooled.index) == list(range(len(run.cohort)))


def test_a_run_whose_predictions_contradict_its_splits_is_refused(binary_run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(binary_run, copy)
    rows = read_predictions(copy / "predictions.parquet")
    shifted = [type(r)(**{**r.__dict__, "fold": (r.fold + 1) % 3}) for r in rows]
    write_predictions(copy / "predictions.parquet", shifted)
    with pytest.raises(RunError, match="own training patients"):
        read_run(copy)


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="holds no results"):
        read_run(tmp_path)


def test_risk_groups_are_cut_by_training_predictions_of_the_same_fold(survival_run: Path):
    run = read_run(survival_run)
    found = risk_groups(run, "clinical")
    assert len(found) == 2
    for repeat, (index, group) in enumerate(found):
        group_of = dict(zip(index.tolist(), group.tolist(), strict=True))
        for held_out in run.held_out["clinical"]:
            if held_out.fold.repeat != repeat:
                continue
            chain = load_chain(run.schema, "clinical", survival_run / "folds" / held_out.fold.name / "clinical")
            training = np.sort(chain.predict(run.cohort.of(held_out.fold.train)).lp)
            low, high = np.quantile(training, 1 / 3), np.quantile(training, 2 / 3)
            for i, lp in zip(held_out.index.tolist(), held_out.lp, strict=True):
                assert group_of[i] == (0 if lp <= low else 1 if lp <= high else 2)


def test_numbers_at_risk_are_counts_of_patients_still_followed(survival_run: Path):
    run = read_run(survival_run)
    from osml.report.figures_survival import risk_group_exhibit

    exhibit = risk_group_exhibit(run, "clinical")
    index, group = risk_groups(run, "clinical")[0]
    assert exhibit.shown is not None
    for words, time, count, *_ in exhibit.shown:
        members = index[group == ["low risk", "middle risk", "high risk"].index(words)]
        assert count == int((run.outcome.time[members] >= time).sum())  # type: ignore[union-attr]


def test_flow_accounts_for_everyone(fit_run, binary_run: Path):
    from small_studies import simulate_rows

    rows = simulate_rows()
    for k in range(7):
        rows[k]["age"] = ""
    rows[9]["outcome"] = ""
    run = read_run(fit_run(rows, make=False))
    counts = dict(flow_exhibit(run).data)  # type: ignore[arg-type]
    left_out = sum(n for words, n in counts.items() if words.startswith("left out"))
    assert (counts["rows in the table"], left_out, counts["patients analysed"]) == (90, 8, 82)
    assert counts["events"] == int(run.outcome.event.sum())


def test_decision_figure_draws_the_stored_curve(binary_run: Path):
    from osml.report.figures_decision import decision_exhibit

    run = read_run(binary_run)
    stored = json.loads((binary_run / "metrics.json").read_text())
    curve = stored["predictors"]["paper"]["out_of_fold"]["decision"]["curve"]
    exhibit = decision_exhibit(run, "paper")
    assert [tuple(row.values()) for row in curve] == list(exhibit.data)
    assert tuple(exhibit.header) == tuple(curve[0])


def test_calibration_groups_are_everyone_once_with_the_outcomes_shares(binary_run: Path):
    from osml.report.figures_calibration import calibration_exhibits

    run = read_run(binary_run)
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    (exhibit,) = calibration_exhibits(run, "clinical")
    groups = [row for row in exhibit.data if row[0] == "group"]
    assert sum(row[5] for row in groups) == len(run.cohort)
    assert sum(row[5] * row[2] for row in groups) == pytest.approx(outcome.y.sum())
    pooled = run.repeats("clinical")[0]
    assert sum(row[5] * row[1] for row in groups) == pytest.approx(pooled.p.sum())
    histogram = [row for row in exhibit.data if str(row[0]).startswith("histogram")]
    assert sum(row[5] for row in histogram) == len(run.cohort)
