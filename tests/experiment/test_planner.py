"""How a run is computed: the rules, the measurement that is remembered, and what a person is told."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import Recorder, random_set, tiny_config, tiny_data
from torch import Tensor, nn

from limbeck.common.provenance import versions
from limbeck.engine import Execution, Learner, Momentum, Unroll
from limbeck.errors import LimbeckError
from limbeck.experiment import compilers, measured, planner
from limbeck.experiment.compilers import cache_dir
from limbeck.experiment.console import ConsoleReporter
from limbeck.experiment.measured import REAL_BATCHES, fastest_real_batch, remember
from limbeck.experiment.parts import EngineConfig
from limbeck.experiment.planner import Work, estimate_memory, plan_distilling, plan_work
from limbeck.experiment.progress import Progress, Silent
from limbeck.models import build
from limbeck.outer.loop import distill

DATA = tiny_data()
LINEAR = Learner.of(build("linear", shape=(1, 8, 8), num_classes=3))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: what this machine has measured stays as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "untouched")
    return tmp_path


def choose(learner: Learner = LINEAR, reporter: Recorder | None = None, **changes: Any) -> Execution:
    outer = {name: changes.pop(name) for name in ("iterations", "inits", "adjoint") if name in changes}
    settings = {"compile": "off", "bfloat16": "off"} | changes
    return plan_distilling(
        tiny_config(engine=EngineConfig(**settings), **outer), [learner], DATA, reporter or Recorder()
    ).execution


# --- rules -----------------------------------------------------------------------------------------------------------


def test_small_networks_are_batched_and_large_ones_are_not() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Parameter(torch.zeros(64, 3_000_000, device="meta"))

        def forward(self, x_NCHW: Tensor) -> Tensor:
            return (x_NCHW.flatten(1).to("meta") @ self.wide)[:, :3]

    assert choose(inits=3).chunk == 3
    assert choose(inits=64).chunk == 16
    large = Learner.of(Large())
    assert choose(large, inits=3).chunk == 1  # 2 · 3 · 64 · 3e6 = 1.2e9 operations for the 3 images of a step
    assert choose(large, inits=3, chunk=2).chunk == 2
    assert choose(inits=64, chunk=5).chunk == 5


def test_settings_reach_the_execution() -> None:
    chosen = choose(mode="forward-over-reverse")
    assert chosen == Execution(mode="forward-over-reverse", compiled=False, chunk=3)
    forced = choose(bfloat16="on")
    assert (forced.bfloat16, forced.channels_last) == (True, True)


def test_it_compiles_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "compiler_missing", lambda device: None)
    # 4 inner steps and a real batch worth 10, for each of 3 inits: 20,000 are planned from 477 iterations on
    assert not choose(compile="auto", iterations=476).compiled
    reporter = Recorder()
    assert choose(compile="auto", iterations=477, reporter=reporter).compiled
    assert "compiling" in reporter.messages[0]
    assert not choose(compile="auto", iterations=10**6, adjoint=Unroll()).compiled
    assert not choose(compile="off", iterations=10**6).compiled
    assert choose(compile="on", iterations=1).compiled


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert not choose(compile="auto", iterations=10**6).compiled
    with pytest.raises(LimbeckError, match=r"--compile on needs a C\+\+ compiler.*leave that option out"):
        choose(compile="on")


def test_the_compiler_of_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mycc"
    own.write_text("")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", str(own))
    assert choose(compile="on").compiled


def test_compiled_kernels_are_kept_in_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers.use_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "untouched"  # the user's choice wins
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    compilers.use_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(home / ".cache" / "limbeck" / "compiled")


# --- the measurement -------------------------------------------------------------------------------------------------


def test_a_measurement_is_made_once() -> None:
    calls: list[int] = []

    def measure() -> int:
        calls.append(1)
        return 2

    assert [remember("a", measure) for _ in range(3)] == [2, 2, 2]
    assert len(calls) == 1
    assert remember("b", measure) == 2
    assert len(calls) == 2
    assert len(json.loads((cache_dir() / "measured.json").read_text())) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[[1]]", '"x"'])
def test_a_damaged_memory_is_replaced(text: str) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "measured.json").write_text(text)
    assert remember("a", lambda: 1) == 1
    assert list(json.loads((cache_dir() / "measured.json").read_text()).values()) == [1]


def test_a_home_that_cannot_be_written_costs_only_the_measurement(home: Path) -> None:
    (home / ".cache").write_text("a file in the way")
    assert [remember("a", lambda: 1) for _ in range(2)] == [1, 1]


def test_auto_takes_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for winner, expected in enumerate(REAL_BATCHES):
        keys: list[str] = []

        def known(key: str, measure: Any, winner: int = winner, keys: list[str] = keys) -> int:
            keys.append(key)
            return winner

        monkeypatch.setattr(planner, "remember", known)
        chosen = choose(bfloat16="auto")
        assert {"bfloat16": chosen.bfloat16, "channels_last": chosen.channels_last} == expected
        assert len(keys) == 1
    keys.clear()
    choose(bfloat16="off")
    assert keys == []


def test_the_measurement_itself_is_repeatable_by_memory(home: Path) -> None:
    first = choose(bfloat16="auto")
    assert (home / ".cache" / "limbeck" / "measured.json").is_file()
    assert choose(bfloat16="auto") == first


def test_a_wrong_gradient_never_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it is; and a right one must be faster by 15 %."""

    def winner(seconds: tuple[float, ...], error: tuple[float, ...]) -> int:
        kinds = iter(range(3))
        times: list[float] = []
        for value in seconds:
            for _ in range(4):
                start = times[-1] if times else 0.0
                times += [start, start + value]
        clock = iter(times)
        monkeypatch.setattr("limbeck.experiment.measured.time", SimpleNamespace(perf_counter=lambda: next(clock)))

        class Fake:
            def __init__(self, *args: Any) -> None:
                self.error = error[next(kinds)]

            def init(self, params: Any) -> Any:
                return params

            def terminal(self, *args: Any) -> Any:
                return torch.zeros(1), ({"w": torch.full((4,), 1.0 + self.error)}, {})

        monkeypatch.setattr(measured, "Kernels", Fake)
        return fastest_real_batch(Execution(chunk=1), LINEAR, DATA, 8)

    assert winner((1.0, 0.5, 0.25), (0, 0, 0)) == 2
    assert winner((1.0, 0.5, 0.25), (0, 0, 0.05)) == 1
    assert winner((1.0, 0.5, 0.25), (0, 0, float("nan"))) == 1
    assert winner((1.0, 0.9, 0.88), (0, 0, 0)) == 0
    assert winner((1.0, 0.5, 0.6), (0, 0, 0)) == 1


def test_the_choice_is_recorded_and_kept_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(engine=EngineConfig(compile="off", bfloat16="auto"))
    monkeypatch.setattr(planner, "remember", lambda key, measure: 1)
    distill(config, DATA, out=tmp_path / "run", reporter=Recorder(4))
    monkeypatch.setattr(planner, "remember", lambda key, measure: 0)  # as on another machine
    resumed = distill(config, DATA, out=tmp_path / "run", resume=True)
    assert resumed.info["execution"]["channels_last"] is True


def test_versions() -> None:
    found = versions("cpu")
    assert found["torch"] == torch.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", found["python"])
    assert found["threads"] == torch.get_num_threads()
    assert found["device"]
    assert found["limbeck"]


def test_versions_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("limbeck.common.provenance.version", missing)
    assert versions("cpu")["limbeck"] == "unknown"


# --- what a person is told -------------------------------------------------------------------------------------------


def told(terminal: bool = False, **changes: Any) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    distill(tiny_config(**changes), DATA, reporter=ConsoleReporter(console))
    return text.getvalue()


def test_the_console_tells_of_progress() -> None:
    lines = told().splitlines()
    assert "4 inner steps" in lines[0]
    assert "(eager)" in lines[0]
    assert "iteration 1  loss" in lines[1]
    assert [line.split("iteration ")[1].split()[0] for line in lines[1:-1]] == ["1", "3", "6", "7"]
    assert all("val " in line and "worst" in line and "ETA" in line for line in lines[2:-1])
    assert "done: 7 iterations" in lines[-1]
    assert "best validation accuracy" in lines[-1]


def test_a_budget_of_time_that_ends_first_is_said() -> None:
    last = told(iterations=10**6, max_time=0.3, validate_every=10**6).splitlines()[-1]
    assert "time is up before 1000000 iterations: " in last
    assert "done" not in last


def test_one_init_has_no_spread() -> None:
    text = told(init="fixed")
    assert "val " in text
    assert "±" not in text


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    text = told(terminal=True)
    assert "done: 7 iterations" in text
    assert "\x1b[" in text


def test_a_non_finite_loss_can_be_shown() -> None:
    text = io.StringIO()
    reporter = ConsoleReporter(Console(file=text, width=200))
    progress = Progress(iteration=1)
    reporter.update({"iteration": 1, "loss": None}, progress, 0.1)
    assert "loss nan" in text.getvalue()
    reporter.finish(progress, interrupted=True)
    assert "go on with --resume" in text.getvalue()
    assert "-1" not in text.getvalue()


def test_the_estimate_counts_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("limbeck.experiment.console.time", SimpleNamespace(monotonic=lambda: now[0]))
    text = io.StringIO()
    reporter = ConsoleReporter(Console(file=text, width=200))
    for seconds, spent in ((50.0, 0.1), (90.0, 0.3)):  # the first took long: it compiled
        now[0] = seconds
        record = {"iteration": 1, "loss": 1.0, "val_mean": 50.0, "val_std": None, "val_worst": 50.0}
        reporter.update(record, Progress(iteration=1), spent)
    assert "ETA --" in text.getvalue().splitlines()[0]
    assert "ETA 2:20" in text.getvalue().splitlines()[1]  # 40 s for 0.2, so 140 s for 0.7


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    distill(tiny_config(iterations=2), DATA, reporter=Silent())
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert random_set().info["finished"] is True


# --- work of every kind ----------------------------------------------------------------------------------------------


def work(learner: str = "lenet", **changes: Any) -> Work:
    shape = (1, 28, 28)
    module = build(learner, shape=shape, num_classes=10)
    return Work(**({"learner": Learner.of(module), "image_shape": shape, "networks": 40, "images": 10} | changes))


def test_convolutional_networks_are_scored_one_after_the_other_on_a_processor() -> None:
    assert plan_work(work("lenet"), compile="off").execution.score_chunk == 1
    assert plan_work(work("convnet3,width=4"), compile="off").execution.score_chunk == 1
    assert plan_work(work("mlp"), compile="off").execution.score_chunk is None


def test_eager_steps_on_many_images_are_taken_one_network_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "compiler_missing", lambda device: None)
    chunks = {images: plan_work(work(images=images), compile="off").execution.chunk for images in (10, 16, 17)}
    assert chunks == {10: 16, 16: 16, 17: 1}
    assert plan_work(work(images=17), compile="on").execution.chunk == 16
    assert plan_work(work(images=17, differentiated=True), compile="off").execution.chunk == 16
    assert plan_work(work(networks=3), compile="off").execution.chunk == 3
    assert plan_work(work(), compile="off", most=10).execution.chunk == 10
    assert plan_work(work(), compile="off", at_once=25).execution.chunk == 25


def test_compiling_pays_for_many_steps_or_much_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "compiler_missing", lambda device: None)
    assert not plan_work(work(steps=19_999)).execution.compiled
    assert plan_work(work(steps=20_000)).execution.compiled
    assert not plan_work(work(scored=10_000)).execution.compiled
    assert plan_work(work(scored=200 * 10_000)).execution.compiled
    assert not plan_work(work(steps=10**9), compilable=False).execution.compiled
    monkeypatch.setattr(planner, "compiler_missing", lambda device: "a C++ compiler")
    assert not plan_work(work(steps=10**9)).execution.compiled
    with pytest.raises(LimbeckError, match="compiled=true needs a C.. compiler"):
        plan_work(work(), compile="on", option="compiled=true")


def test_memory_is_that_of_states_and_of_what_autograd_keeps() -> None:
    """An mlp of one hidden layer of 3 on 4 pixels: 15 + 8 numbers; autograd keeps inputs, hidden and logits."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))
    bare = Work(learner=Learner.of(module), image_shape=(1, 2, 2), networks=5, images=7, stored=11)
    states = 5 * (11 + 2) * 23 * 4
    assert estimate_memory(bare, 1) == states + 7 * (4 + 3) * 4
    assert estimate_memory(bare, 2) == states + 2 * 7 * (4 + 3) * 4
    assert estimate_memory(replace(bare, differentiated=True), 1) == states + 3 * 7 * (4 + 3) * 4
    momentum = replace(bare, learner=Learner.of(module, Momentum()))
    assert estimate_memory(momentum, 1) == 2 * states + 7 * (4 + 3) * 4


def test_too_little_memory_is_told_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Recorder()
    choose(reporter=reporter)
    assert not reporter.messages
    monkeypatch.setattr(planner, "free_memory", lambda device: 1000)
    choose(reporter=reporter)
    assert "GiB of memory, and 0.0 are free: fewer --inits" in reporter.messages[0]
