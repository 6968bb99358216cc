"""The learner's pure functions against torch's own losses, optimisers and modules, and ways to run them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from engine_cases import (
    CLASSES,
    MODES,
    OTHER_LEARNERS,
    REFERENCE_LEARNERS,
    assert_close,
    assert_same_gradient,
    generator,
    problem,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.engine import (
    Adam,
    Batch,
    Execution,
    GradientDescent,
    InnerOptimizer,
    Kernels,
    Learner,
    Momentum,
    PixelConfig,
    RealLoss,
    Remat,
    State,
    Unroll,
    soft_cross_entropy,
)
from limbeck.engine.learner import Mode
from limbeck.models import MLP

seeds = st.integers(0, 2**31 - 1)


def _randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


# The loss


@given(images=st.integers(1, 6), classes=st.integers(1, 7), scale=st.floats(0.01, 300), seed=seeds)
def test_cross_entropy_of_one_hot_rows(images: int, classes: int, scale: float, seed: int) -> None:
    logits_MK = scale * _randn(images, classes, seed=seed)
    y_M = torch.randint(classes, (images,), generator=generator(seed))
    loss = soft_cross_entropy(logits_MK, F.one_hot(y_M, classes).double())
    torch.testing.assert_close(loss, F.cross_entropy(logits_MK, y_M), rtol=1e-12, atol=1e-12)


@given(images=st.integers(1, 6), classes=st.integers(1, 7), scale=st.floats(0.01, 300), seed=seeds)
def test_cross_entropy_of_distributions(images: int, classes: int, scale: float, seed: int) -> None:
    logits_MK = scale * _randn(images, classes, seed=seed)
    y_MK = _randn(images, classes, seed=seed + 1).softmax(-1)
    loss = soft_cross_entropy(logits_MK, y_MK)
    torch.testing.assert_close(loss, F.cross_entropy(logits_MK, y_MK), rtol=1e-12, atol=1e-12)


def test_cross_entropy_stays_finite_for_extreme_logits() -> None:
    logits_MK = torch.tensor([[1e4, -1e4], [0.0, 0.0]])
    loss = soft_cross_entropy(logits_MK, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert loss.item() == pytest.approx(0.5 * torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_real_loss_is_never_coarser_than_float32(dtype: torch.dtype) -> None:
    module = MLP((1, 2, 2), CLASSES, (4,)).to(dtype)
    params = {name: p.detach() for name, p in module.named_parameters()}
    x_NCHW, y_N = _randn(5, 1, 2, 2, seed=0).to(dtype), torch.tensor([0, 1, 2, 1, 0])
    loss = RealLoss().value(Learner.of(module), params, x_NCHW, y_N)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(loss, F.cross_entropy(module(x_NCHW).to(loss.dtype), y_N).detach())


def test_the_real_loss_may_be_another() -> None:
    case = problem("smooth-mlp", inits=2)
    loss = RealLoss(loss=lambda outputs, targets: (outputs - F.one_hot(targets, CLASSES)).square().mean())
    result = case.meta_gradient(Remat(), objective=loss)
    assert_same_gradient(result, case.meta_gradient(Unroll(), objective=loss))
    assert not torch.equal(result.loss_B, case.meta_gradient(Remat()).loss_B)


# Steps


def _batches(shape: tuple[int, int, int], steps: int) -> list[Batch]:
    return [
        Batch(
            _randn(4, *shape, seed=t),
            _randn(4, CLASSES, seed=t + 100).softmax(-1),
            {
                "lr": torch.tensor(0.05 * (t + 1), dtype=torch.float64),
                "momentum": torch.tensor(0.8, dtype=torch.float64),
                "weight_decay": torch.tensor(0.1, dtype=torch.float64),
                "beta1": torch.tensor(0.9, dtype=torch.float64),
                "beta2": torch.tensor(0.99, dtype=torch.float64),
            },
        )
        for t in range(steps)
    ]


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (GradientDescent(), lambda params: torch.optim.SGD(params, lr=1.0)),
        (Momentum(), lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.8, weight_decay=0.1)),
        (
            Momentum(nesterov=True),
            lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.8, weight_decay=0.1, nesterov=True),
        ),
        (
            Adam(epsilon=1e-32),
            lambda params: torch.optim.Adam(params, betas=(0.9, 0.99), weight_decay=0.1, eps=1e-16),
        ),
    ],
)
@pytest.mark.parametrize("name", REFERENCE_LEARNERS)
def test_steps_equal_those_of_torch(name: str, optimizer: InnerOptimizer, reference: object) -> None:
    shape, _ = REFERENCE_LEARNERS[name]
    case = problem(name, inits=2, optimizer=optimizer)
    kernels = case.kernels()
    states = kernels.init(case.weights)
    single = case.learner.init({n: v[1] for n, v in case.weights.items()})
    module = copy.deepcopy(case.module).double()
    module.load_state_dict(single.params)
    sgd = reference(module.parameters())  # type: ignore[operator]
    for batch in _batches(shape, 5):
        states = kernels.step(states, batch)
        single = case.learner.step(single, batch)
        sgd.param_groups[0]["lr"] = batch.h["lr"].item()
        sgd.zero_grad()
        F.cross_entropy(module(batch.x_MCHW), batch.y_MK).backward()
        sgd.step()
    for n, parameter in module.named_parameters():
        # Adam divides a gradient by its size, and so the rounding of one that is nearly 0
        near = {"rtol": 1e-7, "atol": 1e-9} if isinstance(optimizer, Adam) else {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(single.params[n], parameter.detach(), **near)
        torch.testing.assert_close(states.params[n][1], parameter.detach(), **near)
    moved = [not torch.equal(p, case.weights[n][1]) for n, p in module.named_parameters() if p.ndim > 1]
    assert moved
    assert all(moved)


def test_gradient_descent_is_a_pure_function() -> None:
    params = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    grads = {"a": torch.tensor([10.0, -10.0]), "b": torch.tensor(1.0)}
    state = State(params, GradientDescent().init(params))
    after = GradientDescent().update(state, grads, {"lr": torch.tensor(0.1)})
    torch.testing.assert_close(after, State({"a": torch.tensor([0.0, 3.0]), "b": torch.tensor(2.9)}, {}))
    assert params["a"].tolist() == [1.0, 2.0]
    assert GradientDescent.hyperparameters == ("lr",)


@pytest.mark.parametrize("optimizer", [GradientDescent(), Momentum(), Adam()])
@pytest.mark.parametrize("inits", [1, 3])
def test_every_init_gets_an_optimizer_state_of_its_own(optimizer: InnerOptimizer, inits: int) -> None:
    case = problem("mlp", inits=inits, optimizer=optimizer)
    states = case.kernels().init(case.weights)
    assert all(torch.equal(states.params[name], value) for name, value in case.weights.items())
    for b in range(inits):
        single = case.learner.init({name: value[b] for name, value in case.weights.items()})
        assert states.opt.keys() == single.opt.keys()
        assert all(torch.equal(states.opt[name][b], value) for name, value in single.opt.items())
    after = case.kernels().step(states, _batches((1, 3, 3), 1)[0])
    assert {name: value.shape for name, value in after.opt.items()} == {n: v.shape for n, v in states.opt.items()}


@pytest.mark.parametrize("inits", [1, 3])
@pytest.mark.parametrize("name", REFERENCE_LEARNERS)
def test_logits_equal_the_modules_own(name: str, inits: int) -> None:
    case = problem(name, inits=inits)
    logits_BNK = case.kernels().predict(case.weights, case.real.x_NCHW)
    module = copy.deepcopy(case.module).double()
    for b in range(inits):
        module.load_state_dict({n: v[b] for n, v in case.weights.items()})
        assert_close(logits_BNK[b], module(case.real.x_NCHW).detach(), 1e-12)


# The pull-back of one step


@pytest.mark.parametrize("optimizer", [GradientDescent(), Momentum(), Momentum(nesterov=True), Adam()])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["lenet", "smooth-mlp", "running-convnet", "noisy-mlp"])
def test_the_pull_back_of_a_step_is_autograds(name: str, mode: Mode, optimizer: InnerOptimizer) -> None:
    case = problem(name, inits=1, optimizer=optimizer)
    learner = case.learner
    shape = (REFERENCE_LEARNERS | OTHER_LEARNERS)[name][0]
    first, second = _batches(shape, 2)
    state = learner.step(learner.init({n: v[0] for n, v in case.weights.items()}), first)  # a state that is not 0
    rng = generator(9)

    def like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: torch.randn(v.shape, generator=rng, dtype=v.dtype) for n, v in tensors.items()}

    cotangent = State(*(like(field) for field in state))
    states_cot, batch_cot = learner.step_vjp(mode)(state, second, cotangent)

    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    params, opt, buffers = ({n: leaf(v) for n, v in field.items()} for field in state)
    x_MCHW, y_MK, h = leaf(second.x_MCHW), leaf(second.y_MK), {n: leaf(v) for n, v in second.h.items()}
    network = params | buffers
    logits_MK = torch.func.functional_call(learner.training_module, network, (x_MCHW,))
    loss = -(y_MK * logits_MK.log_softmax(-1)).sum(-1).mean()
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    after = optimizer.update(State(params, opt), dict(zip(params, grads, strict=True)), h)
    after = after._replace(buffers={n: network[n] for n in buffers})
    scalar = sum((value * cotangent[i][n]).sum() for i, field in enumerate(after) for n, value in field.items())
    assert isinstance(scalar, Tensor)
    expected = torch.autograd.grad(scalar, leaves, materialize_grads=True)
    cotangents = [
        *states_cot.params.values(),
        *states_cot.opt.values(),
        *states_cot.buffers.values(),
        batch_cot.x_MCHW,
        batch_cot.y_MK,
        *(batch_cot.h[n] for n in h),
    ]
    assert len(cotangents) == len(expected)
    for actual, wanted in zip(cotangents, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)
    assert batch_cot.h["lr"].abs() > 1e-6  # the step size matters


# Ways to run


@pytest.mark.parametrize("name", ["lenet", "alexcifarnet", "convnet3", "mlp"])
def test_channels_last_changes_nothing(name: str) -> None:
    case = problem(name, inits=2)  # convnet3's normalisation has no batching rule for this layout
    for chunk in (1, 2):
        plain, laid_out = (
            case.meta_gradient(Remat(), Execution(channels_last=flag, chunk=chunk)) for flag in (False, True)
        )
        assert_same_gradient(laid_out, plain)


@pytest.mark.parametrize("name", ["mlp", "convnet3"])
def test_bfloat16_is_for_the_real_batch_only_and_near(name: str) -> None:
    case = problem(name, inits=2, dtype=torch.float32)
    plain, coarse = (case.meta_gradient(Remat(), Execution(bfloat16=flag)) for flag in (False, True))
    assert coarse.loss_B.dtype == torch.float32
    assert all(grad.dtype == torch.float32 for grad in coarse.grads.values())
    assert_same_gradient(coarse, plain, 0.05)
    assert not torch.equal(coarse.loss_B, plain.loss_B)


@pytest.mark.parametrize("mode", MODES)
def test_float32_is_near_float64(mode: Mode) -> None:
    config = PixelConfig(steps=2, epochs=2, labels="soft")
    exact = problem("smooth-convnet", inits=2, config=config)
    coarse = exact._replace(
        params={n: v.float() for n, v in exact.params.items()},
        weights={n: v.float() for n, v in exact.weights.items()},
        real=type(exact.real)(exact.real.x_NCHW.float(), exact.real.y_N),
    )
    result, expected = coarse.meta_gradient(Remat(), Execution(mode=mode)), exact.meta_gradient(Unroll())
    assert all(grad.dtype == torch.float32 for grad in result.grads.values())
    doubled = type(result)(result.loss_B.double(), {n: g.double() for n, g in result.grads.items()})
    # In float32 forward over reverse mode is off by 1.8e-4 where kernels use no vector instructions.
    assert_same_gradient(doubled, expected, 3e-4)


def test_kernels_serve_any_number_of_inits() -> None:
    case = problem("mlp", inits=5)
    kernels = Kernels(case.learner, RealLoss(), Execution(chunk=2))  # chunks of 2, 2 and 1 init
    batch = case.source.batch(case.params, 0)
    states = kernels.init(case.weights)
    together = kernels.step(states, batch)
    for b in range(5):
        single = kernels.step(State({n: v[b : b + 1] for n, v in states.params.items()}, {}), batch)
        for n, value in single.params.items():
            torch.testing.assert_close(value, together.params[n][b : b + 1], rtol=1e-12, atol=1e-13)
    values_B, (grads, buffers) = kernels.terminal(states, *case.real)
    assert not buffers
    assert values_B.shape == (5,)
    assert all(grads[n].shape == v.shape for n, v in case.weights.items())


@pytest.mark.parametrize("optimizer", [GradientDescent(), Momentum(), Adam(epsilon=1e-12)])
@pytest.mark.parametrize("name", ["lenet", "running-convnet", "noisy-mlp"])
@pytest.mark.parametrize("inits", [1, 3])
def test_each_init_takes_a_step_on_a_batch_of_its_own(name: str, inits: int, optimizer: InnerOptimizer) -> None:
    case = problem(name, inits=inits, optimizer=optimizer)
    kernels = case.kernels()
    together = kernels.init(case.weights)
    alone = [kernels.init({n: v[b : b + 1] for n, v in case.weights.items()}) for b in range(inits)]
    shape = (REFERENCE_LEARNERS | OTHER_LEARNERS)[name][0]
    rng = generator(6)
    for _ in range(3):
        x_BMCHW = torch.randn(inits, 4, *shape, generator=rng, dtype=torch.float64)
        y_BMK = torch.randn(inits, 4, CLASSES, generator=rng, dtype=torch.float64).softmax(-1)
        h = {n: 0.1 + 0.5 * torch.rand(inits, generator=rng).double() for n in optimizer.hyperparameters}
        together = kernels.step_each(together, Batch(x_BMCHW, y_BMK, h))
        alone = [
            kernels.step(state, Batch(x_BMCHW[b], y_BMK[b], {n: v[b] for n, v in h.items()}))
            for b, state in enumerate(alone)
        ]
    for kind, values in zip(State._fields, together, strict=True):
        for key, value in values.items():
            expected = torch.cat([getattr(state, kind)[key] for state in alone])
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
