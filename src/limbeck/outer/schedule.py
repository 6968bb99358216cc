"""What changes in the course of a run: learning rates, the number of inner steps, the size of the real batch."""

from __future__ import annotations

import math
from typing import NamedTuple

from limbeck.experiment.parts import OuterConfig
from limbeck.experiment.progress import Progress


class StepSettings(NamedTuple):
    """What the schedules say for one outer iteration; ``rate`` is a factor on the learning rates."""

    inner_steps: int
    real_batch: int
    rate: float


def settings_at(config: OuterConfig, progress: Progress, spent: float, steps: int) -> StepSettings:
    """What holds for the next iteration.

    Args:
        config: of the outer loop.
        progress: where the run is, before the iteration.
        spent: the part of the budget that is spent, in [0, 1].
        steps: T, the inner steps of the whole training.
    """
    since = progress.iteration - (progress.grown_at if config.schedule != "step" else 0)
    return StepSettings(
        inner_steps=inner_steps(config, steps, spent),
        real_batch=real_batch(config, spent),
        rate=rate(config, since, spent) * progress.factor,
    )


def rate(config: OuterConfig, iteration: int, spent: float) -> float:
    """Factor on the learning rates.

    ``iteration`` counts from where warm-up starts: the beginning, or the last doubling of the inner steps.
    """
    warm = min(1.0, (iteration + 1) / (config.warmup + 1)) if config.warmup > 0 else 1.0
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, spent)))
    if config.schedule == "step":
        return warm * float(config.decay ** (iteration // config.decay_every))
    return warm


def inner_steps(config: OuterConfig, steps: int, spent: float) -> int:
    """The inner steps of an iteration, of ``steps`` in the end."""
    doublings_left = max(0, config.grow - int(2 * spent * config.grow))
    return max(1, steps >> doublings_left)


def real_batch(config: OuterConfig, spent: float) -> int:
    """Size of the real batch, growing geometrically with the spent part of the budget."""
    if config.real_batch_end is None:
        return config.real_batch
    ratio = config.real_batch_end / config.real_batch
    # Doubling steps: a compiled kernel is built once per size.
    levels = max(1, round(math.log2(ratio)))
    level = min(levels, int(spent * (levels + 1)))
    return round(config.real_batch * float(ratio ** (level / levels)))
