"""Accuracy against the number of steps, epochs and images: a run for each combination."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Final

from limbeck.common.registry import Registry
from limbeck.engine import InnerConfig, PixelConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.studies.kinds import GRID
from limbeck.studies.recipes import WANG
from limbeck.studies.study import Study, Variant


def grid(
    config: Config,
    *,
    steps: Sequence[int],
    epochs: Sequence[int],
    ipc: Sequence[int],
    n: int,
    name: str = "sensitivity",
) -> Study:
    """A run of ``config`` for every combination of batches, epochs and images per class and step.

    Raises:
        LimbeckError: an axis without a value, or one that is not positive.
    """
    for axis, values in (("steps", steps), ("epochs", epochs), ("ipc", ipc)):
        if not values or min(values) < 1:
            raise LimbeckError(f"{axis} is {list(values)}; a grid needs at least one value, each at least 1.")
    base = config.source
    if not isinstance(base, PixelConfig):
        raise LimbeckError(f"A grid varies learned images; its source must be a PixelConfig, not {base!r}.")
    variants = []
    for images, repeats, batches in itertools.product(*(sorted(set(values)) for values in (ipc, epochs, steps))):
        pixels = dataclasses.replace(base, steps=batches, epochs=repeats, ipc=images)
        group = f"steps {batches}, epochs {repeats}, ipc {images}"
        variants.append(Variant(group=group, seed=config.seed, config=dataclasses.replace(config, source=pixels)))
    return Study(
        name=name,
        title=f"{config.data}, {config.learner}: accuracy against steps, epochs and images per class",
        paper={},
        source=WANG,
        variants=tuple(variants),
        n=n,
        kind=GRID,
    )


def grid_config(data: str = "mnist", learner: str = "lenet", seed: int = 0, max_time: float | None = None) -> Config:
    """What the runs of a grid have in common: random initial weights, a short outer loop."""
    return Config(
        data=data,
        learner=learner,
        source=PixelConfig(start="noise"),
        inner=InnerConfig(lr=0.06),
        outer=OuterConfig(
            iterations=400,
            max_time=max_time,
            inits=4,
            real_batch=256,
            lr_images=0.05,
            lr_steps=0.003,
            clip_init=0.1,
            validate_every=100,
        ),
        seed=seed,
    )


def _sensitivity(seed: int) -> Study:
    return grid(grid_config(seed=seed), steps=(1, 3, 10), epochs=(1, 3), ipc=(1, 3), n=50)


GRIDS: Final[Registry[Callable[[int], Study]]] = Registry("study", ("sensitivity", _sensitivity))
"""Studies by name, from their first seed."""
