"""The configuration that learns an attack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from limbeck.common.typed import check_types
from limbeck.engine import InnerConfig, PixelConfig, images_per_class
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, InitConfig, OuterConfig, check_positive
from limbeck.experiment.task import split_of
from limbeck.pools.pool import default_shares, fit_validation, open_card, validation_networks


@final
@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """The batch of an attack and the steps that networks take on it.

    Args:
        images: in all, a multiple of steps x classes: as many of each class in each step, one by default.
        steps: gradient steps that a network takes, each on images of its own.
        epochs: how often it goes through them.
        step_size: of those steps, if it is known; learned by default.
        start: images start from noise or from real ones; noise by default, with ``max_change`` real ones.
        max_change, norm, valid_pixels: bounds on the images, see ``PixelConfig``; with ``max_change`` they keep their
            own labels.
        held_out: networks of the pool that nothing is learned or chosen on; a quarter by default, 50 at most.
        seed: of everything random.

    Raises:
        LimbeckError: numbers that are not positive, or bounds that do not fit each other.
    """

    images: int | None = None
    steps: int = 1
    epochs: int = 1
    step_size: float | None = None
    start: Literal["noise", "real"] | None = None
    max_change: float | None = None
    norm: Literal["linf", "l2"] = "linf"
    valid_pixels: bool = False
    held_out: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, *(name for name in ("images", "step_size", "held_out") if getattr(self, name) is not None))
        self._pixels(ipc=1)  # refuses what does not fit

    def source(self, classes: int) -> PixelConfig:
        """What is learned, for data of so many classes; raises LimbeckError if images cannot be shared out equally."""
        return self._pixels(ipc=1 if self.images is None else images_per_class(self.images, self.steps, classes))

    def inner(self) -> InnerConfig:
        """The step sizes: learned from 0.02 on, or fixed."""
        return InnerConfig(lr=0.02) if self.step_size is None else InnerConfig(lr=self.step_size, learn_lr="fixed")

    def _pixels(self, ipc: int) -> PixelConfig:
        return PixelConfig(
            steps=self.steps,
            epochs=self.epochs,
            ipc=ipc,
            start=self.start or ("noise" if self.max_change is None else "real"),
            max_change=self.max_change,
            norm=self.norm,
            valid_pixels=self.valid_pixels,
        )


def attack_config(
    pool: Path,
    attack: AttackConfig,
    settings: AttackSettings | None = None,
    *,
    outer: OuterConfig | None = None,
    card: dict[str, Any] | None = None,
    trust: bool = False,
) -> Config:
    """The configuration that learns an attack on the networks of a pool; run it with ``distill``.

    A number of validation networks that ``outer`` leaves at a default, and that the pool does not have, is lowered (see
    ``limbeck.pools.pool.fit_validation``).

    Args:
        pool: file of ``make_pool``; its card says which data and learner.
        attack: which class for which.
        settings: the images and the steps on them; ``AttackSettings()`` by default.
        outer: the outer loop; ``attack_outer`` by default, with an eighth of the pool for validation.
        card: of the pool, read from its file by default.
        trust: import the code that the card names as its learner, if it names any.

    Raises:
        LimbeckError: no such pool, a class that does not exist, images that cannot be shared out equally, or more
            networks held out and for validation than the pool has.
    """
    settings = settings or AttackSettings()
    card = open_card(pool) if card is None else card
    classes = len(card["classes"])
    for name, label in (("source", attack.source), ("target", attack.target)):
        if label >= classes:
            raise LimbeckError(f"The {name} class is {label}, but the pool's data has classes 0 to {classes - 1}.")
    networks = card["config"]["n"]
    held_out = default_shares(networks).held_out if settings.held_out is None else settings.held_out
    config = Config(
        data=card["data"].get("source", card["data"]["name"]),
        learner=card["config"]["learner"],
        init=InitConfig(init=f"pool:{pool}", held_out=held_out),
        attack=attack,
        source=settings.source(classes),
        inner=settings.inner(),
        outer=fit_validation(
            outer or attack_outer(validate_inits=validation_networks(networks, held_out)), networks, held_out
        ),
        seed=settings.seed,
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
