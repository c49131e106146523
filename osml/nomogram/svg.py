"""Write a page as SVG: real text in an embedded font subset, the same bytes for the same page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path

from osml.nomogram.canvas import Circle, Group, Line, Mark, Page, Polygon, Text
from osml.nomogram.fonts import MM_PER_PT, FontSet, font_subset


def svg_text(page: Page, fonts: FontSet, colours: Mapping[str, str]) -> str:
    """The page as an SVG document; lengths are millimetres."""
    subsets = _subsets(page, fonts)
    names = {path: name for path, (name, _) in subsets.items()}
    style = "".join(_font_face(name, data) for name, data in subsets.values())
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(page.width)}mm" height="{_n(page.height)}mm" '
        f'viewBox="0 0 {_n(page.width)} {_n(page.height)}" role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(page.title)}</title>',
        f'<desc id="description">{escape(page.description)}</desc>',
        f"<style>{style}text{{white-space:pre}}</style>",
        f'<rect width="{_n(page.width)}" height="{_n(page.height)}" fill="{colours["paper"]}"/>',
    ]
    out += [_mark(m, fonts, names, colours) for m in page.marks]
    return "\n".join([*out, "</svg>", ""])


def _subsets(page: Page, fonts: FontSet) -> dict[Path, tuple[str, bytes]]:
    """Each font file in use with a name and its subset. Named by content: two sheets on one web page do not mix."""
    found: dict[Path, list[str]] = {}
    for t in page.texts():
        found.setdefault(fonts.face(t.text, t.style), []).append(t.text)
    out = {}
    for path in sorted(found, key=str):
        data = font_subset(path, found[path])
        out[path] = f"osml-{hashlib.sha256(data).hexdigest()[:12]}", data
    return out


def _font_face(name: str, data: bytes) -> str:
    encoded = base64.b64encode(data).decode("ascii")
    return f'@font-face{{font-family:"{name}";src:url("data:font/ttf;base64,{encoded}")}}\n'


def _mark(mark: Mark, fonts: FontSet, names: Mapping[Path, str], colours: Mapping[str, str]) -> str:
    if isinstance(mark, Group):
        data = "".join(f' data-{key}="{escape(value)}"' for key, value in mark.data)
        inside = "\n".join(_mark(m, fonts, names, colours) for m in mark.marks)
        return f'<g class="{escape(mark.role)}"{data}>\n{inside}\n</g>'
    role = f' class="{escape(mark.role)}"' if mark.role else ""
    if isinstance(mark, Text):
        face = names[fonts.face(mark.text, mark.style)]
        return (
            f'<text{role} x="{_n(mark.x)}" y="{_n(mark.y)}" font-family="{face}, DejaVu Sans, Verdana, sans-serif" '
            f'font-size="{_n(mark.size * MM_PER_PT)}" text-anchor="{mark.anchor}" fill="{colours[mark.ink]}">'
            f"{escape(mark.text)}</text>"
        )
    if isinstance(mark, Line):
        dash = f' stroke-dasharray="{" ".join(_n(d) for d in mark.dash)}"' if mark.dash else ""
        return (
            f'<line{role} x1="{_n(mark.x1)}" y1="{_n(mark.y1)}" x2="{_n(mark.x2)}" y2="{_n(mark.y2)}" '
            f'stroke="{colours[mark.ink]}" stroke-width="{_n(mark.width)}"{dash}/>'
        )
    if isinstance(mark, Polygon):
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in mark.points)
        outline = f' stroke="{colours[mark.outline]}" stroke-width="0.15"' if mark.outline else ""
        return f'<polygon{role} points="{points}" fill="{colours[mark.ink]}"{outline}/>'
    if isinstance(mark, Circle):
        fill = colours[mark.ink] if mark.filled else colours["paper"]
        return (
            f'<circle{role} cx="{_n(mark.x)}" cy="{_n(mark.y)}" r="{_n(mark.r)}" fill="{fill}" '
            f'stroke="{colours[mark.ink]}" stroke-width="0.35"/>'
        )
    raise TypeError(f"unknown mark {mark!r}")


def _n(value: float) -> str:
    """A length to 0.1 micrometre."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value else "0"
