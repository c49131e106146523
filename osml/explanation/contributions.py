"""How much each number of a table moves a network's score: gradients, and integrated gradients beside them.

Gradient contribution: mean |∂ score / ∂ x| over held-out units, and its share of the sum over inputs (the X-ray paper's
"ALP contributes 2.4 times more to the gradient than LDH"). x is the number as it enters the network, so it depends on
the scale: age in centuries has a hundred times the gradient of age in years. Integrated gradients (Sundararajan et al.
2017, arXiv:1703.01365) do not: (x - b) times the mean gradient on the way from the baseline b to x, which adds up to
score(x) - score(b). Pictures and missing values stay as they are in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import NotEstimableError
from osml.explanation.held_out import HeldOut, encoded, score
from osml.nets.device import one_thread
from osml.predictors.network import FittedNetwork
from osml.predictors.network_inputs import TableSource

if TYPE_CHECKING:
    from torch import Tensor

    from osml.cohort.cohort import Cohort
    from osml.nets.branches import Items

Float = NDArray[np.float64]
STEPS, MOST_STEPS = 32, 2048
# Of the difference that is to be explained, and where it is near 0 of one unit of log odds.
TOLERANCE = 0.005
FEW_PATIENTS = 20
BOOTSTRAPS = 1000
FEW = f"fewer than {FEW_PATIENTS} patients: no interval"


@dataclass(frozen=True)
class Part:
    """Encoded columns that stand for one number, or for one category.

    source : position among the network's modalities
    input : of the schema
    feature : of radiomics; else ""
    columns : positions among the modality's
    """

    source: int
    input: str
    feature: str
    columns: tuple[int, ...]

    @property
    def name(self) -> str:
        """The feature, or else the input."""
        return self.feature or self.input


@dataclass(frozen=True)
class Attribution:
    """Of single units, each float array (n, parts); NaN where the unit lacks the value.

    gradient : |∂ score / ∂ x|; of a category the length of the gradient over its columns
    integrated : integrated gradient; rows sum to score - start
    score, start : of the units, and of the same units with baseline values, (n,)
    gap : largest difference between a row's sum and what it should be
    steps : gradients on the way
    """

    gradient: Float
    integrated: Float
    score: Float
    start: Float
    gap: float
    steps: int


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % limits over resampled patients; None where there are too few."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Contribution:
    """One number's part in one output, over held-out units.

    units : that have it
    gradient : mean |∂ score / ∂ x|; gradient_share : of the sum over all parts
    integrated : mean |integrated gradient|; integrated_share : of the sum
    """

    part: Part
    units: int
    gradient: Interval
    gradient_share: Interval
    integrated: Interval
    integrated_share: Interval


def parts_of(fitted: FittedNetwork) -> tuple[Part, ...]:
    """The numbers and categories of all tables of a network, in its order."""
    out = []
    for k, source in enumerate(fitted.sources):
        if isinstance(source, TableSource):
            at = 0
            for code in source.code.columns:
                columns = tuple(range(at, at + code.column.width))
                feature = code.column.name if source.kind == "radiomics" else ""
                out.append(Part(k, source.name if feature else code.column.name, feature, columns))
                at += code.column.width
    return tuple(out)


def scale_words(fitted: FittedNetwork) -> dict[str, str]:
    """Of each input of a table, the unit in which it enters the network: what its gradient is per."""
    words = {"standard": "SD", "kit": "width of its range", "binary": "level", "category": "level"}
    return {
        code.column.name: f"{code.column.divide:g} units" if code.column.kind == "divide" else words[code.column.kind]
        for source in fitted.sources
        if isinstance(source, TableSource) and source.kind == "tabular"
        for code in source.code.columns
    }


@one_thread()
def attribute(fitted: FittedNetwork, cohort: Cohort, column: str, *, tolerance: float = TOLERANCE) -> Attribution:
    """Gradients and integrated gradients of units whose pictures are held fixed.

    Baseline: the training mean of each encoded column, where a learned value for a missing one starts from.

    Raises
    ------
    NotEstimableError
        The sum is not reached within `tolerance` by 2048 steps.
    """
    import torch

    items, n = encoded(fitted, cohort), len(cohort)
    tables = [k for k, source in enumerate(fitted.sources) if isinstance(source, TableSource)]
    values = [items[0][k].values for k in tables]
    starts = [torch.tensor(fitted.recipe.modalities[k].start) for k in tables]
    base = [torch.where(v.isnan(), v, b.expand_as(v)) for v, b in zip(values, starts, strict=True)]
    here = _score(fitted, items, tables, values, n, column)
    start = _score(fitted, items, tables, base, n, column)
    plain = _slopes(fitted, items, tables, values, n, column)
    steps = STEPS
    while True:
        mean = [torch.zeros_like(v, dtype=torch.float64) for v in values]
        for step in range(steps):
            share = (step + 0.5) / steps
            between = [b + share * (v - b) for v, b in zip(values, base, strict=True)]
            for total, slope in zip(mean, _slopes(fitted, items, tables, between, n, column), strict=True):
                total += slope.double() / steps
        paths = [m * torch.nan_to_num(v - b).double() for m, v, b in zip(mean, values, base, strict=True)]
        reached = np.zeros(n)
        for k, path in zip(tables, paths, strict=True):
            np.add.at(reached, items[0][k].owner.numpy(), path.sum(dim=1).numpy())
        off = np.abs(reached - (here - start))
        if (off <= tolerance * np.maximum(1.0, np.abs(here - start))).all():
            break
        if steps >= MOST_STEPS:
            raise NotEstimableError(
                f"integrated gradients miss the score's change by {off.max():.3g} after {steps} steps",
                why="They are only shares of the change if they add up to it.",
            )
        steps *= 2
    sizes: list[Float] = []
    integrated: list[Float] = []
    for part in parts_of(fitted):
        k = tables.index(part.source)
        owner, at = items[0][part.source].owner.numpy(), list(part.columns)
        known = ~values[k][:, at[0]].isnan().numpy()
        size, way = np.full(n, np.nan), np.full(n, np.nan)
        size[owner[known]] = plain[k][:, at].double().norm(dim=1).numpy()[known]
        way[owner[known]] = paths[k][:, at].sum(dim=1).numpy()[known]
        sizes.append(size)
        integrated.append(way)
    return Attribution(np.stack(sizes, 1), np.stack(integrated, 1), here, start, float(off.max(initial=0)), steps)


def contributions(held: Sequence[HeldOut], column: str, seed: int) -> tuple[tuple[Contribution, ...], dict[str, Any]]:
    """Of every number, over units that the network explaining them did not train on; largest gradient first.

    Units that are held out in several repeats count once, with the mean over their networks. Numbers that only some
    folds read (a feature that was constant in a training set) are left out.

    Returns
    -------
    contributions, and facts: `units`, `patients`, `gap` (of the sum of integrated gradients), `steps`, `reason` (why
    there is no interval)
    """
    names = _common(held)
    sums: dict[str, list[Float]] = {}
    patient: dict[str, str] = {}
    gap, steps = 0.0, 0
    for one in held:
        found = attribute(one.fitted, one.test, column)
        gap, steps = max(gap, found.gap), max(steps, found.steps)
        where = {(part.input, part.feature): j for j, part in enumerate(parts_of(one.fitted))}
        order = [where[part.input, part.feature] for part in names]
        both = np.stack([found.gradient[:, order], np.abs(found.integrated[:, order])])
        for i, unit in enumerate(one.test.units):
            sums.setdefault(unit, []).append(both[:, i])
            patient[unit] = one.test.patients[i]
    table = np.stack([_mean(np.stack(rows)) for rows in sums.values()])  # (n, 2, parts)
    patients = tuple(patient[unit] for unit in sums)
    few = len(set(patients)) < FEW_PATIENTS
    intervals = [_intervals(table[:, k], patients, few, seed) for k in (0, 1)]
    out = [
        Contribution(part, int((~np.isnan(table[:, 0, j])).sum()), *(x[j] for both in intervals for x in both))
        for j, part in enumerate(names)
    ]
    facts = {
        "units": len(patients),
        "patients": len(set(patients)),
        "gap": gap,
        "steps": steps,
        "reason": FEW if few else "",
    }
    return tuple(sorted(out, key=lambda c: -c.gradient.value)), facts


def _score(
    fitted: FittedNetwork,
    items: Sequence[Sequence[Items]],
    tables: Sequence[int],
    values: Sequence[Tensor],
    n: int,
    column: str,
) -> Float:
    import torch

    with torch.inference_mode():
        return score(fitted, _swapped(items, tables, values), n, column).numpy().copy()


def _slopes(
    fitted: FittedNetwork,
    items: Sequence[Sequence[Items]],
    tables: Sequence[int],
    values: Sequence[Tensor],
    n: int,
    column: str,
) -> tuple[Tensor, ...]:
    """Gradient of each unit's own score with respect to its encoded columns, (t, width) for each table."""
    import torch

    with torch.enable_grad():
        leaves = [v.clone().requires_grad_() for v in values]
        total = score(fitted, _swapped(items, tables, leaves), n, column).sum()
        found: tuple[Tensor, ...] = torch.autograd.grad(total, leaves)
    return found


def _swapped(items: Sequence[Sequence[Items]], tables: Sequence[int], values: Sequence[Tensor]) -> list[list[Items]]:
    from osml.nets.branches import Items

    out = [list(own) for own in items]
    for own in out:
        for k, value in zip(tables, values, strict=True):
            own[k] = Items(value, own[k].owner)
    return out


def _common(held: Sequence[HeldOut]) -> tuple[Part, ...]:
    """Parts that every fold's network reads, in the order of the first."""
    first, *others = [parts_of(one.fitted) for one in held]
    keys = [{(part.input, part.feature) for part in parts} for parts in others]
    out = tuple(part for part in first if all((part.input, part.feature) in other for other in keys))
    if not out:
        raise NotEstimableError("the network reads no table: no number has a contribution")
    return out


def _mean(rows: Float) -> Float:
    """Over the first axis without NaN; NaN where there is nothing."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _intervals(values: Float, patients: Sequence[str], few: bool, seed: int) -> tuple[list[Interval], list[Interval]]:
    """Mean of each column of (n, parts), and its share of the sum of means, with percentile limits over patients."""
    ids = list(dict.fromkeys(patients))
    place = {patient: k for k, patient in enumerate(ids)}
    row = np.array([place[patient] for patient in patients])
    known = ~np.isnan(values)
    total, count = np.zeros((len(ids), values.shape[1])), np.zeros((len(ids), values.shape[1]))
    np.add.at(total, row, np.where(known, values, 0.0))
    np.add.at(count, row, known.astype(float))

    def means(weights: Float) -> Float:
        n = weights @ count
        return np.divide(weights @ total, n, out=np.zeros_like(n), where=n > 0)

    def shares(mean: Float) -> Float:
        whole = mean.sum(axis=1, keepdims=True)
        return np.divide(mean, whole, out=np.zeros_like(mean), where=whole > 0)

    mean = means(np.ones((1, len(ids))))
    point = mean[0], shares(mean)[0]
    if few:
        return tuple([Interval(float(v), None, None) for v in one] for one in point)  # type: ignore[return-value]
    rng = np.random.default_rng([seed, 7])
    drawn = means(rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=BOOTSTRAPS).astype(float))
    out = []
    for one, many in zip(point, (drawn, shares(drawn)), strict=True):
        low, high = np.quantile(many, [0.025, 0.975], axis=0)
        out.append([Interval(float(v), float(a), float(b)) for v, a, b in zip(one, low, high, strict=True)])
    return out[0], out[1]
