"""The frame of a report: one self-contained HTML file without a script, and figures in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files

from osml.explanation.drawing import inline_svg
from osml.report.exhibit import Exhibit
from osml.report.html import Markup, details, table, tag

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

Section = tuple[str, str, Sequence[object]]  # id, heading, content


def document(title: str, subtitle: str, notices: Sequence[str], sections: Sequence[Section], footer: str) -> str:
    """HTML text of a report; what must stand above everything else are `notices`."""
    links = tag("ol", *(tag("li", tag("a", words, href=f"#{name}")) for name, words, _ in sections))
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("title", f"{title}: report"),
        tag("style", Markup(files("osml.report").joinpath("report.css").read_text(encoding="utf-8"))),
    )
    listed = tag("ul", *(tag("li", text) for text in notices), class_="warnings", aria_label="Warnings")
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", subtitle, class_="subtitle"), listed),
        tag("nav", links, aria_label="Contents"),
        tag("main", *(tag("section", tag("h2", words), *content, id=name) for name, words, content in sections)),
        tag("footer", footer),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def figures(exhibits: Sequence[Exhibit]) -> Markup:
    return tag("div", *(_figure(e) for e in exhibits), class_="figures")


def _figure(exhibit: Exhibit) -> Markup:
    if not exhibit.drawn:
        return tag("p", tag("strong", exhibit.title), f": not shown. {exhibit.reason}", class_="absent")
    rows = exhibit.data if exhibit.shown is None else exhibit.shown
    whole = "" if exhibit.shown is None else f" All values: figures/{exhibit.name}.csv."
    shown = table([str(h).replace("_", " ") for h in exhibit.shown_header or exhibit.header], rows, exhibit.title)
    return tag(
        "figure", tag("h3", exhibit.title), _drawing(exhibit), tag("figcaption", exhibit.caption),
        details("Data of this figure", shown, tag("p", whole, class_="note") if whole else None), id=exhibit.name,
        class_="across" if exhibit.wide else None,
    )  # fmt: skip


def _drawing(exhibit: Exhibit) -> Markup:
    """The drawing as SVG, a picture as PNG; a wide one scrolls by itself where the page is narrow."""
    if exhibit.figure is None:
        data = base64.b64encode(exhibit.picture).decode("ascii")
        drawing = tag("img", src=f"data:image/png;base64,{data}", alt=exhibit.title)
        drawing = Markup(drawing.removesuffix("</img>"))
    else:
        drawing = Markup(inline_svg(exhibit.figure, exhibit.name.replace(".", "-"), exhibit.title))
    if not exhibit.wide:
        return drawing
    inches = 9.0 if exhibit.figure is None else exhibit.figure.get_figwidth()
    style = f"--inches: {inches:g}"
    return tag("div", drawing, class_="across", style=style, tabindex="0", role="region", aria_label=exhibit.title)
