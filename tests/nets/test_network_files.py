from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nets_data import TREE, make_cohort
from torch import nn

from osml.errors import InvalidInputError, VerificationError
from osml.nets.checkpoint import load_network, save_network
from osml.nets.network import build_network
from osml.nets.recipe import (
    ClassTarget,
    CoxTarget,
    DiscreteTimeTarget,
    Modality,
    NetworkRecipe,
    network_recipe,
    preset,
    recipe_to_json,
    train_recipe,
)
from osml.nets.train import predict

COHORT = make_cohort(20)
TARGETS = [ClassTarget(TREE, "uncertainty", 0.2), CoxTarget(), DiscreteTimeTarget((1.0, 2.5))]


@pytest.mark.parametrize("target", TARGETS, ids=["classes", "cox", "discrete time"])
def test_a_saved_network_predicts_the_same(
    tmp_path: Path, target: ClassTarget | CoxTarget | DiscreteTimeTarget
) -> None:
    net = build_network(COHORT.recipe(target=target, fusion="gated"), seed=4)
    save_network(tmp_path, net)
    back = load_network(tmp_path)
    assert back.recipe == net.recipe
    a, b = (predict(n, COHORT.source, np.arange(20)) for n in (net, back))
    assert np.array_equal(a.outputs, b.outputs)
    assert np.array_equal(a.weights, b.weights)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.json", "network.safetensors"]


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_network(tmp_path / name, build_network(COHORT.recipe(), seed=4))
    for name in ("network.json", "network.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_frozen_encoders_stay_outside_the_file(tmp_path: Path) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).requires_grad_(False)
    recipe = NetworkRecipe((Modality("tile", "image", 4),), ClassTarget(TREE))
    save_network(tmp_path, build_network(recipe, {"tile": encoder}, seed=0))
    assert b"encoders" not in (tmp_path / "network.safetensors").read_bytes()
    load_network(tmp_path, {"tile": encoder})
    with pytest.raises(VerificationError, match=r"encoders\.0\.1\.bias.*missing in the file"):
        load_network(tmp_path, {"tile": nn.Sequential(nn.Flatten(), nn.Linear(12, 4))})
    with pytest.raises(InvalidInputError, match="modalities of kind image"):
        load_network(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_network(tmp_path, build_network(COHORT.recipe(), seed=4))
    path = tmp_path / "network.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        load_network(tmp_path)
    path.unlink()
    with pytest.raises(VerificationError, match="is missing"):
        load_network(tmp_path)


def test_tensors_of_another_shape_are_named(tmp_path: Path) -> None:
    save_network(tmp_path, build_network(COHORT.recipe(fusion="gated"), seed=4))
    facts = json.loads((tmp_path / "network.json").read_text())
    facts["recipe"]["width"] = 17
    (tmp_path / "network.json").write_text(json.dumps(facts))
    with pytest.raises(VerificationError, match=r"has shape \(17,.* here and \(16,"):
        load_network(tmp_path)


@pytest.mark.parametrize("target", TARGETS, ids=["classes", "cox", "discrete time"])
def test_recipes_survive_json(target: ClassTarget | CoxTarget | DiscreteTimeTarget) -> None:
    recipe = COHORT.recipe(target=target)
    assert network_recipe(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe
    plan = preset("late-fusion-paper")
    assert train_recipe(json.loads(json.dumps(recipe_to_json(plan)))) == plan


def test_recipes_with_other_keys_are_refused() -> None:
    data = recipe_to_json(COHORT.recipe())
    with pytest.raises(InvalidInputError, match="gate unknown or missing"):
        network_recipe({**data, "gate": 1})
    with pytest.raises(InvalidInputError, match="target kind 'ordinal'"):
        network_recipe({**data, "target": {"kind": "ordinal"}})
    with pytest.raises(InvalidInputError, match="no training preset 'paper'"):
        preset("paper")
    with pytest.raises(InvalidInputError, match="no setting 'learning_rate'"):
        preset("embeddings", learning_rate=1e-3)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    save_network(tmp_path, build_network(COHORT.recipe(), seed=4))
    torch.save({"x": torch.zeros(1)}, tmp_path / "network.safetensors")
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        load_network(tmp_path)
