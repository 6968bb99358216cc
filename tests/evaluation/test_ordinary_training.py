"""Ordinary training: the same numbers as torch's own loop, the order of the images, and what it refuses."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import generator, random_set, tiny_data
from torch import Tensor, nn

from limbeck.artefact.distilled import Distilled
from limbeck.engine import Batch, Execution, Kernels, Learner, RealLoss, Tensors
from limbeck.errors import LimbeckError
from limbeck.evaluation import judge
from limbeck.evaluation.baselines import STEP_SIZES, class_average
from limbeck.evaluation.judge import Evaluation, evaluate
from limbeck.evaluation.train_and_score import train
from limbeck.evaluation.training import OrdinaryTraining
from limbeck.experiment import planner

DATA = tiny_data()

RECIPES: dict[str, OrdinaryTraining] = {
    "adam": OrdinaryTraining(lr=0.01, epochs=3, batch_size=4),
    "adam, decayed": OrdinaryTraining(lr=0.02, epochs=4, batch_size=4, weight_decay=0.05, decay="cosine"),
    "sgd": OrdinaryTraining(optimizer="sgd", lr=0.1, epochs=3, batch_size=5, momentum=0.8),
    "sgd, decayed": OrdinaryTraining(
        optimizer="sgd", lr=0.1, epochs=4, batch_size=4, momentum=0.5, weight_decay=0.1, decay="cosine"
    ),
    "sgd, augmented": OrdinaryTraining(
        optimizer="sgd", lr=0.05, epochs=2, batch_size=3, shift=1.5, turn=15, zoom=0.1, flip=True
    ),
}


def small_net(seed: int = 0) -> nn.Module:
    """A smooth network for 1 x 8 x 8 images and 3 classes, in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def a_set() -> tuple[Tensor, Tensor]:
    """Two batches of five images with labels that are distributions, in float64."""
    images = torch.randn(2, 5, 1, 8, 8, generator=generator(1), dtype=torch.float64)
    return images, torch.randn(2, 5, 3, generator=generator(2), dtype=torch.float64).softmax(-1)


def train_by_hand(model: nn.Module, recipe: OrdinaryTraining, batches: Sequence[tuple[Tensor, Tensor]]) -> nn.Module:
    """The model trained by torch.optim and a scheduler of torch's, in place."""
    if recipe.optimizer == "adam":
        # 1e-16 inside the root, as here, does less than torch's 1e-8 outside to gradients as small as 1e-6.
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            model.parameters(), lr=recipe.lr, eps=1e-12, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for x_MCHW, y_MK in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x_MCHW), y_MK).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if recipe.decay == "cosine":
            cosine.step()
    return model


def pairs(recipe: OrdinaryTraining, run: tuple[Tensor, Tensor], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(batch.x_MCHW, batch.y_MK) for batch in recipe.batches(*run, seed=seed)]


def weights_of(*models: nn.Module) -> Tensors:
    """The parameters of B networks, (B, ...)."""
    states = [dict(model.named_parameters()) for model in models]
    return {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_kernels_train_as_torch_does(name: str) -> None:
    recipe, models = RECIPES[name], [small_net(seed) for seed in (0, 1)]
    kernels = Kernels(Learner.of(models[0], recipe.make_optimizer()), RealLoss(), Execution())
    trained = train(kernels, list(recipe.batches(*a_set())), weights_of(*models))
    expected = weights_of(*(train_by_hand(copy.deepcopy(model), recipe, pairs(recipe, a_set())) for model in models))
    for key, value in expected.items():
        torch.testing.assert_close(trained[key], value, rtol=1e-4, atol=1e-7)
        assert (value - weights_of(*models)[key]).abs().max() > 1e-3, key


def test_adam_has_its_epsilon_inside_the_root() -> None:
    """Kingma and Ba 2015, algorithm 1, written out; images so faint that epsilon matters."""
    recipe, model = RECIPES["adam"], small_net()
    images, labels = a_set()
    faint = (1e-7 * images, labels)
    kernels = Kernels(Learner.of(model, recipe.make_optimizer()), RealLoss(), Execution())
    trained = train(kernels, list(recipe.batches(*faint)), weights_of(model))
    by_hand = copy.deepcopy(model)
    params = list(by_hand.parameters())
    first, second = ([torch.zeros_like(value) for value in params] for _ in range(2))
    for t, (x_MCHW, y_MK) in enumerate(pairs(recipe, faint), 1):
        grads = torch.autograd.grad(F.cross_entropy(by_hand(x_MCHW), y_MK), params)
        with torch.no_grad():
            for value, grad, m, v in zip(params, grads, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * grad)
                v.mul_(0.999).add_(0.001 * grad.square())
                value -= 0.01 * (m / (1 - 0.9**t)) / (v / (1 - 0.999**t) + 1e-16).sqrt()
    for name, value in by_hand.named_parameters():
        torch.testing.assert_close(trained[name][0], value.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RECIPES)
def test_an_artefact_trains_a_model_as_torch_does(name: str) -> None:
    recipe, model = RECIPES[name], small_net()
    images, labels = a_set()
    run = Distilled(**{**vars(random_set()), "images": images, "labels": labels})
    expected = train_by_hand(copy.deepcopy(model), recipe, pairs(recipe, (images, labels), seed=3))
    trained = run.train(model, training=recipe, seed=3)
    assert trained is model and model.training
    for one, other in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_set_may_itself_ask_for_ordinary_training() -> None:
    images, labels = a_set()
    run = Distilled(**{**vars(random_set()), "images": images, "labels": labels, "training": RECIPES["sgd"]})
    one, other = (list(net.parameters()) for net in (run.train(small_net()), small_net()))
    train_by_hand(expected := small_net(), RECIPES["sgd"], pairs(RECIPES["sgd"], (images, labels)))
    for value, wanted, start in zip(one, expected.parameters(), other, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-7)
        assert not torch.equal(value, start)
    assert run.steps == 6 and len(list(run.batches())) == 6
    for name in ("schedule", "order", "hyperparameters", "learning_rates"):
        with pytest.raises(LimbeckError, match="used by ordinary training.*no steps were learned"):
            getattr(run, name)


def test_another_seed_is_another_order_and_the_same_seed_the_same() -> None:
    run = random_set()
    recipe = replace(RECIPES["sgd"], batch_size=2)
    one, again, other = (
        [p.detach() for p in run.train(run.network(), training=recipe, seed=seed).parameters()] for seed in (0, 0, 1)
    )
    assert all(torch.equal(left, right) for left, right in zip(one, again, strict=True))
    assert not any(torch.equal(left, right) for left, right in zip(one, other, strict=True))


# --- batches ---------------------------------------------------------------------------------------------------------


def identity(count: int) -> tuple[Tensor, Tensor]:
    """Images that carry their number, and the same number as a one-hot label."""
    x_N = torch.arange(float(count))
    return x_N.view(1, count, 1, 1, 1).expand(-1, -1, 1, 2, 2), torch.eye(count)[None]


@pytest.mark.parametrize(("images", "batch_size", "sizes"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (4, 10, [4])])
def test_every_image_comes_once_an_epoch_with_its_own_label(images: int, batch_size: int, sizes: list[int]) -> None:
    recipe = OrdinaryTraining(epochs=5, batch_size=batch_size)
    batches = list(recipe.batches(*identity(images)))
    assert [len(batch.x_MCHW) for batch in batches] == sizes * 5
    assert len(batches) == recipe.count_steps(images)
    orders = set()
    for epoch in range(5):
        part = batches[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        numbers = torch.cat([batch.x_MCHW[:, 0, 0, 0] for batch in part]).tolist()
        assert sorted(numbers) == list(range(images))
        assert torch.cat([batch.y_MK.argmax(-1) for batch in part]).tolist() == numbers
        orders.add(tuple(numbers))
    assert len(orders) > 1


def test_images_of_different_batches_of_the_set_are_mixed() -> None:
    x, y = identity(12)
    batches = OrdinaryTraining(epochs=1, batch_size=6).batches(x.view(2, 6, 1, 2, 2), y.view(2, 6, 12))
    first = next(iter(batches)).x_MCHW[:, 0, 0, 0]
    assert (first < 6).any() and (first >= 6).any()


@pytest.mark.parametrize(("decay", "last"), [("constant", 0.3), ("cosine", 0.15 * (1 + math.cos(math.pi * 7 / 8)))])
def test_the_step_size_stays_or_falls_along_half_a_cosine(decay: Any, last: float) -> None:
    recipe = OrdinaryTraining(lr=0.3, epochs=4, batch_size=3, decay=decay)
    rates = [float(batch.h["lr"]) for batch in recipe.batches(*identity(6))]
    assert len(rates) == 8 and rates[0] == pytest.approx(0.3) and rates[-1] == pytest.approx(last)
    assert rates == sorted(rates, reverse=True)
    assert [float(batch.h["lr"]) for batch in recipe.at_step_size(0.6).batches(*identity(6))] == pytest.approx(
        [2 * rate for rate in rates]
    )


def test_what_the_optimiser_reads_has_the_precision_of_the_images() -> None:
    for recipe in RECIPES.values():
        for batch in recipe.batches(*a_set()):
            assert set(batch.h) == set(recipe.make_optimizer().hyperparameters)
            assert all(value.dtype == torch.float64 and value.shape == () for value in batch.h.values())


def test_augmentation_is_fresh_in_every_epoch() -> None:
    recipe = OrdinaryTraining(epochs=2, batch_size=10, shift=2.0)
    one, other = (batch.x_MCHW.sum((1, 2, 3)).sort().values for batch in recipe.batches(*a_set()))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "30 epochs of Adam 0.001 in batches of 10"),
        ({"epochs": 1, "optimizer": "sgd", "lr": 0.1}, "1 epoch of SGD with momentum 0.1 in batches of 10"),
        ({"shift": 1.0}, "30 epochs of Adam 0.001 in batches of 10, augmented"),
        ({"flip": True}, "30 epochs of Adam 0.001 in batches of 10, augmented"),
    ],
)
def test_its_description(settings: dict[str, Any], text: str) -> None:
    assert OrdinaryTraining(**settings).description == text


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adm"}, "Unknown optimizer 'adm'; did you mean 'adam'"),
        ({"decay": "cosin"}, "Unknown decay 'cosin'; did you mean 'cosine'"),
        ({"momentum": 0.5}, "momentum is 0.5, which does nothing with the optimizer adam; choose sgd"),
        ({"lr": 0.0}, "lr is 0.0; a step size must be a positive number"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.inf}, "lr is inf"),
        ({"lr": math.nan}, "lr is nan"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"zoom": 1.0}, "zoom is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"shift": -1.0}, "shift is -1.0"),
        ({"shift": math.inf}, "shift is inf"),
        ({"turn": 181.0}, "turn is 181.0; it must lie between 0 and 180 degrees"),
        ({"turn": math.nan}, "turn is nan"),
    ],
)
def test_settings_that_are_no_such(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        OrdinaryTraining(**settings)


# --- the judge -------------------------------------------------------------------------------------------------------


@pytest.fixture
def judged_weights(monkeypatch: pytest.MonkeyPatch) -> list[Tensors]:
    """The initial weights that the judge asks for: first for the test, then for tuning."""
    weights: list[Tensors] = []
    initial = Distilled.initial

    def spy(self: Distilled, *args: Any, **names: Any) -> Tensors:
        weights.append(initial(self, *args, **names))
        return weights[-1]

    monkeypatch.setattr(Distilled, "initial", spy)
    return weights


def accuracies(
    run: Distilled, weights: Tensors, recipe: OrdinaryTraining, batches: Sequence[tuple[Tensor, Tensor]]
) -> list[float]:
    """Test accuracy in percent of each network after training by hand."""
    values = []
    for b in range(len(next(iter(weights.values())))):
        model = run.network()
        model.load_state_dict({name: value[b] for name, value in weights.items()})
        train_by_hand(model, recipe, batches)
        right_N = model(DATA.preprocessing.apply(DATA.test_x)).argmax(1) == DATA.test_y
        values.append(100 * float(right_N.double().mean()))
    return values


@pytest.mark.parametrize(
    ("recipe", "images"),
    [
        (None, 3),  # learned steps, each on a batch of the set
        (OrdinaryTraining(epochs=2, batch_size=2), 2),
        (OrdinaryTraining(epochs=2, batch_size=4), 4),  # the last batch of an epoch has 2
        (OrdinaryTraining(epochs=2, batch_size=100), 6),  # all that there are
    ],
)
def test_the_judge_plans_with_the_batches_of_the_recipe(
    recipe: OrdinaryTraining | None, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []

    def spy(*args: Any, **names: Any) -> planner.Plan:
        planned.append(names["images"])
        return planner.plan_judging(*args, **names)

    monkeypatch.setattr(judge, "plan_judging", spy)
    random_set().evaluate(DATA, n=2, training=recipe)
    assert planned == [images]


@pytest.mark.parametrize("name", ["adam", "sgd, decayed"])
def test_the_judge_scores_a_set_under_another_recipe(name: str, judged_weights: list[Tensors]) -> None:
    run, recipe = random_set(), RECIPES[name]
    result: Evaluation = run.evaluate(DATA, n=4, training=recipe)
    tuned = replace(recipe, lr=result.distilled.step_size)
    batches = pairs(tuned, (run.images, run.labels))
    expected = accuracies(run, judged_weights[0], tuned, batches)
    assert result.distilled.scores.accuracy_B.tolist() == pytest.approx(expected)
    assert result.info["training"] == recipe.description
    assert run.evaluate(DATA, n=4).info["training"] == "4 gradient steps"


def test_the_judge_keeps_no_more_images_for_more_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most: list[int] = []
    plain = OrdinaryTraining.batches

    def watched(self: OrdinaryTraining, *args: Any, **names: Any) -> Iterator[Batch]:
        for batch in plain(self, *args, **names):
            alive.add(batch.x_MCHW)
            most.append(len(alive))
            yield batch

    monkeypatch.setattr(OrdinaryTraining, "batches", watched)
    recipe = OrdinaryTraining(epochs=5, batch_size=2, shift=1)
    evaluate(random_set(), DATA, n=2, baselines=["average"], every_step=True, training=recipe)
    assert len(most) > 15 * 12
    assert max(most) <= 4


def test_baselines_are_trained_by_the_same_recipe(judged_weights: list[Tensors]) -> None:
    run, recipe = random_set(), OrdinaryTraining(optimizer="sgd", epochs=2, batch_size=4)
    baseline = evaluate(run, DATA, n=3, baselines=["average"], training=recipe).rows[1]
    assert baseline.step_size in (*STEP_SIZES, recipe.lr)
    x_KnCHW = class_average(DATA, 2, generator())
    images = x_KnCHW.transpose(0, 1).contiguous()
    labels = torch.eye(3).expand(2, 3, 3)
    tuned = replace(recipe, lr=baseline.step_size)
    expected = accuracies(run, judged_weights[0], tuned, pairs(tuned, (images, labels)))
    assert baseline.scores.accuracy_B.tolist() == pytest.approx(expected)


def validated(run: Distilled, recipe: OrdinaryTraining, weights: Tensors, data: tuple[Tensor, Tensor]) -> float:
    """Mean accuracy on the validation split after training by hand."""
    values = []
    for b in range(len(next(iter(weights.values())))):
        model = run.network()
        model.load_state_dict({name: value[b] for name, value in weights.items()})
        train_by_hand(model, recipe, pairs(recipe, data))
        right_N = model(DATA.preprocessing.apply(DATA.val_x)).argmax(1) == DATA.val_y
        values.append(100 * float(right_N.double().mean()))
    return sum(values) / len(values)


def test_the_set_and_the_baselines_are_tuned_on_the_same_grid(judged_weights: list[Tensors]) -> None:
    run, recipe = random_set(), OrdinaryTraining(optimizer="sgd", lr=0.007, epochs=2, batch_size=4)
    result = run.evaluate(DATA, n=2, baselines=["average"], training=recipe)
    averages = class_average(DATA, 2, generator()).transpose(0, 1).contiguous()
    sets = {"distilled": (run.images, run.labels), "average": (averages, torch.eye(3).expand(2, 3, 3))}
    grid = (0.007, *STEP_SIZES)
    assert {row.row for row in result.rows} == sets.keys()
    for row in result.rows:
        accuracy = {lr: validated(run, replace(recipe, lr=lr), judged_weights[1], sets[row.row]) for lr in grid}
        assert row.step_size == max(grid, key=lambda lr: accuracy[lr])
        assert min(accuracy.values()) < accuracy[row.step_size]  # otherwise the choice says nothing


def test_a_set_that_is_trained_as_it_was_learned_is_not_tuned() -> None:
    run = replace(random_set(), training=OrdinaryTraining(lr=0.007, epochs=1))
    rows = run.evaluate(DATA, n=2, baselines=["average"]).rows
    assert rows[0].step_size == 0.007
    assert rows[1].training != rows[0].training  # the baseline's is
    assert len(run.evaluate(DATA, n=2).rows) == 1
    assert len(run.evaluate(DATA, n=2, baselines=None).rows) > 2


def test_the_accuracy_is_followed_over_the_steps_of_the_recipe() -> None:
    recipe = OrdinaryTraining(epochs=2, batch_size=4)
    result = evaluate(random_set(), DATA, n=2, baselines=(), every_step=True, training=recipe)
    assert len(result.distilled.curve) == recipe.count_steps(6) + 1 == 5
