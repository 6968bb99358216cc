"""Pools: many networks trained at once against each of them alone, and a pool that goes on where it was stopped."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_pools
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny_pools import network, rows_file, tiny_pool_config, train_pool
from tiny_runs import same_tensors, tiny_data
from torch import Tensor, nn

from limbeck.cli.main import run as run_in_process
from limbeck.common.files import read_json, write_json
from limbeck.common.seeds import generator
from limbeck.engine import Tensors
from limbeck.errors import LimbeckError
from limbeck.experiment.progress import Stop
from limbeck.models import build, check_pool, draw, save_pool
from limbeck.pools.config import PoolConfig
from limbeck.pools.parts import read_threads
from limbeck.pools.pool import Pool, open_pool
from limbeck.pools.train import WARMUP, PoolProgress, group_sizes, make_pool

DATA = tiny_data()
BATCH_NORM = "tiny_pools:batch_norm_net"
DROPOUT = "tiny_pools:dropout_net"
STOPS = [(0, 2), (0, 5), (1, 1), (1, 4)]
"""After which step of which group someone stops a pool of two groups, five steps each; (0, 5) is between groups."""

torch_makers: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    "mlp": lambda: build("mlp", shape=(1, 8, 8), num_classes=3),
    BATCH_NORM: lambda: tiny_pools.batch_norm_net((1, 8, 8), 3),
}


def alone(config: PoolConfig, make: Callable[[], nn.Module]) -> list[nn.Module]:
    """Every network of a pool by itself, with torch's own Adam, from the same start and on the same batches."""
    trained = []
    for index, size in enumerate(group_sizes(config.n, config.group)):
        rng = generator(config.seed, f"pool group {index}")
        learner = build(config.learner, shape=DATA.image_shape, num_classes=3)
        starts = draw(learner, config.distribution, size, rng)
        chosen = [torch.randint(len(DATA.train_y), (size, config.batch), generator=rng) for _ in range(config.steps)]
        for g in range(size):
            module = make().train()
            names = [name for name, _ in module.named_parameters()]
            for name, start in zip(names, [starts[n] for n, _ in learner.named_parameters()], strict=True):
                module.get_parameter(name).data.copy_(start[g])
            adam = torch.optim.Adam(module.parameters(), eps=1e-8, weight_decay=config.weight_decay)
            for step in range(config.steps):
                warm = min(1.0, (step + 1) / WARMUP)
                adam.param_groups[0]["lr"] = config.lr * warm * (1 + math.cos(math.pi * step / config.steps)) / 2
                adam.zero_grad()
                x_MCHW = DATA.preprocessing.apply(DATA.train_x[chosen[step][g]])
                F.cross_entropy(module(x_MCHW), DATA.train_y[chosen[step][g]]).backward()
                adam.step()
            trained.append(module.eval())
    return trained


def card_of(pool: Pool) -> dict[str, Any]:
    return {name: value for name, value in pool.card.items() if name != "seconds"}


def assert_same_pool(left: Path, right: Path) -> None:
    """Equal in everything but times."""
    one, other = open_pool(left), open_pool(right)
    assert same_tensors(one.states, other.states)
    assert card_of(one) == card_of(other)


class Watcher:
    """Counts steps, and presses Ctrl-C after some."""

    def __init__(self, *stop_after: tuple[int, int]) -> None:
        self.stop_after = stop_after
        self.seen: list[PoolProgress] = []

    def __call__(self, progress: PoolProgress) -> None:
        self.seen.append(progress)
        group = 0 if progress.networks == 0 else 1
        if (group, progress.step) in self.stop_after:
            signal.raise_signal(signal.SIGINT)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", torch_makers)
def test_a_pool_is_each_network_alone(learner: str, tmp_path: Path) -> None:
    steps = WARMUP + 10 if learner == "linear" else 12  # one learner shows the whole schedule of the rate
    config = tiny_pool_config(learner=learner, steps=steps, weight_decay=0.01, distribution="kaiming", seed=3)
    pool = train_pool(config, DATA, tmp_path / "pool.safetensors")
    ours = build(learner, shape=(1, 8, 8), num_classes=3)
    for b, module in enumerate(alone(config, torch_makers[learner])):
        theirs = [*module.parameters(), *(v for name, v in module.named_buffers() if "num_batches" not in name)]
        names = [name for name, _ in (*ours.named_parameters(), *ours.named_buffers())]
        assert sorted(names) == sorted(pool.states)
        for name, value in zip(names, theirs, strict=True):
            torch.testing.assert_close(pool.states[name][b], value, rtol=1e-4, atol=2e-4)
        x_NCHW, y_N = DATA.preprocessing.apply(DATA.test_x), DATA.test_y
        right = 100 * (module(x_NCHW).argmax(1) == y_N).double().mean().item()
        assert pool.card["test_accuracy"][b] == pytest.approx(right, abs=1e-9)
        right = 100 * (module(DATA.preprocessing.apply(DATA.val_x)).argmax(1) == DATA.val_y).double().mean().item()
        assert pool.card["validation_accuracy"][b] == pytest.approx(right, abs=1e-9)


def test_networks_have_weights_and_batches_of_their_own(tmp_path: Path) -> None:
    states = train_pool(tiny_pool_config(n=4), DATA, tmp_path / "pool.safetensors").states
    weights = next(iter(states.values())).flatten(1)
    assert len({tuple(row) for row in weights.tolist()}) == 4


def test_the_same_seed_gives_the_same_pool_and_another_another(tmp_path: Path) -> None:
    first, again = (train_pool(tiny_pool_config(), DATA, tmp_path / f"{n}.safetensors") for n in (1, 2))
    assert same_tensors(first.states, again.states)
    assert card_of(first) == card_of(again)
    other = train_pool(tiny_pool_config(seed=1), DATA, tmp_path / "3.safetensors")
    assert not any(torch.equal(value, first.states[name]) for name, value in other.states.items())


def test_training_teaches(tmp_path: Path) -> None:
    config = tiny_pool_config(steps=60, batch=16)
    told: list[str] = []
    pool = train_pool(config, DATA, tmp_path / "pool.safetensors", tell=told.append)
    assert min(pool.card["test_accuracy"]) > 80
    assert told == []
    train_pool(tiny_pool_config(lr=1e-9), DATA, tmp_path / "other.safetensors", tell=told.append)
    assert any("did not learn" in text and "--lr" in text for text in told)


@pytest.mark.parametrize("learner", [BATCH_NORM, "convnet3,width=3,depth=2,norm=running", DROPOUT])
def test_what_layers_carry_is_kept(learner: str, tmp_path: Path) -> None:
    pool = train_pool(tiny_pool_config(learner=learner, steps=3), DATA, tmp_path / "pool.safetensors")
    loaded = open_pool(tmp_path / "pool.safetensors")
    assert repr(loaded) == f"Pool({len(pool.card['validation_accuracy'])} networks, {learner} trained on arrays)"
    module = build(learner, shape=(1, 8, 8), num_classes=3)
    check_pool(loaded.states, module)
    carried = [name for name, _ in module.named_buffers()]
    assert carried
    for name in carried:
        assert loaded.states[name].shape == (3, *module.get_buffer(name).shape)
        assert not torch.equal(loaded.states[name][0], loaded.states[name][1])
    assert same_tensors(pool.states, loaded.states)


@given(n=st.integers(1, 300), group=st.none() | st.integers(1, 40))
def test_groups_share_out_the_networks(n: int, group: int | None) -> None:
    sizes = group_sizes(n, group)
    assert sum(sizes) == n
    assert min(sizes) >= 1
    assert max(sizes) <= (group or 25)
    assert len({*sizes[:-1]}) <= 1
    assert sizes[-1] <= sizes[0]


@pytest.mark.parametrize(
    ("n", "group", "sizes"),
    [
        (50, None, [25, 25]),
        (60, None, [20, 20, 20]),
        (7, None, [7]),
        (53, None, [20, 20, 13]),
        (5, 2, [2, 2, 1]),
        (3, 10, [3]),
    ],
)
def test_groups_of_no_other_size_where_that_is_possible(n: int, group: int | None, sizes: list[int]) -> None:
    assert group_sizes(n, group) == sizes


def test_progress_counts_networks(tmp_path: Path) -> None:
    watcher = Watcher()
    train_pool(tiny_pool_config(), DATA, tmp_path / "pool.safetensors", watch=watcher)
    done = [progress.done for progress in watcher.seen]
    assert len(done) == 10
    assert done == sorted(done)
    assert done[0] == pytest.approx(2 / 5)
    assert done[-1] == 3


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_card(tmp_path: Path) -> None:
    config = tiny_pool_config()
    pool = train_pool(
        config, replace(DATA, source="some/where.npz", split_seed=5), tmp_path / "deep" / "pool.safetensors"
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pool.safetensors"]
    loaded = open_pool(tmp_path / "deep" / "pool.safetensors")
    assert same_tensors(loaded.states, pool.states)
    assert loaded.card == pool.card
    card = loaded.card
    assert card["data"] == {
        "name": "arrays",
        "sha256": DATA.sha256,
        "base_sha256": DATA.sha256,
        "source": "some/where.npz",
        "split_seed": 5,
    }
    assert (card["shape"], card["classes"]) == ([1, 8, 8], ["0", "1", "2"])
    assert PoolConfig(**card["config"]) == tiny_pool_config(val_size=18)  # as many as the data sets aside
    assert [len(card[name]) for name in ("validation_accuracy", "test_accuracy")] == [3, 3]
    assert card["seconds"] >= 0
    assert {"limbeck", "torch", "device", "threads"} <= set(card["versions"])


def test_a_pool_that_is_cut_short(tmp_path: Path) -> None:
    out = tmp_path / "pool.safetensors"
    train_pool(tiny_pool_config(), DATA, out)
    out.write_bytes(out.read_bytes()[:-7])
    with pytest.raises(LimbeckError, match="damaged"):
        open_pool(out)


def test_a_pool_that_was_written_otherwise(tmp_path: Path) -> None:
    save_pool(tmp_path / "pool.safetensors", {"w": torch.zeros(2, 3)}, {"data": {}, "shape": []})
    with pytest.raises(LimbeckError, match="has no classes on its card"):
        open_pool(tmp_path / "pool.safetensors")
    with pytest.raises(LimbeckError, match="no pool at"):
        open_pool(tmp_path / "missing.safetensors")


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Pools that nobody stopped, made once for each learner."""
    folder = tmp_path_factory.mktemp("whole")

    def of(learner: str) -> Path:
        out = folder / f"{learner.replace(':', '.')}.safetensors"
        if not out.exists():
            train_pool(tiny_pool_config(learner=learner), DATA, out)
        return out

    return of


@pytest.mark.parametrize(
    ("stop", "learner"),
    [(stop, "linear") for stop in STOPS]
    + [(stop, name) for stop in (STOPS[0], STOPS[3]) for name in (BATCH_NORM, DROPOUT)],
)
def test_a_stopped_pool_goes_on_as_if_never_stopped(
    stop: tuple[int, int], learner: str, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    out, config = tmp_path / "pool.safetensors", tiny_pool_config(learner=learner)
    assert make_pool(config, DATA, out, watch=Watcher(stop)) is None
    assert not out.exists()
    assert (tmp_path / "pool.safetensors.parts").is_dir()
    watcher = Watcher()
    train_pool(config, DATA, out, resume=True, watch=watcher)
    taken = 5 * stop[0] + stop[1]
    assert len(watcher.seen) == 10 - taken  # no step is taken twice
    assert [path.name for path in tmp_path.iterdir()] == ["pool.safetensors"]
    assert_same_pool(out, whole(learner))


def test_a_pool_that_is_stopped_again_and_again(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    out, sittings = tmp_path / "pool.safetensors", 0
    while make_pool(tiny_pool_config(), DATA, out, resume=sittings > 0, watch=Watcher(*stops_everywhere())) is None:
        sittings += 1
    assert sittings == 9
    assert_same_pool(out, whole("linear"))


def stops_everywhere() -> list[tuple[int, int]]:
    return [(group, step) for group in (0, 1) for step in range(1, 6)]


def test_a_crash_costs_one_group_at_most(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    out = tmp_path / "pool.safetensors"

    def crash(progress: PoolProgress) -> None:
        if progress.networks == 2 and progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_pool(tiny_pool_config(), DATA, out, watch=crash)
    watcher = Watcher()
    train_pool(tiny_pool_config(), DATA, out, resume=True, watch=watcher)
    assert len(watcher.seen) == 5
    assert_same_pool(out, whole("linear"))


def test_compiling_or_not_is_no_reason_to_refuse(tmp_path: Path) -> None:
    out = tmp_path / "pool.safetensors"
    assert make_pool(tiny_pool_config(), DATA, out, watch=Watcher((0, 2))) is None
    train_pool(tiny_pool_config(compile="auto"), DATA, out, resume=True)


def test_a_finished_pool_is_not_made_again(tmp_path: Path) -> None:
    out, watcher = tmp_path / "pool.safetensors", Watcher()
    train_pool(tiny_pool_config(), DATA, out)
    before = out.read_bytes()
    pool = train_pool(tiny_pool_config(compile="auto"), DATA, out, resume=True, watch=watcher)
    assert watcher.seen == []
    assert same_tensors(pool.states, open_pool(out).states)
    with pytest.raises(LimbeckError, match="made otherwise"):
        make_pool(tiny_pool_config(steps=6), DATA, out, resume=True)
    with pytest.raises(LimbeckError, match="is there already; .*overwrite=True"):
        make_pool(tiny_pool_config(), DATA, out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pool.safetensors"]
    other = train_pool(tiny_pool_config(seed=1), DATA, out, overwrite=True)
    assert same_tensors(other.states, open_pool(out).states)
    assert out.read_bytes() != before


def test_parts_of_another_pool(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    out = tmp_path / "pool.safetensors"
    assert make_pool(tiny_pool_config(), DATA, out, watch=Watcher((1, 2))) is None
    kept = {path.name: path.read_bytes() for path in (tmp_path / "pool.safetensors.parts").iterdir()}
    with pytest.raises(LimbeckError, match="parts of another pool"):
        make_pool(tiny_pool_config(seed=1), DATA, out, resume=True)
    with pytest.raises(LimbeckError, match="parts of another pool"):
        make_pool(tiny_pool_config(learner="linear,channels=3"), DATA, out, resume=True)
    with pytest.raises(LimbeckError, match="parts of another pool"):
        make_pool(tiny_pool_config(), _other_data(), out, resume=True)
    with pytest.raises(LimbeckError, match="unfinished pool; go on with resume=True"):
        make_pool(tiny_pool_config(), DATA, out)
    assert {path.name: path.read_bytes() for path in (tmp_path / "pool.safetensors.parts").iterdir()} == kept
    watcher = Watcher()
    train_pool(tiny_pool_config(), DATA, out, overwrite=True, watch=watcher)
    assert len(watcher.seen) == 10
    assert_same_pool(out, whole("linear"))


def _other_data() -> Any:
    from limbeck.data import load

    return load((DATA.train_x, DATA.train_y), val_size=10)


def test_a_pool_that_is_replaced_goes_on_when_it_is_stopped(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    out = tmp_path / "pool.safetensors"
    train_pool(tiny_pool_config(seed=1), DATA, out)
    before = out.read_bytes()
    assert make_pool(tiny_pool_config(), DATA, out, overwrite=True, watch=Watcher((1, 2))) is None
    assert out.read_bytes() == before  # until the new one is there
    with pytest.raises(LimbeckError, match="unfinished pool; go on with resume=True"):
        make_pool(tiny_pool_config(), DATA, out)
    watcher = Watcher()
    train_pool(tiny_pool_config(), DATA, out, resume=True, watch=watcher)
    assert len(watcher.seen) == 3
    assert_same_pool(out, whole("linear"))


@pytest.mark.parametrize("kept", ["all", "mark gone", "mark and a part gone"])
def test_a_kill_between_the_pool_and_its_parts(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, parts = tmp_path / "pool.safetensors", tmp_path / "pool.safetensors.parts"

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("limbeck.pools.parts.shutil.rmtree", killed)
        if kept == "all":
            patch.setattr(
                "limbeck.pools.parts.Parts.remove", lambda self: killed(self.folder) if out.is_file() else None
            )
        train_pool(tiny_pool_config(), DATA, out)
    assert (parts / "pool.json").is_file() == (kept == "all")
    if kept == "mark and a part gone":
        (parts / "00000.safetensors").unlink()
    before, watcher = open_pool(out), Watcher()
    after = train_pool(tiny_pool_config(), DATA, out, resume=True, watch=watcher)
    assert watcher.seen == []
    assert same_tensors(before.states, after.states)
    assert [path.name for path in tmp_path.iterdir()] == ["pool.safetensors"]


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_in_the_way_is_left_alone(options: dict[str, bool], tmp_path: Path) -> None:
    out, folder = tmp_path / "pool.safetensors", tmp_path / "pool.safetensors.parts"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(LimbeckError, match="holds no parts of a pool; move it away"):
        make_pool(tiny_pool_config(), DATA, out, **options)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_parts_without_a_mark_are_not_taken_over(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    out = tmp_path / "pool.safetensors"
    assert make_pool(tiny_pool_config(seed=1), DATA, out, watch=Watcher((1, 2))) is None
    (tmp_path / "pool.safetensors.parts" / "pool.json").unlink()
    with pytest.raises(LimbeckError, match="not begun yet"):
        make_pool(tiny_pool_config(), DATA, out, resume=True)
    train_pool(tiny_pool_config(), DATA, out)
    assert_same_pool(out, whole("linear"))


def test_parts_whose_mark_does_not_name_the_split_are_gone_on_with(
    tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    out = tmp_path / "pool.safetensors"
    assert make_pool(tiny_pool_config(), DATA, out, watch=Watcher((1, 2))) is None
    mark = tmp_path / "pool.safetensors.parts" / "pool.json"
    write_json(mark, {name: value for name, value in read_json(mark).items() if name != "split_seed"})
    train_pool(tiny_pool_config(), DATA, out, resume=True)
    assert_same_pool(out, whole("linear"))


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="was not begun yet; begin it without resume=True"):
        make_pool(tiny_pool_config(), DATA, tmp_path / "pool.safetensors", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_pool_that_goes_on_otherwise_says_so(tmp_path: Path) -> None:
    out, threads = tmp_path / "pool.safetensors", torch.get_num_threads()
    told: list[str] = []
    assert make_pool(tiny_pool_config(), DATA, out, watch=Watcher((0, 2)), tell=told.append) is None
    assert read_threads(out) == threads
    try:
        torch.set_num_threads(threads + 1)
        assert make_pool(tiny_pool_config(), DATA, out, resume=True, watch=Watcher((1, 2)), tell=told.append) is None
    finally:
        torch.set_num_threads(threads)
    assert len(told) == 1
    assert f"begun with {threads} thread(s) eager and goes on with {threads + 1}" in told[0]
    train_pool(tiny_pool_config(), DATA, out, resume=True, tell=told.append)
    assert sum("goes on" in text for text in told) == 1
    assert read_threads(out) is None


def test_another_split_makes_another_pool(tmp_path: Path) -> None:
    out = tmp_path / "pool.safetensors"
    train_pool(tiny_pool_config(), DATA, out)
    with pytest.raises(LimbeckError, match="made otherwise"):
        make_pool(tiny_pool_config(), replace(DATA, split_seed=3), out, resume=True)


@pytest.mark.parametrize("part", ["00000.safetensors", "unfinished.safetensors", "pool.json"])
def test_parts_that_are_damaged(part: str, tmp_path: Path) -> None:
    out = tmp_path / "pool.safetensors"
    assert make_pool(tiny_pool_config(), DATA, out, watch=Watcher((1, 2))) is None
    path = tmp_path / "pool.safetensors.parts" / part
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(LimbeckError, match="damaged"):
        make_pool(tiny_pool_config(), DATA, out, resume=True)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({}, "pool.pt", "ends in .safetensors"),
        ({"learner": "lenett"}, "pool.safetensors", "did you mean 'lenet'"),
        ({"learner": "alexcifarnet,depth=2"}, "pool.safetensors", "depth"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(changes: dict[str, Any], name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=says):
        make_pool(tiny_pool_config(**changes), DATA, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        *(({name: 0}, f"{name} is 0") for name in ("n", "steps", "batch", "val_size", "group")),
        *(({"lr": value}, "lr is") for value in (0.0, -1.0, math.nan, math.inf)),
        *(({"weight_decay": value}, "weight_decay is") for value in (-0.1, math.nan, math.inf)),
        ({"distribution": "xaver"}, "did you mean 'xavier'"),
        ({"compile": "offf"}, "did you mean 'off'"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        PoolConfig(**changes)


# --- the command line ------------------------------------------------------------------------------------------------


WORDS = ["--learner", "linear", "--n", "3", "--steps", "5", "--batch", "8", "--group", "2", "--val-size", "40"]


def test_make_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = rows_file(tmp_path / "data"), tmp_path / "pool.safetensors"
    assert run_in_process(["pool", "make", str(file), *WORDS, "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert (values["path"], values["n"]) == (str(out), 3)
    assert values["data"]["name"] == "rows"
    assert values["data"]["source"] == str(file)
    assert values["config"]["learner"] == "linear"
    assert "3 of 3 networks" in captured.err
    assert run_in_process(["pool", "show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == values
    assert run_in_process(["pool", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "3 x linear" in shown
    assert "5 steps of 8" in shown


def test_a_pool_without_a_place_is_called_after_data_and_learner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rows_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--learner", DROPOUT, "--n", "1"]
    for source in (str(file), f"{file},rotate=45.5"):
        assert run_in_process(["pool", "make", source, *words]) == 0
        assert "worst" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "runs" / "pools").iterdir()} == {
        "rows-tiny_pools.dropout_net.safetensors",
        "rows,rotate=45.5-tiny_pools.dropout_net.safetensors",
    }


@contextmanager
def _stopped() -> Iterator[Stop]:
    yield Stop(requested=True)


def test_ctrl_c_exits_with_130_and_resume_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = rows_file(tmp_path / "data"), tmp_path / "pool.safetensors"
    words = ["pool", "make", str(file), *WORDS, "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.pools.train.interruptible", _stopped)
        assert run_in_process([*words, "--out", str(out)]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--resume" in captured.err
    assert not out.exists()
    assert run_in_process([*words, "--out", str(out)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run_in_process([*words, "--out", str(out), "--resume"]) == 0
    assert run_in_process([*words, "--out", str(tmp_path / "other.safetensors")]) == 0
    assert_same_pool(out, tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["make", "nowhere.npz"], "nowhere.npz"),
        (["make", "mnits"], "did you mean 'mnist'"),
        (["make", "rows.npz", "--n", "0"], "n is 0"),
        (["make", "rows.npz", "--lr", "0"], "lr is 0"),
        (["make", "rows.npz", "--learner", "lenett"], "did you mean 'lenet'"),
        (["make", "rows.npz", "--out", "pool.pt"], ".safetensors"),
        (["make", "rows.npz", "--device", "warp"], "device 'warp' cannot be used here"),
        (["make", "rows.npz", "--resume"], "not begun yet"),
        (["make", "rows.npz", "--resume", "--overwrite"], "give one of them"),
        (["show", "nowhere.safetensors"], "no pool at nowhere.safetensors"),
        (["show", "nowhere.safetensors", "--lr", "0.1"], "settings of training do nothing with 'limbeck pool show'"),
        (["show", "nowhere.safetensors", "--overwrite"], "option --overwrite does nothing"),
        (["show", "rows.npz"], "rows.npz is damaged"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_in_process(["pool", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("limbeck: ") == 1
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npz"]


def test_networks_of_a_pool_as_modules(tmp_path: Path) -> None:
    """What the pool's card says of a network is what a module with its weights does, statistics included."""
    pool = train_pool(tiny_pool_config(learner=BATCH_NORM, steps=12), DATA, tmp_path / "pool.safetensors")
    states: Tensors = pool.states
    for b, accuracy in enumerate(pool.card["test_accuracy"]):
        module = network(tiny_pools.batch_norm_net((1, 8, 8), 3), states, b).eval()
        right = module(DATA.preprocessing.apply(DATA.test_x)).argmax(1) == DATA.test_y
        assert accuracy == pytest.approx(100 * right.double().mean().item())


def test_networks_of_a_class_in_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Cell(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.linear = nn.Linear(DATA.train_x[0].numel(), num_classes)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            logits: Tensor = self.linear(x_NCHW.flatten(1))
            return logits

    out = tmp_path / "pool.safetensors"
    pool = make_pool(tiny_pool_config(), DATA, out, learner=Cell, progress=True)
    assert pool is not None and set(pool.states) == {"linear.weight", "linear.bias"}
    assert pool.card["config"]["learner"] == "<Cell given in Python>"
    assert "3 of 3 networks are trained" in capsys.readouterr().err
    with pytest.raises(LimbeckError, match="pass it \\(learner=Cell\\)"):
        make_pool(tiny_pool_config(learner="<Cell given in Python>"), DATA, tmp_path / "other.safetensors")
    make_pool(tiny_pool_config(), (DATA.train_x, DATA.train_y), tmp_path / "pair.safetensors")
    assert capsys.readouterr().err == ""
