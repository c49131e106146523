"""Tabular learners in a bundle: golden cases, and what each input adds to one prediction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import VerificationError
from osml.explanation.asking import asked, replayed
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.boosting import FittedBoosting
from osml.predictors.boosting_trees import cuts, filled, raw_scores
from osml.predictors.contract import Design
from osml.predictors.table import TableSpec
from osml.predictors.tabular import Tabular
from osml.serving.encoders import raw_uniform
from osml.serving.explain import Contribution, Explanation
from osml.serving.golden_networks import frozen_vectors

Float = NDArray[np.float64]
CASES = 100  # so that most leaves of a tree are reached
TOLERANCE = 1e-9
SINGLE = 1e-6  # AutoGluon passes probabilities on in single precision
SPREAD_SD = 2.0
AVERAGE = "the average training patient"
NOTHING_KNOWN = "a unit of which the models are told nothing"


def tabular_cases(fitted: Tabular) -> dict[str, Any]:
    """Probabilities of made-up rows, and vectors of the frozen encoders, for JSON."""
    encoders = {name: frozen_vectors(record) for name, record in fitted.spec.encoders.items()}
    return {"p": _answers(fitted).tolist(), "encoders": encoders}


def replay_tabular(name: str, fitted: Tabular, stored: Mapping[str, Any]) -> None:
    """Raise VerificationError where a loaded model says something else of the made-up rows."""
    allowed = TOLERANCE if isinstance(fitted, FittedBoosting) else SINGLE
    found, expected = _answers(fitted), np.asarray(stored["p"], dtype=np.float64)
    gap = float(np.max(np.abs(found - expected))) if found.shape == expected.shape else float("inf")
    if not gap <= allowed:
        raise VerificationError(
            f"the model of {name!r} does not reproduce its golden cases: probabilities differ by up to {gap:.3g}",
            do="Do not use this bundle; make it again from its run.",
        )


def made_rows(fitted: Tabular) -> Float:
    """Rows of the table, (CASES, columns): on either side of the trees' cuts, levels by turns, gaps among them.

    AutoGluon's: up to 2 SD to either side of the training median.
    """
    where = cuts(fitted.model) if isinstance(fitted, FittedBoosting) else {}
    x = np.full((CASES, len(fitted.spec.columns)), np.nan)
    for j, column in enumerate(fitted.spec.columns):
        u = raw_uniform(15485863 + j, CASES)
        if column.kind == "category":
            x[:, j] = np.floor(u * len(column.levels))
        elif j in where:
            places = np.sort(where[j])
            step = max(float(np.ptp(places)), 1e-3 * float(np.abs(places).max()), 1e-6) / len(places)
            x[:, j] = places[(u * len(places)).astype(np.intp)] + step * (2 * raw_uniform(j, CASES) - 1)
        elif isinstance(fitted, FittedAutogluon):
            x[:, j] = fitted.frame.fills[j] + SPREAD_SD * fitted.frame.spreads[j] * (2 * u - 1)
        x[(np.arange(CASES) + j) % 7 == 0, j] = np.nan
    return x


def explain_tabular(
    fitted: Tabular, design: Design, column: str, labels: Mapping[str, str], shown: Mapping[str, str]
) -> Explanation:
    """What each input adds for one unit; the columns of an image, of radiomics or of a score count together.

    Of boosted trees exact TreeSHAP values, from the average training patient. Of AutoGluon Shapley values from a unit
    of which nothing is known: an input outside a coalition is missing, as the models have learnt it.

    Parameters
    ----------
    column : the event, or the class or inner node that is explained
    labels, shown : of each input or predictor, in words
    """
    if isinstance(fitted, FittedBoosting):
        found = fitted.contributions(design, column)
        values = {name: float(found.values[0, fitted.spec.places(name)].sum()) for name in fitted.spec.inputs}
        base, reference = found.base, AVERAGE
    else:
        base, values = _coalitions(fitted, design, column)
        reference = NOTHING_KNOWN
    imputed = {flag.input for flag in fitted.predict(design).flags if flag.code == "imputed"}
    parts = [Contribution(n, labels.get(n, n), shown.get(n, ""), x, n in imputed) for n, x in values.items()]
    return Explanation(base, tuple(parts), base + sum(values.values()), fitted.scale(column), reference)


def _coalitions(fitted: FittedAutogluon, design: Design, column: str) -> tuple[float, dict[str, float]]:
    """Shapley values of present against absent inputs; AutoGluon is asked once for all coalitions."""
    from osml.serving.network import shapley

    own = fitted.spec.matrix(design)[0]
    inputs = fitted.spec.inputs
    given = [name for name in inputs if not np.isnan(own[fitted.spec.places(name)]).all()]
    place = fitted.columns.index(column)

    def worth(masks: Mapping[str, Float]) -> Float:
        x = np.full((len(next(iter(masks.values()))), len(own)), np.nan)
        for name in given:
            at = fitted.spec.places(name)
            x[np.ix_(masks[name] > 0.5, at)] = own[at]
        lp = fitted.risks(fitted.raw(x))[1]
        return lp if lp.ndim == 1 else lp[:, place]

    out = dict.fromkeys(inputs, 0.0)
    if not given:
        return float(worth({"": np.zeros(1)})[0]), out
    way = partial(shapley, names=given)
    shap = replayed(way, worth(asked(way)))
    return shap.base, out | dict(zip(given, shap.values[0].tolist(), strict=True))


def scores_shown(spec: TableSpec, design: Design) -> dict[str, str]:
    """Each score that a table reads, in words; of classes the most likely one."""
    out = {}
    for name in spec.inputs:
        if name in design.upstream:
            score = design.upstream[name][0]
            parts = [spec.columns[j].part for j in spec.places(name)]
            out[name] = f"score {float(score):.3g}" if np.ndim(score) == 0 else parts[int(np.argmax(score))]
    return out


def _answers(fitted: Tabular) -> Float:
    rows = made_rows(fitted)
    if isinstance(fitted, FittedAutogluon):
        return fitted.risks(fitted.raw(rows))[0]
    return fitted.risks(raw_scores(fitted.model, filled(rows, np.array(fitted.stand_in)), fitted.outputs))[0]
