"""Tiny encoders with weights files of their own: timm's test models, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from osml.nets.encoders import Encoder, EncoderSettings, build_encoder
from osml.nets.torchvision_ops import import_timm

TINY_SIZE = 160


def weights_file(folder: Path, model: str, *, seed: int = 0, classes: int = 5) -> Path:
    """A safetensors file of random weights, batch statistics included, that fit the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = import_timm().create_model(model, num_classes=classes).state_dict()
        for name, value in tensors.items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    path = folder / f"{model}.safetensors"
    save_file(tensors, path)
    return path


def tiny_encoder(folder: Path, model: str = "test_efficientnet", **settings: object) -> Encoder:
    """An encoder of 160 px with some 100,000 random weights."""
    return build_encoder(EncoderSettings(model, weights_file(folder, model), **settings))  # type: ignore[arg-type]


def random_images(n: int, size: int = TINY_SIZE, seed: int = 0) -> torch.Tensor:
    """uint8 noise (n, 3, size, size)."""
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def picture_files(folder: Path, n: int, shape: tuple[int, int] = (200, 180)) -> list[Path]:
    """PNG files of noise in blocks, every one different."""
    rng = np.random.default_rng(n)
    paths = [folder / f"tile{i}.png" for i in range(n)]
    for path in paths:
        blocks = rng.integers(0, 256, (shape[0] // 10, shape[1] // 10, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), dtype=np.uint8))).save(path)
    return paths
