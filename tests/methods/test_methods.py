"""The contract of every method: gradients of what a source learns, one for each init; and unrolling itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from engine_cases import CLASSES, LinearGenerator, Problem, around, assert_close, generator, problem, smooth_mlp

from limbeck.engine import (
    Execution,
    InnerConfig,
    Kernels,
    MetaGradient,
    Objective,
    Pairs,
    RealLoss,
    Relabelled,
    Remat,
    Unroll,
)
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import score, train
from limbeck.experiment.recorded import decode_member, encode
from limbeck.methods import (
    METHODS,
    DistributionConfig,
    GradientConfig,
    Method,
    MethodConfig,
    SiameseConfig,
    UnrolledConfig,
)

EXAMPLES: dict[str, list[MethodConfig]] = {
    "unrolled": [
        UnrolledConfig(),
        UnrolledConfig(adjoint=Remat(store_every=2), loss_every=2),
        UnrolledConfig(adjoint=Unroll()),
    ],
    "dm": [DistributionConfig(), DistributionConfig(shift=1.0, flip=True)],
    "dc": [GradientConfig(), GradientConfig(age=0, turn=5.0)],
    "dsa": [SiameseConfig(age=3, zoom=0.1)],
}
"""Configs of each method."""


def test_every_method_has_examples_here() -> None:
    assert METHODS.names == tuple(EXAMPLES), "a new method needs examples of its configs in this file"
    for name, configs in EXAMPLES.items():
        assert all(type(config) is METHODS[name] for config in configs)


def each() -> pytest.MarkDecorator:
    configs = [(name, index) for name, members in EXAMPLES.items() for index in range(len(members))]
    ids = [f"{name}-{index}" for name, index in configs]
    return pytest.mark.parametrize("config", [EXAMPLES[name][index] for name, index in configs], ids=ids)


def case(source: str) -> Problem:
    """A smooth learner with three inits, taught by learned pixels, a generator, or learned inputs and targets."""
    if source == "pixels":
        return problem("smooth-mlp")
    shape, inner = (1, 3, 3), InnerConfig(lr=0.1)
    if source == "generator":
        teacher = LinearGenerator(shape, 3, inner)
        return around(smooth_mlp(shape), shape, teacher, teacher.parameters())
    inputs = torch.randn(2, 4, *shape, generator=generator(8), dtype=torch.float64)
    pairs = Pairs(inputs, torch.rand(2, 4, CLASSES, generator=generator(9), dtype=torch.float64), inner=inner)
    return around(smooth_mlp(shape), shape, pairs, pairs.parameters())


def gradient(method: Method, of: Problem, seed: int = 0, chunk: int = 8) -> MetaGradient:
    kernels = method.kernels(of.learner, Execution(chunk=chunk))
    return method.gradient(kernels, of.source, of.weights, of.real, generator(seed))


@each()
@pytest.mark.parametrize("source", ["pixels", "generator", "pairs"])
def test_a_loss_and_a_gradient_of_everything_learned_for_each_init(config: MethodConfig, source: str) -> None:
    of = case(source)
    loss_B, grads = gradient(config.build(), of)
    assert loss_B.shape == (3,) and loss_B.isfinite().all()
    params = of.source.parameters()
    assert grads.keys() == params.keys()
    for name, value in params.items():
        assert grads[name].shape == (3, *value.shape), name
        assert grads[name].isfinite().all() and grads[name].dtype == value.dtype, name
        assert not grads[name].requires_grad
    assert not torch.equal(loss_B[0], loss_B[1])
    assert any(value.abs().max() > 0 for value in grads.values())


@each()
def test_the_same_generator_gives_the_same_gradient(config: MethodConfig) -> None:
    of = case("pixels")
    before = {name: value.clone() for name, value in of.source.parameters().items()}
    one, again = (gradient(config.build(), of, seed=3) for _ in range(2))
    assert torch.equal(one.loss_B, again.loss_B)
    assert all(torch.equal(value, again.grads[name]) for name, value in one.grads.items())
    assert all(torch.equal(value, before[name]) for name, value in of.source.parameters().items())


@each()
def test_inits_do_not_depend_on_each_other(config: MethodConfig) -> None:
    of = case("pixels")
    together = gradient(config.build(), of)
    alone = gradient(config.build(), of._replace(weights={name: value[1:2] for name, value in of.weights.items()}))
    apart = gradient(config.build(), of, chunk=2)
    assert_close(alone.loss_B[0], together.loss_B[1], 1e-10)
    for name, value in together.grads.items():
        if not value.any():  # step sizes of a method that takes none
            continue
        assert_close(alone.grads[name][0], value[1], 1e-9, name)
        assert_close(apart.grads[name], value, 1e-9, name)


@each()
def test_validation_trains_and_predicts_with_the_same_kernels(config: MethodConfig) -> None:
    of = case("pixels")
    kernels = config.build().kernels(of.learner, Execution())
    assert isinstance(kernels, Kernels) and kernels.learner is of.learner
    params = of.source.parameters()
    batches = [of.source.batch(params, step) for step in range(of.source.steps)]
    trained = train(kernels, batches, of.weights)
    assert trained.keys() == of.weights.keys()
    assert kernels.predict(trained, of.real.x_NCHW).shape == (3, 4, CLASSES)
    assert score(kernels, trained, [tuple(of.real)], CLASSES).n == 3


@each()
def test_another_goal_takes_the_place_of_the_loss_on_real_data_or_is_refused(config: MethodConfig) -> None:
    of = case("pixels")
    if not config.learns_steps:
        with pytest.raises(LimbeckError, match="cannot learn an attack; use UnrolledConfig"):
            config.build(Relabelled(source=0, target=2))
        return
    usual, other = (gradient(config.build(goal), of) for goal in (None, Relabelled(source=0, target=2)))
    assert not torch.allclose(usual.loss_B, other.loss_B)
    assert not all(torch.allclose(value, other.grads[name]) for name, value in usual.grads.items())


@each()
def test_the_config_is_kept_in_json(config: MethodConfig) -> None:
    values: Any = json.loads(json.dumps(encode(config)))
    assert values["kind"] == METHODS.name_of(type(config))
    assert decode_member("method", values, trust=False) == config
    assert isinstance(config.compilable, bool)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, None)  # type: ignore[arg-type]


# --- unrolling -------------------------------------------------------------------------------------------------------


def test_unrolling_gives_what_its_adjoint_gives() -> None:
    of = case("pixels")._replace(params=case("pixels").source.parameters())
    expected = of.meta_gradient(Unroll())
    result = gradient(UnrolledConfig().build(), of)
    assert_close(result.loss_B, expected.loss_B, 1e-10)
    for name, value in expected.grads.items():
        assert_close(result.grads[name], value, 1e-9, name)


def test_a_loss_that_is_read_every_few_steps_is_their_mean_and_its_gradient_that_of_their_sum() -> None:
    of = case("pixels")._replace(params=case("pixels").source.parameters())
    result = gradient(UnrolledConfig(loss_every=2).build(), of)  # after steps 2 and 4
    expected = of.meta_gradient(Unroll(), objective=RealLoss(every=2))
    assert_close(result.loss_B, expected.loss_B / 2, 1e-10)
    for name, value in expected.grads.items():
        assert_close(result.grads[name], value, 1e-9, name)
    by_one = [gradient(UnrolledConfig().build(), of._replace(source=of.source.first(steps))).loss_B for steps in (2, 4)]
    assert_close(result.loss_B, torch.stack(by_one).mean(0), 1e-10)


def test_unroll_runs_no_kernels_worth_compiling() -> None:
    assert UnrolledConfig().compilable and not UnrolledConfig(adjoint=Unroll()).compilable


def test_a_method_holds_the_states_that_its_adjoint_holds() -> None:
    class Untrained(MethodConfig):
        def build(self, goal: Objective | None = None) -> Method:
            raise NotImplementedError

    assert UnrolledConfig(adjoint=Remat(store_every=4)).stored_states(16) == 8
    assert UnrolledConfig(adjoint=Unroll()).stored_states(16) == 17
    assert Untrained().stored_states(16) == 1


@pytest.mark.parametrize("every", [0, -1])
def test_losses_are_read_at_least_every_step(every: int) -> None:
    with pytest.raises(LimbeckError, match=f"loss_every is {every}; it must be a positive number"):
        UnrolledConfig(loss_every=every)
