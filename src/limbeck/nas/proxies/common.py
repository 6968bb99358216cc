"""What several proxies do alike: draw architectures, learn from many of them in turn, and judge weights as they are.

Shapes: N validation images, M images a step, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.common.devices import Device
from limbeck.common.seeds import generator
from limbeck.engine import Batch, Tensors
from limbeck.errors import LimbeckError
from limbeck.nas.proxies.base import Task, Tell
from limbeck.nas.spaces.base import Arch, Space
from limbeck.nas.training import Measure, Schedule, kernels_for, rates, real_batch, validate

_TELL_EVERY = 100
_STATISTICS_BATCHES = 100  # of what running statistics began with, 0.9¹⁰⁰ is left at the usual momentum


def numpy_generator(seed: int, stream: str) -> np.random.Generator:
    """A NumPy generator whose seed depends on the name of its stream as well, as ``limbeck.common.seeds.generator``."""
    return np.random.default_rng(generator(seed, stream).initial_seed())


def distinct(space: Space, count: int, rng: np.random.Generator) -> tuple[Arch, ...]:
    """So many different architectures, at random.

    Raises:
        LimbeckError: the space has fewer.
    """
    if count > space.size:
        raise LimbeckError(f"{count} different architectures are asked for; the space {space.name} has {space.size}.")
    archs: dict[Arch, None] = {}
    while len(archs) < count:
        archs[space.sample(rng)] = None
    return tuple(archs)


def require_positive(settings: Any, *names: str) -> None:
    """Raise LimbeckError for a setting of these names that is not above zero; None is allowed."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise LimbeckError(f"{name} is {value}; it must be positive.")


def require_one_network(schedule: Schedule) -> None:
    """Refuse a schedule of several initial weights where one thing is trained for all architectures."""
    if schedule.inits != 1:
        raise LimbeckError(f"inits is {schedule.inits}, but this proxy trains one set of weights; leave it at 1.")


def fit(
    task: Task,
    schedule: Schedule,
    name: str,
    step: Callable[[np.random.Generator, Batch, float], float],
    tell: Tell,
) -> None:
    """Call ``step`` with a source of architectures, a real batch of M images and the rate until the schedule is over.

    ``step`` returns its loss, whose running mean is told.
    """
    architectures = numpy_generator(task.seed, f"{name} architectures")
    draws = generator(task.seed, f"{name} batches")
    lately, index, whole = 0.0, 0, "" if schedule.steps is None else f" of {schedule.steps}"
    for index, rate in enumerate(rates(schedule), start=1):
        batch = real_batch(task.data, rate, schedule, draws)
        loss = step(architectures, Batch(batch.x_MCHW[0], batch.y_MK[0], {}), rate)
        lately = loss if index == 1 else 0.98 * lately + 0.02 * loss
        if index % _TELL_EVERY == 0:
            tell(f"{name}: step {index}{whole}, loss {lately:.3f}")
    tell(f"{name}: trained for {index} steps, loss {lately:.3f}")


def descend(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> None:
    """Take the optimiser's step at a rate with the gradient's norm clipped, unless the gradient is not finite."""
    parameters = []
    for group in optimizer.param_groups:
        group["lr"] = rate
        parameters += group["params"]
    if nn.utils.clip_grad_norm_(parameters, clip).isfinite():  # one network that blew up must not undo all others
        optimizer.step()


@torch.no_grad()
def validate_as_is(
    task: Task, module: nn.Module, weights: Tensors, images: int | None, measure: Measure = "accuracy"
) -> float:
    """What a network reaches on validation images, in percent, with weights by name that are not trained further.

    Layers that normalise by running statistics first get those of these weights from training batches (Guo et al. 2020,
    arXiv 1904.00420, recalculate them for each architecture as well).
    """
    kernels = kernels_for(module, task.space.shape, Schedule())
    state = kernels.learner.init(weights)
    buffers = state.buffers
    if buffers:
        schedule, draws = Schedule(), generator(task.seed, "running statistics")
        for _ in range(_STATISTICS_BATCHES):
            x_1MCHW, y_1MK, _ = real_batch(task.data, 0.0, schedule, draws)
            _, buffers = kernels.learner.inner_loss(state.params, buffers, x_1MCHW[0], y_1MK[0])
    networks = {name: value[None] for name, value in (state.params | buffers).items()}
    return validate(kernels, networks, task.data, images, measure)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def on(device: Device, tensors: dict[str, Tensor]) -> Tensors:
    """The tensors on a device."""
    return {name: value.to(device) for name, value in tensors.items()}
