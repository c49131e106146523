"""Pages with pictures as one PDF: vector marks, embedded fonts, the same bytes for the same pages."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from PIL import Image

from osml.nomogram.fonts import FontSet
from osml.nomogram.raster import page_figure, pdf_settings
from osml.nomogram.theme import theme_colours
from osml.serving.sheet_layout import SheetPage


def sheet_pdf(pages: Sequence[SheetPage], fonts: FontSet) -> bytes:
    """The document; neither a date nor a name of a file is in it."""
    about = {
        "Creator": "osml", "Producer": "osml", "CreationDate": None,
        "Title": pages[0].page.title, "Subject": pages[0].page.description,
    }  # fmt: skip
    sink, colours = io.BytesIO(), theme_colours("print")
    with pdf_settings(), PdfPages(sink, metadata=about) as document:
        for sheet in pages:
            page = sheet.page
            figure = page_figure(page, fonts, colours)
            for picture in sheet.pictures:
                place = (
                    picture.x / page.width, 1 - (picture.y + picture.height) / page.height,
                    picture.width / page.width, picture.height / page.height,
                )  # fmt: skip
                axes = figure.add_axes(place)
                axes.axis("off")
                with Image.open(io.BytesIO(picture.png)) as image:
                    axes.imshow(np.asarray(image.convert("RGB")), aspect="auto", interpolation="none")
            document.savefig(figure)
    return sink.getvalue()
