"""The PDF sheet of one patient: what stands on it, that it flows over pages, and what never stands on it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from served import SURVIVAL, patients, serve

from osml.cohort.table import read_table
from osml.errors import InvalidInputError
from osml.nomogram.canvas import collisions
from osml.nomogram.metadata import NOTICE
from osml.serving import Model, load, patient_sheet, percent, sheet_refusal
from osml.serving.explain import Contribution, Explanation
from osml.serving.patient_sheet import font_set, sheet_pages
from osml.serving.sheet_layout import Cell, Pen, SheetPage, paged
from osml.serving.sheet_parts import contributions

CELLS = {"age": "51.5", "marker": "4", "size": "77", "sex": "male", "stage": "late"}
LABEL = "Alkaline phosphatase activity of the serum at the time of the first visit (central laboratory)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("sheet"))


def words(pages: list[SheetPage]) -> str:
    return "\n".join(text.text for page in pages for text in page.page.texts())


def test_the_sheet_says_what_was_given_and_what_it_is_of(run: Path) -> None:
    model = load(run)
    table = model.one_row({**CELLS, "size": ""}, {"marker": "µkat/L"})
    pages = sheet_pages(model, table)
    text = words(pages)
    found = model.predict(table)[0]
    order = [
        "Served study",
        "bad outcome",
        "diagnosis",
        "adults",
        "Testville",
        "2015 to 2020",
        "internally validated only",
    ]
    places = [text.index(piece) for piece in [*order, percent(found.p[0]), "Inputs", "What moves this prediction"]]
    assert places == sorted(places)
    assert found.low is not None
    assert f"Interval: {percent(found.low[0])} to" in text
    assert f"{100 * found.p[0]:.0f} of 100 patients like this" in text
    assert "240 U/L" in text
    assert "typed as 4 µkat/L" in text
    gap = model.gaps(table)[0]
    flat = text.replace("\n", " ")
    assert f"unknown; taken as {gap.taken}" in flat
    assert f"{percent(gap.low[0])} to {percent(gap.high[0])}" in text
    assert "90 patients, 53 with the event" in text
    assert f"AUC {model.facts['predictors']['clinical']['out_of_fold']['auc']['value']:.2f}" in text
    assert "[OSML041]" in text
    assert model.bundle.model_hash in text
    assert "SYNTHETIC DATA" in text
    for page in pages:
        assert NOTICE in [t.text for t in page.page.texts()]
    # The nomogram comes last, with this patient's lines.
    assert pages[-1].page.width > pages[-1].page.height
    assert "Worked example." in words(pages[-1:])


def test_what_is_outside_the_training_range_stands_beside_the_value(run: Path) -> None:
    model = load(run)
    text = words(sheet_pages(model, model.one_row({**CELLS, "age": "99"}))).replace("\n", " ")
    assert "given; outside the training range" in text


def test_the_same_row_gives_the_same_bytes_with_fonts_and_without_an_id(run: Path) -> None:
    pdf = pytest.importorskip("pypdf", reason="reads PDF")
    model = load(run)
    table = read_table(run.parents[2] / "table.csv")
    first = patient_sheet(model, table, 3)
    assert first == patient_sheet(model, table, 3)
    document = pdf.PdfReader(io.BytesIO(first))
    text = "\n".join(page.extract_text() for page in document.pages)
    assert table.column("id")[3] not in text
    assert "table.csv" not in text
    assert b"CreationDate" not in first
    assert text.count(NOTICE) >= len(document.pages)
    fonts = [f for page in document.pages for f in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        inside = font.get_object().get("/DescendantFonts", [font])[0].get_object()
        assert "/FontFile2" in inside["/FontDescriptor"].get_object()


def test_a_row_without_a_prediction_says_why(run: Path) -> None:
    model = load(run)
    text = words(sheet_pages(model, model.one_row({**CELLS, "age": "200"})))
    assert "No prediction:" in text
    assert "What moves this prediction" not in text
    assert NOTICE in text


def test_every_horizon_has_its_risk(tmp_path: Path) -> None:
    model = load(serve(tmp_path, target=SURVIVAL))
    table = model.one_row({**CELLS, "marker": "240"})
    text, found = words(sheet_pages(model, table)), model.predict(table)[0]
    for column, p in zip(model.columns, found.p, strict=True):
        assert f"risk of bad outcome by {column}s" in text
        assert percent(p) in text


def test_many_long_inputs_flow_over_pages_and_nothing_overlaps(run: Path) -> None:
    pen = Pen(font_set(), 210.0)
    rows = [
        (Cell(f"{LABEL} {i}"), Cell("1.234 µkat/L"), Cell("unknown; taken as 1.2"), Cell("0 to 5")) for i in range(60)
    ]
    strips = [*pen.heading("Inputs"), *pen.table(("Input", "Value", "How", "Range"), (32, 22, 28, 18), rows)]
    parts = tuple(Contribution(str(i), f"{LABEL} {i}", "1.2 U/L", (-1) ** i / (i + 1)) for i in range(40))
    strips += contributions(pen, "Why", Explanation(0.0, parts, sum(p.value for p in parts), "log odds"))
    pages = paged(strips, pen, 297.0, "A study", ("small / clinical",), NOTICE)
    assert len(pages) > 2
    for page in pages:
        assert collisions(page.page, pen.fonts) == []
        heads = [t for t in page.page.texts() if t.text == "How"]
        assert len(heads) == (1 if any("taken as" in t.text for t in page.page.texts()) else 0)
    text = words(pages)
    assert all(f" {i}" in text for i in range(60))
    assert "16 further inputs together" in text
    assert f"Page {len(pages)} of {len(pages)}" in text


def test_no_mark_overlaps_on_real_sheets(run: Path) -> None:
    model = load(run)
    for page in sheet_pages(model, model.one_row({**CELLS, "size": ""}), page="letter")[:-1]:
        assert collisions(page.page, font_set()) == []


def test_characters_without_a_glyph_are_refused_by_name(run: Path) -> None:
    model: Model = load(run)
    assert sheet_refusal(model) == ""
    odd = replace(model, facts={**model.facts, "title": "Study \U0001f9ec"})
    assert "U+1F9EC" in sheet_refusal(odd)
    with pytest.raises(InvalidInputError, match="U\\+1F9EC"):
        patient_sheet(odd, odd.one_row(CELLS))
    with pytest.raises(InvalidInputError, match="unknown page"):
        patient_sheet(model, model.one_row(CELLS), page="a5")  # type: ignore[arg-type]


def test_a_nomogram_that_cannot_be_drawn_is_told_and_the_sheet_is_made(run: Path) -> None:
    model = load(run)
    assert model.nomogram is not None
    crowded = replace(model.nomogram, metadata={**model.nomogram.metadata, "warnings": ["A long warning. " * 60] * 8})
    odd = replace(model, nomogram=crowded)
    pages = sheet_pages(odd, odd.one_row({**CELLS, "marker": "240"}))
    assert "The nomogram is not drawn here: the notes" in words(pages).replace("\n", " ")
    assert all(page.page.width < page.page.height for page in pages)


def test_a_table_of_the_study_gives_sheets_too(run: Path) -> None:
    model = load(run)
    table = read_table(run.parents[2] / "table.csv")
    assert len(table.rows) == len(patients())
    text = words(sheet_pages(model, table, 0))
    assert percent(model.predict(table)[0].p[0]) in text


def test_the_command_line_writes_one_sheet_a_row(run: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from osml.cli import app

    lines = (run.parents[2] / "table.csv").read_text(encoding="utf-8").splitlines()
    bad = lines[2].replace(lines[2].split(",")[1], "999", 1)
    (tmp_path / "new.csv").write_text("\n".join([lines[0], lines[1], bad]), encoding="utf-8")
    options = ["-o", str(tmp_path / "out.csv"), "--sheets", str(tmp_path / "sheets")]
    done = CliRunner().invoke(app, ["predict", str(run), str(tmp_path / "new.csv"), *options])
    assert done.exit_code == 2, done.output
    assert "sheets of 1 rows" in done.output
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["line-2.pdf"]
    assert (tmp_path / "sheets" / "line-2.pdf").read_bytes().startswith(b"%PDF")
