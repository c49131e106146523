"""AutoGluon's pickles without what only tells of their making: times, places, and which fold held each row out.

For files that this process made a moment ago, and for no others: it unpickles them.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

_TIME = re.compile(r"(^|_)time(_|$)")
_WALKED = ("autogluon.", "osml.", "networkx.", "sklearn.")
NOWHERE = "_"
PROTOCOL = 4


def timeless(files: Mapping[str, bytes], place: Path) -> dict[str, bytes]:
    """The same files, so that equal models have equal bytes, wherever and whenever they were fitted.

    Fit and prediction times become 0, paths below `place` lead nowhere (AutoGluon replaces them when it loads), and the
    series of folds, of which prediction needs nothing, is dropped.
    """
    return {name: _cleaned(raw, str(place)) if name.endswith(".pkl") else raw for name, raw in files.items()}


def _cleaned(raw: bytes, place: str) -> bytes:
    whole = pickle.loads(raw)  # noqa: S301  # fitted by this process, see above
    _clean(whole, place, set())
    return pickle.dumps(whole, protocol=PROTOCOL)


def _clean(value: Any, place: str, seen: set[int]) -> None:
    """Change what is found below an object of AutoGluon; arrays, trees and boosters are left alone."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        for item in value:
            _clean(item, place, seen)
        return
    walked = type(value).__module__.startswith(_WALKED) and hasattr(value, "__dict__")
    if not (walked or isinstance(value, dict)):
        return
    inside = value if isinstance(value, dict) else vars(value)
    for key, item in list(inside.items()):
        name = key if isinstance(key, str) else ""
        if isinstance(item, float) and _TIME.search(name):
            inside[key] = 0.0
        elif isinstance(item, str) and place in item:
            inside[key] = item.replace(place, NOWHERE)
        elif isinstance(item, pd.Series) and name.endswith("groups"):
            inside[key] = None
        else:
            _clean(item, place, seen)
