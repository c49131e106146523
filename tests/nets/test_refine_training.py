"""Training of refiners: from the seed alone, continued after a kill, on annotated cells; walking along the bridge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_maps import SPEC, make_regions
from numpy.testing import assert_allclose, assert_array_equal

from osml.engine.progress import Progress
from osml.errors import RunError
from osml.evaluation.segmentation import confusion_table, overlap
from osml.nets.refine import REFINERS, fit_refiner
from osml.nets.refine_crops import Crops
from osml.nets.refine_maps import MapSpec, Region
from osml.nets.refine_network import NetworkRefiner, density, make_network, turn, turn_back, walk
from osml.nets.refine_recipe import NETWORK_KINDS, NetworkKind, RefineRecipe
from osml.nets.refine_train import losses
from osml.nets.train import Checkpoints
from osml.nets.unet import UNet

SMALL = RefineRecipe(width=8, levels=2, steps=4, batch=3, crop=16, path=4)
REGIONS = make_regions(3, 1, side=32)


class Killed(BaseException):
    """The process ends in the middle of a training."""


class KillAt(Progress):
    """Raises after some steps."""

    def __init__(self, at: int) -> None:
        super().__init__("", 0, quiet=True)
        self.at = at

    def step(self) -> None:
        super().step()
        if self.done == self.at:
            raise Killed


def fit(kind: NetworkKind, recipe: RefineRecipe = SMALL, seed: int = 1, **more: object) -> NetworkRefiner:
    found = fit_refiner(kind, REGIONS, SPEC, recipe, seed=seed, **more)  # type: ignore[arg-type]
    assert isinstance(found, NetworkRefiner)
    return found


def weights(refiner: NetworkRefiner) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in refiner.network.parameters()])


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_seed_decides_everything(kind: NetworkKind) -> None:
    torch.manual_seed(5)
    once = weights(fit(kind))
    torch.manual_seed(6)
    assert_array_equal(weights(fit(kind)), once)
    assert not np.array_equal(weights(fit(kind, seed=2)), once)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    fit("brownian_bridge")
    after = torch.rand(3)
    torch.manual_seed(5)
    assert_array_equal(after.numpy(), torch.rand(3).numpy())


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_killed_training_continued_is_the_one_that_was_not(kind: NetworkKind, tmp_path: Path) -> None:
    whole = weights(fit(kind))
    checkpoints = Checkpoints(tmp_path, every_s=0.0)
    with pytest.raises(Killed):
        fit(kind, checkpoints=checkpoints, progress=KillAt(2))
    left = KillAt(99)
    assert_array_equal(weights(fit(kind, checkpoints=checkpoints, progress=left)), whole)
    assert left.done == 2
    done = KillAt(99)
    assert_array_equal(weights(fit(kind, checkpoints=checkpoints, progress=done)), whole)
    assert done.done == 0


def test_a_checkpoint_of_other_regions_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_s=0.0)
    fit("unet", checkpoints=checkpoints)
    moved = [replace(region, labels=np.roll(region.labels, 1, axis=0)) for region in REGIONS]
    with pytest.raises(RunError, match="belongs to another training"):
        fit_refiner("unet", moved, SPEC, SMALL, seed=1, checkpoints=checkpoints)
    with pytest.raises(RunError, match="belongs to another training"):
        fit("unet", recipe=replace(SMALL, steps=5), checkpoints=checkpoints)


def test_the_average_of_weights_is_what_is_used() -> None:
    """With no memory the average is the last weights; with any other it is not."""
    last, averaged = (weights(fit("unet", replace(SMALL, ema=ema))) for ema in (0.0, 0.9))
    assert not np.allclose(last, averaged)


def test_losses_by_hand_and_on_annotated_cells_alone() -> None:
    """Two cells with probabilities (0.8, 0.1, 0.1) and (0.2, 0.5, 0.3), true classes 0 and 2; a third nobody knows."""
    p = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    logits = p.log().T.reshape(1, 3, 1, 3)
    transition, cross_entropy = losses(logits, torch.tensor([[[0, 2, -1]]]))
    squares = ((0.2**2 + 0.1**2 + 0.1**2) + (0.2**2 + 0.5**2 + 0.7**2)) / 2 / 3
    assert float(transition) == pytest.approx(squares, rel=1e-6)
    assert float(cross_entropy) == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2, rel=1e-6)
    nothing = losses(logits, torch.full((1, 1, 3), -1))
    assert [float(value) for value in nothing] == [0.0, 0.0]


def test_crops_move_map_picture_and_labels_together() -> None:
    """The picture's red and the coarse map both carry the label, so after any turn they must still agree."""
    labels = np.random.default_rng(0).integers(0, 7, (40, 24)).astype(np.int16)
    coarse = np.moveaxis(np.eye(7, dtype=np.float32)[labels], -1, 0)
    image = np.repeat((labels * 30).astype(np.uint8)[..., None], 3, axis=2)
    crops = Crops([Region("P", coarse, image, labels)], replace(SMALL, batch=20, stain=0.0), seed=3, device="cpu")
    y, optical, found = crops.batch(0)
    assert y.shape == (20, 7, 16, 16)
    assert_array_equal(y.argmax(dim=1).numpy(), found.numpy())
    red = density((found * 30).to(torch.uint8)[..., None].repeat(1, 1, 1, 3))
    assert_allclose(optical.numpy(), red.numpy(), atol=1e-6)
    again = crops.batch(0)
    assert all(torch.equal(a, b) for a, b in zip((y, optical, found), again, strict=True))
    assert not torch.equal(crops.batch(1)[2], found)


def test_crops_of_small_regions_are_filled_without_labels() -> None:
    whole = make_regions(1, 1, side=16)[0]
    region = Region("P", whole.coarse[:, :8, :8], whole.image[:8, :8], whole.labels[:8, :8])
    y, _, labels = Crops([region], SMALL, seed=0, device="cpu").batch(0)
    assert ((labels == -1).sum(dim=(1, 2)) == 16 * 16 - 8 * 8).all()
    assert_allclose(y.sum(dim=1).numpy(), 1.0, atol=1e-5)


def test_regions_without_annotation_are_not_drawn() -> None:
    known, unknown = make_regions(2, 1, side=16)
    empty = replace(unknown, labels=np.full_like(unknown.labels, -1))
    labels = Crops([empty, known], replace(SMALL, batch=30), seed=0, device="cpu").batch(0)[2]
    assert (labels >= 0).all()


@pytest.mark.parametrize("view", range(8))
def test_turns_are_undone(view: int) -> None:
    maps = torch.rand(2, 3, 8, 16)
    turned = turn(maps, view)
    assert torch.equal(turn_back(turned, view), maps)
    assert view == 0 or turned.shape != maps.shape or not torch.equal(turned, maps)


def test_the_eight_views_differ() -> None:
    maps = torch.rand(1, 1, 4, 4)
    assert len({tuple(turn(maps, view).flatten().tolist()) for view in range(8)}) == 8


class Sure(UNet):
    """Answers one map whatever it sees."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__(3, 6, width=8, levels=1, timed=True)
        self.answer, self.states = answer, []

    def look(self, condition: torch.Tensor) -> torch.Tensor:
        return condition

    def forward(
        self,
        seen: torch.Tensor,
        prior: torch.Tensor,
        state: torch.Tensor | None = None,
        m: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert state is not None
        assert m is not None
        self.states.append((state.clone(), float(m[0])))
        return self.answer


def test_without_noise_a_walk_goes_straight_from_the_coarse_map_to_the_answer() -> None:
    """eta 0 and a network that always answers x0: x at share m is (1 - m) x0 + m y, for the noise of x_T = y is that
    of its own rest (1 - 0.999)(y - x0), carried on."""
    y = torch.rand(1, 3, 4, 4).softmax(dim=1)
    x0 = torch.tensor([0.7, 0.2, 0.1]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    network = Sure(x0.log())
    recipe = replace(SMALL, path=20, published=True)
    found = walk(network, torch.zeros(1, 6, 4, 4), y, recipe, [])
    assert_allclose(found.numpy(), x0.numpy(), atol=1e-6)
    assert torch.equal(network.states[0][0], y)
    for state, m in network.states[1:]:
        rest = (m * (1 - m) / (0.999 * 0.001)) ** 0.5 * 0.001 * (y - x0)
        assert_allclose(state.numpy(), ((1 - m) * x0 + m * y + rest).numpy(), atol=1e-5)


def test_eta_zero_gives_one_answer_and_noise_depends_on_seed_and_place() -> None:
    region = REGIONS[0]
    refiner = fit("brownian_bridge")
    once = refiner.refine(region.coarse, region.image)
    assert_array_equal(replace(refiner, seed=9).refine(region.coarse, region.image), once)
    noisy = replace(refiner, recipe=replace(SMALL, eta=1.0))
    first = noisy.refine(region.coarse, region.image)
    assert_array_equal(noisy.refine(region.coarse, region.image), first)
    assert not np.array_equal(first, once)
    assert not np.array_equal(replace(noisy, seed=9).refine(region.coarse, region.image), first)


def test_windows_of_a_large_map_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two levels a network sees few cells around; overlapping windows must answer as one window does."""
    region = make_regions(1, 1, side=128)[0]
    torch.manual_seed(0)
    network = make_network("unet", SPEC, SMALL).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    refiner = NetworkRefiner("unet", SPEC, SMALL, network, seed=0)
    whole = refiner.refine(region.coarse, region.image)
    monkeypatch.setattr("osml.nets.refine_network.SIDE", 64)
    found = refiner.refine(region.coarse, region.image)
    difference = np.abs(found - whole).max(axis=0)
    assert difference[:32, :32].max() < 1e-4  # one window alone, away from its seams
    assert np.quantile(difference, 0.9) < 0.02


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_the_picture_is_learnt_from(kind: NetworkKind) -> None:
    """The coarse map knows nothing and the picture tells all: other patients' maps must come out mostly right."""
    colours = np.array([[250, 250, 250], [150, 60, 160], [230, 150, 190]], dtype=np.uint8)

    def regions(first: int) -> list[Region]:
        out = []
        for k in range(first, first + 6):
            rng = np.random.default_rng(k)
            labels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), dtype=int)).astype(np.int16)
            out.append(Region(f"P{k}", np.full((3, 32, 32), 1 / 3, dtype=np.float32), colours[labels], labels))
        return out

    recipe = RefineRecipe(width=8, levels=1, steps=80, batch=4, crop=16, rate=1e-2, path=4, ema=0.9)
    refiner = fit_refiner(kind, regions(0), MapSpec(("a", "b", "c"), 16.0), recipe, seed=0)
    right = [(r.labels == refiner.refine(r.coarse, r.image).argmax(axis=0)).mean() for r in regions(30)]
    assert np.mean(right) > 0.75, right


@pytest.mark.full
def test_networks_gain_over_the_coarse_map_and_over_votes_on_other_patients() -> None:
    """Necrosis rates and the finer comparison: `benchmarks/refiners.py`."""
    recipe = RefineRecipe(width=16, steps=200, batch=8, rate=4e-3)
    training, others = make_regions(12, 3, seed=10), make_regions(20, 1, seed=1)
    miou = {}
    for kind in REFINERS:
        refiner = fit_refiner(kind, training, SPEC, recipe, seed=1)
        tables = [confusion_table(r.labels, refiner.refine(r.coarse, r.image).argmax(axis=0), 7) for r in others]
        miou[kind] = float(overlap(sum(table.counts for table in tables)).overall["miou"])
    assert miou["majority"] > miou["none"]
    assert min(miou["unet"], miou["brownian_bridge"]) > miou["majority"] + 0.05


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_what_a_network_adds_is_added_to_the_map(kind: NetworkKind) -> None:
    region = REGIONS[0]
    network = make_network(kind, SPEC, SMALL).eval()
    torch.nn.init.zeros_(network.out.weight)
    torch.nn.init.zeros_(network.out.bias)
    p = NetworkRefiner(kind, SPEC, SMALL, network, seed=0).refine(region.coarse, region.image)
    assert_allclose(p, (region.coarse + 0.01) / (region.coarse + 0.01).sum(axis=0), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.full
def test_a_card_trains_and_refines_as_a_processor_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    region, recipe = REGIONS[0], replace(SMALL, steps=20)
    here = fit("brownian_bridge", recipe)
    there = fit("brownian_bridge", recipe, device="cuda")
    p, q = here.refine(region.coarse, region.image), here.refine(region.coarse, region.image, device="cuda")
    assert_allclose(q, p, atol=0.05)
    r = there.refine(region.coarse, region.image, device="cuda")
    assert_allclose(r.sum(axis=0), 1.0, atol=1e-3)
    assert np.isfinite(weights(there)).all()
