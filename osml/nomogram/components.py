"""Additive parts of a linear predictor, and the axes that each part is read from.

Inputs that share an interaction form one component. Its effect is its part of the linear predictor without intercept;
the component is read from one axis, or, with interactions, from one axis per level of the modifier.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from osml.errors import InvalidInputError
from osml.nomogram.equation import equation
from osml.nomogram.spec import FloatArray, Predictor
from osml.nomogram.ticks import minor_ticks, round_ticks
from osml.stats.terms import Category, Interaction, Linear, LinearModel, Log, Spline, Term, Values

MAX_AXES = 6


@dataclass(frozen=True)
class Axis:
    """One printed axis.

    Parameters
    ----------
    input : str
        The input that runs along the axis.
    settings : tuple of (str, int)
        Modifiers and the level position at which this axis holds; empty without interactions.
    ticks : tuple of float
        Labelled values: numbers, or level positions.
    minor : tuple of float
        Unlabelled values.
    turns : tuple of float
        Values inside the axis where the effect turns from rising to falling or back.
    """

    input: str
    settings: tuple[tuple[str, int], ...]
    ticks: tuple[float, ...]
    minor: tuple[float, ...]
    turns: tuple[float, ...]

    @property
    def key(self) -> str:
        """The input, and the modifier levels at which the axis holds: "age|sex=1"."""
        return "|".join([self.input, *(f"{name}={level}" for name, level in self.settings)])

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """Values of the component's inputs along the axis."""
        x = np.atleast_1d(np.asarray(x, dtype=np.float64))
        return {self.input: x} | {name: np.full(len(x), float(level)) for name, level in self.settings}


@dataclass(frozen=True)
class Component:
    """An additive part of the model: its inputs, its terms' positions, its axes and its extreme effects on them."""

    inputs: tuple[str, ...]
    terms: tuple[int, ...]
    axes: tuple[Axis, ...]
    minimum: float
    maximum: float

    @property
    def name(self) -> str:
        """Input names joined by a multiplication sign."""
        return " × ".join(self.inputs)

    def effect(self, model: LinearModel, values: Values) -> FloatArray:
        """Part of the linear predictor of these inputs, without intercept, float array (n,)."""
        spans = _spans(model.terms)
        return sum(
            (model.terms[i].basis(values) @ model.coef[spans[i]] for i in self.terms),
            start=np.zeros(len(np.atleast_1d(values[self.inputs[0]]))),
        )


def components(model: LinearModel, predictors: Sequence[Predictor], *, extremes: str) -> tuple[Component, ...]:
    """Split a model into components, in the order of the predictors.

    Raises
    ------
    InvalidInputError
        Predictors and the model's inputs differ; an interaction of two numbers, or one with more than 6 axes:
        the message prints the equation to use instead.
    """
    by_name = {p.name: p for p in predictors}
    _check_inputs(model, predictors)
    groups: list[set[str]] = [{p.name} for p in predictors]
    for term in model.terms:
        joined = [g for g in groups if g & set(term.inputs)]
        groups = [g for g in groups if g not in joined]
        groups.append(set().union(*joined))
    order = {p.name: i for i, p in enumerate(predictors)}
    groups.sort(key=lambda g: min(order[name] for name in g))
    return tuple(_component(model, sorted(g, key=order.__getitem__), by_name, extremes) for g in groups)


def _check_inputs(model: LinearModel, predictors: Sequence[Predictor]) -> None:
    names = [p.name for p in predictors]
    if len(set(names)) != len(names):
        raise InvalidInputError(f"a predictor is described twice: {', '.join(names)}")
    missing, spare = sorted(set(model.inputs) - set(names)), sorted(set(names) - set(model.inputs))
    if missing or spare:
        raise InvalidInputError(
            f"the model's inputs and the predictors differ; no predictor for {missing}, no term for {spare}",
            do="Describe every input of the model by exactly one Predictor.",
        )
    by_name = {p.name: p for p in predictors}
    for term in model.terms:
        for part in (term.first, term.second) if isinstance(term, Interaction) else (term,):
            predictor = by_name[part.input]
            kind = "category" if part.kind == "category" else "number"
            if predictor.kind != kind:
                raise InvalidInputError(
                    f"{part.input!r} enters the model as a {kind} but is a {predictor.kind} predictor"
                )
            if isinstance(part, Category) and tuple(part.levels) != predictor.levels:
                raise InvalidInputError(f"levels of {part.input!r}: model {part.levels}, predictor {predictor.levels}")
            if part.kind == "log" and predictor.bounds[0] <= 0:
                raise InvalidInputError(f"{part.input!r} enters as a logarithm but its axis begins at {predictor.low}")


def _component(model: LinearModel, names: list[str], by_name: Mapping[str, Predictor], extremes: str) -> Component:
    terms = tuple(i for i, t in enumerate(model.terms) if set(t.inputs) <= set(names))
    numbers = [n for n in names if by_name[n].kind == "number"]
    main = numbers[0] if numbers else max(names, key=lambda n: len(by_name[n].levels))
    modifiers = [n for n in names if n != main]
    count = int(np.prod([len(by_name[m].levels) for m in modifiers])) if modifiers else 1
    if len(numbers) > 1 or count > MAX_AXES:
        reason = (
            f"{' and '.join(numbers)} interact, and both are numbers"
            if len(numbers) > 1
            else f"{main} would need {count} axes, one per combination of {', '.join(modifiers)}"
        )
        raise InvalidInputError(
            f"no nomogram can be drawn: {reason}.",
            why=f"The equation is: {equation(model)}",
            do="Use the calculator or the equation, or enter one of them as a category with few levels.",
        )
    shell = Component(tuple(names), terms, (), 0.0, 0.0)
    axes, lowest, highest = [], np.inf, -np.inf
    for combination in itertools.product(*(range(len(by_name[m].levels)) for m in modifiers)):
        axis = _axis(model, shell, by_name[main], tuple(zip(modifiers, combination, strict=True)))
        probe = axis.ticks if extremes == "ticks" else (*axis.ticks, *axis.turns)
        effects = shell.effect(model, axis.values(np.asarray(probe)))
        lowest, highest = min(lowest, float(effects.min())), max(highest, float(effects.max()))
        axes.append(axis)
    return Component(tuple(names), terms, tuple(axes), lowest, highest)


def _axis(model: LinearModel, part: Component, p: Predictor, settings: tuple[tuple[str, int], ...]) -> Axis:
    if p.kind == "category":
        return Axis(p.name, settings, tuple(float(i) for i in range(len(p.levels))), (), ())
    low, high = p.bounds
    major = p.ticks or round_ticks(low, high, log=p.log, decimals=p.decimals)
    bare = Axis(p.name, settings, major, (), ())
    knots = sorted(
        {
            k
            for i in part.terms
            for t in _simple(model.terms[i])
            if isinstance(t, Spline) and t.input == p.name
            for k in t.knots
            if low < k < high
        }
    )
    kinds = {t.kind for i in part.terms for t in _simple(model.terms[i]) if t.input == p.name}
    turns = _turns(model, part, bare, (low, *knots, high)) if len(kinds) > 1 or knots else ()
    return Axis(p.name, settings, major, minor_ticks(major, log=p.log, decimals=p.decimals), turns)


def _turns(model: LinearModel, part: Component, axis: Axis, pieces: tuple[float, ...]) -> tuple[float, ...]:
    """Interior extremes of the effect: bracketed on a grid between knots, then refined."""
    grid = np.unique(np.concatenate([np.linspace(a, b, 101) for a, b in itertools.pairwise(pieces)]))
    f = part.effect(model, axis.values(grid))
    steps = np.diff(f)
    noise = 1e-12 * max(1.0, float(np.ptp(f)))
    moving = np.flatnonzero(np.abs(steps) > noise)
    out = []
    for a, b in itertools.pairwise(moving):
        if steps[a] * steps[b] < 0:
            sign = 1.0 if steps[a] < 0 else -1.0
            found = minimize_scalar(
                lambda x, sign=sign: sign * float(part.effect(model, axis.values(np.array([x])))[0]),
                bounds=(grid[a], grid[b + 1]),
                method="bounded",
                options={"xatol": 1e-10 * (grid[-1] - grid[0])},
            )
            out.append(float(found.x))
    return tuple(out)


def _simple(term: Term) -> tuple[Linear | Log | Spline | Category, ...]:
    return (term.first, term.second) if isinstance(term, Interaction) else (term,)


def _spans(terms: Sequence[Term]) -> list[slice]:
    ends = np.cumsum([0, *(len(t.columns) for t in terms)])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
