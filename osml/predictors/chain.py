"""A predictor together with the predictors that feed it, fitted so that no score is ever seen by its own training rows.

At fit, an upstream score is out-of-fold: for every inner fold (grouped by original patient) the upstream predictor is
fitted on the rest and scores that fold. At predict, the upstream predictor fitted on all training patients scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, SurvivalOutcome
from osml.cohort.splits import derive_seed, inner_folds
from osml.predictors.contract import Design, Fitted, Prediction
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.registry import Fitting, fit_predictor, load_predictor
from osml.schema.model import Schema
from osml.schema.networks import StackPredictor


@dataclass(frozen=True)
class Chain:
    """A fitted predictor and the fitted predictors whose scores it takes."""

    name: str
    fitted: Fitted
    upstream: tuple[Chain, ...] = ()

    def predict(self, cohort: Cohort) -> Prediction:
        """Predict units; their outcomes are removed first, so nothing can look at them."""
        hidden = cohort.without_outcome()
        upstream = [link.predict(hidden) for link in self.upstream]
        scores = {link.name: found.lp for link, found in zip(self.upstream, upstream, strict=True)}
        own = self.fitted.predict(Design(hidden, scores))
        # What a feeding predictor imputed or had to extrapolate concerns this prediction too.
        flags = dict.fromkeys(flag for found in (own, *upstream) for flag in found.flags)
        return replace(own, flags=tuple(flags))

    def design(self, cohort: Cohort) -> Design:
        """The units with the scores of the upstream predictors."""
        return Design(cohort, {link.name: link.predict(cohort).lp for link in self.upstream})

    def unusable(self, cohort: Cohort) -> dict[int, str]:
        """Units that this chain cannot score although their cells can be read: position → why."""
        out: dict[int, str] = {}
        for link in self.upstream:
            out |= link.unusable(cohort)
        if isinstance(self.fitted, FittedNomogram):
            recipe = self.fitted.recipe
            names = self.fitted.model.inputs if self.fitted.imputer is None else [item.name for item in recipe.inputs]
            out |= recipe.unusable(cohort, names)
        return out

    def save(self, folder: Path) -> None:
        """Each predictor in its own folder: this one here, those that feed it under `upstream/<name>`."""
        self.fitted.save(folder)
        for link in self.upstream:
            link.save(folder / "upstream" / link.name)


def upstream_of(schema: Schema, name: str) -> list[str]:
    """Predictors named among the inputs of a predictor."""
    return [item for item in schema.predictors[name].inputs if item in schema.predictors]


def training_design(
    schema: Schema, name: str, cohort: Cohort, seed: tuple[int, int, int], *, work: Path | None = None
) -> tuple[Design, tuple[Chain, ...]]:
    """Design with out-of-fold upstream scores, and the upstream chains fitted on all of `cohort`."""
    scores: dict[str, NDArray[np.float64]] = {}
    links = []
    block = schema.predictors[name]
    plain = (
        isinstance(block, StackPredictor) and block.method == "mean" and not isinstance(cohort.outcome, SurvivalOutcome)
    )
    for source in upstream_of(schema, name):
        links.append(fit_chain(schema, source, cohort, seed, work=None if work is None else work / source))
        # A mean learns nothing from scores, so none have to be out-of-fold.
        scores[source] = links[-1].predict(cohort).lp if plain else out_of_fold(schema, source, cohort, seed)
    return Design(cohort, scores), tuple(links)


def out_of_fold(schema: Schema, name: str, cohort: Cohort, seed: tuple[int, int, int]) -> NDArray[np.float64]:
    """Linear predictor of every unit by a chain that was fitted without its patient: (n,), of classes (n, nodes)."""
    inner = schema.validation.inner
    folds = inner_folds(cohort, 5 if inner == "none" else inner.folds, derive_seed(*seed, f"inner:{name}"))
    score: NDArray[np.float64] | None = None
    patients = np.array(cohort.patients, dtype=object)
    for fold in folds:
        chain = fit_chain(schema, name, cohort.of(fold.train), seed)
        held_out = np.isin(patients, np.array(fold.test, dtype=object))
        lp = chain.predict(cohort.of(fold.test)).lp
        score = np.full((len(cohort), *lp.shape[1:]), np.nan) if score is None else score
        score[held_out] = lp
    assert score is not None
    return score


def fit_chain(
    schema: Schema,
    name: str,
    cohort: Cohort,
    seed: tuple[int, int, int],
    *,
    final: bool = False,
    work: Path | None = None,
) -> Chain:
    """Fit a predictor and what feeds it on training patients.

    seed : (master, repeat, fold); the predictor's name is added, so other predictors' draws do not change
    final : the fit on all patients that is deployed; also learns what intervals need
    work : folder in which long training is stored and continued; none: nothing is kept
    """
    design, links = training_design(schema, name, cohort, seed, work=work)
    fitted = fit_predictor(Fitting(schema, name, design, derive_seed(*seed, name), final, work))
    return Chain(name, fitted, links)


def load_chain(schema: Schema, name: str, folder: Path, *, trust: bool = False) -> Chain:
    """Inverse of `Chain.save`.

    Parameters
    ----------
    trust : whether files that run code may be read, see `load_predictor`; without it a TrustError where there are some
    """
    links = tuple(
        load_chain(schema, source, folder / "upstream" / source, trust=trust) for source in upstream_of(schema, name)
    )
    return Chain(name, load_predictor(schema, name, folder, trust=trust), links)
