"""The network as a whole: fusion, presence, several images per row, encoders, small batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets_data import TREE, make_cohort
from numpy.testing import assert_allclose
from torch import nn

from osml.errors import InvalidInputError
from osml.nets.batches import Stores, epoch_batches, random_view, row_tensor, store
from osml.nets.branches import BatchNorm, Items, ReduceItems
from osml.nets.fusion import Film, Gated, hide_modalities, make_fusion
from osml.nets.network import build_network
from osml.nets.recipe import ClassTarget, Modality, NetworkRecipe, Reduce

COHORT = make_cohort()
ALL = row_tensor(np.arange(COHORT.n), "cpu")


@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
def test_outputs_and_presence(fusion: str) -> None:
    net = build_network(COHORT.recipe(fusion=fusion), seed=0).eval()
    out = net(COHORT.source.batch(ALL, None), COHORT.n)
    assert out.outputs.shape == (60, 4)
    assert bool(out.outputs.isfinite().all())
    assert out.present[:, 0].tolist() == [i % 6 != 0 for i in range(60)]
    assert out.present[:, 1].tolist() == [i % 7 != 0 for i in range(60)]
    if fusion == "gated":
        assert_allclose(out.weights.sum(dim=1).detach().numpy(), 1.0, rtol=1e-6)
        assert bool((out.weights >= 0).all())
    else:
        assert out.weights is None


@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
@pytest.mark.parametrize("reduce", ["mean", "max", "attention"])
def test_a_row_s_output_depends_on_that_row_alone(fusion: str, reduce: Reduce) -> None:
    image = replace(COHORT.image, reduce=reduce)
    net = build_network(COHORT.recipe(fusion=fusion, modalities=(image, COHORT.table)), seed=0).eval()
    whole = net(COHORT.source.batch(ALL, None), COHORT.n).outputs
    for rows in ([5], [12, 7], [0, 42, 59]):
        part = net(COHORT.source.batch(row_tensor(rows, "cpu"), None), len(rows)).outputs
        assert_allclose(part.detach().numpy(), whole[rows].detach().numpy(), rtol=1e-4, atol=1e-6)


def test_equations_one_and_two_of_the_gate() -> None:
    # Worked by hand: widths 2 and 2, a gate whose last layer gives logits (0, log 3) whatever it is shown.
    gated = Gated([2, 2])
    with torch.no_grad():
        gated.gate[2].weight.zero_()
        gated.gate[2].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    z, alpha = gated([torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 8.0]])])
    assert_allclose(alpha.detach().numpy(), [[0.25, 0.75]], rtol=1e-6)
    assert_allclose(z.detach().numpy(), [[1.0, 6.0]], rtol=1e-6)
    assert gated.gate[0].in_features == 4
    assert gated.gate[0].out_features == 128


def test_film_starts_as_the_first_modality_and_then_scales_and_shifts_it() -> None:
    film = Film([2, 3])
    first, other = torch.tensor([[2.0, -1.0]]), torch.ones(1, 3)
    assert film([first, other])[0].tolist() == first.tolist()
    with torch.no_grad():
        film.condition[2].bias.copy_(torch.tensor([1.0, 0.0, 0.5, -0.5]))
    assert film([first, other])[0].tolist() == [[4.5, -1.5]]


@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
def test_one_modality_has_no_gate(fusion: str) -> None:
    net = build_network(COHORT.recipe(fusion=fusion).only(["image"]), seed=0).eval()
    out = net(COHORT.source.batch(ALL, None), COHORT.n)
    assert out.weights is None
    assert not any("gate" in name or "condition" in name for name, _ in net.named_parameters())
    assert type(net.fusion) is type(make_fusion("concat", [1]))


def test_the_concat_head_has_512_hidden_units_on_the_raw_vectors() -> None:
    # Late fusion: 512 image features and 4 columns, a two-layer head.
    recipe = NetworkRecipe(
        (Modality("xray", "embedding", 512), Modality("labs", "tabular", 4, start=(0.0,) * 4)),
        ClassTarget(COHORT.recipe().target.tree),
    )
    shapes = [tuple(p.shape) for p in build_network(recipe, seed=0).head.parameters()]
    assert shapes == [(512, 516), (512,), (4, 512), (4,)]


@pytest.mark.parametrize(
    "kind, expected", [("mean", [[2.0, 0.5], [0, 0], [5, -1]]), ("max", [[3, 1], [0, 0], [5, -1]])]
)
def test_several_items_become_one_vector(kind: Reduce, expected: list[list[float]]) -> None:
    values, owner = torch.tensor([[1.0, 1.0], [3.0, 0.0], [5.0, -1.0]]), torch.tensor([0, 0, 2])
    out, present = ReduceItems(kind, 2)(values, owner, 3)
    assert out.tolist() == expected
    assert present.tolist() == [True, False, True]


def test_attention_is_a_weighted_mean_of_a_row_s_own_items() -> None:
    reduce = ReduceItems("attention", 2)
    values, owner = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 2, 2])
    out, _ = reduce(values, owner, 3)
    scores = reduce.score(values)[:, 0]
    for row, items in ((0, slice(0, 3)), (2, slice(3, 5))):
        by_hand = torch.softmax(scores[items], dim=0) @ values[items]
        assert_allclose(out[row].detach().numpy(), by_hand.detach().numpy(), rtol=1e-5)
    assert out[1].tolist() == [0.0, 0.0]
    out.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in reduce.parameters())


@pytest.mark.parametrize("rows", [1, 2])
def test_radiomics_train_on_the_smallest_batches(rows: int) -> None:
    radiomics = Modality("nuclei", "radiomics", 5, start=(0.0,) * 5)
    recipe = NetworkRecipe((radiomics,), ClassTarget(TREE), fusion="gated", width=16)
    net = build_network(recipe, seed=0).train()
    out = net({"nuclei": Items(torch.randn(rows, 5), torch.arange(rows))}, rows)
    out.outputs.sum().backward()
    assert bool(out.outputs.isfinite().all())


def test_rows_without_radiomics_do_not_enter_their_statistics() -> None:
    radiomics = Modality("nuclei", "radiomics", 5, start=(0.0,) * 5)
    recipe = NetworkRecipe((radiomics, COHORT.table), ClassTarget(TREE), fusion="gated", width=16)
    net = build_network(recipe, seed=0).train()
    values = 3.0 + torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    rows = {"nuclei": Items(values, torch.tensor([0, 2, 5, 9])), "table": COHORT.source.batch(ALL[:10], None)["table"]}
    net(rows, 10)
    assert_allclose(net.branches[0][1].running_mean.numpy(), 0.1 * values.mean(dim=0).numpy(), rtol=1e-5)


def test_batch_normalisation_of_one_row_uses_running_statistics() -> None:
    norm, x = BatchNorm(3), torch.randn(8, 3)
    peer = nn.BatchNorm1d(3)
    assert torch.equal(norm(x), peer(x))
    kept = norm.running_mean.clone()
    assert torch.equal(norm(x[:1]), peer.eval()(x[:1]))
    assert torch.equal(norm.running_mean, kept)
    assert norm(x[:0]).shape == (0, 3)


def test_an_absent_modality_is_its_token_and_the_token_learns() -> None:
    net = build_network(COHORT.recipe(modality_dropout=0.0), seed=0).train()
    out = net(COHORT.source.batch(ALL, None), COHORT.n)
    out.outputs.sum().backward()
    assert bool((net.tokens[0].grad != 0).any())
    assert bool((net.tokens[1].grad != 0).any())
    assert net.untrained_absence.tolist() == [False, False]
    lone = {
        "image": Items(torch.empty(0, 8), torch.empty(0, dtype=torch.long)),
        "table": COHORT.source.batch(ALL[1:2], None)["table"],
    }
    net.eval()
    first = net(lone, 1).outputs
    with torch.no_grad():
        net.tokens[0] += 1.0
    assert not torch.equal(net(lone, 1).outputs, first)


def test_absence_in_training_is_remembered() -> None:
    complete = make_cohort(gaps=False)
    net = build_network(complete.recipe(modality_dropout=0.0), seed=0).train()
    net(complete.source.batch(ALL, None), complete.n)
    assert net.untrained_absence.tolist() == [True, True]
    hiding = build_network(complete.recipe(modality_dropout=0.5), seed=0).train()
    hiding(complete.source.batch(ALL, None), complete.n)
    assert hiding.untrained_absence.tolist() == [False, False]


def test_hidden_modalities_leave_one_and_keep_to_the_chance() -> None:
    torch.manual_seed(0)
    present = torch.rand(4000, 3) < 0.8
    shown = hide_modalities(present, 0.3)
    assert not bool((shown & ~present).any())
    assert torch.equal(shown.any(dim=1), present.any(dim=1))
    # Of rows with three modalities one stays hidden with chance .3, less the share of .027 in which it is saved again.
    full = shown[present.all(dim=1)]
    assert_allclose(1 - full.float().mean().item(), 0.3 - 0.027 / 3, atol=0.02)


def test_encoders_take_pictures_and_only_their_tensors_with_gradients_are_trained() -> None:
    encoder = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    for parameter in encoder[1].parameters():
        parameter.requires_grad_(False)
    recipe = NetworkRecipe((Modality("tile", "image", 4),), ClassTarget(TREE), fusion="gated", width=16)
    net = build_network(recipe, {"tile": encoder}, seed=0)
    names = [name for name, _ in net.trained() if name.startswith("encoders")]
    assert names == ["encoders.0.0.weight", "encoders.0.0.bias"]
    net.train()
    assert not encoder[1].training
    assert encoder[2].training
    net.tune_encoders(False)
    net.train()
    assert not encoder[2].training
    tiles = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    made = store(tiles, np.array([0, 0, 2]), 3, prepare=lambda x, _: x.float() / 255)
    out = net.eval()(Stores({"tile": made}).batch(row_tensor([0, 1, 2], "cpu"), None), 3)
    assert out.present[:, 0].tolist() == [True, False, True]
    assert net(Stores({"tile": made}).batch(row_tensor([1], "cpu"), None), 1).outputs.shape == (1, 4)


@pytest.mark.parametrize("name", ["keys", "values", "type", "train", "site of tumour", "alp.v2", "0"])
def test_any_input_s_name_will_do(name: str) -> None:
    recipe = NetworkRecipe((replace(COHORT.image, name=name), COHORT.table), ClassTarget(TREE), fusion="gated", width=4)
    parts = COHORT.source.batch(ALL, None)
    out = build_network(recipe, seed=0)({name: parts["image"], "table": parts["table"]}, COHORT.n)
    assert out.outputs.shape == (60, 4)


def test_mixed_precision_ends_with_the_encoders() -> None:
    seen = []
    encoder = nn.Linear(8, 8)
    encoder.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    recipe = NetworkRecipe((Modality("image", "image", 8), COHORT.table), ClassTarget(TREE), fusion="gated", width=4)
    net = build_network(recipe, {"image": encoder}, seed=0)
    net.head.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        net(COHORT.source.batch(ALL, None), COHORT.n)
    assert seen == [torch.bfloat16, torch.float32]


def test_encoders_must_match_the_modalities() -> None:
    recipe = NetworkRecipe((Modality("tile", "image", 4),), ClassTarget(TREE))
    with pytest.raises(InvalidInputError, match=r"encoders for \[\]; modalities of kind image are \['tile'\]"):
        build_network(recipe, seed=0)


def test_equal_seeds_equal_networks_and_the_global_generator_is_untouched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (dict(build_network(COHORT.recipe(), seed=s).trained()) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.0.weight"], c["head.0.weight"])


def test_batches_are_even_and_depend_on_seed_and_epoch() -> None:
    parts = epoch_batches(65, 64, seed=3, epoch=0)
    assert [len(p) for p in parts] == [33, 32]
    assert sorted(np.concatenate(parts)) == list(range(65))
    assert np.array_equal(epoch_batches(65, 64, 3, 0)[0], parts[0])
    assert not np.array_equal(epoch_batches(65, 64, 3, 1)[0], parts[0])
    assert [len(p) for p in epoch_batches(65, None, 3, 0)] == [65]


def test_views_are_drawn_in_training_and_averaged_otherwise() -> None:
    views = torch.arange(24.0).reshape(2, 4, 3)
    assert torch.equal(random_view(views, None), views.mean(dim=1))
    drawn = random_view(views, torch.Generator().manual_seed(0))
    assert all(any(torch.equal(drawn[i], views[i, v]) for v in range(4)) for i in range(2))


def test_recipes_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="width 3 has 2 start values"):
        Modality("t", "tabular", 3, start=(0.0, 0.0))
    with pytest.raises(InvalidInputError, match="different names"):
        NetworkRecipe((COHORT.image, COHORT.image), ClassTarget(TREE))
    with pytest.raises(InvalidInputError, match="no modality 'mri'"):
        COHORT.recipe().only(["mri"])
    with pytest.raises(InvalidInputError, match="different numbers of rows"):
        Stores({"a": store(torch.ones(1, 2), np.array([0]), 1), "b": store(torch.ones(1, 2), np.array([0]), 2)})
