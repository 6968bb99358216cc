"""The configuration that learns an attack."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from limbeck.engine import (
    InnerConfig,
    PixelConfig,
    images_per_class,
)
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, InitConfig, OuterConfig
from limbeck.experiment.task import split_of
from limbeck.pools.pool import default_shares, open_card


def attack_config(
    pool: Path,
    attack: AttackConfig,
    *,
    images: int | None = None,
    steps: int = 1,
    epochs: int = 1,
    step_size: float | None = None,
    start: Literal["noise", "real"] | None = None,
    max_change: float | None = None,
    norm: Literal["linf", "l2"] = "linf",
    valid_pixels: bool = False,
    held_out: int | None = None,
    seed: int = 0,
    outer: OuterConfig | None = None,
    card: dict[str, Any] | None = None,
    trust: bool = False,
) -> Config:
    """The configuration that learns an attack on the networks of a pool; run it with ``distill``.

    Args:
        pool: file of ``make_pool``; its card says which data and learner.
        attack: which class for which.
        images: in all, a multiple of steps x classes: as many of each class in each step, one by default.
        steps: gradient steps that the victim takes, each on images of its own.
        epochs: how often the victim goes through them.
        step_size: the victim's, if it is known; learned by default.
        start: images start from noise or from real ones; noise by default, with ``max_change`` real ones.
        max_change, norm, valid_pixels: bounds on the images, see ``PixelConfig``; with ``max_change`` they keep their
            own labels.
        held_out: networks of the pool that nothing is learned or chosen on; a quarter by default, 50 at most.
        seed: of everything random.
        outer: the outer loop; a recipe by default.
        card: of the pool, read from its file by default.
        trust: import the code that the card names as its learner, if it names any.

    Raises:
        LimbeckError: no such pool, a class that does not exist, or images that cannot be shared out equally.
    """
    card = open_card(pool) if card is None else card
    classes = len(card["classes"])
    for name, label in (("source", attack.source), ("target", attack.target)):
        if label >= classes:
            raise LimbeckError(f"The {name} class is {label}, but the pool's data has classes 0 to {classes - 1}.")
    if steps < 1:
        raise LimbeckError(f"steps is {steps}; it must be at least 1.")
    kept, selection = default_shares(card["config"]["n"])
    config = Config(
        data=card["data"].get("source", card["data"]["name"]),
        learner=card["config"]["learner"],
        init=InitConfig(init=f"pool:{pool}", held_out=kept if held_out is None else held_out),
        attack=attack,
        source=PixelConfig(
            steps=steps,
            epochs=epochs,
            ipc=1 if images is None else images_per_class(images, steps, classes),
            start=start or ("noise" if max_change is None else "real"),
            max_change=max_change,
            norm=norm,
            valid_pixels=valid_pixels,
        ),
        inner=InnerConfig(lr=0.02) if step_size is None else InnerConfig(lr=step_size, learn_lr="fixed"),
        outer=outer or attack_outer(validate_inits=selection),
        seed=seed,
        **split_of(card),
    )
    return config if trust else dataclasses.replace(config, untrusted=config.code)


def attack_outer(**changes: Any) -> OuterConfig:
    """The outer loop of an attack."""
    values: dict[str, Any] = {
        "iterations": 300,
        "inits": 8,
        "real_batch": 512,
        "lr_images": 0.1,
        "lr_steps": 0.01,
        "clip_init": 0.5,
        "validate_every": 50,
        "validate_inits": 20,
    }
    return OuterConfig(**(values | changes))
