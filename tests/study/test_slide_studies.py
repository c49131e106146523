"""`osml fit` of a region study: who is trained and judged on what, figures known beforehand, resume, losses."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from region_runs import HEADER, Stage, lines, region_study, run, set_stage, stage, write_study

from osml.errors import CheckError, OsmlError, RunError, TableError
from osml.files import read_json
from osml.report import make_report
from osml.runs.bundle import open_bundle
from osml.serving import load
from osml.study.fit import FitResult
from osml.study.report_checks import report_checks

__all__ = ["stage"]

KINDS = ["none", "majority", "unet", "brownian_bridge", "best"]


@dataclass(frozen=True)
class Finished:
    """One run that several tests look at."""

    stage: Stage
    rows: list[list[str]]
    said: list[str]
    result: FitResult


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    place = tmp_path_factory.mktemp("region")
    with pytest.MonkeyPatch.context() as patch:
        seen = set_stage(patch, place)
        schema, rows = region_study(place)
        said: list[str] = []
        yield Finished(seen, rows, said, run(schema, place / "runs", said))


def test_a_region_study_from_slides_to_bundle(finished: Finished) -> None:
    stage, rows, said, result = finished.stage, finished.rows, finished.said, finished.result
    assert not result.ended_badly
    folder = result.run.path
    found = result.metrics["predictors"]["necrosis"]
    assert found["kinds"] == KINDS
    assert (found["slides"], found["patients"], found["deployed"]) == (7, 6, "best")

    # Three folds and the final model; every fit on annotated patients only, each patient held out once.
    folds = read_json(folder / "splits.json")
    assert [set(names) for names in stage.fitted] == [
        *({f"P{k}" for k in range(1, 7)} - set(fold["test"]) for fold in folds), {f"P{k}" for k in range(1, 7)},
    ]  # fmt: skip

    # Coarse maps exchange the tissues in 8 of 20 columns, refined ones in 4: that share of the tissue is wrong.
    maps = found["maps"]
    for kind, wrong in (("none", 8 / 20), ("majority", 8 / 20), ("unet", 4 / 20), ("best", 4 / 20)):
        right = 1 - wrong
        recall = [right, right, 1.0]
        assert maps[kind]["overall"]["recall"]["value"] == pytest.approx(np.mean(recall), abs=1e-9)
        # Areas of the two tissues, pooled over slides of which k/7 of the rows are necrosis (P1 twice).
        dead = sum(round(20 * k / 7) for k in (1, 1, 2, 3, 4, 5, 6)) / (20 * 7)
        called = dead * right + (1 - dead) * wrong
        iou = [
            (1 - dead) * right / ((1 - dead) + (1 - called) - (1 - dead) * right),
            dead * right / (dead + called - dead * right),
        ]
        assert maps[kind]["tissue_miou"] == pytest.approx(np.mean(iou), rel=1e-9)
        # |r - (r right + (1 - r) wrong)| = wrong |2 r - 1|, in points, over patients.
        rates = [round(20 * k / 7) / 20 for k in range(1, 7)]
        expected = 100 * np.mean([wrong * abs(2 * r - 1) for r in rates])
        assert maps[kind]["necrosis"]["mean_absolute"]["value"] == pytest.approx(expected, rel=1e-9)
        assert maps[kind]["necrosis"]["whole_slides"] == pytest.approx(expected, rel=1e-9)
    assert found["gain"]["unet"]["miou"]["low"] > 0
    assert found["gain"]["unet"]["necrosis"]["value"] > 0
    assert found["gain"]["majority"]["miou"]["value"] == 0
    assert "20 are needed" in found["huvos"]["reason"]
    assert found["chosen"] == {"unet": 3}
    assert any(line.startswith("split     3 folds by patient") for line in said)

    # The out-of-fold file has a row for every held-out slide, by its whole area, and none for the slide of nobody.
    oof = lines(folder / "necrosis_oof.csv")
    assert {row["slide"] for row in oof} == {row[1] for row in rows if row[3]}
    p3 = next(row for row in oof if row["patient"] == "P3")
    r = round(20 * 3 / 7) / 20
    assert float(p3["necrosis_rate"]) == pytest.approx(0.8 * r + 0.2 * (1 - r))
    assert float(p3["VT"]) + float(p3["NC"]) == pytest.approx(1)
    assert float(p3["tissue_mm2"]) == pytest.approx(400 * 0.016**2)
    rest = lines(folder / "final" / "necrosis" / "predictions.csv")
    assert [row["slide"] for row in rest] == ["Q1-A"]


def test_the_report_says_the_honest_sentence_first(finished: Finished) -> None:
    folder = finished.result.run.path
    html = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Not a pathology report" in html
    assert html.index("Refinement gains") < html.index("<h2>Slides</h2>")
    assert "grade IV is not asserted" in html
    assert "20 are needed" in html
    assert html.count("data:image/png;base64") == 3
    assert "<script" not in html
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "| Brownian bridge |" in card
    assert "Not a pathology report" in card
    before = html.encode()
    assert make_report(folder).read_bytes() == before


def test_the_bundle_knows_whom_it_was_trained_on_by_hashes_only(finished: Finished) -> None:
    folder, rows = finished.result.run.path, finished.rows
    bundle = open_bundle(folder / "bundle")
    training = bundle.read("training.json")
    key = bytes.fromhex(training["key"])
    names = {f"P{k}": hmac.new(key, f"P{k}".encode(), hashlib.sha256).hexdigest() for k in range(1, 7)}
    assert training["patients"] == sorted(names.values())
    assert len(training["slides"]) == 7
    for file in bundle.manifest["files"]:
        raw = bundle.content(file)
        assert not [name for name in (row[1] for row in rows) if name.encode() in raw], file
    assert bundle.manifest["target"] == "region"


def test_a_finished_run_is_found_and_a_killed_one_goes_on(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import osml.study.slides.tasks as tasks

    schema, _ = region_study(tmp_path)
    plain, done = tasks.map_slide, []

    def stopping(fitted: Any, prepared: Any, task: Any) -> dict[str, Any]:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(prepared.case.slide)
        return plain(fitted, prepared, task)

    monkeypatch.setattr(tasks, "map_slide", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(schema, tmp_path / "runs")
    fits = len(stage.fitted)
    again: list[str] = []

    def counting(fitted: Any, prepared: Any, task: Any) -> dict[str, Any]:
        again.append(prepared.case.slide)
        return plain(fitted, prepared, task)

    monkeypatch.setattr(tasks, "map_slide", counting)
    result = run(schema, tmp_path / "runs")
    assert not set(done) & set(again)
    assert len(again) == 7 - 3
    assert len(stage.fitted) == 4  # the fold that was stopped after its fit is not fitted again
    assert fits >= 1
    said: list[str] = []
    same = run(schema, tmp_path / "runs", said)
    assert same.reused
    assert same.metrics == result.metrics
    assert any("finished before" in line for line in said)


def test_a_broken_slide_is_named_and_stops_nobody(stage: Stage, tmp_path: Path) -> None:
    schema, rows = region_study(tmp_path)
    (tmp_path / "slides" / "P1-B.tif").write_bytes(b"II*\0 no slide")
    rows[3][2] = "slides/absent.tif"
    schema = write_study(tmp_path, rows, checks={"accept": {"OSML022": "two are known to be lost"}})
    said: list[str] = []
    result = run(schema, tmp_path / "runs", said)
    lost = {row["slide"]: row for row in lines(result.run.path / "cohort" / "images.csv")}
    assert set(lost) == {"P1-B", "P3-A"}
    assert lost["P3-A"]["detail"] == "slides/absent.tif: no such file"
    assert any(line.strip().startswith("P1-B:") for line in said)
    assert result.metrics["predictors"]["necrosis"]["slides"] == 5
    states = {row["slide"]: row["state"] for row in lines(result.run.path / "tables" / "slides.csv")}
    assert states["P1-B"].startswith("not used")
    assert states["P2-A"] == "held out"
    codes = {check["code"] for check in read_json(result.run.path / "cohort" / "checks.json")}
    assert "OSML020" in codes


def test_a_slide_of_two_patients_is_refused(stage: Stage, tmp_path: Path) -> None:
    schema, rows = region_study(tmp_path)
    (tmp_path / "slides" / "copy.tif").write_bytes((tmp_path / "slides" / "P2-A.tif").read_bytes())
    write_study(tmp_path, [*rows, ["P9", "P9-A", "slides/copy.tif", ""]])
    with pytest.raises(CheckError, match=r"OSML023 .*P2-A \(P2\), P9-A \(P9\)"):
        run(schema, tmp_path / "runs")
    assert stage.prepared == []
    said: list[str] = []
    assert report_checks(schema, (), said.append) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.append(["P1", "P1-C", "slides/P1-A.tif", ""]), "P1-A, P1-C of patient P1 are the same file"),
        (lambda rows: rows[2].__setitem__(3, "masks/P1-A.png"), "P1-A.png is the annotation of P1-A, P2-A"),
        (lambda rows: rows[2].__setitem__(1, "P1-A"), "slide 'P1-A' is named on line 2 already"),
        (lambda rows: rows[2].__setitem__(0, "P2 "), "has blanks around it"),
        (lambda rows: rows[2].__setitem__(0, ""), "the name of the patient is empty"),
        (lambda rows: rows[2].__setitem__(1, "../x"), "cannot name files of results"),
        (lambda rows: [row.__setitem__(3, "") for row in rows[2:]], "1 patient with an annotated slide"),
    ],
)
def test_what_the_table_may_not_say(stage: Stage, tmp_path: Path, change: Any, said: str) -> None:
    schema, rows = region_study(tmp_path, patients=3)
    change(rows)
    write_study(tmp_path, rows)
    with pytest.raises(TableError) as caught:
        run(schema, tmp_path / "runs")
    assert said in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_column_that_is_not_there(stage: Stage, tmp_path: Path) -> None:
    schema, _ = region_study(tmp_path, patients=3)
    text = (tmp_path / "slides.csv").read_text().replace(",".join(HEADER), "case,slide,path,drawn")
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(TableError, match=r"study.yaml:\d+: no column 'annotation' in slides.csv"):
        run(schema, tmp_path / "runs")


def test_too_few_training_patients_are_told(stage: Stage, tmp_path: Path) -> None:
    schema, _ = region_study(tmp_path, patients=2, validation={
        "split": {"kind": "leave_one_patient_out"}, "inner": {"folds": 2}, "seed": 1,
    })  # fmt: skip
    with pytest.raises(OsmlError, match="fold r0-f0 trains on 1 patient"):
        run(schema, tmp_path / "runs")


def test_without_a_necrosis_rate(stage: Stage, tmp_path: Path) -> None:
    schema, rows = region_study(tmp_path, patients=5)
    from helpers import slide_schema

    target = slide_schema()["target"]
    del target["necrosis"]
    write_study(tmp_path, rows, target=target, predictors={
        "map": {"kind": "slide", "inputs": ["wsi"], "refine": "none"},
    })  # fmt: skip
    result = run(schema, tmp_path / "runs")
    found = result.metrics["predictors"]["map"]
    assert found["kinds"] == ["none"]
    assert "necrosis" not in found["maps"]["none"]
    assert found["gain"] == {}
    html = (result.run.path / "report" / "report.html").read_text(encoding="utf-8")
    assert "names no classes for it" in html
    assert "Huvos grades" not in html


def test_what_predicts_tables_says_that_the_bundle_maps_slides(finished: Finished) -> None:
    with pytest.raises(RunError, match="maps tissue on whole slides"):
        load(finished.result.run.path)
