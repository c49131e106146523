"""Fitted studies of networks for tests of serving and of the app: tiny pictures, a tiny encoder with its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import serve
from small_studies import Rows

sys.path.append(str(Path(__file__).parent / "nets"))
from encoder_files import weights_file

MODEL = "test_efficientnet"
TREE = ["stroma", {"tumour": ["dead", "alive"]}]
CLASSES = ("stroma", "dead", "alive")
NODES = ("stroma", "tumour", "dead", "alive")
QUICK = {"epochs": 4, "ema": 0.9}
ACCEPT = {"accept": {"OSML041": "a test", "OSML042": "a test"}}
XRAY: dict[str, Any] = {
    "xray": {"kind": "image", "column": "file", "several": True, "label": "Radiograph", "available": "diagnosis"},
    "age": {"kind": "number", "label": "Age", "unit": "year", "limits": [0, 110], "available": "diagnosis"},
    "sex": {"kind": "binary", "label": "Sex", "levels": ["female", "male"], "available": "diagnosis"},
    "alp": {
        "kind": "lab", "label": "ALP", "unit": "U/L", "kit": {"low": "alp_low", "high": "alp_high"},
        "available": "diagnosis",
    },
}  # fmt: skip


def picture(rng: np.random.Generator, tone: float, side: int = 170) -> np.ndarray:
    """Blocks of noise about a tone from 0 to 1; uint8 (side, side, 3)."""
    coarse = np.clip(rng.normal(255 * tone, 40, (side // 10, side // 10, 3)), 0, 255).astype(np.uint8)
    return np.kron(coarse, np.ones((10, 10, 1), dtype=np.uint8))


def save(path: Path, pixels: np.ndarray) -> str:
    """Writes a PNG; the name as a table gives it."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return f"{path.parent.name}/{path.name}"


def xray_rows(folder: Path, n: int = 24, seed: int = 5) -> Rows:
    """Patients with one or two pictures: tone, age and ALP raise the risk; some lack a picture or a value."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        event = i % 2 == 0
        age, alp = rng.normal(50 + 8 * event, 9), max(20.0, rng.normal(100 + 60 * event, 40))
        cells = {
            "id": f"QX-{7000 + 13 * i}-Z",
            "age": "" if i % 9 == 5 else f"{age:.5f}",
            "sex": ("female", "male")[int(rng.integers(2))],
            "alp": f"{alp:.5f}",
            "alp_low": "45",
            "alp_high": "125",
            "outcome": "bad" if event else "good",
        }
        for k in range(1 + i % 2):
            name = save(folder / "pictures" / f"p{i}-{k}.png", picture(rng, rng.normal(0.4 + 0.2 * event, 0.1)))
            rows.append({**cells, "file": "" if i % 11 == 7 else name})
            if i % 11 == 7:
                break
    return rows


def serve_xray(folder: Path, **changes: Any) -> Path:
    """Binary: a network on radiographs and the table, a nomogram, their stack; missing inputs are allowed."""
    weights = weights_file(_made(folder / "weights"), MODEL)
    net = {
        "kind": "network", "inputs": ["xray", "age", "sex", "alp"], "fusion": "gated", "width": 16, "seeds": 2,
        "encoders": {"xray": {"model": MODEL, "weights": str(weights)}}, "encode": {"alp": "kit"}, "abstain": 0.2,
        "ablation": "none", "train": QUICK,
    }  # fmt: skip
    predictors = {
        "fused": net,
        "clinical": {"kind": "nomogram", "inputs": ["age", "sex"], "shrink": "ridge"},
        "both": {"kind": "stack", "inputs": ["fused", "clinical"]},
    }
    blocks = {"inputs": XRAY, "missing": "impute", "predictors": predictors, "checks": ACCEPT}
    return _served(folder, xray_rows(folder), **{**blocks, **changes})


def tile_rows(folder: Path, patients: int = 6, each: int = 6, seed: int = 9) -> Rows:
    """Tiles of a few patients, whose tone is their class; some labels stop at the inner node."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(patients):
        for k in range(each):
            kind = CLASSES[k % 3]
            name = f"T{i}-{k}"
            tone = {"stroma": 0.8, "dead": 0.5, "alive": 0.2}[kind]
            rows.append(
                {
                    "tile": name,
                    "patient": f"QX-{7000 + 13 * i}-Z",
                    "image": save(folder / "tiles" / f"{name}.png", picture(rng, tone)),
                    "tissue": "mixed" if kind != "stroma" and k == 5 and i == 0 else kind,
                }
            )
    return rows


def serve_tiles(folder: Path, *, sampling: str = "enriched", **changes: Any) -> Path:
    """Classes of tiles in a tree: a network on vectors and radiomics, one whose encoder is trained, their stack."""
    weights = weights_file(_made(folder / "weights"), MODEL)
    encoder = {"model": MODEL, "weights": str(weights)}
    net = {
        "kind": "network", "inputs": ["tile", "texture"], "fusion": "gated", "width": 16, "abstain": 0.3,
        "encoders": {"tile": encoder}, "ablation": "none", "train": QUICK,
    }  # fmt: skip
    tuned = {
        "kind": "network", "inputs": ["tile"], "encoders": {"tile": {**encoder, "tune": "full"}}, "ablation": "none",
        "train": {"epochs": 1},
    }  # fmt: skip
    blocks: dict[str, Any] = {
        "name": "tiles",
        "inputs": {
            "tile": {"kind": "image", "column": "image", "label": "Tile", "available": "diagnosis"},
            "texture": {
                "kind": "radiomics", "of": "tile", "mask": "full", "channels": ["grey"], "classes": ["firstorder"],
            },
        },
        "cohort": {"table": "table.csv", "patient": "patient", "row": "tile"},
        "predictors": {"net": net, "tuned": tuned, "both": {"kind": "stack", "inputs": ["net", "tuned"]}},
        "study": {"sampling": sampling, "synthetic": "simulated for a test"},
        "checks": ACCEPT,
    }  # fmt: skip
    target = {"kind": "hierarchy", "column": "tissue", "tree": TREE, "partial": {"mixed": "tumour"}}
    return _served(folder, tile_rows(folder), target=target, **{**blocks, **changes})


def _served(folder: Path, rows: Rows, **blocks: Any) -> Path:
    validation = {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}, "seed": 5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSML_CACHE", str(folder / "cache"))
        patch.setenv("OSML_WEIGHTS", str(folder / "weights"))
        patch.setenv("OSML_DEVICE", "cpu")
        return serve(folder, rows, **{"validation": validation, **blocks})


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
