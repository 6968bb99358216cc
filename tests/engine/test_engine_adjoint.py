"""The contract of every adjoint: the meta-gradient of ``Unroll``, which itself must agree with finite differences."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from engine_cases import (
    CLASSES,
    LEARNED,
    MODES,
    OTHER_LEARNERS,
    REFERENCE_LEARNERS,
    LinearGenerator,
    Loss,
    Problem,
    Watched,
    around,
    assert_close,
    assert_same_gradient,
    generator,
    pixels,
    problem,
    smooth_mlp,
    trained_loss,
)
from torch import Tensor, nn

from limbeck.engine import (
    ADJOINTS,
    Adam,
    Adjoint,
    Execution,
    InnerConfig,
    Kernels,
    Learner,
    MetaGradient,
    Objective,
    PixelConfig,
    RealBatch,
    Relabelled,
    Remat,
    State,
    Unroll,
)
from limbeck.engine.learner import Mode
from limbeck.errors import LimbeckError

ALL: dict[str, Adjoint] = {name: kind() for name, kind in ADJOINTS.items()} | {"remat, every 2nd": Remat(store_every=2)}
"""Every adjoint that is registered, and other settings of them."""


@functools.cache
def unrolled(name: str) -> tuple[Problem, MetaGradient]:
    """A learner's problem and the reference's answer, computed once."""
    case = problem(name)
    return case, case.meta_gradient(Unroll())


# Every adjoint x every reference learner


EXECUTIONS = [(mode, stored, chunk) for mode in MODES for stored in (1, 2, 3) for chunk in (1, 2, 8)]
"""Mode, distance of stored states, inits at once: all of their combinations."""

PAIRS = [EXECUTIONS[9 * mode + 3 * stored + (mode + stored) % 3] for mode in range(3) for stored in range(3)]
"""Of these as many as have every pair of two settings once (a Latin square)."""


@pytest.mark.parametrize(
    ("name", "mode", "store_every", "chunk"),
    [(name, *execution) for name in REFERENCE_LEARNERS for execution in (EXECUTIONS if name == "mlp" else PAIRS)],
)
def test_remat_equals_unroll(name: str, mode: Mode, store_every: int, chunk: int) -> None:
    case, expected = unrolled(name)
    execution = Execution(mode=mode, chunk=chunk)
    assert_same_gradient(case.meta_gradient(Remat(store_every=store_every), execution), expected)


@pytest.mark.parametrize("adjoint", ALL)
@pytest.mark.parametrize("name", REFERENCE_LEARNERS)
def test_a_meta_gradient_has_one_row_for_each_init(name: str, adjoint: str) -> None:
    case = problem(name, inits=2)
    result = case.meta_gradient(ALL[adjoint])
    assert result.loss_B.shape == (2,)
    assert result.loss_B[0] != result.loss_B[1]
    assert set(result.grads) == {"images", "lr", "labels"}
    for key, grad in result.grads.items():
        assert grad.shape == (2, *case.params[key].shape)
        assert grad.dtype == torch.float64
        assert not grad.requires_grad
        assert not torch.equal(grad[0], grad[1])
    assert not result.loss_B.requires_grad


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["smooth-convnet", "max-pool-convnet", "running-convnet", "noisy-mlp"])
def test_remat_equals_unroll_on_other_layers(name: str, mode: Mode) -> None:
    case, expected = unrolled(name)
    assert_same_gradient(case.meta_gradient(Remat(store_every=3), Execution(mode=mode)), expected)


def _with(layer: Callable[[Tensor], Tensor]) -> Problem:
    """A convolutional learner with the layer in the middle, where activations have shape (M, 4, 4, 4)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.middle = layer
            self.head = nn.Linear(layer(torch.zeros(2, 4, 4, 4)).flatten(1).shape[1], CLASSES)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            logits: Tensor = self.head(self.middle(self.conv(x_NCHW)).tanh().flatten(1))
            return logits

    shape = (1, 4, 4)
    return around(Net(), shape, *pixels(shape, PixelConfig(steps=2, epochs=1, labels="soft")))


LAYERS: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], tuple[Mode, ...]]] = {
    "layer norm": (lambda: nn.LayerNorm([4, 4, 4]), ("reverse-over-forward",)),
    "functional layer norm": (lambda: lambda x: F.layer_norm(x, (4, 4, 4)), ("reverse-over-forward",)),
    "batch norm": (lambda: nn.BatchNorm2d(4, track_running_stats=False), ("reverse-over-forward",)),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), ("reverse-over-forward",)),
    "gated linear unit": (lambda: lambda x: F.glu(x, 1), ("reverse-over-forward",)),
    "group norm": (lambda: nn.GroupNorm(2, 4), ()),
    "mean-square norm": (lambda: nn.RMSNorm([4, 4, 4]), ()),
    "response norm": (lambda: nn.LocalResponseNorm(2), ()),
    "overlapping maxima": (lambda: nn.MaxPool2d(3, stride=1), ()),
    "own slope": (lambda: nn.PReLU(4), ()),
    "attention": (lambda: lambda x: (x @ x.mT / 2).softmax(-1) @ x, ()),
    "huber": (lambda: lambda x: x * F.huber_loss(x, x.flip(1)), ("forward-over-reverse",)),
    "warped": (
        lambda: lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
        ("forward-over-reverse", "reverse-over-forward"),
    ),
}
"""Layers that learners bring, and the modes in which torch cannot differentiate them twice or does it wrong.

Should a version of torch mend one of them, its test fails for want of a warning: then take the mode out here.
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_that_a_mode_gets_wrong_is_pulled_back_in_another(layer: str, mode: Mode) -> None:
    make, unable = LAYERS[layer]
    case = _with(make())
    expected = case.meta_gradient(Unroll())
    kernels = case.kernels(Execution(mode=mode, chunk=1))
    inputs = (kernels, case.source, case.params, kernels.init(case.weights), case.real)
    with pytest.warns(UserWarning, match=f"{mode} derivatives") if mode in unable else nullcontext():
        result = Remat().meta_gradient(*inputs)
    assert_same_gradient(result, expected)
    assert_same_gradient(Remat().meta_gradient(*inputs), expected)  # and it is said once


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["lenet", "alexcifarnet", "max-pool-convnet"])
def test_remat_equals_unroll_where_pooling_windows_tie(name: str, mode: Mode) -> None:
    case = problem(name, inits=2)
    images = case.params["images"].clone()
    images[..., : images.shape[-1] // 2 + 1] = -0.4  # a constant background, as every digit has one
    case = case._replace(params={**case.params, "images": images})
    assert_same_gradient(case.meta_gradient(Remat(), Execution(mode=mode)), case.meta_gradient(Unroll()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("steps", "epochs", "store_every"), [(1, 1, 1), (1, 5, 2), (5, 1, 4), (3, 2, 100)])
def test_remat_equals_unroll_for_any_number_of_steps(mode: Mode, steps: int, epochs: int, store_every: int) -> None:
    config = PixelConfig(steps=steps, epochs=epochs, ipc=2, labels="soft")
    case = problem("mlp", inits=2, config=config)
    result = case.meta_gradient(Remat(store_every=store_every), Execution(mode=mode))
    assert_same_gradient(result, case.meta_gradient(Unroll()))


@pytest.mark.parametrize("mode", MODES)
def test_remat_equals_unroll_for_hard_labels_and_bounded_step_sizes(mode: Mode) -> None:
    case = problem("lenet", inits=2, config=PixelConfig(steps=2, epochs=2), inner=InnerConfig(lr=0.1, lr_max=0.3))
    expected = case.meta_gradient(Unroll())
    assert set(expected.grads) == {"images", "lr"}
    assert_same_gradient(case.meta_gradient(Remat(), Execution(mode=mode)), expected)


def test_numbers_that_are_not_finite_decide_nothing() -> None:
    case = _with(nn.LayerNorm([4, 4, 4]))
    kernels = case.kernels(Execution(mode="reverse-over-forward"))
    states = kernels.init(case.weights)
    diverged = State({n: torch.full_like(v, torch.nan) for n, v in states.params.items()}, {})
    Remat().meta_gradient(kernels, case.source, case.params, diverged, case.real)
    with pytest.warns(UserWarning, match="forward-over-reverse ones"):
        result = Remat().meta_gradient(kernels, case.source, case.params, states, case.real)
    assert_same_gradient(result, case.meta_gradient(Unroll()))


@pytest.mark.parametrize("adjoint", [Unroll(), Remat()])
def test_a_parameter_that_the_network_does_not_use_changes_nothing(adjoint: Adjoint) -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = smooth_mlp((1, 3, 3))
            self.spare = nn.Linear(2, 2)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            logits: Tensor = self.body(x_NCHW)
            return logits

    shape = (1, 3, 3)
    source, params = pixels(shape, PixelConfig(steps=2, epochs=2, labels="soft"))
    case = around(Spare(), shape, source, params)
    body = {name.removeprefix("body."): v for name, v in case.weights.items() if name.startswith("body.")}
    plain = around(smooth_mlp(shape), shape, source, params)._replace(weights=body)
    for mode in MODES:
        assert_same_gradient(case.meta_gradient(adjoint, Execution(mode=mode)), plain.meta_gradient(Unroll()))


# Unroll x finite differences


def _slope(case: Problem, along: dict[str, Tensor], step: float, loss: Loss = F.cross_entropy) -> float:
    ahead, behind = (
        trained_loss(case, {name: value + sign * step * along[name] for name, value in case.params.items()}, loss=loss)
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("group", ["images", "lr", "labels", "all"])
@pytest.mark.parametrize(
    ("name", "step", "relative"),
    [
        ("smooth-mlp", 1e-4, 1e-7),
        ("smooth-convnet", 1e-4, 1e-6),
        ("running-convnet", 1e-4, 1e-6),
        ("noisy-mlp", 1e-4, 1e-6),
        # Piecewise smooth: a step so small that none of the few thousand kinks lies within it.
        ("lenet", 1e-6, 1e-6),
        ("alexcifarnet", 1e-6, 1e-6),
        ("convnet3", 1e-6, 1e-6),
        ("stridednet", 1e-6, 1e-6),
        ("max-pool-convnet", 1e-6, 1e-6),
        ("mlp", 1e-6, 1e-6),
        ("linear", 1e-4, 1e-7),
    ],
)
def test_unroll_equals_finite_differences(name: str, group: str, step: float, relative: float) -> None:
    case, result = unrolled(name)
    for seed in range(2):
        rng = generator(seed)
        along = {n: torch.randn(v.shape, generator=rng, dtype=v.dtype) for n, v in case.params.items()}
        along = {n: v / v.norm() * (group in (n, "all")) for n, v in along.items()}
        expected = sum((result.grads[n][0] * v).sum().item() for n, v in along.items())
        scale = max(result.grads[n][0].norm().item() for n in along if group in (n, "all"))
        assert scale > 0
        assert abs(_slope(case, along, step) - expected) <= relative * scale


@pytest.mark.parametrize("name", [*REFERENCE_LEARNERS, *OTHER_LEARNERS])
def test_the_loss_is_that_of_a_network_trained_by_torch(name: str) -> None:
    case, result = unrolled(name)
    for b, loss in enumerate(result.loss_B.tolist()):
        assert loss == pytest.approx(trained_loss(case, case.params, b), rel=1e-10)


# Several inits at once


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*REFERENCE_LEARNERS, "running-convnet", "noisy-mlp"])
def test_inits_at_once_equal_single_ones(name: str, mode: Mode) -> None:
    case = problem(name, inits=3)
    together = case.meta_gradient(Remat(), Execution(mode=mode, chunk=3))
    for b in range(3):
        alone = case._replace(weights={n: v[b : b + 1] for n, v in case.weights.items()})
        single = alone.meta_gradient(Remat(), Execution(mode=mode, chunk=1))
        row = MetaGradient(together.loss_B[b : b + 1], {n: g[b : b + 1] for n, g in together.grads.items()})
        assert_same_gradient(row, single, 1e-11)


# Inner optimisers with a state


@functools.cache
def generated(optimizer: str) -> tuple[Problem, MetaGradient]:
    """A smooth learner taught by a generator-like source, with learned hyper-parameters."""
    shape = (1, 3, 3)
    source = LinearGenerator(shape, 4, LEARNED[optimizer])
    case = around(smooth_mlp(shape), shape, source, source.parameters(), optimizer=LEARNED[optimizer].make())
    return case, case.meta_gradient(Unroll(), objective=Watched([1]))


@pytest.mark.parametrize(("mode", "store_every", "chunk"), PAIRS)
@pytest.mark.parametrize("optimizer", LEARNED)
def test_any_source_and_inner_optimizer_goes_through_remat(
    optimizer: str, mode: Mode, store_every: int, chunk: int
) -> None:
    case, expected = generated(optimizer)
    execution = Execution(mode=mode, chunk=chunk)
    result = case.meta_gradient(Remat(store_every=store_every), execution, Watched([1]))
    assert set(result.grads) == {"weight", "bias", "labels", *case.learner.optimizer.hyperparameters}
    assert_same_gradient(result, expected)


@pytest.mark.parametrize("optimizer", LEARNED)
def test_unroll_through_an_optimizer_state_equals_finite_differences(optimizer: str) -> None:
    case, result = generated(optimizer)
    for name, value in case.params.items():
        along = torch.randn(value.shape, generator=generator(8), dtype=value.dtype)
        losses = [
            case._replace(params={**case.params, name: value + sign * 1e-5 * along})
            .meta_gradient(Unroll(), objective=Watched([1]))
            .loss_B
            for sign in (1, -1)
        ]
        slope_B = (result.grads[name] * along).flatten(1).sum(1) if along.ndim else result.grads[name] * along
        assert_close((losses[0] - losses[1]) / 2e-5, slope_B, 1e-6, name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", LEARNED)
def test_optimizer_state_goes_through_a_network_with_kinks(optimizer: str, mode: Mode) -> None:
    shape = (1, 12, 12)
    source = LinearGenerator(shape, 3, LEARNED[optimizer])
    module = REFERENCE_LEARNERS["lenet"][1](shape)
    rule = LEARNED[optimizer].make()
    case = around(module, shape, source, source.parameters(), inits=2, optimizer=rule)
    result, expected = case.meta_gradient(Remat(), Execution(mode=mode)), case.meta_gradient(Unroll())
    for name in case.params:
        assert_close(result.grads[name], expected.grads[name], 1e-8, name)


def test_adam_has_a_meta_gradient_where_a_gradient_is_zero() -> None:
    """With epsilon outside the root it is not a number: d√v/dv is infinite at 0."""
    params = {"a": torch.zeros(2, dtype=torch.float64)}
    adam = Adam(epsilon=1e-8)
    h = {n: torch.tensor(v, dtype=torch.float64) for n, v in [("lr", 0.1), ("beta1", 0.9), ("beta2", 0.99)]}
    h["weight_decay"] = torch.tensor(0.0, dtype=torch.float64)
    gradient = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    state = State(params, adam.init(params))
    for _ in range(2):
        state = adam.update(state, {"a": gradient}, h)
    (meta,) = torch.autograd.grad(state.params["a"].sum(), gradient)
    # m̂ is linear in g and v̂ is g² for a constant gradient: θ = -2 · 0.1 · g / √(g² + ε), of slope -0.2 / √ε at 0
    torch.testing.assert_close(meta[0], torch.tensor(-0.2 / 1e-4, dtype=torch.float64))


# Objectives


@pytest.mark.parametrize("also", [[1], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("store_every", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_an_objective_may_observe_steps_in_between(mode: Mode, store_every: int, also: list[int]) -> None:
    case, at_the_end = unrolled("mlp")
    objective = Watched(also)
    expected = case.meta_gradient(Unroll(), objective=objective)
    assert (expected.loss_B > at_the_end.loss_B).all()
    result = case.meta_gradient(Remat(store_every=store_every), Execution(mode=mode, chunk=2), objective)
    assert_same_gradient(result, expected)


@pytest.mark.parametrize("adjoint", ALL)
def test_an_objective_over_steps_is_the_sum_of_shorter_runs(adjoint: str) -> None:
    whole = problem("smooth-mlp", config=PixelConfig(steps=4, epochs=1, labels="soft"))
    total = whole.meta_gradient(ALL[adjoint], objective=Watched([1, 2, 3])).loss_B
    single = torch.zeros_like(total)
    for steps in range(1, 5):
        part = problem("smooth-mlp", config=PixelConfig(steps=steps, epochs=1, labels="soft"))
        part = part._replace(
            params={n: v[:steps] for n, v in whole.params.items()}, weights=whole.weights, real=whole.real
        )
        single += part.meta_gradient(Unroll()).loss_B
    assert_close(total, single, 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_an_objective_is_any_function_of_the_parameters_and_real_data(mode: Mode) -> None:
    class Distance(Objective):
        def value(self, learner: Learner, params: dict[str, Tensor], x_NCHW: Tensor, y_N: Tensor) -> Tensor:
            outputs_NK = learner.predict(params, x_NCHW)
            return (outputs_NK - F.one_hot(y_N, CLASSES)).square().mean() + 0.1 * params[
                "layers.0.weight"
            ].square().sum()

    case, _ = unrolled("mlp")
    result = case.meta_gradient(Remat(), Execution(mode=mode), Distance())
    assert_same_gradient(result, case.meta_gradient(Unroll(), objective=Distance()))


def _kept(logits_NK: Tensor, y_N: Tensor, keep: float) -> Tensor:
    """Class 1 as class 0, and the others: the four real images are of the classes 0, 2, 1, 1."""
    assert y_N.tolist() == [0, 2, 1, 1]
    moved = F.cross_entropy(logits_NK[2:], torch.tensor([0, 0]))
    return moved + keep * F.cross_entropy(logits_NK[:2], torch.tensor([0, 2]))


RELABELLED: dict[str, tuple[Relabelled, Loss]] = {
    "paper": (
        Relabelled(source=1, target=0),
        lambda logits_NK, y_N: F.cross_entropy(logits_NK, torch.tensor([0, 2, 0, 0])),
    ),
    "keep": (Relabelled(source=1, target=0, keep=0.7), functools.partial(_kept, keep=0.7)),
    "nothing else": (Relabelled(source=1, target=0, keep=0.0), functools.partial(_kept, keep=0.0)),
}
"""The objective of an attack, and the same written out."""


@pytest.mark.parametrize(
    ("objective", "mode", "chunk"),
    [
        (objective, mode, 1 + 2 * ((i + j) % 2))
        for i, objective in enumerate(RELABELLED)
        for j, mode in enumerate(MODES)
    ],
)
@pytest.mark.parametrize("name", ["lenet", "mlp", "running-convnet"])
def test_remat_equals_unroll_for_a_class_by_another_name(name: str, objective: str, mode: Mode, chunk: int) -> None:
    case, other = unrolled(name)
    goal = RELABELLED[objective][0]
    expected = case.meta_gradient(Unroll(), objective=goal)
    assert not torch.equal(expected.grads["images"], other.grads["images"])
    execution = Execution(mode=mode, chunk=chunk)
    assert_same_gradient(case.meta_gradient(Remat(store_every=3), execution, goal), expected)


@pytest.mark.parametrize("objective", RELABELLED)
@pytest.mark.parametrize(("name", "step"), [("smooth-mlp", 1e-4), ("running-convnet", 1e-4), ("lenet", 1e-6)])
def test_a_class_by_another_name_against_finite_differences(name: str, step: float, objective: str) -> None:
    case, _ = unrolled(name)
    goal, loss = RELABELLED[objective]
    result = case.meta_gradient(Unroll(), objective=goal)
    for b, value in enumerate(result.loss_B.tolist()):
        assert value == pytest.approx(trained_loss(case, case.params, b, loss), rel=1e-10)
    along = {n: torch.randn(v.shape, generator=generator(9), dtype=v.dtype) for n, v in case.params.items()}
    along = {n: v / v.norm() for n, v in along.items()}
    expected = sum((result.grads[n][0] * v).sum().item() for n, v in along.items())
    scale = max(result.grads[n][0].norm().item() for n in along)
    assert abs(_slope(case, along, step, loss) - expected) <= 1e-6 * scale


# What is left alone, and what is kept


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("adjoint", ALL)
def test_the_module_and_the_inputs_are_only_read(adjoint: str, frozen: bool) -> None:
    case = problem("lenet", inits=2)
    case.module.requires_grad_(not frozen)
    tensors = [*case.module.parameters(), *case.params.values(), *case.weights.values(), *case.real]
    before = [(tensor.detach().clone(), tensor._version, tensor.requires_grad) for tensor in tensors]
    result = case.meta_gradient(ALL[adjoint])
    assert result.grads["images"].any()
    for tensor, (value, version, needs_grad) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)
        assert (tensor._version, tensor.requires_grad, tensor.grad) == (version, needs_grad, None)


@pytest.mark.parametrize("adjoint", ALL)
def test_values_born_in_the_module_do_not_matter(adjoint: str) -> None:
    _, expected = unrolled("mlp")
    other = problem("mlp")
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter.fill_(float("nan"))
    assert_same_gradient(other.meta_gradient(ALL[adjoint]), expected)


@pytest.mark.parametrize("adjoint", ALL)
def test_gradients_are_the_same_again(adjoint: str) -> None:
    case = problem("convnet3", inits=2)
    first, second = (case.meta_gradient(ALL[adjoint]) for _ in range(2))
    assert torch.equal(first.loss_B, second.loss_B)
    assert all(torch.equal(grad, second.grads[name]) for name, grad in first.grads.items())


@pytest.mark.parametrize(("store_every", "most"), [(1, 12), (3, 12 // 3 + 3), (4, 12 // 4 + 4), (12, 13)])
def test_remat_keeps_few_states(monkeypatch: pytest.MonkeyPatch, store_every: int, most: int) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    seen: list[int] = []
    step, pull = Kernels.step, Kernels.pull

    def counted_step(self: Kernels, *args: object) -> State:
        state = step(self, *args)  # type: ignore[arg-type]
        alive.add(state.params["linear.weight"])
        return state

    def counted_pull(self: Kernels, *args: object) -> object:
        seen.append(len(alive))
        return pull(self, *args)  # type: ignore[arg-type]

    case = problem("linear", inits=2, config=PixelConfig(steps=4, epochs=3, labels="soft"))
    expected = case.meta_gradient(Unroll())
    monkeypatch.setattr(Kernels, "step", counted_step)
    monkeypatch.setattr(Kernels, "pull", counted_pull)
    result = case.meta_gradient(Remat(store_every=store_every))
    assert_same_gradient(result, expected)
    assert len(seen) == 12
    assert max(seen) <= most
    assert len(alive) == 0


@pytest.mark.parametrize(("steps", "every", "states"), [(12, 1, 13), (12, 3, 7), (12, 5, 8), (12, 12, 13), (4, 9, 5)])
def test_an_adjoint_says_how_many_states_it_holds(steps: int, every: int, states: int) -> None:
    assert Remat(store_every=every).stored_states(steps) == states
    assert Unroll().stored_states(steps) == steps + 1


@pytest.mark.parametrize("adjoint", ALL)
def test_every_adjoint_equals_the_arbiter(adjoint: str) -> None:
    case, expected = unrolled("lenet")
    assert_same_gradient(case.meta_gradient(ALL[adjoint]), expected)


def test_adjoints_by_name() -> None:
    assert ADJOINTS.items() == (("remat", Remat), ("unroll", Unroll))
    with pytest.raises(LimbeckError, match="did you mean 'remat'"):
        ADJOINTS["remta"]
    with pytest.raises(LimbeckError, match="adjoint 'remat' is registered twice"):
        ADJOINTS.joined("remat", Unroll)
    with pytest.raises(LimbeckError, match="store_every is 0"):
        Remat(store_every=0)


def test_a_real_batch_is_images_and_targets() -> None:
    case, _ = unrolled("linear")
    one = case._replace(real=RealBatch(*(tensor[:1] for tensor in case.real)))
    assert_same_gradient(one.meta_gradient(Remat()), one.meta_gradient(Unroll()))
