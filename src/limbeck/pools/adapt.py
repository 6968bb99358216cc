"""Images that move trained networks from one data set to another (Wang et al. 2018, arXiv 1811.10959, adaptation)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from limbeck.common.idle import refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.engine import InnerConfig, PixelConfig, images_per_class
from limbeck.errors import LimbeckError, unknown
from limbeck.experiment.config import Config
from limbeck.experiment.parts import InitConfig, OuterConfig
from limbeck.experiment.task import split_for
from limbeck.pools.pool import default_shares, fit_validation, open_card, validation_networks


@final
@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """What is learned to move networks, and for which of them.

    Args:
        images: in all, a multiple of steps x classes; one of each class in each step by default.
        steps: batches of images, a gradient step each.
        epochs: how often they are gone through.
        start: images start from noise or from real ones.
        labels: one class for each image, or a learned distribution.
        network: number of one network, counted from 0, for which alone the images are learned; any network of the pool
            by default.
        held_out: networks of the pool that nothing is learned or chosen on; a quarter by default, 50 at most.
        seed: of everything random.
    """

    images: int | None = None
    steps: int = 10
    epochs: int = 3
    start: Literal["noise", "real"] = "real"
    labels: Literal["hard", "soft"] = "soft"
    network: int | None = None
    held_out: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("images", "steps", "epochs", "held_out"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        for name, known in (("start", ("noise", "real")), ("labels", ("hard", "soft"))):
            if getattr(self, name) not in known:
                raise unknown(f"kind of {name}", getattr(self, name), known)
        if self.network is not None and self.network < 0:
            raise LimbeckError(f"network is {self.network}; the networks of a pool are counted from 0.")
        if self.network is not None:
            refuse_idle_fields(self, "held_out", why=f"with network {self.network}, which is a single one")


def adapt_config(
    pool: Path,
    data: str,
    settings: AdaptSettings | None = None,
    *,
    outer: OuterConfig | None = None,
    card: dict[str, Any] | None = None,
    trust: bool = False,
    data_dir: Path | None = None,
) -> Config:
    """The configuration that learns images of ``data`` for the networks of a pool; run it with ``distill``.

    Args:
        pool: file of ``make_pool``, of networks that were trained on other data.
        data: what they are to be good at; its images and classes are as large and as many as those of the pool. Of the
            pool's own data, changed or not, the same examples are set aside for selection.
        settings: how many images, for which networks; ``AdaptSettings()`` by default.
        outer: the outer loop; ``adapt_outer`` by default, with as many validation networks as the pool has.
        card: of the pool, read from its file by default.
        trust: import the code that the card names as its learner, if it names any.
        data_dir: where known sets are looked for first, to see whether they are the pool's own data.

    Raises:
        LimbeckError: no such pool or data, or images that cannot be shared out equally.
    """
    settings = settings or AdaptSettings()
    card = open_card(pool) if card is None else card
    networks = card["config"]["n"]
    held_out = default_shares(networks).held_out if settings.held_out is None else settings.held_out
    config = _config_of_images(
        settings,
        len(card["classes"]),
        data=data,
        learner=card["config"]["learner"],
        init=InitConfig(init=f"pool:{pool}", held_out=held_out, network=settings.network),
        inner=InnerConfig(optimizer="adam", lr=0.002),
        outer=fit_validation(
            outer or adapt_outer(settings.network, validate_inits=validation_networks(networks, held_out)),
            networks,
            held_out,
        ),
        seed=settings.seed,
        **split_for(card, data, data_dir=data_dir),
    )
    return config if trust else dataclasses.replace(config, untrusted=config.code)


def _config_of_images(settings: AdaptSettings, classes: int, **fields: Any) -> Config:
    """The configuration with these fields whose source is the images of ``settings``."""
    pixels = PixelConfig(
        steps=settings.steps,
        epochs=settings.epochs,
        ipc=1 if settings.images is None else images_per_class(settings.images, settings.steps, classes),
        start=settings.start,
        labels=settings.labels,
    )
    return Config(source=pixels, **fields)


def adapt_outer(network: int | None = None, **changes: Any) -> OuterConfig:
    """The outer loop of an adaptation with these changes, for one network by its number or for any of a pool."""
    values: dict[str, Any] = {
        "iterations": 500,
        "inits": 2 if network is None else 1,
        "real_batch": 256,
        "lr_images": 0.05,
        "lr_steps": 0.003,
        "clip_init": 0.1,
        "validate_every": 100,
        "validate_inits": 16,
    }
    return OuterConfig(**(values | changes))
