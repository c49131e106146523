"""Networks with weights that a test knows, in memory: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from osml.cohort.cohort import BinaryOutcome, Cohort, ImageTable
from osml.cohort.splits import Fold
from osml.explanation.held_out import HeldOut
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, CoxTarget, DiscreteTimeTarget, NetworkRecipe, Target
from osml.nets.tabular import Column, fit_tabular
from osml.predictors.network import Calibration, FittedNetwork, TargetKind
from osml.predictors.network_inputs import ImageSource, Source, TableSource, modality
from osml.stats.tree import LabelTree, label_tree

KEY, WIDTH = "picture@x", 3
COLUMNS = (Column("age", "divide", divide=100), Column("alp", "kit"), Column("stage", "category", levels=3))
BINARY = label_tree(["good", "bad"])
TREE = label_tree(["healthy", {"tumour": ["dead", "alive"]}])


def made_cohort(n: int = 30, *, seed: int = 0, gaps: bool = False, rows_per_patient: int = 1) -> Cohort:
    """Units with a table of age, alp and stage, and one or two pictures as vectors (none for every seventh if gaps)."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 3, n)
    alp = rng.normal(100, 30, n)
    if gaps:
        counts[::7], alp[1::5] = 0, np.nan
    row = np.repeat(np.arange(n), counts)
    vectors = rng.normal(size=(len(row), 1, WIDTH)).astype(np.float32)
    units = tuple(f"unit-{i:03d}" for i in range(n))
    return Cohort(
        units=units,
        patients=tuple(f"SECRET-{i // rows_per_patient:03d}" for i in range(n)),
        copies=np.zeros(n, dtype=np.intp),
        values={
            "age": rng.uniform(5, 80, n), "alp": alp, "stage": rng.integers(0, 3, n).astype(np.float64),
        },
        kit={"alp": (np.full(n, 40.0), np.full(n, 140.0))},
        keys={},
        outcome=BinaryOutcome(rng.integers(0, 2, n).astype(np.float64), "bad", "good"),
        per_row=rows_per_patient > 1,
        images={KEY: ImageTable(vectors, np.arange(len(row), dtype=np.intp), row)},
    )  # fmt: skip


def made_network(
    cohort: Cohort,
    kind: TargetKind = "binary",
    *,
    calibration: Calibration = Calibration("none"),  # noqa: B008
    seeds: int = 2,
    fusion: Any = "concat",
    pictures: bool = True,
    discrete: bool = False,
    flat: bool = False,
) -> FittedNetwork:
    """A network of random weights that reads the vectors and the table of `made_cohort`."""
    table = TableSource("table", "tabular", fit_tabular(COLUMNS, cohort.values, cohort.kit))
    sources: tuple[Source, ...] = (
        (ImageSource("picture", KEY, WIDTH, centre=(0.3, 0.0, -0.2), spread=(0.5, 1.0, 2.0)), table)
        if pictures
        else (table,)
    )
    tree: LabelTree | None = {"binary": BINARY, "classes": TREE, "survival": None}[kind]
    target: Target = CoxTarget()
    if discrete:
        target = DiscreteTimeTarget((3.0, 6.0, 12.0))
    elif tree is not None:
        target = ClassTarget(label_tree(list(TREE.leaves)) if flat else tree)
    recipe = NetworkRecipe(tuple(modality(s, "mean") for s in sources), target, fusion=fusion, width=8)
    networks = tuple(build_network(recipe, seed=k).eval() for k in range(seeds))
    for k, network in enumerate(networks):
        for name, tensor in network.named_parameters():
            if name.startswith("fusion.condition.2"):  # zero before training
                nn.init.normal_(tensor, std=0.3, generator=torch.Generator().manual_seed(k))
    columns = {"binary": ("bad",), "classes": TREE.nodes, "survival": ("12 month",)}[kind]
    return FittedNetwork(
        "net", kind, columns, tree, (12.0,) if kind == "survival" else (), "month", sources, {}, recipe,
        networks, calibration, (0.3,),
    )  # fmt: skip


def made_linear(fitted: FittedNetwork, weights: Sequence[float]) -> FittedNetwork:
    """The network with log odds = weights · (picture's vector, encoded columns, indicators)."""
    networks = []
    for network in fitted.networks:
        head = nn.Linear(network.fusion.width, 2)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
            head.weight[1, : len(weights)] = torch.tensor(weights)
        linear = Network(network.recipe)
        linear.load_state_dict(network.state_dict(), strict=False)
        linear.head = head
        networks.append(linear.eval())
    return replace(fitted, networks=tuple(networks))


def held_out(fitted: FittedNetwork, cohort: Cohort, test: NDArray[np.bool_]) -> HeldOut:
    """One fold: the network and the patients whose units `test` marks."""
    patients = np.array(cohort.patients)
    inside = tuple(dict.fromkeys(patients[test].tolist()))
    outside = tuple(p for p in cohort.patient_ids if p not in inside)
    return HeldOut(Fold(0, 0, outside, inside), fitted, cohort.of(inside), cohort.of(outside))
