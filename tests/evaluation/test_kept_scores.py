"""What an evaluation looks like, and the scores that a run directory keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import random_set, tiny_config, tiny_data

import limbeck
from limbeck.artefact.distilled import Distilled
from limbeck.cli.main import run as cli
from limbeck.evaluation import OrdinaryTraining, evaluate, read_scores
from limbeck.outer.loop import distill

DATA = tiny_data()


@pytest.fixture
def run(tmp_path: Path) -> Distilled:
    return distill(tiny_config(iterations=2), DATA, out=tmp_path / "run")


def test_an_evaluation_is_printed_as_a_table() -> None:
    result = evaluate(random_set(), DATA, n=3, baselines=["average"])
    scores = result.distilled.scores
    assert result.accuracy == scores.mean
    title, head, *rows = str(result).splitlines()
    assert title == "accuracy on the real test set (%)"
    assert head.split() == ["set", "before", "after", "±", "95", "%", "worst", "n", "step", "size"]
    assert rows[0].split() == [
        "distilled", f"{result.distilled.before:.2f}", f"{scores.mean:.2f}", f"{scores.std:.2f}",
        "{:.1f}–{:.1f}".format(*result.distilled.interval or ()), f"{scores.worst:.2f}", "3", "learned",
    ]  # fmt: skip
    assert rows[1].startswith("average ") and len(rows) == 2
    assert repr(result) == (
        f"Evaluation({scores.mean:.2f} ± {scores.std:.2f} %, before {result.distilled.before:.2f}, n = 3, 1 more rows)"
    )


def test_a_single_network_has_no_spread() -> None:
    result = evaluate(random_set(), DATA, n=1, baselines=())
    assert "±" not in repr(result) and "more rows" not in repr(result)
    assert len(str(result).splitlines()[2].split()) == 7


def test_scores_are_kept_in_the_run(run: Distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run.folder == folder and read_scores(folder) == []
    first = run.evaluate(DATA, n=2)
    limbeck.load(folder).evaluate(DATA, n=2)  # the same once more, in its place
    (kept,) = read_scores(folder)
    assert kept["rows"][0]["mean"] == first.accuracy and kept["n"] == 2
    assert kept["data"] == {"name": "arrays", "sha256": DATA.sha256}
    run.evaluate(DATA, n=2, training=OrdinaryTraining(epochs=1))
    evaluate(run, DATA, n=3, baselines=["average"])
    assert [(each["n"], len(each["rows"])) for each in read_scores(folder)] == [(2, 1), (2, 1), (3, 2)]
    assert not list(folder.glob(".*"))
    assert cli(["show", str(folder)]) == 0
    assert f"{read_scores(folder)[-1]['rows'][0]['mean']:.2f}" in capsys.readouterr().out


def test_a_set_that_was_changed_keeps_nothing_there(run: Distilled, tmp_path: Path) -> None:
    replace(run, images=run.images * 2).evaluate(DATA, n=2)
    random_set().evaluate(DATA, n=2)
    assert read_scores(tmp_path / "run") == []


def test_scores_go_with_the_set(run: Distilled, tmp_path: Path) -> None:
    run.evaluate(DATA, n=2)
    distill(tiny_config(iterations=3), DATA, out=tmp_path / "run", overwrite=True)
    assert read_scores(tmp_path / "run") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"evaluations": 3}', '{"evaluations": [3]}'])
def test_damaged_scores_are_replaced(run: Distilled, tmp_path: Path, text: str) -> None:
    path = tmp_path / "run" / "evaluation.json"
    path.write_text(text)
    run.evaluate(DATA, n=2)
    assert len(json.loads(path.read_text())["evaluations"]) == 1


def test_a_folder_that_cannot_be_written_loses_no_score(run: Distilled, tmp_path: Path) -> None:
    (tmp_path / "run" / ".evaluation.json.part").mkdir()
    told: list[str] = []
    assert evaluate(run, DATA, n=2, baselines=(), tell=told.append).accuracy >= 0
    assert any("the scores are not kept in the run directory" in text for text in told)
