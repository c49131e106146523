"""Rows and types that the report tests share; imported by name, so it is not called conftest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small_studies import Rows, schema_data

from osml.cohort.cohort import FeatureTable
from osml.features import Features, Unusable

FitRun = Callable[..., Path]


def noise_rows(n: int, inputs: int, seed: int) -> Rows:
    """An outcome and a follow-up that no input has anything to do with."""
    rng = np.random.default_rng(seed)
    x, y, t = rng.normal(size=(n, inputs)), rng.random(n) < 0.5, rng.exponential(12, n) + 0.1
    return [
        {
            "id": f"N{i:03d}",
            **{f"x{j}": f"{x[i, j]:.4f}" for j in range(inputs)},
            "outcome": "bad" if y[i] else "good",
            "months": f"{min(t[i], 30):.3f}",
            "relapse": str(int(t[i] <= 30)),
        }
        for i in range(n)
    ]


REGIONS = ("tumour", "0-2mm")
FEATURES = (
    "original_shape_Sphericity",
    "original_firstorder_Mean",
    "original_glcm_JointEntropy",
    "wavelet-LLH_glcm_Idmn",
    "wavelet-HHH_gldm_SmallDependenceLowGrayLevelEmphasis",
    "log-sigma-2-0-mm-3D_glszm_GrayLevelNonUniformityNormalized",
)


def image_inputs(regions: Sequence[str] = REGIONS) -> dict[str, Any]:
    """Inputs of a radiomics study beside those of `small_studies`."""
    return {
        "t1": {"kind": "volume", "label": "T1 MRI", "mask": {"column": "t1_mask"}, "available": "diagnosis"},
        "rad": {
            "kind": "radiomics", "of": "t1", "spacing": [1, 1, 3], "bins": {"width": 25}, "regions": list(regions),
            "filters": ["original", "wavelet", {"log": [2]}], "leaving": "clip", "stability": {"perturb": 2},
        },
    }  # fmt: skip


def made_up_features(rows: Rows, *, lost: int = 0, regions: Sequence[str] = REGIONS) -> Any:
    """Stands in for `compute_features`: numbers that know the outcome a little, and `lost` units without an image."""
    risk = np.array([row["outcome"] == "bad" for row in rows], dtype=float)
    n, p = len(rows), len(FEATURES)
    rng = np.random.default_rng(11)
    x = rng.normal(size=(n, len(regions) * p))
    x[:, 0] += 1.0 * risk
    x[:, 2] -= 0.7 * risk
    x[:, -1] += 0.6 * risk
    readings = x[:, :, None] + 0.2 * rng.normal(size=(n, x.shape[1], 2))
    readings[:, 1] = rng.normal(size=(n, 2))  # the mean of the tumour is not stable
    x[:lost] = np.nan
    columns = tuple(f"t1|{region}|{feature}" for region in regions for feature in FEATURES)
    lines = [
        {"row": i, "region": region, "voxels": 100 + 10 * i, "clipped_share": 0.25 if i % 9 == 0 and k else 0.0,
         "in_plane_only": bool(k), "mask_drift_voxels": 0.0, "one_level_images": 0}
        for i in range(lost, n) for k, region in enumerate(regions)
    ]  # fmt: skip
    gone = tuple(Unusable(i, "rad", "geometry", f"{rows[i]['id']}: mask and image grids differ") for i in range(lost))
    return Features({"rad": FeatureTable(columns, x, readings)}, gone, {"rad": lines}, {})


DECISION = {"action": "biopsy", "act_on": "bad", "thresholds": [0.2, 0.5], "why": "range of opinion"}
SCORED = {
    "clinical": {"kind": "nomogram", "inputs": ["age", "sex"], "shrink": "none"},
    "radscore": {"kind": "radscore", "label": "Rad-score", "inputs": ["rad"], "region": "best"},
    "combined": {"kind": "nomogram", "inputs": ["age", "radscore"], "shrink": "none"},
}


def with_images(rows: Rows) -> Rows:
    """The rows with the columns of an image and its mask."""
    return [{**row, "t1": f"{row['id']}.nii.gz", "t1_mask": f"{row['id']}_mask.nii.gz"} for row in rows]


def scored_schema(**changes: Any) -> dict[str, Any]:
    """A study with a Rad-score and a nomogram that takes it."""
    inputs = {**schema_data()["inputs"], **image_inputs()}
    return {
        "inputs": inputs, "predictors": SCORED, "report": {"compare": list(SCORED)}, "decision": DECISION,
        "validation": {
            "split": {"kind": "kfold", "folds": 3, "repeats": 2}, "inner": {"folds": 3},
            "optimism": {"predictors": [], "bootstraps": 20}, "seed": 5,
        },
        "checks": {"accept": dict.fromkeys(("OSML010", "OSML041", "OSML042"), "a test")}, **changes,
    }  # fmt: skip
