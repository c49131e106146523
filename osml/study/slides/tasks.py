"""The tasks of a region study: making slides ready, and a fold of a predictor. Each keeps what it finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.splits import Fold, derive_seed
from osml.files import read_json, write_json
from osml.imaging.errors import ImagingError
from osml.predictors.slide_recipe import SlideCase, SlideRecipe
from osml.study.slides.measure import measured, positions, reference_areas, seen, share_annotated, write_labels
from osml.study.slides.table import Lost

if TYPE_CHECKING:
    from osml.nets.refine import RefinerKind
    from osml.nets.refine_maps import Refiner
    from osml.predictors.slide import FittedSlide
    from osml.predictors.slide_prepare import PreparedSlide

COARSE = "none"
# Refiners from the simplest, as `osml.nets.refine` lists them; the maps of a slide stand in this order.
ORDER: tuple[RefinerKind, ...] = ("none", "majority", "unet", "brownian_bridge")
FITTED, MODEL = "fitted.json", "model"


@dataclass(frozen=True)
class PrepareTask:
    """One slide for one recipe."""

    case: SlideCase
    recipe: SlideRecipe
    cache: Path
    device: str


def prepare_one(task: PrepareTask) -> PreparedSlide | Lost:
    """The slide made ready, or why it cannot be used; a broken slide does not stop the others."""
    from osml.predictors.slide_prepare import prepare_slide

    try:
        return prepare_slide(task.case, task.recipe, cache=task.cache, device=task.device)
    except ImagingError as error:
        return Lost(task.case.slide, task.case.patient, error.reason, " ".join(str(error).split()))


@dataclass(frozen=True)
class FoldTask:
    """One predictor in one outer fold; `prepared` holds every usable slide.

    folder : of the fold and predictor
    beside : refiners to fit to the same maps, for comparison
    """

    folder: Path
    name: str
    fold: Fold
    recipe: SlideRecipe
    prepared: tuple[PreparedSlide, ...]
    seed: int
    device: str
    beside: tuple[RefinerKind, ...] = ()


def seed_of(master: int, fold: Fold | None, name: str) -> int:
    """Seed of a fit; None: the final one."""
    at = (0, -1) if fold is None else (fold.repeat, fold.index)
    return int(derive_seed(master, at[0], at[1] + 1, name).generate_state(1)[0] >> 1)


def run_fold(task: FoldTask) -> dict[str, Any]:
    """Fit on the training patients, map every slide of the test patients, one file per slide.

    A slide that was mapped before is not mapped again; a model that was fitted before is loaded. A slide that cannot be
    mapped is named in the status and tried again by the next call.
    """
    train, test = divided(task.prepared, task.fold)
    fitted = fitted_in(task.folder, train, task)
    lost: list[Lost] = []
    for prepared in test:
        file = task.folder / "slides" / f"{prepared.case.slide}.json"
        if file.exists():
            continue
        try:
            write_json(file, map_slide(fitted, prepared, task))
        except ImagingError as error:
            case = prepared.case
            lost.append(Lost(case.slide, case.patient, error.reason, " ".join(str(error).split())))
    status = {"slides": len(test) - len(lost), "lost": [vars(one) for one in lost], "training": len(train)}
    if not lost:
        write_json(task.folder / "status.json", status)
    return status


def divided(
    prepared: Sequence[PreparedSlide], fold: Fold
) -> tuple[tuple[PreparedSlide, ...], tuple[PreparedSlide, ...]]:
    """Annotated slides of the training patients, and all slides of the test patients."""
    train = tuple(p for p in prepared if p.case.patient in set(fold.train) and p.annotated)
    test = tuple(p for p in prepared if p.case.patient in set(fold.test))
    assert not {p.case.patient for p in train} & {p.case.patient for p in test}
    return train, test


def fitted_in(folder: Path, train: Sequence[PreparedSlide], task: FoldTask) -> Fitted:
    """The model in a folder, fitted if it is not there yet; a training that was stopped is continued."""
    from osml.nets.refine import load_refiner, save_refiner
    from osml.predictors.slide import load_slide
    from osml.predictors.slide_fit import fit_slide_beside

    beside = folder / "refiners"
    if (folder / FITTED).exists():
        kinds = read_json(folder / FITTED)["beside"]
        return Fitted(load_slide(folder / MODEL), {kind: load_refiner(beside / kind) for kind in kinds})
    model, others = fit_slide_beside(
        train, task.recipe, task.beside, seed=task.seed, device=task.device, work=folder / "work"
    )
    model.save(folder / MODEL)
    for kind, refiner in others.items():
        save_refiner(beside / kind, refiner)
    write_json(folder / FITTED, model.record() | {"beside": sorted(others)})
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Fitted(model, {str(kind): refiner for kind, refiner in others.items()})


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor, and refiners of other kinds that were fitted to the same maps, for comparison."""

    model: FittedSlide
    beside: Mapping[str, Refiner]

    @property
    def kind(self) -> str:
        """Of the refiner that the predictor uses."""
        assert self.model.refiner is not None
        return self.model.refiner.kind

    def maps(self, prepared: PreparedSlide, device: str) -> Iterator[tuple[str, NDArray[Any]]]:
        """Probabilities (C, h, w) of a slide: the coarse map as `none`, then each refiner's."""
        coarse = self.model.coarse(prepared, device=device)
        yield COARSE, coarse
        assert self.model.refiner is not None
        for refiner in (self.model.refiner, *self.beside.values()):
            if refiner.kind != COARSE:
                yield refiner.kind, replace(self.model, refiner=refiner).refined(prepared, device=device, coarse=coarse)


def map_slide(fitted: Fitted, prepared: PreparedSlide, task: FoldTask) -> dict[str, Any]:
    """Numbers of all maps of a held-out slide; the maps themselves are written beside."""
    case, recipe = prepared.case, task.recipe
    reference = seen(prepared.labels, prepared.tissue) if prepared.annotated else None
    maps: dict[str, Any] = {}
    for kind, probabilities in fitted.maps(prepared, task.device):
        labels = np.asarray(probabilities).argmax(axis=0).astype(np.uint8)
        write_labels(task.folder / "maps" / f"{case.slide}.{kind}.png", labels)
        maps[kind] = measured(labels, reference, recipe, case.slide)
    order = [kind for kind in ORDER if kind in maps]
    out: dict[str, Any] = {
        "slide": case.slide, "patient": case.patient, "annotated": prepared.annotated, "chosen": fitted.kind,
        "tissue_mm2": prepared.tissue_mm2, "notes": list(prepared.notes), "maps": {kind: maps[kind] for kind in order},
    }  # fmt: skip
    if reference is not None:
        out["reference"] = reference_areas(reference, recipe)
        out["share_annotated"] = share_annotated(positions(prepared.labels), prepared.tissue)
    return out


def slide_results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every slide's numbers in these folders of folds, each with the name of its fold."""
    out = []
    for folder in folders:
        for file in sorted((folder / "slides").glob("*.json")):
            out.append(read_json(file) | {"fold": folder.parent.name})
    return out
