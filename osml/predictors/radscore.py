"""Predictor `radscore`: one number out of many radiomic features, everything about it chosen on training patients.

Candidates of one region go through `osml.predictors.selection`; the LASSO's linear predictor or a random forest on the
surviving features is the score. With several regions to choose from, each is fitted and judged on inner folds, the best
is taken, and all are tabulated; that table describes, it tests nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, FeatureTable
from osml.errors import InvalidInputError, RunError
from osml.files import read_json, write_json
from osml.predictors.contract import Design, Flag, Prediction
from osml.predictors.forest import Forest, load_forest
from osml.predictors.selection import Selection, SelectionRecipe
from osml.schema.model import RadscorePredictor, Schema
from osml.stats.combat import Combat
from osml.stats.terms import Linear, LinearModel

Float = NDArray[np.float64]
FORMAT = 2
# Texture has heavy tails: beyond this many SD of the training mean a feature counts as if it lay there, when the score
# is learnt and when it is used, so that no single patient or feature decides; at prediction it is flagged as well.
WINSOR_SD = 3.0


@dataclass(frozen=True)
class RadscoreRecipe:
    """A Rad-score before it has seen data.

    region : a name, or best
    site : column of the site that features are harmonised over, "" for none
    """

    name: str
    label: str
    input: str
    region: str
    score: Literal["linear", "forest"]
    selection: SelectionRecipe
    inner_folds: int
    site: str


@dataclass(frozen=True)
class RegionRow:
    """How a region did on the inner folds of the training patients.

    loss : mean log loss (binary), or 1 - C (survival): what the choice rests on
    discrimination : mean AUC or C over inner folds, NaN where no fold had both classes
    features : features that its score uses when fitted to all training patients; None where it was not fitted
    p : risk of each training unit when it was left out (binary), NaN where its fold could not be fitted
    """

    region: str
    loss: float
    discrimination: float
    features: int | None
    reason: str = ""
    p: Float | None = None


@dataclass(frozen=True)
class FittedRadscore:
    """A fitted Rad-score.

    columns : features that the score reads, in the order of `centre` and `scale` (training mean and SD)
    lower, upper : training mean -/+ `WINSOR_SD` SD of each; values beyond are drawn in to them
    model : linear score of the standardised features, and the log odds at their mean (Cox: 0)
    forest : or a random forest on the standardised features; `model` then holds the log odds of the training share only
    survival : Cox: baseline survival at each horizon for lp = 0
    """

    recipe: RadscoreRecipe
    region: str
    columns: tuple[str, ...]
    centre: Float
    scale: Float
    lower: Float
    upper: Float
    model: LinearModel
    forest: Forest | None
    combat: Combat | None
    event: str
    horizons: tuple[float, ...]
    time_unit: str
    survival: tuple[float, ...]
    regions: tuple[RegionRow, ...] = ()
    selection: Selection | None = None
    names: tuple[str, ...] = ()

    def standardised(self, cohort: Cohort) -> tuple[dict[str, Float], dict[str, NDArray[np.bool_]]]:
        """Column → training z-scores (n,), winsorised, and which did not exist and stand at the training mean."""
        x = self._harmonised(cohort)
        z = (np.clip(x, self.lower, self.upper) - self.centre) / self.scale
        absent = np.isnan(z)
        z = np.where(absent, 0.0, z)
        return (
            {name: z[:, j] for j, name in enumerate(self.columns)},
            {name: absent[:, j] for j, name in enumerate(self.columns)},
        )

    def _harmonised(self, cohort: Cohort) -> Float:
        table = cohort.features.get(self.recipe.input)
        if table is None:
            raise InvalidInputError(f"predictor {self.recipe.name!r} needs the features of {self.recipe.input!r}")
        x = _columns(table, self.columns)
        if self.combat is not None and len(cohort):
            gaps = np.isnan(x)
            filled = np.where(gaps, self.centre, x)
            x = np.where(gaps, np.nan, self.combat.apply(filled, cohort.keys[self.recipe.site]))
        return x

    def predict(self, design: Design) -> Prediction:
        """Score and risk; each row depends on itself alone.

        The score (`lp`) is measured from the average training patient: an intercept would only say how many events a
        training set held, and out-of-fold that is the opposite of what the left-out patients hold.
        """
        cohort = design.cohort
        z, absent = self.standardised(cohort)
        if self.forest is not None:
            rows = np.column_stack([z[name] for name in self.columns])
            p, lp = self.forest.probability(rows), self.forest.logit(rows) - self.model.intercept
        else:
            lp = self.model.lp(z) - self.model.intercept if self.model.terms else np.zeros(len(cohort))
            p = 1 / (1 + np.exp(-np.clip(lp + self.model.intercept, -700, 700)))
        risks = p[:, None]
        if self.horizons:
            risks = 1 - np.array(self.survival)[None, :] ** np.exp(np.clip(lp, -50, 50))[:, None]
        flags, x = [], self._harmonised(cohort)
        for j, name in enumerate(self.columns):
            flags += [Flag(cohort.units[i], name, "imputed", 0.0) for i in np.flatnonzero(absent[name])]
            for i in np.flatnonzero((x[:, j] < self.lower[j]) | (x[:, j] > self.upper[j])):
                flags.append(
                    Flag(cohort.units[i], name, "extrapolated", float((x[i, j] - self.centre[j]) / self.scale[j]))
                )
        columns = tuple(f"{h:g} {self.time_unit}" for h in self.horizons) or (self.event,)
        return Prediction(cohort.units, cohort.patients, columns, risks, lp, flags=tuple(flags))

    def save(self, folder: Path) -> None:
        """model.json, and forest.npz for a forest; equal models give equal bytes."""
        write_json(folder / "model.json", self.to_dict())
        if self.forest is not None:
            self.forest.save(folder / "forest.npz")

    def record(self) -> dict[str, Any]:
        """What was chosen and from what: for the run's folder, never for a bundle."""
        chosen = self.selection
        return {
            "region": self.region,
            "columns": list(self.columns),
            "regions": [{k: v for k, v in asdict(row).items() if k != "p"} for row in self.regions],
            "steps": [] if chosen is None else [{"name": s.name, "kept": len(s.kept)} for s in chosen.steps],
            "survivors": [] if chosen is None else [
                {"name": s.name, "columns": [self.names[j] for j in s.kept]} for s in chosen.steps
            ],
            "path": None if chosen is None else chosen.path.to_dict(self.names),
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON form at full precision."""
        return {
            "format": FORMAT,
            "kind": "radscore",
            "recipe": {**asdict(self.recipe), "selection": asdict(self.recipe.selection)},
            "region": self.region,
            "columns": list(self.columns),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "coef": self.model.coef.tolist(),
            "intercept": float(self.model.intercept),
            "forest": self.forest is not None,
            "combat": None if self.combat is None else self.combat.to_dict(),
            "event": self.event,
            "horizons": list(self.horizons),
            "time_unit": self.time_unit,
            "survival": list(self.survival),
        }


def load_radscore(folder: Path) -> FittedRadscore:
    """Inverse of `FittedRadscore.save`; how it was selected stays in the run."""
    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT or data.get("kind") != "radscore":
        raise RunError(f"{folder / 'model.json'} is not a Rad-score that this osml reads")
    recipe = data["recipe"]
    columns = tuple(data["columns"])
    linear = not data["forest"]
    terms = tuple(Linear(name) for name in columns) if linear else ()
    return FittedRadscore(
        recipe=RadscoreRecipe(**{**recipe, "selection": SelectionRecipe(**recipe["selection"])}),
        region=data["region"],
        columns=columns,
        centre=np.array(data["centre"], dtype=np.float64),
        scale=np.array(data["scale"], dtype=np.float64),
        lower=np.array(data["lower"], dtype=np.float64),
        upper=np.array(data["upper"], dtype=np.float64),
        model=LinearModel(terms, np.array(data["coef"], dtype=np.float64), data["intercept"]),
        forest=None if linear else load_forest(folder / "forest.npz"),
        combat=None if data["combat"] is None else Combat.from_dict(data["combat"]),
        event=data["event"],
        horizons=tuple(data["horizons"]),
        time_unit=data["time_unit"],
        survival=tuple(data["survival"]),
    )


def radscore_recipe(schema: Schema, name: str) -> RadscoreRecipe:
    """Recipe of the predictor `name` of a schema."""
    block = schema.predictors[name]
    assert isinstance(block, RadscorePredictor)
    radiomics = schema.radiomics()[block.inputs[0]]
    inner = schema.validation.inner
    folds = 5 if inner == "none" else inner.folds
    stability = radiomics.stability
    return RadscoreRecipe(
        name=name,
        label=block.label or name,
        input=block.inputs[0],
        region=block.region,
        score=block.score,
        selection=SelectionRecipe(
            correlation=block.correlation,
            mrmr=block.mrmr,
            lasso=block.penalty,
            icc=None if stability is None else stability.icc,
            icc_min=0.75 if stability is None else stability.min,
            inner_folds=folds,
        ),
        inner_folds=folds,
        site=(schema.cohort.site or "") if radiomics.harmonise else "",
    )


def _columns(table: FeatureTable, wanted: tuple[str, ...]) -> Float:
    place: Mapping[str, int] = {name: j for j, name in enumerate(table.columns)}
    absent = [name for name in wanted if name not in place]
    if absent:
        raise InvalidInputError(
            f"{len(absent)} features that the score reads were not computed, e.g. {absent[0]!r}",
            do="Extract with the settings that the model was made with.",
        )
    return table.x[:, [place[name] for name in wanted]]
