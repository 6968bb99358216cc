"""The judge: its numbers against a plain training loop, what it may look at, and what it refuses."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_runs import generator, random_set, same_tensors, tiny_config, tiny_data
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.common.seeds import generator as stream
from limbeck.data import TaskData, load
from limbeck.engine import Batch, Tensors
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import RANDOM_SETS, STEP_SIZES, baseline_names, class_average, random_real
from limbeck.evaluation.judge import Evaluation, Row, evaluate
from limbeck.experiment import planner
from limbeck.models import RandomInit, save_pool
from limbeck.outer.loop import distill

DATA = tiny_data()
N = 12
# the package exports the function under the module's name
MODULE = importlib.import_module("limbeck.evaluation.judge")


def learned_set(**settings: Any) -> Distilled:
    """A short distillation with a step size of its own in each of the four steps."""
    options: dict[str, Any] = {"lr_steps": 0.2, "learner": "mlp"} | settings
    return distill(tiny_config(**options), DATA)


@pytest.fixture(scope="module")
def run() -> Distilled:
    return learned_set()


@pytest.fixture(scope="module")
def fixed() -> Distilled:
    return learned_set(init="fixed", iterations=30, lr_images=0.1)


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


def hits(run: Distilled, weights: Tensors, batches: Sequence[Batch], x_NCHW: Tensor, y_N: Tensor) -> list[list[float]]:
    """Train each network with torch's own SGD and count by true class what it gets right, (B, K)."""
    counts = []
    for b in range(len(next(iter(weights.values())))):
        model = run.network()
        model.load_state_dict({name: value[b] for name, value in weights.items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        for batch in batches:
            optimizer.param_groups[0]["lr"] = float(batch.h["lr"])
            optimizer.zero_grad()
            F.cross_entropy(model(batch.x_MCHW), batch.y_MK).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        right_N = model(run.preprocess(x_NCHW)).argmax(1) == y_N
        counts.append([float(right_N[y_N == label].sum()) for label in range(run.num_classes)])
    return counts


def batches_of(x_KnCHW: Tensor, lr: float, order: Sequence[int] = (0, 1, 0, 1)) -> list[Batch]:
    """One image per class a step, as the sets here are laid out."""
    return [Batch(x_KnCHW[:, index], torch.eye(3), {"lr": torch.tensor(lr)}) for index in order]


def mean(counts: list[list[float]], total: int) -> float:
    return float(np.mean(np.sum(counts, axis=1))) / total


def row(result: Evaluation, name: str) -> Row:
    return next(row for row in result.rows if row.row == name)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("learner", ["linear", "mlp"])
def test_the_learned_set_equals_a_plain_loop(labels: str, learner: str, judged_weights: list[Tensors]) -> None:
    run = learned_set(labels=labels, learner=learner, pixels={"steps": 3, "epochs": 2, "ipc": 2})
    assert len(set(run.learning_rates.tolist())) == 6
    judged_weights.clear()
    result = evaluate(run, DATA, n=N, baselines=())
    scores, weights = result.distilled.scores, judged_weights[0]
    expected = hits(run, weights, list(run.batches()), DATA.test_x, DATA.test_y)
    assert scores.correct_BK.tolist() == expected
    assert scores.total_K.tolist() == [10, 10, 10]
    assert scores.n == N == result.info["n"]
    accuracy = np.sum(expected, axis=1) / 30 * 100
    assert scores.accuracy_B.tolist() == pytest.approx(accuracy.tolist())
    assert scores.mean == pytest.approx(accuracy.mean())
    assert scores.std == pytest.approx(accuracy.std(ddof=1))
    assert scores.worst == pytest.approx(accuracy.min())
    assert scores.per_class == pytest.approx((np.mean(expected, axis=0) * 10).tolist())
    before = hits(run, weights, [], DATA.test_x, DATA.test_y)
    assert result.distilled.before == pytest.approx(100 * mean(before, 30))
    assert scores.mean > result.distilled.before + 5


def test_the_judge_agrees_with_the_artefact_used_by_hand(fixed: Distilled) -> None:
    result = fixed.evaluate(DATA)
    model = fixed.train()
    right_N = model(fixed.preprocess(DATA.test_x)).argmax(1) == DATA.test_y
    assert result.distilled.scores.mean == pytest.approx(100 * float(right_N.double().mean()))
    assert [row.row for row in result.rows] == ["distilled"]


def test_classes_may_be_of_any_frequency(run: Distilled, judged_weights: list[Tensors]) -> None:
    keep = (DATA.test_y != 1) | (torch.arange(30) < 6)
    data = replace(DATA, test_x=DATA.test_x[keep], test_y=DATA.test_y[keep])
    scores = evaluate(run, data, n=N, baselines=()).distilled.scores
    assert scores.total_K.tolist() == [10, 2, 10]
    assert scores.correct_BK.tolist() == hits(run, judged_weights[0], list(run.batches()), data.test_x, data.test_y)
    assert np.average(scores.per_class, weights=[10, 2, 10]) == pytest.approx(scores.mean)


def best_step_size(run: Distilled, x_KnCHW: Tensor, weights: Tensors) -> float:
    """The step size of the grid with the best validation accuracy, the smallest of equals."""
    accuracy = {lr: mean(hits(run, weights, batches_of(x_KnCHW, lr), DATA.val_x, DATA.val_y), 18) for lr in STEP_SIZES}
    return max(accuracy, key=lambda lr: accuracy[lr])


def test_a_baseline_is_tuned_on_validation_data_and_equals_a_plain_loop(
    run: Distilled, judged_weights: list[Tensors]
) -> None:
    average = row(evaluate(run, DATA, n=N, baselines=["average"]), "average")
    weights, tuning = judged_weights
    images = class_average(DATA, 2, generator())
    assert average.step_size == best_step_size(run, images, tuning)
    batches = batches_of(images, average.step_size)
    assert average.scores.correct_BK.tolist() == hits(run, weights, batches, DATA.test_x, DATA.test_y)


def test_random_is_the_average_over_ten_sets(run: Distilled, judged_weights: list[Tensors]) -> None:
    random = row(evaluate(run, DATA, n=20, baselines=["random"], seed=3), "random")
    weights, tuning = judged_weights
    draws = stream(3, "baseline random")
    sets = [random_real(DATA, 2, draws) for _ in range(RANDOM_SETS)]
    assert random.step_size == best_step_size(run, sets[0], tuning)
    expected = []
    for index, images in enumerate(sets):  # each on two of the twenty initial weights
        part = {name: value[2 * index : 2 * index + 2] for name, value in weights.items()}
        expected += hits(run, part, batches_of(images, random.step_size), DATA.test_x, DATA.test_y)
    assert random.scores.correct_BK.tolist() == expected


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_best_random_is_the_best_on_training_data(run: Distilled, seed: int, judged_weights: list[Tensors]) -> None:
    best = row(evaluate(run, DATA, n=N, baselines=["best-random"], seed=seed), "best-random")
    weights, tuning = judged_weights
    draws = stream(seed, "baseline best-random")
    sets = [random_real(DATA, 2, draws) for _ in range(RANDOM_SETS)]
    assert best.step_size == best_step_size(run, sets[0], tuning)
    trained = [batches_of(images, best.step_size) for images in sets]
    on_training = [mean(hits(run, tuning, batches, DATA.train_x, DATA.train_y), 72) for batches in trained]
    assert len(set(on_training)) > 3
    best_batches = trained[int(np.argmax(on_training))]
    assert best.scores.correct_BK.tolist() == hits(run, weights, best_batches, DATA.test_x, DATA.test_y)


@pytest.mark.parametrize("n", [1, 3, 12, 25])
def test_every_row_has_n_initial_weights(run: Distilled, n: int) -> None:
    result = evaluate(run, DATA, n=n)
    assert [row.row for row in result.rows] == ["distilled", *baseline_names()]
    # one initial weight cannot be shared by ten sets: then each set gets it
    assert [row.scores.n for row in result.rows] == [n, RANDOM_SETS if n == 1 else n, n, n, n]
    assert len({row.before for row in result.rows}) == 1
    for each in result.rows:
        assert 0 <= each.before <= 100
        assert 0 <= each.scores.worst <= each.scores.mean <= 100
        assert each.seconds >= 0
        assert (each.step_size in STEP_SIZES) == (each.row != "distilled")
    plain = result.to_json(run="runs/x", paper="12.34")["rows"]
    assert [r["paper"] for r in plain] == ["12.34", None, None, None, None]
    assert {r["run"] for r in plain} == {"runs/x"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_default_n_follows_the_size_of_the_network(run: Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "compiler_missing", lambda device: "a compiler")  # 200 tiny ones are fast without
    assert evaluate(run, DATA, baselines=()).distilled.scores.n == 200
    monkeypatch.setattr(planner, "SMALL_STEP_FLOPS", 0.0)
    assert evaluate(run, DATA, baselines=()).distilled.scores.n == 40


def test_one_network_at_a_time_gets_the_same_scores(run: Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(run, DATA, n=N, baselines=()).distilled.scores
    monkeypatch.setattr(planner, "SMALL_STEP_FLOPS", 0.0)
    assert torch.equal(evaluate(run, DATA, n=N, baselines=()).distilled.scores.correct_BK, whole.correct_BK)


def plain(result: Evaluation) -> Any:
    values = result.to_json()
    for each in values["rows"]:
        each.pop("seconds")
    return values


def test_the_same_seed_gives_the_same_numbers(run: Distilled, judged_weights: list[Tensors]) -> None:
    torch.manual_seed(1)
    first = plain(evaluate(run, DATA, n=N, seed=4))
    torch.manual_seed(2)  # the global generator plays no part
    state = torch.random.get_rng_state()
    assert plain(evaluate(run, DATA, n=N, seed=4)) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert plain(evaluate(run, DATA, n=N, seed=5)) != first
    assert same_tensors(judged_weights[0], judged_weights[2])
    assert not same_tensors(judged_weights[0], judged_weights[4])


def test_a_row_does_not_depend_on_the_others(run: Distilled) -> None:
    together = {each["row"]: each for each in plain(evaluate(run, DATA, n=N))["rows"]}
    for name in baseline_names():
        assert plain(evaluate(run, DATA, n=N, baselines=[name]))["rows"] == [together["distilled"], together[name]]


def test_a_saved_run_is_judged_alike(run: Distilled, fixed: Distilled, tmp_path: Path) -> None:
    for each in (run, fixed):
        each.save(tmp_path)
        loaded = Distilled.load(tmp_path)
        assert plain(evaluate(loaded, DATA, n=3)) == plain(evaluate(each, DATA, n=3))


# --- a fixed initialisation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [None, 1, 50])
def test_a_fixed_initialisation_is_a_single_one(fixed: Distilled, n: int | None) -> None:
    result = evaluate(fixed, DATA, n=n)
    for each in result.rows:
        if each.row != "random":  # ten sets on the one initialisation
            assert (each.scores.n, each.scores.std) == (1, None)
            assert each.scores.worst == each.scores.mean
    assert row(result, "random").scores.n == RANDOM_SETS
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))["rows"]
    assert [r["std"] is None for r in written] == [r["row"] != "random" for r in written]
    theta = {name: value[None] for name, value in fixed.weights.items()}
    expected = hits(fixed, theta, list(fixed.batches()), DATA.test_x, DATA.test_y)
    assert result.distilled.scores.correct_BK.tolist() == expected


# --- what it may look at ---------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were read, in order, and between them what the judge said."""
    splits: list[str] = []
    split_batches = TaskData.split_batches

    def spy(self: TaskData, split: Any, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        splits.append(split)
        return split_batches(self, split, batch)

    monkeypatch.setattr(TaskData, "split_batches", spy)
    return splits


def test_the_test_split_is_read_for_final_scores_only(run: Distilled, reads: list[str]) -> None:
    """Each baseline tunes and chooses before the test split is opened for it, and nothing is chosen afterwards."""
    evaluate(run, DATA, n=20, tell=lambda text: reads.append(text.split(":")[0] if "tuning" in text else text))
    assert reads[0] == "scoring the learned set on the test set over 20 initial weights"
    assert reads[1:3] == ["test", "test"]  # after training, and before it
    for name in baseline_names():
        begun = reads.index(f"baseline {name}")
        scored = reads.index(f"baseline {name}: scoring on the test set")
        assert "test" not in reads[begun:scored]
        rest = reads[scored + 1 :]
        until = next((i for i, word in enumerate(rest) if word.startswith("baseline")), len(rest))
        assert set(rest[:until]) == {"test"}
        assert until == 1  # random's sets are scored together


@pytest.mark.parametrize("which", ["run", "fixed"])
def test_nothing_that_is_chosen_depends_on_the_test_set(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With garbage for a test set, the same step sizes and the same images are chosen."""
    learned_run: Distilled = request.getfixturevalue(which)
    garbage = replace(DATA, test_x=torch.full_like(DATA.test_x, float("nan")), test_y=DATA.test_y.flip(0))
    used: list[list[Batch]] = []
    train = MODULE.train

    def spy(kernels: Any, batches: Iterable[Batch], weights: Tensors) -> Tensors:
        used.append(list(batches))
        trained: Tensors = train(kernels, used[-1], weights)
        return trained

    monkeypatch.setattr(MODULE, "train", spy)
    results = [evaluate(learned_run, data, n=N) for data in (DATA, garbage)]
    assert [row.step_size for row in results[0].rows] == [row.step_size for row in results[1].rows]
    assert results[0].distilled.scores.mean != results[1].distilled.scores.mean
    half = len(used) // 2
    for one, other in zip(used[:half], used[half:], strict=True):
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left.x_MCHW, right.x_MCHW)
            assert torch.equal(left.h["lr"], right.h["lr"])


def test_learning_does_not_depend_on_the_test_set(reads: list[str]) -> None:
    garbage = replace(DATA, test_x=torch.full_like(DATA.test_x, float("nan")), test_y=DATA.test_y.flip(0))
    results = [distill(tiny_config(), data) for data in (DATA, garbage)]
    assert torch.equal(results[0].images, results[1].images)
    assert torch.equal(results[0].learning_rates, results[1].learning_rates)
    assert set(reads) == {"val"}


def test_held_out_weights_are_never_trained_validated_or_tuned_on(
    judged_weights: list[Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[Tensor] = []
    for method in ("sample", "held_out"):
        original = getattr(RandomInit, method)

        def spy(self: RandomInit, *args: Any, original: Any = original) -> Tensors:
            weights: Tensors = original(self, *args)
            sampled.append(weights["linear.weight"])
            return weights

        monkeypatch.setattr(RandomInit, method, spy)
    run = distill(tiny_config(iterations=40, seed=3), DATA)
    seen = torch.cat(sampled)
    assert len(seen) > 120
    for seed in (0, 3, 4):
        judged_weights.clear()
        evaluate(run, DATA, n=N, seed=seed, baselines=())
        test, tuning = (weights["linear.weight"] for weights in judged_weights)
        # single numbers may coincide; a stream met anywhere would share most of them
        assert torch.isin(test, torch.cat([seen, tuning])).float().mean() < 0.01


def sorted_task() -> TaskData:
    """4,400 images sorted by class: whatever comes first is of one class."""
    y_N = torch.arange(3).repeat_interleave(1500)
    patterns = torch.randn(3, 1, 2, 2, generator=generator(7))
    x_NCHW = patterns[y_N] + torch.randn(4500, 1, 2, 2, generator=generator(1))
    data = load(((x_NCHW, y_N), (x_NCHW[::50], y_N[::50])), val_size=900)
    return replace(data, val_x=x_NCHW, val_y=y_N)  # more than tuning looks at


def test_selection_sees_every_class_of_sorted_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sorted_task()
    totals: list[list[float]] = []
    score = MODULE.score

    def spy(*args: Any, **names: Any) -> Any:
        result = score(*args, **names)
        totals.append(result.total_K.tolist())
        return result

    monkeypatch.setattr(MODULE, "score", spy)
    run = random_set(shape=(1, 2, 2))
    evaluate(run, data, n=2, baselines=["best-random"])
    selection = [total for total in totals if sum(total) != 90]
    assert len(selection) == len(STEP_SIZES) + RANDOM_SETS
    for total in selection:
        assert 1000 <= sum(total) <= 3000
        assert min(total) > 0.25 * sum(total)


# --- input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"baselines": ["kmean"]}, "did you mean 'kmeans'"),
        ({"baselines": ["random", "herdings"]}, "herdings"),
        ({"n": 0}, "n is 0"),
        ({"n": -3}, "n is -3"),
    ],
)
def test_wrong_arguments(run: Distilled, names: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        evaluate(run, DATA, **names)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tiny_data(channels=3), r"shape \(1, 8, 8\).*\(3, 8, 8\)"),
        (lambda: replace(DATA, class_names=("a", "b", "c", "d")), "3 classes.*4"),
        (lambda: sorted_task(), r"\(1, 2, 2\)"),
    ],
)
def test_data_of_another_task_is_refused(run: Distilled, make: Callable[[], TaskData], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        evaluate(run, make(), n=2, baselines=())


def test_other_data_of_the_same_shape_is_noted(run: Distilled) -> None:
    messages: list[str] = []
    evaluate(run, DATA, n=2, baselines=(), tell=messages.append)
    assert not any("not the data" in text for text in messages)
    evaluate(run, replace(DATA, sha256="1" * 64, name="others"), n=2, baselines=(), tell=messages.append)
    assert any(text.startswith("note: others is not the data") for text in messages)


def test_data_given_in_python_must_be_given_again(run: Distilled) -> None:
    with pytest.raises(LimbeckError, match="was given in Python; give the data again, as data"):
        evaluate(run, n=2)


@pytest.mark.parametrize("name", ["mnist", "MNIST"])
def test_a_named_set_is_looked_up_as_learning_does(run: Distilled, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def lookup(source: str, **names: Any) -> TaskData:
        calls.append((source, names))
        return DATA

    monkeypatch.setattr("limbeck.experiment.task.load", lookup)
    named = replace(run, config=replace(run.config, data=name, seed=5))
    evaluate(named, n=2, baselines=(), data_dir=Path("somewhere"))
    expected = {"data_dir": Path("somewhere"), "device": "cpu", "val_size": 18, "seed": 5}
    assert calls == [(name, expected)]


@pytest.mark.parametrize("name", ["task.npz", "TASK.NPZ"])
def test_a_file_is_read_again(name: str, tmp_path: Path) -> None:
    x_NCHW, y_N = torch.cat([DATA.train_x, DATA.val_x]), torch.cat([DATA.train_y, DATA.val_y])
    path = tmp_path / name
    with path.open("wb") as file:
        np.savez(file, x=x_NCHW.numpy(), y=y_N.numpy(), x_test=DATA.test_x.numpy(), y_test=DATA.test_y.numpy())
    run = distill(replace(tiny_config(), data=str(path)))
    messages: list[str] = []
    result = evaluate(run, n=N, baselines=(), tell=messages.append)
    assert not any("note" in text for text in messages)
    assert result.distilled.scores.total_K.tolist() == [10, 10, 10]


def test_given_data_is_brought_to_the_device(run: Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    to = TaskData.to

    def spy(self: TaskData, device: Any) -> TaskData:
        moved.append(str(device))
        return to(self, device)

    monkeypatch.setattr(TaskData, "to", spy)
    evaluate(run, DATA, n=2, baselines=(), device="cpu")
    assert moved == ["cpu"]


def test_a_pool_is_judged_on_all_that_it_holds_out(
    run: Distilled, tmp_path: Path, judged_weights: list[Tensors]
) -> None:
    weights = RandomInit(module=run.learner().module, distribution="xavier").sample(9, generator())
    save_pool(tmp_path / "pool.safetensors", weights, {})
    config = tiny_config(learner="mlp", validate_inits=4)
    config = replace(config, init=replace(config.init, init=f"pool:{tmp_path / 'pool.safetensors'}", held_out=4))
    pooled = distill(config, DATA)
    judged_weights.clear()
    result = evaluate(pooled, DATA, baselines=["average"])
    assert [row.scores.n for row in result.rows] == [4, 4]
    name = next(iter(weights))
    assert sorted(judged_weights[0][name][:, 0, 0].tolist()) == sorted(weights[name][5:, 0, 0].tolist())
    with pytest.raises(LimbeckError, match="1 to 4"):
        evaluate(pooled, DATA, n=5)
