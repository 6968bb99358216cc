"""Who may write to a run directory, and what its files say of places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Recorder, tiny_config, tiny_data

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import RunDirectory
from limbeck.cli.main import run as run_command
from limbeck.data import load
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Progress
from limbeck.outer.loop import distill

DATA = tiny_data()


class Failing(Recorder):
    """Raises when the first iteration is over, or a later one."""

    def __init__(self, error: BaseException, after: int = 1) -> None:
        super().__init__()
        self.error, self.after, self.closed = error, after, False

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        if record["iteration"] == self.after:
            raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), LimbeckError("wrong")])
def test_a_run_that_failed_early_does_not_block_its_folder(tmp_path: Path, error: BaseException) -> None:
    folder, reporter = tmp_path / "run", Failing(error)
    with pytest.raises(type(error)):
        distill(tiny_config(), DATA, out=folder, reporter=reporter)
    assert reporter.closed and type(error).__name__ in json.loads((folder / "failed.json").read_text())["error"]
    run = distill(tiny_config(), DATA, out=folder)
    assert run.info["finished"] and not (folder / "failed.json").exists()


def test_it_may_go_on_too(tmp_path: Path) -> None:
    folder, whole = tmp_path / "run", distill(tiny_config(), DATA)
    with pytest.raises(RuntimeError):
        distill(tiny_config(), DATA, out=folder, reporter=Failing(RuntimeError("once")))
    run = distill(tiny_config(), DATA, out=folder, resume=True)
    assert torch.equal(run.images, whole.images) and not (folder / "failed.json").exists()


def test_what_a_kill_left_without_card_and_picture(tmp_path: Path) -> None:
    """The artefact is written before its card, and does not need it."""
    run = distill(tiny_config(), DATA, out=tmp_path)
    (tmp_path / "README.md").rename(tmp_path / ".README.md.part")
    (tmp_path / "preview.png").unlink()
    assert torch.equal(Distilled.load(tmp_path).images, run.images)
    assert [run_command([verb, str(tmp_path)]) for verb in ("show", "export")] == [0, 0]
    assert torch.equal(distill(tiny_config(), DATA, out=tmp_path, resume=True).images, run.images)


def test_metrics_that_are_none_count_for_nothing(tmp_path: Path) -> None:
    for line in ("3", "[]", '{"val_mean": 3}', '{"iteration": "3"}', '{"iteration": 3'):
        (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "val_mean": 2}\n' + line)
        assert RunDirectory(tmp_path).metrics() == [{"iteration": 1, "val_mean": 2}]


def test_a_run_that_has_something_to_keep_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        distill(tiny_config(), DATA, out=folder, reporter=Failing(RuntimeError("late"), after=5))
    assert not (folder / "failed.json").exists()
    with pytest.raises(LimbeckError, match="already holds a run"):
        distill(tiny_config(), DATA, out=folder)


def test_a_run_that_was_killed_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = RunDirectory(tmp_path / "run")
    folder.clear()
    folder.start(tiny_config(), 0)
    (folder.path / ".state.part").write_bytes(b"half")
    folder.check(overwrite=False)
    (folder.path / "mine.txt").write_text("mine")
    with pytest.raises(LimbeckError, match="holds no run"):
        folder.check(overwrite=False)


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"model_type": "bert"}'])
def test_the_configuration_of_another_program_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "failed.json").write_text("{}")
    with pytest.raises(LimbeckError, match="holds no run"):
        RunDirectory(tmp_path).check(overwrite=False)


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data, of mine.npz"
    np.savez(path, x=DATA.train_x.numpy(), y=DATA.train_y.numpy())
    return path


@pytest.mark.parametrize("options", ["", ",invert=False"])
def test_the_path_of_data_is_relative_to_the_run(tmp_path: Path, file: Path, options: str) -> None:
    source = f"{file}{options}"
    config = Config(**{**vars(tiny_config(iterations=2)), "data": source})
    run = distill(config, out=tmp_path / "runs" / "one")
    for name in ("config.json", "distilled.json"):
        values = json.loads((tmp_path / "runs" / "one" / name).read_text())
        assert values.get("config", values)["data"] == f"../../{file.name}{options}", name
    again = type(run).load(tmp_path / "runs" / "one")
    assert again.config.data == source
    again.evaluate(n=2)
    # both move together
    (tmp_path / "there").mkdir()
    shutil.move(tmp_path / "runs", tmp_path / "there" / "runs")
    shutil.move(file, tmp_path / "there" / file.name)
    type(run).load(tmp_path / "there" / "runs" / "one").evaluate(n=2)
    assert distill(config, out=tmp_path / "there" / "runs" / "one", resume=True).info["finished"]


def test_names_of_data_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "arrays"):
        Path(name).write_text("a file of that name is no data set")
        config = Config(data=name)
        assert config.to_json(tmp_path / "run")["data"] == name
        assert Config.from_json(config.to_json(tmp_path / "run"), tmp_path / "run").data == name


def test_a_path_recorded_as_it_was_given_is_still_read(tmp_path: Path, file: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    values = Config(data=file.name).to_json()
    assert Config.from_json(values, tmp_path / "deep" / "run").data == file.name
    assert load(file.name).num_classes == 3
