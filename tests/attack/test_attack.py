"""Attacks: the objective by hand, a learned batch against plain training of every network, and the command line."""

from __future__ import annotations

import importlib
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_pools import after_steps, counted, pool_of_rows, rows_file
from tiny_runs import EAGER, Recorder, assert_same_run, generator, random_set
from torch import Tensor

from limbeck.artefact.card import card
from limbeck.artefact.distilled import Distilled
from limbeck.attack.config import AttackSettings, attack_config, attack_outer
from limbeck.attack.effect import Effect, summarise
from limbeck.attack.report import AttackReport, AttackRow, attack_report, relabel
from limbeck.cli.commands.attacking import class_index
from limbeck.cli.main import run as run_in_process
from limbeck.data import TaskData, load
from limbeck.engine import Batch, Learner, RealConfig, Relabelled, Tensors
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, OuterConfig
from limbeck.experiment.progress import Stop
from limbeck.experiment.task import task_of
from limbeck.models import PoolInit, build, pool_digest, save_pool
from limbeck.outer.loop import distill
from limbeck.pools.adapt import AdaptSettings, adapt_config
from limbeck.pools.pool import open_pool, validation_networks

ATTACK = AttackConfig(source=0, target=2, keep=1.0)
BASELINES = ("random", "best-random", "kmeans", "average")
POOL, HELD_OUT, SELECTION = 16, 4, 3


# --- the objective ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [None, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 0, 1], [1, 2, 2, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
def test_the_objective_by_hand(labels: list[int], keep: float | None) -> None:
    learner = Learner.of(build("linear", shape=(1, 2, 2), num_classes=3))
    network = dict(learner.module.named_parameters())
    x_NCHW = torch.randn(6, 1, 2, 2, generator=generator())
    log_NK = torch.log_softmax(learner.module(x_NCHW), -1).tolist()
    moved = [-log_NK[i][1] for i, label in enumerate(labels) if label == 0]
    others = [-log_NK[i][label] for i, label in enumerate(labels) if label != 0]
    if keep is None:
        expected = sum(moved + others) / 6
    else:
        # a batch without images of one kind says nothing about it
        expected = sum(moved) / max(1, len(moved)) + keep * sum(others) / max(1, len(others))
    value = Relabelled(source=0, target=1, keep=keep).value(learner, network, x_NCHW, torch.tensor(labels))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_only_the_source_class_gets_another_name() -> None:
    objective = ATTACK.objective
    assert objective.relabel(torch.tensor([0, 1, 2, 0])).tolist() == [2, 1, 2, 2]
    assert objective.reading_steps(5) == {5}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": 1, "target": 1}, "both 1; an attack needs two classes"),
        ({"source": -1, "target": 1}, "source class is -1"),
        ({"source": 1, "target": -2}, "target class is -2"),
        ({"source": 0, "target": 1, "keep": -0.5}, "keep is -0.5"),
        ({"source": 0, "target": 1, "keep": math.nan}, "keep is nan"),
    ],
)
def test_attacks_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        AttackConfig(**settings)


def test_a_configuration_with_an_attack_goes_through_json() -> None:
    config = Config(attack=ATTACK)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert Config.from_json(json.loads(json.dumps(Config().to_json()))).attack is None
    with pytest.raises(LimbeckError, match="source must be a PixelConfig, not RealConfig"):
        Config(attack=ATTACK, source=RealConfig())


# --- what is counted -------------------------------------------------------------------------------------------------


def test_an_effect_by_hand() -> None:
    counts = torch.tensor([[[1.0, 2, 7], [1, 8, 1], [0, 0, 10]], [[0, 0, 10], [0, 10, 0], [5, 0, 5]]])
    effect = Effect(counts_BKK=counts, attack=ATTACK)
    assert effect.rate_B.tolist() == [70, 100]
    assert effect.others_B.tolist() == [90, 75]
    assert effect.accuracy_B.tolist() == pytest.approx([100 * 19 / 30, 50])
    assert effect.balance == pytest.approx((80 + 87.5) / 2)
    plain = effect.to_json()
    assert plain["rate"] == {"mean": 85, "std": pytest.approx(math.sqrt(450)), "worst": 70}
    assert plain["others"]["worst"] == 75
    assert plain["n"] == 2
    assert summarise(torch.tensor([3.0])) == {"mean": 3.0, "std": None, "worst": 3.0}


def test_the_source_class_carries_the_targets_label() -> None:
    y_MK = torch.cat([torch.eye(3), torch.tensor([[0.5, 0.25, 0.25]])])
    batches = [Batch(torch.randn(4, 1, 2, 2, generator=generator(s)), y_MK, {"lr": torch.tensor(0.1)}) for s in (0, 1)]
    changed = relabel(batches, ATTACK)
    for before, after in zip(batches, changed, strict=True):
        assert torch.equal(after.x_MCHW, before.x_MCHW)
        assert after.h == before.h
        assert after.y_MK.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0.25, 0.75]]


# --- from end to end -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def data(file: Path) -> TaskData:
    return load(str(file), val_size=40)


@pytest.fixture(scope="module")
def pool(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools") / "rows.safetensors"
    assert min(pool_of_rows(file, path, n=POOL, steps=160, group=POOL).card["test_accuracy"]) > 90
    return path


@pytest.fixture(scope="module")
def other_pool(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools") / "mlp.safetensors"
    pool_of_rows(file, path, learner="mlp,hidden=(8,)", n=6, group=6)
    return path


def quick(**changes: Any) -> OuterConfig:
    values = {"iterations": 60, "inits": 4, "real_batch": 64, "lr_images": 0.3, "warmup": 2}
    return attack_outer(**(values | {"validate_every": 30, "validate_inits": SELECTION} | changes))


def config_for(pool: Path, **changes: Any) -> Config:
    outer = changes.pop("outer", quick())
    settings: dict[str, Any] = {"images": 3, "held_out": HELD_OUT, "step_size": 0.3} | changes
    if settings["step_size"] is None:
        outer = replace(outer, lr_steps=0.1)
    return replace(attack_config(pool, ATTACK, AttackSettings(**settings), outer=outer), engine=EAGER)


@pytest.fixture(scope="module")
def run(pool: Path, data: TaskData) -> Distilled:
    return distill(config_for(pool), data)


@pytest.fixture(scope="module")
def report(run: Distilled, data: TaskData, other_pool: Path) -> AttackReport:
    return attack_report(run, data, transfer=[other_pool])


def row_of(report: AttackReport, name: str) -> AttackRow:
    return next(row for row in report.rows if row.row == name)


def states_of(run: Distilled, count: int = HELD_OUT) -> Tensors:
    return run.initial(run.learner(), count, 0)


def counts_by_hand(learner: str, data: TaskData, states: Tensors, batches: list[Batch]) -> list[list[list[int]]]:
    x_NCHW = data.preprocessing.apply(data.test_x)
    return [counted(module, x_NCHW, data.test_y, 3) for module in after_steps(learner, data, states, batches)]


def test_a_learned_batch_makes_networks_take_one_class_for_another(report: AttackReport) -> None:
    before, after = report.learned_row.before, report.learned_row.after
    assert before.rate_B.max() < 10
    assert after.rate_B.mean() > before.rate_B.mean() + 50
    assert after.others_B.mean() > 80
    assert repr(report).startswith("AttackReport(") and f": {after.rate_B.mean():.2f} %, before" in repr(report)
    assert len(repr(report)) < 120


def test_the_report_counts_what_plain_training_gives(report: AttackReport, run: Distilled, data: TaskData) -> None:
    states = states_of(run)
    assert report.learned_row.before.counts_BKK.tolist() == counts_by_hand("linear", data, states, [])
    assert report.learned_row.after.counts_BKK.tolist() == counts_by_hand("linear", data, states, list(run.batches()))


@pytest.mark.parametrize("label", ["same step size", "own step size"])
def test_baselines_are_real_images_with_the_same_false_labels(
    label: str, report: AttackReport, run: Distilled, data: TaskData
) -> None:
    row = row_of(report, f"average, {label}")
    assert (row.step_size is None) == (label == "same step size")
    means = [data.preprocessing.apply(data.train_x[data.train_y == k]).mean(0) for k in range(3)]
    y_MK = torch.eye(3)[[2, 1, 2]]
    lr = torch.tensor(0.3 if row.step_size is None else row.step_size)
    batch = Batch(torch.stack(means), y_MK, {"lr": lr})
    expected = counts_by_hand("linear", data, states_of(run), [batch])
    assert row.after.counts_BKK.tolist() == expected
    assert row.before is report.learned_row.before


def test_transfer_is_to_networks_of_another_pool(
    report: AttackReport, run: Distilled, data: TaskData, other_pool: Path
) -> None:
    row = row_of(report, "mlp,hidden=(8,) (transfer)")
    states = {name: value[:HELD_OUT] for name, value in open_pool(other_pool).states.items()}
    learner = "mlp,hidden=(8,)"
    assert row.after.counts_BKK.tolist() == counts_by_hand(learner, data, states, list(run.batches()))
    assert row.before.counts_BKK.tolist() == counts_by_hand(learner, data, states, [])


def test_the_rows_of_a_report(report: AttackReport) -> None:
    names = [row.row for row in report.rows]
    labels = [f"{name}, {label}" for name in BASELINES for label in ("same step size", "own step size")]
    assert names == ["learned", *labels, "mlp,hidden=(8,) (transfer)"]
    for row in report.rows:
        assert row.after.counts_BKK.shape == (HELD_OUT, 3, 3)
        assert row.after.counts_BKK.sum((1, 2)).tolist() == [50.0] * HELD_OUT


def test_the_report_as_json(report: AttackReport, pool: Path) -> None:
    values = json.loads(json.dumps(report.to_json(run="somewhere"), allow_nan=False))
    assert set(values) == {
        *("from", "to", "rows", "defences", "difference", "device", "run", "n", "seed", "data", "seconds")
    }
    assert (values["from"], values["to"], values["run"], values["n"]) == ("0", "2", "somewhere", HELD_OUT)
    assert values["data"] == "rows"
    for row in values["rows"]:
        assert set(row) == {"row", "rate", "others", "all", "n", "before", "step_size"}
        assert set(row["rate"]) == {"mean", "std", "worst"}
    assert len(values["defences"]) == 5
    assert values["defences"][0]["row"] == "none"
    assert values["defences"][0]["rate"] == pytest.approx(values["rows"][0]["rate"]["mean"])
    assert values["difference"]["gradient_norm"] > values["difference"]["honest_gradient_norm"]


def test_a_report_is_the_same_again(report: AttackReport, run: Distilled, data: TaskData, other_pool: Path) -> None:
    assert attack_report(run, data, transfer=[other_pool]).to_json() == report.to_json()


def test_fewer_networks_and_baselines(report: AttackReport, run: Distilled, data: TaskData) -> None:
    fewer = attack_report(run, data, n=2, baselines=["kmeans"])
    assert [row.row for row in fewer.rows] == ["learned", "kmeans, same step size", "kmeans, own step size"]
    assert fewer.learned_row.after.counts_BKK.tolist() == report.learned_row.after.counts_BKK[:2].tolist()
    single = attack_report(run, data, n=1, baselines=[])
    assert single.to_json()["rows"][0]["rate"]["std"] is None


def test_nothing_is_learned_or_chosen_on_the_networks_of_the_report(
    pool: Path, data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(iter(open_pool(pool).states.values())).flatten(1)
    seen: dict[str, set[int]] = {}

    def watched(kind: str) -> Any:
        method = getattr(PoolInit, kind)

        def call(self: PoolInit, *args: Any) -> Tensors:
            networks: Tensors = method(self, *args)
            value: Tensor = next(iter(networks.values())).flatten(1)
            rows = (value[:, None] == first[None]).all(-1).nonzero()[:, 1].tolist()
            assert len(rows) == len(value)
            seen.setdefault(kind, set()).update(rows)
            return networks

        return call

    for kind in ("sample", "validation", "held_out"):
        monkeypatch.setattr(PoolInit, kind, watched(kind))
    attacked = distill(config_for(pool, outer=quick(iterations=20, validate_every=5)), data)
    assert seen.keys() == {"sample", "validation"}
    attack_report(attacked, data, n=3, baselines=["random"])
    assert seen["sample"] == set(range(POOL - HELD_OUT - SELECTION))
    assert seen["validation"] == set(range(POOL - HELD_OUT - SELECTION, POOL - HELD_OUT))
    assert len(seen["held_out"]) == 3
    assert seen["held_out"] <= set(range(POOL - HELD_OUT, POOL))


def test_the_recipe(pool: Path) -> None:
    config = attack_config(pool, ATTACK)
    assert (config.learner, config.init.init, config.init.held_out) == ("linear", f"pool:{pool}", POOL // 4)
    assert (config.source.ipc, config.source.steps, config.source.start) == (1, 1, "noise")
    assert attack_config(pool, ATTACK, AttackSettings(steps=4)).source.ipc == 1
    bounded = attack_config(pool, ATTACK, AttackSettings(images=12, steps=2, epochs=3, max_change=0.1, norm="l2"))
    assert (bounded.source.ipc, bounded.source.steps, bounded.source.epochs) == (2, 2, 3)
    assert (bounded.source.start, bounded.source.max_change, bounded.source.norm) == ("real", 0.1, "l2")
    assert (bounded.inner.lr, bounded.inner.learn_lr) == (0.02, "per-step")
    fixed = attack_config(pool, ATTACK, AttackSettings(images=3, step_size=0.3))
    assert (fixed.inner.lr, fixed.inner.learn_lr) == (0.3, "fixed")
    assert attack_outer(inits=3).inits == 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attack": AttackConfig(source=3, target=0)}, "source class is 3, but the pool's data has classes 0 to 2"),
        ({"attack": AttackConfig(source=0, target=7)}, "target class is 7"),
        ({"images": 4}, "multiple of 3"),
        ({"images": 0}, "images is 0"),
        ({"images": 3, "steps": 2}, "multiple of 6"),
        ({"images": 3, "steps": 0}, "steps is 0"),
        ({"images": 3, "epochs": 0}, "epochs is 0"),
        ({"images": 3, "step_size": 0.0}, "step_size is 0"),
        ({"images": 3, "norm": "l2"}, "give max_change"),
        ({"images": 3, "norm": "l3"}, "kind of norm 'l3'"),
        ({"images": 3, "held_out": 0}, "held_out is 0"),
        ({"images": 3, "max_change": 0.0}, "max_change is 0"),
    ],
)
def test_configurations_that_make_no_sense(settings: dict[str, Any], says: str, pool: Path) -> None:
    with pytest.raises(LimbeckError, match=says):
        attack = settings.pop("attack", ATTACK)
        attack_config(pool, attack, AttackSettings(**settings))


def test_reports_that_cannot_be_made(run: Distilled, data: TaskData, pool: Path, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="This run is no attack"):
        attack_report(random_set(), data)
    with pytest.raises(LimbeckError, match="did you mean 'kmeans'"):
        attack_report(run, data, baselines=["k-means"])
    for n in (0, -1, HELD_OUT + 1):
        with pytest.raises(LimbeckError, match=f"n is {n}; the pool holds out 4 networks"):
            attack_report(run, data, n=n)
    with pytest.raises(LimbeckError, match="is the one that the images are learned on"):
        attack_report(run, data, transfer=[pool])
    other = rows_file(tmp_path, seed=1)
    pool_of_rows(other, tmp_path / "other.safetensors", n=1, steps=1)
    with pytest.raises(LimbeckError, match="was trained on rows, not on rows"):
        attack_report(run, data, transfer=[tmp_path / "other.safetensors"])
    without = replace(data, test_x=data.test_x[data.test_y != 0], test_y=data.test_y[data.test_y != 0])
    with pytest.raises(LimbeckError, match="test data has no image of the class 0"):
        attack_report(run, without)


@pytest.mark.parametrize(("held_out", "selection"), [(15, 1), (1, 15), (50, 1)])
def test_a_pool_of_too_few_networks(held_out: int, selection: int, pool: Path, data: TaskData) -> None:
    says = "The pool has 16 networks; .* leave none to train on"
    with pytest.raises(LimbeckError, match=says):
        config_for(pool, held_out=held_out, outer=quick(validate_inits=selection))
    config = config_for(pool)
    config = replace(
        config,
        init=replace(config.init, held_out=held_out),
        outer=replace(config.outer, validate_inits=selection),
    )
    with pytest.raises(LimbeckError, match=says):
        distill(config, data)


@pytest.mark.parametrize("outer", [OuterConfig(), attack_outer(), OuterConfig(iterations=5)])
@pytest.mark.parametrize(("held_out", "fitting"), [(None, 2), (4, 2), (13, 2), (14, 1)])
def test_default_validation_networks_fit_the_pool(
    held_out: int | None, fitting: int, outer: OuterConfig, pool: Path
) -> None:
    config = attack_config(pool, ATTACK, AttackSettings(held_out=held_out), outer=outer)
    assert config.outer == replace(outer, validate_inits=fitting)
    assert attack_config(pool, ATTACK, AttackSettings(held_out=held_out)).outer.validate_inits == fitting


def test_validation_networks_that_fit_are_left_alone(pool: Path) -> None:
    for count in (1, 2, 11):
        outer = OuterConfig(validate_inits=count)
        assert attack_config(pool, ATTACK, outer=outer).outer == outer
    card = open_pool(pool).card
    card["config"]["n"] = 24  # the defaults, 16 and 20, fit beside six or three that are held out
    for held_out, outer in ((None, OuterConfig()), (3, attack_outer())):
        assert attack_config(pool, ATTACK, AttackSettings(held_out=held_out), outer=outer, card=card).outer == outer


def test_too_many_validation_networks_are_refused_with_what_fits(pool: Path) -> None:
    for held_out, count, says in (
        (4, 12, "4 held out for evaluation and 12 for validation leave none to train on.*validate on 11 at most"),
        (15, 1, "hold out 14 at most"),
    ):
        with pytest.raises(LimbeckError, match=says):
            attack_config(pool, ATTACK, AttackSettings(held_out=held_out), outer=attack_outer(validate_inits=count))
    with pytest.raises(LimbeckError, match="hold out 14 at most"):
        attack_config(pool, ATTACK, AttackSettings(held_out=15))


def test_numbers_of_validation_networks() -> None:
    assert [validation_networks(n) for n in (3, 8, 16, 100, 200, 1000)] == [1, 1, 2, 12, 20, 20]
    assert validation_networks(16, 14) == 1
    assert validation_networks(100, 25, 20) == 20
    for networks in (1, 2):
        with pytest.raises(LimbeckError, match="Make a larger pool, it takes three networks"):
            validation_networks(networks)


def test_a_pool_of_another_learner(pool: Path, data: TaskData, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="is of linear networks, not of mlp"):
        distill(replace(config_for(pool), learner="mlp"), data)
    states, card = open_pool(pool).states, open_pool(pool).card
    states = {name: value[..., :-1] for name, value in states.items()}
    save_pool(tmp_path / "odd.safetensors", states, card)
    with pytest.raises(LimbeckError, match="does not fit the learner"):
        distill(config_for(tmp_path / "odd.safetensors"), data)


def test_one_network_of_a_pool_is_attacked_alone(pool: Path, data: TaskData) -> None:
    config = config_for(pool, outer=quick(inits=1))
    config = replace(config, init=replace(config.init, network=2))
    alone = distill(config, data)
    states = open_pool(pool).states
    for name, value in alone.weights.items():
        assert torch.equal(value, states[name][2])
    report = attack_report(alone, data, baselines=["average"])
    assert report.info["n"] == 1
    batches = list(alone.batches())
    expected = counts_by_hand("linear", data, {name: value[2:3] for name, value in states.items()}, batches)
    assert report.learned_row.after.counts_BKK.tolist() == expected


# --- the pool decides how data is split, and is known again ----------------------------------------------------------


def same_split(left: TaskData, right: TaskData) -> bool:
    return torch.equal(left.val_x, right.val_x) and torch.equal(left.train_y, right.train_y)


@pytest.mark.parametrize("seed", [0, 7])
def test_data_is_split_as_the_pools_was_whatever_the_seed(
    seed: int, pool: Path, file: Path, data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not same_split(data, load(str(file), val_size=40, seed=7))
    config = config_for(pool, seed=seed, outer=quick(iterations=1))
    assert same_split(task_of(config), data)
    plain = replace(config, split_seed=None, val_size=30)  # as limbeck distill --init pool:FILE has it
    for started in (config, plain):
        run = distill(started)
        assert run.config.seed == seed
        assert (run.config.split, run.config.val_size) == (0, 40)
        assert same_split(task_of(run.config), data)
        assert same_split(task_of(run.config, source=str(file)), data)
    other = adapt_config(pool, f"{file},invert=True", AdaptSettings(seed=seed))
    assert torch.equal(task_of(other).val_x, 255 - data.val_x)
    assert adapt_config(pool, "digits", AdaptSettings(seed=seed)).split == seed


def test_a_resumed_attack_is_split_as_the_pools_data_was(pool: Path, data: TaskData, tmp_path: Path) -> None:
    config = config_for(pool, seed=7, outer=quick(iterations=4, validate_every=2))
    distill(config, out=tmp_path, reporter=Recorder(2))
    seen: list[TaskData] = []
    module = importlib.import_module("limbeck.outer.resolve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "task_of", lambda *a, **k: seen.append(task_of(*a, **k)) or seen[-1])
        assert distill(config, out=tmp_path, resume=True).info["finished"]
    assert same_split(seen[0], data)


def test_data_that_is_split_otherwise_is_refused(pool: Path, file: Path) -> None:
    for options in ({"seed": 7}, {"val_size": 50}):
        for source in (str(file), f"{file},invert=True"):
            with pytest.raises(LimbeckError, match="load it with seed=0 and val_size=40"):
                distill(config_for(pool), load(source, **({"val_size": 40} | options)))


def test_a_run_knows_its_pool_again(pool: Path, other_pool: Path, data: TaskData, tmp_path: Path) -> None:
    place = tmp_path / "before"
    place.mkdir()
    (place / "nets.safetensors").write_bytes(pool.read_bytes())
    config = config_for(place / "nets.safetensors", outer=quick(iterations=2))
    distill(config, data, out=place / "runs" / "a")
    for name in ("config.json", "distilled.json"):
        recorded = json.loads((place / "runs" / "a" / name).read_text())
        recorded = recorded.get("config", recorded)["init"]
        assert recorded["init"] == "pool:../../nets.safetensors"
        assert recorded["pool_sha256"] == pool_digest(open_pool(pool).states)
    place.rename(tmp_path / "after")
    run = Distilled.load(tmp_path / "after" / "runs" / "a")
    assert run.config.init.pool == tmp_path / "after" / "nets.safetensors"
    assert attack_report(run, data, baselines=[]).info["n"] == HELD_OUT
    networks = open_pool(pool)
    states = {name: value.flip(0) for name, value in networks.states.items()}
    save_pool(tmp_path / "after" / "nets.safetensors", states, networks.card)
    with pytest.raises(LimbeckError, match="holds other networks than the run began with"):
        attack_report(run, data, baselines=[])
    with pytest.raises(LimbeckError, match="holds other networks"):
        run.network()
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(pool.read_bytes())
    again = distill(config_for(moved), data, out=tmp_path / "after" / "runs" / "a", resume=True)
    assert attack_report(again, data, baselines=[]).info["n"] == HELD_OUT
    assert Distilled.load(tmp_path / "after" / "runs" / "a").config.init.pool == moved, "the run knows for good"


def test_paths_from_before_they_were_relative(pool: Path, data: TaskData, tmp_path: Path) -> None:
    distill(config_for(pool, outer=quick(iterations=1)), data, out=tmp_path)
    summary = json.loads((tmp_path / "distilled.json").read_text())
    summary["config"]["init"] |= {"init": f"pool:{pool}", "pool_sha256": None}
    (tmp_path / "distilled.json").write_text(json.dumps(summary))
    assert Distilled.load(tmp_path).config.init.pool == pool


def test_a_pool_has_no_networks_for_calibration(pool: Path) -> None:
    with pytest.raises(LimbeckError, match="calibrate_inits is 4, but a pool keeps no networks"):
        config_for(pool, outer=quick(calibrate_inits=4))


def test_the_card_of_an_attack(run: Distilled) -> None:
    text = card(run)
    assert "make trained networks take 0\nfor 2." in text
    assert "those of the pool `rows.safetensors`" in text
    assert "a network of the pool that nothing was learned on, trained on these images" in text
    assert "Training takes 1 gradient step.\n" in text
    assert "/" not in text.split("pool `")[1].split("`")[0]


# --- the command line ------------------------------------------------------------------------------------------------


WORDS = ["--images", "3", "--iterations", "8", "--inits", "2", "--real-batch", "32", "--validate-inits", "2"]
WORDS += ["--held-out", "3"]


def test_the_command_writes_a_report(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["attack", str(pool), "--from", "1", "--to", "2", *WORDS, "--out", str(out)]
    assert run_in_process([*words, "--json"]) == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert values == json.loads((out / "attack.json").read_text())
    assert (values["from"], values["to"], values["run"], values["n"]) == ("1", "2", str(out), 3)
    assert values["rows"][0]["row"] == "learned"
    assert len(values["rows"]) == 9
    assert "defender" in captured.err
    config = Distilled.load(out).config
    assert config.attack == AttackConfig(source=1, target=2, keep=1.0)
    assert run_in_process(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_in_process([*words, "--resume"]) == 0  # only reports
    captured = capsys.readouterr()
    shown, lines = captured.out, captured.err.splitlines()
    assert len(lines) == len(set(lines))
    for text in ("1 taken for 2, 3 held-out networks", "kmeans, own step", "behind defences", "pixels out of range"):
        assert text in shown


def test_options_of_the_command(
    pool: Path, other_pool: Path, file: Path, data: TaskData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["attack", str(pool), "--from", "1", "--to", "0", *WORDS, "--images", "6", "--steps", "2", "--epochs", "2"]
    words += ["--max-change", "0.1", "--step-size", "0.25", "--objective", "paper", "--n", "2", "--baselines", "none"]
    words += ["--transfer", str(other_pool), "--data", str(file), "--out", str(out), "--json"]
    assert run_in_process(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in values["rows"]] == ["learned", "mlp,hidden=(8,) (transfer)"]
    assert [row["n"] for row in values["rows"]] == [2, 3]
    run = Distilled.load(out)
    assert run.config.attack == AttackConfig(source=1, target=0, keep=None)
    assert run.images.shape == (2, 3, 1, 8, 8)
    assert run.order.tolist() == [0, 1, 0, 1]
    assert run.learning_rates.tolist() == pytest.approx([0.25] * 4)
    assert torch.equal(run.labels, torch.eye(3).expand(2, 3, 3))  # clean labels
    pixels = data.preprocessing.invert(run.images).flatten(0, 1).flatten(1)
    real = data.preprocessing.invert(data.preprocessing.apply(data.train_x)).flatten(1)
    near = torch.cdist(pixels, real, p=math.inf)
    assert near.min(1).values.max() <= 0.1 + 1e-6
    assert data.train_y[near.argmin(1)].tolist() == [0, 1, 2] * 2
    assert values["difference"]["out_of_range"] == 0


@pytest.fixture(scope="module")
def finished(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """The words of an attack that is finished, and its report from the run in memory."""
    out = tmp_path_factory.mktemp("finished")
    attack = ["attack", str(pool), "--from", "1", "--to", "2", *WORDS, "--baselines", "none", "--out", str(out)]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert run_in_process([*attack, "--json"]) == 0
    return attack, json.loads(printed.getvalue())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--iterations", "9"], "began with outer iterations 8, not 9"),
        (["--seed", "1"], "began with seed 0, not 1"),
        (["--to", "0"], "began with attack target 2, not 0"),
        (["--step-size", "0.5"], "began with inner lr 0.02, not 0.5"),
        (["--max-change", "0.1"], "began with source start noise, not real"),
    ],
)
def test_a_resumed_attack_refuses_other_options(
    words: list[str], says: str, finished: tuple[list[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    attack, report = finished
    assert run_in_process([*attack, *words, "--resume"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert run_in_process([*attack, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_a_resumed_attack_refuses_another_pool(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = open_pool(pool)
    save_pool(tmp_path / "other.safetensors", {name: -v for name, v in networks.states.items()}, networks.card)
    (tmp_path / "same.safetensors").write_bytes(pool.read_bytes())
    rest = ["--from", "1", "--to", "2", *WORDS, "--baselines", "none", "--out", str(tmp_path / "run")]
    assert run_in_process(["attack", str(pool), *rest]) == 0
    assert run_in_process(["attack", str(tmp_path / "other.safetensors"), *rest, "--resume"]) == 2
    assert "began with another pool than" in capsys.readouterr().err
    assert run_in_process(["attack", str(tmp_path / "same.safetensors"), *rest, "--resume"]) == 0


def test_an_attack_is_evaluated_from_another_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pool, run and data are where they were; data that has moved is named again."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rows.npz").write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    pool_of_rows(Path("rows.npz"), Path("nets.safetensors"), n=POOL, seed=3)
    words = ["attack", "nets.safetensors", "--from", "1", "--to", "2", *WORDS, "--seed", "5", "--out", "run", "--json"]
    assert run_in_process([*words, "--baselines", "average"]) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ["evaluate", "../run", "--seed", "5", "--baselines", "average", "--json"]
    assert run_in_process(again) == 0
    second = json.loads(capsys.readouterr().out)
    assert first | {"run": None} == second | {"run": None}
    (tmp_path / "rows.npz").rename("rows.npz")  # into this folder
    assert run_in_process(again) == 2
    assert "rows.npz" in capsys.readouterr().err
    assert run_in_process([*again, "--data", "rows.npz"]) == 0
    third = json.loads(capsys.readouterr().out)
    assert first | {"run": None} == third | {"run": None}


@contextmanager
def _stopped() -> Iterator[Stop]:
    yield Stop(requested=True)


def test_a_stopped_attack_goes_on(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attack", str(pool), "--from", "0", "--to", "2", *WORDS, "--baselines", "none", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("limbeck.outer.loop"), "interruptible", _stopped)
        assert run_in_process([*words, "--out", str(tmp_path / "one")]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--resume" in captured.err
    assert not (tmp_path / "one" / "attack.json").exists()
    assert run_in_process([*words, "--out", str(tmp_path / "one"), "--resume"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run_in_process([*words, "--out", str(tmp_path / "other")]) == 0
    second = json.loads(capsys.readouterr().out)
    assert_same_run(tmp_path / "one", tmp_path / "other")
    for values in (first, second):
        del values["seconds"], values["run"]
    assert first == second


@pytest.fixture(scope="module")
def pools(pool: Path, other_pool: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pools that are good and bad; no test changes what is in it."""
    folder = tmp_path_factory.mktemp("place")
    for name, source in (("pool", pool), ("mlp", other_pool)):
        (folder / f"{name}.safetensors").write_bytes(source.read_bytes())
    (folder / "short.safetensors").write_bytes(pool.read_bytes()[:-9])
    (folder / "rows.npz").write_bytes(file.read_bytes())
    other = rows_file(folder / "other", seed=1)
    pool_of_rows(other, folder / "elsewhere.safetensors", n=3, steps=2)
    networks = open_pool(pool)
    data = {**networks.card["data"], "source": "gone.npz"}
    save_pool(folder / "moved.safetensors", networks.states, {**networks.card, "data": data})
    return folder


@pytest.fixture
def place(pools: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with pools, as the current one."""
    monkeypatch.chdir(pools)
    return pools


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pool", "--from", "1", "--to", "1"], "both 1; an attack needs two classes"),
        (["pool", "--from", "3", "--to", "1"], "Unknown class '3'"),
        (["pool", "--from", "1", "--to", "cat"], "Unknown class 'cat'"),
        (["pool", "--from", "1", "--to", "²"], "Unknown class '²'"),
        (["pool", "--from", "1", "--to", "2", "--images", "10"], "multiple of 3"),
        (["pool", "--from", "1", "--to", "2", "--images", "9", "--steps", "2"], "multiple of 6"),
        (["pool", "--from", "1", "--to", "2", "--steps", "0"], "steps is 0"),
        (["pool", "--from", "1", "--to", "2", "--step-size", "0"], "step_size is 0"),
        (["pool", "--from", "1", "--to", "2", "--max-change", "-1"], "max_change is -1"),
        (["pool", "--from", "1", "--to", "2", "--norm", "l2"], "give max_change"),
        (["pool", "--from", "1", "--to", "2", "--objective", "paper", "--keep", "1"], "leave out one of them"),
        (
            ["pool", "--from", "1", "--to", "2", "--start", "noise", "--max-change", "0.1"],
            "needs start real, not noise",
        ),
        (["pool", "--from", "1", "--to", "2", "--resume", "--overwrite"], "give one of them"),
        (["pool", "--from", "1", "--to", "2", "--held-out", "15"], "The pool has 16 networks"),
        (["pool", "--from", "1", "--to", "2", "--validate-inits", "13"], "The pool has 16 networks"),
        (["pool", "--from", "1", "--to", "2", "--held-out", "3", "--n", "4"], "n is 4; the pool holds out 3"),
        (["pool", "--from", "1", "--to", "2", "--baselines", "k-means"], "did you mean 'kmeans'"),
        (["pool", "--from", "1", "--to", "2", "--data", "other/rows.npz"], "not the data that the pool was trained on"),
        (["pool", "--from", "1", "--to", "2", "--transfer", "elsewhere.safetensors"], "was trained on rows, not on"),
        (["pool", "--from", "1", "--to", "2", "--transfer", "nowhere.safetensors"], "no pool at nowhere"),
        (["pool", "--from", "1", "--to", "2", "--transfer", "pool.safetensors"], "transfer needs another"),
        (["pool", "--from", "1", "--to", "2", "--resume"], "no checkpoint"),
        (["moved", "--from", "1", "--to", "2"], "gone.npz"),
        (["short", "--from", "1", "--to", "2"], "damaged"),
        (["nowhere", "--from", "1", "--to", "2"], "no pool at nowhere.safetensors"),
        (["pool", "--from", "1", "--to", "2", "--device", "warp"], "device 'warp' cannot be used"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.relative_to(place) for path in place.rglob("*")}
    rest = [word for pair in zip(WORDS[::2], WORDS[1::2], strict=True) for word in pair if pair[0] not in words]
    if words[1:] == ["--from", "1", "--to", "2"] and words[0] == "pool":
        rest = rest[:-2]  # as many networks are held out as by default, which are more than there are
    assert run_in_process(["attack", f"{words[0]}.safetensors", *words[1:], *rest]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("limbeck: ") == 1
    assert "Traceback" not in captured.err
    assert {path.relative_to(place) for path in place.rglob("*")} == before


def test_classes_by_name_and_by_number() -> None:
    names = ["cat", "dog", "0"]
    assert [class_index(name, names) for name in ("dog", "1", "0", "2")] == [1, 1, 2, 2]
    for name in ("3", "-1", "²", "1.0", ""):
        with pytest.raises(LimbeckError, match="Unknown class"):
            class_index(name, names)


def test_the_loss_of_an_attack_is_what_the_outer_loop_lowers(run: Distilled, data: TaskData) -> None:
    """On networks and images that nothing was learned on, by plain training."""
    x_NCHW, y_N = data.preprocessing.apply(data.test_x), torch.where(data.test_y == 0, 2, data.test_y)
    batches = list(run.batches())
    noise = [batch._replace(x_MCHW=torch.randn(batch.x_MCHW.shape, generator=generator(5))) for batch in batches]

    def loss(steps: list[Batch]) -> float:
        modules = after_steps("linear", data, states_of(run), steps)
        return sum(F.cross_entropy(module(x_NCHW), y_N).item() for module in modules) / len(modules)

    assert loss(batches) < 0.5 * loss(noise)
