"""Reference learners, the registry's refusals, initial weights and pools."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from limbeck.errors import LimbeckError
from limbeck.models import (
    MLP,
    AlexCifarNet,
    Conv1d,
    ConvNet,
    FixedInit,
    Gru,
    InitialWeights,
    LeNet,
    LinearClassifier,
    PoolInit,
    RandomInit,
    Rnn,
    SavedInit,
    build,
    check,
    check_pool,
    distribution_names,
    draw,
    known_names,
    load_pool,
    refuse_unsupported,
    save_pool,
)
from limbeck.models.nets import ChannelResponseNorm, MaxPool2x2

# torch itself still scripts its decompositions when forward-mode AD is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

DRAWN = [name for name in distribution_names() if name not in ("auto", "reset", "constructor")]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def seeded_global_state() -> Iterator[None]:
    """Nets that tests make directly start from torch's global state; fix it, and give it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1234)
        yield


@pytest.fixture
def rng_must_stay(seeded_global_state: None) -> Iterator[None]:
    """Nothing in `models` may move the global random state."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


# ---------------------------------------------------------------------------------------------------------------- nets


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet", (1, 28, 28), 61_706),
        ("lenet", (3, 32, 32), 62_006),
        ("alexcifarnet", (3, 32, 32), 1_756_426),
        ("convnet3", (3, 32, 32), 320_010),
        ("convnet3", (1, 28, 28), 317_706),
        ("mlp", (1, 28, 28), 784 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("linear", (1, 28, 28), 7_850),
        ("lenet", (1, 20, 17), 156 + 2416 + (16 * 3 * 2 + 1) * 120 + 10_164 + 850),
    ],
)
def test_parameter_counts(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    net = build(name, shape=shape, num_classes=10)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net(torch.zeros(3, *shape)).shape == (3, 10)


def test_smallest_images() -> None:
    assert LeNet((1, 12, 12), 3)(torch.zeros(2, 1, 12, 12)).shape == (2, 3)
    for side in (11, 1):
        with pytest.raises(LimbeckError, match=f"{side} x {side} pixels"):
            LeNet((1, side, side), 3)
    assert ConvNet((1, 8, 9), 3, width=4)(torch.zeros(2, 1, 8, 9)).shape == (2, 3)
    with pytest.raises(LimbeckError, match="ConvNet of depth 3"):
        ConvNet((1, 7, 8), 3, width=4)
    assert AlexCifarNet((1, 1, 6), 3)(torch.zeros(2, 1, 1, 6)).shape == (2, 3)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    lead=st.sampled_from([(3,), (2, 3), (1, 1)]),
    seed=st.integers(0, 99),
)
def test_max_pool_is_max_pool2d(height: int, width: int, lead: tuple[int, ...], seed: int) -> None:
    x = torch.randn(*lead, height, width, generator=seeded(seed), dtype=torch.float64).requires_grad_()
    ours, theirs = MaxPool2x2()(x), F.max_pool2d(x, 2)
    assert torch.equal(ours, theirs)
    assert torch.equal(torch.autograd.grad(ours.sum(), x)[0], torch.autograd.grad(theirs.sum(), x)[0])


def test_max_pool_shares_the_gradient_of_a_tie() -> None:
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    assert torch.autograd.grad(MaxPool2x2()(x).sum(), x)[0].flatten().tolist() == [0.25] * 4


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 6), channels=st.integers(1, 7), alpha=st.sampled_from([1e-4, 0.3]), seed=st.integers(0, 99))
def test_response_norm_is_local_response_norm(size: int, channels: int, alpha: float, seed: int) -> None:
    x = torch.randn(2, channels, 3, 4, generator=seeded(seed), dtype=torch.float64)
    ours = ChannelResponseNorm(size, alpha=alpha, beta=0.75, k=1.5)(x)
    torch.testing.assert_close(ours, F.local_response_norm(x, size, alpha, 0.75, 1.5), rtol=1e-12, atol=1e-14)


def test_response_norm_needs_a_window() -> None:
    with pytest.raises(LimbeckError, match="at least 1 channel"):
        ChannelResponseNorm(0, alpha=1.0, beta=1.0, k=1.0)


def tiny_nets() -> dict[str, nn.Module]:
    shape = (2, 12, 12)
    nets: dict[str, nn.Module] = {
        "lenet": LeNet(shape, 3),
        "alexcifarnet": AlexCifarNet((2, 5, 4), 3),
        "mlp": MLP(shape, 3, hidden=(5,)),
        "linear": LinearClassifier(shape, 3),
        "conv1d": Conv1d(shape, 3, width=4, depth=2, kernel=3),
        "rnn": Rnn(shape, 3, hidden=4),
        "gru": Gru(shape, 3, hidden=4),
        "convnet-28": ConvNet((1, 28, 28), 3, width=2),
        "convnet-max": ConvNet(shape, 3, width=4, depth=2, pooling="max"),
    }
    for norm in ("instance", "group", "layer", "batch", "none"):
        nets[f"convnet-{norm}"] = ConvNet(shape, 3, width=4, depth=2, norm=norm)
    for activation in ("leaky-relu", "gelu", "silu", "softplus", "tanh", "sigmoid"):
        nets[f"convnet-{activation}"] = ConvNet(shape, 3, width=4, depth=1, activation=activation)
    return nets


@pytest.mark.parametrize("name", list(tiny_nets()))
def test_forward_over_reverse_under_vmap_is_double_backward(name: str) -> None:
    """vmap(jvp(grad)) in float64 against autograd's double backward, one network at a time, at random parameters."""
    net = tiny_nets()[name].double()
    shape = {"alexcifarnet": (2, 5, 4), "convnet-28": (1, 28, 28)}.get(name, (2, 12, 12))
    generator = seeded(0)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2])

    def random(scale: float) -> dict[str, Tensor]:
        return {
            key: scale * torch.randn(2, *p.shape, generator=generator, dtype=torch.float64)
            for key, p in net.named_parameters()
        }

    theta, direction = random(0.3), random(1.0)

    def loss(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, parameters, (images,)), y)

    def pull_back(parameters: dict[str, Tensor], tangent: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        out: tuple[dict[str, Tensor], Tensor] = jvp(
            lambda p: grad(loss, argnums=(0, 1))(p, x), (parameters,), (tangent,)
        )[1]
        return out

    ours, ours_x = vmap(pull_back)(theta, direction)
    for b in range(2):
        leaves = {key: value[b].clone().requires_grad_() for key, value in theta.items()}
        images = x.clone().requires_grad_()
        first = torch.autograd.grad(loss(leaves, images), list(leaves.values()), create_graph=True)
        inner = sum(((g * direction[key][b]).sum() for key, g in zip(leaves, first, strict=True)), torch.zeros(()))
        *second, second_x = torch.autograd.grad(inner, [*leaves.values(), images], allow_unused=True)
        for key, value in zip(leaves, second, strict=True):
            torch.testing.assert_close(ours[key][b], torch.zeros_like(leaves[key]) if value is None else value)
        assert second_x is not None
        assert second_x.abs().max() > 0
        torch.testing.assert_close(ours_x[b], second_x)


def test_batch_norm_keeps_nothing() -> None:
    assert not list(ConvNet((1, 8, 8), 2, width=4, norm="batch").buffers())


def test_instance_norm_is_one_group_a_channel() -> None:
    x = torch.randn(2, 1, 8, 8, generator=seeded(0))
    net = ConvNet((1, 8, 8), 2, width=4)
    convolved = net.features[0](x)
    torch.testing.assert_close(net.features[1](convolved), F.instance_norm(convolved))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvNet((1, 8, 8), 2, width=6, norm="group"), "multiple of 4, not 6"),
        (lambda: ConvNet((1, 8, 8), 2, norm="instanse"), "did you mean 'instance'"),  # type: ignore[arg-type]
        (lambda: ConvNet((1, 8, 8), 2, pooling="mean"), "Unknown pooling 'mean'"),  # type: ignore[arg-type]
        (lambda: ConvNet((1, 8, 8), 2, activation="rely"), "did you mean 'relu'"),  # type: ignore[arg-type]
        (lambda: ConvNet((1, 8, 8), 2, width=0), "width 0"),
        (lambda: ConvNet((1, 8, 8), 2, depth=0), "depth 0"),
        (lambda: MLP((1, 8, 8), 2, hidden=(4, 0)), "hidden widths"),
        (lambda: LeNet((1, 28), 2), "channels, height, width"),  # type: ignore[arg-type]
        (lambda: LeNet((0, 28, 28), 2), "at least 1"),
        (lambda: LinearClassifier((1, 8, 8), 0), "at least 1 class"),
    ],
)
def test_wrong_nets(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------------ registry


@pytest.mark.usefixtures("rng_must_stay")
def test_build_is_the_same_every_time() -> None:
    first = build("lenet", shape=(1, 28, 28), num_classes=10).state_dict()
    second = build("lenet", shape=(1, 28, 28), num_classes=10).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    plain = ("lenet", "alexcifarnet", "convnet3", "stridednet", "mlp", "linear")
    assert known_names() == (*plain, "cellnet", "nasbench201", "conv1d", "rnn", "gru")


def test_unknown_learner() -> None:
    with pytest.raises(LimbeckError, match="did you mean 'lenet'"):
        build("lenett", shape=(1, 28, 28), num_classes=10)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's in the current directory; its name is returned."""
    name = "limbeck_test_learners"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            number = 3

            def by_shape(shape, num_classes):
                return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))

            def by_size(*, image_size, in_channels=1, num_classes=10, depth=2):
                import limbeck_test_neighbour
                assert depth == limbeck_test_neighbour.DEPTH
                return by_shape((in_channels, image_size, image_size), num_classes)

            def by_anything(**options):
                return by_shape(options["shape"], options["num_classes"])

            def no_module():
                return 3

            def raises():
                raise ValueError("out of cheese")

            def needs(shape, flavour):
                return None

            def wide(shape):
                return by_shape(shape, 7)

            def positional(shape, /):
                return by_shape(shape, 2)

            class Own(nn.Module):
                def __init__(self, shape, num_classes):
                    super().__init__()
                    self.net = by_shape(shape, num_classes)

                def forward(self, x):
                    return self.net(x)
            """
        )
    )
    (tmp_path / "limbeck_test_neighbour.py").write_text("DEPTH = 2\n")
    (tmp_path / "limbeck_test_broken.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield name
    assert sys.path == path
    for module in (name, "limbeck_test_neighbour", "limbeck_test_broken"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("rng_must_stay")
@pytest.mark.parametrize("function", ["by_shape", "by_size", "by_anything", "Own"])
def test_own_learner(own_module: str, function: str) -> None:
    net = build(f"{own_module}:{function}", shape=(2, 6, 6), num_classes=4)
    assert net(torch.zeros(5, 2, 6, 6)).shape == (5, 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("by_shap", "did you mean 'by_shape'"),
        ("number", "is int, not a function"),
        ("no_module", "returned int; it must return a torch.nn.Module"),
        ("raises", "failed when called with \\(\\): ValueError: out of cheese"),
        ("needs", "asks for flavour"),
        ("positional", "asks for shape"),
        ("wide", "gives 7 outputs .* has 4 classes"),
        ("", "write it as package.module:function"),
    ],
)
def test_wrong_own_learner(own_module: str, function: str, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        build(f"{own_module}:{function}", shape=(2, 6, 6), num_classes=4)


@pytest.mark.usefixtures("own_module")
def test_own_learner_that_cannot_be_imported() -> None:
    with pytest.raises(LimbeckError, match="importing 'no_such_module' failed: ModuleNotFoundError"):
        build("no_such_module:net", shape=(1, 6, 6), num_classes=4)
    with pytest.raises(LimbeckError, match="No module named 'no_such_package_at_all'"):
        build("limbeck_test_broken:net", shape=(1, 6, 6), num_classes=4)


def test_image_size_of_an_oblong_image(own_module: str) -> None:
    with pytest.raises(LimbeckError, match="asks for image_size"):
        build(f"{own_module}:by_size", shape=(1, 6, 8), num_classes=4)


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


class Counting(nn.Module):
    """Updates a buffer whenever it runs."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]


class Noisy(nn.Module):
    """Drops activations by a function, which no walk over the layers can see."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x.flatten(1)), 0.5, training=self.training)


class Pair(nn.Module):
    """Returns a set."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> set[Tensor]:
        return {self.linear(x.flatten(1))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flat(nn.Linear(4, 5)), "gives 5 outputs .* data has 3 classes"),
        (lambda: nn.Linear(2, 3), r"output of shape \(2, 1, 2, 3\)"),
        (lambda: flat(nn.Linear(5, 3)), r"fails on images of shape \(1, 2, 2\).*RuntimeError"),
        (lambda: Pair(), "returns set"),
        (lambda: Counting(), "updates its buffer 'seen'"),
        (lambda: Noisy(), "draws random numbers"),
        (lambda: flat(), "no parameter to train"),
        (lambda: flat(nn.Linear(4, 3)).requires_grad_(False), "no parameter to train"),
        (lambda: flat(nn.LazyLinear(3)), "lazy layers"),
    ],
)
def test_check_refuses(make: Callable[[], nn.Module], message: str) -> None:
    module = make()
    before = torch.get_rng_state()
    state = {key: value.clone() for key, value in module.state_dict().items()} if "lazy" not in message else {}
    with pytest.raises(LimbeckError, match=message):
        check(module, (1, 2, 2), 3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(module.state_dict()[key], value) for key, value in state.items())


def test_check_takes_double_modules_and_inert_noise() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    check(module, (1, 2, 2), 3)
    assert module[1].weight.dtype == torch.float64
    check(Noisy().eval(), (1, 2, 2), 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dropout(0.5), "'1' \\(Dropout\\) drops activations at random"),
        (nn.Dropout2d(0.1), "Dropout2d"),
        (nn.AlphaDropout(0.1), "AlphaDropout"),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.2), "LSTM.*p=0"),
        (nn.BatchNorm2d(4), "track_running_stats=False, or nn.GroupNorm"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "keeps running statistics"),
        (nn.SyncBatchNorm(4, track_running_stats=False), "SyncBatchNorm"),
    ],
)
def test_refused_layers(layer: nn.Module, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        refuse_unsupported(nn.Sequential(nn.Flatten(), layer))
    with pytest.raises(LimbeckError, match="itself"):
        refuse_unsupported(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.0),
        nn.Dropout(0.5).eval(),
        nn.LSTM(4, 4),
        nn.MultiheadAttention(4, 2),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.InstanceNorm2d(4),
        nn.GroupNorm(2, 4),
    ],
)
def test_layers_that_are_fine(layer: nn.Module) -> None:
    assert refuse_unsupported(nn.Sequential(layer)) is None  # type: ignore[func-returns-value]


# ------------------------------------------------------------------------------------------------------- distributions


def sample_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(5, 12, 3), nn.PReLU(), nn.LayerNorm([12, 2, 2]), nn.Flatten(), nn.Linear(48, 7))


@pytest.mark.usefixtures("rng_must_stay")
@pytest.mark.parametrize("distribution", DRAWN)
def test_a_single_draw_is_torchs_own(distribution: str) -> None:
    """With one network, every distribution is exactly the initialiser of torch.nn.init under the same generator."""
    with torch.random.fork_rng(devices=[]):
        net = sample_net()
    weights = draw(net, distribution, 1, seeded(5), gain=1.3)
    generator = seeded(5)
    for name in ("0.weight", "4.weight"):
        expected = torch.empty(weights[name].shape[1:])
        match distribution:
            case "xavier":
                nn.init.xavier_normal_(expected, gain=1.3, generator=generator)
            case "xavier-uniform":
                nn.init.xavier_uniform_(expected, gain=1.3, generator=generator)
            case "kaiming":
                nn.init.kaiming_normal_(expected, nonlinearity="relu", generator=generator).mul_(1.3)
            case "orthogonal":
                nn.init.orthogonal_(expected, gain=1.3, generator=generator)
            case _:
                nn.init.normal_(expected, std=0.02 * 1.3, generator=generator)
        torch.testing.assert_close(weights[name][0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distribution", DRAWN)
def test_moments_over_many_networks(distribution: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = nn.Linear(30, 20)
    weight = draw(net, distribution, 200, seeded(1), gain=0.5)["weight"]
    assert weight.shape == (200, 20, 30)
    std = {
        "xavier": math.sqrt(2 / 50),
        "xavier-uniform": math.sqrt(2 / 50),
        "kaiming": math.sqrt(2 / 30),
        "orthogonal": math.sqrt(1 / 30),
        "normal": 0.02,
    }[distribution]
    assert weight.std().item() == pytest.approx(0.5 * std, rel=0.01)
    assert weight.mean().item() == pytest.approx(0.0, abs=0.01 * std)
    # Networks are independent: no two of them correlate.
    unit = F.normalize(weight[:20].flatten(1), dim=1)
    assert (unit @ unit.T - torch.eye(20)).abs().max() < 0.25
    if distribution == "orthogonal":
        torch.testing.assert_close(weight @ weight.mT, 0.25 * torch.eye(20).expand(200, 20, 20), rtol=0, atol=1e-5)
    if distribution == "xavier-uniform":
        assert weight.abs().max() <= 0.5 * math.sqrt(6 / 50)


@pytest.mark.parametrize("distribution", DRAWN)
def test_biases_norms_and_slopes(distribution: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = sample_net()
        attention = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        for parameter in [*net.parameters(), *attention.parameters()]:
            parameter.fill_(0.7)
    weights = draw(net, distribution, 3, seeded(0))
    assert list(weights) == [name for name, _ in net.named_parameters()]
    for name, value in {"0.bias": 0.0, "4.bias": 0.0, "2.weight": 1.0, "2.bias": 0.0, "1.weight": 0.7}.items():
        torch.testing.assert_close(weights[name], torch.full_like(weights[name], value))
    assert weights["2.weight"].shape == (3, 12, 2, 2)
    assert not draw(attention, distribution, 2, seeded(0))["in_proj_bias"].any()
    assert not any(value.requires_grad for value in weights.values())


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.InstanceNorm2d])
def test_a_norm_alone_starts_as_one(kind: type[nn.Module]) -> None:
    layer = kind(2, 4) if kind is nn.GroupNorm else kind(4, affine=True) if kind is nn.InstanceNorm2d else kind(4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(0.7)
    weights = draw(layer, "xavier", 2, seeded(0))
    assert weights["weight"].tolist() == [[1.0] * 4] * 2
    assert "bias" not in weights or not weights["bias"].any()


@pytest.mark.usefixtures("rng_must_stay")
@pytest.mark.parametrize("distribution", distribution_names())
def test_seeds_precision_and_place(distribution: str) -> None:
    net = build("lenet", shape=(1, 28, 28), num_classes=10)
    first, again, other = (draw(net, distribution, 2, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])
    assert not torch.equal(first["fc1.weight"][0], first["fc1.weight"][1])
    double = draw(net, distribution, 2, seeded(3), dtype=torch.float64, device="cpu")
    assert all(torch.equal(first[name].double(), double[name]) for name in first)
    native = draw(net.double(), distribution, 2, seeded(3))
    assert all(torch.equal(double[name], native[name]) for name in double)
    generator = seeded(3)
    draw(net, distribution, 1, generator)
    assert not torch.equal(draw(net, distribution, 1, generator)["fc1.weight"][0], first["fc1.weight"][0])


def test_reset_is_the_modules_own() -> None:
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Linear(6, 5), nn.MultiheadAttention(4, 2), nn.PReLU())
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        parameters["1.out_proj.bias"].fill_(0.9)
        parameters["2.weight"].fill_(0.9)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weights = draw(net, "reset", 40, seeded(0))
    assert weights["0.weight"].abs().max() <= 1 / math.sqrt(6)
    assert weights["0.weight"].std().item() == pytest.approx(1 / math.sqrt(18), rel=0.05)
    assert weights["0.bias"].abs().max() > 0
    assert not weights["1.out_proj.bias"].any()  # the attention's reset comes after its projection's
    torch.testing.assert_close(weights["2.weight"], torch.full((40, 1), 0.25))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("distribution", "n", "gain", "message"),
    [
        ("xaver", 1, 1.0, "Unknown initial-weight distribution 'xaver'; did you mean 'xavier'"),
        ("xavier", 0, 1.0, "at least 1, not 0"),
        ("xavier", 1, 0.0, "positive number"),
        ("xavier", 1, math.inf, "positive number"),
        ("xavier", 1, math.nan, "positive number"),
        ("reset", 1, 2.0, "has no gain"),
    ],
)
def test_wrong_draws(distribution: str, n: int, gain: float, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        draw(nn.Linear(2, 2), distribution, n, seeded(0), gain=gain)


# ----------------------------------------------------------------------------------------------------- initial weights


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_fixed() -> None:
    fixed: InitialWeights = FixedInit(module=nn.Linear(3, 2), distribution="xavier", seed=7)
    generator = seeded(0)
    theta = fixed.sample(1, generator)
    assert theta["weight"].shape == (1, 2, 3)
    assert same(theta, fixed.sample(1, generator))
    assert same(theta, fixed.held_out(1, 99))
    assert torch.equal(generator.get_state(), seeded(0).get_state())
    assert not fixed.resampled
    other = FixedInit(module=nn.Linear(3, 2), distribution="xavier", seed=8).sample(1, generator)
    assert not torch.equal(theta["weight"], other["weight"])
    with pytest.raises(LimbeckError, match="n = 1, not 2"):
        fixed.sample(2, generator)
    with pytest.raises(LimbeckError, match="n = 1, not 2"):
        fixed.held_out(2, 0)
    with pytest.raises(LimbeckError, match="seed must be"):
        FixedInit(module=nn.Linear(3, 2), distribution="xavier", seed=-1).sample(1, generator)


def test_random() -> None:
    weights = RandomInit(module=nn.Linear(3, 2), distribution="normal", gain=5.0, dtype=torch.float64)
    generator = seeded(0)
    first, second = weights.sample(4, generator), weights.sample(4, generator)
    assert weights.resampled
    assert first["weight"].dtype == torch.float64
    assert not torch.isin(first["weight"], second["weight"]).any()
    assert same(weights.held_out(4, 0), weights.held_out(4, 0))
    assert not same(weights.held_out(4, 0), weights.held_out(4, 1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), held_out=st.integers(0, 2**63 - 1))
def test_random_held_out_is_disjoint(seed: int, held_out: int) -> None:
    weights = RandomInit(module=nn.Linear(3, 2, bias=False), distribution="xavier")
    training = weights.sample(8, seeded(seed))["weight"]
    evaluation = weights.held_out(8, held_out)["weight"]
    assert not torch.isin(evaluation, training).any()
    assert not torch.isin(weights.held_out(8, seed)["weight"], training).any()


@settings(max_examples=40, deadline=None)
@given(total=st.integers(3, 12), data=st.data())
def test_pool_parts_are_disjoint(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total - 2))
    selection = data.draw(st.integers(1, total - count - 1))
    left = total - count - selection
    n = data.draw(st.integers(1, 20))
    states = {"w": torch.arange(total).view(-1, 1).float().expand(total, 3), "b": torch.arange(total).float()}
    pool = PoolInit(states=states, held_out_count=count, validation_count=selection)
    generator = seeded(data.draw(st.integers(0, 50)))
    training = pool.sample(n, generator)
    assert training["w"].shape == (n, 3)
    assert training["b"].max() < left
    assert torch.equal(training["w"][:, 1], training["b"])
    if n <= left:
        assert len(set(training["b"].tolist())) == n
    evaluation = pool.held_out(count, 0)["b"]
    assert sorted(evaluation.tolist()) == list(range(total - count, total))
    assert torch.equal(pool.held_out(1, 0)["b"], evaluation[:1])
    chosen_on = pool.validation(selection, 0)["b"]
    assert sorted(chosen_on.tolist()) == list(range(left, left + selection))
    assert pool.resampled


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: PoolInit(states=s, held_out_count=4), "4 held out for evaluation and 1 for .* none to train on"),
        (lambda s: PoolInit(states=s, held_out_count=0), "must hold out at least 1"),
        (lambda s: PoolInit(states=s, held_out_count=1, validation_count=0), "1 for validation"),
        (lambda s: PoolInit(states=s, held_out_count=2, validation_count=2), "none to train on"),
        (lambda s: PoolInit(states=s, held_out_count=1).validation(2, 0), "for validation, so ask for 1 to 1, not 2"),
        (lambda s: PoolInit(states={}, held_out_count=1), "same first dimension"),
        (lambda s: PoolInit(states={**s, "x": torch.zeros(3)}, held_out_count=1), r"\[3, 4\]"),
        (lambda s: PoolInit(states={"x": torch.zeros(())}, held_out_count=1), "at least 1"),
        (lambda s: PoolInit(states=s, held_out_count=2).held_out(3, 0), "ask for 1 to 2, not 3"),
        (lambda s: PoolInit(states=s, held_out_count=2).held_out(1, -1), "seed must be"),
        (lambda s: SavedInit(state={"w": s["w"][0]}).sample(2, seeded(0)), "ask for n = 1, not 2"),
        (lambda s: PoolInit(states=s, held_out_count=2).sample(0, seeded(0)), "at least 1, not 0"),
    ],
)
def test_wrong_pools(ask: Callable[[dict[str, Tensor]], object], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        ask({"w": torch.zeros(4, 2)})


@pytest.mark.usefixtures("rng_must_stay")
def test_families_leave_the_global_state_alone() -> None:
    net = build("mlp", shape=(1, 4, 4), num_classes=2)
    for distribution in distribution_names():
        weights = RandomInit(module=net, distribution=distribution)
        assert weights.sample(2, seeded(0))["layers.0.weight"].shape == (2, 128, 16)
        assert weights.held_out(1, 0)["layers.0.weight"].shape == (1, 128, 16)


# --------------------------------------------------------------------------------------------------------------- pools


def test_pool_round_trip(tmp_path: Path) -> None:
    net = build("lenet", shape=(1, 28, 28), num_classes=10)
    states = draw(net, "xavier", 3, seeded(0))
    states["conv1.bias"] = torch.ones(6).expand(3, 6)  # memory that is shared
    card = {"learner": "lenet", "accuracy": [0.5, 0.25], "läufe": 3}
    path = tmp_path / "deep" / "pool.safetensors"
    save_pool(path, states, card)
    loaded, loaded_card = load_pool(path)
    assert same(states, loaded)
    assert loaded_card == card
    assert [p.name for p in path.parent.iterdir()] == ["pool.safetensors"]
    check_pool(loaded, net)
    with pytest.raises(LimbeckError, match="'bias' has shape none in the pool"):
        check_pool(loaded, nn.Linear(2, 2))
    with pytest.raises(LimbeckError, match=r"conv1\.weight"):
        check_pool(loaded, LeNet((3, 32, 32)))


def test_pool_that_cannot_be_written(tmp_path: Path) -> None:
    states = {"w": torch.zeros(2, 2)}
    (tmp_path / "file").write_text("")
    with pytest.raises(LimbeckError, match="cannot be written"):
        save_pool(tmp_path / "file" / "pool", states, {})
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(LimbeckError, match="cannot be written"):
        save_pool(tmp_path / "folder", states, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    for card in ({"x": object()}, {"x": math.nan}):
        with pytest.raises(LimbeckError, match="plain JSON"):
            save_pool(tmp_path / "pool", states, card)
    with pytest.raises(LimbeckError, match="same first dimension"):
        save_pool(tmp_path / "pool", {}, {})


def test_damaged_pools(tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    with pytest.raises(LimbeckError, match="no pool at"):
        load_pool(path)
    save_pool(path, {"w": torch.zeros(8, 8)}, {})
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:20], b"", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(LimbeckError, match="damaged"):
            load_pool(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not a pool"),
        ({"kind": "limbeck-pool", "version": "2", "card": "{}"}, "version 2, this program reads version 1"),
        ({"kind": "limbeck-pool", "version": "1", "card": "{"}, "not JSON"),
        ({"kind": "limbeck-pool", "version": "1"}, "not JSON"),
        ({"kind": "limbeck-pool", "version": "1", "card": json.dumps([1])}, "not a JSON object"),
    ],
)
def test_files_that_are_no_pools(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "pool", metadata=metadata)
    with pytest.raises(LimbeckError, match=message):
        load_pool(tmp_path / "pool")
