"""Fitting a slide predictor: a patch classifier, honest coarse maps of the training slides, and a refiner of them.

Every choice (epochs, temperature, which refiner) is made on inner patients of those that are handed in. The refiner
is fitted to maps by classifiers that never saw the patient: its errors at use are of that kind, and those on a
classifier's own training slides would be rarer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osml.engine import Progress
from osml.errors import InvalidInputError
from osml.imaging.slides_classes import NOTHING
from osml.nets.refine import REFINERS, RefinerKind, fit_refiner
from osml.nets.refine_choice import Choice, choose_refiner, patient_folds, training_steps
from osml.nets.refine_maps import UNLABELLED, MapSpec, Refiner, Region
from osml.nets.train import Checkpoints
from osml.predictors.slide import FittedSlide, assemble, tile_probabilities
from osml.predictors.slide_head import Chosen, Tiles, classifier, labelled_tiles, temperature, train_folds
from osml.predictors.slide_maps import BACKGROUND, coarse_map, keep_glass
from osml.predictors.slide_prepare import PreparedSlide
from osml.predictors.slide_recipe import SlideRecipe

# Cells along a side of a region that a refiner is fitted to: what it looks at at once in use.
SIDE = 128


def fit_slide(
    prepared: Sequence[PreparedSlide],
    recipe: SlideRecipe,
    *,
    seed: int,
    device: str,
    work: Path | None = None,
    progress: Progress | None = None,
) -> FittedSlide:
    """Fit to training slides; those without annotation are left out.

    Parameters
    ----------
    prepared : of training patients only
    work : folder for unfinished trainings of refiners, which are continued from there; None: nothing is stored
    progress : told of every training step of refiners, `fit_steps` in all

    Raises
    ------
    InvalidInputError
        Fewer than two patients with annotations, or no annotated tile.
    ConvergenceError
        A loss is no longer finite.
    """
    return fit_slide_beside(prepared, recipe, (), seed=seed, device=device, work=work, progress=progress)[0]


def fit_slide_beside(
    prepared: Sequence[PreparedSlide], recipe: SlideRecipe, kinds: Sequence[RefinerKind], *, seed: int, device: str,
    work: Path | None = None, progress: Progress | None = None,
) -> tuple[FittedSlide, dict[RefinerKind, Refiner]]:  # fmt: skip
    """As `fit_slide`, and refiners of other kinds fitted to the same maps, for comparison on held-out patients.

    kinds : those that the predictor itself does not use are fitted; networks take `recipe.refiner.steps` each
    """
    slides = [s for s in prepared if s.annotated]
    patients = sorted({s.case.patient for s in slides})
    if len(patients) < 2:
        raise InvalidInputError(
            f"{len(patients)} training patients with annotations; 2 or more are needed",
            why="Epochs, temperature and refiner are chosen on patients that were held out.",
        )
    folds = patient_folds(patients, min(recipe.inner_folds, len(patients)), seed)
    tiles = labelled_tiles(slides)
    chosen = train_folds(tiles, folds, recipe, seed=seed, device=device)
    held = np.concatenate([tiles.of(fold).labels for fold in folds])
    heat = temperature(np.concatenate(chosen.logits), held)
    final = classifier(tiles, recipe, seed=seed + len(folds), device=device)
    for _ in range(chosen.epochs):
        final.epoch()
    spec = MapSpec(recipe.names, recipe.cell_um)
    plain = recipe.refine == "none" and not kinds
    regions = [] if plain else _regions(slides, folds, chosen, heat, recipe, device)
    refiner, choice = _refiner(regions, spec, recipe, folds, seed, device, work, progress)
    facts = _facts(recipe, tiles, folds, chosen, choice, np.concatenate(chosen.logits).argmax(axis=1) == held)
    others: dict[RefinerKind, Refiner] = {}
    for kind in kinds:
        if kind != refiner.kind:
            stored = None if work is None else Checkpoints(work / f"final-{kind}")
            others[kind] = fit_refiner(
                kind, regions, spec, recipe.refiner, seed=seed, device=device, checkpoints=stored, progress=progress
            )
    return assemble(recipe, final.tensors(), heat, refiner, facts, seed), others


def fit_steps(recipe: SlideRecipe, patients: int) -> int:
    """Training steps of refiners that `fit_slide` reports to its progress."""
    folds = min(recipe.inner_folds, patients)
    if recipe.refine == "best":
        # The winner may need no training of its own.
        return training_steps(REFINERS, folds, recipe.refiner) + recipe.refiner.steps
    return recipe.refiner.steps if recipe.refine in ("unet", "brownian_bridge") else 0


def _refiner(
    regions: list[Region], spec: MapSpec, recipe: SlideRecipe, folds: Sequence[Sequence[str]], seed: int, device: str,
    work: Path | None, progress: Progress | None,
) -> tuple[Refiner, Choice | None]:  # fmt: skip
    def stored(name: str) -> Checkpoints | None:
        return None if work is None else Checkpoints(work / name)

    choice = None
    kind = recipe.refine
    if kind == "none":
        from osml.nets.refine_simple import Untouched

        return Untouched(spec), None
    if kind == "best":
        choice = choose_refiner(
            regions, spec, recipe.refiner, folds=len(folds), seed=seed, device=device, checkpoints=stored("inner"),
            progress=progress,
        )  # fmt: skip
        kind = choice.kind
    made = fit_refiner(
        kind, regions, spec, recipe.refiner, seed=seed, device=device,
        checkpoints=stored(f"final-{kind}"), progress=progress,
    )  # fmt: skip
    return made, choice


def _regions(
    slides: Sequence[PreparedSlide], folds: Sequence[Sequence[str]], chosen: Chosen, heat: float,
    recipe: SlideRecipe, device: str,
) -> list[Region]:  # fmt: skip
    """Annotated parts of every slide, each with the map of the classifier that did not see its patient."""
    out: list[Region] = []
    for fold, tensors in zip(folds, chosen.tensors, strict=True):
        model = assemble(recipe, tensors, heat, None, {}, 0)
        for slide in slides:
            if slide.case.patient in fold:
                p = tile_probabilities(model, slide, device=device)
                coarse = np.empty((len(recipe.classes), *slide.frame.shape), dtype=np.float32)
                coarse_map(slide.frame, slide.grid, slide.tiles, p, slide.tissue, coarse)
                out += _cut(slide, keep_glass(coarse, slide.tissue))
    return out


def _cut(slide: PreparedSlide, coarse: np.ndarray[Any, Any]) -> list[Region]:
    labels = np.asarray(slide.labels).astype(np.int16)
    drawn = labels != NOTHING
    # Nobody draws glass; that it is background is seen.
    labels[~drawn] = UNLABELLED
    labels[~drawn & (np.asarray(slide.tissue) == 0)] = BACKGROUND
    out = []
    for top in range(0, labels.shape[0], SIDE):
        for left in range(0, labels.shape[1], SIDE):
            here = (slice(top, top + SIDE), slice(left, left + SIDE))
            if drawn[here].any():
                part = np.ascontiguousarray(coarse[(slice(None), *here)])
                out.append(Region(slide.case.patient, part, np.array(slide.picture[here]), labels[here]))
    return out


def _facts(
    recipe: SlideRecipe, tiles: Tiles, folds: Sequence[Sequence[str]], chosen: Chosen,
    choice: Choice | None, right: np.ndarray[Any, Any],
) -> dict[str, Any]:  # fmt: skip
    """Counts and held-out figures; no name of a patient or a slide."""
    classes = len(recipe.classes)
    return {
        "patients": len({s.case.patient for s in tiles.slides}),
        "slides": len(tiles.slides),
        "tiles": len(tiles.labels),
        "tiles_of_class": dict(zip(recipe.names, np.bincount(tiles.labels, minlength=classes).tolist(), strict=True)),
        "inner_folds": len(folds),
        "epochs": chosen.epochs,
        "inner_loss": [round(value, 6) for value in chosen.losses],
        "inner_tile_accuracy": round(float(right.mean()), 6),
        "refiners": None if choice is None else {kind: round(value, 6) for kind, value in choice.miou.items()},
    }
