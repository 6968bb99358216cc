"""The same search wherever it is executed, and workers that are lost."""

from __future__ import annotations

import gc
import importlib
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_search import Toy, Worth, scored, toy_task, workers_of

from limbeck.errors import LimbeckError
from limbeck.nas import SearchConfig, SearchPlace, SearchResult, SearchWorkers, Task, search
from limbeck.nas.searches.clusters import connect
from limbeck.nas.searches.workers import InProcess, Job, ProcessPool, measure_size, perform, pickle_work, unpickle_work

pytest.importorskip("optuna")

CONFIG = SearchConfig(budget=18, batch=6)


def table(result: SearchResult) -> list[tuple[Any, ...]]:
    """All of the trials but times."""
    return [(t.slot, t.arch, t.score, t.scores, t.parameters, t.flops, t.failure) for t in result.trials]


@pytest.fixture(scope="module")
def alone() -> SearchResult:
    """The search by one worker: this process."""
    return search(toy_task(), Worth(), CONFIG)


@contextmanager
def killer(log: Path, kills: int) -> Iterator[list[int]]:
    """While this lasts processes that score are killed at random, so many in all."""
    killed: list[int] = []
    over = threading.Event()
    rng = random.Random(0)

    def kill() -> None:
        while not over.is_set() and len(killed) < kills:
            time.sleep(0.05)
            alive = sorted(workers_of(log) - set(killed) - {os.getpid()})
            if alive and len(scored(log)) > 4 * (len(killed) + 1):
                killed.append(rng.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


# --- one job ---------------------------------------------------------------------------------------------------------


def test_a_size_is_counted() -> None:
    outcome = measure_size(Toy(), Job(slot=3, arch=("2", "1", "relu")))
    assert outcome.parameters == 17 * 2 + 3 * 2 + 3 * 3
    assert outcome.flops == 2 * (16 * 2 + 2 * 2 + 2 * 3)
    assert (outcome.slot, outcome.score, outcome.failure) == (3, None, None)


@pytest.mark.parametrize(
    ("space", "arch", "said"),
    [
        (Toy(), ("9", "1", "relu"), "width is '9'"),
        (Toy(broken="all"), ("1", "1", "relu"), "too much for images"),
        (Toy(shape=(1, 5, 5)), ("1", "1", "relu"), "RuntimeError: mat1 and mat2"),
    ],
)
def test_what_cannot_be_built_is_an_outcome(space: Toy, arch: tuple[str, ...], said: str) -> None:
    assert said in (measure_size(space, Job(slot=0, arch=arch)).failure or "")


def test_a_job_tells_score_and_time() -> None:
    task = toy_task()
    outcome = perform((task, (Worth(seconds=0.05).prepare(task),)), Job(slot=3, arch=("2", "1", "relu")))
    assert (outcome.slot, outcome.rung, outcome.failure) == (3, 0, None)
    assert 0.05 <= outcome.seconds < 5
    assert outcome.score is not None


@pytest.mark.parametrize(
    ("proxy", "arch", "said"),
    [
        (Worth(), ("9", "1", "relu"), "width is '9'"),
        (Worth(wrong="1-1-relu"), ("1", "1", "relu"), "its score is nan"),
        (Worth(log="/no/such/folder"), ("1", "1", "relu"), "FileNotFoundError: "),
    ],
)
def test_whatever_fails_is_an_outcome(proxy: Worth, arch: tuple[str, ...], said: str) -> None:
    task = toy_task()
    outcome = perform((task, (proxy.prepare(task),)), Job(slot=0, arch=arch))
    assert outcome.score is None
    assert said in (outcome.failure or "")


def test_this_process_scores_with_one_thread_and_keeps_its_own() -> None:
    task, before = toy_task(), torch.get_num_threads()

    class Threads(Worth):
        def score(self, task: Task, arch: tuple[str, ...]) -> float:
            return torch.get_num_threads()

    try:
        torch.set_num_threads(2)
        (outcome,) = InProcess((task, (Threads(),))).run([Job(slot=0, arch=("1", "1", "relu"))], lambda: False)  # type: ignore[arg-type]
        assert outcome.score == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# --- a pool of processes ---------------------------------------------------------------------------------------------


def test_two_processes_find_the_same_and_survive_the_loss_of_one(alone: SearchResult, tmp_path: Path) -> None:
    with killer(tmp_path, 1) as killed:
        result = search(toy_task(), Worth(log=str(tmp_path), seconds=0.05), CONFIG, workers=SearchWorkers(number=2))
    assert len(killed) == 1
    assert table(result) == table(alone)
    assert len(workers_of(tmp_path)) > 2  # others took over
    assert set(scored(tmp_path)) == {t.text for t in alone.trials}
    assert os.getpid() not in workers_of(tmp_path)


def test_an_architecture_that_kills_every_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.nas.searches.workers.RETRIES", 1)
    task = toy_task()
    proxy = Worth(log=str(tmp_path), deadly=("4-3-tanh",))
    jobs = [Job(slot=n, arch=("1", "1", act)) for n, act in enumerate(("relu", "tanh"))]
    jobs.insert(1, Job(slot=2, arch=("4", "3", "tanh")))
    outcomes = []
    with (
        ProcessPool((task, (proxy.prepare(task),)), 1) as pool,
        pytest.raises(LimbeckError, match=r"died 2 times in a row, the last while scoring 4, 3, tanh"),
    ):
        for outcome in pool.run(jobs, lambda: False):
            outcomes.append(outcome.slot)
    assert outcomes == [0]  # what was finished came before
    assert scored(tmp_path).count("4-3-tanh") == 2


def test_nothing_new_is_begun_once_stopped() -> None:
    task = toy_task()
    with ProcessPool((task, (Worth().prepare(task),)), 1) as pool:
        assert list(pool.run([Job(slot=0, arch=("1", "1", "relu"))], lambda: True)) == []


def test_what_cannot_be_sent_is_named() -> None:
    task = toy_task()

    class Local(Toy):
        pass

    with pytest.raises(LimbeckError, match="define its classes at the top of a module"):
        ProcessPool((Task(space=Local(), data=task.data), ()), 1)


# --- Ray -------------------------------------------------------------------------------------------------------------


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[ray\]'"):
        search(toy_task(), Worth(), CONFIG, workers=SearchWorkers(ray="local"))


def test_modules_are_found_where_they_were_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "space_of_ones_own.py").write_text("class Mine:\n    pass\n")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.syspath_prepend(tmp_path)
        module = importlib.import_module("space_of_ones_own")
        sent = pickle_work((module.Mine(), ()))  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "space_of_ones_own")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    assert type(unpickle_work(sent)[0]).__module__ == "space_of_ones_own"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("address", ["nonsense", "host:99999", "PORT", "no-such-host.invalid:6379"])
def test_no_cluster_is_an_error_at_once(address: str) -> None:
    pytest.importorskip("ray")
    begun = time.monotonic()
    address = address.replace("PORT", f"127.0.0.1:{free_port()}")
    with pytest.raises(LimbeckError, match=r"ray is|No Ray cluster answers at"), connect(address, 1):
        pass
    assert time.monotonic() - begun < 30


def forget_ended_processes() -> None:
    """Ray leaves processes that it has ended to the garbage collector, which warns of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs on this machine."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("RAY_agent_register_timeout_ms", "120000")
        stack.callback(forget_ended_processes)
        for attempt in range(3):  # it gives itself half a minute, which is too short on a busy machine
            try:
                stack.enter_context(connect("local", 2))
                break
            except LimbeckError:
                if attempt == 2:
                    raise
        yield


@pytest.mark.slow  # a cluster is started; two processes without one are not slow
class TestRay:
    def test_two_workers_find_the_same_and_survive_the_loss_of_one(
        self, cluster: None, alone: SearchResult, tmp_path: Path
    ) -> None:
        with killer(tmp_path, 2) as killed:
            result = search(
                toy_task(),
                Worth(log=str(tmp_path), seconds=0.1),
                CONFIG,
                place=SearchPlace(out=tmp_path / "out"),
                workers=SearchWorkers(number=2, ray="local"),
            )
        assert len(killed) == 2
        assert table(result) == table(alone)
        assert len(workers_of(tmp_path)) > 2
        assert os.getpid() not in workers_of(tmp_path)

    def test_an_architecture_that_kills_every_worker_is_named(
        self, cluster: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("limbeck.nas.searches.clusters.RETRIES", 1)
        proxy = Worth(deadly=("4-3-relu",))  # the first of the seed
        with pytest.raises(LimbeckError, match="Ray gave up scoring 4, 3, relu"):
            search(toy_task(), proxy, CONFIG, workers=SearchWorkers(ray="local"))

    def test_a_cluster_without_room(self, cluster: None) -> None:
        with pytest.raises(LimbeckError, match=r"3 workers need 3 CPU\(s\), and the Ray cluster has 2"):
            search(toy_task(), Worth(), CONFIG, workers=SearchWorkers(number=3, ray="local"))
        with pytest.raises(LimbeckError, match=r"0.25 GPU\(s\), and the Ray cluster has 0"):
            search(toy_task(), Worth(), CONFIG, workers=SearchWorkers(ray="local", gpus_per_worker=0.25))
