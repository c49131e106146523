"""Small annotated slides, made once per session: synthetic tissue, patients apart."""

from __future__ import annotations

from pathlib import Path

from osml.imaging.slides_classes import PAPER_CLASSES
from osml.nets.refine_recipe import RefineRecipe
from osml.predictors.slide_recipe import HeadRecipe, SlideCase, SlideEncoder, SlideRecipe

# A tiny network: 64 px tiles of 128 µm are enough to tell textures apart, and quick.
ENCODER = SlideEncoder(size=64, layers=("blocks.1", "blocks.2"), stain=0)
RECIPE = SlideRecipe(
    PAPER_CLASSES, ("VT",), ("NC", "FH", "HC", "IF"), encoder=ENCODER, refine="majority", inner_folds=2,
    refiner=RefineRecipe(width=4, levels=2, steps=3, batch=2, crop=8, path=2), head=HeadRecipe(hidden=32, epochs=8),
)  # fmt: skip


def cases(folder: Path, *, masks: bool = True) -> list[SlideCase]:
    """The slides below `folder`, each of the patient that its name begins with."""
    out = []
    for path in sorted((folder / "slides").glob("*.tif")):
        name = path.stem
        drawn = folder / (f"masks/{name}.png" if masks else f"annotations/{name}.geojson")
        out.append(SlideCase(name, name[:6], path, drawn))
    return out
