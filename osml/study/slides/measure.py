"""What is kept of a slide's map: confusion with its reference, areas, blocks, foci; the map is a small picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.evaluation.huvos import foci, found_foci
from osml.evaluation.necrosis import block_areas
from osml.evaluation.segmentation import UNLABELLED, confusion_table
from osml.files import atomic_write
from osml.imaging.slides_classes import NOTHING
from osml.predictors.slide_recipe import SlideRecipe

Labels = NDArray[np.uint8]
# Side of the blocks that are drawn for the interval of a patient's rate.
BLOCK_UM = 500.0
# Foci that are listed for review; more are counted.
MOST_FOCI = 200


def positions(labels: NDArray[Any]) -> NDArray[np.int16]:
    """Class positions of a stored raster: -1 where nobody said.

    >>> positions(np.array([0, 3, 255], dtype=np.uint8)).tolist()
    [0, 3, -1]
    """
    out = np.asarray(labels).astype(np.int16)
    out[out == NOTHING] = UNLABELLED
    return out


def seen(labels: NDArray[Any], tissue: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Class positions as annotated; where nobody drew and there is no tissue, the background (position 0).

    Nobody draws glass, and training takes it so, too. Prediction and reference then agree on most glass for the same
    reason, which is why the mean over the classes of tissue stands beside the mean over all.

    >>> seen(np.array([255, 255, 2], dtype=np.uint8), np.array([0, 200, 0], dtype=np.uint8)).tolist()
    [0, -1, 2]
    """
    out = positions(labels)
    out[(out == UNLABELLED) & (np.asarray(tissue) == 0)] = 0
    return out


def measured(
    predicted: NDArray[Any], reference: NDArray[Any] | None, recipe: SlideRecipe, slide: str
) -> dict[str, Any]:
    """Numbers of one map, ready for JSON.

    Parameters
    ----------
    predicted : int (h, w), class position in every cell
    reference : int (h, w), -1 where nobody annotated; None: not annotated

    Returns
    -------
    dict
        `areas` (mm² of each class on the whole slide), `blocks` (mm² of each class in blocks that hold tumour bed),
        `viable` (foci); with a reference `table`, `unlabelled` and `foci` (mm² and whether found, of viable tumour).
    """
    K, cell = len(recipe.classes), (recipe.cell_um / 1000) ** 2
    counts = np.bincount(predicted.ravel(), minlength=K)
    out: dict[str, Any] = {"areas": (counts * cell).tolist()}
    if reference is not None:
        table = confusion_table(reference, predicted, K)
        out |= {"table": table.counts.tolist(), "unlabelled": table.unlabelled}
    bed = recipe.bed
    if bed is None:
        return out
    blocks = block_areas(predicted, K, side=max(1, round(BLOCK_UM / recipe.cell_um)), cell_mm2=cell)
    out["blocks"] = blocks[blocks[:, list(bed.counted)].sum(axis=1) > 0].tolist()
    seen = foci(predicted, bed.viable, cell_mm2=cell, slide=slide)
    out["viable"] = {
        "count": len(seen),
        "smallest": [[f.row, f.column, f.area_mm2] for f in seen[:MOST_FOCI]],
    }
    if reference is not None:
        areas, found = found_foci(reference, predicted, bed.viable, cell_mm2=cell)
        out["foci"] = {"mm2": areas.tolist(), "found": found.tolist()}
    return out


def reference_areas(reference: NDArray[Any], recipe: SlideRecipe) -> list[float]:
    """mm² of each class as annotated."""
    known = reference[reference != UNLABELLED]
    areas: list[float] = (np.bincount(known, minlength=len(recipe.classes)) * (recipe.cell_um / 1000) ** 2).tolist()
    return areas


def share_annotated(reference: NDArray[Any], tissue: NDArray[np.uint8]) -> float:
    """Share of the tissue that somebody annotated."""
    inside = np.asarray(tissue) >= 128
    total = int(np.count_nonzero(inside))
    return float(np.count_nonzero(inside & (reference != UNLABELLED)) / total) if total else float("nan")


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """A label map as a grey PNG, losslessly: equal maps, equal bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.asarray(labels).astype(np.uint8)).save(stream, "PNG")
    atomic_write(path, stream.getvalue())


def read_labels(path: Path) -> Labels:
    """What `write_labels` wrote."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture, dtype=np.uint8)


def rates_of(areas: Sequence[float] | NDArray[np.float64], recipe: SlideRecipe) -> dict[str, float | None]:
    """Necrosis rate and share of each class of tissue, of areas (K,); None where there is no area to divide by."""
    a = np.asarray(areas, dtype=np.float64)
    tissue = float(a[1:].sum())
    out: dict[str, float | None] = {
        name: (float(a[k] / tissue) if tissue > 0 else None) for k, name in enumerate(recipe.names) if k
    }
    bed = recipe.bed
    if bed is not None:
        necrotic, whole = float(a[list(bed.necrotic)].sum()), float(a[list(bed.counted)].sum())
        out["necrosis_rate"] = necrotic / whole if whole > 0 else None
    return out
