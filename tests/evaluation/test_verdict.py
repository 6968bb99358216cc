"""The verdict: words, figures, and that the test set is not read for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Recorder, tiny_config, tiny_data

import limbeck
from limbeck.artefact.distilled import Distilled
from limbeck.cli.main import run as cli
from limbeck.data import TaskData
from limbeck.evaluation.verdict import Standing, Verdict, decide
from limbeck.experiment.progress import Progress
from limbeck.outer.conclusion import explain

DATA = tiny_data()


def standing(mean: float, error: float = 1.0, balanced: float | None = None) -> Standing:
    return Standing(mean=mean, error=error, balanced=mean if balanced is None else balanced)


@pytest.mark.parametrize(
    ("learned", "random", "word"),
    [
        (standing(90), standing(80), "above"),
        (standing(70), standing(80), "below"),
        (standing(82), standing(80), "level"),
        (standing(90, 10), standing(80), "level"),
        (standing(34), standing(20), "failed"),
        (standing(60, 15), standing(20), "failed"),
        (standing(90, balanced=33.3), standing(20), "failed"),
    ],
)
def test_the_word_takes_spread_and_chance_into_account(learned: Standing, random: Standing, word: str) -> None:
    assert decide(learned, random, classes=3) == word


def verdict(word: Any = "below", random: Standing | None = None) -> Verdict:
    return Verdict(word=word, learned=standing(50), random=random or standing(80), kmeans=standing(85), n=4)


def test_it_is_read_back_as_it_was_written() -> None:
    one = verdict().explained("it rained", "--lr 0.1")
    assert Verdict.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.sentence.startswith("verdict: BELOW") and one.sentence.endswith("Why: it rained. Try --lr 0.1.")
    assert str(one).endswith("Try lr=0.1.")  # in Python


@pytest.mark.parametrize(
    ("progress", "random", "words"),
    [
        (Progress(iteration=500, best_iteration=100, rollbacks=3), standing(80), ("diverged 3 times", "--lr")),
        (Progress(iteration=20, best_iteration=10), standing(80), ("20 iterations are few", "--max-time")),
        (Progress(iteration=500, best_iteration=500), standing(80), ("still getting better", "--iterations")),
        (Progress(iteration=500, best_iteration=100), standing(80), ("after iteration 100 of 500", "another --lr")),
        (Progress(iteration=500, best_iteration=100), standing(34), ("random real images teach nothing", "--steps")),
    ],
)
def test_it_says_why_and_what_to_try(progress: Progress, random: Standing, words: tuple[str, str]) -> None:
    reason, advice = explain(verdict(random=random), tiny_config(), progress, 3)
    assert words[0] in reason and words[1] in advice


def no_test_set(data: TaskData, monkeypatch: pytest.MonkeyPatch) -> TaskData:
    """The data, of which the test set cannot be read."""
    batches = TaskData.split_batches

    def watched(self: TaskData, split: Any, batch: int) -> Any:
        assert split != "test"
        return batches(self, split, batch)

    monkeypatch.setattr(TaskData, "split_batches", watched)
    return replace(data, test_x=torch.full_like(data.test_x, torch.nan))


@pytest.mark.parametrize("init", ["random", "fixed"])
def test_a_run_ends_with_it(init: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, told = tmp_path / "run", Recorder()
    data = no_test_set(DATA, monkeypatch)
    run = limbeck.distill(tiny_config(init=init, inner={"lr": 0.1}), data, out=out, reporter=told)
    assert run.verdict is not None and run.verdict.learned.mean > 0
    assert told.messages[-1] == str(run.verdict)
    assert any(text.startswith("comparing with random real images") for text in told.messages)
    assert json.loads((out / "distilled.json").read_text())["verdict"]["word"] == run.verdict.word
    assert run.verdict.sentence[1:].rstrip(".") in (out / "README.md").read_text()
    assert str(Distilled.load(out)).endswith(str(run.verdict))


def test_a_set_that_teaches_nothing_is_a_failure() -> None:
    config = tiny_config(inner={"lr": 1e-6, "learn_lr": "fixed"})
    run = limbeck.distill(config, DATA)
    assert run.verdict is not None and run.verdict.word == "failed"
    assert "FAILED" in run.verdict.sentence and "Try" in run.verdict.sentence


def test_nobody_pays_for_it_unasked() -> None:
    assert limbeck.distill(tiny_config(), DATA, verdict=False).verdict is None
    assert limbeck.distill(tiny_config(source="generator"), DATA).verdict is None


def test_it_is_the_last_line_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = torch.randn(60, 8, 8), torch.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x=x.numpy(), y=y.numpy())
    words = [str(tmp_path / "mine.npz"), "--iterations", "2", "--inits", "1", "--learner", "linear", "--compile", "off"]
    out = ["--out", str(tmp_path / "run")]
    assert cli(["distill", *words, "--bfloat16", "off", *out]) == 0
    assert "verdict" in capsys.readouterr().err.splitlines()[-1].lower().replace("failed", "verdict")
    assert cli(["show", *out[1:]]) == 0
    assert "verdict" in capsys.readouterr().out
