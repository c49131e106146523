"""Scores of a frozen bundle in another study: whose values come from where, and whom the bundle has seen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import minimal_schema, write_csv_table, write_schema
from region_runs import draw_slide, lines, region_study, run, set_stage

from osml.errors import OsmlError, SchemaError, TableError, VerificationError
from osml.schema.load import load_schema
from osml.study.prepare import PlanChoice, prepare_planned
from osml.study.slides.scores import with_scores

HEADER = ("id", "age", "sex", "outcome", "file")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished region study of P1 to P6, and slides of N1 to N4 beside."""
    place = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        set_stage(patch, place)
        schema, _ = region_study(place)
        shutil.copytree(run(schema, place / "runs").run.path, place / "region")
        import region_runs

        region_runs.LEARNT[place / "region" / "bundle" / "predictors"] = next(
            model for folder, model in region_runs.LEARNT.items() if folder.parts[-2:] == ("bundle", "predictors")
        )
        for number in range(1, 5):
            draw_slide(place, f"N{number}-A", number / 5)
        yield place


def clinic(place: Path, rows: list[list[str]], **score: Any) -> Path:
    data = minimal_schema()
    data["inputs"] |= {
        "wsi": {"kind": "slide", "column": "file", "available": "visit"},
        "necrosis": {"kind": "score", "of": "wsi", "bundle": "region/bundle", "output": "necrosis_rate",
                     "available": "visit", **score},
    }  # fmt: skip
    data["predictors"]["clinical"]["inputs"] = ["age", "necrosis"]
    write_csv_table(place / "clinic.csv", rows, HEADER)
    return write_schema(place, data, "clinic.yaml")


def row(patient: str, slide: str) -> list[str]:
    event = "yes" if sum(patient.encode()) % 2 else "no"
    return [patient, "40", "male", event, f"slides/{slide}.tif" if slide else ""]


NEW = [row(f"N{k}", f"N{k}-A") for k in range(1, 5)]
KNOWN = [row("P1", "P1-A"), row("P1", "P1-B"), row("P3", "P3-A")]


def right(dead: float) -> float:
    """The stand-in exchanges a fifth of the tissue."""
    return 0.8 * dead + 0.2 * (1 - dead)


def test_new_patients_have_the_values_of_the_bundle(region: Path) -> None:
    said: list[str] = []
    loaded, table = with_scores(load_schema(clinic(region, NEW)), said.append)
    assert [float(cell) for cell in table.column("necrosis")] == pytest.approx([right(k / 5) for k in range(1, 5)])
    block = loaded.schema.inputs["necrosis"]
    assert (block.kind, block.available) == ("number", "visit")
    assert said[-1].startswith("score     necrosis: necrosis_rate of 4 patients by the bundle of 'clinic', 0")
    _, share = with_scores(load_schema(clinic(region, NEW, output="VT")))
    assert [float(cell) for cell in share.column("necrosis")] == pytest.approx([1 - right(k / 5) for k in range(1, 5)])


def test_patients_of_the_training_are_refused_by_name(region: Path) -> None:
    with pytest.raises(OsmlError) as caught:
        with_scores(load_schema(clinic(region, [*NEW, *KNOWN])))
    said = str(caught.value)
    assert "fitted to 2 patients of this study: P1 (by name), P3 (by name)" in said
    assert "clinic.yaml:" in said
    assert "Give `oof`: necrosis_oof.csv" in said


def test_with_the_out_of_fold_file_they_have_its_values(region: Path) -> None:
    schema = clinic(region, [*NEW, *KNOWN], oof="region/necrosis_oof.csv")
    _, built, _, _ = prepare_planned(schema, (), PlanChoice())
    values = dict(zip(built.cohort.units, built.cohort.values["necrosis"], strict=True))
    held_out = {line["slide"]: float(line["necrosis_rate"]) for line in lines(region / "region" / "necrosis_oof.csv")}
    assert values["P3"] == pytest.approx(held_out["P3-A"])
    assert values["P1"] == pytest.approx((held_out["P1-A"] + held_out["P1-B"]) / 2)  # slides of equal areas
    assert values["N2"] == pytest.approx(right(2 / 5))


def test_a_slide_of_the_training_under_another_name_is_found(region: Path) -> None:
    rows = [*NEW, row("X7", "P2-A")]
    for oof in ({}, {"oof": "region/necrosis_oof.csv"}):
        with pytest.raises(OsmlError, match=r"X7 \(by slide P2-A, under another name\)"):
            with_scores(load_schema(clinic(region, rows, **oof)))


def test_the_file_of_another_run_is_refused(region: Path) -> None:
    text = (region / "region" / "necrosis_oof.csv").read_text().replace("P3-A,0.", "P3-A,0.9")
    (region / "other.csv").write_text(text)
    with pytest.raises(VerificationError, match="not the out-of-fold file of this bundle's run"):
        with_scores(load_schema(clinic(region, [*NEW, *KNOWN], oof="other.csv")))


def test_a_slide_that_cannot_be_read_leaves_a_gap(region: Path) -> None:
    (region / "slides" / "bad.tif").write_bytes(b"II*\0 no slide")
    said: list[str] = []
    _, table = with_scores(load_schema(clinic(region, [*NEW, row("N8", "bad"), row("N9", "")])), said.append)
    assert table.column("necrosis")[-2:] == ["", ""]
    assert any("bad of N8" in line for line in said)
    assert "2 without a value" in said[-1]


def test_what_cannot_be_meant_is_refused(region: Path) -> None:
    with pytest.raises(SchemaError, match=r"clinic.yaml:\d+: the bundle has no output 'necrosis_rat'") as caught:
        with_scores(load_schema(clinic(region, NEW, output="necrosis_rat")))
    assert "Did you mean 'necrosis_rate'?" in str(caught.value)
    with pytest.raises(TableError, match="1 slides of 'file' do not exist"):
        with_scores(load_schema(clinic(region, [*NEW, row("N9", "nowhere")])))
    schema = clinic(region, NEW)
    write_csv_table(region / "clinic.csv", [[*cells, "0.5"] for cells in NEW], (*HEADER, "necrosis"))
    with pytest.raises(TableError, match="has a column 'necrosis', and 'necrosis' is a score"):
        with_scores(load_schema(schema))
