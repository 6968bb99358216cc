"""Runs on tables and series, from their files to an export: no picture is drawn of what is no image."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from limbeck import Config, InnerConfig, OuterConfig, PixelConfig, distill, evaluate, load
from limbeck.artefact.exporting import export
from limbeck.artefact.preview import preview
from limbeck.cli import run as command
from limbeck.errors import LimbeckError

CONFIG = Config(
    learner="mlp,hidden=(8,)",
    source=PixelConfig(steps=2, epochs=1),
    inner=InnerConfig(lr=0.1),
    outer=OuterConfig(iterations=2, inits=2, real_batch=16, validate_every=1, validate_inits=2),
)


def table(folder: Path) -> str:
    """Three kinds of flowers, of which the test part that is held out has all."""
    rng = np.random.default_rng(0)
    rows = [(*rng.normal(size=4), ("ash", "elm", "oak")[i % 3]) for i in range(90)]
    (folder / "trees.csv").write_text("a,b,c,d,kind\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return f"{folder / 'trees.csv'},label=kind"


def test_a_table_from_the_file_to_the_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    run = distill(dataclasses.replace(CONFIG, data=table(tmp_path)), out=out)
    assert run.kind == load(out).kind == "table" and run.class_names == ("ash", "elm", "oak")
    assert not (out / "preview.png").exists() and "preview.png" not in (out / "README.md").read_text()
    for draw in (lambda: preview(run), lambda: export(run, tmp_path / "png")):
        with pytest.raises(
            LimbeckError, match="This set is made of rows of a table, which no picture shows; export it as"
        ):
            draw()
    assert not (tmp_path / "png").exists() and export(run, tmp_path / "set.npz") == 6
    assert command(["show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "6 rows of a table, which no picture shows" in shown and "preview.png" not in shown
    assert command(["show", str(out), "--out", str(tmp_path / "x.png")]) == 2 and not (tmp_path / "x.png").exists()
    assert len(evaluate(run, n=2).rows) == 5  # the file is found again by its name, with its options
    with pytest.raises(
        LimbeckError, match="augment_shift and augment_flip are for images, but trees holds rows of a table"
    ):
        distill(dataclasses.replace(CONFIG, data=table(tmp_path), augment_flip=True))


def test_a_class_without_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 6, 6)).astype(np.float32), np.arange(90) % 3
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=x[y < 2], y_test=y[y < 2])
    out = tmp_path / "run"
    distill(dataclasses.replace(CONFIG, data=str(tmp_path / "mine.npz")), out=out)
    capsys.readouterr()
    assert command(["evaluate", str(out), "--baselines", "none", "--protocol", "learned", "--n", "2", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["per_class"][2] is None and None not in row["per_class"][:2] and row["mean"] >= 0
    assert command(["evaluate", str(out), "--baselines", "none", "--protocol", "learned", "--n", "2"]) == 0
    assert "–" in capsys.readouterr().out


def test_wrong_data_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "ecg.npz", x=np.zeros((60, 12, 50, 1)), y=np.arange(60) % 3)
    out = tmp_path / "run"
    assert command(["distill", str(tmp_path / "ecg.npz"), "--learner", "linear", "--out", str(out)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "12 channels of 50 × 1 pixels" in told and "channels=last" in told and not out.exists()
