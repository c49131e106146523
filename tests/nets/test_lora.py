"""Low-rank additions: the formula, which layers, exact merging, saving."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from osml.errors import InvalidInputError
from osml.nets.lora import adapted_layers, add_lora, load_lora, lora_tensors, merge_lora, unmerge_lora
from osml.nets.torchvision_ops import import_timm


class Small(nn.Module):
    """A convolution, a depthwise, a pointwise and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.wide = nn.Conv2d(8, 12, 3, stride=2, dilation=2)
        self.point = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, 4)."""
        x = self.point(self.wide(self.depthwise(self.stem(x)).relu()).relu())
        return self.head(x.mean((2, 3)))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(model: nn.Module) -> nn.Module:
    """Additions that are not zero."""
    for name, value in lora_tensors(model).items():
        if name.endswith(".b"):
            value.normal_(generator=generator(1))
    return model


X = torch.randn(5, 3, 16, 16, generator=generator(9))


def test_nothing_changes_before_training() -> None:
    model, plain = small(), small()
    assert add_lora(model, rank=2, generator=generator()) == ("wide", "point")
    assert torch.equal(model(X), plain(X))


def test_the_adapted_weight_is_the_formula() -> None:
    model, plain = small(), small()
    add_lora(model, rank=2, alpha=3.0, layers=("wide", "head"), generator=generator())
    trained(model)
    tensors = lora_tensors(model)
    assert tensors["wide.a"].shape == (2, 8 * 9)
    assert tensors["wide.b"].shape == (12, 2)
    for name in ("wide", "head"):
        weight = getattr(plain, name).weight
        addition = (1.5 * tensors[f"{name}.b"] @ tensors[f"{name}.a"]).reshape(weight.shape)
        assert getattr(model, name).weight.detach().numpy() == pytest.approx(
            (weight + addition).detach().numpy(), rel=1e-6
        )
        getattr(plain, name).weight = nn.Parameter(weight + addition)
    assert model(X).detach().numpy() == pytest.approx(plain(X).detach().numpy(), rel=1e-4, abs=1e-6)


def test_the_rank_is_limited_by_the_layer_and_the_scale_stays() -> None:
    model = small()
    add_lora(model, rank=64, alpha=64.0, layers=("head",), generator=generator())
    assert lora_tensors(model)["head.a"].shape == (4, 6)
    trained(model)
    tensors = lora_tensors(model)
    change = model.head.weight - small().head.weight
    assert change.detach().numpy() == pytest.approx((tensors["head.b"] @ tensors["head.a"]).numpy(), rel=1e-4, abs=1e-6)


def test_only_additions_get_gradients() -> None:
    model = small()
    add_lora(model, rank=2, generator=generator())
    trained(model)(X).sum().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(with_gradient) == len(lora_tensors(model)) == 4


def test_merging_keeps_the_function_and_unmerging_the_bits() -> None:
    model, plain = small(), small()
    add_lora(model, rank=2, generator=generator())
    adapted = trained(model)(X)
    before = merge_lora(model)
    assert adapted_layers(model) == ()
    assert set(model.state_dict()) == set(plain.state_dict())
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model(X), adapted)
    unmerge_lora(model, before)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())


def test_additions_travel_alone() -> None:
    model, other = small(), small()
    add_lora(model, rank=2, generator=generator(1))
    add_lora(other, rank=2, generator=generator(2))
    trained(model)
    load_lora(other, lora_tensors(model))
    assert torch.equal(model(X), other(X))


def test_additions_of_another_model_are_refused() -> None:
    model, other = small(), small()
    add_lora(model, rank=2, generator=generator())
    add_lora(other, rank=3, generator=generator())
    with pytest.raises(InvalidInputError, match=r"'wide.a': \(3, 72\) in the file, \(2, 72\) here"):
        load_lora(model, lora_tensors(other))
    with pytest.raises(InvalidInputError, match="on one side only"):
        load_lora(model, {})


def test_attention_is_adapted_where_there_is_some() -> None:
    vit = import_timm().create_model("test_vit", num_classes=0)
    layers = add_lora(vit, generator=generator())
    assert layers[:2] == ("blocks.0.attn.qkv", "blocks.0.attn.proj")
    assert {name.split(".")[-1] for name in layers} == {"qkv", "proj"}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"rank": 0}, "rank 0"),
        ({"layers": ("nothing",)}, "'nothing' is none"),
        ({"layers": ("",)}, "is none"),
        ({"layers": ()}, "no layer that suits"),
    ],
)
def test_wrong_layers_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        add_lora(small(), generator=generator(), **settings)  # type: ignore[arg-type]


def test_a_second_adaptation_is_refused() -> None:
    model = small()
    add_lora(model, generator=generator())
    with pytest.raises(InvalidInputError, match="already"):
        add_lora(model, generator=generator())
