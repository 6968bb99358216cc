"""One outer iteration, from drawing a learner to the step of the outer optimiser.

Shapes: B inits, N real images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from limbeck.engine import Kernels, RealBatch, Source, Tensors, add
from limbeck.experiment.parts import OuterConfig
from limbeck.methods import Method
from limbeck.outer.optimizer import OuterOptimizer, clip_and_average, own_gradient
from limbeck.outer.schedule import StepSettings


class Trainee(Protocol):
    """A learner as it is run, with a distribution of initial weights."""

    @property
    def kernels(self) -> Kernels:
        """Its training step and so on, over B inits at once."""

    def sample(self, n: int, rng: torch.Generator) -> Tensors:
        """Initial weights (n, ...) by name."""


class Learners(Protocol):
    """What draws the learner of an iteration."""

    def draw(self, rng: torch.Generator) -> Trainee:
        """The learner that is trained next."""


class Examples(Protocol):
    """What draws real images."""

    def sample(self, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        """Normalised images (n, C, H, W) and classes (n,)."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What an outer iteration works with; ``source`` and ``optimizer`` share the tensors that are learned."""

    learners: Learners
    method: Method
    source: Source
    optimizer: OuterOptimizer
    data: Examples
    config: OuterConfig


class StepReport(NamedTuple):
    """What an iteration saw, scalars on the device: reading them waits for it, so that is left to who needs them."""

    loss: Tensor
    norm: Tensor
    norm_median: Tensor


def outer_step(setup: Setup, at: StepSettings, rngs: Mapping[str, torch.Generator]) -> StepReport:
    """Take one step on what is learned.

    Args:
        setup: the learners, the source, the optimiser, the data.
        at: what the schedules say for this iteration.
        rngs: ``family``, ``inits``, ``data``, ``source`` and ``method``: what draws each.

    Returns:
        The mean loss over B inits, and the largest and the median norm of their gradients.
    """
    source, optimizer, config = setup.source, setup.optimizer, setup.config
    learner = setup.learners.draw(rngs["family"])
    with torch.no_grad():
        weights = learner.sample(config.inits, rngs["inits"])
        real = RealBatch(*setup.data.sample(rngs["data"], at.real_batch))
    lessons = source.redraw(rngs["source"]).first(at.inner_steps)
    loss_B, grads_B = setup.method.gradient(learner.kernels, lessons, weights, real, rngs["method"])
    grads, norm_B = clip_and_average(grads_B, config.clip_init, config.clip)
    loss = loss_B.mean()
    own = own_gradient(source, *real)
    if own is not None:  # no init has a part in it, and no clipping reaches it
        loss, grads = loss + own[0], add(grads, own[1])
    optimizer.step(grads, at.rate)
    optimizer.project(source)
    return StepReport(loss, norm_B.max(), norm_B.median())
