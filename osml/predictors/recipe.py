"""What a GLM predictor is before it has seen data: its inputs, how they enter, and what will be learnt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import InvalidInputError
from osml.predictors.contract import Design
from osml.schema.model import BinaryInput, CategoryInput, LabInput, NomogramPredictor, NumberInput, Rcs, Schema
from osml.schema.targets import SurvivalTarget

Float = NDArray[np.float64]
Select = Literal["none", "univariable", "backward", "lasso"]
Shrink = Literal["uniform", "ridge", "none"]


@dataclass(frozen=True)
class InputRecipe:
    """One input: `transform` is linear, log or rcs (with `knots` knots); `encode` is value, kit or uln."""

    name: str
    label: str
    kind: Literal["number", "category", "score"]
    unit: str = ""
    levels: tuple[str, ...] = ()
    transform: Literal["linear", "log", "rcs"] = "linear"
    knots: int = 0
    encode: Literal["value", "kit", "uln"] = "value"

    @property
    def candidate_parameters(self) -> int:
        """Coefficients this input may take, spline terms and levels counted."""
        if self.kind == "category":
            return len(self.levels) - 1
        return self.knots - 1 if self.transform == "rcs" else 1

    @property
    def shown_unit(self) -> str:
        """Unit as printed on an axis."""
        return {"value": self.unit, "kit": "(y - L) / (H - L)", "uln": "× ULN"}[self.encode]


@dataclass(frozen=True)
class GlmRecipe:
    """A logistic or Cox predictor as the schema states it."""

    name: str
    inputs: tuple[InputRecipe, ...]
    select: Select
    shrink: Shrink
    estimator: Literal["ml", "firth"]
    impute: bool
    bootstraps: int
    inner_folds: int

    @property
    def candidate_parameters(self) -> int:
        """All coefficients that the pipeline may choose from: what sample size is judged by."""
        return sum(i.candidate_parameters for i in self.inputs)

    def input(self, name: str) -> InputRecipe:
        """The input of that name."""
        return next(i for i in self.inputs if i.name == name)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `recipe_from_dict` inverts it."""
        return asdict(self)

    def values(self, design: Design) -> dict[str, Float]:
        """Columns of a design as this recipe wants them, float arrays (n,), NaN = missing.

        A lab that enters by its kit range is missing where the range is not known.
        """
        out: dict[str, Float] = {}
        for item in self.inputs:
            if item.kind == "score":
                if item.name not in design.upstream:
                    raise InvalidInputError(f"predictor {self.name!r} needs the score of {item.name!r}")
                out[item.name] = design.upstream[item.name]
                continue
            out[item.name] = _entered(item, design.cohort)
        return out

    def unusable(self, cohort: Cohort, names: Collection[str]) -> dict[int, str]:
        """Units that no model of this recipe can score although their cells can be read: position → why.

        names : the inputs that the model looks at
        """
        out: dict[int, str] = {}
        for item in self.inputs:
            if item.kind == "score" or item.name not in names:
                continue
            x = _entered(item, cohort)
            if not self.impute:
                for i in np.flatnonzero(np.isnan(x) & ~np.isnan(cohort.values[item.name])):
                    out[int(i)] = f"{item.name}: the assay's range is missing, and the model does not impute"
            if item.transform == "log":
                for i in np.flatnonzero(x <= 0):
                    out[int(i)] = f"{item.name}: {x[i]:g} has no logarithm"
        return out


def _entered(item: InputRecipe, cohort: Cohort) -> Float:
    x = cohort.values[item.name]
    if item.encode == "value":
        return x
    low, high = cohort.kit[item.name]
    return (x - low) / (high - low) if item.encode == "kit" else x / high


def recipe_of(schema: Schema, name: str) -> GlmRecipe:
    """Recipe of the nomogram predictor `name` of a schema."""
    block = schema.predictors[name]
    assert isinstance(block, NomogramPredictor)
    inner = schema.validation.inner
    optimism = schema.validation.optimism
    return GlmRecipe(
        name=name,
        inputs=tuple(_input(schema, block, item) for item in block.inputs),
        select=block.select,
        shrink=block.shrink,
        estimator=block.estimator,
        impute=schema.missing == "impute",
        bootstraps=optimism.bootstraps if optimism is not None else 200,
        inner_folds=5 if inner == "none" else inner.folds,
    )


def recipe_from_dict(data: dict[str, Any]) -> GlmRecipe:
    """Inverse of `GlmRecipe.to_dict`."""
    inputs = tuple(InputRecipe(**{**item, "levels": tuple(item["levels"])}) for item in data["inputs"])
    return GlmRecipe(**{**data, "inputs": inputs})


def _input(schema: Schema, block: NomogramPredictor, name: str) -> InputRecipe:
    if name in schema.predictors:
        label = getattr(schema.predictors[name], "label", None) or f"{name} score"
        unit = "log hazard" if isinstance(schema.target, SurvivalTarget) else "log odds"
        return InputRecipe(name, label, "score", unit=unit)
    spec = schema.inputs[name]
    label = spec.label or name
    if isinstance(spec, (BinaryInput, CategoryInput)):
        return InputRecipe(name, label, "category", levels=spec.levels)
    assert isinstance(spec, (NumberInput, LabInput))
    term = block.terms.get(name, "linear")
    encode = block.encode.get(name, "value")
    if isinstance(term, Rcs):
        return InputRecipe(name, label, "number", spec.unit or "", (), "rcs", term.rcs, encode)
    return InputRecipe(name, label, "number", spec.unit or "", (), term, 0, encode)
