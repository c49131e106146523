"""Which kinds of predictor exist. Explicit: a predictor that is not listed here does not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osml.errors import TrustError
from osml.predictors.autogluon import load_autogluon
from osml.predictors.boosting import load_boosting
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
    """How a kind of predictor is fitted and loaded.

    runs_code : its files are pickles, which run code when they are read
    """

    fit: Callable[[Fitting], Fitted]
    load: Callable[[Path], Fitted]
    runs_code: bool = False


def _fit_nomogram(f: Fitting) -> Fitted:
    return fit_nomogram(recipe_of(f.schema, f.name), f.design, f.seed, final=f.final)


def _fit_radscore(f: Fitting) -> Fitted:
    return fit_radscore(radscore_recipe(f.schema, f.name), f.design, f.seed)


def _fit_network(f: Fitting) -> Fitted:
    from osml.predictors.network_fit import fit_network  # torch, which the other kinds do without

    return fit_network(f.schema, f.name, f.design, f.seed, work=f.work)


def _fit_autogluon(f: Fitting) -> Fitted:
    from osml.predictors.autogluon_fit import fit_autogluon  # pandas and AutoGluon

    return fit_autogluon(f.schema, f.name, f.design, f.seed, work=f.work)


def _fit_boosting(f: Fitting) -> Fitted:
    from osml.predictors.boosting_fit import fit_boosting

    return fit_boosting(f.schema, f.name, f.design, f.seed, work=f.work)


def _fit_stack(f: Fitting) -> Fitted:
    return fit_stack(f.schema, f.name, f.design)


KINDS: dict[str, Kind] = {
    "nomogram": Kind(_fit_nomogram, load_nomogram),
    "radscore": Kind(_fit_radscore, load_radscore),
    "network": Kind(_fit_network, load_network_predictor),
    "stack": Kind(_fit_stack, load_stack),
    "boosting": Kind(_fit_boosting, load_boosting),
    "autogluon": Kind(_fit_autogluon, load_autogluon, runs_code=True),
}


def fit_predictor(fitting: Fitting) -> Fitted:
    """Fit a predictor of a schema on a training design."""
    return KINDS[fitting.schema.predictors[fitting.name].kind].fit(fitting)


def load_predictor(schema: Schema, name: str, folder: Path, *, trust: bool = False) -> Fitted:
    """Load the predictor `name` from a folder.

    Parameters
    ----------
    trust : whether files that run code may be read: whoever wrote them then runs code as this user

    Raises
    ------
    TrustError
        It has such files, and `trust` is false.
    """
    kind = KINDS[schema.predictors[name].kind]
    if kind.runs_code and not trust:
        raise TrustError(
            f"predictor {name!r} is of kind {schema.predictors[name].kind}, whose files are pickles; none was read",
            why="A pickle is a program: reading it runs it, with all that this user may do.",
            do="If you trust whoever made this bundle, give --trust (in Python trust=True); or choose another "
            "predictor, which needs no trust.",
        )
    return kind.load(folder)
