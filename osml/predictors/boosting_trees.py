"""Boosted trees by LightGBM: what is minimised, how one model is grown round by round, and what it says of rows.

One thread, fixed seeds and row-wise histograms: the same rows in the same order give the same bytes. LightGBM reads a
gap in a column that had none in training as 0, so such gaps take the training median, see `stand_ins`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from osml.errors import NotEstimableError, missing_extra
from osml.predictors.boosting_cox import cox_derivatives, partial_likelihood
from osml.predictors.table import TableColumn
from osml.stats.cox_risk_sets import risk_sets

if TYPE_CHECKING:
    import lightgbm

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
# Few rows have few quantiles worth a cut, and a histogram costs what it has bins.
MOST_BINS = 63
# Up to so many levels a split sets one against the others; above, LightGBM sorts them by their gradients.
ONE_AGAINST_REST = 8


@dataclass(frozen=True)
class Settings:
    """Of the trees; see `BoostingPredictor`."""

    leaves: int
    smallest_leaf: int
    rate: float
    columns: float
    l2: float


@dataclass(frozen=True)
class Goal:
    """What is learnt: an event, one of several classes, or a time to an event.

    y : 0/1, or positions of classes, (n,); of survival whether the event happened
    time : of survival, (n,)
    outputs : numbers per row, 1 or one per class
    """

    kind: Literal["binary", "classes", "survival"]
    y: Float
    time: Float | None = None
    outputs: int = 1

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Rows) -> Goal:
        """The same for some rows."""
        return replace(self, y=self.y[rows], time=None if self.time is None else self.time[rows])

    def require(self) -> None:
        """Raise where nothing can be learnt from these rows."""
        if self.kind == "survival" and not self.y.any():
            raise NotEstimableError("no event among the training units")
        if self.kind != "survival" and len(np.unique(self.y)) < 2:
            raise NotEstimableError("all training units have the same outcome")


def held_out_loss(goal: Goal, inside: Rows, outside: Rows) -> tuple[Callable[[Float], float], float]:
    """Loss over rows that a model did not train on, as a function of its outputs of all rows (n, outputs), and the
    number it is to be divided by.

    Log-loss and rows; of survival minus the gain of the log partial likelihood by these rows, and all events: the
    cross-validated partial likelihood, whose risk sets are whole also where a fold holds few events (Verweij & van
    Houwelingen 1993, Stat Med 12:2305).
    """
    y = goal.y[outside]
    if goal.kind == "survival":
        assert goal.time is not None
        both = np.concatenate([inside, outside])
        whole, part = (partial_likelihood(goal.time[rows], goal.y[rows]) for rows in (both, inside))
        return lambda raw: part(raw[inside, 0]) - whole(raw[both, 0]), float(y.sum())
    if goal.kind == "binary":
        return lambda raw: float((np.logaddexp(0.0, raw[outside, 0]) - y * raw[outside, 0]).sum()), float(len(outside))
    places = np.arange(len(y)), y.astype(np.intp)
    return lambda raw: -float(log_softmax(raw[outside], axis=1)[places].sum()), float(len(outside))


def stand_ins(x: Float, columns: Sequence[TableColumn]) -> Float:
    """What a gap in each column counts as, (columns,): NaN where a training row has one, for then it is learnt.

    A column without gaps in training has its median, or its most frequent level. A missing one of several levels is a
    level of its own.
    """
    gaps = np.asarray(np.isnan(x).any(axis=0))
    out = np.full(len(columns), np.nan)
    for j, column in enumerate(columns):
        if gaps[j]:
            out[j] = len(column.levels) if several_levels(column) else np.nan
        elif column.kind == "category":
            out[j] = float(np.bincount(x[:, j].astype(np.intp)).argmax())
        elif len(x):
            out[j] = float(np.median(x[:, j]))
    return out


def several_levels(column: TableColumn) -> bool:
    """Whether the column is split by sets of levels; two levels are a number with one possible cut."""
    return len(column.levels) > 2


def filled(x: Float, stand_in: Float) -> Float:
    """The table as the trees read it."""
    return np.where(np.isnan(x), stand_in, x)


def grow(
    goal: Goal, x: Float, columns: Sequence[TableColumn], settings: Settings, seed: int
) -> Iterator[lightgbm.Booster]:
    """The same model after each round, without end but for trees that can no longer be split.

    x : `filled` table of the training rows
    """
    goal.require()
    lgb = _lightgbm()
    params = _params(goal, settings, seed)
    wide = [j for j, column in enumerate(columns) if several_levels(column)]
    data = lgb.Dataset(x, goal.y, params=params, categorical_feature=wide)
    model = lgb.Booster(params, data)
    objective = _cox_objective(goal) if goal.kind == "survival" else None
    trees = 0
    while True:
        finished = model.update(fobj=objective)
        if model.num_trees() == trees:
            return
        trees = model.num_trees()
        yield model
        if finished:
            return


def grown(
    goal: Goal, x: Float, columns: Sequence[TableColumn], settings: Settings, seed: int, rounds: int
) -> tuple[str, int]:
    """Model text after at most `rounds` rounds, and how many there were."""
    model, done = None, 0
    for done, model in enumerate(grow(goal, x, columns, settings, seed), start=1):  # noqa: B007
        if done == rounds:
            break
    if model is None:
        raise NotEstimableError("no tree can be grown: too few training units for one split")
    return model_text(model), done


def model_text(model: lightgbm.Booster) -> str:
    """LightGBM's own text, without the smallest and largest value of each column: those are single patients'."""
    text = model.model_to_string(num_iteration=-1)
    return re.sub(r"^feature_infos=.*$", _hidden, text, count=1, flags=re.MULTILINE)


def _hidden(line: re.Match[str]) -> str:
    return "feature_infos=" + " ".join(["none"] * len(line.group(0).split()))


def read_model(text: str) -> lightgbm.Booster:
    """Inverse of `model_text`."""
    return _lightgbm().Booster(model_str=text)


def raw_scores(model: lightgbm.Booster, x: Float, outputs: int, *, first: int = 0, rounds: int = -1) -> Float:
    """Sum of tree values (n, outputs) of a filled table, from round `first` on; rounds -1: all that follow."""
    found = model.predict(x, start_iteration=first, num_iteration=rounds, raw_score=True, num_threads=1)
    return np.asarray(found, dtype=np.float64).reshape(len(x), outputs)


def tree_shap(model: lightgbm.Booster, x: Float, outputs: int) -> tuple[Float, Float]:
    """Exact path-dependent TreeSHAP of raw scores: (n, outputs, columns), and the base (outputs,).

    Lundberg et al. 2020, Nat Mach Intell 2:56, as LightGBM computes it (`pred_contrib`).
    """
    found = np.asarray(model.predict(x, pred_contrib=True, num_threads=1), dtype=np.float64)
    found = found.reshape(len(x), outputs, -1)
    return found[:, :, :-1], found[0, :, -1] if len(x) else np.zeros(outputs)


def cuts(model: lightgbm.Booster) -> dict[int, Float]:
    """Thresholds at which trees cut each column that is a number."""
    found: dict[int, list[float]] = {}

    def visit(node: dict[str, Any]) -> None:
        if "split_index" not in node:
            return
        if node["decision_type"] == "<=":
            found.setdefault(int(node["split_feature"]), []).append(float(node["threshold"]))
        visit(node["left_child"])
        visit(node["right_child"])

    for tree in model.dump_model()["tree_info"]:
        visit(tree["tree_structure"])
    return {column: np.array(places) for column, places in found.items()}


def _params(goal: Goal, settings: Settings, seed: int) -> dict[str, Any]:
    objective = {"binary": "binary", "classes": "multiclass", "survival": "none"}[goal.kind]
    return {
        "objective": objective,
        **({"num_class": goal.outputs} if goal.kind == "classes" else {}),
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.smallest_leaf,
        "min_data_per_group": settings.smallest_leaf,
        "max_cat_to_onehot": ONE_AGAINST_REST,
        "learning_rate": settings.rate,
        "feature_fraction": settings.columns,
        "lambda_l2": settings.l2,
        "max_bin": MOST_BINS,
        "feature_pre_filter": False,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _cox_objective(goal: Goal) -> Any:
    assert goal.time is not None
    sets = risk_sets(goal.time, goal.y, np.ones(len(goal)), "efron")

    def derivatives(raw: Float, _: Any) -> tuple[Float, Float]:
        return cox_derivatives(sets, np.asarray(raw, dtype=np.float64))

    return derivatives


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise missing_extra("lightgbm", "automl", "predictors of `kind: boosting`") from error
    return lightgbm
