"""Proxies: a contract that all of them keep, what each learns or computes, and their names."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast, final

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import generator, random_set, same_tensors, tiny_data
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.artefact.distilled import Distilled
from limbeck.common.seeds import generator as stream_generator
from limbeck.engine import Kernels
from limbeck.errors import LimbeckError
from limbeck.experiment.compilers import compiler_missing
from limbeck.models import BatchNorm, Shape, build, draw
from limbeck.nas.proxies import (
    PROXIES,
    CurvePredictor,
    EncodingPredictor,
    GraphHyperNetwork,
    Proxy,
    RealData,
    Scorer,
    SyntheticData,
    Task,
    WeightSharing,
    ZeroCost,
    learning_curve,
    predictor,
    proxy_named,
    proxy_names,
    zero_cost,
)
from limbeck.nas.proxies.blueprint import Blueprint, Slot, module_key, slot_of
from limbeck.nas.proxies.common import distinct, numpy_generator, validate_as_is
from limbeck.nas.proxies.hypernetwork import HyperNetwork
from limbeck.nas.proxies.supernet import Child, Supernet, new_stores
from limbeck.nas.spaces.base import Arch, Graph, Node, Space, chain
from limbeck.nas.training import (
    Schedule,
    initial_weights,
    train_real,
    train_steps,
    validate,
    validation_accuracy,
)

DATA = tiny_data()
CHANCE = 100 / 3


@final
class TinySpace(Space):
    """Eight ConvNets for 8 x 8 images: width 4 or 8, depth 1 or 2, one of two activations."""

    name = "tiny"
    shape: Shape = (1, 8, 8)
    num_classes = 3
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "width": ("4", "8"),
        "depth": ("1", "2"),
        "activation": ("relu", "sigmoid"),
    }

    def __init__(self, norm: str = "batch") -> None:
        self.norm = norm

    def build(self, arch: Arch) -> nn.Module:
        width, depth, activation = self.check(arch)
        name = f"convnet3,width={width},depth={depth},activation={activation},norm={self.norm}"
        return build(name, shape=self.shape, num_classes=3)

    def text(self, arch: Arch) -> str:
        return "-".join(arch)

    def read(self, text: str) -> Arch:
        return self.check(tuple(text.split("-")))

    def graph(self, arch: Arch) -> Graph:
        return chain(self.build(arch))

    def shared(self, arch: Arch) -> dict[str, str]:
        names = [name for name, _ in self.build(arch).named_parameters()]
        return {name: name if name.startswith("features") else f"{name} {arch[1]}" for name in names}


@final
class BrokenSpace(Space):
    """As the other, but with a graph and stores that a test gives."""

    name = "broken"
    shape: Shape = (1, 8, 8)
    num_classes = 3
    choices = TinySpace.choices

    def __init__(self, *, graph: Graph | None = None, shared: dict[str, str] | None = None) -> None:
        self._graph, self._shared = graph, shared

    def build(self, arch: Arch) -> nn.Module:
        return TinySpace().build(arch)

    def text(self, arch: Arch) -> str:
        return TinySpace().text(arch)

    def read(self, text: str) -> Arch:
        return TinySpace().read(text)

    def graph(self, arch: Arch) -> Graph:
        return self._graph or TinySpace().graph(arch)

    def shared(self, arch: Arch) -> dict[str, str]:
        return TinySpace().shared(arch) if self._shared is None else self._shared


@final
class OneArchitecture(Space):
    """A space with a single network."""

    name = "one"
    shape: Shape = (1, 8, 8)
    num_classes = 3

    def __init__(self, arch: Arch) -> None:
        self._arch = arch

    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        return {name: (option,) for name, option in zip(TinySpace.choices, self._arch, strict=True)}

    def build(self, arch: Arch) -> nn.Module:
        return TinySpace().build(arch)

    def text(self, arch: Arch) -> str:
        return TinySpace().text(arch)

    def read(self, text: str) -> Arch:
        return TinySpace().read(text)

    def graph(self, arch: Arch) -> Graph:
        return TinySpace().graph(arch)

    def shared(self, arch: Arch) -> dict[str, str]:
        return TinySpace().shared(arch)


NARROW: Arch = ("4", "1", "relu")
WIDE: Arch = ("8", "2", "relu")
ARCHS: tuple[Arch, ...] = (NARROW, WIDE, ("8", "1", "sigmoid"))
TASK = Task(space=TinySpace(), data=DATA, seed=3)
SHORT = Schedule(steps=8, batch=8)


def pairs() -> tuple[tuple[Arch, float], ...]:
    """Accuracies that follow from the choices: 50, and 20 more for the wide and 10 more for the deep."""
    rng = np.random.default_rng(0)
    archs = distinct(TASK.space, 8, rng)
    return tuple((arch, 50.0 + 20 * (arch[0] == "8") + 10 * (arch[1] == "2")) for arch in archs)


def learned_set(folder: Path) -> Path:
    """A run directory whose set could be one of the tiny task."""
    made = random_set()
    replace(made, info=made.info | {"data": {"name": DATA.name, "sha256": DATA.sha256}}).save(folder)
    return folder


QUICK: dict[str, str] = {
    "real": "steps=8,batch=8",
    "full": "steps=8,batch=8",
    "sharing": "steps=8,batch=8,paths=2",
    "ghn": "steps=8,batch=8,hidden=6,rounds=1",
    "encoding": "steps=8,batch=8,examples=3",
    "curve": "steps=8,batch=8,examples=3,points=2,regressor=forest",
    **dict.fromkeys((*zero_cost.SCORES, *zero_cost.SIZES), "batch=6,inits=2"),
}
"""Options with which members of the table are quick; a new member works without an entry."""

SPECIAL: dict[str, Callable[[Path], Proxy]] = {
    "synthetic": lambda folder: SyntheticData(run=learned_set(folder), inits=2),
    "encoding of pairs": lambda folder: EncodingPredictor(pairs=pairs(), regressor="svr"),
}
"""Proxies that no name of the table makes."""


def proxy_of(kind: str, folder: Path) -> Proxy:
    """A quick one of that kind."""
    if kind in SPECIAL:
        return SPECIAL[kind](folder)
    return proxy_named(",".join([kind, *([QUICK[kind]] if kind in QUICK else [])]))


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PROXIES, *SPECIAL])
def test_every_proxy_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    proxy = proxy_of(kind, tmp_path)
    before = torch.get_rng_state()
    told: list[str] = []
    scorer = proxy.prepare(TASK, told.append)
    assert proxy.name
    scores = [scorer.score(TASK, arch) for arch in ARCHS]
    assert np.isfinite(scores).all()
    chance = proxy.scale.chance(3)
    assert ("%" in proxy.scale.unit) == (chance is not None)
    if chance is not None:
        assert chance == pytest.approx(CHANCE)
        assert all(0 <= score <= 100 for score in scores)
    assert all(isinstance(score, float) for score in scores)
    assert torch.equal(torch.get_rng_state(), before), "the global random state is not ours"

    again = proxy.prepare(TASK)
    assert [again.score(TASK, arch) for arch in reversed(ARCHS)] == scores[::-1], "order matters, or chance does"
    sent = cast(Scorer, pickle.loads(pickle.dumps(scorer)))
    assert [sent.score(TASK, arch) for arch in ARCHS] == scores
    if kind not in ("synthetic", "real", "full"):
        assert told
        assert all(text.startswith(f"{kind.split()[0]}: ") for text in told)


@pytest.mark.parametrize("kind", ["real", "sharing", "ghn", "encoding", "synflow", "jacob_cov", "grad_norm"])
def test_scores_follow_the_seed(kind: str, tmp_path: Path) -> None:
    scores = []
    for seed in (1, 2):
        task = replace(TASK, seed=seed)
        scorer = proxy_of(kind, tmp_path).prepare(task)
        scores.append([scorer.score(task, arch) for arch in ARCHS])
    assert scores[0] != scores[1]


@pytest.mark.parametrize("augmented", [{}, {"shift": 1, "cutout": 2}])
def test_networks_are_trained_alike_together_and_in_turn(augmented: Any) -> None:
    module = build("convnet3,width=4,depth=1,norm=none", shape=(1, 8, 8), num_classes=3)
    schedule = Schedule(steps=3, batch=5, inits=3, **augmented)
    kernels, together = train_real(module, DATA, schedule, seed=0, stream="s")
    assert kernels.execution.chunk == 3
    alone = Kernels(kernels.learner, kernels.objective, replace(kernels.execution, chunk=1))
    initial = initial_weights(module, schedule, seed=0, stream="s")
    *_, in_turn = train_steps(alone, initial, DATA, schedule, seed=0, stream="s")
    for name, value in together.items():
        torch.testing.assert_close(in_turn[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("images", "at_once"), [(5, 3), (16, 3), (17, 1), (64, 1)])
def test_networks_take_turns_where_a_step_has_many_images(images: int, at_once: int) -> None:
    module = build("convnet3,width=4,depth=1,norm=none", shape=(1, 8, 8), num_classes=3)
    kernels, _ = train_real(module, DATA, Schedule(steps=1, batch=images, inits=3), seed=0, stream="s")
    assert kernels.execution.chunk == at_once


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RealData(schedule=Schedule(), images=0), "images is 0"),
        (lambda: SyntheticData(run=Path("run"), images=-1), "images is -1"),
        (lambda: SyntheticData(run=Path("run"), inits=0), "inits is 0"),
        (lambda: Schedule(shift=-1), "shift is -1"),
        (lambda: Schedule(warmup=-3), "warmup is -3"),
        (lambda: Schedule(cutout=-1), "cutout is -1"),
        (lambda: Schedule(weight_decay=math.nan), "weight_decay is nan"),
    ],
)
def test_impossible_settings_are_refused_at_once(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        make()


@pytest.mark.parametrize(("split", "left_out"), [(1, 1000), (0, len(DATA.val_y) - 1)])
def test_a_set_that_saw_the_validation_images_is_refused(tmp_path: Path, split: int, left_out: int) -> None:
    run = Distilled.load(learned_set(tmp_path))
    replace(run, config=replace(run.config, split_seed=split, val_size=left_out)).save(tmp_path)
    task = replace(TASK, data=replace(DATA, split_seed=0))
    with pytest.raises(LimbeckError, match="may have been learned from images that the search validates on") as caught:
        SyntheticData(run=tmp_path).prepare(task)
    assert f"seed={split} and val_size={left_out} " in str(caught.value)
    own_split = replace(task, data=replace(DATA, split_seed=None))
    SyntheticData(run=tmp_path).prepare(own_split)
    replace(run, config=replace(run.config, split_seed=0, val_size=len(DATA.val_y))).save(tmp_path)
    SyntheticData(run=tmp_path).prepare(task)


def test_the_probability_of_the_right_class_by_a_loop() -> None:
    module, schedule = build("mlp", shape=(1, 8, 8), num_classes=3), Schedule(steps=4, batch=8, inits=2)
    kernels, networks = train_real(module, DATA, schedule, seed=0, stream="s")
    given = []
    for b in range(2):
        for x_CHW, label in zip(DATA.preprocessing.apply(DATA.val_x[:5]), DATA.val_y[:5].tolist(), strict=True):
            logits_1K = functional_call(module, {name: value[b] for name, value in networks.items()}, (x_CHW[None],))
            given.append(float(logits_1K.exp()[0, label] / logits_1K.exp().sum()))
    found = validate(kernels, networks, DATA, 5, "probability")
    assert found == pytest.approx(100 * np.mean(given), rel=1e-5)
    assert validate(kernels, networks, DATA, 5) == validation_accuracy(kernels, networks, DATA, 5)


@pytest.mark.skipif(compiler_missing("cpu") is not None, reason="no C++ compiler")
def test_compiled_steps_train_the_same_networks() -> None:
    module, schedule = build("mlp", shape=(1, 8, 8), num_classes=3), Schedule(steps=3, batch=4, inits=3)
    _, plain = train_real(module, DATA, schedule, seed=0, stream="s")
    _, compiled = train_real(module, DATA, replace(schedule, compiled=True), seed=0, stream="s")
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.experiment.planner.compiler_missing", lambda device: "a C++ compiler (g++ or clang++)")
    module = build("mlp", shape=(1, 8, 8), num_classes=3)
    with pytest.raises(LimbeckError, match=r"needs a C\+\+ compiler"):
        train_real(module, DATA, Schedule(steps=1, compiled=True), seed=0, stream="s")


@pytest.mark.parametrize("make", [WeightSharing, GraphHyperNetwork])
def test_one_set_of_weights_is_trained(make: Callable[..., Proxy]) -> None:
    with pytest.raises(LimbeckError, match="inits is 2"):
        make(schedule=Schedule(inits=2))
    with pytest.raises(LimbeckError, match="images is 0"):
        make(images=0)


def test_distinct_architectures_are_all_there_are() -> None:
    found = distinct(TASK.space, 8, np.random.default_rng(1))
    assert len(set(found)) == 8
    with pytest.raises(LimbeckError, match=r"9 different .* has 8"):
        distinct(TASK.space, 9, np.random.default_rng(1))


def test_numpy_streams_are_their_own() -> None:
    one, same, other = (numpy_generator(0, name).integers(1 << 30) for name in ("a", "a", "b"))
    assert one == same != other


def test_running_statistics_are_measured_before_weights_are_judged() -> None:
    module = build("convnet3,width=4,depth=1,norm=running", shape=(1, 8, 8), num_classes=3)
    weights = {name: value[0] for name, value in draw(module, "kaiming", 1, generator()).items()}
    moved = validate_as_is(TASK, module, weights, None)
    # A shift before the normalisation changes nothing once the statistics are those of the shifted values.
    shifted = weights | {"features.0.bias": weights["features.0.bias"] + 50.0}
    assert validate_as_is(TASK, module, shifted, None) == pytest.approx(moved, abs=6)  # one of 18 images


# --- weight sharing --------------------------------------------------------------------------------------------------


def test_a_supernet_learns() -> None:
    scorer = WeightSharing(schedule=Schedule(steps=120, batch=32, lr=0.01)).prepare(TASK)
    untrained = WeightSharing(schedule=Schedule(steps=1, batch=2, lr=1e-9)).prepare(TASK)
    learned = [scorer.score(TASK, arch) for arch in ARCHS]
    assert min(learned) > CHANCE + 25, learned
    assert np.mean(learned) > np.mean([untrained.score(TASK, arch) for arch in ARCHS]) + 15


def test_children_are_the_leading_part_of_the_stores() -> None:
    scorer = WeightSharing(schedule=SHORT).prepare(TASK)
    assert isinstance(scorer, Supernet)
    stores = scorer.stores
    assert stores["features.0.weight"].shape == (8, 1, 3, 3)
    assert stores["features.4.weight"].shape == (8, 8, 3, 3)
    narrow = Child.of(TASK, NARROW).cut(stores)
    wide = Child.of(TASK, ("8", "1", "relu")).cut(stores)
    for name, value in narrow.items():
        assert torch.equal(value, wide[name][tuple(slice(size) for size in value.shape)])
    assert narrow["head.weight"].shape == (3, 4 * 16)


def test_scoring_does_not_write_to_the_stores() -> None:
    child, wide = Child.of(TASK, NARROW), Child.of(TASK, WIDE)
    stores = new_stores({}, child, TASK)
    scorer = Supernet(stores=dict(stores))
    first = scorer.score(TASK, WIDE)
    assert same_tensors(scorer.stores, stores)
    assert scorer.score(TASK, WIDE) == first
    grown = new_stores(stores, wide, TASK)
    assert grown["features.0.weight"].shape == (8, 1, 3, 3)
    assert torch.equal(grown["features.0.weight"][:4], stores["features.0.weight"])
    assert not torch.equal(grown["features.0.weight"][4:], stores["features.0.weight"])


def test_new_stores_look_like_initial_weights() -> None:
    stores = new_stores({}, Child.of(TASK, WIDE), TASK)
    assert torch.equal(stores["features.1.weight"], torch.ones(8))
    assert torch.equal(stores["features.0.bias"], torch.zeros(8))
    assert float(stores["features.4.weight"].std()) == pytest.approx((2 / 72) ** 0.5, rel=0.15)


def test_a_step_moves_what_was_sampled_and_nothing_else() -> None:
    narrow_only = replace(TASK, space=OneArchitecture(NARROW))
    before = WeightSharing(schedule=Schedule(steps=1, batch=8, lr=1e-12)).prepare(narrow_only)
    after = WeightSharing(schedule=Schedule(steps=1, batch=8, lr=0.01, warmup=1)).prepare(narrow_only)
    assert isinstance(before, Supernet) and isinstance(after, Supernet)
    # Adam's first step is the rate times the gradient's sign, whatever the gradient's size.
    moved = after.stores["head.weight 1"] - before.stores["head.weight 1"]
    assert moved.abs().max() == pytest.approx(0.01, rel=1e-2)
    assert 0 < int((moved > 0).sum()) < moved.numel()


def test_stores_that_do_not_fit_are_refused() -> None:
    short = BrokenSpace(shared={"head.weight": "head"})
    with pytest.raises(LimbeckError, match=r"a store for each parameter .* not for features\.0\.bias"):
        WeightSharing(schedule=SHORT).prepare(replace(TASK, space=short))
    one = BrokenSpace(shared=dict.fromkeys(TinySpace().shared(NARROW), "everything"))
    with pytest.raises(LimbeckError, match="dimensions; give it a store of its own"):
        WeightSharing(schedule=SHORT).prepare(replace(TASK, space=one, seed=0))


# --- the graph hypernetwork ------------------------------------------------------------------------------------------


def emitted(arch: Arch, task: Task = TASK, hidden: int = 6) -> tuple[Any, Any, dict[str, Tensor]]:
    """An untrained hypernetwork, what it reads of an architecture, and what it emits."""
    network = HyperNetwork(hidden, 1, task.seed)
    blueprint = Blueprint.of(task, arch)
    network.meet(blueprint)
    return network, blueprint, network.emit(blueprint)


def test_a_hypernetwork_learns() -> None:
    proxy = GraphHyperNetwork(schedule=Schedule(steps=200, batch=32, lr=0.003), hidden=16, rounds=1)
    scorer = proxy.prepare(TASK)
    scores = [scorer.score(TASK, arch) for arch in (NARROW, WIDE, ("8", "1", "relu"))]
    assert min(scores) > CHANCE + 25, scores


def test_every_parameter_is_emitted_in_its_shape() -> None:
    _, blueprint, weights = emitted(WIDE)
    shapes = {name: p.shape for name, p in blueprint.module.named_parameters()}
    assert {name: value.shape for name, value in weights.items()} == shapes
    assert float(weights["features.1.weight"].detach().mean()) == pytest.approx(1, abs=0.3)
    assert float(weights["features.0.bias"].detach().abs().max()) < 1


def test_emitted_networks_start_with_sane_activations() -> None:
    task = replace(TASK, space=TinySpace(norm="none"))
    x_NCHW = torch.randn(64, 1, 8, 8, generator=generator(5))
    for arch in (NARROW, WIDE):
        spreads = []
        for seed in range(5):
            _, blueprint, weights = emitted(arch, replace(task, seed=seed))
            logits = functional_call(blueprint.module, weights, (x_NCHW,))
            spreads.append(float(logits.detach().std()))
        assert 0.1 < np.median(spreads) < 5, spreads


def test_repeated_tiles_are_not_copies() -> None:
    slot = Slot(name="w", kind="k", shape=(40, 35, 3, 3), tile=(16, 16, 3, 3), around=None)
    network = HyperNetwork(4, 1, 0)
    weight = network.fill(slot, torch.randn(4, generator=generator()))
    assert weight.shape == slot.shape
    rows = weight.flatten(1)
    similar = torch.corrcoef(rows).fill_diagonal_(0).abs().max()
    assert similar < 0.5
    assert torch.equal(weight[:16, :16].abs(), weight[16:32, 16:32].abs())
    small = network.fill(replace(slot, shape=(16, 16, 3, 3)), torch.randn(4, generator=generator()))
    ratio = (16 / 35) ** 0.5  # fan-in
    torch.testing.assert_close(weight[:16, :16], small * ratio)


def test_messages_reach_every_node_both_ways() -> None:
    network, blueprint, _ = emitted(WIDE, hidden=16)
    network.double()  # what comes from far away is small at first
    for changed in (0, len(blueprint.ops) - 1):
        others = tuple("other" if index == changed else op for index, op in enumerate(blueprint.ops))
        before = network.node_states(blueprint)
        after = network.node_states(replace(blueprint, ops=others))
        for one, other in zip(before, after, strict=True):
            assert not torch.equal(one, other)


def test_a_pass_is_that_of_a_loop() -> None:
    """A graph that branches and joins, by the equations of the paper."""
    network = HyperNetwork(5, 1, 0).double()
    start = [torch.randn(5, generator=generator(i), dtype=torch.float64) for i in range(4)]
    before = [(), (0,), (0,), (1, 2)]
    states = list(start)
    network.pass_messages(0, range(4), before, states)
    h: list[Tensor] = []
    for node in range(4):
        message = torch.zeros(5, dtype=torch.float64)
        for other in before[node]:
            message = message + network.messages[0](h[other])
        h.append(network.units[0](message.view(1, -1), start[node].view(1, -1)).view(-1))
    for one, other in zip(states, h, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_reaches_embeddings() -> None:
    """Of the loss through the emitted weights, against central differences in float64."""
    network, blueprint, _ = emitted(("4", "2", "sigmoid"))
    network.double()
    module = blueprint.module.double()
    x_NCHW = torch.randn(9, 1, 8, 8, generator=generator(6), dtype=torch.float64)
    y_N = torch.arange(9) % 3
    key = module_key("Conv2d")

    def loss() -> Tensor:
        return F.cross_entropy(functional_call(module, network.emit(blueprint), (x_NCHW,)), y_N)

    embedding = network.embeddings[key]
    (slope,) = torch.autograd.grad(loss(), embedding)
    for index in range(len(embedding)):
        with torch.no_grad():
            embedding[index] += 1e-5
            up = float(loss())
            embedding[index] -= 2e-5
            down = float(loss())
            embedding[index] += 1e-5
        assert float(slope[index]) == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-8)
    assert slope.norm() > 0


def test_a_new_operation_is_read_the_same_whether_it_is_kept_or_not() -> None:
    kept, blueprint, weights = emitted(WIDE)
    fresh = HyperNetwork(6, 1, TASK.seed)
    assert same_tensors(fresh.emit(blueprint), weights)
    assert fresh.meet(Blueprint.of(TASK, NARROW)) != []
    assert same_tensors(fresh.emit(blueprint), weights)
    assert kept.meet(blueprint) == []


@pytest.mark.parametrize("nodes", [(), ("features", "head", "head")])
def test_a_graph_that_leaves_parameters_out_is_refused(nodes: tuple[str, ...]) -> None:
    graph = Graph(nodes=tuple(Node(op="x", module=path) for path in nodes), edges=())
    with pytest.raises(LimbeckError, match="every parameter to exactly one node"):
        GraphHyperNetwork(schedule=SHORT).prepare(replace(TASK, space=BrokenSpace(graph=graph)))


def test_classes_are_told_apart_however_many_there_are() -> None:
    slot = slot_of("head", "weight", {"head.weight": torch.randn(1, 100, 200)}, 100)
    assert slot.tile[0] == 100
    assert slot.around is None
    norm = slot_of("norm", "weight", {"norm.weight": torch.ones(1, 100)}, 100)
    assert norm.around == 1.0


# --- predictors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regressor", ["forest", "svr"])
def test_an_encoding_is_enough_where_accuracy_follows_from_it(regressor: Any) -> None:
    scorer = EncodingPredictor(pairs=pairs(), regressor=regressor).prepare(TASK)
    found = {arch: scorer.score(TASK, arch) for arch, _ in pairs()}
    for arch, accuracy in pairs():
        assert found[arch] == pytest.approx(accuracy, abs=7)
    assert found["8", "2", "relu"] > found["4", "2", "relu"] > found["4", "1", "relu"]


def test_features_are_the_encoding_and_the_size() -> None:
    space = TASK.space
    found = predictor.features(space, WIDE)
    assert found[:-2].tolist() == [0, 1, 0, 1, 1, 0]
    assert np.expm1(found[-2:]) == pytest.approx([space.parameters(WIDE), space.flops(WIDE)])


def test_a_curve_is_described_by_itself_and_its_differences() -> None:
    row = predictor.append_curve(np.array([7.0]), [1.0, 4.0, 5.0, 3.0])
    assert row.tolist() == [7, 1, 4, 5, 3, 3, 1, -2, -2, -3]
    assert predictor.append_curve(np.array([7.0]), [1.0]).tolist() == [7, 1]


def test_a_learning_curve_ends_where_full_training_does() -> None:
    full = RealData(schedule=SHORT).prepare(TASK).score(TASK, WIDE)
    curve = learning_curve(TASK, WIDE, SHORT, (2, 5, 8))
    assert curve[-1] == full
    assert learning_curve(TASK, WIDE, SHORT, (2, 5)) == curve[:2]


def test_a_candidate_takes_the_first_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = CurvePredictor(examples=3, schedule=Schedule(steps=10, batch=8), fraction=0.4, points=2)
    assert proxy.steps == (2, 4)
    scorer = proxy.prepare(TASK)
    taken = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        for networks in genuine(*args, **kwargs):
            taken.append(1)
            yield networks

    genuine = predictor.train_steps
    monkeypatch.setattr(predictor, "train_steps", counted)
    scorer.score(TASK, NARROW)
    assert len(taken) == 4


def test_predictors_refuse_what_they_cannot_learn_from() -> None:
    for make in (EncodingPredictor, CurvePredictor):
        with pytest.raises(LimbeckError, match="examples is 1"):
            make(examples=1)
        with pytest.raises(LimbeckError, match="Unknown regressor 'tree'"):
            make(regressor=cast(Any, "tree"))
    with pytest.raises(LimbeckError, match="at least 2 pairs"):
        EncodingPredictor(pairs=((NARROW, 50.0),))
    with pytest.raises(LimbeckError, match="finite accuracy"):
        EncodingPredictor(pairs=((NARROW, 50.0), (WIDE, float("nan"))))
    with pytest.raises(LimbeckError, match="in place of seconds"):
        CurvePredictor(schedule=Schedule(steps=None, seconds=1.0))
    with pytest.raises(LimbeckError, match="fraction is 1"):
        CurvePredictor(fraction=1.0)
    with pytest.raises(LimbeckError, match="fewer than 4 points"):
        CurvePredictor(schedule=Schedule(steps=12))


def test_predictors_name_the_extra_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(LimbeckError, match=r"scikit-learn .*: pip install 'limbeck\[nas\]'"):
        EncodingPredictor().prepare(TASK)


# --- zero-cost scores ------------------------------------------------------------------------------------------------


def batch(n: int = 5, channels: int = 1) -> tuple[Tensor, Tensor]:
    x_NCHW = torch.randn(n, channels, 4, 4, generator=generator(8), dtype=torch.float64)
    return x_NCHW, torch.arange(n) % 3


def with_weights(module: nn.Module, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network in float64, and random values of all its parameters, biases and norms as well."""
    draws = generator(seed)
    weights = {
        name: torch.randn(p.shape, generator=draws, dtype=torch.float64) for name, p in module.named_parameters()
    }
    return module.double(), weights


@pytest.mark.parametrize("between", [[], [nn.ReLU()], [nn.BatchNorm1d(6, track_running_stats=False), nn.Sigmoid()]])
def test_synflow_of_two_linear_layers_by_hand(between: list[nn.Module]) -> None:
    layers = [nn.Flatten(), nn.Linear(16, 6, bias=False), *between, nn.Linear(6, 3, bias=False)]
    module, weights = with_weights(nn.Sequential(*layers))
    first, last = weights["1.weight"].abs(), weights[f"{len(layers) - 1}.weight"].abs()
    flow = float((last @ first @ torch.ones(16, dtype=torch.float64)).sum())
    # Each layer's Σ θ ∂R/∂θ is R itself: R is linear in each.
    assert zero_cost.synflow(module, weights, *batch()) == pytest.approx(np.log(2 * flow))


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "running"])
def test_synflow_leaves_out_every_norm(norm: str) -> None:
    """The score is that of the same weights in the network without normalisation."""

    def made(norm: str) -> nn.Module:
        return build(f"convnet3,width=8,depth=2,norm={norm}", shape=(1, 8, 8), num_classes=3).double()

    module, plain = made(norm), made("none")
    weights = {name: value[0] for name, value in draw(module, "kaiming", 1, generator()).items()}
    kept = [
        weights[f"{path}.weight"] for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    names = [path for path, layer in plain.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    magnitudes = {f"{name}.weight": value.abs() for name, value in zip(names, kept, strict=True)}
    biases = {f"{name}.bias": value.new_zeros(len(value)) for name, value in zip(names, kept, strict=True)}
    ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    flow = float(functional_call(plain, magnitudes | biases, (ones,)).detach().sum())
    found = zero_cost.synflow(module, weights, torch.zeros(2, 1, 8, 8, dtype=torch.float64), torch.zeros(2))
    assert found == pytest.approx(np.log(3 * flow))
    assert not any(layer._forward_hooks for layer in module.modules())


def test_synflow_stays_finite_in_deep_networks() -> None:
    deep = nn.Sequential(nn.Flatten(), *[nn.Linear(16, 16) for _ in range(150)])
    assert np.isfinite(zero_cost.synflow(*with_weights(deep), *batch()))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_jacob_cov_by_finite_differences(norm: str) -> None:
    module, weights = with_weights(build(f"convnet3,width=4,depth=1,norm={norm}", shape=(1, 4, 4), num_classes=3))
    x_NCHW, y_N = batch(4)

    def total(images: Tensor) -> float:
        return float(functional_call(module, weights, (images,)).detach().sum())

    rows = np.zeros((4, 16))
    for image in range(4):
        for pixel in range(16):
            step = torch.zeros(4, 16, dtype=torch.float64)
            step[image, pixel] = 1e-6
            step = step.view_as(x_NCHW)
            rows[image, pixel] = (total(x_NCHW + step) - total(x_NCHW - step)) / 2e-6
    sigma = np.linalg.eigvalsh(np.corrcoef(rows))
    wanted = -np.sum(np.log(sigma + 1e-5) + 1 / (sigma + 1e-5))
    assert zero_cost.jacob_cov(module, weights, x_NCHW, y_N) == pytest.approx(wanted, rel=1e-3)


def test_jacob_cov_of_a_gradient_without_spread_is_no_number() -> None:
    module, weights = with_weights(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(1, 3)))
    assert np.isnan(zero_cost.jacob_cov(module, weights, *batch()))


class Functional(nn.Module):
    """Activations that are no modules: a rectifier and a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 7), nn.Linear(7, 5), nn.Linear(5, 3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x = F.relu(self.first(x_NCHW.flatten(1)))
        logits: Tensor = self.last(torch.sigmoid(self.second(x)))
        return logits


def test_naswot_by_a_loop() -> None:
    module, weights = with_weights(Functional())
    x_NCHW, y_N = batch(4)
    inner = x_NCHW.flatten(1) @ weights["first.weight"].T + weights["first.bias"]
    outer = inner.clamp(min=0) @ weights["second.weight"].T + weights["second.bias"]
    codes = [[bool(v > 0) for v in [*a, *b]] for a, b in zip(inner, outer, strict=True)]
    kernel = np.array([[12 - sum(p != q for p, q in zip(one, other, strict=True)) for other in codes] for one in codes])
    wanted = np.log(abs(np.linalg.det(kernel)))
    assert zero_cost.naswot(module, weights, x_NCHW, y_N) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["relu", "leaky-relu", "gelu", "silu", "softplus", "tanh", "sigmoid"])
def test_naswot_reads_the_sign_before_every_activation(name: str) -> None:
    """The codes of a first layer are the same whatever the activation after it."""
    scores = []
    for activation in (name, "relu"):
        text = f"convnet3,width=4,depth=1,norm=none,activation={activation}"
        module, weights = with_weights(build(text, shape=(1, 4, 4), num_classes=3))
        scores.append(zero_cost.naswot(module, weights, *batch()))
    assert scores[0] == scores[1]
    assert np.isfinite(scores[0])


def test_naswot_needs_activations() -> None:
    module, weights = with_weights(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    with pytest.raises(LimbeckError, match="use another proxy"):
        zero_cost.naswot(module, weights, *batch())


def test_grad_norm_by_finite_differences() -> None:
    module, weights = with_weights(build("convnet3,width=2,depth=1,norm=batch", shape=(1, 4, 4), num_classes=3))
    x_NCHW, y_N = batch()

    def loss(changed: dict[str, Tensor]) -> float:
        return float(F.cross_entropy(functional_call(module, weights | changed, (x_NCHW,)), y_N).detach())

    wanted = 0.0
    for name, value in weights.items():
        slopes = []
        for index in range(value.numel()):
            step = torch.zeros(value.numel(), dtype=torch.float64)
            step[index] = 1e-6
            step = step.view_as(value)
            slopes.append((loss({name: value + step}) - loss({name: value - step})) / 2e-6)
        wanted += float(np.linalg.norm(slopes))
    assert zero_cost.grad_norm(module, weights, x_NCHW, y_N) == pytest.approx(wanted, rel=1e-5)


def test_bars_are_the_sizes_of_the_network() -> None:
    for kind, wanted in (("parameters", TASK.space.parameters(WIDE)), ("flops", TASK.space.flops(WIDE))):
        assert proxy_named(kind).prepare(TASK).score(TASK, WIDE) == wanted


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("real", "accuracy, %"),
        ("full,measure=probability", "probability, %"),
        ("sharing", "accuracy, %"),
        ("ghn,measure=probability", "probability, %"),
        ("encoding", "predicted accuracy, %"),
        ("curve", "predicted accuracy, %"),
        (".", "probability, %"),
        ("naswot", "rank score"),
        ("parameters", "parameters"),
        ("flops", "flops"),
    ],
)
def test_scores_have_a_unit(text: str, unit: str) -> None:
    assert proxy_named(text).scale.unit == unit


def test_a_score_is_the_mean_over_initial_weights() -> None:
    module = TASK.space.build(WIDE).double()
    draws = stream_generator(TASK.seed, "zero-cost weights 8-2-relu")
    weights = draw(module, "kaiming", 3, draws)
    x_NCHW, y_N = DATA.sample(stream_generator(TASK.seed, "zero-cost batch"), 6)
    by_hand = [
        zero_cost.grad_norm(module, {name: value[index] for name, value in weights.items()}, x_NCHW.double(), y_N)
        for index in range(3)
    ]
    found = ZeroCost(kind="grad_norm", inits=3, batch=6).prepare(TASK).score(TASK, WIDE)
    assert found == pytest.approx(np.mean(by_hand))


def test_zero_cost_scores_leave_no_trace_in_running_statistics() -> None:
    module = build("convnet3,width=4,depth=1,norm=running", shape=(1, 4, 4), num_classes=3).double()
    assert any(isinstance(layer, BatchNorm) for layer in module.modules())
    weights = {name: value[0] for name, value in draw(module, "kaiming", 1, generator()).items()}
    before = {name: value.clone() for name, value in module.named_buffers()}
    for score in zero_cost.SCORES.values():
        score(module, dict(weights), *batch())
    assert same_tensors(before, dict(module.named_buffers()))


def test_zero_cost_settings() -> None:
    with pytest.raises(LimbeckError, match="did you mean 'synflow'"):
        ZeroCost(kind=cast(Any, "synflo"))
    with pytest.raises(LimbeckError, match="batch is 1"):
        ZeroCost(kind="naswot", batch=1)
    with pytest.raises(LimbeckError, match="inits is 0"):
        ZeroCost(kind="naswot", inits=0)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", proxy_names())
def test_every_name_is_a_proxy_of_that_name(name: str) -> None:
    assert proxy_named(name).name == name


def test_names_with_options(tmp_path: Path) -> None:
    full = Schedule(steps=500, lr=0.02, shift=2)
    assert proxy_named("full", full=full) == RealData(schedule=full, label="full")
    assert proxy_named("real", full=full) == RealData(schedule=replace(full, steps=128))
    two = RealData(schedule=replace(full, steps=None, seconds=2), label="real,seconds=2")
    assert proxy_named("real,seconds=2", full=full) == two
    assert proxy_named("real,steps=8", full=replace(full, steps=None, seconds=9.0)) == RealData(
        schedule=replace(full, steps=8), label="real,steps=8"
    )
    assert proxy_named("sharing,steps=20,paths=2,label=enas") == WeightSharing(
        schedule=Schedule(steps=20), paths=2, label="enas"
    )
    text = "encoding,examples=5,regressor=svr,images=100"
    assert proxy_named(text) == EncodingPredictor(examples=5, regressor="svr", images=100, label=text)
    assert proxy_named("curve,fraction=0.5", full=full) == CurvePredictor(
        schedule=full, fraction=0.5, label="curve,fraction=0.5"
    )
    assert proxy_named("naswot,inits=3") == ZeroCost(kind="naswot", inits=3)
    for yes, no in (("true", "false"), ("True", "False"), ("TRUE", "FALSE")):
        text = f"real,compiled={yes},flip={no}"
        schedule = replace(full, steps=128, compiled=True, flip=False)
        assert proxy_named(text, full=replace(full, flip=True)) == RealData(schedule=schedule, label=text)
    assert proxy_named(str(tmp_path)) == SyntheticData(run=tmp_path, label=str(tmp_path))
    assert proxy_named(f"{tmp_path},steps=4,label=mine") == SyntheticData(run=tmp_path, steps=4, label="mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reel", "Unknown proxy 'reel'; did you mean 'real'?"),
        ("naswott", "Unknown proxy 'naswott'; did you mean 'naswot'?"),
        ("runs/nowhere", "The folder runs/nowhere does not exist; name the run directory of a learned set, or one of"),
        ("./nowhere,steps=3", "The folder ./nowhere does not exist"),
        ("teacher", "the path of a run directory"),
        ("no_such_module:proxy", "The proxy 'no_such_module:proxy' cannot be loaded"),
        ("pathlib:Path", "The proxy 'pathlib:Path' returned PosixPath; it must return a limbeck.nas.Proxy."),
        ("real,stps=3", "did you mean 'steps'?"),
        ("real,schedule=3", "Unknown option of the proxy 'real' 'schedule'"),
        ("synflow,kind=naswot", "Unknown option of the proxy 'synflow' 'kind'"),
        ("real,steps=3.5", "steps of the proxy 'real' is 3.5; it must be int or None"),
        ("real,flip=1", "flip of the proxy 'real' is 1; it must be bool"),
        ("real,batch=True", "batch of the proxy 'real' is True; it must be int"),
        ("real,seconds=1e999", "must be float or None"),
        ("real,steps=3,seconds=2", "either steps or seconds"),
        ("real,steps=0", "steps is 0"),
        ("real,images=0", "images is 0; it must be positive"),
        ("real,shift=-1", "shift is -1; it must not be below 0"),
        ("encoding,regressor=tree", "must be forest or svr"),
        ("ghn,hidden=0", "hidden is 0"),
        ("sharing,steps", "is no option of the proxy"),
        ("sharing,lr=1,lr=2", "is given twice"),
    ],
)
def test_wrong_names(text: str, message: str) -> None:
    with pytest.raises(LimbeckError) as caught:
        proxy_named(text)
    assert message in str(caught.value)


@settings(max_examples=60)
@given(
    name=st.sampled_from(["real", "full", "sharing", "ghn"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(1, 10**6),
            "batch": st.integers(1, 512),
            "lr": st.floats(1e-6, 10),
            "weight_decay": st.floats(0, 1),
            "flip": st.booleans(),
            "images": st.none() | st.integers(1, 10**5),
        },
    ),
)
def test_options_are_read_as_they_are_written(name: str, options: dict[str, Any]) -> None:
    text = ",".join([name, *(f"{key}={value!r}" for key, value in options.items())])
    proxy: Any = proxy_named(text)
    assert proxy.name == text
    for key, value in options.items():
        assert getattr(proxy if key == "images" else proxy.schedule, key) == value


@given(
    st.text(max_size=30) | st.sampled_from(proxy_names()).flatmap(lambda n: st.text(max_size=20).map((n + ",").__add__))
)
def test_any_text_is_a_proxy_or_a_sentence(text: str) -> None:
    try:
        assert proxy_named(text).name
    except LimbeckError as error:
        assert str(error)
