"""Pictures of lesions with the outlines of their regions, drawn while the images are at hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import InvalidInputError
from osml.explanation.drawing import INK, QUIET, new_figure, pen
from osml.features import settings_of
from osml.files import atomic_write, write_json
from osml.schema.load import LoadedSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from osml.radiomics.settings import Settings

TILES = 12
ACROSS = 4
CONTEXT_MM = 15.0  # shown around the outermost region
BAR_MM = 20.0
DPI = 110
# Light ones of Okabe and Ito, that show on grey; the dash tells the outlines apart without colour.
OUTLINES: tuple[tuple[str, Any], ...] = (
    ("#f0e442", "-"),
    ("#56b4e9", (0, (5, 1.5))),
    ("#e69f00", (0, (2, 1.2))),
    ("#cc79a7", (0, (1, 1))),
)


@dataclass(frozen=True)
class Tile:
    """One lesion in the slice that cuts most of it.

    picture : float array (rows, columns), grey values
    outlines : bool arrays of its shape: the mask, then mask and surroundings up to each of `outlines_mm`
    spacing_mm : along columns and rows; None where the image states none
    size : of the whole lesion, in ml (a picture: cm²)
    share : of the lesion's voxels that lie in this slice
    """

    outcome: str
    picture: NDArray[np.float64]
    outlines: tuple[NDArray[np.bool_], ...]
    spacing_mm: tuple[float, float]
    size: float
    share: float


def write_montage(loaded: LoadedSchema, cohort: Cohort, run: Path) -> None:
    """cohort/montage_<input>.png and .json for each radiomics input whose features the cohort holds.

    Up to 12 units, spread over the outcome and within it from the smallest to the largest lesion; no name of a patient
    is written. An image that cannot be drawn is left out and counted. The same images give the same bytes.

    Parameters
    ----------
    cohort : the units that were analysed, with their features
    run : folder of the run
    """
    for name in cohort.features:
        settings = settings_of(loaded.schema, name)
        distances = outline_distances(settings.regions)[: len(OUTLINES) - 1]
        order = spread_units(cohort, _sizes(cohort, name))
        tiles, lost = [], 0
        for i in order:
            try:
                tiles.append(_tile(loaded, cohort, name, settings, distances, i))
            except (InvalidInputError, OSError):
                lost += 1
        if not tiles:
            continue
        atomic_write(run / "cohort" / f"montage_{name}.png", _drawn(tiles, distances))
        facts = {
            "outlines_mm": list(distances),
            "left_out": lost,
            "tiles": [{"outcome": t.outcome, "size": round(t.size, 3), "share": round(t.share, 3)} for t in tiles],
        }
        write_json(run / "cohort" / f"montage_{name}.json", facts)


def outline_distances(regions: Sequence[str]) -> tuple[float, ...]:
    """Distances from the mask in mm at which some region begins or ends, the mask itself left out.

    >>> outline_distances(("tumour", "0-2mm", "2-6mm", "tumour+4mm"))
    (2.0, 4.0, 6.0)
    """
    from osml.radiomics.settings import ring_mm

    ends = {end for ring in map(ring_mm, regions) if ring is not None for end in ring}
    return tuple(sorted(end for end in ends if 0 < end < float("inf")))


def spread_units(cohort: Cohort, size: NDArray[np.float64], most: int = TILES) -> list[int]:
    """Positions of at most `most` units, the outcomes in turn as evenly as their numbers allow, each from the smallest
    to the largest `size`; ties in the order of the cohort."""
    classes = [np.flatnonzero(units) for units in cohort.outcome_groups().values()]
    share = most // len(classes)
    # What a small class leaves free goes to the others.
    rest = [sum(max(0, share - len(c)) for c in classes if c is not own) for own in classes]
    room = [min(len(c), share + free) for c, free in zip(classes, rest, strict=True)]
    out: list[int] = []
    for members, wanted in zip(classes, room, strict=True):
        if wanted:
            ordered = members[np.argsort(size[members], kind="stable")]
            places = np.linspace(0, len(ordered) - 1, wanted).round().astype(int)
            out += [int(i) for i in ordered[places]]
    return out


def _sizes(cohort: Cohort, name: str) -> NDArray[np.float64]:
    """Size of each lesion as far as its features tell, else 0: then the order of the cohort decides."""
    table = cohort.features[name]
    for ending in ("|original_shape_VoxelVolume", "|original_shape2D_PixelSurface"):
        for j, column in enumerate(table.columns):
            if column.endswith(ending):
                return np.nan_to_num(table.x[:, j])
    return np.zeros(len(cohort))


def _tile(
    loaded: LoadedSchema, cohort: Cohort, name: str, settings: Settings, distances: Sequence[float], i: int
) -> Tile:
    from osml.imaging.read import read_image, read_mask
    from osml.radiomics.windows import prepare, shared_window

    block, root = loaded.schema.radiomics()[name], loaded.table_path.parent
    image = read_image(root / cohort.files[block.of][i])
    mask = read_mask(root / cohort.files[f"{block.of}.mask"][i], image)
    bodies = cohort.files.get(f"{block.of}.body")
    body = read_mask(root / bodies[i], image) if bodies is not None and bodies[i] else None
    names = ("tumour", *(f"tumour+{mm:g}mm" for mm in distances))
    # The window of an extraction reaches 8 sigma beyond the regions, so this sigma shows what is wanted around them.
    wide = replace(settings, regions=names, filters=("log",), log_sigma_mm=(CONTEXT_MM / 8,))
    window, regions = shared_window(prepare(image, mask, body, wide), wide)
    inside = [region.inside for region in regions]
    grey, voxel = window.array, float(np.prod(window.spacing_mm))
    share, size = 1.0, voxel / 100
    if grey.ndim == 3:
        areas = inside[0].sum(axis=(1, 2))
        k = int(np.argmax(areas))
        share, size = float(areas[k] / areas.sum()), voxel / 1000
        grey, inside = grey[k], [one[k] for one in inside]
    words = next((name for name, units in cohort.outcome_groups().items() if units[i]), "")
    words = "no event so far" if words == "no event" else words
    spacing = (float(window.spacing_mm[0]), float(window.spacing_mm[1]))
    return Tile(words, grey, tuple(inside), spacing, size * float(regions[0].inside.sum()), share)


def _drawn(tiles: Sequence[Tile], distances: Sequence[float]) -> bytes:
    from matplotlib.lines import Line2D

    flat = tiles[0].share == 1.0 and all(t.share == 1.0 for t in tiles)
    down = -(-len(tiles) // ACROSS)
    with pen(font_size=8):
        figure = new_figure(0.35 + 2.35 * down, 9.0)
        grid = figure.subplots(down, ACROSS, squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for k, (axes, tile) in enumerate(zip(grid.ravel(), tiles, strict=False)):
            _show(axes, tile)
            size = f"{tile.size:,.1f}" if tile.size < 10 else f"{tile.size:,.0f}"
            axes.set_title(f"{k + 1}: {tile.outcome}, {size} {'cm²' if flat else 'ml'}", fontsize=8, color=INK, pad=3)
        words = ("mask", *(f"{mm:g} mm outside" for mm in distances))
        handles = [
            Line2D([], [], color=colour, linestyle=dash, linewidth=2, label=label)
            for (colour, dash), label in zip(OUTLINES, words, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=INK)
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=DPI, metadata={"Software": None})
    return sink.getvalue()


def _show(axes: Axes, tile: Tile) -> None:
    low, high = np.percentile(tile.picture, [1, 99])
    aspect = tile.spacing_mm[1] / tile.spacing_mm[0]
    axes.imshow(
        tile.picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), aspect=aspect, interpolation="nearest"
    )
    for (colour, dash), inside in reversed(list(zip(OUTLINES, tile.outlines, strict=False))):
        if inside.any() and not inside.all():
            axes.contour(inside.astype(float), levels=[0.5], colors=[colour], linestyles=[dash], linewidths=[1.1])
    rows, columns = tile.picture.shape
    bar = BAR_MM / tile.spacing_mm[0]
    if bar < 0.8 * columns:
        x, y = 0.04 * columns, 0.95 * rows
        axes.plot([x, x + bar], [y, y], color="#ffffff", linewidth=2.4, solid_capstyle="butt")
        axes.plot([x, x + bar], [y, y], color=QUIET, linewidth=0.6, solid_capstyle="butt")
