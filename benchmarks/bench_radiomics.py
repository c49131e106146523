"""Time of radiomics beside PyRadiomics, called once per region, in one run on one thread each."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from osml.engine import single_thread
from osml.imaging.masks import choose_label
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics import Settings, extract
from osml.radiomics.regions import make_regions
from osml.radiomics.settings import MRI_RINGS

TARGET_RATIO = 10.0
FILTERS = ("original", "wavelet", "log")
SIGMAS = (1.0, 2.0, 3.0, 4.0, 5.0)


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def synthetic() -> tuple[Volume, Volume]:
    """A textured ball of 34,000 voxels on 1×1×3 mm, where no data folder is at hand."""
    rng = np.random.default_rng(1)
    z, y, x = np.ogrid[-14:15, -42:43, -42:43]
    image = Volume(rng.normal(300, 60, (29, 85, 85)) + 80 * np.sin(x / 4) * np.cos(y / 5), (1, 1, 3))
    return image, image.like(((3 * z) ** 2 + y**2 + x**2 <= 29**2).astype(np.uint8))


def peer(image: Volume, mask: Volume, settings: Settings) -> Callable[[], None] | None:
    """PyRadiomics, once per region."""
    try:
        import radiomics
        from radiomics import featureextractor
    except ImportError:
        return None
    radiomics.setVerbosity(logging.CRITICAL)
    extractor: Any = featureextractor.RadiomicsFeatureExtractor(
        binWidth=settings.bin_width, additionalInfo=False, preCrop=True, padDistance=int(8 * max(SIGMAS))
    )
    extractor.enableAllFeatures()
    extractor.enableFeatureClassByName("shape2D", False)
    extractor.enableImageTypeByName("Wavelet")
    extractor.enableImageTypeByName("LoG", customArgs={"sigma": list(SIGMAS)})
    regions = make_regions(choose_label(mask), settings.regions, leaving="clip")
    volume = to_sitk(image)

    def call() -> None:
        for region in regions:
            extractor.execute(volume, to_sitk(mask.like(region.inside.astype(np.uint8))))

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, help="volume; default: a synthetic one")
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--bin-width", type=float, default=25.0)
    arguments = parser.parse_args()
    simple_itk().ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image, mask = (read_image(arguments.image), read_mask(arguments.mask)) if arguments.image else synthetic()
    settings = Settings(
        filters=FILTERS, log_sigma_mm=SIGMAS, regions=MRI_RINGS, leaving="clip", bin_width=arguments.bin_width,
        max_levels=5000,
    )  # fmt: skip
    extract(image, mask, settings)  # compiles
    ours = seconds(lambda: single_thread(extract, image, mask, settings))
    voxels = int(choose_label(mask).array.sum())
    print(f"osml: {ours:.2f} s CPU, {voxels} voxels, {len(MRI_RINGS)} regions, {1 + 8 + len(SIGMAS)} images")
    call = peer(image, mask, settings)
    if call is None:
        print("PyRadiomics is not installed: no comparison")
        return
    theirs = seconds(lambda: single_thread(call))
    print(f"PyRadiomics: {theirs:.2f} s CPU, {theirs / ours:.1f} times as long (target {TARGET_RATIO:.0f})")


if __name__ == "__main__":
    main()
