"""What the cells of one column show: missing tokens, numbers, levels, dates, paths, identifiers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from osml.cohort.checks import counts_rows, identifier_words

MISSING_TOKENS = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "-", "--", ".", "?", "null", "NULL", "#N/A", "#NULL!"}
)
# In a column of numbers these mean missing; among texts they may be a level ("None": no metastasis).
_MISSING_AMONG_NUMBERS = frozenset({"none", "unknown", "missing", "nd", "not done", "na", "n.a.", "nil"})
MAX_LEVELS = 12

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥)\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?|[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})")
_FILE = re.compile(
    r".*\.(nii(\.gz)?|nrrd|mha|mhd|dcm|dicom|png|jpe?g|tiff?|svs|ndpi|mrxs|bmp|json|geojson|csv|zip)", re.I
)


@dataclass(frozen=True)
class Seen:
    """One column: distinct values that are not missing (`levels`), their counts, and what they look like.

    `missing` counts cells by token, `numeric` is "" unless every other cell is a number or a reporting limit,
    `unusable` says why the column cannot be an input.
    """

    column: str
    rows: int
    levels: tuple[str, ...]
    counts: dict[str, int]
    missing: dict[str, int]
    numeric: Literal["", "whole", "real"]
    low: float
    high: float
    below: tuple[str, ...]
    above: tuple[str, ...]
    padded: int
    identifier: bool
    unusable: str

    @property
    def dates(self) -> bool:
        """Whether the column holds dates, which name nobody."""
        return self.unusable.startswith("dates")

    @property
    def blank(self) -> int:
        """Cells that read like missing."""
        return sum(self.missing.values())

    @property
    def is_number(self) -> bool:
        """Whether it is drafted as a number: numeric with more than two values."""
        return bool(self.numeric) and (len(self.levels) > 2 or bool(self.below or self.above))


def look(column: str, cells: Sequence[str]) -> Seen:
    """Count and classify the cells of one column.

    >>> seen = look("ldh", ["180", "<100", "NA", "", "250.5"])
    >>> seen.numeric, seen.missing, seen.below, (seen.low, seen.high)
    ('real', {'NA': 1, '': 1}, ('<100',), (180.0, 250.5))
    >>> look("fracture", ["None", "Yes", "None"]).levels
    ('None', 'Yes')
    """
    counts = Counter(cells)
    missing = {cell: n for cell, n in counts.items() if cell.strip() in MISSING_TOKENS}
    if any(cell.startswith("+") and not _NUMBER.fullmatch(cell) for cell in counts):
        missing.pop("-", None)  # "-" beside "+" is a finding
    rest = {cell: n for cell, n in counts.items() if cell not in missing}
    numbers = {cell for cell in rest if _NUMBER.fullmatch(cell.strip())}
    limits = {cell for cell in rest if _LIMIT.fullmatch(cell.strip())}
    tokens = {cell for cell in rest if cell.strip().lower() in _MISSING_AMONG_NUMBERS}
    if len(numbers) > 2 and numbers | limits | tokens == set(rest):
        missing |= {cell: rest.pop(cell) for cell in tokens}
    numeric: Literal["", "whole", "real"] = ""
    if numbers and numbers | limits == set(rest):
        numeric = "whole" if all(_WHOLE.fullmatch(cell.strip()) for cell in numbers) else "real"
    values = [float(cell) for cell in numbers] if numeric else []
    seen = Seen(
        column=column,
        rows=len(cells),
        levels=_ordered(rest, numeric),
        counts=rest,
        missing=missing,
        numeric=numeric,
        low=min(values, default=0.0),
        high=max(values, default=0.0),
        below=tuple(cell for cell in cells if cell in limits and cell.strip()[0] in "<≤"),
        above=tuple(cell for cell in cells if cell in limits and cell.strip()[0] in ">≥"),
        padded=sum(n for cell, n in rest.items() if cell != cell.strip()),
        identifier=False,
        unusable="",
    )
    return _judged(seen)


def _ordered(counts: dict[str, int], numeric: str) -> tuple[str, ...]:
    """Numbers ascending, an absence before its finding, else the most frequent first."""
    if numeric:
        return tuple(sorted(counts, key=lambda cell: (float(cell.strip().lstrip("<>=≤≥ ")), cell)))
    absent = ("no", "none", "negative", "absent", "-", "false")
    return tuple(sorted(counts, key=lambda cell: (cell.strip().lower() not in absent, -counts[cell], cell)))


def _judged(s: Seen) -> Seen:
    identifier, reason = _identifier(s)
    return replace(s, identifier=identifier, unusable=reason or _unusable(s))


def _identifier(s: Seen) -> tuple[bool, str]:
    known, distinct = sum(s.counts.values()), len(s.levels)
    words = identifier_words(s.column)
    if words:
        return True, f"named like an identifier ({', '.join(words)}); {distinct} distinct values in {s.rows} rows"
    if s.numeric == "whole" and distinct == known >= 10:
        if s.high - s.low == distinct - 1 and counts_rows(s.low, distinct):
            return True, f"counts the rows: {s.low:g} to {s.high:g}"
        if s.low >= 100_000:
            return True, f"another whole number of {len(f'{s.high:.0f}')} digits in every row, as an identifier has"
    return False, ""


def _unusable(s: Seen) -> str:
    known, distinct = sum(s.counts.values()), len(s.levels)
    if s.column == "?":
        return "give the column a name first"
    if distinct == 0:
        return "every cell is missing"
    if distinct == 1:
        gaps = f", {s.blank} cells missing" if s.blank else ""
        return f"one value only ({_short(s.levels[0])}){gaps}"
    if s.numeric:
        return ""
    for pattern, words in (
        (_FILE, "file paths"),
        (_DATE, "dates; usable in `validation.split` (kind: time), not as an input"),
    ):
        if all(pattern.fullmatch(cell.strip()) for cell in s.levels):
            return words
    odd = [cell for cell in s.levels if not _NUMBER.fullmatch(cell.strip())]
    if any(_COMMA.fullmatch(cell.strip()) for cell in odd):
        comma = next(cell for cell in odd if _COMMA.fullmatch(cell.strip()))
        return f"decimal commas, e.g. {_short(comma)}: write points instead"
    numeric_cells = known - sum(s.counts[cell] for cell in odd)
    if distinct > MAX_LEVELS and numeric_cells > known / 2:
        return f"numbers, but {known - numeric_cells} cells are not: {', '.join(_short(cell) for cell in odd[:5])}"
    if distinct > MAX_LEVELS or (distinct > 2 and distinct > known / 2):
        return f"free text or too many levels: {distinct} distinct values in {known} cells"
    return ""


def _short(text: str) -> str:
    """A cell for a comment: quoted, on one line."""
    return ascii(text if len(text) <= 40 else text[:39] + "…") if not text.isprintable() else repr(text[:40])
