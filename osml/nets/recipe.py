"""What a network is and how it is trained, as plain facts: no tensor and no torch in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from osml.errors import InvalidInputError
from osml.stats.tree import LabelTree

ModalityKind = Literal["image", "embedding", "tabular", "radiomics"]
Reduce = Literal["mean", "max", "attention"]
Fusion = Literal["concat", "gated", "film"]
HEAD_HIDDEN = 512


@dataclass(frozen=True)
class Modality:
    """One input of the network.

    name : its name in the schema
    kind : "image" (an encoder module is passed in), "embedding" (vectors of a frozen encoder), "tabular" or "radiomics"
    width : length of the vector: the encoder's output, the embedding, or the encoded columns
    reduce : how several images of one row become one vector; attention is Ilse et al. 2018 (arXiv:1802.04712)
    start : tabular and radiomics: value that a missing column starts from, (width,); see `TabularCode.start`
    indicators : tabular and radiomics: columns of each input that was missing in training, one indicator each
    centre, spread : embedding: mean and SD of each number among the training pictures, (width,), for z-scores that are
        drawn in to ±6; none: as they are
    """

    name: str
    kind: ModalityKind
    width: int
    reduce: Reduce = "mean"
    start: tuple[float, ...] = ()
    indicators: tuple[tuple[int, ...], ...] = ()
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.centre) != len(self.spread) or len(self.centre) not in (0, self.width):
            raise InvalidInputError(f"modality {self.name!r} of width {self.width} has {len(self.centre)} means")
        if self.width < 1:
            raise InvalidInputError(f"modality {self.name!r} has width {self.width}")
        columns = self.kind in ("tabular", "radiomics")
        if len(self.start) != (self.width if columns else 0):
            raise InvalidInputError(f"modality {self.name!r} of width {self.width} has {len(self.start)} start values")


@dataclass(frozen=True)
class ClassTarget:
    """Classes in a tree; flat and binary targets are trees of depth one.

    node_weights : "fixed" (1 each) or "uncertainty" (learned, see `losses.NodeWeights`)
    eta : the constant of the uncertainty weights; it only rescales the loss
    """

    tree: LabelTree
    node_weights: Literal["fixed", "uncertainty"] = "fixed"
    eta: float = 0.5

    def __post_init__(self) -> None:
        if not self.eta > 0:
            raise InvalidInputError(f"eta must be above 0, got {self.eta}")

    @property
    def outputs(self) -> int:
        """One logit per node."""
        return len(self.tree.nodes)


@dataclass(frozen=True)
class CoxTarget:
    """Time to an event by Cox's partial likelihood (Efron's ties); one output, the log hazard ratio."""

    @property
    def outputs(self) -> int:
        """The log hazard ratio."""
        return 1


@dataclass(frozen=True)
class DiscreteTimeTarget:
    """Time to an event by hazards per interval: `cuts` are the upper ends of the intervals, increasing, above 0."""

    cuts: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.cuts or self.cuts[0] <= 0 or any(a >= b for a, b in zip(self.cuts, self.cuts[1:], strict=False)):
            raise InvalidInputError(f"cuts must increase from above 0, got {self.cuts}")

    @property
    def outputs(self) -> int:
        """One logit of the hazard per interval."""
        return len(self.cuts)


Target = ClassTarget | CoxTarget | DiscreteTimeTarget


@dataclass(frozen=True)
class NetworkRecipe:
    """A network: branches per modality, fusion, head.

    modalities : one or more; with `film` the first one is scaled and shifted by the others
    fusion : "concat" (vectors as they are, then a two-layer head of 512 units), "gated" (weighted mean of projected
        vectors, linear head) or "film" (linear head); with one modality nothing is fused and the head stays
    width : length of the projected vectors of "gated" and "film"
    dropout : inside the two-layer branches of tables and radiomics
    head_dropout : after the hidden layer of the two-layer head
    modality_dropout : chance that a present modality of a training row is hidden; one always stays
    """

    modalities: tuple[Modality, ...]
    target: Target
    fusion: Fusion = "concat"
    width: int = 256
    dropout: float = 0.3
    head_dropout: float = 0.0
    modality_dropout: float = 0.1

    def __post_init__(self) -> None:
        names = [m.name for m in self.modalities]
        if not names or len(set(names)) < len(names):
            raise InvalidInputError(f"a network needs one or more modalities of different names, got {names}")
        for key in ("dropout", "head_dropout", "modality_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise InvalidInputError(f"{key} must be at least 0 and below 1, got {getattr(self, key)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of gate weights and presence columns."""
        return tuple(m.name for m in self.modalities)

    def only(self, names: Sequence[str]) -> NetworkRecipe:
        """The same network with some of its modalities: an ablation."""
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise InvalidInputError(f"no modality {unknown[0]!r}; the network has {', '.join(self.names)}")
        return replace(self, modalities=tuple(m for m in self.modalities if m.name in names))


@dataclass(frozen=True)
class TrainRecipe:
    """How a network is trained.

    epochs : passes over the training rows; with early stopping the most that are made
    batch : rows per step, evened out so that no batch is much smaller; None = all rows at once (Cox on embeddings)
    optimizer : "adamw" or "sgd" (with `momentum`)
    rate : learning rate
    encoder_rate : learning rate of trainable encoder tensors; None = `rate`
    node_rate : learning rate of the node weights λ; at the network's rate they hardly move
    weight_decay : on weight matrices and kernels; biases, norms, tokens and λ have none
    schedule : "cosine" to 0, or "step": times 0.1 at each epoch in `drops`
    warmup : epochs over which the rate rises from 0
    drops : epochs (from 0) at which "step" divides the rate by ten
    ema : decay of the exponential moving average of weights per step, None = none; the average is what is used
    clip : largest norm of the gradient, None = no clipping
    patience : epochs without a lower loss on the inner patients before training stops; needs inner patients
    encoder_from : epoch from which trainable encoders are trained; before it they are frozen
    bf16 : run encoders in bfloat16 on a GPU; fusion, head and losses stay in float32
    """

    epochs: int = 60
    batch: int | None = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    encoder_rate: float | None = None
    node_rate: float = 1e-2
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Literal["cosine", "step"] = "cosine"
    warmup: float = 3.0
    drops: tuple[int, ...] = ()
    ema: float | None = 0.99
    clip: float | None = 1.0
    patience: int | None = 15
    encoder_from: int = 0
    bf16: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or (self.batch is not None and self.batch < 1):
            raise InvalidInputError(f"epochs and batch must be 1 or more, got {self.epochs} and {self.batch}")
        if self.rate <= 0 or self.node_rate <= 0 or (self.encoder_rate is not None and self.encoder_rate <= 0):
            raise InvalidInputError("learning rates must be above 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InvalidInputError(f"ema must be above 0 and below 1, got {self.ema}")
        if (self.schedule == "step") != bool(self.drops):
            raise InvalidInputError(f"schedule {self.schedule!r} with drops {self.drops}: only 'step' takes drops")


# Late fusion of radiographs and labs: SGD 0.01, a tenth at epochs 20, 35 and 45, batch 256. The paper states no
# momentum, weight decay or number of epochs with a frozen encoder; 0.9, 0 and 10 are ours.
# Histology: AdamW 1e-4, weight decay 1e-4, batch 16. The paper states no number of epochs; 30 is ours.
PRESETS: tuple[tuple[str, TrainRecipe], ...] = (
    ("embeddings", TrainRecipe()),
    ("fine-tune", TrainRecipe(epochs=30, batch=32, encoder_rate=1e-4, warmup=2.0, ema=0.998, patience=8)),
    (
        "late-fusion-paper",
        TrainRecipe(
            epochs=50, batch=256, optimizer="sgd", rate=1e-2, weight_decay=0.0, schedule="step", warmup=0.0,
            drops=(20, 35, 45), ema=None, clip=None, patience=None, encoder_from=10,
        ),
    ),
    (
        "histology-paper",
        TrainRecipe(epochs=30, batch=16, rate=1e-4, weight_decay=1e-4, warmup=0.0, ema=None, clip=None, patience=None),
    ),
)  # fmt: skip


def preset(name: str, **changes: Any) -> TrainRecipe:
    """A named training recipe, with changes.

    >>> preset("late-fusion-paper", epochs=5).rate
    0.01
    """
    known = dict(PRESETS)
    if name not in known:
        raise InvalidInputError(f"no training preset {name!r}", do=f"Presets: {', '.join(known)}.")
    keys = [f.name for f in fields(TrainRecipe)]
    for key in changes:
        if key not in keys:
            raise InvalidInputError(f"training has no setting {key!r}", do=f"Settings: {', '.join(keys)}.")
    return replace(known[name], **changes)


def recipe_to_json(recipe: NetworkRecipe | TrainRecipe) -> dict[str, Any]:
    """Plain data for JSON; `network_recipe` and `train_recipe` read it back."""
    data = asdict(recipe)
    if isinstance(recipe, NetworkRecipe):
        data["target"] = {"kind": _KINDS[type(recipe.target)], **data["target"]}
    return data


_KINDS: dict[type, str] = {ClassTarget: "classes", CoxTarget: "cox", DiscreteTimeTarget: "discrete_time"}


def network_recipe(data: Mapping[str, Any]) -> NetworkRecipe:
    """A network's recipe from plain data; unknown and missing keys are refused."""
    _require(data, NetworkRecipe)
    target = dict(data["target"])
    kind = target.pop("kind", None)
    made: Target
    if kind == "classes":
        _require(target, ClassTarget)
        tree = LabelTree(tuple(target["tree"]["nodes"]), tuple(target["tree"]["parents"]))
        made = ClassTarget(tree, target["node_weights"], target["eta"])
    elif kind == "cox":
        made = CoxTarget()
    elif kind == "discrete_time":
        _require(target, DiscreteTimeTarget)
        made = DiscreteTimeTarget(tuple(target["cuts"]))
    else:
        raise InvalidInputError(f"target kind {kind!r} is not known", do=f"Kinds: {', '.join(_KINDS.values())}.")
    modalities = []
    for entry in data["modalities"]:
        _require(entry, Modality)
        columns = tuple(tuple(group) for group in entry["indicators"])
        plain = {key: tuple(entry[key]) for key in ("start", "centre", "spread")}
        modalities.append(Modality(**{**entry, **plain, "indicators": columns}))
    return NetworkRecipe(**{**data, "modalities": tuple(modalities), "target": made})


def train_recipe(data: Mapping[str, Any]) -> TrainRecipe:
    """A training recipe from plain data; unknown and missing keys are refused."""
    _require(data, TrainRecipe)
    return TrainRecipe(**{**data, "drops": tuple(data["drops"])})


def _require(data: Mapping[str, Any], kind: type) -> None:
    wanted = {f.name for f in fields(kind)}
    odd = sorted(wanted ^ set(data))
    if odd:
        raise InvalidInputError(
            f"{kind.__name__}: {', '.join(odd)} unknown or missing",
            why="The file was written by another version of osml, or changed by hand.",
        )
