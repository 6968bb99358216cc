"""Parameters that training leaves as they are: they take part in everything but the step."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from engine_cases import LEARNED, MODES, Problem, assert_close, assert_same_gradient, problem

from limbeck.engine import ADJOINTS, Execution, Learner, Unroll
from limbeck.engine.learner import Mode

FROZEN = {"smooth-mlp": "3.weight", "running-convnet": "features.1.weight", "noisy-mlp": "module.1.weight"}
"""A parameter of each learner: of plain layers, and of two whose layers carry state."""


def frozen_case(name: str, optimizer: str = "gd") -> Problem:
    """Two inits, one of the parameters frozen."""
    inner = LEARNED[optimizer]
    case = problem(name, inits=2, inner=inner, optimizer=inner.make())
    learner = Learner(module=case.module, optimizer=inner.make(), frozen=frozenset({FROZEN[name]}))
    return case._replace(learner=learner)


@pytest.mark.parametrize("optimizer", LEARNED)
@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_parameter_does_not_move_and_all_others_do(name: str, optimizer: str) -> None:
    case = frozen_case(name, optimizer)
    (frozen,) = case.learner.frozen
    kernels = case.kernels()
    start = states = kernels.init(case.weights)
    assert frozen not in states.params and torch.equal(states.buffers[frozen], case.weights[frozen])
    assert not any(frozen in key for key in states.opt)
    for step in range(case.source.steps):
        states = kernels.step(states, case.source.batch(case.params, step))
    assert torch.equal(states.network[frozen], case.weights[frozen])
    assert states.network.keys() == start.network.keys()
    assert not any(torch.equal(value, case.weights[key]) for key, value in states.params.items())


def test_training_is_that_of_torch_with_the_parameter_left_out() -> None:
    case = frozen_case("smooth-mlp")
    (frozen,) = case.learner.frozen
    module = copy.deepcopy(case.module).double()
    module.load_state_dict({name: value[0] for name, value in case.weights.items()})
    module.get_parameter(frozen).requires_grad_(False)
    sgd = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0)
    for step in range(case.source.steps):
        batch = case.source.batch(case.params, step)
        sgd.param_groups[0]["lr"] = float(batch.h["lr"])
        sgd.zero_grad()
        F.cross_entropy(module(batch.x_MCHW), batch.y_MK).backward()
        sgd.step()
    expected = F.cross_entropy(module(case.real.x_NCHW), case.real.y_N)
    for name in ADJOINTS:
        loss_B = case.meta_gradient(ADJOINTS[name]()).loss_B
        torch.testing.assert_close(loss_B[0], expected.detach(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("optimizer", LEARNED)
@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("adjoint", [name for name in ADJOINTS if name != "unroll"])
def test_every_adjoint_agrees_with_unroll(adjoint: str, name: str, optimizer: str) -> None:
    case = frozen_case(name, optimizer)
    assert_same_gradient(case.meta_gradient(ADJOINTS[adjoint]()), case.meta_gradient(Unroll()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FROZEN)
def test_every_mode_agrees_with_unroll(mode: Mode, name: str) -> None:
    case = frozen_case(name, "sgd")
    expected = case.meta_gradient(Unroll())
    for adjoint in ADJOINTS:
        assert_same_gradient(case.meta_gradient(ADJOINTS[adjoint](), Execution(mode=mode)), expected)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    """A finite difference along the gradient, on the arbiter's own loss."""
    case = frozen_case("smooth-mlp")
    grads = case.meta_gradient(Unroll()).grads
    along = {name: grad[0] for name, grad in grads.items()}
    size = sum(float(value.square().sum()) for value in along.values())
    step = 1e-5 / size**0.5
    ends = []
    for sign in (1, -1):
        params = {name: value + sign * step * along[name] for name, value in case.params.items()}
        ends.append(case._replace(params=params).meta_gradient(Unroll()).loss_B[0])
    assert_close((ends[0] - ends[1]) / (2 * step), torch.tensor(size, dtype=torch.float64), 1e-6)


def test_freezing_matters() -> None:
    case = frozen_case("smooth-mlp")
    free = case._replace(learner=replace(case.learner, frozen=frozenset()))
    assert not torch.allclose(case.meta_gradient(Unroll()).loss_B, free.meta_gradient(Unroll()).loss_B)
