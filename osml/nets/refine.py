"""Refiners of coarse maps behind one contract: fitted on regions, stored without pickle.

`none` keeps the map, `majority` smooths it, `unet` answers in one step, `brownian_bridge` walks from the coarse map to
the refined one. All are fitted by `fit_refiner` and used by `Refiner.refine` (see `refine_maps`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from osml.engine.progress import Progress
from osml.errors import InvalidInputError, VerificationError
from osml.files import atomic_write, read_json, write_json
from osml.nets.refine_maps import MapSpec, Refiner, Region, check_regions
from osml.nets.refine_network import NetworkRefiner, make_network
from osml.nets.refine_recipe import NETWORK_KINDS, RefineRecipe, recipe_facts
from osml.nets.refine_simple import Majority, Untouched, fit_majority
from osml.nets.refine_train import fit_network
from osml.nets.train import Checkpoints
from osml.nets.unet import UNet

RefinerKind = Literal["none", "majority", "unet", "brownian_bridge"]
REFINERS: tuple[RefinerKind, ...] = ("none", "majority", "unet", "brownian_bridge")  # from the simplest
_FACTS, _TENSORS, _FORMAT = "refiner.json", "refiner.safetensors", 1


def fit_refiner(
    kind: RefinerKind,
    regions: Sequence[Region],
    spec: MapSpec,
    recipe: RefineRecipe,
    *,
    seed: int,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> Refiner:
    """Fit a refiner to regions of training patients.

    Parameters
    ----------
    kind : one of `REFINERS`
    regions : coarse maps, pictures and references; the coarse maps are out of fold (see `Region`)
    spec : classes and cells of all maps
    recipe : of the networks; `none` and `majority` do not look at it
    seed : decides all that is random
    device : "cpu" or "cuda"; the fitted refiner is on the CPU
    checkpoints : networks only: continue what is stored there, and store; None = nothing is written
    progress : told of every training step; its total is `recipe.steps`

    Raises
    ------
    InvalidInputError
        Regions that are none: wrong shapes, logits instead of probabilities, nothing annotated.
    ConvergenceError
        The loss is no longer finite.
    RunError
        The checkpoint belongs to another training.
    """
    whole = list(regions)
    check_regions(whole, spec)
    if kind == "none":
        return Untouched(spec)
    if kind == "majority":
        return fit_majority(whole, spec)
    if kind not in NETWORK_KINDS:
        raise InvalidInputError(f"refiner {kind!r}", do=f"Use one of {', '.join(REFINERS)}.")
    return fit_network(kind, whole, spec, recipe, seed=seed, device=device, checkpoints=checkpoints, progress=progress)


def save_refiner(folder: Path, refiner: Refiner) -> None:
    """Write `refiner.json` and, of a network, `refiner.safetensors`; equal refiners, equal bytes, no patient."""
    facts: dict[str, Any] = {
        "format": _FORMAT,
        "kind": refiner.kind,
        "classes": list(refiner.spec.classes),
        "cell_um": refiner.spec.cell_um,
    }
    if isinstance(refiner, Majority):
        facts["side"] = refiner.side
    if isinstance(refiner, NetworkRefiner):
        tensors = save({name: t.contiguous() for name, t in refiner.network.state_dict().items()})
        atomic_write(folder / _TENSORS, tensors)
        facts |= {"recipe": recipe_facts(refiner.recipe), "seed": refiner.seed}
        facts["sha256"] = hashlib.sha256(tensors).hexdigest()
    write_json(folder / _FACTS, facts)


def load_refiner(folder: Path) -> Refiner:
    """The saved refiner, on the CPU.

    Raises
    ------
    VerificationError
        A file is damaged or missing, of a newer format, or its tensors are not those of its recipe.
    """
    facts = read_json(folder / _FACTS)
    if facts["format"] != _FORMAT:
        raise VerificationError(
            f"{folder / _FACTS} has format {facts['format']}; this osml reads {_FORMAT}", do="Update osml."
        )
    spec = MapSpec(tuple(facts["classes"]), facts["cell_um"])
    kind = facts["kind"]
    if kind == "none":
        return Untouched(spec)
    if kind == "majority":
        return Majority(spec, facts["side"])
    if kind not in NETWORK_KINDS:
        raise VerificationError(f"{folder / _FACTS} holds an unknown refiner {kind!r}")
    recipe = RefineRecipe(**facts["recipe"])
    network = make_network(kind, spec, recipe)
    _put(network, folder / _TENSORS, facts["sha256"])
    return NetworkRefiner(kind, spec, recipe, network.eval(), facts["seed"])


def _put(network: UNet, path: Path, digest: str) -> None:
    """Copy stored tensors into a network, whose names and shapes they must have."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError(f"{path} is missing") from error
    if hashlib.sha256(raw).hexdigest() != digest:
        raise VerificationError(f"{path} is not the file that was written: its SHA-256 differs")
    try:
        tensors = load(raw)
    except SafetensorError as error:
        raise VerificationError(f"{path} is no safetensors file: {error}") from error
    own = network.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
    if wrong:
        raise VerificationError(f"{path} holds other tensors than its recipe asks for, first {wrong[0]!r}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
