"""Networks as people bring them, made ready for training that can be repeated: noise, frozen parts, initial weights."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.common.seeds import own_state
from limbeck.engine import Batch, Learner, carried_names
from limbeck.errors import LimbeckError
from limbeck.models import build, build_learner, check, draw, equal_starts, refuse_unsupported
from limbeck.models.checks import refuse_blind
from limbeck.models.origin import Origin, with_origin
from limbeck.models.prepare import prepare, settle
from limbeck.models.replay import Replayed, random_calls

SHAPE = (1, 4, 4)


class Noisy(nn.Module):
    """A linear layer behind whatever a function draws."""

    def __init__(self, draw_noise: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.draw_noise = draw_noise
        self.linear = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.draw_noise(x.flatten(1), self.training))


def drop_path(x: Tensor, training: bool) -> Tensor:
    return x * (torch.rand(len(x), 1) >= 0.1) / 0.9 if training else x


def drop_path_in_place(x: Tensor, training: bool) -> Tensor:
    return x * x.new_empty(len(x), 1).bernoulli_(0.9).div_(0.9) if training else x


NOISE: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "drop path": drop_path,
    "drop path in place": drop_path_in_place,
    "dropout by a function": lambda x, training: F.dropout(x, 0.1, training),
    "Gaussian noise": lambda x, training: x + 0.01 * torch.randn_like(x),
    "uniform noise in place": lambda x, training: x + torch.empty_like(x).uniform_(-0.1, 0.1),
    "alpha dropout": lambda x, training: F.alpha_dropout(x, 0.1, training),
    "randomised rectifier": lambda x, training: F.rrelu(x, training=training),
    "Gumbel softmax": lambda x, training: F.gumbel_softmax(x),
    "exponential in place": lambda x, training: x + torch.empty_like(x).exponential_(),
    "alpha dropout of torch's": lambda x, training: torch.alpha_dropout(x, 0.1, train=training),
    "channel dropout of torch's": lambda x, training: torch.feature_dropout(x, 0.1, training),
    "channel alpha dropout of torch's": lambda x, training: torch.feature_alpha_dropout(x, 0.1, training),
    "randomised rectifier of torch's": lambda x, training: torch.rrelu(x, 0.1, 0.3, training),
    "normal around": lambda x, training: torch.normal(x, 0.01),
    "normal of a size": lambda x, training: x + torch.normal(0.0, 0.1, (len(x), 16)),
    "whole numbers": lambda x, training: x * torch.randint(1, 3, (len(x), 1)),
    "whole numbers by name": lambda x, training: x * torch.randint(high=3, size=(len(x), 16)),
    "sizes by name": lambda x, training: x * (1 + 0.1 * torch.randn(size=tuple(x.shape))),
    "bounds by name": lambda x, training: x + torch.empty_like(x).uniform_(**{"from": -0.1, "to": 0.1}),
    "in evaluation, too": lambda x, training: x + 0.1 * torch.rand_like(x),
    "masked": lambda x, training: x * torch.bernoulli(torch.full_like(x, 0.99)),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_replayed_and_differs_from_step_to_step(name: str) -> None:
    """However small its probability: a recomputed step is the same step, and the global random state has no part."""
    with own_state(0):
        module = prepare(Noisy(NOISE[name]), SHAPE)
    assert isinstance(module, Replayed) and carried_names(module) == ("key",)
    check(module, SHAPE, 3)
    learner = Learner.of(module)
    weights = {n: v[0] for n, v in draw(module, "xavier", 1, torch.Generator().manual_seed(0)).items()}
    x = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, torch.full((64, 3), 1 / 3), {"lr": torch.tensor(0.1)})
    steps = []
    for seed in (1, 2):
        with own_state(seed):
            steps.append(learner.step(learner.init(weights), batch))
    assert all(torch.equal(steps[0].params[n], v) for n, v in steps[1].params.items())
    other = learner.init(weights)._replace(buffers=steps[0].buffers)
    assert not torch.equal(
        learner.step(other, batch).params["module.linear.weight"], steps[0].params["module.linear.weight"]
    )


def test_replayed_dropout_keeps_its_share() -> None:
    module = Replayed(nn.Dropout(0.25)).train()
    kept = (module(torch.ones(20_000)) > 0).float().mean()
    assert float(kept) == pytest.approx(0.75, abs=0.02)
    assert torch.equal(module.eval()(torch.ones(5)), torch.ones(5))


def test_replayed_alpha_dropout_keeps_mean_and_variance() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    values = Replayed(nn.AlphaDropout(0.3)).train()(x)
    assert float(values.mean()) == pytest.approx(0, abs=0.03) and float(values.std()) == pytest.approx(1, abs=0.03)


def test_hard_sigmoid_can_be_differentiated_twice() -> None:
    module = prepare(nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Hardsigmoid(), nn.Linear(4, 3)), SHAPE)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), module.module(x))
    (grad,) = torch.autograd.grad(module(x).square().sum(), module.module[1].weight, create_graph=True)
    assert torch.autograd.grad(grad.sum(), module.module[1].weight)[0].isfinite().all()


def test_replayed_normal_numbers_are_normal() -> None:
    class Draws(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.randn_like(x)

    values = Replayed(Draws())(torch.zeros(50_000))
    assert float(values.mean()) == pytest.approx(0, abs=0.03) and float(values.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_is_torchs_own_where_it_drops_nothing(masked: bool) -> None:
    """The weights that survive are divided by 1 - p; with p almost 0 nothing is left of the difference."""
    with own_state(0):
        layer = nn.MultiheadAttention(8, 2, dropout=1e-7)
    x = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if masked else None
    padding = torch.tensor([[False] * 4 + [True]] * 3) if masked else None
    expected = layer.eval()(x, x, x, attn_mask=mask, key_padding_mask=padding)

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer.train()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x, x, x, attn_mask=mask, key_padding_mask=padding)

    with random_calls() as calls:
        output, weights = Replayed(Attend().train())(x)
    assert calls.names == []
    torch.testing.assert_close(output, expected[0])
    torch.testing.assert_close(weights, expected[1])


def test_what_cannot_be_replayed_is_refused_by_name() -> None:
    module = prepare(Noisy(lambda x, training: x + torch.empty_like(x).geometric_(0.5)), SHAPE)
    with pytest.raises(LimbeckError, match=r"draws random numbers \(geometric_"):
        check(module, SHAPE, 3)


def test_other_refusals() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.layers = nn.Linear(16, 3), [nn.BatchNorm1d(16)]

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.layers[0](x.flatten(1)))

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), 3)

    broken = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        broken[1].weight[0, 0] = torch.nan
    for module, message in (
        (Listed(), "plain list or dict, 'layers'.*ModuleList"),
        (broken, "'1.weight' has values that are not finite"),
    ):
        with pytest.raises(LimbeckError, match=message):
            check(module, SHAPE, 3)
    with pytest.raises(LimbeckError, match="ignores them"):
        build_learner(Blind, shape=SHAPE, num_classes=3)


def test_a_head_that_starts_at_zero_is_no_blind_network() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 3))
    nn.init.zeros_(module[2].weight)
    refuse_blind(module, SHAPE)


def test_lazy_layers_get_their_shapes() -> None:
    module = settle(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), SHAPE)
    check(module, SHAPE, 3)
    assert module[1].weight.shape == (3, 16)


@pytest.mark.parametrize("wrap", [nn.Module.double, nn.Module.bfloat16, nn.DataParallel, torch.compile])
def test_what_a_network_is_wrapped_in_or_cast_to_is_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    module = settle(wrap(nn.Sequential(nn.Flatten(), nn.Linear(16, 3))), SHAPE)
    check(module, SHAPE, 3)
    assert list(dict(module.named_parameters())) == ["1.weight", "1.bias"]
    assert module[1].weight.dtype == torch.float32


def test_channels_last_is_undone() -> None:
    """Its features cannot be viewed as rows, even where one channel makes the formats alike."""

    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).view(len(x), -1))

    given = Viewing().to(memory_format=torch.channels_last)
    strides = given.conv.weight.stride()
    assert build_learner(given, shape=SHAPE, num_classes=3).conv.weight.stride() == (9, 9, 3, 1)
    assert given.conv.weight.stride() == strides


def test_buffers_that_are_assigned_are_carried() -> None:
    """As of a normalisation that someone wrote: an average that moves in training."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 3)
            self.register_buffer("mean", torch.zeros(16))

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            if self.training:
                self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
            return self.linear(x - self.mean)

    module = prepare(Centred(), SHAPE)
    check(module, SHAPE, 3)
    assert "module.mean" in carried_names(module)
    learner = Learner.of(module)
    weights = {n: v[0] for n, v in draw(module, "xavier", 1, torch.Generator()).items()}
    x = torch.ones(4, *SHAPE)
    batch = Batch(x, torch.full((4, 3), 1 / 3), {"lr": torch.tensor(0.1)})
    state = learner.step(learner.step(learner.init(weights), batch), batch)
    assert torch.equal(state.buffers["module.mean"], torch.full((16,), 0.75))


def scaled() -> nn.Module:
    """Parameters that are no weights, one that is frozen, and one of whole numbers."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 3))
    module.scale = nn.Parameter(torch.full((4, 1, 1), 1e-6))
    module.temperature = nn.Parameter(torch.full((1, 1), 10.0))
    module.counts = nn.Parameter(torch.arange(3), requires_grad=False)
    module[1].weight.requires_grad_(False)
    return module


@pytest.mark.parametrize("distribution", ["auto", "xavier", "orthogonal", "reset", "constructor"])
def test_only_weights_of_layers_are_drawn(distribution: str) -> None:
    module = scaled()
    weights = draw(module, distribution, 2, torch.Generator().manual_seed(0))
    assert set(weights) == {"scale", "temperature", "1.bias", "2.weight", "2.bias"}
    for name in ("scale", "temperature"):
        assert torch.equal(weights[name][0], module.get_parameter(name)), name
    assert not torch.equal(*weights["2.weight"])


def test_a_module_of_the_users_starts_as_its_constructor_draws() -> None:
    origin = Origin(scaled)
    module = with_origin(origin.make(0), origin)
    weights = draw(module, "auto", 300, torch.Generator().manual_seed(0))
    assert float(weights["2.weight"].abs().max()) <= 0.5 < 1.1 * float(weights["2.weight"].abs().max())  # 1/sqrt(4)
    same = draw(module, "auto", 300, torch.Generator().manual_seed(0))
    assert torch.equal(weights["2.weight"], same["2.weight"])
    assert not torch.equal(weights["2.weight"][0], weights["2.weight"][1])
    with pytest.raises(LimbeckError, match="has no gain"):
        draw(module, "auto", 1, torch.Generator(), gain=2.0)


def test_building_by_name_remembers_the_constructor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    folder = tmp_path
    (folder / "own_start.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def small(shape, num_classes):\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))\n"
        "    nn.init.constant_(net[1].bias, 0.25)\n"
        "    return net\n"
    )
    monkeypatch.chdir(folder)
    module = build("own_start:small", shape=SHAPE, num_classes=3)
    weights = draw(module, "auto", 2, torch.Generator().manual_seed(0))
    assert torch.equal(weights["1.bias"], torch.full((2, 3), 0.25))
    assert torch.equal(draw(module, "xavier", 2, torch.Generator().manual_seed(0))["1.bias"], torch.zeros(2, 3))


class NormAndRectify(nn.BatchNorm2d):
    """A batch normalisation that does more, as libraries of models have them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), NormAndRectify(4), nn.Flatten(), nn.Linear(64, 3))


def test_statistics_of_any_batch_norm_are_carried() -> None:
    """Trained as torch would, by hand, and evaluated with the statistics that are left."""
    with own_state(0):
        own = normed()
    module = prepare(copy.deepcopy(own), SHAPE)
    names = carried_names(module)
    assert set(names) == {"key", "module.1.running_mean", "module.1.running_var"}
    check(module, SHAPE, 3)
    refuse_unsupported(module)
    learner = Learner.of(module)
    state = learner.init({name: p.detach() for name, p in module.named_parameters()})
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(8, *SHAPE, generator=rng)
    y = torch.eye(3)[torch.arange(8) % 3]
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    for _ in range(3):
        state = learner.step(state, Batch(x, y, {"lr": torch.tensor(0.1)}))
        optimizer.zero_grad()
        F.cross_entropy(own(x), y).backward()
        optimizer.step()
    for name in names[1:]:
        torch.testing.assert_close(state.buffers[name], own.get_buffer(name.removeprefix("module.")))
    torch.testing.assert_close(learner.predict(state.network, x), own.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_network_whose_noise_is_replayed_is_drawn_by_its_constructor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_noise.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(16, num_classes)\n"
        "    def forward(self, x):\n"
        "        return self.linear(x.flatten(1) * (torch.rand(len(x), 1) > 0.1))\n"
    )
    monkeypatch.chdir(tmp_path)
    weights = draw(build("own_noise:Net", shape=SHAPE, num_classes=3), "auto", 2, torch.Generator().manual_seed(0))
    assert not torch.equal(*weights["module.linear.weight"])


def test_a_network_that_is_given_is_drawn_by_its_layers() -> None:
    with own_state(0):
        given = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    before = given[1].weight.detach().clone()
    module = build_learner(given, shape=SHAPE, num_classes=3)
    weights = draw(module, "auto", 2, torch.Generator().manual_seed(0))
    assert not torch.equal(*weights["1.weight"]) and not torch.equal(weights["1.weight"][0], before)
    assert float(weights["1.weight"].abs().max()) <= 0.25  # 1/sqrt(16), as torch's layers draw
    assert torch.equal(given[1].weight, before)


def test_drawn_numbers_have_the_sizes_bounds_and_types_that_are_asked_for() -> None:
    class Draws(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            half = torch.randn(20_000, dtype=torch.float16)
            return torch.rand(size=(2, 6)), torch.empty(1000).uniform_(**{"from": 5.0, "to": 6.0}), half

    named, bounded, half = Replayed(Draws())(torch.zeros(1))
    assert named.shape == (2, 6) and len(named.unique()) == 12
    assert (
        float(bounded.min()) >= 5 and float(bounded.max()) <= 6 and float(bounded.mean()) == pytest.approx(5.5, abs=0.1)
    )
    assert half.dtype == torch.float16 and bool(half.isfinite().all())


def test_keys_of_noise_never_meet_and_come_back_after_all_others() -> None:
    module = Replayed(nn.Dropout(0.5)).train()
    keys = torch.arange(1000.0)
    for _ in range(200):
        following = []
        for key in keys[:3]:
            module.key = key.clone()
            module(torch.ones(1))
            following.append(float(module.key))
        keys = torch.tensor(following)
        assert len(set(following)) == 3
    seen, key = set(), 0
    for _ in range(5000):
        key = (key * 1664525 + 1013904223) % 2**24
        seen.add(key)
    assert len(seen) == 5000


def test_channels_are_dropped_as_torch_takes_them() -> None:
    """A 2-D input of dropout1d and a 4-D one of dropout3d have no batch."""
    for dropout, shape in ((F.dropout1d, (50, 9)), (F.dropout3d, (50, 2, 2, 2))):

        class Drops(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return dropout(x, 0.5, training=True)  # noqa: B023

        rows = Replayed(Drops())(torch.ones(shape)).flatten(1)
        assert bool((rows == rows[:, :1]).all()) and set(rows[:, 0].tolist()) == {0.0, 2.0}


def test_dropout_in_place_is_in_place() -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            F.dropout(x, 0.5, training=True, inplace=True)
            return x

    assert set(Replayed(Drops())(torch.ones(100)).tolist()) == {0.0, 2.0}


class Counts(nn.Module):
    """Counts its passes, which decides what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.passes = nn.Linear(16, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.linear(x.flatten(1)) * (2 if self.passes > 8 else 1)


def layer_drop(x: Tensor, training: bool) -> Tensor:
    return x if training and random.random() < 1e-9 else 2 * x


def numpy_drop(x: Tensor, training: bool) -> Tensor:
    return x if training and np.random.rand() < 1e-9 else 2 * x


def seeded_projection(x: Tensor, training: bool) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return x @ torch.randn(16, 16)


def own_generator(x: Tensor, training: bool) -> Tensor:
    return x @ torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


def with_complex(module: nn.Module) -> nn.Module:
    module.spectrum = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counts, "changes 'passes'"),
        (lambda: Noisy(layer_drop), r"draws random numbers \(random\)"),
        (lambda: Noisy(numpy_drop), r"draws random numbers \(numpy.random\)"),
        (lambda: Noisy(seeded_projection), "torch.manual_seed"),
        (lambda: Noisy(own_generator), "draws random numbers"),
        (lambda: with_complex(nn.Sequential(nn.Flatten(), nn.Linear(16, 3))), "is complex"),
    ],
)
def test_what_would_make_a_recomputed_step_another_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with own_state(0):
        module = prepare(settle(make(), SHAPE), SHAPE)
    with pytest.raises(LimbeckError, match=message):
        check(module, SHAPE, 3)


def test_hooks_on_gradients_and_averages_of_all_batches_are_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    module[1].weight.register_hook(lambda grad: grad * 2)
    with pytest.raises(LimbeckError, match="'1.weight' has a hook"):
        check(module, SHAPE, 3)
    averaging = nn.Sequential(nn.Conv2d(1, 4, 3), NormAndRectify(4, momentum=None), nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(LimbeckError, match="momentum=None"):
        prepare(averaging, SHAPE)


def test_layers_in_lists_of_lists_are_found() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    module.more = [[nn.Linear(3, 3)], {"a": (nn.Linear(3, 3),)}]
    with pytest.raises(LimbeckError, match="'more'"):
        check(module, SHAPE, 3)


def hidden(kind: str) -> nn.Module:
    """A network whose head is its own, and whose body torch's list of parameters does not have."""
    body, head = nn.Linear(16, 4), nn.Linear(4, 3)

    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head
            self.__dict__["there"] = {
                "a partial": functools.partial(body),
                "a bound method": body.forward,
                "a bare parameter": [nn.Parameter(torch.ones(16, 4))],
            }.get(kind, body)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            if kind == "a closure":
                return self.head(body(x))
            return self.head(x @ self.there[0] if isinstance(self.there, list) else self.there(x))

    return Hiding()


@pytest.mark.parametrize("kind", ["a closure", "a partial", "a bound method", "a bare parameter", "the object's dict"])
def test_parameters_that_are_not_registered_are_refused(kind: str) -> None:
    with pytest.raises(
        LimbeckError, match=r"uses a parameter that is not registered, of shape \(.*ModuleList; or freeze it"
    ):
        build_learner(hidden(kind), shape=SHAPE, num_classes=3)


def test_a_forward_pass_that_holds_on_to_another_copy_is_refused() -> None:
    """A function in the place of forward is not copied with the network, so it would always see the first weights."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    network.forward = lambda x: network[1](x.flatten(1))
    with pytest.raises(LimbeckError, match="not registered"):
        build_learner(network, shape=SHAPE, num_classes=3)


def test_what_is_frozen_may_be_anywhere() -> None:
    network = hidden("a closure")
    network.there.requires_grad_(False)
    assert len(list(build_learner(network, shape=SHAPE, num_classes=3).parameters())) == 2


def test_starts_that_do_not_differ_are_named() -> None:
    def seeded() -> nn.Module:
        torch.manual_seed(42)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    assert equal_starts(build_learner(seeded, shape=SHAPE, num_classes=3)) == ["1.weight", "1.bias"]
    given = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    given.place = nn.Parameter(torch.randn(1, 16))
    assert equal_starts(build_learner(given, shape=SHAPE, num_classes=3)) == ["place"]
    assert equal_starts(build_learner(normed, shape=SHAPE, num_classes=3)) == []


def test_statistics_of_a_trained_network_go_with_its_weights() -> None:
    given = normed()
    given[1].running_mean.fill_(3.0)
    weights = draw(build_learner(given, shape=SHAPE, num_classes=3), "auto", 2, torch.Generator().manual_seed(0))
    assert float(weights["module.1.running_mean"].abs().max()) == 0


def test_parts_that_a_network_keeps_in_evaluation_mode_stay_there() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[0].eval()
            return self

    module = settle(Frozen(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)), SHAPE)
    assert not module[0].training and module[2].training
