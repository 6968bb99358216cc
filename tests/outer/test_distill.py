"""The outer loop: exact resume, the guard against divergence, budgets, Ctrl-C, and whose folder it writes to."""

from __future__ import annotations

import errno
import json
import math
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Faulty, Recorder, assert_same_run, metrics, random_set, same_tensors, tiny_config, tiny_data, use

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import RunDirectory
from limbeck.common import files as storage
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Progress, interruptible
from limbeck.models import RandomInit, build, save_pool
from limbeck.outer.budget import Budget
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.loop import OuterLoop, distill
from limbeck.outer.resolve import Assignment
from limbeck.outer.validator import Validator

DATA = tiny_data()
NAN, INF = math.nan, math.inf


def stopped_and_resumed(config: Config, out: Path, at: int) -> tuple[Distilled, Distilled]:
    """The artefact of a run stopped by Ctrl-C after iteration ``at``, and that of its resumption."""
    reporter = Recorder(at)
    stopped = distill(config, DATA, out=out, reporter=reporter)
    assert reporter.interrupted is True
    assert [record["iteration"] for record in reporter.records] == list(range(1, at + 1))
    assert Checkpoint.load(out).progress.iteration == at
    return stopped, distill(config, DATA, out=out, resume=True)


def loop(config: Config) -> OuterLoop:
    """A run that is about to begin and is written nowhere."""
    return OuterLoop(Assignment(config=config, data=DATA, folder=None, checkpoint=None), "cpu", Recorder())


def first_state(config: Config) -> dict[str, torch.Tensor]:
    """What a run begins with."""
    return loop(config).setup.optimizer.tensors()


# --- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["random", "fixed", "pool"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_resume_equals_uninterrupted(tmp_path: Path, init: str, labels: str) -> None:
    if init == "pool":
        module = build("linear", shape=DATA.image_shape, num_classes=3)
        weights = RandomInit(module=module, distribution="xavier").sample(30, torch.Generator().manual_seed(3))
        save_pool(tmp_path / "pool.safetensors", weights, {})
        init = f"pool:{tmp_path / 'pool.safetensors'}"
    config = tiny_config(init=init, labels=labels)
    whole = distill(config, DATA, out=tmp_path / "whole")
    stopped, resumed = stopped_and_resumed(config, tmp_path / "parts", at=4)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert torch.equal(whole.images, resumed.images)
    assert (stopped.info["finished"], resumed.info["finished"]) == (False, True)
    assert stopped.info["iterations"] == 4


@pytest.mark.parametrize("at", [1, 2, 5, 6])
def test_resume_is_exact_wherever_it_stopped(tmp_path: Path, at: int) -> None:
    config = tiny_config(learner="mlp", clip=0.2, schedule="step", decay_every=2, real_batch_end=32)
    distill(config, DATA, out=tmp_path / "whole")
    stopped_and_resumed(config, tmp_path / "parts", at=at)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_resume_twice_is_exact(tmp_path: Path) -> None:
    config = tiny_config(labels="soft")
    distill(config, DATA, out=tmp_path / "whole")
    distill(config, DATA, out=tmp_path / "parts", reporter=Recorder(2))
    distill(config, DATA, out=tmp_path / "parts", reporter=Recorder(5), resume=True)
    assert Checkpoint.load(tmp_path / "parts").progress.iteration == 5
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("bad", "at"), [((2,), 4), ((4,), 5), ((4,), 4), ((2, 6), 4)])
def test_resume_after_a_rollback_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: tuple[int, ...], at: int
) -> None:
    config = tiny_config()
    use(monkeypatch, Faulty(losses=dict.fromkeys(bad, NAN)))
    distill(config, DATA, out=tmp_path / "whole")
    # one adjoint for both parts: its calls are counted through
    use(monkeypatch, Faulty(losses=dict.fromkeys(bad, NAN)))
    stopped_and_resumed(config, tmp_path / "parts", at=at)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert Checkpoint.load(tmp_path / "parts").progress.rollbacks == len(bad)


def test_resume_amid_an_explosion_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(iterations=16)
    bad = dict.fromkeys(range(4, 15), 50.0)
    use(monkeypatch, Faulty(losses=bad))
    distill(config, DATA, out=tmp_path / "whole")
    use(monkeypatch, Faulty(losses=bad))
    stopped_and_resumed(config, tmp_path / "parts", at=7)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert Checkpoint.load(tmp_path / "parts").progress.rollbacks == 1


def test_resume_after_a_kill_repeats_what_the_checkpoint_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(iterations=9)
    distill(config, DATA, out=tmp_path / "whole")
    saved: list[int] = []
    save = Checkpoint.save

    def save_until_third(self: Checkpoint, folder: Path) -> None:
        if self.progress.iteration == 6:
            raise KeyboardInterrupt  # after the line of metrics, before the checkpoint
        saved.append(self.progress.iteration)
        save(self, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", save_until_third)
        distill(config, DATA, out=tmp_path / "parts")
    assert saved == [0, 3]
    assert [line["iteration"] for line in metrics(tmp_path / "parts")] == [3, 6]
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 7, "lo')  # a line that the kill cut off
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_cut_off_line_of_metrics_does_not_spoil_the_next(tmp_path: Path) -> None:
    folder = RunDirectory(tmp_path)
    folder.start(tiny_config(), 0)
    folder.append_metrics({"iteration": 3, "val_mean": 50.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"iter\xff')
    folder.start(tiny_config(), 3)
    folder.append_metrics({"iteration": 6})
    assert folder.metrics() == [{"iteration": 3, "val_mean": 50.0}, {"iteration": 6}]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    distill(tiny_config(), DATA, out=tmp_path / "run")
    before = (tmp_path / "run" / "distilled.safetensors").read_bytes()
    again = distill(tiny_config(), DATA, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "distilled.safetensors").read_bytes() == before
    assert again.info["iterations"] == 7


def test_resuming_a_run_that_time_has_ended_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    distill(tiny_config(iterations=10**6, max_time=0.2), DATA, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    distill(tiny_config(), DATA, out=out, resume=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_run_that_time_has_ended_gets_more_of_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = distill(tiny_config(iterations=10**6, max_time=0.2), DATA, out=out)
    longer = distill(tiny_config(), DATA, out=out, resume=True, max_time=first.info["seconds"] + 0.5)
    assert longer.info["iterations"] > first.info["iterations"]
    assert longer.config.outer.max_time == first.info["seconds"] + 0.5  # recorded: ordinary resume goes by it
    again = distill(tiny_config(), DATA, out=out, resume=True)
    assert again.info["iterations"] == longer.info["iterations"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(LimbeckError, match=r"has taken 1? ?s?.* s; max_time counts all sittings.*not 0.1"):
        distill(tiny_config(), DATA, out=out, resume=True, max_time=0.1)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_more_iterations_go_on_from_where_a_run_ended(tmp_path: Path) -> None:
    out = tmp_path / "run"
    steady = {"schedule": "constant", "validate_every": 7}
    distill(tiny_config(iterations=7, **steady), DATA, out=out)
    distill(tiny_config(), DATA, out=out, resume=True, iterations=14)
    distill(tiny_config(iterations=14, **steady), DATA, out=tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole")
    with pytest.raises(LimbeckError, match="has done 14 iterations; iterations counts them.*not 7"):
        distill(tiny_config(), DATA, out=out, resume=True, iterations=7)
    with pytest.raises(LimbeckError, match="iterations and max_time are for resume"):
        distill(tiny_config(), DATA, iterations=7)


def test_resume_goes_by_the_recorded_configuration(tmp_path: Path) -> None:
    distill(tiny_config(), DATA, out=tmp_path / "run", reporter=Recorder(4))
    other = tiny_config(seed=5, iterations=1)
    assert distill(other, DATA, out=tmp_path / "run", resume=True).config == tiny_config().settled()


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="needs the run directory"):
        distill(tiny_config(), DATA, resume=True)
    with pytest.raises(LimbeckError, match="no checkpoint to resume"):
        distill(tiny_config(), DATA, out=tmp_path / "nothing", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(LimbeckError, match="no checkpoint to resume"):
        distill(tiny_config(), DATA, out=tmp_path / "file", resume=True)


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["noise", "real"])
def test_the_seed_decides_the_artefact(tmp_path: Path, start: str) -> None:
    torch.manual_seed(1)
    distill(tiny_config(pixels={"start": start}), DATA, out=tmp_path / "one")
    torch.manual_seed(2)  # the global generator must not matter
    distill(tiny_config(pixels={"start": start}), DATA, out=tmp_path / "two")
    distill(tiny_config(pixels={"start": start}, seed=1), DATA, out=tmp_path / "other")
    assert_same_run(tmp_path / "one", tmp_path / "two")
    one, other = (Distilled.load(tmp_path / name).images for name in ("one", "other"))
    assert (one - other).abs().mean() > 0.1


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    distill(tiny_config(iterations=2), DATA)
    assert torch.equal(torch.get_rng_state(), before)


def test_writing_does_not_change_the_result(tmp_path: Path) -> None:
    result = distill(tiny_config(labels="soft"), DATA)
    written = distill(tiny_config(labels="soft"), DATA, out=tmp_path / "run")
    loaded = Distilled.load(tmp_path / "run")
    for one in (written, loaded):
        assert torch.equal(one.images, result.images)
        assert torch.equal(one.labels, result.labels)
        assert torch.equal(one.learning_rates, result.learning_rates)
    assert loaded.info == written.info


def test_images_start_at_their_class() -> None:
    """From real images, row m of a batch is an image of the class that its label says."""
    config = tiny_config(pixels={"start": "real", "ipc": 2, "steps": 3}, iterations=1, lr_images=1e-9)
    result = distill(config, DATA)
    real = DATA.preprocessing.apply(DATA.train_x)
    for batch, labels in zip(result.images, result.labels, strict=True):
        for image, label in zip(batch, labels, strict=True):
            nearest = int((real - image).abs().amax((1, 2, 3)).argmin())
            assert int(label.argmax()) == int(DATA.train_y[nearest])


def test_it_learns() -> None:
    config = tiny_config(iterations=60, validate_every=20, lr_images=0.1)
    reporter = Recorder()
    result = distill(config, DATA, reporter=reporter)
    losses = [record["loss"] for record in reporter.records]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    validated = {r["iteration"]: r["val_mean"] for r in reporter.records if "val_mean" in r}
    assert list(validated) == [20, 40, 60]
    best = result.info["validation"]
    assert best["accuracy"] == max(validated.values()) == validated[best["iteration"]] > 60


def test_the_best_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the last one: after iteration 3 the rates ruin the set, and the artefact is that of iteration 3."""
    kept = distill(tiny_config(iterations=3, schedule="constant"), DATA)
    run = loop(tiny_config(schedule="constant"))
    accuracies = iter([50.0, 50.0, 10.0])

    class Fixed:
        std, worst, n = None, 0.0, 1

        def __init__(self) -> None:
            self.mean = next(accuracies)

    monkeypatch.setattr(Validator, "scores", lambda self: Fixed())
    result = run.run()
    assert result.info["validation"] == {"accuracy": 50.0, "iteration": 3}  # of two equals, the first
    assert torch.equal(result.images, kept.images)


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{"losses": {4: NAN}}, {"losses": {4: INF}}, {"grads": {4: NAN}}, {"grads": {4: INF}}]
)
def test_a_non_finite_iteration_rolls_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    use(monkeypatch, Faulty(**fault))
    reporter = Recorder(4)
    distill(tiny_config(), DATA, out=tmp_path, reporter=reporter)
    checkpoint = Checkpoint.load(tmp_path)
    assert (checkpoint.progress.rollbacks, checkpoint.progress.factor) == (1, 0.5)
    # the last good state is that of iteration 3, Adam's moments included
    assert same_tensors(checkpoint.current, checkpoint.good)
    assert any(name.startswith("adam.exp_avg.") for name in checkpoint.good)
    told = [text for text in reporter.messages if "diverged at iteration 4" in text]
    assert len(told) == 1
    assert "0.5 of their setting" in told[0]
    assert reporter.records[3]["norm"] is None
    json.dumps(reporter.records, allow_nan=False)


def test_a_rollback_before_the_first_validation_goes_back_to_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faulty(losses={2: NAN}))
    distill(tiny_config(), DATA, out=tmp_path, reporter=Recorder(2))
    current = Checkpoint.load(tmp_path).current
    fresh = first_state(tiny_config())
    assert same_tensors(current, fresh)  # no moments either: Adam has not stepped


def test_the_factor_lowers_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Adam a first step is as long as its rate: after one rollback it is half as long."""
    config = tiny_config(iterations=1, warmup=0, schedule="constant")
    start = first_state(config)["param.images"]
    plain = distill(config, DATA).images - start
    use(monkeypatch, Faulty(losses={1: NAN}))
    halved = distill(replace(config, outer=replace(config.outer, iterations=2)), DATA).images - start
    assert plain.abs().median().item() == pytest.approx(0.05, rel=1e-3)
    assert halved.abs().median().item() == pytest.approx(0.025, rel=1e-3)


def test_it_gives_up_after_max_rollbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Faulty(losses=dict.fromkeys(range(4, 20), NAN)))
    reporter = Recorder()
    with pytest.raises(LimbeckError, match=r"diverged 3 times .*step size that runs away.*lr_steps"):
        distill(tiny_config(max_rollbacks=2, iterations=20), DATA, out=tmp_path, reporter=reporter)
    assert sum("diverged" in text for text in reporter.messages) == 2
    assert Checkpoint.load(tmp_path).progress.iteration == 3  # and what was good is on disk


def test_a_run_without_rollbacks_gives_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Faulty(losses={1: NAN}))
    with pytest.raises(LimbeckError, match="diverged 1 times"):
        distill(tiny_config(max_rollbacks=0), DATA)


def test_an_enormous_rate_ends_in_a_clear_error() -> None:
    config = tiny_config(iterations=40, lr_steps=1e30, lr_images=1e30, clip_init=None, max_rollbacks=1, warmup=0)
    with pytest.raises(LimbeckError, match="diverged 2 times"):
        distill(config, DATA)


def test_an_exploding_loss_rolls_back_only_if_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollbacks(bad: list[int]) -> int:
        use(monkeypatch, Faulty(losses=dict.fromkeys(bad, 50.0)))
        reporter = Recorder()
        result = distill(tiny_config(iterations=24), DATA, reporter=reporter)
        if result.info["rollbacks"]:
            assert reporter.records[bad[0] + 8]["rollbacks"] == 1
            assert reporter.records[bad[0] + 7]["rollbacks"] == 0
            assert f"diverged at iteration {bad[0] + 9} (loss 50)" in reporter.messages[-1]
        return int(result.info["rollbacks"])

    assert rollbacks(list(range(5, 15))) == 1
    assert rollbacks(list(range(5, 14))) == 0
    assert rollbacks([*range(5, 14), *range(15, 24)]) == 0


def test_a_state_amid_an_explosion_is_not_kept_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Faulty(losses=dict.fromkeys(range(5, 15), 50.0)))
    distill(tiny_config(iterations=14), DATA, out=tmp_path / "bad", reporter=Recorder(14))
    use(monkeypatch, Faulty())
    distill(tiny_config(iterations=14), DATA, out=tmp_path / "good", reporter=Recorder(4))
    now, then = Checkpoint.load(tmp_path / "bad"), Checkpoint.load(tmp_path / "good")
    assert now.progress.rollbacks == 1
    assert same_tensors(now.current, then.good)


# --- budgets and Ctrl-C ----------------------------------------------------------------------------------------------


def test_max_time_stops(tmp_path: Path) -> None:
    config = tiny_config(iterations=10**6, max_time=0.2, validate_every=10**5)
    reporter = Recorder()
    result = distill(config, DATA, out=tmp_path, reporter=reporter)
    assert result.info["finished"] is True
    assert reporter.interrupted is False
    assert 1 <= result.info["iterations"] < 10**5
    assert reporter.records[-1]["elapsed"] >= 0.2
    assert len(reporter.records) < 2 or reporter.records[-2]["elapsed"] < 0.2
    assert result.info["validation"]["iteration"] == result.info["iterations"]  # validated although between two
    again = distill(config, DATA, out=tmp_path, resume=True)  # the time is spent, over all sittings
    assert again.info["iterations"] == result.info["iterations"]


def test_the_schedule_follows_the_time_budget() -> None:
    budget = Budget(iterations=100, max_time=50)
    progress = Progress(iteration=10, elapsed=20.0)
    assert (budget.spent(progress), budget.is_spent(progress)) == (0.4, False)
    progress.iteration = 60
    assert (budget.spent(progress), budget.is_spent(progress)) == (0.6, False)
    progress.elapsed = 70.0
    assert (budget.spent(progress), budget.is_spent(progress), budget.time_is_up(progress)) == (1.0, True, True)
    assert Budget(iterations=60).is_spent(progress) and not Budget(iterations=61).is_spent(progress)


def test_ctrl_c_keeps_the_work(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    reporter = Recorder(4)
    result = distill(tiny_config(), DATA, out=tmp_path, reporter=reporter)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert reporter.interrupted is True
    loaded = Distilled.load(tmp_path)
    assert loaded.info["finished"] is False
    assert loaded.info["validation"]["iteration"] == 3
    assert torch.equal(loaded.images, result.images)


def test_ctrl_c_before_the_first_validation_gives_the_present_state(tmp_path: Path) -> None:
    result = distill(tiny_config(), DATA, out=tmp_path, reporter=Recorder(2))
    current = Checkpoint.load(tmp_path).current
    assert torch.equal(result.images, current["param.images"])
    assert "-1" not in (tmp_path / "README.md").read_text().split("## Use")[0]


def test_a_second_ctrl_c_interrupts_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        distill(tiny_config(), DATA, out=tmp_path, reporter=Recorder(4, times=2))
    assert signal.getsignal(signal.SIGINT) == before
    assert Checkpoint.load(tmp_path).progress.iteration == 3
    with pytest.raises(LimbeckError, match="no finished run"):
        Distilled.load(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    with interruptible() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_other_threads_can_distil() -> None:
    results: list[Distilled] = []
    thread = threading.Thread(target=lambda: results.append(distill(tiny_config(iterations=2), DATA)))
    thread.start()
    thread.join(30)
    assert results[0].info["iterations"] == 2


# --- the run directory -----------------------------------------------------------------------------------------------


def test_the_run_directory_is_complete(tmp_path: Path) -> None:
    distill(tiny_config(), DATA, out=tmp_path / "a" / "run")
    assert {path.name for path in (tmp_path / "a" / "run").iterdir()} == {
        "README.md",
        "checkpoint",
        "config.json",
        "distilled.json",
        "distilled.safetensors",
        "metrics.jsonl",
        "preview.png",
    }
    assert [path.name for path in (tmp_path / "a" / "run" / "checkpoint").iterdir()] == ["state.safetensors"]
    lines = metrics(tmp_path / "a" / "run")
    assert [line["iteration"] for line in lines] == [3, 6, 7]
    assert all(line["val_n"] == 2 and 0 <= line["val_worst"] <= line["val_mean"] <= 100 for line in lines)


def test_another_run_is_refused_unless_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "run"
    distill(tiny_config(iterations=2), DATA, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(LimbeckError, match=r"already holds a run.*resume=True.*overwrite=True"):
        distill(tiny_config(seed=1), DATA, out=out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "stale").write_text("")
    distill(tiny_config(iterations=2, seed=1), DATA, out=out, overwrite=True)
    assert not (out / "stale").exists()
    assert Distilled.load(out).config.seed == 1


def test_a_run_that_was_only_begun_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        distill(tiny_config(), DATA, out=tmp_path / "run", reporter=Recorder(1, times=2))
    with pytest.raises(LimbeckError, match="already holds a run"):
        distill(tiny_config(), DATA, out=tmp_path / "run")


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(LimbeckError, match="is a file; out must be a folder"):
            distill(tiny_config(), DATA, out=tmp_path / "file", overwrite=overwrite)
        with pytest.raises(LimbeckError, match="Could not make the run directory"):
            distill(tiny_config(), DATA, out=tmp_path / "file" / "run", overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(LimbeckError, match="is a file"):
        distill(tiny_config(), DATA, out="/dev/null")


@pytest.mark.parametrize("name", ["thesis.tex", "config.json", "checkpoint", "metrics.jsonl"])
def test_a_folder_of_something_else_is_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(LimbeckError, match="not empty and holds no run"):
            distill(tiny_config(), DATA, out=tmp_path, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    distill(tiny_config(iterations=1), DATA, out=str(tmp_path))
    assert Distilled.load(str(tmp_path)).info["iterations"] == 1


def test_a_full_disk_ends_in_a_clear_error_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    distill(config, DATA, out=tmp_path / "whole")
    write, written = storage.write_bytes, []

    def fill_up(path: Path, blob: bytes) -> None:
        written.append(path.name)
        if written.count(".state.safetensors.part") == 3:
            path.write_bytes(blob[: len(blob) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, blob)

    with monkeypatch.context() as patch, pytest.raises(LimbeckError, match=r"No space left.*untouched.*resume=True"):
        patch.setattr(storage, "write_bytes", fill_up)
        distill(config, DATA, out=tmp_path / "parts")
    assert Checkpoint.load(tmp_path / "parts").progress.iteration == 3
    assert not list((tmp_path / "parts").rglob("*.part"))
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


# --- wrong input -----------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="Unknown learner 'lenett'; did you mean 'lenet'"):
        distill(tiny_config(learner="lenett"), DATA)
    with pytest.raises(LimbeckError):
        distill(replace(tiny_config(), data="mnost"), out=tmp_path / "run")
    with pytest.raises(LimbeckError):
        distill(tiny_config(init=f"pool:{tmp_path / 'missing'}"), DATA)


def test_four_channels_can_be_written(tmp_path: Path) -> None:
    distill(tiny_config(iterations=1), tiny_data(channels=4), out=tmp_path)
    assert (tmp_path / "preview.png").stat().st_size > 500
    assert random_set().shape == (1, 8, 8)


def test_resume_with_other_data_is_refused(tmp_path: Path) -> None:
    data = tiny_data()
    distill(tiny_config(iterations=2, validate_every=2), data, out=tmp_path / "run")
    other = replace(data, sha256="0" * 64)
    with pytest.raises(LimbeckError, match="other data"):
        distill(tiny_config(), other, out=tmp_path / "run", resume=True)


def test_overwrite_keeps_the_old_run_if_the_new_one_cannot_begin(tmp_path: Path) -> None:
    out = tmp_path / "run"
    distill(tiny_config(iterations=2, validate_every=2), tiny_data(), out=out)
    before = (out / "distilled.safetensors").read_bytes()
    wrong = replace(tiny_config(), learner="lenett")
    with pytest.raises(LimbeckError, match="lenet"):
        distill(wrong, tiny_data(), out=out, overwrite=True)
    assert (out / "distilled.safetensors").read_bytes() == before


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_takes_step_sizes_back_from_where_training_diverges(tmp_path: Path) -> None:
    """Step sizes that are too large by far: the smallest factor wins, and the artefact holds them scaled."""
    config = tiny_config(
        learner="mlp", iterations=3, lr_steps=1e-9, lr_images=1e-9, inner={"lr": 0.7}, pixels={"start": "real"}
    )
    plain = distill(config, DATA)
    calibrated = distill(replace(config, outer=replace(config.outer, calibrate_inits=8)), DATA, out=tmp_path)
    chosen = calibrated.info["calibration"]
    assert plain.info["calibration"] == {"factor": 1.0, "n": 0}
    assert (chosen["n"], chosen["factor"] in (0.7, 0.8, 0.9, 1.0)) == (8, True)
    run = loop(config)
    accuracies = {
        factor: run.validator.scores(
            {n.removeprefix("param."): v for n, v in Checkpoint.load(tmp_path).best.items() if n.startswith("param.")},
            8,
            2,
            factor,
        ).mean
        for factor in (1.0, 0.9, 0.8, 0.7)
    }
    assert accuracies[0.7] > accuracies[1.0]  # otherwise the choice says nothing
    assert accuracies[chosen["factor"]] == max(accuracies.values()) == chosen["accuracy"]
    torch.testing.assert_close(calibrated.learning_rates, chosen["factor"] * plain.learning_rates)
    assert Distilled.load(tmp_path).info["calibration"] == chosen


def test_a_stopped_run_is_not_calibrated(tmp_path: Path) -> None:
    config = tiny_config(calibrate_inits=4)
    stopped, resumed = stopped_and_resumed(config, tmp_path / "parts", 4)
    assert stopped.info["calibration"]["n"] == 0
    distill(config, DATA, out=tmp_path / "whole")
    assert resumed.info["calibration"]["n"] == 4
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_calibration_trains_initial_weights_that_no_validation_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run = loop(tiny_config())
    seeds: list[int] = []
    monkeypatch.setattr(type(run.family), "validate", lambda self, batches, data, count, seed: seeds.append(seed))
    run.validator.scores()
    run.validator.scores(None, 8, 2)
    assert seeds == [run.config.seed + 1, run.config.seed + 2]
