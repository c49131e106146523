"""Encoders inside the network: trained by low-rank additions or in full, saved without the frozen part, found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_files import TINY_SIZE, random_images, tiny_encoder
from nets_data import TREE
from safetensors.torch import load_file

from osml.nets.augment import Augmentation, Prepare
from osml.nets.batches import Stores, store
from osml.nets.checkpoint import load_network, save_network
from osml.nets.encoders import Tune
from osml.nets.losses import Labels
from osml.nets.network import build_network
from osml.nets.recipe import ClassTarget, Modality, NetworkRecipe, preset
from osml.nets.train import predict, train


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_trained_saved_and_found_again(tmp_path: Path, tune: Tune) -> None:
    encoder = tiny_encoder(tmp_path, tune=tune)
    recipe = NetworkRecipe((Modality("tile", "image", encoder.width),), ClassTarget(TREE), fusion="gated", width=8)
    node = np.array([0, 2, 3, 1, 0, 3])
    prepare = Prepare(TINY_SIZE, Augmentation())
    source = Stores({"tile": store(random_images(8), np.array([0, 1, 1, 2, 3, 4, 5, 5]), 6, prepare=prepare)})
    network = build_network(recipe, {"tile": encoder}, seed=0)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    plan = replace(preset("fine-tune"), epochs=2, batch=4, patience=None, warmup=0.0)
    train(network, source, Labels(node), np.arange(6), plan, seed=0)
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    save_network(tmp_path / "net", network)
    names = load_file(tmp_path / "net" / "network.safetensors")
    saved = {name.removeprefix("encoders.0.") for name in names if name.startswith("encoders.")}
    # What moved is in the file; what stands still is not, but for tensors that could have moved.
    assert moved <= saved
    assert bool(moved) == bool(saved) == (tune != "frozen")
    if tune == "lora":
        assert all("parametrizations" in name and "original" not in name for name in saved)
    if tune == "full":
        assert any(name.endswith("running_mean") for name in moved)
    expected = predict(network, source, np.arange(6)).outputs
    back = load_network(tmp_path / "net", {"tile": tiny_encoder(tmp_path, tune=tune)})
    assert np.array_equal(predict(back, source, np.arange(6)).outputs, expected)
