"""Colours and page formats. Colours are Okabe-Ito; every one of them is doubled by a dash, a marker or words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from osml.errors import InvalidInputError
from osml.nomogram.fonts import MM_PER_PT

THEMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "print": MappingProxyType(
            {
                "paper": "#ffffff",
                "ink": "#111111",
                "muted": "#4d4d4d",
                "grid": "#e4e4e4",
                "strip": "#a9cbe3",
                "shade": "#dfe9f0",
                "accent": "#0072b2",
                "patient": "#b84f00",
                "warning": "#a63f00",
            }
        ),
        "screen": MappingProxyType(
            {
                "paper": "#12161b",
                "ink": "#f2f2f2",
                "muted": "#b9c0c7",
                "grid": "#2b323a",
                "strip": "#2f5d7c",
                "shade": "#22384a",
                "accent": "#56b4e9",
                "patient": "#e69f00",
                "warning": "#e69f00",
            }
        ),
    }
)


@dataclass(frozen=True)
class PageStyle:
    """A page format: sizes in mm, type in points. `height` None = as tall as needed."""

    name: str
    width: float
    height: float | None
    margin: float
    label_width: float
    title: float
    text: float
    small: float
    sheet: bool

    @property
    def line(self) -> float:
        """Line height of small text, mm."""
        return 1.22 * self.small * MM_PER_PT


PAGES: Mapping[str, PageStyle] = MappingProxyType(
    {
        "a4": PageStyle("a4", 297.0, 210.0, 11.0, 60.0, 14.0, 9.5, 9.0, True),
        "letter": PageStyle("letter", 279.4, 215.9, 11.0, 57.0, 14.0, 9.5, 9.0, True),
        "column": PageStyle("column", 180.0, None, 3.0, 42.0, 8.5, 7.5, 7.0, False),
    }
)


def page_style(name: str) -> PageStyle:
    """The page format of that name."""
    if name not in PAGES:
        raise InvalidInputError(f"unknown page {name!r}", do=f"Pages: {', '.join(PAGES)}.")
    return PAGES[name]


def theme_colours(name: str) -> Mapping[str, str]:
    """The colours of that theme."""
    if name not in THEMES:
        raise InvalidInputError(f"unknown theme {name!r}", do=f"Themes: {', '.join(THEMES)}.")
    return THEMES[name]
