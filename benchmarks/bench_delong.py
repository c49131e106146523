"""Time of the paired DeLong test, beside MLstatkit's."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from osml.evaluation.delong import delong_test

TARGET_SECONDS = 1.0


def best_of(runs: int, call: Callable[[], object]) -> float:
    """Shortest wall-clock seconds of several runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, arguments.samples)
    a, b = (y + rng.normal(size=arguments.samples).round(3) for _ in range(2))
    ours = best_of(arguments.runs, lambda: delong_test(y, a, b))
    print(f"osml: {ours:.3f} s for {arguments.samples} samples with ties (target {TARGET_SECONDS} s)")
    try:
        from MLstatkit import Delong_test
    except ImportError:
        print("MLstatkit is not installed: no comparison")
        return
    theirs = best_of(1, lambda: Delong_test(y, a, b))
    print(f"MLstatkit: {theirs:.3f} s, {theirs / ours:.1f} times ours")
    print(f"z: ours {delong_test(y, a, b).z:.6f}, theirs {Delong_test(y, a, b)[0]:.6f}")


if __name__ == "__main__":
    main()
