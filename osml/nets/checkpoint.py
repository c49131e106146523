"""On disk, as safetensors and JSON without pickle: a trained network, and the state of an unfinished training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from osml.errors import RunError, VerificationError
from osml.files import atomic_write, read_json, write_json
from osml.nets.network import Network
from osml.nets.recipe import network_recipe, recipe_to_json

_STATE = "checkpoint.json"
_NETWORK, _TENSORS = "network.json", "network.safetensors"


def save_network(folder: Path, network: Network) -> None:
    """Write `network.json` (the recipe) and `network.safetensors` (what training changed); equal networks, equal bytes.

    Frozen encoders are not in it: keep their names and hashes beside it.
    """
    tensors = save({name: _plain(tensor) for name, tensor in network.trained()})
    atomic_write(folder / _TENSORS, tensors)
    facts = {"recipe": recipe_to_json(network.recipe), "sha256": hashlib.sha256(tensors).hexdigest()}
    write_json(folder / _NETWORK, facts)


def load_network(folder: Path, encoders: Mapping[str, nn.Module] | None = None) -> Network:
    """The saved network, in evaluation mode on the CPU.

    Parameters
    ----------
    encoders : the same modules, with the same trainable tensors, as when it was built

    Raises
    ------
    VerificationError
        A file is damaged, or the tensors are not those of the recipe and its encoders.
    """
    facts = read_json(folder / _NETWORK)
    network = Network(network_recipe(facts["recipe"]), encoders)
    put_tensors(network, _tensors(folder / _TENSORS, facts["sha256"]))
    return network.eval()


def put_tensors(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the network; names and shapes must be exactly those that `network.trained` gives."""
    own = dict(network.trained())
    for name in sorted(own.keys() ^ tensors.keys()):
        where = "missing in the file" if name in own else "not in the network"
        raise VerificationError(
            f"tensor {name!r} is {where}", do="Build the encoders as they were when the network was trained."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise VerificationError(
                    f"tensor {name!r} has shape {tuple(tensor.shape)} here and {tuple(tensors[name].shape)} in the file"
                )
            tensor.copy_(tensors[name])


@dataclass(frozen=True)
class State:
    """An unfinished training after a whole epoch: all its tensors, and plain facts for JSON."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write_state(folder: Path, state: State, fingerprint: str) -> None:
    """Store a state so that a kill at any moment leaves the former or the new one, whole."""
    raw = save({name: _plain(tensor) for name, tensor in state.tensors.items()})
    digest = hashlib.sha256(raw).hexdigest()
    path = folder / f"checkpoint-{digest[:16]}.safetensors"
    atomic_write(path, raw)
    # The JSON names its tensors, so the swap of one file moves from one state to the next.
    write_json(folder / _STATE, {"fingerprint": fingerprint, "file": path.name, "sha256": digest, **state.facts})
    for other in folder.glob("checkpoint-*.safetensors"):
        if other != path:
            other.unlink()


def read_state(folder: Path, fingerprint: str) -> State | None:
    """The stored state, None where there is none.

    Raises
    ------
    RunError
        The state is of another fit (other rows, recipe or seed), or damaged.
    """
    path = folder / _STATE
    if not path.is_file():
        return None
    try:
        facts = read_json(path)
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is no JSON: {error}", do="Delete the folder; training starts again.") from error
    if facts["fingerprint"] != fingerprint:
        raise RunError(
            f"{path} belongs to another training",
            why="Rows, labels, recipe, seed or initial weights differ, so it cannot be continued.",
            do="Delete the folder, or give another one.",
        )
    return State(_tensors(folder / facts["file"], facts["sha256"]), facts)


def _tensors(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError(f"{path} is missing") from error
    if hashlib.sha256(raw).hexdigest() != digest:
        raise VerificationError(f"{path} is not the file that was written: its SHA-256 differs")
    try:
        return load(raw)
    except SafetensorError as error:
        raise VerificationError(f"{path} is no safetensors file: {error}") from error


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
