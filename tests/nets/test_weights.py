"""Weights are found in the named places only, read without pickle, and fit or are refused with the tensors named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_files import random_images, tiny_encoder, weights_file
from safetensors.torch import load_file, save_file

from osml.errors import VerificationError
from osml.files import sha256_file
from osml.nets import weights as module
from osml.nets.encoders import EncoderSettings, build_encoder
from osml.nets.weights import WeightsError, WeightsRecord, find_recorded, find_weights, read_tensors


class Trap:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_file_is_recorded_by_its_hash(tmp_path: Path) -> None:
    path = weights_file(tmp_path, "test_resnet")
    found = find_weights("test_resnet", path)
    assert found.record == WeightsRecord("test_resnet", "file", path.name, sha256_file(path), "")


def test_the_folder_is_searched_by_name_and_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights_file(tmp_path, "test_resnet")
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    record = find_weights("test_resnet").record
    assert (record.source, record.name) == ("folder", path.name)
    path.rename(tmp_path / "other-name.safetensors")
    weights_file(tmp_path, "test_resnet", seed=1)
    assert find_recorded(record).path == tmp_path / "other-name.safetensors"
    (tmp_path / "other-name.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"(?s)are not on this machine.*another gives other predictions"):
        find_recorded(record)


def test_no_weights_names_the_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSML_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match=r"(?s)resnet18: no pretrained.*pip install.*weights: FILE.*weights: hub"):
        build_encoder(EncoderSettings("resnet18"))


def test_a_wrong_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(WeightsError, match="not a folder"):
        find_weights("resnet18")


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = module.PACKAGED[0]
    (tmp_path / package.package / "models").mkdir(parents=True)
    (tmp_path / package.package / "__init__.py").touch()
    (tmp_path / package.package / package.file).write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VerificationError, match=r"(?s)SHA-256.*is expected.*--force-reinstall"):
        find_weights(package.model)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    tensors = load_file(weights_file(tmp_path, "test_resnet"))
    tensors["conv1.0.weight"] = torch.zeros(7, 3, 3, 3)
    del tensors["bn1.weight"]
    tensors["surplus.weight"] = torch.zeros(2)
    save_file(tensors, tmp_path / "bent.safetensors")
    with pytest.raises(WeightsError) as refusal:
        build_encoder(EncoderSettings("test_resnet", tmp_path / "bent.safetensors"))
    text = str(refusal.value)
    assert "3 tensors differ" in text
    assert "conv1.0.weight: (7, 3, 3, 3) in the file, (" in text
    assert "bn1.weight: missing in the file" in text
    assert "surplus.weight: (2,) in the file, absent in the model" in text


def test_another_model_lists_the_first_five(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)do not fit the encoder test_resnet.*and \d+ more") as refusal:
        build_encoder(EncoderSettings("test_resnet", weights_file(tmp_path, "test_vit")))
    assert str(refusal.value).count(" in the ") < 12


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    tensors = load_file(weights_file(tmp_path, "test_resnet"))
    tensors["bn1.bias"][0] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"bn1.bias holds NaN"):
        build_encoder(EncoderSettings("test_resnet", tmp_path / "nan.safetensors"))


@pytest.mark.parametrize("wrapper", [None, *module.WRAPPERS])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files_and_their_wrappings(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    tensors = load_file(weights_file(tmp_path, "test_resnet"))
    named = {prefix + name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save(named if wrapper is None else {wrapper: named, "epoch": 3}, tmp_path / "file.pth")
    images = random_images(1)
    given = build_encoder(EncoderSettings("test_resnet", tmp_path / "file.pth"))
    assert torch.equal(given(images), tiny_encoder(tmp_path, "test_resnet")(images))


def test_code_in_a_torch_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"(?s)would run code.*safetensors"):
        read_tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", None])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"file{suffix}"
    if content is None:
        whole = weights_file(tmp_path, "test_resnet")
        if suffix == ".pth":
            torch.save(load_file(whole), path)
        content = (path if suffix == ".pth" else whole).read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as"):
        read_tensors(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_torch_files_without_named_tensors_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(WeightsError, match=r"not tensors by name|no tensor by name"):
        read_tensors(tmp_path / "file.pt")


def test_the_hub_is_asked_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if not stored.exists():
            raise OSError("no network here")
        return str(stored)

    stored = tmp_path / "hub" / "model.safetensors"
    monkeypatch.setattr(huggingface, "hf_hub_download", download)
    monkeypatch.delenv("OSML_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="no pretrained"):
        find_weights("test_resnet.r160_in1k")
    assert asked == []
    with pytest.raises(WeightsError, match=r"could not be fetched \(no network here\)"):
        find_weights("test_resnet.r160_in1k", "hub")
    stored.parent.mkdir()
    weights_file(tmp_path, "test_resnet").rename(stored)
    found = find_weights("test_resnet.r160_in1k", "hub")
    assert asked[-1] == ("timm/test_resnet.r160_in1k", "model.safetensors")
    assert (found.record.source, found.record.licence) == ("hub", "apache-2.0")
    assert find_recorded(found.record).path == stored
    weights_file(tmp_path, "test_resnet", seed=1).replace(stored)
    with pytest.raises(VerificationError, match="other predictions"):
        find_recorded(found.record)
