"""Predictor `boosting`: gradient boosted trees of one table, their calibration, and what each column adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from osml.errors import RunError
from osml.evaluation.tree import node_probabilities
from osml.files import atomic_write, read_json, write_json
from osml.predictors.boosting_trees import Settings, filled, raw_scores, read_model, tree_shap
from osml.predictors.contract import Design, Flag, Prediction
from osml.predictors.network import Calibration, TargetKind
from osml.predictors.table import TableSpec, table_from_json
from osml.stats.tree import LabelTree

if TYPE_CHECKING:
    import lightgbm

Float = NDArray[np.float64]
FORMAT = 1
TREES = "trees.txt"
SMALLEST = 1e-12


@dataclass(frozen=True)
class Contributions:
    """What each column adds to a linear predictor: `base + values.sum(axis=1) == lp`.

    values : (n, columns), exact TreeSHAP
    base : mean of the trees over the training units, as they were grown
    lp : (n,)
    """

    values: Float
    base: float
    lp: Float


@dataclass(frozen=True)
class FittedBoosting:
    """A fitted boosting predictor.

    columns : the event, horizons, or every node of the tree
    tree : of the outcome's classes, whose leaves the trees tell apart side by side; None otherwise
    spec : the table
    stand_in : what a gap counts as where no training unit had one, (columns,); NaN where gaps were learnt
    text : the trees, as LightGBM writes them
    rounds : trees, of classes per class
    calibration : platt (binary): intercept and slope of the log odds; temperature (classes): one; slope (survival): of
        the log hazard. `offset`, of classes in a sample that was chosen by class: minus the log share of each class
        among the training units, so that probabilities hold for equal shares; `restated` is then true
    baseline : survival: cumulative hazard at each horizon for a log hazard of 0
    centre : survival: mean of the trees over the training units, which is taken away
    share : binary: of the event among the training units
    notes : how the number of rounds came about, and the search; of training, never of a bundle
    """

    name: str
    target: TargetKind
    columns: tuple[str, ...]
    tree: LabelTree | None
    horizons: tuple[float, ...]
    time_unit: str
    spec: TableSpec
    stand_in: tuple[float, ...]
    settings: Settings
    rounds: int
    text: str
    calibration: Calibration
    baseline: tuple[float, ...] = ()
    centre: float = 0.0
    share: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def model(self) -> lightgbm.Booster:
        """The trees, read from their text: what is loaded later is what is used now."""
        return read_model(self.text)

    @property
    def outputs(self) -> int:
        """Numbers that the trees give per row: one, or one per class."""
        return 1 if self.tree is None else len(self.tree.leaves)

    def table(self, design: Design) -> Float:
        """The columns as the trees read them, (n, columns)."""
        return filled(self.spec.matrix(design), np.array(self.stand_in))

    def predict(self, design: Design) -> Prediction:
        """Probabilities of every unit; each row depends on itself alone."""
        cohort = design.cohort
        p, lp = self.risks(raw_scores(self.model, self.table(design), self.outputs))
        return Prediction(cohort.units, cohort.patients, self.columns, p, lp, flags=self._flags(design))

    def risks(self, raw: Float) -> tuple[Float, Float]:
        """Probabilities (n, columns) and linear predictors of tree values (n, outputs).

        The linear predictor is (n,): log odds or log hazard; of classes (n, columns): log P(node).
        """
        scale = self.calibration.values
        if self.tree is not None:
            z = raw / (scale[0] if scale else 1.0) + np.array(self.calibration.offset or 0.0)
            p = node_probabilities(self.tree, softmax(z, axis=1))
            return p, np.log(np.maximum(p, SMALLEST))
        if self.target == "survival":
            lp = (raw[:, 0] - self.centre) * (scale[0] if scale else 1.0)
            return 1 - np.exp(-np.exp(np.clip(lp, -50, 50))[:, None] * np.array(self.baseline)), lp
        intercept, slope = scale or (0.0, 1.0)
        lp = intercept + slope * raw[:, 0] + self.calibration.prevalence
        return 1 / (1 + np.exp(-np.clip(lp, -700, 700)))[:, None], lp

    def contributions(self, design: Design, column: str) -> Contributions:
        """What each column of the table adds to the log odds or log hazard of units.

        Of classes: to the mean log odds of `column` against the other classes, that is the mean log P of the classes
        that it holds less the mean log P of the others; for two classes that is the log odds.
        """
        phi, base = tree_shap(self.model, self.table(design), self.outputs)
        scale = self.calibration.values
        if self.tree is not None:
            weight = self._contrast(column) / (scale[0] if scale else 1.0)
            start = float(weight @ base)
            if self.calibration.offset:
                start += float(self._contrast(column) @ np.array(self.calibration.offset))
            values = np.einsum("k,nkj->nj", weight, phi)
        elif self.target == "survival":
            slope = scale[0] if scale else 1.0
            start, values = slope * (float(base[0]) - self.centre), slope * phi[:, 0]
        else:
            intercept, slope = scale or (0.0, 1.0)
            start = intercept + slope * float(base[0]) + self.calibration.prevalence
            values = slope * phi[:, 0]
        return Contributions(values, start, start + values.sum(axis=1))

    def scale(self, column: str) -> str:
        """What contributions are measured in."""
        if self.tree is not None:
            return f"mean log odds of {column}"
        return "log hazard" if self.target == "survival" else "log odds"

    @property
    def restated(self) -> bool:
        """Classes: probabilities hold for equal shares, since the sample was chosen by class."""
        return self.calibration.restated

    @property
    def used(self) -> tuple[int, ...]:
        """Positions of the columns on which some tree splits."""
        return tuple(int(j) for j in np.flatnonzero(self.model.feature_importance("split")))

    def untaught(self) -> tuple[str, ...]:
        """Images and radiomics that no training unit lacked: what the trees say without them was not learnt."""
        out: dict[str, bool] = {}
        for column, value in zip(self.spec.columns, self.stand_in, strict=True):
            if column.source in ("image", "radiomics"):
                out[column.input] = out.get(column.input, True) and not np.isnan(value)
        return tuple(name for name, full in out.items() if full)

    def with_prevalence(self, prevalence: float) -> FittedBoosting:
        """Binary: the log odds moved from the sample's share of events to a population's (King & Zeng)."""
        from osml.stats.sampling import correct_intercept

        assert self.share is not None
        moved = correct_intercept(0.0, self.share, prevalence)
        return replace(self, calibration=replace(self.calibration, prevalence=moved))

    def save(self, folder: Path) -> None:
        """model.json and trees.txt; equal models give equal bytes."""
        write_json(folder / "model.json", self.to_dict())
        atomic_write(folder / TREES, self.text)

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the trees."""
        return {
            "format": FORMAT,
            "kind": "boosting",
            "name": self.name,
            "target": self.target,
            "columns": list(self.columns),
            "tree": None if self.tree is None else asdict(self.tree),
            "horizons": list(self.horizons),
            "time_unit": self.time_unit,
            "table": self.spec.to_json(),
            "stand_in": [None if np.isnan(x) else float(x) for x in self.stand_in],
            "settings": asdict(self.settings),
            "rounds": self.rounds,
            "calibration": asdict(self.calibration),
            "baseline": list(self.baseline),
            "centre": self.centre,
            "share": self.share,
        }

    def record(self) -> dict[str, Any]:
        """How training went: for the run's folder, never for a bundle."""
        return {"rounds": self.rounds, "settings": asdict(self.settings), **self.notes}

    def __getstate__(self) -> dict[str, Any]:
        # Sent to another process without the trees that were read, which would be sent twice.
        return {key: value for key, value in self.__dict__.items() if key != "model"}

    def _contrast(self, column: str) -> Float:
        """Weights of the classes, those that `column` holds against the others, (leaves,)."""
        assert self.tree is not None
        place = self.tree.nodes.index(column)
        leaves = [self.tree.nodes.index(leaf) for leaf in self.tree.leaves]
        inside = self.tree.lineage[leaves, place]
        return np.where(inside, 1.0 / inside.sum(), -1.0 / (~inside).sum())

    def _flags(self, design: Design) -> tuple[Flag, ...]:
        """Of a gap that training never had, that a stand-in was taken."""
        known = {
            column.input
            for column, value in zip(self.spec.columns, self.stand_in, strict=True)
            if np.isnan(value) or value == len(column.levels) > 0
        }
        return tuple(
            replace(flag, code="imputed") if flag.code == "missing" and flag.input not in known else flag
            for flag in self.spec.flags(design.cohort)
        )


def load_boosting(folder: Path) -> FittedBoosting:
    """Inverse of `FittedBoosting.save`."""
    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT or data.get("kind") != "boosting":
        raise RunError(f"{folder / 'model.json'} is no boosting predictor that this osml reads", do="Update osml.")
    tree, calibration = data["tree"], data["calibration"]
    return FittedBoosting(
        name=data["name"],
        target=data["target"],
        columns=tuple(data["columns"]),
        tree=None if tree is None else LabelTree(tuple(tree["nodes"]), tuple(tree["parents"])),
        horizons=tuple(data["horizons"]),
        time_unit=data["time_unit"],
        spec=table_from_json(data["table"]),
        stand_in=tuple(np.nan if x is None else float(x) for x in data["stand_in"]),
        settings=Settings(**data["settings"]),
        rounds=data["rounds"],
        text=(folder / TREES).read_text(encoding="utf-8"),
        calibration=Calibration(
            **{**calibration, "values": tuple(calibration["values"]), "offset": tuple(calibration["offset"])}
        ),
        baseline=tuple(data["baseline"]),
        centre=data["centre"],
        share=data["share"],
    )
