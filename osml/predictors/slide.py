"""A fitted slide predictor: tiles to probabilities, probabilities to maps, maps refined; stored without pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from osml.cache import content_key
from osml.errors import InvalidInputError, VerificationError
from osml.evaluation.huvos import DetectionLimit
from osml.files import atomic_write, read_json, sha256_file, write_json
from osml.nets.encoders import Encoder, rebuild_encoder
from osml.nets.lora import load_lora
from osml.nets.refine import load_refiner, save_refiner
from osml.nets.refine_maps import Refiner
from osml.nets.weights import WeightsRecord, find_weights
from osml.predictors.slide_head import Head, head_logits, make_head, softmax
from osml.predictors.slide_maps import coarse_map, keep_glass
from osml.predictors.slide_prepare import PreparedSlide, slide_of
from osml.predictors.slide_recipe import SlideCase, SlideEncoder, SlideRecipe, recipe_facts, recipe_of
from osml.predictors.slide_vectors import tile_vectors

__all__ = ["FittedSlide", "SlideCase", "SlideEncoder", "SlideRecipe", "assemble", "load_slide", "tile_probabilities"]
FACTS, TENSORS, FORMAT = "slide.json", "slide.safetensors", 1
_NO_LIMIT = DetectionLimit(None, 0.9, 0, 0, "not measured")


@dataclass(frozen=True, eq=False)
class FittedSlide:
    """A patch classifier and a refiner.

    recipe : what was fitted
    weights : of the encoder
    head : vectors to logits; temperature divides them
    tuned : trained tensors of the encoder; empty where it is frozen
    refiner : None only inside of fitting
    limit : from which area viable foci are found reliably, on held-out maps; put in by `with_limit`
    facts : counts and inner figures of training
    """

    recipe: SlideRecipe
    weights: WeightsRecord
    head: Head
    tuned: Mapping[str, Tensor]
    temperature: float
    refiner: Refiner | None
    facts: Mapping[str, Any]
    seed: int
    limit: DetectionLimit = _NO_LIMIT
    _built: dict[str, Encoder] = field(default_factory=dict, repr=False)

    def coarse(self, prepared: PreparedSlide, *, device: str = "cpu", out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The classifier's map of a slide, float32 (C, h, w) on its frame; cells of glass are background.

        Parameters
        ----------
        out : takes the result; may lie on disk
        """
        p = tile_probabilities(self, prepared, device=device)
        if out is None:
            out = np.empty((len(self.recipe.classes), *prepared.frame.shape), dtype=np.float32)
        return coarse_map(prepared.frame, prepared.grid, prepared.tiles, p, prepared.tissue, out)

    def refined(
        self, prepared: PreparedSlide, *, device: str = "cpu", coarse: NDArray[Any] | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """The refined map, float32 (C, h, w); `coarse` where it is there already."""
        assert self.refiner is not None
        coarse = self.coarse(prepared, device=device) if coarse is None else coarse
        refined = self.refiner.refine(coarse, prepared.picture, out=out, device=device)
        return keep_glass(refined, prepared.tissue)

    def encoder(self) -> Encoder:
        """The encoder, on the CPU when it is first built; the very weights that were trained with."""
        if "encoder" not in self._built:
            settings = self.recipe.encoder.settings()
            encoder = rebuild_encoder(self.weights, settings)
            if settings.tune == "lora":
                with torch.no_grad():
                    load_lora(encoder.backbone, self.tuned)
            elif settings.tune == "full":
                encoder.load_state_dict(dict(self.tuned))
            self._built["encoder"] = encoder.eval().requires_grad_(False)
        return self._built["encoder"]

    def with_limit(self, limit: DetectionLimit) -> FittedSlide:
        """The same with a detection limit that was measured on held-out maps (`osml.evaluation.huvos`)."""
        return replace(self, limit=limit)

    @cached_property
    def identity(self) -> str:
        """Hash of all that decides its maps."""
        with TemporaryDirectory() as folder:
            self.save(Path(folder))
            return content_key(sha256_file(path) for path in sorted(Path(folder).iterdir()))

    def record(self) -> dict[str, Any]:
        """Facts for a report: nothing of a patient."""
        assert self.refiner is not None
        return {
            "classes": list(self.recipe.names), "encoder": self.weights.as_json(), "tune": self.recipe.encoder.tune,
            "size_um": self.recipe.size_um, "stride_um": self.recipe.stride_um, "cell_um": self.recipe.cell_um,
            "refine": self.recipe.refine, "refiner": self.refiner.kind, "temperature": self.temperature,
            "viable": list(self.recipe.viable), "necrotic": list(self.recipe.necrotic), "limit": asdict(self.limit),
            **self.facts,
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `slide.json`, `slide.safetensors` and the refiner's files; equal predictors, equal bytes."""
        assert self.refiner is not None
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        tensors |= {f"encoder.{name}": value for name, value in self.tuned.items()}
        raw = save_tensors({name: value.contiguous() for name, value in sorted(tensors.items())})
        atomic_write(folder / TENSORS, raw)
        save_refiner(folder, self.refiner)
        facts = {
            "format": FORMAT, "recipe": recipe_facts(self.recipe), "weights": self.weights.as_json(),
            "temperature": self.temperature, "facts": dict(self.facts), "seed": self.seed, "limit": asdict(self.limit),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }  # fmt: skip
        write_json(folder / FACTS, facts)


def load_slide(folder: Path) -> FittedSlide:
    """What `FittedSlide.save` wrote; the encoder is looked for when it is first used.

    Raises
    ------
    VerificationError
        A file is missing, changed, or of a newer format.
    """
    if not (folder / FACTS).is_file():
        raise VerificationError(f"{folder} holds no slide predictor: {FACTS} is missing")
    facts = read_json(folder / FACTS)
    if facts["format"] != FORMAT:
        raise VerificationError(
            f"{folder / FACTS} has format {facts['format']}; this osml reads {FORMAT}", do="Update osml."
        )
    path = folder / TENSORS
    raw = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != facts["sha256"]:
        raise VerificationError(f"{path} is not the file that was written: its SHA-256 differs, or it is missing")
    try:
        tensors = load_tensors(raw)
    except SafetensorError as error:
        raise VerificationError(f"{path} is no safetensors file: {error}") from error
    made = assemble(
        recipe_of(facts["recipe"]), tensors, facts["temperature"], load_refiner(folder), facts["facts"], facts["seed"],
        weights=WeightsRecord(**facts["weights"]),
    )  # fmt: skip
    return made.with_limit(DetectionLimit(**facts["limit"]))


def assemble(
    recipe: SlideRecipe, tensors: Mapping[str, Tensor], heat: float, refiner: Refiner | None, facts: Mapping[str, Any],
    seed: int, *, weights: WeightsRecord | None = None,
) -> FittedSlide:  # fmt: skip
    """A predictor from its tensors (`head.…`, `encoder.…`)."""
    own = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    tuned = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    with torch.random.fork_rng(devices=[]):
        head = make_head(recipe, len(own["mean"]))
    head.load_state_dict(own)
    if weights is None:
        settings = recipe.encoder.settings()
        weights = find_weights(settings.timm_name, settings.weights).record
    return FittedSlide(recipe, weights, head.eval().requires_grad_(False), tuned, heat, refiner, facts, seed)


def tile_probabilities(fitted: FittedSlide, prepared: PreparedSlide, *, device: str) -> NDArray[np.float32]:
    """Probabilities of the slide's tiles, (n, C), in the order of `prepared.tiles`.

    Raises
    ------
    InvalidInputError
        The slide was prepared with another encoder.
    """
    width = len(fitted.head.mean)
    if fitted.recipe.encoder.tune == "frozen":
        vectors = prepared.vectors[:, 0]
        if vectors.shape[1] != width:
            raise InvalidInputError(
                f"{prepared.case.slide} was prepared with vectors of {vectors.shape[1]}; this predictor takes {width}"
            )
        return softmax(head_logits(fitted.head, vectors), fitted.temperature)
    out = np.zeros((len(prepared.tiles), len(fitted.recipe.classes)), dtype=np.float32)
    encoder = fitted.encoder()
    with slide_of(prepared) as slide:
        for batch in tile_vectors(slide, prepared.grid, prepared.tiles, encoder, device=device):
            p = softmax(head_logits(fitted.head, batch.values[:, 0]), fitted.temperature)
            out[np.searchsorted(prepared.tiles, batch.tiles)] = p
    return out
