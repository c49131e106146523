"""Where batches come from: data held in memory or on the GPU, and the order in which rows are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osml.errors import InvalidInputError
from osml.nets.branches import Items

Prepare = Callable[[Tensor, torch.Generator | None], Tensor]


class Source(Protocol):
    """Rows of a study as a network reads them."""

    def __len__(self) -> int:
        """Rows, whether or not they have every modality."""
        ...

    def batch(self, rows: Tensor, generator: torch.Generator | None) -> dict[str, Items]:
        """Items of every modality for some rows (int64, on the source's device); owner counts from 0 in their order.

        `generator` is given in training only: augmentation draws from it and from nothing else. None means evaluation.
        """
        ...


@dataclass(frozen=True)
class Store:
    """Items of one modality, on one device: float vectors, or uint8 pictures that are decoded once and stay there.

    values : (t, …), sorted by row
    first : (n + 1,) int64, position of each row's first item; equal neighbours mean a row without items
    prepare : from raw items of a batch to what the network takes (augmentation, normalisation); None = as they are
    """

    values: Tensor
    first: Tensor
    prepare: Prepare | None = None

    def take(self, rows: Tensor, generator: torch.Generator | None) -> Items:
        """Items of some rows."""
        counts = self.first[rows + 1] - self.first[rows]
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        slot = torch.arange(len(owner), device=rows.device) - (counts.cumsum(0) - counts)[owner]
        values = self.values[self.first[rows][owner] + slot]
        # No pictures cannot be resized, but no vectors must lose their axis of views all the same.
        if self.prepare is not None and (len(values) or values.ndim == 3):
            values = self.prepare(values, generator)
        return Items(values, owner)


@dataclass(frozen=True)
class Stores:
    """A source made of one store per modality, all for the same rows."""

    stores: Mapping[str, Store]

    def __post_init__(self) -> None:
        rows = {name: len(store.first) - 1 for name, store in self.stores.items()}
        if len(set(rows.values())) != 1:
            raise InvalidInputError(f"modalities are for different numbers of rows: {rows}")

    def __len__(self) -> int:
        return len(next(iter(self.stores.values())).first) - 1

    def batch(self, rows: Tensor, generator: torch.Generator | None) -> dict[str, Items]:
        """Items of every modality for some rows."""
        return {name: store.take(rows, generator) for name, store in self.stores.items()}


def store(
    values: Tensor, row: NDArray[np.intp], n: int, *, device: str = "cpu", prepare: Prepare | None = None
) -> Store:
    """Items that belong to rows 0..n-1.

    Parameters
    ----------
    values : (t, …)
    row : int array (t,), the row of each item, in any order; the items of a row keep theirs
    """
    if row.shape != (len(values),) or (len(row) and (row.min() < 0 or row.max() >= n)):
        raise InvalidInputError(f"{len(values)} items need as many rows within 0..{n - 1}; got shape {row.shape}")
    order = np.argsort(row, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]).astype(np.int64)
    return Store(values[torch.as_tensor(order)].to(device), torch.as_tensor(first).to(device), prepare)


def column_store(values: NDArray[np.float32], *, device: str = "cpu") -> Store:
    """Encoded columns (n, width), one item per row; a row with no value at all lacks the modality."""
    here = np.flatnonzero(~np.isnan(values).all(axis=1))
    return store(torch.as_tensor(values[here]), here, len(values), device=device)


def random_view(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """For embeddings of several views of each item, (t, views, d): one view at random in training, else their mean.

    The views are flips and rotations of an image whose orientation means nothing.
    """
    if generator is None:
        return values.mean(dim=1)
    view = torch.randint(values.shape[1], (len(values),), generator=generator, device=values.device)
    return values[torch.arange(len(values), device=values.device), view]


def first_view(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """For embeddings (t, views, d) whose first view is the picture as it is: any view in training, else the first."""
    return values[:, 0] if generator is None else random_view(values, generator)


def epoch_batches(n: int, size: int | None, seed: int, epoch: int) -> list[NDArray[np.intp]]:
    """Positions 0..n-1 in random order, cut into batches of at most `size` that differ by one row at most.

    Depends on the arguments only, so a resumed run draws what an undisturbed one would have.

    >>> [len(b) for b in epoch_batches(17, 16, seed=0, epoch=0)]
    [9, 8]
    """
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(n)
    return np.array_split(order, 1 if size is None else -(-n // size))


def row_tensor(rows: Sequence[int] | NDArray[np.intp], device: str) -> Tensor:
    """Rows as the int64 tensor that a source takes."""
    return torch.as_tensor(np.asarray(rows, dtype=np.int64), device=device)
