"""One training over two devices, here two processes on the CPU: the network of one device, but for rounding."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from nets_data import TREE
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from osml.errors import ConvergenceError, InvalidInputError, MissingExtraError
from osml.nets.batches import Stores, column_store, store
from osml.nets.device import DEVICES, choose_devices
from osml.nets.losses import FollowUp, Labels, Truth
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, CoxTarget, Modality, NetworkRecipe, TrainRecipe
from osml.nets.train import Checkpoints, Trained, predict, train

N = 30
RECIPE = TrainRecipe(epochs=4, batch=7, rate=3e-3, patience=None)
ROWS, INNER = np.arange(0, 22), np.arange(22, N)


def data() -> tuple[Stores, Labels, FollowUp]:
    """Tiles of which a row has several or none, a table, and outcomes that show in both."""
    rng = np.random.default_rng(3)
    node = np.array([TREE.nodes.index(name) for name in TREE.leaves])[rng.integers(0, 3, N)].astype(np.intp)
    row = np.repeat(np.arange(N), rng.integers(0, 4, N))
    tiles = torch.as_tensor(rng.normal(size=(len(row), 1, 6, 6)) + node[row][:, None, None, None], dtype=torch.float32)
    columns = (rng.normal(size=(N, 3)) + node[:, None]).astype(np.float32)
    time = rng.exponential(4.0 * np.exp(-0.5 * node)) + 0.01
    source = Stores({"tile": store(tiles, row, N), "table": column_store(columns)})
    return source, Labels(node), FollowUp(np.minimum(time, 8.0), time < 8.0)


SOURCE, LABELS, TIMES = data()


def network(target: ClassTarget | CoxTarget, dropout: float = 0.2) -> Network:
    """Over tiles and a table, with batch statistics in the table's branch and dropout behind the encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts = (Modality("tile", "image", 4), Modality("table", "tabular", 3, start=(0.0, 0.0, 0.0)))
    recipe = NetworkRecipe(parts, target, fusion="gated", width=8, dropout=dropout, modality_dropout=dropout)
    return build_network(recipe, {"tile": encoder}, seed=0)


def trained(
    devices: int, recipe: TrainRecipe = RECIPE, *, target: ClassTarget | CoxTarget | None = None, **options: object
) -> tuple[Network, Trained]:
    chosen = target or ClassTarget(TREE, "uncertainty")
    truth: Truth = TIMES if isinstance(chosen, CoxTarget) else LABELS
    net = network(chosen)
    make = partial(made, chosen)
    return net, train(net, SOURCE, truth, ROWS, recipe, seed=1, devices=devices, make=make, **options)


def made(target: ClassTarget | CoxTarget, device: str) -> tuple[Network, Stores]:
    """As another process makes them."""
    assert device == "cpu"
    return network(target), data()[0]


def assert_alike(one: tuple[Network, Trained], two: tuple[Network, Trained]) -> None:
    assert one[1].epoch == two[1].epoch
    for name in ("train_loss", "held_out_loss"):
        losses = [[getattr(epoch, name) for epoch in found.epochs] for _, found in (one, two)]
        assert losses[0] == losses[1] or losses[1] == pytest.approx(losses[0], rel=1e-4)
    a, b = (dict(net.trained()) for net, _ in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        assert_allclose(b[name].detach().numpy(), a[name].detach().numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
    outputs = [predict(net, SOURCE, np.arange(N)).outputs for net, _ in (one, two)]
    assert_allclose(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("target", [ClassTarget(TREE, "uncertainty"), CoxTarget()], ids=["classes", "cox"])
def test_two_devices_train_the_network_of_one(target: ClassTarget | CoxTarget) -> None:
    plan = replace(RECIPE, batch=None if isinstance(target, CoxTarget) else 7, patience=3, epochs=6, clip=1.0, ema=0.9)
    one, two = (trained(devices, plan, target=target, inner=INNER) for devices in (1, 2))
    start = dict(network(target).trained())["encoders.0.0.weight"]
    assert not torch.equal(dict(two[0].trained())["encoders.0.0.weight"], start)
    assert_alike(one, two)


@pytest.mark.full
def test_a_training_goes_on_with_any_number_of_devices(tmp_path: Path) -> None:
    whole = trained(1)
    first = replace(RECIPE, epochs=RECIPE.epochs)
    folder = Checkpoints(tmp_path, 0.0)

    def stop(epoch: object) -> None:
        if getattr(epoch, "number", 0) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(1, first, checkpoints=folder, on_epoch=stop)
    assert_alike(whole, trained(2, first, checkpoints=folder))
    assert_alike(whole, trained(1, first, checkpoints=folder))  # what two devices stored, one reads


@pytest.mark.full
def test_errors_come_back_from_the_processes() -> None:
    with pytest.raises(ConvergenceError, match="in epoch 1"):
        trained(2, replace(RECIPE, optimizer="sgd", rate=1e30, clip=None, ema=None, warmup=0))


def test_networks_without_pictures_use_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osml.nets.train.launch", lambda *_: pytest.fail("no process is started"))
    recipe = NetworkRecipe((Modality("table", "tabular", 3, start=(0.0, 0.0, 0.0)),), ClassTarget(TREE), width=8)
    source = Stores({"table": SOURCE.stores["table"]})
    nets = [build_network(recipe, seed=0) for _ in range(2)]
    for devices, net in zip((1, 4), nets, strict=True):
        train(net, source, LABELS, ROWS, RECIPE, seed=1, devices=devices)
    assert_array_equal(*(predict(net, source, ROWS).outputs for net in nets))


def test_the_number_of_devices_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_devices("cuda") == 1
    for wanted, device, words in (("0", "cpu", "from 1"), ("x", "cpu", "from 1"), ("2", "cuda:1", "one card is named")):
        monkeypatch.setenv(DEVICES, wanted)
        with pytest.raises(InvalidInputError, match=words):
            choose_devices(device)
    monkeypatch.setenv(DEVICES, "3")
    assert choose_devices("cpu") == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InvalidInputError, match="there are 2 GPUs"):
        choose_devices("cuda")
    with pytest.raises(InvalidInputError, match="tell of no epoch"):
        trained(2, on_epoch=print)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtraError, match=r"osml\[multigpu\]"):
        choose_devices("cpu")
