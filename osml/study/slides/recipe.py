"""From a schema to what the slide predictor is told."""

from __future__ import annotations

from osml.imaging.slides_classes import SlideClass
from osml.nets.refine_recipe import RefineRecipe
from osml.predictors.slide_recipe import SlideEncoder, SlideRecipe
from osml.schema.load import LoadedSchema
from osml.schema.slides import Lora, SlidePredictor
from osml.study.slides.table import parts


def slide_predictors(loaded: LoadedSchema) -> dict[str, SlidePredictor]:
    """Predictors of a region study: all of them are of kind slide."""
    return {name: block for name, block in loaded.schema.predictors.items() if isinstance(block, SlidePredictor)}


def classes_of(loaded: LoadedSchema) -> tuple[SlideClass, ...]:
    """Classes of tissue, the background first."""
    target, _, _ = parts(loaded)
    out = []
    for code, kind in target.classes.items():
        red, green, blue = bytes.fromhex(kind.colour[1:])
        out.append(SlideClass(code, (red, green, blue), kind.name))
    return tuple(out)


def recipe_for(loaded: LoadedSchema, name: str) -> SlideRecipe:
    """The recipe of a predictor."""
    target, source, _ = parts(loaded)
    block = slide_predictors(loaded)[name]
    encoder = SlideEncoder()
    if (stated := block.encoders.get(source)) is not None:
        tuned = {"tune": "lora", "rank": stated.tune.lora.rank, "alpha": stated.tune.lora.alpha} if isinstance(
            stated.tune, Lora
        ) else {}  # fmt: skip
        encoder = SlideEncoder(model=stated.model, weights=stated.weights, **tuned)  # type: ignore[arg-type]
    inner = loaded.schema.validation.inner
    assert inner != "none"
    necrosis = target.necrosis
    return SlideRecipe(
        classes=classes_of(loaded),
        viable=necrosis.viable if necrosis else (),
        necrotic=necrosis.necrotic if necrosis else (),
        size_um=block.tile.size_um,
        stride_um=block.tile.stride_um,
        encoder=encoder,
        refine=block.refine,
        refiner=RefineRecipe(width=block.refiner.width, steps=block.refiner.steps),
        inner_folds=inner.folds,
        min_tissue=block.min_tissue,
        mpp=block.tile.mpp,
    )
