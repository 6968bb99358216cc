"""The artefact: round trip, damage, training on it, its picture and its card."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_runs import generator, random_set, same_tensors, tiny_config, tiny_data
from torch import Tensor, nn

from limbeck.artefact.card import card
from limbeck.artefact.distilled import SCHEMA, Distilled
from limbeck.artefact.preview import preview
from limbeck.cli.main import run as run_command
from limbeck.cli.tables import show_table
from limbeck.data import Preprocessing
from limbeck.engine import Execution, Kernels, RealLoss
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import chunks, concatenate, score, train
from limbeck.evaluation.training import LearnedSchedule
from limbeck.experiment.config import Config
from limbeck.outer.loop import distill

DATA = tiny_data()

# --- round trip ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


@st.composite
def sets(draw: st.DrawFn) -> Distilled:
    """Sets of any shape, type, labels, weights and provenance that can be."""
    batches, classes = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    channels, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    labels = draw(st.sampled_from(["hard", "soft"]))
    ipc, epochs = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    random, dtype = generator(draw(st.integers(0, 2**31))), draw(DTYPES)
    images = torch.randn(batches, ipc * classes, channels, height, width, generator=random).to(dtype)
    if draw(st.booleans()):
        images.view(-1)[0] = draw(st.sampled_from([float("inf"), -0.0, 1e-6, 6e4]))
    y_SMK = torch.eye(classes).repeat_interleave(ipc, dim=0).expand(batches, -1, -1)
    if labels == "soft":
        y_SMK = torch.softmax(torch.randn(batches, ipc * classes, classes, generator=random), dim=-1)
    positive = st.floats(1e-3, 1e3)
    names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    weights = {
        name: torch.randn(shape, generator=random)
        for name, shape in draw(st.dictionaries(names, st.sampled_from([(), (1,), (2, 3), (0, 2)]), max_size=3)).items()
    }
    config = tiny_config(labels=labels, pixels={"steps": batches, "epochs": epochs, "ipc": ipc})
    return Distilled(
        images=images,
        labels=y_SMK.contiguous() if draw(st.booleans()) else y_SMK,
        training=LearnedSchedule(
            inner=config.inner,
            order=torch.randint(batches, (batches * epochs,), generator=random),
            hyperparameters={"lr": torch.rand(batches * epochs, generator=random).to(dtype)},
        ),
        preprocessing=Preprocessing(
            scale=draw(positive),
            mean=tuple(draw(st.lists(positive, min_size=channels, max_size=channels))),
            std=tuple(draw(st.lists(positive, min_size=channels, max_size=channels))),
        ),
        class_names=tuple(draw(st.lists(st.text(max_size=8), min_size=classes, max_size=classes))),
        config=replace(config, seed=draw(st.integers(0, 2**40)), learner=draw(st.text(max_size=8))),
        weights=weights,
        info=random_set().info | draw(st.dictionaries(st.sampled_from(["x", "needs", "verdicts"]), JSON)),
    )


@settings(max_examples=40, deadline=None)
@given(original=sets())
def test_round_trip(original: Distilled) -> None:
    with tempfile.TemporaryDirectory() as folder:
        original.save(Path(folder))
        first = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        loaded = Distilled.load(folder)
        loaded.save(Path(folder))
        assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == first
    tensors = ("images", "labels", "learning_rates", "order")
    assert same_tensors(
        {name: getattr(loaded, name) for name in tensors}, {name: getattr(original, name) for name in tensors}
    )
    assert same_tensors(loaded.weights, original.weights)
    for name in ("preprocessing", "class_names", "config", "info", "shape", "num_classes"):
        assert getattr(loaded, name) == getattr(original, name)


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    result = distill(tiny_config(init="fixed"), DATA, out=tmp_path)
    tensors = load_file(tmp_path / "distilled.safetensors")
    assert set(tensors) == {
        *("images", "labels", "weights.linear.weight", "weights.linear.bias"),
        *("training.hyperparameters.lr", "training.order"),
    }
    assert torch.equal(tensors["images"], result.images)
    summary = json.loads((tmp_path / "distilled.json").read_text())
    assert summary["schema"] == SCHEMA
    assert Config.from_json(summary["config"]) == result.config
    read = {"kind": "images", "read_size": [8, 8], "deep": None}
    assert summary["data"] == {"name": "arrays", "sha256": DATA.sha256, **read}
    assert {"limbeck", "torch", "python", "device", "threads"} == set(summary["versions"])


def test_every_step_has_its_batch() -> None:
    result = random_set(tiny_config(pixels={"steps": 2, "epochs": 3}))
    batches = list(result.batches())
    assert len(batches) == 6
    for step, batch in enumerate(batches):
        assert torch.equal(batch.x_MCHW, result.images[step % 2])
        assert torch.equal(batch.y_MK, result.labels[step % 2])
        assert batch.h["lr"] == result.learning_rates[step]


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    random_set().save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["distilled.json", "distilled.safetensors"])
def test_truncated_files(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in (0, 1, 8, 40, len(whole) // 2, len(whole) - 3):
        (saved / name).write_bytes(whole[:length])
        with pytest.raises(LimbeckError, match="damaged"):
            Distilled.load(saved)


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="no finished run"):
        Distilled.load(tmp_path / "nothing")
    (saved / "distilled.safetensors").unlink()
    with pytest.raises(LimbeckError, match="does not exist"):
        Distilled.load(saved)
    (saved / "distilled.json").unlink()
    with pytest.raises(LimbeckError, match="no finished run"):
        Distilled.load(saved)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"schema"',
        "{}",
        '{"schema": "1"}',
        '{"schema": 0}',
        "\x00\x01",
        "{'schema': 1}",
        "[" * 10**5,
    ],
)
def test_garbage_instead_of_a_summary(saved: Path, text: str) -> None:
    (saved / "distilled.json").write_text(text)
    with pytest.raises(LimbeckError, match="damaged"):
        Distilled.load(saved)


SAID = ("classes", "preprocessing", "config", "data", "validation", "finished", "iterations", "seconds", "versions")


@pytest.mark.parametrize("field", SAID)
@pytest.mark.parametrize("value", [None, 3.5, [], "text", {"a": 1}, "missing"])
def test_garbage_in_a_summary(saved: Path, field: str, value: Any) -> None:
    if field == "seconds" and value == 3.5:
        return
    summary = json.loads((saved / "distilled.json").read_text())
    summary[field] = value
    if value == "missing":
        del summary[field]
    (saved / "distilled.json").write_text(json.dumps(summary))
    with pytest.raises(LimbeckError):
        Distilled.load(saved)


def places(values: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value stands in nested ones, each by the keys that lead to it; of lists the first entry."""
    for key in values if isinstance(values, dict) else range(min(1, len(values))) if isinstance(values, list) else ():
        yield (*at, key)
        yield from places(values[key], (*at, key))


def test_no_value_in_a_summary_is_more_than_a_sentence(saved: Path) -> None:
    """Whatever stands in the place of anything: the set is read, shown and described, or refused."""
    summary = json.loads((saved / "distilled.json").read_text()) | {"verdict": VERDICT}
    refused = 0
    for place in places(summary):
        for value in (None, -1, 2.5, "text", [[]], {"a": 1}):
            spoilt = json.loads(json.dumps(summary))
            inner = functools.reduce(lambda values, key: values[key], place[:-1], spoilt)
            inner[place[-1]] = value
            (saved / "distilled.json").write_text(json.dumps(spoilt))
            try:
                run = Distilled.load(saved)
            except LimbeckError:
                refused += 1
            else:
                assert card(run) and str(run) and show_table(run, saved).row_count
    assert refused > 300


VERDICT = {
    "word": "level",
    "n": 4,
    **{name: {"mean": 80.0, "error": 1.0, "balanced": 80.0} for name in ("learned", "random", "kmeans")},
}


@pytest.mark.parametrize("verdict", [3, [], "above", {}, {**VERDICT, "random": 3}, {**VERDICT, "n": "4"}])
@pytest.mark.parametrize("verb", ["show", "evaluate", "export"])
def test_a_verdict_that_is_none(saved: Path, verb: str, verdict: Any, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((saved / "distilled.json").read_text())
    (saved / "distilled.json").write_text(json.dumps(summary | {"verdict": VERDICT}))
    assert Distilled.load(saved).verdict is not None
    (saved / "distilled.json").write_text(json.dumps(summary | {"verdict": verdict}))
    before = sorted(saved.iterdir())
    assert run_command([verb, str(saved)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "distilled.json is damaged" in said and "estore it from a copy" in said
    assert sorted(saved.iterdir()) == before


def test_a_future_schema_version(saved: Path) -> None:
    summary = json.loads((saved / "distilled.json").read_text())
    (saved / "distilled.json").write_text(json.dumps({"schema": SCHEMA + 1, "what": "is new"}))
    with pytest.raises(LimbeckError, match=rf"schema version {SCHEMA + 1}.*up to {SCHEMA}.*Upgrade"):
        Distilled.load(saved)
    summary["config"]["outer"]["momentum"] = 0.9  # a field of another version
    (saved / "distilled.json").write_text(json.dumps(summary))
    with pytest.raises(LimbeckError, match="does not fit this version"):
        Distilled.load(saved)


@pytest.mark.parametrize("name", ["images", "labels", "training.order"])
def test_a_missing_tensor(saved: Path, name: str) -> None:
    tensors = load_file(saved / "distilled.safetensors")
    del tensors[name]
    save_file(tensors, saved / "distilled.safetensors", metadata={"limbeck": "{}"})
    with pytest.raises(LimbeckError, match=f"'{name.removeprefix('training.')}' is missing"):
        Distilled.load(saved)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", torch.zeros(3, 1, 8, 8)),
        ("images", torch.zeros(2, 4, 1, 8, 8)),
        ("labels", torch.zeros(2, 3, 4)),
        ("labels", torch.zeros(2, 3)),
        ("training.hyperparameters.lr", torch.zeros(3)),
        ("training.hyperparameters.momentum", torch.zeros(4)),
        ("training.order", torch.tensor([0, 1, 0, 2])),
        ("training.order", torch.tensor([0, -1, 0, 1])),
        ("training.order", torch.tensor([0.0, 1, 0, 1])),
        ("training.order", torch.tensor([[0, 1, 0, 1]])),
        ("images", torch.zeros(2, 3, 2, 8, 8)),
        ("images", torch.zeros(2, 3, 1, 0, 8)),
    ],
)
def test_tensors_that_do_not_fit(saved: Path, name: str, value: Tensor) -> None:
    tensors = load_file(saved / "distilled.safetensors") | {name: value}
    save_file(tensors, saved / "distilled.safetensors", metadata={"limbeck": "{}"})
    with pytest.raises(LimbeckError, match="do not fit together"):
        Distilled.load(saved)


@pytest.mark.parametrize("name", ["images", "labels", "training.hyperparameters.lr"])
@pytest.mark.parametrize("spoil", [Tensor.long, Tensor.bool, Tensor.cfloat, lambda value: value * math.nan])
def test_tensors_that_are_no_numbers(saved: Path, name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    tensors = load_file(saved / "distilled.safetensors")
    tensors[name] = spoil(tensors[name])
    save_file(tensors, saved / "distilled.safetensors", metadata={"limbeck": "{}"})
    with pytest.raises(LimbeckError, match="is damaged: .*restore it from a copy"):
        Distilled.load(saved)


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"linear.weight": None}, "linear.weight"),
        ({"linear.more": torch.zeros(3)}, "linear.more"),
        ({"linear.bias": torch.zeros(4)}, "linear.bias"),
        ({"linear.bias": torch.zeros(1)}, "linear.bias"),
    ],
)
def test_a_fixed_start_that_is_not_the_network_s(tmp_path: Path, change: dict[str, Any], odd: str) -> None:
    theta_0 = {"linear.weight": torch.zeros(3, 64), "linear.bias": torch.zeros(3)}
    replace(random_set(tiny_config(init="fixed")), weights=theta_0).save(tmp_path)
    Distilled.load(tmp_path).train()
    weights = {name: value for name, value in (theta_0 | change).items() if value is not None}
    replace(random_set(tiny_config(init="fixed")), weights=weights).save(tmp_path)
    for use in (Distilled.train, lambda run: run.evaluate(DATA)):
        with pytest.raises(LimbeckError, match=f"other names or shapes .{odd}"):
            use(Distilled.load(tmp_path))


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("learner", ["linear", "mlp"])
def test_training_equals_the_protocol(labels: str, learner: str) -> None:
    """Autograd on a module, one at a time, against functional gradients of several inits at once."""
    result = random_set(tiny_config(labels=labels, learner=learner, pixels={"ipc": 2}))
    _assert_trains_like_the_protocol(result)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
def test_training_with_an_inner_optimizer(optimizer: str) -> None:
    result = distill(tiny_config(inner={"optimizer": optimizer, "lr": 0.05}), DATA)
    # every step has values of its own, so that those of another step would show
    values = {name: torch.linspace(0.1, 0.8, 4) / (i + 1) for i, name in enumerate(result.hyperparameters)}
    training = replace(result.schedule, hyperparameters=values)
    _assert_trains_like_the_protocol(replace(result, training=training))


def _assert_trains_like_the_protocol(result: Distilled) -> None:
    functional = result.learner()
    starts = result.initial(functional, 3, seed=11)
    kernels = Kernels(functional, RealLoss(), Execution(chunk=2))
    trained = train(kernels, list(result.batches()), starts)
    for b in range(3):
        model = result.network()
        model.load_state_dict({name: value[b] for name, value in starts.items()})
        assert result.train(model) is model
        for name, parameter in model.named_parameters():
            assert not torch.allclose(parameter, starts[name][b], atol=1e-3)
            assert torch.allclose(parameter, trained[name][b], rtol=1e-5, atol=1e-6), name


def test_one_step_is_gradient_descent() -> None:
    """For a linear classifier from zero the gradient is known: (softmax - y) xᵀ / M."""
    result = random_set(tiny_config(labels="soft", pixels={"steps": 1, "epochs": 1}))
    linear = nn.Linear(64, 3)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.zero_()
    result.train(nn.Sequential(nn.Flatten(), linear))
    x_MP, y_MK = result.images[0].flatten(1), result.labels[0]
    error_MK = (torch.full_like(y_MK, 1 / 3) - y_MK) / len(y_MK)
    assert torch.allclose(linear.weight, -result.learning_rates[0] * error_MK.T @ x_MP, atol=1e-6)
    assert torch.allclose(linear.bias, -result.learning_rates[0] * error_MK.sum(0), atol=1e-6)


def test_the_network_of_a_fixed_run_is_theta_0() -> None:
    result = distill(tiny_config(init="fixed", iterations=40, lr_images=0.1, validate_every=20), DATA)
    network = result.network()
    assert same_tensors(dict(network.state_dict()), result.weights)
    assert same_tensors(dict(result.network(seed=5).state_dict()), result.weights)
    before = {name: value.clone() for name, value in result.weights.items()}
    trained = dict(result.train().named_parameters())
    assert same_tensors(result.weights, before)  # theta_0 itself is not trained
    expected = dict(result.train(result.network()).named_parameters())
    assert all(torch.equal(trained[name], expected[name]) for name in before)
    params = {name: value.detach()[None] for name, value in trained.items()}
    scores = score(Kernels(result.learner(), RealLoss(), Execution()), params, DATA.split_batches("val", 1000), 3)
    assert scores.mean == pytest.approx(result.info["validation"]["accuracy"])
    assert scores.std is None


def test_networks_of_a_random_run_differ_by_seed() -> None:
    result = random_set()
    one, two, other = (dict(result.network(seed).state_dict()) for seed in (0, 0, 1))
    assert same_tensors(one, two)
    assert not same_tensors(one, other)
    trained = [dict(result.train().state_dict()) for _ in range(2)]
    assert same_tensors(*trained)


def test_the_model_keeps_mode_and_gradients() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    random_set().train(model)
    assert not model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_frozen_and_unused_parameters_stay_as_they_are() -> None:
    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.frozen = nn.Linear(64, 5), nn.Linear(2, 2), nn.Linear(5, 3)
            self.frozen.requires_grad_(False)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            logits: Tensor = self.frozen(self.used(x_NCHW.flatten(1)))
            return logits

    model = Partial()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_set().train(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"used.weight", "used.bias"}


@pytest.mark.parametrize("width", [1, 2, 4, 10])
def test_a_model_of_another_width_is_refused(width: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
    with pytest.raises(LimbeckError, match="this set has 3 classes.*Give the model 3 outputs"):
        random_set().train(model)


def test_chunks_and_scores() -> None:
    params = {"a": torch.arange(10.0).view(5, 2), "b": torch.arange(5.0)}
    parts = list(chunks(params, 2))
    assert [len(part["b"]) for part in parts] == [2, 2, 1]
    assert same_tensors(concatenate(parts), params)

    result = random_set()
    learner = result.learner()
    states = result.initial(learner, 3, seed=1)
    scores = score(Kernels(learner, RealLoss(), Execution(chunk=2)), states, DATA.split_batches("test", 7), 3)
    x_NCHW = DATA.preprocessing.apply(DATA.test_x)
    expected = []
    for b in range(3):
        model = result.network()
        model.load_state_dict({name: value[b] for name, value in states.items()})
        expected.append(float((model(x_NCHW).argmax(-1) == DATA.test_y).double().mean()) * 100)
    assert scores.accuracy_B.tolist() == pytest.approx(expected)
    assert scores.mean == pytest.approx(np.mean(expected))
    assert scores.std == pytest.approx(np.std(expected, ddof=1))
    assert scores.worst == pytest.approx(min(expected))
    assert np.mean(scores.per_class) == pytest.approx(scores.mean)  # classes are equally frequent here
    assert set(scores.to_json()) == {"mean", "std", "n", "worst", "per_class"}


def test_preprocess_makes_real_images_like_the_learned_ones() -> None:
    result = distill(tiny_config(iterations=1), DATA)
    x_NCHW = result.preprocess(DATA.train_x)
    assert float(x_NCHW.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x_NCHW.std()) == pytest.approx(1, abs=1e-3)


# --- picture and card ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_picture(channels: int) -> None:
    result = random_set(shape=(channels, 8, 6))
    picture = preview(result, cell=40)
    assert picture.mode == "RGB"
    assert picture.size == (3 * 44 + 4, 2 * (44 + 18) + 4 + 18)
    pixels = np.asarray(picture)
    for batch in range(2):
        for image in range(3):
            top, left = 18 + batch * 62, 4 + image * 44
            tile = pixels[top : top + 40, left : left + 40]
            assert int(tile.max()) - int(tile.min()) > 100
            assert bool((tile[..., 0] != tile[..., 2]).any()) == (channels == 3)  # only RGB is shown in colour


def test_the_picture_shows_the_image() -> None:
    result = random_set()
    result.images[0, 1] = 0.0
    result.images[0, 1, 0, 0, :4] = 5.0  # the first half of the first row, in a cell of 56 pixels
    pixels = np.asarray(preview(result))
    tile = pixels[18 : 18 + 56, 4 + 60 : 4 + 60 + 56]
    assert (tile[:7, :28] == 255).all()
    assert (tile[8:] == 0).all()
    assert (tile[:7, 29:] == 0).all()


def test_the_picture_takes_any_class_name() -> None:
    names = ("Żółw 亀 🐢", "", "two\nlines of a name")
    picture = np.asarray(preview(replace(random_set(), class_names=names)))
    assert (picture[:18, 4:60] < 128).any()


def test_the_picture_of_many_images_is_cut_and_of_constant_ones_is_drawn() -> None:
    result = random_set(tiny_config(pixels={"steps": 12, "ipc": 11, "epochs": 1}))
    assert preview(result, cell=10).size == (30 * 14 + 4, 10 * (14 + 18) + 4 + 18)
    result.images.fill_(3.0)
    assert np.isfinite(np.asarray(preview(result, cell=10))).all()


def test_the_picture_of_many_batches_goes_from_the_first_to_the_last() -> None:
    many = random_set(tiny_config(pixels={"steps": 21, "epochs": 1}))
    ends = replace(many, images=many.images[[0, 10, 20]], labels=many.labels[[0, 10, 20]])
    band = 4 + 40 + 3  # the pictures of a row, without the text underneath
    for part in range(3):
        top = 18 + part * (40 + 4 + 18)
        rows = [np.asarray(preview(result, cell=40, rows=3))[top : top + band - 7] for result in (many, ends)]
        assert np.array_equal(*rows)


def python_blocks(text: str) -> list[str]:
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_card(labels: str) -> None:
    result = random_set(tiny_config(labels=labels))
    text = card(result)
    head = text.split("---")[1]
    assert 'source_datasets: ["animals"]' in head
    for part in ("6 learned images for animals", f"{labels} labels", "linear", "random initial weights"):
        assert part in text
    assert "Training takes 4 gradient steps.\nThe order of the batches matters. Inner optimiser: gd." in text
    assert "81.25 % (iteration 6)" in text
    assert "0" * 64 in text
    assert "preview.png" in text
    for value in result.learning_rates.tolist():
        assert f"{value:.4g}" in text


def test_the_card_tells_of_other_initial_weights() -> None:
    fixed = card(random_set(tiny_config(init="fixed", pixels={"steps": 1, "epochs": 1})))
    assert "one fixed initialisation" in fixed
    assert "order of the batches" not in fixed
    pool = random_set()
    pool = replace(pool, config=replace(pool.config, init=replace(pool.config.init, init="pool:nets.safetensors")))
    assert "trained networks as initial weights, those of the pool `nets.safetensors`" in card(pool)


def test_the_card_of_a_run_without_validation() -> None:
    result = random_set()
    result.info["validation"] = {"accuracy": -1.0, "iteration": -1}
    assert "stopped before its first validation" in card(result)
    assert "-1" not in card(result).split("## Use")[0]


def test_the_usage_on_the_card_runs(tmp_path: Path) -> None:
    distill(tiny_config(iterations=1), DATA, out=tmp_path)
    (block,) = python_blocks((tmp_path / "README.md").read_text())
    ast.parse(block)
    names: dict[str, Any] = {"x": DATA.test_x}
    exec(block.replace("path/to/this/folder", str(tmp_path)), names)
    assert names["logits"].shape == (30, 3)


def test_it_is_printed_in_one_line() -> None:
    text = repr(random_set(tiny_config()))
    assert text == "Distilled(2 x 3 images of 1 x 8 x 8 for arrays, linear, 4 gradient steps)"


def test_what_belongs_to_it_is_printed_in_a_line_each() -> None:
    run = random_set(tiny_config())
    sizes = run.learning_rates
    assert repr(run.training) == (
        f"LearnedSchedule(4 gradient steps of gd, step sizes from {sizes.min():.4g} to {sizes.max():.4g})"
    )
    assert repr(run.training.at_step_size(0.5)) == "LearnedSchedule(4 gradient steps of gd, step size 0.5)"
    result = run.evaluate(DATA, n=2)
    for each in (result, result.distilled, result.distilled.scores, run.config, run.preprocessing, DATA):
        assert "tensor(" not in repr(each) and "\n" not in repr(each)
    assert re.search(r"Scores\(\d+\.\d\d ± \d+\.\d\d %, n = 2\)", repr(result.distilled))


def test_the_validation_split_of_given_data_is_recorded() -> None:
    run = distill(replace(tiny_config(iterations=1), val_size=5000), DATA)
    assert run.config.val_size == len(DATA.val_y) == 18
