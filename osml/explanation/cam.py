"""Grad-CAM of a fitted network: which parts of a unit's pictures raise its score, through branch, fusion and head.

The score's gradient at every piece (a picture, a crop, a turned copy) is taken first, with all other inputs held fixed;
each piece's map is then that of the linear score with this gradient, which has the same gradient at the last stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import InvalidInputError
from osml.explanation.held_out import encoded, score
from osml.nets.device import one_thread
from osml.predictors.network import FittedNetwork
from osml.schema.model import Schema

if TYPE_CHECKING:
    from torch import Tensor

    from osml.nets.embeddings import EmbeddingSettings
    from osml.nets.encoders import Encoder

Pixels = NDArray[np.uint8]
BATCH = 16
# Finer maps are spread over about this share of the side: a single cell of a middle layer is texture, not a place.
GRAIN = 1 / 16


@dataclass(frozen=True)
class Heat:
    """Heat maps of one unit.

    maps : image input → one float32 array (h, w) per picture, 0 to 1: 1 is the warmest place of all pictures of that
        input; all 0 where no part raises the score. Maps of more than 16 cells a side are smoothed to that grain
    score : linear predictor of the unit, as the network sees these pictures
    """

    maps: Mapping[str, tuple[NDArray[np.float32], ...]]
    score: float


def frozen_encoders(fitted: FittedNetwork) -> dict[str, Encoder]:
    """Frozen encoders by input, found again by their hash; trained ones are in the networks.

    Raises
    ------
    WeightsError
        The weights are not on this machine.
    """
    from osml.nets.encoders import EncoderSettings, rebuild_encoder
    from osml.nets.weights import WeightsRecord

    return {
        name: rebuild_encoder(WeightsRecord(**record.weights), EncoderSettings(**record.settings))
        for name, record in fitted.encoders.items()
        if record.embedding is not None
    }


def run_encoders(schema: Schema, fitted: FittedNetwork) -> dict[str, Encoder]:
    """`frozen_encoders` of a run: a file that its schema names is taken from there, if it still is the same file."""
    from osml.features.images import image_plan
    from osml.files import sha256_file
    from osml.nets.encoders import build_encoder

    kept: dict[str, Encoder] = {}
    for name, record in fitted.encoders.items():
        plan = image_plan(schema, fitted.name, name)
        file = plan.encoder.weights
        if not plan.frozen or file is None or file == "hub" or not Path(file).is_file():
            continue
        if sha256_file(Path(file)) == record.weights["sha256"]:
            kept[name] = build_encoder(plan.settings())
    rest = replace(fitted, encoders={name: r for name, r in fitted.encoders.items() if name not in kept})
    return kept | frozen_encoders(rest)


@one_thread()
def unit_heat(
    fitted: FittedNetwork,
    unit: Cohort,
    pictures: Mapping[str, Sequence[Pixels]],
    column: str,
    *,
    against: bool = False,
    encoders: Mapping[str, Encoder] | None = None,
) -> Heat:
    """Grad-CAM over the pictures of one unit.

    Parameters
    ----------
    unit : one unit; its other inputs are read from it and held fixed
    pictures : image input → the unit's pictures (h, w, 3), as `unit_pictures` gives them
    column : the event, a class or inner node, or anything for survival
    against : what lowers the score instead: the evidence for the other class of a binary target
    encoders : of `frozen_encoders`, where several units are explained
    """
    import torch

    if len(unit) != 1:
        raise InvalidInputError(f"{len(unit)} units; heat maps are made for one at a time")
    frozen = frozen_encoders(fitted) if encoders is None else encoders
    places = {m.name: k for k, m in enumerate(fitted.recipe.modalities)}
    items = [list(own) for own in encoded(fitted, unit)]
    # (input, seed) → pieces, and the leaf that holds their vectors; a frozen encoder serves all seeds.
    pieces: dict[tuple[str, int], list[Tensor]] = {}
    leaves: dict[tuple[str, int], list[Tensor]] = {}
    for name, given in pictures.items():
        for seed in range(1 if name in frozen else len(fitted.networks)):
            how, encoder = _how(fitted, name, seed, frozen)
            cut = [_pieces(picture, encoder, how) for picture in given]
            pieces[name, seed] = cut
            leaves[name, seed] = [_vectors(encoder, part) for part in cut]
        for seed, own in enumerate(items):
            key = (name, 0 if name in frozen else seed)
            own[places[name]] = _items(leaves[key], _how(fitted, name, key[1], frozen)[0], own[places[name]].owner)
    with torch.enable_grad():
        lp = score(fitted, items, 1, column)
        flat = [leaf for part in leaves.values() for leaf in part]
        slopes = torch.autograd.grad(-lp.sum() if against else lp.sum(), flat) if flat else ()
    left = iter(slopes)
    maps: dict[str, list[NDArray[np.float64]]] = {}
    for name, seed in leaves:
        how, encoder = _how(fitted, name, seed, frozen)
        for j, picture in enumerate(pictures[name]):
            heat = _picture_map(encoder, how, pieces[name, seed][j], next(left), picture.shape[:2])
            if seed:
                maps[name][j] += heat
            else:
                maps.setdefault(name, []).append(heat)
    return Heat({name: _scaled(found) for name, found in maps.items()}, float(lp.detach()[0]))


def unit_pictures(
    schema: Schema, name: str, cohort: Cohort, i: int, root: Path, cache: Path | None = None
) -> dict[str, list[Pixels]]:
    """Pictures of unit i for each image input of the network `name`, as its encoders were given them.

    Raises
    ------
    ImagingError
        A file cannot be read.
    """
    from osml.cache import default_folder
    from osml.explanation.held_out import image_inputs
    from osml.features.pictures import radiograph_picture, volume_pictures
    from osml.nets.images import decode
    from osml.schema.images import ImageInput

    folder = cache or default_folder()
    out: dict[str, list[Pixels]] = {}
    for item in image_inputs(schema, name):
        block: Any = schema.inputs[item]
        files: list[Path] = []
        for path in cohort.paths(item)[i]:
            if isinstance(block, ImageInput):
                files.append(radiograph_picture(root / path, folder))
            else:
                mask = root / cohort.files[f"{item}.mask"][i]
                files += volume_pictures(root / path, mask, block.mask, folder)
        if files:
            out[item] = [decode(file) for file in files]
    return out


def _how(
    fitted: FittedNetwork, name: str, seed: int, frozen: Mapping[str, Encoder]
) -> tuple[EmbeddingSettings | None, Encoder]:
    """Settings of the embedding (None: the encoder is trained), and the encoder."""
    from osml.nets.embeddings import EmbeddingSettings

    if name in frozen:
        record = fitted.encoders[name].embedding
        assert record is not None
        return EmbeddingSettings(**record).for_prediction(), frozen[name]
    network = fitted.networks[seed]
    return None, network.encoders[str(network.recipe.names.index(name))]  # type: ignore[return-value]


def _pieces(picture: Pixels, encoder: Encoder, how: EmbeddingSettings | None) -> Tensor:
    """What the encoder takes of a picture, (views · crops, 3, size, size), the crops of one view together."""
    import torch

    from osml.nets.augment import whole
    from osml.nets.embeddings import views_of
    from osml.nets.images import crops, fit, stored_size

    if how is None:
        small = fit(picture, stored_size(encoder.size), encoder.interpolation)
        return whole(torch.tensor(small).permute(2, 0, 1)[None], encoder.size)
    native = how.scale == "native"
    cut = crops(picture, encoder.size) if native else fit(picture, encoder.size, encoder.interpolation)[None]
    return views_of(torch.tensor(cut).permute(0, 3, 1, 2), how.views).flatten(0, 1)


def _vectors(encoder: Encoder, pieces: Tensor) -> Tensor:
    """A leaf with the vectors of pieces, (views · crops, d)."""
    import torch

    with torch.inference_mode():
        vectors = torch.cat([encoder(part).float() for part in pieces.split(BATCH)])
    return vectors.clone().requires_grad_()


def _items(leaves: Sequence[Tensor], how: EmbeddingSettings | None, owner: Tensor) -> Any:
    """The pictures' vectors as the network reads them, from those of their pieces: pooled over crops and views."""
    import torch

    from osml.nets.branches import Items

    rows = []
    for leaf in leaves:
        if how is None:
            rows.append(leaf)
            continue
        each = leaf.reshape(how.views, -1, leaf.shape[1])  # (views, crops, d)
        pooled = torch.cat([each.mean(dim=1), each.amax(dim=1)], dim=1) if how.scale == "native" else each[:, 0]
        rows.append(pooled.mean(dim=0, keepdim=True))
    if len(rows) != len(owner):
        raise InvalidInputError(f"{len(rows)} pictures of a unit that was read with {len(owner)}")
    return Items(torch.cat(rows), owner)


def _picture_map(
    encoder: Encoder, how: EmbeddingSettings | None, pieces: Tensor, slope: Tensor, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Sum of the pieces' maps over the picture, float64 (h, w); where crops overlap, their mean."""
    import torch
    from scipy.ndimage import gaussian_filter

    from osml.nets.gradcam import fit_maps, grad_cam
    from osml.nets.images import corners

    found = []
    for part, own in zip(pieces.split(BATCH), slope.split(BATCH), strict=True):
        cam = grad_cam(encoder, part, lambda vectors, own=own: (vectors * own).sum(dim=1))  # type: ignore[misc]
        found.append(cam.maps * cam.peak[:, None, None])
    views = 1 if how is None else how.views
    maps = torch.from_numpy(np.concatenate(found)).reshape(views, -1, encoder.size, encoder.size)
    upright = torch.stack([_turned_back(view, k) for k, view in enumerate(maps)]).sum(dim=0).numpy()
    if max(cam.grid) > 1 / GRAIN:
        spread = GRAIN * encoder.size / 2
        upright = gaussian_filter(upright, (0, spread, spread), mode="nearest")
    if how is None or how.scale == "resize":
        return fit_maps(upright, shape)[0].astype(np.float64)
    total, times = np.zeros(shape), np.zeros(shape)
    for (y, x), one in zip(corners(*shape, encoder.size), upright, strict=True):
        total[y : y + encoder.size, x : x + encoder.size] += one
        times[y : y + encoder.size, x : x + encoder.size] += 1
    return total / times


def _turned_back(maps: Tensor, view: int) -> Tensor:
    """Maps (crops, s, s) of one of the eight views of `views_of`, as the picture lies."""
    upright = maps.rot90(-(view % 4), (1, 2))
    return upright.flip(2) if view >= 4 else upright


def _scaled(maps: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float32], ...]:
    peak = max(float(one.max()) for one in maps)
    return tuple((one / peak if peak > 0 else one).clip(0, 1).astype(np.float32) for one in maps)
