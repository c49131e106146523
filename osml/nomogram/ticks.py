"""Round tick values for axes: inside the range, the two ends always among them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def number_text(value: float) -> str:
    """Shortest printed form of a tick value, with a typographic minus.

    >>> number_text(-2.50), number_text(1200.0)
    ('−2.5', '1200')
    """
    text = f"{value:.10g}"
    if "e" in text:
        text = f"{value:.10f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.0f}"
    return text.replace("-", "−") if value else "0"


def round_number(value: float, step: float) -> float:
    """`value` as the decimal number it stands for when it is a multiple of `step`."""
    digits = max(0, 1 - math.floor(math.log10(step)))
    return round(value, digits) + 0.0


def multiples(low: float, high: float, step: float) -> list[float]:
    """Multiples of `step` in [low, high], as clean decimals.

    >>> multiples(0.12, 0.5, 0.1)
    [0.2, 0.3, 0.4, 0.5]
    """
    slack = 1e-9 * max(1.0, abs(low / step), abs(high / step))
    first, last = math.ceil(low / step - slack), math.floor(high / step + slack)
    return [round_number(k * step, step) for k in range(first, last + 1)]


def nice_steps(span: float, decimals: int | None = None) -> list[float]:
    """Steps 1, 2, 2.5 and 5 times powers of ten, `span` / 1000 to `span`, none finer than `decimals`."""
    top = math.floor(math.log10(span))
    steps = [m * 10.0**e for e in range(top - 2, top + 1) for m in (1.0, 2.0, 2.5, 5.0)]
    if decimals is not None:
        unit = 10.0**-decimals
        steps = [s for s in steps if s >= unit * (1 - 1e-9) and abs(s / unit - round(s / unit)) < 1e-6] or [unit]
    return steps


def round_ticks(low: float, high: float, *, log: bool = False, decimals: int | None = None) -> tuple[float, ...]:
    """Major ticks of an axis from `low` to `high`: 5 to 9 where the recorded decimals allow, ends included.

    >>> round_ticks(14, 45)
    (14.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0)
    >>> round_ticks(0, 3, decimals=0)
    (0.0, 1.0, 2.0, 3.0)
    """
    if log and high / low >= 5:
        return _log_ticks(low, high)
    best: tuple[float, tuple[float, ...]] | None = None
    for step in nice_steps(high - low, decimals):
        ticks = _with_ends(low, high, multiples(low, high, step), step)
        outside = max(5 - len(ticks), len(ticks) - 9, 0)
        quarter = f"{step:e}".startswith("2.5")
        cost = 10 * outside + abs(len(ticks) - 7) + 1.5 * quarter
        if best is None or cost < best[0]:
            best = cost, ticks
    assert best is not None
    return best[1]


def _with_ends(low: float, high: float, inner: Iterable[float], step: float) -> tuple[float, ...]:
    """Both ends, and the inner multiples that are not crowded by them."""
    kept = [v for v in inner if v - low > 0.4 * step and high - v > 0.4 * step]
    return (float(low), *kept, float(high))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    best: tuple[int, tuple[float, ...]] | None = None
    for mantissas in ((1, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        inner = [round_number(m * 10.0**e, 10.0**e / 10) for e in exponents for m in mantissas]
        span = math.log(high / low)
        kept = [v for v in inner if v > low and v < high]
        kept = [v for v in kept if math.log(v / low) > 0.05 * span and math.log(high / v) > 0.05 * span]
        ticks = (float(low), *kept, float(high))
        cost = 10 * max(5 - len(ticks), len(ticks) - 9, 0) + abs(len(ticks) - 7)
        if best is None or cost < best[0]:
            best = cost, ticks
    assert best is not None
    return best[1]


def minor_ticks(major: tuple[float, ...], *, log: bool = False, decimals: int | None = None) -> tuple[float, ...]:
    """Unlabelled ticks between the major ones, at round values.

    >>> minor_ticks((0.0, 10.0, 20.0))
    (2.0, 4.0, 6.0, 8.0, 12.0, 14.0, 16.0, 18.0)
    """
    gaps = [b - a for a, b in itertools.pairwise(major)]
    typical = sorted(gaps)[len(gaps) // 2]
    out: set[float] = set()
    for a, b in itertools.pairwise(major):
        gap = b - a if log else typical
        fitting = [
            s for s in nice_steps(gap, decimals) if 2 <= round(gap / s, 6) <= 5 and not f"{s:e}".startswith("2.5")
        ]
        if fitting:
            step = fitting[0]
            out.update(v for v in multiples(a, b, step) if v - a > 0.3 * step and b - v > 0.3 * step)
    return tuple(sorted(out))


def probability_ticks(low: float, high: float) -> tuple[float, ...]:
    """Probabilities to mark inside the attainable range: .01 .05 .1 ... .9 .95 .99, finer when fewer than four fit.

    >>> probability_ticks(0.03, 0.55)
    (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    """
    inside = tuple(p for p in PROBABILITIES if low <= p <= high)
    if len(inside) >= 4:
        return inside
    for step in reversed(nice_steps(high - low)):
        fine = [p for p in multiples(low, high, step) if 0 < p < 1]
        if len(fine) >= 4:
            return tuple(fine)
    return inside


def total_ticks(maximum: float) -> tuple[float, float]:
    """Major and minor step of the total-points axis, 8 to 16 major ticks.

    >>> total_ticks(223.0)
    (20.0, 4.0)
    """
    for major, parts in ((5.0, 5), (10.0, 5), (20.0, 5), (50.0, 5), (100.0, 5), (200.0, 4), (500.0, 5)):
        if maximum / major <= 16:
            return major, major / parts
    return 1000.0, 200.0
