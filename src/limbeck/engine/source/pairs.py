"""Learned inputs with learned real-valued targets, for regression (Wang et al. 2018, section on linear regression).

S batches of M pairs are cycled E times, T = S·E inner steps in all. Shapes: S batches, M pairs a batch, K outputs,
T steps, B inits.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.engine.schedule import InnerConfig, Schedule
from limbeck.engine.source.base import Materialised, Pullback, Source
from limbeck.engine.source.cyclic import CyclicPullback
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError


@final
class Pairs(Source):
    """Inputs and targets as free tensors, indexed by step.

    Learned, unconstrained: ``inputs`` (S, M, ...), ``targets`` (S, M, K), and what is learned of the schedule of
    hyper-parameters. Targets are any numbers, so a step size and the size of the inputs can stand in for each other.

    Args:
        inputs: (S, M, ...), where the inputs start, in what the learner's module reads.
        targets: (S, M, K), where the targets start.
        epochs: E, how often the S batches are gone through.
        inner: the inner optimiser; per-step step sizes by default.

    Raises:
        LimbeckError: fewer than one epoch; shapes that do not fit each other, or nothing in them.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, *, epochs: int = 1, inner: InnerConfig | None = None) -> None:
        if epochs < 1:
            raise LimbeckError(f"epochs is {epochs}; it must be at least 1.")
        if targets.dim() != 3 or inputs.dim() < 3 or inputs.shape[:2] != targets.shape[:2] or 0 in targets.shape:
            raise LimbeckError(
                f"inputs have shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}; "
                "expected (S, M, ...) and (S, M, K), none of them 0."
            )
        self.batches = inputs.shape[0]
        self.steps = self.batches * epochs
        self.schedule = Schedule(inner or InnerConfig(), self.steps, dtype=inputs.dtype, device=inputs.device)
        self._params = {"inputs": inputs.clone(), "targets": targets.clone(), **self.schedule.parameters()}

    def parameters(self) -> Tensors:
        return self._params

    def batch(self, params: Tensors, step: int) -> Batch:
        index = step % self.batches
        return Batch(params["inputs"][index], params["targets"][index], self.schedule.at(params, step))

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return CyclicPullback(self.decode, params, inits, self.batches, self.batch)

    def decode(self, params: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        """Inputs (S, M, ...), targets (S, M, K), hyper-parameters (T,), as the learner sees them."""
        return params["inputs"], params["targets"], self.schedule.decode(params)

    def materialise(self, params: Tensors) -> Materialised:
        return Materialised(*self.decode(params), torch.arange(self.steps) % self.batches)
