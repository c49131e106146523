"""What was probably meant: the closest allowed names to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed name nearest to `word`, ignoring case, blanks and underscores; None when nothing is near.

    >>> closest("avialable", ["available", "kind"])
    'available'
    """
    names = list(allowed)
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(_fold(name), name)
    if _fold(word) in folded:
        return folded[_fold(word)]
    near = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def hint(word: str, allowed: Iterable[str], limit: int = 12) -> str:
    """`Did you mean 'x'? Allowed: …`, for an error message."""
    names = list(dict.fromkeys(allowed))
    guess = closest(word, names)
    shown = ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
    return (f"Did you mean {guess!r}? " if guess is not None else "") + f"Allowed: {shown}."


def _fold(word: str) -> str:
    return "".join(ch for ch in word.casefold() if ch not in " _-.")
