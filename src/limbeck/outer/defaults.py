"""What a user did not name, from the data and the budget: a run of minutes needs other sizes than one of hours.

A configuration leaves open what is None in it; which sizes were left out, only those know who read them. All of it is
recorded in the configuration of the run, so one that goes on, or is repeated, does not ask again.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from limbeck.data import TaskData
from limbeck.engine import PixelConfig
from limbeck.experiment.config import Config
from limbeck.methods import MatchingConfig

SIZES: Final = frozenset({"steps", "epochs", "inits", "real_batch", "lr_images", "validate_every", "validate_inits"})
"""Settings that follow from data and budget where nobody names them; on the command line ``learner`` does, too."""

SHORT_SECONDS, SHORT_ITERATIONS = 300, 1000
"""Budgets up to which a run is short: images start from real ones."""

SHORT_STEPS, SHORT_EPOCHS = 1, 10
"""S and E of a run of a few minutes: one batch, that networks see several times, is soon learned."""

PIXELS_OF_ONE: Final = 28 * 28
"""Numbers in an image up to which a run of a few minutes has time for several initial weights."""

SMALL_SIDE: Final = 16
"""Pixels below which a convolutional network has nothing to halve."""

LARGE_SIDE, SEEN_SIDE = 48, 32
"""Pixels from which a learner that nobody named sees averages, about so many a side."""


def fit_defaults(config: Config, data: TaskData, free: Collection[str]) -> Config:
    """The configuration with what is open decided, but for the step size, which needs trying.

    Args:
        config: of a run that begins.
        data: its data.
        free: those of ``SIZES``, and ``learner``, that nobody named.
    """
    if "learner" in free:
        config = replace(config, learner=_learner_for(data) or config.learner)
    source, outer = config.source, config.outer
    if not isinstance(source, PixelConfig) or config.attack is not None:
        return config.settled()
    if not config.method.learns_steps:
        return _fit_matching(config, data, free)
    short = outer.iterations <= SHORT_ITERATIONS or (outer.max_time or math.inf) <= SHORT_SECONDS
    if source.start is None:
        source = replace(source, start="real" if short else "noise")
    if (outer.max_time or math.inf) <= SHORT_SECONDS:
        wanted: dict[str, Any] = {"steps": SHORT_STEPS, "epochs": SHORT_EPOCHS}
        source = replace(source, **{name: value for name, value in wanted.items() if name in free})
        large = math.prod(data.image_shape) > PIXELS_OF_ONE
        wanted = {"inits": 2 if large else 4, "real_batch": min(64 if large else 128, len(data.train_y))}
        if config.init.fixed:
            del wanted["inits"]
        if outer.real_batch_end is not None:
            del wanted["real_batch"]
        outer = replace(outer, **{name: value for name, value in wanted.items() if name in free})
    return replace(config, source=source, outer=outer)


def _fit_matching(config: Config, data: TaskData, free: Collection[str]) -> Config:
    """What suits a method that unrolls nothing."""
    assert isinstance(config.source, PixelConfig)
    source = replace(config.source, start=config.source.start or "kmeans")
    suits = dict(config.method.suits)
    suits["real_batch"] = min(suits.get("real_batch", config.outer.real_batch), len(data.train_y))
    if config.outer.real_batch_end is not None:
        del suits["real_batch"]
    outer = replace(config.outer, **{name: value for name, value in suits.items() if name in free})
    method = config.method
    if isinstance(method, MatchingConfig):
        method = method.fitting(data.image_shape, moved=data.kind == "images")
    return replace(config, source=source, outer=outer, method=method)


def _learner_for(data: TaskData) -> str | None:
    """A learner that suits this kind and size of data; None where the usual one does."""
    side = min(data.image_shape[1:])
    if data.kind == "series":
        return "gru"
    if data.kind == "table" or side < SMALL_SIDE:
        return "mlp"
    if side >= LARGE_SIDE:  # ten steps of learning at full size take minutes on a CPU, averages a second
        return f"stridednet,shrink={max(2, round(side / SEEN_SIDE))}"
    return None


def describe_choice(learner: str, data: TaskData) -> str:
    """What is said of a learner that was chosen for the data."""
    height, width = data.image_shape[1:]
    said = (
        f"learner {learner}, which suits {height} x {width} pixels" if data.kind == "images" else f"learner {learner}"
    )
    shrink = learner.partition("shrink=")[2]
    if shrink:
        said += f": it sees averages over {shrink} x {shrink} of them"
    return f"{said} (--learner names another)"
