"""Progress as TensorBoard events."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from tiny_runs import metrics, tiny_config, tiny_data

from limbeck.engine import Execution
from limbeck.errors import LimbeckError
from limbeck.experiment.progress import Progress
from limbeck.outer.loop import distill
from limbeck.outer.tensorboard import TensorBoardReporter

DATA = tiny_data()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard would show: value by iteration, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_a_run_becomes_scalars(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tensorboard"
    distill(tiny_config(), DATA, out=tmp_path / "run", reporter=TensorBoardReporter(folder))
    (file,) = folder.iterdir()
    assert file.name.startswith("events.out.tfevents")
    found = scalars(folder)
    assert {"loss", "norm", "norm_median", "val_mean", "val_std", "val_worst", "val_n"} <= set(found)
    assert "iteration" not in found
    assert list(found["loss"]) == [1, 2, 3, 4, 5, 6, 7]
    assert list(found["val_mean"]) == [3, 6, 7]
    for line in metrics(tmp_path / "run"):
        for name in ("loss", "norm", "val_mean", "val_worst"):
            assert found[name][line["iteration"]] == pytest.approx(line[name], rel=1e-6)


def test_a_resumed_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    progress = Progress()
    for iterations in ((1, 2, 3, 4), (3, 4, 5)):  # killed after the fourth, resumed from the second
        progress.iteration = iterations[0] - 1
        reporter = TensorBoardReporter(tmp_path)
        reporter.start(tiny_config(), Execution(), progress)
        for iteration in iterations:
            reporter.update({"iteration": iteration, "loss": iterations[0] + 0.5 * iteration}, progress, 0.5)
        reporter.finish(progress, interrupted=False)
    assert set(scalars(tmp_path)["loss"]) == {1, 2, 3, 4, 5}


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    reporter = TensorBoardReporter(tmp_path)
    reporter.message("nothing to see")
    reporter.start(tiny_config(), Execution(), Progress())
    reporter.update({"iteration": 1, "loss": None, "norm": 2, "val_std": None, "elapsed": 1.5}, Progress(), 0.1)
    reporter.finish(Progress(), interrupted=True)
    found = scalars(tmp_path)
    assert set(found) == {"norm", "elapsed"}
    assert math.isclose(found["elapsed"][1], 1.5)


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[tensorboard\]'"):
        TensorBoardReporter(tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_the_command_line_says_so_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from limbeck.cli.main import run

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(["distill", "mnist", "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert "limbeck[tensorboard]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
