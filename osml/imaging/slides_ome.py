"""A class map as pyramidal OME-TIFF, written row by row of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.slides_classes import LabelRaster, SlideClass
from osml.imaging.slides_files import whole_file

_TILE = 512
# The smallest level fits a screen.
_SMALLEST = 1024


def write_ome(path: Path, raster: LabelRaster, classes: Sequence[SlideClass]) -> None:
    """Write the numbers of the classes (255: nothing was looked at) with their pixels' size and names.

    Lower levels take every second pixel: classes are not averaged. Deflate, tiles of 512 px, BigTIFF. Equal maps give
    equal bytes. The names stand in OME's map annotation: `0: BG`, …

    Raises
    ------
    OsmlError
        The disk is full; nothing was left.
    """
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile with imagecodecs", "slides", "writing OME-TIFF") from error
    levels = [raster.labels]
    while max(levels[-1].shape) > _SMALLEST:
        levels.append(levels[-1][::2, ::2])
    names: dict[str, Any] = {str(number): kind.name for number, kind in enumerate(classes)}
    meta = {
        "axes": "YX", "PhysicalSizeX": raster.mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": raster.mpp,
        "PhysicalSizeYUnit": "µm", "Channel": {"Name": ["class"]},
        "MapAnnotation": {"Namespace": "osml/classes", **names},
        # tifffile draws one anew each time.
        "UUID": "urn:uuid:00000000-0000-0000-0000-000000000000",
    }  # fmt: skip
    resolution = (10_000 / raster.mpp, 10_000 / raster.mpp)
    with whole_file(path) as part, tifffile.TiffWriter(part, bigtiff=True, ome=True) as writer:
        for number, level in enumerate(levels):
            own: dict[str, Any] = {"subifds": len(levels) - 1, "metadata": meta} if number == 0 else {"subfiletype": 1}
            # Explicit strides of a memory map, not a copy of it.
            writer.write(
                _tiles(level), shape=level.shape, dtype=np.uint8, tile=(_TILE, _TILE), compression="adobe_deflate",
                photometric="minisblack", resolution=tuple(r / 2**number for r in resolution),
                resolutionunit="CENTIMETER", **own,
            )  # fmt: skip


def _tiles(level: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, level.shape[0], _TILE):
        for left in range(0, level.shape[1], _TILE):
            yield np.ascontiguousarray(level[top : top + _TILE, left : left + _TILE])
