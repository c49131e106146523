"""The patch classifier: vectors of a frozen encoder through a small network, or encoder and network trained together.

Inner folds are trained side by side, epoch by epoch. One number of epochs is chosen for all of them, where the loss of
the held-out patients is lowest; the final classifier takes that number. So held-out probabilities carry no choice that
their own patient made alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from osml.errors import ConvergenceError, InvalidInputError
from osml.nets.device import one_thread
from osml.nets.encoders import Encoder, build_encoder
from osml.predictors.slide_prepare import PreparedSlide
from osml.predictors.slide_recipe import HeadRecipe, SlideRecipe

Floats = NDArray[np.float64]
_MOST_BALANCE = 5.0
# Tiles whose vectors centre and scale those of a trained encoder.
_SCALED_ON = 512
_AT_ONCE = 4096


class Head(nn.Module):
    """Vectors (n, width), centred and scaled by the training tiles, to logits (n, classes)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )  # fmt: skip

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, width) to (n, classes)."""
        return self.layers((vectors - self.mean) / self.scale)

    def fit_scale(self, vectors: Tensor) -> None:
        """Take mean and standard deviation of these vectors."""
        self.mean.copy_(vectors.mean(dim=0))
        self.scale.copy_(vectors.std(dim=0, correction=0).clamp(min=1e-6))


@dataclass(frozen=True)
class Tiles:
    """Labelled tiles of training slides.

    slides : whose vectors or pixels are looked at
    slide, tile : of each labelled tile, its slide's and its own position
    labels : class of each
    """

    slides: tuple[PreparedSlide, ...]
    slide: NDArray[np.int64]
    tile: NDArray[np.int64]
    labels: NDArray[np.int64]

    def of(self, patients: Sequence[str]) -> Tiles:
        """Those of some patients."""
        wanted = np.array([s.case.patient in patients for s in self.slides], dtype=np.bool_)[self.slide]
        return Tiles(self.slides, self.slide[wanted], self.tile[wanted], self.labels[wanted])


def labelled_tiles(slides: Sequence[PreparedSlide]) -> Tiles:
    """All tiles of whose tissue a class covers half or more."""
    parts = [np.flatnonzero(s.tile_labels >= 0) for s in slides]
    slide = np.repeat(np.arange(len(slides)), [len(part) for part in parts])
    tile = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    labels = [np.asarray(s.tile_labels)[part] for s, part in zip(slides, parts, strict=True)]
    return Tiles(tuple(slides), slide, tile, np.concatenate(labels).astype(np.int64) if labels else tile)


class Classifier(Protocol):
    """A classifier in training."""

    def epoch(self) -> None:
        """See every training tile once."""

    def logits(self, tiles: Tiles) -> Floats:
        """(n, classes) of tiles."""

    def tensors(self) -> dict[str, Tensor]:
        """All that was trained, copied to the CPU: `head.…`, and `encoder.…` of a trained encoder."""


@dataclass(frozen=True)
class Chosen:
    """Classifiers of the inner folds at the chosen number of epochs.

    epochs : the number
    losses : mean loss of held-out patients after each epoch
    logits : of each fold's held-out labelled tiles
    tensors : of each fold
    """

    epochs: int
    losses: tuple[float, ...]
    logits: tuple[Floats, ...]
    tensors: tuple[dict[str, Tensor], ...]


def classifier(tiles: Tiles, recipe: SlideRecipe, *, seed: int, device: str) -> Classifier:
    """An untrained classifier for some tiles."""
    if not len(tiles.labels):
        raise InvalidInputError(
            "no annotated tile to train on", why="No class covers half of the tissue of any tile."
        )  # fmt: skip
    kind = _OfVectors if recipe.encoder.tune == "frozen" else _OfPixels
    return kind(tiles, recipe, seed, device)


def train_folds(
    tiles: Tiles, folds: Sequence[Sequence[str]], recipe: SlideRecipe, *, seed: int, device: str
) -> Chosen:  # fmt: skip
    """Train one classifier per fold on the other folds' patients, side by side, until held-out loss no longer falls."""
    everyone = {s.case.patient for s in tiles.slides}
    held = [tiles.of(fold) for fold in folds]
    trained = [
        classifier(tiles.of(sorted(everyone - set(fold))), recipe, seed=seed + k, device=device)
        for k, fold in enumerate(folds)
    ]
    truth = np.concatenate([part.labels for part in held])
    losses: list[float] = []
    best: Chosen | None = None
    with one_thread():
        for epoch in range(1, recipe.head.epochs + 1):
            for one in trained:
                one.epoch()
            logits = tuple(one.logits(part) for one, part in zip(trained, held, strict=True))
            losses.append(_loss(np.concatenate(logits), truth, 1.0))
            if not np.isfinite(losses[-1]):
                raise ConvergenceError("the patch classifier's loss is no longer finite", do="Lower `rate`.")
            if best is None or losses[-1] < losses[best.epochs - 1]:
                best = Chosen(epoch, (), logits, tuple(one.tensors() for one in trained))
            elif epoch - best.epochs >= recipe.head.patience:
                break
    assert best is not None
    return Chosen(best.epochs, tuple(losses), best.logits, best.tensors)


def temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """By which logits are divided so that held-out probabilities are right on average (Guo et al. 2017), 0.1 to 10."""
    found = minimize_scalar(
        lambda log_t: _loss(logits, labels, float(np.exp(log_t))), bounds=(-2.3, 2.3), method="bounded"
    )
    return float(np.exp(found.x))


def softmax(logits: Floats, heat: float) -> NDArray[np.float32]:
    """Probabilities (n, classes)."""
    z = logits / heat
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return (z / z.sum(axis=1, keepdims=True)).astype(np.float32)


def make_head(recipe: SlideRecipe, width: int) -> Head:
    """An untrained head; its weights are drawn from torch's global generator."""
    return Head(width, len(recipe.classes), recipe.head.hidden, recipe.head.dropout)


def head_logits(head: Head, vectors: NDArray[np.float32]) -> Floats:
    """Logits of vectors (n, width), which may lie on disk."""
    parts = []
    with one_thread(), torch.inference_mode():
        for start in range(0, len(vectors), _AT_ONCE):
            parts.append(head(torch.from_numpy(np.array(vectors[start : start + _AT_ONCE]))).double().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, head.classes))


class _OfVectors:
    """Of a frozen encoder's vectors; draws one of a tile's versions each time."""

    def __init__(self, tiles: Tiles, recipe: SlideRecipe, seed: int, device: str) -> None:
        self.recipe, self.seed, self.epochs = recipe.head, seed, 0
        self.labels = torch.from_numpy(tiles.labels)
        self.vectors = torch.from_numpy(_gather(tiles, "vectors"))
        self.weights = _class_weights(tiles.labels, len(recipe.classes), recipe.head)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = make_head(recipe, self.vectors.shape[2])
        self.head.fit_scale(self.vectors[:, 0])
        self.optimizer = _optimizer(self.head, self.recipe)

    def epoch(self) -> None:
        rng = np.random.default_rng([self.seed, self.epochs])
        order = rng.permutation(len(self.labels))
        version = torch.from_numpy(rng.integers(self.vectors.shape[1], size=len(order)))
        self.head.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for batch in torch.from_numpy(order).split(self.recipe.batch):
                logits = self.head(self.vectors[batch, version[batch]])
                loss = functional.cross_entropy(logits, self.labels[batch], weight=self.weights)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
        self.head.eval()
        self.epochs += 1

    def logits(self, tiles: Tiles) -> Floats:
        return head_logits(self.head, _gather(tiles, "vectors")[:, 0])

    def tensors(self) -> dict[str, Tensor]:
        return {f"head.{name}": value.detach().clone() for name, value in self.head.state_dict().items()}


class _OfPixels:
    """Encoder (additions of low rank, or all of it) and head, trained together; tiles are turned and mirrored."""

    def __init__(self, tiles: Tiles, recipe: SlideRecipe, seed: int, device: str) -> None:
        self.recipe, self.seed, self.device, self.epochs = recipe.head, seed, device, 0
        self.tiles = tiles
        self.encoder: Encoder = build_encoder(recipe.encoder.settings(), seed=seed).to(device)
        self.weights = _class_weights(tiles.labels, len(recipe.classes), recipe.head).to(device)
        rng = np.random.default_rng([seed, 2**20])
        some = rng.permutation(len(tiles.labels))[:_SCALED_ON]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = make_head(recipe, self.encoder.width)
        with torch.inference_mode():
            seen = [
                self.encoder(self._images(tiles, part)).float().cpu()
                for part in np.array_split(some, -(-len(some) // 32))
            ]
        self.head.fit_scale(torch.cat(seen))
        self.head = self.head.to(device)
        self.optimizer = _optimizer(self.head, self.recipe, self.encoder)

    def epoch(self) -> None:
        rng = np.random.default_rng([self.seed, self.epochs])
        order = rng.permutation(len(self.tiles.labels))
        self.head.train()
        self.encoder.train()
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            for start in range(0, len(order), min(self.recipe.batch, 32)):
                batch = order[start : start + min(self.recipe.batch, 32)]
                images = self._images(self.tiles, batch).rot90(int(rng.integers(4)), (2, 3))
                images = images.flip(3) if rng.integers(2) else images
                labels = torch.from_numpy(self.tiles.labels[batch]).to(self.device)
                with self._mixed():
                    logits = self.head(self.encoder(images).float())
                loss = functional.cross_entropy(logits.float(), labels, weight=self.weights)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
        self.head.eval()
        self.encoder.eval()
        self.epochs += 1

    def logits(self, tiles: Tiles) -> Floats:
        out = np.zeros((len(tiles.labels), self.head.classes))
        with torch.inference_mode(), self._mixed():
            for batch in np.array_split(np.arange(len(out)), -(-len(out) // 32) or 1):
                if len(batch):
                    out[batch] = self.head(self.encoder(self._images(tiles, batch)).float()).double().cpu().numpy()
        return out

    def tensors(self) -> dict[str, Tensor]:
        head = {f"head.{name}": value.detach().cpu().clone() for name, value in self.head.state_dict().items()}
        return head | {f"encoder.{n}": value.cpu().clone() for n, value in self.encoder.trained_tensors().items()}

    def _mixed(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")

    def _images(self, tiles: Tiles, numbers: NDArray[np.int64]) -> Tensor:
        pixels = [tiles.slides[tiles.slide[k]].pixels[tiles.tile[k]] for k in numbers.tolist()]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(self.device)


def _optimizer(head: Head, recipe: HeadRecipe, encoder: Encoder | None = None) -> torch.optim.Optimizer:
    groups = [{"params": list(head.parameters()), "lr": recipe.rate}]
    if encoder is not None:
        trained = [p for p in encoder.parameters() if p.requires_grad]
        groups.append({"params": trained, "lr": recipe.encoder_rate})
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def _class_weights(labels: NDArray[np.int64], classes: int, recipe: HeadRecipe) -> Tensor:
    """frequency^-balance, of mean 1 over the tiles, held within a factor; a class that is absent weighs 1."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    raw = np.where(counts > 0, np.maximum(counts, 1) ** -recipe.balance, 0)
    weights = raw * counts.sum() / max(float((raw * counts).sum()), 1e-300)
    weights = np.clip(weights, 1 / _MOST_BALANCE, _MOST_BALANCE)
    return torch.from_numpy(np.where(counts > 0, weights, 1.0)).float()


def _gather(tiles: Tiles, name: str) -> NDArray[np.float32]:
    parts = []
    for number in range(len(tiles.slides)):
        chosen = tiles.tile[tiles.slide == number]
        if len(chosen):
            parts.append(np.asarray(getattr(tiles.slides[number], name)[chosen]))
    if not parts:
        width = getattr(tiles.slides[0], name).shape
        return np.zeros((0, *width[1:]), dtype=np.float32)
    return np.concatenate(parts)


def _loss(logits: Floats, labels: NDArray[np.int64], heat: float) -> float:
    z = logits / heat
    top = z.max(axis=1)
    log_sum = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return float((log_sum - z[np.arange(len(labels)), labels]).mean())
