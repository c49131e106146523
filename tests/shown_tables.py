"""Tables that a page of the app shows, read back from the HTML as a browser would read them."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from typing import Any


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def tables_of(app: Any) -> list[list[list[str]]]:
    """Every table as rows of cells, the headings first. No tag but those of a table may be in it."""
    out = []
    for block in app.get("html"):
        reader = _Reader()
        reader.feed(block.proto.body)
        assert reader.tags <= {"style", "div", "table", "thead", "tbody", "tr", "th", "td"}
        if reader.tags != {"style"}:
            out.append(reader.rows)
    return out


def csv_of(app: Any) -> str:
    """All tables as CSV, one below the other."""
    text = io.StringIO()
    for rows in tables_of(app):
        csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
