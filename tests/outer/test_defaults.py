"""What nobody named: sizes by the budget, where images start, the step size; and what was named stays."""

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
from limbeck.engine import InnerConfig, PixelConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.outer.defaults import SIZES, describe_choice, fit_defaults
from limbeck.outer.loop import distill

DATA = tiny_data()
ALL = SIZES | {"learner"}


def fitted(free: frozenset[str] = ALL, **outer: Any) -> Config:
    return fit_defaults(Config(outer=OuterConfig(**outer)), DATA, free)


def test_a_short_run_starts_from_real_images_and_is_small() -> None:
    short = fitted(max_time=60)
    assert isinstance(short.source, PixelConfig) and short.source.start == "real"
    assert (short.source.steps, short.source.epochs) == (1, 10)
    assert short.outer.real_batch <= len(DATA.train_y)
    assert short.inner.lr is None  # is tried


def test_a_long_run_is_as_it_was() -> None:
    long = fitted()
    assert replace(long, learner="lenet").settled() == Config().settled()


def test_a_few_iterations_start_from_real_images_too() -> None:
    few = fitted(iterations=200)
    assert few.source == replace(Config().source, start="real") and few.outer == OuterConfig(iterations=200)


def test_what_is_named_stays() -> None:
    named = fitted(frozenset(), max_time=60)
    assert named.source == PixelConfig(start="real") and named.outer == OuterConfig(max_time=60)
    assert named.learner == "lenet"
    config = Config(source=PixelConfig(start="noise"), outer=OuterConfig(max_time=60))
    assert fit_defaults(config, DATA, ALL).source.start == "noise"  # type: ignore[attr-defined]


def test_the_learner_fits_the_data() -> None:
    assert fitted().learner == "mlp"  # 8 x 8 pixels
    x, y = torch.randn(60, 12, 2), torch.arange(60) % 3
    assert fit_defaults(Config(), limbeck.load_data((x, y), kind="series"), ALL).learner == "gru"


@pytest.mark.parametrize(("side", "shrink"), [(47, None), (48, 2), (63, 2), (64, 2), (96, 3), (224, 7)])
def test_large_pictures_are_seen_as_averages(side: int, shrink: int | None) -> None:
    x = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None], (30, side, side))
    data = limbeck.load_data((x, np.arange(30) % 3))
    learner = fit_defaults(Config(), data, ALL).learner
    assert learner == ("lenet" if shrink is None else f"stridednet,shrink={shrink}")
    assert shrink is None or f"averages over {shrink} x {shrink}" in describe_choice(learner, data)


def test_the_step_size_is_tried_recorded_and_kept(tmp_path: Path) -> None:
    told = Recorder()
    config = tiny_config()
    config = replace(config, inner=InnerConfig())
    run = limbeck.distill(config, DATA, out=tmp_path / "a", reporter=told, verdict=False)
    assert run.config.inner.lr in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    assert any(text.startswith(f"step size {run.config.inner.lr:g} to start from") for text in told.messages)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["inner"]["lr"] == run.config.inner.lr
    again = limbeck.distill(run.config, DATA, verdict=False)  # nothing that was drawn for it changes the run
    assert torch.equal(again.images, run.images) and again.config == run.config


@pytest.mark.parametrize("named", [0.05, None])
def test_nothing_is_tried_where_it_is_named_or_nobody_asked(named: float | None) -> None:
    told = Recorder()
    config = replace(tiny_config(), inner=InnerConfig(lr=named))
    run = distill(config, DATA, reporter=told)
    assert run.config.inner.lr == (named or 0.02)
    assert not any("to start from" in text for text in told.messages)


def test_settings_in_python_know_what_was_named() -> None:
    options: dict[str, Any] = {"iterations": 2, "max_time": 60, "inits": 3, "compile": "off", "bfloat16": "off"}
    run = limbeck.distill(DATA, "linear", epochs=2, lr=0.1, verdict=False, progress=False, **options)
    assert isinstance(run.config.source, PixelConfig)
    assert (run.config.source.steps, run.config.source.epochs, run.config.outer.inits) == (1, 2, 3)
    assert run.config.inner.lr == 0.1
    own = limbeck.distill(DATA, "linear", source=PixelConfig(steps=3), lr=0.1, verdict=False, progress=False, **options)
    assert own.config.source == PixelConfig(steps=3, start="real")


def test_recipes_name_what_may_be_open() -> None:
    for name in ("mnist-fixed", "mnist-random", "cifar10-fixed", "cifar10-random"):
        config = limbeck.recipe(name).config
        assert config == config.settled()


@pytest.mark.parametrize(
    ("source", "note"),
    [
        (PixelConfig(start="real", ipc=24, steps=1), None),
        (PixelConfig(start="real", ipc=24, steps=2), "class 0 has 24 training examples for 48 images to start from"),
        (PixelConfig(start="noise", ipc=99, steps=1), None),
    ],
)
def test_images_that_must_begin_alike_are_told_of(source: PixelConfig, note: str | None) -> None:
    told = Recorder()
    limbeck.distill(replace(tiny_config(iterations=1), source=source), DATA, reporter=told)
    notes = [text for text in told.messages if "some begin alike" in text]
    assert notes == ([] if note is None else [f"{note}: some begin alike"])


def test_more_images_of_a_class_than_there_are_real_ones(tmp_path: Path) -> None:
    with pytest.raises(
        LimbeckError, match=r"images_per_class is 25.*than 24 training .*start from noise \(start='noise'\)"
    ):
        limbeck.distill(DATA, "linear", images_per_class=25, start="real", steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
