"""Grad-CAM of one row: its pictures are those that came with a form, or are read again from the paths of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osml.cache import default_folder
from osml.predictors.network import FittedNetwork
from osml.serving.encoders import NetworkImage, Pixels, network_images, picture_files
from osml.serving.network import HeatMap, from_png, heat_maps
from osml.serving.reading import Reading
from osml.serving.units import unit_paths

if TYPE_CHECKING:
    from osml.serving.model import Model


def row_heat_maps(model: Model, reading: Reading, column: str, root: Path | None) -> tuple[HeatMap, ...]:
    """Heat maps of the first unit of what was read.

    column : the event, or the class or node whose score is shown
    """
    fitted, measured = model.fitted, reading.measured
    assert isinstance(fitted, FittedNetwork)
    images = network_images(model.schema, model.chain)
    pixels: dict[str, list[Pixels]] = {}
    shown: dict[str, list[Pixels]] = {}
    for image in images:
        name, key = image.source.name, image.source.key
        if root is None and measured is not None and name in measured.shown and key in measured.pixels:
            pixels[key] = list(measured.pixels[key])
            shown[name] = [from_png(raw) for raw in measured.shown[name]]
        elif root is not None:
            pixels[key] = shown[name] = _again(model, reading, image, root)
    if not pixels:
        return ()
    unit = reading.cohort([0])
    labels = {name: model.label(name) for name in fitted.images}
    return heat_maps(fitted, unit, column, images, pixels, shown, model.encoders, labels)


def _again(model: Model, reading: Reading, image: NetworkImage, root: Path) -> list[Pixels]:
    from osml.nets.images import decode

    name, files = image.source.name, reading.parsed.files
    paths = [root / path for path in unit_paths(model.schema, reading.parsed, reading.units, name)[0]]
    cells = files.get(f"{name}.mask")
    mask = root / cells[0] if cells is not None and cells[0] else None
    return [decode(file) for file in picture_files(model.schema, name, paths, mask, default_folder())]
