"""Families of learners, growing inner training, warm start and reconstruction, on a task of a few pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Faulty, Recorder, assert_same_run, generator, same_tensors, tiny_config, tiny_data, use

from limbeck.artefact.distilled import Distilled
from limbeck.engine import Generator
from limbeck.engine.source.warm_start import warm_start
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import evaluate
from limbeck.experiment.build import build_source, gather_materials
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.models import Augmented
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.loop import distill
from limbeck.outer.optimizer import OuterOptimizer
from limbeck.outer.schedule import inner_steps

DATA = tiny_data()
FAMILY = ("mlp,hidden=(4,)", "stridednet,width=2,depth=1,norm=running")


def family(**settings: Any) -> Config:
    return dataclasses.replace(tiny_config(**settings), family=FAMILY)


# Families


def test_every_learner_of_a_family_is_trained_and_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.engine import Kernels

    trained: list[int] = []
    init = Kernels.init

    def spy(self: Kernels, params: Any) -> Any:
        trained.append(sum(value[0].numel() for value in params.values()))
        return init(self, params)

    monkeypatch.setattr(Kernels, "init", spy)
    told = Recorder()
    distill(family(iterations=12, validate_every=12), DATA, reporter=told)
    sizes = set(trained)
    assert len(sizes) == 3
    assert len(set(trained[:12])) == 3  # in training, before the only validation
    assert told.records[-1]["val_n"] == 3 * 2


def test_a_family_resumes_exactly(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    distill(family(), DATA, out=whole)
    distill(family(), DATA, out=parts, reporter=Recorder(4))
    distill(family(), DATA, out=parts, resume=True)
    assert_same_run(whole, parts)


def test_a_family_needs_random_weights() -> None:
    with pytest.raises(LimbeckError, match="random initial weights, not fixed"):
        family(init="fixed")


def test_a_set_is_scored_on_other_learners() -> None:
    run = distill(tiny_config(iterations=30, lr_images=0.1), DATA)
    result = evaluate(run, DATA, n=5, baselines=(), learners=FAMILY, every_step=True)
    assert [row.row for row in result.rows] == ["distilled", *FAMILY]
    assert all(row.scores.n == 5 and len(row.curve) == 5 for row in result.rows)
    own = evaluate(run, DATA, n=5, baselines=())
    assert own.rows[0].scores.mean == result.rows[0].scores.mean
    assert own.rows[0].curve == ()
    assert result.to_json()["rows"][1]["curve"] == list(result.rows[1].curve)


def test_the_curve_ends_where_training_does() -> None:
    run = distill(tiny_config(iterations=20, lr_images=0.1), DATA)
    val = dataclasses.replace(DATA, test_x=DATA.val_x, test_y=DATA.val_y)
    row = evaluate(run, val, n=4, baselines=(), every_step=True).rows[0]
    assert row.curve[0] == pytest.approx(row.before)
    assert row.curve[-1] == pytest.approx(row.scores.mean)


# Learners with options and state


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("mlp,hiden=(4,)", "Unknown option of the learner 'mlp' 'hiden'; did you mean 'hidden'?"),
        ("mlp,hidden", "'hidden' is no option of the learner 'mlp'; write mlp,option=value."),
        ("mlp,hidden=(4,),hidden=(5,)", "The option hidden of the learner 'mlp' is given twice."),
        ("convnet3,width=4,width=5", "The option width of the learner 'convnet3' is given twice."),
        ("convnet3,norm=btach", "Unknown normalisation 'btach'"),
        ("convnet3,width=wide", "cannot be made with width='wide'"),
        ("stridednet,depth=0", "width and depth of at least 1"),
        ("builtins:dict,width=3", "returned dict"),
        ("mlp,hidden=[4,5,0]", "hidden widths of at least 1"),
    ],
)
def test_options_of_a_learner_are_checked(learner: str, message: str) -> None:
    with pytest.raises(LimbeckError) as error:
        distill(tiny_config(learner=learner), DATA)
    assert message in str(error.value)


def test_augmentation_belongs_to_training(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(learner="mlp,hidden=(4,)"), augment_shift=1, augment_flip=True)
    run = distill(config, DATA, out=tmp_path / "run")
    plain = distill(tiny_config(learner="mlp,hidden=(4,)"), DATA)
    assert not torch.equal(run.images, plain.images)
    again = distill(config, DATA)
    assert torch.equal(run.images, again.images)
    loaded = Distilled.load(tmp_path / "run")
    network = loaded.network()
    assert isinstance(network, Augmented)
    assert loaded.train(network) is network
    network.eval()
    x = DATA.preprocessing.apply(DATA.test_x)
    assert torch.equal(network(x), network.module(x))
    own = network.module
    assert loaded.train(own) is own
    with pytest.raises(LimbeckError, match="augment_shift is -1"):
        dataclasses.replace(config, augment_shift=-1)


def test_running_statistics_are_in_the_network_that_is_used() -> None:
    run = distill(tiny_config(learner="stridednet,width=2,norm=running", iterations=5), DATA)
    network = run.train()
    means = [value for name, value in network.named_buffers() if name.endswith("running_mean")]
    assert means and all((value != 0).any() for value in means)
    assert evaluate(run, DATA, n=3, baselines=()).rows[0].scores.n == 3


# Growing inner training


@pytest.mark.parametrize(
    ("grow", "spent", "expected"),
    [(0, 0.0, 16), (2, 0.0, 4), (2, 0.24, 4), (2, 0.26, 8), (2, 0.49, 8), (2, 0.5, 16), (2, 1.0, 16), (9, 0.0, 1)],
)
def test_steps_double_in_the_first_half(grow: int, spent: float, expected: int) -> None:
    assert inner_steps(OuterConfig(grow=grow), 16, spent) == expected


@pytest.mark.parametrize("source", ["pixels", "generator", "real"])
def test_growing_learns_early_steps_first_and_resumes_exactly(tmp_path: Path, source: Any) -> None:
    config = tiny_config(source=source, iterations=8, grow=1, validate_every=2, lr_steps=0.2)
    told = Recorder()
    distill(config, DATA, out=tmp_path / "whole", reporter=told)
    total = config.inner_steps
    assert [m for m in told.messages if "inner steps from here on" in m] == [
        f"iteration 5: {total} inner steps from here on"
    ]
    distill(config, DATA, out=tmp_path / "parts", reporter=Recorder(2))
    halfway = Distilled.load(tmp_path / "parts").learning_rates
    assert halfway[0] != halfway[-1]
    assert halfway[total // 2 :].unique().numel() == 1  # not reached yet
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_rollback_after_a_doubling_does_not_bring_the_moments_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faulty(losses={5: float("nan")}))
    config = tiny_config(iterations=5, grow=1, validate_every=4, schedule="constant")
    config = dataclasses.replace(config, outer=dataclasses.replace(config.outer, iterations=8))
    distill(config, DATA, out=tmp_path / "run", reporter=Recorder(5))
    state = Checkpoint.load(tmp_path / "run").current
    assert not any(name.startswith("adam.step") for name in state)


def test_a_family_is_several_names_and_misspelt_learners_show_at_once() -> None:
    with pytest.raises(LimbeckError, match="tuple of names"):
        dataclasses.replace(tiny_config(), family="mlp")
    told: list[str] = []
    run = distill(tiny_config(), DATA)
    with pytest.raises(LimbeckError, match="did you mean 'mlp'"):
        evaluate(run, DATA, learners=("mpl",), tell=told.append)
    assert not told


def test_after_a_restart_a_late_entry_takes_a_step_of_the_rate() -> None:
    late = torch.zeros(2)
    optimizer = OuterOptimizer(OuterConfig(lr_images=0.1), {"images": late}, lambda name: "images")
    for _ in range(50):
        optimizer.step({"images": torch.tensor([1.0, 0.0])}, 1.0)
    jumping = late.clone()
    state = optimizer.tensors()
    optimizer.step({"images": torch.tensor([1.0, 1.0])}, 1.0)
    assert abs(late[1]) > 0.2  # what the restart is for
    optimizer.load(state)
    assert torch.equal(late, jumping)
    optimizer.restart()
    optimizer.step({"images": torch.tensor([1.0, 1.0])}, 1.0)
    assert late[1].item() == pytest.approx(-0.1, rel=1e-4)


# Warm start and reconstruction


def source(**settings: Any) -> Generator:
    config = tiny_config(source="generator", generator={"batch": 6, "inner_steps": 4, **settings})
    made = build_source(config, DATA, generator())
    assert isinstance(made, Generator)
    return made


def test_a_warm_start_makes_images_of_their_class() -> None:
    def distances(teacher: Generator) -> torch.Tensor:
        batch = teacher.batch(teacher.parameters(), 0)
        means = torch.stack([DATA.per_class(generator(), 20)[k].mean(0) for k in range(3)])
        apart = (batch.x_MCHW.detach()[:, None] - means).flatten(2).square().mean(-1)
        return apart.argmin(1)

    cold, warm = (source(warm_start=600, hidden=32, width=8) for _ in range(2))
    error = warm_start(warm, gather_materials(tiny_config(), DATA, generator(1)), 600)
    assert error < 0.9  # of the images' variance, which is 1: noise of the task cannot be reproduced
    labels = warm.batch(warm.parameters(), 0).y_MK.argmax(1)
    assert torch.equal(distances(warm), labels)
    assert not torch.equal(distances(cold), labels)
    assert not torch.equal(warm.parameters()["z"], cold.parameters()["z"])
    assert "encoder.conv1.weight" not in warm.parameters()


@pytest.mark.parametrize("curriculum", ["full", "none"])
def test_reconstruction_is_learned_with_the_rest(tmp_path: Path, curriculum: str) -> None:
    chosen = {"reconstruction": 2.0, "warm_start": 5, "curriculum": curriculum}
    config = tiny_config(source="generator", generator=chosen)
    distill(config, DATA, out=tmp_path / "whole")
    distill(config, DATA, out=tmp_path / "parts", reporter=Recorder(4))
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    other = distill(tiny_config(source="generator", generator=chosen | {"reconstruction": 0.0}), DATA)
    run = Distilled.load(tmp_path / "whole")
    assert not same_tensors(run.generator, other.generator)
    assert not any(name.startswith("encoder") for name in run.generator)


def test_the_reconstruction_term_is_the_mean_squared_error() -> None:
    teacher = source(reconstruction=0.5)
    params = {name: value.clone().requires_grad_() for name, value in teacher.parameters().items()}
    x, y = DATA.sample(generator(2), 9)
    loss = teacher.own_loss(params, x, y)
    assert loss is not None
    assert teacher.encoder is not None
    z = torch.func.functional_call(
        teacher.encoder,
        {n.removeprefix("encoder."): v for n, v in params.items() if n.startswith("encoder.")},
        (x[:6],),
    )
    images, _ = teacher.generate(teacher.weights(params), z, torch.eye(3)[y[:6]])
    assert torch.allclose(loss, 0.5 * ((images - x[:6]) ** 2).mean())
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    reached = {name for name, grad in zip(params, grads, strict=True) if grad is not None}
    assert {"encoder.conv1.weight"} < reached
    assert not reached & {"z", "lr"}
    assert source().own_loss(source().parameters(), x, y) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"warm_start": -1}, "warm_start is -1"), ({"reconstruction": -0.1}, "reconstruction is -0.1")],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        source(**settings)
