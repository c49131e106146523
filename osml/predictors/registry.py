"""Which kinds of predictor exist. Explicit: a predictor that is not listed here does not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osml.predictors.contract import Design, Fitted
from osml.predictors.nomogram import fit_nomogram, load_nomogram
from osml.predictors.radscore import load_radscore, radscore_recipe
from osml.predictors.radscore_fit import fit_radscore
from osml.predictors.recipe import recipe_of
from osml.schema.model import Schema


@dataclass(frozen=True)
class Kind:
    """How a kind of predictor is fitted and loaded."""

    fit: Callable[[Schema, str, Design, np.random.SeedSequence, bool], Fitted]
    load: Callable[[Path], Fitted]


def _fit_nomogram(schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, final: bool) -> Fitted:
    return fit_nomogram(recipe_of(schema, name), design, seed, final=final)


def _fit_radscore(schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, final: bool) -> Fitted:
    return fit_radscore(radscore_recipe(schema, name), design, seed)


KINDS: dict[str, Kind] = {
    "nomogram": Kind(_fit_nomogram, load_nomogram),
    "radscore": Kind(_fit_radscore, load_radscore),
}


def fit_predictor(schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, *, final: bool) -> Fitted:
    """Fit the predictor `name` of a schema on a training design."""
    return KINDS[schema.predictors[name].kind].fit(schema, name, design, seed, final)


def load_predictor(schema: Schema, name: str, folder: Path) -> Fitted:
    """Load the predictor `name` from a folder."""
    return KINDS[schema.predictors[name].kind].load(folder)
