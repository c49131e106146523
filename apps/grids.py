"""Small tables as HTML with headings and a name, that a keyboard can scroll where a phone is too narrow for them.

Streamlit's own tables scroll in a box that no key reaches. Every text is escaped: nothing in a cell is a tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

_STYLE = """<style>
.osml-grid {overflow-x: auto; border: 1px solid rgba(128, 128, 128, .35); border-radius: .5rem; margin-bottom: .5rem}
.osml-grid table {border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.5}
.osml-grid :is(th, td) {padding: .25rem .5rem; text-align: left; vertical-align: top; font-weight: inherit}
.osml-grid th {font-weight: 600}
.osml-grid tbody tr {border-top: 1px solid rgba(128, 128, 128, .35)}
</style>"""


def grid_html(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> str:
    """The table; `name` is what a screen reader calls it.

    >>> grid_html(["a"], [["<b>"]], "")[len(_STYLE) :].split("</thead>")[1]
    '<tbody><tr><td>&lt;b&gt;</td></tr></tbody></table></div>'
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    called = escape(name or f"Table: {', '.join(cell for cell in header if cell)}")
    return (
        f'{_STYLE}<div class="osml-grid" role="region" tabindex="0" aria-label="{called}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def show_cells(header: Sequence[str], rows: Sequence[Sequence[str]], name: str = "") -> None:
    """Put a table on the page."""
    st.html(grid_html(header, rows, name))
