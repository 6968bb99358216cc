"""Which data is the one of a pool: known by digest, so that no network saw what is set aside for selection."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import write_idx_set
from tiny_pools import pool_of_rows, rows_file, tiny_pool_config, train_pool

from limbeck import Distilled, distill
from limbeck.cli.main import run as run_in_process
from limbeck.data import TaskData, load
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import InitConfig, OuterConfig
from limbeck.experiment.task import check_task, is_data_of, record_pool, split_for, split_of, task_of
from limbeck.models import save_pool
from limbeck.pools.adapt import AdaptSettings, adapt_config
from limbeck.pools.pool import open_card, open_pool

SPLIT = {"split_seed": 3, "val_size": 40}
"""How the data of the pool is split; not as a configuration that says nothing splits it."""

OPTIONS = ("", ",invert=True", ",rotate=90,invert=True", ",invert=False")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def pool(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools") / "rows.safetensors"
    pool_of_rows(file, path, steps=2, seed=3)
    return path


@pytest.fixture(scope="module")
def old_pool(pool: Path) -> Path:
    """The same pool with a card that does not say what its data was before options changed it."""
    states, card = open_pool(pool).states, open_card(pool)
    card["data"] = {name: value for name, value in card["data"].items() if name != "base_sha256"}
    path = pool.with_name("old.safetensors")
    save_pool(path, states, card)
    return path


@pytest.fixture
def copy(file: Path, tmp_path: Path) -> Path:
    """The pool's data in another place and under another name."""
    return Path(shutil.copy(file, tmp_path / "harvest.npz"))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Other data under the name of the pool's."""
    return rows_file(tmp_path / "elsewhere", seed=1)


def configs_for(pool: Path, source: str) -> dict[str, Callable[[], Config]]:
    """The ways in which a configuration for a pool comes about."""
    quick = OuterConfig(iterations=1, inits=1, real_batch=8, validate_inits=1)
    settings = AdaptSettings(images=3, steps=1, epochs=1, held_out=4)
    plain = Config(data=source, learner="linear", init=InitConfig(init=f"pool:{pool}", held_out=4), outer=quick)
    return {
        "adapt_config": lambda: adapt_config(pool, source, settings),
        "record_pool": lambda: record_pool(plain),
        "distill": lambda: distill(adapt_config(pool, source, settings, outer=quick)).config,
    }


def chosen_split(config: Config) -> dict[str, int]:
    return {"split_seed": config.split, "val_size": config.val_size}


def assert_no_network_saw(selection: TaskData, pool_data: TaskData) -> None:
    """What is set aside here was set aside there, too; labels and numbers are equal whatever options change."""
    assert torch.equal(selection.val_y, pool_data.val_y)
    assert torch.equal(selection.train_y, pool_data.train_y)


def test_the_card_names_the_data_as_it_was_read(pool: Path, file: Path, tmp_path: Path) -> None:
    plain = load(str(file)).sha256
    assert open_card(pool)["data"]["base_sha256"] == open_card(pool)["data"]["sha256"] == plain
    data = load(f"{file},invert=True", val_size=40)
    card = train_pool(tiny_pool_config(), data, tmp_path / "inverted.safetensors").card
    assert card["data"]["base_sha256"] == plain
    assert card["data"]["sha256"] == data.sha256 != plain


@pytest.mark.parametrize("way", ["adapt_config", "record_pool", "distill"])
def test_a_renamed_copy_is_split_as_the_pools_data_was(way: str, pool: Path, file: Path, copy: Path) -> None:
    config = configs_for(pool, f"{copy},invert=True")[way]()
    assert chosen_split(config) == SPLIT
    pool_data = load(str(file), val_size=40, seed=3)
    assert torch.equal(task_of(config).val_x, 255 - pool_data.val_x)
    assert torch.equal(task_of(config).train_x, 255 - pool_data.train_x)


@pytest.mark.parametrize("way", ["adapt_config", "record_pool", "distill"])
def test_another_file_of_the_same_name_is_split_as_its_configuration_says(way: str, pool: Path, other: Path) -> None:
    config = configs_for(pool, f"{other},invert=True")[way]()
    assert chosen_split(config) == {"split_seed": 0, "val_size": 5000}


def test_another_file_in_the_place_of_the_pools_data(file: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copy(file, tmp_path / "rows.npz"))
    path = tmp_path / "pool.safetensors"
    pool_of_rows(mine, path, steps=2, seed=3)
    assert split_for(open_card(path), str(mine)) == SPLIT
    shutil.copy(rows_file(tmp_path / "new", seed=1), mine)
    assert split_for(open_card(path), str(mine)) == {}


@pytest.mark.parametrize("options", OPTIONS)
def test_data_that_is_given_is_known_by_its_arrays(
    options: str, pool: Path, file: Path, copy: Path, other: Path
) -> None:
    card = open_card(pool)
    for source in (file, copy):
        good, bad = (load(f"{source}{options}", val_size=size, seed=3) for size in (40, 50))
        assert is_data_of(card, good)
        check_task(card, pool, good)
        with pytest.raises(LimbeckError, match="load it with seed=3 and val_size=40, as theirs was"):
            check_task(card, pool, bad)
        with pytest.raises(LimbeckError, match="load it with seed=3 and val_size=40"):
            check_task(card, pool, load(f"{source}{options}", val_size=40, seed=4))
    data = load(f"{other}{options}", val_size=50, seed=4)
    assert not is_data_of(card, data)
    check_task(card, pool, data)


def test_arrays_without_a_name_are_known(pool: Path, file: Path) -> None:
    with np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"]
    assert is_data_of(open_card(pool), load((x, y)))
    config = Config(data="arrays", learner="linear", init=InitConfig(init=f"pool:{pool}"))
    assert record_pool(config, data=load((x, y))).split_seed == 3
    assert record_pool(config, data=load((x[::-1], y[::-1]))).split_seed is None  # images have other numbers
    assert record_pool(config).split_seed is None  # nothing to read


@pytest.mark.parametrize("options", OPTIONS)
def test_a_pool_of_changed_data_knows_what_it_was_changed_from(
    options: str, file: Path, copy: Path, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pool.safetensors"
    data = load(f"{file},rotate=180", val_size=40, seed=3)
    card = train_pool(tiny_pool_config(seed=3, steps=1), data, path).card
    for source in (f"{file}{options}", f"{copy}{options}"):
        assert split_for(card, source) == SPLIT
        assert is_data_of(card, load(source))
        assert_no_network_saw(load(source, val_size=40, seed=3), data)
    assert split_for(card, f"{other}{options}") == {}
    assert not is_data_of(card, load(f"{other}{options}"))


def test_data_that_was_saved_after_a_change_is_known(pool: Path, file: Path, tmp_path: Path) -> None:
    """A pool of images that somebody else's options give, and a pool whose changed images lie in a file."""
    with np.load(file) as arrays:
        np.savez(tmp_path / "saved.npz", x=255 - arrays["x"], y=arrays["y"])
    saved = load(str(tmp_path / "saved.npz"), val_size=40, seed=3)
    card = train_pool(tiny_pool_config(seed=3, steps=1), saved, tmp_path / "a.safetensors").card
    assert is_data_of(card, load(f"{file},invert=True"))
    changed = load(f"{file},invert=True", val_size=40, seed=3)
    card = train_pool(tiny_pool_config(seed=3, steps=1), changed, tmp_path / "b.safetensors").card
    assert split_for(card, f"{tmp_path / 'saved.npz'},rotate=90") == SPLIT


@pytest.mark.parametrize("options", OPTIONS)
def test_an_old_card_goes_by_the_name(options: str, old_pool: Path, file: Path, copy: Path, other: Path) -> None:
    card = open_card(old_pool)
    assert split_for(card, f"{file}{options}") == split_for(card, f"{other}{options}") == SPLIT
    assert is_data_of(card, load(f"{file}{options}"))
    assert is_data_of(card, load(f"{other}{options}"))
    assert split_for(card, f"{copy}{options}") == SPLIT  # its digest is that of unchanged data
    for way in configs_for(old_pool, f"{file}{options}").values():
        assert chosen_split(way()) == SPLIT
    assert split_for(card, str(rows_file(copy.parent / "new", seed=1).rename(copy.parent / "corn.npz"))) == {}
    with pytest.raises(LimbeckError, match="load it with seed=3 and val_size=40"):
        check_task(card, old_pool, load(f"{other}{options}", val_size=40, seed=4))


@pytest.mark.parametrize("card", [{}, {"data": "rows"}, {"data": {"sha256": "0" * 64}}, {"config": {"seed": 3}}])
def test_a_card_that_says_nothing_decides_nothing(card: dict[str, Any], file: Path) -> None:
    assert split_of(card) == {}
    assert split_for(card, str(file)) == {}
    assert not is_data_of(card, load(str(file)))


def test_data_that_is_not_there_is_named(pool: Path, old_pool: Path, tmp_path: Path) -> None:
    for path in (pool, old_pool):
        with pytest.raises(LimbeckError, match="nowhere"):
            adapt_config(path, str(tmp_path / "nowhere.npz"))


def test_known_sets_are_looked_for_where_they_lie(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    write_idx_set(tmp_path / "data" / "fashion-mnist")
    config = Config(data="fashion-mnist", learner="linear", init=InitConfig(init=f"pool:{pool}"))
    with pytest.raises(LimbeckError, match="Fashion-MNIST is not on this machine"):
        record_pool(config)
    assert record_pool(config, data_dir=tmp_path / "data").split_seed is None
    assert adapt_config(pool, "fashion-mnist", data_dir=tmp_path / "data").split == 0
    with pytest.raises(LimbeckError, match="take images of 1 x 8 x 8, but those of fashion-mnist are 1 x 28 x 28"):
        distill(config, data_dir=tmp_path / "data")  # reads it there


def test_adapt_to_a_renamed_copy_on_the_command_line(
    pool: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", str(pool), "--to", f"{copy},invert=True", "--images", "3", "--steps", "1", "--epochs", "1"]
    words += ["--iterations", "2", "--held-out", "3", "--real-batch", "16", "--baselines", "none", "--json"]
    out = tmp_path / "run"
    assert run_in_process([*words, "--out", str(out)]) == 0

    assert chosen_split(Distilled.load(out).config) == SPLIT
    assert run_in_process([*words, "--out", str(out), "--resume"]) == 0
