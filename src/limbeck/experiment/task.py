"""The real task of a configuration, and how a pool of trained networks determines it.

No network of a pool may have been trained on what is set aside for selection. So where the data is that of the pool,
changed by options or not, it is split as it was there; images keep their numbers when they are changed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from limbeck.data import TaskData, is_named, load, same_source
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.models import load_pool, pool_digest


def task_of(
    config: Config, *, data_dir: Path | None = None, device: str = "cpu", source: str | None = None
) -> TaskData:
    """What the configuration names, split as it says; ``source`` in its place, as when a file has moved."""
    return load(source or config.data, data_dir=data_dir, device=device, val_size=config.val_size, seed=config.split)


def split_of(card: dict[str, Any]) -> dict[str, Any]:
    """How the data of a pool was split, as fields of ``Config``; nothing if its card does not say."""
    made = card.get("config")
    if not isinstance(made, dict) or "val_size" not in made or "seed" not in made:
        return {}
    # Cards of 0.1's beginnings have no split_seed: it was the pool's own.
    return {"split_seed": _known(card).get("split_seed", made["seed"]), "val_size": made["val_size"]}


def split_for(card: dict[str, Any], source: str) -> dict[str, Any]:
    """The same for a source that is the pool's data, changed by options or not; nothing for other data."""
    known = _known(card)
    name = known.get("source", known.get("name", ""))
    return split_of(card) if is_named(source) and same_source(source, name) else {}


def for_pool(config: Config) -> Config:
    """A configuration with a pool as a run records it: with the networks' digest, and split as the pool's data.

    Raises:
        LimbeckError: no such pool, or a damaged one.
    """
    states, card = load_pool(config.init.pool)
    init = dataclasses.replace(config.init, pool_sha256=pool_digest(states))
    return dataclasses.replace(config, init=init, **split_for(card, config.data))


def check_task(card: dict[str, Any], pool: Path, data: TaskData) -> None:
    """Raise LimbeckError for data that a pool's networks cannot take, or that is split otherwise than theirs was."""
    shape, classes = card.get("shape"), card.get("classes")
    if shape is not None and tuple(shape) != data.image_shape:
        wanted, found = (" x ".join(map(str, each)) for each in (shape, data.image_shape))
        raise LimbeckError(
            f"The networks of {pool} take images of {wanted}, but those of {data.name} are {found}; choose other data, "
            "or change it with its options size=PIXELS and channels=3."
        )
    if classes is not None and len(classes) != data.num_classes:
        raise LimbeckError(f"The networks of {pool} know {len(classes)} classes; {data.name} has {data.num_classes}.")
    same = data.sha256 == _known(card).get("sha256") or bool(split_for(card, data.source or ""))
    split = split_of(card) if same else {}
    if split and (data.split_seed not in (None, split["split_seed"]) or len(data.val_y) > split["val_size"]):
        raise LimbeckError(
            f"The networks of {pool} may have been trained on what is set aside of {data.name}; load it with "
            f"seed={split['split_seed']} and val_size={split['val_size']}, as theirs was."
        )


def _known(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says of the data; nothing where it is not of ``limbeck pool make``."""
    known = card.get("data")
    return known if isinstance(known, dict) else {}
