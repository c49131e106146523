"""The networks of a run's folds, each with the patients that it did not train on, and their scores with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold, folds_from_json
from osml.errors import RunError
from osml.features.images import compute_images, image_plans, with_images
from osml.files import read_json
from osml.predictors.network import FittedNetwork, load_network_predictor
from osml.runs.cohort_store import load_cohort
from osml.schema.images import ImageInput
from osml.schema.model import FileInput, Schema

if TYPE_CHECKING:
    from torch import Tensor

    from osml.nets.branches import Items

ENCODE_BATCH = 16


@dataclass(frozen=True)
class HeldOut:
    """A fold's network and its patients.

    test : units that it did not train on, with their outcomes
    train : units that it was trained on
    """

    fold: Fold
    fitted: FittedNetwork
    test: Cohort
    train: Cohort


def run_schema(run: Path) -> Schema:
    """The schema of a run, from the run itself."""
    return Schema.model_validate(read_json(run / "schema.resolved.json"))


def held_out_networks(run: Path, name: str, *, repeats: int | None = None) -> list[HeldOut]:
    """Every fold's network `name` with its test patients.

    Parameters
    ----------
    repeats : of the split, the first ones; none: all

    Raises
    ------
    RunError
        No fold of the predictor was finished.
    """
    schema = run_schema(run)
    cohort = run_cohort(run, schema, name)
    out = []
    for fold in done_folds(run, name, repeats):
        fitted = load_network_predictor(run / "folds" / fold.name / name)
        out.append(HeldOut(fold, fitted, cohort.of(fold.test), cohort.of(fold.train)))
    return out


def done_folds(run: Path, name: str, repeats: int | None = None) -> list[Fold]:
    """Folds in which the predictor was fitted."""
    folds = folds_from_json(read_json(run / "splits.json"))
    wanted = [fold for fold in folds if repeats is None or fold.repeat < repeats]
    done = [fold for fold in wanted if (run / "folds" / fold.name / name / "status.json").is_file()]
    if not done:
        raise RunError(f"no fold of {name!r} was fitted in {run}", do="Run `osml fit` again.")
    return done


def run_cohort(run: Path, schema: Schema, name: str) -> Cohort:
    """The run's cohort; what networks read of its pictures is computed again where the cache no longer holds it."""
    cohort = load_cohort(run / "cohort" / "cohort.parquet")
    plans = image_plans(schema, [name])
    if all(_kept(cohort, key) for key in plans):
        return cohort
    paths, masks = {}, {}
    for plan in plans.values():
        paths[plan.input] = cohort.paths(plan.input)
        if not isinstance(schema.inputs[plan.input], ImageInput):
            masks[plan.input] = cohort.files[f"{plan.input}.mask"]
    found = compute_images(schema, list(plans.values()), cohort.units, paths, masks, picture_root(run, schema))
    if found.unusable:
        raise RunError(f"{found.unusable[0].detail}", why="The pictures changed since the run was fitted.")
    return with_images(cohort, replace(found, tables={**cohort.images, **found.tables}))


def picture_root(run: Path, schema: Schema) -> Path:
    """Where the paths of the run's table start."""
    source = run / "cohort" / "source.json"
    return Path(read_json(source)["folder"]) if source.is_file() else (run / schema.cohort.table).parent


def explained_columns(fitted: FittedNetwork) -> tuple[str, ...]:
    """What is explained: the event, every class, or the hazard."""
    if fitted.target == "classes":
        assert fitted.tree is not None
        return fitted.tree.leaves
    return fitted.columns[:1] if fitted.target == "binary" else ("hazard",)


def scale_of(fitted: FittedNetwork, column: str) -> str:
    """In words, what contributions add up to."""
    if fitted.target == "survival":
        return "log hazard"
    return "log odds" if fitted.target == "binary" else f"log P({column})"


def encoded(fitted: FittedNetwork, cohort: Cohort) -> list[list[Items]]:
    """Items of every modality behind the encoders, one list per seed; those of tables hold NaN where missing."""
    import torch

    from osml.nets.batches import row_tensor
    from osml.nets.branches import Items
    from osml.predictors.network_inputs import stores

    n = len(cohort)
    batch = stores(fitted.sources, cohort, fitted.built_encoders, "cpu").batch(row_tensor(np.arange(n), "cpu"), None)
    out = []
    for network in fitted.networks:
        network.to("cpu").eval()
        own = []
        for k, modality in enumerate(network.recipe.modalities):
            items = batch[modality.name]
            if str(k) in network.encoders and len(items.values):
                with torch.inference_mode():
                    parts = [network.encoders[str(k)](part).float() for part in items.values.split(ENCODE_BATCH)]
                # Cloned: a tensor of inference cannot take part in a gradient.
                items = Items(torch.cat(parts).clone(), items.owner)
            elif str(k) in network.encoders:
                items = Items(torch.zeros(0, modality.width), items.owner)
            own.append(items)
        out.append(own)
    return out


def score(fitted: FittedNetwork, items: Sequence[Sequence[Items]], n: int, column: str) -> Tensor:
    """Linear predictor (n,) of units from their encoded items, float64: what `predict` gives, with a gradient."""
    import torch

    networks = zip(fitted.networks, items, strict=True)
    outputs = torch.stack([network.fused(own, n).outputs.double() for network, own in networks])
    return linear_predictor(fitted, outputs.mean(dim=0), column)


def linear_predictor(fitted: FittedNetwork, outputs: Tensor, column: str) -> Tensor:
    """`network_outputs.risks` in torch: log odds, log hazard or log P(column), (n,), of mean outputs (n, k)."""
    import torch
    from torch.nn.functional import logsigmoid

    from osml.nets.heads import log_probabilities
    from osml.nets.label_tree import decisions
    from osml.nets.recipe import ClassTarget, DiscreteTimeTarget

    calibration, target = fitted.calibration, fitted.recipe.target
    if fitted.target == "binary":
        lp = outputs[:, 1] - outputs[:, 0]
        if calibration.kind == "platt":
            lp = calibration.values[0] + calibration.values[1] * lp
        return lp + sum(calibration.offset) + calibration.prevalence
    if isinstance(target, DiscreteTimeTarget):
        # Constant hazards within an interval: those up to the last horizon, the last one in part.
        ends = np.concatenate([[0.0], target.cuts])
        share = np.clip((fitted.horizons[-1] - ends[:-1]) / np.diff(ends), 0, 1)
        part = torch.tensor(share, dtype=outputs.dtype)
        return torch.log(-(logsigmoid(-outputs) * part).sum(dim=1))
    if not isinstance(target, ClassTarget):
        centre = float(np.mean(fitted.centres)) if fitted.centres else 0.0
        return (outputs[:, 0] - centre) * (calibration.values[0] if calibration.kind == "slope" else 1.0)
    assert fitted.tree is not None
    shift = torch.tensor(calibration.offset or (0.0,) * len(target.tree.nodes), dtype=outputs.dtype)
    divisor = torch.ones(len(target.tree.nodes), dtype=outputs.dtype)
    for decision, temperature in zip(decisions(target.tree), calibration.values, strict=False):
        divisor[list(decision.members)] = temperature
    logits = outputs / divisor
    log_p = log_probabilities(target.tree, logits if calibration.restated else logits + shift)
    tree = fitted.tree
    below = [leaf for leaf in tree.leaves if tree.lineage[tree.nodes.index(leaf), tree.nodes.index(column)]]
    return torch.logsumexp(log_p[:, [target.tree.nodes.index(leaf) for leaf in below]], dim=1)


def image_inputs(schema: Schema, name: str) -> tuple[str, ...]:
    """Inputs of a network that are pictures or volumes."""
    return tuple(i for i in schema.networks()[name].inputs if isinstance(schema.inputs.get(i), FileInput))


def _kept(cohort: Cohort, key: str) -> bool:
    table = cohort.images.get(key)
    return table is not None and (not isinstance(table.stored, Path) or table.stored.is_file())
