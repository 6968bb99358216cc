"""The real task of a configuration, and how a pool of trained networks determines its split.

No network of a pool may have been trained on what is set aside for selection. So where the data is that of the pool,
changed by options or not, it is split as it was there; images keep their numbers when they are changed. Data is known
by digests of its arrays, wherever it lies and whatever it is called.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from limbeck.data import TaskData, is_named, load, read_base_sha256, same_source
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.models import load_card, load_pool, pool_digest


def task_of(
    config: Config, *, data_dir: Path | None = None, device: str = "cpu", source: str | None = None
) -> TaskData:
    """The data that a configuration names, split as it says; ``source`` in its place, as when a file has moved."""
    return load(source or config.data, data_dir=data_dir, device=device, val_size=config.val_size, seed=config.split)


def split_of(card: dict[str, Any]) -> dict[str, Any]:
    """How the data of a pool was split, as fields of ``Config``; nothing if its card does not say."""
    settings = card.get("config")
    if not isinstance(settings, dict) or "val_size" not in settings or "seed" not in settings:
        return {}
    # Cards of 0.1's beginnings have no split_seed: it was the pool's own.
    return {"split_seed": _data_of(card).get("split_seed", settings["seed"]), "val_size": settings["val_size"]}


def split_for(card: dict[str, Any], source: str, *, data_dir: Path | None = None) -> dict[str, Any]:
    """The same for a source that is the pool's data, changed by options or not; nothing for other data.

    Raises:
        LimbeckError: the card has digests to compare with, but the source is missing or damaged.
    """
    if not is_named(source):
        return {}
    digests = _digests_of(card)
    same = _has_old_name(card, source) or (bool(digests) and read_base_sha256(source, data_dir=data_dir) in digests)
    return split_of(card) if same else {}


def is_data_of(card: dict[str, Any], data: TaskData) -> bool:
    """Whether data is that of a pool, changed by options or not."""
    same = not _digests_of(card).isdisjoint({data.sha256, data.base_sha256})
    return same or (data.source is not None and is_named(data.source) and _has_old_name(card, data.source))


def with_pool_digest(config: Config) -> Config:
    """A configuration with a pool that names the digest of its networks.

    Raises:
        LimbeckError: no such pool, or a damaged one.
    """
    states, _ = load_pool(config.init.pool)
    return dataclasses.replace(config, init=dataclasses.replace(config.init, pool_sha256=pool_digest(states)))


def record_pool(config: Config, *, data: TaskData | None = None, data_dir: Path | None = None) -> Config:
    """A configuration with a pool as a run records it: with the networks' digest, and split as the pool's data.

    Args:
        config: names the pool, and the data.
        data: the data where it is loaded already; otherwise what ``config`` names is read to see whether it is the
            pool's.
        data_dir: where known sets are looked for first.

    Raises:
        LimbeckError: no such pool or data, or a damaged one.
    """
    card = load_card(config.init.pool)
    if data is None:
        split = split_for(card, config.data, data_dir=data_dir)
    else:
        split = split_of(card) if is_data_of(card, data) else {}
    return dataclasses.replace(with_pool_digest(config), **split)


def check_task(card: dict[str, Any], pool: Path, data: TaskData) -> None:
    """Raise LimbeckError for data that a pool's networks cannot take, or that is split otherwise than theirs was."""
    shape, classes = card.get("shape"), card.get("classes")
    if shape is not None and tuple(shape) != data.image_shape:
        wanted, actual = (" x ".join(map(str, each)) for each in (shape, data.image_shape))
        raise LimbeckError(
            f"The networks of {pool} take images of {wanted}, but those of {data.name} are {actual}; choose other "
            "data, or change it with its options size=PIXELS and channels=3."
        )
    if classes is not None and len(classes) != data.num_classes:
        raise LimbeckError(f"The networks of {pool} know {len(classes)} classes; {data.name} has {data.num_classes}.")
    split = split_of(card) if is_data_of(card, data) else {}
    if split and (data.split_seed not in (None, split["split_seed"]) or len(data.val_y) > split["val_size"]):
        raise LimbeckError(
            f"The networks of {pool} may have been trained on what is set aside of {data.name}; load it with "
            f"seed={split['split_seed']} and val_size={split['val_size']}, as theirs was."
        )


def _digests_of(card: dict[str, Any]) -> set[str]:
    """The digests by which the data of a pool is known: as it was read, and as options changed it."""
    return {digest for name in ("sha256", "base_sha256") if (digest := _data_of(card).get(name))}


def _has_old_name(card: dict[str, Any], source: str) -> bool:
    """Whether a source goes by the name of the pool's data, if its card is too old to say what that data was."""
    data = _data_of(card)
    return "base_sha256" not in data and same_source(source, data.get("source", data.get("name", "")))


def _data_of(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says of the data; nothing where it is not of ``limbeck pool make``."""
    data = card.get("data")
    return data if isinstance(data, dict) else {}
