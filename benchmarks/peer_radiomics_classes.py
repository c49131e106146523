"""CPU seconds of each feature class of PyRadiomics (radiomics) or flash-radiomics (flash_radiomics), as JSON.

python peer_radiomics_classes.py PACKAGE FOLDER
FOLDER: NAME_image.nii and NAME_mask.nii, cropped to their regions. Needs that package and SimpleITK only, so it runs in
an environment of its own. Each class is timed as the least of several calls, from image and mask to all features.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

CLASSES = {
    "firstorder": "RadiomicsFirstOrder", "shape": "RadiomicsShape", "glcm": "RadiomicsGLCM", "glrlm": "RadiomicsGLRLM",
    "glszm": "RadiomicsGLSZM", "gldm": "RadiomicsGLDM", "ngtdm": "RadiomicsNGTDM",
}  # fmt: skip
BIN_WIDTH = 25.0


def least(call: Any) -> float:
    """The least CPU time of three calls, or of as many as fit into half a second."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < 0.5:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
        if sum(times) > 20:
            break
    return min(times)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    package, folder = sys.argv[1], Path(sys.argv[2])
    sitk: Any = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    logging.disable(logging.CRITICAL)
    flash = package == "flash_radiomics"
    out: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*_image.nii")):
        name = path.name.removesuffix("_image.nii")
        image, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(folder / f"{name}_mask.nii"))
        options = {"binWidth": BIN_WIDTH, "label": 1}
        if flash:
            options |= {"spacing": image.GetSpacing(), "backend": "cpu", "num_threads": 1}
            image, mask = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask)
        out[name] = {}
        for module, kind in CLASSES.items():
            make = getattr(importlib.import_module(f"{package}.{module}"), kind)

            def call(make: Any = make, image: Any = image, mask: Any = mask, options: Any = options) -> None:
                features = make(image, mask, **options)
                features.enableAllFeatures()
                if not features.execute():
                    raise RuntimeError("no features")

            out[name][module] = least(call)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
