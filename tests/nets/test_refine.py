"""Refiners behind their contract: probabilities on the same cells, saved and loaded, chosen on inner patients."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_maps import SPEC, make_regions
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError, VerificationError
from osml.nets.refine import REFINERS, RefinerKind, fit_refiner, load_refiner, save_refiner
from osml.nets.refine_choice import choose_refiner, patient_folds, training_steps
from osml.nets.refine_maps import MapSpec, Refiner, Region
from osml.nets.refine_recipe import RefineRecipe
from osml.nets.refine_simple import SIDES, Majority, fit_majority

SMALL = RefineRecipe(width=8, levels=2, steps=3, batch=2, crop=16, path=3)


@cache
def fitted(kind: RefinerKind) -> Refiner:
    return fit_refiner(kind, make_regions(3, 1, side=32), SPEC, SMALL, seed=1)


def held_out(height: int = 40, width: int = 24) -> Region:
    region = make_regions(1, 1, side=64, first=50)[0]
    return Region("X", region.coarse[:, :height, :width], region.image[:height, :width], region.labels[:height, :width])


@pytest.mark.parametrize("kind", REFINERS)
@pytest.mark.parametrize("shape", [(40, 24), (7, 33)])
def test_refined_maps_are_probabilities_on_the_same_cells(kind: RefinerKind, shape: tuple[int, int]) -> None:
    region = held_out(*shape)
    before = region.coarse.copy(), region.image.copy()
    p = fitted(kind).refine(region.coarse, region.image)
    assert p.shape == region.coarse.shape
    assert (p >= 0).all()
    assert_allclose(p.sum(axis=0), 1.0, atol=1e-5)
    assert_array_equal(region.coarse, before[0])
    assert_array_equal(region.image, before[1])
    assert (fitted(kind).kind, fitted(kind).spec) == (kind, SPEC)


@pytest.mark.parametrize("kind", REFINERS)
def test_a_saved_refiner_is_the_same_refiner(kind: RefinerKind, tmp_path: Path) -> None:
    region, refiner = held_out(), fitted(kind)
    save_refiner(tmp_path / "a", refiner)
    again = load_refiner(tmp_path / "a")
    assert again.kind == kind
    assert_array_equal(again.refine(region.coarse, region.image), refiner.refine(region.coarse, region.image))
    save_refiner(tmp_path / "b", again)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == (
        ["refiner.json", "refiner.safetensors"] if kind in ("unet", "brownian_bridge") else ["refiner.json"]
    )
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("kind", REFINERS)
def test_a_result_goes_where_it_is_asked_for(kind: RefinerKind, tmp_path: Path) -> None:
    region = held_out()
    out = np.lib.format.open_memmap(tmp_path / "p.npy", mode="w+", dtype=np.float32, shape=region.coarse.shape)
    assert fitted(kind).refine(region.coarse, region.image, out=out) is out
    assert_array_equal(out, fitted(kind).refine(region.coarse, region.image))


@pytest.mark.parametrize("kind", REFINERS)
def test_logits_are_refused_by_every_refiner(kind: RefinerKind) -> None:
    region = held_out()
    with pytest.raises(InvalidInputError, match="no probabilities"):
        fitted(kind).refine(np.log(region.coarse + 1e-6), region.image)


def test_none_keeps_the_map() -> None:
    region = held_out()
    assert_array_equal(fitted("none").refine(region.coarse, region.image), region.coarse)


def test_majority_by_hand() -> None:
    """One row of cells calls 0 0 1 0 2 2 2: the lone 1 is outvoted, at the border the square decides."""
    calls = np.array([0, 0, 1, 0, 2, 2, 2])
    coarse = np.where(calls == np.arange(3)[:, None], 0.8, 0.1).astype(np.float32)[:, None, :].repeat(7, axis=1)
    refiner = Majority(MapSpec(("a", "b", "c"), 16.0), side=3)
    p = refiner.refine(coarse, np.zeros((7, 7, 3), dtype=np.uint8))
    assert p.argmax(axis=0)[3].tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert_allclose(p[:, 3, 2], [2 / 3, 1 / 3, 0], atol=0.06)
    # Cell 3 sees one vote each for 1, 0 and 2; every class has the same mean probability but 0 is first of equals.
    assert_allclose(p[:, 3, 3], [1 / 3, 1 / 3, 1 / 3], atol=1e-6)


def test_majority_knows_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    region = held_out(64, 24)
    refiner = Majority(SPEC, side=9)
    whole = refiner.refine(region.coarse, region.image)
    monkeypatch.setattr("osml.nets.refine_simple.BAND", 10)
    assert_allclose(refiner.refine(region.coarse, region.image), whole, atol=1e-7)


def test_majority_learns_how_far_to_look() -> None:
    """Single cells are called wrong at random inside areas: a square that fits in mends them, a larger one blurs."""
    rng = np.random.default_rng(0)
    for size, wanted in ((32, {5, 9, 13}), (6, {3, 5})):
        labels = np.kron(rng.integers(0, 3, (96 // size, 96 // size)), np.ones((size, size), dtype=int)).astype(
            np.int16
        )
        called = np.where(rng.random(labels.shape) < 0.25, rng.integers(0, 3, labels.shape), labels)
        coarse = np.moveaxis(np.eye(3, dtype=np.float32)[called] * 0.7 + 0.1, -1, 0)
        regions = [Region("P", coarse, np.zeros((*labels.shape, 3), dtype=np.uint8), labels)]
        side = fit_majority(regions, MapSpec(("a", "b", "c"), 16.0)).side
        assert side in SIDES
        assert side in wanted


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    save_refiner(tmp_path, fitted("unet"))
    facts = json.loads((tmp_path / "refiner.json").read_text())
    tensors = (tmp_path / "refiner.safetensors").read_bytes()
    (tmp_path / "refiner.safetensors").write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        load_refiner(tmp_path)
    (tmp_path / "refiner.safetensors").unlink()
    with pytest.raises(VerificationError, match="is missing"):
        load_refiner(tmp_path)
    (tmp_path / "refiner.safetensors").write_bytes(tensors)
    facts["recipe"]["width"] = 16
    (tmp_path / "refiner.json").write_text(json.dumps(facts))
    with pytest.raises(VerificationError, match="other tensors"):
        load_refiner(tmp_path)
    (tmp_path / "refiner.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(VerificationError, match="format 99"):
        load_refiner(tmp_path)


def test_folds_keep_patients_whole_and_hold_each_out_once() -> None:
    patients = [f"P{i % 7}" for i in range(30)]
    folds = patient_folds(patients, 3, seed=4)
    assert sorted(p for fold in folds for p in fold) == sorted(set(patients))
    assert {len(fold) for fold in folds} == {2, 3}
    assert patient_folds(patients[::-1], 3, seed=4) == folds
    with pytest.raises(InvalidInputError, match="8 inner folds for 7 patients"):
        patient_folds(patients, 8, seed=4)


def test_best_is_the_one_that_wins_on_inner_patients() -> None:
    """Calls are wrong in single cells: votes of neighbours must win over leaving the map as it is."""
    rng = np.random.default_rng(1)
    regions = []
    for k in range(6):
        clean = make_regions(1, 1, side=32, first=k)[0]
        called = np.where(rng.random(clean.labels.shape) < 0.3, rng.integers(0, 7, clean.labels.shape), clean.labels)
        coarse = np.moveaxis(np.eye(7, dtype=np.float32)[called] * 0.65 + 0.05, -1, 0)
        regions.append(replace(clean, coarse=coarse))
    choice = choose_refiner(regions, SPEC, SMALL, folds=3, seed=0, kinds=("majority", "none"))
    assert choice.kind == "majority"
    assert choice.miou["majority"] > choice.miou["none"] + 0.05
    assert set(choice.by_patient["none"]) == {region.patient for region in regions}
    assert sum(table.counts.sum() for table in choice.tables["none"]) == 6 * 32 * 32


def test_of_equals_the_simplest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = make_regions(4, 1, side=16)
    monkeypatch.setattr("osml.nets.refine_choice.fit_refiner", lambda *_, **__: fitted("none"))
    assert choose_refiner(regions, SPEC, SMALL, folds=2, seed=0, kinds=("unet", "majority", "none")).kind == "none"


def test_the_held_out_patients_are_never_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = make_regions(5, 2, side=16)
    seen: list[set[str]] = []

    def note(kind: RefinerKind, inside: list[Region], *_: object, **__: object) -> Refiner:
        seen.append({region.patient for region in inside})
        return fitted("none")

    monkeypatch.setattr("osml.nets.refine_choice.fit_refiner", note)
    choice = choose_refiner(regions, SPEC, SMALL, folds=5, seed=0, kinds=("none",))
    everyone = {region.patient for region in regions}
    assert seen == [everyone - set(fold) for fold in choice.folds]


def test_the_number_of_steps_of_a_choice() -> None:
    assert training_steps(REFINERS, 3, SMALL) == 3 * 2 * SMALL.steps
    assert training_steps(("none", "majority"), 3, SMALL) == 0


def test_regions_that_are_none_are_refused() -> None:
    good = make_regions(1, 1, side=16)[0]

    def fit(*regions: Region) -> Refiner:
        return fit_refiner("majority", regions, SPEC, SMALL, seed=0)

    with pytest.raises(InvalidInputError, match="no region"):
        fit()
    with pytest.raises(InvalidInputError, match="region 1 of patient P000: labels have shape"):
        fit(good, replace(good, labels=good.labels[:4]))
    unknown = good.labels.copy()
    unknown[3, 4] = 7
    with pytest.raises(InvalidInputError, match="labels range over 0 to 7"):
        fit(replace(good, labels=unknown))
    with pytest.raises(InvalidInputError, match="no cell of any region is annotated"):
        fit(replace(good, labels=np.full_like(good.labels, -1)))
    with pytest.raises(InvalidInputError, match="refiner 'median'"):
        fit_refiner("median", [good], SPEC, SMALL, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "steps must be 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"ema": 1.5}, "ema must be between"),
        ({"crop": 20, "levels": 4}, "no multiple of 8"),
        ({"stain": -1.0}, "not be negative"),
    ],
)
def test_recipes_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replace(RefineRecipe(), **change)  # type: ignore[arg-type]
