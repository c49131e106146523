"""Refiners without a network: none, and the majority of neighbouring cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from osml.evaluation.segmentation import confusion_table, overlap
from osml.nets.refine_maps import MapSpec, Probabilities, Region, check_map

SIDES = (3, 5, 9, 13, 17, 25)
BAND = 512  # rows worked on at a time


@dataclass(frozen=True)
class Untouched:
    """The coarse map as it is."""

    spec: MapSpec
    kind: str = "none"

    def refine(
        self, coarse: NDArray[Any], image: NDArray[Any], *, out: NDArray[Any] | None = None, device: str = "cpu"
    ) -> NDArray[Any]:
        """The contract of `Refiner.refine`."""
        check_map(coarse, image, self.spec)
        if out is None:
            return np.array(coarse, dtype=np.float32)
        out[:] = coarse
        return out


@dataclass(frozen=True)
class Majority:
    """Each cell gets the votes of the cells in a square around it; a vote is the most probable class.

    side : cells along the square. Beyond the map's edge its last cells vote again. Ties go to the larger mean
    probability in the square.
    """

    spec: MapSpec
    side: int
    kind: str = "majority"

    def refine(
        self, coarse: NDArray[Any], image: NDArray[Any], *, out: NDArray[Any] | None = None, device: str = "cpu"
    ) -> NDArray[Any]:
        """The contract of `Refiner.refine`; probabilities are shares of votes."""
        check_map(coarse, image, self.spec)
        found = np.empty(coarse.shape, dtype=np.float32) if out is None else out
        reach, height = self.side // 2, coarse.shape[1]
        for row in range(0, height, BAND):
            first, end = max(0, row - reach), min(height, row + BAND + reach)
            band = _votes(np.asarray(coarse[:, first:end], dtype=np.float32), self.side)
            found[:, row : row + BAND] = band[:, row - first : row - first + BAND]
        return found


def fit_majority(regions: list[Region], spec: MapSpec) -> Majority:
    """The side, among `SIDES`, with the highest mean IoU on the training regions; one number is learnt."""
    scores = {side: _mean_iou(regions, len(spec.classes), side) for side in SIDES}
    return Majority(spec, max(scores, key=lambda side: scores[side]))


def _votes(p: Probabilities, side: int) -> Probabilities:
    """Shares of votes (C, h, w), with as little of the mean probability as decides ties and nothing else."""
    classes = np.arange(len(p))[:, None, None]
    votes = (p.argmax(axis=0) == classes).astype(np.float64)
    share, mean = (uniform_filter(a, size=(0, side, side), mode="nearest") for a in (votes, p.astype(np.float64)))
    little = 0.5 / side**2
    return ((share + little * mean) / (1 + little)).astype(np.float32)


def _mean_iou(regions: list[Region], classes: int, side: int) -> float:
    tables = np.zeros((classes, classes), dtype=np.int64)
    for region in regions:
        predicted = _votes(np.asarray(region.coarse, dtype=np.float32), side).argmax(axis=0)
        tables += confusion_table(region.labels, predicted, classes).counts
    return float(overlap(tables).overall["miou"])
