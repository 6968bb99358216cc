"""The comparison: a row for each set, protocol and learner; it can be stopped, and one that diverges stops no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_data

import limbeck
from limbeck.cli.main import run
from limbeck.errors import DivergedError, LimbeckError
from limbeck.studies import compare as module
from limbeck.studies.compare import Comparison, compare

DATA = tiny_data()


def small(**values: Any) -> Comparison:
    return Comparison(
        **{"ipc": (1,), "methods": ("random", "dm"), "learner": "mlp,hidden=(8,)", "max_time": None, "iterations": 2,
           "n": 2, "epochs": 1, "val_size": len(DATA.val_y)} | values
    )  # fmt: skip


def test_rows_name_method_protocol_learner_and_images(tmp_path: Path) -> None:
    told: list[str] = []
    rows = compare(DATA, small(methods=("herding", "unrolled"), learners=("linear",)), tmp_path / "c", tell=told.append)
    named = [(row["method"], row["protocol"], row["learner"], row["ipc"]) for row in rows]
    own = "mlp,hidden=(8,)"
    assert named == [
        ("herding", "ordinary", own, 1),
        ("herding", "ordinary", "linear", 1),
        ("unrolled", "learned", own, 1),
        ("unrolled", "learned", "linear", 1),
        ("unrolled", "ordinary", own, 1),
        ("unrolled", "ordinary", "linear", 1),
    ]
    assert all(row["n"] == 2 and 0 <= row["mean"] <= 100 for row in rows)
    assert json.loads((tmp_path / "c" / "comparison.json").read_text())["rows"] == rows
    chosen = limbeck.load(tmp_path / "c" / "herding-1")
    assert chosen.info["selected"] == "herding" and "chosen" in (tmp_path / "c" / "herding-1" / "README.md").read_text()
    before = len(told)
    again = compare(DATA, small(methods=("herding", "unrolled"), learners=("linear",)), tmp_path / "c", resume=True)
    assert again == rows and len(told) == before


def test_a_method_that_diverges_has_a_row_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*args: Any, **options: Any) -> Any:
        raise DivergedError("The run diverged 6 times.")

    monkeypatch.setattr(module, "distill", diverge)
    rows = compare(DATA, small(methods=("dm", "random")), tmp_path / "c")
    assert rows[0]["error"] == "The run diverged 6 times." and "mean" in rows[1]


def test_a_folder_with_another_comparison_is_refused(tmp_path: Path) -> None:
    compare(DATA, small(methods=("random",)), tmp_path / "c")
    with pytest.raises(LimbeckError, match="already holds a comparison"):
        compare(DATA, small(methods=("random",)), tmp_path / "c")
    with pytest.raises(LimbeckError, match="begun with another n, seed"):
        compare(DATA, small(methods=("random",), n=3, seed=1), tmp_path / "c", resume=True)
    compare(DATA, small(methods=("random",)), str(tmp_path / "c"), overwrite=True)
    before = limbeck.load(tmp_path / "c" / "random-1").images
    compare(DATA, small(methods=("random",), seed=1), tmp_path / "c", overwrite=True)
    assert not torch.equal(limbeck.load(tmp_path / "c" / "random-1").images, before)  # nothing old is taken for new
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("mine")
    with pytest.raises(LimbeckError, match="holds no comparison"):
        compare(DATA, small(), tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": ("dmm",)}, "dmm"),
        ({"methods": ()}, "Nothing is compared"),
        ({"ipc": (0,)}, "at least 1"),
        ({"n": 0}, "at least 1"),
        ({"max_time": -1.0}, "positive number of seconds"),
    ],
)
def test_wrong_input_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimbeckError, match=sentence):
        small(**change)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "digits", "--learner", "linear", "--ipc", "1", "--methods", "random", "dm", "--iterations", "2"]
    words += ["--max-time", "30", "--n", "2", "--epochs", "1", "--val-size", "100", "--out", str(tmp_path / "c")]
    assert run([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == ["random", "dm"]
    assert run([*words, "--resume"]) == 0
    assert "accuracy on the real test set" in capsys.readouterr().out
