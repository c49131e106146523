"""Training throughput of trained encoders on a GPU, beside the same model on tensors that lie on the card already.

    python benchmarks/bench_gpu_training.py [--images 2048] [--models resnet18 vit_base_patch16_224 inception_v3]

Three ways through the same network and optimiser step, pictures per second, best of three epochs after a warm-up:
ours (uint8 pictures kept on the card, augmented there in batches), the bound (one batch of float tensors on the card,
used again and again), and a plain loop (JPEG files, a DataLoader with workers, augmentation on the CPU). The target is
95 % of the bound. Prints the card. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from osml.nets.augment import RADIOGRAPH, Prepare
from osml.nets.batches import Items, Stores, row_tensor, store
from osml.nets.encoders import Encoder, EncoderSettings, build_encoder
from osml.nets.images import decode, fit, stack_images, stored_size
from osml.nets.label_tree import flat_tree
from osml.nets.losses import Labels, Objective
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, Modality, NetworkRecipe, preset
from osml.nets.torchvision_ops import import_timm
from osml.nets.training_state import TrainingState

MODELS = ("resnet18", "vit_base_patch16_224", "inception_v3")
BATCH, EPOCHS = 64, 3
TARGET = 0.95


class Files(Dataset):
    """JPEG files, decoded and brought to size one by one."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        pixels = fit(decode(self.paths[k]), stored_size(self.size))
        small = Prepare(self.size, RADIOGRAPH)(torch.tensor(pixels).permute(2, 0, 1)[None], torch.Generator())
        return small[0], k


def built(model: str, folder: Path, device: str) -> tuple[Network, Encoder]:
    """A network of one trained encoder with random weights."""
    weights = folder / f"{model}.safetensors"
    if not weights.exists():
        save_file(import_timm().create_model(model).state_dict(), weights)
    encoder = build_encoder(EncoderSettings(model, weights, "full"))
    modality = Modality("picture", "image", encoder.width)
    recipe = NetworkRecipe((modality,), ClassTarget(flat_tree(["no", "yes"])), modality_dropout=0.0)
    return build_network(recipe, {"picture": encoder}, seed=1).to(device), encoder


def steps(network: Network, labels: Labels, device: str) -> Callable[[Items, np.ndarray], None]:
    """One optimiser step on the pictures of some rows, as `osml.nets.train` makes it."""
    objective = Objective(network.recipe.target, labels).to(device)
    state = TrainingState(network, objective, preset("fine-tune", patience=None))
    network.train()

    def step(items: Items, rows: np.ndarray) -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu"):
            out = network({"picture": items}, len(rows))
        state.step(objective(out.outputs, labels.take(rows)), 1.0)

    return step


def throughput(epoch: Callable[[], Iterator[tuple[Items, np.ndarray]]], step: Callable, device: str) -> float:
    """Pictures per second, the best of some epochs behind a warm-up."""
    best = 0.0
    for number in range(EPOCHS + 1):
        if device != "cpu":
            torch.cuda.synchronize()
        start, n = time.perf_counter(), 0
        for items, rows in epoch():
            step(items, rows)
            n += len(rows)
        if device != "cpu":
            torch.cuda.synchronize()
        if number:
            best = max(best, n / (time.perf_counter() - start))
    return best


def main() -> None:
    """Print pictures per second and ratios for every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    parser.add_argument("--images", type=int, default=2048 if gpu else 16)
    parser.add_argument("--models", nargs="+", default=list(MODELS) if gpu else ["resnet18"])
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    print(torch.cuda.get_device_name() if gpu else "no GPU: this only shows that the benchmark runs")
    rng = np.random.default_rng(0)
    labels = Labels(np.arange(args.images) % 2)
    batches = np.array_split(np.arange(args.images), max(1, args.images // BATCH))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = [folder / f"{k}.jpg" for k in range(args.images)]
        for path in paths:
            coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).resize((480, 480))
            coarse.save(path, quality=90)
        for model in args.models:
            network, encoder = built(model, folder, device)
            pixels = stack_images(paths, stored_size(encoder.size)).pixels
            kept = store(pixels, np.arange(args.images), args.images, device=device,
                         prepare=Prepare(encoder.size, RADIOGRAPH))  # fmt: skip
            source, generator = Stores({"picture": kept}), torch.Generator(device).manual_seed(0)
            fixed = torch.rand(len(batches[0]), 3, encoder.size, encoder.size, device=device) * 255
            owner = torch.arange(len(batches[0]), device=device)
            loader = DataLoader(Files(paths, encoder.size), len(batches[0]), num_workers=args.workers)

            def ours(source: Stores = source, generator: torch.Generator = generator) -> Iterator:
                return ((source.batch(row_tensor(r, device), generator)["picture"], r) for r in batches)

            def bound(fixed: torch.Tensor = fixed, owner: torch.Tensor = owner) -> Iterator:
                return ((Items(fixed[: len(r)], owner[: len(r)]), r) for r in batches)

            def plain(loader: DataLoader = loader, owner: torch.Tensor = owner) -> Iterator:
                return ((Items(x.to(device), owner[: len(x)]), k.numpy()) for x, k in loader)

            speed = {}
            for name, epoch in (("ours", ours), ("bound", bound), ("plain", plain)):
                network, _ = built(model, folder, device)
                speed[name] = throughput(epoch, steps(network, labels, device), device)
            told = ", ".join(f"{name} {value:,.0f}/s" for name, value in speed.items())
            print(f"{model} at {encoder.size} px: {told}; ours / bound {speed['ours'] / speed['bound']:.2f} "
                  f"(target {TARGET}), ours / plain loop {speed['ours'] / speed['plain']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
