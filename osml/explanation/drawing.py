"""One hand for all figures of a study: size, colours, and the files a figure becomes. No global matplotlib state.

Okabe-Ito colours, and never colour alone: each series also has its dash and its marker.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osml.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID, PAPER = "#1b1f24", "#5b6470", "#d5dae0", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#007a5a", "#a8558a"
WIDTH_IN = 4.8
RESOLUTION_DPI = 200
# Where a page may be dark, the colours are names that its style sheet resolves.
_NAMED = {
    INK: "--ink", QUIET: "--quiet", GRID: "--grid", PAPER: "--paper",
    BLUE: "--blue", VERMILLION: "--vermillion", GREEN: "--green", PURPLE: "--purple",
}  # fmt: skip
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei")


@dataclass(frozen=True)
class Series:
    """How the k-th series of a figure is told apart: colour, dash and marker."""

    colour: str
    dash: Any
    marker: str


SERIES = (
    Series(BLUE, "-", "o"),
    Series(VERMILLION, (0, (5, 2)), "s"),
    Series(GREEN, (0, (5, 2, 1, 2)), "^"),
    Series(PURPLE, (0, (1, 1.5)), "D"),
)


def wide_fonts() -> tuple[Path, ...]:
    """Files of the fonts on this machine that hold characters which DejaVu Sans lacks, such as Chinese."""
    from matplotlib.font_manager import fontManager

    files = {entry.name: entry.fname for entry in fontManager.ttflist if entry.weight in (400, "normal")}
    return tuple(Path(files[name]) for name in _WIDE_FONTS if name in files)


def pen(**changes: Any) -> AbstractContextManager[None]:
    """Settings inside which figures are made and saved; labels are text, never markup."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    # Fonts of another weight are left out: matplotlib would complain of them at every label.
    installed = {entry.name for entry in fontManager.ttflist if entry.weight in (400, "normal")}
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed)],
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.6,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "osml",
    }
    settings.update({key.replace("_", "."): value for key, value in changes.items()})
    return matplotlib.rc_context(settings)


def new_figure(height_in: float = 4.0, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure in the common width; to be made and drawn inside `pen()`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def grid(axes: Axes, axis: Any = "both") -> None:
    """Quiet lines behind the data."""
    axes.grid(True, axis=axis)


def unit_square(axes: Axes, ticks: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8, 1.0)) -> None:
    """Both axes from 0 to 1 in the same scale."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xticks(list(ticks))
    axes.set_yticks(list(ticks))
    grid(axes)


def save(figure: Figure, folder: Path, name: str) -> None:
    """`<name>.pdf` and `<name>.png`; the same figure gives the same bytes, without times."""
    with pen():
        for ending, facts in (("pdf", {"CreationDate": None, "ModDate": None}), ("png", {"Software": None})):
            sink = io.BytesIO()
            figure.savefig(sink, format=ending, dpi=RESOLUTION_DPI, metadata=facts)
            atomic_write(folder / f"{name}.{ending}", sink.getvalue())
            # Laid out once is enough, and the files then agree in every position.
            figure.set_layout_engine("none")


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an `<svg>` element for a page: ids its own, colours by name, text as text.

    Parameters
    ----------
    name : makes ids unique in the page; letters, digits, dashes
    title : what a screen reader says
    """
    sink = io.StringIO()
    with pen():
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, variable in _NAMED.items():
        text = re.sub(f"(fill|stroke): {colour}", rf"\1: var({variable})", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    body = text[text.index(">") + 1 :].strip()
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    label = escape(title, quote=True)
    return f'<svg {links} viewBox="{box[1]}" role="img" aria-label="{label}"><title>{escape(title)}</title>\n{body}\n'
