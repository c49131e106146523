"""Write pages as PDF, or one page as PNG, with matplotlib: type 42 fonts, selectable text, no date in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patches import Polygon as PolygonPatch

from osml.nomogram.canvas import Circle, Line, Page, Text
from osml.nomogram.fonts import MM_PER_PT, FontSet

INCH = 25.4
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


def write_pdf(pages: Sequence[Page], path: Path, fonts: FontSet, colours: Mapping[str, str]) -> None:
    """All pages as one PDF, the same bytes for the same pages."""
    about = {
        "Creator": "osml",
        "Producer": "osml",
        "CreationDate": None,
        "Title": pages[0].title,
        "Subject": pages[0].description,
    }
    with pdf_settings(), PdfPages(path, metadata=about) as document:
        for page in pages:
            document.savefig(page_figure(page, fonts, colours))


def pdf_settings() -> AbstractContextManager[None]:
    """Settings inside which pages are drawn and written."""
    return mpl.rc_context({"pdf.fonttype": 42, "pdf.compression": 6, "path.simplify": False, "text.usetex": False})


def write_png(page: Page, path: Path, fonts: FontSet, colours: Mapping[str, str], dpi: int = 200) -> None:
    """One page as PNG."""
    with pdf_settings():
        figure = page_figure(page, fonts, colours)
        FigureCanvasAgg(figure).print_figure(path, dpi=dpi, format="png", metadata={"Software": "osml"})


def page_figure(page: Page, fonts: FontSet, colours: Mapping[str, str]) -> Figure:
    """One page as a figure of its size."""
    figure = Figure(figsize=(page.width / INCH, page.height / INCH), facecolor=colours["paper"])
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, page.width), ylim=(page.height, 0.0))
    axes.axis("off")
    for order, mark in enumerate(page.flat()):
        if isinstance(mark, Text):
            text = axes.text(
                mark.x,
                mark.y,
                mark.text,
                fontproperties=FontProperties(fname=str(fonts.face(mark.text, mark.style)), size=mark.size),
                color=colours[mark.ink],
                ha=_ALIGN[mark.anchor],
                va="baseline",
                zorder=order,
            )
            # A label may hold dollar signs; it is not mathematics.
            text.set_parse_math(False)
        elif isinstance(mark, Line):
            width = mark.width / MM_PER_PT
            line = Line2D([mark.x1, mark.x2], [mark.y1, mark.y2], lw=width, color=colours[mark.ink], zorder=order)
            line.set_solid_capstyle("butt")
            if mark.dash:
                line.set_linestyle((0, tuple(d / mark.width for d in mark.dash)))
            axes.add_line(line)
        elif isinstance(mark, Circle):
            axes.add_patch(
                Ellipse(
                    (mark.x, mark.y),
                    2 * mark.r,
                    2 * mark.r,
                    facecolor=colours[mark.ink] if mark.filled else colours["paper"],
                    edgecolor=colours[mark.ink],
                    lw=0.35 / MM_PER_PT,
                    zorder=order,
                )
            )
        else:
            edge = colours[mark.outline] if mark.outline else "none"
            axes.add_patch(
                PolygonPatch(
                    mark.points,
                    closed=True,
                    facecolor=colours[mark.ink],
                    edgecolor=edge,
                    lw=0.15 / MM_PER_PT,
                    zorder=order,
                )
            )
    return figure
