"""What a caller or a machine may have set otherwise: the default dtype, the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import same_tensors, tiny_config, tiny_data
from torch import nn

import limbeck
from limbeck.errors import LimbeckError
from limbeck.experiment.parts import EngineConfig
from limbeck.outer.loop import distill


@pytest.fixture
def double() -> Iterator[None]:
    """What ``torch.set_default_dtype`` may have been called with."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


KINDS: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"labels": "soft", "init": "fixed"},
    "generator": {"source": "generator", "generator": {"curriculum": "none"}},
    "curriculum": {"source": "generator"},
    "warm": {"source": "generator", "generator": {"warm_start": 2, "reconstruction": 0.1}},
    "real": {"source": "real", "inner": {"optimizer": "adam"}},
    "running": {"learner": "convnet3,width=4,depth=1,norm=running", "inner": {"optimizer": "sgd", "momentum": 0.5}},
    "lenet": {"learner": "mlp", "pixels": {"steps": 2, "epochs": 2}, "engine": EngineConfig(compile="off")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_dtype_changes_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    config = replace(tiny_config(**KINDS[kind]), augment_shift=1 if kind == "running" else 0)
    single = distill(config, tiny_data())
    data = tiny_data()
    request.getfixturevalue("double")
    result = distill(config, data)
    assert torch.equal(single.images, result.images) and torch.equal(single.labels, result.labels)
    assert same_tensors(dict(single.training.tensors()), dict(result.training.tensors()))
    assert same_tensors(single.generator, result.generator) and same_tensors(single.weights, result.weights)
    assert single.info["validation"] == result.info["validation"]
    baselines = None if kind in ("hard", "real") else ()  # what they are trained on is no other for the other kinds
    scores = [
        limbeck.evaluate(run, data, n=2, seed=1, baselines=baselines).to_json()["rows"] for run in (single, result)
    ]
    assert [row["mean"] for row in scores[0]] == [row["mean"] for row in scores[1]]
    double_net, single_net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), result.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="this set was learned for one fixed")
        assert result.train(double_net) is double_net  # float64, as the caller made it
    assert next(single_net.parameters()).dtype == torch.float32


def test_a_device_may_be_an_object(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    run = distill(tiny_config(iterations=1), tiny_data(), device=cpu)
    assert limbeck.evaluate(run, tiny_data(), n=1, baselines=(), device=cpu).rows[0].scores.n == 1
    assert limbeck.load_data((torch.rand(60, 1, 8, 8), torch.arange(60) % 3), device=cpu).train_x.device == cpu
    assert next(iter(run.batches(cpu))).x_MCHW.device == cpu


@pytest.mark.parametrize("device", ["nonsense", "cuda:77", "meta", torch.device("cuda:77"), 3.5])
def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path, device: Any) -> None:
    with pytest.raises(LimbeckError, match=r"^The device '.*' cannot be used here \(.*\); 'cpu' always can\.$"):
        distill(tiny_config(), tiny_data(), out=tmp_path / "run", device=device)
    with pytest.raises(LimbeckError, match="cannot be used here"):
        limbeck.load_data("mnist", device=device)
    assert not (tmp_path / "run").exists()
