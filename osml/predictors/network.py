"""Predictor `network`: encoders, branches, fusion and head from independent seeds, and risks from their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.errors import RunError
from osml.files import read_json, write_json
from osml.nets.recipe import NetworkRecipe, network_recipe, recipe_to_json
from osml.predictors.contract import Design, Flag, Prediction
from osml.predictors.network_inputs import (
    ImageSource,
    Source,
    TableSource,
    beyond,
    presence,
    source_from_json,
    source_to_json,
    stores,
)
from osml.stats.tree import LabelTree

if TYPE_CHECKING:
    from osml.nets.encoders import Encoder
    from osml.nets.network import Network
    from osml.schema.model import Schema

Float = NDArray[np.float64]
FORMAT = 1
TargetKind = Literal["binary", "classes", "survival"]


@dataclass(frozen=True)
class EncoderRecord:
    """How an encoder is found and built again.

    settings, embedding : fields of `EncoderSettings` and `EmbeddingSettings`; embedding None for a trained encoder
    weights : fields of `WeightsRecord`
    """

    settings: Mapping[str, Any]
    embedding: Mapping[str, Any] | None
    weights: Mapping[str, Any]


def encoder_record(schema: Schema, predictor: str, image: str) -> EncoderRecord:
    """Of the encoder through which a predictor looks at an image input."""
    from osml.features.images import image_plan
    from osml.nets.weights import find_weights

    plan = image_plan(schema, predictor, image)
    settings = plan.settings()
    weights = find_weights(settings.timm_name, settings.weights).record
    facts = {**asdict(settings), "weights": None}  # found again by its hash, not by a path
    return EncoderRecord(facts, asdict(plan.embedding()) if plan.frozen else None, weights.as_json())


@dataclass(frozen=True)
class Calibration:
    """From mean outputs of the seeds to probabilities.

    kind : platt (binary), temperature (classes), slope (survival), or none
    values : intercept and slope; one temperature per decision; the slope of the log hazard
    offset : binary: added to the log odds; classes: added to the logits of the nodes behind the division, (nodes,).
        Training weighs classes as if they were equally frequent; this leads back to their shares among training units
    restated : classes: the offset is left out, so that probabilities hold for equal class shares: of a sample that was
        chosen by class, its own shares say nothing
    prevalence : binary: added to the log odds, from the sample's share of events to a population's
    reason : why it is none
    """

    kind: Literal["platt", "temperature", "slope", "none"]
    values: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    restated: bool = False
    prevalence: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Sets:
    """Conformal prediction sets: a class is in the set where its probability reaches 1 - threshold."""

    thresholds: tuple[float, ...]
    miss: float
    patients: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """A class of too few patients has no threshold and is in every set: infinity, which JSON writes as null."""
        return asdict(self) | {"thresholds": [t if np.isfinite(t) else None for t in self.thresholds]}


@dataclass(frozen=True)
class FittedNetwork:
    """A fitted network predictor.

    columns : the event, horizons, or every node of the tree
    tree : of the outcome; None for survival
    recipes : one per seed; they differ in nothing but trained tensors
    baseline : survival by Cox's head: cumulative hazard at each horizon for a log hazard of 0
    epochs : how many were trained, by seed
    share : binary: of the event among the training units
    centres : Cox: mean log hazard of each seed's network over its training units, which is taken away: the partial
        likelihood leaves it open, so it differs between networks and means nothing
    history, search : how training went, and every trial of a search of settings; never of a bundle
    """

    name: str
    target: TargetKind
    columns: tuple[str, ...]
    tree: LabelTree | None
    horizons: tuple[float, ...]
    time_unit: str
    sources: tuple[Source, ...]
    encoders: Mapping[str, EncoderRecord]
    recipe: NetworkRecipe
    networks: tuple[Network, ...]
    calibration: Calibration
    baseline: tuple[float, ...] = ()
    sets: Sets | None = None
    epochs: tuple[int, ...] = ()
    share: float | None = None
    centres: tuple[float, ...] = ()
    history: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    search: Mapping[str, Any] | None = None

    def outputs(self, design: Design) -> tuple[Float, Float | None]:
        """Outputs of each seed (seeds, n, outputs), and the mean gate weights (n, modalities)."""
        from osml.nets.device import choose_device
        from osml.nets.train import predict

        device = choose_device()
        built = self.built_encoders
        source = stores(self.sources, design.cohort, built, device)
        found = [predict(n, source, np.arange(len(design.cohort)), device=device, bf16=False) for n in self.networks]
        gates = [f.weights for f in found if f.weights is not None]
        centres = self.centres or (0.0,) * len(found)
        each = np.stack([f.outputs - centre for f, centre in zip(found, centres, strict=True)])
        return each, np.mean(gates, axis=0) if gates else None

    @cached_property
    def built_encoders(self) -> Mapping[str, Encoder]:
        """Trained encoders by input: those of the first network, for their picture size; frozen ones are not here."""
        network = self.networks[0]
        out = {}
        for k, modality in enumerate(network.recipe.modalities):
            if modality.kind == "image":
                out[modality.name] = network.encoders[str(k)]
        return out  # type: ignore[return-value]

    def predict(self, design: Design) -> Prediction:
        """Probabilities of every unit; each row depends on itself alone.

        Extras: `gate:<modality>`, `present:<input>`, `seed<k>:<column>`, and with prediction sets `set:<class>`.
        """
        from osml.predictors.network_outputs import risks

        cohort = design.cohort
        each, gates = self.outputs(design)
        p, lp = risks(self, each.mean(axis=0))
        here = presence(self.sources, cohort)
        extras: dict[str, Float] = {f"present:{name}": x.astype(np.float64) for name, x in here.items()}
        if gates is not None:
            extras |= {f"gate:{name}": gates[:, k] for k, name in enumerate(self.recipe.names)}
        if len(each) > 1:
            for k, one in enumerate(each):
                alone, _ = risks(self, one)
                extras |= {f"seed{k}:{column}": alone[:, j] for j, column in enumerate(self.columns)}
        flags = [Flag(cohort.units[i], name, "missing") for name, x in here.items() for i in np.flatnonzero(~x)]
        for source in self.sources:
            if isinstance(source, TableSource):
                flags += [Flag(cohort.units[i], name, "extrapolated", z) for i, name, z in beyond(source, cohort)]
        if self.sets is not None:
            # Thresholds were learnt at the sample's share of events; within a class another share changes no rank.
            here_p, _ = risks(self.at_own_share(), each.mean(axis=0))
            classes, inside = self.prediction_sets(here_p)
            extras |= {f"set:{name}": inside[:, j].astype(np.float64) for j, name in enumerate(classes)}
        return Prediction(cohort.units, cohort.patients, self.columns, p, lp, flags=tuple(flags), extras=extras)

    def class_probabilities(self, p: Float) -> tuple[tuple[str, ...], Float]:
        """Names and probabilities of exclusive classes, rows sum to 1, from the columns of a prediction."""
        assert self.tree is not None
        if self.target == "binary":
            return self.tree.leaves, np.column_stack([1 - p[:, 0], p[:, 0]])
        return self.tree.leaves, p[:, [self.columns.index(name) for name in self.tree.leaves]]

    def prediction_sets(self, p: Float) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
        """Classes, and which of them each unit's prediction set holds."""
        assert self.sets is not None
        classes, own = self.class_probabilities(p)
        return classes, 1.0 - own <= np.array(self.sets.thresholds) + 1e-12

    def at_own_share(self) -> FittedNetwork:
        """Without the move to another prevalence."""
        return replace(self, calibration=replace(self.calibration, prevalence=0.0))

    @property
    def images(self) -> dict[str, ImageSource]:
        """Image inputs by name."""
        return {source.name: source for source in self.sources if isinstance(source, ImageSource)}

    @property
    def radiomics(self) -> dict[str, tuple[str, ...]]:
        """Radiomics inputs and the features that are read."""
        return {s.name: s.features for s in self.sources if isinstance(s, TableSource) and s.kind == "radiomics"}

    def with_prevalence(self, prevalence: float) -> FittedNetwork:
        """Binary: the log odds moved from the sample's share of events to a population's (King & Zeng)."""
        from osml.stats.sampling import correct_intercept

        assert self.share is not None
        moved = correct_intercept(0.0, self.share, prevalence)
        return replace(self, calibration=replace(self.calibration, prevalence=moved))

    def save(self, folder: Path) -> None:
        """model.json, and per seed network.json and network.safetensors; equal models give equal bytes."""
        from osml.nets.checkpoint import save_network

        write_json(folder / "model.json", self.to_dict())
        for k, network in enumerate(self.networks):
            save_network(folder / f"seed-{k}", network)

    def to_dict(self) -> dict[str, Any]:
        """JSON form without tensors."""
        return {
            "format": FORMAT,
            "kind": "network",
            "name": self.name,
            "target": self.target,
            "columns": list(self.columns),
            "tree": None if self.tree is None else asdict(self.tree),
            "horizons": list(self.horizons),
            "time_unit": self.time_unit,
            "sources": [source_to_json(source) for source in self.sources],
            "encoders": {name: asdict(record) for name, record in self.encoders.items()},
            "recipe": recipe_to_json(self.recipe),
            "seeds": len(self.networks),
            "calibration": asdict(self.calibration),
            "baseline": list(self.baseline),
            "sets": None if self.sets is None else self.sets.as_json(),
            "epochs": list(self.epochs),
            "share": self.share,
            "centres": list(self.centres),
        }

    def record(self) -> dict[str, Any]:
        """How training went: for the run's folder, never for a bundle."""
        searched = {} if self.search is None else {"search": dict(self.search)}
        return {"epochs": list(self.epochs), "history": [dict(h) for h in self.history], **searched}


def load_network_predictor(folder: Path) -> FittedNetwork:
    """Inverse of `FittedNetwork.save`; trained encoders are built from the weights that they started from."""
    from osml.nets.checkpoint import load_network
    from osml.nets.encoders import EncoderSettings, rebuild_encoder
    from osml.nets.weights import WeightsRecord

    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT or data.get("kind") != "network":
        raise RunError(f"{folder / 'model.json'} is not a network that this osml reads", do="Update osml.")
    records = {name: EncoderRecord(**record) for name, record in data["encoders"].items()}
    recipe = network_recipe(data["recipe"])
    trained = [m.name for m in recipe.modalities if m.kind == "image"]
    networks = []
    for k in range(data["seeds"]):
        encoders = {
            name: rebuild_encoder(WeightsRecord(**records[name].weights), EncoderSettings(**records[name].settings))
            for name in trained
        }
        networks.append(load_network(folder / f"seed-{k}", encoders))
    tree, calibration, sets = data["tree"], data["calibration"], data["sets"]
    return FittedNetwork(
        name=data["name"],
        target=data["target"],
        columns=tuple(data["columns"]),
        tree=None if tree is None else LabelTree(tuple(tree["nodes"]), tuple(tree["parents"])),
        horizons=tuple(data["horizons"]),
        time_unit=data["time_unit"],
        sources=tuple(source_from_json(source) for source in data["sources"]),
        encoders=records,
        recipe=recipe,
        networks=tuple(networks),
        calibration=Calibration(
            calibration["kind"],
            tuple(calibration["values"]),
            tuple(calibration["offset"]),
            calibration["restated"],
            calibration["prevalence"],
            calibration["reason"],
        ),
        baseline=tuple(data["baseline"]),
        sets=None
        if sets is None
        else Sets(tuple(np.inf if t is None else t for t in sets["thresholds"]), sets["miss"], tuple(sets["patients"])),
        epochs=tuple(data["epochs"]),
        share=data["share"],
        centres=tuple(data["centres"]),
    )
