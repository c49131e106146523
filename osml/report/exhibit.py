"""One figure of the report with everything that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Exhibit:
    """A figure, or why there is none.

    Attributes
    ----------
    name : str
        File name without its ending, and id in the page.
    title : str
    caption : object
        What is drawn and which predictions it uses.
    figure : Figure or None
    header, data
        What is drawn, in full, for the CSV.
    shown : rows or None
        What of it stands in the page; None shows all of `data`.
    shown_header : sequence of str
        Columns of `shown` where they are not those of `data`.
    reason : str
        Why there is no figure.
    picture : bytes
        Instead of `figure`: a PNG that the fit left in the run.
    wide : bool
        Takes the whole width of the page, and scrolls on a phone.
    """

    name: str
    title: str
    caption: object = ""
    figure: Figure | None = None
    header: Sequence[str] = ()
    data: Rows = ()
    shown: Rows | None = None
    shown_header: Sequence[str] = ()
    reason: str = ""
    picture: bytes = b""
    wide: bool = False

    @property
    def drawn(self) -> bool:
        """Whether there is something to look at."""
        return self.figure is not None or bool(self.picture)


def unavailable(name: str, title: str, reason: str) -> Exhibit:
    """The place of a figure that these data do not give."""
    return Exhibit(name, title, reason=reason)
