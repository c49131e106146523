"""Problems of predictors of kind `boosting`, and of searches of settings. Works on the raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from osml.schema.document import Key, Problem

INSTALL = "Install it with: pip install 'osml[automl]'"


def tabular_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """All problems that concern boosting predictors and searches."""
    inputs, predictors, validation = data.get("inputs"), data.get("predictors"), data.get("validation")
    inner = not (isinstance(validation, dict) and validation.get("inner") == "none")
    for name, block in predictors.items() if isinstance(predictors, dict) else ():
        if not isinstance(block, dict):
            continue
        path: tuple[Key, ...] = ("predictors", name)
        if block.get("kind") == "boosting":
            yield from _boosting(path, block, inputs if isinstance(inputs, dict) else {}, inner)
        if block.get("kind") in ("boosting", "network") and block.get("search") is not None:
            yield from _search(path, block, inner)


def _boosting(
    path: tuple[Key, ...], block: Mapping[str, Any], inputs: Mapping[str, Any], inner: bool
) -> Iterator[Problem]:
    if find_spec("lightgbm") is None:
        yield Problem((*path, "kind"), "lightgbm is not installed; this kind needs it", INSTALL)
    used = block.get("inputs")
    for i, item in enumerate(used if isinstance(used, list) else ()):
        source = inputs.get(item) if isinstance(item, str) else None
        if not isinstance(source, dict):
            continue
        if source.get("kind") == "volume" and "mask" not in source:
            message = f"{item!r} has no mask: its vectors are of the slices in which the lesion is largest"
            yield Problem((*path, "inputs", i), message, f"Add `mask: {{column: …}}` to input {item!r}.")
        elif source.get("harmonise") is not None:
            yield Problem((*path, "inputs", i), f"{item!r} is harmonised over sites, which only Rad-scores do")
    if not inner and block.get("rounds") is None:
        message = "the number of trees is found on inner folds, but `validation.inner` is none"
        yield Problem(path, message, "Give `rounds`, or `inner: {folds: 5}`.")
    if not inner and block.get("calibrate"):
        message = "calibrate learns from inner out-of-fold scores, but `validation.inner` is none"
        yield Problem((*path, "calibrate"), message, "Give `inner: {folds: 5}`.")


def _search(path: tuple[Key, ...], block: Mapping[str, Any], inner: bool) -> Iterator[Problem]:
    if find_spec("optuna") is None:
        yield Problem((*path, "search"), "optuna is not installed; a search needs it", INSTALL)
    if not inner:
        message = "settings are judged on inner folds, but `validation.inner` is none"
        yield Problem((*path, "search"), message, "Remove it, or give `inner: {folds: 5}`.")
