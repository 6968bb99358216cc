"""What a network keeps from call to call: caches of constants run, and what a step could not repeat is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from engine_cases import CLASSES, generator
from torch import Tensor, nn

from limbeck.engine import Batch, Execution, Kernels, Learner, RealLoss, copy_module
from limbeck.errors import LimbeckError
from limbeck.models import build_learner, draw

SHAPE = (1, 4, 4)
Change = Callable[["Keeping", Tensor], Tensor]


class Keeping(nn.Module):
    """A network with a function between its layers that may read and write ``kept``."""

    def __init__(self, change: Change, kept: Any) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 5), nn.Linear(5, CLASSES)
        self.change, self.kept = change, kept

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.change(self, self.first(x.flatten(1)))))


def by_size(self: Keeping, x: Tensor) -> Tensor:
    if len(x) not in self.kept:
        self.kept[len(x)] = torch.linspace(0, 1, len(x))[:, None]
    return x * self.kept[len(x)]


def once(self: Keeping, x: Tensor) -> Tensor:
    if self.kept is None:
        self.kept = torch.linspace(0, 1, 5)
    return x * self.kept


def last(self: Keeping, x: Tensor) -> Tensor:
    self.kept = {"last": [x]}
    return x


@pytest.mark.parametrize(("change", "kept"), [(by_size, {}), (once, None), (last, None)])
def test_caches_of_constants_run(change: Change, kept: Any) -> None:
    module = build_learner(Keeping(change, kept), shape=SHAPE, num_classes=CLASSES)
    learner = Learner.of(module)
    kernels = Kernels(learner, RealLoss(), Execution())
    weights = draw(module, "xavier", 2, generator())
    x, y = torch.randn(6, *SHAPE, generator=generator()), torch.eye(CLASSES)[torch.arange(6) % CLASSES]
    state = kernels.init(weights)
    for count in (4, 6, 4):
        state = kernels.step(state, Batch(x[:count], y[:count], {"lr": torch.tensor(0.1)}))
    assert kernels.rung == "together"
    own = copy_module(module)
    own.load_state_dict({name: value[0] for name, value in state.params.items()})
    alone = learner.predict({name: value[0] for name, value in state.params.items()}, x)
    torch.testing.assert_close(alone, own(x).detach())
    copy_module(own)


def drawn(self: Keeping, x: Tensor) -> Tensor:
    return x if self.kept.random() < 0.99 else 2 * x


def counted(self: Keeping, x: Tensor) -> Tensor:
    self.kept[0] += 1
    return x if self.kept[0] < 99 else 2 * x


def averaged(self: Keeping, x: Tensor) -> Tensor:
    if not self.training:
        return x - self.kept["mean"]
    self.kept["mean"] = 0.9 * self.kept["mean"] + 0.1 * x.detach().mean(0)
    return x - x.mean(0)


def first_seen(self: Keeping, x: Tensor) -> Tensor:
    if self.kept is None:
        self.kept = x.detach().mean(0)
    return x - self.kept


@pytest.mark.parametrize(
    ("change", "kept", "message"),
    [
        (drawn, random.Random(0), "changes 'kept'"),
        (drawn, np.random.default_rng(0), "changes 'kept'"),
        (counted, [0], "changes 'kept'"),
        (averaged, {"mean": torch.zeros(5)}, "keep it in buffers"),
        (first_seen, None, "keep statistics in buffers"),
    ],
)
def test_what_a_step_could_not_repeat_is_refused(change: Change, kept: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        build_learner(Keeping(change, kept), shape=SHAPE, num_classes=CLASSES)


def leave(*_: Any) -> Any:
    raise SystemExit(3)


def test_a_network_does_not_end_the_program() -> None:
    for learner in (Keeping(leave, None), leave):
        with pytest.raises(LimbeckError, match="SystemExit"):
            build_learner(learner, shape=SHAPE, num_classes=CLASSES)
