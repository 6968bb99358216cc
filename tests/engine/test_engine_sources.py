"""The contract of every source: its batches, its pull-back, and the meta-gradient through it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from engine_cases import (
    CLASSES,
    LEARNED,
    MODES,
    Problem,
    Watched,
    around,
    assert_close,
    assert_same_gradient,
    generator,
    jittered,
    smooth_mlp,
)
from torch import Tensor, nn

from limbeck.engine import (
    Batch,
    Execution,
    Generator,
    GeneratorConfig,
    InnerConfig,
    Pairs,
    PixelConfig,
    Pixels,
    RealBatches,
    RealLoss,
    Remat,
    Source,
    Tensors,
    Unroll,
)
from limbeck.engine.learner import Mode
from limbeck.engine.source.generator import CURRICULA
from limbeck.errors import LimbeckError
from limbeck.models import ConvGenerator, WeightNorm

SHAPE = (1, 4, 4)
SETTINGS = {"inner_steps": 3, "batch": 6, "latent": 4}


def teacher(seed: int = 0, **settings: Any) -> Generator:
    """A small generator of 4 x 4 images in float64."""
    torch.manual_seed(3)
    module = WeightNorm(ConvGenerator(SHAPE, CLASSES, 4, hidden=5, width=4)).double()
    config = GeneratorConfig(**{**SETTINGS, **settings})
    weights = dict(module.named_parameters())
    return Generator(config, module, weights, CLASSES, generator(seed), LEARNED["sgd"])


def pixels() -> Pixels:
    images = torch.randn(2, CLASSES, *SHAPE, generator=generator(1), dtype=torch.float64)
    return Pixels(PixelConfig(steps=2, epochs=2, labels="soft"), CLASSES, images, LEARNED["nesterov"])


def real(inner: InnerConfig = LEARNED["sgd"]) -> RealBatches:
    def sample(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        y_N = torch.randint(CLASSES, (n,), generator=rng)
        return torch.randn(n, *SHAPE, generator=rng).double() + y_N[:, None, None, None], y_N

    return RealBatches(sample, 3, 6, CLASSES, generator(2), inner)


def pairs() -> Pairs:
    """Images with targets that are no distributions."""
    images = torch.randn(2, 4, *SHAPE, generator=generator(1), dtype=torch.float64)
    targets = torch.randn(2, 4, CLASSES, generator=generator(2), dtype=torch.float64)
    return Pairs(images, targets, epochs=2, inner=LEARNED["sgd"])


SOURCES: dict[str, Any] = {
    "pixels": pixels,
    "pairs": pairs,
    "real": real,
    **{
        f"{curriculum}, {classes}": lambda curriculum=curriculum, classes=classes: teacher(
            curriculum=curriculum, classes=classes
        )
        for curriculum, classes in itertools.product(CURRICULA, ("balanced", "random", "learned"))
        if (curriculum, classes) != ("none", "learned")
    },
}


def problem(source: Source, *, inits: int = 2) -> Problem:
    params = jittered(source.parameters(), 0.2, generator(4))
    optimizer = source.schedule.config.make()  # type: ignore[attr-defined]
    return around(smooth_mlp(SHAPE), SHAPE, source, params, inits=inits, optimizer=optimizer)


def flat(batch: Batch) -> list[Tensor]:
    return [batch.x_MCHW, batch.y_MK, *batch.h.values()]


@pytest.mark.parametrize("name", SOURCES)
def test_batches_are_pure_and_complete(name: str) -> None:
    source: Source = SOURCES[name]().redraw(generator(5))
    params = source.parameters()
    for step in range(source.steps):
        batch = source.batch(params, step)
        images = batch.x_MCHW.shape[0]
        assert batch.x_MCHW.shape == (images, *SHAPE)
        assert batch.y_MK.shape == (images, CLASSES)
        if not isinstance(source, Pairs):
            torch.testing.assert_close(batch.y_MK.sum(1), torch.ones(images, dtype=torch.float64))
        assert set(batch.h) == {"lr", "momentum", "weight_decay"}
        assert all(torch.equal(a, b) for a, b in zip(flat(batch), flat(source.batch(params, step)), strict=True))


@pytest.mark.parametrize("name", SOURCES)
def test_materialised_gives_the_batches(name: str) -> None:
    source: Source = SOURCES[name]()
    plain = source.materialise(source.parameters())
    assert len(plain.order) == source.steps
    for step, index in enumerate(plain.order.tolist()):
        batch = source.batch(source.parameters(), step)
        assert torch.equal(plain.images[index], batch.x_MCHW)
        assert torch.equal(plain.labels[index], batch.y_MK)
        assert all(torch.equal(plain.hyperparameters[n][step], value) for n, value in batch.h.items())


@pytest.mark.parametrize("name", SOURCES)
def test_the_pull_back_is_autograds(name: str) -> None:
    source: Source = SOURCES[name]().redraw(generator(5))
    params = jittered(source.parameters(), 0.2, generator(4))
    rng = generator(6)
    pullback = source.pullback(params, 2)
    leaves = {n: v.clone().requires_grad_() for n, v in params.items()}
    totals = [torch.zeros((), dtype=torch.float64) for _ in range(2)]
    for step in reversed(range(source.steps)):
        given, pull = pullback.batch(step)
        own = source.batch(leaves, step)
        assert all(torch.equal(a, b) for a, b in zip(flat(given), flat(own), strict=True))
        x, y, *h = (torch.randn(2, *v.shape, generator=rng, dtype=v.dtype) for v in flat(own))
        pull(Batch(x, y, dict(zip(own.h, h, strict=True))))
        for b in range(2):
            totals[b] = totals[b] + sum((c[b] * v).sum() for c, v in zip((x, y, *h), flat(own), strict=True))
    grads: Tensors = pullback.result()
    for b in range(2):
        expected = torch.autograd.grad(totals[b], list(leaves.values()), retain_graph=True, materialize_grads=True)
        for (n, value), wanted in zip(grads.items(), expected, strict=True):
            torch.testing.assert_close(value[b], wanted, rtol=1e-9, atol=1e-11, msg=n)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOURCES)
def test_remat_equals_unroll(name: str, mode: Mode) -> None:
    case = problem(SOURCES[name]())
    expected = case.meta_gradient(Unroll(), objective=RealLoss(every=2))
    result = case.meta_gradient(Remat(), Execution(mode=mode), RealLoss(every=2))
    for n, value in expected.grads.items():
        assert value.isfinite().all()
        scale = max(float(value.abs().max()), 1e-9)
        assert float((result.grads[n] - value).abs().max()) <= 1e-9 * scale + 1e-13, n
    assert_close(result.loss_B, expected.loss_B, 1e-11)


@pytest.mark.parametrize("name", ["full, learned", "none, balanced", "real", "pairs"])
def test_unroll_equals_finite_differences(name: str) -> None:
    case = problem(SOURCES[name](), inits=1)
    result = case.meta_gradient(Unroll())
    along = {n: torch.randn(v.shape, generator=generator(8), dtype=v.dtype) for n, v in case.params.items()}
    losses = [
        case._replace(params={n: v + sign * 1e-6 * along[n] for n, v in case.params.items()})
        .meta_gradient(Unroll())
        .loss_B
        for sign in (1, -1)
    ]
    slope = sum((result.grads[n][0] * along[n]).sum() for n in along)
    assert isinstance(slope, Tensor)
    assert_close((losses[0][0] - losses[1][0]) / 2e-6, slope, 1e-6)


def test_a_loss_may_be_read_every_so_many_steps() -> None:
    assert RealLoss().reading_steps(7) == {7}
    assert RealLoss(every=3).reading_steps(7) == {3, 6, 7}
    assert RealLoss(every=1).reading_steps(3) == {1, 2, 3}
    case = problem(pixels())
    by_hand = case.meta_gradient(Unroll(), objective=Watched([2]))
    assert_same_gradient(case.meta_gradient(Remat(), objective=RealLoss(every=2)), by_hand)


# Pairs


def test_pairs_start_where_they_are_told_and_are_cycled() -> None:
    x_SMD, y_SMK = (torch.randn(2, 3, n, generator=generator(n), dtype=torch.float64) for n in (5, 1))
    source = Pairs(x_SMD, y_SMK, epochs=2)
    assert source.steps == 4
    assert set(source.parameters()) == {"inputs", "targets", "lr"}
    for step, index in enumerate((0, 1, 0, 1)):
        batch = source.batch(source.parameters(), step)
        assert torch.equal(batch.x_MCHW, x_SMD[index])
        assert torch.equal(batch.y_MK, y_SMK[index])
    assert source.materialise(source.parameters()).order.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("inputs", "targets", "epochs", "said"),
    [
        ((2, 3, 5), (2, 3, 1), 0, "epochs is 0"),
        ((2, 3, 5), (2, 4, 1), 1, "(2, 4, 1)"),
        ((2, 3), (2, 3, 1), 1, "(S, M, ...)"),
        ((2, 0, 5), (2, 0, 1), 1, "none of them 0"),
    ],
)
def test_pairs_that_do_not_fit(inputs: tuple[int, ...], targets: tuple[int, ...], epochs: int, said: str) -> None:
    with pytest.raises(LimbeckError) as caught:
        Pairs(torch.zeros(inputs), torch.zeros(targets), epochs=epochs)
    assert said in str(caught.value)


# Curricula


def inputs(source: Generator) -> tuple[Tensor, Tensor]:
    """All noise and labels that a source uses, in order."""
    pairs = [source.inputs(source.parameters(), step) for step in range(source.steps)]
    return torch.stack([z for z, _ in pairs]), torch.stack([y for _, y in pairs])


def test_the_full_curriculum_is_always_the_same() -> None:
    source = teacher(curriculum="full")
    z, y = inputs(source)
    again = inputs(source.redraw(generator(9)))
    assert torch.equal(z, source.parameters()["z"])
    assert torch.equal(z, again[0])
    assert torch.equal(y, again[1])


def test_shuffled_batches_keep_their_images_together() -> None:
    source = teacher(curriculum="shuffled-batches", classes="random", inner_steps=5)
    orders = set()
    for seed in range(6):
        z, y = inputs(source.redraw(generator(seed)))
        noise = source.parameters()["z"]
        order = [next(i for i in range(5) if torch.equal(noise[i], z[t])) for t in range(5)]
        assert sorted(order) == [0, 1, 2, 3, 4]
        labels = torch.nn.functional.one_hot(source.classes_TM, CLASSES).double()
        assert torch.equal(y, labels[order])
        orders.add(tuple(order))
    assert len(orders) > 1


def test_all_shuffled_draws_from_all_noise_with_its_label() -> None:
    source = teacher(curriculum="all-shuffled", classes="random", inner_steps=5)
    z, y = inputs(source.redraw(generator(1)))
    pool, labels = source.parameters()["z"].flatten(0, 1), source.classes_TM.flatten()
    homes = []
    for row, label in zip(z.flatten(0, 1), y.flatten(0, 1), strict=True):
        home = next(i for i in range(len(pool)) if torch.equal(pool[i], row))
        assert labels[home] == label.argmax()
        homes.append(home)
    assert sorted(homes) != list(range(30))


def test_without_a_curriculum_everything_is_fresh() -> None:
    source = teacher(curriculum="none", classes="random")
    assert "z" not in source.parameters()
    one, two = (inputs(source.redraw(generator(seed))) for seed in (1, 2))
    assert not (one[0] == two[0]).any()
    assert not torch.equal(one[1], two[1])


@pytest.mark.parametrize("batch", [2, 3, 4, 6])
def test_balanced_labels_give_every_class_its_turn(batch: int) -> None:
    _, y = inputs(teacher(inner_steps=6, batch=batch))
    assert y.sum((0, 1)).tolist() == [2.0 * batch] * 3
    if batch % 3 == 0:
        assert (y.sum(1) == batch // 3).all()


# Bad input


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(({name: 0}, f"{name} is 0") for name in ("inner_steps", "batch", "hidden", "width", "latent")),
        ({"output_scale": 0.0}, "output_scale is 0.0"),
        ({"curriculum": "ful"}, "did you mean 'full'"),
        ({"classes": "balance"}, "did you mean 'balanced'"),
        ({"classes": "learned", "curriculum": "none"}, "without a curriculum there is none"),
        ({"teacher_confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        GeneratorConfig(**settings)


def test_a_confidence_that_does_not_favour_the_own_class() -> None:
    with pytest.raises(LimbeckError, match=r"above 1/3"):
        teacher(classes="learned", teacher_confidence=0.3)


def test_real_batches_with_nothing_to_learn() -> None:
    with pytest.raises(LimbeckError, match="nothing to learn"):
        real(InnerConfig(learn_lr="fixed"))


def test_weight_norm_gives_rows_of_the_wanted_length() -> None:
    plain = nn.Linear(5, 3).double()
    wrapped = WeightNorm(plain)
    assert [name for name, _ in wrapped.named_parameters()] == ["module.weight", "module.bias", "length.0"]
    x = torch.randn(4, 5, generator=generator(0), dtype=torch.float64)
    weight = plain.weight
    expected = x @ (weight * (2 * 5 / (5 + 3)) ** 0.5 / weight.norm(dim=1, keepdim=True)).T + plain.bias
    torch.testing.assert_close(wrapped(x), expected)
    with torch.no_grad():
        plain.weight.mul_(7)  # the size of V does not matter
    torch.testing.assert_close(wrapped(x), expected)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3), nn.Conv2d(4, 6, 3, groups=2)])
def test_weight_norm_of_convolutions_goes_by_their_outputs(layer: nn.Module) -> None:
    wrapped = WeightNorm(nn.Sequential(layer, nn.LayerNorm((6, 1, 1))))
    assert [n for n, _ in wrapped.named_parameters() if n.startswith("length")] == ["length.0"]  # not the norm's
    x = torch.randn(2, 4, 5, 5, generator=generator(0))
    assert wrapped.length[0].shape == (6,)
    with torch.no_grad():
        plain = WeightNorm(layer)(x)
        plain_bias = layer.bias.view(-1, 1, 1)  # type: ignore[union-attr, operator]
        wrapped.length[0][2] *= 3
        scaled = WeightNorm(layer)
        scaled.length[0][2] *= 3
        difference = scaled(x) - plain_bias
        torch.testing.assert_close(difference[:, 2], 3 * (plain - plain_bias)[:, 2])
        torch.testing.assert_close(difference[:, [0, 1, 3, 4, 5]], (plain - plain_bias)[:, [0, 1, 3, 4, 5]])


def test_weight_norm_of_a_weight_of_zeros_has_a_finite_gradient() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    wrapped = WeightNorm(layer)
    wrapped(torch.ones(1, 3)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.square().sum().isfinite()
