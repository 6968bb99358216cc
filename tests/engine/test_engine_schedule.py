"""Hyper-parameters of the inner loop: where they start, where they may go, and what learning them takes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from engine_cases import LEARNED
from hypothesis import given
from hypothesis import strategies as st

from limbeck.engine import InnerConfig, Learned, Schedule

WAYS: tuple[Learned, ...] = ("fixed", "shared", "per-step")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("optimizer", LEARNED)
def test_every_hyperparameter_starts_where_it_is_told(optimizer: str, way: Learned) -> None:
    config = replace(
        LEARNED[optimizer],
        lr_max=None if way == "fixed" else LEARNED[optimizer].lr_max,
        weight_decay=0.0 if optimizer == "gd" else 0.02,
        learn_lr=way,
        learn_momentum=way if optimizer in ("sgd", "nesterov") else "fixed",
        learn_betas=way if optimizer == "adam" else "fixed",
        learn_weight_decay="fixed" if optimizer == "gd" else way,
    )
    schedule = Schedule(config, 3, dtype=torch.float64)
    names = config.make().hyperparameters
    shape = {"fixed": None, "shared": (), "per-step": (3,)}[way]
    assert {n: tuple(v.shape) for n, v in schedule.parameters().items()} == (
        {} if shape is None else dict.fromkeys(names, shape)
    )
    decoded = schedule.decode(schedule.parameters())
    assert set(decoded) == set(names)
    for name, values_T in decoded.items():
        torch.testing.assert_close(values_T, torch.full((3,), config.start(name), dtype=torch.float64))
        for step in range(3):
            assert torch.equal(schedule.at(schedule.parameters(), step)[name], values_T[step])


@given(raw=st.floats(-500, 500))
def test_hyperparameters_stay_where_they_make_sense(raw: float) -> None:
    for config in LEARNED.values():
        schedule = Schedule(config, 2, dtype=torch.float64)
        params = {name: torch.full_like(value, raw) for name, value in schedule.parameters().items()}
        for name, value in schedule.at(params, 1).items():
            upper = {"momentum": 1.0, "beta1": 1.0, "beta2": 1.0, "lr": config.lr_max or math.inf}.get(name, math.inf)
            assert 0 <= value.item() <= upper
            assert value.float().item() < 1 or name not in ("momentum", "beta1", "beta2")


def test_a_step_reads_its_own_value() -> None:
    schedule = Schedule(InnerConfig(optimizer="sgd", learn_lr="per-step", learn_momentum="shared"), 2)
    params = {"lr": torch.tensor([0.0, 1.0]), "momentum": torch.tensor(0.0)}
    at = [schedule.at(params, step) for step in (0, 1)]
    assert [float(h["lr"]) for h in at] == pytest.approx([math.log(2), math.log(1 + math.e)])
    assert [float(h["momentum"]) for h in at] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert [float(h["weight_decay"]) for h in at] == [0.0, 0.0]
