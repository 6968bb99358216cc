"""The search: strategies against their definitions, trials that count once, studies that go on, the verb."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import random_set
from tiny_search import Toy, Worth, WorthScorer, scored, toy_task, worth

from limbeck.cli.main import run as limbeck
from limbeck.errors import LimbeckError
from limbeck.nas import (
    Scorer,
    SearchConfig,
    SearchPlace,
    SearchProgress,
    SearchResult,
    SearchWorkers,
    Task,
    Trial,
    read_search,
    read_searches,
    search,
)
from limbeck.nas.proxies.scale import Scale
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost
from limbeck.nas.searches.evolution import evolve
from limbeck.nas.searches.halving import promote
from limbeck.nas.searches.ledger import Ledger
from limbeck.nas.searches.strategies import STRATEGIES
from limbeck.nas.searches.strategy import Question
from limbeck.nas.training import Schedule

optuna = pytest.importorskip("optuna")

SPACE = Toy()


def config(strategy: str = "random", budget: int = 14, **changes: Any) -> SearchConfig:
    own = {"population": 5, "tournament": 3} if strategy == "evolution" else {}
    return SearchConfig(**{"strategy": strategy, "budget": budget, "batch": 4, **own, **changes})


def table(result: SearchResult) -> list[tuple[Any, ...]]:
    """All of the trials but times."""
    return [(t.slot, t.arch, t.text, t.score, t.scores, t.parameters, t.flops, t.failure) for t in result.trials]


# --- strategies ------------------------------------------------------------------------------------------------------


def test_evolution_changes_the_best_of_a_tournament_among_the_young() -> None:
    rng = np.random.default_rng(0)
    old = (("4", "3", "tanh"), 100.0)  # the best of all, but it has died of age
    young = [(("1", "1", "relu"), 1.0), (("2", "2", "relu"), 5.0), (("1", "2", "tanh"), 2.0)]
    parents = [arch for arch, _ in young]
    counts = dict.fromkeys(parents, 0)
    for _ in range(200):
        child = evolve(SPACE, [old, *young], rng, population=3, tournament=2)
        near = [arch for arch in parents if sum(a != b for a, b in zip(arch, child, strict=True)) == 1]
        assert near
        for arch in near:
            counts[arch] += 1
    # With replacement, two draws from three: the best wins 5 in 9, the worst 1 in 9.
    assert counts[parents[1]] > counts[parents[2]] > counts[parents[0]]


def test_a_tournament_of_one_takes_any_parent_and_a_large_one_the_best() -> None:
    rng = np.random.default_rng(0)
    history = [(("1", "1", "relu"), 1.0), (("4", "3", "tanh"), 9.0)]
    for _ in range(30):
        child = evolve(SPACE, history, rng, population=2, tournament=60)
        assert sum(a != b for a, b in zip(("4", "3", "tanh"), child, strict=True)) == 1


def test_evolution_begins_at_random() -> None:
    found = {evolve(SPACE, [], np.random.default_rng(n), population=1, tournament=1) for n in range(60)}
    assert len(found) > 15


@given(st.dictionaries(st.integers(0, 40), st.floats(-5, 5), min_size=1), st.integers(2, 5), st.data())
def test_promoted_are_the_best_part(scores: dict[int, float], reduction: int, data: st.DataObject) -> None:
    slots = data.draw(st.lists(st.sampled_from(sorted(scores)), unique=True))
    chosen = promote(scores, slots, reduction)
    allowed = max(1, len(scores) // reduction)
    assert chosen <= set(slots)
    for slot in slots:
        better = sum(1 for other in scores if (scores[other], -other) > (scores[slot], -slot))
        assert (slot in chosen) == (better < allowed)


def test_random_search_tries_everything_once() -> None:
    result = search(toy_task(), Worth(), config(budget=SPACE.size))
    assert len({t.text for t in result.trials}) >= SPACE.size - 1  # the last draws may give up looking
    assert result.best is not None
    assert result.best.text == "4-3-tanh"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_proposal_knows_earlier_batches_only(strategy: str) -> None:
    result = search(toy_task(), Worth(), config(strategy, budget=12))
    for trial in result.trials:
        base = trial.slot - trial.slot % 4
        history = [(t.arch, t.score) for t in result.trials[:base]]
        mates = [t.arch for t in result.trials[base : trial.slot]]
        question = Question(space=SPACE, seed=0, slot=trial.slot, history=history, mates=mates)
        assert config(strategy).propose(question) == trial.arch


@pytest.mark.parametrize("strategy", ["evolution", "tpe"])
def test_learning_from_scores_beats_not_to(strategy: str) -> None:
    informed, blind = [], []
    for seed in range(3):
        chosen = config(strategy, budget=32)
        late = search(toy_task(seed), Worth(), chosen).trials[16:]
        informed.append(np.mean([worth(t.arch) for t in late]))
        blind.append(np.mean([worth(SPACE.sample(np.random.default_rng(n))) for n in range(200)]))
    assert np.mean(informed) > np.mean(blind) + 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_trials_and_another_gives_others(strategy: str) -> None:
    first, again = (search(toy_task(), Worth(), config(strategy)) for _ in range(2))
    other = search(toy_task(seed=1), Worth(), config(strategy))
    assert table(first) == table(again)
    assert [t.text for t in first.trials] != [t.text for t in other.trials]


# --- halving ---------------------------------------------------------------------------------------------------------


def test_halving_trains_the_better_ones_longer(tmp_path: Path) -> None:
    chosen = config("halving", budget=16, batch=8, reduction=2)
    result = search(toy_task(), Worth(log=str(tmp_path)), chosen)
    rungs = [len(t.scores) for t in result.trials]
    assert sorted(set(rungs)) == [1, 2, 3]
    assert len(scored(tmp_path)) == sum(rungs)
    for rung in (0, 1):
        for batch in (result.trials[:8], result.trials[8:]):
            known = {t.slot: t.scores[rung] for t in result.trials[: batch[-1].slot + 1] if len(t.scores) > rung}
            here = [t.slot for t in batch if len(t.scores) > rung]
            assert {t.slot for t in batch if len(t.scores) > rung + 1} == promote(known, here, 2)
    assert all((t.score is None) == (len(t.scores) < 3) for t in result.trials)
    assert result.best is not None
    assert result.best.score == max(t.scores[-1] for t in result.trials if len(t.scores) == 3)


def test_fidelity_is_a_part_of_the_steps() -> None:
    steps = RealData(schedule=Schedule(steps=90)).at(1 / 9)
    seconds = RealData(schedule=Schedule(steps=None, seconds=3.0)).at(1 / 3)
    assert isinstance(steps, RealData)
    assert isinstance(seconds, RealData)
    assert (steps.schedule.steps, seconds.schedule.seconds) == (10, 1.0)
    assert config("halving").fractions == pytest.approx((1 / 9, 1 / 3, 1))
    assert config("random").fractions == (1,)


# --- one count for every trial ---------------------------------------------------------------------------------------


def test_equal_architectures_are_scored_once(tmp_path: Path) -> None:
    result = search(toy_task(), Worth(log=str(tmp_path)), config("evolution", budget=24))
    texts = [t.text for t in result.trials]
    assert len(set(texts)) < len(texts)  # evolution comes back to what it knows
    assert scored(tmp_path) == sorted(set(texts))
    by_text = {t.text: t for t in reversed(result.trials)}
    for trial in result.trials:
        assert trial.score == by_text[trial.text].score
        assert (trial.seconds == 0) == (trial is not by_text[trial.text])
    assert len({t.text for t in result.top(5)}) == 5


def test_every_trial_is_in_the_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    result = search(toy_task(), Worth(), config(budget=3), place=SearchPlace(storage=storage, study="mine"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name="mine", storage=storage)
    assert study.best_value == result.best.score  # type: ignore[union-attr]
    for trial, kept in zip(result.trials, study.trials, strict=True):
        assert kept.params == dict(zip(SPACE.choices, trial.arch, strict=True))
        assert kept.user_attrs["arch"] == trial.text
        assert kept.user_attrs["parameters"] == trial.parameters == SPACE.parameters(trial.arch)
        assert kept.user_attrs["flops"] == trial.flops == SPACE.flops(trial.arch)
        assert kept.user_attrs["seconds"] == trial.seconds > 0
        assert kept.value == trial.score
    assert table(read_search(storage)) == table(result)


def test_a_failed_architecture_does_not_stop_the_search() -> None:
    result = search(toy_task(broken="some"), Worth(wrong="3-3-tanh"), config(budget=22))
    failed = {t.text: t.failure for t in result.failed}
    assert failed.pop("3-3-tanh") == "its score is nan"
    assert failed
    assert all(text.startswith("4-") and "too much" in (why or "") for text, why in failed.items())
    assert all(t.score is not None for t in result.trials if not t.text.startswith("4-") and t.text != "3-3-tanh")


def test_if_all_fail_that_is_an_error() -> None:
    with pytest.raises(LimbeckError, match="All 5 trials failed; the first because: width . is too much"):
        search(toy_task(broken="all"), Worth(), config(budget=5))


def test_if_all_fail_that_were_not_given_up_the_reason_is_theirs() -> None:
    class Failing(WorthScorer):
        def score(self, task: Task, arch: tuple[str, ...]) -> float:
            return float("nan") if self.config.fraction == 1 else super().score(task, arch)

    class FailsAtTheEnd(Worth):
        def prepare(self, task: Task, tell: object = None) -> Scorer:
            return Failing(self)

    chosen = config("halving", budget=8, batch=8, rungs=2, reduction=4)
    assert len(search(toy_task(1), Worth(), chosen).trials[0].scores) == 1  # it is given up
    with pytest.raises(LimbeckError, match="All 2 trials that were not given up failed; the first because: its score"):
        search(toy_task(1), FailsAtTheEnd(), chosen)


def test_a_shortened_proxy_is_still_the_same() -> None:
    assert Worth(wrong="a", deadly=("b",)).at(0.5) == Worth(wrong="a", deadly=("b",), fraction=0.5)


# --- going on --------------------------------------------------------------------------------------------------------


class Interrupt:
    """Sends Ctrl-C once so many trials are over."""

    def __init__(self, after: int) -> None:
        self._after = after

    def __call__(self, progress: SearchProgress) -> None:
        if progress.done == self._after:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("after", [1, 6])
def test_after_ctrl_c_a_search_goes_on_as_if_nothing_had_been(strategy: str, after: int, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    log.mkdir()
    whole = search(toy_task(), Worth(), config(strategy))
    # The log must not be a setting: the proxies' representations are compared.
    proxy = Worth(log=str(log))
    stopped = search(toy_task(), proxy, config(strategy), watch=Interrupt(after), place=SearchPlace(out=out))
    assert not stopped.finished
    assert len(stopped.trials) >= after
    assert table(read_search(out)) == table(stopped) == table(whole)[: len(stopped.trials)]
    result = search(toy_task(), proxy, config(strategy), place=SearchPlace(out=out, resume=True))
    assert table(result) == table(whole) == table(read_search(out))
    assert len(scored(log)) == sum(len(t.scores) for t in whole.trials if t.seconds > 0)  # nothing was scored twice
    assert json.loads((out / "search.json").read_text())["finished"] is True


@pytest.mark.parametrize("strategy", ["random", "evolution", "halving"])
def test_a_budget_can_be_raised(strategy: str, tmp_path: Path) -> None:
    search(toy_task(), Worth(), config(strategy, budget=6), place=SearchPlace(out=tmp_path / "out"))
    raised = search(
        toy_task(), Worth(), config(strategy, budget=14), place=SearchPlace(out=tmp_path / "out", resume=True)
    )
    assert [t.slot for t in raised.trials] == list(range(14))
    if strategy != "halving":  # there six trials were compared that are eight now
        assert table(raised) == table(search(toy_task(), Worth(), config(strategy, budget=14)))


@pytest.mark.parametrize("left", [0, 2])
def test_a_budget_that_is_spent_is_told(left: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    if left:  # a search that was killed leaves trials that wait
        study = journal(out / "study.log", "out")
        for slot in range(4, 4 + left):
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.WAITING,
                    params=study.trials[0].params,
                    distributions=study.trials[0].distributions,
                    user_attrs={"slot": slot, "arch": study.trials[0].user_attrs["arch"]},
                )
            )
    before = (out / "study.log").read_bytes()
    with pytest.raises(LimbeckError, match=f"'out' in .* has {4 + left} trials, so that a budget of 2 is spent; raise"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=out, resume=True))
    assert (out / "study.log").read_bytes() == before
    assert (read_search(out).budget, noted(out)["budget"]) == (4, 4)
    result = search(toy_task(), Worth(), config(budget=4 + left), place=SearchPlace(out=out, resume=True))
    assert (len(result.trials), result.finished) == (4 + left, True)
    journal(out / "study.log", "out").set_user_attr("budget", 2)  # as older versions left it
    assert read_search(out).budget == 4 + left


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tiny_search import Worth, toy_task
from limbeck.nas import SearchConfig, SearchPlace, search
assert not {{"optuna", "ray"}} & set(sys.modules)  # neither is imported before it is needed
place = SearchPlace(out=Path({out!r}))
search(toy_task(), Worth(log={log!r}, seconds=0.1), SearchConfig(budget=20, batch=4), place=place)
"""


def killed_search(log: Path, out: Path, after: int) -> None:
    """Search in another process, and kill it once it has begun to score so many."""
    log.mkdir()
    code = KILLED.format(tests=str(Path(__file__).parents[1]), log=str(log), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(scored(log)) < after and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_a_killed_search_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    killed_search(log, out, after=7)
    before = scored(log)
    assert 7 <= len(before) < 20
    kept = read_search(out)
    proxy = Worth(log=str(log), seconds=0.1)
    result = search(toy_task(), proxy, SearchConfig(budget=20, batch=4), place=SearchPlace(out=out, resume=True))
    assert table(result) == table(search(toy_task(), Worth(), SearchConfig(budget=20, batch=4)))
    assert [t.slot for t in result.trials] == list(range(20))
    assert result.trials[: len(kept.trials)] == kept.trials
    assert len(scored(log)) - 20 <= 1  # the one that it was at
    study = optuna.load_study(
        study_name="out",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "study.log"))),
    )
    states = [t.state.name for t in study.trials]
    assert states.count("COMPLETE") == 20
    assert set(states) <= {"COMPLETE", "FAIL"}
    assert states.count("FAIL") <= 4


def test_a_line_that_was_cut_off_is_no_trouble(tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    with (out / "study.log").open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    result = search(toy_task(), Worth(), config(budget=8), place=SearchPlace(out=out, resume=True))
    assert table(result) == table(search(toy_task(), Worth(), config(budget=8)))


def test_max_time_stops_and_what_is_finished_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # a clock that goes on by a second whenever it is read
    # the package exports the function under the module's name
    module = importlib.import_module("limbeck.nas.searches.run")
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    result = search(toy_task(), Worth(), config(), max_time=12, place=SearchPlace(out=tmp_path / "out"))
    assert 0 < len(result.trials) < 14
    assert not result.finished
    result = search(toy_task(), Worth(), config(), max_time=100, place=SearchPlace(out=tmp_path / "out", resume=True))
    assert result.finished
    assert table(result) == table(search(toy_task(), Worth(), config()))


def test_time_that_preparing_spends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    module = importlib.import_module("limbeck.nas.searches.run")
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def prepare(self: Worth, task: Task, tell: object = None) -> Scorer:
        clock[0] += 30.0
        return WorthScorer(self)

    monkeypatch.setattr(Worth, "prepare", prepare)
    out = tmp_path / "out"
    result = search(toy_task(), Worth(), config(), max_time=29, place=SearchPlace(out=out))
    assert (len(result.trials), result.spent_preparing, result.prepare_seconds) == (0, True, 30.0)
    result = search(toy_task(), Worth(), config(), max_time=31, place=SearchPlace(out=out, resume=True))
    assert (result.finished, result.spent_preparing, result.prepare_seconds) == (True, False, 60.0)


def test_a_search_tells_what_its_scores_are(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    result = search(toy_task(), Worth(), config(budget=1), place=SearchPlace(storage=storage))
    assert (result.scale, result.chance) == (Scale(unit="rank score"), None)
    optuna.load_study(study_name="search", storage=storage).set_user_attr("scale", None)  # as older versions left it
    assert read_search(storage).scale == Scale(unit="score")
    proxy = RealData(schedule=Schedule(steps=1, batch=2))
    result = search(toy_task(), proxy, config(budget=1), place=SearchPlace(storage=storage, study="real"))
    assert result.chance == pytest.approx(100 / 3)
    assert read_search(storage, "real").scale == result.scale == Scale(unit="accuracy, %", of_answers=True)
    assert (result.to_json()["unit"], result.to_json()["chance"]) == (result.scale.unit, result.chance)


def journal(path: Path, name: str) -> Any:
    """The study of a journal file."""
    backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name=name, storage=backend)


def occupy(study: Any) -> None:
    """Let a process that is alive be at a study."""
    study.set_user_attr("driver", {"host": socket.gethostname(), "pid": os.getppid()})


def noted(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "search.json").read_text())
    return found


def test_what_a_folder_tells_stays_until_a_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    before = noted(out)

    def prepare(self: Worth, task: Task, tell: object = None) -> Scorer:
        occupy(journal(out / "study.log", "out"))  # meanwhile someone else began
        return WorthScorer(self)

    with monkeypatch.context() as patch:
        patch.setattr(Worth, "prepare", prepare)
        with pytest.raises(LimbeckError, match="is at the study"):
            search(toy_task(), Worth(), config(budget=8), place=SearchPlace(out=out, resume=True))
    assert noted(out) == before


def test_what_a_folder_tells_stays_if_a_search_is_broken_off(tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    before = noted(out)

    def broken_off(progress: SearchProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(toy_task(), Worth(), config(budget=8), watch=broken_off, place=SearchPlace(out=out, resume=True))
    assert noted(out)["rows"] == before["rows"]
    assert (noted(out)["trials"], noted(out)["finished"]) == (4, False)


def test_a_learned_set_is_known_by_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task, chosen = toy_task(), config(budget=2)
    learned = random_set(shape=(1, 4, 4))
    learned = replace(learned, info=learned.info | {"data": {"name": "rows", "sha256": task.data.sha256}})
    learned.save(tmp_path / "teacher")
    proxy = SyntheticData(run=Path("teacher"), inits=1, label="teacher")
    search(task, proxy, chosen, place=SearchPlace(out=tmp_path / "out"))
    elsewhere = replace(proxy, run=tmp_path / "teacher", label=str(tmp_path / "teacher"))
    result = search(task, elsewhere, config(budget=3), place=SearchPlace(out=tmp_path / "out", resume=True))
    assert len(result.trials) == 3
    with pytest.raises(LimbeckError, match=r'was made with proxy_settings {"inits": 1}, not {"inits": 2}'):
        search(task, replace(proxy, inits=2), chosen, place=SearchPlace(out=tmp_path / "out", resume=True))
    replace(learned, info=learned.info | {"seconds": 99.0}).save(tmp_path / "teacher")
    with pytest.raises(
        LimbeckError, match=r'was made with proxy_settings {"run": "teacher \w+"}, not {"run": "teacher'
    ):
        search(task, proxy, config(budget=4), place=SearchPlace(out=tmp_path / "out", resume=True))


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_knows_the_storage_of_its_search(tmp_path: Path, named: bool) -> None:
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/s.db"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out, storage=storage, study="mine"))
    again: dict[str, Any] = {"storage": f"sqlite:///{tmp_path}/../{tmp_path.name}/s.db", "study": "mine"}
    result = search(
        toy_task(), Worth(), config(budget=6), place=SearchPlace(out=out, resume=True, **(again if named else {}))
    )
    assert len(result.trials) == 6
    assert table(read_search(storage, "mine")) == table(read_search(out)) == table(result)
    assert not (out / "study.log").exists()


def test_a_folder_that_was_moved_goes_on(tmp_path: Path) -> None:
    search(
        toy_task(),
        Worth(),
        config(budget=4),
        place=SearchPlace(out=tmp_path / "out", storage=tmp_path / "out" / "study.log"),
    )
    (tmp_path / "out").rename(tmp_path / "moved")
    assert (
        len(
            search(toy_task(), Worth(), config(budget=6), place=SearchPlace(out=tmp_path / "moved", resume=True)).trials
        )
        == 6
    )


def test_going_on_does_not_take_the_folder_of_another_search(tmp_path: Path) -> None:
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/s.db"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage=storage, study="other"))
    before = noted(out)
    with pytest.raises(LimbeckError, match=r"holds the search 'out' in .*study.log, not 'other' in .*s.db; choose"):
        search(
            toy_task(),
            Worth(),
            config(budget=3),
            place=SearchPlace(out=out, storage=storage, study="other", resume=True),
        )
    with pytest.raises(LimbeckError, match=r"not 'other' in .*study.log; choose another out"):
        search(toy_task(), Worth(), config(budget=3), place=SearchPlace(out=out, study="other", resume=True))
    assert noted(out) == before


def test_a_study_knows_its_budget(tmp_path: Path) -> None:
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/s.db"
    search(toy_task(), Worth(), config(budget=7), place=SearchPlace(out=out, storage=storage, study="first"))
    stopped = search(
        toy_task(), Worth(), config(), watch=Interrupt(4), place=SearchPlace(storage=storage, study="second")
    )
    for found in (read_search(storage, "second"), read_search(out, "second"), read_searches(storage)["second"]):
        assert (len(found.trials), found.budget, found.finished) == (len(stopped.trials), 14, False)
    for name in ("first", "second"):  # as they were before studies told it
        optuna.load_study(study_name=name, storage=storage).set_user_attr("budget", None)
    assert read_search(storage, "second").budget == read_search(out, "second").budget == len(stopped.trials)
    assert read_search(out).budget == 7


def test_preparation_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def prepare(self: Worth, task: Task, tell: object = None) -> Scorer:
        threads.append(torch.get_num_threads())
        return WorthScorer(self)

    monkeypatch.setattr(Worth, "prepare", prepare)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        search(toy_task(), Worth(), config(budget=1))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_progress_tells_the_best_so_far() -> None:
    told: list[SearchProgress] = []
    result = search(toy_task(), Worth(), config(), watch=told.append)
    assert [p.done for p in told] == list(range(1, 15))
    for progress in told:
        best = max(result.trials[: progress.done], key=lambda t: t.score or 0)
        assert progress.best is not None
        assert progress.best.score == best.score


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": 0}, "budget is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"population": 0}, "population is 0"),
        ({"tournament": 0}, "tournament is 0"),
        ({"rungs": 1}, "rungs is 1; it must be at least 2"),
        ({"reduction": 1}, "reduction is 1"),
        ({"strategy": "evolutoin"}, "did you mean 'evolution'"),
        ({"population": 9}, "population is 9, which does nothing with strategy random; choose strategy evolution"),
        ({"strategy": "evolution", "rungs": 2}, "rungs is 2, .* strategy evolution; choose strategy halving"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        SearchConfig(**changes)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: {"workers": SearchWorkers(number=0)}, "workers is 0"),
        (lambda: {"max_time": 0}, "max_time is 0"),
        (lambda: {"workers": SearchWorkers(gpus_per_worker=0.5)}, "give ray, too"),
        (lambda: {"workers": SearchWorkers(gpus_per_worker=-1)}, "gpus_per_worker is -1"),
        (lambda: {"place": SearchPlace(resume=True)}, "kept nowhere"),
        (lambda: {"place": SearchPlace(resume=True, overwrite=True)}, "one of them"),
        (lambda: {"place": SearchPlace(storage="nosql://x", study="s")}, "nosql://x cannot be used"),
        (lambda: {"place": SearchPlace(storage="sqlite:////no/such/folder/x.db")}, "cannot be used"),
        (lambda: {"place": SearchPlace(storage="sqlite:////no/such/folder/x.db", resume=True)}, "does not exist"),
    ],
)
def test_wrong_calls(call: Callable[[], dict[str, Any]], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        search(toy_task(), Worth(), config(budget=2), **call())


def test_a_password_is_not_shown() -> None:
    with pytest.raises(LimbeckError) as caught:
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage="nosql://me:secret@host/x"))
    assert "secret" not in str(caught.value)


def test_halving_needs_a_proxy_that_can_be_shortened() -> None:
    with pytest.raises(LimbeckError, match="cannot be shortened"):
        search(toy_task(), ZeroCost(kind="naswot"), config("halving"))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    for overwrite in (False, True):
        with pytest.raises(LimbeckError, match="is not empty and holds no search"):
            search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=tmp_path, overwrite=overwrite))
    with pytest.raises(LimbeckError, match="is a file"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=tmp_path / "thesis.tex"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_search_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=out))
    with pytest.raises(LimbeckError, match="overwrite=True"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=out))
    result = search(toy_task(1), Worth(), config(budget=3), place=SearchPlace(out=out, overwrite=True))
    assert table(read_search(out)) == table(result)
    storage = f"sqlite:///{tmp_path}/s.db"
    search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage=storage))
    with pytest.raises(LimbeckError, match="holds a study 'search' already"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage=storage))
    assert (
        len(search(toy_task(), Worth(), config(budget=3), place=SearchPlace(storage=storage, overwrite=True)).trials)
        == 3
    )


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: (toy_task(1), Worth(), config()), "seed 0, not 1"),
        (lambda: (toy_task(), Worth(fraction=0.5), config()), 'proxy_settings {"fraction": 1.0}, not'),
        (lambda: (toy_task(), ZeroCost(kind="naswot"), config()), 'proxy_settings {"class": "Worth"'),
        (lambda: (toy_task(), Worth(), config("tpe")), 'strategy "random", not "tpe"'),
        (lambda: (toy_task(), Worth(), config(batch=5)), "batch 4, not 5"),
        (lambda: (replace(toy_task(), space=Toy(broken="some")), Worth(), config()), "space_settings"),
    ],
)
def test_other_settings_do_not_go_on(make: Callable[[], Any], name: str, tmp_path: Path) -> None:
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=tmp_path / "out"))
    with pytest.raises(LimbeckError, match=f"was made with {name}"):
        search(*make(), place=SearchPlace(out=tmp_path / "out", resume=True))


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage=f"sqlite:///{path}"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LimbeckError, match="database is locked; another program holds it"):
        search(
            toy_task(),
            Worth(),
            config(budget=4),
            place=SearchPlace(storage=f"sqlite:///{path}?timeout=0.2", resume=True),
        )
    other.rollback()
    other.close()


def test_a_study_that_someone_is_at(tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))
    occupy(journal(out / "study.log", "out"))
    with pytest.raises(LimbeckError, match=f"Process {os.getppid()} is at the study"):
        search(toy_task(), Worth(), config(budget=8), place=SearchPlace(out=out, resume=True))


@pytest.mark.parametrize("study", ["out", "mine"])
def test_a_search_that_someone_is_at_is_not_replaced(tmp_path: Path, study: str) -> None:
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/s.db"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out, study=study))
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(storage=storage))
    occupy(journal(out / "study.log", study))
    occupy(optuna.load_study(study_name="search", storage=storage))
    before = (out / "study.log").read_bytes()
    for place in ({"out": out}, {"storage": storage}):
        with pytest.raises(LimbeckError, match=f"Process {os.getppid()} is at the study"):
            search(toy_task(), Worth(), config(budget=2), place=SearchPlace(overwrite=True, **place))  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match=f"Process {os.getppid()} is at the study"):
        Ledger.create(storage, "search", {}, overwrite=True)
    assert (out / "study.log").read_bytes() == before
    assert len(read_search(storage).trials) == 4


def test_a_search_that_someone_began_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=out))

    def prepare(self: Worth, task: Task, tell: object = None) -> Scorer:
        occupy(journal(out / "study.log", "out"))
        return WorthScorer(self)

    monkeypatch.setattr(Worth, "prepare", prepare)
    with pytest.raises(LimbeckError, match="is at the study"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=out, overwrite=True))
    assert len(read_search(out).trials) == 4


def test_a_folder_that_someone_filled_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def prepare(self: Worth, task: Task, tell: object = None) -> Scorer:
        out.mkdir()
        (out / "thesis.tex").write_text("words")
        return WorthScorer(self)

    monkeypatch.setattr(Worth, "prepare", prepare)
    with pytest.raises(LimbeckError, match="is not empty and holds no search"):
        search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=out))
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


OTHERS_FILES = [
    '{"query": 1}',
    "[1]",
    "no json",
    '{"schema": 1, "storage": 3, "study": "s", "budget": 1, "rows": []}',
]


@pytest.mark.parametrize("text", OTHERS_FILES)
def test_a_file_of_that_name_makes_no_search(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "search.json").write_text(text)
    for how in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(LimbeckError, match="is not empty and holds no search"):
            search(toy_task(), Worth(), config(budget=2), place=SearchPlace(out=tmp_path, **how))  # type: ignore[arg-type]
    assert (tmp_path / "search.json").read_text() == text
    code, _, err = verb(capsys, "show", tmp_path)
    assert code == 2
    assert "holds no search" in err


def test_studies_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    optuna.create_study(study_name="foreign", storage=storage)
    with pytest.raises(LimbeckError, match=r"s\.db holds no search; name the folder"):
        read_searches(storage)
    search(toy_task(), Worth(), config(budget=2), place=SearchPlace(storage=storage, study="mine"))
    assert list(read_searches(storage)) == ["mine"]
    with pytest.raises(LimbeckError, match="no search of Limbeck's"):
        read_searches(storage, "foreign")


def test_a_study_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    optuna.create_study(study_name="search", storage=backend)
    with pytest.raises(LimbeckError, match="no search of Limbeck's"):
        search(toy_task(), Worth(), config(budget=8), place=SearchPlace(storage=path, resume=True))
    with pytest.raises(LimbeckError, match="no search of Limbeck's"):
        read_search(path)


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("first line\nsecond line")
    with pytest.raises(LimbeckError, match="notes.txt cannot be used"):
        read_search(path)
    assert path.read_text() == "first line\nsecond line"


def test_several_studies_in_one_storage(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    for strategy in ("random", "evolution"):
        search(toy_task(), Worth(), config(strategy, budget=2), place=SearchPlace(storage=storage, study=strategy))
    assert {name: len(r.trials) for name, r in read_searches(storage).items()} == {"random": 2, "evolution": 2}
    with pytest.raises(LimbeckError, match="several studies; choose one with study"):
        read_search(storage)
    with pytest.raises(LimbeckError, match="no study 'tpe'"):
        read_search(storage, "tpe")


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[nas\]'"):
        search(toy_task(), Worth(), config(budget=2))
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[nas\]'"):
        read_search("nowhere")


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of three classes on 16 x 16 images."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 60, (120, 16, 16), dtype=np.uint8)
    x[np.arange(120), 4 * y] += 150
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, x=x, y=y)
    return path


def verb(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = limbeck(["search", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


TINY = ("--space", "convnets-narrow", "--proxy", "naswot", "--budget", "3", "--batch", "2")


def test_search_and_show(capsys: pytest.CaptureFixture[str], rows: Path, tmp_path: Path) -> None:
    code, out, err = verb(capsys, rows, *TINY, "--out", tmp_path / "one", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert (values["trials"], values["finished"], len(values["rows"])) == (3, True, 3)
    best = max(values["rows"], key=lambda row: row["score"])
    assert values["best"] == best
    assert "3 of 3 trials" in err
    code, out, _ = verb(capsys, "show", tmp_path / "one")
    assert code == 0
    assert "the best of 3 trials" in out
    assert "naswot" in out
    assert "rank score" in out
    assert "networks that guess" not in out
    shown = json.loads(verb(capsys, "show", tmp_path / "one", "--json")[1])
    assert shown["studies"][0]["rows"] == values["rows"]
    code, out, err = verb(capsys, rows, *TINY, "--budget", "4", "--out", tmp_path / "one", "--resume")
    assert code == 0, err
    assert "the best of 4 trials" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ROWS",), "--proxy says what scores"),
        (("ROWS", "more", "--proxy", "naswot"), "one word too many"),
        (("ROWS", "--proxy", "naswott"), "did you mean 'naswot'"),
        (("ROWS", "--proxy", "runs/nowhere"), "The folder runs/nowhere does not exist; name the run directory"),
        (("ROWS", "--proxy", "naswot", "--space", "convnet"), "did you mean 'convnets'"),
        (("ROWS", "--proxy", "naswot", "--budget", "0"), "budget is 0"),
        (("ROWS", "--proxy", "naswot", "--strategy", "radnom"), "did you mean 'random'"),
        (("ROWS", "--proxy", "naswot", "--workers", "0"), "workers is 0"),
        (("ROWS", "--proxy", "naswot", "--resume"), "does not exist"),
        (("ROWS", "--proxy", "naswot", "--strategy", "halving"), "cannot be shortened"),
        (("show",), "needs the folder"),
        (("show", "nowhere"), "does not exist"),
        (("show", "."), "holds no search"),
        (("no-such-data", "--proxy", "naswot"), "no-such-data"),
    ],
)
def test_wrong_words_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rows: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = verb(capsys, *(str(rows) if word == "ROWS" else word for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_set_learned_from_other_data_is_refused(
    capsys: pytest.CaptureFixture[str], rows: Path, tmp_path: Path
) -> None:
    random_set(shape=(1, 16, 16)).save(tmp_path / "run")
    code, _, err = verb(capsys, rows, "--proxy", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 2
    assert "Learn a set on" in err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_is_no_end_of_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: Path, tmp_path: Path
) -> None:
    @contextmanager
    def interrupting(console: object) -> Iterator[Interrupt]:
        yield Interrupt(1)

    words = (rows, *TINY, "--out", tmp_path / "out", "--max-time")
    with monkeypatch.context() as patch:
        patch.setattr("limbeck.cli.commands.searching.progress_watch", interrupting)
        code, _, err = verb(capsys, *words, "1000")
    assert code == 130
    assert "stopped after 2 of 3 trials" in err or "stopped after 1 of 3 trials" in err
    code, _, err = verb(capsys, *words, "0.000001", "--resume")
    assert code == 0
    assert "took all of --max-time, so that nothing was scored; go on with a longer one and --resume" in err
    assert "time is up" not in err
    ticks = itertools.count()
    module = importlib.import_module("limbeck.nas.searches.run")
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    code, _, err = verb(capsys, *words, "3.5", "--resume")  # read before and after preparing, and before each trial
    assert code == 0
    assert "time is up after" in err


def test_trials_as_json() -> None:
    trial = Trial(slot=1, arch=("a",), text="a", score=1.0, scores=(1.0,), seconds=0.1, parameters=3, flops=4)
    assert json.loads(json.dumps(trial.to_json()))["arch"] == ["a"]


def test_another_size_of_a_space_of_ones_own_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(toy_task(), Worth(), config(budget=4), place=SearchPlace(out=tmp_path / "out"))
    monkeypatch.setattr(type(toy_task().space), "options", property(lambda self: {"width": 4}))
    with pytest.raises(LimbeckError, match="was made with space_options null"):
        search(toy_task(), Worth(), config(budget=6), place=SearchPlace(out=tmp_path / "out", resume=True))
