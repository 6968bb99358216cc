"""Layers of torch's that write into their buffers, or draw within: trained as torch trains them, and replayed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CLASSES, around, assert_same_gradient, generator, pixels
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.common.seeds import own_state
from limbeck.engine import Batch, Learner, PixelConfig, Remat, Unroll, carried_names, copy_module, is_simple
from limbeck.models import build_learner, check, draw, refuse_unsupported
from limbeck.models.prepare import prepare
from limbeck.models.replay import Replayed, random_calls

SHAPE = (1, 4, 4)


def by_hook(layer: nn.Module, iterations: int = 1) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.spectral_norm(layer, n_power_iterations=iterations)


def spectral(normed: Callable[..., nn.Module], *options: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), normed(nn.Linear(16, 5), *options[:1]), nn.Tanh(), normed(nn.Linear(5, CLASSES), *options[1:])
    )


def by_parametrisation(layer: nn.Module, iterations: int = 1) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=iterations)


def instances(**options: float | bool) -> nn.Module:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True, **options)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, CLASSES))


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], *, packed: bool = False, **options: object) -> None:
        super().__init__()
        self.rnn = kind(4, 5, num_layers=3, batch_first=True, **{"dropout": 0.3} | options)
        self.head = nn.LazyLinear(CLASSES)
        self.packed = packed
        self(torch.zeros(1, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        if self.packed:
            rows = nn.utils.rnn.pack_padded_sequence(rows, torch.full((len(x),), 4), batch_first=True)
            rows, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(rows)[0], batch_first=True)
        else:
            rows = self.rnn(rows)[0]
        return self.head(rows[:, -1])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "spectral norm": lambda: spectral(by_parametrisation, 1, 2),
    "spectral norm by hooks": lambda: spectral(by_hook, 1, 3),
    "spectral norm of a convolution": lambda: nn.Sequential(
        by_parametrisation(nn.Conv2d(1, 3, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(27, CLASSES)
    ),
    "instance norm": instances,
    "instance norm that stands still": lambda: instances(momentum=None),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU, both ways": lambda: Recurrent(nn.GRU, bidirectional=True),
    "rectified RNN without biases": lambda: Recurrent(nn.RNN, nonlinearity="relu", bias=False),
    "RNN of packed sequences": lambda: Recurrent(nn.RNN, packed=True),
}


def made(name: str) -> nn.Module:
    with own_state(0):
        return NETWORKS[name]()


@pytest.mark.filterwarnings("ignore:With this learner", "ignore:reverse-over-forward", "ignore:.*torch.jit")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gets_the_gradient_of_the_arbiter(name: str) -> None:
    module = prepare(made(name), SHAPE)
    refuse_unsupported(module)
    check(module, SHAPE, CLASSES)
    source, params = pixels(SHAPE, PixelConfig(steps=2, epochs=1, labels="soft"))
    case = around(module.double(), SHAPE, source, params, inits=2)
    assert_same_gradient(case.meta_gradient(Remat()), case.meta_gradient(Unroll()), 1e-8)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "norm" in name])
def test_buffers_are_left_as_torch_leaves_them(name: str) -> None:
    """And with them the parameters, and what is predicted."""
    own = made(name)
    module = prepare(copy_module(own), SHAPE).double()
    learner = Learner.of(module)
    own = own.double()
    state = learner.init({name: p.detach() for name, p in module.named_parameters()})
    assert set(state.buffers) == {"key", *(f"module.{n}" for n, b in own.named_buffers() if b.is_floating_point())}
    x = torch.randn(8, *SHAPE, generator=generator(1), dtype=torch.float64)
    y = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(8) % CLASSES]
    sgd = torch.optim.SGD(own.parameters(), lr=0.1)
    for _ in range(3):
        state = learner.step(state, Batch(x, y, {"lr": torch.tensor(0.1, dtype=torch.float64)}))
        sgd.zero_grad()
        F.cross_entropy(own(x), y).backward()
        sgd.step()
    for inner, value in own.named_buffers():
        if value.is_floating_point():
            torch.testing.assert_close(state.buffers[f"module.{inner}"], value)
    for inner, value in own.named_parameters():
        torch.testing.assert_close(state.params[f"module.{inner}"], value.detach())
    torch.testing.assert_close(learner.predict(state.network, x), own.eval()(x).detach())


@pytest.mark.parametrize("name", [name for name in NETWORKS if "spectral" in name])
def test_spectral_norms_vectors_are_constants_as_they_are_to_torch(name: str) -> None:
    """The meta-gradient of the module as it was given, by autograd through its training."""
    own = made(name).double()
    source, params = pixels(SHAPE, PixelConfig(steps=3, epochs=1, labels="soft"))
    case = around(prepare(copy_module(own).float(), SHAPE).double(), SHAPE, source, params, inits=1)
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    state = {name.removeprefix("module."): value[0] for name, value in case.weights.items() if name != "key"}
    buffers = {name: state[name].clone() for name, _ in own.named_buffers()}
    weights = {name: state[name].requires_grad_() for name, _ in own.named_parameters()}
    for t in range(3):
        batch = source.batch(leaves, t)
        loss = F.cross_entropy(functional_call(own, (weights, buffers), (batch.x_MCHW,)), batch.y_MK)
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: w - batch.h["lr"] * g for (name, w), g in zip(weights.items(), grads, strict=True)}
    judged = copy_module(own).eval()
    F.cross_entropy(functional_call(judged, (weights, buffers), (case.real.x_NCHW,)), case.real.y_N).backward()
    for leaf, value in case.meta_gradient(Remat()).grads.items():
        torch.testing.assert_close(value[0], leaves[leaf].grad)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {}),
        (nn.LSTM, {"bidirectional": True, "packed": True}),
        (nn.GRU, {"bidirectional": True, "bias": False}),
        (nn.RNN, {"nonlinearity": "relu", "packed": True}),
    ],
)
def test_recurrent_layers_are_torchs_own_but_for_what_they_drop(
    kind: Callable[..., nn.Module], options: dict[str, object]
) -> None:
    with own_state(0):
        module = Recurrent(kind, **{"dropout": 1e-7} | options)
    x = torch.randn(6, *SHAPE, generator=generator())
    expected = copy.deepcopy(module).eval()(x)
    with random_calls() as calls:
        torch.testing.assert_close(Replayed(module)(x), expected)
    assert calls.names == []
    module.rnn.dropout = 0.5
    assert not torch.allclose(Replayed(module)(x), expected)


def test_states_of_recurrent_layers_are_those_of_all_layers() -> None:
    with own_state(0):
        layer = nn.LSTM(3, 4, num_layers=2, dropout=1e-7, bidirectional=True, proj_size=2)
    x, start = torch.randn(5, 2, 3), (torch.randn(4, 2, 2), torch.randn(4, 2, 4))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        torch.testing.assert_close(Replayed(layer)(x, start), copy.deepcopy(layer).eval()(x, start))
        assert carried_names(Replayed(layer)) == ("key",)


def test_layers_with_hooks_may_do_anything() -> None:
    layer = nn.Linear(2, 2)
    assert is_simple(nn.Sequential(layer))
    layer.register_forward_hook(lambda module, given, output: output + torch.rand_like(output))
    assert not is_simple(nn.Sequential(layer))


def test_normalising_into_a_tensor_that_is_no_buffer_is_torchs_own() -> None:
    class Normalising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = torch.empty_like(x)
            F.normalize(x, out=out)
            return out

    x = torch.randn(3, 4, generator=generator())
    torch.testing.assert_close(Replayed(Normalising())(x), F.normalize(x))


def test_what_is_replayed_can_be_compiled() -> None:
    norm = nn.InstanceNorm1d(3, track_running_stats=True)
    module = Replayed(nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout(0.5), norm))
    x = torch.randn(2, 3, 4, generator=generator())
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), module(x))
    for name, value in module.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(f"_orig_mod.{name}"), value)


def test_weights_that_are_composed_are_drawn_anew() -> None:
    weight_norm = nn.utils.parametrizations.weight_norm
    weighed = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(16, CLASSES)))
    for given in (made("spectral norm"), made("spectral norm by hooks"), weighed):
        module = build_learner(given, shape=SHAPE, num_classes=CLASSES)
        weights = draw(module, "auto", 2, generator())
        for name, _ in module.named_parameters():
            assert not torch.equal(*weights[name]), name
