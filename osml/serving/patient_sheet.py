"""The sheet of one patient as PDF: prediction, inputs, why, pictures, model card in short, the nomogram if any.

No id, date or name of a file is on it; the research-use notice and the model's hash are on every page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from osml.cohort.table import Table
from osml.errors import InvalidInputError
from osml.nomogram.fonts import FontSet
from osml.nomogram.metadata import NOTICE
from osml.serving import sheet_parts as parts
from osml.serving.model import Model
from osml.serving.rows import Row
from osml.serving.sheet_layout import SIZES, Pen, SheetPage, Strip, paged
from osml.serving.words import statement


def patient_sheet(
    model: Model,
    table: Table,
    row: int = 0,
    page: Literal["a4", "letter"] = "a4",
    *,
    root: Path | None = None,
    fonts: Sequence[str | Path] = (),
) -> bytes:
    """Everything that the app shows of one row of a table, on paper; the same row gives the same bytes.

    Parameters
    ----------
    root : folder from which paths of images in the table start, as for `Model.predict`
    fonts : files for characters that DejaVu Sans lacks; after them those of this machine are tried

    Raises
    ------
    InvalidInputError
        A label with characters that no font has; an unknown page.
    """
    from osml.serving.sheet_write import sheet_pdf

    return sheet_pdf(sheet_pages(model, table, row, page, root=root, fonts=fonts), font_set(fonts))


def font_set(fonts: Sequence[str | Path] = ()) -> FontSet:
    """DejaVu Sans, the given files, and fonts of this machine that hold wide characters."""
    from osml.explanation.drawing import wide_fonts

    return FontSet((*fonts, *wide_fonts()))


def sheet_refusal(model: Model) -> str:
    """Why labels of this model cannot be printed; "" when they can."""
    fonts = font_set()
    words = [str(model.facts["title"]), str(model.facts["event"]), *model.columns]
    words += [text for field in model.form() for text in (field.label, field.unit, *field.levels)]
    words += [image.label for image in model.images()]
    words += [text for _, text in statement(model)] + [str(model.facts["synthetic"] or ""), model.schema.name]
    words += [str(getattr(block, "label", None) or name) for name, block in model.schema.predictors.items()]
    try:
        for text in words:
            for word in text.split():
                fonts.face(word)
    except InvalidInputError as error:
        return error.what
    return ""


def sheet_pages(
    model: Model,
    table: Table,
    row: int = 0,
    page: Literal["a4", "letter"] = "a4",
    *,
    root: Path | None = None,
    fonts: Sequence[str | Path] = (),
) -> list[SheetPage]:
    """Pages of the sheet, before they are written."""
    if page not in SIZES:
        raise InvalidInputError(f"unknown page {page!r}", do=f"Pages: {', '.join(SIZES)}.")
    width, height = SIZES[page]
    pen = Pen(font_set(fonts), width)
    found = model.predict_at(table, row, root=root)
    strips = [*parts.about(pen, model), *parts.result(pen, model, found)]
    nomogram: list[SheetPage] = []
    if found.ok:
        strips += _of_patient(pen, model, table, row, found, root)
        try:
            nomogram = _nomogram(pen, model, table, row, page, root)
        except InvalidInputError as error:
            strips += [Strip(2.0), *pen.lines(f"The nomogram is not drawn here: {error.what}.", ink="warning")]
    strips += parts.card(pen, model)
    title = f"{model.facts['title']} · sheet of one patient"
    foot = (f"{model.schema.name} / {model.name} · SHA-256 {model.bundle.model_hash[:16]}…",)
    last = "the nomogram with this patient's lines follows" if nomogram else ""
    return [*paged(strips, pen, height, title, foot, NOTICE, last), *nomogram]


def _of_patient(pen: Pen, model: Model, table: Table, row: int, found: Row, root: Path | None) -> list[Strip]:
    strips = parts.inputs(pen, model, table, row, found, root)
    strips += parts.contributions(pen, "What moves this prediction", model.explain(table, row, root=root))
    strips += parts.weights(pen, model, found)
    for label, inside in model.explain_scores(table, row, root=root):
        strips += parts.contributions(pen, f"What the {label} is made of", inside)
    return [*strips, *parts.pictures(pen, model, table, row, root)]


def _nomogram(
    pen: Pen, model: Model, table: Table, row: int, page: str, root: Path | None
) -> list[SheetPage]:  # fmt: skip
    """The chart with the patient's lines; its equation and details stand on the nomogram's own sheet."""
    if model.nomogram is None:
        return []
    from osml.nomogram.chart import make_chart
    from osml.nomogram.patient import worked_example
    from osml.nomogram.theme import page_style

    nomogram, patient = model.worked(table, row, root=root)
    chart = make_chart(nomogram, page_style(page), pen.fonts, worked_example(nomogram, patient))
    return [SheetPage(one, ()) for one in chart.pages]
