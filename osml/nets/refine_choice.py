"""Which refiner to use: each is fitted on some patients and judged on others, in turns, and the best one wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from osml.engine.progress import Progress
from osml.errors import InvalidInputError
from osml.evaluation.segmentation import Table, confusion_table, overlap, tables_by_patient
from osml.nets.refine import REFINERS, RefinerKind, fit_refiner
from osml.nets.refine_maps import MapSpec, Region, check_regions
from osml.nets.refine_recipe import NETWORK_KINDS, RefineRecipe
from osml.nets.train import Checkpoints


@dataclass(frozen=True)
class Choice:
    """Which refiner won on inner patients.

    kind : the winner: the highest mean IoU pooled over all inner patients' cells; of equals the simplest
    miou : of each refiner, pooled
    by_patient : mean IoU of each refiner on each patient, over the classes that the patient's maps hold
    tables : confusion tables of each refiner, one per region, in the order of the regions
    folds : patients held out together
    """

    kind: RefinerKind
    miou: dict[RefinerKind, float]
    by_patient: dict[RefinerKind, dict[str, float]]
    tables: dict[RefinerKind, tuple[Table, ...]]
    folds: tuple[tuple[str, ...], ...]


def choose_refiner(
    regions: Sequence[Region],
    spec: MapSpec,
    recipe: RefineRecipe,
    *,
    folds: int,
    seed: int,
    kinds: Sequence[RefinerKind] = REFINERS,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> Choice:
    """`refine: best`: fit every refiner on some patients, judge it on the others, in turns; the best one wins.

    Parameters
    ----------
    folds : groups of patients; each is held out once. Patients are dealt at random from the seed
    checkpoints : a folder of its own for each training; a training that was killed is continued, one that was
        finished is not repeated
    progress : told of every training step, `training_steps` in all

    Raises
    ------
    InvalidInputError
        Fewer patients than folds, or fewer than two folds.
    """
    whole = list(regions)
    check_regions(whole, spec)
    if not kinds:
        raise InvalidInputError("no refiner to choose from")
    groups = patient_folds([region.patient for region in whole], folds, seed)
    tables: dict[RefinerKind, list[Table]] = {kind: [_nothing(spec)] * len(whole) for kind in kinds}
    for fold, held in enumerate(groups):
        inside = [region for region in whole if region.patient not in held]
        for kind in kinds:
            stored = None if checkpoints is None else replace(checkpoints, folder=checkpoints.folder / f"{kind}-{fold}")
            refiner = fit_refiner(
                kind, inside, spec, recipe, seed=seed, device=device, checkpoints=stored, progress=progress
            )
            for k, region in enumerate(whole):
                if region.patient in held:
                    p = refiner.refine(region.coarse, region.image, device=device)
                    tables[kind][k] = confusion_table(region.labels, p.argmax(axis=0), len(spec.classes))
    miou: dict[RefinerKind, float] = {}
    apart: dict[RefinerKind, dict[str, float]] = {}
    for kind in kinds:
        who, counts = tables_by_patient(tables[kind], [region.patient for region in whole])
        miou[kind] = float(overlap(counts.sum(axis=0)).overall["miou"])
        apart[kind] = dict(zip(who, overlap(counts).overall["miou"].tolist(), strict=True))
    simplest_first = sorted(kinds, key=REFINERS.index)
    winner = max(simplest_first, key=lambda kind: miou[kind])
    return Choice(winner, miou, apart, {kind: tuple(t) for kind, t in tables.items()}, groups)


def patient_folds(patients: Sequence[str], folds: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """Patients dealt at random into groups of nearly equal numbers, each sorted."""
    names = sorted(set(patients))
    if not 2 <= folds <= len(names):
        raise InvalidInputError(
            f"{folds} inner folds for {len(names)} patients",
            why="A refiner is chosen on patients that it was not fitted to.",
            do="Use between 2 folds and one per patient, or name a refiner.",
        )
    order = np.random.default_rng([seed, 1]).permutation(len(names))
    return tuple(tuple(sorted(names[i] for i in order[k::folds])) for k in range(folds))


def training_steps(kinds: Sequence[RefinerKind], folds: int, recipe: RefineRecipe) -> int:
    """Steps of all trainings of `choose_refiner`."""
    return folds * recipe.steps * sum(kind in NETWORK_KINDS for kind in kinds)


def _nothing(spec: MapSpec) -> Table:
    return Table(np.zeros((len(spec.classes),) * 2, dtype=np.int64), 0)
