"""Training and scoring many initial weights at once against plain loops over one network at a time."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_runs import generator, same_tensors, tiny_data
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.data import Preprocessing
from limbeck.engine import Batch, Execution, Kernels, Learner, RealLoss, Tensors
from limbeck.evaluation.train_and_score import Scores, chunks, concatenate, confusion, inits, score, train
from limbeck.models import build, draw

DATA = tiny_data()
INITS = 5


def convolutional() -> nn.Module:
    features = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.GroupNorm(2, 4))
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(100, 3))


MODULES = {
    "linear": lambda: build("linear", shape=(1, 8, 8), num_classes=3),
    "mlp": lambda: build("mlp", shape=(1, 8, 8), num_classes=3),
    "convolutional": convolutional,
}


def batches(steps: int = 4, images: int = 6, dtype: torch.dtype = torch.float32) -> list[Batch]:
    """Random images, soft labels, and another step size in each step."""
    draws = generator(3)

    def one(step: int) -> Batch:
        x_MCHW = torch.randn(images, 1, 8, 8, generator=draws, dtype=dtype)
        y_MK = torch.softmax(2 * torch.randn(images, 3, generator=draws, dtype=dtype), dim=-1)
        return Batch(x_MCHW, y_MK, {"lr": torch.tensor(0.05 * (step + 1), dtype=dtype)})

    return [one(step) for step in range(steps)]


def starts(module: nn.Module, dtype: torch.dtype | None = None) -> Tensors:
    return draw(module, "xavier", INITS, generator(5), dtype=dtype)


def kernels(module: nn.Module, chunk: int = 8) -> Kernels:
    return Kernels(Learner.of(module), RealLoss(), Execution(chunk=chunk))


def descend(module: nn.Module, params: Tensors, steps: list[Batch]) -> Tensors:
    """One network: gradient descent by autograd."""
    own = {name: value.clone().requires_grad_() for name, value in params.items()}
    for batch in steps:
        loss = F.cross_entropy(functional_call(module, own, (batch.x_MCHW,)), batch.y_MK)
        gradients = torch.autograd.grad(loss, list(own.values()))
        own = {
            name: (value - batch.h["lr"] * gradient).detach().requires_grad_()
            for (name, value), gradient in zip(own.items(), gradients, strict=True)
        }
    return {name: value.detach() for name, value in own.items()}


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_train_equals_a_loop_over_networks(name: str) -> None:
    module = MODULES[name]().double()
    steps, weights = batches(dtype=torch.float64), starts(module, torch.float64)
    trained = train(kernels(module), steps, weights)
    assert trained.keys() == weights.keys()
    for b in range(INITS):
        expected = descend(module, {key: value[b] for key, value in weights.items()}, steps)
        for key, value in expected.items():
            torch.testing.assert_close(trained[key][b], value, rtol=1e-10, atol=1e-12)
            assert (value - weights[key][b]).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_training_in_chunks_changes_nothing(chunk: int) -> None:
    module = convolutional().double()
    steps, weights = batches(dtype=torch.float64), starts(module, torch.float64)
    whole, parts = train(kernels(module), steps, weights), train(kernels(module, chunk), steps, weights)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-12, atol=1e-13)


def test_the_order_of_the_steps_matters_and_no_step_does_nothing() -> None:
    module = MODULES["mlp"]()
    weights, steps = starts(module), batches()
    forwards, backwards = (train(kernels(module), order, weights) for order in (steps, steps[::-1]))
    assert any((forwards[key] - backwards[key]).abs().max() > 1e-3 for key in weights)
    assert same_tensors(train(kernels(module), [], weights), weights)


def test_training_writes_neither_the_module_nor_the_initial_weights_and_keeps_no_graph() -> None:
    module = MODULES["mlp"]()
    weights = starts(module)
    before = [{key: value.detach().clone() for key, value in held.items()} for held in (weights, module.state_dict())]
    trained = train(kernels(module), batches(), weights)
    assert same_tensors(weights, before[0])
    assert same_tensors(dict(module.state_dict()), before[1])
    assert not any(value.requires_grad for value in trained.values())


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_score_equals_counting_by_hand() -> None:
    module = convolutional()
    weights = train(kernels(module), batches(), starts(module))
    scores = score(kernels(module, 2), weights, DATA.split_batches("train", 7), 3)
    x_NCHW = DATA.preprocessing.apply(DATA.train_x)
    correct = np.zeros((INITS, 3))
    for b in range(INITS):
        module.load_state_dict({key: value[b] for key, value in weights.items()})
        for x_CHW, label in zip(x_NCHW, DATA.train_y.tolist(), strict=True):
            correct[b, label] += int(module(x_CHW[None])[0].argmax()) == label
    assert scores.correct_BK.tolist() == correct.tolist()
    assert scores.total_K.tolist() == np.bincount(DATA.train_y.numpy()).tolist()
    assert len({*correct.sum(1)}) > 1


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize("size", [7, 1000])
def test_confusion_equals_counting_by_hand(chunk: int, size: int) -> None:
    module = convolutional()
    weights = train(kernels(module), batches(), starts(module))
    counts_BKK = confusion(kernels(module, chunk), weights, DATA.split_batches("train", size), 3)
    expected = np.zeros((INITS, 3, 3))
    for b in range(INITS):
        module.load_state_dict({key: value[b] for key, value in weights.items()})
        for x_CHW, label in zip(DATA.preprocessing.apply(DATA.train_x), DATA.train_y.tolist(), strict=True):
            expected[b, label, int(module(x_CHW[None])[0].argmax())] += 1
    assert counts_BKK.tolist() == expected.tolist()
    assert (expected > 0).sum() > INITS * 3  # there is confusion to count


@pytest.mark.parametrize("classes", [3, 5])
def test_confusion_of_more_classes_than_there_are_examples_of(classes: int) -> None:
    module = build("linear", shape=(1, 8, 8), num_classes=classes)
    only = [(x_NCHW[y_N == 1], y_N[y_N == 1]) for x_NCHW, y_N in DATA.split_batches("test", 1000)]
    counts_BKK = confusion(kernels(module), starts(module), only, classes)
    assert counts_BKK.shape == (INITS, classes, classes)
    assert counts_BKK.sum(2)[0].tolist() == [10.0 * (k == 1) for k in range(classes)]


def test_what_counts_as_right_may_be_another_class() -> None:
    module = convolutional()
    weights = train(kernels(module), batches(), starts(module))

    def relabel(y_N: Tensor) -> Tensor:
        return torch.where(y_N == 1, 2, y_N)

    counts_BKK = confusion(kernels(module), weights, DATA.split_batches("train", 90), 3)
    scores = score(kernels(module), weights, DATA.split_batches("train", 90), 3, relabel=relabel)
    plain = score(kernels(module), weights, DATA.split_batches("train", 90), 3)
    assert torch.equal(scores.total_K, plain.total_K)
    assert torch.equal(
        scores.correct_BK, torch.stack([counts_BKK[:, 0, 0], counts_BKK[:, 1, 2], counts_BKK[:, 2, 2]], 1)
    )
    assert torch.equal(plain.correct_BK, counts_BKK.diagonal(dim1=1, dim2=2))
    assert not torch.equal(plain.correct_BK, scores.correct_BK)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
@pytest.mark.parametrize("size", [1, 11, 1000])
def test_chunks_and_batches_do_not_change_scores(chunk: int, size: int) -> None:
    module = MODULES["linear"]()
    weights = starts(module)
    whole = score(kernels(module), weights, DATA.split_batches("test", 1000), 3)
    parts = score(kernels(module, chunk), weights, DATA.split_batches("test", size), 3)
    assert torch.equal(parts.correct_BK, whole.correct_BK)
    assert torch.equal(parts.total_K, whole.total_K)


@pytest.mark.parametrize("chunk", [1, 2, INITS])
def test_batches_are_made_once_each_in_its_turn(chunk: int) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    seen: list[int] = []

    def lazily() -> Iterator[Batch]:
        for batch in batches(steps=6):
            fresh = Batch(batch.x_MCHW.clone(), batch.y_MK, batch.h)
            alive.add(fresh.x_MCHW)
            seen.append(len(alive))
            yield fresh
            del fresh

    learner = Learner.of(MODULES["mlp"]())
    kernels = Kernels(learner, RealLoss(), Execution(chunk=chunk))
    weights = draw(learner.module, "xavier", INITS, generator(0))
    parts = [train(kernels, batches(steps=6), part) for part in chunks(weights, chunk)]
    assert same_tensors(train(kernels, lazily(), weights), concatenate(parts))
    assert len(seen) == 6
    assert max(seen) <= 2  # the one that was used last, and the next


def test_examples_are_read_once_and_may_be_a_generator() -> None:
    read = []

    def examples() -> Iterator[tuple[Tensor, Tensor]]:
        for x_NCHW, y_N in DATA.split_batches("test", 10):
            read.append(len(y_N))
            yield x_NCHW, y_N

    module = MODULES["linear"]()
    scores = score(kernels(module, 1), starts(module), examples(), 3)
    assert read == [10, 10, 10]
    assert float(scores.total_K.sum()) == 30


def test_predict_is_one_network_at_a_time() -> None:
    module = convolutional()
    weights, held = starts(module), kernels(module)
    x_NCHW = DATA.preprocessing.apply(DATA.test_x)
    logits_BNK = held.predict(weights, x_NCHW)
    assert logits_BNK.shape == (INITS, 30, 3)
    for b, part in enumerate(chunks(weights, 1)):
        torch.testing.assert_close(held.predict(part, x_NCHW)[0], logits_BNK[b], rtol=1e-5, atol=1e-5)


# --- scores ----------------------------------------------------------------------------------------------------------


@st.composite
def counts(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Hits by init and class, and how many there were to hit."""
    total = draw(hnp.arrays(np.int64, st.integers(2, 5), elements=st.integers(1, 1000)))
    share = draw(hnp.arrays(np.float64, (draw(st.integers(1, 6)), len(total)), elements=st.floats(0, 1)))
    return torch.tensor(np.floor(share * total)).float(), torch.tensor(total).float()


@settings(max_examples=60, deadline=None)
@given(pair=counts())
def test_scores(pair: tuple[Tensor, Tensor]) -> None:
    correct, total = (part.double().numpy() for part in pair)
    scores = Scores(correct_BK=pair[0], total_K=pair[1])
    accuracy = 100 * correct.sum(1) / total.sum()
    assert scores.n == len(accuracy)
    assert scores.accuracy_B.tolist() == pytest.approx(accuracy.tolist())
    assert scores.mean == pytest.approx(accuracy.mean())
    assert scores.worst == pytest.approx(accuracy.min())
    assert scores.per_class == pytest.approx((100 * (correct / total).mean(0)).tolist())
    if scores.n == 1:
        assert scores.std is None
    else:
        assert scores.std == pytest.approx(np.std(accuracy, ddof=1), abs=1e-9)
    # the classes, weighed by their frequency, make up the whole
    assert float(np.average(scores.per_class, weights=total)) == pytest.approx(scores.mean)
    plain = scores.to_json()
    assert plain == {
        **{name: getattr(scores, name) for name in ("mean", "std", "n", "worst", "per_class")},
    }


@settings(max_examples=60, deadline=None)
@given(pair=counts(), which=st.integers(0, 4))
def test_balanced_scores_weigh_one_class_as_much_as_all_others(pair: tuple[Tensor, Tensor], which: int) -> None:
    scores = Scores(correct_BK=pair[0], total_K=pair[1])
    label = which % len(pair[1])
    correct, total = (part.double().numpy() for part in pair)
    rest = np.arange(len(total)) != label
    halves = 100 * correct[:, label] / total[label], 100 * correct[:, rest].sum(1) / total[rest].sum()
    balanced = scores.balance(label)
    assert balanced.accuracy_B.tolist() == pytest.approx(((halves[0] + halves[1]) / 2).tolist(), rel=1e-5, abs=1e-4)
    assert balanced.per_class == pytest.approx(scores.per_class, rel=1e-5)
    assert balanced.n == scores.n


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), size=st.integers(1, 15))
def test_chunks_are_a_partition(n: int, size: int) -> None:
    params = {"a": torch.arange(2.0 * n).view(n, 2), "b": torch.arange(float(n))}
    parts = list(chunks(params, size))
    assert same_tensors(concatenate(parts), params)
    assert all(1 <= inits(part) <= size for part in parts)
    assert len(parts) == -(-n // size)


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch", "none"])
def test_networks_of_every_normalisation_are_scored_together_as_each_alone(norm: str) -> None:
    module = build(f"convnet3,width=4,depth=1,norm={norm}", shape=(1, 8, 8), num_classes=3)
    networks = draw(module, "kaiming", 3, generator(0))
    # One channel that is stored last: the layout reads as channels last, too.
    pixels_NCHW = torch.rand(6, 8, 8, 1, generator=generator(1)).permute(0, 3, 1, 2)
    x_NCHW = Preprocessing(scale=1.0, mean=(0.5,), std=(0.2,)).apply(pixels_NCHW)
    kernels = Kernels(Learner.of(module), RealLoss(), Execution(chunk=3))
    with torch.no_grad():
        together_BNK = kernels.predict(networks, x_NCHW)
        for index, logits_NK in enumerate(together_BNK):
            alone_NK = functional_call(module, {name: value[index] for name, value in networks.items()}, (x_NCHW,))
            torch.testing.assert_close(logits_NK, alone_NK)
