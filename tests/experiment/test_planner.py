"""How a run is computed: the rules, the measurement that is remembered, and what a person is told."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
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
from torch._inductor.runtime import cache_dir_utils

from limbeck.common.files import own_cache
from limbeck.common.provenance import versions
from limbeck.data import load
from limbeck.engine import Adjoint, Execution, Learner, Momentum, Remat, Unroll
from limbeck.errors import LimbeckError
from limbeck.experiment import compilers, measured, planner
from limbeck.experiment.console import ConsoleReporter
from limbeck.experiment.measured import REAL_BATCHES, fastest_real_batch, remember, structure_of
from limbeck.experiment.memory import Line, LiveBytes, Peaks
from limbeck.experiment.parts import EngineConfig
from limbeck.experiment.planner import Plan, Work, estimate_memory, plan_distilling, plan_work
from limbeck.experiment.progress import Progress, Silent
from limbeck.models import build
from limbeck.outer.loop import distill

DATA = tiny_data()


def cache() -> Path:
    """Limbeck's own, which the tests have."""
    folder = own_cache()
    assert folder is not None
    return folder


LINEAR = Learner.of(build("linear", shape=(1, 8, 8), num_classes=3))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: what this machine has measured stays as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "untouched")
    return tmp_path


def choose(learner: Learner = LINEAR, reporter: Recorder | None = None, **changes: Any) -> Execution:
    outer = {name: changes.pop(name) for name in ("iterations", "inits", "adjoint", "max_time") if name in changes}
    settings = {"compile": "off", "bfloat16": "off"} | changes
    return plan_distilling(
        tiny_config(engine=EngineConfig(**settings), **outer), [learner], DATA, reporter or Recorder()
    ).execution


# --- rules -----------------------------------------------------------------------------------------------------------


def test_small_networks_are_batched_and_large_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.experiment.planner.free_memory", lambda device: None)  # whatever this machine has

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


def test_compiling_takes_at_most_half_of_the_time_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "compiler_missing", lambda device: None)
    monkeypatch.setattr(planner, "compiler_broken", lambda device: None)

    def told(max_time: float, learner: Learner = LINEAR, iterations: int = 10**6) -> str:
        reporter = Recorder()
        execution = choose(learner, reporter, compile="auto", iterations=iterations, max_time=max_time)
        (line,) = reporter.messages
        assert execution.compiled == line.startswith("compiling")
        return line

    assert told(60) == "eager because compiling for the first time takes some 75 s, more than half of 60 s"
    assert told(10**4, iterations=3).startswith("eager because 126 training steps are too few")
    assert "because compiling for the first time takes some 75 s, at most half of 150 s" in told(150)
    assert "because compiling from the cache takes some 10 s, at most half of 60 s" in told(60)
    other = Learner.of(build("mlp", shape=(1, 8, 8), num_classes=3))
    assert told(60, other).startswith("eager because compiling for the first time")


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
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)  # nothing is compiled here
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert not choose(compile="auto", iterations=10**6).compiled
    with pytest.raises(LimbeckError, match=r"compile='on' needs a C\+\+ compiler.*leave that option out"):
        choose(compile="on")


def test_the_compiler_of_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)  # nothing is compiled here
    monkeypatch.setenv("CXX", str(wrapper(tmp_path / "mycc", f'exec {shutil.which("g++")} "$@"')))
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        assert compilers.compiler_missing("cpu") is None
    assert choose(compile="on").compiled


def wrapper(path: Path, line: str) -> Path:
    """A script in the place of a compiler."""
    path.write_text(f"#!/bin/sh\necho run >> {path}.log\n{line}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("echo 'no such licence' >&2; exit 1", r"exit status 1 \(no such licence\)"),
        ("sleep 1000", "it does not end within 1 s"),
        ("exit 0", "it writes no file"),
    ],
)
def test_a_compiler_that_does_not_work_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    script = wrapper(tmp_path / "mycc", line)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(compilers, "TRIAL_SECONDS", 1)
    with pytest.warns(UserWarning, match=f"{script} does not compile a trivial function: {reason}.*uncompiled"):
        assert not choose(compile="auto", iterations=10**6).compiled
    reporter = Recorder()
    assert not choose(compile="auto", iterations=10**6, reporter=reporter).compiled  # and no second warning
    assert f"eager: {script} does not compile" in reporter.messages[0]
    with pytest.raises(LimbeckError, match=f"compile='on' needs a compiler that works, but .*{reason}"):
        choose(compile="on")
    assert Path(f"{script}.log").read_text() == "run\n"


def test_compiled_kernels_are_kept_in_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers.use_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "untouched"  # the user's choice wins
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    own = home / ".cache" / "limbeck" / "compiled"
    assert own not in Path(cache_dir_utils.cache_dir()).parents  # torch sets the variable
    assert "TORCHINDUCTOR_CACHE_DIR" in os.environ
    compilers.use_compile_cache()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == own  # a folder for this processor and torch
    assert cache_dir_utils.cache_dir() == os.environ["TORCHINDUCTOR_CACHE_DIR"]


COMPILE = """\
import torch
from limbeck.experiment.compilers import use_compile_cache
torch._inductor.runtime.cache_dir_utils.cache_dir()
use_compile_cache()
torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8))
print(torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"])
"""


@pytest.mark.slow
@pytest.mark.skipif(compilers.compiler_missing("cpu") is not None, reason="no C++ compiler")
def test_a_second_process_starts_from_what_the_first_has_compiled(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    hits = [
        subprocess.run(
            [sys.executable, "-c", "import torch._inductor.runtime.cache_dir_utils\n" + COMPILE],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert hits == ["0\n", "1\n"]
    assert any((cache() / "compiled").rglob("*.so"))


def test_a_user_without_a_home_has_no_cache_and_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    assert own_cache() is None
    compilers.use_compile_cache()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert [remember("a", lambda: 1) for _ in range(2)] == [1, 1]
    config = tiny_config(iterations=1, engine=EngineConfig(compile="auto", bfloat16="auto"))
    assert distill(config, DATA).info["finished"]


def test_a_cache_that_cannot_be_made_is_done_without(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".cache").write_text("a file in the way")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    compilers.use_compile_cache()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


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
    assert len(json.loads((cache() / "measured.json").read_text())) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[[1]]", '"x"'])
def test_a_damaged_memory_is_replaced(text: str) -> None:
    cache().mkdir(parents=True)
    (cache() / "measured.json").write_text(text)
    assert remember("a", lambda: 1) == 1
    assert list(json.loads((cache() / "measured.json").read_text()).values()) == [1]


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


def test_a_way_that_fails_is_out_and_never_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile:
        every = False

        def __init__(self, learner: Learner, objective: Any, execution: Execution) -> None:
            self.fails = execution.bfloat16 or self.every

        def init(self, params: Any) -> Any:
            return params

        def terminal(self, *args: Any) -> Any:
            if self.fails:
                raise ValueError("no such operator")
            return torch.zeros(1), ({"w": torch.ones(4)}, {})

    monkeypatch.setattr(measured, "Kernels", Fragile)
    assert fastest_real_batch(Execution(chunk=1), LINEAR, DATA, 8) in (0, 1)
    monkeypatch.setattr(Fragile, "every", True)
    assert fastest_real_batch(Execution(chunk=1), LINEAR, DATA, 8) == 0


def test_a_long_real_batch_is_run_once_and_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    class Slow:
        def __init__(self, *args: Any) -> None:
            pass

        def init(self, params: Any) -> Any:
            return params

        def terminal(self, *args: Any) -> Any:
            runs.append(1)
            return torch.zeros(1), ({"w": torch.ones(4)}, {})

    clock = iter([0.0, 2.5])
    monkeypatch.setattr(measured, "Kernels", Slow)
    monkeypatch.setattr("limbeck.experiment.measured.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert fastest_real_batch(Execution(chunk=1), LINEAR, DATA, 8) == 0
    assert len(runs) == 1


def test_networks_of_one_name_are_measured_each() -> None:
    def digest(*layers: nn.Module) -> str:
        return structure_of(Learner.of(nn.Sequential(nn.Flatten(), *layers)))

    assert digest(nn.Linear(64, 3)) == digest(nn.Linear(64, 3))
    others = [digest(nn.Linear(64, 3, bias=False)), digest(nn.Linear(64, 3), nn.ReLU()), digest(nn.Linear(65, 3))]
    assert len({digest(nn.Linear(64, 3)), *others}) == 4


def test_a_measurement_is_announced_and_a_short_run_goes_without() -> None:
    reporter = Recorder()
    choose(bfloat16="auto", max_time=60.0, reporter=reporter)
    assert reporter.messages == []
    choose(bfloat16="auto", max_time=600.0, reporter=reporter)
    assert reporter.messages == ["measuring once how a real batch of 16 images runs fastest here"]
    choose(bfloat16="auto", max_time=600.0, reporter=reporter)
    assert len(reporter.messages) == 1


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
    data, *lines = told().splitlines()
    assert "3 classes (0, 1, 2); 72 training" in data
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
    assert "stopped; the work is kept" in text.getvalue()
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


def test_memory_is_that_of_states_and_of_the_costliest_function() -> None:
    """An mlp of one hidden layer of 3 on 4 pixels: 15 + 8 numbers."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))
    bare = Work(learner=Learner.of(module), image_shape=(1, 2, 2), networks=5, images=7, stored=11)
    states = 5 * (11 + 2) * 23 * 4
    pull, real, predict = Peaks(Line(1000, 100), Line(300, 30), Line(20, 10))
    peaks = Peaks(pull, real, predict)
    assert estimate_memory(bare, 1, peaks) == states + 300 + 7 * 30
    assert estimate_memory(bare, 2, peaks) == states + 2 * (300 + 7 * 30)
    pulled = replace(bare, differentiated=True)
    assert estimate_memory(pulled, 1, peaks) == states + 1000 + 7 * 100
    assert estimate_memory(replace(pulled, real=100), 1, peaks) == states + 300 + 100 * 30
    assert estimate_memory(replace(pulled, judged=1000), 2, peaks) == states + 2 * (20 + 1000 * 10)
    assert estimate_memory(replace(pulled, learned=100), 1, peaks) == states + 1000 + 7 * 100 + (10 + 12) * 100
    momentum = replace(bare, learner=Learner.of(module, Momentum()))
    assert estimate_memory(momentum, 1, peaks) == 2 * states + 300 + 7 * 30


@pytest.mark.parametrize(("adjoint", "states"), [(Remat(), 5), (Remat(store_every=2), 4), (Unroll(), 5)])
def test_a_run_holds_the_states_that_its_adjoint_asks_for(adjoint: Adjoint, states: int) -> None:
    config = tiny_config(engine=EngineConfig(compile="off", bfloat16="off"), adjoint=adjoint)  # 4 inner steps
    assert plan_distilling(config, [LINEAR], DATA, Recorder()).work.stored == states


def test_too_little_memory_is_told_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Recorder()
    choose(reporter=reporter)
    assert not reporter.messages
    needed = plan(Recorder()).memory
    monkeypatch.setattr(planner, "free_memory", lambda device: int(needed / 1.4))
    choose(reporter=reporter)
    assert "GiB of memory, and 0.0 are free: fewer --inits" in reporter.messages[0]
    monkeypatch.setattr(planner, "free_memory", lambda device: int(needed / 1.6))
    with pytest.raises(LimbeckError, match=r"may need 0.0 GiB .* would fit"):
        choose()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({"pixels": {"ipc": 10**9}}, r"--ipc \d+ would fit"),
        ({"inits": 10**9}, r"--inits \d+ would fit"),
        ({"pixels": {"steps": 10**9, "epochs": 1}}, r"--steps \d+ would fit"),
        ({"real_batch": 10**9}, r"--real-batch \d+ would fit"),
        ({"source": "generator", "generator": {"batch": 10**9}}, r"--batch \d+ would fit"),
        ({"inits": 10**9, "pixels": {"ipc": 10**9}}, "reduce --inits, --steps, --ipc and --real-batch together"),
    ],
)
def test_sizes_beyond_the_machine_are_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, Any], wanted: str
) -> None:
    monkeypatch.setattr(planner, "free_memory", lambda device: 2**30)
    with pytest.raises(LimbeckError, match="GiB of memory, and 1.0 are free; ") as error:
        distill(tiny_config(**sizes), DATA, out=tmp_path / "run")
    assert re.search(wanted, error.value.with_flags)
    assert not (tmp_path / "run").exists()
    fitting = re.search(r"--(ipc|inits|steps|batch) (\d+) would fit", error.value.with_flags)
    if fitting is not None:  # what it names is accepted
        part = {"ipc": "pixels", "steps": "pixels", "batch": "generator"}.get(fitting[1])
        value = {fitting[1]: int(fitting[2])}
        smaller = sizes | (value if part is None else {part: sizes[part] | value})
        assert plan(Recorder(), **smaller).memory <= 2**30


def plan(reporter: Recorder, learner: Learner = LINEAR, **sizes: Any) -> Plan:
    return plan_distilling(tiny_config(**sizes), [learner], DATA, reporter)


@pytest.mark.parametrize("learner", ["mlp", "lenet", "convnet3,width=8", "convnet3,width=8,norm=running"])
def test_the_estimate_is_what_an_iteration_takes(learner: str) -> None:
    """Within a factor of 1.5: counted as the tensors of an outer iteration and of validation come and go."""
    images, labels = torch.rand(60, 1, 16, 16), torch.arange(60) % 3
    data = load((images, labels), val_size=12)
    module = build(learner, shape=(1, 16, 16), num_classes=3)
    config = tiny_config(iterations=1, inits=2, pixels={"ipc": 3}, real_batch=32, learner=learner)
    estimate = plan_distilling(config, [Learner.of(module)], data, Silent()).memory
    with LiveBytes() as live:
        distill(config, data)
    assert estimate / 1.5 < live.peak < 1.5 * estimate
