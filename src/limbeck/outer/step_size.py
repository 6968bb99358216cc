"""The step size that learning starts from, where nobody named one: the best of a few on validation data.

Shapes: B inits, T steps.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import torch

from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import Execution, PixelConfig
from limbeck.experiment.build import gather_materials
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter
from limbeck.outer.learners import Family, LearnerAndWeights

STEP_SIZES: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What is tried."""

INITS: Final = 4
"""Held-out initial weights on which each is tried."""


def with_step_size(
    config: Config, learners: list[LearnerAndWeights], data: TaskData, execution: Execution, reporter: Reporter
) -> Config:
    """The configuration with a step size: the one that it names, or the best one to train on the images it starts from.

    Images that start from noise teach nothing yet; real ones stand in for them. Nothing that is drawn here changes what
    the run draws.
    """
    if config.inner.lr is not None:
        return config
    if not isinstance(config.source, PixelConfig) or config.attack is not None:
        return config.settled()
    sizes = [lr for lr in STEP_SIZES if config.inner.lr_max is None or lr < config.inner.lr_max]
    if not sizes:
        return config.settled()
    real = dataclasses.replace(config, source=dataclasses.replace(config.source, start="real"))
    source = real.source.build(gather_materials(real, data, generator(config.seed, "start")))
    method = config.method.build(None)
    family = Family.of(learners[:1], method, dataclasses.replace(execution, compiled=False))
    count = min(INITS, config.outer.validate_inits) if family.resampled else 1
    accuracy = {}
    for lr in sizes:
        with torch.no_grad():
            params = source.parameters()
            batches = [source.batch(params, t) for t in range(source.steps)]
        constant = torch.tensor(lr, device=data.train_x.device, dtype=torch.float32)
        batches = [batch._replace(h={**batch.h, "lr": constant}) for batch in batches]
        accuracy[lr] = family.validate(batches, data, count, config.seed + 3).mean
    best = max(accuracy, key=lambda lr: accuracy[lr])
    reporter.message(
        f"step size {best:g} to start from: trained on real images, networks reach {accuracy[best]:.1f} % with it, "
        f"{min(accuracy.values()):.1f} % with the worst of {len(sizes)} (--lr names another)"
    )
    return dataclasses.replace(config, inner=dataclasses.replace(config.inner, lr=best))
