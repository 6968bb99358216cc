"""Differentiate through the training of a network (Wang et al. 2018, arXiv 1811.10959, eq. 5).

Shapes: B inits, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch

from limbeck.common.typed import check_types
from limbeck.engine import (
    Adjoint,
    Execution,
    Kernels,
    Learner,
    MetaGradient,
    Objective,
    RealBatch,
    RealLoss,
    Remat,
    Source,
    Tensors,
)
from limbeck.errors import LimbeckError
from limbeck.methods.base import Method, MethodConfig


@final
@dataclass(frozen=True, kw_only=True)
class UnrolledConfig(MethodConfig):
    """Train networks for T inner steps on what is learned, and differentiate a loss on real data through all of them.

    Args:
        adjoint: how the unrolled training is differentiated.
        loss_every: also add up the loss after every so many inner steps; only after the last by default.
    """

    adjoint: Adjoint = field(default_factory=Remat)
    loss_every: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.loss_every is not None and not self.loss_every >= 1:
            raise LimbeckError(f"loss_every is {self.loss_every}; it must be a positive number.")

    @property
    def compilable(self) -> bool:
        return self.adjoint.compilable

    @property
    def idle_with_goal(self) -> tuple[str, ...]:
        return ("loss_every",)

    def stored_states(self, steps: int) -> int:
        return self.adjoint.stored_states(steps)

    def build(self, goal: Objective | None = None) -> Method:
        return Unrolled(adjoint=self.adjoint, objective=goal or RealLoss(every=self.loss_every))


@final
@dataclass(frozen=True, kw_only=True)
class Unrolled(Method):
    """Gradients of an objective through T steps of training, as ``adjoint`` computes them."""

    adjoint: Adjoint
    objective: Objective

    def kernels(self, learner: Learner, execution: Execution) -> Kernels:
        return Kernels(learner, self.objective, execution)

    def gradient(
        self, kernels: Kernels, source: Source, weights: Tensors, real: RealBatch, rng: torch.Generator
    ) -> MetaGradient:
        """The objective and its gradient for each init, as in ``Method``.

        Where the objective is read after several steps, the loss is the mean over these readings, and the gradient that
        of their sum.
        """
        states = kernels.init(weights)
        loss_B, grads = self.adjoint.meta_gradient(kernels, source, source.parameters(), states, real)
        return MetaGradient(loss_B / len(self.objective.reading_steps(source.steps)), grads)
