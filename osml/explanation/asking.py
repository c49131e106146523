"""A model is asked once for all rows that its SHAP values need, where asking costs more than rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from osml.explanation.permutation import Predict
from osml.explanation.values import Shap

Float = NDArray[np.float64]
Way = Callable[[Predict], Shap]


def asked(way: Way) -> dict[str, Float]:
    """The rows, in their order, of which a way of computing SHAP values asks a model.

    Nothing that it asks may depend on an answer, which is so for coalitions and for orders drawn beforehand.
    """
    rows: list[Mapping[str, Float]] = []

    def note(mixed: Mapping[str, Float]) -> Float:
        rows.append({name: x.copy() for name, x in mixed.items()})
        return np.zeros(len(next(iter(mixed.values()))))

    way(note)
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def replayed(way: Way, answers: Float) -> Shap:
    """The SHAP values that follow from the answers (n,) to the rows of `asked`."""
    at = 0

    def answer(mixed: Mapping[str, Float]) -> Float:
        nonlocal at
        n = len(next(iter(mixed.values())))
        at += n
        return answers[at - n : at]

    return way(answer)
