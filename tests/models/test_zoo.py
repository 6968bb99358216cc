"""Networks of timm and torchvision as learners; stand-ins of both packages take and refuse what the real ones do."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.models import build
from limbeck.models.zoo import with_channels


class Net(nn.Module):
    def __init__(self, num_classes: int = 1000, channels: int = 3, aux_logits: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.head = nn.Linear(4, num_classes)
        self.aux = aux_logits

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).mean((2, 3)))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-ins of both packages; what they are called with."""
    calls: list[dict[str, Any]] = []

    def create_model(name: str, num_classes: int = 1000, in_chans: int = 3, **options: Any) -> nn.Module:
        calls.append(options | {"name": name})
        if "img_size" in options and "vit" not in name:
            raise TypeError(f"{name}() got an unexpected keyword argument 'img_size'")
        return Net(num_classes, in_chans)

    def resnet18(*, weights: object = None, progress: bool = True, **kwargs: Any) -> nn.Module:
        calls.append(kwargs | {"name": "resnet18"})
        return Net(**kwargs)

    timm, torchvision, models = ModuleType("timm"), ModuleType("torchvision"), ModuleType("torchvision.models")
    timm.create_model = create_model  # type: ignore[attr-defined]
    models.resnet18 = models.googlenet = resnet18  # type: ignore[attr-defined]
    torchvision.models = models  # type: ignore[attr-defined]
    for module in (timm, torchvision, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny", "torchvision.models:resnet18"])
def test_head_and_first_convolution_fit_the_data(name: str, channels: int, packages: list[dict[str, Any]]) -> None:
    module = build(name, shape=(channels, 8, 8), num_classes=5)
    assert module(torch.zeros(2, channels, 8, 8)).shape == (2, 5)
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == channels and first.stride == (2, 2) and first.bias is None
    assert packages[0].get("img_size", 8) == 8


def test_options_reach_the_model(packages: list[dict[str, Any]]) -> None:
    build("timm:vit_tiny,drop_rate=0.5", shape=(3, 8, 8), num_classes=5)
    assert packages[0]["drop_rate"] == 0.5
    with pytest.raises(LimbeckError, match="torchvision has no model 'resnet19'"):
        build("torchvision.models:resnet19", shape=(3, 8, 8), num_classes=5)


@pytest.mark.parametrize(("zoo", "extra"), [("timm", "timm"), ("torchvision.models", "torchvision")])
def test_a_package_that_is_not_there_is_named_with_its_extra(
    zoo: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    monkeypatch.setitem(sys.modules, zoo, None)
    with pytest.raises(LimbeckError, match=rf"pip install 'limbeck\[{extra}\]'"):
        build(f"{zoo}:resnet18", shape=(3, 8, 8), num_classes=5)


def test_a_network_of_the_right_channels_is_left_alone() -> None:
    net = Net()
    before = net.stem[0]
    assert with_channels(net, 3).stem[0] is before  # type: ignore[union-attr, index]
