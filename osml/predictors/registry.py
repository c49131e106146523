"""Which kinds of predictor exist. Explicit: a predictor that is not listed here does not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osml.predictors.contract import Design, Fitted
from osml.predictors.network import load_network_predictor
from osml.predictors.nomogram import fit_nomogram, load_nomogram
from osml.predictors.radscore import load_radscore, radscore_recipe
from osml.predictors.radscore_fit import fit_radscore
from osml.predictors.recipe import recipe_of
from osml.predictors.stack import fit_stack, load_stack
from osml.schema.model import Schema


@dataclass(frozen=True)
class Fitting:
    """What a predictor is fitted with.

    final : the fit on all patients that is deployed; also learns what intervals need
    work : folder in which a long training is stored and continued; None: nothing is kept
    """

    schema: Schema
    name: str
    design: Design
    seed: np.random.SeedSequence
    final: bool = False
    work: Path | None = None


@dataclass(frozen=True)
class Kind:
    """How a kind of predictor is fitted and loaded."""

    fit: Callable[[Fitting], Fitted]
    load: Callable[[Path], Fitted]


def _fit_nomogram(f: Fitting) -> Fitted:
    return fit_nomogram(recipe_of(f.schema, f.name), f.design, f.seed, final=f.final)


def _fit_radscore(f: Fitting) -> Fitted:
    return fit_radscore(radscore_recipe(f.schema, f.name), f.design, f.seed)


def _fit_network(f: Fitting) -> Fitted:
    from osml.predictors.network_fit import fit_network  # torch, which the other kinds do without

    return fit_network(f.schema, f.name, f.design, f.seed, work=f.work)


def _fit_stack(f: Fitting) -> Fitted:
    return fit_stack(f.schema, f.name, f.design)


KINDS: dict[str, Kind] = {
    "nomogram": Kind(_fit_nomogram, load_nomogram),
    "radscore": Kind(_fit_radscore, load_radscore),
    "network": Kind(_fit_network, load_network_predictor),
    "stack": Kind(_fit_stack, load_stack),
}


def fit_predictor(fitting: Fitting) -> Fitted:
    """Fit a predictor of a schema on a training design."""
    return KINDS[fitting.schema.predictors[fitting.name].kind].fit(fitting)


def load_predictor(schema: Schema, name: str, folder: Path) -> Fitted:
    """Load the predictor `name` from a folder."""
    return KINDS[schema.predictors[name].kind].load(folder)
