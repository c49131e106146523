"""HTML by small functions that escape whatever is not markup already, so no label of a table can become markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

Path = tuple[str | int, ...]


class Markup(str):
    """Text that is HTML already; every other text is escaped where it enters an element."""

    __slots__ = ()


def markup(content: object) -> Markup:
    """Content as HTML: markup as it is, everything else escaped.

    >>> markup("a < b"), markup(Markup("<b>"))
    ('a &lt; b', '<b>')
    """
    return content if isinstance(content, Markup) else Markup(escape(str(content)))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; None among the children is left out, `_` in attribute names is `-` and a trailing one is dropped.

    >>> tag("p", "x < ", tag("b", "y"), class_="note")
    '<p class="note">x &lt; <b>y</b></p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(markup(child) for child in children if child is not None)
    return Markup(f"<{name}{written}>{inside}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other, escaped unless they are markup."""
    return Markup(escape(between).join(markup(part) for part in parts))


def number(value: float | None, digits: int, path: Path | None = None) -> Markup:
    """A number as it is read, with its full precision and its place in metrics.json as attributes.

    >>> number(0.65639, 2, ("predictors", "a", "out_of_fold", "auc", "value"))
    '<data value="0.65639" data-metric="predictors/a/out_of_fold/auc/value">0.66</data>'
    >>> number(None, 2)
    '–'
    """
    if value is None or not math.isfinite(value):
        return Markup("–")
    shown = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
    place = None if path is None else "/".join(map(str, path))
    return tag("data", shown, value=repr(value), data_metric=place)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], caption: object, *, text_columns: int = 1
) -> Markup:
    """A table that scrolls by itself where it is too wide; the first `text_columns` columns hold text.

    Floats are shown to four figures, None as a dash.
    """
    head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    body = [
        tag(
            "tr",
            *(tag("td", _cell(cell), class_=None if k < text_columns else "number") for k, cell in enumerate(row)),
        )
        for row in rows
    ]
    grid = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", grid, class_="scroll", tabindex="0", role="region", aria_label=_plain(caption))


def bullets(items: Sequence[object]) -> Markup | None:
    """A list, or None when there is nothing to list."""
    return tag("ul", *(tag("li", item) for item in items)) if items else None


def details(summary: object, *content: object) -> Markup:
    """What is folded away on a screen and open on paper."""
    return tag("details", tag("summary", summary), *content)


def _cell(cell: object) -> object:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, float):
        return f"{cell:.4g}".replace("-", "\N{MINUS SIGN}")
    return cell


def _plain(content: Any) -> str:
    text = str(content)
    if isinstance(content, Markup):
        import re
        from html import unescape

        text = unescape(re.sub(r"<[^>]+>", "", text))
    return text[:120]
