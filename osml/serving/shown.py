"""What was given of one unit, in words: values, pictures, features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from osml.cohort.cohort import Cohort
from osml.predictors.tabular import Reader
from osml.serving.measured import Measured, pictures_read

if TYPE_CHECKING:
    from osml.serving.model import Model

NOT_GIVEN = "not given"


def inputs_shown(model: Model, fitted: Reader, unit: Cohort) -> dict[str, str]:
    """Each input of a network or tabular learner as it was given."""
    words = {answer.input: answer.shown for answer in model.answers_of(unit)}
    for name, source in fitted.images.items():
        words[name] = _count(len(unit.images[source.key].row), model.schema.inputs[name].kind == "volume")
    for name in fitted.radiomics:
        gone = bool(np.isnan(unit.features[name].x).all())
        words[name] = NOT_GIVEN if gone else f"{len(fitted.radiomics[name])} features"
    return words


def images_shown(model: Model, measured: Measured | None) -> tuple[tuple[str, str], ...]:
    """(label, how many were given) of each image that the model reads."""
    out = []
    for image in model.images():
        if image.key in model.schema.inputs:
            n = 0 if measured is None else pictures_read(model.schema, model.chain, measured, image.key)
            out.append((model.label(image.key), _count(n, image.kind == "volume")))
    return tuple(out)


def _count(n: int, volume: bool) -> str:
    return NOT_GIVEN if not n else "given" if n == 1 or volume else f"{n} pictures"
