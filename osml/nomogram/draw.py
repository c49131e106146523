"""Draw a nomogram to a file: PDF, SVG or PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from osml.errors import InvalidInputError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import Page
from osml.nomogram.chart import make_chart
from osml.nomogram.details import make_details
from osml.nomogram.fonts import FontSet
from osml.nomogram.patient import worked_example
from osml.nomogram.svg import svg_text
from osml.nomogram.theme import page_style, theme_colours


def draw(
    nomogram: Nomogram,
    path: str | Path,
    *,
    page: Literal["a4", "letter", "column"] = "a4",
    theme: Literal["print", "screen"] = "print",
    patient: Mapping[str, ArrayLike] | None = None,
    fonts: Sequence[str | Path] = (),
) -> Path:
    """Write the sheet; the same nomogram gives the same bytes.

    Parameters
    ----------
    path : path ending in .pdf, .svg or .png
        PDF: the chart, then (not for `column`) pages with the equation and what is known about the model.
        SVG and PNG: the chart alone, on one page that grows when it must.
    page : "a4", "letter" (landscape) or "column" (180 mm wide figure)
    patient : mapping, optional
        Values of one patient for a worked example; nothing that identifies the patient is drawn.
    fonts : sequence of paths
        Font files for characters that DejaVu Sans lacks, such as Chinese.

    Raises
    ------
    InvalidInputError
        A character that no font has; labels that cannot be placed; an unknown page, theme or ending.
    """
    # matplotlib is imported here: predicting with a nomogram does not need it.
    from osml.nomogram.raster import write_pdf, write_png

    target = Path(path)
    fontset, colours = FontSet(fonts), theme_colours(theme)
    suffix = target.suffix.lower()
    if suffix == ".pdf":
        write_pdf(pages(nomogram, page=page, patient=patient, fonts=fontset), target, fontset, colours)
    elif suffix == ".svg":
        sheet = chart_page(nomogram, page=page, patient=patient, fonts=fontset)
        target.write_text(svg_text(sheet, fontset, colours), encoding="utf-8", newline="\n")
    elif suffix == ".png":
        write_png(chart_page(nomogram, page=page, patient=patient, fonts=fontset), target, fontset, colours)
    else:
        raise InvalidInputError(f"cannot draw to {target.name!r}", do="Give a path that ends in .pdf, .svg or .png.")
    return target


def pages(
    nomogram: Nomogram,
    *,
    page: str = "a4",
    patient: Mapping[str, ArrayLike] | None = None,
    fonts: FontSet | None = None,
) -> list[Page]:
    """Pages of the PDF."""
    style, fonts = page_style(page), fonts or FontSet()
    example = None if patient is None else worked_example(nomogram, patient)
    chart = make_chart(nomogram, style, fonts, example)
    if not style.sheet:
        return list(chart.pages)
    return [
        *chart.pages,
        *make_details(nomogram, style, fonts, with_steps=not chart.steps_inside, notes=chart.notes_left),
    ]


def chart_page(
    nomogram: Nomogram,
    *,
    page: str = "a4",
    patient: Mapping[str, ArrayLike] | None = None,
    fonts: FontSet | None = None,
) -> Page:
    """The chart on one page."""
    example = None if patient is None else worked_example(nomogram, patient)
    return make_chart(nomogram, page_style(page), fonts or FontSet(), example, grow=True).pages[0]
