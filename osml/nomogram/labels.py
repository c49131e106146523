"""Where the labels of an axis go: below or above it, in tiers with leaders when they are crowded, never overlapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["below", "above"]
Spot = tuple[float, Side, int]
GAP = 1.3
LEADER_GAP = 0.5
CLEAR = 0.3
BEAM = 60


@dataclass(frozen=True)
class Wanted:
    """A label at `x` that is `width` by `height` mm."""

    x: float
    width: float
    height: float


@dataclass(frozen=True)
class Placed:
    """Where a label went: its left edge, side, tier (0 = at the axis), and offset of its near edge from tier 0."""

    left: float
    side: Side
    tier: int
    offset: float


def place_all(
    labels: Sequence[Wanted], low: float, high: float, sides: Sequence[Side] = ("below", "above")
) -> list[Placed] | None:
    """Places for every label inside [low, high], or None when they do not fit. A beam search from left to right.

    A label in a higher tier is joined to its tick by a vertical leader, which crosses no label of a lower tier.
    """
    order = sorted(range(len(labels)), key=lambda i: labels[i].x)
    few = 1 if len(labels) == 1 else min(6, (len(labels) + 1) // 2 + 1)
    best = _search(labels, order, few, BEAM, low, high, sides) or _search(
        labels, order, len(labels), 40 * BEAM, low, high, sides
    )
    if best is None:
        return None
    where = dict(zip(order, best, strict=True))
    depth: dict[tuple[Side, int], float] = {}
    for i, (_, side, tier) in where.items():
        depth[side, tier] = max(depth.get((side, tier), 0.0), labels[i].height)
    return [
        Placed(left, side, tier, sum(depth.get((side, t), 0.0) for t in range(tier)))
        for left, side, tier in (where[i] for i in range(len(labels)))
    ]


def _search(
    labels: Sequence[Wanted],
    order: Sequence[int],
    tiers: int,
    width: int,
    low: float,
    high: float,
    sides: Sequence[Side],
) -> tuple[Spot, ...] | None:
    beam: list[tuple[float, tuple[Spot, ...]]] = [(0.0, ())]
    for rank, i in enumerate(order):
        grown = []
        for cost, chosen in beam:
            for extra, candidate in _candidates(labels[i], rank, tiers, low, high, sides):
                if all(_apart(labels[i], candidate, labels[j], c) for j, c in zip(order, chosen, strict=False)):
                    grown.append((cost + extra, (*chosen, candidate)))
        beam = sorted(grown, key=lambda state: state[0])[:width]
    return beam[0][1] if beam else None


def _candidates(
    label: Wanted, rank: int, tiers: int, low: float, high: float, sides: Sequence[Side]
) -> list[tuple[float, Spot]]:
    """Possible places with their costs: near tiers and centred text are preferred, crowded neighbours alternate."""
    lefts: dict[float, float] = {}
    for penalty, left in (
        (0.0, label.x - label.width / 2),
        (0.5, label.x - LEADER_GAP),
        (0.5, label.x - label.width + LEADER_GAP),
        (0.9, label.x - label.width * 0.25),
        (0.9, label.x - label.width * 0.75),
    ):
        inside = min(max(left, low), high - label.width)
        if inside >= low - 1e-9 and inside - 1e-9 <= label.x <= inside + label.width + 1e-9:
            lefts.setdefault(round(inside, 6), penalty)
    out = []
    for s, side in enumerate(sides):
        for tier in range(tiers):
            for left, penalty in lefts.items():
                base = 1.0 * s + 2.2 * tier + penalty - (0.2 if s == rank % 2 else 0.0)
                out.append((base, (left, side, tier)))
    return out


def _apart(a: Wanted, ca: Spot, b: Wanted, cb: Spot) -> bool:
    if ca[1] != cb[1]:
        return True
    if ca[2] == cb[2]:
        return ca[0] >= cb[0] + b.width + GAP or cb[0] >= ca[0] + a.width + GAP
    upper, lower = ((a, ca), (b, cb)) if ca[2] > cb[2] else ((b, cb), (a, ca))
    x, left, width = upper[0].x, lower[1][0], lower[0].width
    return x <= left - CLEAR or x >= left + width + CLEAR


def place_some(
    labels: Sequence[Wanted],
    required: Sequence[bool],
    low: float,
    high: float,
    sides: Sequence[Side] = ("below", "above"),
    gap: float = GAP,
) -> list[Placed | None]:
    """Places beside the axis for tick labels: the required ones first, then as many others as fit; None = left out.

    Crowded required labels stand beside their tick instead of under it.
    """
    out: list[Placed | None] = [None] * len(labels)
    taken: dict[Side, list[tuple[float, float]]] = {"below": [], "above": []}

    def free(side: Side, left: float, right: float) -> bool:
        return (
            left >= low - 1e-9
            and right <= high + 1e-9
            and all(left >= b + gap or right <= a - gap for a, b in taken[side])
        )

    order = [i for i, r in enumerate(required) if r] + _spread([i for i, r in enumerate(required) if not r])
    for i in order:
        label = labels[i]
        centred = label.x - label.width / 2
        lefts = [centred]
        if required[i]:
            lefts += [
                min(max(centred, low), high - label.width),
                label.x - label.width + LEADER_GAP,
                label.x - LEADER_GAP,
            ]
        for left, side in ((left, side) for left in lefts for side in sides):
            if free(side, left, left + label.width):
                taken[side].append((left, left + label.width))
                out[i] = Placed(left, side, 0, 0.0)
                break
    return out


def _spread(indices: list[int]) -> list[int]:
    """Every fourth index first, then every second, then the rest: what is left out is left out evenly."""
    return [*indices[::4], *indices[2::4], *indices[1::2]]
