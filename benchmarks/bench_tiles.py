"""Time of 8-bit pictures and small regions beside PyRadiomics, class by class, in one run on one thread each."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from osml.engine import single_thread
from osml.imaging.stain import apply_shift, draw_shift, separate
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics.classes import TEXTURE, intensity_features
from osml.radiomics.tiles import grey_of, tile_features

CLASSES = ("firstorder", *TEXTURE)
SIZES = (224, 448, 1024)
# Pixels: at least this many times as fast, first order and all classes together.
TARGETS = {224: (60, 5), 448: (60, 5), 1024: (100, 5)}
SMALL = {"64 voxels": (4, 4, 4), "500 voxels": (5, 10, 10), "5k voxels": (10, 20, 25), "64 pixels": (8, 8),
         "484 pixels": (22, 22), "5k pixels": (71, 71)}  # fmt: skip


def seconds(call: Callable[[], object], budget: float = 0.5) -> float:
    """Least CPU seconds of a call, after one that compiles."""
    call()
    best, end = float("inf"), time.perf_counter() + budget
    for _ in range(200):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
        if time.perf_counter() > end:
            break
    return best


def peer(image: np.ndarray, inside: np.ndarray, name: str, bin_width: float) -> Callable[[], object] | None:
    """One class of PyRadiomics on the picture as float64."""
    try:
        import radiomics
        from radiomics import firstorder, glcm, gldm, glrlm, glszm, ngtdm
    except ImportError:
        return None
    radiomics.setVerbosity(logging.CRITICAL)
    kinds: dict[str, Any] = {
        "firstorder": firstorder.RadiomicsFirstOrder, "glcm": glcm.RadiomicsGLCM, "gldm": gldm.RadiomicsGLDM,
        "glrlm": glrlm.RadiomicsGLRLM, "glszm": glszm.RadiomicsGLSZM, "ngtdm": ngtdm.RadiomicsNGTDM,
    }  # fmt: skip
    volume = to_sitk(Volume(image.astype(np.float64)))
    mask = to_sitk(Volume(inside.astype(np.uint8)))

    def call() -> object:
        features = kinds[name](volume, mask, binWidth=bin_width)
        features.enableAllFeatures()
        return features.execute()

    return call


def compare(title: str, image: np.ndarray, bin_width: float) -> tuple[float, float]:
    """Print milliseconds and ratios of one region; the ratios of first order and of all classes (NaN: no peer)."""
    inside = np.ones(image.shape, dtype=bool)
    inside.flat[0] = False  # PyRadiomics refuses a mask of the whole picture
    words, total = [], 0.0
    ratios = {}
    for name in CLASSES:
        ours = seconds(lambda name=name: intensity_features(image, inside, 1.0, classes=(name,), bin_width=bin_width))
        call = peer(image, inside, name, bin_width)
        theirs = seconds(call) if call else float("nan")
        ratios[name], total = theirs / ours, total + theirs
        words.append(f"{name} {ours * 1e3:.2f} ms ×{ratios[name]:.1f}")
    ours = seconds(lambda: intensity_features(image, inside, 1.0, bin_width=bin_width))
    together = total / ours
    print(f"{title}, bin width {bin_width:g}: all {ours * 1e3:.2f} ms ×{together:.1f}; {', '.join(words)}", flush=True)
    return ratios["firstorder"], together


def drawn(size: int) -> np.ndarray:
    """A tile of pink waves and purple discs with noise, where no real one is given."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size]
    wave = np.sin(x / 17) * np.cos(y / 23)
    rgb = np.stack([215 + 15 * wave, 150 + 40 * wave, 190 + 20 * wave], axis=-1)
    rgb[((x % 24) - 12) ** 2 + ((y % 31) - 12) ** 2 < 20] = (90, 60, 140)
    rgb[:, : size // 6] = 243
    return np.clip(rgb + rng.normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)


def tile_of(path: Path | None, size: int) -> np.ndarray:
    if path is None:
        return drawn(size)
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB").resize((size, size)))


def run(path: Path | None) -> None:
    simple_itk().ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for size in SIZES:
        first, together = compare(f"{size} px, bytes", grey_of(tile_of(path, size)), 25.0)
        want = TARGETS[size]
        print(f"  first order ×{first:.0f} (target {want[0]}), all classes ×{together:.1f} (target {want[1]})")
    rng = np.random.default_rng(2)
    for title, shape in SMALL.items():
        for bin_width in (25.0, 10.0):
            compare(f"{title}, floats", rng.normal(300, 80, [n + 1 for n in shape]), bin_width)
    for size in SIZES[:2]:
        rgb = tile_of(path, size)
        shift = draw_shift(np.random.default_rng(3))
        times = {
            "stains separated": seconds(lambda rgb=rgb: separate(rgb)),
            "stains shifted": seconds(lambda rgb=rgb, shift=shift: apply_shift(rgb, shift)),
            "tile features": seconds(lambda rgb=rgb: tile_features(rgb)),
        }
        count = len(tile_features(rgb).values)
        print(f"{size} px: {', '.join(f'{k} {v * 1e3:.1f} ms' for k, v in times.items())} ({count} values)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=Path, help="a colour picture; default: a drawn one")
    single_thread(run, parser.parse_args().tile)


if __name__ == "__main__":
    main()
