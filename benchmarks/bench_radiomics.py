"""Time of radiomics beside PyRadiomics and flash-radiomics, in one run, on one thread each.

python benchmarks/bench_radiomics.py [--case IMAGE MASK]... [--flash PYTHON] [--classes-only]
Patients: seven regions, 14 filtered images, against PyRadiomics called once per region. Then each class alone by size
of region. flash-radiomics lives in an environment of its own; PYTHON is its interpreter.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer_radiomics_classes import BIN_WIDTH, CLASSES, least

from osml.engine import single_thread
from osml.imaging.masks import choose_label
from osml.imaging.read import read_image, read_mask
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics import Settings, extract
from osml.radiomics.classes import intensity_features
from osml.radiomics.regions import box_of, make_regions
from osml.radiomics.settings import MRI_RINGS
from osml.radiomics.shape import shape_3d

PYRADIOMICS_TARGET, FLASH_TARGET = 10.0, 2.0
SIGMAS = (1.0, 2.0, 3.0, 4.0, 5.0)
SIZES = (64, 500, 5_000, 50_000, 200_000)
Case = tuple[Volume, Volume]


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def ball(voxels: int) -> Case:
    """A textured ball of about that many voxels on 1×1×3 mm."""
    radius = (voxels * 3 * 3 / 4 / np.pi) ** (1 / 3)
    rng = np.random.default_rng(1)
    deep, wide = int(np.ceil(radius / 3)) + 1, int(np.ceil(radius)) + 1
    z, y, x = np.ogrid[-deep : deep + 1, -wide : wide + 1, -wide : wide + 1]
    noise = rng.normal(300, 60, (2 * deep + 1, 2 * wide + 1, 2 * wide + 1))
    image = Volume(noise + 80 * np.sin(x / 4) * np.cos(y / 5), (1, 1, 3))
    return image, image.like(((3 * z) ** 2 + y**2 + x**2 <= radius**2).astype(np.uint8))


def settings_of(image: Volume) -> Settings:
    """Seven regions and 14 images as stored, so that PyRadiomics is not charged for resampling."""
    return Settings(
        filters=("original", "wavelet", "log"), log_sigma_mm=SIGMAS, regions=MRI_RINGS, leaving="clip",
        bin_width=BIN_WIDTH, max_levels=5000,
    )  # fmt: skip


def pyradiomics(image: Volume, mask: Volume, settings: Settings) -> Callable[[], None]:
    """PyRadiomics, once per region."""
    import radiomics
    from radiomics import featureextractor

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


def patients(cases: dict[str, Case]) -> None:
    """Whole extraction of each case by both."""
    for name, (image, mask) in cases.items():
        settings = settings_of(image)
        extract(image, mask, settings)  # compiles
        ours = min(seconds(lambda i=image, m=mask, s=settings: single_thread(extract, i, m, s)) for _ in range(2))
        theirs = seconds(lambda i=image, m=mask, s=settings: single_thread(pyradiomics(i, m, s)))
        voxels = int(choose_label(mask).array.sum())
        print(
            f"{name}: {voxels} voxels, {len(MRI_RINGS)} regions, {1 + 8 + len(SIGMAS)} images: osml {ours:.2f} s CPU, "
            f"PyRadiomics {theirs:.2f} s, ratio {theirs / ours:.1f} (target {PYRADIOMICS_TARGET:.0f})",
            flush=True,
        )


def own_classes(image: Volume, inside: np.ndarray) -> dict[str, float]:
    """CPU seconds of each of our classes, from image and mask to its features."""
    volume = float(np.prod(image.spacing_mm))
    out = {}
    for name in CLASSES:
        if name == "shape":
            out[name] = least(lambda: shape_3d(inside, image.spacing_mm[::-1]))
        else:
            out[name] = least(
                lambda n=name: intensity_features(image.array, inside, volume, classes=(n,), bin_width=BIN_WIDTH)
            )
    out["all"] = least(
        lambda: (
            intensity_features(image.array, inside, volume, bin_width=BIN_WIDTH),
            shape_3d(inside, image.spacing_mm[::-1]),
        )
    )
    return out


def by_class(cases: dict[str, Case], flash: Path | None) -> None:
    """Ratio of each class alone, for each case."""
    peers = {"PyRadiomics": (sys.executable, "radiomics", PYRADIOMICS_TARGET)}
    if flash is not None:
        peers["flash-radiomics"] = (str(flash), "flash_radiomics", FLASH_TARGET)
    with tempfile.TemporaryDirectory() as folder:
        ours, voxels = {}, {}
        for name, (image, mask) in cases.items():
            low, high = box_of(mask.array > 0)
            low, high = np.maximum(low - 1, 0), np.minimum(high + 1, mask.array.shape)
            image, inside = image.window(low, high), choose_label(mask).window(low, high)
            for kind, part in (("image", image), ("mask", inside)):
                simple_itk().WriteImage(to_sitk(part), str(Path(folder) / f"{name}_{kind}.nii"))
            ours[name] = single_thread(own_classes, image, inside.array)
            voxels[name] = int(inside.array.sum())
        for peer, (python, package, target) in peers.items():
            script = Path(__file__).with_name("peer_radiomics_classes.py")
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(
                [python, str(script), package, folder], capture_output=True, text=True, check=True,
                env={**os.environ, **threads},
            )  # fmt: skip
            theirs = json.loads(done.stdout.splitlines()[-1])
            print(f"{peer}: CPU time over ours, class by class (all: target {target:.0f})")
            print(f"  {'region':<24}" + "".join(f"{name:>11}" for name in (*CLASSES, "all")))
            for name in cases:
                times = {**theirs[name], "all": sum(theirs[name].values())}
                ratios = "".join(f"{times[key] / ours[name][key]:>11.1f}" for key in (*CLASSES, "all"))
                print(f"  {name + f' ({voxels[name]})':<24}{ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, nargs=2, action="append", default=[], metavar=("IMAGE", "MASK"))
    parser.add_argument("--flash", type=Path, help="interpreter with flash-radiomics")
    parser.add_argument("--classes-only", action="store_true")
    arguments = parser.parse_args()
    simple_itk().ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    cases = {image.name.split(".")[0]: (read_image(image), read_mask(mask)) for image, mask in arguments.case}
    if not arguments.classes_only:
        patients(cases or {"ball": ball(34_000)})
    by_class({f"ball{size}": ball(size) for size in SIZES} | cases, arguments.flash)


if __name__ == "__main__":
    main()
