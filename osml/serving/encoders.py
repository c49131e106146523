"""The images that predictors of a bundle look at: how their files become pictures, vectors of a checked encoder.

A bundle holds no frozen encoder, only its name and the SHA-256 of its weights. It is built at its first use, and has to
give the vectors of two made-up pictures that the bundle holds before it serves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ImageTable
from osml.errors import VerificationError
from osml.features.images import ImagePlan, image_plan
from osml.predictors.chain import Chain
from osml.predictors.network import EncoderRecord, FittedNetwork
from osml.predictors.network_inputs import ImageSource
from osml.predictors.tabular import Reader, Tabular, reader_of
from osml.schema.images import VolumeInput
from osml.schema.model import Schema

if TYPE_CHECKING:
    from osml.nets.encoders import Encoder

Pixels = NDArray[np.uint8]
PICTURES = 2
TOLERANCE = 1e-3  # of a vector's length: kernels and resizing differ a little between machines
ENLARGED = 1.5  # made-up pictures are larger than the encoder's input, so that resizing is checked, too


@dataclass(frozen=True)
class NetworkImage:
    """One image input of one network or tabular learner.

    source : how the predictor calls and stores it; its key counts, which may rest on a path that the bundle has not
    plan : as the bundle's schema states it
    predictor : that looks at it; network : the same, of which a trained encoder is part
    """

    source: ImageSource
    plan: ImagePlan
    record: EncoderRecord
    predictor: str
    network: FittedNetwork | None = None

    @property
    def frozen(self) -> bool:
        """Whether vectors of a frozen encoder are read, rather than pictures."""
        return self.source.width is not None

    @property
    def identity(self) -> str:
        """Of the frozen encoder: weights and settings."""
        return json.dumps([self.record.weights, self.record.settings], sort_keys=True)


def network_images(schema: Schema, chain: Chain) -> tuple[NetworkImage, ...]:
    """What the predictors of a chain look at, each kind of vector once."""
    found: dict[str, NetworkImage] = {}
    for predictor, reader in readers_of(chain).items():
        network = reader if isinstance(reader, FittedNetwork) else None
        for name, source in reader.images.items():
            plan = image_plan(schema, predictor, name)
            found.setdefault(source.key, NetworkImage(source, plan, reader.encoders[name], predictor, network))
    return tuple(found.values())


def readers_of(chain: Chain) -> dict[str, Reader]:
    """The predictors of a chain that look at images or radiomics themselves, its own first, and at which."""
    own = reader_of(chain.fitted)
    out: dict[str, Reader] = {} if own is None else {chain.name: own}
    for link in chain.upstream:
        out |= {name: reader for name, reader in readers_of(link).items() if name not in out}
    return out


def tabular_of(chain: Chain) -> tuple[Tabular, ...]:
    """The tabular learners of a chain, its own first."""
    own = (chain.fitted,) if isinstance(chain.fitted, Tabular) else ()
    out = [*own, *(fitted for link in chain.upstream for fitted in tabular_of(link))]
    return tuple({fitted.name: fitted for fitted in out}.values())


def networks_of(chain: Chain) -> tuple[FittedNetwork, ...]:
    """The networks of a chain, its own first."""
    own = (chain.fitted,) if isinstance(chain.fitted, FittedNetwork) else ()
    out = [*own, *(network for link in chain.upstream for network in networks_of(link))]
    return tuple({id(network): network for network in out}.values())


@dataclass
class EncoderShelf:
    """Encoders of a loaded bundle, shared by the threads of a server.

    expected : identity of a frozen encoder → its vectors of the made-up pictures
    """

    expected: Mapping[str, Sequence[Sequence[float]] | None] = field(default_factory=dict)
    built: dict[str, Encoder] = field(default_factory=dict)
    _lock: Any = field(default_factory=Lock, repr=False)

    def of(self, image: NetworkImage) -> Encoder:
        """The encoder of an image; a frozen one is built and checked when it is first asked for.

        Raises
        ------
        WeightsError
            Its weights are not on this machine.
        VerificationError
            It gives other vectors than when the bundle was made.
        """
        if not image.frozen:
            return _trained(image)
        from osml.nets.encoders import EncoderSettings, rebuild_encoder
        from osml.nets.weights import WeightsRecord

        with self._lock:
            encoder = self.built.get(image.identity)
            if encoder is None:
                record = WeightsRecord(**image.record.weights)
                encoder = rebuild_encoder(record, EncoderSettings(**image.record.settings))
                check_vectors(image.source.name, encoder, self.expected.get(image.identity))
                self.built[image.identity] = encoder
            return encoder


def check_vectors(name: str, encoder: Encoder, expected: Sequence[Sequence[float]] | None) -> None:
    """Refuse an encoder whose vectors of the made-up pictures are not those of the bundle."""
    if not expected:
        raise VerificationError(
            f"the bundle does not say what the encoder of {name!r} gives", do="Make the bundle again from its run."
        )
    found, stored = encoder_vectors(encoder), np.asarray(expected, dtype=np.float64)
    gap = float("inf")
    if stored.shape == found.shape:
        gap = float(np.max(np.linalg.norm(found - stored, axis=1) / np.linalg.norm(stored, axis=1).clip(1e-12)))
    if not gap <= TOLERANCE:
        raise VerificationError(
            f"the encoder of {name!r} does not give the vectors that the bundle was made with: they differ by "
            f"{gap:.2g} of their length, {TOLERANCE:g} is allowed",
            why="Another version of torch, timm or Pillow computes something else; so would every prediction.",
            do="Use the versions that the bundle was made with, or make it again from its run.",
        )


def encoder_vectors(encoder: Encoder) -> NDArray[np.float64]:
    """Vectors of the made-up pictures, (PICTURES, width), on the CPU."""
    import torch

    from osml.nets.images import fit

    side = round(encoder.size * ENLARGED)
    small = [fit(made_picture(k, side), encoder.size, encoder.interpolation) for k in range(PICTURES)]
    pictures = torch.tensor(np.stack(small)).permute(0, 3, 1, 2)
    encoder = encoder.cpu()
    with torch.inference_mode():
        return encoder(pictures).double().numpy()


def made_picture(number: int, side: int) -> Pixels:
    """A picture (side, side, 3) that is the same everywhere: blocks of colours from raw random bits, and a gradient."""
    blocks = 8 + number
    colours = (raw_uniform(1000 + number, blocks * blocks * 3) * 256).astype(np.uint8).reshape(blocks, blocks, 3)
    place = np.arange(side) * blocks // side
    slope = (np.arange(side) * 64 // side).astype(np.int64)
    mixed = colours[place][:, place].astype(np.int64) * 3 // 4 + slope[:, None, None] * (1 + number % 2) // 2
    return mixed.clip(0, 255).astype(np.uint8)


def raw_uniform(seed: int, n: int) -> NDArray[np.float64]:
    """Numbers from 0 to 1 from the bits of PCG64, which no version of numpy changes."""
    bits = np.random.PCG64(seed).random_raw(n)
    return np.asarray(bits >> np.uint64(11), dtype=np.float64) * 2.0**-53


def picture_files(schema: Schema, name: str, paths: Sequence[Path], mask: Path | None, cache: Path) -> list[Path]:
    """The picture files of one unit's images: as they are, or drawn of DICOM and volumes into `cache`."""
    from osml.features.pictures import radiograph_picture, volume_pictures

    block = schema.inputs[name]
    if not isinstance(block, VolumeInput):
        return [radiograph_picture(path, cache) for path in paths]
    assert block.mask is not None
    assert mask is not None
    return [drawn for path in paths for drawn in volume_pictures(path, mask, block.mask, cache)]


def empty_images(image: NetworkImage, encoder: Encoder | None = None) -> ImageTable:
    """No image of anybody."""
    none = np.empty(0, dtype=np.intp)
    if image.source.width is not None:
        views = image.plan.embedding().for_prediction().views
        return ImageTable(np.empty((0, views, image.source.width), dtype=np.float32), none, none)
    from osml.nets.images import stored_size

    size = stored_size((encoder or _trained(image)).size)
    return ImageTable(np.empty((0, 3, size, size), dtype=np.uint8), none, none)


def _trained(image: NetworkImage) -> Encoder:
    assert image.network is not None
    return image.network.built_encoders[image.source.name]


def read_pictures(image: NetworkImage, encoder: Encoder, files: Sequence[Path], owner: Sequence[int]) -> ImageTable:
    """What a network reads of picture files that were made by this process; nothing is kept.

    owner : unit of each file, not decreasing
    """
    if not files:
        return empty_images(image, encoder)
    from osml.nets.device import choose_device
    from osml.nets.embeddings import embed_images
    from osml.nets.images import stack_images, stored_size

    if image.frozen:
        found = embed_images(files, encoder, image.plan.embedding().for_prediction(), device=choose_device())
        values: NDArray[Any] = found.values
        failures = found.failures
    else:
        stack = stack_images(files, stored_size(encoder.size), interpolation=encoder.interpolation)
        values, failures = stack.pixels.numpy(), stack.failures
    assert not failures, failures
    return ImageTable(values, np.arange(len(files), dtype=np.intp), np.asarray(owner, dtype=np.intp))
