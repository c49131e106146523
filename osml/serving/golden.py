"""Golden cases: made-up units of every fitted predictor of a bundle, and what it said of them when it was published.

They are drawn from what the bundle holds anyway: the ends of the axes, the levels, and mean and standard deviation of
each feature. A predictor that takes scores is given made-up ones, so each link of a chain is replayed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, FeatureTable
from osml.errors import VerificationError
from osml.predictors.chain import Chain
from osml.predictors.contract import Design, Fitted
from osml.predictors.network import FittedNetwork
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore
from osml.predictors.stack import FittedStack
from osml.predictors.tabular import Tabular
from osml.serving.golden_networks import network_cases, replay_network, replay_stack, stack_cases
from osml.serving.tabular import replay_tabular, tabular_cases

Float = NDArray[np.float64]
CASES = 20
TOLERANCE = 1e-9
SPREAD_SD = 1.5  # some features lie beyond the limits to which a score draws them in


def golden(fitted: Fitted) -> dict[str, Any]:
    """Twenty made-up units and their probabilities, for JSON; see also `osml.serving.golden_networks`."""
    if isinstance(fitted, FittedNetwork):
        return network_cases(fitted)
    if isinstance(fitted, FittedStack):
        return stack_cases(fitted)
    if isinstance(fitted, Tabular):
        return tabular_cases(fitted)
    rng = np.random.default_rng(0)
    if isinstance(fitted, FittedRadscore):
        x = fitted.centre + fitted.scale * rng.normal(0, SPREAD_SD, (CASES, len(fitted.columns)))
        values = {name: x[:, j].tolist() for j, name in enumerate(fitted.columns)}
    else:
        assert isinstance(fitted, FittedNomogram)
        values = {item.name: _drawn(fitted, item.name, rng) for item in fitted.recipe.inputs}
    return {"values": values, "p": fitted.predict(_design(fitted, values)).p.tolist()}


def replay(name: str, fitted: Fitted, stored: Mapping[str, Any]) -> None:
    """Raise VerificationError where a loaded predictor says something else of its golden cases."""
    if isinstance(fitted, FittedNetwork):
        replay_network(name, fitted, stored)
        return
    if isinstance(fitted, FittedStack):
        replay_stack(name, fitted, stored)
        return
    if isinstance(fitted, Tabular):
        replay_tabular(name, fitted, stored)
        return
    p, expected = fitted.predict(_design(fitted, stored["values"])).p, np.array(stored["p"])
    gap = float(np.max(np.abs(p - expected))) if p.shape == expected.shape else float("inf")
    if not gap <= TOLERANCE:
        raise VerificationError(
            f"the model of {name!r} does not reproduce its golden cases: probabilities differ by up to {gap:.3g}",
            do="Do not use this bundle; make it again from its run.",
        )


def links(chain: Chain, place: str) -> Iterator[tuple[Chain, str]]:
    """A chain and all that feed it, with their folders in the bundle."""
    yield chain, place
    for link in chain.upstream:
        yield from links(link, f"{place}/upstream/{link.name}")


def _drawn(fitted: FittedNomogram, name: str, rng: np.random.Generator) -> list[float]:
    item = fitted.recipe.input(name)
    if item.kind == "category":
        return rng.integers(0, len(item.levels), CASES).astype(float).tolist()
    low, high = fitted.ranges.get(name, (1.0, 1.0))  # an input of too few values has no axis
    return [float(f"{x:.6g}") for x in rng.uniform(low, high, CASES)]


def _design(fitted: Fitted, cases: Mapping[str, Any]) -> Design:
    """Made-up units; a lab that enters by its kit range gets 0 to 1, which leaves it as given."""
    values = {name: np.array(x, dtype=np.float64) for name, x in cases.items()}
    names = tuple(f"case {i + 1}" for i in range(CASES))
    cohort = Cohort(names, names, np.zeros(CASES, dtype=np.intp), {}, {}, {}, None)
    if isinstance(fitted, FittedRadscore):
        return Design(_with_features(fitted, cohort, values))
    assert isinstance(fitted, FittedNomogram)
    scores = {item.name: values[item.name] for item in fitted.recipe.inputs if item.kind == "score"}
    kit = {item.name: (np.zeros(CASES), np.ones(CASES)) for item in fitted.recipe.inputs if item.encode != "value"}
    own = {name: x for name, x in values.items() if name not in scores}
    return Design(Cohort(names, names, cohort.copies, own, kit, {}, None), scores)


def _with_features(fitted: FittedRadscore, cohort: Cohort, values: Mapping[str, Float]) -> Cohort:
    """Features as an image would give them; the sites of a harmonised score take turns."""
    x = np.column_stack([values[name] for name in fitted.columns]) if fitted.columns else np.empty((CASES, 0))
    known = ("",) if fitted.combat is None else fitted.combat.batches
    site = tuple(known[i % len(known)] for i in range(CASES))
    keys = {} if fitted.combat is None else {fitted.recipe.site: site}
    features = {fitted.recipe.input: FeatureTable(fitted.columns, x)}
    return Cohort(cohort.units, cohort.patients, cohort.copies, {}, {}, keys, None, features=features)
