"""Fonts of a sheet: which file holds a text's glyphs, how wide the text is, and the part of a file to embed."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from osml.errors import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

# matplotlib and fontTools are imported where they are used: predicting with a nomogram needs neither.

Style = Literal["regular", "bold", "italic"]
MM_PER_PT = 25.4 / 72
_BUILT_IN = {"regular": "DejaVuSans.ttf", "bold": "DejaVuSans-Bold.ttf", "italic": "DejaVuSans-Oblique.ttf"}


def built_in(style: Style) -> Path:
    """The DejaVu Sans file that matplotlib ships."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / _BUILT_IN[style]


class FontSet:
    """DejaVu Sans, then the given font files, in that order.

    One text is set in one font: the first that holds all its characters.

    Parameters
    ----------
    extra : sequence of paths
        TrueType or OpenType files, such as a CJK font.

    Raises
    ------
    InvalidInputError
        A file that is no font.
    """

    def __init__(self, extra: Sequence[str | Path] = ()) -> None:
        self.extra = tuple(Path(p) for p in extra)
        for path in self.extra:
            if not path.is_file():
                raise InvalidInputError(f"font file {path} does not exist")
            try:
                _font(path)
            except RuntimeError as error:
                raise InvalidInputError(f"{path} is not a font that can be read: {error}") from error

    def face(self, text: str, style: Style = "regular") -> Path:
        """File in which `text` is set.

        Raises
        ------
        InvalidInputError
            No font holds all the characters; the message names them and how to give a font.
        """
        candidates = (built_in(style), *self.extra)
        needed = {ord(c) for c in text}
        for path in candidates:
            if needed <= _coverage(path):
                return path
        best = min(candidates, key=lambda p: len(needed - _coverage(p)))
        missing = sorted(needed - _coverage(best))
        named = ", ".join(f"{chr(c)!r} (U+{c:04X} {unicodedata.name(chr(c), 'unnamed').lower()})" for c in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise InvalidInputError(
            f"no single font has every character of {text!r}: {best.name} lacks {named}{more}",
            why="A missing glyph would print as an empty box.",
            do="Give a font file that has them: fonts=['/path/to/font.ttf'].",
        )

    def width(self, text: str, size: float, style: Style = "regular") -> float:
        """Advance width in mm of `text` at `size` points (without kerning: never too small for it)."""
        path = self.face(text, style)
        return sum(_advance(path, ord(c)) for c in text) * size * MM_PER_PT

    def wrap(self, text: str, size: float, limit: float, style: Style = "regular") -> list[str]:
        """Lines no wider than `limit` mm, broken at spaces, else (or without spaces) between characters.

        A separating dot stays with the word before it.
        """
        lines: list[str] = []
        line = ""
        for word in text.replace(" · ", "\0· ").split(" "):
            word = word.replace("\0", " ")
            trial = f"{line} {word}" if line else word
            if self.width(trial, size, style) <= limit:
                line = trial
                continue
            if line:
                lines.append(line)
            while self.width(word, size, style) > limit and len(word) > 1:
                cut = 1
                while cut < len(word) and self.width(word[: cut + 1], size, style) <= limit:
                    cut += 1
                lines.append(word[:cut])
                word = word[cut:]
            line = word
        return [*lines, line] if line or not lines else lines


@cache
def _font(path: Path) -> FT2Font:
    from matplotlib.font_manager import get_font

    return get_font(str(path))


@cache
def _coverage(path: Path) -> frozenset[int]:
    return frozenset(_font(path).get_charmap())


@cache
def _advance(path: Path, code: int) -> float:
    """Advance of a character, in em."""
    from matplotlib.ft2font import LoadFlags

    font = _font(path)
    font.set_size(100, 72)
    return font.load_char(code, flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100


def font_subset(path: Path, texts: Iterable[str]) -> bytes:
    """The font file reduced to the characters of `texts`: the same bytes for the same characters."""
    from fontTools import subset  # type: ignore[import-untyped]
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

    try:
        font = TTFont(path, fontNumber=0, recalcTimestamp=False, lazy=True)
    except TTLibError as error:
        raise InvalidInputError(f"{path} cannot be embedded: {error}") from error
    options = subset.Options(hinting=False, layout_features=["kern", "mark", "mkmk", "ccmp"], notdef_outline=True)
    options.drop_tables += ["FFTM", "BDF"]
    worker = subset.Subsetter(options)
    worker.populate(unicodes=sorted({ord(c) for text in texts for c in text}))
    worker.subset(font)
    out = io.BytesIO()
    font.save(out, reorderTables=True)
    return out.getvalue()
