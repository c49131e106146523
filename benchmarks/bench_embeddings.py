"""Time of embedding picture files beside the encoder's bare forward passes on the same pictures, in one run."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from osml.engine import cores
from osml.nets.embeddings import BATCH_CPU, BATCH_GPU, EmbeddingSettings, embed_images
from osml.nets.encoders import Encoder, build_encoder
from osml.nets.images import decode, fit

TARGET_RATIO = 1.3


def tiles(folder: Path, n: int) -> list[Path]:
    """JPEG files of 448 px with smooth colour and noise, of the size on disk that histology has."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(n):
        coarse = Image.fromarray(rng.integers(90, 230, (56, 56, 3), dtype=np.uint8)).resize((448, 448))
        noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (448, 448, 3))
        paths.append(folder / f"tile{index}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def bare(encoder: Encoder, images: torch.Tensor, device: str) -> None:
    """Forward passes over decoded pictures with torch's own threads."""
    for batch in images.split(batch_size(device)):
        forward(encoder, batch, device)


def bare_side_by_side(encoder: Encoder, images: torch.Tensor, device: str) -> None:
    """The same on the CPU with one thread per batch: what is left of the embedding without reading."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(lambda batch: forward(encoder, batch, device), images.split(batch_size(device))))
    torch.set_num_threads(before)


def forward(encoder: Encoder, batch: torch.Tensor, device: str) -> torch.Tensor:
    """One pass."""
    with torch.inference_mode():
        return encoder(batch.to(device)).cpu()


def batch_size(device: str) -> int:
    """As `embed_images` has it."""
    return BATCH_GPU if device.startswith("cuda") else BATCH_CPU


def main() -> None:
    """Print the ratio of medians over repeats, all measured by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="of JPEG or PNG tiles; without it they are made")
    chosen = parser.parse_args()
    encoder = build_encoder().to(chosen.device)
    with tempfile.TemporaryDirectory() as scratch:
        if chosen.folder:
            paths = sorted(p for p in chosen.folder.iterdir() if p.suffix in (".jpg", ".png"))[: chosen.tiles]
        else:
            paths = tiles(Path(scratch), chosen.tiles)
        decoded = np.stack([fit(decode(path), encoder.size) for path in paths])
        images = torch.tensor(decoded).permute(0, 3, 1, 2)
        bare(encoder, images[:16], chosen.device)
        kept = Path(scratch) / "cache"
        calls = {
            "bare forward, torch's threads": lambda: bare(encoder, images, chosen.device),
            "bare forward, one thread per batch": lambda: bare_side_by_side(encoder, images, chosen.device),
            "embedding, files to vectors": lambda: embed_images(paths, encoder, device=chosen.device),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        for _ in range(chosen.repeats):
            for name, call in calls.items():
                times[name].append(seconds(call))
        embed_images(paths, encoder, cache=kept, device=chosen.device)
        again = seconds(lambda: embed_images(paths, encoder, cache=kept, device=chosen.device))
        native = seconds(lambda: embed_images(paths[:20], encoder, EmbeddingSettings("native"), device=chosen.device))
    print(f"{encoder.record.model}, {len(paths)} tiles at {encoder.size} px, {chosen.device}, {cores()} cores")
    print(f"{'':<38}{'CPU':>8}{'wall':>8}  ms per tile, medians of {chosen.repeats}")
    medians = {name: np.median(taken, axis=0) / len(paths) for name, taken in times.items()}
    shown = medians | {
        "from the cache": np.array(again) / len(paths),
        "four quadrants at native scale": np.array(native) / len(paths[:20]),
    }
    for name, (cpu, wall) in shown.items():
        print(f"  {name:<36}{1000 * cpu:8.2f}{1000 * wall:8.2f}")
    *passes, embedded = medians.values()
    cpu, wall = embedded / np.min(passes, axis=0)
    print(f"  ratio of embedding to the faster bare forward: CPU {cpu:.2f}, wall {wall:.2f}; target {TARGET_RATIO}")


if __name__ == "__main__":
    main()
