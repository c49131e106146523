"""The door for the app and the command line: what a model asks, answers, explains, exports, and refuses to read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from served import FIVE, INPUTS, SURVIVAL, patients, serve

from osml.cohort.table import Table, read_table
from osml.errors import EXIT_CHECK, MissingExtraError, RunError, TableError
from osml.serving import Model, in_hundred, interval_words, load, percent, read_upload, record, rows_csv, statement
from osml.serving.launch import app_command, app_script

CELLS = {"age": "51.5", "marker": "240", "size": "77", "sex": "male", "stage": "late"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


@pytest.fixture(scope="module")
def table(run: Path) -> Table:
    return read_table(run.parents[2] / "table.csv")


def csv_of(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8")


# The form


def test_the_form_asks_in_the_models_units_and_shows_the_training_range(model: Model) -> None:
    fields = {f.name: f for f in model.form()}
    assert list(fields) == FIVE
    assert fields["age"].limits == (0.0, 110.0)
    marker = fields["marker"]
    assert marker.unit == "U/L"  # although the study's table has µkat/L
    assert marker.units[0] == "U/L"
    assert "µkat/L" in marker.units
    assert marker.training is not None
    measured = [float(r["marker"]) * 60 for r in patients() if r["marker"]]
    assert min(measured) < marker.training[0] < marker.training[1] < max(measured)
    assert fields["stage"].levels == ("early", "late")  # the groups, not the cells of the table
    assert all(f.may_be_missing for f in fields.values())


def test_a_field_converts_its_ranges_to_another_unit(model: Model) -> None:
    marker = next(f for f in model.form() if f.name == "marker")
    converted = marker.in_unit("µkat/L")
    assert marker.training is not None
    assert converted.training == pytest.approx([x / 60 for x in marker.training], rel=1e-12)
    assert converted.unit == "µkat/L"


def test_form_and_table_agree_on_every_patient(model: Model, table: Table) -> None:
    by_table = model.predict(table)
    stage = {"I": "early", "II": "early", "III": "late"}
    for row, expected in zip(patients(), by_table, strict=True):
        marker = repr(float(row["marker"]) * 60) if row["marker"] else ""
        cells = {"age": row["age"], "size": row["size"], "sex": row["sex"], "stage": stage[row["stage"]]}
        result = model.predict_one(cells | {"marker": marker})
        assert result.p == pytest.approx(expected.p, rel=1e-12)
        assert result.imputed == expected.imputed
        assert result.unit == ""  # a form has no id
        assert expected.unit == row["id"]


def test_units_of_the_form_are_converted_by_the_library(model: Model) -> None:
    plain = model.predict_one(CELLS)
    other = model.predict_one(CELLS | {"marker": "4", "size": "7.7"}, {"marker": "µkat/L", "size": "cm"})
    assert other.p == pytest.approx(plain.p, rel=1e-12)
    assert model.answers(model.one_row(CELLS | {"size": "7.7"}, {"size": "cm"}))[2].shown == "77 mm"


@pytest.mark.parametrize(
    ("cells", "units", "words"),
    [
        ({"agee": "3"}, {}, "the model has no input 'agee'"),
        ({"age": "3"}, {"age": "mm"}, "age cannot be given in 'mm'"),
        ({"age": "3"}, {"sex": "mm"}, "sex cannot be given in 'mm'"),
        ({"age": "3"}, {"other": "mm"}, "the model has no input 'other'"),
    ],
)
def test_what_the_form_does_not_have_is_refused(
    model: Model, cells: dict[str, str], units: dict[str, str], words: str
) -> None:
    with pytest.raises(TableError, match=words):
        model.one_row(cells, units)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": "130"}, "age: 130 is outside the possible range 0 to 110"),
        ({"age": "1,5"}, "decimal commas"),
        ({"age": "<5"}, "reporting limit"),
        ({"age": "\x18"}, "is not a number|every"),
        ({"sex": "Male"}, "did you mean 'male'"),
        ({"sex": "<script>alert(1)</script>"}, "'<script>alert(1)</script>' is not one of"),
        ({"stage": "III"}, "'III' is not one of"),
        (dict.fromkeys(FIVE, ""), "every input is missing"),
        (dict.fromkeys(FIVE, "  "), "every input is missing"),
    ],
)
def test_a_bad_answer_gives_words_and_no_number(model: Model, change: dict[str, str], words: str) -> None:
    result = model.predict_one(CELLS | change)
    if change == {"age": "\x18"}:  # the mark for "not given" is what it says, also when somebody sends it
        assert result.imputed == ("age",)
        return
    assert not result.ok
    assert result.p == ()
    assert any(word in result.status for word in words.split("|"))


def test_a_missing_token_that_is_also_a_level_is_not_an_answer(tmp_path: Path) -> None:
    rows = [row | {"sex": "None" if row["sex"] == "female" else "Yes"} for row in patients()]
    inputs = INPUTS | {"sex": {"kind": "binary", "levels": ["None", "Yes"], "available": "diagnosis"}}
    study = {"table": "table.csv", "patient": "id", "missing": ["None", ""]}
    run = serve(tmp_path, rows, inputs=inputs, cohort=study)
    left_out = load(run).predict_one({"age": "51.5", "size": "77"})
    assert left_out.imputed == ("marker", "sex", "stage")
    assert load(run).predict_one({"age": "51.5", "size": "77", "sex": "None"}).imputed == ("marker", "stage")


# Gaps, explanation, sheet


def test_what_a_gap_could_change(model: Model) -> None:
    cells = CELLS | {"marker": "", "stage": ""}
    result, gaps = model.predict_one(cells), {g.input: g for g in model.gaps(model.one_row(cells))}
    assert set(gaps) == set(result.imputed) == {"marker", "stage"}
    field = next(f for f in model.form() if f.name == "marker")
    assert field.training is not None
    ends = [model.predict_one(cells | {"marker": repr(x)}).p[0] for x in field.training]
    assert (gaps["marker"].low[0], gaps["marker"].high[0]) == pytest.approx((min(ends), max(ends)), rel=1e-9)
    levels = [model.predict_one(cells | {"stage": level}).p[0] for level in ("early", "late")]
    assert (gaps["stage"].low[0], gaps["stage"].high[0]) == pytest.approx((min(levels), max(levels)), rel=1e-12)
    assert gaps["stage"].taken in ("early", "late")
    assert model.gaps(model.one_row(CELLS)) == ()


def test_contributions_add_up_to_the_prediction(model: Model, table: Table) -> None:
    for i, result in enumerate(model.predict(table)):
        explanation = model.explain(table, i)
        assert result.lp is not None
        assert explanation.base + sum(c.value for c in explanation.contributions) == pytest.approx(result.lp, rel=1e-12)
        assert 1 / (1 + np.exp(-explanation.lp)) == pytest.approx(result.p[0], rel=1e-12)
        assert [c.input for c in explanation.contributions if c.imputed] == list(result.imputed)


def test_contributions_of_the_training_patients_have_mean_zero(model: Model, table: Table) -> None:
    # Background = training means of the design; an imputed value is part of them.
    values = [[c.value for c in model.explain(table, i).contributions] for i in range(len(table.rows))]
    assert np.mean(values, axis=0) == pytest.approx(np.zeros(5), abs=1e-12)


def test_effect_curves_are_the_contributions(model: Model) -> None:
    for curve in model.effects():
        k = len(curve.values) // 2
        cell = curve.shown[k] if curve.kind == "category" else repr(curve.values[k])
        parts = {c.input: c.value for c in model.explain(model.one_row(CELLS | {curve.input: cell})).contributions}
        assert parts[curve.input] == pytest.approx(curve.effect[k], rel=1e-9)


def test_a_sheet_says_what_was_not_given_and_names_nobody(model: Model, table: Table) -> None:
    from pypdf import PdfReader

    gap = next(i for i, row in enumerate(patients()) if not row["marker"])
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(model.sheet(table, gap))).pages)
    text = " ".join(text.split())
    assert "Marker not known (as" in text
    assert f"{100 * model.predict(table)[gap].p[0]:.1f} %" in text
    assert patients()[gap]["id"] not in text
    assert "Research use only" in text
    assert "<script" not in model.overlay(table, gap)


def test_a_row_that_cannot_be_used_has_no_explanation_and_no_sheet(model: Model) -> None:
    bad = model.one_row(CELLS | {"age": "200"})
    for ask in (model.explain, model.sheet, model.gaps, model.answers, model.overlay):
        with pytest.raises(TableError, match="row 1 cannot be used: age: 200 is outside"):
            ask(bad)


# Words and files


def test_the_statement_begins_with_the_event_and_ends_with_the_validation(model: Model) -> None:
    lines = statement(model)
    assert [name for name, _ in lines[:8]] == [
        "Event", "Horizon", "Time of prediction", "Population", "Centre", "Years", "Developed with", "Validation",
    ]  # fmt: skip
    words = dict(lines)
    assert words["Event"] == "bad outcome"
    assert words["Validation"] == "internally validated only"
    assert words["Centre"] == "Testville"
    assert any("accepted: a test" in text for name, text in lines if name == "Caution")


def test_probabilities_in_words(model: Model) -> None:
    assert [percent(p) for p in (0.0, 0.0099, 0.01, 0.5, 0.99, 0.991, 1.0)] == [
        "below 1 %", "below 1 %", "1 %", "50 %", "99 %", "above 99 %", "above 99 %",
    ]  # fmt: skip
    assert in_hundred(0.327) == "33 of 100"
    result = model.predict_one(CELLS)
    assert result.low is not None
    assert result.high is not None
    assert interval_words(result).startswith(f"{percent(result.low[0])} to {percent(result.high[0])}: 95 % model")


def test_a_record_holds_the_result_and_no_id(model: Model, table: Table) -> None:
    data = record(model, table, 3)
    text = json.dumps(data, allow_nan=False)
    assert patients()[3]["id"] not in text
    assert data["risk"][0]["p"] == model.predict(table)[3].p[0]
    assert data["notice"] == "Research use only. Not a medical device."
    assert data["model"]["manifest_sha256"] == model.bundle.model_hash
    assert next(iter(data["about"])) == "Event"
    assert any("too small" in text for text in data["cautions"])
    assert record(model, model.one_row(CELLS | {"age": "200"}))["risk"] == []


def test_one_line_out_for_every_line_in_and_no_formula(model: Model) -> None:
    rows = patients()[:4]
    rows[1] = rows[1] | {"id": "=HYPERLINK(0)", "age": "-"}
    rows[2] = rows[2] | {"sex": "@cmd"}
    table = read_upload(csv_of(rows), model)
    lines = list(csv.DictReader(io.StringIO(rows_csv(model, model.predict(table)))))
    assert [line["line"] for line in lines] == ["2", "3", "4", "5"]
    assert lines[1]["id"] == "'=HYPERLINK(0)"
    assert [line["status"] == "ok" for line in lines] == [True, False, False, True]
    assert lines[1]["risk: bad"] == lines[1]["interval"] == ""
    assert float(lines[0]["risk: bad"]) == model.predict(table)[0].p[0]
    assert {line["model_sha256"] for line in lines} == {model.bundle.model_hash}
    assert not [c for line in lines for c in line.values() if c[:1] in "=+@" and c]


def test_withheld_probabilities_are_nowhere(tmp_path: Path) -> None:
    study = {"sampling": "case_control", "synthetic": "simulated for a test"}
    model = load(serve(tmp_path, study=study))
    result = model.predict_one(CELLS)
    assert result.ok
    assert (result.p, result.low, result.high) == ((), None, None)
    assert result.lp is not None
    data = record(model, model.one_row(CELLS))
    assert data["risk"] == []
    assert data["not_given"] == []
    assert "withheld" in data["withheld"]
    assert model.nomogram is None
    for call in (
        lambda: model.sheet(model.one_row(CELLS)),
        lambda: model.drawing("pdf"),
        lambda: model.drawing("html"),
    ):
        with pytest.raises(RunError, match="has no nomogram"):
            call()
    assert '"p"' not in json.dumps(data)


def test_survival_gives_a_risk_for_each_horizon(tmp_path: Path) -> None:
    rows = patients(200, missing=0.0)
    model = load(serve(tmp_path, rows, SURVIVAL, missing="complete_case"))
    result = model.predict_one(CELLS)
    assert model.columns == ("6 month", "12 month")
    assert 0 < result.p[0] < result.p[1] < 1
    assert model.scale == "log hazard"
    assert dict(statement(model))["Horizon"] == "6, 12 months after prediction"
    refused = model.predict_one(CELLS | {"marker": ""})
    assert refused.status == "missing marker, and the model does not impute"
    assert [f.may_be_missing for f in model.form()] == [False] * 5


def test_a_lab_that_enters_by_its_kit_range_asks_for_the_range(tmp_path: Path) -> None:
    rows = [row | {"low": "10", "high": "150"} for row in patients()]
    marker = {"kind": "lab", "unit": "U/L", "table_unit": "µkat/L", "available": "diagnosis"}
    marker["kit"] = {"low": "low", "high": "high"}  # type: ignore[assignment]
    by_value = load(serve(tmp_path / "value", rows, inputs=INPUTS | {"marker": marker}))
    assert [f.kit_low for f in by_value.form()] == [None] * 5
    assert by_value.predict(read_upload(csv_of(patients()), by_value))[0].ok  # without the columns of a range not used
    predictor = {"kind": "nomogram", "inputs": FIVE, "encode": {"marker": "uln"}}
    by_limit = load(serve(tmp_path / "limit", rows, inputs=INPUTS | {"marker": marker}, predictors={"a": predictor}))
    field = by_limit.form()[1]
    assert (field.kit_low, field.kit_high, field.training, field.units) == ("low", "high", None, ("U/L",))
    once = by_limit.predict_one(CELLS | {"low": "10", "high": "150"})
    twice = by_limit.predict_one(CELLS | {"marker": "480", "low": "10", "high": "300"})
    assert once.p == pytest.approx(twice.p, rel=1e-12)
    assert by_limit.predict_one(CELLS).imputed == ("marker",)
    with pytest.raises(TableError, match="'low'"):
        by_limit.predict(read_upload(csv_of(patients()), by_limit))


# Starting the app, and the command that shares this door


def test_the_app_is_started_closed_to_the_network_and_without_telemetry() -> None:
    command = app_command(Path("main.py"), port=8600, browser=False)
    assert command[1:5] == ["-m", "streamlit", "run", "main.py"]
    for option in (
        "--server.address=127.0.0.1", "--server.port=8600", "--server.headless=true", "--server.maxUploadSize=200",
        "--server.enableXsrfProtection=true", "--browser.gatherUsageStats=false", "--client.showErrorDetails=none",
        "--server.enableAgentApi=false", "--server.enableStaticServing=false",
    ):  # fmt: skip
        assert option in command
    assert "--server.headless=false" in app_command(Path("main.py"), port=1)


def test_without_streamlit_the_app_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osml.serving.launch.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'osml\[app\]'"):
        app_script()


def test_the_predict_command_writes_what_the_door_says(run: Path, model: Model, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from osml.cli import app

    rows = patients()[:3]
    rows[2] = rows[2] | {"sex": "x"}
    (tmp_path / "new.csv").write_bytes(csv_of(rows))
    arguments = ["predict", str(run), str(tmp_path / "new.csv"), "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == EXIT_CHECK
    table = read_table(tmp_path / "new.csv")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == rows_csv(model, model.predict(table))
