"""Problems of predictors of kind `autogluon`, that its package is absent among them. Works on the raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from osml.schema.document import Key, Problem

PACKAGES = ("autogluon.tabular", "lightgbm")
LONG = ("high_quality", "best_quality")
SURVIVAL = "AutoGluon has no objective for censored times: it would take patients lost early for patients without event"


def autogluon_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """All problems that concern predictors of kind autogluon."""
    predictors, validation = data.get("predictors"), data.get("validation")
    target = data.get("target")
    kind = target.get("kind") if isinstance(target, dict) else None
    inner = not (isinstance(validation, dict) and validation.get("inner") == "none")
    for name, block in predictors.items() if isinstance(predictors, dict) else ():
        if isinstance(block, dict) and block.get("kind") == "autogluon":
            inputs = data.get("inputs")
            yield from _one(("predictors", name), block, kind, inner)
            yield from _inputs(("predictors", name), block, inputs if isinstance(inputs, dict) else {})


def absent_packages() -> tuple[str, ...]:
    """Packages of the extra `autogluon` that are not installed."""
    return tuple(package for package in PACKAGES if not _installed(package))


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the namespace in which it would lie
        return False


def _one(path: tuple[Key, ...], block: Mapping[str, Any], target: Any, inner: bool) -> Iterator[Problem]:
    absent = absent_packages()
    if absent:
        message = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; this kind needs it"
        yield Problem((*path, "kind"), message, "Install it with: pip install 'osml[autogluon]'")
    if target == "survival":
        yield Problem((*path, "kind"), SURVIVAL, "Use `kind: nomogram`, `boosting` or `network`.")
    if not inner:
        message = "its models are bagged over inner folds of patients, but `validation.inner` is none"
        yield Problem(path, message, "Give `inner: {folds: 5}`.")
    presets = block.get("presets")
    if presets in LONG and block.get("time_limit") is None:
        message = f"{presets} tries 34 models in every inner fold of every fold, some of them slow"
        yield Problem((*path, "presets"), message, "Give `time_limit` in seconds, or use `presets: small_n`.")


def _inputs(path: tuple[Key, ...], block: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[Problem]:
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
