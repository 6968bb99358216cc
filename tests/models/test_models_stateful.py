"""Batch normalisation, dropout and augmentation as carried state: against torch's own layers, and replayed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CLASSES, OTHER_LEARNERS, assert_same_gradient, generator, problem
from torch import Tensor, nn
from torch.func import functional_call, jvp

from limbeck.engine import Execution, Learner, Remat, Unroll, carried_names
from limbeck.engine.compiling import Compiled
from limbeck.errors import LimbeckError
from limbeck.models import (
    Augmented,
    BatchNorm,
    Dropout,
    build,
    build_learner,
    draw,
    with_carried_state,
    with_fresh_noise,
)


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (4, 3, 5, 2), (1, 3, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(shape: tuple[int, ...], affine: bool) -> None:
    kinds: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    theirs = kinds[len(shape)](3, momentum=0.3, affine=affine).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = with_carried_state(copy.deepcopy(theirs))
    assert isinstance(ours, BatchNorm)
    for seed in range(3):  # statistics move on from step to step
        x = 2 + 3 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, theirs.get_buffer(name), rtol=1e-12, atol=1e-12)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_batch_norms_forward_derivative_is_finite_differences() -> None:
    layer = BatchNorm(3).double()
    x, along = torch.randn(2, 5, 3, 2, 2, generator=generator(), dtype=torch.float64)
    _, slope = jvp(layer, (x,), (along,))
    numeric = (layer(x + 1e-6 * along) - layer(x - 1e-6 * along)) / 2e-6
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=1e-6)


def test_the_same_key_gives_the_same_noise_and_another_key_another() -> None:
    layer = Dropout(0.25)
    x = torch.ones(50, 40)

    def run(key: float) -> tuple[Tensor, Tensor]:
        state = {"key": torch.tensor(key)}
        return functional_call(layer, state, (x,)), state["key"]

    first, after = run(5.0)
    again, after_again = run(5.0)
    assert torch.equal(first, again) and torch.equal(after, after_again)
    assert after == after.round() and 0 <= after < 2**24
    assert not torch.equal(first, run(6.0)[0])
    following = run(float(after))[0]
    assert not torch.equal(first, following)
    mask = first != 0
    assert torch.equal(first[mask], torch.full_like(first[mask], 1 / 0.75))
    assert 0.72 < mask.float().mean() < 0.78
    # Noise of consecutive passes, and of neighbouring entries, is not related.
    pairs = torch.stack([mask.flatten().float(), (following != 0).flatten().float()])
    assert abs(torch.corrcoef(pairs)[0, 1]) < 0.1
    shifted = torch.stack([mask.flatten()[1:].float(), mask.flatten()[:-1].float()])
    assert abs(torch.corrcoef(shifted)[0, 1]) < 0.1


def test_uniform_numbers_are_uniform() -> None:
    layer = Dropout(0.5)
    layer.key = torch.tensor(123.0)
    numbers = layer.uniform(100_000)
    assert 0 <= numbers.min() < 0.001 and 0.999 < numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert ((counts - 5000).abs() < 350).all()  # five standard deviations


def test_dropout_of_channels_and_extremes() -> None:
    x = torch.ones(64, 32, 3, 3)
    out = Dropout(0.5, channels=True)(x)
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    assert len(out.unique()) == 2
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))
    assert torch.equal(Dropout(0.5).eval()(x), x)


def test_augmentation_shifts_and_mirrors() -> None:
    x = torch.arange(1.0, 26).view(1, 1, 5, 5).expand(200, 2, 5, 5)
    padded = F.pad(x[0], (1, 1, 1, 1))
    windows = [padded[:, i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    out = Augmented(nn.Identity(), shift=1, flip=True)(x)
    seen = set()
    for image in out:
        (kind,) = [
            (index, flipped)
            for index, window in enumerate(windows)
            for flipped in (False, True)
            if torch.equal(image, window.flip(-1) if flipped else window)
        ]
        seen.add(kind)
    assert len(seen) == 18
    only_shifted = Augmented(nn.Identity(), shift=2)(x)
    assert not any(torch.equal(image, x[0].flip(-1)) for image in only_shifted)
    assert torch.equal(Augmented(nn.Identity(), shift=2, flip=True).eval()(x), x)


def torch_layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout2d(0.0), nn.Flatten(), nn.Linear(16, CLASSES)
    )


def test_a_learner_with_torchs_batch_norm_is_trained_as_torch_trains_it() -> None:
    torch.manual_seed(0)
    original = torch_layers().double()
    learner = Learner.of(with_carried_state(copy.deepcopy(original)))
    weights = {name: value.detach() for name, value in original.named_parameters()}
    state = learner.init(weights)
    assert set(state.buffers) == {"1.running_mean", "1.running_var"}
    sgd = torch.optim.SGD(original.parameters(), lr=0.3)
    case = problem("running-convnet")
    for t in range(4):
        batch = case.source.batch(case.params, t)
        batch = batch._replace(h={"lr": torch.tensor(0.3, dtype=torch.float64)})
        state = learner.step(state, batch)
        sgd.zero_grad()
        F.cross_entropy(original(batch.x_MCHW.detach()), batch.y_MK.detach()).backward()
        sgd.step()
    original.eval()
    logits = learner.predict(state.network, case.real.x_NCHW)
    torch.testing.assert_close(logits, original(case.real.x_NCHW), rtol=1e-10, atol=1e-10)


def test_build_carries_torchs_layers_and_refuses_what_it_cannot(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    factories: dict[str, Callable[[], nn.Module]] = {
        "good": lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.5)),
        "bad": lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES), nn.BatchNorm1d(CLASSES, momentum=None)),
    }
    module = types.ModuleType("made_for_a_test")
    for name, function in factories.items():
        setattr(module, name, lambda function=function: function())
    monkeypatch.setitem(sys.modules, "made_for_a_test", module)
    built = build("made_for_a_test:good", shape=(1, 3, 3), num_classes=CLASSES)
    assert set(carried_names(built)) == {"2.running_mean", "2.running_var", "3.key"}
    weights = draw(built, "xavier", 3, generator())
    assert len(weights["3.key"].unique()) == 3
    assert torch.equal(weights["2.running_var"], torch.ones(3, CLASSES))
    assert torch.equal(weights["2.weight"], torch.ones(3, CLASSES))
    with pytest.raises(LimbeckError, match="momentum=None"):
        build("made_for_a_test:bad", shape=(1, 3, 3), num_classes=CLASSES)


def test_a_users_own_training_loop_keeps_no_graphs() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), BatchNorm(4), Dropout(0.2), nn.Linear(4, CLASSES))
    sgd = torch.optim.SGD(network.parameters(), lr=0.1)
    for seed in range(3):
        sgd.zero_grad()
        network(torch.randn(5, 1, 3, 3, generator=generator(seed))).square().sum().backward()
        sgd.step()
    assert not any(value.requires_grad for value in network.buffers())
    copy.deepcopy(network)
    network.eval()(torch.zeros(2, 1, 3, 3)).sum().backward()


def test_derived_and_shared_layers() -> None:
    class WithActivation(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    derived = WithActivation(3)
    assert with_carried_state(nn.Sequential(derived))[0] is derived  # and then refused: it may do anything
    norm, drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
    norm.weight.requires_grad_(False)
    shared = with_carried_state(nn.Sequential(norm, drop, nn.Sequential(norm, drop)))
    assert isinstance(shared[0], BatchNorm) and shared[0] is shared[2][0]
    assert isinstance(shared[1], Dropout) and shared[1] is shared[2][1]
    assert not shared[0].weight.requires_grad and shared[0].bias.requires_grad


def test_fixed_weights_and_pools_get_fresh_noise() -> None:
    case = problem("noisy-mlp", inits=2)
    rng = generator()
    first, second = (with_fresh_noise(case.module, case.weights, rng) for _ in range(2))
    for name in ("key", "module.4.key"):
        assert not torch.equal(first[name], second[name])
        assert first[name][0] != first[name][1]
    assert all(torch.equal(first[n], case.weights[n]) for n in first if not n.endswith("key"))
    before = rng.get_state()
    with_fresh_noise(problem("mlp").module, problem("mlp").weights, rng)
    assert torch.equal(before, rng.get_state())


@pytest.mark.parametrize("name", ["running-convnet", "noisy-mlp"])
def test_what_is_carried_matters_and_is_replayed(name: str) -> None:
    """Two stored states apart, the steps in between are the same steps (compiled: ``test_engine_compile``)."""
    case = problem(name, inits=2)
    expected = case.meta_gradient(Unroll())
    assert_same_gradient(case.meta_gradient(Remat(store_every=2), Execution(chunk=2)), expected)
    assert_same_gradient(case.meta_gradient(Remat(), Execution(chunk=1)), expected)
    other = {n: v + 3 if n.endswith("key") else v for n, v in case.weights.items()}
    if name == "noisy-mlp":
        assert not torch.equal(case._replace(weights=other).meta_gradient(Remat()).loss_B, expected.loss_B)
    assert OTHER_LEARNERS[name]


def test_what_cannot_be_compiled_is_run_as_it_is() -> None:
    def function(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return 2 * x

    compiled = Compiled(function)
    with pytest.warns(UserWarning, match="it is run uncompiled"):
        assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 2.0))
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 2.0))  # told once


class Reading(nn.Module):
    """A network that looks at its layers, and runs them from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, momentum=0.3), nn.Dropout2d(0.5)
        self.head = nn.Linear(2, CLASSES)
        self.order = [self.conv, self.norm, self.drop]

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.norm, nn.BatchNorm2d) and isinstance(self.drop, nn.Dropout2d)
        assert (self.norm.num_features, self.norm.eps, self.norm.momentum, self.norm.affine) == (2, 1e-5, 0.3, True)
        assert self.order == [self.conv, self.norm, self.drop] and not self.drop.inplace
        for layer in self.order:
            x = layer(x)
        return self.head(x.mean((2, 3)))


def test_layers_that_are_carried_are_what_they_were() -> None:
    built = build_learner(Reading(), shape=(1, 3, 3), num_classes=CLASSES)
    assert set(carried_names(built)) == {"norm.running_mean", "norm.running_var", "drop.key"}
    norm = with_carried_state(nn.BatchNorm1d(3))
    norm.reset_parameters()
    assert "momentum=0.1" in repr(norm)
    copy.deepcopy(norm).load_state_dict(norm.state_dict())


def test_hooks_of_layers_that_are_carried_run() -> None:
    for layer in (nn.BatchNorm1d(4), nn.Dropout(0.5)):
        layer.register_forward_hook(lambda module, given, output: output * 0 + 7)
        assert torch.equal(with_carried_state(layer)(torch.ones(3, 4)), torch.full((3, 4), 7.0))


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(4), lambda: nn.Dropout(0.5)])
def test_a_layers_own_forward_is_left_alone(make: Callable[[], nn.Module]) -> None:
    layer = make()
    layer.forward = lambda x: x + 7
    assert torch.equal(with_carried_state(layer)(torch.ones(3, 4)), torch.full((3, 4), 8.0))
    build_learner(nn.Sequential(nn.Flatten(), nn.Linear(9, 4), layer, nn.Linear(4, 3)), shape=(1, 3, 3), num_classes=3)
