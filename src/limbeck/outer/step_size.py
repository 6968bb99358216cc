"""The step size that learning starts from, where nobody named one: the best of a few on validation data.

Shapes: B inits, T steps.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor

from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import Execution, PixelConfig
from limbeck.experiment.build import gather_materials
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter
from limbeck.outer.learners import Family, LearnerAndWeights

STEP_SIZES: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What is tried."""

SETS: Final = 4
"""Sets of real images on which each is tried: which images it is matters more than which initial weights."""

PART: Final = 0.1
"""The part of a limited time after which no further set is tried."""

INITS: Final = 2
"""Held-out initial weights for each set."""


def with_step_size(
    config: Config, learners: list[LearnerAndWeights], data: TaskData, execution: Execution, reporter: Reporter
) -> Config:
    """The configuration with a step size: the one that it names, or the best one to train on the images it starts from.

    Images that start from noise teach nothing yet; real ones stand in for them. Nothing that is drawn here changes what
    the run draws.
    """
    if config.inner.lr is not None:
        return config
    if not isinstance(config.source, PixelConfig) or config.attack is not None or not config.method.learns_steps:
        return config.settled()
    sizes = [lr for lr in STEP_SIZES if config.inner.lr_max is None or lr < config.inner.lr_max]
    if not sizes:
        return config.settled()
    real = dataclasses.replace(config, source=dataclasses.replace(config.source, start="real"))
    rng = generator(config.seed, "start")
    method = config.method.build(None)
    family = Family.of(learners[:1], method, dataclasses.replace(execution, compiled=False))
    count = min(INITS, config.outer.validate_inits) if family.resampled else 1
    seconds, begun = PART * (config.outer.max_time or math.inf), time.monotonic()
    means: dict[float, list[float]] = {lr: [] for lr in sizes}
    for index in range(SETS):
        spent = time.monotonic() - begun
        if index and spent + spent / index > seconds:
            break
        source = real.source.build(gather_materials(real, data, rng))
        with torch.no_grad():
            params = source.parameters()
            lessons = [source.batch(params, t) for t in range(source.steps)]
        for lr in sizes:
            constant = torch.tensor(lr, device=data.train_x.device, dtype=torch.float32)
            batches = [batch._replace(h={**batch.h, "lr": constant}) for batch in lessons]
            means[lr].append(family.validate(partial(iter, batches), data, count, config.seed + 3 + index).mean)
    accuracies = {lr: torch.tensor(values) for lr, values in means.items()}
    best = choose(accuracies)
    reporter.message(
        f"step size {best:g} to start from: trained on real images, networks reach {accuracies[best].mean():.1f} % "
        f"with it, {min(each.mean() for each in accuracies.values()):.1f} % with the worst of {len(sizes)} "
        "(--lr names another)"
    )
    return dataclasses.replace(config, inner=dataclasses.replace(config.inner, lr=best))


def choose(accuracies: Mapping[float, Tensor]) -> float:
    """The middle one of the step sizes that are as good as the best, within a standard error of the difference.

    Where real images teach next to nothing, all are, and the best one would be drawn by lot: from the smallest nothing
    is learned, and training diverges with the largest.

    Args:
        accuracies: of each step size in ascending order, in percent, over the same sets of real images.
    """
    best = max(accuracies, key=lambda lr: float(accuracies[lr].mean()))

    def as_good(lr: float) -> bool:
        difference = accuracies[best] - accuracies[lr]
        spread = float(difference.std()) if len(difference) > 1 else 0.0
        return float(difference.mean()) <= spread / math.sqrt(len(difference))

    good = [lr for lr in accuracies if lr == best or as_good(lr)]
    return good[(len(good) - 1) // 2]
