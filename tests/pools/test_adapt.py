"""The configuration of an adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_pools import pool_of_rows, rows_file

from limbeck.errors import LimbeckError
from limbeck.experiment.parts import OuterConfig
from limbeck.pools.adapt import AdaptSettings, adapt_config, adapt_outer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def pool(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools") / "rows.safetensors"
    pool_of_rows(file, path, steps=2)
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the networks are to be good at."""
    return str(rows_file(tmp_path_factory.mktemp("other"), seed=1))


def test_defaults_are_of_the_pool(pool: Path, other: str) -> None:
    config = adapt_config(pool, other)
    assert config == adapt_config(pool, other, AdaptSettings())
    assert (config.learner, config.init.pool, config.init.held_out, config.init.network) == ("linear", pool, 2, None)
    assert (config.source.ipc, config.source.steps, config.source.epochs) == (1, 10, 3)
    assert (config.source.start, config.source.labels) == ("real", "soft")
    assert config.outer == adapt_outer(validate_inits=1)
    assert config.seed == 0


def test_settings_are_taken_over(pool: Path, other: str) -> None:
    settings = AdaptSettings(images=12, steps=2, epochs=5, start="noise", labels="hard", held_out=4, seed=9)
    config = adapt_config(pool, other, settings, outer=OuterConfig(inits=1))
    assert (config.source.ipc, config.source.steps, config.source.epochs) == (2, 2, 5)
    assert (config.source.start, config.source.labels) == ("noise", "hard")
    assert (config.init.network, config.init.held_out, config.seed) == (None, 4, 9)
    assert config.outer == OuterConfig(inits=1, validate_inits=1)  # as many as the pool has
    assert adapt_config(pool, other, settings).outer == adapt_outer(validate_inits=1)


def test_one_network_of_the_pool_is_a_fixed_one(pool: Path, other: str) -> None:
    config = adapt_config(pool, other, AdaptSettings(network=3))
    assert (config.init.network, config.init.fixed, config.outer.inits) == (3, True, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        *(({name: 0}, f"{name} is 0; it must be at least 1") for name in ("images", "steps", "epochs", "held_out")),
        ({"start": "noisy"}, "kind of start 'noisy'; did you mean 'noise'"),
        ({"labels": "softt"}, "kind of labels 'softt'; did you mean 'soft'"),
        ({"network": -1}, "network is -1; the networks of a pool are counted from 0"),
        ({"network": 1, "held_out": 2}, "held_out is 2, which does nothing with network 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        AdaptSettings(**settings)


def test_images_that_cannot_be_shared_out(pool: Path, other: str) -> None:
    with pytest.raises(LimbeckError, match="must be a multiple of 6"):
        adapt_config(pool, other, AdaptSettings(images=8, steps=2))
