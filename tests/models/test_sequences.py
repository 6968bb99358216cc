"""Learners along a series against torch's own layers, and on series whose classes differ in time only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from limbeck import Config, InnerConfig, OuterConfig, PixelConfig, distill, load_data
from limbeck.data import TaskData
from limbeck.errors import LimbeckError
from limbeck.models import Conv1d, Gru, Rnn, build

SHAPE = (3, 1, 7)


def x_of(shape: tuple[int, int, int], n: int = 4) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("ours", "theirs"), [(Rnn, nn.RNN), (Gru, nn.GRU)])
def test_recurrent_networks_are_those_of_torch(ours: Any, theirs: Any) -> None:
    net, reference = ours(SHAPE, 5, hidden=6), theirs(3, 6, batch_first=True)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(net.input.weight)
        reference.bias_ih_l0.copy_(net.input.bias)
        reference.weight_hh_l0.copy_(net.state.weight)
        reference.bias_hh_l0.copy_(torch.zeros(6) if net.state.bias is None else net.state.bias)
    x = x_of(SHAPE)
    _, last = reference(x[:, :, 0].transpose(1, 2))
    torch.testing.assert_close(net(x), net.head(last[0]))


def test_convolutions_are_those_of_torch() -> None:
    net = Conv1d((2, 3, 9), 5, width=4, depth=1, kernel=3, norm="none")
    convolution = nn.Conv1d(6, 4, 3, padding=1)
    with torch.no_grad():
        convolution.weight.copy_(net.features[0].weight[:, :, 0])  # type: ignore[arg-type, index]
        convolution.bias.copy_(net.features[0].bias)  # type: ignore[arg-type, union-attr]
    x = x_of((2, 3, 9))
    features = torch.relu(convolution(x.reshape(4, 6, 9)))
    pooled = nn.functional.avg_pool1d(features, 2)
    torch.testing.assert_close(net(x), net.head(pooled.mean(2)))


@pytest.mark.parametrize("name", ["conv1d", "rnn", "gru", "conv1d,norm=layer", "conv1d,norm=running,depth=5"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 30), (5, 1, 1), (1, 8, 8)])
def test_every_kind_of_data(name: str, shape: tuple[int, int, int]) -> None:
    assert build(name, shape=shape, num_classes=4)(x_of(shape)).shape == (4, 4)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv1d,kernel=4", SHAPE, "an odd kernel, not width 64, depth 3 and kernel 4"),
        ("conv1d,depth=0", SHAPE, "depth 0"),
        ("rnn,hidden=0", SHAPE, "'rnn' needs hidden of at least 1"),
        ("gru", (1, 1, 513), "'gru' would take 513 steps on series of that length, 512 at most"),
    ],
)
def test_wrong_sequences(name: str, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        build(name, shape=shape, num_classes=3)


def waves(n: int = 300) -> TaskData:
    """Rising, falling, and humped, with noise."""
    y = np.arange(n) % 3
    t = np.linspace(-1, 1, 12)
    x = np.stack([t, -t, 1 - 2 * t * t])[y] + 0.3 * np.random.default_rng(0).normal(size=(n, 12))
    return load_data((x, y), kind="series")


@pytest.mark.parametrize("learner", ["conv1d,width=8,depth=2", "rnn,hidden=8", "gru,hidden=8", "mlp,hidden=(8,)"])
def test_a_set_is_learned_for_series(learner: str) -> None:
    config = Config(
        learner=learner,
        source=PixelConfig(steps=2, epochs=2),
        inner=InnerConfig(lr=0.3),
        outer=OuterConfig(iterations=40, inits=2, real_batch=64, validate_every=20, validate_inits=4),
    )
    run = distill(config, waves())
    assert run.kind == "series" and run.shape == (1, 1, 12) and run.images.isfinite().all()
    assert run.info["validation"]["accuracy"] > 55  # guessing has 33
