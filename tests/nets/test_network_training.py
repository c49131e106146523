"""Training: it learns, repeats itself, continues after a kill as if undisturbed, and stops on inner patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nets_data import TREE, make_cohort
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from osml.errors import ConvergenceError, InvalidInputError, RunError, VerificationError
from osml.nets.batches import Stores, store
from osml.nets.heads import probabilities
from osml.nets.losses import FollowUp, Labels
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, CoxTarget, DiscreteTimeTarget, Modality, NetworkRecipe, TrainRecipe, preset
from osml.nets.train import Checkpoints, Trained, predict, train
from osml.nets.training_state import Epoch, rate_factor

COHORT = make_cohort(120)
ROWS, INNER, TEST = np.arange(0, 70), np.arange(70, 90), np.arange(90, 120)
SHORT = TrainRecipe(epochs=6, batch=16, rate=3e-3, patience=None)
LABELS = Labels(COHORT.node)


def fit(recipe: TrainRecipe = SHORT, *, seed: int = 1, **options: object) -> tuple[Network, Trained]:
    net = build_network(options.pop("network", COHORT.recipe(fusion="gated")), seed=seed)
    return net, train(net, COHORT.source, LABELS, ROWS, recipe, seed=seed, **options)


def tensors(net: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.trained()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
def test_it_learns_what_is_planted_with_modalities_missing(fusion: str) -> None:
    net, _ = fit(replace(SHORT, epochs=25), network=COHORT.recipe(fusion=fusion, dropout=0.1))
    found = predict(net, COHORT.source, TEST)
    p = probabilities(net.recipe.target, torch.as_tensor(found.outputs)).numpy()
    truth = np.array([TREE.leaves.index(TREE.nodes[k]) for k in COHORT.node[TEST]])
    assert (p.argmax(axis=1) == truth).mean() > 0.6
    assert not found.untrained.any()


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    net, _ = fit()
    whole, parts = predict(net, COHORT.source, TEST), predict(net, COHORT.source, TEST, batch=7)
    assert_allclose(parts.outputs, whole.outputs, rtol=1e-4, atol=1e-6)
    assert_array_equal(parts.present, whole.present)
    assert_allclose(whole.weights.sum(axis=1), 1.0, rtol=1e-6)
    assert predict(net, COHORT.source, TEST[:0]).outputs.shape == (0, 4)


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    (a, _), (b, _) = fit(), fit()
    assert torch.equal(torch.get_rng_state(), before)
    assert same(tensors(a), tensors(b))
    torch.manual_seed(10)
    c, _ = fit()
    assert same(tensors(a), tensors(c))
    d, _ = fit(seed=2)
    assert not same(tensors(a), tensors(d))


RECIPES = [
    SHORT,
    replace(SHORT, patience=3),
    replace(SHORT, optimizer="sgd", schedule="step", drops=(2, 4), ema=None, clip=None),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["adamw", "early stopping", "sgd"])
def test_killed_and_continued_is_undisturbed(tmp_path: Path, recipe: TrainRecipe) -> None:
    inner = INNER if recipe.patience else None
    weighted = COHORT.recipe(fusion="gated", target=ClassTarget(TREE, "uncertainty"))
    straight, expected = fit(recipe, network=weighted, inner=inner)
    checkpoints = Checkpoints(tmp_path, every_s=0)

    def kill(epoch: Epoch) -> None:
        if epoch.number in (1, 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, network=weighted, inner=inner, checkpoints=checkpoints, on_epoch=kill)
    net, found = fit(recipe, network=weighted, inner=inner, checkpoints=checkpoints)
    assert found == expected
    assert same(tensors(net), tensors(straight))
    # Finished: asked again, nothing is trained.
    epochs: list[Epoch] = []
    again, repeated = fit(recipe, network=weighted, inner=inner, checkpoints=checkpoints, on_epoch=epochs.append)
    assert epochs == []
    assert repeated == expected
    assert same(tensors(again), tensors(straight))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_s=0)
    fit(checkpoints=checkpoints)
    with pytest.raises(RunError, match="belongs to another training"):
        fit(seed=2, checkpoints=checkpoints)
    with pytest.raises(RunError, match="belongs to another training"):
        fit(replace(SHORT, rate=1e-3), checkpoints=checkpoints)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        fit(checkpoints=checkpoints)


def test_early_stopping_keeps_the_best_epoch_on_inner_rows() -> None:
    seen: list[Epoch] = []
    net, found = fit(replace(SHORT, epochs=60, patience=4, rate=2e-2), inner=INNER, on_epoch=seen.append)
    losses = [e.held_out_loss for e in found.epochs]
    assert found.epoch == int(np.argmin(losses))
    assert len(losses) == min(found.epoch + 5, 60) < 60
    assert seen == list(found.epochs)
    # The weights are those of that epoch: their loss on the inner rows is the one noted.
    short = build_network(COHORT.recipe(fusion="gated"), seed=1)
    until = train(
        short, COHORT.source, LABELS, ROWS, replace(SHORT, epochs=60, patience=4, rate=2e-2), seed=1, inner=INNER
    )
    assert until == found
    assert same(tensors(short), tensors(net))


def test_inner_rows_are_never_trained_on() -> None:
    a, _ = fit(replace(SHORT, patience=10), inner=INNER)
    changed = Labels(np.where(np.isin(np.arange(120), TEST), 0, COHORT.node))
    b = build_network(COHORT.recipe(fusion="gated"), seed=1)
    train(b, COHORT.source, changed, ROWS, replace(SHORT, patience=10), seed=1, inner=INNER)
    assert same(tensors(a), tensors(b))


def test_the_moving_average_is_used_at_the_end() -> None:
    # One step per epoch, so the callback sees the weights after every step. Decay: s / (s + 9), at most `ema`.
    net = build_network(COHORT.recipe(fusion="gated"), seed=1)
    steps = [net.head.weight.detach().clone()]
    recipe = replace(SHORT, batch=None, epochs=8, ema=0.3)
    train(
        net, COHORT.source, LABELS, ROWS, recipe, seed=1,
        on_epoch=lambda _: steps.append(net.head.weight.detach().clone()),
    )  # fmt: skip
    average = steps[0]
    for s, weight in enumerate(steps[1:], start=1):
        decay = min(0.3, s / (s + 9))
        average = decay * average + (1 - decay) * weight
    assert_allclose(net.head.weight.detach().numpy(), average.numpy(), rtol=1e-5, atol=1e-7)
    assert not torch.equal(net.head.weight, steps[-1])


def test_learned_node_weights_move_towards_eta_over_the_loss() -> None:
    target = ClassTarget(TREE, "uncertainty", eta=0.5)
    recipe = replace(SHORT, epochs=60, node_rate=0.05)
    _, found = fit(recipe, network=COHORT.recipe(fusion="concat", target=target))
    weights = np.array([e.node_weights for e in found.epochs])
    assert weights.shape == (60, 2)
    # The losses fall below eta, so the weights rise above their start of 1.
    assert (weights[-1] > 1.2).all()


@pytest.mark.parametrize("target", [CoxTarget(), DiscreteTimeTarget((2.0, 4.0, 8.0))], ids=["cox", "discrete time"])
def test_survival_targets_learn_the_order_of_events(target: CoxTarget | DiscreteTimeTarget) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    time = rng.exponential(4 * np.exp(-1.2 * x[:, 0])) + 0.01
    truth = FollowUp(np.minimum(time, 10.0), time < 10.0)
    source = Stores({"image": store(torch.as_tensor(x), np.arange(200), 200)})
    recipe = NetworkRecipe((Modality("image", "embedding", 3),), target, fusion="gated", width=16)
    net = build_network(recipe, seed=0)
    train(net, source, truth, np.arange(150), replace(SHORT, batch=None, epochs=80, rate=1e-2), seed=0)
    risk = predict(net, source, np.arange(150, 200)).outputs.mean(axis=1)
    assert np.corrcoef(risk, x[150:, 0])[0, 1] > 0.8


def test_encoders_wait_for_their_epoch() -> None:
    rng = np.random.default_rng(0)
    node = rng.integers(0, 2, 24).astype(np.intp)
    tiles = torch.as_tensor(rng.normal(size=(24, 1, 6, 6)) + node[:, None, None, None], dtype=torch.float32)
    source = Stores({"tile": store(tiles, np.arange(24), 24)})
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    start = {name: p.detach().clone() for name, p in encoder.state_dict().items()}
    recipe = NetworkRecipe((Modality("tile", "image", 4),), ClassTarget(TREE), fusion="gated", width=16)
    plan = replace(SHORT, epochs=2, encoder_from=2, ema=None)
    train(build_network(recipe, {"tile": encoder}, seed=0), source, Labels(node), np.arange(24), plan, seed=0)
    assert all(torch.equal(start[name], p) for name, p in encoder.state_dict().items())
    plan = replace(plan, encoder_from=1)
    train(build_network(recipe, {"tile": encoder}, seed=0), source, Labels(node), np.arange(24), plan, seed=0)
    assert not torch.equal(start["0.weight"], encoder.state_dict()["0.weight"])
    assert not torch.equal(start["1.running_mean"], encoder.state_dict()["1.running_mean"])


def test_rates_rise_and_fall() -> None:
    recipe = TrainRecipe(epochs=13, warmup=3.0)
    factors = [rate_factor(recipe, e, 1.0) for e in range(13)]
    assert_allclose(factors[:3], [1 / 3, 2 / 3, 1.0], rtol=1e-12)
    assert_allclose(factors[7], 0.5, rtol=1e-12)
    assert_allclose(factors[12], 0.0, atol=1e-12)
    paper = preset("late-fusion-paper")
    assert_allclose(paper.rate * rate_factor(paper, 49, 1.0), 1e-5, rtol=1e-9)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"recipe": replace(SHORT, patience=3)}, "there are no inner rows"),
        ({"inner": INNER}, "patience is None"),
        ({"recipe": replace(SHORT, patience=3), "inner": np.array([69, 70])}, "1 are training rows, too"),
        ({"rows": ROWS[:0]}, "no training rows"),
        ({"truth": LABELS.take(ROWS)}, "70 labels for 120 rows"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    given = {"truth": LABELS, "rows": ROWS, "recipe": SHORT, "inner": None} | changes
    net = build_network(COHORT.recipe(), seed=0)
    with pytest.raises(InvalidInputError, match=message):
        train(net, COHORT.source, given["truth"], given["rows"], given["recipe"], seed=0, inner=given["inner"])


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(ConvergenceError, match="in epoch 1"):
        fit(replace(SHORT, optimizer="sgd", rate=1e30, clip=None, ema=None, warmup=0))


@pytest.mark.gpu
@pytest.mark.full
def test_a_gpu_repeats_itself() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = []
    for _ in range(2):
        source = make_cohort(120)
        stores = {
            name: store(s.values.to("cuda"), np.repeat(np.arange(120), np.diff(s.first.numpy())), 120, device="cuda")
            for name, s in source.source.stores.items()
        }
        net = build_network(COHORT.recipe(fusion="gated"), seed=1)
        train(net, Stores(stores), LABELS, ROWS, SHORT, seed=1, device="cuda")
        found.append(predict(net, Stores(stores), TEST, device="cuda").outputs)
    assert_array_equal(found[0], found[1])
