"""Which cases a gallery shows: the surest right, the surest wrong and the least sure, of each predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.errors import InvalidInputError
from osml.runs.store import PredictionRow

Float = NDArray[np.float64]
Kind = Literal["right", "wrong", "uncertain"]
KINDS: tuple[Kind, ...] = ("right", "wrong", "uncertain")
MOST = 4
HIGHER, LOWER = "higher hazard", "lower hazard"


@dataclass(frozen=True)
class Calls:
    """What a predictor said of units whose outcome is known, and how sure it was.

    units, patients : (n,)
    fold : of each unit's network, (n,)
    classes : that can be predicted
    truth : in words, (n,)
    called, right : position of the predicted class (n,), and whether it is the true one (n,); None: nobody can say
    sure : rises with confidence in the predicted class, (n,)
    doubt : entropy over the classes, 1 = all equal, (n,)
    shown : how sure, in words, (n,)
    """

    units: tuple[str, ...]
    patients: tuple[str, ...]
    fold: tuple[int, ...]
    classes: tuple[str, ...]
    truth: tuple[str, ...]
    called: NDArray[np.intp]
    right: NDArray[np.bool_] | None
    sure: Float
    doubt: Float
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A unit of a gallery: position in `Calls`, its predicted class, and why it is shown."""

    index: int
    called: str
    kind: Kind | Literal["surest"]


def calls_of(rows: Sequence[PredictionRow], cohort: Cohort) -> Calls:
    """From out-of-fold predictions of one predictor in one repeat.

    Labels that stop at an inner node are left out: whether such a prediction is right is unknown. Where probabilities
    are withheld the log odds serve, in the mix of the sample.
    """
    place = {unit: i for i, unit in enumerate(cohort.units)}
    outcome = cohort.outcome
    by_unit: dict[str, dict[str, PredictionRow]] = {}
    for row in rows:
        by_unit.setdefault(row.unit, {})[row.column] = row
    units = tuple(by_unit)
    index = np.array([place[unit] for unit in units], dtype=np.intp)
    first = [next(iter(by_unit[unit].values())) for unit in units]
    patients, fold = tuple(row.patient for row in first), tuple(row.fold for row in first)
    lp = np.array([row.lp for row in first])
    if isinstance(outcome, SurvivalOutcome):
        truth = tuple(_followed(outcome, int(i)) for i in index)
        order = np.argsort(np.argsort(lp, kind="stable"), kind="stable")
        upper = order >= len(lp) / 2
        sure = np.abs(order - (len(lp) - 1) / 2)
        shown = tuple(f"log hazard {_signed(v)}" for v in lp)
        return Calls(units, patients, fold, (LOWER, HIGHER), truth, upper.astype(np.intp), None, sure,
                     np.zeros(len(lp)), shown)  # fmt: skip
    if isinstance(outcome, BinaryOutcome):
        classes: tuple[str, ...] = (outcome.negative, outcome.positive)
        y = outcome.y[index].astype(np.intp)
        odds = 1 / (1 + np.exp(-np.clip(lp, -700, 700)))
        p = np.column_stack([1 - odds, odds])
        hidden = any(np.isnan(row.p) for row in first)
        shown = tuple(
            f"log odds {_signed(v)}" if hidden else f"P({classes[1]}) {_share(v)}" for v in (lp if hidden else odds)
        )
    else:
        assert isinstance(outcome, ClassOutcome)
        classes = outcome.tree.leaves
        known = outcome.full[index]
        units, patients, fold = (tuple(v for v, k in zip(x, known, strict=True) if k) for x in (units, patients, fold))  # type: ignore[assignment]
        index = index[known]
        y = np.array([classes.index(outcome.labels[i]) for i in index], dtype=np.intp)
        p = np.array([[by_unit[unit][name].p for name in classes] for unit in units]).reshape(-1, len(classes))
        p = p / p.sum(axis=1, keepdims=True)
        shown = tuple(f"P {_share(v)}" for v in p.max(axis=1))
    called = p.argmax(axis=1)
    return Calls(
        units, patients, fold, tuple(classes), tuple(classes[k] for k in y), called, called == y,
        np.abs(lp) if isinstance(outcome, BinaryOutcome) else p.max(axis=1), entropy(p), shown,
    )  # fmt: skip


def choose_cases(calls: Calls, seen: NDArray[np.bool_], most: int = MOST) -> tuple[Case, ...]:
    """At most `most` cases of each kind and predicted class; ties in the order of the units.

    right, wrong : the highest confidence first; uncertain : the highest entropy first, whether right or wrong. A unit
    stands once for a class: the least sure are chosen among those that are not shown as right or wrong. Without right
    and wrong (survival), the surest of each half.

    seen : bool array (n,), units that have a picture: no other is chosen
    """
    out: list[Case] = []
    for k, name in enumerate(calls.classes):
        mine = np.flatnonzero((calls.called == k) & seen)
        if calls.right is None:
            out += [Case(int(i), name, "surest") for i in _top(mine, calls.sure, most)]
            continue
        right = _top(mine[calls.right[mine]], calls.sure, most)
        wrong = _top(mine[~calls.right[mine]], calls.sure, most)
        rest = np.setdiff1d(mine, [*right, *wrong])
        for kind, chosen in zip(KINDS, (right, wrong, _top(rest, calls.doubt, most)), strict=True):
            out += [Case(i, name, kind) for i in chosen]
    return tuple(out)


def entropy(p: Float) -> Float:
    """Of each row of probabilities, (n,), as a share of the largest possible.

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return np.abs(terms.sum(axis=1)) / np.log(p.shape[1])


def aliases(patients: Sequence[str], seed: int) -> Mapping[str, str]:
    """`patient A`, `patient B`, … in an order that has nothing to do with ids or the table; the same for a whole run.

    >>> sorted(aliases(["0007", "0008"], 1).values())
    ['patient A', 'patient B']
    """
    ids = sorted(set(patients))
    if len(ids) < len(patients):
        raise InvalidInputError("a patient would have two aliases")
    order = np.random.default_rng([seed, 11]).permutation(len(ids))
    return {ids[int(j)]: f"patient {_letters(k)}" for k, j in enumerate(order)}


def _letters(k: int) -> str:
    """A … Z, AA, AB, …"""
    text = ""
    while k >= 0:
        text, k = chr(ord("A") + k % 26) + text, k // 26 - 1
    return text


def _top(places: NDArray[np.intp], by: Float, most: int) -> list[int]:
    return [int(i) for i in places[np.argsort(-by[places], kind="stable")][:most]]


def _followed(outcome: SurvivalOutcome, i: int) -> str:
    words = "event at" if outcome.event[i] else "no event by"
    return f"{words} {outcome.time[i]:.3g} {outcome.unit}"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


def _share(value: float) -> str:
    return ">0.99" if value > 0.99 else "<0.01" if value < 0.01 else f"{value:.2f}"
