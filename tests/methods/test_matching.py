"""Matching methods against a few lines of autograd that know nothing of sources, kernels or inits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import tiny_config, tiny_data
from torch import Tensor, nn
from torch.func import functional_call

import limbeck
from limbeck.common.augmentation import Augmentation
from limbeck.common.seeds import generator
from limbeck.engine import Execution, InnerConfig, Learner, PixelConfig, Pixels, RealBatch
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.methods import METHODS, DistributionConfig, GradientConfig, Method
from limbeck.methods.gradients import compare_gradients
from limbeck.models import build_learner

DATA = tiny_data()
CLASSES, SIDE, INITS = 3, 8, 2
MATCHING = ("dm", "dc", "dsa")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5), nn.Tanh(), nn.Linear(5, 3))


def setting(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, dict[str, Tensor], Pixels, RealBatch]:
    """A network, weights of two inits, images to learn and a real batch."""
    module, rng = network().to(dtype), torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(INITS, *p.shape, generator=rng, dtype=dtype) * 0.3 for name, p in module.named_parameters()
    }
    images = torch.randn(1, 6, 1, SIDE, SIDE, generator=rng, dtype=dtype)
    config = PixelConfig(steps=1, epochs=1, ipc=2, labels="soft")
    source = Pixels(config, CLASSES, images, InnerConfig(learn_lr="fixed"))
    real = RealBatch(
        torch.randn(20, 1, SIDE, SIDE, generator=rng, dtype=dtype), torch.randint(CLASSES, (20,), generator=rng)
    )
    return module, weights, source, real


def gradient(method: Method, module: nn.Module, weights: dict[str, Tensor], source: Pixels, real: RealBatch):  # type: ignore[no-untyped-def]
    kernels = method.kernels(Learner.of(module), Execution())
    return method.gradient(kernels, source, weights, real, generator(0, "method"))


def features(module: nn.Module, network: dict[str, Tensor], x: Tensor) -> Tensor:
    """What the last linear layer reads, by leaving it out."""
    assert isinstance(module, nn.Sequential)
    return functional_call(module[:-1], {k: v for k, v in network.items() if not k.startswith("5.")}, (x,))  # type: ignore[no-any-return]


def test_distribution_matching_is_the_squared_distance_of_mean_features() -> None:
    module, weights, source, real = setting()
    got = gradient(DistributionConfig().build(), module, weights, source, real)
    for b in range(INITS):
        one = {name: value[b] for name, value in weights.items()}
        images = source.parameters()["images"].clone().requires_grad_()
        labels = source.parameters()["labels"].clone().requires_grad_()
        y = labels[0].softmax(-1)
        loss = torch.zeros((), dtype=torch.float64)
        for k in range(CLASSES):
            wanted = features(module, one, real.x_NCHW[real.y_N == k]).mean(0)
            learned = (y[:, k : k + 1] * features(module, one, images[0])).sum(0) / y[:, k].sum()
            loss = loss + (wanted - learned).square().sum()
        expected = torch.autograd.grad(loss, [images, labels])
        torch.testing.assert_close(got.loss_B[b], loss.detach())
        torch.testing.assert_close(got.grads["images"][b], expected[0])
        torch.testing.assert_close(got.grads["labels"][b], expected[1])


def test_gradient_matching_is_one_minus_cosine_for_each_node_of_each_layer() -> None:
    module, weights, source, real = setting()
    got = gradient(GradientConfig(age=0).build(), module, weights, source, real)
    for b in range(INITS):
        one = {name: value[b].clone().requires_grad_() for name, value in weights.items()}
        images = source.parameters()["images"].clone().requires_grad_()
        y = source.parameters()["labels"][0].softmax(-1)
        loss = torch.zeros((), dtype=torch.float64)
        for k in range(CLASSES):
            x = real.x_NCHW[real.y_N == k]
            wanted = torch.autograd.grad(
                F.cross_entropy(functional_call(module, one, (x,)), torch.full((len(x),), k)), list(one.values())
            )
            own = slice(2 * k, 2 * k + 2)
            learned = torch.autograd.grad(
                F.cross_entropy(functional_call(module, one, (images[0, own],)), y[own]),
                list(one.values()),
                create_graph=True,
            )
            for g, h in zip(wanted, learned, strict=True):
                for row_g, row_h in zip(g.flatten(1), h.flatten(1), strict=True) if g.dim() > 1 else [(g, h)]:
                    loss = loss + 1 - (row_g @ row_h) / (row_g.norm() * row_h.norm() + 1e-6)
        torch.testing.assert_close(got.loss_B[b], loss.detach())
        torch.testing.assert_close(got.grads["images"][b], torch.autograd.grad(loss, images)[0])


def test_a_network_is_older_where_gradients_are_compared_after_steps() -> None:
    module, weights, source, real = setting()
    young = gradient(GradientConfig(age=0).build(), module, weights, source, real)
    old = gradient(GradientConfig(age=50).build(), module, weights, source, real)
    again = gradient(GradientConfig(age=50).build(), module, weights, source, real)
    assert not torch.equal(young.loss_B, old.loss_B) and torch.equal(old.loss_B, again.loss_B)


@pytest.mark.parametrize("name", MATCHING)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    module, weights, source, real = setting()
    config = METHODS[name](shift=1.0, turn=10.0, zoom=0.1, **({"age": 0} if name != "dm" else {}))  # type: ignore[call-arg]
    method = config.build()
    got = gradient(method, module, weights, source, real)
    direction = torch.randn(source.parameters()["images"].shape, generator=generator(0, "x"), dtype=torch.float64)
    step, losses = 1e-5, []
    start = source.parameters()["images"].clone()
    for sign in (1, -1):
        source.parameters()["images"].copy_(start + sign * step * direction)
        losses.append(gradient(method, module, weights, source, real).loss_B)
    source.parameters()["images"].copy_(start)
    slope_B = (losses[0] - losses[1]) / (2 * step)
    torch.testing.assert_close((got.grads["images"] * direction).flatten(1).sum(1), slope_B, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", MATCHING)
def test_equal_images_are_at_distance_zero_however_they_are_moved(name: str) -> None:
    """The same draw moves real and learned images of a class."""
    module, weights, source, _ = setting()
    config = PixelConfig(steps=1, epochs=1, ipc=2)
    source = Pixels(config, CLASSES, source.parameters()["images"], InnerConfig(learn_lr="fixed"))
    real = RealBatch(source.parameters()["images"][0], source.y_M)
    method = METHODS[name](shift=2.0, turn=20.0, zoom=0.2, flip=True).build()  # type: ignore[call-arg]
    got = gradient(method, module, weights, source, real)
    assert float(got.loss_B.abs().max()) < (0.1 if name != "dm" else 1e-20)  # cosines of tiny gradients are damped


def test_cosines_do_not_see_lengths() -> None:
    a, b = torch.randn(4, 3), torch.randn(5)
    assert float(compare_gradients([a, b], [3 * a, 0.5 * b])) == pytest.approx(0, abs=1e-4)
    assert float(compare_gradients([a, b], [-a, -b])) == pytest.approx(2 * 5, rel=1e-4)


def test_moves_of_a_class_are_alike() -> None:
    x = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1)
    moves = Augmentation(shift=3, turn=20, zoom=0.2, flip=True).draw(2, generator(0, "moves"))
    moved = moves.at(torch.tensor([0, 1, 0, 1])).apply(x)
    assert torch.equal(moved[0], moved[2]) and torch.equal(moved[1], moved[3]) and not torch.equal(moved[0], moved[1])


def matching_config(name: str, start: Literal["kmeans", "noise"] = "kmeans", **outer: Any) -> Config:
    config = tiny_config(**outer)
    return Config(
        data=config.data, learner=config.learner, outer=config.outer, val_size=config.val_size, method=METHODS[name](),
        source=PixelConfig(ipc=2, start=start),
    )  # fmt: skip


@pytest.mark.parametrize("name", MATCHING)
def test_a_run_gives_a_set_for_ordinary_training(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = limbeck.distill(matching_config(name, iterations=3), DATA, out=tmp_path / "a", verdict=False)
    assert isinstance(run.training, limbeck.OrdinaryTraining)
    again = limbeck.distill(matching_config(name, iterations=3), DATA, verdict=False)
    assert torch.equal(run.images, again.images) and run.training == again.training
    kept = limbeck.Distilled.load(tmp_path / "a")
    assert kept.training == run.training and torch.equal(kept.images, run.images)
    assert (kept.config.source.steps, kept.config.source.epochs) == (1, 1)  # type: ignore[attr-defined]
    scores = kept.evaluate(DATA, n=2).distilled
    assert scores.protocol == "ordinary" and math.isfinite(scores.scores.mean)


@pytest.mark.parametrize("name", MATCHING)
def test_matching_comes_closer(name: str) -> None:
    short = limbeck.distill(matching_config(name, "noise", iterations=1), DATA, verdict=False)
    long = limbeck.distill(matching_config(name, "noise", iterations=60, validate_every=60), DATA, verdict=False)
    module = build_learner("mlp", shape=DATA.image_shape, num_classes=DATA.num_classes)
    method, real = METHODS[name]().build(), RealBatch(*DATA.sample(generator(0, "real"), 200))
    weights = {k: torch.stack([p, p * 0.7]) for k, p in module.state_dict().items()}
    losses = []
    for run in (short, long):
        source = Pixels(PixelConfig(steps=1, epochs=1, ipc=2), DATA.num_classes, run.images, InnerConfig())
        losses.append(float(gradient(method, module, weights, source, real).loss_B.mean()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": PixelConfig(steps=4, epochs=1)}, "no steps are learned"),
        ({"inner": InnerConfig(optimizer="adam")}, "no steps are learned"),
        ({"source": limbeck.GeneratorConfig()}, "learns images, not GeneratorConfig"),
    ],
)
def test_settings_of_steps_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(LimbeckError, match=sentence):
        replace(Config(), method=DistributionConfig(), **change)  # type: ignore[arg-type]


def test_by_name_in_python() -> None:
    run = limbeck.distill(DATA, "mlp", method="dm", images_per_class=1, iterations=2, shift=1, verdict=False)  # type: ignore[call-overload]
    assert (
        run.config.method == DistributionConfig(shift=1, turn=10, zoom=0.1, flip=False)
        and run.config.source.start == "kmeans"
    )
