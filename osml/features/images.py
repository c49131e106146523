"""What predictors read of a cohort's images: vectors of a frozen encoder, or decoded pictures for one that is trained.

Label-free and of one image at a time, so it is computed before any split; cached by content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, ImageTable
from osml.features import NO_PATH, Unusable, digest_of_image
from osml.features.vectors import VectorWork, fill_cache
from osml.schema.images import ImageInput, VolumeInput
from osml.schema.model import FileInput, Schema
from osml.schema.networks import EncoderBlock, NetworkPredictor

if TYPE_CHECKING:
    from osml.nets.embeddings import EmbeddingSettings
    from osml.nets.encoders import Encoder, EncoderSettings

# Chosen on synthetic cohorts and on slide-grouped folds under shifted stains, never on a left-out patient: texture of
# tissue lives in the middle layers of a network that was made for photographs. See docs/networks.md.
TEXTURE_LAYERS, TEXTURE_SIZE, TEXTURE_STAIN = ("blocks.3", "blocks.4"), 448, 2
Paths = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class ImagePlan:
    """How one image input enters a predictor: by which encoder, and whether its pictures turn."""

    input: str
    encoder: EncoderBlock
    orientation: str

    @property
    def key(self) -> str:
        """Name of the table in `Cohort.images`: the input and all that decides its values."""
        facts = json.dumps([self.encoder.model_dump(mode="json"), self.orientation], sort_keys=True)
        return f"{self.input}@{hashlib.sha256(facts.encode()).hexdigest()[:12]}"

    @property
    def frozen(self) -> bool:
        """Whether vectors are computed once; else the pictures themselves are kept."""
        return self.encoder.tune == "frozen"

    def settings(self) -> EncoderSettings:
        """As `osml.nets` takes them."""
        from osml.nets.encoders import EncoderSettings

        block = self.encoder
        layers = block.layers if isinstance(block.layers, tuple) else ()
        return EncoderSettings(block.model, block.weights, block.tune, block.size, block.rank, layers=layers)

    def embedding(self) -> EmbeddingSettings:
        """As `osml.nets` takes them."""
        from osml.nets.embeddings import EmbeddingSettings

        orientation: Literal["free", "fixed"] = "free" if self.orientation == "free" else "fixed"
        return EmbeddingSettings(self.encoder.scale, orientation, self.encoder.stain or 0)


@dataclass(frozen=True)
class Images:
    """Images of units.

    tables : plan's key → what networks read
    unusable : why a unit has none although a path is given; a unit without a path is no fault, it lacks the image
    hashes : path as given → SHA-256
    """

    tables: dict[str, ImageTable]
    unusable: tuple[Unusable, ...]
    hashes: dict[str, str]


def image_plan(schema: Schema, predictor: str, name: str) -> ImagePlan:
    """The plan of an image or volume input in a predictor: a network names its encoder, others take the default."""
    source = schema.inputs[name]
    free = isinstance(source, ImageInput) and source.orientation == "free"
    block = schema.predictors[predictor]
    encoder = EncoderBlock()
    if isinstance(block, NetworkPredictor):
        encoder = block.encoders.get(name, encoder)
    plain = encoder.layers is None and encoder.scale == "resize" and encoder.model == "default"
    if free and plain and encoder.tune == "frozen":
        size = TEXTURE_SIZE if encoder.size is None else encoder.size
        stain = TEXTURE_STAIN if encoder.stain is None else encoder.stain
        encoder = encoder.model_copy(update={"layers": TEXTURE_LAYERS, "size": size, "stain": stain})
    return ImagePlan(name, encoder, "free" if free else "fixed")


def image_plans(schema: Schema, predictors: Collection[str] | None = None) -> dict[str, ImagePlan]:
    """Plans of all images that these predictors (default: all) and those that feed them look at, by their keys."""
    out: dict[str, ImagePlan] = {}
    for name in schema.lineage(schema.predictors if predictors is None else predictors):
        for item in schema.predictors[name].inputs:
            if isinstance(schema.inputs.get(item), FileInput):
                plan = image_plan(schema, name, item)
                out[plan.key] = plan
    return out


def compute_images(
    schema: Schema,
    plans: Collection[ImagePlan],
    units: Sequence[str],
    paths: Paths,
    masks: Mapping[str, Sequence[str]],
    root: Path,
    *,
    cache: Path | None = None,
    device: str = "cpu",
    quiet: bool = True,
    keep: bool = True,
    training: bool = True,
    encoders: dict[str, Encoder] | None = None,
) -> Images:
    """What networks read of every unit.

    Parameters
    ----------
    units : names, for messages
    paths : image input → paths of each unit; relative ones start at `root`
    masks : volume input → path of each unit's mask
    device : where encoders run
    keep : the arrays lie in files of the cache, which workers read; else they are in memory
    training : with the copies that only training draws from
    encoders : already built, by the plan's key; those that are built here are added
    """
    from osml.cache import default_folder
    from osml.engine import Progress
    from osml.nets.embeddings import embed_images
    from osml.nets.encoders import build_encoder
    from osml.nets.images import stack_images, stored_size

    folder = cache or default_folder()
    built = {} if encoders is None else encoders
    tables: dict[str, ImageTable] = {}
    lost: list[Unusable] = []
    hashes: dict[str, str] = {}
    for plan in plans:
        pictures, names, owner, gone = _pictures(schema, plan.input, units, paths[plan.input], masks, root, folder)
        lost += [one for one in gone if one not in lost]
        progress = Progress(plan.input, len(pictures), quiet=quiet)
        if plan.key not in built:
            built[plan.key] = build_encoder(plan.settings())
        encoder = built[plan.key]
        if plan.frozen:
            settings = plan.embedding() if training else plan.embedding().for_prediction()
            fill_cache(pictures, VectorWork(plan.settings(), settings, folder, device), label=plan.input, quiet=quiet)
            found = embed_images(pictures, encoder, settings, cache=folder, device=device, progress=progress)
            values, failures, digests = found.values, found.failures, found.hashes
        else:
            stack = stack_images(
                pictures, stored_size(encoder.size), interpolation=encoder.interpolation, cache=folder,
                progress=progress,
            )  # fmt: skip
            values, failures, digests = stack.pixels.numpy(), stack.failures, stack.hashes
        bad = {failure.index for failure in failures}
        for failure in failures:
            row = int(owner[failure.index])
            one = Unusable(row, plan.input, failure.reason, f"{units[row]}: {failure.detail}")
            lost += [one] if one not in lost else []  # a second plan reads the same files
        hashes |= {name: digest for name, digest in zip(names, digests, strict=True) if digest is not None}
        if isinstance(schema.inputs[plan.input], VolumeInput):  # drawings depend on masks; patients may share the image
            drawn = {paths[plan.input][i][0] for i in set(owner.tolist())}
            hashes |= {path: digest_of_image(root / path) for path in drawn}
        good = np.array([k for k in range(len(pictures)) if k not in bad], dtype=np.intp)
        stored = _stored(folder, plan, [digests[k] or "" for k in good], values[good]) if keep else values[good]
        tables[plan.key] = ImageTable(stored, np.arange(len(good), dtype=np.intp), owner[good])
    return Images(tables, tuple(lost), hashes)


def with_images(cohort: Cohort, images: Images) -> Cohort:
    """The cohort with what networks read attached; units in `unusable` still to be excluded."""
    return replace(cohort, images=images.tables)


def _pictures(
    schema: Schema,
    name: str,
    units: Sequence[str],
    paths: Sequence[Sequence[str]],
    masks: Mapping[str, Sequence[str]],
    root: Path,
    cache: Path,
) -> tuple[list[Path], list[str], NDArray[np.intp], list[Unusable]]:
    """Picture files of all units, their names in the table, the unit of each, and units whose files cannot be drawn."""
    from osml.features.pictures import radiograph_picture, volume_pictures
    from osml.imaging.errors import ImagingError

    source = schema.inputs[name]
    assert isinstance(source, FileInput)
    out: list[Path] = []
    names: list[str] = []
    owner: list[int] = []
    lost: list[Unusable] = []
    for i, given in enumerate(paths):
        for path in given:
            try:
                if isinstance(source, ImageInput):
                    found: tuple[Path, ...] = (radiograph_picture(root / path, cache),)
                elif source.mask is None or not masks[name][i]:
                    lost.append(Unusable(i, name, NO_PATH, f"{units[i]}: {name}: no path of its mask is given"))
                    continue
                else:
                    found = volume_pictures(root / path, root / masks[name][i], source.mask, cache)
            except ImagingError as error:
                lost.append(Unusable(i, name, error.reason, f"{units[i]}: {error.what}"))
                continue
            out += found
            names += [path] if len(found) == 1 else [f"{path} {k}" for k in range(len(found))]
            owner += [i] * len(found)
    return out, names, np.array(owner, dtype=np.intp), lost


def _stored(folder: Path, plan: ImagePlan, digests: Sequence[str], values: NDArray[Any]) -> Path:
    """The array in a file that is named by what it holds."""
    sink = hashlib.sha256(json.dumps([plan.key, values.shape[1:], list(digests)]).encode())
    sink.update(np.ascontiguousarray(values[:1]).tobytes())
    path = folder / "networks" / f"{sink.hexdigest()}.npy"
    # A header of a multiple of 64 bytes stands before the values; a file that was cut is written anew.
    header = path.stat().st_size - values.nbytes if path.is_file() else 0
    if header > 0 and header % 64 == 0:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.npy")  # large: written as it lies, not copied first
    np.save(part, values, allow_pickle=False)
    part.replace(path)
    return path
