"""Values of a wrong type, for every field of every config: one sentence that names the field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from limbeck import Config, InnerConfig, OuterConfig, PixelConfig
from limbeck.attack.config import AttackSettings
from limbeck.common.typed import check_types
from limbeck.engine import SOURCES, Remat
from limbeck.errors import LimbeckError
from limbeck.evaluation.training import OrdinaryTraining
from limbeck.experiment.parts import EngineConfig, InitConfig
from limbeck.experiment.recorded import construct
from limbeck.experiment.settings import config_of
from limbeck.methods import UnrolledConfig
from limbeck.nas.searches.strategies import SearchConfig
from limbeck.nas.training import Schedule
from limbeck.pools.adapt import AdaptSettings
from limbeck.pools.config import PoolConfig
from limbeck.theory.bound import BoundConfig
from limbeck.theory.distillation import RegressionConfig

OWN = (
    AdaptSettings, AttackSettings, BoundConfig, Config, EngineConfig, InitConfig, OrdinaryTraining, OuterConfig,
    InnerConfig, PoolConfig, RegressionConfig, Remat, Schedule, SearchConfig, UnrolledConfig, *SOURCES.values(),
)  # fmt: skip
"""Configs that are checked where they are made."""


@pytest.mark.parametrize("cls", OWN, ids=lambda cls: cls.__name__)
def test_no_field_takes_an_object(cls: type[Any]) -> None:
    for field in dataclasses.fields(cls):
        with pytest.raises(LimbeckError, match=f"{field.name}( is|')"):
            cls(**{field.name: object()})


@pytest.mark.parametrize("cls", OWN, ids=lambda cls: cls.__name__)
def test_no_recorded_field_takes_an_object(cls: type[Any]) -> None:
    for field in dataclasses.fields(cls):
        with pytest.raises(LimbeckError, match=f"{field.name} is.*it must be"):
            construct(cls, {field.name: object()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"inits": 1.5}, "inits is 1.5; it must be a whole number"),
        ({"ipc": True}, "ipc is True; it must be a whole number"),
        ({"lr": "0.1"}, "lr is '0.1'; it must be a number or None"),
        ({"lr": 1e39}, r"lr is 1e\+39, which single precision cannot hold"),
        ({"iterations": 10**400}, "iterations is too large a number.*at most 64 bits"),
        ({"weight_norm": 1}, "weight_norm is 1; it must be True or False"),
        ({"optimizer": 3}, "optimizer is 3; it must be one of gd, sgd, nesterov, adam"),
        ({"family": 3}, "family is 3; it must be a list"),
        ({"source": ["pixels"]}, "Unknown source"),
    ],
)
def test_settings_of_a_wrong_type(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        config_of(settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "x"}, "source is 'x'; it must be a config of one"),
        ({"init": "fixed"}, "init is 'fixed'; it must be an InitConfig"),
        ({"engine": None}, "engine is None; it must be an EngineConfig"),
        ({"family": [3]}, "family is .3.; it must be a tuple, each entry text"),
    ],
)
def test_parts_of_a_wrong_type(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Config(**values)


def test_parts_of_the_engine_are_checked_where_they_are_made() -> None:
    for make, message in ((lambda: PixelConfig(steps=2.5), "steps is 2.5"), (lambda: InnerConfig(lr=1e39), "lr is 1e")):  # type: ignore[arg-type]
        with pytest.raises(LimbeckError, match=message):
            make()


def test_numbers_of_numpy_become_plain_ones() -> None:
    config = OuterConfig(iterations=np.int64(3), lr_images=np.float32(0.5))  # type: ignore[arg-type]
    assert [type(value) for value in (config.iterations, config.lr_images)] == [int, float]
    assert config == OuterConfig(iterations=3, lr_images=0.5)
    assert Config(family=["mlp"]).family == ("mlp",)  # type: ignore[arg-type]


@dataclasses.dataclass
class Grid:
    """Tuples of a length and of none."""

    rates: tuple[float, ...] = ()
    sides: tuple[int, str] | None = None


def test_entries_of_tuples_are_plain_numbers_too() -> None:
    grid, kept = Grid(rates=(np.float32(0.5), np.float64(2))), (0.5, 2.0)
    check_types(grid)
    assert grid.rates == kept and [type(value) for value in grid.rates] == [float, float]
    same = Grid(rates=kept)
    check_types(same)
    assert same.rates is kept


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sides": (1,)}, r"sides is \(1,\); it must be a tuple of 2 \(a whole number, text\) or None"),
        ({"sides": [1, "a", 2]}, "it must be a tuple of 2"),
        ({"rates": (1.0, 1e300)}, r"rates is 1e\+300, which single precision cannot hold"),
        ({"rates": 3}, "it must be a tuple, each entry a number"),
    ],
)
def test_tuples_of_a_wrong_length_or_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        check_types(Grid(**values))


def test_what_no_annotation_says_is_not_checked() -> None:
    @dataclasses.dataclass
    class Mine:
        unknown: Nowhere  # type: ignore[name-defined]  # noqa: F821
        number: float = math.nan

    check_types(Mine(3, "text"))  # type: ignore[arg-type]
