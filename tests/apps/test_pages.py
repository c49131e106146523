"""Every page of the app, run as a visitor would: what it shows, what it refuses, what it forgets."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from served import FIVE, INPUTS, patients, serve
from shown_tables import csv_of, tables_of

from osml.files import write_csv
from osml.serving import load
from osml.serving.launch import RUN_VARIABLE

pytest.importorskip("streamlit", reason="the app's extra is not installed")
from streamlit.testing.v1 import AppTest

PAGES = ("nomogram", "performance", "explain", "cohort", "model_card")
NOTICE = "Research use only. Not a medical device."
HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) [a](javascript:1) $x$ :red[b]"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("app"))


def visit(monkeypatch: pytest.MonkeyPatch, source: Path, page: str = "") -> AppTest:
    """The app as it stands after the first page, and after another one where `page` is given."""
    monkeypatch.setenv(RUN_VARIABLE, str(source))
    monkeypatch.syspath_prepend(str(ROOT / "apps"))
    # Streamlit puts the page in the place of the main module, which processes of later tests would import.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    app = AppTest.from_file(str(ROOT / "apps" / "main.py"), default_timeout=60).run()
    if page:
        app.switch_page(f"views/{page}.py").run()
    return app


def words(app: AppTest) -> str:
    """Everything that is written on the page, marks of markdown taken away."""
    blocks: list[Any] = [*app.markdown, *app.error, *app.warning, *app.info, *app.title, *app.header]
    return "\n".join(str(block.value) for block in blocks).replace("\\", "")


def tables(app: AppTest) -> str:
    return csv_of(app)


def errors(app: AppTest) -> str:
    return "\n".join(block.value for block in app.error).replace("\\", "")


def fill(app: AppTest, *, age: str = "51.5", marker: str = "240", size: str = "77", unknown: bool = False) -> AppTest:
    """Answer the form and press Predict."""
    for name, text in (("age", age), ("marker", marker), ("size", size)):
        field(app, name).set_value(text)
    for pills, level in zip(app.pills, ("male", "late"), strict=True):
        pills.set_value(level)
    if unknown:
        all_unknown(app).check()
    return press(app, "Predict")


def field(app: AppTest, name: str) -> Any:
    return next(widget for widget in app.text_input if widget.key.endswith(f" {name}"))


def all_unknown(app: AppTest) -> Any:
    """The box that says that whatever is empty is unknown."""
    return next(box for box in app.checkbox if box.label.startswith("Unanswered inputs are unknown"))


def unknown(app: AppTest, label: str) -> Any:
    """The box beside one input."""
    return next(box for box in app.checkbox if box.label == f"{label} is unknown")


def press(app: AppTest, label: str) -> AppTest:
    """Click a button, wherever it stands."""
    next(button for button in app.button if button.label == label).click()
    return app.run()


def choose_table(app: AppTest, raw: bytes, name: str = "new.csv", kind: str = "text/csv") -> AppTest:
    app.segmented_control[0].set_value("A table").run()
    app.file_uploader[0].set_value((name, raw, kind))
    return app.run()


def as_csv(rows: list[dict[str, str]]) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode("utf-8")


def test_the_form_has_labels_and_no_answers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    assert not app.exception
    assert [widget.value for widget in app.text_input] == ["", "", ""]
    assert [widget.value for widget in app.pills] == [None, None]
    labels = [widget.label for widget in app.text_input]
    assert labels[0].startswith("Age (year; training ")
    assert labels[0].endswith("possible 0 to 110)")
    assert labels[1].startswith("Marker (U/L; training ")
    assert app.pills[0].options == ["female", "male", "unknown"]
    assert NOTICE in words(app)
    assert "SYNTHETIC DATA: simulated for a test" in words(app)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_with_its_notices(run: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    app = visit(monkeypatch, run, page)
    assert not app.exception
    assert not app.error
    assert NOTICE in words(app)
    assert "SYNTHETIC DATA" in words(app)
    assert len(app.title) == 1


def test_a_prediction_says_what_it_is_of_and_for_whom_it_holds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fill(visit(monkeypatch, run))
    assert not app.exception
    result = load(run).predict_one({"age": "51.5", "marker": "240", "size": "77", "sex": "male", "stage": "late"})
    text = words(app)
    order = [
        f"### {100 * result.p[0]:.0f} %", "risk of bad outcome", "Interval: ",
        f"{100 * result.p[0]:.0f} of 100 patients like this", "At diagnosis; internally validated only",
        "**Event:** bad outcome", "**Time of prediction:** diagnosis", "**Population:** adults",
        "**Centre:** Testville", "**Years:** 2015 to 2020",
    ]  # fmt: skip
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)
    assert load(run).bundle.model_hash in text
    assert "model instability interval" in text
    assert "Age: 51.5 year" in tables(app)
    assert [button.label for button in app.download_button] == [
        "Sheet of this patient (PDF)", "Nomogram sheet with this patient's lines (PDF)", "Result (JSON)",
    ]  # fmt: skip
    assert not any(word in text.lower() for word in ("recommend", "should be treated", "operate"))


def test_unanswered_inputs_are_not_guessed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fill(visit(monkeypatch, run), marker="")
    assert "Not answered: Marker" in errors(app)
    assert "###" not in words(app)
    all_unknown(app).check()
    app = press(app, "Predict")
    assert "Not given and estimated by the model: Marker" in words(app)
    assert "Risk if it were measured" in tables(app)


def test_each_input_may_be_said_to_be_unknown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    assert [box.label for box in app.checkbox[:3]] == ["Age is unknown", "Marker is unknown", "Size is unknown"]
    unknown(app, "Marker").check()
    app = fill(app, marker="", age="")
    assert "Not answered: Age. Fill them in, or say that they are unknown." in errors(app)
    field(app, "age").set_value("51.5")
    app = press(app, "Predict")
    assert not app.error
    assert "Not given and estimated by the model: Marker" in words(app)
    assert "Risk if it were measured" in tables(app)
    model = load(run)
    expected = model.predict_one({"age": "51.5", "size": "77", "sex": "male", "stage": "late"})
    assert f"### {100 * expected.p[0]:.0f} %" in words(app)
    field(app, "marker").set_value("240")
    app = press(app, "Predict")
    assert "Given, and said to be unknown: Marker." in errors(app)
    assert "###" not in words(app)
    app.switch_page("views/model_card.py").run()
    app.switch_page("views/predict.py").run()
    assert unknown(app, "Marker").value is True


def test_what_is_outside_the_training_range_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fill(visit(monkeypatch, run), size="900")
    assert "Outside the training range, so the model extrapolates: Size" in words(app)
    app = fill(app, age="200")
    assert "No prediction: age: 200 is outside the possible range 0 to 110" in errors(app)
    assert "###" not in words(app)


def test_other_units_are_converted_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run)
    next(box for box in app.selectbox if box.label == "Unit of Marker").set_value("µkat/L").run()
    assert field(app, "marker").label.startswith("Marker (µkat/L; training ")
    app = fill(app, marker="4")
    assert "Marker 240 U/L" in words(app)


def test_a_patient_follows_to_other_pages_and_is_forgotten_on_request(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fill(visit(monkeypatch, run))
    app.switch_page("views/explain.py").run()
    assert "Age: 51.5 year" in tables(app)
    app.switch_page("views/nomogram.py").run()
    assert "Sheet with this patient's lines (PDF)" in [button.label for button in app.download_button]
    app = press(app, "Clear patient data")
    assert "Sheet with this patient's lines (PDF)" not in [button.label for button in app.download_button]
    app.switch_page("views/predict.py").run()
    assert [widget.value for widget in app.text_input] == ["", "", ""]
    assert "patient" not in app.session_state
    assert "51.5" not in repr(app.session_state)
    assert "###" not in words(app)


def test_a_table_gives_one_line_for_every_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = patients()[:5]
    for row in rows:
        row["marker"] = row["marker"] or "3"
    rows[2]["age"] = "-"
    app = choose_table(visit(monkeypatch, run), as_csv(rows))
    assert not app.exception
    assert "4 of 5 rows predicted; 1 have no prediction" in words(app)
    frame = app.dataframe[0].value
    assert list(frame["id"]) == [row["id"] for row in rows]
    assert [status == "ok" for status in frame["status"]] == [True, True, False, True, True]
    assert "Results as CSV" in [button.label for button in app.download_button]
    app.selectbox(key="row 0").set_value(3).run()
    assert f"### {100 * frame['risk: bad'][3]:.0f} %" in words(app)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"%PDF-1.4", "is a PDF, not a table"),
        (b"a,b\n1,2\n", "columns not found"),
        (b"age,age\n1,2\n", "stands twice"),
        (b"patient name,age\nx,2\n", "may identify a person: 'patient name'"),
        (b"<script>alert(1)</script>,<script>alert(1)</script>\n1,2\n", "'<script>alert(1)</script>' stands twice"),
    ],
)
def test_a_bad_upload_is_refused_in_words(run: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, problem: str) -> None:
    app = choose_table(visit(monkeypatch, run), raw)
    assert not app.exception
    assert problem in errors(app)
    assert "alert(1)</script>" not in "".join(block.value for block in app.error).replace(
        "\\<script>alert(1)\\</script>", ""
    )


@pytest.mark.parametrize("name", ["../../etc/passwd", "<script>alert(1)</script>.csv", "/tmp/x.xlsx", "a\x00b.csv"])
def test_the_name_of_an_upload_plays_no_part(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[:2]]
    app = choose_table(visit(monkeypatch, run), as_csv(rows), name, "application/x-evil")
    assert not app.exception
    assert "2 of 2 rows predicted" in words(app)
    assert name not in words(app)


def test_hostile_cells_are_shown_as_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[:2]]
    rows[0]["id"], rows[1]["sex"] = "=1+1", HOSTILE
    app = choose_table(visit(monkeypatch, run), as_csv(rows))
    assert not app.exception
    frame = app.dataframe[0].value
    assert frame["id"][0] == "=1+1"  # a table in the browser runs no formula; the CSV is neutralised
    assert HOSTILE in frame["status"][1]


def test_hostile_labels_are_shown_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {name: block | {"label": f"{name} {HOSTILE}"} for name, block in INPUTS.items()}
    study = {"sampling": "cohort", "synthetic": HOSTILE, "title": HOSTILE, "endpoint": HOSTILE, "population": HOSTILE}
    run = serve(tmp_path, inputs=inputs, study=study)
    app = fill(visit(monkeypatch, run), marker="", unknown=True)
    pages, cells = [raw_text(app)], csv_of(app)
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        pages.append(raw_text(app))
        cells += csv_of(app)
    for text in pages:
        assert "\\<script>" in text
        for mark in (r"<", r"\[x", r"\](?=\()", r"\$x", r":red"):
            assert not re.search(rf"(?<!\\){mark}", text), mark
    assert HOSTILE in cells  # whole, and no tag: `csv_of` would have met it


def raw_text(app: AppTest) -> str:
    """Markdown as it is sent to the browser."""
    blocks = [*app.markdown, *app.error, *app.warning, *app.info]
    labels = [w.label for w in [*app.text_input, *app.pills, *app.selectbox, *app.checkbox]]
    return "\n".join([*(str(b.value) for b in blocks), *labels])


def test_a_changed_byte_closes_the_app(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    file = bundle / "predictors" / "clinical" / "model.json"
    file.write_text(file.read_text(encoding="utf-8").replace("0.", "1.", 1), encoding="utf-8")
    app = visit(monkeypatch, bundle)
    assert not app.exception
    assert "model.json was changed after the bundle was made" in errors(app)
    assert not app.text_input
    assert not app.title


def test_no_run_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, tmp_path)
    assert not app.exception
    assert "holds no finished run" in errors(app)


def test_a_bundle_alone_shows_no_cohort(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    app = visit(monkeypatch, bundle, "cohort")
    assert "A bundle holds nothing about its patients" in words(app)
    assert not tables_of(app)
    app.switch_page("views/performance.py").run()
    assert "AUC" in tables(app)
    assert not app.exception


def test_the_cohort_page_counts_and_names_nobody(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run, "cohort")
    assert "Rows of the table,90" in tables(app)
    assert "Marker" in tables(app)
    assert not [row["id"] for row in patients() if row["id"] in tables(app) + words(app)]


def test_performance_shows_the_numbers_of_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit(monkeypatch, run, "performance")
    auc = load(run).facts["predictors"]["clinical"]["out_of_fold"]["auc"]["value"]
    assert f"AUC (C),{auc:.3f}" in tables(app)
    assert "The figures of the report" in words(app)


def test_figures_of_the_report_are_shown_with_their_numbers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    figures = copy / "report" / "figures"
    for name in ("roc_clinical", "roc_clinical_paper", "shap_clinical", "shap_clinical_high"):
        figures.mkdir(parents=True, exist_ok=True)
        (figures / f"{name}.png").write_bytes(PIXEL)
        write_csv(figures / f"{name}.csv", ("x", "y"), [(k / 7, name) for k in range(100)])
    app = visit(monkeypatch, copy, "performance")
    assert not app.exception
    assert "ROC curve, held-out predictions" in words(app)
    assert "0.1429,roc_clinical" in tables(app) or "roc_clinical" in tables(app)
    assert "roc_clinical_paper" not in tables(app)
    assert "One row in 3 of 100 is shown" in words(app)
    app.switch_page("views/explain.py").run()
    assert "shap_clinical" in tables(app)
    assert "shap_clinical_high" not in tables(app)  # the values of a single patient


def test_withheld_probabilities_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = serve(tmp_path, study={"sampling": "case_control", "synthetic": "simulated for a test"})
    app = fill(visit(monkeypatch, run))
    assert not app.exception
    assert "No probability is shown: probabilities are withheld" in words(app)
    assert "###" not in words(app)
    assert "of 100 patients" not in words(app)
    app.switch_page("views/nomogram.py").run()
    assert "has no nomogram" in errors(app)
    for page in ("performance", "explain", "cohort", "model_card"):
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception


def test_a_model_without_imputation_wants_every_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = serve(tmp_path, patients(missing=0.0), missing="complete_case")
    app = visit(monkeypatch, run)
    assert not app.checkbox
    assert app.pills[0].options == ["female", "male"]
    assert "Every input is needed" in words(app)
    assert all(widget.label.endswith("must be given)") for widget in [*app.text_input, *app.pills])
    app = fill(app, size="")
    assert "Not answered: Size. Fill them in." in errors(app)


def test_a_study_is_chosen_among_several(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        shutil.copytree(run / "bundle", tmp_path / name / "bundle")
    app = visit(monkeypatch, tmp_path)
    assert app.sidebar.selectbox[0].label == "Study"
    assert not app.exception
    assert [f.name for f in app.session_state["model"].form()] == FIVE
