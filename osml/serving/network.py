"""Why a network or stack says what it says of one unit: contributions of its inputs, heat maps, gate weights."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.explanation.cam import unit_heat
from osml.explanation.heat import overlay_png
from osml.explanation.held_out import encoded, scale_of, score
from osml.explanation.permutation import permutation_shap, subset_shap
from osml.predictors.contract import Design
from osml.predictors.network import FittedNetwork
from osml.predictors.network_inputs import ImageSource, TableSource, presence
from osml.predictors.stack import FittedStack
from osml.serving.encoders import EncoderShelf, NetworkImage, Pixels
from osml.serving.explain import Contribution, Explanation

if TYPE_CHECKING:
    from osml.nets.branches import Items

Float = NDArray[np.float64]
EXACT_INPUTS = 8
ORDERS = 32
NOTHING_KNOWN = "a unit of which the network is told nothing"
EQUAL_SCORES = "scores of 0"
NOT_HIDDEN = "In training {} was never missing or hidden: what the network says without it was not learnt."


@dataclass(frozen=True)
class HeatMap:
    """Where a picture raises the score (Grad-CAM).

    input : image input
    label : of the input, with the number of the picture where there are several
    picture, overlay : PNG, without and with the heat; 1 is the warmest place of all pictures of the input
    of : what the score is of, in words
    warm : whether any part raises the score
    """

    input: str
    label: str
    picture: bytes
    overlay: bytes
    of: str
    warm: bool


def explain_network(
    fitted: FittedNetwork, unit: Cohort, column: str, labels: Mapping[str, str], shown: Mapping[str, str]
) -> Explanation:
    """Shapley values of one unit's inputs on the scale of the linear predictor; an image is one input.

    An input outside a coalition is missing: the network's learned values stand for it. Of up to 8 inputs all coalitions
    are asked, of more 64 orders (the sum is exact all the same). Of classes the scale is log P(class).

    Parameters
    ----------
    column : the event, or the class or inner node that is explained
    labels, shown : of each input, in words
    """
    here = {name: bool(x[0]) for name, x in presence(fitted.sources, unit).items()}
    given = [name for name, present in here.items() if present]
    items = encoded(fitted, unit)
    hidden = untrained_absences(fitted)

    def worth(masks: Mapping[str, Float]) -> Float:
        n = len(next(iter(masks.values())))
        known = {name: (masks[name] > 0.5) if name in masks else np.zeros(n, dtype=bool) for name in here}
        return _scores(fitted, items, known, hidden, n, column)

    parts = [Contribution(name, labels[name], shown[name], 0.0, not here[name]) for name in here]
    if not given:
        base = float(_scores(fitted, items, {name: np.zeros(1, dtype=bool) for name in here}, hidden, 1, column)[0])
        return Explanation(base, tuple(parts), base, scale_of(fitted, column), NOTHING_KNOWN)
    shap = shapley(worth, given)
    values = dict(zip(given, shap.values[0].tolist(), strict=True))
    parts = [replace(part, value=values.get(part.input, 0.0)) for part in parts]
    words = " and ".join(labels[name] for name in hidden if name in fitted.images)
    lp = shap.base + sum(part.value for part in parts)
    note = NOT_HIDDEN.format(words) if words else ""
    return Explanation(shap.base, tuple(parts), lp, scale_of(fitted, column), NOTHING_KNOWN, note)


def explain_stack(fitted: FittedStack, design: Design, column: str, labels: Mapping[str, str]) -> Explanation:
    """Shapley values of the scores that a stack combines; outside a coalition one counts as 0, of classes as none."""
    own = {name: np.asarray(design.upstream[name]) for name in fitted.names}
    place = fitted.columns.index(column) if column in fitted.columns else 0

    def worth(masks: Mapping[str, Float]) -> Float:
        n = len(masks[fitted.names[0]])
        names = tuple(str(i) for i in range(n))
        cohort = Cohort(names, names, np.zeros(n, dtype=np.intp), {}, {}, {}, None)
        scores = {name: np.where(masks[name].reshape(n, *[1] * (x.ndim - 1)) > 0.5, x, 0.0) for name, x in own.items()}
        lp = fitted.predict(Design(cohort, scores)).lp
        return lp if lp.ndim == 1 else lp[:, place]

    shap = shapley(worth, fitted.names)
    scale = f"log P({column})" if fitted.tree is not None else "log hazard" if fitted.baseline else "log odds"
    parts = []
    for name, value in zip(fitted.names, shap.values[0].tolist(), strict=True):
        raw = own[name][0] if own[name].ndim == 1 else own[name][0, place]
        parts.append(Contribution(name, labels.get(name, name), f"score {raw:.3g}", value))
    return Explanation(shap.base, tuple(parts), shap.base + sum(p.value for p in parts), scale, EQUAL_SCORES)


def shapley(worth: Any, names: Sequence[str]) -> Any:
    """Of present (1) against absent (0) inputs."""
    ones, zeros = ({name: np.full(1, value) for name in names} for value in (1.0, 0.0))
    if len(names) <= EXACT_INPUTS:
        return subset_shap(worth, ones, zeros)
    return permutation_shap(worth, ones, zeros, permutations=ORDERS, seed=0)


def untrained_absences(fitted: FittedNetwork) -> tuple[str, ...]:
    """Modalities whose absence no training row taught."""
    return tuple(
        source.name
        for k, source in enumerate(fitted.sources)
        if any(bool(network.untrained_absence[k]) for network in fitted.networks)
    )


def heat_maps(
    fitted: FittedNetwork,
    unit: Cohort,
    column: str,
    images: Sequence[NetworkImage],
    pixels: Mapping[str, Sequence[Pixels]],
    shown: Mapping[str, Sequence[Pixels]],
    shelf: EncoderShelf,
    labels: Mapping[str, str],
) -> tuple[HeatMap, ...]:
    """Grad-CAM over every picture of one unit, all other inputs held fixed.

    Parameters
    ----------
    images : of this network
    pixels : key of an image → the unit's pictures as the encoder takes them, or larger
    shown : input → the same pictures for the reader
    """
    mine = {i.source.name: i for i in images if pixels.get(i.source.key)}
    encoders = {name: shelf.of(image) for name, image in mine.items() if image.frozen}
    given = {name: list(pixels[image.source.key]) for name, image in mine.items()}
    heat = unit_heat(fitted, unit, given, column, encoders=encoders)
    of = scale_of(fitted, column)
    out = []
    for name, maps in heat.maps.items():
        for k, (picture, own) in enumerate(zip(shown[name], maps, strict=True)):
            label = labels.get(name, name) + (f", picture {k + 1}" if len(maps) > 1 else "")
            large = _stretched(own, picture.shape[:2])
            warm = bool(own.max() > 0)
            out.append(HeatMap(name, label, png(picture), overlay_png(picture, large), of, warm))
    return tuple(out)


def png(picture: Pixels) -> bytes:
    """Pixels as a PNG file."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def from_png(raw: bytes) -> Pixels:
    """Inverse of `png`, for pictures that a process of ours wrote."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def _stretched(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    from osml.nets.gradcam import fit_maps

    height, width = shape[:2]
    return heat if heat.shape == (height, width) else fit_maps(heat[None].copy(), (height, width))[0].clip(0, 1)


def _scores(
    fitted: FittedNetwork,
    items: Sequence[Sequence[Items]],
    known: Mapping[str, NDArray[np.bool_]],
    hidden: Sequence[str],
    n: int,
    column: str,
) -> Float:
    """Linear predictor of n copies of a unit that each keep the inputs that `known` marks."""
    import torch

    copies = [
        [_kept(source, own[k], known, source.name in hidden, n) for k, source in enumerate(fitted.sources)]
        for own in items
    ]
    with torch.inference_mode():
        found: Float = score(fitted, copies, n, column).numpy().copy()
    return found


def _kept(
    source: ImageSource | TableSource, items: Items, known: Mapping[str, NDArray[np.bool_]], hidden: bool, n: int
) -> Items:
    """The items of one modality for n copies of a unit."""
    import torch

    from osml.nets.branches import Items

    if isinstance(source, ImageSource):
        rows = np.flatnonzero(known[source.name]) if len(items.values) else np.empty(0, dtype=np.intp)
        owner = torch.as_tensor(np.repeat(rows, len(items.values)))
        return Items(items.values.repeat(len(rows), 1), owner)
    width = source.code.width
    own = items.values[0].numpy() if len(items.values) else np.full(width, np.nan, dtype=np.float32)
    mask = np.zeros((n, width), dtype=bool)
    if source.kind == "radiomics":
        mask[:] = known[source.name][:, None]
    else:
        at = 0
        for code in source.code.columns:
            mask[:, at : at + code.column.width] = known[code.column.name][:, None]
            at += code.column.width
    values = np.where(mask, own, np.float32(np.nan)).astype(np.float32)
    # Where the absence of the whole table was never trained, the learned value of each column stands for it instead.
    rows = np.arange(n) if hidden else np.flatnonzero(~np.isnan(values).all(axis=1))
    return Items(torch.as_tensor(values[rows]), torch.as_tensor(rows))
