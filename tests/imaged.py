"""A fitted study of images for tests of serving and of the app: small volumes whose lesions differ in contrast."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import serve
from small_studies import Rows

SITES = ("north", "south")
INPUTS: dict[str, Any] = {
    "age": {"kind": "number", "label": "Age", "unit": "year", "limits": [0, 110], "available": "diagnosis"},
    "t1": {"kind": "volume", "label": "T1 MRI", "mask": {"column": "t1_mask"}, "available": "diagnosis"},
    "rad": {
        "kind": "radiomics", "of": "t1", "classes": ["firstorder", "shape"], "regions": ["tumour", "0-2mm"],
        "bins": {"width": 5},
    },
}  # fmt: skip
PREDICTORS: dict[str, Any] = {
    "clinical": {"kind": "nomogram", "inputs": ["age"]},
    "radscore": {"kind": "radscore", "label": "Rad-score", "inputs": ["rad"], "region": "best", "mrmr": 5},
    "combined": {"kind": "nomogram", "inputs": ["age", "radscore"]},
}


def draw_volume(rng: np.random.Generator, contrast: float, radius: float = 4.0) -> tuple[Any, Any]:
    """An image of noise with a brighter ball in it, and the ball's mask; 1.5 mm voxels, 2 mm slices."""
    import SimpleITK

    z, y, x = np.mgrid[-7:7, -10:10, -10:10]
    inside = (2 * z) ** 2 + (1.5 * y) ** 2 + (1.5 * x) ** 2 <= (1.5 * radius) ** 2
    values = (100 + 20 * contrast * inside + rng.normal(0, 10 + 2 * abs(contrast), inside.shape)).astype(np.float32)
    out = []
    for array in (values, inside.astype(np.uint8)):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((1.5, 1.5, 2.0))
        out.append(image)
    return out[0], out[1]


def write_images(folder: Path, name: str, rng: np.random.Generator, contrast: float) -> dict[str, str]:
    """`t1` and `t1_mask` cells of one patient, whose files are written into the folder."""
    import SimpleITK

    image, mask = draw_volume(rng, contrast, radius=rng.uniform(3.5, 5.0))
    (folder / "mri").mkdir(parents=True, exist_ok=True)
    cells = {"t1": f"mri/{name}.nii.gz", "t1_mask": f"mri/{name}_mask.nii.gz"}
    SimpleITK.WriteImage(image, str(folder / cells["t1"]), True)
    SimpleITK.WriteImage(mask, str(folder / cells["t1_mask"]), True)
    return cells


def imaged_patients(folder: Path, n: int = 40, seed: int = 11) -> Rows:
    """Rows and images: contrast and age raise the risk, a site adds to the grey values."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        contrast, age = rng.normal(1, 1), rng.normal(50, 12)
        site = SITES[i % 2]
        event = rng.random() < 1 / (1 + np.exp(-(1.2 * (contrast - 1) + 0.05 * (age - 50))))
        rows.append(
            {
                "id": f"QX-{7000 + 13 * i}-Z",
                "age": f"{age:.5f}",
                "centre": site,
                **write_images(folder, f"p{i}", rng, contrast + 0.3 * (site == "south")),
                "outcome": "bad" if event else "good",
            }
        )
    return rows


def serve_images(folder: Path, changes: Mapping[str, Any] | None = None, **blocks: Any) -> Path:
    """Fit the study in a folder with a cache of its own; `changes` go into the radiomics input."""
    rad = INPUTS["rad"] | dict(changes or {})
    inputs = INPUTS | {"rad": rad}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_CACHE", str(folder / "cache"))
        rows = imaged_patients(folder)
        return serve(folder, rows, inputs=inputs, **{"predictors": PREDICTORS, **blocks})
