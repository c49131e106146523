"""Texture matrices of many regions and images at once in torch: one batched count over image × region × direction.

The same counts as the compiled kernels give, on a CUDA card or, for tests, on the CPU. torch is imported when used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError, missing_extra
from osml.imaging.volume import Volume
from osml.radiomics.classes import TEXTURE, compact_levels, directions_of, intensity_features, several_on_a_line
from osml.radiomics.discretise import discretise
from osml.radiomics.glcm import glcm_features
from osml.radiomics.kernels import padded_levels
from osml.radiomics.ngtdm import ngtdm_features
from osml.radiomics.settings import Settings
from osml.radiomics.sizes import dependence_features, run_features, zone_features

# Voxels and matrix cells that one batch holds: about 3 GB of card memory with 13 directions.
BATCH_VOXELS, BATCH_CELLS = 2_000_000, 50_000_000
# `device: auto` takes the card from this many voxels × filtered images of a lesion's regions on.
AUTO_VOXELS = 2_000_000


@dataclass(frozen=True)
class Levels:
    """Grey levels of one region in one image, in its box with a border of zeros.

    Attributes
    ----------
    inside : bool (z, y, x), the region in its box
    flat : int32, the padded box: 0 outside, else the place (from 1) among the levels that occur
    voxels : ascending flat positions of the region
    directions, steps : half of the neighbours, as vectors and as steps in `flat`
    grey : the levels that occur
    """

    inside: NDArray[np.bool_]
    flat: NDArray[np.int32]
    voxels: NDArray[np.int64]
    directions: tuple[tuple[int, int, int], ...]
    steps: NDArray[np.int64]
    grey: NDArray[np.float64]

    @property
    def longest(self) -> int:
        """No run is longer than the box."""
        return max(self.inside.shape)


@dataclass(frozen=True)
class Matrices:
    """Counts of one region in one image, as the kernels of `osml.radiomics.kernels` return them."""

    glcm: NDArray[np.int64]
    gldm: NDArray[np.int64]
    count: NDArray[np.int64]
    difference: NDArray[np.float64]
    runs: NDArray[np.int64]
    zone_level: NDArray[np.int64]
    zone_size: NDArray[np.int64]


def device_for(device: str, work: int) -> str:
    """`cpu` or `cuda` for `settings.device` and the voxels × filtered images of a lesion's regions.

    Raises
    ------
    MissingExtraError, InvalidInputError
        `cuda` is asked for, and torch is not installed or finds no card.
    """
    if device == "cpu" or (device == "auto" and work < AUTO_VOXELS):
        return "cpu"
    if importlib.util.find_spec("torch") is None:
        if device == "auto":
            return "cpu"
        raise missing_extra("torch", "nets", "`device: cuda`")
    torch: Any = importlib.import_module("torch")

    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise InvalidInputError("`device: cuda`, but torch finds no CUDA card", do="Use `device: cpu`, or `auto`.")


def batch_features(
    image: Volume,
    parts: Sequence[NDArray[np.bool_]],
    boxed: Iterable[tuple[int, str, NDArray[Any]]],
    settings: Settings,
    device: str,
) -> list[dict[str, float]]:
    """Features of each region in all filtered images; first-order on the CPU, texture counted together.

    Parameters
    ----------
    parts : the regions in their boxes
    boxed : region number, filter name and values in the region's box
    device : of torch
    """
    flat = tuple(name for name in settings.classes if name == "firstorder")
    asked = [name for name in TEXTURE if name in settings.classes]
    width = settings.bin_width if settings.bin_count is None else None
    found: list[dict[str, dict[str, float]]] = [{} for _ in parts]
    waiting: list[tuple[int, str, Levels]] = []
    for k, filter_name, values in boxed:
        found[k][filter_name], _ = intensity_features(
            values, parts[k], float(np.prod(image.spacing_mm)), classes=flat, bin_width=settings.bin_width,
            bin_count=settings.bin_count, ibsi=settings.ibsi,
        )  # fmt: skip
        if asked:
            level = discretise(values[parts[k]], width=width, count=settings.bin_count)
            waiting.append((k, filter_name, levels_of(parts[k], level, settings.in_plane)))
    counted = texture_matrices([item for _, _, item in waiting], device)
    for (k, filter_name, item), matrices in zip(waiting, counted, strict=True):
        found[k][filter_name] |= texture_features(item, matrices, asked)
    return [
        {f"{filter_name}_{name}": value for filter_name, values in row.items() for name, value in values.items()}
        for row in found
    ]


def levels_of(inside: NDArray[np.bool_], level: NDArray[np.int64], in_plane: bool) -> Levels:
    """Levels (1, 2, …) of the voxels of a region, ready to be counted; `inside` fills its box."""
    inside = inside[None] if inside.ndim == 2 else inside
    grey, compact = compact_levels(level)
    flat, voxels = padded_levels(inside, level, compact)
    directions = tuple(directions_of(inside.shape, in_plane))
    _, height, width = (size + 2 for size in inside.shape)
    steps = np.array([(z * height + y) * width + x for z, y, x in directions], dtype=np.int64)
    return Levels(inside, flat, voxels, directions, steps, grey)


def texture_features(item: Levels, found: Matrices, classes: Collection[str]) -> dict[str, float]:
    """Features `class_Name` of the asked texture classes."""
    grey = item.grey
    out: dict[str, dict[str, float]] = {}
    if "glcm" in classes:
        out["glcm"] = glcm_features(found.glcm, grey)
    if "gldm" in classes:
        out["gldm"] = dependence_features(found.gldm, grey)
    if "glrlm" in classes:
        out["glrlm"] = run_features(found.runs, grey, several_on_a_line(found.runs, item.inside, item.directions))
    if "glszm" in classes:
        out["glszm"] = zone_features(found.zone_level, found.zone_size, grey)
    if "ngtdm" in classes:
        out["ngtdm"] = ngtdm_features(found.count, found.difference, grey)
    return {f"{group}_{name}": value for group in TEXTURE if group in out for name, value in out[group].items()}


def texture_matrices(items: Sequence[Levels], device: str) -> list[Matrices]:
    """Matrices of every item, in order.

    Whole numbers are counted exactly, and the differences are sums of whole numbers too, so the result depends neither
    on the batch nor on the order in which a card adds.

    Parameters
    ----------
    device : of torch: `cuda`, or `cpu`, which is far slower than the compiled kernels
    """
    return [found for batch in _batches(items) for found in _count(batch, device)]


def _batches(items: Sequence[Levels]) -> Iterator[list[Levels]]:
    batch: list[Levels] = []
    voxels = cells = 0
    for item in items:
        size = item.steps.size * item.grey.size * max(item.grey.size, item.longest)
        if batch and (voxels + item.voxels.size > BATCH_VOXELS or cells + size > BATCH_CELLS):
            yield batch
            batch, voxels, cells = [], 0, 0
        batch.append(item)
        voxels, cells = voxels + item.voxels.size, cells + size
    if batch:
        yield batch


def _count(items: Sequence[Levels], device: str) -> list[Matrices]:
    torch: Any = importlib.import_module("torch")

    def tensor(values: Any) -> Any:
        return torch.as_tensor(np.asarray(values), device=device)

    def starts(sizes: Sequence[int]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    v = sum(item.voxels.size for item in items)
    n, m, long = (
        np.array(sizes, dtype=np.int64)
        for sizes in zip(*((item.grey.size, item.steps.size, item.longest) for item in items), strict=True)
    )
    flat_start = starts([item.flat.size for item in items])
    which = np.repeat(np.arange(len(items)), [item.voxels.size for item in items])
    position = tensor(np.concatenate([item.voxels for item in items]) + flat_start[which])
    own = tensor(np.concatenate([item.flat for item in items])).long()[position] - 1
    # Row s of `steps` holds each item's direction s, or 0 where its box is too thin for that direction.
    steps = np.zeros((max(int(m.max()), 1), len(items)), dtype=np.int64)
    for k, item in enumerate(items):
        steps[: item.steps.size, k] = item.steps
    item_of = tensor(which)
    step = tensor(steps)[:, item_of]
    # Voxel v stands for "no neighbour".
    ordinal = torch.full((int(flat_start[-1]),), v, dtype=torch.int64, device=device)
    ordinal[position] = torch.arange(v, device=device)
    forward = torch.where(step > 0, ordinal[position + step], v)
    backward = torch.where(step > 0, ordinal[position - step], v)
    none = tensor([-1])
    level = torch.cat([own, none])
    next_level, last_level = level[forward], level[backward]
    has_next, has_last = forward < v, backward < v
    levels, sides = tensor(n)[item_of], 2 * tensor(m)[item_of]
    row = torch.arange(len(steps), device=device)[:, None] * levels + own

    def counted(at: Any, sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        begin = starts(sizes.tolist())
        whole = torch.bincount(at, minlength=int(begin[-1])).cpu().numpy()
        return [whole[a:b] for a, b in pairwise(begin.tolist())]

    def offset(sizes: NDArray[np.int64]) -> Any:
        return tensor(starts(sizes.tolist())[:-1])[item_of]

    pairs = offset(m * n * n) + row * levels + next_level
    glcm = counted(pairs[has_next], m * n * n)
    equal = ((next_level == own) & has_next).sum(0) + ((last_level == own) & has_last).sum(0)
    gldm = counted(offset(n * (2 * m + 1)) + own * (sides + 1) + equal, n * (2 * m + 1))
    # |level × neighbours - their sum| by level and number of neighbours: whole numbers, below 2**53 in all.
    grey = tensor(np.concatenate([item.grey for item in items])).long()
    value = torch.cat([grey[offset(n) + own], tensor([0])])
    near = has_next.sum(0) + has_last.sum(0)
    apart = (value[:-1] * near - value[forward].sum(0) - value[backward].sum(0)).abs().double()
    at = offset(n * (2 * m + 1)) + own * (sides + 1) + near
    size = int((n * (2 * m + 1)).sum())
    summed = torch.bincount(at, weights=apart, minlength=size).cpu().numpy()
    runs = counted(*_runs(forward, (next_level == own) & has_next, (last_level == own) & has_last, step > 0,
                          offset(m * n * long), row, tensor(long)[item_of], m * n * long))  # fmt: skip
    zone_item, zone_level, zone_size = _zones(forward, backward, next_level == own, last_level == own, own, item_of)
    out = []
    sums = np.split(summed, starts((n * (2 * m + 1)).tolist())[1:-1])
    for k in range(len(items)):
        by_near = sums[k].reshape(n[k], -1)
        zone = zone_item == k
        dependence = gldm[k].reshape(n[k], -1)
        out.append(
            Matrices(
                glcm[k].reshape(m[k], n[k], n[k]), dependence, dependence.sum(axis=1),
                (by_near[:, 1:] / np.arange(1, by_near.shape[1])).sum(axis=1),
                runs[k].reshape(m[k], n[k], long[k]), zone_level[zone], zone_size[zone],
            )
        )  # fmt: skip
    return out


def _runs(
    forward: Any, goes_on: Any, came: Any, used: Any, offset: Any, row: Any, long: Any, sizes: NDArray[np.int64]
) -> tuple[Any, NDArray[np.int64]]:
    """Cells (direction, level, length) of all runs; lengths by doubling: each voxel's reach is added to its end's."""
    torch: Any = importlib.import_module("torch")

    directions, v = forward.shape
    end = torch.cat([torch.where(goes_on, forward, v), torch.full((directions, 1), v, device=forward.device)], 1)
    length = torch.cat([torch.ones_like(forward), torch.zeros_like(end[:, :1])], 1)
    while bool((end < v).any()):
        length = length + length.gather(1, end)
        end = end.gather(1, end)
    cell = offset + row * long + length[:, :v] - 1
    return cell[used & ~came], sizes


def _zones(
    forward: Any, backward: Any, next_equal: Any, last_equal: Any, own: Any, item_of: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Item, level (from 1) and size of every connected zone: labels fall to the smallest in reach (FastSV).

    Zhang, Azad and Buluç 2020.
    """
    torch: Any = importlib.import_module("torch")

    v = own.numel()
    edges = torch.cat([torch.where(next_equal, forward, v), torch.where(last_equal, backward, v)])
    far = torch.full((1,), v, dtype=torch.int64, device=own.device)
    parent = torch.arange(v, device=own.device)
    while True:
        above = parent[parent]
        reach = torch.cat([above, far])[edges].amin(0)
        new = torch.minimum(torch.minimum(parent, above), reach)
        new.scatter_reduce_(0, parent, torch.minimum(reach, above), "amin")
        if torch.equal(new, parent):
            break
        parent = new
    size = torch.bincount(parent, minlength=v)
    roots = torch.nonzero(size)[:, 0]
    return tuple(x[roots].cpu().numpy() for x in (item_of, own + 1, size))
