"""Layers that lie in two places of a network are trained once, as torch trains them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CLASSES, generator
from torch import Tensor, nn

from limbeck.common.seeds import own_state
from limbeck.engine import Batch, Learner, copy_module
from limbeck.models import build_learner, draw

SHAPE = (1, 4, 4)


class Two(nn.Module):
    """A part that is an attribute as well as within a container, which the forward pass uses."""

    def __init__(self, *parts: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.last = parts[0], parts[-1]
        self.parts = nn.Sequential(*parts, nn.Flatten())
        self.named = nn.ModuleDict({"again": self.parts})
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.named["again"](x))


def repeated() -> nn.Module:
    layer = nn.Linear(5, 5)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(5, CLASSES))


def tied() -> nn.Module:
    module = repeated()
    module.append(nn.Linear(CLASSES, CLASSES))
    module[-1].bias = module[-2].bias
    return module


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Two(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), width=5),
    "normalised": lambda: Two(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), width=48),
    "spectral": lambda: Two(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(16, 5)), width=5),
    "repeated": repeated,
    "tied": tied,
}


@pytest.mark.filterwarnings("ignore:With this learner", "ignore:.*torch.jit")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_with_two_names_is_trained_as_torch_trains_it(name: str) -> None:
    with own_state(0):
        given = NETWORKS[name]()
    module = build_learner(given, shape=SHAPE, num_classes=CLASSES)
    assert {n.removeprefix("module.") for n, _ in module.named_parameters()} == dict(given.named_parameters()).keys()
    weights = {name: value[0] for name, value in draw(module, "reset", 1, generator()).items()}
    assert weights.keys() >= dict(module.named_parameters()).keys()
    learner = Learner.of(module)
    state = learner.init(weights)
    own = copy_module(given)
    with torch.no_grad():
        for key, value in (*own.named_parameters(), *own.named_buffers()):
            if value.is_floating_point():
                value.copy_(weights.get(key, weights.get(f"module.{key}")))
    x = torch.randn(6, *SHAPE, generator=generator(1))
    y = torch.eye(CLASSES)[torch.arange(6) % CLASSES]
    sgd = torch.optim.SGD(own.parameters(), lr=0.1)
    for _ in range(2):
        state = learner.step(state, Batch(x, y, {"lr": torch.tensor(0.1)}))
        sgd.zero_grad()
        F.cross_entropy(own(x), y).backward()
        sgd.step()
    for key, value in state.network.items():
        if not key.endswith("key"):
            torch.testing.assert_close(value, dict(own.state_dict())[key.removeprefix("module.")])
    torch.testing.assert_close(learner.predict(state.network, x), own.eval()(x).detach())
