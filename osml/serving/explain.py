"""Why a prediction is what it is: exact SHAP values, what gaps could change, how each input acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.predictors.learn import complete
from osml.predictors.network import FittedNetwork
from osml.predictors.network_inputs import TableSource
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.recipe import InputRecipe
from osml.predictors.tabular import Tabular
from osml.serving.encoders import networks_of, tabular_of
from osml.serving.form import SITE, Field

Float = NDArray[np.float64]
GRID = 41
NOT_KNOWN = "not known"  # of trees, for which a gap is a value like others
FEW = 9  # of a network, whose pictures are read again for each


@dataclass(frozen=True)
class Contribution:
    """Share of one input in one patient's linear predictor, against the training mean (an exact SHAP value).

    imputed : the value was not given; `shown` is what the model took for it
    """

    input: str
    label: str
    shown: str
    value: float
    imputed: bool = False


@dataclass(frozen=True)
class Explanation:
    """Contributions on the log-odds (Cox: log-hazard) scale: base + their sum = the patient's linear predictor.

    reference : whose linear predictor `base` is
    note : what limits the explanation
    """

    base: float
    contributions: tuple[Contribution, ...]
    lp: float
    scale: str
    reference: str = "average patient"
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """One input of one patient as it was read, in the model's unit; `given` is False when it was missing."""

    input: str
    label: str
    shown: str
    given: bool


@dataclass(frozen=True)
class Gap:
    """An input that was not given: what was taken for it, and the risks if it were anything in the training range.

    low, high : smallest and largest risk, one per probability
    """

    input: str
    label: str
    taken: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """Contribution of one input to the linear predictor at each of `values`, against the training mean.

    values : positions of levels, or numbers over the training range
    shown : the same as text
    """

    input: str
    label: str
    kind: str
    unit: str
    values: tuple[float, ...]
    shown: tuple[str, ...]
    effect: tuple[float, ...]


def explain_unit(fitted: FittedNomogram, design: Design, means: Float) -> Explanation:
    """Exact SHAP values of a design with one unit."""
    values, imputed = complete(fitted.imputer, fitted.recipe.values(design))
    base, start, parts = fitted.model.intercept, 0, []
    for term in fitted.model.terms:
        stop = start + len(term.columns)
        coef, mean = fitted.model.coef[start:stop], means[start:stop]
        base += float(mean @ coef)
        item = fitted.recipe.input(term.inputs[0])
        own = float((term.basis(values)[0] - mean) @ coef)
        gone = bool(imputed[item.name][0])
        parts.append(Contribution(item.name, item.label, shown(item, float(values[item.name][0])), own, gone))
        start = stop
    lp = base + sum(p.value for p in parts)
    return Explanation(base, tuple(parts), lp, "log hazard" if fitted.horizons else "log odds")


def answers(unit: Cohort, asked: Sequence[Field]) -> tuple[Answer, ...]:
    """What a single unit gave for each input."""
    out = []
    for field in asked:
        if field.name == SITE:
            out.append(Answer(field.name, field.label, unit.keys[field.column][0], True))
            continue
        x = float(unit.values[field.name][0])
        if np.isnan(x):
            words = "not given"
        else:
            words = field.levels[int(x)] if field.kind == "category" else f"{x:.6g} {field.unit}".strip()
        out.append(Answer(field.name, field.label, words, not np.isnan(x)))
    return tuple(out)


def fill_gaps(chain: Chain, unit: Cohort, asked: Sequence[Field]) -> tuple[Gap, ...]:
    """Each input that a single unit lacks, varied over its training range while the other gaps stay as they are."""
    fitted = chain.fitted
    asked = [field for field in asked if field.name != SITE and np.isnan(unit.values[field.name][0])]
    if not asked:
        return ()
    items: Mapping[str, InputRecipe] = {}
    filled: Mapping[str, Float] = {}
    if isinstance(fitted, FittedNomogram):
        items = {i.name: i for i in fitted.recipe.inputs}
        filled, _ = complete(fitted.imputer, fitted.recipe.values(chain.design(unit)))
    out = []
    for field in asked:
        ends = field.training or usual_range(chain, field.name)
        if field.kind == "category":
            grid = np.arange(len(field.levels), dtype=np.float64)
        elif ends is not None:
            grid = np.linspace(*ends, GRID if items else FEW)
        else:
            continue  # no range of training values to try
        p = chain.predict(_copies(unit, field.name, grid)).p
        taken = "its own estimate"
        if isinstance(fitted, FittedNetwork):
            taken = "a learned value"
        elif isinstance(fitted, Tabular):
            taken = NOT_KNOWN
        elif field.name in items:
            taken = shown(items[field.name], float(filled[field.name][0]))
        out.append(Gap(field.name, field.label, taken, tuple(p.min(axis=0).tolist()), tuple(p.max(axis=0).tolist())))
    return tuple(out)


def usual_range(chain: Chain, name: str) -> tuple[float, float] | None:
    """Training mean of a number, 2 SD to either side; None where no network standardises it and no table has it."""
    for fitted in tabular_of(chain):
        for column in fitted.spec.columns:
            if column.input == name and column.centre is not None and column.spread is not None:
                return column.centre - 2 * column.spread, column.centre + 2 * column.spread
    for network in networks_of(chain):
        for source in network.sources:
            for code in source.code.columns if isinstance(source, TableSource) else ():
                if code.column.name == name and code.column.kind == "standard":
                    return code.centre - 2 * code.scale, code.centre + 2 * code.scale
    return None


def curves(fitted: FittedNomogram, means: Float) -> tuple[Curve, ...]:
    """Contribution of every input of the model over its training range."""
    out, start = [], 0
    for term in fitted.model.terms:
        stop = start + len(term.columns)
        item = fitted.recipe.input(term.inputs[0])
        if item.kind == "category":
            grid = np.arange(len(item.levels), dtype=np.float64)
        else:
            grid = np.linspace(*fitted.ranges.get(item.name, (np.nan, np.nan)), GRID)
        if np.all(np.isfinite(grid)):
            effect = (term.basis({item.name: grid}) - means[start:stop]) @ fitted.model.coef[start:stop]
            words = tuple(shown(item, x) for x in grid.tolist())
            out.append(
                Curve(
                    item.name,
                    item.label,
                    item.kind,
                    item.shown_unit,
                    tuple(grid.tolist()),
                    words,
                    tuple(effect.tolist()),
                )
            )
        start = stop
    return tuple(out)


def shown(item: InputRecipe, value: float) -> str:
    """A value as a reader would write it: the level, or the number with its unit."""
    return item.levels[int(value)] if item.kind == "category" else f"{value:.4g} {item.shown_unit}".strip()


def _copies(unit: Cohort, name: str, grid: Float) -> Cohort:
    n = len(grid)
    units = tuple(str(i) for i in range(n))
    values: Mapping[str, Float] = {key: np.repeat(x, n) for key, x in unit.values.items()} | {name: grid}
    kit = {key: (np.repeat(low, n), np.repeat(high, n)) for key, (low, high) in unit.kit.items()}
    return replace(
        unit,
        units=units,
        patients=units,
        copies=np.zeros(n, dtype=np.intp),
        values=values,
        kit=kit,
        keys={key: texts * n for key, texts in unit.keys.items()},
        features={key: table.take(np.zeros(n, dtype=np.intp)) for key, table in unit.features.items()},
        images={key: table.take(np.zeros(n, dtype=np.intp)) for key, table in unit.images.items()},
    )
