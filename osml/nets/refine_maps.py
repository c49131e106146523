"""What refiners work on: maps of one cell size, regions of them for training, and the contract that refiners keep.

A cell is the pixel of a map. A region of 2048 px (Nguyen et al. 2025) is a map of 64 x 64 cells: a cell is 32 px
(16 µm at 0.5 µm/px) and a tile of 256 px covers 8 x 8 cells. At one cell per tile a region would be 8 x 8 cells, no
border could be more exact than a tile, and the picture would add nothing. The coarse map, the reference and the picture
of a region lie on the same cells; `nearest` and `shrink` bring them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osml.errors import InvalidInputError

UNLABELLED = -1
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class MapSpec:
    """What every map of a refiner is.

    classes : names, in the order of the first axis of probabilities
    cell_um : side of a cell in µm; a refiner must not be used on maps of other cells
    """

    classes: tuple[str, ...]
    cell_um: float

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise InvalidInputError(f"classes {self.classes}: expected two or more different names")
        if not self.cell_um > 0:
            raise InvalidInputError(f"cell_um must be above 0, got {self.cell_um}")


@dataclass(frozen=True, eq=False)
class Region:
    """A region with its reference, for training or for choosing a refiner.

    patient : its patient, who must not be among those that the refiner is judged on
    coarse : float array (C, h, w), softmax probabilities of the tile classifier. Out of fold: by a classifier that was
        not trained on this patient. Its errors on its own training patients are rarer than those to be mended
    image : uint8 array (h, w, 3), the region in red, green and blue, shrunk to cells
    labels : int array (h, w), class position; -1 where nobody annotated
    """

    patient: str
    coarse: Probabilities
    image: NDArray[np.uint8]
    labels: NDArray[np.int16]


class Refiner(Protocol):
    """A fitted refiner: from a coarse map and its picture to probabilities on the same cells."""

    @property
    def kind(self) -> str:
        """Its name in `refine.REFINERS`."""

    @property
    def spec(self) -> MapSpec:
        """Classes and cells of its maps."""

    def refine(
        self, coarse: NDArray[Any], image: NDArray[Any], *, out: NDArray[Any] | None = None, device: str = "cpu"
    ) -> NDArray[Any]:
        """Refined probabilities (C, h, w); each cell's sum to 1.

        Parameters
        ----------
        coarse : float array (C, h, w), of any size; may lie on disk
        image : uint8 array (h, w, 3); may lie on disk
        out : array of floats (C, h, w) that takes the result, for example on disk; None = a new float32 array
        device : where a network runs
        """


def check_map(coarse: NDArray[Any], image: NDArray[Any], spec: MapSpec, where: str = "the map") -> None:
    """Refuse a map that is none.

    Raises
    ------
    InvalidInputError
        Wrong shapes or types, or probabilities that do not sum to 1 (logits, missing values).
    """
    if coarse.ndim != 3 or coarse.shape[0] != len(spec.classes) or coarse.dtype.kind != "f" or 0 in coarse.shape:
        raise InvalidInputError(
            f"{where}: coarse has shape {coarse.shape} and type {coarse.dtype}; expected floats "
            f"({len(spec.classes)}, h, w), one plane per class of {', '.join(spec.classes)}"
        )
    if image.shape != (*coarse.shape[1:], 3) or image.dtype != np.uint8:
        raise InvalidInputError(
            f"{where}: the picture has shape {image.shape} and type {image.dtype}; expected uint8 "
            f"{(*coarse.shape[1:], 3)}, the cells of the coarse map",
            do="Shrink it with `refine_maps.shrink`.",
        )
    for row in range(0, coarse.shape[1], 256):  # in bands: the map may lie on disk
        band = np.asarray(coarse[:, row : row + 256], dtype=np.float32)
        if not (band >= 0).all() or not np.abs(band.sum(axis=0) - 1).max() < 0.01:
            raise InvalidInputError(
                f"{where}: the coarse map holds numbers that are no probabilities (rows {row} and on)",
                why="A refiner takes softmax probabilities; logits or missing values would pass for certainty.",
            )


def check_regions(regions: list[Region], spec: MapSpec) -> None:
    """Refuse regions that cannot be trained on."""
    if not regions:
        raise InvalidInputError("no region to train a refiner on")
    for k, region in enumerate(regions):
        where = f"region {k} of patient {region.patient}"
        check_map(region.coarse, region.image, spec, where)
        labels = region.labels
        if labels.shape != region.coarse.shape[1:] or labels.dtype.kind not in "iu":
            raise InvalidInputError(
                f"{where}: labels have shape {labels.shape} and type {labels.dtype}; expected class positions "
                f"{region.coarse.shape[1:]}"
            )
        if labels.min() < UNLABELLED or labels.max() >= len(spec.classes):
            raise InvalidInputError(
                f"{where}: labels range over {labels.min()} to {labels.max()}; "
                f"expected {UNLABELLED} to {len(spec.classes) - 1}"
            )
    if not any((region.labels != UNLABELLED).any() for region in regions):
        raise InvalidInputError("no cell of any region is annotated", why="There is nothing to learn from.")


def nearest(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """An array (..., H, W) at height x width cells, each with the value at its centre: for labels and coarse maps.

    >>> nearest(np.array([[1, 2]]), 2, 4)
    array([[1, 1, 2, 2],
           [1, 1, 2, 2]])
    """
    rows, columns = (_centres(n, m) for n, m in zip(array.shape[-2:], (height, width), strict=True))
    return array[..., rows[:, None], columns[None, :]]


def shrink(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) at height x width cells, each the mean of what it covers: antialiased, exactly registered."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InvalidInputError(f"a picture of shape {image.shape} and type {image.dtype}; expected uint8 (H, W, 3)")
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _centres(have: int, want: int) -> NDArray[np.intp]:
    return ((2 * np.arange(want) + 1) * have // (2 * want)).astype(np.intp)
