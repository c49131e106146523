"""What is inside a Rad-score: the contribution of each feature, measured from a patient at the training means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.explanation.permutation import MOST_INPUTS, permutation_shap
from osml.explanation.tree import forest_shap
from osml.predictors.chain import Chain
from osml.predictors.forest import Forest
from osml.predictors.radscore import FittedRadscore
from osml.schema.model import Schema
from osml.serving.explain import GRID, Contribution, Curve, Explanation

Float = NDArray[np.float64]
SPAN_SD = 2.0
REFERENCE = "a patient at the training mean of every feature"
_ORDERS = 64


def explain_score(schema: Schema, fitted: FittedRadscore, unit: Cohort) -> Explanation:
    """SHAP values of one unit's features against `REFERENCE`.

    Exact for a linear score, and for a forest of up to 14 features; of more features, orders are sampled (the sum is
    exact all the same). A bundle holds no training patient, so the mean of every feature stands for an unknown value.
    """
    z, absent = fitted.standardised(unit)
    row = np.array([[float(z[name][0]) for name in fitted.columns]])
    if fitted.forest is not None:
        base, values = _forest(fitted.forest, row, fitted.columns)
        base -= fitted.model.intercept  # as the score is measured
    else:
        base, values = 0.0, np.asarray(fitted.model.coef) * row[0]
    table = unit.features[fitted.recipe.input]
    place = {column: j for j, column in enumerate(table.columns)}
    parts = tuple(
        Contribution(
            column,
            feature_label(schema, column),
            "not computable" if absent[column][0] else _shown(fitted, j, table.x[0, place[column]], z[column][0]),
            float(value),
            bool(absent[column][0]),
        )
        for j, (column, value) in enumerate(zip(fitted.columns, values, strict=True))
    )
    return Explanation(base, parts, base + float(values.sum()), score_scale(fitted), REFERENCE)


def score_scale(fitted: FittedRadscore) -> str:
    """What a score and the contributions to it are measured in."""
    return f"score in log {'hazard' if fitted.horizons else 'odds'}"


def score_curves(schema: Schema, fitted: FittedRadscore) -> tuple[Curve, ...]:
    """Contribution of each feature alone, 2 SD to either side of its training mean."""
    grid = np.linspace(-SPAN_SD, SPAN_SD, GRID)
    words = tuple(f"{z:+.1f} SD" for z in grid)
    out = []
    for j, column in enumerate(fitted.columns):
        if fitted.forest is None:
            effect = fitted.model.coef[j] * grid
        else:
            rows = np.zeros((GRID, len(fitted.columns)))
            rows[:, j] = grid
            effect = fitted.forest.logit(rows) - fitted.forest.logit(np.zeros((1, len(fitted.columns))))
        label = feature_label(schema, column)
        out.append(Curve(column, label, "number", "SD", tuple(grid.tolist()), words, tuple(effect.tolist())))
    return tuple(out)


def scores_of(chain: Chain) -> tuple[FittedRadscore, ...]:
    """Rad-scores that feed a chain, each once, its own not counted."""
    out: dict[str, FittedRadscore] = {}
    for link in chain.upstream:
        if isinstance(link.fitted, FittedRadscore):
            out.setdefault(link.name, link.fitted)
        out |= {score.recipe.name: score for score in scores_of(link)}
    return tuple(out.values())


def feature_label(schema: Schema, column: str) -> str:
    """A feature with its image and region in words; `column` is `image|region|feature`."""
    image, region, feature = column.split("|", 2)
    block = schema.inputs.get(image)
    words = feature.removeprefix("original_").replace("_", " ")
    return f"{(block.label if block is not None else None) or image}, {region}: {words}"


def _shown(fitted: FittedRadscore, j: int, x: float, z: float) -> str:
    """A feature as it was measured, and where it counts: beyond the limits of the score it is drawn in to them."""
    ends = (np.array([fitted.lower[j], fitted.upper[j]]) - fitted.centre[j]) / fitted.scale[j]
    words = "counts as " if z in ends else ""
    return f"{x:.4g} ({words}{z:+.1f} SD)"


def _forest(forest: Forest, row: Float, names: tuple[str, ...]) -> tuple[float, Float]:
    mean = np.zeros_like(row)
    if len(names) <= MOST_INPUTS:
        shap = forest_shap(forest, row, mean, names)
        return shap.base, shap.values[0]

    def predict(columns: Mapping[str, Float]) -> Float:
        return forest.logit(np.column_stack([columns[name] for name in names]))

    values, background = ({n: t[:, j] for j, n in enumerate(names)} for t in (row, mean))
    shap = permutation_shap(predict, values, background, permutations=_ORDERS, seed=0)
    return shap.base, shap.values[0]
