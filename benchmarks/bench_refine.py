"""Milliseconds to refine the map of a 2048 px region, by each refiner, on one and on two cores.

    python benchmarks/bench_refine.py [--side 64] [--width 32] [--runs 7] [--slide]

A region of 2048 px is a map of 64 x 64 cells of 32 px, where a tile of 256 px covers 8 x 8 cells; the bridge takes its
20 steps. The weights are untrained: they do not change the time. Wanted: under 500 ms on two cores. Processor time is
what the work takes when other programs want the cores, too; by the clock, two threads then wait for each other.
`--slide` adds a map of 1024 x 1024 cells, a slide of 32,768 px, of which an eighth is tissue.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from osml.nets.refine_maps import Refiner, Region
from osml.nets.refine_network import NetworkRefiner, make_network
from osml.nets.refine_recipe import NETWORK_KINDS, RefineRecipe
from osml.nets.refine_simple import Majority, Untouched

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "nets"))
from made_maps import SPEC, make_regions


def once(refiner: Refiner, region: Region) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    refiner.refine(region.coarse, region.image)
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="cells along the region, a multiple of 8")
    parser.add_argument("--width", type=int, default=RefineRecipe().width)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--slide", action="store_true", help="a whole slide, too")
    options = parser.parse_args()
    recipe = RefineRecipe(width=options.width)
    region = make_regions(1, 1, side=options.side, first=3)[0]
    refiners: list[Refiner] = [Untouched(SPEC), Majority(SPEC, 9)]
    refiners += [NetworkRefiner(k, SPEC, recipe, make_network(k, SPEC, recipe).eval(), 0) for k in NETWORK_KINDS]
    print(
        f"{options.side} x {options.side} cells, width {recipe.width}, {recipe.path} steps; "
        f"ms, best of {options.runs}; load of this machine {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':18}{'one core':>12}{'processor':>12}{'two cores':>12}{'processor':>12}")
    for refiner in refiners:
        cells = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            times = np.array([once(refiner, region) for _ in range(options.runs + 1)])[1:]
            cells += [f"{1000 * t:12.1f}" for t in times.min(axis=0)]
        print(f"{refiner.kind:18}{''.join(cells)}", flush=True)
    if not options.slide:
        return
    coarse = np.zeros((len(SPEC.classes), 1024, 1024), dtype=np.float32)
    coarse[0] = 1.0
    tissue = make_regions(1, 1, side=360, first=3)[0]
    coarse[:, 200:560, 300:660] = tissue.coarse
    image = np.full((1024, 1024, 3), 240, dtype=np.uint8)
    image[200:560, 300:660] = tissue.image
    for refiner in refiners[2:]:
        start = time.perf_counter()
        refiner.refine(coarse, image)
        print(f"{refiner.kind:18}1024 x 1024 cells, an eighth tissue: {time.perf_counter() - start:.1f} s on two cores")


if __name__ == "__main__":
    main()
