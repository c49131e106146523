"""Trees grown in inner folds, all folds side by side: after how many rounds their mean held-out loss is lowest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osml.errors import NotEstimableError
from osml.predictors.boosting_trees import Goal, Settings, filled, grow, held_out_loss, raw_scores, stand_ins
from osml.predictors.search import Report
from osml.predictors.table import TableColumn

if TYPE_CHECKING:
    import lightgbm

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
MOST_ROUNDS = 1000
# Rounds without a lower mean loss after which growing ends: so many that their rates add up to this. 50 at 0.05.
PATIENCE = 2.5


@dataclass(frozen=True)
class Training:
    """The table of all training units and what is learnt from it.

    x : as the design gives it, NaN where missing
    folds : (rows inside, rows outside) of each inner fold
    rounds : as the schema states; None: the inner folds decide
    """

    x: Float
    columns: tuple[TableColumn, ...]
    goal: Goal
    folds: tuple[tuple[Rows, Rows], ...]
    rounds: int | None
    seed: int


class FoldTrees:
    """Trees that grow inside one inner fold, as far as somebody asks for their loss.

    Raises
    ------
    NotEstimableError
        Not even the first tree can be grown.
    """

    def __init__(self, training: Training, settings: Settings, inside: Rows, outside: Rows) -> None:
        goal = training.goal
        stand_in = stand_ins(training.x[inside], training.columns)
        self.goal, self.inside, self.outside = goal, inside, outside
        self.x = filled(training.x, stand_in)
        # Risk sets hold the units inside as well.
        self._needed = np.arange(len(goal)) if goal.kind == "survival" else outside
        self._rows = self.x[self._needed]
        self._raw = np.zeros((len(goal), goal.outputs))
        self._losses: list[float] = []
        self._growing: Iterator[lightgbm.Booster] | None = grow(
            goal.take(inside), self.x[inside], training.columns, settings, training.seed
        )
        self.model: lightgbm.Booster
        self._loss, self.count = held_out_loss(goal, inside, outside)
        self.loss(1)
        if not self._losses:
            raise NotEstimableError("no tree can be grown: too few training units for one split")

    def loss(self, rounds: int) -> float:
        """Held-out loss after so many rounds, to be divided by `count`; trees that cannot go on stay as they are."""
        while self._growing is not None and len(self._losses) < rounds:
            model = next(self._growing, None)
            if model is None:
                self._growing = None
                break
            self.model = model
            done = len(self._losses)
            self._raw[self._needed] += raw_scores(model, self._rows, self.goal.outputs, first=done, rounds=1)
            self._losses.append(self._loss(self._raw))
        return self._losses[min(rounds, len(self._losses)) - 1] if self._losses else float("nan")

    def outputs(self, rounds: int) -> Float:
        """Of all units, (n, outputs)."""
        self.loss(rounds)
        return raw_scores(self.model, self.x, self.goal.outputs, rounds=rounds)


@dataclass(frozen=True)
class Inner:
    """What the inner folds say of one setting.

    rounds : as stated, or those with the lowest mean held-out loss
    loss : mean held-out loss after them
    """

    trees: tuple[FoldTrees, ...]
    rounds: int
    loss: float

    def outputs(self, goal: Goal) -> Float:
        """Outputs for every unit by trees that were grown without its patient, (n, outputs); NaN where there are none.

        A log hazard is measured from the mean of the units that its trees were grown on.
        """
        out = np.full((len(goal), goal.outputs), np.nan)
        for one in self.trees:
            found = one.outputs(self.rounds)
            centre = found[one.inside].mean() if goal.kind == "survival" else 0.0
            out[one.outside] = found[one.outside] - centre
        return out


def inner_trees(training: Training, settings: Settings, report: Report | None = None) -> Inner | None:
    """Trees of every inner fold that can be learnt from; None where none can.

    report : told the mean loss over the folds so far, from the second to the last but one
    """
    found: list[FoldTrees] = []
    for k, (inside, outside) in enumerate(training.folds):
        try:
            found.append(FoldTrees(training, settings, inside, outside))
        except NotEstimableError:  # one outcome, nothing that varies: such a fold ends no other
            continue
        if report is not None and 1 <= k < len(training.folds) - 1:
            report(_lowest(found, training.rounds, settings.rate)[1])
    if not found:
        return None
    return Inner(tuple(found), *_lowest(found, training.rounds, settings.rate))


def _lowest(trees: Sequence[FoldTrees], stated: int | None, rate: float) -> tuple[int, float]:
    """Rounds, and the mean loss after them. All folds grow by one round at a time: a mean over folds that had stopped
    at different rounds would follow the one that went on longest."""
    total = max(sum(one.count for one in trees), 1.0)
    if stated is not None:
        return stated, sum(one.loss(stated) for one in trees) / total
    best, lowest = 1, np.inf
    for rounds in range(1, MOST_ROUNDS + 1):
        loss = sum(one.loss(rounds) for one in trees) / total
        if loss < lowest:
            best, lowest = rounds, loss
        if (rounds - best) * rate >= PATIENCE:
            break
    return best, float(lowest)
