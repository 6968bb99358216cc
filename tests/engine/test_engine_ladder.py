"""Modules of all kinds get the gradient of the arbiter, on whatever rung, or are refused with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CLASSES, Problem, around, assert_same_gradient, generator, pixels
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from limbeck.engine import Execution, Kernels, Learner, PixelConfig, RealLoss, Remat, Unroll
from limbeck.engine.ladder import Function, Ladder
from limbeck.errors import LimbeckError

SHAPE = (1, 4, 4)


class Wrapped(nn.Module):
    """A body, and whatever a function does with it and the images."""

    def __init__(self, function: Callable[[Wrapped, Tensor], object], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.body = nn.Sequential(nn.Flatten(), *(layers or (nn.Linear(16, CLASSES),)))
        self.shift = nn.Parameter(torch.zeros(16))

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


class OldFunction(torch.autograd.Function):
    """Written as torch asked for until version 2, in one piece."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * x.cos()


def fill(self: Wrapped, x: Tensor) -> Tensor:
    logits = torch.zeros(len(x), CLASSES, dtype=x.dtype)
    for k in range(CLASSES):
        logits[:, k] = self.body(x)[:, k]
    return logits


def add_in_place(self: Wrapped, x: Tensor) -> Tensor:
    x = x.flatten(1)
    x += self.shift
    return self.body(x)


def branch(self: Wrapped, x: Tensor) -> Tensor:
    logits = self.body(x)
    return logits if logits.sum().item() > 1e9 else 2 * logits


def keep(self: Wrapped, x: Tensor) -> Tensor:
    self.kept = self.body(x)
    return self.kept * 2


def tied(self: Wrapped, x: Tensor) -> Tensor:
    inner, outer = self.body[1], self.body[2]
    return outer(torch.tanh(inner(x.flatten(1))) @ inner.weight)


class Attention(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed, self.head = nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True) if "multi" in kind else nn.Identity()
        if kind == "encoder":
            self.attend = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x[:, 0])
        if self.kind == "function":
            h = F.scaled_dot_product_attention(h, h, h)
        elif self.kind == "encoder":
            h = self.attend(h)
        else:
            h = self.attend(h, h, h, need_weights=self.kind == "multi")[0]
        return self.head(h.mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[:, 0])[0][:, -1])


def normed(cast: Callable[[Tensor], Tensor]) -> nn.Module:
    return Wrapped(
        lambda self, x: self.body(cast(x)), nn.Linear(16, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, CLASSES)
    )


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(16, CLASSES)))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "fills a buffer": lambda: Wrapped(fill),
    "adds in place": lambda: Wrapped(add_in_place),
    "rectifies its input in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, CLASSES)),
    "branches on a value": lambda: Wrapped(branch),
    "an old autograd.Function": lambda: Wrapped(lambda self, x: OldFunction.apply(self.body(x))),
    "keeps its activations": lambda: Wrapped(keep),
    "ties its weights": lambda: Wrapped(tied, nn.Linear(16, 5), nn.Linear(16, CLASSES)),
    "returns a tuple": lambda: Wrapped(lambda self, x: (self.body(x), x)),
    "returns a dict": lambda: Wrapped(lambda self, x: {"logits": self.body(x)}),
    "layer norm": lambda: normed(lambda x: x),
    "attention by a function": lambda: Attention("function"),
    "multi-head attention": lambda: Attention("multi"),
    "multi-head attention, weightless": lambda: Attention("multi-fast"),
    "transformer": lambda: Attention("encoder"),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "weight norm by hooks": old_weight_norm,
    "weight norm by a parametrisation": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(16, CLASSES))
    ),
}


@contextmanager
def told() -> Iterator[list[str]]:
    """What is warned of; a few of torch's own, of derivatives in float64 of what fused kernels do, are let through."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(each.message) for each in caught if "torch.jit" not in str(each.message)]


def case_of(name: str, dtype: torch.dtype = torch.float64) -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = MODULES[name]()
    source, params = pixels(SHAPE, PixelConfig(steps=2, epochs=1, labels="soft"), dtype=dtype)
    return around(module, SHAPE, source, params, inits=2, dtype=dtype)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_gets_the_gradient_of_the_arbiter(name: str) -> None:
    case = case_of(name)
    with told():
        assert_same_gradient(case.meta_gradient(Remat()), case.meta_gradient(Unroll()), 1e-8)


def test_activation_checkpoints_change_nothing() -> None:
    """They run a part of the network again in the backward pass, and must find the same weights then."""
    source, params = pixels(SHAPE, PixelConfig(steps=2, epochs=1, labels="soft"))
    body = nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, CLASSES)
    plain = around(Wrapped(lambda self, x: self.body(x), *body), SHAPE, source, params, inits=2)
    kept = around(
        Wrapped(lambda self, x: checkpoint(self.body, x, use_reentrant=False), *body), SHAPE, source, params, inits=2
    )
    with told():
        assert_same_gradient(kept.meta_gradient(Remat()), plain.meta_gradient(Unroll()))
        with pytest.raises(RuntimeError, match="use the adjoint remat"):
            kept.meta_gradient(Unroll())


@pytest.mark.parametrize("name", ["fills a buffer", "branches on a value", "an old autograd.Function"])
def test_one_warning_says_why_and_what_it_costs(name: str) -> None:
    with told() as messages:
        case_of(name).meta_gradient(Remat())
    ours = [message for message in messages if message.startswith("With this learner")]
    assert len(ours) == 1 and "slower" in ours[0] and ": " in ours[0], messages


@pytest.mark.parametrize(
    "cast",
    [lambda x: x.float(), lambda x: x @ torch.cos(torch.arange(4.0) + torch.arange(4.0)[:, None])],
    ids=["input", "matrix"],
)
def test_a_network_that_knows_float32_only_is_compared_in_float32(cast: Callable[[Tensor], Tensor]) -> None:
    """Forward derivatives of layer norm are wrong at second order; float64 does not pass through such a network."""
    source, params = pixels(SHAPE, PixelConfig(steps=2, epochs=1, labels="soft"), dtype=torch.float32)
    case = around(normed(cast), SHAPE, source, params, inits=2, dtype=torch.float32)
    with pytest.warns(UserWarning, match="reverse-over-forward derivatives of this learner are wrong"):
        result = case.meta_gradient(Remat())
    assert_same_gradient(result, case.meta_gradient(Unroll()), 1e-4)


def test_what_has_no_second_derivative_on_any_rung_is_refused_with_the_reason() -> None:
    source, params = pixels(SHAPE, PixelConfig(steps=1, epochs=1, labels="soft"))
    module = Wrapped(lambda self, x: torch.cdist(self.body(x), torch.eye(CLASSES, dtype=x.dtype), p=1.5))
    case = around(module, SHAPE, source, params, inits=2)
    with told(), pytest.raises(LimbeckError, match="cannot be differentiated once more.*cdist"):
        case.meta_gradient(Remat())


def test_a_learner_never_changes_the_images() -> None:
    case = case_of("rectifies its input in place")
    batch = case.source.batch(case.params, 0)
    before = batch.x_MCHW.clone()
    kernels = Kernels(case.learner, RealLoss(), Execution())
    states = kernels.init(case.weights)
    with told():
        kernels.step(states, batch)
        kernels.predict(case.weights, batch.x_MCHW)
    assert torch.equal(batch.x_MCHW, before)


def test_what_looks_at_its_mode_predicts_in_evaluation_mode() -> None:
    module = Wrapped(lambda self, x: self.body(x) if not self.training else self.body(x) * 0 + 7)
    learner = Learner.of(module)
    weights = {name: p.detach() for name, p in module.named_parameters()}
    x = torch.randn(2, *SHAPE, generator=generator())
    assert torch.equal(learner.predict(weights, x), functional_call(module.eval(), weights, (x,)))


def test_frozen_parameters_are_no_weights() -> None:
    module = Wrapped(lambda self, x: self.body(x), nn.Linear(16, 5), nn.Linear(5, CLASSES))
    module.body[1].requires_grad_(False)
    module.counts = nn.Parameter(torch.arange(3), requires_grad=False)
    source, params = pixels(SHAPE, PixelConfig(steps=2, epochs=1, labels="soft"))
    case = around(module.double(), SHAPE, source, params, inits=2)
    assert set(case.weights) == {"shift", "body.2.weight", "body.2.bias"}
    with told():
        assert_same_gradient(case.meta_gradient(Remat()), case.meta_gradient(Unroll()))


@pytest.mark.parametrize("start", [0.0, 1e-4])
def test_a_mode_is_tried_away_from_where_a_network_starts(start: float) -> None:
    """A head of zeros hides the layer norm before it, whose forward derivative is wrong at second order."""
    module = normed(lambda x: x)
    source, params = pixels(SHAPE, PixelConfig(steps=6, epochs=1, labels="soft"))
    case = around(module, SHAPE, source, params, inits=1)
    weights = {n: v.clone() for n, v in case.weights.items()}
    weights["body.4.weight"] *= start
    kernels = Kernels(case.learner, RealLoss(), Execution())
    with told():
        Remat().meta_gradient(kernels, source.first(1), params, kernels.init(weights), case.real)
        assert kernels.mode == "forward-over-reverse"
        result = Remat().meta_gradient(kernels, source, params, kernels.init(weights), case.real)
        reference = Unroll().meta_gradient(kernels, source, params, kernels.init(weights), case.real)
    assert_same_gradient(result, reference, 1e-8)


def test_a_branch_that_is_met_later_goes_down_then() -> None:
    def later(self: Wrapped, x: Tensor) -> Tensor:
        logits = self.body(x)
        return logits * 2 if bool(x.abs().mean() < 1e-3) and float(logits.sum()) > -1e9 else logits

    module = Wrapped(later)
    source, params = pixels(SHAPE, PixelConfig(steps=1, epochs=1, labels="soft"))
    case = around(module, SHAPE, source, params, inits=2)
    kernels = Kernels(case.learner, RealLoss(), Execution())
    batch, states = source.batch(params, 0), kernels.init(case.weights)
    tiny = batch._replace(x_MCHW=batch.x_MCHW * 1e-6)
    with told():
        kernels.step(states, batch)
        stepped = kernels.step(states, tiny)
    expected = case.learner.step_recorded(states.at(1), tiny)
    for name, value in expected.params.items():
        torch.testing.assert_close(stepped.params[name][1], value)


def test_a_single_init_stays_where_several_went_down_to() -> None:
    """One by one is no other way for one, and no reason to record."""
    ladder = Ladder(nn.Identity(), simple=True)
    with pytest.warns(UserWarning, match="one after the other.*: as a test"):
        ladder.descend("one by one", "as a test")
    double = Function(transformed=lambda x: 2 * x, recorded=lambda x: 2 * x, has_inits=(True,))
    result = ladder.first_call(double, batched=False, compiled=False, args=[torch.ones(1, 2)])[1]
    assert torch.equal(result, torch.full((1, 2), 2.0)) and ladder.rung == "one by one"


def test_what_differs_from_call_to_call_is_refused() -> None:
    calls = [0]  # not the network's own, so nothing puts it back

    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            calls[0] += 1
            return self.linear(x.flatten(1)) * calls[0]

    source, params = pixels(SHAPE, PixelConfig(steps=1, epochs=1, labels="soft"))
    case = around(Restless(), SHAPE, source, params, inits=2)
    kernels = Kernels(case.learner, RealLoss(), Execution())
    with told(), pytest.raises(LimbeckError, match="another result each time"):
        kernels.step(kernels.init(case.weights), source.batch(params, 0))
